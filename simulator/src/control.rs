//! Control of the simulator over HTTP: plan faults, list the requests that it received and its calls.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    call_fault::CallFault,
    call_register::{CallRecord, EndedCall},
    fault::Fault,
    request::SeenRequest,
    state::{Shared, State},
};

/// The body of `POST /simulator/faults`: one fault, to happen `times` times.
#[derive(Deserialize)]
struct FaultPlan {
    #[serde(default)]
    at: At,
    #[serde(default = "once")]
    times: usize,
    #[serde(flatten)]
    fault: Map<String, Value>,
}

/// The requests that a fault applies to.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum At {
    #[default]
    Mint,
    Calls,
    HangUps,
}

/// The answer of `GET /simulator/calls`.
#[derive(Serialize)]
struct Calls {
    open: Vec<CallRecord>,
    ended: Vec<EndedCall>,
}

fn once() -> usize {
    1
}

/// More than a test plans, and little enough to keep in memory.
const MAX_FAULTS: usize = 100_000;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/simulator/faults", post(plan_faults).delete(clear_faults))
        .route("/simulator/requests", get(list_requests))
        .route("/simulator/calls", get(list_calls))
}

async fn plan_faults(extract::State(state): Shared, body: Bytes) -> Response {
    let planned = serde_json::from_slice::<FaultPlan>(&body).map_err(|fault| fault.to_string()).and_then(|plan| {
        let (fault, times) = (Value::Object(plan.fault), plan.times.min(MAX_FAULTS));
        let mut memory = state.memory();
        match plan.at {
            At::Mint => {
                let fault = Fault::deserialize(fault).map_err(|fault| fault.to_string())?;
                memory.faults.extend(std::iter::repeat_n(fault, times));
            }
            At::Calls => memory.call_faults.extend(std::iter::repeat_n(CallFault::read(&fault)?, times)),
            At::HangUps => {
                memory.hang_up_faults.extend(std::iter::repeat_n(CallFault::read_for_hang_up(fault)?, times));
            }
        }
        Ok(())
    });
    match planned {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => (StatusCode::BAD_REQUEST, format!("{fault}\n")).into_response(),
    }
}

async fn clear_faults(extract::State(state): Shared) -> StatusCode {
    state.memory().clear_faults();
    StatusCode::NO_CONTENT
}

async fn list_requests(extract::State(state): Shared) -> Json<Vec<SeenRequest>> {
    Json(state.memory().requests())
}

async fn list_calls(extract::State(state): Shared) -> Json<Calls> {
    let memory = state.memory();
    Json(Calls { open: memory.calls.open(), ended: memory.calls.ended() })
}

//! `POST /v1/realtime/calls/{call_id}/hangup` ends a call, for a caller with an API key of its project.

use axum::{
    Extension,
    extract::{self, Path},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};

use crate::{
    fault_response,
    project::project_of,
    refusal::Refusal,
    request::{SeenRequest, bearer},
    state::{Shared, State},
    wire::Wire,
};

/// Hangs up, or fails in the way that was planned.
pub(crate) async fn create(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    Path(call_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    state.record_request(SeenRequest::read(&wire, &uri, &headers, b""));
    let bearer = bearer(&headers);
    let fault = state.memory().hang_up_faults.pop_front();
    match fault {
        Some(fault) => {
            let answered = if fault.needs_answer() { hang_up(&state, &call_id, bearer) } else { Response::default() };
            fault_response::apply(fault, bearer, "", &wire, answered).await
        }
        None => hang_up(&state, &call_id, bearer),
    }
}

fn hang_up(state: &State, call_id: &str, bearer: &str) -> Response {
    if !state.accepts(bearer) {
        return Refusal::invalid_key(bearer).into_response();
    }
    if state.memory().calls.hang_up(call_id, project_of(bearer)) {
        StatusCode::OK.into_response()
    } else {
        Refusal::unknown_call().into_response()
    }
}

//! `GET /v1/models`: the models that OpenAI has today.

use axum::{
    Extension, Json, extract,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use openai_realtime::{Day, MODELS};
use serde_json::{Value, json};

use crate::{
    refusal::Refusal,
    request::{SeenRequest, bearer},
    state::Shared,
    wire::Wire,
};

/// Lists the models, for a caller with an API key.
pub(crate) async fn list(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    state.record_request(SeenRequest::read(&wire, &uri, &headers, b""));
    let bearer = bearer(&headers);
    if state.accepts(bearer) { list_of_today() } else { Refusal::invalid_key(bearer).into_response() }
}

/// The list. A model past its shutdown date is not in it.
fn list_of_today() -> Response {
    let today = Day::today();
    let data: Vec<Value> = MODELS
        .iter()
        .filter(|model| !model.is_gone(today))
        .map(|model| {
            let mut entry = json!({"id": model.id, "object": "model", "created": model.created, "owned_by": "system"});
            if let Some(date) = model.shutdown_date {
                entry["shutdown_date"] = date.into();
            }
            entry
        })
        .collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

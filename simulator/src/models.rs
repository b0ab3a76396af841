//! The models that a session can have, and their list.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use openai_realtime::{Day, MODELS, Purpose};
use serde_json::{Value, json};

/// Whether a session can have that model today.
pub(crate) fn exists(id: &str) -> bool {
    let today = Day::today();
    MODELS.iter().any(|model| model.id == id && model.purpose != Purpose::Live && !model.is_gone(today))
}

/// `GET /v1/models`. A model that is gone is not listed.
pub(crate) fn list() -> Response {
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

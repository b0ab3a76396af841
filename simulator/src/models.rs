//! The models that exist, and until when.
//!
//! Source: OpenAI's deprecations page and the types of its SDK, November 2026.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

struct Model {
    id: &'static str,
    /// When the model appeared, Unix seconds.
    created: u64,
    /// The announced last day, if there is one.
    shutdown_date: Option<&'static str>,
}

const fn model(id: &'static str, created: u64, shutdown_date: Option<&'static str>) -> Model {
    Model { id, created, shutdown_date }
}

const MODELS: [Model; 12] = [
    model("gpt-realtime-2.1", 1_785_542_400, None),
    model("gpt-realtime-2.1-mini", 1_785_542_400, None),
    model("gpt-realtime-2", 1_777_593_600, None),
    model("gpt-realtime-1.5", 1_769_904_000, None),
    model("gpt-realtime", 1_756_339_200, Some("2027-01-20")),
    model("gpt-realtime-mini", 1_759_708_800, Some("2027-01-20")),
    model("gpt-realtime-2025-08-28", 1_756_339_200, Some("2027-01-20")),
    model("gpt-realtime-mini-2025-10-06", 1_759_708_800, Some("2027-01-20")),
    model("gpt-realtime-mini-2025-12-15", 1_765_756_800, Some("2027-01-20")),
    model("gpt-realtime-translate", 1_777_593_600, None),
    model("gpt-live-transcribe", 1_787_702_400, None),
    model("gpt-4o-transcribe", 1_742_428_800, Some("2027-02-26")),
];

pub(crate) fn exists(id: &str) -> bool {
    MODELS.iter().any(|model| model.id == id)
}

/// `GET /v1/models`
pub(crate) fn list() -> Response {
    let data: Vec<Value> = MODELS
        .iter()
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

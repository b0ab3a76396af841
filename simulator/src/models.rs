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

fn list_of_today() -> Response {
    Json(json!({"object": "list", "data": models_on(Day::today())})).into_response()
}

/// The entries of the list on that day. A model past its shutdown date has none.
fn models_on(day: Day) -> Vec<Value> {
    MODELS
        .iter()
        .filter(|model| !model.is_gone(day))
        .map(|model| {
            let mut entry = json!({"id": model.id, "object": "model", "created": model.created, "owned_by": "system"});
            if let Some(date) = model.shutdown_date {
                entry["shutdown_date"] = date.into();
            }
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_list_has_the_models_of_the_day_with_their_shutdown_dates() {
        // 2026-11-26, 2027-01-20 and 2027-02-26, at midnight UTC.
        let ids = |seconds| -> Vec<(String, Value)> {
            let models = models_on(Day::at(Duration::from_secs(seconds))).into_iter();
            models.map(|model| (model["id"].as_str().unwrap().to_owned(), model["shutdown_date"].clone())).collect()
        };
        let (now, january, february) = (ids(1_795_651_200), ids(1_800_403_200), ids(1_803_600_000));
        let ends = |list: &[(String, Value)], id: &str| {
            list.iter().find(|(other, _)| other == id).map(|(_, date)| date.clone())
        };
        for (id, date) in [
            ("gpt-realtime-2.1", Value::Null),
            ("gpt-realtime-2.1-mini", Value::Null),
            ("gpt-realtime-2", Value::Null),
            ("gpt-realtime-1.5", Value::Null),
            ("gpt-realtime", "2027-01-20".into()),
            ("gpt-realtime-2025-08-28", "2027-01-20".into()),
            ("gpt-realtime-mini", "2027-01-20".into()),
            ("gpt-realtime-mini-2025-12-15", "2027-01-20".into()),
            ("whisper-1", "2027-02-26".into()),
            ("gpt-4o-transcribe", "2027-02-26".into()),
            ("gpt-live-1.1", Value::Null),
            ("gpt-realtime-whisper", Value::Null),
            ("gpt-realtime-translate", Value::Null),
        ] {
            assert_eq!(ends(&now, id), Some(date), "{id}");
        }
        for gone in [
            "gpt-realtime-mini-2025-10-06",
            "gpt-audio-mini-2025-10-06",
            "gpt-4o-realtime-preview",
            "gpt-4o-realtime-preview-2024-10-01",
            "gpt-4o-mini-realtime-preview-2024-12-17",
        ] {
            assert_eq!(ends(&now, gone), None, "{gone}");
        }
        assert!(ends(&january, "gpt-realtime-mini").is_none() && ends(&january, "whisper-1").is_some());
        assert!(ends(&february, "whisper-1").is_none() && ends(&february, "gpt-transcribe").is_some());
    }
}

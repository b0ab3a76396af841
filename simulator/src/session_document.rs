//! The session document: its defaults, and how a request or an update is merged into it.

use openai_realtime::{Day, MODELS, Purpose};
use serde_json::{Value, json};

use crate::{id::new_id, refusal::Refusal, schema};

/// The session of a request `{"session": …}`, with the defaults filled in.
pub(crate) fn create(request: &Value) -> Result<Value, Refusal> {
    let asked = schema::checked_session(request)?;
    let defaults = match asked["type"].as_str() {
        Some("transcription") => transcription_defaults(),
        _ => realtime_defaults(),
    };
    with_defaults(defaults, asked)
}

/// The same for a translation, whose request has no session type.
pub(crate) fn create_translation(request: &Value) -> Result<Value, Refusal> {
    with_defaults(translation_defaults(), schema::checked_translation(request)?)
}

fn with_defaults(mut session: Value, asked: &Value) -> Result<Value, Refusal> {
    overlay(&mut session, asked);
    session["id"] = new_id("sess").into();
    if let Some(model) = session["model"].as_str()
        && !model_exists(model)
    {
        let message = format!("The model '{model}' does not exist or you do not have access to it.");
        return Err(Refusal::new(404, message, Some("session.model"), "model_not_found"));
    }
    Ok(session)
}

/// Whether a session can have that model today.
fn model_exists(id: &str) -> bool {
    let today = Day::today();
    MODELS.iter().any(|model| model.id == id && model.purpose != Purpose::Live && !model.is_gone(today))
}

fn realtime_defaults() -> Value {
    json!({
        "type": "realtime",
        "object": "realtime.session",
        "id": null,
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "You are a helpful assistant.",
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "tracing": null,
        "truncation": "auto",
        "prompt": null,
        "expires_at": 0,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": null,
                "noise_reduction": null,
                "turn_detection": server_vad()
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0}
        },
        "include": null
    })
}

fn transcription_defaults() -> Value {
    json!({
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": null,
        "expires_at": 0,
        "include": null,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "transcription": null,
                "noise_reduction": null,
                "turn_detection": {
                    "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200
                }
            }
        }
    })
}

fn translation_defaults() -> Value {
    json!({
        "type": "translation",
        "id": null,
        "expires_at": 0,
        "audio": {"input": {"transcription": null, "noise_reduction": null}, "output": {"language": "en"}}
    })
}

/// Merges the requested fields into a session. A turn detection of another type replaces the old one entirely.
pub(crate) fn overlay(session: &mut Value, asked: &Value) {
    const PLACE: &str = "/audio/input/turn_detection";
    let kind = asked.pointer(PLACE).map(|detection| &detection["type"]);
    if let (Some(kind), Some(detection)) = (kind, session.pointer_mut(PLACE))
        && detection["type"] != *kind
    {
        *detection = match kind.as_str() {
            Some("semantic_vad") => {
                json!({"eagerness": "auto", "create_response": true, "interrupt_response": true})
            }
            Some(_) => server_vad(),
            None => Value::Null,
        };
    }
    merge(session, asked);
}

fn server_vad() -> Value {
    json!({
        "type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200,
        "idle_timeout_ms": null, "create_response": true, "interrupt_response": true
    })
}

/// Merges `asked` into the defaults, object by object. Lists and plain values are replaced.
pub(crate) fn merge(defaults: &mut Value, asked: &Value) {
    match (defaults, asked) {
        (Value::Object(defaults), Value::Object(asked)) => {
            for (name, value) in asked {
                merge(defaults.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (defaults, asked) => *defaults = asked.clone(),
    }
}

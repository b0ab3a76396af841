//! `POST /v1/realtime/client_secrets`, and the same for translations: a session document in, an
//! ephemeral key out.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{models, refusal::Refusal, rules};

/// What OpenAI answers if nothing is wrong on its own side.
///
/// Source: `RealtimeCreateClientSecretResponse` of OpenAI's OpenAPI description (2026-08-21) and
/// its example: a client secret of 600 s by default, the session filled up with its defaults, and
/// `session.expires_at` 0.
pub(crate) fn mint(request: &Value) -> Result<Value, Refusal> {
    Ok(secret(request, &session(request)?))
}

/// The same for `POST /v1/realtime/translations/client_secrets`.
pub(crate) fn mint_for_translation(request: &Value) -> Result<Value, Refusal> {
    Ok(secret(request, &translation(request)?))
}

/// The session that `{"session": …}` asks for, filled up with its defaults.
pub(crate) fn session(request: &Value) -> Result<Value, Refusal> {
    let asked = rules::session_of(request)?;
    let defaults = match asked["type"].as_str() {
        Some("transcription") => transcription_defaults(),
        _ => realtime_defaults(),
    };
    filled(defaults, asked)
}

/// The same for a translation.
pub(crate) fn translation(request: &Value) -> Result<Value, Refusal> {
    filled(translation_defaults(), rules::translation_of(request)?)
}

fn filled(mut session: Value, asked: &Value) -> Result<Value, Refusal> {
    lay_over(&mut session, asked);
    session["id"] = format!("sess_{}", random(21)).into();
    if let Some(model) = session["model"].as_str()
        && !models::exists(model)
    {
        let message = format!("The model '{model}' does not exist or you do not have access to it.");
        return Err(Refusal::new(404, message, Some("session.model"), "model_not_found"));
    }
    Ok(session)
}

fn secret(request: &Value, session: &Value) -> Value {
    let seconds = request["expires_after"]["seconds"].as_u64().unwrap_or(600);
    json!({
        "value": format!("ek_{}", random(32)),
        "expires_at": now().saturating_add(seconds),
        "session": session,
    })
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

/// Lays what is asked for over a session. Of a turn detection of another type nothing is left.
pub(crate) fn lay_over(session: &mut Value, asked: &Value) {
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

/// Lays `asked` over the defaults, object by object.
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

pub(crate) fn random(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}

/// Unix seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

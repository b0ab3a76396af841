//! Checks documents against OpenAI's schema, and words the refusals as OpenAI does.

use openai_realtime::schema::{ENVELOPE, FaultKind, REALTIME, Rule, Step, TRANSCRIPTION, TRANSLATION, faults};
use serde_json::Value;

use crate::refusal::Refusal;

/// The session of a valid request for a translation.
pub(crate) fn checked_translation(request: &Value) -> Result<&Value, Refusal> {
    check(request, &ENVELOPE, "")?;
    let session = request.get("session").ok_or_else(|| missing_parameter("session"))?;
    check(session, &TRANSLATION, "session")?;
    Ok(session)
}

/// The session of a valid request for a conversation or a transcription.
pub(crate) fn checked_session(request: &Value) -> Result<&Value, Refusal> {
    check(request, &ENVELOPE, "")?;
    let session = request.get("session").unwrap_or(&Value::Null);
    let rule = match session.get("type").and_then(Value::as_str) {
        Some("realtime") => &REALTIME,
        Some("transcription") => &TRANSCRIPTION,
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'realtime', 'transcription'.");
            return Err(Refusal::invalid("session.type", message, "invalid_value"));
        }
        None => return Err(missing_parameter("session.type")),
    };
    check(session, rule, "session")?;
    Ok(session)
}

fn missing_parameter(path: &str) -> Refusal {
    Refusal::invalid(path, format!("Missing required parameter: '{path}'."), "missing_required_parameter")
}

/// Refuses the first fault of `value`, since OpenAI names one at a time. `root` is the value's own path.
pub(crate) fn check(value: &Value, rule: &Rule, root: &str) -> Result<(), Refusal> {
    let Some(fault) = faults(value, rule).into_iter().next() else { return Ok(()) };
    let mut found = value;
    let mut path = root.to_owned();
    for step in &fault.place {
        match step {
            Step::Field(name) => {
                let dot = if path.is_empty() { "" } else { "." };
                path = format!("{path}{dot}{name}");
                found = &found[name];
            }
            Step::Entry(at) => {
                path = format!("{path}[{at}]");
                found = &found[at];
            }
        }
    }
    let (message, code) = match fault.kind {
        FaultKind::Missing => return Err(missing_parameter(&path)),
        FaultKind::Unknown(_) => (format!("Unknown parameter: '{path}'."), "unknown_parameter"),
        FaultKind::WrongType(wanted) => (format!("Invalid type for '{path}': expected {wanted}."), "invalid_type"),
        FaultKind::OutOfRange(low, high) => {
            (format!("Invalid '{path}': expected a value from {low} to {high}, but got {found}."), "invalid_value")
        }
        FaultKind::NotSingle => (format!("Invalid '{path}': only one entry is supported."), "invalid_value"),
        FaultKind::NoChoice(choices) => {
            let (text, choices) = (found.as_str().unwrap_or_default(), choices.join("', '"));
            (format!("Invalid value: '{text}'. Supported values are: '{choices}'."), "invalid_value")
        }
    };
    Err(Refusal::invalid(&path, message, code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(request: &Value) -> String {
        format!("{:?}", checked_session(request).expect_err("OpenAI would refuse this"))
    }

    #[test]
    fn the_documented_sessions_are_accepted() {
        for request in [
            json!({"session": {"type": "realtime"}}),
            json!({"expires_after": {"anchor": "created_at", "seconds": 7200}, "session": {"type": "realtime",
                "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "marin", "speed": 1.5}},
                "max_output_tokens": "inf", "tools": [{"type": "function", "name": "end_call", "parameters": {}}],
                "truncation": {"type": "retention_ratio", "retention_ratio": 0.8}, "tracing": null}}),
            json!({"session": {"type": "realtime", "audio": {"output": {"voice": {"id": "voice_1234"}}}}}),
            json!({"session": {"type": "realtime",
                "audio": {"input": {"noise_reduction": {"type": "near_field", "strength": 0.5}}}}}),
            json!({"session": {"type": "transcription",
                "audio": {"input": {"noise_reduction": {"type": "far_field", "strength": 1}}}}}),
            json!({"session": {"type": "transcription", "audio": {"input": {"turn_detection": null,
                "transcription": {"model": "gpt-live-transcribe", "language": "en"}}}}}),
        ] {
            assert!(checked_session(&request).is_ok(), "{request}");
        }
    }

    #[test]
    fn a_translation_needs_a_model_and_has_no_type() {
        let taken = json!({"session": {"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}}});
        assert!(checked_translation(&taken).is_ok());
        for (request, param) in [
            (json!({}), "session"),
            (json!({"session": {"audio": {}}}), "session.model"),
            (json!({"session": {"model": "x", "type": "translation"}}), "session.type"),
            (json!({"session": {"model": "x", "audio": {"output": {"voice": "ash"}}}}), "session.audio.output.voice"),
        ] {
            let refusal = format!("{:?}", checked_translation(&request).expect_err("OpenAI would refuse this"));
            assert!(refusal.contains(&format!("param: Some(\"{param}\")")), "{request}: {refusal}");
        }
    }

    #[test]
    fn a_refusal_names_the_parameter_and_the_fault() {
        for (request, param, code) in [
            (json!({}), "session.type", "missing_required_parameter"),
            (json!([]), "", "invalid_type"),
            (json!({"session": {"model": "gpt-realtime-2.1"}}), "session.type", "missing_required_parameter"),
            (json!({"session": {"type": "chat"}}), "session.type", "invalid_value"),
            (json!({"session": {"type": "realtime", "temperature": 1}}), "session.temperature", "unknown_parameter"),
            (json!({"session": {"type": "realtime", "voice": "ash"}}), "session.voice", "unknown_parameter"),
            (
                json!({"session": {"type": "realtime", "audio": {"output": {"voice": "nova"}}}}),
                "session.audio.output.voice",
                "invalid_value",
            ),
            (
                json!({"session": {"type": "realtime", "audio": {"output": {"speed": 2}}}}),
                "session.audio.output.speed",
                "invalid_value",
            ),
            (
                json!({"session": {"type": "realtime", "tools": [{"type": "x"}]}}),
                "session.tools[0].type",
                "invalid_value",
            ),
            (
                json!({"expires_after": {"seconds": 9}, "session": {"type": "realtime"}}),
                "expires_after.seconds",
                "invalid_value",
            ),
            (
                json!({"expires_after": {"seconds": 7201}, "session": {"type": "realtime"}}),
                "expires_after.seconds",
                "invalid_value",
            ),
            (
                json!({"expires_after": {"seconds": "60"}, "session": {"type": "realtime"}}),
                "expires_after.seconds",
                "invalid_type",
            ),
        ] {
            let refusal = refused(&request);
            assert!(refusal.contains(&format!("param: Some(\"{param}\")")), "{request}: {refusal}");
            assert!(refusal.contains(&format!("code: \"{code}\"")), "{request}: {refusal}");
        }
    }
}

//! Which session documents OpenAI takes, as data.
//!
//! Source: `RealtimeCreateClientSecretRequest` of OpenAI's OpenAPI description (2026-08-21), and for
//! translations `RealtimeTranslationSessionCreateRequest` of its Python SDK 3.54. Where
//! that description leaves a value open and the service does not, as with voices, the service is
//! followed.

use serde_json::Value;

use crate::refusal::Refusal;

pub(crate) enum Rule {
    Null,
    Flag,
    Text,
    Whole(i64, i64),
    Number(f64, f64),
    Choice(&'static [&'static str]),
    List(&'static Rule),
    Object(&'static [Field]),
    /// Any object; what is in it is the caller's.
    Map,
    /// The first that fits.
    Either(&'static [Rule]),
}

pub(crate) struct Field {
    name: &'static str,
    required: bool,
    rule: Rule,
}

const fn may(name: &'static str, rule: Rule) -> Field {
    Field { name, required: false, rule }
}

const fn must(name: &'static str, rule: Rule) -> Field {
    Field { name, required: true, rule }
}

use Rule::{Choice, Either, Flag, List, Map, Null, Number, Object, Text, Whole};

pub(crate) const VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

const FORMAT: Rule =
    Object(&[must("type", Choice(&["audio/pcm", "audio/pcmu", "audio/pcma"])), may("rate", Whole(24_000, 24_000))]);

const TRANSCRIPTION: Rule = Object(&[
    may("model", Text),
    may("language", Text),
    may("languages", List(&Text)),
    may("keywords", List(&Text)),
    may("prompt", Text),
    may("delay", Choice(&["minimal", "low", "medium", "high", "xhigh"])),
]);

const TURN_DETECTION: Rule = Either(&[
    Null,
    Object(&[
        must("type", Choice(&["server_vad", "semantic_vad"])),
        may("threshold", Number(0.0, 1.0)),
        may("prefix_padding_ms", Whole(0, i64::MAX)),
        may("silence_duration_ms", Whole(0, i64::MAX)),
        may("create_response", Flag),
        may("interrupt_response", Flag),
        may("idle_timeout_ms", Either(&[Null, Whole(5_000, 30_000)])),
        may("eagerness", Choice(&["low", "medium", "high", "auto"])),
    ]),
]);

const INPUT: Rule = Object(&[
    may("format", FORMAT),
    may("transcription", Either(&[Null, TRANSCRIPTION])),
    may("noise_reduction", Either(&[Null, Object(&[may("type", Choice(&["near_field", "far_field"]))])])),
    may("turn_detection", TURN_DETECTION),
]);

const VOICE: Rule = Either(&[Choice(&VOICES), Object(&[must("id", Text)])]);

const INCLUDE: Rule = Either(&[Null, List(&Choice(&["item.input_audio_transcription.logprobs"]))]);

const TOOL: Rule = Object(&[
    must("type", Choice(&["function", "mcp"])),
    may("name", Text),
    may("description", Text),
    may("parameters", Map),
    may("server_label", Text),
    may("server_url", Text),
    may("connector_id", Text),
    may("tunnel_id", Text),
    may("authorization", Text),
    may("server_description", Text),
    may("headers", Either(&[Null, Map])),
    may("allowed_tools", Either(&[Null, List(&Text), Map])),
    may("allowed_callers", Either(&[Null, List(&Choice(&["direct", "programmatic"]))])),
    may("require_approval", Either(&[Null, Choice(&["always", "never"]), Map])),
    may("defer_loading", Flag),
]);

const TOOL_CHOICE: Rule = Either(&[
    Choice(&["none", "auto", "required"]),
    Object(&[
        must("type", Choice(&["function", "mcp"])),
        may("name", Either(&[Null, Text])),
        may("server_label", Text),
    ]),
]);

const TRUNCATION: Rule = Either(&[
    Choice(&["auto", "disabled"]),
    Object(&[
        must("type", Choice(&["retention_ratio"])),
        must("retention_ratio", Number(0.0, 1.0)),
        may("token_limits", Object(&[may("post_instructions", Whole(0, i64::MAX))])),
    ]),
]);

const PROMPT: Rule = Either(&[
    Null,
    Object(&[must("id", Text), may("version", Either(&[Null, Text])), may("variables", Either(&[Null, Map]))]),
]);

const TRACING: Rule = Either(&[
    Null,
    Choice(&["auto"]),
    Object(&[may("workflow_name", Text), may("group_id", Text), may("metadata", Map)]),
]);

const REALTIME: Rule = Object(&[
    must("type", Choice(&["realtime"])),
    may("output_modalities", List(&Choice(&["text", "audio"]))),
    may("model", Text),
    may("instructions", Text),
    may(
        "audio",
        Object(&[
            may("input", INPUT),
            may("output", Object(&[may("format", FORMAT), may("voice", VOICE), may("speed", Number(0.25, 1.5))])),
        ]),
    ),
    may("include", INCLUDE),
    may("tracing", TRACING),
    may("tools", List(&TOOL)),
    may("tool_choice", TOOL_CHOICE),
    may("parallel_tool_calls", Flag),
    may("reasoning", Object(&[may("effort", Choice(&["minimal", "low", "medium", "high", "xhigh"]))])),
    may("max_output_tokens", Either(&[Choice(&["inf"]), Whole(1, 4_096)])),
    may("truncation", TRUNCATION),
    may("prompt", PROMPT),
]);

const TRANSCRIPTION_SESSION: Rule = Object(&[
    must("type", Choice(&["transcription"])),
    may("audio", Object(&[may("input", INPUT)])),
    may("include", INCLUDE),
]);

const TRANSLATION_AUDIO: Rule = Object(&[
    may(
        "input",
        Object(&[
            may("transcription", Either(&[Null, Object(&[must("model", Text)])])),
            may(
                "noise_reduction",
                Either(&[
                    Null,
                    Object(&[
                        must("type", Choice(&["near_field", "far_field"])),
                        may("strength", Number(0.0, f64::MAX)),
                    ]),
                ]),
            ),
        ]),
    ),
    may("output", Object(&[may("language", Text)])),
]);

const TRANSLATION_SESSION: Rule = Object(&[must("model", Text), may("audio", TRANSLATION_AUDIO)]);

/// `RealtimeTranslationSessionUpdateRequest`: its model is settled when it is created.
const TRANSLATION_UPDATE: Rule = Object(&[may("audio", TRANSLATION_AUDIO)]);

/// `RealtimeResponseCreateParams`
const RESPONSE: Rule = Either(&[
    Null,
    Object(&[
        may("audio", Object(&[may("output", Object(&[may("format", FORMAT), may("voice", VOICE)]))])),
        may("conversation", Choice(&["auto", "none"])),
        may("input", List(&Map)),
        may("instructions", Text),
        may("max_output_tokens", Either(&[Choice(&["inf"]), Whole(1, 4_096)])),
        may("metadata", Either(&[Null, Map])),
        may("output_modalities", List(&Choice(&["text", "audio"]))),
        may("parallel_tool_calls", Flag),
        may("prompt", PROMPT),
        may("reasoning", Object(&[may("effort", Choice(&["minimal", "low", "medium", "high", "xhigh"]))])),
        may("tool_choice", TOOL_CHOICE),
        may("tools", List(&TOOL)),
    ]),
]);

const EXPIRES_AFTER: Rule = Object(&[may("anchor", Choice(&["created_at"])), may("seconds", Whole(10, 7_200))]);

const ENVELOPE: Rule = Object(&[may("expires_after", EXPIRES_AFTER), may("session", Map)]);

/// A request for a translation as OpenAI would judge it. Its session, if it is taken.
pub(crate) fn translation_of(request: &Value) -> Result<&Value, Refusal> {
    check(request, &ENVELOPE, "")?;
    let session = request.get("session").ok_or_else(|| missing("session"))?;
    check(session, &TRANSLATION_SESSION, "session")?;
    Ok(session)
}

/// What a `response.create` asks for, as OpenAI would judge it.
pub(crate) fn response_of(asked: &Value) -> Result<(), Refusal> {
    check(asked, &RESPONSE, "response")
}

/// What a `session.update` asks of a translation, as OpenAI would judge it.
pub(crate) fn translation_update_of(asked: &Value) -> Result<(), Refusal> {
    check(asked, &TRANSLATION_UPDATE, "session")
}

/// The request as OpenAI would judge it. Its session, if it is taken.
pub(crate) fn session_of(request: &Value) -> Result<&Value, Refusal> {
    check(request, &ENVELOPE, "")?;
    let session = request.get("session").unwrap_or(&Value::Null);
    let rule = match session.get("type").and_then(Value::as_str) {
        Some("realtime") => &REALTIME,
        Some("transcription") => &TRANSCRIPTION_SESSION,
        Some(other) => {
            let message = format!("Invalid value: '{other}'. Supported values are: 'realtime', 'transcription'.");
            return Err(Refusal::invalid("session.type", message, "invalid_value"));
        }
        None => return Err(missing("session.type")),
    };
    check(session, rule, "session")?;
    Ok(session)
}

fn missing(path: &str) -> Refusal {
    Refusal::invalid(path, format!("Missing required parameter: '{path}'."), "missing_required_parameter")
}

fn check(value: &Value, rule: &Rule, path: &str) -> Result<(), Refusal> {
    let wrong_type = |wanted: &str| {
        let message = format!("Invalid type for '{path}': expected {wanted}.");
        Err(Refusal::invalid(path, message, "invalid_type"))
    };
    let out_of_range = |low: &dyn std::fmt::Display, high: &dyn std::fmt::Display| {
        let message = format!("Invalid '{path}': expected a value from {low} to {high}, but got {value}.");
        Err(Refusal::invalid(path, message, "invalid_value"))
    };
    match rule {
        Null if value.is_null() => Ok(()),
        Null => wrong_type("null"),
        Flag if value.is_boolean() => Ok(()),
        Flag => wrong_type("a boolean"),
        Text if value.is_string() => Ok(()),
        Text => wrong_type("a string"),
        Map if value.is_object() => Ok(()),
        Map => wrong_type("an object"),
        Whole(low, high) => match value.as_i64() {
            Some(number) if (*low..=*high).contains(&number) => Ok(()),
            Some(_) => out_of_range(low, high),
            None => wrong_type("an integer"),
        },
        Number(low, high) => match value.as_f64() {
            Some(number) if (*low..=*high).contains(&number) => Ok(()),
            Some(_) => out_of_range(low, high),
            None => wrong_type("a number"),
        },
        Choice(choices) => match value.as_str() {
            Some(text) if choices.contains(&text) => Ok(()),
            Some(text) => {
                let message = format!("Invalid value: '{text}'. Supported values are: '{}'.", choices.join("', '"));
                Err(Refusal::invalid(path, message, "invalid_value"))
            }
            None => wrong_type("a string"),
        },
        List(each) => match value.as_array() {
            Some(items) => {
                items.iter().enumerate().try_for_each(|(at, item)| check(item, each, &format!("{path}[{at}]")))
            }
            None => wrong_type("an array"),
        },
        Object(fields) => match value.as_object() {
            Some(_) => check_fields(value, fields, path),
            None => wrong_type("an object"),
        },
        Either(rules) => either(value, rules, path),
    }
}

fn check_fields(value: &Value, fields: &[Field], path: &str) -> Result<(), Refusal> {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for name in value.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !fields.iter().any(|field| field.name == name) {
            let path = below(name);
            return Err(Refusal::invalid(&path, format!("Unknown parameter: '{path}'."), "unknown_parameter"));
        }
    }
    for field in fields {
        match value.get(field.name) {
            Some(value) => check(value, &field.rule, &below(field.name))?,
            None if field.required => return Err(missing(&below(field.name))),
            None => {}
        }
    }
    Ok(())
}

/// The refusal of the alternative that came nearest: the first whose JSON type was right.
fn either(value: &Value, rules: &[Rule], path: &str) -> Result<(), Refusal> {
    let mut refused = None;
    for rule in rules {
        match check(value, rule, path) {
            Ok(()) => return Ok(()),
            Err(refusal) => {
                let same_type = matches!(
                    (rule, value),
                    (Choice(_) | Text, Value::String(_))
                        | (Object(_) | Map, Value::Object(_))
                        | (Whole(..) | Number(..), Value::Number(_))
                        | (List(_), Value::Array(_))
                );
                if same_type || refused.is_none() {
                    refused = Some(refusal);
                }
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(request: &Value) -> String {
        format!("{:?}", session_of(request).expect_err("OpenAI would refuse this"))
    }

    #[test]
    fn the_documented_sessions_are_taken() {
        for request in [
            json!({"session": {"type": "realtime"}}),
            json!({"expires_after": {"anchor": "created_at", "seconds": 7200}, "session": {"type": "realtime",
                "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "marin", "speed": 1.5}},
                "max_output_tokens": "inf", "tools": [{"type": "function", "name": "end_call", "parameters": {}}],
                "truncation": {"type": "retention_ratio", "retention_ratio": 0.8}, "tracing": null}}),
            json!({"session": {"type": "realtime", "audio": {"output": {"voice": {"id": "voice_1234"}}}}}),
            json!({"session": {"type": "transcription", "audio": {"input": {"turn_detection": null,
                "transcription": {"model": "gpt-live-transcribe", "language": "en"}}}}}),
        ] {
            assert!(session_of(&request).is_ok(), "{request}");
        }
    }

    #[test]
    fn a_translation_needs_a_model_and_has_no_type() {
        let taken = json!({"session": {"model": "gpt-realtime-translate", "audio": {"output": {"language": "es"}}}});
        assert!(translation_of(&taken).is_ok());
        for (request, param) in [
            (json!({}), "session"),
            (json!({"session": {"audio": {}}}), "session.model"),
            (json!({"session": {"model": "x", "type": "translation"}}), "session.type"),
            (json!({"session": {"model": "x", "audio": {"output": {"voice": "ash"}}}}), "session.audio.output.voice"),
        ] {
            let refusal = format!("{:?}", translation_of(&request).expect_err("OpenAI would refuse this"));
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

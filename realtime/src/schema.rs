//! OpenAI's schema of session documents, as data.
//!
//! Source: `RealtimeCreateClientSecretRequest` of OpenAI's OpenAPI description (2026-08-21), and for translations
//! `RealtimeTranslationSessionCreateRequest` of its Python SDK 3.54. Where the description allows any value and the
//! service does not, as with voices, this schema follows the service.

use serde_json::{Map, Value};

use crate::VOICES;

/// A rule that a JSON value must follow.
#[derive(Debug)]
pub enum Rule {
    /// The value must be `null`.
    Null,
    /// The value must be `true` or `false`.
    Flag,
    /// The value must be a string, of any length.
    Text,
    /// The value must be a whole number in this range, both ends included.
    Whole(i64, i64),
    /// The value must be a number in this range, both ends included.
    Number(f64, f64),
    /// The value must be one of these strings.
    Choice(&'static [&'static str]),
    /// The value must be a list whose entries all follow this rule.
    List(&'static Rule),
    /// The value must be an object with these fields and no others.
    Object(&'static [Field]),
    /// The value must be an object, with any fields.
    AnyObject,
    /// The value must follow at least one of these rules.
    Either(&'static [Rule]),
}

/// A field of an object, and the rule for its value.
#[derive(Debug)]
pub struct Field {
    /// The name of the field.
    pub name: &'static str,
    /// Whether the object must have the field.
    pub required: bool,
    /// The rule that its value must follow.
    pub rule: Rule,
}

const fn may(name: &'static str, rule: Rule) -> Field {
    Field { name, required: false, rule }
}

const fn must(name: &'static str, rule: Rule) -> Field {
    Field { name, required: true, rule }
}

use Rule::{AnyObject, Choice, Either, Flag, List, Null, Number, Object, Text, Whole};

const FORMAT: Rule =
    Object(&[must("type", Choice(&["audio/pcm", "audio/pcmu", "audio/pcma"])), may("rate", Whole(24_000, 24_000))]);

const TRANSCRIPTION_OF_INPUT: Rule = Object(&[
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
    may("transcription", Either(&[Null, TRANSCRIPTION_OF_INPUT])),
    may(
        "noise_reduction",
        Either(&[
            Null,
            Object(&[may("type", Choice(&["near_field", "far_field"])), may("strength", Number(0.0, f64::MAX))]),
        ]),
    ),
    may("turn_detection", TURN_DETECTION),
]);

const VOICE: Rule = Either(&[Choice(&VOICES), Object(&[must("id", Text)])]);

const INCLUDE: Rule = Either(&[Null, List(&Choice(&["item.input_audio_transcription.logprobs"]))]);

const TOOL: Rule = Object(&[
    must("type", Choice(&["function", "mcp"])),
    may("name", Text),
    may("description", Text),
    may("parameters", AnyObject),
    may("server_label", Text),
    may("server_url", Text),
    may("connector_id", Text),
    may("tunnel_id", Text),
    may("authorization", Text),
    may("server_description", Text),
    may("headers", Either(&[Null, AnyObject])),
    may("allowed_tools", Either(&[Null, List(&Text), AnyObject])),
    may("allowed_callers", Either(&[Null, List(&Choice(&["direct", "programmatic"]))])),
    may("require_approval", Either(&[Null, Choice(&["always", "never"]), AnyObject])),
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
    Object(&[must("id", Text), may("version", Either(&[Null, Text])), may("variables", Either(&[Null, AnyObject]))]),
]);

const TRACING: Rule = Either(&[
    Null,
    Choice(&["auto"]),
    Object(&[may("workflow_name", Text), may("group_id", Text), may("metadata", AnyObject)]),
]);

/// The rule for a session of type `realtime`.
pub const REALTIME: Rule = Object(&[
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

/// The rule for a session of type `transcription`.
pub const TRANSCRIPTION: Rule = Object(&[
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

/// The rule for a translation session. It has no type, since its endpoint accepts no other kind.
pub const TRANSLATION: Rule = Object(&[must("model", Text), may("audio", TRANSLATION_AUDIO)]);

/// The rule for an update of a translation session (`RealtimeTranslationSessionUpdateRequest`), which cannot change the
/// model.
pub const TRANSLATION_UPDATE: Rule = Object(&[may("audio", TRANSLATION_AUDIO)]);

/// The rule for the parameters of `response.create` (`RealtimeResponseCreateParams`).
pub const RESPONSE: Rule = Either(&[
    Null,
    Object(&[
        may("audio", Object(&[may("output", Object(&[may("format", FORMAT), may("voice", VOICE)]))])),
        may("conversation", Choice(&["auto", "none"])),
        may("input", List(&AnyObject)),
        may("instructions", Text),
        may("max_output_tokens", Either(&[Choice(&["inf"]), Whole(1, 4_096)])),
        may("metadata", Either(&[Null, AnyObject])),
        may("output_modalities", List(&Choice(&["text", "audio"]))),
        may("parallel_tool_calls", Flag),
        may("prompt", PROMPT),
        may("reasoning", Object(&[may("effort", Choice(&["minimal", "low", "medium", "high", "xhigh"]))])),
        may("tool_choice", TOOL_CHOICE),
        may("tools", List(&TOOL)),
    ]),
]);

const EXPIRES_AFTER: Rule = Object(&[may("anchor", Choice(&["created_at"])), may("seconds", Whole(10, 7_200))]);

/// The rule for the body of a request for a client secret. Its session has a rule of its own.
pub const ENVELOPE: Rule = Object(&[may("expires_after", EXPIRES_AFTER), may("session", AnyObject)]);

/// One step of a path into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The field of an object with this name.
    Field(String),
    /// The entry of a list with this index, from 0.
    Entry(usize),
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The path to the value, from the root of the document.
    pub place: Vec<Step>,
    /// Why the value violates its rule.
    pub kind: FaultKind,
}

/// The reasons for which a value violates its rule.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// A required field is missing.
    Missing,
    /// The object's rule has no field of this name. It has these fields.
    Unknown(Vec<&'static str>),
    /// The value has the wrong JSON type. Expected is this type, or one of these.
    WrongType(String),
    /// The number is outside this range, both ends included.
    OutOfRange(String, String),
    /// The string is not one of these.
    NoChoice(&'static [&'static str]),
}

/// Finds all violations of a rule in a document. In each object, unknown fields come first.
#[must_use]
pub fn faults(document: &Value, rule: &Rule) -> Vec<Fault> {
    let mut found = Vec::new();
    check(document, rule, &mut Vec::new(), &mut found);
    found
}

fn check(value: &Value, rule: &Rule, place: &mut Vec<Step>, found: &mut Vec<Fault>) {
    let wrong_type = |wanted: &str| FaultKind::WrongType(wanted.to_owned());
    let range = |low: &dyn ToString, high: &dyn ToString| FaultKind::OutOfRange(low.to_string(), high.to_string());
    let kind = match rule {
        Null if value.is_null() => return,
        Null => wrong_type("null"),
        Flag if value.is_boolean() => return,
        Flag => wrong_type("a boolean"),
        Text if value.is_string() => return,
        Text => wrong_type("a string"),
        AnyObject if value.is_object() => return,
        AnyObject => wrong_type("an object"),
        Whole(low, high) => match value.as_i64() {
            Some(number) if (*low..=*high).contains(&number) => return,
            Some(_) => range(low, high),
            None => wrong_type("an integer"),
        },
        Number(low, high) => match value.as_f64() {
            Some(number) if (*low..=*high).contains(&number) => return,
            Some(_) => range(low, high),
            None => wrong_type("a number"),
        },
        Choice(choices) => match value.as_str() {
            Some(text) if choices.contains(&text) => return,
            Some(_) => FaultKind::NoChoice(choices),
            None => wrong_type("a string"),
        },
        List(each) => match value.as_array() {
            Some(entries) => {
                for (at, entry) in entries.iter().enumerate() {
                    place.push(Step::Entry(at));
                    check(entry, each, place, found);
                    place.pop();
                }
                return;
            }
            None => wrong_type("an array"),
        },
        Object(fields) => match value.as_object() {
            Some(object) => return check_fields(object, fields, place, found),
            None => wrong_type("an object"),
        },
        Either(rules) => return found.extend(either(value, rules, place)),
    };
    found.push(Fault { place: place.clone(), kind });
}

fn check_fields(object: &Map<String, Value>, fields: &[Field], place: &mut Vec<Step>, found: &mut Vec<Fault>) {
    let at = |place: &[Step], name: &str| [place, &[Step::Field(name.to_owned())]].concat();
    for name in object.keys().filter(|name| !fields.iter().any(|field| field.name == *name)) {
        let known = fields.iter().map(|field| field.name).collect();
        found.push(Fault { place: at(place, name), kind: FaultKind::Unknown(known) });
    }
    for field in fields {
        match object.get(field.name) {
            Some(value) => {
                place.push(Step::Field(field.name.to_owned()));
                check(value, &field.rule, place, found);
                place.pop();
            }
            None if field.required => {
                found.push(Fault { place: at(place, field.name), kind: FaultKind::Missing });
            }
            None => {}
        }
    }
}

/// The faults under the closest alternative, which is the last with the right JSON type. If none has it, one fault that
/// names the types of all alternatives.
fn either(value: &Value, rules: &[Rule], place: &mut Vec<Step>) -> Vec<Fault> {
    let mut nearest = None;
    let mut types = Vec::new();
    for rule in rules {
        let mut found = Vec::new();
        check(value, rule, place, &mut found);
        match found.as_slice() {
            [] => return found,
            [Fault { kind: FaultKind::WrongType(wanted), place: at }] if at == place => {
                if !types.contains(wanted) {
                    types.push(wanted.clone());
                }
            }
            _ => nearest = Some(found),
        }
    }
    nearest.unwrap_or_else(|| vec![Fault { place: place.clone(), kind: FaultKind::WrongType(types.join(" or ")) }])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TOKEN_TTL_SECONDS;

    #[test]
    fn the_schema_and_the_constant_agree_on_a_token_lifetime() {
        let (least, most) = (*TOKEN_TTL_SECONDS.start(), *TOKEN_TTL_SECONDS.end());
        for (seconds, taken) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
            let request = json!({"expires_after": {"seconds": seconds}, "session": {}});
            assert_eq!(faults(&request, &ENVELOPE).is_empty(), taken, "{seconds}");
        }
    }

    #[test]
    fn every_fault_is_found_by_the_closest_alternative() {
        let session = json!({"type": "realtime", "voice": "ash", "audio": {"input": {"turn_detection": "none"},
            "output": {"speed": 9, "voice": {"id": 5}}}, "max_output_tokens": true});
        let kinds: Vec<_> = faults(&session, &REALTIME).into_iter().map(|fault| fault.kind).collect();
        assert!(matches!(kinds[0], FaultKind::Unknown(_)), "{kinds:?}");
        let wrong = |wanted: &str| FaultKind::WrongType(wanted.to_owned());
        let range = FaultKind::OutOfRange("0.25".to_owned(), "1.5".to_owned());
        let expected = [wrong("null or an object"), wrong("a string"), range, wrong("a string or an integer")];
        assert_eq!(kinds[1..], expected);
    }
}

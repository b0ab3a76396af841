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
    /// The value must be a list of at most one entry, which follows this rule.
    Single(&'static Rule),
    /// The value must be an object with these fields and no others.
    Object(&'static [Field]),
    /// The same, with fields that an object requires by its `type`: pairs of a type and a field.
    Typed(&'static [Field], &'static [(&'static str, &'static str)]),
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

use Rule::{AnyObject, Choice, Either, Flag, List, Null, Number, Object, Single, Text, Typed, Whole};

const FORMAT: Rule =
    Object(&[may("type", Choice(&["audio/pcm", "audio/pcmu", "audio/pcma"])), may("rate", Whole(24_000, 24_000))]);

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

/// "It is not possible to request both `text` and `audio` at the same time."
const MODALITIES: Rule = Single(&Choice(&["text", "audio"]));

const INCLUDE: Rule = Either(&[Null, List(&Choice(&["item.input_audio_transcription.logprobs"]))]);

/// `MCPToolFilter`
const TOOLS_BY_NAME: Rule = Object(&[may("tool_names", List(&Text)), may("read_only", Flag)]);

const TOOL: Rule = Typed(
    &[
        // The description requires no type, but it is the only difference between the two kinds.
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
        may("allowed_tools", Either(&[Null, List(&Text), TOOLS_BY_NAME])),
        may("allowed_callers", Either(&[Null, List(&Choice(&["direct", "programmatic"]))])),
        may(
            "require_approval",
            Either(&[
                Null,
                Choice(&["always", "never"]),
                Object(&[may("always", TOOLS_BY_NAME), may("never", TOOLS_BY_NAME)]),
            ]),
        ),
        may("defer_loading", Flag),
    ],
    &[("mcp", "server_label")],
);

const TOOL_CHOICE: Rule = Either(&[
    Choice(&["none", "auto", "required"]),
    Typed(
        &[must("type", Choice(&["function", "mcp"])), may("name", Either(&[Null, Text])), may("server_label", Text)],
        &[("function", "name"), ("mcp", "server_label")],
    ),
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
    may("output_modalities", MODALITIES),
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
        may("output_modalities", MODALITIES),
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
    /// The list has more than one entry.
    NotSingle,
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
        Whole(low, high) => match whole(value) {
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
        List(each) | Single(each) => match value.as_array() {
            Some(entries) if entries.len() > 1 && matches!(rule, Single(_)) => FaultKind::NotSingle,
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
            Some(object) => return check_fields(object, fields, &[], place, found),
            None => wrong_type("an object"),
        },
        Typed(fields, required) => match value.as_object() {
            Some(object) => return check_fields(object, fields, required, place, found),
            None => wrong_type("an object"),
        },
        Either(rules) => return found.extend(either(value, rules, place)),
    };
    found.push(Fault { place: place.clone(), kind });
}

/// A whole number, also one that is written as `1024.0`.
fn whole(value: &Value) -> Option<i64> {
    let fraction = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 1e15);
    value.as_i64().or_else(|| format!("{:.0}", fraction?).parse().ok())
}

fn check_fields(
    object: &Map<String, Value>,
    fields: &[Field],
    by_type: &[(&str, &str)],
    place: &mut Vec<Step>,
    found: &mut Vec<Fault>,
) {
    let of_type = object.get("type").and_then(Value::as_str);
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
            None if field.required
                || by_type.iter().any(|(name, needs)| of_type == Some(*name) && *needs == field.name) =>
            {
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
    fn documents_that_match_the_schema_have_no_fault() {
        for session in [
            json!({"output_modalities": ["audio"], "max_output_tokens": 1024.0}),
            json!({"audio": {"input": {"format": {"rate": 24000}}, "output": {"format": {"type": "audio/pcmu"}}}}),
            json!({"tools": [{"type": "function", "name": "end_call", "parameters": {}}], "tool_choice": {"type": "function", "name": "end_call"}}),
            json!({"tools": [{"type": "mcp", "server_label": "docs", "server_url": "https://docs.example.com",
                "require_approval": {"never": {"tool_names": ["search"], "read_only": true}}}],
                "tool_choice": {"type": "mcp", "server_label": "docs", "name": null}}),
        ] {
            let mut session = session;
            session["type"] = "realtime".into();
            assert_eq!(faults(&session, &REALTIME), [], "{session}");
        }
    }

    #[test]
    fn documents_that_violate_the_schema_have_one_fault() {
        for (session, place) in [
            (json!({"output_modalities": ["audio", "text"]}), "output_modalities"),
            (json!({"tools": [{"type": "mcp", "server_url": "https://docs.example.com"}]}), "server_label"),
            (json!({"tool_choice": {"type": "function"}}), "name"),
            (json!({"tool_choice": {"type": "mcp", "name": "search"}}), "server_label"),
            (json!({"tools": [{"type": "mcp", "server_label": "docs", "require_approval": {"nver": {}}}]}), "nver"),
            (json!({"max_output_tokens": 1024.5}), "max_output_tokens"),
        ] {
            let mut session = session;
            session["type"] = "realtime".into();
            let found = faults(&session, &REALTIME);
            assert_eq!(found.len(), 1, "{session}: {found:?}");
            assert_eq!(found[0].place.last(), Some(&Step::Field(place.to_owned())), "{session}");
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

//! How the calls of a profile are held.

use openai_realtime::CALL_SECONDS;
use serde_json::{Map, Value};

use crate::{
    OfProfile,
    profile::{unknown_fields, without_quotes},
    session::Kind,
    spelling::{any_of, did_you_mean, listed, shown},
};

const FIELDS: [&str; 2] = ["mode", "max_seconds"];
const MODES: [&str; 2] = ["locked", "open"];
/// Names that the request for a call gives a meaning of their own.
const RESERVED: [&str; 2] = ["sdp", "dcid"];

pub(crate) fn check(profile: &Map<String, Value>, kind: Option<Kind>, found: &mut OfProfile<'_>) {
    let Some(call) = profile.get("call") else { return };
    let Value::Object(call) = call else {
        found.mistake(format!("\"call\" must be an object with {}, but it is {}.", listed(FIELDS), shown(call)));
        return;
    };
    unknown_fields("\"call\"", call, &FIELDS, found);
    if kind.is_some_and(|kind| kind != Kind::Realtime) {
        found.mistake("only a profile with the kind \"realtime\" can have calls. Remove \"call\".");
    }
    let mode = mode(call, found);
    max_seconds(call, found);
    let fields = profile.get("caller_may_set").and_then(Value::as_object);
    for name in RESERVED.into_iter().filter(|name| fields.is_some_and(|fields| fields.contains_key(*name))) {
        found.mistake(format!("a field of a profile with calls cannot be named \"{name}\". Rename it."));
    }
    if mode == Some("locked") {
        locked(profile, found);
    }
}

fn mode<'a>(call: &'a Map<String, Value>, found: &mut OfProfile<'_>) -> Option<&'a str> {
    match call.get("mode") {
        Some(Value::String(mode)) if MODES.contains(&mode.as_str()) => return Some(mode),
        Some(other) => {
            let hint = other.as_str().map_or_else(String::new, |word| did_you_mean(word, MODES));
            found.mistake(format!("\"mode\" of \"call\" is {}, but must be {}.{hint}", shown(other), any_of(MODES)));
        }
        None => found.mistake(format!("\"call\" has no \"mode\". It must be {}.", any_of(MODES))),
    }
    None
}

fn max_seconds(call: &Map<String, Value>, found: &mut OfProfile<'_>) {
    let (from, to) = (CALL_SECONDS.start(), CALL_SECONDS.end());
    match call.get("max_seconds") {
        Some(seconds) if seconds.as_u64().is_some_and(|seconds| CALL_SECONDS.contains(&seconds)) => {}
        Some(other) => found.mistake(format!(
            "\"max_seconds\" of \"call\" is {}, but must be a whole number of seconds from {from} to {to}.{}",
            shown(other),
            without_quotes(other)
        )),
        None => found.mistake(format!(
            "\"call\" has no \"max_seconds\". It must be a whole number of seconds from {from} to {to}."
        )),
    }
}

/// The browser of a locked call can send no event, so the session has to manage without any.
fn locked(profile: &Map<String, Value>, found: &mut OfProfile<'_>) {
    let Some(session) = profile.get("session") else { return };
    let tools = session.get("tools").and_then(Value::as_array);
    if tools.is_some_and(|tools| tools.iter().any(is_function)) {
        found.mistake(
            "a locked call has no data channel, so nobody can answer its function tools. Remove them, or make the call \
             \"open\".",
        );
    }
    let detection = session.pointer("/audio/input/turn_detection");
    let responds = detection
        .is_none_or(|detection| detection.is_object() && detection.get("create_response") != Some(&Value::Bool(false)));
    if !responds {
        found.mistake(
            "a locked call has no data channel, so the model answers only if \"/audio/input/turn_detection\" is on and \
             creates responses. Turn it on, or make the call \"open\".",
        );
    }
}

fn is_function(tool: &Value) -> bool {
    tool.get("type").is_some_and(|kind| kind == "function")
}

//! Properties of any event, any body and any `profiles.json`. Each function panics if its property is violated. The code
//! under test must not panic at all.
#![expect(clippy::expect_used, reason = "a finding is reported by a panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    str,
    sync::LazyLock,
    time::Duration,
};

use openai_realtime::Day;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use token_mint::{
    api::event::Event,
    profile::{Profiles, Voice},
};

const TOKEN_TTL: Duration = Duration::from_secs(3600);

/// The function's file, for the values that a caller must not change.
const FILE: &str = include_str!("../../profiles.json");

#[derive(Deserialize)]
struct Profile {
    session: Value,
    #[serde(default)]
    caller_may_set: BTreeMap<String, Setting>,
}

#[derive(Deserialize)]
struct Setting {
    at: String,
}

/// Any JSON is an event.
pub fn event(data: &[u8]) {
    let event = serde_json::from_slice::<Event>(data);
    // JSON is UTF-8, which `IgnoredAny` does not check.
    if str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        event.expect("any JSON is an event");
    }
}

/// A session equals its profile's, except for the fields that callers may set. Its model is always the profile's, and its
/// instructions consist of texts from the file.
pub fn body(data: &[u8]) {
    static PROFILES: LazyLock<Profiles> =
        LazyLock::new(|| Profiles::load(None, None, TOKEN_TTL).expect("profiles.json is usable"));
    static OWN: LazyLock<BTreeMap<String, Profile>> =
        LazyLock::new(|| serde_json::from_str(FILE).expect("profiles.json has sessions"));
    static TEXTS: LazyLock<BTreeSet<String>> =
        LazyLock::new(|| texts(&serde_json::from_str(FILE).expect("profiles.json is JSON")));

    let Ok(session) = PROFILES.session(data) else { return };
    let request: Value = serde_json::from_str(&session.request).expect("the request is JSON");
    let mut given = request.get("session").cloned().expect("the request has a session");
    let profile = OWN.get(&session.profile).expect("the profile is one of the file's");
    let mut own = profile.session.clone();
    assert_eq!(given.get("model"), own.get("model"), "the model is the profile's");
    let instructions = given.get("instructions").and_then(Value::as_str).unwrap_or_default();
    for paragraph in instructions.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        assert!(TEXTS.contains(paragraph), "the instructions are the file's");
    }
    for document in [&mut given, &mut own] {
        remove(document, "/type");
        remove(document, "/instructions");
    }
    for setting in profile.caller_may_set.values() {
        remove(&mut given, &setting.at);
        remove(&mut own, &setting.at);
    }
    assert_eq!(given, own, "everything else is the profile's");
}

/// Any `profiles.json` is either refused by the build or usable. The bytes are the file and, after a zero byte, which JSON
/// cannot contain, a body.
pub fn profile(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let file = parts.next().unwrap_or_default();
    let body = parts.next().unwrap_or_default();
    let findings = token_mint_profile_check::check(file, Day::at(Duration::from_secs(1_795_651_200)));
    let Ok(file) = str::from_utf8(file) else {
        assert!(!findings.mistakes.is_empty(), "a file that is not UTF-8 is refused");
        return;
    };
    if findings.mistakes.is_empty() {
        Profiles::parse(file, None, None, TOKEN_TTL).expect("a file without a mistake is usable");
    }
    for (model, voice) in [(None, None), (Some("gpt-realtime"), Voice::named("cedar"))] {
        let Ok(profiles) = Profiles::parse(file, model, voice, TOKEN_TTL) else { continue };
        for body in [b"", body] {
            if let Ok(session) = profiles.session(body) {
                serde_json::from_str::<IgnoredAny>(&session.request).expect("the request is JSON");
            }
        }
    }
}

fn texts(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => BTreeSet::new(),
    }
}

fn remove(document: &mut Value, pointer: &str) {
    let Some((parent, name)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
        fields.remove(&name.replace("~1", "/").replace("~0", "~"));
    }
}

//! One profile: its kind, its lifetime, its session and the fields that a caller may set.

use openai_realtime::{Day, TOKEN_TTL_SECONDS};
use serde_json::{Map, Value};

use crate::{
    Findings, OfProfile, allow, call, place,
    session::{Kind, Session},
    spelling::{any_of, did_you_mean, listed, nearest, quoted, shown},
};

const FIELDS: [&str; 5] = ["kind", "token_ttl_seconds", "call", "session", "caller_may_set"];
const KINDS: [&str; 3] = ["realtime", "transcription", "translation"];
const INSTRUCTIONS: &str = "instructions";

pub(crate) fn check(name: &str, profile: &Value, today: Day, findings: &mut Findings) {
    let mut found = OfProfile { name, findings };
    let Value::Object(profile) = profile else {
        found.mistake(format!("it must be an object with {}, but it is {}.", listed(FIELDS), shown(profile)));
        return;
    };
    unknown_fields("the profile", profile, &FIELDS, &mut found);
    let kind = kind(profile, &mut found);
    token_ttl(profile, &mut found);
    call::check(profile, kind, &mut found);
    let session = match profile.get("session") {
        None if misspelt(profile, "session") => None,
        None => {
            found.mistake("\"session\" is missing. It must be the session document for OpenAI.");
            None
        }
        Some(Value::Object(session)) => Some(session),
        Some(other) => {
            found.mistake(format!("\"session\" must be an object, but it is {}.", shown(other)));
            None
        }
    };
    let fields = match profile.get("caller_may_set") {
        None => None,
        Some(Value::Object(fields)) => Some(fields),
        Some(other) => {
            found.mistake(format!(
                "\"caller_may_set\" must be an object with a rule for each field, but it is {}.",
                shown(other)
            ));
            None
        }
    };
    let Some(session) = session else { return };
    if session.contains_key("type") {
        found.mistake("the session has a \"type\". Remove it: the profile's \"kind\" says the same.");
    }
    let document = kind.map(|kind| Session::new(kind, document(session, &mut found), today));
    if let Some(document) = &document {
        document.check(&mut found);
    }
    if let Some(fields) = fields {
        caller_fields(fields, session, document.as_ref(), &mut found);
    }
}

/// A mistake for each field with a name that does not exist.
pub(crate) fn unknown_fields(of: &str, object: &Map<String, Value>, known: &[&str], found: &mut OfProfile<'_>) {
    for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
        let absent = known.iter().copied().filter(|known| !object.contains_key(*known));
        let hint = did_you_mean(name, absent);
        found.mistake(format!(
            "{of} has the unknown field {}. Known fields: {}.{hint}",
            quoted(name),
            listed(known.iter().copied())
        ));
    }
}

/// Whether a field with a similar name has already been reported.
fn misspelt(object: &Map<String, Value>, name: &str) -> bool {
    object.keys().any(|other| !FIELDS.contains(&other.as_str()) && nearest(other, [name]).is_some())
}

fn kind(profile: &Map<String, Value>, found: &mut OfProfile<'_>) -> Option<Kind> {
    match profile.get("kind") {
        None if misspelt(profile, "kind") => None,
        None => {
            found.mistake(format!("\"kind\" is missing. It must be {}.", any_of(KINDS)));
            None
        }
        Some(Value::String(kind)) if KINDS.contains(&kind.as_str()) => Kind::named(kind),
        Some(other) => {
            let hint = other.as_str().map_or_else(String::new, |word| did_you_mean(word, KINDS));
            found.mistake(format!("\"kind\" is {}, but must be {}.{hint}", shown(other), any_of(KINDS)));
            None
        }
    }
}

fn token_ttl(profile: &Map<String, Value>, found: &mut OfProfile<'_>) {
    let Some(ttl) = profile.get("token_ttl_seconds") else { return };
    if ttl.as_u64().is_some_and(|seconds| TOKEN_TTL_SECONDS.contains(&seconds)) {
        return;
    }
    let (from, to) = (TOKEN_TTL_SECONDS.start(), TOKEN_TTL_SECONDS.end());
    let hint = without_quotes(ttl);
    found.mistake(format!(
        "\"token_ttl_seconds\" is {}, but must be a whole number of seconds from {from} to {to}.{hint}",
        shown(ttl)
    ));
}

/// The fix for a number that is written as text.
pub(crate) fn without_quotes(value: &Value) -> &'static str {
    let is_number = value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_ok());
    if is_number { " Write the number without quotes." } else { "" }
}

/// The session as it is sent, with its instructions joined.
fn document(session: &Map<String, Value>, found: &mut OfProfile<'_>) -> Value {
    let mut document = session.clone();
    document.remove("type");
    match session.get(INSTRUCTIONS) {
        Some(Value::Array(paragraphs)) => {
            for (at, paragraph) in paragraphs.iter().enumerate().filter(|(_, paragraph)| !paragraph.is_string()) {
                let shown = shown(paragraph);
                found.mistake(format!(
                    "\"/instructions/{at}\" is {shown}, but each entry of \"instructions\" must be text."
                ));
            }
            document.insert(INSTRUCTIONS.to_owned(), "text".into());
        }
        Some(Value::String(_)) | None => {}
        Some(other) => {
            let shown = shown(other);
            found.mistake(format!("\"/instructions\" is {shown}, but must be text or a list of text."));
            document.insert(INSTRUCTIONS.to_owned(), "text".into());
        }
    }
    Value::Object(document)
}

fn caller_fields(
    fields: &Map<String, Value>,
    session: &Map<String, Value>,
    document: Option<&Session>,
    found: &mut OfProfile<'_>,
) {
    let session = Value::Object(session.clone());
    let mut places: Vec<(&str, &str)> = Vec::new();
    for (name, field) in fields {
        if name == "profile" {
            found.mistake("a field cannot be named \"profile\": with that, callers choose their profile. Rename it.");
        }
        let Value::Object(parts) = field else {
            let shown = shown(field);
            found.mistake(format!(
                "the field {} must be an object with \"at\" and \"allow\", but it is {shown}.",
                quoted(name)
            ));
            continue;
        };
        unknown_fields(&format!("the field {}", quoted(name)), parts, &["at", "allow"], found);
        let at = match parts.get("at") {
            Some(Value::String(at)) => match place::leads_nowhere(at, &session) {
                None => Some(at.as_str()),
                Some(why) => {
                    found.mistake(format!("the field {} writes to {}, which {why}", quoted(name), quoted(at)));
                    None
                }
            },
            Some(other) => {
                let shown = shown(other);
                found.mistake(format!(
                    "\"at\" of the field {} is {shown}, but must be a path such as \"/audio/output/voice\".",
                    quoted(name)
                ));
                None
            }
            None => {
                found.mistake(format!(
                    "the field {} has no \"at\", the path in the session that it writes to.",
                    quoted(name)
                ));
                None
            }
        };
        allow::check(name, parts.get("allow"), at, document, found);
        let Some(at) = at else { continue };
        let inside = |inner: &str, outer: &str| format!("{inner}/").starts_with(&format!("{outer}/"));
        if let Some((other, _)) = places.iter().find(|(_, other)| inside(at, other) || inside(other, at)) {
            found.mistake(format!(
                "the fields {} and {} both write to {}. Give each its own place.",
                quoted(other),
                quoted(name),
                quoted(at)
            ));
        }
        places.push((name, at));
    }
}

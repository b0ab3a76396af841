//! JSON pointers: whether a pointer resolves, and otherwise the last place that it reaches.

use serde_json::Value;

use crate::spelling::{did_you_mean, listed, quoted};

/// The fault of a pointer that does not resolve in a session. `None` if it resolves to a place below the session itself.
pub(crate) fn leads_nowhere(at: &str, session: &Value) -> Option<String> {
    if at.is_empty() {
        return Some("is the whole session. Name one place in it, such as \"/audio/output/voice\".".to_owned());
    }
    if !at.starts_with('/') {
        let with_slash = format!("/{at}");
        let meant = match session.pointer(&with_slash) {
            Some(_) => format!(" Write {with_slash:?}."),
            None => String::new(),
        };
        return Some(format!("does not begin with a slash.{meant}"));
    }
    if session.pointer(at).is_some() {
        return None;
    }
    let mut parent = "";
    let mut value = session;
    for (end, _) in at.match_indices('/').skip(1).chain([(at.len(), "")]) {
        let reached = at.get(..end).unwrap_or(at);
        if let Some(next) = session.pointer(reached) {
            (parent, value) = (reached, next);
            continue;
        }
        let missing = reached.strip_prefix(parent).unwrap_or(reached).trim_start_matches('/');
        return Some(dead_end(parent, value, &missing.replace("~1", "/").replace("~0", "~")));
    }
    None
}

fn dead_end(parent: &str, value: &Value, missing: &str) -> String {
    let parent = if parent.is_empty() { "the session".to_owned() } else { format!("{parent:?}") };
    match value {
        Value::Object(fields) => {
            let names = || fields.keys().map(String::as_str);
            let hint = did_you_mean(missing, names());
            let hint =
                if hint.is_empty() { " Add it with the value for callers that do not set the field." } else { &hint };
            format!("leads nowhere: {parent} has no {}, only {}.{hint}", quoted(missing), listed(names()))
        }
        Value::Array(entries) => match entries.len().checked_sub(1) {
            Some(last) => format!("leads nowhere: {parent} is a list whose entries are 0 to {last}, not {missing}."),
            None => format!("leads nowhere: {parent} is an empty list."),
        },
        _ => format!("leads nowhere: {parent} is a value, so it has no places below it."),
    }
}

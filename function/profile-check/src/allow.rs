//! The rule of a field: whether values can follow it, and whether OpenAI accepts all of them.

use serde_json::{Map, Value};

use crate::{
    OfProfile,
    profile::{unknown_fields, without_quotes},
    session::{Field, Session},
    spelling::{any_of, did_you_mean, listed, quoted, shown},
};

const RULES: [&str; 4] = ["one_of", "number", "integer", "text"];

/// Values that a rule allows: all of a list, or both ends and the inside of a range.
struct Allowed {
    values: Vec<Value>,
    any_text: bool,
}

pub(crate) fn check(
    field: &str,
    allow: Option<&Value>,
    at: Option<&str>,
    session: Option<&Session>,
    found: &mut OfProfile<'_>,
) {
    let field = quoted(field);
    let rule = match allow {
        Some(Value::Object(rule)) => rule,
        Some(other) => {
            let sentence = format!(
                "\"allow\" of the field {field} is {}, but must be an object with one rule: {}.",
                shown(other),
                rules()
            );
            found.mistake(sentence);
            return;
        }
        None => {
            found.mistake(format!("the field {field} has no \"allow\", its rule: {}.", rules()));
            return;
        }
    };
    for name in rule.keys().filter(|name| !RULES.contains(&name.as_str())) {
        let hint = did_you_mean(name, RULES);
        found.mistake(format!(
            "the field {field} has the unknown rule {}. Known rules: {}.{hint}",
            quoted(name),
            listed(RULES)
        ));
    }
    let known: Vec<_> = rule.iter().filter(|(name, _)| RULES.contains(&name.as_str())).collect();
    let allowed = match known.as_slice() {
        [(name, of)] => match name.as_str() {
            "one_of" => one_of(&field, of, found),
            "text" => text(&field, of, found),
            kind => range(&field, kind, of, found),
        },
        [] if rule.is_empty() => {
            found.mistake(format!("\"allow\" of the field {field} is empty. Give it one rule: {}.", rules()));
            None
        }
        [] => None,
        _ => {
            let names = known.iter().map(|(name, _)| name.as_str());
            found.mistake(format!("the field {field} has the rules {}. Keep one of them.", listed(names)));
            None
        }
    };
    let (Some(at), Some(allowed)) = (at, allowed) else { return };
    if at == "/instructions" || at.starts_with("/instructions/") {
        for value in allowed.values.iter().filter(|value| !value.is_string()) {
            found.mistake(format!(
                "the field {field} allows {} for {at:?}, but instructions must be text.",
                shown(value)
            ));
        }
        return;
    }
    let Some(session) = session else { return };
    for value in allowed.values {
        session.check_with(at, value, &Field { name: &field, any_text: allowed.any_text }, found);
    }
}

fn rules() -> String {
    any_of(RULES)
}

fn one_of(field: &str, of: &Value, found: &mut OfProfile<'_>) -> Option<Allowed> {
    let values: Vec<Value> = match of {
        Value::Array(words) => {
            for (at, word) in words.iter().enumerate() {
                if !word.is_string() {
                    found.mistake(format!(
                        "\"one_of\" of the field {field} has {} in it, but a list holds words. For numbers, use the rule \
                         \"number\" or \"integer\", or a table of words and values.",
                        shown(word)
                    ));
                } else if words.iter().take(at).any(|earlier| earlier == word) {
                    found.mistake(format!("\"one_of\" of the field {field} has {} twice. Remove one.", shown(word)));
                }
            }
            words.iter().filter(|word| word.is_string()).cloned().collect()
        }
        Value::Object(table) => table.values().cloned().collect(),
        other => {
            found.mistake(format!(
                "\"one_of\" of the field {field} is {}, but must be a list of words, or a table of words and values.",
                shown(other)
            ));
            return None;
        }
    };
    if matches!(of, Value::Array(words) if words.is_empty()) || matches!(of, Value::Object(table) if table.is_empty()) {
        found.mistake(format!("\"one_of\" of the field {field} is empty, so the field can never be set. Add a value."));
    }
    Some(Allowed { values, any_text: false })
}

fn text(field: &str, of: &Value, found: &mut OfProfile<'_>) -> Option<Allowed> {
    let parts = parts(field, "text", of, &["max_characters"], found)?;
    match parts.get("max_characters") {
        None => {
            found.mistake(format!("\"text\" of the field {field} has no \"max_characters\"."));
            return None;
        }
        Some(most) if most.as_u64().is_some_and(|most| most > 0 && u32::try_from(most).is_ok()) => {}
        Some(other) => {
            found.mistake(format!(
                "\"max_characters\" of the field {field} is {}, but must be a whole number of at least 1.{}",
                shown(other),
                without_quotes(other)
            ));
            return None;
        }
    }
    Some(Allowed { values: vec!["any text".into()], any_text: true })
}

fn range(field: &str, kind: &str, of: &Value, found: &mut OfProfile<'_>) -> Option<Allowed> {
    let parts = parts(field, kind, of, &["from", "to"], found)?;
    let wanted = if kind == "integer" { "a whole number" } else { "a number" };
    let mut end = |name: &str| {
        let Some(value) = parts.get(name) else {
            found.mistake(format!("{kind:?} of the field {field} has no {name:?}."));
            return None;
        };
        if !value.is_number() || (kind == "integer" && value.as_i64().is_none()) {
            found.mistake(format!(
                "{name:?} of the field {field} is {}, but must be {wanted}.{}",
                shown(value),
                without_quotes(value)
            ));
            return None;
        }
        Some(value.clone())
    };
    let (Some(from), Some(to)) = (end("from"), end("to")) else { return None };
    let (least, most) = (from.as_f64().unwrap_or_default(), to.as_f64().unwrap_or_default());
    if least > most {
        found.mistake(format!(
            "\"from\" of the field {field} is {from} and \"to\" is {to}, so the field can never be set. Swap them."
        ));
        return None;
    }
    let mut values = vec![from, to];
    // A fraction between the ends, which OpenAI does not accept everywhere.
    if kind == "number" && least < most {
        let inside = least + (most - least) * std::f64::consts::FRAC_1_PI;
        values.push(((inside * 1000.0).round() / 1000.0).clamp(least, most).into());
    }
    Some(Allowed { values, any_text: false })
}

fn parts<'a>(
    field: &str,
    rule: &str,
    of: &'a Value,
    known: &[&str],
    found: &mut OfProfile<'_>,
) -> Option<&'a Map<String, Value>> {
    let Value::Object(parts) = of else {
        found.mistake(format!(
            "{rule:?} of the field {field} is {}, but must be an object with {}.",
            shown(of),
            listed(known.iter().copied())
        ));
        return None;
    };
    unknown_fields(&format!("{rule:?} of the field {field}"), parts, known, found);
    Some(parts)
}

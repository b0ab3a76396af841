//! The form of values in sentences, and the name that was probably meant.

use serde_json::Value;

/// Text in a sentence is cut after this many characters.
const SHOWN: usize = 60;

/// A value as a sentence shows it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// A text in quotes, shortened if it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN).and_then(|(end, _)| text.get(..end)) {
        Some(start) => format!("{:?}", format!("{start}…")),
        None => format!("{text:?}"),
    }
}

/// `"a", "b" and "c"`
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names, "and")
}

/// `"a", "b" or "c"`
pub(crate) fn any_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(names, "or")
}

fn joined<'a>(names: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} {conjunction} {last}", others.join(", ")),
        None => "none".to_owned(),
    }
}

/// A sentence that asks for the name that was probably meant, with a space before it. Empty if none is near.
pub(crate) fn did_you_mean<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, names).map_or_else(String::new, |name| format!(" Did you mean {name:?}?"))
}

/// The name that was probably meant: at most one letter in three differs.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.to_lowercase().chars().take(SHOWN).collect::<Vec<_>>();
    let word = letters(word);
    names
        .into_iter()
        .map(|name| (distance(&word, &letters(name)), name))
        .filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The name that differs only in case and punctuation.
pub(crate) fn same_letters<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters =
        |text: &str| text.to_lowercase().chars().filter(|letter| letter.is_alphanumeric()).collect::<String>();
    let word = letters(word);
    names.into_iter().find(|name| letters(name) == word)
}

/// The number of letters that are added, left out, replaced, or swapped with the next.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.iter().enumerate() {
        let mut next = vec![at.saturating_add(1)];
        for (column, other) in right.iter().enumerate() {
            let cell = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let one_more = |cell: usize| cell.saturating_add(1);
            let replaced = cell(&row, column).saturating_add(usize::from(letter != other));
            let mut least = replaced.min(one_more(cell(&row, one_more(column)))).min(one_more(cell(&next, column)));
            let swapped = at
                .checked_sub(1)
                .zip(column.checked_sub(1))
                .filter(|(above, left_of)| left.get(*above) == Some(other) && right.get(*left_of) == Some(letter));
            if let Some((_, left_of)) = swapped {
                least = least.min(one_more(cell(&before, left_of)));
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        for (word, name) in [
            ("realtme", Some("realtime")),
            ("cedra", Some("cedar")),
            ("sesion", Some("session")),
            ("caller_can_set", Some("caller_may_set")),
            ("kinds", Some("kind")),
            ("ahs", None),
            ("chat", None),
            ("", None),
        ] {
            let names = ["realtime", "cedar", "session", "caller_may_set", "kind", "transcription"];
            assert_eq!(nearest(word, names), name, "{word}");
        }
        assert_eq!(same_letters("GPT_Realtime-2.1", ["gpt-realtime-2", "gpt-realtime-2.1"]), Some("gpt-realtime-2.1"));
    }
}

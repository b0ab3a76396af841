//! OpenAI's machine-readable reasons, reduced to names that are safe to log.

use std::fmt;

use serde_json::Value;

/// The longest name, in bytes.
const LONGEST: usize = 64;

/// The longest word of a name, in letters. A longer one is more likely random than English.
const LONGEST_WORD: usize = 20;

/// The most digits in a name. Codes have HTTP statuses, numbers of errors and indices in them.
const MOST_DIGITS: usize = 6;

/// A part of a name with more letters than this in mixed case must have the rhythm of words.
const LONGEST_UNCHECKED: usize = 15;

/// The first words of keys and tokens.
const SECRET_PREFIXES: [&str; 9] = ["sk", "ek", "pk", "rk", "tok", "gsk", "xai", "vck", "bearer"];

/// OpenAI's reason for refusing a request, safe to log: never its message, which may repeat parts of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorCode {
    /// For example `model_not_found`, or the error's type if it has no code.
    pub code: Option<String>,
    /// For example `session.model`.
    pub param: Option<String>,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        write!(formatter, "code {}, param {}", or_none(&self.code), or_none(&self.param))
    }
}

/// Passes the name of an error or of a field, such as `model_not_found`, `DeploymentNotFound`, `session.tools[0].name` or
/// 404, but no value that could be a key, a token or a prompt.
///
/// A name consists of words and short numbers, joined by `.`, `_`, `-` and brackets. Keys and tokens mix letters and
/// digits, have known first words or are long, and prompts have spaces.
pub(super) fn name(value: &Value) -> Option<String> {
    let name = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // Other servers write an absent value as text.
    if name.len() > LONGEST || name.eq_ignore_ascii_case("none") || name.eq_ignore_ascii_case("null") {
        return None;
    }
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let some = name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    let harmless = digits <= MOST_DIGITS && some && name.split(['.', '_', '-', '[', ']']).all(is_harmless);
    harmless.then_some(name)
}

/// Whether a part of a name is words, possibly with a number after them, or a number. It is empty after a bracket.
fn is_harmless(part: &str) -> bool {
    let letters = part.trim_end_matches(|letter: char| letter.is_ascii_digit());
    letters.bytes().all(|byte| byte.is_ascii_alphabetic())
        && !SECRET_PREFIXES.iter().any(|prefix| letters.eq_ignore_ascii_case(prefix))
        && are_words(letters)
}

/// Whether letters can be words, such as `not`, `NotFound`, `HTTPError` or `NOT`. In random letters, half are capitals, and
/// every fourth letter begins a word.
fn are_words(letters: &str) -> bool {
    let longest =
        |in_case: fn(char) -> bool| letters.split(|letter| !in_case(letter)).map(str::len).max().unwrap_or_default();
    if longest(|letter| letter.is_ascii_lowercase()).max(longest(|letter| letter.is_ascii_uppercase())) > LONGEST_WORD {
        return false;
    }
    let capitals = letters.bytes().filter(u8::is_ascii_uppercase).count();
    if letters.len() <= LONGEST_UNCHECKED || capitals == 0 || capitals == letters.len() {
        return true;
    }
    let begins =
        |pair: &&[u8]| matches!(pair, [before, after] if before.is_ascii_lowercase() && after.is_ascii_uppercase());
    let words = letters.as_bytes().windows(2).filter(begins).count().saturating_add(1);
    letters.len() >= words.saturating_mul(5) && letters.len() >= capitals.saturating_mul(3)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_of_errors_and_fields_pass() {
        for text in [
            "model_not_found",
            "session.audio.output.voice",
            "rate_limit_exceeded",
            "unsupported_country_region_territory",
            "DeploymentNotFound",
            "OperationNotSupported",
            "InvalidAPIVersionParameter",
            "HTTPError",
            "RESOURCE_EXHAUSTED",
            "session.tools[0].name",
            "input[3].content[0].input_audio",
            "content-filter",
            "oauth2_error",
            "AADSTS50020",
            "E1001",
            "404",
            "risk_level",
            "week_limit",
        ] {
            assert_eq!(name(&text.into()).as_deref(), Some(text));
        }
        assert_eq!(name(&json!(404)).as_deref(), Some("404"));
        assert_eq!(name(&json!(-32000)).as_deref(), Some("-32000"));
    }

    #[test]
    fn keys_tokens_prompts_and_other_values_do_not_pass() {
        for text in [
            "sk-proj-abc",
            "sk_1",
            "ek_abc",
            "invalid key ek_abc",
            "Bearer-abc",
            "xai-Kd",
            "3f2a9c0d1e4b5a6f7c8d9e0f1a2b3c4d",
            "550e8400-e29b-41d4-a716-446655440000",
            "eyJhbGciOiJIUzI1NiJ9",
            "AKIAIOSFODNN7EXAMPLE",
            "QwErTyUiOpAsDfGhJkLz",
            "KqVbXzRtWpLmNsDfGhJcYyTbEe",
            "abcdefghijklmnopqrstuvwxyz",
            "4111-1111-1111-1111",
            "Tell me a story",
            "Tell\nme",
            "caf\u{e9}",
            "<html>",
            "a@example.com",
            "/home/user",
            "None",
            "null",
            "[]",
            "...",
            "",
            " ",
            &"x_".repeat(33),
        ] {
            assert_eq!(name(&text.into()), None, "{text}");
        }
        for value in [json!(null), json!(true), json!(["a"]), json!({"a": 1}), json!(1234567), json!(1e300)] {
            assert_eq!(name(&value), None, "{value}");
        }
    }
}

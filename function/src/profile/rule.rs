//! A field that a caller may set, and the rule for its values.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::Value;

/// A field that a caller may set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerField {
    /// JSON pointer to the value in the session document that is replaced; the value in the file is the default.
    pub at: String,
    pub allow: Rule,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    OneOf(Choices),
    Number { from: f64, to: f64 },
    Integer { from: i64, to: i64 },
    Text { max_characters: usize },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Choices {
    /// The caller's word goes into the document unchanged.
    List(Vec<String>),
    /// The caller's word is the key of the value that goes into the document.
    Table(BTreeMap<String, Value>),
}

impl Rule {
    /// A value that came as text, in the type that this rule expects.
    pub fn typed(&self, text: &str) -> Value {
        let number = match self {
            Self::Number { .. } | Self::Integer { .. } => serde_json::from_str(text).ok().filter(Value::is_number),
            Self::OneOf(_) | Self::Text { .. } => None,
        };
        number.unwrap_or_else(|| text.into())
    }

    /// The value for the document, if the caller's value is allowed.
    pub fn choose(&self, value: &Value) -> Option<Value> {
        match self {
            Self::OneOf(Choices::List(words)) => {
                let word = value.as_str()?;
                words.iter().any(|allowed| allowed == word).then(|| value.clone())
            }
            Self::OneOf(Choices::Table(names)) => names.get(value.as_str()?).cloned(),
            Self::Number { from, to } => (*from..=*to).contains(&value.as_f64()?).then(|| value.clone()),
            Self::Integer { from, to } => (*from..=*to).contains(&value.as_i64()?).then(|| value.clone()),
            Self::Text { max_characters } => {
                let text = value.as_str()?;
                let fits = text.chars().nth(*max_characters).is_none() && !text.chars().any(breaks_the_line);
                fits.then(|| value.clone())
            }
        }
    }
}

/// Control characters, separators of lines and paragraphs, and characters that change the direction of a text.
fn breaks_the_line(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The allowed values, as the object of "expected" in a sentence for the caller.
impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(Choices::List(words)) => write!(formatter, "one of {}", words.join(", ")),
            Self::OneOf(Choices::Table(names)) => {
                let names: Vec<_> = names.keys().map(String::as_str).collect();
                write!(formatter, "one of {}", names.join(", "))
            }
            Self::Number { from, to } => write!(formatter, "a number from {from} to {to}"),
            Self::Integer { from, to } => write!(formatter, "a whole number from {from} to {to}"),
            Self::Text { max_characters } => {
                write!(formatter, "text of up to {max_characters} characters on one line")
            }
        }
    }
}

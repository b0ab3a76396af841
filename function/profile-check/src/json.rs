//! Parses the file, and finds its faults of syntax and names that appear twice.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use crate::{Findings, spelling::quoted};

/// The JSON of the file, if it can be parsed.
pub(crate) fn read(file: &[u8], findings: &mut Findings) -> Option<Value> {
    let text = text(file, findings)?;
    if text.trim().is_empty() {
        let sentence = "the file is empty. It must be an object with at least the profile \"default\".";
        findings.mistakes.push(sentence.to_owned());
        return None;
    }
    match serde_json::from_str::<Node>(text) {
        Ok(node) => Some(node.into_value("", findings)),
        Err(error) => {
            findings.mistakes.push(syntax(text, &error));
            None
        }
    }
}

fn text<'a>(file: &'a [u8], findings: &mut Findings) -> Option<&'a str> {
    if file.starts_with(b"\xff\xfe") || file.starts_with(b"\xfe\xff") {
        findings.mistakes.push("the file is UTF-16. Save it as UTF-8.".to_owned());
        return None;
    }
    let without_mark = file.strip_prefix(b"\xef\xbb\xbf");
    if without_mark.is_some() {
        let sentence = "the file begins with a byte-order mark. Save it as UTF-8 without one.";
        findings.mistakes.push(sentence.to_owned());
    }
    let file = without_mark.unwrap_or(file);
    match std::str::from_utf8(file) {
        Ok(text) => Some(text),
        Err(error) => {
            let before = file.get(..error.valid_up_to()).unwrap_or_default();
            let (line, column) = position(&String::from_utf8_lossy(before));
            findings.mistakes.push(format!("line {line}, column {column}: this is not UTF-8. Save the file as UTF-8."));
            None
        }
    }
}

/// Line and column of the character after a text, both counted from 1.
fn position(before: &str) -> (usize, usize) {
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count().saturating_add(1);
    (line, column)
}

/// The fault of the syntax and its fix. The messages of serde_json 1.0 distinguish the cases. An unknown message gets a
/// general sentence.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    let at = offset(text, error);
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let message = error.to_string();
    let is = |start: &str| message.starts_with(start);
    let (mut place, found) = (before, after.chars().next());
    let sentence = if is("trailing comma") {
        let comma = before.trim_end();
        place = comma.strip_suffix(',').unwrap_or(comma);
        "there is a comma after the last entry. Remove the comma.".to_owned()
    } else if is("EOF") {
        place = text.trim_end();
        "the file ends too early. A closing bracket, brace or quote is missing.".to_owned()
    } else if is("control character") {
        "text cannot contain a line break or a tab. Write \\n or \\t, or add the missing quote.".to_owned()
    } else if is("invalid escape") || is("lone leading") || is("unexpected end of hex") || is("invalid unicode") {
        "a backslash begins an escape that JSON does not have. Write \\\\ for a backslash.".to_owned()
    } else if is("recursion limit") {
        "lists and objects are nested too deeply.".to_owned()
    } else if is("number out of range") || is("invalid number") {
        "this is not a number that JSON can hold. Write numbers such as 1, -2 or 0.5.".to_owned()
    } else {
        match found {
            Some('/' | '#') => "JSON has no comments. Remove this one.".to_owned(),
            Some('\'') => "JSON has double quotes only. Write \" in place of '.".to_owned(),
            Some('“' | '”' | '„') => "this is a typographic quote. Write \" in its place.".to_owned(),
            Some(',') if !is("expected `:`") => "there is a comma too many. Remove it.".to_owned(),
            Some(_) if is("trailing characters") => "the JSON has ended before this. Remove the rest.".to_owned(),
            Some(letter) if is("key must be") && letter.is_alphanumeric() => {
                "a name must be in double quotes. Put \" around it.".to_owned()
            }
            Some(_) if is("expected `:`") => "a colon is missing between a name and its value.".to_owned(),
            Some('"' | '{' | '[') if is("expected `,`") => "a comma is missing before this.".to_owned(),
            Some(letter) if letter.is_alphabetic() => {
                "this is not a JSON value. Put text in double quotes, or write true, false or null.".to_owned()
            }
            Some(other) => format!("{} does not belong here.", quoted(&other.to_string())),
            None => "the file ends too early. A closing bracket, brace or quote is missing.".to_owned(),
        }
    };
    let (line, column) = position(place);
    format!("line {line}, column {column}: {sentence}")
}

/// The offset of the error in the text. serde_json counts lines from 1, and columns in bytes from 1.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let mut at = lines.map(str::len).sum::<usize>().saturating_add(error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

/// JSON with every field, even if two have one name.
enum Node {
    Leaf(Value),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Converts to serde_json's type, and reports names that appear twice.
    fn into_value(self, place: &str, findings: &mut Findings) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::List(entries) => {
                let entries = entries.into_iter().enumerate();
                entries.map(|(at, entry)| entry.into_value(&format!("{place}/{at}"), findings)).collect()
            }
            Self::Object(fields) => {
                let mut object = Map::new();
                for (name, field) in fields {
                    let value = field.into_value(&format!("{place}/{name}"), findings);
                    if object.contains_key(&name) {
                        let sentence = match place.trim_start_matches('/') {
                            "" => format!("two profiles are named {name:?}. Rename one of them."),
                            place => format!("{name:?} appears twice in {place}. Remove one of them."),
                        };
                        findings.mistakes.push(sentence);
                    }
                    object.insert(name, value);
                }
                Value::Object(object)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Leaf(flag.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Leaf(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Leaf(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Leaf(Number::from_f64(number).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Leaf(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element()? {
            entries.push(entry);
        }
        Ok(Node::List(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Object(fields))
    }
}

//! The callers that the operator has blocked, by their safety identifiers.
//!
//! operate/contents.py reads the field in the same way.

use std::collections::HashSet;

use serde_json::Value;

/// Hex HMAC-SHA256.
const IDENTIFIER_LENGTH: usize = 64;

/// A set, so that the length of the list costs a request nothing.
#[derive(Clone, Debug, Default)]
pub struct BlockList(HashSet<String>);

impl BlockList {
    /// Reads a list of texts, or one text: the console's key/value editor stores text only. A text has any number of
    /// identifiers, separated by commas or white space, or as a list in JSON.
    ///
    /// # Errors
    /// If the value is or contains something other than identifiers: the callers that can be read nevertheless.
    pub fn parse(value: Option<&Value>) -> Result<Self, Self> {
        let mut callers = HashSet::new();
        let entries: &[Value] = match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(entries)) => entries,
            Some(other) => std::slice::from_ref(other),
        };
        let mut readable = true;
        for entry in entries {
            let Value::String(text) = entry else {
                readable = false;
                continue;
            };
            let separates = |letter: char| letter.is_whitespace() || ",;\"'[]".contains(letter);
            for identifier in text.split(separates).filter(|identifier| !identifier.is_empty()) {
                if identifier.len() == IDENTIFIER_LENGTH && identifier.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    callers.insert(identifier.to_ascii_lowercase());
                } else {
                    readable = false;
                }
            }
        }
        if readable { Ok(Self(callers)) } else { Err(Self(callers)) }
    }

    /// This list and `other`.
    pub fn with(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Whether it has the caller with this identifier, in lower case.
    pub fn has(&self, identifier: &str) -> bool {
        self.0.contains(identifier)
    }

    #[cfg(test)]
    pub fn sorted(&self) -> Vec<&str> {
        let mut callers: Vec<_> = self.0.iter().map(String::as_str).collect();
        callers.sort_unstable();
        callers
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn identifier(number: usize) -> String {
        format!("{number:064x}")
    }

    #[test]
    fn a_list_is_a_list_or_a_text() {
        let (a, b) = (identifier(10), identifier(11));
        for both in [
            json!([a, b]),
            json!([a.to_uppercase(), format!(" {b}\n")]),
            json!(format!("{a},{b}")),
            json!(format!(" {a} , {b}\r\n")),
            json!(format!("{a}\n{b}\n")),
            json!(format!("{a} {b}")),
            json!(format!("{a};{b};")),
            json!(json!([a, b]).to_string()),
            json!(format!("['{a}', '{b}']")),
            json!([format!("{a},{b}")]),
        ] {
            assert_eq!(BlockList::parse(Some(&both)).unwrap().sorted(), [&a, &b], "{both}");
        }
        assert_eq!(BlockList::parse(Some(&json!(a))).unwrap().sorted(), [&a]);
        for none in [json!(null), json!([]), json!(""), json!(" \n"), json!("[]"), json!([""])] {
            assert!(BlockList::parse(Some(&none)).unwrap().sorted().is_empty(), "{none}");
        }
        assert!(BlockList::parse(None).unwrap().sorted().is_empty());
    }

    #[test]
    fn identifiers_beside_other_values_are_read_nevertheless() {
        let a = identifier(10);
        for value in
            [json!([a, 5]), json!([a, null]), json!([a, "203.0.113.9"]), json!(format!("{a}, all")), json!([a, [a]])]
        {
            let read = BlockList::parse(Some(&value)).unwrap_err();
            assert!(read.has(&a), "{value}");
        }
        for value in [json!(5), json!(true), json!({"a": true}), json!("all"), json!("null"), json!(&a[1..])] {
            assert!(BlockList::parse(Some(&value)).is_err(), "{value}");
        }
    }

    #[test]
    fn a_long_list_costs_a_request_no_more_than_a_short_one() {
        let list = |length: usize| BlockList::parse(Some(&(0..length).map(identifier).collect())).unwrap();
        let (short, long, caller) = (list(3), list(3_000), identifier(5_000));
        let look_up = |list: &BlockList| {
            let began = Instant::now();
            for _ in 0..2_000 {
                assert!(!list.has(&caller));
            }
            began.elapsed()
        };
        // The fastest of many runs, since other processes slow some of them down. A search of the list takes 1,000 times
        // as long for the long one.
        let fastest = |list: &BlockList| (0..20).map(|_| look_up(list)).min().unwrap();
        let (short, long) = (fastest(&short), fastest(&long));
        assert!(long < short * 10 + Duration::from_micros(100), "{long:?} after {short:?}");
    }
}

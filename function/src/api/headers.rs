//! The headers of an event, by name.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::admission::proxy::HeaderValues;

/// The headers of one event. Nearly no request needs any but `Origin`, so the event stays as it arrived, and each look-up
/// reads it again.
pub struct Headers(Box<RawValue>);

impl Headers {
    /// The headers of an event.
    pub fn of(event: Box<RawValue>) -> Self {
        Self(event)
    }

    /// The event.
    pub(super) fn event(&self) -> &RawValue {
        &self.0
    }
}

/// Without the event: a header may be a secret.
impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Headers")
    }
}

impl Headers {
    /// The values of all headers with this name, in any case.
    ///
    /// # Errors
    /// If such a header has a value other than text or a list of texts. The error is the field of the event.
    pub fn checked(&self, name: &str) -> Result<Vec<String>, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Maps<'a> {
            #[serde(borrow)]
            headers: Option<&'a RawValue>,
            #[serde(borrow)]
            multi_value_headers: Option<&'a RawValue>,
        }

        let Ok(maps) = serde_json::from_str::<Maps<'_>>(self.0.get()) else { return Ok(Vec::new()) };
        // With both kinds of headers, each value is in the second one, and the first has the last one of each name.
        let (map, field) = match (maps.multi_value_headers, maps.headers) {
            (Some(map), _) => (map, "multiValueHeaders"),
            (None, Some(map)) => (map, "headers"),
            (None, None) => return Ok(Vec::new()),
        };
        let values = Named(name).deserialize(&mut serde_json::Deserializer::from_str(map.get()));
        values.map_err(|_| format!("{field}.{name}"))
    }
}

impl HeaderValues for Headers {
    fn values(&self, name: &str) -> Vec<String> {
        self.checked(name).unwrap_or_default()
    }
}

/// Reads the values of the headers with one name out of a map of headers. The other headers are skipped, whatever their
/// values are.
pub(super) struct Named<'n>(pub &'n str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut headers: A) -> Result<Vec<String>, A::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }

        let mut values = Vec::new();
        while let Some(name) = headers.next_key::<Cow<'de, str>>()? {
            if name.eq_ignore_ascii_case(self.0) {
                match headers.next_value()? {
                    OneOrMany::One(value) => values.push(value),
                    OneOrMany::Many(several) => values.extend(several),
                }
            } else {
                headers.next_value::<IgnoredAny>()?;
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn values(event: &Value, name: &str) -> Vec<String> {
        Headers::of(to_raw_value(event).unwrap()).values(name)
    }

    #[test]
    fn a_header_is_found_in_any_case() {
        let event =
            json!({"headers": {"X-Proxy-SECRET": "s", "x-real-ip": "203.0.113.7", "x-odd": [1, null], "y": {}}});
        assert_eq!(values(&event, "x-proxy-secret"), ["s"]);
        assert_eq!(values(&event, "X-Real-IP"), ["203.0.113.7"]);
        assert!(values(&event, "x-real").is_empty());
    }

    #[test]
    fn each_value_of_a_repeated_header_is_found() {
        let both = json!({"headers": {"X-Real-IP": "b"}, "multiValueHeaders": {"X-Real-IP": ["a", "b"]}});
        assert_eq!(values(&both, "x-real-ip"), ["a", "b"]);
        let one = json!({"headers": {"X-Real-IP": "a"}, "multiValueHeaders": {"X-Real-IP": ["a"]}});
        assert_eq!(values(&one, "x-real-ip"), ["a"]);
        let names = json!({"headers": {"X-Real-IP": "a", "x-real-ip": "b"}, "multiValueHeaders": null});
        assert_eq!(values(&names, "x-real-ip"), ["a", "b"]);
    }

    #[test]
    fn an_event_without_readable_headers_has_none() {
        for event in [
            json!({}),
            json!([]),
            json!({"headers": null}),
            json!({"headers": "x-real-ip"}),
            json!({"headers": {"x-real-ip": 5}}),
            json!({"headers": {"x-real-ip": ["a", 5]}}),
        ] {
            assert!(values(&event, "x-real-ip").is_empty(), "{event}");
        }
    }

    #[test]
    fn debug_output_contains_no_header() {
        let headers = Headers::of(to_raw_value(&json!({"headers": {"x-proxy-secret": "hunter2"}})).unwrap());
        assert_eq!(format!("{headers:?}"), "Headers");
    }
}

//! The two forms of a request for a call: an SDP offer with its fields in the query, or JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{query, request::HttpRequest};
use crate::{
    admission::{MAX_CALL_BODY, proxy::HeaderValues},
    profile::{InvalidRequest, object},
};

const SDP: &str = "application/sdp";
const JSON: &str = "application/json";

const SDP_FIELD: &str = "sdp";
const CHANNEL_FIELD: &str = "dcid";

/// A request for a call.
#[derive(Debug, PartialEq)]
pub struct CallForm {
    /// The browser's offer, byte for byte.
    pub offer: Vec<u8>,
    /// The profile and its fields.
    pub fields: Map<String, Value>,
    /// The names of the fields that come from the query, where every value is a text.
    pub texts: BTreeSet<String>,
    /// The number of a data channel that both sides agree on in advance.
    pub dcid: Option<u16>,
    /// Whether the answer is JSON.
    pub is_json: bool,
}

impl CallForm {
    /// Reads a request in the form that its `Content-Type` names. Without one, or with the one that browsers give to a text,
    /// the body tells.
    ///
    /// # Errors
    /// If the form is not known, or has no offer, or a field is given twice, or the body is too large to be read.
    pub fn read(request: &HttpRequest) -> Result<Self, InvalidRequest> {
        // Parsed, a document of nested objects takes up to a hundred times its size in memory.
        if request.body.len() > MAX_CALL_BODY {
            return Err(InvalidRequest::TooLarge);
        }
        let content_type = request.headers.values("content-type").into_iter().next().unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let query = query::fields(query::of(request.headers.event()));
        let mut fields = query.map_err(|field| InvalidRequest::RepeatedField { field })?;
        let is_json = match essence.as_str() {
            SDP => false,
            JSON => true,
            "" | "text/plain" if request.body.starts_with(b"v=") => false,
            "" | "text/plain" if request.body.trim_ascii_start().starts_with(b"{") => true,
            "" | "text/plain" if request.body.is_empty() => return Err(InvalidRequest::NoOffer),
            _ => return Err(InvalidRequest::UnknownForm),
        };
        let texts = fields.keys().cloned().collect();
        let offer = if is_json {
            let mut document = object(&request.body)?;
            let Some(Value::String(offer)) = document.remove(SDP_FIELD) else { return Err(InvalidRequest::NoOffer) };
            if let Some(field) = document.keys().find(|field| fields.contains_key(*field)) {
                return Err(InvalidRequest::RepeatedField { field: field.clone() });
            }
            fields.append(&mut document);
            offer.into_bytes()
        } else {
            request.body.clone()
        };
        if offer.is_empty() {
            return Err(InvalidRequest::NoOffer);
        }
        let dcid = fields.remove(CHANNEL_FIELD).map(|dcid| channel(&dcid)).transpose()?;
        Ok(Self { offer, fields, texts, dcid, is_json })
    }
}

fn channel(dcid: &Value) -> Result<u16, InvalidRequest> {
    let number = match dcid {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        _ => None,
    };
    number.ok_or(InvalidRequest::InvalidChannel)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::event::Event;

    fn read(query: &str, content_type: &str, body: &str) -> Result<CallForm, InvalidRequest> {
        let event = json!({
            "rawPath": "/call", "rawQueryString": query, "headers": {"content-type": content_type}, "body": body,
            "isBase64Encoded": false, "requestContext": {"http": {"method": "POST"}},
        });
        let event: Event = serde_json::from_value(event).unwrap();
        CallForm::read(&event.request.unwrap())
    }

    #[test]
    fn a_body_that_is_too_large_is_not_read_in_any_form() {
        for (content_type, start) in [(JSON, r#"{"sdp": "v=0"}"#), (SDP, "v=0"), ("", "{"), ("image/png", "")] {
            let of = |size: usize| read("a=1&a=2", content_type, &format!("{start}{}", " ".repeat(size - start.len())));
            assert_eq!(of(MAX_CALL_BODY + 1), Err(InvalidRequest::TooLarge), "{content_type}");
            assert_ne!(of(MAX_CALL_BODY), Err(InvalidRequest::TooLarge), "{content_type}");
        }
    }

    #[test]
    fn the_fields_of_the_query_are_texts_in_both_forms() {
        let fields = |value: Value| value.as_object().unwrap().clone();
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let form = read("speed=1.1&dcid=4", SDP, "v=0").unwrap();
        assert_eq!((form.fields, form.texts), (fields(json!({"speed": "1.1"})), texts(&["dcid", "speed"])));
        let form = read("speed=1.1", JSON, r#"{"sdp": "v=0", "dcid": 4, "topic": "2"}"#).unwrap();
        assert_eq!((form.fields, form.texts), (fields(json!({"speed": "1.1", "topic": "2"})), texts(&["speed"])));
        assert_eq!((form.dcid, form.is_json), (Some(4), true));
    }
}

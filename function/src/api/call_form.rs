//! The two forms of a request for a call: an SDP offer with its fields in the query, or JSON.

use serde_json::{Map, Value};

use super::{query, request::HttpRequest};
use crate::{
    admission::proxy::HeaderValues,
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
    /// Whether the fields come from a query, where every value is a text.
    pub are_texts: bool,
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
    /// If the form is not known, or has no offer, or a field is given twice.
    pub fn read(request: &HttpRequest) -> Result<Self, InvalidRequest> {
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
        let (offer, are_texts) = if is_json {
            let mut document = object(&request.body)?;
            let Some(Value::String(offer)) = document.remove(SDP_FIELD) else { return Err(InvalidRequest::NoOffer) };
            if let Some(field) = document.keys().find(|field| fields.contains_key(*field)) {
                return Err(InvalidRequest::RepeatedField { field: field.clone() });
            }
            let are_texts = document.is_empty();
            fields.append(&mut document);
            (offer.into_bytes(), are_texts)
        } else {
            (request.body.clone(), true)
        };
        if offer.is_empty() {
            return Err(InvalidRequest::NoOffer);
        }
        let dcid = fields.remove(CHANNEL_FIELD).map(|dcid| channel(&dcid)).transpose()?;
        Ok(Self { offer, fields, are_texts, dcid, is_json })
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

//! An answer, and its form for each kind of invoker.

use std::collections::BTreeMap;

use http::{HeaderName, StatusCode, header};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// An answer, independent of its invoker.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status code to send.
    pub status: StatusCode,
    /// The headers, each at most once.
    pub headers: Vec<(HeaderName, String)>,
    /// The body, a JSON document or an SDP answer.
    pub body: String,
}

impl Answer {
    /// A JSON answer that must not be cached.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // Serialisation fails only for maps whose keys are not text and for failing Serialize impls. No answer has either.
        Self::of(status, "application/json", serde_json::to_string(body).unwrap_or_default())
    }

    /// An SDP answer that must not be cached.
    pub fn sdp(status: StatusCode, sdp: String) -> Self {
        Self::of(status, "application/sdp", sdp)
    }

    fn of(status: StatusCode, content_type: &str, body: String) -> Self {
        let headers = vec![
            (header::CONTENT_TYPE, content_type.to_owned()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        Self { status, headers, body }
    }
}

/// The kind of invoker, on which the form of the reply depends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Invoker {
    /// An HTTP API, a function URL, a REST API, or the Lambda console.
    Gateway,
    LoadBalancer,
}

/// An answer in the form for its invoker.
#[derive(Debug)]
pub struct Reply {
    pub invoker: Invoker,
    pub answer: Answer,
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { status, headers, body } = &self.answer;
        let single: BTreeMap<&str, &str> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut reply = serializer.serialize_map(None)?;
        reply.serialize_entry("statusCode", &status.as_u16())?;
        if self.invoker == Invoker::LoadBalancer {
            // It reads one of the two kinds of headers, depending on its target group.
            let multi: BTreeMap<&str, [&str; 1]> = single.iter().map(|(name, value)| (*name, [*value])).collect();
            reply.serialize_entry("multiValueHeaders", &multi)?;
            reply.serialize_entry("statusDescription", &status.to_string())?;
        }
        reply.serialize_entry("headers", &single)?;
        reply.serialize_entry("body", body)?;
        reply.serialize_entry("isBase64Encoded", &false)?;
        reply.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_balancer_gets_both_kinds_of_headers_and_a_reason() {
        let reply = Reply {
            invoker: Invoker::LoadBalancer,
            answer: Answer::json(StatusCode::FORBIDDEN, &json!({"success": false})),
        };
        let reply = serde_json::to_value(&reply).unwrap();
        assert_eq!(reply["statusDescription"], "403 Forbidden");
        assert_eq!(reply["headers"]["cache-control"], "no-store");
        assert_eq!(reply["multiValueHeaders"]["cache-control"], json!(["no-store"]));
        let plain = Reply { invoker: Invoker::Gateway, answer: Answer::json(StatusCode::OK, &json!({})) };
        let plain = serde_json::to_value(&plain).unwrap();
        assert_eq!((plain.get("multiValueHeaders"), plain.get("statusDescription")), (None, None));
        assert_eq!((&plain["statusCode"], &plain["isBase64Encoded"]), (&json!(200), &json!(false)));
    }
}

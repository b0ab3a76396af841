//! The body of `POST /v1/realtime/calls`: a bare SDP offer, or a form with an offer and a session.

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use serde_json::Value;

use crate::{
    form::{fields, parameter},
    refusal::Refusal,
};

/// The parts of the body as they were sent.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct OfferParts {
    sdp: Option<Vec<u8>>,
    session: Option<Vec<u8>>,
}

/// A caller's offer, and the session that came with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) sdp: String,
    pub(crate) session: Option<Value>,
}

impl OfferParts {
    /// Reads the body according to its `Content-Type`.
    pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default();
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/sdp" => Ok(Self { sdp: Some(body.to_vec()), session: None }),
            "multipart/form-data" => Ok(Self::read_form(parameter(kind, "boundary").as_deref(), body)),
            other => {
                let message = format!(
                    "Unsupported content type: '{other}'. This API method only accepts 'application/sdp' and \
                     'multipart/form-data' requests."
                );
                Err(Refusal::new(400, message, None, "unsupported_content_type"))
            }
        }
    }

    fn read_form(boundary: Option<&str>, body: &[u8]) -> Self {
        let mut parts = Self::default();
        for field in boundary.into_iter().flat_map(|boundary| fields(body, boundary)) {
            match field.name.as_str() {
                "sdp" => parts.sdp = Some(field.content),
                "session" => parts.session = Some(field.content),
                _ => {}
            }
        }
        parts
    }

    /// The offer as text. Bytes that are not UTF-8 are replaced.
    pub(crate) fn sdp_text(&self) -> Option<String> {
        self.sdp.as_ref().map(|sdp| String::from_utf8_lossy(sdp).into_owned())
    }

    /// The session, if it is JSON.
    pub(crate) fn session_document(&self) -> Option<Value> {
        serde_json::from_slice(self.session.as_ref()?).ok()
    }

    /// The offer, unless a part is missing or invalid.
    pub(crate) fn check(self) -> Result<Offer, Refusal> {
        let sdp = self.sdp.ok_or_else(|| {
            Refusal::invalid("sdp", "Missing required parameter: 'sdp'.", "missing_required_parameter")
        })?;
        let session = self.session.map(|session| {
            serde_json::from_slice(&session)
                .map_err(|_| Refusal::invalid("session", "The session is not valid JSON.", "invalid_json"))
        });
        let session = session.transpose()?;
        let sdp = String::from_utf8(sdp).ok().filter(|sdp| has_whole_lines(sdp)).ok_or_else(Refusal::invalid_offer)?;
        Ok(Offer { sdp, session })
    }
}

/// Whether every line ends with CRLF. A client or a broker that trims an offer or changes its line ends has changed it,
/// and OpenAI takes it byte for byte.
fn has_whole_lines(sdp: &str) -> bool {
    sdp.ends_with("\r\n") && !sdp.replace("\r\n", "").contains(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(kind: &str, body: &[u8]) -> Result<Offer, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let parts = OfferParts::read(&headers, &Bytes::copy_from_slice(body));
        parts.and_then(OfferParts::check).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn a_bare_offer_is_read() {
        let taken = Offer { sdp: "v=0\r\n".into(), session: None };
        for kind in ["application/sdp", "Application/SDP; charset=utf-8"] {
            assert_eq!(offer(kind, b"v=0\r\n").as_ref(), Ok(&taken), "{kind}");
        }
    }

    #[test]
    fn an_offer_and_a_session_are_read_from_a_form() {
        let form = "--x1\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\ns=-\r\n\r\n--x1\r\nContent-Disposition: form-data; name=\"session\"\r\n\r\n\
                    {\"type\": \"realtime\"}\r\n--x1--\r\n";
        let taken = Offer { sdp: "v=0\r\ns=-\r\n".into(), session: Some(serde_json::json!({"type": "realtime"})) };
        for kind in [
            "multipart/form-data; boundary=x1",
            "multipart/form-data; charset=\"a;boundary=x2\"; Boundary=\"x1\"",
            "Multipart/Form-Data;boundary=x1;charset=utf-8",
        ] {
            assert_eq!(offer(kind, form.as_bytes()).as_ref(), Ok(&taken), "{kind}");
        }
        let broken = form.replace("\"realtime\"}", "");
        assert!(offer("multipart/form-data; boundary=x1", broken.as_bytes()).unwrap_err().contains("invalid_json"));
    }

    #[test]
    fn an_offer_consists_of_lines_that_end_with_crlf() {
        for body in ["", "v=0", "v=0\n", "v=0\r", "v=0\r\n ", "v=0\ns=-\r\n", "v=0\r\ns=-\n", "v=0\rs=-\r\n", "\n\r\n"]
        {
            assert!(offer("application/sdp", body.as_bytes()).unwrap_err().contains("invalid_offer"), "{body:?}");
        }
        assert!(offer("application/sdp", b"v=\xff\r\n").unwrap_err().contains("invalid_offer"));
    }

    #[test]
    fn other_content_types_and_incomplete_forms_are_refused() {
        for (kind, body, code) in [
            ("application/json", "{}", "unsupported_content_type"),
            ("text/plain", "v=0", "unsupported_content_type"),
            ("multipart/form-data", "v=0", "missing_required_parameter"),
            ("multipart/form-data; boundary=", "v=0", "missing_required_parameter"),
            ("multipart/form-data; boundary=x1", "--x1\r\n\r\n--x1--", "missing_required_parameter"),
        ] {
            assert!(offer(kind, body.as_bytes()).unwrap_err().contains(code), "{kind}");
        }
    }
}

//! The body of `POST /v1/realtime/calls`: a bare SDP offer, or a form with an offer and a session.

use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use serde_json::Value;

use crate::refusal::Refusal;

/// A caller's offer, and the session that came with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) sdp: String,
    pub(crate) session: Option<Value>,
}

impl Offer {
    /// Reads the body according to its `Content-Type`.
    pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Self, Refusal> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let (essence, parameters) = kind.split_once(';').unwrap_or((kind, ""));
        let text = String::from_utf8_lossy(body);
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/sdp" => Ok(Self { sdp: text.into_owned(), session: None }),
            "multipart/form-data" => Self::read_form(parameters, &text),
            other => {
                let message = format!(
                    "Unsupported content type: '{other}'. This API method only accepts 'application/sdp' and \
                     'multipart/form-data' requests."
                );
                Err(Refusal::new(400, message, None, "unsupported_content_type"))
            }
        }
    }

    fn read_form(parameters: &str, body: &str) -> Result<Self, Refusal> {
        let boundary = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="));
        let boundary = format!("--{}", boundary.unwrap_or_default().trim_matches('"'));
        let (mut sdp, mut session) = (None, None);
        for part in body.split(boundary.as_str()).skip(1) {
            let Some((headers, content)) = part.split_once("\r\n\r\n") else { continue };
            let content = content.strip_suffix("\r\n").unwrap_or(content);
            match part_name(headers) {
                Some("sdp") => sdp = Some(content.to_owned()),
                Some("session") => {
                    let parsed = serde_json::from_str(content)
                        .map_err(|_| Refusal::invalid("session", "The session is not valid JSON.", "invalid_json"))?;
                    session = Some(parsed);
                }
                _ => {}
            }
        }
        let sdp = sdp.ok_or_else(|| {
            Refusal::invalid("sdp", "Missing required parameter: 'sdp'.", "missing_required_parameter")
        })?;
        Ok(Self { sdp, session })
    }
}

/// The name in the headers of a form's part.
fn part_name(headers: &str) -> Option<&str> {
    let disposition = headers.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let name = disposition.split(';').find_map(|parameter| parameter.trim().strip_prefix("name="))?;
    Some(name.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(kind: &str, body: &str) -> Result<Offer, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        Offer::read(&headers, &Bytes::copy_from_slice(body.as_bytes())).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn a_bare_offer_is_read() {
        let taken = Offer { sdp: "v=0\r\n".into(), session: None };
        assert_eq!(offer("application/sdp", "v=0\r\n"), Ok(taken));
    }

    #[test]
    fn an_offer_and_a_session_are_read_from_a_form() {
        let form = "--x1\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\ns=-\r\n\r\n--x1\r\nContent-Disposition: form-data; name=\"session\"\r\n\r\n\
                    {\"type\": \"realtime\"}\r\n--x1--\r\n";
        let taken = Offer { sdp: "v=0\r\ns=-\r\n".into(), session: Some(serde_json::json!({"type": "realtime"})) };
        assert_eq!(offer("multipart/form-data; boundary=x1", form), Ok(taken));
        let broken = form.replace("\"realtime\"}", "");
        assert!(offer("multipart/form-data; boundary=\"x1\"", &broken).unwrap_err().contains("invalid_json"));
    }

    #[test]
    fn other_content_types_and_incomplete_forms_are_refused() {
        for (kind, body, code) in [
            ("application/json", "{}", "unsupported_content_type"),
            ("text/plain", "v=0", "unsupported_content_type"),
            ("multipart/form-data", "v=0", "missing_required_parameter"),
            ("multipart/form-data; boundary=x1", "--x1\r\n\r\n--x1--", "missing_required_parameter"),
        ] {
            assert!(offer(kind, body).unwrap_err().contains(code), "{kind}");
        }
    }
}

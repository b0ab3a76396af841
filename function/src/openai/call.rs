//! A call that the server makes for a browser (OpenAI's guide "Realtime API with WebRTC", the unified interface), and its end.
//!
//! Making a call has no idempotency key: a second request would open a second call. It is therefore sent once, and again only
//! if nothing of it was sent.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use url::Url;

use super::{
    error::OpenAiError,
    exchange::{Attempts, ERROR_BODY, SAFETY_IDENTIFIER, log_response, read_body},
    refused::Body,
};
use crate::net::{
    connection::{Connection, Lease},
    retry::{Policy, Retries},
};

/// The longest wait for OpenAI's answer, as in OpenAI's own servers (openai-agents-js, 2026-08-27).
const ANSWER: Duration = Duration::from_secs(15);

/// A connection that was idle for longer is not used for a call: if it has died unnoticed, nobody knows whether the call was
/// made, and the caller would have to wait for its end. A new connection costs 0.9 ms of CPU.
const FRESH: Duration = Duration::from_secs(5);

/// The longest wait for the answer to a hang-up.
const HANG_UP: Duration = Duration::from_secs(5);

/// Hanging up twice does no harm.
const HANG_UP_POLICY: Policy = Policy { max_tries: 2, worth_an_attempt: Duration::from_millis(500) };

/// OpenAI's codes for an offer that it cannot answer, and for a call that is over.
const INVALID_OFFER: &str = "invalid_offer";
const UNKNOWN_CALL: &str = "call_id_not_found";

/// A call to make.
#[derive(Debug)]
pub struct CallRequest<'a> {
    /// The OpenAI API key, sent as the bearer token.
    pub api_key: &'a SecretString,
    /// At most 64 characters, for the header `OpenAI-Safety-Identifier`.
    pub safety_identifier: &'a str,
    /// The browser's offer, which is sent byte for byte.
    pub offer: &'a [u8],
    /// The session document.
    pub session: &'a str,
    /// The number of a data channel that both sides agreed on in advance.
    pub dcid: Option<u16>,
}

/// A call that OpenAI has answered.
#[derive(Debug)]
pub struct MadeCall {
    /// OpenAI's name for it, `rtc_…`.
    pub id: String,
    /// The SDP answer.
    pub answer: String,
}

/// Why there is no call.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// OpenAI certainly made none.
    #[error(transparent)]
    NotMade(OpenAiError),
    /// OpenAI cannot answer this offer. Certainly no call was made.
    #[error("OpenAI rejected the offer")]
    RejectedOffer(#[source] OpenAiError),
    /// OpenAI may have made one: the request was sent, and no answer to it arrived, or only that of a gateway.
    #[error("OpenAI may have opened the call")]
    Uncertain(#[source] OpenAiError),
    /// OpenAI made one, but its answer cannot be used. With its name, the call can be ended.
    #[error("OpenAI's answer is not a usable call: {fault}")]
    Unusable {
        /// The fault, as a clause.
        fault: &'static str,
        /// OpenAI's name for the call, if it is known.
        id: Option<String>,
    },
}

/// The outcome of a hang-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HungUp {
    /// The call was there, and is over.
    Ended,
    /// There is no such call for this key: it is over, or the key is of another project.
    Unknown,
}

/// OpenAI's part of the API that makes and ends calls.
pub(super) struct CallServer<'a> {
    pub connection: &'a Connection,
    /// Any URL of the server.
    pub base: &'a Url,
    /// The URL at which calls are made.
    pub calls: &'a str,
}

impl CallServer<'_> {
    pub async fn make(
        &self,
        request: &CallRequest<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<MadeCall, CallError> {
        let began = Instant::now();
        let limit = ANSWER.saturating_sub(attempts.took);
        let end = began.checked_add(limit).map_or(deadline, |end| end.min(deadline));
        let made = self.call_until(request, end, attempts).await;
        attempts.took = attempts.took.saturating_add(began.elapsed());
        made
    }

    async fn call_until(
        &self,
        request: &CallRequest<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<MadeCall, CallError> {
        let mut lease = self.connection.lease_used_within(FRESH).map_err(not_made)?;
        let mut is_second = false;
        loop {
            // A request that is begun at the deadline may be sent all the same.
            if deadline <= Instant::now() {
                return Err(CallError::NotMade(OpenAiError::Timeout));
            }
            attempts.count = attempts.count.saturating_add(1);
            let mut sent = true;
            let asked = timeout_at(deadline, self.send_call(&lease, request, attempts.count, &mut sent)).await;
            let (error, in_time) = match asked {
                Ok(Ok(response)) => return self.read_call(&lease, response, request, deadline).await,
                Ok(Err(error)) => (error, true),
                Err(_) => (OpenAiError::Timeout, false),
            };
            if sent && lease.has_connected() {
                return Err(CallError::Uncertain(error));
            }
            if !in_time || is_second {
                return Err(CallError::NotMade(error));
            }
            is_second = true;
            debug!(error = &error as &dyn std::error::Error, "no connection could be made, and nothing was sent");
            lease = self.connection.replace().map_err(not_made)?;
        }
    }

    async fn send_call(
        &self,
        lease: &Lease,
        request: &CallRequest<'_>,
        attempt: u32,
        sent: &mut bool,
    ) -> Result<reqwest::Response, OpenAiError> {
        let began = Instant::now();
        let mut url: Url = self.calls.parse().map_err(|_| OpenAiError::InvalidAnswer("its base URL is malformed"))?;
        if let Some(dcid) = request.dcid {
            url.query_pairs_mut().append_pair("dcid", &dcid.to_string());
        }
        debug!(attempt, path = url.path(), connection = lease.kind(), "asking OpenAI");
        let (content_type, body) = form(request);
        let asked = lease
            .client
            .post(url)
            .bearer_auth(request.api_key.expose_secret())
            .header(SAFETY_IDENTIFIER, request.safety_identifier)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT_ENCODING, "identity")
            .body(body);
        let response = asked.send().await.inspect_err(|error| *sent = !error.is_connect())?;
        log_response(attempt, &response, began);
        Ok(response)
    }

    async fn read_call(
        &self,
        lease: &Lease,
        mut response: reqwest::Response,
        request: &CallRequest<'_>,
        deadline: Instant,
    ) -> Result<MadeCall, CallError> {
        let status = response.status();
        if !status.is_success() {
            let read = timeout(ERROR_BODY, read_body(&mut response)).await;
            let body = read.ok().and_then(Result::ok).unwrap_or(Body::Incomplete);
            if let Body::Whole(_) = body {
                self.connection.mark_healthy(lease);
            }
            let error = OpenAiError::from_response(status, response.headers(), &body);
            let code = error.code().and_then(|code| code.code.as_deref());
            return Err(match error {
                OpenAiError::RejectedSession(_) if code == Some(INVALID_OFFER) => CallError::RejectedOffer(error),
                error if made_no_call(status, &body) => CallError::NotMade(error),
                error => CallError::Uncertain(error),
            });
        }
        let id = call_id(response.headers(), self.base);
        let unusable = |fault, id| Err(CallError::Unusable { fault, id });
        let any_id = id.as_ref().ok().cloned().or_else(|| id.as_ref().err().cloned().flatten());
        let body = match timeout_at(deadline, read_body(&mut response)).await {
            Ok(Ok(Body::Whole(body))) => body,
            Ok(Ok(_)) => return unusable("its body is over 64 KiB", any_id),
            _ => return unusable("its body did not arrive completely", any_id),
        };
        self.connection.mark_healthy(lease);
        let id = match id {
            Ok(id) => id,
            Err(id) => return unusable("it does not say where the call is (Location)", id),
        };
        match String::from_utf8(body) {
            Ok(answer) if answer.contains(request.api_key.expose_secret()) => {
                unusable("its body contains the API key", Some(id))
            }
            Ok(answer) => Ok(MadeCall { id, answer }),
            Err(_) => unusable("its body is not text", Some(id)),
        }
    }

    pub async fn hang_up(
        &self,
        base_url: &str,
        api_key: &SecretString,
        id: &str,
        deadline: Instant,
    ) -> Result<HungUp, OpenAiError> {
        let url: Url = format!("{base_url}/realtime/calls/{id}/hangup")
            .parse()
            .map_err(|_| OpenAiError::InvalidAnswer("its base URL is malformed"))?;
        let mut lease = self.connection.lease()?;
        let mut retries = Retries::new(HANG_UP_POLICY, Some(deadline));
        let mut timeouts: u32 = 0;
        loop {
            let limit = Instant::now().checked_add(HANG_UP).map_or(deadline, |limit| limit.min(deadline));
            let asked = timeout_at(limit, self.send_hang_up(&lease, &url, api_key)).await;
            let failure = match asked.unwrap_or(Err(OpenAiError::Timeout)) {
                Ok(hung_up) => return Ok(hung_up),
                Err(failure) => failure,
            };
            if let OpenAiError::Timeout = failure {
                timeouts = timeouts.saturating_add(1);
                if timeouts >= HANG_UP_POLICY.max_tries {
                    return Err(failure);
                }
            }
            lease = retries.after(failure, &lease, self.connection).await?;
        }
    }

    async fn send_hang_up(&self, lease: &Lease, url: &Url, api_key: &SecretString) -> Result<HungUp, OpenAiError> {
        let asked = lease
            .client
            .post(url.clone())
            .bearer_auth(api_key.expose_secret())
            .header(header::ACCEPT_ENCODING, "identity")
            .header(header::CONTENT_LENGTH, "0");
        let mut response = asked.send().await?;
        let status = response.status();
        let body = timeout(ERROR_BODY, read_body(&mut response)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or(Body::Incomplete);
        if let Body::Whole(_) = body {
            self.connection.mark_healthy(lease);
        }
        if status.is_success() {
            return Ok(HungUp::Ended);
        }
        let error = OpenAiError::from_response(status, response.headers(), &body);
        let is_unknown = error.code().is_some_and(|code| code.code.as_deref() == Some(UNKNOWN_CALL));
        if is_unknown || status == StatusCode::NOT_FOUND { Ok(HungUp::Unknown) } else { Err(error) }
    }
}

/// Whether a response that is not a success proves that no call was made: the request itself was refused, or it was not accepted.
/// A gateway in front of OpenAI does not know what happened behind it: 408, 499, 504 and Cloudflare's 524 mean that an answer did
/// not come in time, and any other 5xx proves something only if OpenAI itself has sent it.
fn made_no_call(status: StatusCode, body: &Body) -> bool {
    match status.as_u16() {
        408 | 499 | 504 | 524 => false,
        301 | 302 | 307 | 308 | 400..=499 | 503 => true,
        _ => body.is_openai_error(),
    }
}

fn not_made(error: reqwest::Error) -> CallError {
    CallError::NotMade(error.into())
}

/// The form with the offer and the session, as bytes that are exactly the caller's between the boundaries.
fn form(CallRequest { offer, session, .. }: &CallRequest<'_>) -> (String, Vec<u8>) {
    // 128 random bits, which an offer does not contain.
    let boundary = format!("token-mint-{:032x}", fastrand::u128(..));
    let mut body = Vec::with_capacity(offer.len().saturating_add(session.len()).saturating_add(512));
    for (name, content_type, content) in
        [("sdp", "application/sdp", *offer), ("session", "application/json", session.as_bytes())]
    {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\nContent-Type: {content_type}\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

/// OpenAI's name for the call, from `Location: /v1/realtime/calls/rtc_…`.
///
/// # Errors
/// If the header is missing, or names another server. The error has the name if there is one, so that the call can be ended.
fn call_id(headers: &HeaderMap, base: &Url) -> Result<String, Option<String>> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok()).ok_or(None)?;
    let url = base.join(location).map_err(|_| None)?;
    let path = url.path().trim_end_matches('/');
    let (parent, id) = path.rsplit_once('/').unwrap_or_default();
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = !["", "calls"].contains(&id)
        && id.len() <= 256
        && id.bytes().all(known)
        && !id.bytes().all(|byte| byte == b'.');
    let name = is_name.then(|| id.to_owned()).ok_or(None)?;
    let below_calls = parent.trim_end_matches('/').ends_with("/calls");
    if url.origin() == base.origin() && below_calls { Ok(name) } else { Err(Some(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_is_named_by_a_location_at_the_same_server() {
        let base: Url = "https://api.openai.com/v1/realtime/client_secrets".parse().unwrap();
        let of =
            |location: &str| call_id(&HeaderMap::from_iter([(header::LOCATION, location.parse().unwrap())]), &base);
        let name = || "rtc_u1_9c6574da8b8a41a18da9308f4ad974ce".to_owned();
        for prefix in [
            "/v1/realtime/calls/",
            "https://api.openai.com/v1/realtime/calls/",
            "https://api.openai.com:443/v1/realtime/calls/",
            "/v1/realtime/calls//",
        ] {
            for end in ["", "/", "//", "?a=b", "/?a=b/c"] {
                assert_eq!(of(&format!("{prefix}{}{end}", name())), Ok(name()), "{prefix} {end}");
            }
        }
        for prefix in [
            "https://elsewhere.example/v1/realtime/calls/",
            "http://api.openai.com/v1/realtime/calls/",
            "//x.example/calls/",
            "/elsewhere/",
        ] {
            for end in ["", "/"] {
                assert_eq!(of(&format!("{prefix}{}{end}", name())), Err(Some(name())), "{prefix} {end}");
            }
        }
        for location in [
            "",
            "/",
            "/v1/realtime/calls/",
            "/v1/realtime/calls/a b",
            "/v1/realtime/calls/a?b=/..",
            "/v1/realtime/calls/%2e%2e",
            "//",
            "/v1/realtime/calls",
            "/v1/realtime/calls//",
            "/v1/realtime/calls/a b/",
            "/v1/realtime/calls/%2e%2e/",
            "/v1/realtime/calls/calls/",
        ] {
            assert!(!matches!(of(location), Ok(name) if name != "a"), "{location}");
        }
        assert_eq!(call_id(&HeaderMap::new(), &base), Err(None));
    }

    #[test]
    fn only_openai_itself_proves_with_a_server_error_that_no_call_was_made() {
        let made_none = |status: u16, body: &str| {
            made_no_call(StatusCode::from_u16(status).unwrap(), &Body::Whole(body.as_bytes().to_vec()))
        };
        let error = r#"{"error": {"message": "m", "type": "server_error", "param": null, "code": null}}"#;
        let others = [
            "",
            "<html>502 Bad Gateway</html>",
            "error code: 520",
            "{}",
            r#"{"error": "Bad Gateway"}"#,
            r#"{"error": {"code": 502, "message": "upstream"}}"#,
            r#"{"message": "Internal server error", "type": "x"}"#,
        ];
        for status in [500, 502, 520, 521, 522, 523, 525, 526, 529, 530] {
            assert!(made_none(status, error), "{status}");
            for body in others {
                assert!(!made_none(status, body), "{status} {body}");
            }
            for body in [Body::Incomplete, Body::TooLarge] {
                assert!(!made_no_call(StatusCode::from_u16(status).unwrap(), &body), "{status} {body:?}");
            }
        }
        for status in [307, 400, 401, 403, 404, 409, 413, 422, 429, 503] {
            assert!(made_none(status, error) && others.iter().all(|body| made_none(status, body)), "{status}");
        }
        for status in [303, 408, 499, 504, 524] {
            assert!(!others.iter().any(|body| made_none(status, body)), "{status}");
        }
        for status in [408, 504, 524] {
            assert!(!made_none(status, error), "{status}");
        }
    }

    #[test]
    fn the_form_has_the_offer_byte_for_byte_and_no_file_names() {
        let offer = b"v=0\r\ns=\xc3\xa9\r\n";
        let api_key = SecretString::from("sk-1");
        let request = CallRequest {
            api_key: &api_key,
            safety_identifier: "c",
            offer,
            session: r#"{"type":"realtime"}"#,
            dcid: None,
        };
        let (content_type, body) = form(&request);
        let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n\
             v=0\r\ns=\u{e9}\r\n\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"session\"\r\n\
             Content-Type: application/json\r\n\r\n{{\"type\":\"realtime\"}}\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
}

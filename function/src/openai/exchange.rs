//! What the exchanges with OpenAI have in common.

use std::time::Duration;

use http::HeaderName;
use tokio::time::Instant;
use tracing::debug;

use super::refused::Body;
use crate::net::clock::millis;

/// The largest response that is read, in bytes. A real one is under 2 KiB.
const MAX_ANSWER: usize = 64 * 1024;

pub(super) const SAFETY_IDENTIFIER: HeaderName = HeaderName::from_static("openai-safety-identifier");

/// How long to wait for the body of an error. Its status is enough to act on.
pub(super) const ERROR_BODY: Duration = Duration::from_secs(1);

/// The cost of an answer.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The number of requests, with those for which no connection could be made.
    pub count: u32,
    /// From the first byte sent to the last one read, pauses included.
    pub took: Duration,
    /// Whether a failed attempt may have made a token: it was sent, and OpenAI did not refuse it.
    pub in_doubt: bool,
}

pub(super) fn log_response(attempt: u32, response: &reqwest::Response, began: Instant) {
    let status = response.status();
    debug!(attempt, status = status.as_u16(), milliseconds = millis(began.elapsed()), "OpenAI answered");
}

/// The body of a response, up to [`MAX_ANSWER`].
pub(super) async fn read_body(response: &mut reqwest::Response) -> Result<Body, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Ok(Body::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body::Whole(body))
}

//! Why OpenAI minted no token, and whether another attempt may help.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{
    error_code::ErrorCode,
    refused::{self, Body, Reason, Refused},
};
use crate::net::retry::{self, Retryable};

/// The pause before the second try; see [`retry::backoff`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest wait for OpenAI within a mint. A longer one is the caller's, who does not hold an instance meanwhile.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The bounds of the pause after that many tries, if OpenAI asks for no wait.
#[cfg(test)]
pub(super) fn pause_bounds(tries: u32) -> (Duration, Duration) {
    retry::backoff_bounds(FIRST_PAUSE, tries)
}

/// Why OpenAI minted no token.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// 401 or 403: the key is invalid, or may not use the model.
    #[error("OpenAI rejected the API key ({0})")]
    RejectedKey(Refused),
    /// A refusal that no other key would change: a country, a firewall, a gateway before OpenAI.
    #[error("OpenAI is not available to this service, whatever its key ({0})")]
    Forbidden(Refused),
    /// 400, 404, or another status that refuses the request itself.
    #[error("OpenAI rejected the session ({0})")]
    RejectedSession(Refused),
    /// The account is out of credit, over a limit on its cost, or not active.
    #[error("the OpenAI account is out of quota or not active ({0})")]
    OutOfQuota(Refused),
    /// 429 because of a rate limit.
    #[error("OpenAI's rate limit is reached ({0})")]
    Busy(Refused),
    /// 5xx, 408 or 409.
    #[error("OpenAI is unavailable ({0})")]
    Unavailable(Refused),
    /// The connection could not be made, or it broke.
    #[error("OpenAI could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// No response within the time for a mint, or the connection's other end is silent.
    #[error("OpenAI did not answer in time")]
    Timeout,
    /// A successful response without a usable token.
    #[error("OpenAI's answer is not a valid token: {0}")]
    InvalidAnswer(&'static str),
}

impl OpenAiError {
    /// The error in a response that is not a success.
    pub(super) fn from_response(status: StatusCode, headers: &HeaderMap, body: &Body) -> Self {
        if status.as_u16() < 400 {
            return Self::InvalidAnswer("it is a redirect, which is not followed");
        }
        let (reason, refused) = refused::read(status, headers, body);
        match reason {
            Reason::RejectedKey => Self::RejectedKey(refused),
            Reason::Forbidden => Self::Forbidden(refused),
            Reason::RejectedSession => Self::RejectedSession(refused),
            Reason::OutOfQuota => Self::OutOfQuota(refused),
            Reason::Busy => Self::Busy(refused),
            Reason::Unavailable => Self::Unavailable(refused),
        }
    }

    /// The response, if it is one that names a reason.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::RejectedKey(refused)
            | Self::Forbidden(refused)
            | Self::RejectedSession(refused)
            | Self::OutOfQuota(refused)
            | Self::Busy(refused)
            | Self::Unavailable(refused) => Some(refused),
            Self::Unreachable(_) | Self::Timeout | Self::InvalidAnswer(_) => None,
        }
    }

    /// The status of OpenAI's response, if one arrived.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.refused().map(|refused| refused.status)
    }

    /// OpenAI's own reason for refusing the request.
    #[must_use]
    pub fn code(&self) -> Option<&ErrorCode> {
        self.refused().map(|refused| &refused.code)
    }

    /// Whether OpenAI certainly made no token, because it refused the request. A gateway that answers 408, 504 or
    /// Cloudflare's 524 does not know what happened behind it.
    #[must_use]
    pub fn made_no_token(&self) -> bool {
        self.status().is_some_and(|status| ![408, 504, 524].contains(&status.as_u16()))
    }

    /// The wait that OpenAI asks for.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        self.refused()?.wait
    }
}

impl From<reqwest::Error> for OpenAiError {
    fn from(error: reqwest::Error) -> Self {
        // The socket's own timeouts, for a handshake and for packets that are not acknowledged, are among these.
        if error.is_timeout() { Self::Timeout } else { Self::Unreachable(error.without_url()) }
    }
}

impl Retryable for OpenAiError {
    fn is_transient(&self) -> bool {
        let transient = matches!(self, Self::Busy(_) | Self::Unavailable(_) | Self::Unreachable(_) | Self::Timeout);
        let asked = self.refused().and_then(|refused| refused.should_retry);
        asked.unwrap_or(transient) && self.wait().is_none_or(|wait| wait <= LONGEST_WAIT)
    }

    fn needs_new_connection(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout)
    }

    fn pause(&self, tries: u32, reused: bool) -> Option<Duration> {
        // A connection that died while it was idle costs a reconnect, not a try. After a timeout no pause is needed, and
        // only the deadline limits the attempts.
        if matches!(self, Self::Timeout) || (self.needs_new_connection() && reused) {
            return None;
        }
        // OpenAI gives many instances the same wait, which may be 0, so each adds a random part.
        Some(self.wait().unwrap_or_default().saturating_add(retry::backoff(FIRST_PAUSE, tries)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(status: u16, name: &'static str, value: &str) -> OpenAiError {
        let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        OpenAiError::from_response(StatusCode::from_u16(status).unwrap(), &headers, &Body::Whole(b"{}".into()))
    }

    #[test]
    fn x_should_retry_has_precedence_over_the_status() {
        for status in [400, 401, 403, 404, 408, 409, 429, 500, 529] {
            assert!(with(status, "x-should-retry", "true").is_transient(), "{status}");
            assert!(!with(status, "x-should-retry", "false").is_transient(), "{status}");
            let by_status = matches!(status, 408 | 409 | 429 | 500..);
            assert_eq!(with(status, "x-should-retry", "perhaps").is_transient(), by_status, "{status}");
        }
    }

    #[test]
    fn a_short_wait_is_waited_for_and_a_long_one_is_not() {
        for (value, retried) in [("0", true), ("1.5", true), ("2", true), ("2.1", false), ("12", false)] {
            assert_eq!(with(429, "retry-after", value).is_transient(), retried, "{value}");
            assert_eq!(with(503, "retry-after", value).is_transient(), retried, "{value}");
        }
    }

    #[test]
    fn every_pause_has_a_random_part() {
        for (value, least, most) in [("0", 100, 200), ("1.5", 1600, 1700)] {
            let pause = with(429, "retry-after", value).pause(1, true).unwrap().as_millis();
            assert!((least..=most).contains(&pause), "{value}: {pause} ms");
        }
    }
}

//! Why OpenAI minted no token, and whether another attempt may help.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use crate::net::retry::{self, Retryable};

/// The pause before the second try; see [`retry::backoff`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The bounds of the pause after that many tries, if OpenAI sends no `Retry-After`.
#[cfg(test)]
pub(super) fn pause_bounds(tries: u32) -> (Duration, Duration) {
    retry::backoff_bounds(FIRST_PAUSE, tries)
}

/// The longest accepted `Retry-After`.
const DAY: Duration = Duration::from_secs(86_400);

/// Why OpenAI minted no token.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// 401 or 403: the key is invalid, or may not use the model.
    #[error("OpenAI rejected the API key ({status}, {code})")]
    RejectedKey {
        /// The status of OpenAI's response.
        status: StatusCode,
        /// OpenAI's code, and the field of the request that it is about.
        code: ErrorCode,
    },
    /// 400, 404, or another status that refuses the request itself.
    #[error("OpenAI rejected the session ({status}, {code})")]
    RejectedSession {
        /// The status of OpenAI's response.
        status: StatusCode,
        /// OpenAI's code, and the field of the request that it is about.
        code: ErrorCode,
    },
    /// 429 because the account is out of credit; another attempt cannot help.
    #[error("the OpenAI account is out of quota")]
    OutOfQuota,
    /// 429 because of a rate limit.
    #[error("OpenAI's rate limit is reached")]
    Busy {
        /// The value of OpenAI's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 5xx or 408, or a connection that could not be made or broke.
    #[error("OpenAI is unavailable")]
    Unavailable {
        /// The status of OpenAI's response, if one arrived.
        status: Option<StatusCode>,
        /// The value of OpenAI's `Retry-After`.
        retry_after: Option<Duration>,
        /// The error of the HTTP client, if no response arrived.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// No response within the attempt's limit, or the request's budget.
    #[error("OpenAI did not answer in time")]
    Timeout,
    /// A successful response without a usable token.
    #[error("OpenAI's answer is not a valid token: {0}")]
    InvalidAnswer(&'static str),
}

/// OpenAI's machine-readable reason, safe to log: never its message, which may repeat parts of the request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorCode {
    /// For example `model_not_found`.
    pub code: Option<String>,
    /// For example `session.model`.
    pub param: Option<String>,
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        write!(formatter, "code {}, param {}", or_none(&self.code), or_none(&self.param))
    }
}

impl OpenAiError {
    /// The status of OpenAI's response, if one arrived.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::RejectedKey { status, .. } | Self::RejectedSession { status, .. } => Some(*status),
            Self::OutOfQuota | Self::Busy { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable { status, .. } => *status,
            Self::Timeout | Self::InvalidAnswer(_) => None,
        }
    }

    /// OpenAI's own reason for refusing the request.
    #[must_use]
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::RejectedKey { code, .. } | Self::RejectedSession { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl OpenAiError {
    /// Whether OpenAI certainly made no token: it refused the request, or the request was never sent. A gateway's 408 or 504
    /// says that it does not know.
    #[must_use]
    pub fn made_no_token(&self) -> bool {
        match self {
            Self::RejectedKey { .. } | Self::RejectedSession { .. } | Self::OutOfQuota | Self::Busy { .. } => true,
            Self::Unavailable { status: Some(status), .. } => {
                ![StatusCode::REQUEST_TIMEOUT, StatusCode::GATEWAY_TIMEOUT].contains(status)
            }
            Self::Unavailable { source, .. } => source.as_ref().is_some_and(reqwest::Error::is_connect),
            Self::Timeout | Self::InvalidAnswer(_) => false,
        }
    }
}

impl From<reqwest::Error> for OpenAiError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        Self::Unavailable { status: None, retry_after: None, source: Some(error.without_url()) }
    }
}

impl Retryable for OpenAiError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. } | Self::Timeout)
    }

    fn needs_new_connection(&self) -> bool {
        matches!(self, Self::Unavailable { status: None, .. } | Self::Timeout)
    }

    fn pause(&self, tries: u32, reused: bool) -> Option<Duration> {
        // A connection that died while it was idle costs a reconnect, not a try. After a timeout no pause is needed, and
        // only the deadline limits the attempts.
        if matches!(self, Self::Timeout) || (self.needs_new_connection() && reused) {
            return None;
        }
        let retry_after = match self {
            Self::Busy { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        // OpenAI gives many instances the same wait, so each adds a random part.
        let asked = retry_after.map(|wait| wait.saturating_add(FIRST_PAUSE.mul_f64(fastrand::f64())));
        Some(asked.unwrap_or_else(|| retry::backoff(FIRST_PAUSE, tries)))
    }
}

/// The error in a response that is not a success.
pub fn from_response(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> OpenAiError {
    #[derive(Default, Deserialize)]
    struct Envelope {
        error: Details,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        code: Value,
        #[serde(rename = "type")]
        kind: Value,
        param: Value,
    }

    let Envelope { error: Details { code, kind, param } } = serde_json::from_slice(body).unwrap_or_default();
    let error_code = ErrorCode { code: harmless(&code), param: harmless(&param) };
    match status.as_u16() {
        401 | 403 => OpenAiError::RejectedKey { status, code: error_code },
        429 if code == "insufficient_quota" || kind == "insufficient_quota" => OpenAiError::OutOfQuota,
        429 => OpenAiError::Busy { retry_after: retry_after(headers) },
        408 | 500.. => {
            OpenAiError::Unavailable { status: Some(status), retry_after: retry_after(headers), source: None }
        }
        400..500 => OpenAiError::RejectedSession { status, code: error_code },
        _ => OpenAiError::InvalidAnswer("it is a redirect, which is not followed"),
    }
}

/// Passes words such as `model_not_found` and `session.audio.output.voice`, but no value that could be a key, a token or a
/// prompt.
fn harmless(text: &Value) -> Option<String> {
    let text = text.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
    (plain && !text.is_empty() && text.len() <= 64 && !text.contains("ek_")).then(|| text.to_owned())
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), up to a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(DAY));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default().min(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parsed = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(parsed("7"), Some(7));
        assert_eq!(parsed("0"), Some(0));
        assert_eq!(parsed("18446744073709551615"), Some(86_400));
        assert_eq!(parsed("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!((58..=60).contains(&parsed(&soon).unwrap()));
        for nonsense in ["", "soon", "-1", "1e9"] {
            assert_eq!(parsed(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_openai_error_codes_are_logged() {
        for word in ["model_not_found", "session.audio.output.voice", "rate_limit_exceeded"] {
            assert_eq!(harmless(&word.into()).as_deref(), Some(word));
        }
        for secret in ["sk-proj-abc", "ek_abc", "Tell me a story", "sk_1", "", &"x".repeat(65)] {
            assert_eq!(harmless(&secret.into()), None, "{secret}");
        }
        assert_eq!(harmless(&Value::Null), None);
    }
}

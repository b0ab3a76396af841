//! The faults that a test can plan for an answer.

use serde::Deserialize;

/// One way in which a mint fails.
///
/// As JSON, for `POST /simulator/faults`: `{"fault": "rate-limit", "retry_after": "2"}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// 401. The message repeats the caller's whole key, which exposes a client that passes it on.
    Unauthorized,
    /// 403 `model_not_found`: the account has no access to the model.
    Forbidden,
    /// 400. The message repeats the request's whole session.
    BadRequest,
    /// 404 `model_not_found`: the model does not exist.
    NotFound,
    /// 429 `rate_limit_exceeded`, which a client may retry after a wait.
    RateLimit {
        /// The value of the `Retry-After` header, sent as it is.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 429 `insufficient_quota`: the account is out of credit, so a retry is useless.
    InsufficientQuota,
    /// A status from 500 to 599 with the code `server_error`.
    ServerError {
        /// The status, 500 to 599.
        status: u16,
        /// The value of the `Retry-After` header, sent as it is.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The correct answer, but only after a delay.
    Delay {
        /// How long the answer is delayed, in milliseconds.
        ms: u64,
    },
    /// No answer, on a connection that stays open.
    Hang,
    /// The correct answer, one byte every 250 ms.
    Drip,
    /// Half of the correct answer, then the end of the connection.
    Cut,
    /// A TCP reset instead of an answer.
    Reset,
    /// Bytes that are not HTTP.
    Garbage,
    /// 200 with an HTML page.
    NotJson,
    /// 200 with a secret that expired a minute ago.
    Expired,
    /// 200 with a secret that does not start with `ek_`.
    WrongPrefix,
    /// 200 with the correct answer, padded to more than 64 KiB.
    Oversize,
    /// 307 with a `Location` header.
    Redirect {
        /// The value of the `Location` header, sent as it is.
        location: String,
    },
}

impl Fault {
    /// Whether the fault sends the correct answer or a part of it, which must therefore be made.
    pub(crate) fn needs_answer(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Drip | Self::Cut)
    }
}

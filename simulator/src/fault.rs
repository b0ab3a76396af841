//! What can go wrong on OpenAI's side, as something one can ask for.

use serde::Deserialize;

/// One way for a mint to go wrong.
///
/// As JSON, for `POST /simulator/faults`: `{"fault": "rate-limit", "retry_after": "2"}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// 401. The message repeats the caller's key whole, so that a client which passes it on shows.
    Unauthorized,
    /// 403, no access to the model.
    Forbidden,
    /// 400. The message repeats the request's session whole.
    BadRequest,
    /// 404, no such model.
    NotFound,
    /// 429 `rate_limit_exceeded`.
    RateLimit {
        /// The `Retry-After` header, word for word.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 429 `insufficient_quota`: the account has no money, so retrying is useless.
    InsufficientQuota,
    /// 5xx.
    ServerError {
        /// 500 to 599.
        status: u16,
        /// The `Retry-After` header, word for word.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The right answer, but this late.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer, ever, on an open connection.
    Hang,
    /// The right answer, one byte every 250 ms.
    Drip,
    /// Half of the right answer, then the end of the connection.
    Cut,
    /// A TCP reset in place of an answer.
    Reset,
    /// Bytes that are no HTTP.
    Garbage,
    /// 200 with a page of HTML.
    NotJson,
    /// 200 with a secret that expired a minute ago.
    Expired,
    /// 200 with a secret that does not start with `ek_`.
    WrongPrefix,
    /// 200 with the right answer in more than 64 KiB.
    Oversize,
    /// 307 to another place.
    Redirect {
        /// The `Location` header, word for word.
        location: String,
    },
}

impl Fault {
    /// Whether it lets the right answer through, in whatever way.
    pub(crate) fn needs_answer(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Drip | Self::Cut)
    }
}

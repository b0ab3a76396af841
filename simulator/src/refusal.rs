//! A refused request, in OpenAI's error envelope.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// `{"error": {"message", "type", "param", "code"}}` and its status.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>, param: Option<&str>, code: &str) -> Self {
        let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
        Self { status, message: message.into(), kind, param: param.map(Into::into), code: code.to_owned() }
    }

    pub(crate) fn invalid(param: &str, message: impl Into<String>, code: &str) -> Self {
        Self::new(400, message, Some(param), code)
    }

    pub(crate) fn invalid_key(bearer: &str) -> Self {
        Self::new(401, format!("Incorrect API key provided: {bearer}."), None, "invalid_api_key")
    }

    /// The refusal of an expired ephemeral token.
    pub(crate) fn expired_token() -> Self {
        Self::new(401, "Ephemeral token has expired.", None, "token_expired")
    }

    /// The code that clients have received since about 2026-08-25, although the reference says that a token opens several
    /// sessions.
    pub(crate) fn used_token() -> Self {
        Self::new(401, "Ephemeral token has already been used.", None, "ephemeral_token_already_used")
    }

    #[cfg(feature = "calls")]
    pub(crate) fn is_used_token(&self) -> bool {
        self.code == Self::used_token().code
    }

    /// The refusal of an offer, with OpenAI's message (measured 2026-09-15 with a trimmed offer).
    pub(crate) fn invalid_offer() -> Self {
        let message = "Invalid SDP offer. Please try again with a WHIP-compliant offer.";
        Self::new(400, message, None, "invalid_offer")
    }

    /// The refusal for a call that has ended, never existed, or belongs to another project (measured 2026-08-17).
    pub(crate) fn unknown_call() -> Self {
        Self::new(404, "No session found for the provided call_id", None, "call_id_not_found")
    }

    pub(crate) fn rate_limit() -> Self {
        let message = "Rate limit reached for requests. Please try again later.";
        Self { kind: "requests", ..Self::new(429, message, None, "rate_limit_exceeded") }
    }

    pub(crate) fn insufficient_quota() -> Self {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        Self { kind: "insufficient_quota", ..Self::new(429, message, None, "insufficient_quota") }
    }

    /// The object inside the envelope.
    pub(crate) fn error(&self) -> Value {
        json!({"message": self.message, "type": self.kind, "param": self.param, "code": self.code})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({"error": self.error()}))).into_response()
    }
}

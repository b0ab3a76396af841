//! OpenAI's error envelope.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// `{"error": {"message", "type", "param", "code"}}` and its status.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>, param: Option<&str>, code: &'static str) -> Self {
        let kind = if status >= 500 { "server_error" } else { "invalid_request_error" };
        Self { status, message: message.into(), kind, param: param.map(Into::into), code }
    }

    pub(crate) fn invalid(param: &str, message: impl Into<String>, code: &'static str) -> Self {
        Self::new(400, message, Some(param), code)
    }

    pub(crate) fn bad_key(bearer: &str) -> Self {
        Self::new(401, format!("Incorrect API key provided: {bearer}."), None, "invalid_api_key")
    }

    pub(crate) fn rate_limit() -> Self {
        let message = "Rate limit reached for requests. Please try again later.";
        Self { kind: "requests", ..Self::new(429, message, None, "rate_limit_exceeded") }
    }

    pub(crate) fn no_money() -> Self {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        Self { kind: "insufficient_quota", ..Self::new(429, message, None, "insufficient_quota") }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let Self { message, kind, param, code, .. } = self;
        let error = json!({"message": message, "type": kind, "param": param, "code": code});
        (status, Json(json!({ "error": error }))).into_response()
    }
}

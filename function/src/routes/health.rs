//! A load balancer's health check, on any path: an answer that is neither a token nor a refusal.

use http::StatusCode;
use serde_json::json;

use crate::api::answer::Answer;

/// The answer to a health check. It is not recorded: a check is not the request of a caller, and would count in the metrics of
/// requests every few seconds.
pub fn answer() -> Answer {
    Answer::json(StatusCode::OK, &json!({"status": "healthy"}))
}

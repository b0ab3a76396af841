//! Events for the client, in order, each with its own id.

use std::collections::VecDeque;

use serde_json::Value;

use crate::{id::new_id, refusal::Refusal};

#[derive(Debug, Default)]
pub(super) struct ServerEvents(VecDeque<Value>);

impl ServerEvents {
    pub(super) fn send(&mut self, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["event_id"] = new_id("event").into();
        self.0.push_back(event);
    }

    /// Sends an `error` event. `cause` is the `event_id` of the client's event, or `null`.
    pub(super) fn error(&mut self, refusal: &Refusal, cause: &Value) {
        let mut error = refusal.error();
        error["event_id"] = cause.clone();
        self.send("error", serde_json::json!({ "error": error }));
    }

    pub(super) fn next(&mut self) -> Option<Value> {
        self.0.pop_front()
    }
}

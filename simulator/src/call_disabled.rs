//! Replaces `call` in a build without the cargo feature `calls`: WebSockets and the offers of browsers are refused.

use std::{net::IpAddr, time::Duration};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::{call_fault::CallFault, call_register::EndReason, refusal::Refusal};

/// Refuses a WebSocket in the same way as an offer.
pub(crate) async fn open() -> Refusal {
    not_built_in()
}

fn not_built_in() -> Refusal {
    let message = "This simulator was built without calls. Build it with the cargo feature `calls` of openai-simulator, \
                   which is on by default.";
    Refusal::new(501, message, None, "calls_not_built_in")
}

/// A call that cannot exist.
pub(crate) enum Call {}

impl Call {
    /// Refuses the offer with a status that does not blame the client.
    pub(crate) async fn answer(
        _: &str,
        _: Value,
        _: IpAddr,
        _: Option<u16>,
        _: Duration,
        _: Option<CallFault>,
    ) -> Result<(Self, String), Refusal> {
        Err(not_built_in())
    }

    /// Never runs: there is no call.
    pub(crate) async fn run(self, _: oneshot::Receiver<()>, _: Duration, _: impl Fn()) -> EndReason {
        match self {}
    }
}

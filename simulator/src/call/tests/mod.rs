//! Calls from end to end: over HTTP, ICE, DTLS, SCTP and Opus, as a browser makes them.

mod admission;
mod brokered;
mod client;
mod end;
mod faults;
mod reply;
mod session;
mod socket;
mod turn;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time;

use self::client::{CLOSED_WITHIN, request};
use crate::simulator::Simulator;

const CALLS: &str = "/v1/realtime/calls";

fn realtime() -> Value {
    json!({"type": "realtime", "model": "gpt-realtime-2.1"})
}

async fn start() -> Simulator {
    Simulator::start().await.unwrap()
}

async fn hang_up(simulator: &Simulator, call_id: &str, key: &str) -> u16 {
    let line = format!("POST {CALLS}/{call_id}/hangup");
    request(simulator, &line, &format!("authorization: Bearer {key}\r\n"), "").await.status
}

/// Waits until no call is running.
async fn until_none(simulator: &Simulator) {
    let none = async {
        while simulator.calls() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(CLOSED_WITHIN, none).await.expect("every call should end");
}

//! Calls that a server placed: without a data channel, and with one that both ends open without negotiation.

use std::time::Duration;

use serde_json::{Value, json};

use super::{client::Client, hang_up, realtime, start, until_none};
use crate::{
    call_fault::CallFault,
    call_register::{CallCredential, EndReason},
};

#[tokio::test]
async fn a_call_without_a_data_channel_is_a_conversation_by_voice() {
    let simulator = start().await;
    let mut client = Client::call_by_broker(&simulator, None, &realtime()).await;
    client.until_heard(20, 0.0).await;
    assert!(client.loudest_since(0) < 0.01, "the simulator waits for the caller");
    client.speak(1_000).await;
    // The simulator answers.
    client.until_heard(20, 0.05).await;
    assert_eq!(client.events, [] as [Value; 0]);
    let [open] = simulator.open_calls().try_into().unwrap();
    assert_eq!((open.connected, open.data_channel, open.credential), (true, false, CallCredential::Key));
    assert_eq!(hang_up(&simulator, &client.call_id, "sk-test").await, 200);
    client.until_gone().await;
    assert_eq!(simulator.ended_calls()[0].reason, EndReason::HungUp);
}

#[tokio::test]
async fn the_faults_of_a_call_without_a_data_channel_count_from_its_connection() {
    let simulator = start().await;
    simulator.fail_calls(CallFault::Ends { ms: 300 }, 1);
    let mut client = Client::call_by_broker(&simulator, None, &realtime()).await;
    client.until_gone().await;
    simulator.fail_calls(CallFault::Drops { ms: 300 }, 1);
    let mut client = Client::call_by_broker(&simulator, None, &realtime()).await;
    client.until_ended(&simulator).await;
    assert!(!client.gone && !client.levels.is_empty());
    let reasons: Vec<EndReason> = simulator.ended_calls().iter().map(|call| call.reason).collect();
    assert_eq!(reasons, [EndReason::Fault, EndReason::Fault]);
    assert!(simulator.ended_calls().iter().all(|call| call.call.connected && call.ended_at - call.call.since >= 0.3));
}

#[tokio::test]
async fn a_data_channel_with_a_number_is_open_at_both_ends_without_negotiation() {
    let simulator = start().await;
    let audio = json!({"output": {"voice": "cedar"}});
    let session = json!({"type": "realtime", "instructions": "Be kind.", "audio": audio});
    for channel in [0, 7, 1_023, 65_534] {
        let mut client = Client::call_by_broker(&simulator, Some(channel), &session).await;
        let created = client.until("session.created").await["session"].clone();
        assert_eq!(
            (&created["instructions"], &created["audio"]["output"]["voice"]),
            (&json!("Be kind."), &json!("cedar"))
        );
        client.send(&json!({"type": "response.create"}));
        client.until("response.done").await;
        client.leave();
        until_none(&simulator).await;
    }
    // Browsers open no channel with this number. The audio of such a call flows.
    let mut client = Client::call_by_broker(&simulator, Some(65_535), &session).await;
    client.until_heard(20, 0.0).await;
}

#[tokio::test]
async fn the_list_of_calls_says_why_each_ended() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    let [open] = simulator.open_calls().try_into().unwrap();
    assert_eq!((open.connected, open.data_channel, open.credential), (true, true, CallCredential::Token));
    client.leave();
    until_none(&simulator).await;

    simulator.limit_connecting(Duration::from_millis(200));
    let unconnected = Client::call_by_broker(&simulator, None, &realtime()).await;
    until_none(&simulator).await;
    drop(unconnected);

    simulator.limit_connecting(Duration::from_secs(30));
    // Long enough for the client to connect first.
    simulator.limit_sessions(Duration::from_secs(3));
    let mut client = Client::call(&simulator, realtime()).await;
    client.until_gone().await;
    until_none(&simulator).await;
    let ended: Vec<_> = simulator.ended_calls().iter().map(|call| (call.reason, call.call.connected)).collect();
    assert_eq!(ended, [(EndReason::ClientLeft, true), (EndReason::NeverConnected, false), (EndReason::Limit, true)]);
}

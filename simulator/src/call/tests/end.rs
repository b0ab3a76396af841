//! The ways in which a call ends.

use std::time::Duration;

use tokio::time;

use super::{client::Client, hang_up, realtime, start, until_none};

#[tokio::test]
async fn hanging_up_ends_a_call() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    let call_id = client.call_id.clone();
    assert_eq!(hang_up(&simulator, &call_id, "nonsense").await, 401);
    assert_eq!(hang_up(&simulator, "rtc_other", "sk-test").await, 404);
    assert_eq!(hang_up(&simulator, &call_id, "sk-test").await, 200);
    client.until_gone().await;
    assert_eq!(hang_up(&simulator, &call_id, "sk-test").await, 404);
}

#[tokio::test]
async fn a_call_ends_at_the_session_limit() {
    let simulator = start().await;
    simulator.limit_sessions(Duration::from_secs(1));
    let mut client = Client::call(&simulator, realtime()).await;
    let error = client.until("error").await["error"].clone();
    assert_eq!(error["code"], "session_expired");
    assert_eq!(error["message"], "Your session hit the maximum duration of 1 seconds.");
    client.until_gone().await;
    until_none(&simulator).await;
}

#[tokio::test]
async fn a_call_ends_when_its_client_leaves_or_the_simulator_stops() {
    let simulator = start().await;
    let mut first = Client::call(&simulator, realtime()).await;
    let mut second = Client::call(&simulator, realtime()).await;
    first.until("session.created").await;
    second.until("session.created").await;
    assert_eq!(simulator.calls(), 2);
    first.leave();
    let one_is_gone = async {
        while simulator.calls() > 1 {
            second.during(20).await;
        }
    };
    time::timeout(Duration::from_secs(5), one_is_gone).await.expect("the call should end when its client leaves");
    drop(simulator);
    second.until_gone().await;
}

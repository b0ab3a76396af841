//! The ways in which a call ends.

use std::time::Duration;

use serde_json::json;
use tokio::time;

use super::{
    super::peer::Peer,
    CALLS,
    client::{CLOSED_WITHIN, Client, request},
    hang_up, realtime, start, until_none,
};

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
async fn only_keys_of_its_project_can_end_a_call() {
    let simulator = start().await;
    let (_, _, sdp) = Peer::offer().await;
    for (owner, same, other) in
        [("sk-proj-alpha-1", "sk-proj-alpha-2", "sk-proj-beta-1"), ("sk-one", "sk-two", "sk-proj-alpha-1")]
    {
        let body = json!({"session": realtime()}).to_string();
        let authorized = format!("authorization: Bearer {owner}\r\n");
        let minted = request(&simulator, "POST /v1/realtime/client_secrets", &authorized, &body).await.json();
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n{sdp}\r\n--b\r\n\
             Content-Disposition: form-data; name=\"session\"\r\n\r\n{}\r\n--b--\r\n",
            realtime()
        );
        // With a token, and with the key itself.
        for bearer in [minted["value"].as_str().unwrap(), owner] {
            let headers =
                format!("authorization: Bearer {bearer}\r\ncontent-type: multipart/form-data; boundary=b\r\n");
            let placed = request(&simulator, &format!("POST {CALLS}"), &headers, &form).await;
            let call_id = placed.header("location").unwrap().rsplit('/').next().unwrap();
            let line = format!("POST {CALLS}/{call_id}/hangup");
            let refused = request(&simulator, &line, &format!("authorization: Bearer {other}\r\n"), "").await;
            assert_eq!((refused.status, refused.code().as_str()), (404, "call_id_not_found"));
            assert_eq!(simulator.calls(), 1, "the call still runs");
            assert_eq!(hang_up(&simulator, call_id, same).await, 200);
            until_none(&simulator).await;
        }
    }
}

#[tokio::test]
async fn a_call_ends_at_the_session_limit() {
    let simulator = start().await;
    // Long enough for the client to connect first.
    simulator.limit_sessions(Duration::from_secs(3));
    let mut client = Client::call(&simulator, realtime()).await;
    let error = client.until("error").await["error"].clone();
    assert_eq!(error["code"], "session_expired");
    assert_eq!(error["message"], "Your session hit the maximum duration of 3 seconds.");
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
    time::timeout(CLOSED_WITHIN, one_is_gone).await.expect("the call should end when its client leaves");
    drop(simulator);
    second.until_gone().await;
}

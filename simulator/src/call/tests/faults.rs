//! Planned faults of a call, and datagrams from elsewhere.

use serde_json::json;
use tokio::{net::UdpSocket, time};

use super::{
    super::peer::{Peer, PeerEvent},
    CALLS,
    client::{Client, PATIENCE, mint, offer, request},
    realtime, start,
};
use crate::{call_fault::CallFault, call_register::EndReason, fault::Fault};

#[tokio::test]
async fn datagrams_from_elsewhere_do_no_harm() {
    let simulator = start().await;
    let (mut peer, pending, sdp) = Peer::offer().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let answer = offer(&simulator, CALLS, &token, &sdp).await;
    let port: u16 = answer.body.split(" 127.0.0.1 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let annoy = async || {
        for first in [0_u8, 1, 20, 22, 23, 63, 128, 144, 200, 255] {
            for length in [1, 12, 20, 60, 1_200] {
                let mut datagram: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length).collect();
                datagram[0] = first;
                stranger.send_to(&datagram, ("127.0.0.1", port)).await.unwrap();
            }
        }
    };
    annoy().await;
    peer.accept(pending, &answer.body);
    let opened = async {
        loop {
            if let PeerEvent::ClientEvent(event) = peer.next_event().await {
                break event;
            }
        }
    };
    let created = time::timeout(PATIENCE, opened).await.unwrap();
    assert!(String::from_utf8(created).unwrap().contains("session.created"));
    annoy().await;
    peer.send_event(json!({"type": "nonsense"}).to_string());
    assert!(matches!(
        time::timeout(PATIENCE, peer.next_event()).await,
        Ok(PeerEvent::ClientEvent(_) | PeerEvent::Audio(_))
    ));
    assert_eq!(simulator.calls(), 1);
}

#[tokio::test]
async fn the_answer_to_an_offer_fails_as_planned() {
    let simulator = start().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let (_, _, sdp) = Peer::offer().await;
    simulator.fail_calls(Fault::RateLimit { retry_after: Some("2".into()) }, 1);
    let refused = offer(&simulator, CALLS, &token, &sdp).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("2")));
    let plan = r#"{"at": "calls", "fault": "server-error", "status": 503, "times": 2}"#;
    assert_eq!(request(&simulator, "POST /simulator/faults", "", plan).await.status, 204);
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 503);
    assert_eq!(simulator.calls(), 0);
    assert_eq!(request(&simulator, "DELETE /simulator/faults", "", "").await.status, 204);
    simulator.fail_calls(Fault::Delay { ms: 10 }, 1);
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
    for (plan, named) in [
        (r#"{"at": "calls", "fault": "bad-hair-day"}"#, "never-connects"),
        (r#"{"at": "calls", "fault": "bad-hair-day"}"#, "rate-limit"),
        (r#"{"at": "calls", "fault": "drops"}"#, "ms"),
        (r#"{"at": "calls", "fault": "wrong-prefix"}"#, "token"),
        (r#"{"at": "noon", "fault": "hang"}"#, "calls"),
        (r#"{"fault": "drops", "ms": 1}"#, "rate-limit"),
    ] {
        let answer = request(&simulator, "POST /simulator/faults", "", plan).await;
        assert!(answer.status == 400 && answer.body.contains(named), "{plan}: {answer:?}");
    }
    let many = format!(r#"{{"at": "calls", "fault": "hang", "times": {}}}"#, usize::MAX);
    assert_eq!(request(&simulator, "POST /simulator/faults", "", &many).await.status, 204);
}

#[tokio::test]
async fn a_call_fails_as_planned() {
    let simulator = start().await;
    simulator.fail_calls(CallFault::NeverConnects, 1);
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let (_, _, sdp) = Peer::offer().await;
    assert!(offer(&simulator, CALLS, &token, &sdp).await.body.contains(" 198.51.100.1 "));

    simulator.fail_calls(CallFault::NoEvents, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    client.until_heard(40, 0.0).await;
    assert!(client.events.is_empty());

    simulator.fail_calls(CallFault::EventsClose { ms: 300 }, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    client.until_gone().await;

    simulator.fail_calls(CallFault::ErrorEvent { code: "server_error".into(), ms: 200 }, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    let error = client.until("error").await["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("server_error")));
    client.send(&json!({"type": "response.create"}));
    client.until("response.created").await;

    simulator.fail_calls(CallFault::NoAudio, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    client.send(&json!({"type": "response.create"}));
    client.until("output_audio_buffer.started").await;
    client.until("response.done").await;
    assert_eq!(client.levels.len(), 0);

    simulator.fail_calls(CallFault::Ends { ms: 200 }, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    client.until_gone().await;

    simulator.fail_calls(CallFault::Drops { ms: 200 }, 1);
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    assert_eq!(client.until_ended(&simulator).await, EndReason::Fault);
    let heard = client.levels.len();
    client.during(300).await;
    assert_eq!((client.levels.len(), client.gone), (heard, false), "no packet should follow, not even a closing one");
}

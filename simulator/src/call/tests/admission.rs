//! The credentials, offers and limits with which a call is accepted.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::peer::Peer,
    CALLS,
    client::{Client, mint, offer, request},
    realtime, start,
};
use crate::{fault::Fault, simulator::Simulator};

#[tokio::test]
async fn invalid_expired_and_used_tokens_are_refused() {
    let simulator = start().await;
    let (_, _, sdp) = Peer::offer().await;
    simulator.fail(Fault::Expired, 1);
    let expired = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    simulator.fail(Fault::WrongPrefix, 1);
    let broken = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    for (bearer, code) in [
        ("ek_of_someone_else", "invalid_api_key"),
        ("", "invalid_api_key"),
        (broken.as_str(), "invalid_api_key"),
        (expired.as_str(), "token_expired"),
    ] {
        let answer = offer(&simulator, CALLS, bearer, &sdp).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, code), "{bearer}");
    }
    let translation = mint(&simulator, json!({"model": "gpt-realtime-translate"})).await;
    assert_eq!(offer(&simulator, CALLS, translation["value"].as_str().unwrap(), &sdp).await.status, 400);

    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    assert_eq!(offer(&simulator, CALLS, &token, "v=0\r\n").await.code(), "invalid_offer");
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201, "a refused offer does not use the token");
    let again = offer(&simulator, CALLS, &token, &sdp).await;
    assert_eq!((again.status, again.code().as_str()), (401, "ephemeral_token_already_used"));
    assert_eq!(simulator.calls(), 1);
    simulator.reuse_tokens();
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
}

#[tokio::test]
async fn an_offer_is_taken_byte_for_byte() {
    let simulator = start().await;
    simulator.reuse_tokens();
    let (_, _, sdp) = Peer::offer().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let message = "Invalid SDP offer. Please try again with a WHIP-compliant offer.";
    for trimmed in [sdp.trim_end(), sdp.strip_suffix('\n').unwrap(), &format!("{sdp} ")] {
        let answer = offer(&simulator, CALLS, &token, trimmed).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_offer"));
        assert_eq!(answer.json()["error"]["message"], message);
    }
    // The line end in front of a form's boundary belongs to the boundary.
    for (line_end, status) in [("", 400), ("\r\n", 201)] {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n{}{line_end}\r\n--b--\r\n",
            sdp.trim_end()
        );
        let headers = format!("authorization: Bearer {token}\r\ncontent-type: multipart/form-data; boundary=b\r\n");
        assert_eq!(request(&simulator, &format!("POST {CALLS}"), &headers, &body).await.status, status);
    }
}

#[tokio::test]
async fn an_api_key_opens_a_call_only_with_a_session() {
    let simulator = start().await;
    let (_, _, sdp) = Peer::offer().await;
    let form = |bearer: String, session: Value| {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n{sdp}\r\n--b\r\n\
             Content-Disposition: form-data; name=\"session\"\r\n\r\n{session}\r\n--b--\r\n"
        );
        let headers = format!("authorization: Bearer {bearer}\r\ncontent-type: multipart/form-data; boundary=b\r\n");
        let simulator = &simulator;
        async move { request(simulator, &format!("POST {CALLS}"), &headers, &body).await }
    };
    assert_eq!(form("sk-test".into(), realtime()).await.status, 201);
    assert_eq!(form("sk-test".into(), json!({"type": "realtime", "voice": "ash"})).await.code(), "unknown_parameter");
    assert_eq!(form("sk-test".into(), json!({"type": "realtime", "model": "gpt-2"})).await.code(), "model_not_found");
    assert_eq!(offer(&simulator, CALLS, "sk-test", &sdp).await.code(), "missing_required_parameter");
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    assert_eq!(form(token, json!({"type": "realtime", "tool_choice": "none"})).await.status, 201);
}

#[tokio::test]
async fn invalid_offers_are_refused() {
    let simulator = start().await;
    let (_, _, sdp) = Peer::offer().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    for sdp in ["", "v=0", "{}", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", &sdp.replace("opus", "xpus")] {
        let answer = offer(&simulator, CALLS, &token, sdp).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_offer"), "{sdp:?}");
    }
    assert_eq!(simulator.calls(), 0);
    // Randomly damaged offers are accepted or refused, and do not panic.
    fastrand::seed(7);
    let lines: Vec<&str> = sdp.lines().collect();
    for _ in 0..400 {
        let mut damaged = lines.clone();
        let (at, other) = (fastrand::usize(..lines.len()), fastrand::usize(..lines.len()));
        let (text, cut) = (damaged[at], fastrand::usize(..=damaged[at].len()));
        match fastrand::u8(..4) {
            0 => drop(damaged.remove(at)),
            1 => damaged.swap(at, other),
            2 => damaged.insert(at, lines[other]),
            _ => damaged[at] = text.get(..cut).unwrap_or_default(),
        }
        let offer = damaged.join("\r\n") + "\r\n";
        drop(Peer::answer(&offer, [127, 0, 0, 1].into(), None).await);
    }
}

#[tokio::test]
async fn the_number_of_calls_is_limited() {
    let simulator = start().await;
    simulator.reuse_tokens();
    // The first call must not end before the last one is placed: a call whose client's address is known ends after 15
    // seconds without a packet from it.
    simulator.limit_connecting(Duration::from_secs(600));
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let (_, _, sdp) = Peer::offer().await;
    let sdp: String = sdp.split_inclusive('\n').filter(|line| !line.starts_with("a=candidate:")).collect();
    for _ in 0..64 {
        assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
    }
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.code(), "rate_limit_exceeded");
    assert_eq!(simulator.calls(), 64);
}

#[tokio::test]
async fn a_page_of_any_origin_may_place_a_call_and_read_its_location() {
    let simulator = start().await;
    let asks = "origin: https://a.example\r\naccess-control-request-method: POST\r\n\
                access-control-request-headers: authorization,content-type,x-openai-agents-sdk\r\n";
    for path in [CALLS, "/v1/realtime/translations/calls"] {
        let answer = request(&simulator, &format!("OPTIONS {path}"), asks, "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let allowed = answer.header("access-control-allow-headers");
        assert_eq!(allowed, Some("authorization,content-type,x-openai-agents-sdk"));
        let refused = request(&simulator, &format!("POST {path}"), "origin: https://a.example\r\n", "").await;
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
        assert_eq!(refused.header("access-control-expose-headers"), Some("Location"));
    }
    let secrets = request(&simulator, "OPTIONS /v1/realtime/client_secrets", asks, "").await;
    assert_eq!(secrets.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn an_answer_names_the_address_that_the_offer_came_to() {
    let simulator = Simulator::start_at((std::net::Ipv4Addr::UNSPECIFIED, 0).into()).await.unwrap();
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    let (_, _, sdp) = Peer::offer().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    assert!(offer(&simulator, CALLS, &token, &sdp).await.body.contains(" 127.0.0.1 "));
}

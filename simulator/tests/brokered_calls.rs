//! Calls that a server places for a browser with its API key: the form, the recorded request, the faults, the hang-up, and
//! the list of calls. The tests need no WebRTC, so they also run without the cargo feature `calls`.
#![allow(clippy::unwrap_used, reason = "a test may fail in its helpers too")]
#![allow(clippy::indexing_slicing, reason = "indexing a `Value`: an absent member is null")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openai_simulator::{CallCredential, CallFault, EndReason, Fault, Simulator};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

const KEY: &str = "sk-proj-alpha-1";

/// Far longer than any step of these tests takes, even on a busy machine: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An offer as Chromium writes it, shortened: one audio line, and one for data channels.
const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlTL\r\na=ice-options:trickle\r\na=fingerprint:sha-256 \
    19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=msid:- 4d3f\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:0 PCMU/8000\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:4ZcD\r\n\
    a=ice-pwd:2/1muCWoOi3uLifh0NuRHlTL\r\na=ice-options:trickle\r\na=fingerprint:sha-256 \
    19:E2:1C:3B:4B:9F:81:E6:B8:5C:F4:A5:A8:D8:73:04:BB:05:2F:70:9F:04:A9:0E:05:E9:26:33:E8:70:88:A2\r\n\
    a=setup:actpass\r\na=mid:1\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

#[derive(Debug, Default)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The status, and the code in the error envelope.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }

    fn call_id(&self) -> &str {
        self.header("location").and_then(|path| path.strip_prefix("/v1/realtime/calls/")).unwrap()
    }

    fn media_lines(&self) -> Vec<&str> {
        self.body.lines().filter(|line| line.starts_with("m=")).collect()
    }
}

async fn request(simulator: &Simulator, line: &str, headers: &str, body: &str) -> Answer {
    let address = simulator.base_url().replace("http://", "").replace("/v1", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset ends the reading early.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn session() -> Value {
    json!({"type": "realtime", "model": "gpt-realtime-2.1", "instructions": "Be brief."})
}

/// The body of a broker's form, with the boundary `b`.
fn form(sdp: &str, session: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b\r\n\
         Content-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n{session}\r\n--b--\r\n"
    )
}

async fn place(simulator: &Simulator, query: &str, sdp: &str, session: &Value) -> Answer {
    let headers = format!(
        "authorization: Bearer {KEY}\r\ncontent-type: multipart/form-data; boundary=b\r\n\
         openai-safety-identifier: caller-1\r\n"
    );
    request(simulator, &format!("POST /v1/realtime/calls{query}"), &headers, &form(sdp, &session.to_string())).await
}

async fn hang_up(simulator: &Simulator, call_id: &str, key: &str) -> Answer {
    let line = format!("POST /v1/realtime/calls/{call_id}/hangup");
    request(simulator, &line, &format!("authorization: Bearer {key}\r\n"), "").await
}

async fn plan(simulator: &Simulator, fault: &str) {
    let planned = request(simulator, "POST /simulator/faults", "", fault).await;
    assert_eq!((planned.status, planned.body.as_str()), (204, ""), "{fault}");
}

/// Waits until no call is open.
async fn until_none(simulator: &Simulator) {
    let none = async {
        while simulator.calls() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(PATIENCE, none).await.unwrap();
}

/// Sends a request whose answer does not come in time. The client gives up 100 ms after `has_effect` first holds.
async fn give_up(request: impl Future<Output = Answer>, has_effect: impl Fn() -> bool) {
    let wait = async {
        while !has_effect() {
            time::sleep(Duration::from_millis(5)).await;
        }
        time::sleep(Duration::from_millis(100)).await;
    };
    tokio::select! {
        answer = request => panic!("the request was answered: {answer:?}"),
        waited = time::timeout(PATIENCE, wait) => waited.unwrap(),
    }
}

/// The time now, in seconds since the Unix epoch.
fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[tokio::test]
async fn a_brokered_call_is_open_until_it_is_hung_up() {
    let simulator = Simulator::start().await.unwrap();
    let began = unix_time();
    let placed = place(&simulator, "", OFFER, &session()).await;
    assert_eq!((placed.status, placed.header("content-type")), (201, Some("application/sdp")), "{placed:?}");
    assert!(placed.call_id().starts_with("rtc_"));
    assert!(placed.body.starts_with("v=0\r\n") && placed.body.ends_with("\r\n"));

    let [open] = simulator.open_calls().try_into().unwrap();
    assert_eq!((open.call_id.as_str(), open.project.as_str()), (placed.call_id(), "alpha"));
    assert_eq!((open.credential, open.connected, open.data_channel), (CallCredential::Key, false, true));
    assert_eq!(
        (open.safety_identifier.as_deref(), open.model.as_deref()),
        (Some("caller-1"), Some("gpt-realtime-2.1"))
    );

    let listed = request(&simulator, "GET /simulator/calls", "", "").await;
    assert!(!listed.body.contains(KEY), "the list shows no key");
    let mut listed = listed.json();
    assert_eq!(listed["ended"], json!([]));
    // As JSON, the last digit of a time may differ.
    let since = listed["open"][0]["since"].take().as_f64().unwrap();
    assert!((since - open.since).abs() < 0.001);
    let expected = json!([{"call_id": open.call_id, "since": null, "project": "alpha", "credential": "key",
        "credential_hash": open.credential_hash, "safety_identifier": "caller-1", "model": "gpt-realtime-2.1",
        "data_channel": true, "connected": false}]);
    assert_eq!(listed["open"], expected);

    // For a key of another project, the call does not exist.
    let other = hang_up(&simulator, &open.call_id, "sk-proj-beta-1").await;
    assert_eq!(other.refusal(), (404, "call_id_not_found".into()));
    assert_eq!(hang_up(&simulator, &open.call_id, "nonsense").await.refusal(), (401, "invalid_api_key".into()));
    assert_eq!(simulator.calls(), 1);
    let ended = hang_up(&simulator, &open.call_id, "sk-proj-alpha-2").await;
    assert_eq!((ended.status, ended.body.as_str()), (200, ""));
    let again = hang_up(&simulator, &open.call_id, KEY).await;
    assert_eq!(again.refusal(), (404, "call_id_not_found".into()));
    assert_eq!(again.json()["error"]["message"], "No session found for the provided call_id");

    let [ended] = simulator.ended_calls().try_into().unwrap();
    assert_eq!((ended.call.call_id, ended.reason), (open.call_id.clone(), EndReason::HungUp));
    let times = [began, ended.call.since, ended.ended_at, unix_time()];
    assert!(times.is_sorted(), "{times:?}");
    let listed = request(&simulator, "GET /simulator/calls", "", "").await.json();
    assert_eq!((&listed["open"], &listed["ended"][0]["reason"]), (&json!([]), &json!("hung-up")));
    assert_eq!(listed["ended"][0]["call_id"], json!(open.call_id));
    assert!((listed["ended"][0]["ended_at"].as_f64().unwrap() - ended.ended_at).abs() < 0.001);
}

#[tokio::test]
async fn the_request_of_a_call_is_recorded_byte_for_byte() {
    let simulator = Simulator::start().await.unwrap();
    assert_eq!(place(&simulator, "?dcid=4&other=1", OFFER, &session()).await.status, 201);
    assert_eq!(place(&simulator, "", OFFER.trim_end(), &session()).await.status, 400);
    let seen = simulator.requests();
    assert_eq!((seen[0].sdp.as_deref(), seen[0].session.as_ref()), (Some(OFFER), Some(&session())));
    assert_eq!((seen[0].query.as_deref(), seen[0].path.as_str()), (Some("dcid=4&other=1"), "/v1/realtime/calls"));
    assert_eq!((seen[0].safety_identifier.as_deref(), seen[0].bearer.as_str()), (Some("caller-1"), KEY));
    assert_eq!(seen[1].sdp.as_deref(), Some(OFFER.trim_end()), "a refused offer is recorded too");
    let listed = request(&simulator, "GET /simulator/requests", "", "").await.json();
    assert_eq!((&listed[0]["sdp"], &listed[0]["session"]), (&json!(OFFER), &session()));
    assert_eq!((&listed[0]["query"], &listed[1]["query"]), (&json!("dcid=4&other=1"), &Value::Null));
}

#[tokio::test]
async fn offers_that_were_trimmed_or_have_other_line_ends_are_refused() {
    let simulator = Simulator::start().await.unwrap();
    let last_bare = format!("{}\n", OFFER.trim_end());
    let one_bare = OFFER.replacen("t=0 0\r\n", "t=0 0\n", 1);
    for sdp in
        [OFFER.trim_end(), &last_bare, &one_bare, &OFFER.replace("\r\n", "\n"), &format!("{OFFER} "), "", "v=0\r\n"]
    {
        let refused = place(&simulator, "", sdp, &session()).await;
        assert_eq!(refused.refusal(), (400, "invalid_offer".into()), "{sdp:?}");
        let message = "Invalid SDP offer. Please try again with a WHIP-compliant offer.";
        assert_eq!(refused.json()["error"]["message"], message);
    }
    assert_eq!(simulator.calls(), 0);
}

#[tokio::test]
async fn the_session_of_a_call_is_checked_as_that_of_a_token() {
    let simulator = Simulator::start().await.unwrap();
    for (session, status, code) in [
        (json!({"type": "realtime", "voice": "ash"}), 400, "unknown_parameter"),
        (
            json!({"type": "realtime", "expires_after": {"anchor": "created_at", "seconds": 60}}),
            400,
            "unknown_parameter",
        ),
        (json!({"session": {"type": "realtime"}}), 400, "missing_required_parameter"),
        (json!({"model": "gpt-realtime-2.1"}), 400, "missing_required_parameter"),
        (json!({"type": "realtime", "model": "gpt-2"}), 404, "model_not_found"),
        (json!("realtime"), 400, "invalid_type"),
    ] {
        assert_eq!(place(&simulator, "", OFFER, &session).await.refusal(), (status, code.into()), "{session}");
    }
    let headers = format!("authorization: Bearer {KEY}\r\ncontent-type: multipart/form-data; boundary=b\r\n");
    let broken = request(&simulator, "POST /v1/realtime/calls", &headers, &form(OFFER, "{\"type\": ")).await;
    assert_eq!(broken.refusal(), (400, "invalid_json".into()));
    let headers = format!("authorization: Bearer {KEY}\r\ncontent-type: application/sdp\r\n");
    let bare = request(&simulator, "POST /v1/realtime/calls", &headers, OFFER).await;
    assert_eq!(bare.refusal(), (400, "missing_required_parameter".into()));
    assert_eq!(simulator.calls(), 0);
}

#[tokio::test]
async fn a_channel_number_is_in_its_range() {
    let simulator = Simulator::start().await.unwrap();
    for query in ["?dcid=0", "?dcid=65535", "?other=1&dcid=7", "?dcid2=x"] {
        assert_eq!(place(&simulator, query, OFFER, &session()).await.status, 201, "{query}");
    }
    for query in ["?dcid=", "?dcid=65536", "?dcid=-1", "?dcid=+1", "?dcid=four", "?dcid=1.0"] {
        let refused = place(&simulator, query, OFFER, &session()).await;
        assert_eq!(refused.refusal(), (400, "invalid_value".into()), "{query}");
        assert_eq!(refused.json()["error"]["param"], "dcid");
    }
}

#[tokio::test]
async fn an_answer_has_the_media_lines_of_its_offer() {
    let simulator = Simulator::start().await.unwrap();
    let both = place(&simulator, "", OFFER, &session()).await;
    let kinds: Vec<&str> = both.media_lines().into_iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["m=audio", "m=application"]);
    let audio_only = OFFER.split("m=application").next().unwrap().replace("BUNDLE 0 1", "BUNDLE 0");
    let audio = place(&simulator, "", &audio_only, &session()).await;
    assert_eq!((audio.status, audio.media_lines().len()), (201, 1), "{audio:?}");
    assert_eq!(simulator.open_calls().iter().map(|call| call.data_channel).collect::<Vec<_>>(), [true, false]);

    simulator.fail_calls(CallFault::ExtraLine, 1);
    let more = place(&simulator, "", &audio_only, &session()).await;
    assert_eq!((more.status, more.media_lines().len()), (201, 2));
    assert!(more.media_lines()[1].starts_with("m=application 9 "));
}

#[tokio::test]
async fn the_answer_to_a_placed_call_can_be_spoilt() {
    let simulator = Simulator::start().await.unwrap();
    plan(&simulator, r#"{"at": "calls", "fault": "no-location"}"#).await;
    let answer = place(&simulator, "", OFFER, &session()).await;
    assert_eq!((answer.status, answer.header("location")), (201, None));
    assert!(answer.body.starts_with("v=0\r\n"));

    plan(&simulator, r#"{"at": "calls", "fault": "other-location"}"#).await;
    let answer = place(&simulator, "", OFFER, &session()).await;
    let foreign = format!("https://elsewhere.example/v1/realtime/calls/{}", simulator.open_calls()[1].call_id);
    assert_eq!((answer.status, answer.header("location")), (201, Some(foreign.as_str())));

    plan(&simulator, r#"{"at": "calls", "fault": "other-location", "location": "/v1/realtime/calls/"}"#).await;
    let answer = place(&simulator, "", OFFER, &session()).await;
    assert_eq!(answer.header("location"), Some("/v1/realtime/calls/"));

    plan(&simulator, r#"{"at": "calls", "fault": "not-sdp"}"#).await;
    let answer = place(&simulator, "", OFFER, &session()).await;
    assert_eq!((answer.status, answer.call_id().len()), (201, 25));
    assert!(answer.body.starts_with("<html>"));

    plan(&simulator, r#"{"at": "calls", "fault": "extra-line"}"#).await;
    assert_eq!(place(&simulator, "", OFFER, &session()).await.media_lines().len(), 3);
    assert_eq!(simulator.calls(), 5, "each of these calls is open");

    plan(&simulator, r#"{"at": "calls", "fault": "rate-limit", "retry_after": "3"}"#).await;
    let refused = place(&simulator, "", OFFER, &session()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("3")));
    plan(&simulator, r#"{"at": "calls", "fault": "bad-request"}"#).await;
    assert!(place(&simulator, "", OFFER, &session()).await.body.contains("Be brief."));
    plan(&simulator, r#"{"at": "calls", "fault": "reset"}"#).await;
    assert_eq!(place(&simulator, "", OFFER, &session()).await.status, 0);
    assert_eq!(simulator.calls(), 5);
}

#[tokio::test]
async fn a_call_whose_broker_gave_up_stays_open_until_it_never_connected() {
    let simulator = Simulator::start().await.unwrap();
    simulator.limit_connecting(Duration::from_millis(400));
    simulator.fail_calls(Fault::Delay { ms: 60_000 }, 1);
    let session = session();
    give_up(place(&simulator, "", OFFER, &session), || simulator.calls() == 1).await;
    until_none(&simulator).await;
    let [ended] = simulator.ended_calls().try_into().unwrap();
    assert_eq!((ended.reason, ended.call.connected), (EndReason::NeverConnected, false));
    let lasted = ended.ended_at - ended.call.since;
    // The default limit would be 30 seconds.
    assert!((0.3..20.0).contains(&lasted), "{lasted}");
    let late = hang_up(&simulator, &ended.call.call_id, KEY).await;
    assert_eq!(late.refusal(), (404, "call_id_not_found".into()));
}

#[tokio::test]
async fn a_hang_up_fails_as_planned() {
    let simulator = Simulator::start().await.unwrap();
    let placed = place(&simulator, "", OFFER, &session()).await;
    let call_id = placed.call_id();
    for (fault, status) in [
        (r#"{"at": "hang-ups", "fault": "unauthorized"}"#, 401),
        (r#"{"at": "hang-ups", "fault": "rate-limit", "retry_after": "2"}"#, 429),
        (r#"{"at": "hang-ups", "fault": "server-error", "status": 500}"#, 500),
        (r#"{"at": "hang-ups", "fault": "reset"}"#, 0),
    ] {
        plan(&simulator, fault).await;
        let failed = hang_up(&simulator, call_id, KEY).await;
        assert_eq!(failed.status, status, "{fault}");
        assert_eq!(failed.header("retry-after"), (status == 429).then_some("2"));
        assert_eq!(simulator.calls(), 1, "{fault}: the call is still open");
    }
    simulator.fail_hang_ups(Fault::Hang, 1);
    let seen = simulator.requests().len();
    give_up(hang_up(&simulator, call_id, KEY), || simulator.requests().len() > seen).await;
    assert_eq!(simulator.calls(), 1);
    // The call ends, and its broker does not learn of it in time.
    simulator.fail_hang_ups(Fault::Delay { ms: 60_000 }, 1);
    give_up(hang_up(&simulator, call_id, KEY), || simulator.calls() == 0).await;
    assert_eq!(hang_up(&simulator, call_id, KEY).await.status, 404);

    simulator.fail_hang_ups(Fault::Hang, 1);
    simulator.clear_faults();
    assert_eq!(hang_up(&simulator, call_id, KEY).await.status, 404);
    for fault in ["cut", "drip", "oversize", "expired", "wrong-prefix", "drops"] {
        let fault = format!(r#"{{"at": "hang-ups", "fault": "{fault}"}}"#);
        assert_eq!(request(&simulator, "POST /simulator/faults", "", &fault).await.status, 400, "{fault}");
    }
}

#[tokio::test]
async fn a_thousand_calls_can_be_open_that_never_connect() {
    let simulator = Simulator::start().await.unwrap();
    simulator.fail_calls(CallFault::NeverConnects, 1_001);
    simulator.limit_calls(1_000);
    simulator.limit_connecting(Duration::from_secs(600));
    let began = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(place(&simulator, "", OFFER, &session()).await.status, 201);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(place(&simulator, "", OFFER, &session()).await.refusal(), (429, "rate_limit_exceeded".into()));
    let open = simulator.open_calls();
    assert_eq!(open.len(), 1_000);
    assert!(open.is_sorted_by(|one, other| one.since <= other.since));
}

#[cfg(not(feature = "calls"))]
#[tokio::test]
async fn a_build_without_calls_refuses_the_offers_of_browsers_with_its_own_code() {
    let simulator = Simulator::start().await.unwrap();
    let body = json!({"session": session()}).to_string();
    let authorized = format!("authorization: Bearer {KEY}\r\n");
    let minted = request(&simulator, "POST /v1/realtime/client_secrets", &authorized, &body).await.json();
    let headers =
        format!("authorization: Bearer {}\r\ncontent-type: application/sdp\r\n", minted["value"].as_str().unwrap());
    let refused = request(&simulator, "POST /v1/realtime/calls", &headers, OFFER).await;
    assert_eq!(refused.refusal(), (501, "calls_not_built_in".into()));
    assert!(include_str!("../README.md").contains("501 `calls_not_built_in`"));
}

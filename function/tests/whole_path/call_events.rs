//! The requests for calls, and the answers to them, for the tests of calls.

use base64::{Engine, engine::general_purpose::STANDARD};
use openai_simulator::{SeenRequest, Simulator};
use serde_json::{Value, json};

use crate::function::{Reply, http_api};

/// The end of every line of an offer belongs to it, also that of the last one.
pub const HEAD: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
                        a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n";
pub const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
                         a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlre\r\n\
                         a=fingerprint:sha-256 7B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08\r\n\
                         a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
                         a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\n";
pub const CHANNEL: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n\
                           a=ice-ufrag:4ZcD\r\na=mid:1\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

/// An offer for an open call: audio, and a data channel.
pub fn open_offer() -> String {
    [HEAD, AUDIO, CHANNEL].concat()
}

/// An offer for a locked call: audio only.
pub fn locked_offer() -> String {
    [HEAD, AUDIO].concat()
}

/// An offer as an HTTP API hands it on, with this query, from this address.
pub fn call_from(address: &str, query: &str, offer: &[u8]) -> Value {
    let mut event = http_api(&json!({
        "rawPath": "/call", "routeKey": "POST /call", "rawQueryString": query,
        "body": STANDARD.encode(offer), "isBase64Encoded": true,
    }));
    event["headers"]["content-type"] = "application/sdp".into();
    event["requestContext"]["http"]["sourceIp"] = address.into();
    event
}

/// An offer for an open call of the default profile.
pub fn call_event(address: &str) -> Value {
    call_from(address, "", open_offer().as_bytes())
}

/// A request for a call in JSON.
pub fn json_call_from(address: &str, body: &Value) -> Value {
    let mut event = http_api(&json!({"rawPath": "/call", "routeKey": "POST /call", "body": body.to_string()}));
    event["requestContext"]["http"]["sourceIp"] = address.into();
    event
}

/// The end of a call by a caller at this address.
pub fn hang_up_from(address: &str, handle: &str) -> Value {
    let mut event = http_api(&json!({"rawPath": format!("/call/{handle}"), "routeKey": "DELETE /call/{handle}"}));
    event["requestContext"]["http"] = json!({"method": "DELETE", "sourceIp": address});
    event
}

/// The name of the call in an answer.
pub fn handle(reply: &Reply) -> String {
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.headers["location"].as_str().unwrap().strip_prefix("/call/").unwrap().to_owned()
}

/// The moment of the call's end in an answer, in Unix seconds.
pub fn expires_at(reply: &Reply) -> u64 {
    reply.headers["call-expires-at"].as_str().unwrap().parse().unwrap()
}

pub fn retry_after(reply: &Reply) -> u64 {
    reply.headers["retry-after"].as_str().unwrap().parse().unwrap()
}

/// The requests for calls that OpenAI has got.
pub fn offers(openai: &Simulator) -> Vec<SeenRequest> {
    openai.requests().into_iter().filter(|sent| sent.path == "/v1/realtime/calls").collect()
}

/// The number of hang-ups that OpenAI has got.
pub fn hang_ups(openai: &Simulator) -> usize {
    openai.requests().iter().filter(|sent| sent.path.ends_with("/hangup")).count()
}

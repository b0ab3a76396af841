//! The requests for calls that are refused before anything is booked or OpenAI is asked.

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::{
    call_events::{AUDIO, CHANNEL, HEAD, call_from, json_call_from, locked_offer, offers, open_offer},
    function::{ADDRESS, Function},
    line::Line,
    refusals::assert_refused,
};

const LOCKED: &str = "profile=de-escalation";

#[tokio::test]
async fn an_offer_that_breaks_the_policy_costs_nothing() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    let with = |sections: &[&str]| sections.concat().into_bytes();
    let (inactive, rejected) = (AUDIO.replace("a=sendrecv", "a=inactive"), AUDIO.replace("audio 9", "audio 0"));
    let line_feeds = locked_offer().replace("\r\n", "\n");
    let untrimmed = locked_offer();
    let smuggled = |text: &str| with(&[HEAD, AUDIO, text]);
    for (query, offer) in [
        (LOCKED, open_offer().into_bytes()),
        (LOCKED, with(&[HEAD, CHANNEL, AUDIO])),
        (LOCKED, with(&[HEAD, AUDIO, AUDIO])),
        (LOCKED, with(&[HEAD, AUDIO, &CHANNEL.replace("application 9", "application 0")])),
        (LOCKED, with(&[HEAD, AUDIO, "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"])),
        (LOCKED, with(&[HEAD, CHANNEL])),
        (LOCKED, with(&[HEAD, &inactive])),
        (LOCKED, with(&[HEAD, &rejected])),
        (LOCKED, HEAD.as_bytes().to_vec()),
        (LOCKED, line_feeds.into_bytes()),
        (LOCKED, untrimmed.trim_end().as_bytes().to_vec()),
        (LOCKED, format!("\u{feff}{untrimmed}").into_bytes()),
        (LOCKED, [untrimmed.as_bytes(), b"a=\xff\r\n"].concat()),
        (LOCKED, smuggled("a=x\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled("a=x\rm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled("a=x\u{2028}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled("a=x\u{b}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled("\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled(" m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled("M=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n")),
        (LOCKED, smuggled(&open_offer())),
        // A data channel under the name of audio.
        (LOCKED, with(&[HEAD, &CHANNEL.replace("m=application", "m=audio")])),
        (LOCKED, with(&[HEAD, &AUDIO.replace("UDP/TLS/RTP/SAVPF", "UDP/DTLS/SCTP")])),
        ("", locked_offer().into_bytes()),
        ("", with(&[HEAD, AUDIO, CHANNEL, CHANNEL])),
        ("", with(&[HEAD, AUDIO, CHANNEL, "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"])),
        ("", with(&[HEAD, AUDIO, &CHANNEL.replace("application 9", "application 0")])),
        ("", with(&[HEAD, &inactive, CHANNEL])),
    ] {
        let reply = function.invoke(&call_from(ADDRESS, query, &offer)).await;
        assert_refused(&reply, 400, "offer_not_allowed");
    }
    assert!(line.openai.requests().is_empty());
    assert_eq!(line.states().await, Vec::<String>::new(), "nothing is booked");
    let all = [(LOCKED, locked_offer()), ("", open_offer())];
    for (number, (query, offer)) in all.iter().enumerate() {
        let reply = function.invoke(&call_from(&format!("203.0.113.{number}"), query, offer.as_bytes())).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
    }
}

#[tokio::test]
async fn a_request_with_other_fields_or_without_an_offer_is_refused() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let sdp = |query: &str| call_from(ADDRESS, query, open_offer().as_bytes());
    let of_type = |content_type: &str, mut event: Value| {
        event["headers"]["content-type"] = content_type.into();
        event
    };
    for (event, sentence) in [
        (sdp("model=gpt-realtime-mini"), "Unknown field 'model'; allowed fields: profile, voice"),
        (sdp("instructions=x"), "Unknown field 'instructions'"),
        (sdp("session=%7B%7D"), "'session' is not accepted"),
        (sdp("voice=nova"), "Invalid value for 'voice': expected one of alloy"),
        (sdp("voice=ash&voice=ash"), "The field 'voice' is given more than once"),
        (sdp("profile=default&profile=de-escalation"), "The field 'profile' is given more than once"),
        (
            sdp("profile=admin"),
            "Invalid value for 'profile': expected one of de-escalation, de-escalation-open, default",
        ),
        (sdp("profile=de-escalation-open&speed=1.3"), "Invalid value for 'speed': expected a number from 0.8 to 1.2"),
        (sdp("profile=de-escalation-open&speed=fast"), "Invalid value for 'speed'"),
        (sdp("profile=de-escalation-open&speed="), "Invalid value for 'speed'"),
        (sdp("profile=de-escalation-open&speed=NaN"), "Invalid value for 'speed'"),
        (sdp("dcid=65536"), "Invalid value for 'dcid': expected a whole number from 0 to 65535"),
        (sdp("dcid=-1"), "Invalid value for 'dcid'"),
        (sdp("dcid="), "Invalid value for 'dcid'"),
        (sdp("dcid=4%26a=b"), "Invalid value for 'dcid'"),
        (sdp("dcid=4&dcid=4"), "The field 'dcid' is given more than once"),
        (call_from(ADDRESS, "", b""), "The SDP offer is missing"),
        (of_type("multipart/form-data; boundary=x", sdp("")), "Unknown Content-Type"),
        (of_type("application/x-www-form-urlencoded", sdp("")), "Unknown Content-Type"),
        (of_type("application/json", sdp("")), "The body is not valid JSON"),
        (json_call_from(ADDRESS, &json!({})), "The SDP offer is missing"),
        (json_call_from(ADDRESS, &json!({"sdp": ""})), "The SDP offer is missing"),
        (json_call_from(ADDRESS, &json!({"sdp": 5})), "The SDP offer is missing"),
        (json_call_from(ADDRESS, &json!({"sdp": {"type": "offer", "sdp": open_offer()}})), "The SDP offer is missing"),
        (json_call_from(ADDRESS, &json!([open_offer()])), "The body must be a JSON object"),
        (json_call_from(ADDRESS, &json!({"sdp": open_offer(), "model": "x"})), "Unknown field 'model'"),
        (json_call_from(ADDRESS, &json!({"sdp": open_offer(), "session": {}})), "'session' is not accepted"),
        (json_call_from(ADDRESS, &json!({"sdp": open_offer(), "dcid": 4.5})), "Invalid value for 'dcid'"),
        (
            json_call_from(ADDRESS, &json!({"sdp": open_offer(), "profile": "de-escalation-open", "speed": "1.1"})),
            "Invalid value for 'speed'",
        ),
    ] {
        let reply = function.invoke(&event).await;
        let details = assert_refused(&reply, 400, "invalid_request");
        assert!(details.starts_with(sentence), "{event}: {details}");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn the_largest_body_of_a_call_has_64_kib() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("CALLS_AT_ONCE", "0")]).await;
    let padded = |size: usize| {
        let offer = open_offer();
        let padding = "x".repeat(size - offer.len() - 4);
        format!("{offer}a={padding}\r\n")
    };
    for (size, status) in [(64 * 1024, 201), (64 * 1024 + 1, 413)] {
        let reply = function.invoke(&call_from(ADDRESS, "", padded(size).as_bytes())).await;
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    let body = json!({"sdp": padded(64 * 1024)});
    let reply = function.invoke(&json_call_from(ADDRESS, &body)).await;
    assert_eq!(assert_refused(&reply, 413, "request_too_large"), "The body is larger than 64 KiB");
    assert_eq!(offers(&openai).len(), 1);
}

/// Parsed, the largest body of Lambda's events would take more than the function's memory.
#[tokio::test]
async fn a_body_over_64_kib_is_not_parsed() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let objects = r#"{"":0},"#.repeat(5 * 1024 * 1024 / 7);
    let documents = [format!("[{objects}0]"), format!(r#"{{"sdp": "v=0", "x": [{objects}0]}}"#)];
    let nested = r#"{"a":"#.repeat(1024 * 1024);
    for (content_type, body) in [
        ("application/json", &documents[0]),
        ("application/json; charset=utf-8", &documents[1]),
        ("text/plain", &documents[1]),
        ("application/json", &nested),
    ] {
        for (origin, status, code) in
            [("https://app.example.com", 413, "request_too_large"), ("https://evil.example", 403, "origin_not_allowed")]
        {
            let mut event = json_call_from(ADDRESS, &json!({}));
            event["headers"] = json!({"content-type": content_type, "origin": origin});
            event["body"] = body.as_str().into();
            assert_refused(&function.invoke(&event).await, status, code);
        }
    }
    let peak = function.peak_memory() / 1024;
    assert!(peak < 100, "{peak} MiB");
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn a_number_in_the_query_is_a_text_whatever_the_form() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("CALLS_AT_ONCE", "0")]).await;
    for (query, fields) in [
        ("speed=1.1&dcid=4", json!({"profile": "de-escalation-open"})),
        ("profile=de-escalation-open&speed=1.1", json!({"dcid": 4})),
        ("profile=de-escalation-open&dcid=4", json!({"speed": 1.1})),
        ("profile=de-escalation-open&dcid=4&speed=1.1", json!({})),
    ] {
        let mut body = fields.clone();
        body["sdp"] = open_offer().into();
        let mut event = json_call_from(ADDRESS, &body);
        event["rawQueryString"] = query.into();
        let reply = function.invoke(&event).await;
        assert_eq!(reply.status, 201, "{query} {fields}: {}", reply.body);
        let session = offers(&openai).pop().unwrap().session.unwrap();
        assert_eq!(session["audio"]["output"]["speed"], json!(1.1), "{query} {fields}");
    }
}

#[tokio::test]
async fn an_offer_without_its_type_is_known_by_its_start() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("CALLS_AT_ONCE", "0")]).await;
    for content_type in
        [json!(null), json!(""), json!("text/plain;charset=UTF-8"), json!("APPLICATION/SDP ; charset=utf-8")]
    {
        let mut event = call_from(ADDRESS, "", open_offer().as_bytes());
        event["headers"]["content-type"] = content_type.clone();
        assert_eq!(function.invoke(&event).await.status, 201, "{content_type}");
    }
}

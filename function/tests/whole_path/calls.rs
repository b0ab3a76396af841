//! `POST /call` and `DELETE /call/{handle}`: the answers, for every kind of event.

use base64::{Engine, engine::general_purpose::STANDARD};
use openai_simulator::{EndReason, Simulator};
use serde_json::{Value, json};

use crate::{
    call_events::{
        call_event, call_from, expires_at, handle, hang_up_from, hang_ups, json_call_from, locked_offer, offers,
        open_offer,
    },
    function::{ADDRESS, API_KEY, Function, Reply, http_api, records},
    line::{Line, now},
    raw_openai::{Answer, RawOpenAi},
    refusals::assert_refused,
};

/// An offer in the event of a REST API, which decodes the query.
fn rest_api(query: &Value, offer: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/rest-api.json")).unwrap();
    for field in ["path", "resource"] {
        event[field] = "/call".into();
    }
    event["headers"]["Content-Type"] = "application/sdp".into();
    event["multiValueHeaders"]["Content-Type"] = json!(["application/sdp"]);
    event["queryStringParameters"] = query.clone();
    let lists = query.as_object().unwrap().iter().map(|(name, value)| (name.clone(), json!([value])));
    event["multiValueQueryStringParameters"] = lists.collect();
    event["body"] = offer.into();
    event
}

fn function_url(query: &str, offer: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/function-url.json")).unwrap();
    (event["rawPath"], event["rawQueryString"]) = ("/call".into(), query.into());
    event["headers"]["content-type"] = "application/sdp;charset=UTF-8".into();
    event["body"] = STANDARD.encode(offer).into();
    event
}

/// An offer in the event of a load balancer, which hands the query on as it was sent.
fn load_balancer(query: &Value, offer: &str) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
    (event["path"], event["queryStringParameters"]) = ("/call".into(), query.clone());
    event["headers"]["content-type"] = "application/sdp".into();
    event["body"] = offer.into();
    event
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers[name].as_str().unwrap_or_else(|| panic!("{name} in {:?}", reply.headers))
}

#[tokio::test]
async fn every_kind_of_event_gets_a_call() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[("CALLS_AT_ONCE", "0"), ("QUOTA_PER_MINUTE", "100")]).await;
    let offer = locked_offer();
    let query = json!({"profile": "de-escalation", "scenario": "waiting-room", "speed": "1.1", "dcid": "4"});
    let encoded = json!({"profile": "de%2Descalation", "scenario": "waiting%2droom", "speed": "1%2E1", "dcid": "%34"});
    let text = "profile=de-escalation&scenario=waiting-room&speed=1.1&dcid=4";
    let mut as_text = call_from(ADDRESS, text, b"");
    (as_text["body"], as_text["isBase64Encoded"]) = (offer.as_str().into(), false.into());
    for (name, event) in [
        ("an HTTP API", call_from(ADDRESS, text, offer.as_bytes())),
        (
            "an HTTP API, encoded",
            call_from(
                ADDRESS,
                "profile=de%2Descalation&scenario=waiting%2Droom&speed=1%2e1&dcid=%34",
                offer.as_bytes(),
            ),
        ),
        ("an HTTP API, as text", as_text),
        ("a REST API", rest_api(&query, &offer)),
        ("a function URL", function_url(text, &offer)),
        ("a load balancer", load_balancer(&query, &offer)),
        ("a load balancer, encoded", load_balancer(&encoded, &offer)),
    ] {
        let began = now();
        let reply = function.invoke(&event).await;
        assert_eq!(reply.status, 201, "{name}: {}", reply.body);
        assert_eq!(header(&reply, "content-type"), "application/sdp");
        assert_eq!(header(&reply, "cache-control"), "no-store");
        assert!(header(&reply, "ratelimit-policy").contains("100"), "{:?}", reply.headers);
        assert!(reply.headers.contains_key("ratelimit"), "{:?}", reply.headers);
        assert!((began + 600..=now() + 600).contains(&expires_at(&reply)), "{name}");
        let handle = handle(&reply);
        assert!(handle.len() >= 22 && handle.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert!(!reply.whole.to_string().contains("rtc_"), "OpenAI's name stays on the server");
        assert_eq!(reply.whole.get("statusDescription").is_some(), name.starts_with("a load"), "{name}");
        let sent = offers(&line.openai).pop().unwrap();
        assert_eq!(sent.sdp.as_deref(), Some(offer.as_str()), "{name}: byte for byte, with the last CRLF");
        assert_eq!(sent.query.as_deref(), Some("dcid=4"), "{name}");
        let session = sent.session.unwrap();
        assert_eq!(
            (&session["type"], &session["audio"]["output"]["speed"]),
            (&json!("realtime"), &json!(1.1)),
            "{name}"
        );
        assert!(session["instructions"].as_str().unwrap().contains("waiting room"), "{name}");
        assert_eq!(session.get("expires_after"), None);
        let open = line.openai.open_calls().pop().unwrap();
        assert_eq!((open.safety_identifier, open.data_channel), (sent.safety_identifier, false));
    }
    assert_eq!(offers(&line.openai).len(), 7, "each was sent once");
}

/// The simulator's answers differ in each call, so a proxy writes down the one that was sent.
#[tokio::test]
async fn the_offer_and_the_answer_are_passed_on_byte_for_byte() {
    let sdp = "v=0\r\no=- 1 2 IN IP4 198.51.100.1\r\ns=\u{e9}\u{1F4DE} +%20&\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
               a=x:\t end \r\na=\r\n";
    let location = "location: /v1/realtime/calls/rtc_u1_1\r\ncontent-type: application/sdp\r\n";
    let openai = RawOpenAi::start(Answer::new(201, location, sdp)).await;
    let function = openai.function().await;
    let offer =
        locked_offer().replace("s=-\r\n", "s=\u{e9} +%20\"&--\r\n\\\t \r\n").replace("\\\t \r\n", "a=\\\t \r\n");
    let reply = function.invoke(&call_from(ADDRESS, "profile=de-escalation", offer.as_bytes())).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(reply.whole["body"].as_str(), Some(sdp));
    let reply =
        function.invoke(&json_call_from("203.0.113.2", &json!({"sdp": offer, "profile": "de-escalation"}))).await;
    assert_eq!(reply.body["sdp"].as_str(), Some(sdp));

    // Where the simulator has its WebRTC stack, it reads the offer.
    let offer = locked_offer().replace("s=-\r\n", "s=\u{e9} +%20\"&--\r\n");
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (address, event) in [
        ("203.0.113.1", call_from("203.0.113.1", "profile=de-escalation", offer.as_bytes())),
        ("203.0.113.2", json_call_from("203.0.113.2", &json!({"sdp": offer, "profile": "de-escalation"}))),
    ] {
        assert_eq!(function.invoke(&event).await.status, 201, "{address}");
        assert_eq!(offers(&openai).pop().unwrap().sdp.as_deref(), Some(offer.as_str()));
    }
}

#[tokio::test]
async fn a_call_in_json_has_the_fields_of_the_contract() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let body = json!({"sdp": open_offer(), "voice": "cedar", "dcid": 65_535});
    let reply = function.invoke(&json_call_from(ADDRESS, &body)).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let names: Vec<_> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["callId", "expiresAt", "message", "model", "sdp", "sessionId", "success", "voice"]);
    let body = &reply.body;
    assert_eq!((&body["success"], &body["message"]), (&json!(true), &json!("Call created successfully")));
    assert_eq!((&body["model"], &body["voice"]), (&json!("gpt-realtime-2.1"), &json!("cedar")));
    assert_eq!(
        (body["callId"].as_str(), body["sessionId"].as_str()),
        (Some(handle(&reply).as_str()), Some(handle(&reply).as_str()))
    );
    assert_eq!(body["expiresAt"].as_u64(), Some(expires_at(&reply)));
    assert!(body["sdp"].as_str().unwrap().starts_with("v=0\r\n"));
    assert_eq!(header(&reply, "content-type"), "application/json");
    let sent = offers(&openai).pop().unwrap();
    assert_eq!((sent.bearer.as_str(), sent.query.as_deref()), (API_KEY, Some("dcid=65535")));
    assert_eq!(sent.session.unwrap()["audio"]["output"]["voice"], "cedar");
    assert_eq!(sent.safety_identifier.unwrap().len(), 64);
}

#[tokio::test]
async fn only_its_own_caller_ends_a_call_as_often_as_asked() {
    let Some(line) = Line::open().await else { return };
    let (function, other) = tokio::join!(line.function(&[]), line.function(&[]));
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    for unknown in [
        call.to_uppercase(),
        call.to_lowercase(),
        format!("{call}0"),
        call[1..].to_owned(),
        "rtc_abc".to_owned(),
        "x".to_owned(),
        "A".repeat(27),
        "%00".to_owned(),
        "é".to_owned(),
        "x".repeat(10_000),
        format!("{}zzzzz", &call[..22]),
        line.openai.open_calls()[0].call_id.clone(),
    ] {
        if unknown == call {
            continue;
        }
        let reply = function.invoke(&hang_up_from(ADDRESS, &unknown)).await;
        assert_refused(&reply, 404, "call_not_found");
    }
    let stranger = other.invoke(&hang_up_from("198.51.100.7", &call)).await;
    assert_eq!(assert_refused(&stranger, 404, "call_not_found"), "You have no such call");
    assert_eq!((line.openai.calls(), hang_ups(&line.openai)), (1, 0), "the call goes on");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let mut seconds = Vec::new();
    // Also at another instance.
    for function in [&function, &other, &function] {
        let reply = function.invoke(&hang_up_from(ADDRESS, &call)).await;
        assert_eq!((reply.status, &reply.body["success"]), (200, &json!(true)), "{}", reply.body);
        let names: Vec<_> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["seconds", "success"]);
        seconds.push(reply.body["seconds"].as_u64().unwrap());
    }
    assert!((2..=5).contains(&seconds[0]), "rounded up: {seconds:?}");
    assert_eq!((seconds[1], seconds[2]), (seconds[0], seconds[0]));
    assert_refused(&other.invoke(&hang_up_from("198.51.100.7", &call)).await, 404, "call_not_found");
    assert_eq!((line.openai.calls(), hang_ups(&line.openai)), (0, 1));
    assert_eq!(line.openai.ended_calls()[0].reason, EndReason::HungUp);
    let caller = offers(&line.openai)[0].safety_identifier.clone().unwrap();
    for account in [&caller, "everyone"] {
        let account = line.account(account).await;
        assert_eq!((account.slots, account.seconds), (0, seconds[0]), "the rest is given back");
    }
    let records: Vec<_> = [function.stop().await, other.stop().await].iter().flat_map(|log| records(log)).collect();
    let sum = |name: &str| records.iter().filter_map(|record| record[name].as_f64()).sum::<f64>();
    assert_eq!((sum("CallsStarted"), sum("CallMinutesBooked"), sum("Mints")), (1.0, 10.0, 0.0));
    assert_eq!(sum("CallsEndedByCaller"), 1.0, "however often it was asked for");
    assert!((sum("CallMinutesUsed") * 60.0 - f64::from(u32::try_from(seconds[0]).unwrap())).abs() < 0.7);
    let codes = |code: &str| records.iter().filter(|record| record["Code"] == code).count();
    assert_eq!((codes("ok"), codes("call_ended")), (1, 3));
}

#[tokio::test]
async fn a_closed_endpoint_is_not_found() {
    let openai = Simulator::start().await.unwrap();
    let (token, call, both) = tokio::join!(
        Function::with(&openai, &[("ENDPOINTS", "token")]),
        Function::with(&openai, &[("ENDPOINTS", "call")]),
        Function::with(&openai, &[("ENDPOINTS", "both")])
    );
    assert_eq!(token.mint().await.status, 200);
    assert_refused(&token.invoke(&call_event(ADDRESS)).await, 404, "not_found");
    let ended = call.invoke(&call_event(ADDRESS)).await;
    assert_refused(&token.invoke(&hang_up_from(ADDRESS, &handle(&ended))).await, 404, "not_found");
    assert_refused(&call.mint().await, 404, "not_found");
    assert_refused(&call.invoke(&json!({"httpMethod": "POST", "body": "{}"})).await, 404, "not_found");
    assert_eq!((both.mint().await.status, both.invoke(&call_event(ADDRESS)).await.status), (200, 201));
}

#[tokio::test]
async fn each_path_has_its_methods() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (method, path, status, allow) in [
        ("GET", "/call", 405, Some("POST")),
        ("DELETE", "/call", 405, Some("POST")),
        ("OPTIONS", "/call", 405, Some("POST")),
        ("POST", "/call/x", 405, Some("DELETE")),
        ("GET", "/call/x", 405, Some("DELETE")),
        ("DELETE", "/call/x/y", 404, None),
        ("POST", "/calls", 404, None),
        ("POST", "/callx", 404, None),
        ("POST", "/Call", 404, None),
        ("DELETE", "/token", 405, Some("POST")),
    ] {
        let mut event = call_event(ADDRESS);
        event["rawPath"] = path.into();
        event["routeKey"] = "$default".into();
        event["requestContext"]["http"]["method"] = method.into();
        let reply = function.invoke(&event).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        assert_eq!(reply.headers.get("allow").and_then(Value::as_str), allow, "{method} {path}");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn a_locked_profile_has_no_tokens() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let token = |profile: &str| http_api(&json!({"body": json!({"profile": profile}).to_string()}));
    let reply = function.invoke(&token("de-escalation")).await;
    assert!(assert_refused(&reply, 400, "invalid_request").contains("/call"));
    assert_eq!(function.invoke(&token("de-escalation-open")).await.status, 200);
    assert_eq!(openai.requests().len(), 1);
}

#[tokio::test]
async fn a_call_is_not_longer_than_its_profile_and_the_operator_allow() {
    let openai = Simulator::start().await.unwrap();
    for (longest, seconds) in [("10", 10), ("3600", 600)] {
        let function = Function::with(&openai, &[("MAX_CALL_SECONDS", longest)]).await;
        let began = now();
        let reply = function.invoke(&call_event(ADDRESS)).await;
        assert!((began + seconds..=now() + seconds).contains(&expires_at(&reply)), "{longest}");
    }
}

#[tokio::test]
async fn without_a_table_the_process_counts_and_ends_its_calls_itself() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("MAX_CALL_SECONDS", "10")]).await;
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    assert_refused(&function.invoke(&call_event(ADDRESS)).await, 429, "calls_at_once");
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    assert_eq!((function.invoke(&call_event(ADDRESS)).await.status, openai.calls()), (201, 1));
}

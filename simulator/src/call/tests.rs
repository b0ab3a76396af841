//! Calls from end to end: over HTTP, ICE, DTLS, SCTP and Opus, as a browser makes them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{net::UdpSocket, time};

use super::{
    caller::{Caller, mint, offer, request},
    peer::Peer,
};
use crate::{CallFault, Fault, Simulator, client_secrets::now};

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

/// Waits until no call is held any more.
async fn until_none(simulator: &Simulator) {
    let none = async {
        while simulator.calls() > 0 {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(5), none).await.expect("a call goes on");
}

#[tokio::test]
async fn a_call_has_the_session_that_its_token_was_minted_for() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "instructions": "Be kind.", "audio": {"output": {"voice": "cedar"}}});
    let secret = mint(&simulator, session).await;
    let mut caller = Caller::call_at(&simulator, CALLS, secret["value"].as_str().unwrap()).await;
    let created = caller.until("session.created").await["session"].clone();
    assert_eq!(created["id"], secret["session"]["id"]);
    assert_eq!((&created["instructions"], &created["audio"]["output"]["voice"]), (&json!("Be kind."), &json!("cedar")));
    let lasts = created["expires_at"].as_u64().unwrap().saturating_sub(now());
    assert!((3_590..=3_600).contains(&lasts), "{lasts}");
    assert_eq!(simulator.calls(), 1);
}

#[tokio::test]
async fn an_update_is_merged_deeply_or_refused_as_a_whole() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    let session = caller.until("session.created").await["session"].clone();
    let asked =
        json!({"type": "realtime", "model": "another", "audio": {"output": {"speed": 1.2}}, "tool_choice": "none"});
    caller.send(&json!({"type": "session.update", "session": asked}));
    let mut wanted = session;
    wanted["audio"]["output"]["speed"] = json!(1.2);
    wanted["tool_choice"] = "none".into();
    assert_eq!(caller.until("session.updated").await["session"], wanted);

    // Of one turn detection nothing is left in another.
    let detection = |detection: &Value| {
        let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": detection}}});
        json!({"type": "session.update", "session": session})
    };
    let mut detections = Vec::new();
    for asked in [json!({"type": "semantic_vad"}), Value::Null, json!({"type": "server_vad", "threshold": 0.7})] {
        caller.send(&detection(&asked));
        let updated = caller.until("session.updated").await;
        detections.push(updated["session"]["audio"]["input"]["turn_detection"].clone());
    }
    assert_eq!((&detections[0]["eagerness"], &detections[0]["threshold"]), (&json!("auto"), &Value::Null));
    assert_eq!(detections[1], Value::Null);
    assert_eq!((&detections[2]["threshold"], &detections[2]["silence_duration_ms"]), (&json!(0.7), &json!(200)));

    for (id, session, param, code) in [
        ("a", json!({"type": "realtime", "temperature": 1}), "session.temperature", "unknown_parameter"),
        ("b", json!({"instructions": "x"}), "session.type", "missing_required_parameter"),
        ("c", json!({"type": "transcription"}), "session.type", "invalid_value"),
    ] {
        caller.send(&json!({"type": "session.update", "event_id": id, "session": session}));
        let error = caller.until("error").await["error"].clone();
        assert_eq!((&error["event_id"], &error["param"], &error["code"]), (&json!(id), &json!(param), &json!(code)));
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn a_text_is_answered_aloud_with_its_events_in_openai_s_order() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Who is there?"}]});
    caller.send(&json!({"type": "conversation.item.create", "item": item}));
    caller.send(&json!({"type": "response.create"}));
    let done = caller.until("response.done").await["response"].clone();
    let heard_by_then = caller.levels.len();
    caller.until("output_audio_buffer.stopped").await;
    assert_eq!(
        caller.kinds(),
        [
            "session.created",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "output_audio_buffer.started",
            "response.output_audio_transcript.delta",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "conversation.item.done",
            "response.done",
            "output_audio_buffer.stopped",
        ]
    );
    let said = "This is the simulator. You wrote: Who is there?";
    let deltas: String = caller.events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, said);
    assert_eq!(done["output"][0]["content"][0]["transcript"], said);
    assert_eq!(
        (&done["status"], &done["usage"]["output_token_details"]["text_tokens"]),
        (&json!("completed"), &json!(12))
    );
    assert!(done["usage"]["output_token_details"]["audio_tokens"].as_u64().unwrap() > 40, "{done}");
    assert!(caller.loudest_since(heard_by_then) > 0.05);
    let ids: std::collections::HashSet<_> = caller.events.iter().map(|event| event["event_id"].as_str()).collect();
    assert_eq!(ids.len(), caller.events.len());

    let truncate = |ms| json!({"type": "conversation.item.truncate", "item_id": done["output"][0]["id"], "content_index": 0, "audio_end_ms": ms});
    caller.send(&truncate(1_000));
    assert_eq!(caller.until("conversation.item.truncated").await["audio_end_ms"], 1_000);
    caller.send(&truncate(60_000));
    assert!(caller.until("error").await["error"]["message"].as_str().unwrap().contains("already shorter"));

    let other_voice = json!({"type": "realtime", "audio": {"output": {"voice": "ash"}}});
    caller.send(&json!({"type": "session.update", "session": other_voice}));
    assert_eq!(caller.until("error").await["error"]["code"], "cannot_update_voice");
}

#[tokio::test]
async fn a_session_that_answers_in_text_is_silent() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, json!({"type": "realtime", "output_modalities": ["text"]})).await;
    caller.send(&json!({"type": "response.create"}));
    let done = caller.until("response.done").await["response"].clone();
    assert_eq!(done["output"][0]["content"][0]["type"], "output_text");
    caller.during(200).await;
    let kinds = caller.kinds();
    assert!(kinds.contains(&"response.output_text.delta") && kinds.contains(&"response.output_text.done"), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind.contains("audio")), "{kinds:?}");
    assert!(caller.loudest_since(0) < 0.01 && caller.levels.len() > 20);
}

#[tokio::test]
async fn speech_is_heard_and_answered() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}});
    let mut caller = Caller::call(&simulator, session).await;
    caller.until("session.created").await;
    caller.during(500).await;
    caller.speak(1_000).await;
    let started = caller.until("input_audio_buffer.speech_started").await;
    let stopped = caller.until("input_audio_buffer.speech_stopped").await;
    let committed = caller.until("input_audio_buffer.committed").await;
    assert_eq!((&started["item_id"], &stopped["item_id"]), (&committed["item_id"], &committed["item_id"]));
    let lasted = stopped["audio_end_ms"].as_u64().unwrap().saturating_sub(started["audio_start_ms"].as_u64().unwrap());
    // 300 ms before, 1000 of speech, 200 of silence.
    assert!((1_300..1_800).contains(&lasted), "{lasted}");
    let item = caller.until("conversation.item.done").await["item"].clone();
    assert_eq!((&item["id"], &item["role"]), (&committed["item_id"], &json!("user")));
    let kind = "conversation.item.input_audio_transcription.completed";
    let transcript = caller.until(kind).await["transcript"].clone();
    let seconds = transcript.as_str().unwrap().strip_prefix('(').unwrap().strip_suffix(" seconds of speech)").unwrap();
    assert!((0.8..1.2).contains(&seconds.parse::<f32>().unwrap()), "{transcript}");
    let said = caller.until("response.output_audio_transcript.done").await["transcript"].clone();
    assert_eq!(said, format!("This is the simulator. I heard you speak for {seconds} seconds."));
}

#[tokio::test]
async fn speaking_over_a_reply_cuts_it_off() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.send(&json!({"type": "response.create"}));
    caller.until("output_audio_buffer.started").await;
    caller.during(200).await;
    caller.speak(200).await;
    caller.until("input_audio_buffer.speech_started").await;
    let response_id = caller.until("output_audio_buffer.cleared").await["response_id"].clone();
    let done = caller.until("response.done").await["response"].clone();
    assert_eq!((&done["id"], &done["status"]), (&response_id, &json!("cancelled")));
    assert_eq!(done["status_details"]["reason"], "turn_detected");
    let truncated = caller.until("conversation.item.truncated").await;
    assert!((100..700).contains(&truncated["audio_end_ms"].as_u64().unwrap()), "{truncated}");
    assert_eq!(done["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn a_client_cancels_a_reply_and_clears_what_is_left_of_it() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.send(&json!({"type": "response.create"}));
    caller.send(&json!({"type": "response.create", "event_id": "twice"}));
    let error = caller.until("error").await["error"].clone();
    assert_eq!(error["code"], "conversation_already_has_active_response");
    assert_eq!(error["event_id"], "twice");
    caller.during(300).await;
    caller.send(&json!({"type": "response.cancel"}));
    let done = caller.until("response.done").await["response"].clone();
    assert_eq!(done["status_details"], json!({"type": "cancelled", "reason": "client_cancelled"}));
    caller.send(&json!({"type": "output_audio_buffer.clear"}));
    caller.until("output_audio_buffer.cleared").await;
    caller.during(200).await;
    let heard = caller.levels.len();
    caller.during(300).await;
    assert!(caller.loudest_since(heard) < 0.01, "it is silent now");
    caller.send(&json!({"type": "response.cancel"}));
    assert_eq!(caller.until("error").await["error"]["code"], "response_cancel_not_active");
}

#[tokio::test]
async fn without_turn_detection_the_client_says_when_it_has_spoken() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": null}}});
    let mut caller = Caller::call(&simulator, session).await;
    caller.until("session.created").await;
    caller.speak(600).await;
    caller.send(&json!({"type": "input_audio_buffer.clear"}));
    caller.until("input_audio_buffer.cleared").await;
    caller.send(&json!({"type": "input_audio_buffer.commit"}));
    assert_eq!(caller.until("error").await["error"]["code"], "input_audio_buffer_commit_empty");
    caller.speak(600).await;
    caller.send(&json!({"type": "input_audio_buffer.commit"}));
    let committed = caller.until("input_audio_buffer.committed").await;
    assert_eq!(caller.until("conversation.item.added").await["item"]["id"], committed["item_id"]);
    caller
        .send(&json!({"type": "response.create", "response": {"output_modalities": ["text"], "metadata": {"n": "1"}}}));
    let done = caller.until("response.done").await["response"].clone();
    assert!(done["output"][0]["content"][0]["text"].as_str().unwrap().contains("I heard you speak for 0."), "{done}");
    assert_eq!(done["metadata"], json!({"n": "1"}));
    assert!(!caller.kinds().contains(&"input_audio_buffer.speech_started"));
}

#[tokio::test]
async fn items_are_kept_in_order_found_and_removed() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    let message = |id: &str| json!({"id": id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": id}]});
    caller.send(&json!({"type": "conversation.item.create", "item": message("b")}));
    caller.send(&json!({"type": "conversation.item.create", "item": message("a"), "previous_item_id": "root"}));
    caller.send(&json!({"type": "conversation.item.create", "item": message("c"), "previous_item_id": "b"}));
    for previous in [Value::Null, Value::Null, "b".into()] {
        assert_eq!(caller.until("conversation.item.added").await["previous_item_id"], previous);
    }
    caller.send(&json!({"type": "conversation.item.retrieve", "item_id": "a"}));
    assert_eq!(caller.until("conversation.item.retrieved").await["item"]["content"][0]["text"], "a");
    caller.send(&json!({"type": "conversation.item.delete", "item_id": "a"}));
    assert_eq!(caller.until("conversation.item.deleted").await["item_id"], "a");
    for event in [
        json!({"type": "conversation.item.retrieve", "item_id": "a"}),
        json!({"type": "conversation.item.truncate", "item_id": "b", "content_index": 0, "audio_end_ms": 5}),
        json!({"type": "conversation.item.create", "item": message("b")}),
        json!({"type": "conversation.item.create", "item": message("d"), "previous_item_id": "nowhere"}),
        json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": "x"}}),
        json!({"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"type": "x"}]}}),
        json!({"type": "conversation.item.create"}),
        json!({"type": "response.create", "response": {"voice": "ash"}}),
        json!({"type": "input_audio_buffer.append", "audio": ""}),
        json!({"type": "session.close"}),
        json!({"type": 1}),
        json!([]),
    ] {
        caller.send(&event);
        assert_eq!(caller.until("error").await["error"]["type"], "invalid_request_error", "{event}");
    }
    caller.send_bytes("{");
    assert_eq!(caller.until("error").await["error"]["code"], "invalid_json");
    assert_eq!(simulator.calls(), 1);
}

#[tokio::test]
async fn a_transcription_hears_and_does_not_answer() {
    let simulator = start().await;
    let input = json!({"transcription": {"model": "gpt-live-transcribe"}});
    let mut caller = Caller::call(&simulator, json!({"type": "transcription", "audio": {"input": input}})).await;
    assert_eq!(caller.until("session.created").await["session"]["type"], "transcription");
    caller.send(&json!({"type": "session.update", "session": {"type": "transcription", "audio": {"input": input}}}));
    caller.until("session.updated").await;
    caller.speak(500).await;
    caller.until("conversation.item.input_audio_transcription.completed").await;
    caller.during(200).await;
    assert!(!caller.kinds().contains(&"response.created"));
    caller.send(&json!({"type": "response.create"}));
    assert_eq!(caller.until("error").await["error"]["param"], "type");
}

#[tokio::test]
async fn a_translation_connects_is_changed_and_closed() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, json!({"model": "gpt-realtime-translate"})).await;
    assert_eq!(caller.until("session.created").await["session"]["type"], "translation");
    caller.send(&json!({"type": "session.update", "session": {"audio": {"output": {"language": "fr"}}}}));
    assert_eq!(caller.until("session.updated").await["session"]["audio"]["output"]["language"], "fr");
    caller.send(&json!({"type": "session.update", "session": {"model": "gpt-realtime-translate"}}));
    assert_eq!(caller.until("error").await["error"]["code"], "unknown_parameter");
    caller.send(&json!({"type": "session.close"}));
    caller.until("session.closed").await;
    caller.until_gone().await;
    until_none(&simulator).await;
}

#[tokio::test]
async fn hanging_up_ends_a_call() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    let call_id = caller.call_id.clone();
    assert_eq!(hang_up(&simulator, &call_id, "nonsense").await, 401);
    assert_eq!(hang_up(&simulator, "rtc_other", "sk-test").await, 404);
    assert_eq!(hang_up(&simulator, &call_id, "sk-test").await, 200);
    caller.until_gone().await;
    assert_eq!(hang_up(&simulator, &call_id, "sk-test").await, 404);
}

#[tokio::test]
async fn a_call_ends_when_its_session_has_lasted_long_enough() {
    let simulator = start().await;
    simulator.limit_sessions(Duration::from_secs(1));
    let mut caller = Caller::call(&simulator, realtime()).await;
    let error = caller.until("error").await["error"].clone();
    assert_eq!(error["code"], "session_expired");
    assert_eq!(error["message"], "Your session hit the maximum duration of 1 seconds.");
    caller.until_gone().await;
    until_none(&simulator).await;
}

#[tokio::test]
async fn a_call_ends_with_its_caller_and_with_the_simulator() {
    let simulator = start().await;
    let mut first = Caller::call(&simulator, realtime()).await;
    let mut second = Caller::call(&simulator, realtime()).await;
    first.until("session.created").await;
    second.until("session.created").await;
    assert_eq!(simulator.calls(), 2);
    first.leave();
    while simulator.calls() > 1 {
        second.during(20).await;
    }
    drop(simulator);
    second.until_gone().await;
}

#[tokio::test]
async fn who_has_no_good_token_is_not_let_in() {
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
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
    simulator.take_tokens_once();
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.code(), "ephemeral_token_already_used");
}

#[tokio::test]
async fn an_api_key_opens_a_call_if_a_session_comes_with_the_offer() {
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
async fn what_is_no_offer_is_refused() {
    let simulator = start().await;
    let (_, _, sdp) = Peer::offer().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    for sdp in ["", "v=0", "{}", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", &sdp.replace("opus", "xpus")] {
        let answer = offer(&simulator, CALLS, &token, sdp).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_offer"), "{sdp:?}");
    }
    assert_eq!(simulator.calls(), 0);
    // Damaged in every way that chance thinks of: taken or refused, and nothing else.
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
        drop(Peer::answer(&offer, [127, 0, 0, 1].into(), false).await);
    }
}

#[tokio::test]
async fn a_stranger_s_datagrams_do_no_harm() {
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
            if let super::peer::Heard::Event(event) = peer.next().await {
                break event;
            }
        }
    };
    let created = time::timeout(Duration::from_secs(10), opened).await.unwrap();
    assert!(String::from_utf8(created).unwrap().contains("session.created"));
    annoy().await;
    peer.send(json!({"type": "nonsense"}).to_string());
    assert!(matches!(
        time::timeout(Duration::from_secs(5), peer.next()).await,
        Ok(super::peer::Heard::Event(_) | super::peer::Heard::Audio(_))
    ));
    assert_eq!(simulator.calls(), 1);
}

#[tokio::test]
async fn there_are_only_so_many_calls_at_once() {
    let simulator = start().await;
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let (_, _, sdp) = Peer::offer().await;
    for _ in 0..64 {
        assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.status, 201);
    }
    assert_eq!(offer(&simulator, CALLS, &token, &sdp).await.code(), "rate_limit_exceeded");
    assert_eq!(simulator.calls(), 64);
}

#[tokio::test]
async fn an_answer_goes_wrong_as_that_of_a_mint_does() {
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
async fn a_call_goes_wrong_in_the_ways_that_are_asked_for() {
    let simulator = start().await;
    simulator.fail_calls(CallFault::NeverConnects, 1);
    let token = mint(&simulator, realtime()).await["value"].as_str().unwrap().to_owned();
    let (_, _, sdp) = Peer::offer().await;
    assert!(offer(&simulator, CALLS, &token, &sdp).await.body.contains(" 192.0.2.1 "));

    simulator.fail_calls(CallFault::NoEvents, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.during(1_000).await;
    assert!(caller.events.is_empty() && !caller.levels.is_empty());

    simulator.fail_calls(CallFault::EventsClose { ms: 300 }, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    caller.until_gone().await;

    simulator.fail_calls(CallFault::ErrorEvent { code: "server_error".into(), ms: 200 }, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    let error = caller.until("error").await["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("server_error")));
    caller.send(&json!({"type": "response.create"}));
    caller.until("response.created").await;

    simulator.fail_calls(CallFault::NoAudio, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.send(&json!({"type": "response.create"}));
    caller.until("output_audio_buffer.started").await;
    caller.during(300).await;
    assert_eq!(caller.levels.len(), 0);

    simulator.fail_calls(CallFault::Ends { ms: 200 }, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until_gone().await;

    let before = simulator.calls();
    simulator.fail_calls(CallFault::Drops { ms: 200 }, 1);
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    caller.during(600).await;
    let heard = caller.levels.len();
    caller.during(300).await;
    assert_eq!((caller.levels.len(), caller.gone), (heard, false), "nothing comes, not even a goodbye");
    assert_eq!(simulator.calls(), before);
}

#[tokio::test]
async fn a_browser_of_any_origin_may_call_and_read_where_the_call_is() {
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

//! The session of a call and its updates.

use serde_json::{Value, json};

use super::{
    CALLS,
    client::{Client, mint},
    realtime, start, until_none,
};
use crate::clock::unix_seconds;

#[tokio::test]
async fn a_call_has_the_session_that_its_token_was_minted_for() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "instructions": "Be kind.", "audio": {"output": {"voice": "cedar"}}});
    let secret = mint(&simulator, session).await;
    let hour = 60 * 60;
    let earliest = unix_seconds().saturating_add(hour);
    let mut client = Client::call_at(&simulator, CALLS, secret["value"].as_str().unwrap()).await;
    let created = client.until("session.created").await["session"].clone();
    assert_eq!(created["id"], secret["session"]["id"]);
    assert_eq!((&created["instructions"], &created["audio"]["output"]["voice"]), (&json!("Be kind."), &json!("cedar")));
    let expires_at = created["expires_at"].as_u64().unwrap();
    assert!((earliest..=unix_seconds().saturating_add(hour)).contains(&expires_at), "{expires_at}");
    assert_eq!(simulator.calls(), 1);
}

#[tokio::test]
async fn an_update_is_merged_field_by_field_or_refused_as_a_whole() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    let session = client.until("session.created").await["session"].clone();
    let asked =
        json!({"type": "realtime", "model": "another", "audio": {"output": {"speed": 1.2}}, "tool_choice": "none"});
    client.send(&json!({"type": "session.update", "session": asked}));
    let mut wanted = session;
    wanted["audio"]["output"]["speed"] = json!(1.2);
    wanted["tool_choice"] = "none".into();
    assert_eq!(client.until("session.updated").await["session"], wanted);

    // A turn detection of another type keeps no field of the previous one.
    let detection = |detection: &Value| {
        let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": detection}}});
        json!({"type": "session.update", "session": session})
    };
    let mut detections = Vec::new();
    for asked in [json!({"type": "semantic_vad"}), Value::Null, json!({"type": "server_vad", "threshold": 0.7})] {
        client.send(&detection(&asked));
        let updated = client.until("session.updated").await;
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
        client.send(&json!({"type": "session.update", "event_id": id, "session": session}));
        let error = client.until("error").await["error"].clone();
        assert_eq!((&error["event_id"], &error["param"], &error["code"]), (&json!(id), &json!(param), &json!(code)));
        assert_eq!(error["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn session_created_is_first_even_if_the_channel_opens_late() {
    let simulator = start().await;
    let mut client = Client::call_without_events(&simulator, realtime()).await;
    client.until_heard(10, 0.0).await;
    assert!(client.loudest_since(0) < 0.01);
    client.speak(500).await;
    // The speech is answered without a data channel.
    client.until_heard(10, 0.05).await;
    client.open_channel();
    client.until("session.created").await;
    assert_eq!(client.kinds().first(), Some(&"session.created"));
}

#[tokio::test]
async fn long_events_arrive_and_oversized_ones_block_no_others() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    let session = |instructions: &str, description: &str| {
        let tool = json!({"type": "function", "name": "long", "description": description});
        json!({"type": "session.update", "session": {"type": "realtime", "instructions": instructions, "tools": [tool]}})
    };
    let long = "y".repeat(200_000);
    client.send(&session(&long, ""));
    assert_eq!(client.until("session.updated").await["session"]["instructions"].as_str(), Some(long.as_str()));
    let tool = json!({"type": "realtime", "tools": [{"type": "function", "name": "long", "description": long}]});
    client.send(&json!({"type": "session.update", "session": tool}));
    client.send(&session("short", ""));
    assert_eq!(client.until("session.updated").await["session"]["instructions"], "short");
}

#[tokio::test]
async fn a_transcription_session_does_not_answer() {
    let simulator = start().await;
    let input = json!({"transcription": {"model": "gpt-live-transcribe"}});
    let mut client = Client::call(&simulator, json!({"type": "transcription", "audio": {"input": input}})).await;
    assert_eq!(client.until("session.created").await["session"]["type"], "transcription");
    client.send(&json!({"type": "session.update", "session": {"type": "transcription", "audio": {"input": input}}}));
    client.until("session.updated").await;
    client.speak(500).await;
    client.until("conversation.item.input_audio_transcription.completed").await;
    client.until_heard(10, 0.0).await;
    assert!(!client.kinds().contains(&"response.created"));
    client.send(&json!({"type": "response.create"}));
    assert_eq!(client.until("error").await["error"]["param"], "type");
}

#[tokio::test]
async fn a_translation_session_can_be_updated_and_closed() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, json!({"model": "gpt-realtime-translate"})).await;
    assert_eq!(client.until("session.created").await["session"]["type"], "translation");
    client.send(&json!({"type": "session.update", "session": {"audio": {"output": {"language": "fr"}}}}));
    assert_eq!(client.until("session.updated").await["session"]["audio"]["output"]["language"], "fr");
    client.send(&json!({"type": "session.update", "session": {"model": "gpt-realtime-translate"}}));
    assert_eq!(client.until("error").await["error"]["code"], "unknown_parameter");
    client.send(&json!({"type": "session.close"}));
    client.until("session.closed").await;
    client.until_gone().await;
    until_none(&simulator).await;
}

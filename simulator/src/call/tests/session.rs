//! What session a call has, and how it is changed.

use serde_json::{Value, json};

use super::{
    super::caller::{Caller, mint},
    CALLS, realtime, start, until_none,
};
use crate::clock::unix_seconds;

#[tokio::test]
async fn a_call_has_the_session_that_its_token_was_minted_for() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "instructions": "Be kind.", "audio": {"output": {"voice": "cedar"}}});
    let secret = mint(&simulator, session).await;
    let mut caller = Caller::call_at(&simulator, CALLS, secret["value"].as_str().unwrap()).await;
    let created = caller.until("session.created").await["session"].clone();
    assert_eq!(created["id"], secret["session"]["id"]);
    assert_eq!((&created["instructions"], &created["audio"]["output"]["voice"]), (&json!("Be kind."), &json!("cedar")));
    let lasts = created["expires_at"].as_u64().unwrap().saturating_sub(unix_seconds());
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
async fn the_first_event_is_of_the_session_however_late_there_is_a_channel() {
    let simulator = start().await;
    let mut caller = Caller::call_without_events(&simulator, realtime()).await;
    caller.during(300).await;
    caller.speak(500).await;
    let heard = caller.levels.len();
    caller.during(1_000).await;
    assert!(caller.loudest_since(heard) > 0.05, "without events there are answers too");
    caller.open_channel();
    caller.until("session.created").await;
    assert_eq!(caller.kinds().first(), Some(&"session.created"));
}

#[tokio::test]
async fn long_events_come_and_too_long_ones_hold_up_no_others() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    let session = |instructions: &str, description: &str| {
        let tool = json!({"type": "function", "name": "long", "description": description});
        json!({"type": "session.update", "session": {"type": "realtime", "instructions": instructions, "tools": [tool]}})
    };
    let long = "y".repeat(200_000);
    caller.send(&session(&long, ""));
    assert_eq!(caller.until("session.updated").await["session"]["instructions"].as_str(), Some(long.as_str()));
    let tool = json!({"type": "realtime", "tools": [{"type": "function", "name": "long", "description": long}]});
    caller.send(&json!({"type": "session.update", "session": tool}));
    caller.send(&session("short", ""));
    assert_eq!(caller.until("session.updated").await["session"]["instructions"], "short");
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

//! What is said to what was written.

use serde_json::{Value, json};

use super::{super::caller::Caller, realtime, start};

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
async fn a_client_cancels_a_reply_and_clears_what_is_left_of_it() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.send(&json!({"type": "response.create"}));
    caller.until("output_audio_buffer.started").await;
    caller.send(&json!({"type": "response.create", "event_id": "twice"}));
    let error = caller.until("error").await["error"].clone();
    assert_eq!(error["code"], "conversation_already_has_active_response");
    assert_eq!(error["event_id"], "twice");
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

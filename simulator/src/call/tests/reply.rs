//! Responses to written messages.

use serde_json::{Value, json};

use super::{client::Client, realtime, start};

#[tokio::test]
async fn a_text_is_answered_in_audio_with_the_events_in_order() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Who is there?"}]});
    client.send(&json!({"type": "conversation.item.create", "item": item}));
    client.send(&json!({"type": "response.create"}));
    let done = client.until("response.done").await["response"].clone();
    let heard_by_then = client.levels.len();
    client.until("output_audio_buffer.stopped").await;
    assert_eq!(
        client.kinds(),
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
    let deltas: String = client.events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(deltas, said);
    assert_eq!(done["output"][0]["content"][0]["transcript"], said);
    assert_eq!(
        (&done["status"], &done["usage"]["output_token_details"]["text_tokens"]),
        (&json!("completed"), &json!(12))
    );
    assert!(done["usage"]["output_token_details"]["audio_tokens"].as_u64().unwrap() > 40, "{done}");
    assert!(client.loudest_since(heard_by_then) > 0.05);
    let ids: std::collections::HashSet<_> = client.events.iter().map(|event| event["event_id"].as_str()).collect();
    assert_eq!(ids.len(), client.events.len());

    let truncate = |ms| json!({"type": "conversation.item.truncate", "item_id": done["output"][0]["id"], "content_index": 0, "audio_end_ms": ms});
    client.send(&truncate(1_000));
    assert_eq!(client.until("conversation.item.truncated").await["audio_end_ms"], 1_000);
    client.send(&truncate(60_000));
    assert!(client.until("error").await["error"]["message"].as_str().unwrap().contains("already shorter"));

    let other_voice = json!({"type": "realtime", "audio": {"output": {"voice": "ash"}}});
    client.send(&json!({"type": "session.update", "session": other_voice}));
    assert_eq!(client.until("error").await["error"]["code"], "cannot_update_voice");
}

#[tokio::test]
async fn a_text_session_is_silent() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, json!({"type": "realtime", "output_modalities": ["text"]})).await;
    client.send(&json!({"type": "response.create"}));
    let done = client.until("response.done").await["response"].clone();
    assert_eq!(done["output"][0]["content"][0]["type"], "output_text");
    client.until_heard(10, 0.0).await;
    let kinds = client.kinds();
    assert!(kinds.contains(&"response.output_text.delta") && kinds.contains(&"response.output_text.done"), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind.contains("audio")), "{kinds:?}");
    assert!(client.loudest_since(0) < 0.01 && client.levels.len() > 20);
}

#[tokio::test]
async fn a_client_cancels_a_response_and_clears_its_audio() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.send(&json!({"type": "response.create"}));
    client.until("output_audio_buffer.started").await;
    client.send(&json!({"type": "response.create", "event_id": "twice"}));
    let error = client.until("error").await["error"].clone();
    assert_eq!(error["code"], "conversation_already_has_active_response");
    assert_eq!(error["event_id"], "twice");
    client.send(&json!({"type": "response.cancel"}));
    let done = client.until("response.done").await["response"].clone();
    assert_eq!(done["status_details"], json!({"type": "cancelled", "reason": "client_cancelled"}));
    client.send(&json!({"type": "output_audio_buffer.clear"}));
    client.until("output_audio_buffer.cleared").await;
    // The decoder fades from the last loud packet.
    client.until_heard(10, 0.0).await;
    let heard = client.levels.len();
    client.until_heard(15, 0.0).await;
    assert!(client.loudest_since(heard) < 0.01, "no audio should follow");
    client.send(&json!({"type": "response.cancel"}));
    assert_eq!(client.until("error").await["error"]["code"], "response_cancel_not_active");
}

#[tokio::test]
async fn items_keep_their_order_and_can_be_retrieved_and_deleted() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    let message = |id: &str| json!({"id": id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": id}]});
    client.send(&json!({"type": "conversation.item.create", "item": message("b")}));
    client.send(&json!({"type": "conversation.item.create", "item": message("a"), "previous_item_id": "root"}));
    client.send(&json!({"type": "conversation.item.create", "item": message("c"), "previous_item_id": "b"}));
    for previous in [Value::Null, Value::Null, "b".into()] {
        assert_eq!(client.until("conversation.item.added").await["previous_item_id"], previous);
    }
    client.send(&json!({"type": "conversation.item.retrieve", "item_id": "a"}));
    assert_eq!(client.until("conversation.item.retrieved").await["item"]["content"][0]["text"], "a");
    client.send(&json!({"type": "conversation.item.delete", "item_id": "a"}));
    assert_eq!(client.until("conversation.item.deleted").await["item_id"], "a");
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
        client.send(&event);
        assert_eq!(client.until("error").await["error"]["type"], "invalid_request_error", "{event}");
    }
    client.send_bytes("{");
    assert_eq!(client.until("error").await["error"]["code"], "invalid_json");
    assert_eq!(simulator.calls(), 1);
}

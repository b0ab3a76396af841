//! What is heard, and what is said to it.

use serde_json::json;

use super::{super::caller::Caller, realtime, start};

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
async fn speech_lasts_as_long_in_short_packets() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    caller.packet = 480;
    caller.speak(1_000).await;
    let said = caller.until("response.output_audio_transcript.done").await["transcript"].clone();
    let heard = said.as_str().unwrap().split(' ').find_map(|word| word.parse::<f32>().ok()).unwrap();
    assert!((0.8..1.2).contains(&heard), "{said}");
}

#[tokio::test]
async fn speaking_over_a_reply_cuts_it_off() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    // Long enough to be still made up when it is cut off.
    let content = json!([{"type": "input_text", "text": "a ".repeat(60)}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    caller.send(&json!({"type": "conversation.item.create", "item": item}));
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
    assert!((100..2_000).contains(&truncated["audio_end_ms"].as_u64().unwrap()), "{truncated}");
    assert_eq!(done["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn without_turn_detection_the_client_says_when_it_has_spoken() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": null}}});
    let mut caller = Caller::call(&simulator, session).await;
    caller.until("session.created").await;
    caller.speak(600).await;
    caller.send(&json!({"type": "input_audio_buffer.clear"}));
    caller.send(&json!({"type": "input_audio_buffer.commit"}));
    caller.until("input_audio_buffer.cleared").await;
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
async fn who_sends_nothing_any_more_has_stopped_speaking() {
    let simulator = start().await;
    let mut caller = Caller::call(&simulator, realtime()).await;
    caller.until("session.created").await;
    caller.speak(500).await;
    caller.muted = true;
    caller.until("input_audio_buffer.speech_stopped").await;
    caller.until("response.created").await;
}

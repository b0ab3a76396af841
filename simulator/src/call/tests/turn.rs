//! Spoken turns and their answers.

use serde_json::json;

use super::{client::Client, realtime, start};

#[tokio::test]
async fn speech_is_transcribed_and_answered() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-transcribe"}}}});
    let mut client = Client::call(&simulator, session).await;
    client.until("session.created").await;
    client.pause(500).await;
    client.speak(1_000).await;
    let started = client.until("input_audio_buffer.speech_started").await;
    let stopped = client.until("input_audio_buffer.speech_stopped").await;
    let committed = client.until("input_audio_buffer.committed").await;
    assert_eq!((&started["item_id"], &stopped["item_id"]), (&committed["item_id"], &committed["item_id"]));
    let lasted = stopped["audio_end_ms"].as_u64().unwrap().saturating_sub(started["audio_start_ms"].as_u64().unwrap());
    // 300 ms of padding, 1,000 ms of speech, 200 ms of silence.
    assert!((1_300..1_800).contains(&lasted), "{lasted}");
    let item = client.until("conversation.item.done").await["item"].clone();
    assert_eq!((&item["id"], &item["role"]), (&committed["item_id"], &json!("user")));
    let kind = "conversation.item.input_audio_transcription.completed";
    let transcript = client.until(kind).await["transcript"].clone();
    let seconds = transcript.as_str().unwrap().strip_prefix('(').unwrap().strip_suffix(" seconds of speech)").unwrap();
    assert!((0.8..1.2).contains(&seconds.parse::<f32>().unwrap()), "{transcript}");
    let said = client.until("response.output_audio_transcript.done").await["transcript"].clone();
    assert_eq!(said, format!("This is the simulator. I heard you speak for {seconds} seconds."));
}

#[tokio::test]
async fn the_duration_of_speech_does_not_depend_on_the_packet_length() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    client.packet = 480;
    client.speak(1_000).await;
    let said = client.until("response.output_audio_transcript.done").await["transcript"].clone();
    let heard = said.as_str().unwrap().split(' ').find_map(|word| word.parse::<f32>().ok()).unwrap();
    assert!((0.8..1.2).contains(&heard), "{said}");
}

#[tokio::test]
async fn speaking_over_a_response_cancels_it() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    // Long enough that it is still being generated when it is cancelled.
    let content = json!([{"type": "input_text", "text": "a ".repeat(60)}]);
    let item = json!({"type": "message", "role": "user", "content": content});
    client.send(&json!({"type": "conversation.item.create", "item": item}));
    client.send(&json!({"type": "response.create"}));
    client.until("output_audio_buffer.started").await;
    client.until_heard(10, 0.0).await;
    client.speak(200).await;
    client.until("input_audio_buffer.speech_started").await;
    let response_id = client.until("output_audio_buffer.cleared").await["response_id"].clone();
    let done = client.until("response.done").await["response"].clone();
    assert_eq!((&done["id"], &done["status"]), (&response_id, &json!("cancelled")));
    assert_eq!(done["status_details"]["reason"], "turn_detected");
    let truncated = client.until("conversation.item.truncated").await;
    assert!((100..2_000).contains(&truncated["audio_end_ms"].as_u64().unwrap()), "{truncated}");
    assert_eq!(done["output"][0]["status"], "incomplete");
}

#[tokio::test]
async fn without_turn_detection_the_client_commits_its_speech() {
    let simulator = start().await;
    let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": null}}});
    let mut client = Client::call(&simulator, session).await;
    client.until("session.created").await;
    client.speak(600).await;
    client.send(&json!({"type": "input_audio_buffer.clear"}));
    client.send(&json!({"type": "input_audio_buffer.commit"}));
    client.until("input_audio_buffer.cleared").await;
    assert_eq!(client.until("error").await["error"]["code"], "input_audio_buffer_commit_empty");
    client.speak(600).await;
    client.send(&json!({"type": "input_audio_buffer.commit"}));
    let committed = client.until("input_audio_buffer.committed").await;
    assert_eq!(client.until("conversation.item.added").await["item"]["id"], committed["item_id"]);
    client
        .send(&json!({"type": "response.create", "response": {"output_modalities": ["text"], "metadata": {"n": "1"}}}));
    let done = client.until("response.done").await["response"].clone();
    assert!(done["output"][0]["content"][0]["text"].as_str().unwrap().contains("I heard you speak for 0."), "{done}");
    assert_eq!(done["metadata"], json!({"n": "1"}));
    assert!(!client.kinds().contains(&"input_audio_buffer.speech_started"));
}

#[tokio::test]
async fn a_caller_that_stops_sending_has_stopped_speaking() {
    let simulator = start().await;
    let mut client = Client::call(&simulator, realtime()).await;
    client.until("session.created").await;
    client.speak(500).await;
    client.muted = true;
    client.until("input_audio_buffer.speech_stopped").await;
    client.until("response.created").await;
}

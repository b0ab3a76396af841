//! A session from its first event to its last: client events and audio in, server events and audio out.
//!
//! It has neither a socket nor a clock. Time passes in steps of 20 ms, one for each call of
//! [`Conversation::next_frame`].

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    audio::level,
    item::Items,
    playback::Playback,
    response::{Outcome, Plan, Response, tokens},
    server_event::ServerEvents,
    session::{Kind, Session},
    turn_detection::{InputBuffer, Turn, TurnDetection, Utterance},
};
use crate::{id::new_id, refusal::Refusal, session_document::merge};

/// Steps of 20 ms from one generated word to the next: a third of the shortest word's duration, so a response is
/// complete before it has been played.
const STEPS_PER_WORD: u64 = 4;

#[derive(Debug)]
pub(super) struct Conversation {
    id: String,
    pub(super) session: Session,
    pub(super) items: Items,
    pub(super) events: ServerEvents,
    pub(super) input: InputBuffer,
    /// The id of the item that the current speech becomes.
    speech_item: Option<String>,
    response: Option<Response>,
    steps: u64,
    playback: Playback,
    /// The caller's audio that does not fill 20 ms yet, if audio is carried by events; `None` over WebRTC.
    pub(super) event_audio: Option<Vec<f32>>,
}

impl Conversation {
    pub(super) fn new(session: Value) -> Self {
        Self {
            id: new_id("conv"),
            session: Session::new(session),
            items: Items::default(),
            events: ServerEvents::default(),
            input: InputBuffer::default(),
            speech_item: None,
            response: None,
            steps: 0,
            playback: Playback::default(),
            event_audio: None,
        }
    }

    /// A session whose audio is carried by events, as over a WebSocket.
    pub(super) fn with_audio_in_events(session: Value) -> Self {
        Self { event_audio: Some(Vec::new()), ..Self::new(session) }
    }

    /// Announces the session, since the data channel is open.
    pub(super) fn start(&mut self) {
        self.events.send("session.created", json!({"session": self.session.document}));
    }

    /// Reports that the session has reached its maximum duration.
    pub(super) fn expire(&mut self, limit: Duration) {
        let length = match limit.as_secs() {
            length if length.is_multiple_of(60) => format!("{} minutes", length / 60),
            length => format!("{length} seconds"),
        };
        let message = format!("Your session hit the maximum duration of {length}.");
        self.events.error(&Refusal::new(400, message, None, "session_expired"), &Value::Null);
    }

    /// Reports a server error with this code.
    pub(super) fn fail(&mut self, code: &str) {
        let message = "The server had an error while processing your request.";
        self.events.error(&Refusal::new(500, message, None, code), &Value::Null);
    }

    /// Takes 20 ms of the caller's audio; no samples count as silence.
    pub(super) fn receive_audio(&mut self, samples: &[f32]) {
        // A translation session has no turns.
        if self.session.kind == Kind::Translation {
            return;
        }
        let detection = TurnDetection::of_session(&self.session.document);
        match self.input.push(level(samples), detection) {
            Some(Turn::Started { audio_start_ms }) => {
                let item_id = self.speech_item.insert(new_id("item")).clone();
                let started = json!({"audio_start_ms": audio_start_ms, "item_id": item_id});
                self.events.send("input_audio_buffer.speech_started", started);
                if detection.is_some_and(|detection| detection.interrupt_response) {
                    self.interrupt();
                }
            }
            Some(Turn::Stopped { audio_end_ms }) => {
                let item_id = self.speech_item.take().unwrap_or_else(|| new_id("item"));
                let stopped = json!({"audio_end_ms": audio_end_ms, "item_id": item_id});
                self.events.send("input_audio_buffer.speech_stopped", stopped);
                self.commit(&item_id);
                let answers = detection.is_some_and(|detection| detection.create_response);
                if answers && self.session.kind == Kind::Realtime && self.response.is_none() {
                    self.respond(&Value::Null);
                }
            }
            None => {}
        }
    }

    /// Ends the response, since the caller speaks over it.
    fn interrupt(&mut self) {
        let playing = self.playback.clear(&mut self.events);
        self.end(Outcome::TurnDetected);
        if let Some(playing) = playing {
            self.truncated(&playing.item_id, 0, playing.played_ms);
        }
    }

    /// Commits the input buffer at the client's request.
    pub(super) fn commit_by_client(&mut self) -> Result<(), Refusal> {
        let buffered = self.input.buffered_ms();
        if buffered < 100 {
            let message = format!(
                "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, but buffer \
                 only has {buffered}.00ms of audio."
            );
            return Err(Refusal::new(400, message, None, "input_audio_buffer_commit_empty"));
        }
        let item_id = self.speech_item.take().unwrap_or_else(|| new_id("item"));
        self.commit(&item_id);
        Ok(())
    }

    pub(super) fn clear_input(&mut self) {
        self.input.empty();
        self.speech_item = None;
        self.events.send("input_audio_buffer.cleared", json!({}));
    }

    /// Turns the input buffer into an item of the conversation.
    fn commit(&mut self, item_id: &str) {
        let heard = self.input.empty();
        let previous = self.items.last_id();
        let committed = json!({"previous_item_id": previous, "item_id": item_id});
        self.events.send("input_audio_buffer.committed", committed);
        let item = json!({"id": item_id, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{"type": "input_audio", "transcript": null}]});
        self.added(&item, previous.as_deref());
        self.items.push(item, Some(heard));
        if !self.session.document["audio"]["input"]["transcription"].is_null() {
            self.transcribe(item_id, heard);
        }
    }

    /// Sends a transcript, which names the duration of the speech: the simulator does not understand it.
    fn transcribe(&mut self, item_id: &str, heard: Utterance) {
        let transcript = format!("({} of speech)", heard.speech_length());
        let delta = json!({"item_id": item_id, "content_index": 0, "delta": transcript});
        self.events.send("conversation.item.input_audio_transcription.delta", delta);
        let usage = json!({"type": "duration", "seconds": heard.audio_ms.div_ceil(1_000)});
        let completed = json!({"item_id": item_id, "content_index": 0, "transcript": transcript, "usage": usage});
        self.events.send("conversation.item.input_audio_transcription.completed", completed);
        self.items.set_transcript(item_id, &transcript);
    }

    /// Inserts the client's item after the one with the id `after`.
    pub(super) fn create_item(&mut self, asked: &Value, after: Option<&str>) -> Result<(), Refusal> {
        let (item, previous) = self.items.create(asked, after)?;
        self.added(&item, previous.as_deref());
        Ok(())
    }

    fn added(&mut self, item: &Value, previous: Option<&str>) {
        let event = json!({"previous_item_id": previous, "item": item});
        self.events.send("conversation.item.added", event.clone());
        self.events.send("conversation.item.done", event);
    }

    pub(super) fn truncated(&mut self, item_id: &str, content_index: u64, audio_end_ms: u64) {
        let event = json!({"item_id": item_id, "content_index": content_index, "audio_end_ms": audio_end_ms});
        self.events.send("conversation.item.truncated", event);
    }

    /// Begins a response, with the fields of the client's request merged into the session for this one.
    pub(super) fn respond(&mut self, asked: &Value) {
        let mut session = self.session.document.clone();
        if asked.is_object() {
            merge(&mut session, asked);
        }
        let text = self.items.reply();
        let in_band = asked["conversation"] != "none";
        let plan = Plan {
            session: &session,
            metadata: &asked["metadata"],
            conversation_id: in_band.then_some(self.id.as_str()),
            previous_item_id: self.items.last_id(),
            text: &text,
            input_tokens: self.items.tokens(tokens(session["instructions"].as_str().unwrap_or_default())),
        };
        let response = Response::begin(plan, &mut self.events);
        self.session.voice_is_fixed |= response.spoken;
        self.response = Some(response);
        self.steps = 0;
    }

    /// The id of the response that is being generated.
    pub(super) fn active_response(&self) -> Option<&str> {
        self.response.as_ref().map(|response| response.id.as_str())
    }

    /// Stops generating the response. The part generated so far is still played, unless it is cleared.
    pub(super) fn cancel(&mut self) {
        self.end(Outcome::ClientCancelled);
    }

    /// Discards the audio that has not been played yet.
    pub(super) fn clear_output(&mut self) {
        self.playback.clear(&mut self.events);
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(response) = self.response.take() else { return };
        let item = response.end(outcome, &mut self.events);
        if response.in_conversation {
            let spoken = Utterance { audio_ms: response.spoken_ms, speech_ms: response.spoken_ms };
            self.items.push(item, response.spoken.then_some(spoken));
        }
        self.playback.complete();
    }

    /// Advances by 20 ms. Returns the samples to play in them, if any.
    pub(super) fn next_frame(&mut self) -> Option<Vec<f32>> {
        self.generate();
        self.playback.next_frame(&mut self.events)
    }

    /// Generates the next word of the response when it is due.
    fn generate(&mut self) {
        let due = self.steps.is_multiple_of(STEPS_PER_WORD);
        self.steps = self.steps.wrapping_add(1);
        let Some(response) = self.response.as_mut().filter(|_| due) else { return };
        match response.next_word(&mut self.events) {
            Some(samples) if response.spoken && self.event_audio.is_some() => {
                response.send_audio(&samples, &mut self.events);
            }
            Some(samples) if response.spoken => self.playback.add(&response.id, &response.item_id, samples),
            Some(_) => {}
            None => self.end(Outcome::Completed),
        }
    }
}

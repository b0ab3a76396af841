//! One response of the simulator: its words, and the events that announce them.
//!
//! Source of the events' shapes: the types of the `openai` npm package 7.57.0.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{audio::milliseconds, pcm, server_event::ServerEvents, tone};
use crate::{id::new_id, session_document::merge};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Completed,
    ClientCancelled,
    TurnDetected,
}

/// A response that is being generated, word by word.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) id: String,
    pub(super) item_id: String,
    pub(super) spoken: bool,
    /// Whether its item is added to the conversation.
    pub(super) in_conversation: bool,
    voice: String,
    /// The duration of the words so far, in milliseconds.
    pub(super) spoken_ms: u64,
    previous_item_id: Option<String>,
    words: VecDeque<String>,
    said: String,
    /// The response as the client sees it, without its status and output.
    document: Value,
    input_tokens: (u64, u64),
}

/// The inputs of a response.
pub(super) struct Plan<'a> {
    /// The session, with the fields that the client requested for this response.
    pub(super) session: &'a Value,
    pub(super) metadata: &'a Value,
    /// `None` for a response that is out of band.
    pub(super) conversation_id: Option<&'a str>,
    pub(super) previous_item_id: Option<String>,
    pub(super) text: &'a str,
    /// The number of tokens of text and of audio.
    pub(super) input_tokens: (u64, u64),
}

impl Response {
    pub(super) fn begin(plan: Plan<'_>, events: &mut ServerEvents) -> Self {
        let Plan { session, metadata, conversation_id, previous_item_id, text, input_tokens } = plan;
        let spoken = session["output_modalities"] != json!(["text"]);
        let mut document = json!({
            "object": "realtime.response", "id": new_id("resp"), "conversation_id": conversation_id,
            "output_modalities": if spoken { ["audio"] } else { ["text"] },
            "max_output_tokens": session["max_output_tokens"], "metadata": metadata,
        });
        if spoken {
            let output = &session["audio"]["output"];
            document["audio"] = json!({"output": {"format": output["format"], "voice": output["voice"]}});
        }
        let response = Self {
            id: document["id"].as_str().unwrap_or_default().to_owned(),
            item_id: new_id("item"),
            spoken,
            in_conversation: conversation_id.is_some(),
            voice: session["audio"]["output"]["voice"].as_str().unwrap_or_default().to_owned(),
            previous_item_id,
            spoken_ms: 0,
            words: text.split_inclusive(' ').map(str::to_owned).collect(),
            said: String::new(),
            document,
            input_tokens,
        };
        events.send("response.created", json!({"response": response.document("in_progress", &Value::Null, &[])}));
        events.send(
            "rate_limits.updated",
            json!({"rate_limits": [
                {"name": "requests", "limit": 1000, "remaining": 999, "reset_seconds": 0.06},
                {"name": "tokens", "limit": 800_000, "remaining": 799_000, "reset_seconds": 0.075},
            ]}),
        );
        let item = response.item("in_progress", false);
        let of_item = json!({"response_id": response.id, "output_index": 0, "item": item});
        events.send("response.output_item.added", of_item);
        if response.in_conversation {
            let added = json!({"previous_item_id": response.previous_item_id, "item": item});
            events.send("conversation.item.added", added);
        }
        events.send("response.content_part.added", response.content_event(&json!({"part": response.part("")})));
        response
    }

    /// Generates the next word, if one is left. Returns its samples, which are empty in a text response.
    pub(super) fn next_word(&mut self, events: &mut ServerEvents) -> Option<Vec<f32>> {
        let word = self.words.pop_front()?;
        self.said.push_str(&word);
        let kind = if self.spoken { "response.output_audio_transcript.delta" } else { "response.output_text.delta" };
        events.send(kind, self.content_event(&json!({"delta": word})));
        if !self.spoken {
            return Some(Vec::new());
        }
        let samples = tone::word_samples(word.trim(), &self.voice);
        self.spoken_ms = self.spoken_ms.saturating_add(milliseconds(&samples));
        Some(samples)
    }

    /// Sends a word's samples in an event.
    pub(super) fn send_audio(&self, samples: &[f32], events: &mut ServerEvents) {
        events.send("response.output_audio.delta", self.content_event(&json!({"delta": pcm::encode(samples)})));
    }

    /// Announces the end. Returns the final item.
    pub(super) fn end(&self, outcome: Outcome, events: &mut ServerEvents) -> Value {
        if self.spoken {
            events.send("response.output_audio.done", self.content_event(&json!({})));
            let transcript = json!({"transcript": self.said});
            events.send("response.output_audio_transcript.done", self.content_event(&transcript));
        } else {
            events.send("response.output_text.done", self.content_event(&json!({"text": self.said})));
        }
        events.send("response.content_part.done", self.content_event(&json!({"part": self.part(&self.said)})));
        let (status, details, of_item) = match outcome {
            Outcome::Completed => ("completed", Value::Null, "completed"),
            Outcome::ClientCancelled => {
                ("cancelled", json!({"type": "cancelled", "reason": "client_cancelled"}), "incomplete")
            }
            Outcome::TurnDetected => {
                ("cancelled", json!({"type": "cancelled", "reason": "turn_detected"}), "incomplete")
            }
        };
        let item = self.item(of_item, true);
        events.send("response.output_item.done", json!({"response_id": self.id, "output_index": 0, "item": item}));
        if self.in_conversation {
            let done = json!({"previous_item_id": self.previous_item_id, "item": item});
            events.send("conversation.item.done", done);
        }
        let mut document = self.document(status, &details, std::slice::from_ref(&item));
        document["usage"] = self.usage();
        events.send("response.done", json!({ "response": document }));
        item
    }

    fn document(&self, status: &str, details: &Value, output: &[Value]) -> Value {
        let mut document = self.document.clone();
        document["status"] = status.into();
        document["status_details"] = details.clone();
        document["output"] = output.into();
        document["usage"] = Value::Null;
        document
    }

    fn item(&self, status: &str, with_content: bool) -> Value {
        let content = match (with_content, self.spoken) {
            (false, _) => json!([]),
            (true, true) => json!([{"type": "output_audio", "transcript": self.said}]),
            (true, false) => json!([{"type": "output_text", "text": self.said}]),
        };
        json!({"id": self.item_id, "object": "realtime.item", "type": "message", "status": status,
            "role": "assistant", "content": content})
    }

    fn part(&self, said: &str) -> Value {
        if self.spoken { json!({"type": "audio", "transcript": said}) } else { json!({"type": "text", "text": said}) }
    }

    fn content_event(&self, more: &Value) -> Value {
        let mut event = json!({"response_id": self.id, "item_id": self.item_id, "output_index": 0, "content_index": 0});
        merge(&mut event, more);
        event
    }

    /// The tokens used. Text counts the usual four characters per token. Audio counts as OpenAI does: a token is 50 ms
    /// of the model's speech or 100 ms of the user's.
    fn usage(&self) -> Value {
        let (text_in, audio_in) = self.input_tokens;
        let (text_out, audio_out) = (tokens(&self.said), self.spoken_ms.div_ceil(50));
        let (input, output) = (text_in.saturating_add(audio_in), text_out.saturating_add(audio_out));
        json!({
            "total_tokens": input.saturating_add(output), "input_tokens": input, "output_tokens": output,
            "input_token_details": {
                "text_tokens": text_in, "audio_tokens": audio_in, "image_tokens": 0, "cached_tokens": 0,
                "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
            },
            "output_token_details": {"text_tokens": text_out, "audio_tokens": audio_out},
        })
    }
}

/// The approximate number of tokens in a text.
pub(super) fn tokens(text: &str) -> u64 {
    u64::try_from(text.len().div_ceil(4)).unwrap_or(u64::MAX)
}

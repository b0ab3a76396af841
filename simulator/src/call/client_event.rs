//! The events that a client sends over the data channel, and their effect.
//!
//! Source: `RealtimeClientEvent` and `RealtimeTranslationClientEvent` of the `openai` npm package 7.57.0.

use openai_realtime::schema::RESPONSE;
use serde_json::{Value, json};

use super::{
    conversation::Conversation,
    pcm,
    session::{Kind, Session},
};
use crate::{refusal::Refusal, schema};

const REALTIME_EVENTS: &[&str] = &[
    "session.update",
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
    "conversation.item.create",
    "conversation.item.truncate",
    "conversation.item.delete",
    "conversation.item.retrieve",
    "response.create",
    "response.cancel",
    "output_audio_buffer.clear",
];
const TRANSCRIPTION_EVENTS: &[&str] =
    &["session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"];
const TRANSLATION_EVENTS: &[&str] = &["session.update", "session.close"];

impl Conversation {
    /// Carries out a client event, or answers it with an `error` event. Returns whether the session continues.
    pub(super) fn handle(&mut self, event: &[u8]) -> bool {
        let Ok(event) = serde_json::from_slice::<Value>(event) else {
            let refusal = Refusal::new(400, "The event is not valid JSON.", None, "invalid_json");
            self.events.error(&refusal, &Value::Null);
            return true;
        };
        if let Err(refusal) = self.apply(&event) {
            self.events.error(&refusal, &event["event_id"]);
        }
        event["type"] != "session.close" || self.session.kind != Kind::Translation
    }

    fn apply(&mut self, event: &Value) -> Result<(), Refusal> {
        match event_type(event, &self.session)? {
            "session.update" => {
                self.session.update(&event["session"])?;
                self.events.send("session.updated", json!({"session": self.session.document}));
            }
            "input_audio_buffer.append" => self.append(event)?,
            "session.close" => self.events.send("session.closed", json!({})),
            "input_audio_buffer.commit" => self.commit_by_client()?,
            "input_audio_buffer.clear" => self.clear_input(),
            "conversation.item.create" => self.create_item(&event["item"], event["previous_item_id"].as_str())?,
            "conversation.item.retrieve" => {
                let item = self.items.find(string_field(event, "item_id")?)?.clone();
                self.events.send("conversation.item.retrieved", json!({ "item": item }));
            }
            "conversation.item.delete" => {
                let item_id = string_field(event, "item_id")?;
                self.items.remove(item_id)?;
                self.events.send("conversation.item.deleted", json!({ "item_id": item_id }));
            }
            "conversation.item.truncate" => {
                let item_id = string_field(event, "item_id")?;
                let index = event["content_index"].as_u64().ok_or_else(|| missing("content_index"))?;
                let end = event["audio_end_ms"].as_u64().ok_or_else(|| missing("audio_end_ms"))?;
                self.items.truncate(item_id, end)?;
                self.truncated(item_id, index, end);
            }
            "response.create" => {
                if let Some(active) = self.active_response() {
                    let message = format!(
                        "Conversation already has an active response in progress: {active}. \
                        Wait until the response is finished before creating a new one."
                    );
                    return Err(Refusal::new(400, message, None, "conversation_already_has_active_response"));
                }
                schema::check(&event["response"], &RESPONSE, "response")?;
                self.respond(&event["response"]);
            }
            "response.cancel" => {
                let asked = event["response_id"].as_str();
                if self.active_response().is_none_or(|active| asked.is_some_and(|asked| asked != active)) {
                    let message = "Cancellation failed: no active response found";
                    return Err(Refusal::new(400, message, None, "response_cancel_not_active"));
                }
                self.cancel();
            }
            "output_audio_buffer.clear" => {
                self.cancel();
                self.clear_output();
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the caller's audio from an event, in steps of 20 ms.
    fn append(&mut self, event: &Value) -> Result<(), Refusal> {
        let Some(mut samples) = self.event_audio.take() else {
            let message = "Over WebRTC, audio is sent on a track. The simulator accepts none over the data channel.";
            return Err(Refusal::invalid("type", message, "invalid_value"));
        };
        let format = &self.session.document["audio"]["input"]["format"]["type"];
        let decoded = string_field(event, "audio").and_then(|audio| pcm::decode(audio, format));
        samples.extend(decoded.as_deref().unwrap_or_default());
        let steps = samples.chunks_exact(pcm::STEP);
        let rest = steps.remainder().to_vec();
        for step in steps {
            self.receive_audio(step);
        }
        self.event_audio = Some(rest);
        decoded.map(|_| ())
    }
}

/// The event's type, if this kind of session accepts it.
fn event_type<'a>(event: &'a Value, session: &Session) -> Result<&'a str, Refusal> {
    let kinds = match session.kind {
        Kind::Realtime => REALTIME_EVENTS,
        Kind::Transcription => TRANSCRIPTION_EVENTS,
        Kind::Translation => TRANSLATION_EVENTS,
    };
    let kind = string_field(event, "type")?;
    if kinds.contains(&kind) {
        return Ok(kind);
    }
    let message = format!("Invalid value: '{kind}'. Supported values are: '{}'.", kinds.join("', '"));
    Err(Refusal::invalid("type", message, "invalid_value"))
}

fn string_field<'a>(event: &'a Value, name: &str) -> Result<&'a str, Refusal> {
    event[name].as_str().ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Refusal {
    Refusal::invalid(name, format!("Missing required parameter: '{name}'."), "missing_required_parameter")
}

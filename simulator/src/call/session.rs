//! The session of a call, which `session.created` shows and `session.update` changes.

use openai_realtime::schema::TRANSLATION_UPDATE;
use serde_json::{Value, json};

use crate::{refusal::Refusal, schema, session_document::overlay};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Realtime,
    Transcription,
    Translation,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) document: Value,
    pub(super) kind: Kind,
    /// Whether the model has spoken, after which its voice cannot be changed.
    pub(super) voice_is_fixed: bool,
}

impl Session {
    pub(super) fn new(document: Value) -> Self {
        let kind = match document["type"].as_str() {
            Some("transcription") => Kind::Transcription,
            Some("translation") => Kind::Translation,
            _ => Kind::Realtime,
        };
        Self { document, kind, voice_is_fixed: false }
    }

    /// Merges `asked` into the session as OpenAI does. A running session keeps its model, so another one is ignored.
    pub(super) fn update(&mut self, asked: &Value) -> Result<(), Refusal> {
        if self.kind == Kind::Translation {
            schema::check(asked, &TRANSLATION_UPDATE, "session")?;
        } else {
            schema::checked_session(&json!({ "session": asked }))?;
        }
        if asked.get("type").is_some_and(|kind| *kind != self.document["type"]) {
            let message = "Passing a session of another type than the one that runs is not allowed.";
            return Err(Refusal::invalid("session.type", message, "invalid_value"));
        }
        let voice = &asked["audio"]["output"]["voice"];
        if self.voice_is_fixed && !voice.is_null() && *voice != self.document["audio"]["output"]["voice"] {
            let message = "Cannot update a conversation's voice if assistant audio is present.";
            return Err(Refusal::invalid("session.audio.output.voice", message, "cannot_update_voice"));
        }
        let model = self.document["model"].clone();
        overlay(&mut self.document, asked);
        if !model.is_null() {
            self.document["model"] = model;
        }
        Ok(())
    }
}

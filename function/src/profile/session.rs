//! A session document with its kind and its voice.

use std::time::Duration;

use openai_realtime::VOICES;
use serde::Deserialize;

/// JSON pointer to the voice in a session document.
pub(super) const VOICE_POINTER: &str = "/audio/output/voice";

/// One of OpenAI's built-in voices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice(pub(super) &'static str);

impl Voice {
    /// The voice of that name, if OpenAI has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        VOICES.into_iter().find(|voice| *voice == name).map(Self)
    }
}

/// The purpose of a session.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A conversation with a model that speaks.
    Realtime,
    /// Speech in, text out: OpenAI transcribes it.
    Transcription,
    /// Speech in one language in, speech in another language out.
    Translation,
}

/// Who holds the reins of a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CallMode {
    /// Audio only: the browser has no data channel, so it can neither change the session nor read it.
    Locked,
    /// Audio and a data channel, over which the browser can change everything but the model.
    Open,
}

/// The rules for the calls of a profile.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CallRules {
    /// Whether the browser gets a data channel.
    pub mode: CallMode,
    /// The longest call, in seconds, if `MAX_CALL_SECONDS` does not allow less.
    pub max_seconds: u64,
}

/// The session of one caller: the request to OpenAI, and the names in it that are logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The name of the profile that the session comes from.
    pub profile: String,
    /// The purpose of the session, on which the endpoint depends.
    pub kind: Kind,
    /// For a token, the body of the request to OpenAI: `expires_after` and `session`. For a call, the session alone.
    pub request: String,
    /// How long a token can open its session: `expires_after` of the request.
    pub token_ttl: Duration,
    /// The rules for the profile's calls, if it has any.
    pub call: Option<CallRules>,
    /// The requested model, if the session names one.
    pub model: Option<String>,
    /// The requested voice, if the session names one.
    pub voice: Option<String>,
}

impl Kind {
    /// JSON pointer to the model in a session document of this kind.
    pub(super) fn model_pointer(self) -> &'static str {
        match self {
            Self::Realtime | Self::Translation => "/model",
            Self::Transcription => "/audio/input/transcription/model",
        }
    }

    /// `session.type`. A translation session has none: its kind follows from its endpoint.
    pub(super) fn session_type(self) -> Option<&'static str> {
        match self {
            Self::Realtime => Some("realtime"),
            Self::Transcription => Some("transcription"),
            Self::Translation => None,
        }
    }
}

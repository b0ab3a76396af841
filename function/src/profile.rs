//! Profiles: the sessions that this mint hands out, and the fields in them that a caller may set.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The profiles, compiled in, so that what is deployed is what was tested.
const PROFILES: &str = include_str!("../profiles.json");

const DEFAULT: &str = "default";
const PROFILE_FIELD: &str = "profile";
const VOICE_POINTER: &str = "/audio/output/voice";

/// One of OpenAI's built-in voices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice(&'static str);

impl Voice {
    /// All of them, by the types of the `openai` npm package 7.57.0 (2026-11-13).
    pub const ALL: [&'static str; 10] =
        ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

    /// The voice of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|voice| *voice == name).map(Self)
    }
}

/// Every profile, ready to serve.
#[derive(Debug)]
pub struct Profiles {
    by_name: BTreeMap<String, Profile>,
    /// What most requests ask for, serialised once.
    default: Session,
    token_ttl: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    /// The session document, as OpenAI takes it.
    session: Value,
    #[serde(default)]
    caller_may_set: BTreeMap<String, Setting>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    /// JSON pointer into the session document.
    at: String,
    one_of: Vec<String>,
}

/// What one caller gets: a request to OpenAI, and the names in it that are worth a log line.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The profile's name.
    pub profile: String,
    /// The whole body for `POST /v1/realtime/client_secrets`.
    pub request: String,
    /// The model asked for, if the session names one.
    pub model: Option<String>,
    /// The voice asked for, if the session names one.
    pub voice: Option<String>,
}

/// `profiles.json` cannot be used. A test keeps this from being deployed.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// It is not what this module reads.
    #[error("profiles.json cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// There has to be one profile for those who name none.
    #[error("profiles.json has no profile named {DEFAULT}")]
    NoDefault,
    /// A place in the session document that is not there.
    #[error("profiles.json: {0:?} leads nowhere in its profile's session")]
    NoSuchPlace(String),
}

/// What is wrong with a caller's request. Its text is a sentence for the caller.
#[derive(Debug, PartialEq)]
pub enum InvalidRequest {
    /// The body is something else than JSON.
    NotJson,
    /// The body is JSON, but no object.
    NotAnObject,
    /// No such profile.
    UnknownProfile {
        /// The names there are.
        allowed: Vec<String>,
    },
    /// The profile lets no caller set this field.
    UnknownField {
        /// The field, as the caller wrote it.
        field: String,
        /// The fields there are.
        allowed: Vec<String>,
    },
    /// The field may be set, but not to that.
    ValueNotAllowed {
        /// The field.
        field: String,
        /// The values there are.
        allowed: Vec<String>,
    },
}

impl Profiles {
    /// The compiled-in profiles, with `model` and `voice` in place of the default one's, for tokens
    /// that last `token_ttl`.
    ///
    /// # Errors
    /// If the compiled-in file is not what it should be.
    pub fn load(model: Option<&str>, voice: Option<Voice>, token_ttl: Duration) -> Result<Self, ProfilesError> {
        let mut by_name: BTreeMap<String, Profile> = serde_json::from_str(PROFILES)?;
        let default = by_name.get_mut(DEFAULT).ok_or(ProfilesError::NoDefault)?;
        if let Some(model) = model {
            set(&mut default.session, "/model", model)?;
        }
        if let Some(Voice(voice)) = voice {
            set(&mut default.session, VOICE_POINTER, voice)?;
        }
        let document = default.session.clone();
        for profile in by_name.values() {
            for setting in profile.caller_may_set.values() {
                set(&mut profile.session.clone(), &setting.at, "")?;
            }
        }
        Ok(Self { by_name, default: session(DEFAULT, &document, token_ttl), token_ttl })
    }

    /// The session that a request's body asks for; an empty body asks for the default one.
    ///
    /// # Errors
    /// If the body is no JSON object, or asks for what no profile allows.
    pub fn session(&self, body: &[u8]) -> Result<Session, InvalidRequest> {
        if body.trim_ascii().is_empty() {
            return Ok(self.default.clone());
        }
        let Value::Object(asked) = serde_json::from_slice(body).map_err(|_| InvalidRequest::NotJson)? else {
            return Err(InvalidRequest::NotAnObject);
        };
        if asked.is_empty() {
            return Ok(self.default.clone());
        }
        let (name, profile) = self.named(asked.get(PROFILE_FIELD))?;
        let mut document = profile.session.clone();
        profile.apply(&asked, &mut document)?;
        Ok(session(name, &document, self.token_ttl))
    }

    fn named(&self, name: Option<&Value>) -> Result<(&str, &Profile), InvalidRequest> {
        let name = name.map_or(Some(DEFAULT), Value::as_str);
        let found = name.and_then(|name| self.by_name.get_key_value(name));
        let (name, profile) =
            found.ok_or_else(|| InvalidRequest::UnknownProfile { allowed: self.by_name.keys().cloned().collect() })?;
        Ok((name, profile))
    }
}

impl Profile {
    fn apply(&self, asked: &Map<String, Value>, document: &mut Value) -> Result<(), InvalidRequest> {
        for (field, value) in asked.iter().filter(|(field, _)| *field != PROFILE_FIELD) {
            let Some(setting) = self.caller_may_set.get(field) else {
                let own = self.caller_may_set.keys().cloned();
                let allowed = std::iter::once(PROFILE_FIELD.to_owned()).chain(own).collect();
                return Err(InvalidRequest::UnknownField { field: field.clone(), allowed });
            };
            let chosen = value.as_str().filter(|value| setting.one_of.iter().any(|allowed| allowed == value));
            let (Some(chosen), Some(place)) = (chosen, document.pointer_mut(&setting.at)) else {
                return Err(InvalidRequest::ValueNotAllowed { field: field.clone(), allowed: setting.one_of.clone() });
            };
            *place = chosen.into();
        }
        Ok(())
    }
}

fn set(document: &mut Value, pointer: &str, value: &str) -> Result<(), ProfilesError> {
    let place = document.pointer_mut(pointer).ok_or_else(|| ProfilesError::NoSuchPlace(pointer.to_owned()))?;
    *place = value.into();
    Ok(())
}

fn session(profile: &str, document: &Value, token_ttl: Duration) -> Session {
    let text = |pointer| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let expires_after = json!({"anchor": "created_at", "seconds": token_ttl.as_secs()});
    Session {
        profile: profile.to_owned(),
        request: json!({"expires_after": expires_after, "session": document}).to_string(),
        model: text("/model"),
        voice: text(VOICE_POINTER),
    }
}

impl fmt::Display for InvalidRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson => formatter.write_str("The body is not JSON: send no body, {} or a JSON object"),
            Self::NotAnObject => {
                formatter.write_str("The body is JSON, but no object: send no body, {} or a JSON object")
            }
            Self::UnknownProfile { allowed } => {
                write!(formatter, "There is no such profile: 'profile' is one of {}", allowed.join(", "))
            }
            Self::UnknownField { field, allowed } => {
                // Their own word goes back to them, but not 16 KiB of it.
                let field: String = field.chars().take(40).collect();
                write!(formatter, "Unknown field '{field}': allowed are {}", allowed.join(", "))
            }
            Self::ValueNotAllowed { field, allowed } => {
                write!(formatter, "'{field}' is not allowed to be that: it is one of {}", allowed.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles() -> Profiles {
        Profiles::load(None, None, Duration::from_secs(3600)).expect("profiles.json is usable")
    }

    fn sent(session: &Session) -> Value {
        serde_json::from_str(&session.request).unwrap()
    }

    #[test]
    fn whoever_asks_for_nothing_gets_the_default_session() {
        let profiles = profiles();
        let default = profiles.session(b"").unwrap();
        assert_eq!(
            sent(&default),
            json!({
                "expires_after": {"anchor": "created_at", "seconds": 3600},
                "session": {"type": "realtime", "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "alloy"}}}
            })
        );
        for body in [" \r\n", "{}", " { } ", r#"{"profile": "default"}"#, r#"{"voice": "alloy"}"#] {
            assert_eq!(profiles.session(body.as_bytes()).unwrap(), default, "{body}");
        }
    }

    #[test]
    fn a_caller_may_choose_among_all_ten_voices() {
        for voice in Voice::ALL {
            let session = profiles().session(json!({"voice": voice}).to_string().as_bytes()).unwrap();
            assert_eq!(sent(&session)["session"]["audio"]["output"]["voice"], voice);
            assert_eq!(session.voice.as_deref(), Some(voice));
        }
    }

    #[test]
    fn the_operator_s_model_and_voice_take_the_place_of_the_profile_s() {
        let profiles = Profiles::load(Some("gpt-next"), Voice::named("cedar"), Duration::from_secs(60)).unwrap();
        let session = sent(&profiles.session(b"").unwrap());
        assert_eq!(session["session"]["model"], "gpt-next");
        assert_eq!(session["session"]["audio"]["output"]["voice"], "cedar");
        assert_eq!(session["expires_after"]["seconds"], 60);
        let chosen = sent(&profiles.session(br#"{"voice": "ash"}"#).unwrap());
        assert_eq!(chosen["session"]["audio"]["output"]["voice"], "ash");
        assert_eq!(chosen["session"]["model"], "gpt-next");
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        let long = format!(r#"{{"{}": 1}}"#, "x".repeat(5000));
        for (body, sentence) in [
            ("{", "The body is not JSON"),
            ("voice=ash", "The body is not JSON"),
            ("\u{feff}{}", "The body is not JSON"),
            ("[]", "The body is JSON, but no object"),
            ("null", "The body is JSON, but no object"),
            (r#"{"model": "gpt-4"}"#, "Unknown field 'model': allowed are profile, voice"),
            (r#"{"instructions": "x"}"#, "Unknown field 'instructions': allowed are profile, voice"),
            (r#"{"Voice": "ash"}"#, "Unknown field 'Voice'"),
            (r#"{"profile": "admin"}"#, "There is no such profile: 'profile' is one of default"),
            (r#"{"profile": 1}"#, "There is no such profile"),
            (r#"{"profile": null}"#, "There is no such profile"),
            (r#"{"voice": "nova"}"#, "'voice' is not allowed to be that: it is one of alloy, ash"),
            (r#"{"voice": null}"#, "'voice' is not allowed to be that"),
            (r#"{"voice": {"id": "voice_1234"}}"#, "'voice' is not allowed to be that"),
            (long.as_str(), "Unknown field 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'"),
        ] {
            let refusal = profiles().session(body.as_bytes()).expect_err(body).to_string();
            assert!(refusal.starts_with(sentence), "{body}: {refusal}");
        }
        assert_eq!(profiles().session(b"\xff\xfe"), Err(InvalidRequest::NotJson));
    }
}

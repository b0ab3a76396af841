//! OpenAI's response to a mint: an ephemeral key and its session.

use secrecy::SecretString;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::error::OpenAiError;
use crate::net::clock;

/// An ephemeral key, and its session as OpenAI describes it.
#[derive(Debug)]
pub struct Token {
    /// The token itself, `ek_…`.
    pub value: SecretString,
    /// Unix seconds; in the future when it was checked.
    pub expires_at: u64,
    /// OpenAI's name for the session, `sess_…`.
    pub session_id: Option<String>,
    /// The session's model, as OpenAI names it.
    pub model: Option<String>,
    /// The session's voice, as OpenAI names it.
    pub voice: Option<String>,
}

/// The fields of the session that the caller gets back. The rest is skipped: parsing it into a `Value` doubles the cost
/// of reading the response.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Session {
    id: Value,
    model: Value,
    audio: Option<Audio>,
}

#[derive(Default, Deserialize)]
struct Audio {
    input: Option<Input>,
    output: Option<Output>,
}

#[derive(Deserialize)]
struct Input {
    transcription: Option<Transcription>,
}

#[derive(Deserialize)]
struct Transcription {
    #[serde(default)]
    model: Value,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    voice: Value,
}

/// Reads the body of a successful response.
///
/// # Errors
/// If it is not a token that a browser can use now.
pub fn parse(body: &[u8]) -> Result<Token, OpenAiError> {
    /// The used parts of `RealtimeCreateClientSecretResponse` (OpenAI's OpenAPI description, 2026-08-21).
    /// `session.expires_at` is not used, since it can be 0.
    #[derive(Deserialize)]
    struct Answer<Session> {
        value: String,
        expires_at: u64,
        #[serde(default)]
        session: Session,
    }

    // If only the session is malformed, the caller still gets the token.
    let unread =
        || serde_json::from_slice(body).map(|Answer::<IgnoredAny> { value, expires_at, .. }| (value, expires_at, None));
    let read = serde_json::from_slice(body).map(|Answer { value, expires_at, session }| (value, expires_at, session));
    let Ok((value, expires_at, session)) = read.or_else(|_| unread()) else {
        return Err(OpenAiError::InvalidAnswer("it is not JSON with a value and its expiry"));
    };
    // OpenAI's browser SDK refuses a key without this prefix (@openai/agents-realtime 0.20).
    let secret = value.strip_prefix("ek_").unwrap_or_default();
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(OpenAiError::InvalidAnswer("its value is not an ephemeral key"));
    }
    if expires_at.saturating_mul(1000) <= clock::unix_millis() {
        return Err(OpenAiError::InvalidAnswer("it has expired"));
    }
    let session: Session = session.unwrap_or_default();
    let audio = session.audio.unwrap_or_default();
    let transcription = audio.input.and_then(|input| input.transcription);
    Ok(Token {
        value: value.into(),
        expires_at,
        session_id: plain_name(&session.id),
        // A transcription session has its model deeper in the document.
        model: plain_name(&session.model).or_else(|| plain_name(&transcription?.model)),
        voice: audio.output.and_then(|output| plain_name(&output.voice)),
    })
}

/// Passes the name of a model, voice or session, but no value that could be a key, a token or a prompt: these names are
/// sent to the caller, and the model's is logged.
fn plain_name(text: &Value) -> Option<String> {
    let text = text.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    let secret = text.starts_with("sk-") || text.starts_with("ek_");
    (plain && !secret && (1..=128).contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_a_value_and_an_expiry_in_the_future() {
        let later = clock::unix_millis() / 1000 + 60;
        let read = |body: String| parse(body.as_bytes());
        let minted = read(format!(
            r#"{{"value": "ek_1", "expires_at": {later}, "session": {{"id": "sess_1", "expires_at": 0}}}}"#
        ));
        let minted = minted.unwrap();
        assert_eq!((minted.expires_at, minted.session_id.as_deref()), (later, Some("sess_1")));
        assert!(!format!("{minted:?}").contains("ek_1"));
        assert!(read(format!(r#"{{"value": "ek_1", "expires_at": {later}}}"#)).is_ok());
        for secret in ["sk-proj-1", "ek_2", "Tell me a story", "", &"x".repeat(129)] {
            let session =
                format!(r#"{{"id": "{secret}", "model": "{secret}", "audio": {{"output": {{"voice": 1}}}}}}"#);
            let minted = read(format!(r#"{{"value": "ek_1", "expires_at": {later}, "session": {session}}}"#)).unwrap();
            assert_eq!((minted.session_id, minted.model, minted.voice), (None, None, None), "{secret}");
        }
        for session in [r#""x""#, "[]", "null", r#"{"id": "sess_1", "audio": "x"}"#, r#"{"audio": {"output": [1]}}"#] {
            let minted = read(format!(r#"{{"value": "ek_1", "expires_at": {later}, "session": {session}}}"#)).unwrap();
            assert_eq!((minted.expires_at, minted.voice), (later, None), "{session}");
        }
        for body in [
            "".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            format!(r#"{{"expires_at": {later}}}"#),
            format!(r#"{{"value": "ek_", "expires_at": {later}}}"#),
            format!(r#"{{"value": "sk-1", "expires_at": {later}}}"#),
            format!(r#"{{"value": "ek_1\nX: y", "expires_at": {later}}}"#),
            format!(r#"{{"value": null, "expires_at": {later}}}"#),
            r#"{"value": "ek_1"}"#.to_owned(),
            r#"{"value": "ek_1", "expires_at": 0}"#.to_owned(),
            r#"{"value": "ek_1", "expires_at": -1}"#.to_owned(),
            format!(r#"{{"value": "ek_1", "expires_at": {}}}"#, later - 60),
        ] {
            assert!(matches!(read(body.clone()), Err(OpenAiError::InvalidAnswer(_))), "{body}");
        }
    }
}

//! OpenAI's response to a mint: an ephemeral key and its session.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::error::OpenAiError;
use crate::net::clock;

/// An ephemeral key, and its session as OpenAI describes it.
#[derive(Debug)]
pub struct Token {
    /// The token itself: `ek_…` from OpenAI, and from another server as it forms its tokens.
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

impl Token {
    /// The time by which the token outlives the requested one, if that is more than clocks may differ.
    pub fn expiry_excess(&self, requested: Duration) -> Option<Duration> {
        let left = Duration::from_secs(self.expires_at).saturating_sub(Duration::from_millis(clock::unix_millis()));
        left.checked_sub(requested).filter(|excess| *excess > CLOCK_DIFFERENCE)
    }
}

/// The fields of the session that the caller gets back. The rest is skipped: parsing it into a `Value` doubles the cost
/// of reading the response.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Session {
    #[serde(rename = "type")]
    kind: Value,
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

/// The longest value that is a plausible token. LiteLLM encrypts a token with its routing data into some 400 characters.
const LONGEST_VALUE: usize = 4_096;

/// How far the clocks of this machine and of OpenAI may differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(60);

/// The latest expiry in seconds, in the year 5138. A time in milliseconds, or in a smaller unit, is above it.
const LATEST_EXPIRY: f64 = 1e11;

/// Reads the body of a successful response. A token is text that starts with `prefix`, and never contains `api_key`.
///
/// # Errors
/// If it is not a token that a browser can use now.
pub fn parse(body: &[u8], prefix: &str, api_key: &SecretString) -> Result<Token, OpenAiError> {
    /// The used parts of `RealtimeCreateClientSecretResponse` (OpenAI's OpenAPI description, 2026-08-21).
    /// `session.expires_at` is not used, since it can be 0.
    #[derive(Deserialize)]
    struct Answer<Session> {
        value: String,
        // Some JSON libraries write a whole number as 1764115200.0.
        expires_at: f64,
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
    if !is_plausible(&value, prefix, api_key.expose_secret()) {
        return Err(OpenAiError::InvalidAnswer("its value is not an ephemeral key"));
    }
    // Not converted: a server that changes the unit may have changed the meaning, too.
    if expires_at > LATEST_EXPIRY {
        return Err(OpenAiError::InvalidAnswer("its expiry is not in seconds"));
    }
    // Rounded down, so that no token is handed on as valid for longer than it is.
    let expires_at = Duration::try_from_secs_f64(expires_at).unwrap_or_default().as_secs();
    if expires_at.saturating_mul(1000) <= clock::unix_millis() {
        return Err(OpenAiError::InvalidAnswer("it has expired"));
    }
    let session: Session = session.unwrap_or_default();
    let plain_name = |text: &Value| plain_name(text, prefix, api_key.expose_secret());
    let audio = session.audio.unwrap_or_default();
    // A conversation may have its input transcribed, by another model than the one that speaks.
    let is_conversation = session.kind == "realtime";
    let transcription = audio.input.and_then(|input| input.transcription).filter(|_| !is_conversation);
    Ok(Token {
        value: value.into(),
        expires_at,
        session_id: plain_name(&session.id),
        // A transcription session has its model deeper in the document.
        model: plain_name(&session.model).or_else(|| plain_name(&transcription?.model)),
        voice: audio.output.and_then(|output| plain_name(&output.voice)),
    })
}

/// Whether a value can be a token. Even without a prefix to check, an API key is not one: it must never reach a browser.
fn is_plausible(value: &str, prefix: &str, api_key: &str) -> bool {
    let rest = value.strip_prefix(prefix).unwrap_or_default();
    let is_key = value.starts_with("sk-") || (!api_key.is_empty() && value.contains(api_key));
    !rest.is_empty() && !is_key && value.len() <= LONGEST_VALUE && value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Passes the name of a model, voice or session, but no value that could be a key, a token or a prompt: these names are
/// sent to the caller, and the model's is logged.
fn plain_name(text: &Value, prefix: &str, api_key: &str) -> Option<String> {
    let text = text.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    let begins_like_one = ["sk-", "ek_", prefix].iter().any(|prefix| !prefix.is_empty() && text.starts_with(prefix));
    let secret = begins_like_one || (!api_key.is_empty() && text.contains(api_key));
    (plain && !secret && (1..=128).contains(&text.len())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_a_value_and_an_expiry_in_the_future() {
        let later = clock::unix_millis() / 1000 + 60;
        let read = |body: String| parse(body.as_bytes(), "ek_", &"sk-1".into());
        let minted = read(format!(
            r#"{{"value": "ek_1", "expires_at": {later}, "session": {{"id": "sess_1", "expires_at": 0}}}}"#
        ));
        let minted = minted.unwrap();
        assert_eq!((minted.expires_at, minted.session_id.as_deref()), (later, Some("sess_1")));
        assert!(!format!("{minted:?}").contains("ek_1"));
        assert!(read(format!(r#"{{"value": "ek_1", "expires_at": {later}}}"#)).is_ok());
        let of_a_conversation = |kind: &str| {
            let session =
                format!(r#"{{"type": "{kind}", "audio": {{"input": {{"transcription": {{"model": "m"}}}}}}}}"#);
            read(format!(r#"{{"value": "ek_1", "expires_at": {later}, "session": {session}}}"#)).unwrap().model
        };
        assert_eq!(["realtime", "transcription"].map(of_a_conversation), [None, Some("m".to_owned())]);
        let other = parse(
            format!(r#"{{"value": "xai-1", "expires_at": {later}, "session": {{"model": "xai-2", "id": "a-key"}}}}"#)
                .as_bytes(),
            "xai-",
            &"key".into(),
        );
        let other = other.unwrap();
        assert_eq!((other.model, other.session_id), (None, None), "a token, and the API key");
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

    #[test]
    fn an_expiry_is_a_number_in_seconds() {
        let later = clock::unix_millis() / 1000 + 60;
        let read = |expiry: String| {
            let body = format!(r#"{{"value": "ek_1", "expires_at": {expiry}}}"#);
            parse(body.as_bytes(), "ek_", &"sk-1".into())
                .map(|minted| minted.expires_at)
                .map_err(|error| error.to_string())
        };
        for written in [format!("{later}"), format!("{later}.0"), format!("{later}.9"), format!("{later}e0")] {
            assert_eq!(read(written.clone()), Ok(later), "{written}");
        }
        assert_eq!(read("9999999999".to_owned()), Ok(9_999_999_999), "far in the future, but in seconds");
        for smaller_unit in
            [format!("{later}000"), format!("{later}000.0"), format!("{later}000000000"), "1e300".to_owned()]
        {
            let refused = read(smaller_unit.clone()).expect_err(&smaller_unit);
            assert!(refused.ends_with("its expiry is not in seconds"), "{smaller_unit}: {refused}");
        }
        for none in [format!("\"{later}\""), "null".to_owned(), "-1.5".to_owned(), "1e400".to_owned(), "[]".to_owned()]
        {
            assert!(read(none.clone()).is_err(), "{none}");
        }
    }

    #[test]
    fn the_prefix_of_a_token_is_configurable_and_a_key_is_never_a_token() {
        let later = clock::unix_millis() / 1000 + 60;
        let is_token = |prefix: &str, value: &str| {
            let body = serde_json::json!({"value": value, "expires_at": later}).to_string();
            parse(body.as_bytes(), prefix, &"xai-the-key".into()).is_ok()
        };
        let longest = "x".repeat(LONGEST_VALUE);
        for (prefix, value) in [
            ("ek_", "ek_1"),
            ("vcst_", "vcst_1"),
            ("", "ek_1"),
            ("", "gAAAAABo-Zm9v+/="),
            ("", "xai-another"),
            ("", longest.as_str()),
        ] {
            assert!(is_token(prefix, value), "{prefix:?} {value}");
        }
        for (prefix, value) in [
            ("ek_", "vcst_1"),
            ("vcst_", "ek_1"),
            ("vcst_", "vcst_"),
            ("", ""),
            ("", "a token"),
            ("", "t\u{f6}ken"),
            ("", "sk-proj-1"),
            ("sk-", "sk-proj-1"),
            ("", "xai-the-key"),
            ("xai-", "xai-the-key-1"),
            ("", &format!("{longest}x")),
        ] {
            assert!(!is_token(prefix, value), "{prefix:?} {value}");
        }
    }
}

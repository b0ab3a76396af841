//! What we say to OpenAI, and what its answers mean.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, StatusCode, header};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;
use url::Url;

use crate::{
    clock::{self, millis},
    connection::{Connection, Lease},
    profile::Kind,
};

/// What is minted, which has an endpoint of its own below the base URL. The predecessor of both,
/// `/realtime/sessions`, was removed in May 2026.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A token for a conversation or a transcription.
    ClientSecrets,
    /// A token for a translation.
    TranslationClientSecrets,
}

impl From<Kind> for Endpoint {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Realtime | Kind::Transcription => Self::ClientSecrets,
            Kind::Translation => Self::TranslationClientSecrets,
        }
    }
}

impl Endpoint {
    fn path(self) -> &'static str {
        match self {
            Self::ClientSecrets => "realtime/client_secrets",
            Self::TranslationClientSecrets => "realtime/translations/client_secrets",
        }
    }

    /// Where a browser posts its SDP with the token: OpenAI's guides to WebRTC and to translation (2026-11).
    fn calls_path(self) -> &'static str {
        match self {
            Self::ClientSecrets => "realtime/calls",
            Self::TranslationClientSecrets => "realtime/translations/calls",
        }
    }
}

fn below(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    url.set_path(&format!("{}/{path}", base_url.path().trim_end_matches('/')));
    url
}

/// How long one attempt may take. Mints take a fraction of a second; one that takes longer than
/// this is more likely lost than slow.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long a connection from before may be silent until a new one is asked beside it. It may have
/// died while the process was frozen, or the answer may only be slow: whichever comes first counts,
/// and the other token is dropped unused, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// What has to be left of the budget for one more attempt to be worth it.
const WORTH_AN_ATTEMPT: Duration = Duration::from_millis(500);

/// Attempts that ended in a failure, not counting those on a connection that had died before.
const MAX_TRIES: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The largest answer that is read. A real one is under 2 KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// The longest `Retry-After` that is believed.
const DAY: Duration = Duration::from_secs(86_400);

const SAFETY_IDENTIFIER: HeaderName = HeaderName::from_static("openai-safety-identifier");

/// How long to wait for the body of an answer whose status has said enough.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// OpenAI's Realtime API at one base URL.
#[derive(Debug)]
pub struct OpenAi {
    client_secrets: Place,
    translation_client_secrets: Place,
    connection: Connection,
}

/// The URLs of one endpoint, built once.
#[derive(Debug)]
struct Place {
    mint: Url,
    calls: String,
}

impl Place {
    fn new(base_url: &Url, endpoint: Endpoint) -> Self {
        Self { mint: below(base_url, endpoint.path()), calls: below(base_url, endpoint.calls_path()).into() }
    }
}

/// One mint, as it is asked for.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Which kind of token to mint, and thereby the path of the request.
    pub endpoint: Endpoint,
    /// The OpenAI API key, sent as the bearer token.
    pub api_key: &'a SecretString,
    /// At most 64 characters, for the header `OpenAI-Safety-Identifier`.
    pub safety_identifier: &'a str,
    /// The body: `expires_after` and `session`.
    pub request: &'a str,
}

/// An ephemeral key and what it opens.
#[derive(Debug)]
pub struct Token {
    /// The token itself, `ek_…`.
    pub value: SecretString,
    /// Unix seconds; in the future when it was checked.
    pub expires_at: u64,
    /// OpenAI's name for the session, `sess_…`.
    pub session_id: Option<String>,
    /// The model, by OpenAI's own word.
    pub model: Option<String>,
    /// The voice, by OpenAI's own word.
    pub voice: Option<String>,
}

/// What it took to get an answer.
#[derive(Debug, Default)]
pub struct Effort {
    /// Requests sent, or begun to be sent.
    pub attempts: u32,
    /// From the first byte sent to the last one read, pauses included.
    pub took: Duration,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// 401 or 403.
    #[error("OpenAI rejected the API key ({status}, {hint})")]
    RejectedKey {
        /// The status of OpenAI's response.
        status: StatusCode,
        /// OpenAI's code, and the field of the request that it is about.
        hint: Hint,
    },
    /// 400, 404, or another refusal of what was asked.
    #[error("OpenAI rejected the session ({status}, {hint})")]
    RejectedSession {
        /// The status of OpenAI's response.
        status: StatusCode,
        /// OpenAI's code, and the field of the request that it is about.
        hint: Hint,
    },
    /// 429 because the account has no money left; trying again is useless.
    #[error("the OpenAI account is out of quota")]
    OutOfQuota,
    /// 429 because of a rate limit.
    #[error("OpenAI is over a rate limit")]
    Busy {
        /// When OpenAI wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// 5xx, or a connection that could not be made or broke.
    #[error("OpenAI is unavailable")]
    Unavailable {
        /// OpenAI's status, if it got so far.
        status: Option<StatusCode>,
        /// When OpenAI wants to be asked again.
        retry_after: Option<Duration>,
        /// The error of the HTTP client, if no response arrived.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// No answer within the budget.
    #[error("OpenAI did not answer in time")]
    Timeout,
    /// An answer that is no usable token.
    #[error("OpenAI's answer is no token: {0}")]
    InvalidAnswer(&'static str),
}

/// OpenAI's machine-readable reasons, fit for a log: never its message, which may repeat what it was
/// sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hint {
    /// For example `model_not_found`.
    pub code: Option<String>,
    /// For example `session.model`.
    pub param: Option<String>,
}

impl std::fmt::Display for Hint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        write!(formatter, "code {}, param {}", or_none(&self.code), or_none(&self.param))
    }
}

impl OpenAiError {
    /// The status that OpenAI answered, if it did.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::RejectedKey { status, .. } | Self::RejectedSession { status, .. } => Some(*status),
            Self::OutOfQuota | Self::Busy { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable { status, .. } => *status,
            Self::Timeout | Self::InvalidAnswer(_) => None,
        }
    }

    /// OpenAI's own reasons for refusing what was sent.
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        match self {
            Self::RejectedKey { hint, .. } | Self::RejectedSession { hint, .. } => Some(hint),
            _ => None,
        }
    }

    fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Unavailable { .. } | Self::Timeout)
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The connection is to blame, or nobody knows.
    fn needs_new_connection(&self) -> bool {
        matches!(self, Self::Unavailable { status: None, .. } | Self::Timeout)
    }
}

impl From<reqwest::Error> for OpenAiError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        Self::Unavailable { status: None, retry_after: None, source: Some(error.without_url()) }
    }
}

impl OpenAi {
    /// The API at `base_url`, for example `https://api.openai.com/v1`.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(base_url: &Url, tls: ClientConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client_secrets: Place::new(base_url, Endpoint::ClientSecrets),
            translation_client_secrets: Place::new(base_url, Endpoint::TranslationClientSecrets),
            connection: Connection::new(tls)?,
        })
    }

    fn place(&self, endpoint: Endpoint) -> &Place {
        match endpoint {
            Endpoint::ClientSecrets => &self.client_secrets,
            Endpoint::TranslationClientSecrets => &self.translation_client_secrets,
        }
    }

    /// The absolute URL at which a browser calls with a token of this endpoint.
    #[must_use]
    pub fn calls_url(&self, endpoint: Endpoint) -> &str {
        &self.place(endpoint).calls
    }

    /// Opens the connection ahead of the first mint.
    pub async fn warm(&self) {
        self.connection.warm(&self.client_secrets.mint).await;
    }

    /// Mints one token, trying again what may pass, until `deadline` at the latest.
    ///
    /// # Errors
    /// If there is no token by then, or trying again would be useless.
    pub async fn mint(&self, ask: &Ask<'_>, deadline: Instant, effort: &mut Effort) -> Result<Token, OpenAiError> {
        let began = Instant::now();
        let minted = self.mint_patiently(ask, deadline, &mut effort.attempts).await;
        effort.took = effort.took.saturating_add(began.elapsed());
        minted
    }

    async fn mint_patiently(&self, ask: &Ask<'_>, deadline: Instant, attempts: &mut u32) -> Result<Token, OpenAiError> {
        // Timers count in milliseconds, so an answer could come before one that is due at once.
        if deadline <= Instant::now() {
            return Err(OpenAiError::Timeout);
        }
        let mut lease = self.connection.lease()?;
        let mut tries: u32 = 0;
        loop {
            let failure = match self.attempt(&lease, ask, deadline, attempts).await {
                Err(failure) if failure.may_pass() => failure,
                settled => return settled,
            };
            debug!(attempt = *attempts, error = &failure as &dyn std::error::Error, "the attempt failed");
            let broken = failure.needs_new_connection();
            // A connection that died while it was not looked at costs a reconnect, not a try.
            // And one that took an attempt's whole time was pause enough: there the deadline counts.
            let timed_out = matches!(failure, OpenAiError::Timeout);
            let pause = if timed_out || (broken && lease.reused) {
                Duration::ZERO
            } else {
                tries = tries.saturating_add(1);
                // OpenAI tells many instances the same time to come back: each comes a little later.
                let asked = failure.retry_after().map(|wait| wait.saturating_add(FIRST_PAUSE.mul_f64(fastrand::f64())));
                asked.unwrap_or_else(|| pause_after(tries))
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if tries >= MAX_TRIES || left < pause.saturating_add(WORTH_AN_ATTEMPT) {
                debug!(tries, "OpenAI is not asked again: the tries or the time are used up");
                return Err(failure);
            }
            debug!(milliseconds = millis(pause), "pausing before the next attempt");
            sleep(pause).await;
            lease = if broken { self.connection.replace()? } else { self.connection.lease()? };
        }
    }

    /// One try: one request on a new connection, or on an old one with a new one in reserve.
    ///
    /// While an old connection is waited for, there is one timer and not one for each limit: each
    /// wakes the runtime up once.
    async fn attempt(
        &self,
        lease: &Lease,
        ask: &Ask<'_>,
        deadline: Instant,
        attempts: &mut u32,
    ) -> Result<Token, OpenAiError> {
        *attempts = attempts.saturating_add(1);
        let began = Instant::now();
        let limit = limit(began, ATTEMPT, deadline);
        let mut first = pin!(self.exchange(lease, ask, *attempts));
        if !lease.reused {
            return within(limit, first).await;
        }
        if let Ok(answered) = timeout_at(self::limit(began, PATIENCE, deadline), &mut first).await {
            return answered;
        }
        if began.elapsed() < PATIENCE {
            return Err(OpenAiError::Timeout);
        }
        debug!(
            milliseconds = millis(PATIENCE),
            "no answer over the reused connection yet: asking over a new one as well"
        );
        *attempts = attempts.saturating_add(1);
        let fresh = self.connection.replace()?;
        let first = pin!(within(limit, first));
        // In a box: it is rare, and each request would be moved about with room for it.
        let second =
            Box::pin(within(self::limit(Instant::now(), ATTEMPT, deadline), self.exchange(&fresh, ask, *attempts)));
        match select(first, second).await {
            // One of the two connections is bad, and this says nothing of the other.
            Either::Left((Err(failure), second)) if failure.needs_new_connection() => second.await,
            Either::Right((Err(failure), first)) if failure.needs_new_connection() => first.await,
            Either::Left((answered, _)) | Either::Right((answered, _)) => answered,
        }
    }

    async fn exchange(&self, lease: &Lease, ask: &Ask<'_>, attempt: u32) -> Result<Token, OpenAiError> {
        let began = Instant::now();
        let url = &self.place(ask.endpoint).mint;
        debug!(attempt, path = url.path(), connection = lease.kind(), "asking OpenAI");
        let request = lease
            .client
            .post(url.clone())
            .bearer_auth(ask.api_key.expose_secret())
            .header(SAFETY_IDENTIFIER, ask.safety_identifier)
            .header(header::CONTENT_TYPE, "application/json")
            .body(ask.request.to_owned());
        let mut response = request.send().await?;
        if response.status().is_success() {
            let body = read(&mut response).await?.ok_or(OpenAiError::InvalidAnswer("it is over 64 KiB"))?;
            self.connection.proved(lease);
            answered(attempt, &response, began);
            return token(&body);
        }
        let body = match timeout(ERROR_BODY, read(&mut response)).await {
            Ok(Ok(Some(body))) => {
                self.connection.proved(lease);
                body
            }
            // The status says enough.
            _ => Vec::new(),
        };
        answered(attempt, &response, began);
        Err(refusal(response.status(), response.headers(), &body))
    }
}

fn answered(attempt: u32, response: &reqwest::Response, began: Instant) {
    let status = response.status();
    debug!(attempt, status = status.as_u16(), milliseconds = millis(began.elapsed()), "OpenAI answered");
}

/// When something that began at `from` has to end: after `time`, or at the deadline if that is sooner.
fn limit(from: Instant, time: Duration, deadline: Instant) -> Instant {
    from.checked_add(time).map_or(deadline, |end| end.min(deadline))
}

async fn within(
    limit: Instant,
    exchange: impl Future<Output = Result<Token, OpenAiError>>,
) -> Result<Token, OpenAiError> {
    timeout_at(limit, exchange).await.unwrap_or(Err(OpenAiError::Timeout))
}

/// The answer's body, or `None` if it is larger than any answer should be.
async fn read(response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What of a session is told to the caller. The rest is passed over: as a tree it would be half of the
/// instructions that it takes to read an answer.
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

fn token(body: &[u8]) -> Result<Token, OpenAiError> {
    /// The parts of `RealtimeCreateClientSecretResponse` that matter here (OpenAI's OpenAPI
    /// description, 2026-08-21). `session.expires_at` does not: it can be 0.
    #[derive(Deserialize)]
    struct Answer<Session> {
        value: String,
        expires_at: u64,
        #[serde(default)]
        session: Session,
    }

    // A session of another shape costs no one the token.
    let unread =
        || serde_json::from_slice(body).map(|Answer::<IgnoredAny> { value, expires_at, .. }| (value, expires_at, None));
    let read = serde_json::from_slice(body).map(|Answer { value, expires_at, session }| (value, expires_at, session));
    let Ok((value, expires_at, session)) = read.or_else(|_| unread()) else {
        return Err(OpenAiError::InvalidAnswer("it is not JSON with a value and its expiry"));
    };
    // OpenAI's browser SDK takes no key without this prefix (@openai/agents-realtime 0.20).
    let secret = value.strip_prefix("ek_").unwrap_or_default();
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(OpenAiError::InvalidAnswer("its value is no ephemeral key"));
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
        session_id: name(&session.id),
        // A transcription session has its model further in.
        model: name(&session.model).or_else(|| name(&transcription?.model)),
        voice: audio.output.and_then(|output| name(&output.voice)),
    })
}

/// A model, voice or session by name, and nothing that could be a key, a token or a prompt: these
/// reach the caller, and the model the log.
fn name(text: &Value) -> Option<String> {
    let text = text.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte));
    let secret = text.starts_with("sk-") || text.starts_with("ek_");
    (plain && !secret && (1..=128).contains(&text.len())).then(|| text.to_owned())
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> OpenAiError {
    #[derive(Default, Deserialize)]
    struct Envelope {
        error: Details,
    }

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        code: Value,
        #[serde(rename = "type")]
        kind: Value,
        param: Value,
    }

    let Envelope { error: Details { code, kind, param } } = serde_json::from_slice(body).unwrap_or_default();
    let hint = Hint { code: harmless(&code), param: harmless(&param) };
    match status.as_u16() {
        401 | 403 => OpenAiError::RejectedKey { status, hint },
        429 if code == "insufficient_quota" || kind == "insufficient_quota" => OpenAiError::OutOfQuota,
        429 => OpenAiError::Busy { retry_after: retry_after(headers) },
        408 | 500.. => {
            OpenAiError::Unavailable { status: Some(status), retry_after: retry_after(headers), source: None }
        }
        400..500 => OpenAiError::RejectedSession { status, hint },
        _ => OpenAiError::InvalidAnswer("it is a redirect, which is not followed"),
    }
}

/// Words such as `model_not_found` and `session.audio.output.voice`, and nothing that could be a
/// key, a token or a prompt.
fn harmless(text: &Value) -> Option<String> {
    let text = text.as_str()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
    (plain && !text.is_empty() && text.len() <= 64 && !text.contains("ek_")).then(|| text.to_owned())
}

/// `Retry-After` in seconds or as a date (RFC 9110, section 10.2.3), up to a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(DAY));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default().min(DAY))
}

/// Twice as long after each try, and each a half to a whole of that, so that the instances which
/// failed together do not come back together.
fn pause_after(tries: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    whole.mul_f64(0.5 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_never_the_same() {
        for _ in 0..100 {
            assert!((100..=200).contains(&pause_after(1).as_millis()));
            assert!((200..=400).contains(&pause_after(2).as_millis()));
        }
        assert_ne!(pause_after(1), pause_after(1));
    }

    #[test]
    fn every_endpoint_has_its_own_url_for_calls() {
        let tls = crate::tls::client_config(None).unwrap();
        for base in ["https://api.openai.com/v1", "https://example.openai.azure.com/openai/v1/"] {
            let openai = OpenAi::new(&base.parse().unwrap(), tls.clone()).unwrap();
            let below = |endpoint| openai.calls_url(endpoint).strip_prefix(base.trim_end_matches('/')).unwrap();
            assert_eq!(below(Endpoint::ClientSecrets), "/realtime/calls");
            assert_eq!(below(Endpoint::TranslationClientSecrets), "/realtime/translations/calls");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parsed = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(parsed("7"), Some(7));
        assert_eq!(parsed("0"), Some(0));
        assert_eq!(parsed("18446744073709551615"), Some(86_400));
        assert_eq!(parsed("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!((58..=60).contains(&parsed(&soon).unwrap()));
        for nonsense in ["", "soon", "-1", "1e9"] {
            assert_eq!(parsed(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_words_of_openai_s_own_are_fit_for_a_log() {
        for word in ["model_not_found", "session.audio.output.voice", "rate_limit_exceeded"] {
            assert_eq!(harmless(&word.into()).as_deref(), Some(word));
        }
        for secret in ["sk-proj-abc", "ek_abc", "Tell me a story", "sk_1", "", &"x".repeat(65)] {
            assert_eq!(harmless(&secret.into()), None, "{secret}");
        }
        assert_eq!(harmless(&Value::Null), None);
    }

    #[test]
    fn an_answer_is_a_token_only_with_value_and_a_future_expiry() {
        let later = clock::unix_millis() / 1000 + 60;
        let read = |body: String| token(body.as_bytes());
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

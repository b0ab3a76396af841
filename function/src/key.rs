//! The API key: fetched, kept, refreshed behind a request, forgotten when OpenAI rejects it.

use std::{
    error::Error as _,
    sync::{Arc, Mutex as StateMutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_secretsmanager::{
    Client as SecretsManager,
    error::{ProvideErrorMetadata, SdkError},
};
use ring::hmac;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};
use tracing::{Instrument, debug, info, warn};

use crate::clock::{Moment, millis};

/// After a refresh failed, none is tried for this long: the old key serves meanwhile.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// What a secret holds once it is known to be usable.
#[derive(Debug)]
pub struct Credentials {
    /// The OpenAI API key: visible ASCII, as a header takes it.
    pub api_key: SecretString,
    /// The key under which callers are hashed.
    pub identifier_key: SecretSlice<u8>,
    /// The safety identifiers of callers who get nothing any more.
    blocked: Vec<String>,
    pub read: Moment,
}

impl Credentials {
    /// Whether the operator has blocked the caller with this safety identifier. The list is in the secret, so it is as
    /// fresh as the key and costs neither a request nor a permission.
    pub fn blocks(&self, safety_identifier: &str) -> bool {
        self.blocked.iter().any(|blocked| blocked.trim().eq_ignore_ascii_case(safety_identifier))
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing says where the key is.
    #[error("neither OPENAI_SECRET_ARN nor OPENAI_API_KEY is set")]
    NotConfigured,
    /// Secrets Manager did not hand the secret out.
    #[error("the secret cannot be read ({0})")]
    Unreadable(String),
    /// The secret was read, and there is no key in it.
    #[error("the secret holds no key: {0}")]
    Unusable(&'static str),
}

/// The key, and how to come by it.
#[derive(Debug)]
pub struct Key {
    source: Source,
    ttl: Duration,
    state: StateMutex<State>,
    /// Held by whoever is fetching, so that one fetch serves all who wait.
    fetching: Arc<Mutex<()>>,
}

/// Where the key comes from.
#[derive(Debug)]
pub enum Source {
    /// A secret, by its ARN or name.
    SecretsManager {
        client: SecretsManager,
        id: String,
    },
    Given(SecretString),
    /// Nothing is configured: every request is refused.
    Nowhere,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<Credentials>>,
    refresh_failed: Option<Moment>,
}

impl Key {
    /// A key that is read again, behind a request, once it is older than `ttl`.
    #[must_use]
    pub fn new(source: Source, ttl: Duration) -> Self {
        Self { source, ttl, state: StateMutex::default(), fetching: Arc::default() }
    }

    /// The key at hand. Only where there is none does this wait for Secrets Manager; one that is
    /// older than its time to live serves on while a new one is fetched.
    ///
    /// # Errors
    /// If there is no key at hand, and none can be had. The next call tries again.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Credentials>, KeyError> {
        match self.held() {
            Some(held) => {
                if held.read.elapsed() > self.ttl {
                    self.refresh();
                }
                Ok(held)
            }
            None => self.fetch_unless_held(None).await,
        }
    }

    /// A key other than `rejected`, which OpenAI does not take: `rejected` is forgotten and the
    /// secret is read again. `None` if it still holds the same key.
    ///
    /// # Errors
    /// If the secret cannot be read, or holds no key.
    pub async fn other_than(&self, rejected: &Arc<Credentials>) -> Result<Option<Arc<Credentials>>, KeyError> {
        if !matches!(self.source, Source::SecretsManager { .. }) {
            return Ok(None);
        }
        debug!("OpenAI rejected the key: reading the secret again");
        let fresh = self.fetch_unless_held(Some(rejected)).await?;
        Ok((fresh.api_key.expose_secret() != rejected.api_key.expose_secret()).then_some(fresh))
    }

    /// Waits for a refresh that is running, so that it is not frozen halfway and its list of blocked
    /// callers counts, but no longer than `patience`.
    pub async fn wait_for_refresh(&self, patience: Duration) {
        let _ = timeout(patience, self.fetching.lock()).await;
    }

    async fn fetch_unless_held(&self, rejected: Option<&Arc<Credentials>>) -> Result<Arc<Credentials>, KeyError> {
        let _fetching = self.fetching.lock().await;
        {
            // Someone else may have fetched while this one waited.
            let mut state = self.state();
            match &state.held {
                Some(held) if rejected.is_none_or(|rejected| !Arc::ptr_eq(held, rejected)) => {
                    return Ok(Arc::clone(held));
                }
                _ => state.held = None,
            }
        }
        let fetched = Arc::new(self.fetch().await?);
        self.hold(Arc::clone(&fetched));
        Ok(fetched)
    }

    /// Fetches in a task of its own, unless that is being done, or failed a moment ago.
    fn refresh(self: &Arc<Self>) {
        let cooling_down = self.state().refresh_failed.is_some_and(|failed| failed.elapsed() < COOL_DOWN);
        if cooling_down {
            return;
        }
        if let Ok(fetching) = Arc::clone(&self.fetching).try_lock_owned() {
            debug!("the cached key is older than KEY_TTL_SECONDS: reading the secret in the background");
            tokio::spawn(Arc::clone(self).refresh_alone(fetching).in_current_span());
        }
    }

    async fn refresh_alone(self: Arc<Self>, _fetching: OwnedMutexGuard<()>) {
        match self.fetch().await {
            Ok(fetched) => self.hold(Arc::new(fetched)),
            Err(error) => {
                warn!(%error, "the key could not be refreshed, the old one serves on");
                self.state().refresh_failed = Some(Moment::now());
            }
        }
    }

    async fn fetch(&self) -> Result<Credentials, KeyError> {
        match &self.source {
            Source::SecretsManager { client, id } => {
                // In a box, since hardly a request asks: each would be moved about with 3 KB more, 2 % of a mint.
                let began = Instant::now();
                let asking = Box::pin(client.get_secret_value().secret_id(id).send());
                let answer = asking.await.map_err(|error| unreadable(&error))?;
                let secret = answer.secret_string.ok_or(KeyError::Unusable("it is binary, not text"))?;
                let credentials = parse(&SecretString::from(secret))?;
                info!(milliseconds = millis(began.elapsed()), "the key was read from Secrets Manager");
                Ok(credentials)
            }
            Source::Given(key) => credentials(key.expose_secret(), None),
            Source::Nowhere => Err(KeyError::NotConfigured),
        }
    }

    /// The key at hand, if there is one, without a look at its age.
    #[must_use]
    pub fn held(&self) -> Option<Arc<Credentials>> {
        self.state().held.clone()
    }

    fn hold(&self, credentials: Arc<Credentials>) {
        *self.state() = State { held: Some(credentials), refresh_failed: None };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret's text: a JSON object with `OPENAI_API_KEY` and, if it likes, `SAFETY_IDENTIFIER_KEY` and
/// a list of `BLOCKED_CALLERS`, or just the key.
fn parse(secret: &SecretString) -> Result<Credentials, KeyError> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "OPENAI_API_KEY")]
        api_key: Option<String>,
        #[serde(rename = "SAFETY_IDENTIFIER_KEY")]
        identifier_key: Option<String>,
        #[serde(rename = "BLOCKED_CALLERS")]
        blocked: Option<Vec<String>>,
    }

    if !secret.expose_secret().trim_start().starts_with('{') {
        return credentials(secret.expose_secret(), None);
    }
    // serde's own words may quote the secret, so they are left out.
    let fields: Fields = serde_json::from_str(secret.expose_secret()).map_err(|_| {
        KeyError::Unusable("it begins with {, but is not a JSON object with text fields and lists of text")
    })?;
    let api_key = fields.api_key.ok_or(KeyError::Unusable("its JSON has no field OPENAI_API_KEY"))?;
    let (api_key, identifier_key) = (SecretString::from(api_key), fields.identifier_key.map(SecretString::from));
    let read = credentials(api_key.expose_secret(), identifier_key.as_ref().map(ExposeSecret::expose_secret))?;
    Ok(Credentials { blocked: fields.blocked.unwrap_or_default(), ..read })
}

fn credentials(api_key: &str, identifier_key: Option<&str>) -> Result<Credentials, KeyError> {
    let text = api_key.trim();
    if text.is_empty() {
        return Err(KeyError::Unusable("the key is empty"));
    }
    // So a placeholder that is a sentence is told from a key.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::Unusable("what stands in the key's place has spaces or characters that no key has"));
    }
    let identifier_key = match identifier_key.map(str::trim).filter(|key| !key.is_empty()) {
        Some(key) => key.as_bytes().to_vec(),
        // Derived, so that it is as secret as the API key without being it.
        None => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
            hmac::sign(&key, b"token-mint safety identifier").as_ref().to_vec()
        }
    };
    Ok(Credentials {
        api_key: text.into(),
        identifier_key: identifier_key.into(),
        blocked: Vec::new(),
        read: Moment::now(),
    })
}

/// AWS's code, or what kept the call from getting one. Never a response's body: it may be the secret.
fn unreadable<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> KeyError {
    let cause = match error {
        SdkError::ServiceError(refused) => refused.err().code().unwrap_or("an error without a code").to_owned(),
        SdkError::ResponseError(_) => "its answer makes no sense".to_owned(),
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(_) => {
            let causes = std::iter::successors(error.source(), |cause| (*cause).source());
            causes.last().map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => "the request could not be made".to_owned(),
    };
    KeyError::Unreadable(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(secret: &str) -> Result<(String, String), String> {
        let credentials = parse(&SecretString::from(secret)).map_err(|error| error.to_string())?;
        let identifier_key = String::from_utf8_lossy(credentials.identifier_key.expose_secret()).into_owned();
        Ok((credentials.api_key.expose_secret().to_owned(), identifier_key))
    }

    #[test]
    fn a_secret_is_json_or_just_the_key() {
        assert_eq!(read(r#"{"OPENAI_API_KEY": " sk-a\n", "SAFETY_IDENTIFIER_KEY": " b ", "note": 1}"#), {
            Ok(("sk-a".to_owned(), "b".to_owned()))
        });
        assert_eq!(read(" sk-a\r\n").unwrap().0, "sk-a");
        assert_eq!(read("\n{\"OPENAI_API_KEY\": \"sk-a\"}").unwrap().0, "sk-a");
    }

    #[test]
    fn without_an_identifier_key_one_is_derived_that_is_not_the_api_key() {
        let derived = read("sk-a").unwrap().1;
        assert_eq!(derived, read(r#"{"OPENAI_API_KEY": "sk-a", "SAFETY_IDENTIFIER_KEY": ""}"#).unwrap().1);
        assert_ne!(derived, read("sk-b").unwrap().1);
        assert_ne!(derived, "sk-a");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_quoted() {
        for (secret, sentence) in [
            ("", "the key is empty"),
            (" \n", "the key is empty"),
            (r#"{"OPENAI_API_KEY": " "}"#, "the key is empty"),
            (r#"{"SAFETY_IDENTIFIER_KEY": "hunter2"}"#, "its JSON has no field OPENAI_API_KEY"),
            (r#"{"OPENAI_API_KEY": "not set yet: run make key"}"#, "has spaces"),
            ("sk-hunter2\nsk-b", "has spaces"),
            ("sk-hunter2\u{e9}", "has spaces or characters"),
            (r#"{"OPENAI_API_KEY": "sk-hunter2""#, "but is not a JSON object"),
            (r#"{"OPENAI_API_KEY": "sk-hunter2", "BLOCKED_CALLERS": "all"}"#, "lists of text"),
            (r#"{"OPENAI_API_KEY": 5}"#, "but is not a JSON object"),
        ] {
            let error = read(secret).expect_err(secret);
            assert!(error.contains(sentence), "{secret}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_blocked_caller_is_one_in_the_secret_s_list() {
        let list = r#"{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": ["0a1b", " 2C3D\n"]}"#;
        let credentials = parse(&list.into()).unwrap();
        assert_eq!(
            ["0a1b", "2c3d", "0a1", "", "0a1b2c3d"].map(|caller| credentials.blocks(caller)),
            [true, true, false, false, false]
        );
        for none in ["sk-a", r#"{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": null}"#] {
            assert!(!parse(&none.into()).unwrap().blocks("0a1b"));
        }
    }

    #[test]
    fn nothing_that_holds_a_key_prints_it() {
        let key = Key::new(Source::Given("sk-hunter2".into()), Duration::ZERO);
        let credentials = parse(&r#"{"OPENAI_API_KEY": "sk-hunter2", "SAFETY_IDENTIFIER_KEY": "hunter2"}"#.into());
        let debug = format!("{key:?} {:?}", credentials.unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

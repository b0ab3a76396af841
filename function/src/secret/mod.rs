//! The secret with the API key: fetched, kept, refreshed in the background, dropped when OpenAI rejects the key.

mod contents;

use std::{
    error::Error as _,
    sync::{Arc, Mutex as StateMutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client as SecretsManager,
    error::{ProvideErrorMetadata, SdkError},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};
use tracing::{Instrument, debug, info, warn};

pub(crate) use self::contents::Secret;
use self::contents::Unusable;
use crate::net::clock::{Moment, millis};

/// The pause after a failed refresh. The old key stays in use.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The configuration names neither a secret nor a key.
    #[error("neither OPENAI_SECRET_ARN nor OPENAI_API_KEY is set")]
    NotConfigured,
    /// Secrets Manager did not return the secret: its error code, or the failure of the call.
    #[error("the secret cannot be read ({0})")]
    Unreadable(String),
    /// The secret was read, but has no usable key.
    #[error("the secret contains no key: {0}")]
    Unusable(Unusable),
}

/// The secret, and how it is fetched.
#[derive(Debug)]
pub(crate) struct SecretStore {
    source: Source,
    /// For [`Source::SecretsManager`].
    client: Option<SecretsManager>,
    ttl: Duration,
    state: StateMutex<State>,
    /// Held during a fetch, so that one fetch serves all requests that wait for it.
    fetching: Arc<Mutex<()>>,
}

/// The source of the API key.
#[derive(Debug)]
pub enum Source {
    /// A secret in AWS Secrets Manager, by its ARN or name.
    SecretsManager(String),
    /// The key itself, for runs on a developer's own machine.
    Given(SecretString),
    /// Neither is configured: every request is refused.
    Nowhere,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<Secret>>,
    refresh_failed: Option<Moment>,
}

impl SecretStore {
    /// A store that reads the secret again, in the background, once it is older than `ttl`. [`Source::SecretsManager`]
    /// needs `aws`.
    pub(crate) fn new(source: Source, aws: Option<&SdkConfig>, ttl: Duration) -> Self {
        let client = aws.map(SecretsManager::new);
        Self { source, client, ttl, state: StateMutex::default(), fetching: Arc::default() }
    }

    /// The secret. Only the first call waits for Secrets Manager: a secret older than its time to live stays in use while
    /// a new one is fetched.
    ///
    /// # Errors
    /// If no secret is held, and none can be fetched. The next call tries again.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Secret>, SecretError> {
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

    /// A secret with a key other than that of `rejected`, which OpenAI does not accept: `rejected` is dropped and the
    /// secret is read again. `None` if it still has the same key.
    ///
    /// # Errors
    /// If the secret cannot be read, or has no usable key.
    pub async fn other_than(&self, rejected: &Arc<Secret>) -> Result<Option<Arc<Secret>>, SecretError> {
        if !matches!(self.source, Source::SecretsManager(_)) {
            return Ok(None);
        }
        debug!("OpenAI rejected the key: reading the secret again");
        let fresh = self.fetch_unless_held(Some(rejected)).await?;
        Ok((fresh.api_key.expose_secret() != rejected.api_key.expose_secret()).then_some(fresh))
    }

    /// Waits for a running refresh, so that it is not frozen halfway and its block list counts, but no longer than
    /// `limit`.
    pub async fn wait_for_refresh(&self, limit: Duration) {
        let _ = timeout(limit, self.fetching.lock()).await;
    }

    async fn fetch_unless_held(&self, rejected: Option<&Arc<Secret>>) -> Result<Arc<Secret>, SecretError> {
        let _fetching = self.fetching.lock().await;
        {
            // Another request may have fetched it meanwhile.
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

    /// Fetches in a task of its own, unless a fetch is running, or failed less than [`COOL_DOWN`] ago.
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
                warn!(%error, "the key could not be refreshed; the old one stays in use");
                self.state().refresh_failed = Some(Moment::now());
            }
        }
    }

    async fn fetch(&self) -> Result<Secret, SecretError> {
        match (&self.source, &self.client) {
            (Source::SecretsManager(id), Some(client)) => {
                let began = Instant::now();
                // Boxed because this branch is rare: inline it would add 3 KB to every request's future, 2 % of a mint.
                let asking = Box::pin(client.get_secret_value().secret_id(id).send());
                let answer = asking.await.map_err(|error| unreadable(&error))?;
                let text = answer.secret_string.ok_or(SecretError::Unusable(Unusable("it is binary, not text")))?;
                let secret = contents::parse(&SecretString::from(text)).map_err(SecretError::Unusable)?;
                info!(milliseconds = millis(began.elapsed()), "the key was read from Secrets Manager");
                Ok(secret)
            }
            (Source::Given(key), _) => contents::from_keys(key.expose_secret(), None).map_err(SecretError::Unusable),
            (Source::SecretsManager(_), None) | (Source::Nowhere, _) => Err(SecretError::NotConfigured),
        }
    }

    /// The secret that is held, whatever its age.
    pub fn held(&self) -> Option<Arc<Secret>> {
        self.state().held.clone()
    }

    fn hold(&self, secret: Arc<Secret>) {
        *self.state() = State { held: Some(secret), refresh_failed: None };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// AWS's error code, or the reason why there is none. Never the body of a response: it may be the secret.
fn unreadable<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> SecretError {
    let cause = match error {
        SdkError::ServiceError(refused) => refused.err().code().unwrap_or("an error without a code").to_owned(),
        SdkError::ResponseError(_) => "its answer is malformed".to_owned(),
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(_) => {
            let causes = std::iter::successors(error.source(), |cause| (*cause).source());
            causes.last().map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => "the request could not be made".to_owned(),
    };
    SecretError::Unreadable(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_contains_no_key() {
        let store = SecretStore::new(Source::Given("sk-hunter2".into()), None, Duration::ZERO);
        let secret = contents::parse(&r#"{"OPENAI_API_KEY": "sk-hunter2", "SAFETY_IDENTIFIER_KEY": "hunter2"}"#.into());
        let debug = format!("{store:?} {:?}", secret.unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

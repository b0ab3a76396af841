//! The end of one call at OpenAI.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::record::Record;
use crate::{
    net::clock,
    openai::{HungUp, OpenAi, OpenAiError},
    secret::{Rejection, Secret, SecretError, SecretStore},
};

/// OpenAI ends every session after 60 minutes. A minute later, nothing of it is left.
const LONGEST_SESSION: u64 = 3_660;

/// Ends calls with the key that made them, or with the current one if that key was revoked.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub openai: Arc<OpenAi>,
    pub secret: Arc<SecretStore>,
    /// The configured base URL, for calls whose origin no key proves.
    pub base_url: String,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Over {
    /// It was hung up.
    HungUp,
    /// It was over before.
    Gone,
}

/// Why a call is not known to be over. The causes never contain a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HangUpError {
    #[error("there is no API key")]
    NoKey(#[source] SecretError),
    #[error("the secret was not read in time")]
    NoKeyInTime,
    #[error("OpenAI did not end it")]
    Failed(#[source] OpenAiError),
    #[error("OpenAI knows no such call, but this key did not make it: the key or the base URL has changed")]
    NotOurs,
}

impl Receiver {
    pub fn new(openai: Arc<OpenAi>, secret: Arc<SecretStore>, base_url: &Url) -> Self {
        Self { openai, secret, base_url: base_url.as_str().trim_end_matches('/').to_owned() }
    }

    /// Ends a call. One without OpenAI's name has never been answered, so that no browser could connect to it: there is
    /// nothing to end.
    ///
    /// # Errors
    /// If the call is not known to be over.
    pub async fn hang_up(&self, record: &Record, deadline: Instant) -> Result<Over, HangUpError> {
        let Some(id) = &record.id else { return Ok(Over::Gone) };
        let current = timeout_at(deadline, self.secret.current()).await.map_err(|_| HangUpError::NoKeyInTime)?;
        let mut current = current.map_err(HangUpError::NoKey)?;
        // The key may have changed since this process has read it.
        if record.made.as_ref().is_some_and(|made| !made.is_by(&current.api_key))
            && let Some(newest) = self.other_than(&current, Rejection::Invalid, deadline).await
        {
            current = newest;
        }
        let Origin { base_url, key, mut is_proven } = self.origin(record, &current, deadline).await;
        let mut answer = self.openai.hang_up(&base_url, &key, id, deadline).await;
        // The key may have been revoked. Another key of its project can end the call too, at the URL that the first key has proved.
        if let Err(OpenAiError::RejectedKey(refused)) = &answer {
            let is_current = key.expose_secret() == current.api_key.expose_secret();
            let other = if is_current {
                self.other_than(&current, Rejection::by(Some(refused.status)), deadline).await
            } else {
                Some(current)
            };
            if let Some(other) = other {
                is_proven = false;
                answer = self.openai.hang_up(&base_url, &other.api_key, id, deadline).await;
            }
        }
        match answer {
            Ok(HungUp::Ended) => Ok(Over::HungUp),
            Ok(HungUp::Unknown) if is_proven => Ok(Over::Gone),
            Ok(HungUp::Unknown) | Err(_) if clock::unix_seconds() > record.began.saturating_add(LONGEST_SESSION) => {
                Ok(Over::Gone)
            }
            Ok(HungUp::Unknown) => Err(HangUpError::NotOurs),
            Err(error) => Err(HangUpError::Failed(error)),
        }
    }

    /// The server that has the call, and the key that made it. A key is sent to the URL in the record
    /// only if a key of this secret proves that URL.
    async fn origin(&self, record: &Record, current: &Secret, deadline: Instant) -> Origin {
        let proven = |key: &SecretString| {
            let made = record.made.as_ref().filter(|made| made.is_by(key))?;
            Some(Origin { base_url: made.base_url.clone(), key: key.clone(), is_proven: true })
        };
        let known = proven(&current.api_key).or_else(|| current.previous_api_key.as_ref().and_then(proven));
        if let Some(origin) = known {
            return origin;
        }
        // A secret that was changed by hand does not name the previous key.
        let former = timeout_at(deadline, self.secret.former_key()).await.ok().flatten();
        former.as_ref().and_then(proven).unwrap_or_else(|| Origin {
            base_url: self.base_url.clone(),
            key: current.api_key.clone(),
            is_proven: false,
        })
    }

    async fn other_than(&self, secret: &Arc<Secret>, rejection: Rejection, deadline: Instant) -> Option<Arc<Secret>> {
        timeout_at(deadline, self.secret.other_than(secret, rejection)).await.ok()?.ok().flatten()
    }
}

/// Where a call is ended, and with which key.
struct Origin {
    base_url: String,
    key: SecretString,
    /// Whether this key made the call there.
    is_proven: bool,
}

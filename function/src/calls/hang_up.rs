//! The end of one call at OpenAI.

use std::sync::Arc;

use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::record::Record;
use crate::{
    net::clock,
    openai::{HungUp, OpenAi, OpenAiError},
    secret::{Rejection, SecretError, SecretStore},
};

/// OpenAI ends every session after 60 minutes. A minute later, nothing of it is left.
const LONGEST_SESSION: u64 = 3_660;

/// Ends calls with the key that made them.
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
        if record.made.as_ref().is_some_and(|made| !made.is_by(&current.api_key)) {
            let newest = timeout_at(deadline, self.secret.other_than(&current, Rejection::Invalid)).await;
            if let Ok(Ok(Some(newest))) = newest {
                current = newest;
            }
        }
        let made_by = |key: &SecretString| record.made.as_ref().filter(|made| made.is_by(key));
        let former;
        let (base_url, key, is_proven) = if let Some(made) = made_by(&current.api_key) {
            (made.base_url.as_str(), &current.api_key, true)
        } else {
            former = timeout_at(deadline, self.secret.former_key()).await.ok().flatten();
            match former.as_ref().and_then(|key| Some((made_by(key)?, key))) {
                Some((made, key)) => (made.base_url.as_str(), key, true),
                None => (self.base_url.as_str(), &current.api_key, false),
            }
        };
        match self.openai.hang_up(base_url, key, id, deadline).await {
            Ok(HungUp::Ended) => Ok(Over::HungUp),
            Ok(HungUp::Unknown) if is_proven => Ok(Over::Gone),
            Ok(HungUp::Unknown) | Err(_) if clock::unix_seconds() > record.began.saturating_add(LONGEST_SESSION) => {
                Ok(Over::Gone)
            }
            Ok(HungUp::Unknown) => Err(HangUpError::NotOurs),
            Err(error) => Err(HangUpError::Failed(error)),
        }
    }
}

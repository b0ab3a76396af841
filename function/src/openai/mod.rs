//! OpenAI's Realtime API: one mint, with its retries.

mod client_secret;
mod endpoint;
mod error;

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderName, header};
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use url::Url;

pub use self::{
    client_secret::Token,
    endpoint::Endpoint,
    error::{ErrorCode, OpenAiError},
};
use self::{endpoint::Urls, error::from_response};
use crate::net::{
    clock::millis,
    connection::{Connection, Lease},
    retry::{Policy, Retries, Retryable},
};

/// The limit of one attempt. Mints take a fraction of a second; one that takes longer than this is more likely lost than
/// slow.
const ATTEMPT: Duration = Duration::from_secs(10);

/// The longest silence on a reused connection before the request is also sent over a new one. The old connection may have
/// died while the process was frozen, or OpenAI may only be slow. The first answer counts; the other token is dropped
/// unused, which is free.
const PATIENCE: Duration = Duration::from_secs(1);

/// Three tries, each of which may use a reused connection that turns out dead, while there is time for another attempt.
const POLICY: Policy = Policy { max_tries: 3, worth_an_attempt: Duration::from_millis(500) };

/// The largest response that is read, in bytes. A real one is under 2 KiB.
const MAX_ANSWER: usize = 64 * 1024;

const SAFETY_IDENTIFIER: HeaderName = HeaderName::from_static("openai-safety-identifier");

/// How long to wait for the body of an error. Its status is enough to act on.
const ERROR_BODY: Duration = Duration::from_secs(1);

/// OpenAI's Realtime API at one base URL.
#[derive(Debug)]
pub struct OpenAi {
    client_secrets: Urls,
    translation_client_secrets: Urls,
    connection: Connection,
}

/// One token to mint.
#[derive(Debug)]
pub struct MintRequest<'a> {
    /// The kind of token, which determines the path of the request.
    pub endpoint: Endpoint,
    /// The OpenAI API key, sent as the bearer token.
    pub api_key: &'a SecretString,
    /// At most 64 characters, for the header `OpenAI-Safety-Identifier`.
    pub safety_identifier: &'a str,
    /// The body of the request: `expires_after` and `session`.
    pub body: &'a str,
}

/// The cost of an answer.
#[derive(Debug, Default)]
pub struct Attempts {
    /// The number of requests that were sent, at least in part.
    pub count: u32,
    /// From the first byte sent to the last one read, pauses included.
    pub took: Duration,
    /// Whether a failed attempt may have made a token; see [`OpenAiError::made_no_token`].
    pub in_doubt: bool,
}

impl OpenAi {
    /// The API at `base_url`, for example `https://api.openai.com/v1`.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(base_url: &Url, tls: ClientConfig) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client_secrets: Urls::new(base_url, Endpoint::ClientSecrets),
            translation_client_secrets: Urls::new(base_url, Endpoint::TranslationClientSecrets),
            connection: Connection::new(tls)?,
        })
    }

    fn urls(&self, endpoint: Endpoint) -> &Urls {
        match endpoint {
            Endpoint::ClientSecrets => &self.client_secrets,
            Endpoint::TranslationClientSecrets => &self.translation_client_secrets,
        }
    }

    /// The absolute URL to which a browser posts its SDP with a token of this kind.
    #[must_use]
    pub fn calls_url(&self, endpoint: Endpoint) -> &str {
        &self.urls(endpoint).calls
    }

    /// Opens the connection ahead of the first mint.
    pub async fn warm(&self) {
        self.connection.warm(&self.client_secrets.mint).await;
    }

    /// Mints one token, retrying transient errors, until `deadline` at the latest.
    ///
    /// # Errors
    /// If no token has been minted by then, or another attempt cannot help.
    pub async fn mint(
        &self,
        request: &MintRequest<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<Token, OpenAiError> {
        let began = Instant::now();
        let minted = self.mint_with_retries(request, deadline, attempts).await;
        attempts.took = attempts.took.saturating_add(began.elapsed());
        minted
    }

    async fn mint_with_retries(
        &self,
        request: &MintRequest<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<Token, OpenAiError> {
        // Timers have a resolution of a millisecond, so a response could arrive before one that is due at once.
        if deadline <= Instant::now() {
            return Err(OpenAiError::Timeout);
        }
        let mut lease = self.connection.lease()?;
        let mut retries = Retries::new(POLICY, Some(deadline));
        loop {
            let failure = match self.attempt(&lease, request, deadline, &mut attempts.count).await {
                Err(failure) => failure,
                minted => return minted,
            };
            attempts.in_doubt |= !failure.made_no_token();
            if failure.is_transient() {
                debug!(attempt = attempts.count, error = &failure as &dyn std::error::Error, "the attempt failed");
            }
            lease = retries.after(failure, &lease, &self.connection).await?;
        }
    }

    /// One attempt: one request over a new connection, or over a reused one with a new one in reserve.
    ///
    /// While it waits for a reused connection, there is only one timer instead of one per limit, since each timer wakes up
    /// the runtime once.
    async fn attempt(
        &self,
        lease: &Lease,
        request: &MintRequest<'_>,
        deadline: Instant,
        attempts: &mut u32,
    ) -> Result<Token, OpenAiError> {
        *attempts = attempts.saturating_add(1);
        let began = Instant::now();
        let limit = earlier(began, ATTEMPT, deadline);
        let mut first = pin!(self.exchange(lease, request, *attempts));
        if !lease.reused {
            return limited(limit, first).await;
        }
        if let Ok(answered) = timeout_at(earlier(began, PATIENCE, deadline), &mut first).await {
            return answered;
        }
        if began.elapsed() < PATIENCE {
            return Err(OpenAiError::Timeout);
        }
        debug!(milliseconds = millis(PATIENCE), "no answer over the reused connection yet: also asking over a new one");
        *attempts = attempts.saturating_add(1);
        let fresh = self.connection.replace()?;
        let first = pin!(limited(limit, first));
        // Boxed because it is rare: inline it would enlarge every request's future.
        let second =
            Box::pin(limited(earlier(Instant::now(), ATTEMPT, deadline), self.exchange(&fresh, request, *attempts)));
        match select(first, second).await {
            // One of the two connections is broken. The other may still work.
            Either::Left((Err(failure), second)) if failure.needs_new_connection() => second.await,
            Either::Right((Err(failure), first)) if failure.needs_new_connection() => first.await,
            Either::Left((answered, _)) | Either::Right((answered, _)) => answered,
        }
    }

    async fn exchange(&self, lease: &Lease, request: &MintRequest<'_>, attempt: u32) -> Result<Token, OpenAiError> {
        let began = Instant::now();
        let url = &self.urls(request.endpoint).mint;
        debug!(attempt, path = url.path(), connection = lease.kind(), "asking OpenAI");
        let sent = lease
            .client
            .post(url.clone())
            .bearer_auth(request.api_key.expose_secret())
            .header(SAFETY_IDENTIFIER, request.safety_identifier)
            .header(header::CONTENT_TYPE, "application/json")
            .body(request.body.to_owned());
        let mut response = sent.send().await?;
        if response.status().is_success() {
            let body = read_body(&mut response).await?.ok_or(OpenAiError::InvalidAnswer("it is over 64 KiB"))?;
            self.connection.mark_healthy(lease);
            log_response(attempt, &response, began);
            return client_secret::parse(&body);
        }
        let body = match timeout(ERROR_BODY, read_body(&mut response)).await {
            Ok(Ok(Some(body))) => {
                self.connection.mark_healthy(lease);
                body
            }
            // The status is enough.
            _ => Vec::new(),
        };
        log_response(attempt, &response, began);
        Err(from_response(response.status(), response.headers(), &body))
    }
}

fn log_response(attempt: u32, response: &reqwest::Response, began: Instant) {
    let status = response.status();
    debug!(attempt, status = status.as_u16(), milliseconds = millis(began.elapsed()), "OpenAI answered");
}

/// The end of a limit that began at `from`, or the deadline if that is earlier.
fn earlier(from: Instant, time: Duration, deadline: Instant) -> Instant {
    from.checked_add(time).map_or(deadline, |end| end.min(deadline))
}

async fn limited(
    limit: Instant,
    exchange: impl Future<Output = Result<Token, OpenAiError>>,
) -> Result<Token, OpenAiError> {
    timeout_at(limit, exchange).await.unwrap_or(Err(OpenAiError::Timeout))
}

/// The body of a response, or `None` if it is over [`MAX_ANSWER`].
async fn read_body(response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The retries of a mint.
#[cfg(test)]
pub(crate) fn describe_retries() -> serde_json::Value {
    crate::net::retry::describe(POLICY, error::pause_bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_its_own_url_for_calls() {
        let tls = crate::net::tls::client_config(None).unwrap();
        for base in ["https://api.openai.com/v1", "https://example.openai.azure.com/openai/v1/"] {
            let openai = OpenAi::new(&base.parse().unwrap(), tls.clone()).unwrap();
            let below = |endpoint| openai.calls_url(endpoint).strip_prefix(base.trim_end_matches('/')).unwrap();
            assert_eq!(below(Endpoint::ClientSecrets), "/realtime/calls");
            assert_eq!(below(Endpoint::TranslationClientSecrets), "/realtime/translations/calls");
        }
    }
}

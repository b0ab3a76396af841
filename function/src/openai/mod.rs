//! OpenAI's Realtime API: one mint, with its retries, and one call.

mod call;
mod client_secret;
mod endpoint;
mod error;
mod error_code;
mod exchange;
mod patience;
mod refused;
mod wait;

use std::time::Duration;

use http::header;
use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use url::Url;

use self::{
    call::CallServer,
    endpoint::Urls,
    exchange::{ERROR_BODY, SAFETY_IDENTIFIER, log_response, read_body},
    patience::{BRIEF, Patience},
    refused::Body,
};
pub use self::{
    call::{CallError, CallRequest, HungUp, MadeCall},
    client_secret::Token,
    endpoint::Endpoint,
    error::OpenAiError,
    error_code::ErrorCode,
    exchange::Attempts,
    refused::Refused,
};
use crate::{
    net::{
        clock::millis,
        connection::{Connection, Lease, Warmed},
        retry::{Policy, Retries, Retryable},
    },
    profile::Kind,
};

/// Three tries, each of which may use a reused connection that turns out dead, while there is time for another attempt.
const POLICY: Policy = Policy { max_tries: 3, worth_an_attempt: WORTH_AN_ATTEMPT };

/// The time that must be left for an attempt.
pub const WORTH_AN_ATTEMPT: Duration = Duration::from_millis(500);

/// The start of OpenAI's tokens. OpenAI's browser SDK refuses a key without it (@openai/agents-realtime 0.20).
pub const TOKEN_PREFIX: &str = "ek_";

/// OpenAI's Realtime API at one base URL.
#[derive(Debug)]
pub struct OpenAi {
    client_secrets: Urls,
    translation_client_secrets: Urls,
    connection: Connection,
    token_prefix: String,
    patience: Patience,
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
            token_prefix: TOKEN_PREFIX.to_owned(),
            patience: Patience::default(),
        })
    }

    /// Accepts only tokens that start with `prefix`, in place of `ek_`. An empty one accepts every plausible token.
    #[must_use]
    pub fn with_token_prefix(self, prefix: String) -> Self {
        Self { token_prefix: prefix, ..self }
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

    /// The absolute URL of the WebSocket on which a token of this kind opens its session.
    #[must_use]
    pub fn socket_url(&self, kind: Kind, model: Option<&str>) -> String {
        endpoint::socket_url(&self.urls(kind.into()).socket, kind, model)
    }

    /// Opens the connection ahead of the first mint, which is a brief one if this takes too long: the instance is busy
    /// meanwhile.
    pub async fn warm(&self) {
        if self.connection.warm(&self.client_secrets.mint).await == Warmed::TimedOut {
            self.patience.not_answered(self.patience.limit());
        }
    }

    /// Mints one token, retrying transient errors, for as long as `patience.rs` allows and until `deadline` at the latest.
    ///
    /// A request that is only slow is never sent a second time: that would mint a second token, and use up the rate limit
    /// twice as fast. An attempt therefore has no limit of its own.
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
        let limit = self.patience.limit();
        // A second mint, with another key, has the rest of the time.
        let end = began.checked_add(limit.saturating_sub(attempts.took)).map_or(deadline, |end| end.min(deadline));
        let minted = self.mint_with_retries(request, end, attempts).await;
        let took = began.elapsed();
        match &minted {
            // Otherwise the invocation had little time left, which says nothing about OpenAI.
            Err(OpenAiError::Timeout) if took.saturating_add(POLICY.worth_an_attempt) >= BRIEF => {
                debug!(milliseconds = millis(took), "OpenAI did not answer in time");
                self.patience.not_answered(limit);
            }
            Err(OpenAiError::Timeout | OpenAiError::Unreachable(_)) => {}
            Ok(_) | Err(_) => self.patience.answered(),
        }
        attempts.took = attempts.took.saturating_add(took);
        minted
    }

    /// Makes a call, until `deadline` at the latest.
    ///
    /// # Errors
    /// If there is no call, or none that can be used.
    pub async fn call(
        &self,
        request: &CallRequest<'_>,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<MadeCall, CallError> {
        self.call_server().make(request, deadline, attempts).await
    }

    /// Ends a call at the server that made it, with a second try after a transient error.
    ///
    /// # Errors
    /// If it is not known to be over.
    pub async fn hang_up(
        &self,
        base_url: &str,
        api_key: &SecretString,
        id: &str,
        deadline: Instant,
    ) -> Result<HungUp, OpenAiError> {
        self.call_server().hang_up(base_url, api_key, id, deadline).await
    }

    fn call_server(&self) -> CallServer<'_> {
        CallServer { connection: &self.connection, base: &self.client_secrets.mint, calls: &self.client_secrets.calls }
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
            attempts.count = attempts.count.saturating_add(1);
            let mut sent = true;
            let exchange = timeout_at(deadline, self.exchange(&lease, request, attempts.count, &mut sent)).await;
            let failure = match exchange.unwrap_or(Err(OpenAiError::Timeout)) {
                Err(failure) => failure,
                minted => return minted,
            };
            attempts.in_doubt |= sent && lease.has_connected() && !failure.made_no_token();
            if failure.is_transient() {
                debug!(attempt = attempts.count, error = &failure as &dyn std::error::Error, "the attempt failed");
            }
            lease = retries.after(failure, &lease, &self.connection).await?;
        }
    }

    /// Sends a request over `lease`. `sent` becomes false if the connection could not be made.
    async fn exchange(
        &self,
        lease: &Lease,
        request: &MintRequest<'_>,
        attempt: u32,
        sent: &mut bool,
    ) -> Result<Token, OpenAiError> {
        let began = Instant::now();
        let url = &self.urls(request.endpoint).mint;
        debug!(attempt, path = url.path(), connection = lease.kind(), "asking OpenAI");
        let asked = lease
            .client
            .post(url.clone())
            .bearer_auth(request.api_key.expose_secret())
            .header(SAFETY_IDENTIFIER, request.safety_identifier)
            .header(header::CONTENT_TYPE, "application/json")
            // Without it, a server or a proxy may compress its answer, and nothing here decompresses one.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(request.body.to_owned());
        let mut response = asked.send().await.inspect_err(|error| *sent = !error.is_connect())?;
        let status = response.status();
        let body = if status.is_success() {
            read_body(&mut response).await?
        } else {
            // The status is enough to act on.
            let read = timeout(ERROR_BODY, read_body(&mut response)).await;
            read.ok().and_then(Result::ok).unwrap_or(Body::Incomplete)
        };
        if let Body::Whole(_) = body {
            self.connection.mark_healthy(lease);
        }
        log_response(attempt, &response, began);
        if !status.is_success() {
            return Err(OpenAiError::from_response(status, response.headers(), &body));
        }
        match body.fault() {
            Some(fault) => Err(OpenAiError::InvalidAnswer(fault)),
            None => client_secret::parse(body.bytes(), &self.token_prefix, request.api_key),
        }
    }
}

/// The retries of a mint, and the limits of its time, in seconds.
#[cfg(test)]
pub(crate) fn describe_retries() -> serde_json::Value {
    let mut described = crate::net::retry::describe(POLICY, error::pause_bounds);
    for (name, time) in [
        ("longest_wait", error::LONGEST_WAIT),
        ("connect_timeout", crate::net::connection::CONNECT_TIMEOUT),
        ("full_limit", patience::FULL),
        ("brief_limit", BRIEF),
        ("memory", patience::MEMORY),
    ] {
        described[name] = time.as_secs_f64().into();
    }
    described["brief_mints"] = patience::BRIEF_MINTS.into();
    described
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

    /// The queries are those of OpenAI's guides to WebSockets, transcription and translation (2026-11).
    #[test]
    fn every_kind_of_session_has_its_own_url_for_websockets() {
        let tls = crate::net::tls::client_config(None).unwrap();
        let url =
            |base: &str, kind, model| OpenAi::new(&base.parse().unwrap(), tls.clone()).unwrap().socket_url(kind, model);
        let openai = "https://api.openai.com/v1";
        for (base, kind, model, expected) in [
            (
                openai,
                Kind::Realtime,
                Some("gpt-realtime-2.1"),
                "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1",
            ),
            (openai, Kind::Realtime, None, "wss://api.openai.com/v1/realtime"),
            (
                openai,
                Kind::Transcription,
                Some("gpt-transcribe"),
                "wss://api.openai.com/v1/realtime?intent=transcription",
            ),
            (openai, Kind::Translation, Some("t"), "wss://api.openai.com/v1/realtime/translations?model=t"),
            (
                "https://a.example:8443/openai/v1/",
                Kind::Realtime,
                Some("a/b:c"),
                "wss://a.example:8443/openai/v1/realtime?model=a%2Fb%3Ac",
            ),
            ("http://127.0.0.1:8081/v1", Kind::Realtime, Some("m"), "ws://127.0.0.1:8081/v1/realtime?model=m"),
        ] {
            assert_eq!(url(base, kind, model), expected);
        }
    }
}

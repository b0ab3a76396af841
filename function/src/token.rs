//! One request in, one answer out: the order of events.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::{
    caller::Caller,
    config::Origins,
    dynamodb::TableError,
    error::Refusal,
    event::{Answer, HttpRequest, Request},
    key::{Credentials, Key},
    openai::{Ask, Effort, OpenAi, OpenAiError, Token},
    profile::{Profiles, Session},
    quota::{Quota, QuotaError, Standing},
    record::Facts,
};

/// The largest body that is looked at, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// How long a token waits for a secret that is being read. Secrets Manager takes some 20 ms.
const SETTLE: Duration = Duration::from_millis(250);

/// What minting takes.
#[derive(Debug)]
pub struct Mint {
    /// The pages that may ask.
    pub origins: Origins,
    /// The sessions that can be asked for.
    pub profiles: Profiles,
    /// The OpenAI API key.
    pub key: Arc<Key>,
    /// `None`: nothing is counted.
    pub quota: Option<Quota>,
    /// Where tokens are minted.
    pub openai: OpenAi,
}

/// A token and what is said of it.
pub struct Minted<'a> {
    token: Token,
    calls_url: &'a str,
    session: Session,
    standing: Standing,
}

impl Mint {
    /// Does ahead of the first request what it would have to wait for. What fails here is tried
    /// again there.
    pub async fn warm(&self) {
        let quota = async {
            if let Some(quota) = &self.quota {
                quota.warm().await;
            }
        };
        let (key, (), ()) = tokio::join!(self.key.current(), self.openai.warm(), quota);
        if let Err(error) = key {
            warn!(%error, "there is no key yet, the next request looks for it again");
        }
    }

    /// Mints a token for a request, until `deadline` at the latest.
    ///
    /// # Errors
    /// If the request is refused, or OpenAI mints no token.
    pub async fn mint(&self, request: &Request, deadline: Instant, facts: &mut Facts) -> Result<Minted<'_>, Refusal> {
        let request = request.http.as_ref().ok_or(Refusal::NoRequest)?;
        let session = self.admit(request)?;
        facts.profile = Some(session.profile.clone());
        facts.model.clone_from(&session.model);
        debug!(
            profile = session.profile,
            model = session.model,
            bodyBytes = request.body.len(),
            "the request is admitted"
        );

        let key = timeout_at(deadline, self.key.current()).await.map_err(|_| Refusal::KeyTooLate)?;
        let key = key.map_err(Refusal::Key)?;
        let age = *facts.key_age.insert(key.read.elapsed());
        debug!(ageSeconds = age.as_secs(), "the key is at hand");

        let caller = Caller::new(request.subject.as_deref(), request.source.as_deref());
        let identifier = caller.safety_identifier(key.identifier_key.expose_secret());
        let identifier = facts.caller.insert(identifier).as_str();
        debug!(caller = identifier, knownBy = caller.known_by(), "the caller is identified");
        if key.block(identifier) && self.newest_list_blocks(identifier).await.unwrap_or(true) {
            return Err(Refusal::CallerBlocked);
        }
        let standing = self.take(identifier, deadline, &mut facts.quota_time).await.map_err(Refusal::Quota)?;

        let mut effort = Effort::default();
        let minted = self.mint_with(key, identifier, &session, deadline, &mut effort).await;
        (facts.attempts, facts.openai_time) = (effort.attempts, effort.took);
        let token = minted.map_err(Refusal::OpenAi)?;
        if token.model.is_some() {
            facts.model.clone_from(&token.model);
        }
        if self.newest_list_blocks(identifier).await.unwrap_or(false) {
            return Err(Refusal::CallerBlocked);
        }
        let calls_url = self.openai.calls_url(session.kind.into());
        Ok(Minted { token, calls_url, session, standing })
    }

    /// A list that is read behind this very request counts for it, so that an instance that slept does
    /// not serve one more token, or refusal, by an old one. It is nearly always here before OpenAI's
    /// answer.
    async fn newest_list_blocks(&self, caller: &str) -> Option<bool> {
        self.key.settled(SETTLE).await;
        self.key.held().map(|newest| newest.block(caller))
    }

    /// Takes a token out of the caller's quota, if there are quotas.
    async fn take(&self, caller: &str, deadline: Instant, took: &mut Option<Duration>) -> Result<Standing, QuotaError> {
        let Some(quota) = &self.quota else { return Ok(Standing::default()) };
        let began = Instant::now();
        let taken = timeout_at(deadline, quota.take(caller, SystemTime::now())).await;
        *took = Some(began.elapsed());
        taken.unwrap_or(Err(QuotaError::Unavailable(TableError::Timeout)))
    }

    /// Whatever can be refused without asking anyone.
    fn admit(&self, request: &HttpRequest) -> Result<Session, Refusal> {
        if request.method != Method::POST.as_str() {
            return Err(Refusal::MethodNotAllowed);
        }
        if !self.origins.allow(&request.origins) {
            return Err(Refusal::OriginNotAllowed);
        }
        if request.body.len() > MAX_BODY {
            return Err(Refusal::RequestTooLarge);
        }
        self.profiles.session(&request.body).map_err(Refusal::InvalidRequest)
    }

    /// If OpenAI rejects the key, it is read again, and if it differs, tried once more.
    async fn mint_with(
        &self,
        key: Arc<Credentials>,
        identifier: &str,
        session: &Session,
        deadline: Instant,
        effort: &mut Effort,
    ) -> Result<Token, OpenAiError> {
        let endpoint = session.kind.into();
        let mut ask = Ask { endpoint, api_key: &key.api_key, safety_identifier: identifier, request: &session.request };
        let rejected = match self.openai.mint(&ask, deadline, effort).await {
            Err(rejected @ OpenAiError::RejectedKey { .. }) => rejected,
            settled => return settled,
        };
        match timeout_at(deadline, self.key.other_than(&key)).await {
            Ok(Ok(Some(other))) => {
                ask.api_key = &other.api_key;
                self.openai.mint(&ask, deadline, effort).await
            }
            Ok(Ok(None)) => Err(rejected),
            Ok(Err(error)) => {
                warn!(%error, "OpenAI rejected the key, and no other can be read");
                Err(rejected)
            }
            Err(_) => Err(rejected),
        }
    }
}

impl Origins {
    /// Whether a request with these `Origin` headers may be answered. Browsers send one with every
    /// cross-origin POST; who sends none is no browser, and could have sent any.
    fn allow(&self, sent: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(allowed) => sent.iter().all(|origin| allowed.contains(origin)),
        }
    }
}

impl Minted<'_> {
    /// The token, where to call with it, and never the prompt or tools that are bound to it. `value` and `expires_at` are
    /// the names that OpenAI's own samples read.
    pub fn answer(&self) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            success: bool,
            ephemeral_token: &'a str,
            session_id: Option<&'a str>,
            expires_at: u64,
            model: Option<&'a str>,
            voice: Option<&'a str>,
            calls_url: &'a str,
            message: &'static str,
            value: &'a str,
            #[serde(rename = "expires_at")]
            openai_expires_at: u64,
        }

        let Self { token, calls_url, session, standing } = self;
        let value = token.value.expose_secret();
        let body = Body {
            success: true,
            ephemeral_token: value,
            session_id: token.session_id.as_deref(),
            expires_at: token.expires_at,
            model: token.model.as_deref().or(session.model.as_deref()),
            voice: token.voice.as_deref().or(session.voice.as_deref()),
            calls_url,
            message: "Ephemeral token created successfully",
            value,
            openai_expires_at: token.expires_at,
        };
        let mut answer = Answer::json(StatusCode::OK, &body);
        answer.headers.extend(standing.headers());
        answer
    }
}

//! `POST /token`: an admitted request becomes an ephemeral key.

use std::sync::Arc;

use http::StatusCode;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    admission::{Admission, Admitted, Asked},
    api::{answer::Answer, rate_limit, refusal::Refusal, request::HttpRequest},
    openai::{Attempts, MintRequest, OpenAi, OpenAiError, Token},
    record::RequestSummary,
    routes::other_secret,
    secret::SecretStore,
};

/// Mints tokens for admitted requests.
#[derive(Debug)]
pub struct TokenRoute {
    pub openai: Arc<OpenAi>,
    pub secret: Arc<SecretStore>,
}

impl TokenRoute {
    /// Answers a request with a token, until `deadline` at the latest.
    ///
    /// # Errors
    /// If the request is not admitted, or OpenAI mints no token.
    pub async fn answer(
        &self,
        admission: &Admission,
        request: &HttpRequest,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Answer, Refusal> {
        let asked = Asked::Token(&request.body);
        let mut admitted = admission.admit(&request.applicant(), &asked, deadline, summary).await?;
        let mut attempts = Attempts::default();
        let minted = self.mint_with_fallback_key(&admitted, deadline, &mut attempts).await;
        (summary.attempts, summary.openai_time) = (attempts.count, attempts.took);
        admission.settle(&mut admitted.taken, minted.is_err() && !attempts.in_doubt, summary).await;
        let token = minted?;
        if token.model.is_some() {
            summary.model.clone_from(&token.model);
        }
        admission.recheck(&admitted, deadline).await?;
        summary.expiry_excess = token.expiry_excess(admitted.session.token_ttl);
        Ok(self.token_answer(&token, &admitted))
    }

    /// Mints with the held key. If OpenAI rejects it, the secret is read again, and a different key in it is tried once.
    async fn mint_with_fallback_key(
        &self,
        Admitted { session, caller, secret, .. }: &Admitted,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<Token, OpenAiError> {
        let endpoint = session.kind.into();
        let mut request =
            MintRequest { endpoint, api_key: &secret.api_key, safety_identifier: caller, body: &session.request };
        let rejected = match self.openai.mint(&request, deadline, attempts).await {
            Err(rejected @ OpenAiError::RejectedKey { .. }) => rejected,
            outcome => return outcome,
        };
        match other_secret(&self.secret, secret, &rejected, deadline).await {
            Some(other) => {
                request.api_key = &other.api_key;
                self.openai.mint(&request, deadline, attempts).await
            }
            None => Err(rejected),
        }
    }

    /// The token and the URLs to use it at, never the prompt or tools that are bound to it. `value` and `expires_at` are
    /// the names that OpenAI's own samples read, `token` and `url` those of the Vercel AI SDK (`ai` 7, `api.token`).
    fn token_answer(&self, token: &Token, Admitted { session, taken, .. }: &Admitted) -> Answer {
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
            token: &'a str,
            url: &'a str,
        }

        let value = token.value.expose_secret();
        let model = token.model.as_deref().or(session.model.as_deref());
        let body = Body {
            success: true,
            ephemeral_token: value,
            session_id: token.session_id.as_deref(),
            expires_at: token.expires_at,
            model,
            voice: token.voice.as_deref().or(session.voice.as_deref()),
            calls_url: self.openai.calls_url(session.kind.into()),
            message: "Ephemeral token created successfully",
            value,
            openai_expires_at: token.expires_at,
            token: value,
            url: &self.openai.socket_url(session.kind, model),
        };
        let mut answer = Answer::json(StatusCode::OK, &body);
        answer.headers.extend(rate_limit::headers(&taken.status));
        answer
    }
}

//! What outlives a request, and the way of an invocation: in as an event, through its route, out as a reply.

use std::{sync::Arc, time::Duration};

use aws_sdk_secretsmanager::Client as SecretsManager;
use http::Method;
use lambda_runtime::{Error, LambdaEvent};
use tokio::time::Instant;
use tracing::{Instrument, debug_span, warn};

use crate::{
    admission::{Admission, quota::Quota},
    aws, clock,
    config::{Config, KeySource},
    dynamodb::{NoTable, Table},
    error::Refusal,
    event::{Answer, Event, Reply, Request},
    key::{Key, Source},
    openai::OpenAi,
    profile::{Profiles, ProfilesError},
    record::{Facts, Outcome, Recorder},
    routes::token::TokenRoute,
    tls::{self, TlsError},
};

/// The longest that a request may take. API Gateway gives up after 30 s.
const BUDGET: Duration = Duration::from_secs(25);

/// How much of the invocation's own time is kept back for sending the answer.
const RESERVE: Duration = Duration::from_millis(500);

/// The path of the route for tokens.
const TOKEN: &str = "/token";

/// Everything that outlives a request.
#[derive(Debug)]
pub struct Handler {
    admission: Admission,
    token: TokenRoute,
    recorder: Recorder,
}

/// Why the handler cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file with additional trusted roots cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The quota table's region, credentials or endpoint are not configured.
    #[error(transparent)]
    Table(#[from] NoTable),
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
    /// The compiled-in profiles cannot be used, or a variable cannot be applied to them.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
}

impl Handler {
    /// Builds every client; nothing is sent yet.
    ///
    /// # Errors
    /// If the additional roots or the compiled-in profiles cannot be used.
    pub async fn new(config: Config) -> Result<Self, StartError> {
        let tls = tls::client_config(config.extra_ca_file.as_deref())?;
        let aws = match (&config.key_source, &config.quotas) {
            (KeySource::SecretsManager(_), _) | (_, Some(_)) => Some(aws::sdk_config(&tls).await?),
            _ => None,
        };
        let source = match (config.key_source, &aws) {
            (KeySource::SecretsManager(id), Some(aws)) => {
                Source::SecretsManager { client: SecretsManager::new(aws), id }
            }
            (KeySource::Given(key), _) => Source::Given(key),
            _ => Source::Nowhere,
        };
        let quota = match (config.quotas, &aws) {
            (Some(quotas), Some(aws)) => Some(Quota::new(Table::new(quotas.table, aws, tls.clone())?, quotas.limits)),
            _ => None,
        };
        let profiles = Profiles::load(config.model.as_deref(), config.voice, config.token_ttl)?;
        let key = Arc::new(Key::new(source, config.key_ttl));
        let openai = OpenAi::new(&config.base_url, tls)?;
        Ok(Self {
            admission: Admission { origins: config.allowed_origins, profiles, key: Arc::clone(&key), quota },
            token: TokenRoute { openai, key },
            recorder: Recorder::new(config.function_name),
        })
    }

    /// Does ahead of the first request what that request would have to wait for. A step that fails here is tried
    /// again with that request.
    pub async fn warm(&self) {
        let (key, (), ()) = tokio::join!(self.token.key.current(), self.token.openai.warm(), self.admission.warm());
        if let Err(error) = key {
            warn!(%error, "there is no key yet, the next request looks for it again");
        }
    }

    /// Handles one invocation.
    ///
    /// # Errors
    /// Never: every outcome is an HTTP answer. An error here would count as a crash of the function.
    pub async fn handle(self: Arc<Self>, invocation: LambdaEvent<Event>) -> Result<Reply, Error> {
        let LambdaEvent { payload: Event { form, request }, context } = invocation;
        let remaining = Duration::from_millis(context.deadline.saturating_sub(clock::unix_millis()));
        let answer = self.answer(&Request { http: request, id: context.request_id, remaining }).await;
        Ok(Reply { form, answer })
    }

    /// Answers one request, and writes its record.
    async fn answer(&self, request: &Request) -> Answer {
        let began = Instant::now();
        let budget = BUDGET.min(request.remaining.saturating_sub(RESERVE));
        let deadline = began.checked_add(budget).unwrap_or(began);
        let mut facts = Facts::default();
        // Off below DEBUG, where every line has the ID by its span.
        let span = debug_span!("request", requestId = request.id);
        match self.route(request, deadline, &mut facts).instrument(span).await {
            Ok(answer) => {
                let outcome = Outcome { status: answer.status.as_u16(), refused: None };
                self.recorder.write(&request.id, began, &facts, outcome);
                answer
            }
            Err(refusal) => {
                let answer = refusal.answer(&request.id);
                let outcome = Outcome { status: answer.status.as_u16(), refused: Some(refusal.refused()) };
                self.recorder.write(&request.id, began, &facts, outcome);
                answer
            }
        }
    }

    /// Which route does what.
    async fn route(&self, request: &Request, deadline: Instant, facts: &mut Facts) -> Result<Answer, Refusal> {
        let request = request.http.as_ref().ok_or(Refusal::NoRequest)?;
        // A test event that a person wrote at the Lambda console may have no path.
        if request.path.as_deref().is_some_and(|path| path != TOKEN) {
            return Err(Refusal::NotFound);
        }
        if request.method != Method::POST.as_str() {
            return Err(Refusal::MethodNotAllowed);
        }
        self.token.answer(&self.admission, request, deadline, facts).await
    }
}

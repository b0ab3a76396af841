//! The state that outlives a request, and the handling of an invocation: from event through route to reply.

use std::{sync::Arc, time::Duration};

use lambda_runtime::{Error, LambdaEvent};
use tokio::time::Instant;
use tracing::{Instrument, debug_span};

use crate::{
    admission::{Admission, proxy::Proxy, quota::Quota},
    api::{
        answer::{Answer, Reply},
        event::{Event, EventError},
        refusal::Refusal,
        request::HttpRequest,
    },
    aws::{
        dynamodb::{Table, TableSetupError},
        sdk,
    },
    calls::{Calls, Handle, hang_up::Receiver, keeper::Keeper},
    config::Config,
    net::{
        clock,
        tls::{self, TlsError},
    },
    openai::OpenAi,
    profile::{Profiles, ProfilesError},
    record::{Done, Outcome, Recorder, RequestSummary},
    routes::{call::CallRoute, health, token::TokenRoute},
    secret::{SecretStore, Source},
};

/// The longest that a request may take. API Gateway's own limit is 30 s.
const BUDGET: Duration = Duration::from_secs(25);

/// The part of the invocation's time that is reserved for sending the answer.
const RESERVE: Duration = Duration::from_millis(500);

const TOKEN: &str = "/token";
const CALL: &str = "/call";

/// Everything that outlives a request.
#[derive(Debug)]
pub struct Handler {
    admission: Admission,
    /// `None`: the endpoint is closed.
    token: Option<TokenRoute>,
    call: Option<CallRoute>,
    openai: Arc<OpenAi>,
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
    Table(#[from] TableSetupError),
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
    /// The compiled-in profiles cannot be used, or a variable cannot be applied to them.
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
}

impl Handler {
    /// Builds every client, without sending a request.
    ///
    /// # Errors
    /// If the additional roots or the compiled-in profiles cannot be used.
    pub async fn new(config: Config) -> Result<Self, StartError> {
        let tls = tls::client_config(config.extra_ca_file.as_deref())?;
        let aws = match (&config.key_source, &config.table) {
            (Source::SecretsManager(_), _) | (_, Some(_)) => Some(sdk::config(&tls).await?),
            _ => None,
        };
        let table = match (config.table, &aws) {
            (Some(table), Some(aws)) => Some(Arc::new(Table::new(table, aws, tls.clone())?)),
            _ => None,
        };
        let counting = table.clone().filter(|_| config.limits.any());
        let quota = counting.map(|table| Quota::new(table, config.limits));
        let calls = config.endpoints.call.then(|| Arc::new(Calls::new(table, config.call_limits)));
        let profiles = Profiles::load(config.model.as_deref(), config.voice, config.token_ttl)?;
        let secret = Arc::new(SecretStore::new(config.key_source, aws.as_ref(), config.key_ttl));
        let openai = Arc::new(OpenAi::new(&config.base_url, tls.clone())?.with_token_prefix(config.token_prefix));
        let proxy = config.proxy_address_header.map(|address_header| Proxy { address_header });
        let receiver = Receiver::new(Arc::clone(&openai), Arc::clone(&secret), &config.base_url);
        let call =
            calls.map(|calls| CallRoute { openai: Arc::clone(&openai), secret: Arc::clone(&secret), calls, receiver });
        let token =
            config.endpoints.token.then(|| TokenRoute { openai: Arc::clone(&openai), secret: Arc::clone(&secret) });
        Ok(Self {
            admission: Admission {
                origins: config.allowed_origins,
                profiles,
                secret,
                subject_claim: config.auth_subject_claim,
                proxy,
                quota,
            },
            token,
            call,
            openai,
            recorder: Recorder::new(config.function_name),
        })
    }

    /// Opens connections and fetches the key ahead of the first request. A step that fails here is tried again with
    /// that request.
    pub async fn warm(&self) {
        let calls = async {
            // With quotas, admission has opened the connection to the same table.
            if let (Some(route), None) = (&self.call, &self.admission.quota) {
                route.calls.warm().await;
            }
        };
        tokio::join!(self.admission.warm(), self.openai.warm(), calls);
    }

    /// The keeper of the calls, if they are known to this process alone: it has to end them itself.
    pub fn keeper_in_memory(&self) -> Option<Keeper> {
        let route = self.call.as_ref().filter(|route| route.calls.are_in_memory())?;
        Some(Keeper { calls: Arc::clone(&route.calls), receiver: route.receiver.clone() })
    }

    /// Handles one invocation.
    ///
    /// # Errors
    /// Never: every outcome is an HTTP answer. An error here would count as a crash of the function.
    pub async fn handle(self: Arc<Self>, invocation: LambdaEvent<Event>) -> Result<Reply, Error> {
        let LambdaEvent { payload: Event { invoker, request }, context } = invocation;
        let remaining = Duration::from_millis(context.deadline.saturating_sub(clock::unix_millis()));
        let answer = match &request {
            Ok(request) if request.is_health_check => health::answer(),
            request => self.answer(request.as_ref(), &context.request_id, remaining).await,
        };
        Ok(Reply { invoker, answer })
    }

    /// Answers one request within the invocation's `remaining` time, and writes its record.
    async fn answer(&self, request: Result<&HttpRequest, &EventError>, id: &str, remaining: Duration) -> Answer {
        let began = Instant::now();
        let budget = BUDGET.min(remaining.saturating_sub(RESERVE));
        let deadline = began.checked_add(budget).unwrap_or(began);
        let mut summary = RequestSummary::default();
        // Off below DEBUG, where every line has the ID by its span.
        let span = debug_span!("request", requestId = id);
        let outcome = async {
            let outcome = self.route(request, deadline, &mut summary).await;
            // Also after a refusal: a read of the secret that is frozen halfway is lost.
            self.admission.secret.wait_for_refresh(deadline).await;
            outcome
        };
        let outcome = outcome.instrument(span).await;
        summary.secret_fault = self.admission.secret.faults();
        match outcome {
            Ok((answer, done)) => {
                let outcome = Outcome { status: answer.status.as_u16(), end: Ok(done) };
                self.recorder.write(id, began, &summary, outcome);
                answer
            }
            Err(refusal) => {
                let answer = refusal.answer(id);
                let outcome = Outcome { status: answer.status.as_u16(), end: Err(refusal.refused()) };
                self.recorder.write(id, began, &summary, outcome);
                answer
            }
        }
    }

    /// Dispatches a request to its route, after checking the path and then the method.
    async fn route(
        &self,
        request: Result<&HttpRequest, &EventError>,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<(Answer, Done), Refusal> {
        let request = request.map_err(|error| Refusal::NoRequest(error.clone()))?;
        let is = |method: &'static str| {
            if request.method == method { Ok(()) } else { Err(Refusal::MethodNotAllowed(method)) }
        };
        let admission = &self.admission;
        // A test event from the Lambda console may have no path. The root is not a route: through a function URL, every
        // scanner that posts to `/` would cost a token.
        match request.path.as_deref().unwrap_or(TOKEN) {
            TOKEN => {
                let route = self.token.as_ref().ok_or(Refusal::NotFound)?;
                is("POST")?;
                Ok((route.answer(admission, request, deadline, summary).await?, Done::Minted))
            }
            path => {
                let route = self.call.as_ref().ok_or(Refusal::NotFound)?;
                let handle = path.strip_prefix(CALL).ok_or(Refusal::NotFound)?;
                if handle.is_empty() {
                    is("POST")?;
                    // Boxed, as the rarer branch: the future of each request has the size of the largest.
                    let answer = Box::pin(route.answer(admission, request, deadline, summary)).await?;
                    return Ok((answer, Done::CallStarted));
                }
                let handle =
                    handle.strip_prefix('/').filter(|handle| !handle.contains('/')).ok_or(Refusal::NotFound)?;
                is("DELETE")?;
                let handle = Handle::parse(handle);
                let ended = Box::pin(route.end(admission, request, handle.as_ref(), deadline, summary));
                Ok((ended.await?, Done::CallEnded))
            }
        }
    }
}

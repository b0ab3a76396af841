//! The secret with the API key: fetched, kept, and read again when it is old or OpenAI rejects the key. Until another key was
//! read, the one that is there serves.

mod block_list;
mod contents;
mod key;

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
use http::StatusCode;
use secrecy::SecretString;
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tracing::{Instrument, debug, info, warn};

use self::key::Unusable;
pub(crate) use self::{contents::Secret, key::is_placeholder};
use crate::{
    aws::code::Code,
    net::clock::{Moment, millis},
};

/// The pause after a failed read, and between two reads because OpenAI rejects the key. The old key stays in use.
const COOL_DOWN: Duration = Duration::from_secs(10);

/// How long requests wait for a read in the background, from its beginning. Secrets Manager takes some 20 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the key before the last change is used before it is read again.
const FORMER_KEPT: Duration = Duration::from_secs(60);

/// A read that takes longer was frozen with the process: the SDK gives up after 4 s.
const FROZEN: Duration = Duration::from_secs(5);

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
    fetching: Mutex<()>,
    /// The key before the last change, and when it was read.
    former: Mutex<Option<(Moment, Option<SecretString>)>>,
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

/// How OpenAI rejected a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rejection {
    /// The key is not valid.
    Invalid,
    /// The key may not be used for this request, such as for the model of one profile.
    Forbidden,
}

impl Rejection {
    /// The rejection that an answer with this status is.
    pub fn by(status: Option<StatusCode>) -> Self {
        match status {
            Some(StatusCode::FORBIDDEN) => Self::Forbidden,
            _ => Self::Invalid,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    held: Option<Arc<Secret>>,
    /// The read in the background.
    refresh: Option<Refresh>,
    /// The last read, if it failed or found no usable key.
    failed: Option<Moment>,
    /// The last read because the key is not valid.
    invalid: Option<Moment>,
    /// The last read because the key may not be used for a request. It is separate, so that a profile whose model the key
    /// may not use does not delay the reading of a new key for the others.
    forbidden: Option<Moment>,
    /// The faults of the last read, for the record.
    faults: Option<String>,
}

#[derive(Debug)]
struct Refresh {
    began: Moment,
    task: AbortHandle,
    /// Closed at its end.
    ended: watch::Receiver<()>,
}

impl SecretStore {
    /// A store that reads the secret again, in the background, once it is older than `ttl`. [`Source::SecretsManager`]
    /// needs `aws`.
    pub(crate) fn new(source: Source, aws: Option<&SdkConfig>, ttl: Duration) -> Self {
        let client = aws.map(SecretsManager::new);
        Self { source, client, ttl, state: StateMutex::default(), fetching: Mutex::default(), former: Mutex::default() }
    }

    /// The secret. Only the first call waits for Secrets Manager: a secret older than its time to live stays in use while
    /// a new one is fetched.
    ///
    /// # Errors
    /// If no secret is held, and none can be fetched. The next call tries again.
    pub async fn current(self: &Arc<Self>) -> Result<Arc<Secret>, SecretError> {
        if let Some(held) = self.held() {
            if held.read.elapsed() > self.ttl {
                self.refresh();
            }
            return Ok(held);
        }
        let _fetching = self.fetching.lock().await;
        match self.held() {
            // Another request has fetched it meanwhile.
            Some(held) => Ok(held),
            None => self.fetch().await,
        }
    }

    /// A secret with a key other than that of `rejected`, which OpenAI does not accept. The secret is read again for that,
    /// at most every 10 s. `rejected` stays in use until another key was read: the rejection may be a mistake, or hit only
    /// one profile. `None` if there is no other key.
    ///
    /// # Errors
    /// If the secret cannot be read, or has no usable key.
    pub async fn other_than(
        &self,
        rejected: &Arc<Secret>,
        rejection: Rejection,
    ) -> Result<Option<Arc<Secret>>, SecretError> {
        if !matches!(self.source, Source::SecretsManager(_)) {
            return Ok(None);
        }
        let _fetching = self.fetching.lock().await;
        let newest = match self.held() {
            // Another request, or the refresh, has read it meanwhile.
            Some(held) if !Arc::ptr_eq(&held, rejected) => held,
            _ if self.may_read_again(rejection) => {
                debug!("OpenAI rejected the key: reading the secret again");
                self.fetch().await?
            }
            _ => return Ok(None),
        };
        Ok((!newest.has_key_of(rejected)).then_some(newest))
    }

    /// The API key that the secret had before its last change, which is read once a minute at most. `None` if there is none, or
    /// it cannot be read.
    pub async fn former_key(&self) -> Option<SecretString> {
        let (Source::SecretsManager(id), Some(client)) = (&self.source, &self.client) else { return None };
        let mut former = self.former.lock().await;
        if let Some((read, key)) = former.as_ref()
            && read.elapsed() < FORMER_KEPT
        {
            return key.clone();
        }
        let asking = Box::pin(client.get_secret_value().secret_id(id).version_stage("AWSPREVIOUS").send());
        let text = asking.await.ok().and_then(|answer| answer.secret_string);
        let secret = text.and_then(|text| contents::parse(&SecretString::from(text), id, None).ok());
        let key = secret.map(|secret| secret.api_key);
        *former = Some((Moment::now(), key.clone()));
        key
    }

    /// Whether the secret may be read because of this rejection, which then counts as done.
    fn may_read_again(&self, rejection: Rejection) -> bool {
        let mut state = self.state();
        let is_recent = |read: Option<Moment>| read.is_some_and(|read| read.elapsed() < COOL_DOWN);
        let paused = match rejection {
            Rejection::Invalid => is_recent(state.invalid),
            Rejection::Forbidden => is_recent(state.forbidden) || is_recent(state.invalid),
        };
        if paused || is_recent(state.failed) {
            return false;
        }
        match rejection {
            Rejection::Invalid => state.invalid = Some(Moment::now()),
            Rejection::Forbidden => state.forbidden = Some(Moment::now()),
        }
        true
    }

    /// Waits for the read in the background, so that its block list counts and it is not frozen halfway: until `deadline`,
    /// and no longer than [`PATIENCE`] from its beginning. A read that takes longer, or fails, delays no request after that
    /// until the next one begins, [`COOL_DOWN`] later.
    pub async fn wait_for_refresh(&self, deadline: Instant) {
        let (left, mut ended) = match &self.state().refresh {
            Some(refresh) => (PATIENCE.saturating_sub(refresh.began.elapsed()), refresh.ended.clone()),
            None => return,
        };
        let limit = Instant::now().checked_add(left).map_or(deadline, |limit| limit.min(deadline));
        let _ = timeout_at(limit, ended.changed()).await;
    }

    /// Reads the secret in a task of its own, unless such a read is running, or a read failed less than [`COOL_DOWN`] ago.
    fn refresh(self: &Arc<Self>) {
        let mut state = self.state();
        if state.failed.is_some_and(|failed| failed.elapsed() < COOL_DOWN) {
            return;
        }
        if let Some(running) = &state.refresh {
            if running.began.elapsed() < FROZEN {
                return;
            }
            // Its connection may be dead.
            running.task.abort();
        }
        debug!("the cached key is older than KEY_TTL_SECONDS: reading the secret in the background");
        let (running, ended) = watch::channel(());
        let store = Arc::clone(self);
        let refresh = async move {
            let _running = running;
            let _fetching = store.fetching.lock().await;
            let _ = store.fetch().await;
            store.state().refresh = None;
        };
        let task = tokio::spawn(refresh.in_current_span()).abort_handle();
        state.refresh = Some(Refresh { began: Moment::now(), task, ended });
    }

    /// Fetches the secret and holds it. If that fails, the one before stays. `fetching` must be locked.
    async fn fetch(&self) -> Result<Arc<Secret>, SecretError> {
        let (before, began) = (self.held(), Moment::now());
        let fetched = self.read(before.as_deref()).await;
        let mut state = self.state();
        match fetched {
            Ok(mut secret) => {
                let no_key = secret.kept_key.map(SecretError::Unusable);
                if no_key.is_none() {
                    // Not the end, which may be a freeze later.
                    secret.read = began;
                }
                for fault in &secret.faults {
                    warn!(fault, "a field of the secret cannot be read; its last readable value stays in use");
                }
                if let Some(error) = &no_key {
                    warn_of_old_key(error);
                }
                let faults = no_key.iter().map(ToString::to_string);
                let faults: Vec<_> = faults.chain(secret.faults.iter().map(ToString::to_string)).collect();
                let secret = Arc::new(secret);
                state.faults = (!faults.is_empty()).then(|| faults.join("; "));
                state.failed = no_key.map(|_| Moment::now());
                state.held = Some(Arc::clone(&secret));
                Ok(secret)
            }
            Err(error) => {
                if before.is_some() {
                    warn_of_old_key(&error);
                }
                state.faults = Some(error.to_string());
                // After a freeze, the next request tries again.
                state.failed = (began.elapsed() < FROZEN).then(Moment::now);
                Err(error)
            }
        }
    }

    async fn read(&self, before: Option<&Secret>) -> Result<Secret, SecretError> {
        match (&self.source, &self.client) {
            (Source::SecretsManager(id), Some(client)) => {
                let began = Instant::now();
                // Boxed because this branch is rare: inline it would add 3 KB to every request's future, 2 % of a mint.
                let asking = Box::pin(client.get_secret_value().secret_id(id).send());
                let answer = asking.await.map_err(|error| unreadable(&error))?;
                let text = answer.secret_string.ok_or(SecretError::Unusable(Unusable("it is binary, not text")))?;
                let arn = answer.arn.as_deref().unwrap_or(id);
                let secret = contents::parse(&SecretString::from(text), arn, before).map_err(SecretError::Unusable)?;
                info!(milliseconds = millis(began.elapsed()), "the key was read from Secrets Manager");
                Ok(secret)
            }
            (Source::Given(key), _) => contents::from_key(key).map_err(SecretError::Unusable),
            (Source::SecretsManager(_), None) | (Source::Nowhere, _) => Err(SecretError::NotConfigured),
        }
    }

    /// The secret that is held, whatever its age.
    pub fn held(&self) -> Option<Arc<Secret>> {
        self.state().held.clone()
    }

    /// Why the last read failed, or which fields it could not use, while a secret is held nevertheless.
    pub fn faults(&self) -> Option<String> {
        let state = self.state();
        state.held.as_ref().and(state.faults.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_of_old_key(error: &SecretError) {
    warn!(%error, "the key could not be refreshed; the old one stays in use");
}

/// AWS's error code, or the reason why there is none. Never the body of a response: it may be the secret.
fn unreadable<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> SecretError {
    let cause = match error {
        SdkError::ServiceError(refused) => match refused.err().code().map(|code| Code::of(code).to_string()) {
            Some(code) if !code.is_empty() => code,
            _ => "an error without a code".to_owned(),
        },
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_config::Region;
    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use aws_smithy_runtime_api::{
        client::{
            http::{
                HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
                SharedHttpConnector,
            },
            orchestrator::{HttpRequest, HttpResponse},
            runtime_components::RuntimeComponents,
        },
        http::StatusCode as AwsStatus,
    };
    use aws_smithy_types::body::SdkBody;
    use secrecy::ExposeSecret;
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::{aws::sdk, net::tls};

    const SECOND: Duration = Duration::from_secs(1);

    /// The behaviour of Secrets Manager.
    #[derive(Clone, Debug)]
    enum Behaviour {
        Secret(String),
        Slow(Duration, String),
        Refuses(&'static str),
        Hangs,
    }

    /// A stand-in for Secrets Manager without a network, so that its time is tokio's.
    #[derive(Clone, Debug)]
    struct Stub {
        behaviour: Arc<StateMutex<Behaviour>>,
        reads: Arc<AtomicUsize>,
    }

    impl HttpClient for Stub {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    impl HttpConnector for Stub {
        fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let behaviour = self.behaviour.lock().unwrap().clone();
            HttpConnectorFuture::new(async move {
                let secret = |text: &str| (200, json!({"ARN": "an ARN", "SecretString": text}));
                let (status, body) = match behaviour {
                    Behaviour::Secret(text) => secret(&text),
                    Behaviour::Slow(time, text) => {
                        sleep(time).await;
                        secret(&text)
                    }
                    Behaviour::Refuses(code) => (400, json!({"__type": code, "message": "No."})),
                    Behaviour::Hangs => std::future::pending().await,
                };
                Ok(HttpResponse::new(AwsStatus::try_from(status).unwrap(), SdkBody::from(body.to_string())))
            })
        }
    }

    impl Stub {
        /// A store with this key, and its Secrets Manager.
        async fn with_key(key: &str, ttl: Duration) -> (Self, Arc<SecretStore>) {
            let stub = Self { behaviour: Arc::new(StateMutex::new(Behaviour::Hangs)), reads: Arc::default() };
            stub.put(key);
            let config = sdk::config(&tls::client_config(None).unwrap()).await.unwrap().into_builder();
            let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
            let config = config.http_client(SharedHttpClient::new(stub.clone()));
            let config = config.region(Region::new("eu-west-1")).credentials_provider(credentials).build();
            let store = Arc::new(SecretStore::new(Source::SecretsManager("an ARN".to_owned()), Some(&config), ttl));
            store.current().await.unwrap();
            assert_eq!(stub.reads(), 1);
            (stub, store)
        }

        fn set(&self, behaviour: Behaviour) {
            *self.behaviour.lock().unwrap() = behaviour;
        }

        fn put(&self, text: &str) {
            self.set(Behaviour::Secret(text.to_owned()));
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::Relaxed)
        }
    }

    fn key(secret: &Secret) -> &str {
        secret.api_key.expose_secret()
    }

    /// A request whose key OpenAI rejects: the other key, if there is one.
    async fn rejected(store: &Arc<SecretStore>, rejection: Rejection) -> Option<String> {
        let held = store.current().await.unwrap();
        let other = store.other_than(&held, rejection).await.ok().flatten();
        other.map(|other| key(&other).to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_key_serves_until_another_one_was_read() {
        for rejection in [Rejection::Invalid, Rejection::Forbidden] {
            let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
            assert_eq!(rejected(&store, rejection).await, None);
            assert_eq!((key(&store.current().await.unwrap()), stub.reads()), ("sk-old", 2));
            for broken in [Behaviour::Refuses("AccessDeniedException"), Behaviour::Hangs, Behaviour::Secret("{".into())]
            {
                stub.set(broken);
                sleep(COOL_DOWN).await;
                assert_eq!(rejected(&store, rejection).await, None);
                assert_eq!(key(&store.current().await.unwrap()), "sk-old");
                assert!(store.faults().is_some());
            }
            stub.put("sk-new");
            sleep(COOL_DOWN).await;
            assert_eq!(rejected(&store, rejection).await.as_deref(), Some("sk-new"));
            assert_eq!((key(&store.current().await.unwrap()), store.faults()), ("sk-new", None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_key_is_rejected_the_secret_is_read_every_ten_seconds_at_most() {
        for (behaviour, rejection) in [
            (Behaviour::Secret("sk-old".to_owned()), Rejection::Invalid),
            (Behaviour::Secret("sk-old".to_owned()), Rejection::Forbidden),
            (Behaviour::Secret("null".to_owned()), Rejection::Invalid),
            (Behaviour::Secret(json!({"OPENAI_API_KEY": "not set yet"}).to_string()), Rejection::Invalid),
            (Behaviour::Refuses("AccessDeniedException"), Rejection::Invalid),
        ] {
            let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
            stub.set(behaviour);
            let began = Instant::now();
            while began.elapsed() < SECOND * 59 {
                assert_eq!(rejected(&store, rejection).await, None);
                sleep(SECOND / 50).await;
            }
            assert_eq!(stub.reads(), 1 + 6, "one in each of six times ten seconds");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_found_ten_seconds_after_the_last_read_at_the_latest() {
        for stored_after in [3, 30] {
            let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
            let began = Instant::now();
            while rejected(&store, Rejection::Invalid).await.is_none() {
                sleep(SECOND / 50).await;
                if began.elapsed() >= SECOND * stored_after {
                    stub.put("sk-new");
                }
            }
            let took = began.elapsed();
            assert!(took >= SECOND * stored_after && took <= SECOND * (stored_after + 11), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_rejected_at_once_share_one_read() {
        for (found, expected) in [("sk-new", Some("sk-new")), ("sk-old", None)] {
            let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
            stub.set(Behaviour::Slow(SECOND, found.to_owned()));
            let held = store.current().await.unwrap();
            let ask = || async { store.other_than(&held, Rejection::Invalid).await.unwrap() };
            let (one, two, three) = tokio::join!(ask(), ask(), ask());
            for other in [one, two, three] {
                assert_eq!(other.as_deref().map(key), expected);
            }
            assert_eq!(stub.reads(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_openai_forbids_delays_no_new_key_for_the_others() {
        let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
        assert_eq!(rejected(&store, Rejection::Forbidden).await, None);
        stub.put("sk-new");
        assert_eq!(rejected(&store, Rejection::Forbidden).await, None, "read a moment ago");
        assert_eq!(rejected(&store, Rejection::Invalid).await.as_deref(), Some("sk-new"));
    }

    /// A request at an old secret: how long it waits, and the key after that.
    async fn waits(store: &Arc<SecretStore>) -> (Duration, String) {
        store.current().await.unwrap();
        let began = Instant::now();
        store.wait_for_refresh(began.checked_add(Duration::from_secs(25)).unwrap()).await;
        (began.elapsed(), key(&store.held().unwrap()).to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_a_slow_read() {
        let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
        sleep(SECOND * 301).await;
        stub.set(Behaviour::Slow(SECOND, "sk-new".to_owned()));
        let (first, second) = tokio::join!(waits(&store), waits(&store));
        assert_eq!((first.0.as_secs(), first.1.as_str()), (1, "sk-new"));
        assert_eq!((second.0.as_secs(), second.1.as_str()), (1, "sk-new"));
        assert_eq!((waits(&store).await.0.as_secs(), stub.reads()), (0, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_secrets_manager_that_does_not_answer_costs_one_wait_and_then_a_pause() {
        let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
        sleep(SECOND * 301).await;
        stub.set(Behaviour::Hangs);
        let began = Instant::now();
        let mut waited = vec![];
        while began.elapsed() < SECOND * 40 {
            let (wait, key) = waits(&store).await;
            assert_eq!(key, "sk-old");
            if wait > SECOND / 100 {
                waited.push(wait.as_secs());
            }
            sleep(SECOND / 50).await;
        }
        assert_eq!(waited, [2, 2, 2], "a read fails after 4 s, and the next one begins 10 s later");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_its_deadline() {
        let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
        sleep(SECOND * 301).await;
        stub.set(Behaviour::Hangs);
        store.current().await.unwrap();
        let began = Instant::now();
        store.wait_for_refresh(began.checked_add(SECOND / 2).unwrap()).await;
        assert!(began.elapsed() < SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_of_secrets_manager_is_logged_as_letters_and_digits_only() {
        let (stub, store) = Stub::with_key("sk-old", SECOND * 300).await;
        for (sent, logged) in [
            ("com.amazon.coral.service#AccessDenied<Exception>", "AccessDeniedException"),
            ("\n", "an error without a code"),
        ] {
            stub.set(Behaviour::Refuses(sent));
            sleep(COOL_DOWN).await;
            rejected(&store, Rejection::Invalid).await;
            assert_eq!(store.faults(), Some(format!("the secret cannot be read ({logged})")));
        }
    }

    #[test]
    fn debug_output_contains_no_key() {
        let store = SecretStore::new(Source::Given("sk-hunter2".into()), None, Duration::ZERO);
        let text = r#"{"OPENAI_API_KEY": "sk-hunter2", "SAFETY_IDENTIFIER_KEY": "hunter2",
            "PREVIOUS_OPENAI_API_KEY": "sk-hunter2"}"#;
        let secret = contents::parse(&text.into(), "an ARN", None);
        let debug = format!("{store:?} {:?}", secret.unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

//! A connection to OpenAI or DynamoDB: opened ahead of the first request, kept between requests, and not trusted after a
//! pause, since Lambda freezes the process whenever no request is running.

use std::{
    error::Error,
    future::{self, Future},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use rustls::ClientConfig;
use tower::{Layer, Service};
use url::Url;

use super::clock::Moment;

/// A connection that was idle for longer is not used again: load balancers drop theirs after 60 s, often without closing
/// them.
const IDLE_LIMIT: Duration = Duration::from_secs(50);

/// The limit of a TCP and TLS handshake together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a packet may stay without an acknowledgement after it was sent again. A connection whose other end silently
/// disappeared while the process was frozen breaks 1.2 s after the request. A server that is only slow acknowledges it at
/// once. Linux measures this time itself (tcp(7), `TCP_USER_TIMEOUT`).
#[cfg(target_os = "linux")]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(800);

/// The settings that all HTTP clients of this process share.
///
/// HTTP/1.1 only; no redirects, since a request carries a key for the configured host only; no proxy from the
/// environment, for the same reason.
pub fn builder(tls: &ClientConfig) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(ACKNOWLEDGED_WITHIN);
    builder
        .tls_backend_preconfigured(tls.clone())
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("token-mint/", env!("CARGO_PKG_VERSION")))
}

/// One connection at a time, as long as requests come one at a time.
#[derive(Debug)]
pub struct Connection {
    tls: ClientConfig,
    /// Whether to keep the next connection for the first request. Only set while `warm` runs.
    warming: Arc<AtomicBool>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: reqwest::Client,
    /// Whether the client has ever opened a connection.
    connected: Arc<AtomicBool>,
    /// Whether the client is believed to hold an open connection.
    open: bool,
    last_used: Moment,
}

/// The outcome of opening a connection ahead of its first request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmed {
    /// It waits for its first request.
    Open,
    /// The other end did not answer in time.
    TimedOut,
    /// It was refused, or it broke.
    Failed,
}

/// A client to send one request with.
#[derive(Debug)]
pub struct Lease {
    /// The HTTP client that holds this connection and no other.
    pub client: reqwest::Client,
    /// Whether it will use an existing connection, which may have died unnoticed.
    pub reused: bool,
    connected: Arc<AtomicBool>,
}

impl Lease {
    /// `reused` or `new`, for the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.reused { "reused" } else { "new" }
    }

    /// Whether its client has ever opened a connection. Otherwise no request was sent with it, not even one that was given
    /// up while it waited.
    #[must_use]
    pub fn has_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Prepares a connection without opening it.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(tls: ClientConfig) -> Result<Self, reqwest::Error> {
        let warming = Arc::default();
        let current = Mutex::new(Current::new(&tls, &warming)?);
        Ok(Self { tls, warming, current })
    }

    /// Opens the connection that the first request will use: TCP and TLS, but no HTTP, because a
    /// request would cost a round trip more than it saves. A failure is left to the first request.
    pub async fn warm(&self, url: &Url) -> Warmed {
        let client = self.current().client.clone();
        self.warming.store(true, Ordering::Relaxed);
        // Always ends in an error: the connection is kept before a request is written to it.
        let ended = client.head(url.clone()).send().await;
        let opened = !self.warming.swap(false, Ordering::Relaxed);
        let mut current = self.current();
        current.open = opened;
        current.last_used = Moment::now();
        match ended {
            _ if opened => Warmed::Open,
            Err(error) if error.is_timeout() => Warmed::TimedOut,
            _ => Warmed::Failed,
        }
    }

    /// The current connection, or a new one if it was idle for too long.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn lease(&self) -> Result<Lease, reqwest::Error> {
        self.lease_used_within(IDLE_LIMIT)
    }

    /// The current connection, or a new one if it was not used for `limit`.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn lease_used_within(&self, limit: Duration) -> Result<Lease, reqwest::Error> {
        let mut current = self.current();
        if current.open && current.last_used.elapsed() > limit.min(IDLE_LIMIT) {
            *current = Current::new(&self.tls, &self.warming)?;
        }
        Ok(current.lease())
    }

    /// A new connection, in place of one that failed or became silent.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn replace(&self) -> Result<Lease, reqwest::Error> {
        let mut current = self.current();
        *current = Current::new(&self.tls, &self.warming)?;
        Ok(current.lease())
    }

    /// Must be called after a response was read to its end: its connection works and is used next, even if a new one was
    /// begun meanwhile.
    pub fn mark_healthy(&self, lease: &Lease) {
        let (client, connected) = (lease.client.clone(), Arc::clone(&lease.connected));
        *self.current() = Current { client, connected, open: true, last_used: Moment::now() };
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn new(tls: &ClientConfig, warming: &Arc<AtomicBool>) -> Result<Self, reqwest::Error> {
        let connected = Arc::default();
        let prewarmed =
            Prewarmed { warming: Arc::clone(warming), connected: Arc::clone(&connected), connection: Arc::default() };
        // The pool's own idle limit uses the monotonic clock and is only a second safeguard.
        let client = builder(tls).pool_idle_timeout(IDLE_LIMIT).connector_layer(prewarmed).build()?;
        Ok(Self { client, connected, open: false, last_used: Moment::now() })
    }

    fn lease(&self) -> Lease {
        Lease { client: self.client.clone(), reused: self.open, connected: Arc::clone(&self.connected) }
    }
}

/// Keeps the first connection while `warming` is set, and gives it to the next request. Sets `connected` with the first one.
///
/// reqwest opens connections only for a request, but its connector can be wrapped.
struct Prewarmed<C> {
    warming: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    connection: Arc<Mutex<Option<C>>>,
}

impl<C> Clone for Prewarmed<C> {
    fn clone(&self) -> Self {
        Self {
            warming: Arc::clone(&self.warming),
            connected: Arc::clone(&self.connected),
            connection: Arc::clone(&self.connection),
        }
    }
}

impl<S, C> Layer<S> for Prewarmed<C> {
    type Service = Connecting<S, C>;

    fn layer(&self, connector: S) -> Self::Service {
        Connecting { connector, prewarmed: self.clone() }
    }
}

struct Connecting<S, C> {
    connector: S,
    prewarmed: Prewarmed<C>,
}

impl<S: Clone, C> Clone for Connecting<S, C> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), prewarmed: self.prewarmed.clone() }
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, C, Target> Service<Target> for Connecting<S, C>
where
    S: Service<Target, Response = C, Error = BoxError>,
    S::Future: Send + 'static,
    C: Send + 'static,
{
    type Response = C;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let prewarmed = self.prewarmed.clone();
        let held = prewarmed.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(connection) = held {
            return Box::pin(future::ready(Ok(connection)));
        }
        let connecting = self.connector.call(target);
        Box::pin(async move {
            let connection = connecting.await?;
            prewarmed.connected.store(true, Ordering::Relaxed);
            if !prewarmed.warming.swap(false, Ordering::Relaxed) {
                return Ok(connection);
            }
            *prewarmed.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
            Err("the connection is kept for the first request".into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls;

    #[test]
    fn a_connection_that_was_idle_too_long_by_the_wall_clock_is_not_used_again() {
        let connection = Connection::new(tls::client_config(None).unwrap()).unwrap();
        let lease = connection.lease().unwrap();
        assert!(!lease.reused);
        connection.mark_healthy(&lease);
        assert!(connection.lease().unwrap().reused);
        connection.current().last_used = Moment::before_a_freeze_of(IDLE_LIMIT - Duration::from_secs(1));
        assert!(connection.lease().unwrap().reused);
        connection.current().last_used = Moment::before_a_freeze_of(IDLE_LIMIT + Duration::from_secs(1));
        assert!(!connection.lease().unwrap().reused);
        assert!(!connection.lease().unwrap().reused, "the new one has not been used yet");
    }
}

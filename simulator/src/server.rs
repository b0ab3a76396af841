//! The listening side: routes, and connections that can be made to fail below HTTP.

use std::{
    future,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract,
    http::{HeaderMap, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls::HandshakeKind};

use crate::{
    CallFault, Fault, SeenRequest,
    call::LONGEST,
    calls, client_secrets, control, fault, models,
    refusal::Refusal,
    state::{State, Token},
    tls,
};

/// A running stand-in for OpenAI. It stops when it is dropped.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    scheme: &'static str,
    ca_pem: Option<String>,
    state: Arc<State>,
    close: watch::Sender<u64>,
    accepting: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Listens on a free port.
    ///
    /// # Errors
    /// If loopback has no free port.
    pub async fn start() -> io::Result<Self> {
        Self::start_on(0).await
    }

    /// Listens on `port` of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    /// If the port is taken.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Listens on `address`, which others may reach too: containers, on the bridge between them and
    /// this machine.
    ///
    /// # Errors
    /// If the address is not this machine's or its port is taken.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        Self::serve(address, None).await
    }

    /// Listens on one more address, as the same simulator: tokens, faults and calls are shared.
    ///
    /// # Errors
    /// If the address is not this machine's or its port is taken.
    pub async fn listen_also_at(&mut self, address: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        self.accepting.push(tokio::spawn(accept(listener, None, Arc::clone(&self.state), self.close.subscribe())));
        Ok(())
    }

    /// The routes below `/simulator/`, for a server that offers them at an address of its own.
    pub fn control_routes(&self) -> Router {
        control::routes().with_state(Arc::clone(&self.state))
    }

    /// Listens on a free port and speaks TLS, with a certificate that [`Self::ca_pem`] signed.
    ///
    /// # Errors
    /// If loopback has no free port.
    pub async fn start_tls() -> io::Result<Self> {
        Self::serve((Ipv4Addr::LOCALHOST, 0).into(), Some(tls::acceptor()?)).await
    }

    async fn serve(address: SocketAddr, tls: Option<(TlsAcceptor, String)>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let (close, closing) = watch::channel(0);
        let (acceptor, ca_pem) = tls.unzip();
        let accepting = tokio::spawn(accept(listener, acceptor, Arc::clone(&state), closing));
        let scheme = if ca_pem.is_some() { "https" } else { "http" };
        Ok(Self { address, scheme, ca_pem, state, close, accepting: vec![accepting] })
    }

    /// What a client takes for `https://api.openai.com/v1`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}://{}/v1", self.scheme, self.address)
    }

    /// The certificate authority to trust, in PEM, if this simulator speaks TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Lets the next `times` mints go wrong. Several calls queue up.
    pub fn fail(&self, fault: Fault, times: usize) {
        self.state.memory().faults.extend(std::iter::repeat_n(fault, times));
    }

    /// Lets the next `times` calls go wrong. Several calls queue up.
    pub fn fail_calls(&self, fault: impl Into<CallFault>, times: usize) {
        self.state.memory().call_faults.extend(std::iter::repeat_n(fault.into(), times));
    }

    /// Forgets the faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.state.memory().clear_faults();
    }

    /// Ends the calls that begin from now on after so long; an hour if nothing is said.
    pub fn limit_sessions(&self, limit: Duration) {
        self.state.memory().session_limit = limit.min(LONGEST);
    }

    /// Lets each token open one call and no more, as the service has been seen to do. Its reference says that a token
    /// opens several.
    pub fn take_tokens_once(&self) {
        self.state.memory().tokens_serve_once = true;
    }

    /// How many calls are being held.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.memory().calls.len()
    }

    /// Takes these keys from now on, and no other. At the start it takes any that begins with `sk-`.
    pub fn take_only_keys(&self, keys: &[&str]) {
        self.state.memory().keys = Some(keys.iter().copied().map(str::to_owned).collect());
    }

    /// The requests to `/v1/…` so far, in order of arrival; of more than 10,000, the last.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.memory().seen()
    }

    /// How many connections were accepted so far (with TLS: whose handshake was completed).
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.memory().connections
    }

    /// How many of the TLS handshakes were resumed ones.
    #[must_use]
    pub fn resumed_handshakes(&self) -> usize {
        self.state.memory().resumed_handshakes
    }

    /// Closes every open connection, as a peer does that has waited long enough. On return they are
    /// closed.
    pub async fn close_connections(&self) {
        self.close.send_modify(|times| *times = times.wrapping_add(1));
        // The sender lives in `state`, so there is no error to wait for.
        let _ = self.state.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
        {
            let mut memory = self.state.memory();
            memory.over = true;
            memory.calls.clear();
        }
        self.close.send_modify(|times| *times = times.wrapping_add(1));
    }
}

/// What a handler can do to the connection below it.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    connection: usize,
    /// Where on this machine the client came to.
    pub(crate) ip: IpAddr,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Reset,
    Garbage,
}

impl Wire {
    /// Never returns: the connection ends under the request.
    pub(crate) async fn reset(&self) -> Response {
        self.order(Order::Reset).await
    }

    /// Never returns: the connection ends under the request.
    pub(crate) async fn garbage(&self) -> Response {
        self.order(Order::Garbage).await
    }

    async fn order(&self, order: Order) -> Response {
        // The connection is there as long as its request is, so someone listens.
        let _ = self.orders.send(order);
        future::pending().await
    }
}

/// Counts a connection as open for as long as it exists.
struct Open<'a>(&'a State);

impl<'a> Open<'a> {
    fn new(state: &'a State) -> Self {
        state.open.send_modify(|open| *open = open.saturating_add(1));
        Self(state)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    closing: watch::Receiver<u64>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (acceptor, state, closing) = (acceptor.clone(), Arc::clone(&state), closing.clone());
                tokio::spawn(async move { connection(stream, acceptor, state, closing).await });
            }
            // Out of file descriptors, say: wait for some to come back.
            Err(error) if error.kind() != ErrorKind::ConnectionAborted => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(_) => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    state: Arc<State>,
    mut closing: watch::Receiver<u64>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    closing.mark_unchanged();
    let _open = Open::new(&state);
    // A second handle on the socket, to set its linger time once the first is inside hyper.
    let stream = stream.into_std().ok()?;
    let socket = socket2::Socket::from(stream.try_clone().ok()?);
    let stream = TcpStream::from_std(stream).ok()?;
    match acceptor {
        None => http(stream, &socket, Arc::clone(&state), closing).await,
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await.ok()?;
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                let mut memory = state.memory();
                memory.resumed_handshakes = memory.resumed_handshakes.saturating_add(1);
            }
            http(stream, &socket, Arc::clone(&state), closing).await;
        }
    }
    Some(())
}

async fn http<S>(stream: S, socket: &socket2::Socket, state: Arc<State>, mut closing: watch::Receiver<u64>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let connection = {
        let mut memory = state.memory();
        memory.connections = memory.connections.saturating_add(1);
        memory.connections
    };
    let local = socket.local_addr().ok().and_then(|address| address.as_socket());
    let ip = local.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip().to_canonical());
    let service = TowerToHyperService::new(routes(state, Wire { connection, ip, orders }));
    let mut serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = &mut serving => {}
        _ = closing.changed() => {}
        Some(order) = ordered.recv() => match order {
            // Dropped below with a linger time of 0: the kernel sends RST.
            Order::Reset => { let _ = socket.set_linger(Some(Duration::ZERO)); }
            Order::Garbage => {
                let mut stream = serving.into_parts().io.into_inner();
                let _ = stream.write_all(b"\x16\x03\x01 220 not HTTP at all\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    }
}

fn routes(state: Arc<State>, wire: Wire) -> Router {
    let calls = Router::new()
        .route("/v1/realtime/calls", post(calls::calls_route))
        .route("/v1/realtime/translations/calls", post(calls::calls_route))
        .layer(middleware::from_fn(calls::for_browsers));
    Router::new()
        .merge(calls)
        .route("/v1/realtime/calls/{call_id}/hangup", post(calls::hang_up_route))
        .route("/v1/realtime/client_secrets", post(client_secrets_route))
        .route("/v1/realtime/translations/client_secrets", post(client_secrets_route))
        .route("/v1/models", get(models_route))
        .merge(control::routes())
        .fallback(nowhere)
        .layer(Extension(wire))
        .with_state(state)
}

pub(crate) type Shared = extract::State<Arc<State>>;

async fn client_secrets_route(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bearer = bearer(&headers);
    let request = see(&state, &wire, &uri, &headers, &body);
    let fault = state.memory().faults.pop_front();
    let right = if !state.takes(bearer) {
        Refusal::bad_key(bearer).into_response()
    } else if request.is_null() {
        Refusal::new(400, "We could not parse the JSON body of your request.", None, "invalid_json").into_response()
    } else if uri.path().contains("/translations/") {
        minted(&state, client_secrets::mint_for_translation(&request), fault.as_ref())
    } else {
        minted(&state, client_secrets::mint(&request), fault.as_ref())
    };
    match fault {
        Some(fault) => fault::apply(fault, bearer, &request["session"].to_string(), &wire, right).await,
        None => right,
    }
}

/// Remembers a token, so that it opens calls.
fn minted(state: &State, secret: Result<Value, Refusal>, fault: Option<&Fault>) -> Response {
    let secret = match secret {
        Ok(secret) => secret,
        Err(refusal) => return refusal.into_response(),
    };
    if let (Some(token), Some(expires_at)) = (secret["value"].as_str(), secret["expires_at"].as_u64()) {
        let expires_at = if matches!(fault, Some(Fault::Expired)) { 0 } else { expires_at };
        let session = secret["session"].clone();
        state.memory().hand_out(token, Token { session, expires_at, used: false });
    }
    Json(secret).into_response()
}

async fn models_route(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    see(&state, &wire, &uri, &headers, b"");
    let bearer = bearer(&headers);
    if state.takes(bearer) { models::list() } else { Refusal::bad_key(bearer).into_response() }
}

async fn nowhere(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Refusal {
    see(&state, &wire, &uri, &headers, &body);
    Refusal::new(404, format!("Invalid URL ({})", uri.path()), None, "unknown_url")
}

pub(crate) fn bearer(headers: &HeaderMap) -> &str {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

pub(crate) fn see(state: &State, wire: &Wire, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Value {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let identifier = headers.get("openai-safety-identifier").and_then(|value| value.to_str().ok());
    state.memory().see(SeenRequest {
        connection: wire.connection,
        path: uri.path().to_owned(),
        bearer: bearer(headers).to_owned(),
        safety_identifier: identifier.map(str::to_owned),
        body: body.clone(),
    });
    body
}

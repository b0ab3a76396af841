//! The public handle on a running simulator.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{
    call_fault::CallFault,
    call_register::{CallRecord, EndedCall},
    control,
    fault::Fault,
    listener::accept,
    request::SeenRequest,
    state::State,
    tls,
};

/// A running simulator of OpenAI. Dropping it stops it and ends its sessions.
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
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port of 127.0.0.1 is free.
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

    /// Listens on `address`, which other machines may be able to reach. Containers, for example, reach the address of
    /// the bridge between them and this machine.
    ///
    /// # Errors
    /// If the address is not this machine's or its port is taken.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        Self::serve(address, None).await
    }

    /// Listens on one more address. Tokens, faults and calls are shared by all addresses.
    ///
    /// # Errors
    /// If the address is not this machine's or its port is taken.
    pub async fn listen_also_at(&mut self, address: SocketAddr) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        self.accepting.push(tokio::spawn(accept(listener, None, Arc::clone(&self.state), self.close.subscribe())));
        Ok(())
    }

    /// The routes below `/simulator/`, for a server that offers them at its own address.
    pub fn control_routes(&self) -> Router {
        control::routes().with_state(Arc::clone(&self.state))
    }

    /// Listens on a free port of 127.0.0.1 with TLS. Its certificate is signed by [`Self::ca_pem`].
    ///
    /// # Errors
    /// If no port of 127.0.0.1 is free.
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

    /// The base URL that replaces `https://api.openai.com/v1` in a client.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}://{}/v1", self.scheme, self.address)
    }

    /// The certificate authority to trust, in PEM; `None` without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Makes the next `times` mints fail. Faults of repeated calls queue up.
    pub fn fail(&self, fault: Fault, times: usize) {
        self.state.memory().faults.extend(std::iter::repeat_n(fault, times));
    }

    /// Makes the next `times` calls fail. Faults of repeated calls queue up.
    pub fn fail_calls(&self, fault: impl Into<CallFault>, times: usize) {
        self.state.memory().call_faults.extend(std::iter::repeat_n(fault.into(), times));
    }

    /// Makes the next `times` requests to hang up fail. A fault with a correct answer, such as [`Fault::Delay`], ends the
    /// call; others leave it open.
    pub fn fail_hang_ups(&self, fault: Fault, times: usize) {
        self.state.memory().hang_up_faults.extend(std::iter::repeat_n(fault, times));
    }

    /// Cancels the faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.state.memory().clear_faults();
    }

    /// Limits the duration of future sessions. Without this, a session lasts an hour at most.
    pub fn limit_sessions(&self, limit: Duration) {
        self.state.memory().limit_sessions(limit);
    }

    /// Sets how long the clients of future calls may take to connect, 30 seconds by default. A call that does not connect
    /// stays open for that long.
    pub fn limit_connecting(&self, limit: Duration) {
        self.state.memory().limit_connecting(limit);
    }

    /// Sets how many calls may be open at once, and how many WebSockets: 64 by default.
    pub fn limit_calls(&self, limit: usize) {
        self.state.memory().max_calls = limit;
    }

    /// Lets a token open several sessions until it expires, as OpenAI's reference says. By default a token opens one,
    /// as the service has enforced since about 2026-08-25.
    pub fn reuse_tokens(&self) {
        self.state.memory().tokens_are_reusable = true;
    }

    /// The number of open calls. WebSockets do not count.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state.memory().calls.len()
    }

    /// The open calls, the oldest first.
    #[must_use]
    pub fn open_calls(&self) -> Vec<CallRecord> {
        self.state.memory().calls.open()
    }

    /// The calls that have ended, in the order of their ends. Only the last 10,000 are kept.
    #[must_use]
    pub fn ended_calls(&self) -> Vec<EndedCall> {
        self.state.memory().calls.ended()
    }

    /// Accepts only these keys from now on. By default any key that starts with `sk-` is accepted.
    pub fn take_only_keys(&self, keys: &[&str]) {
        self.state.memory().keys = Some(keys.iter().copied().map(str::to_owned).collect());
    }

    /// The requests to `/v1/…` so far, in order of arrival. Only the last 10,000 are kept.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state.memory().requests()
    }

    /// The number of connections accepted so far. With TLS, only completed handshakes count.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.memory().connections
    }

    /// The number of TLS handshakes that resumed a session.
    #[must_use]
    pub fn resumed_handshakes(&self) -> usize {
        self.state.memory().resumed_handshakes
    }

    /// Closes every open connection, as a server does after an idle timeout, and returns once they are closed.
    pub async fn close_connections(&self) {
        self.close.send_modify(|times| *times = times.wrapping_add(1));
        // An error would mean that the sender was dropped, but `state` holds it.
        let _ = self.state.open_connections.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for accepting in &self.accepting {
            accepting.abort();
        }
        {
            let mut memory = self.state.memory();
            memory.stopped = true;
            memory.calls.clear();
            memory.sockets.clear();
        }
        self.close.send_modify(|times| *times = times.wrapping_add(1));
    }
}

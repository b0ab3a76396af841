//! The handle on a running simulator.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::{call_fault::CallFault, control, fault::Fault, listener::accept, request::SeenRequest, state::State, tls};

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
        self.state.memory().limit_sessions(limit);
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
        self.state.memory().requests()
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
        }
        self.close.send_modify(|times| *times = times.wrapping_add(1));
    }
}

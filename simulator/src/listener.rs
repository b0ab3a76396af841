//! Accepts connections, serves HTTP on them, and breaks them below HTTP on demand.

use std::{io::ErrorKind, net::Ipv4Addr, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, rustls::HandshakeKind};

use crate::{
    routes::routes,
    state::State,
    wire::{Wire, WireCommand},
};

/// Counts a connection as open until it is dropped.
struct OpenConnection<'a>(&'a State);

impl<'a> OpenConnection<'a> {
    fn new(state: &'a State) -> Self {
        state.open_connections.send_modify(|open| *open = open.saturating_add(1));
        Self(state)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.open_connections.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Accepts connections until the task is aborted, and serves each. A change of `closing` ends all open connections.
pub(crate) async fn accept(
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
            // For example out of file descriptors: wait until some are free again.
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
    let _open = OpenConnection::new(&state);
    // A second handle on the socket: its linger time is set when hyper owns the first.
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
    let connection = {
        let mut memory = state.memory();
        memory.connections = memory.connections.saturating_add(1);
        memory.connections
    };
    let local = socket.local_addr().ok().and_then(|address| address.as_socket());
    let ip = local.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip().to_canonical());
    let (wire, mut commands) = Wire::new(connection, ip);
    let service = TowerToHyperService::new(routes(state, wire));
    let mut serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::select! {
        _ = &mut serving => {}
        _ = closing.changed() => {}
        Some(command) = commands.recv() => match command {
            // Dropped below with a linger time of 0: the kernel sends RST.
            WireCommand::Reset => { let _ = socket.set_linger(Some(Duration::ZERO)); }
            WireCommand::Garbage => {
                // `None` after an upgrade, on which no fault is carried out.
                if let Some(parts) = serving.into_parts() {
                    let mut stream = parts.io.into_inner();
                    let _ = stream.write_all(b"\x16\x03\x01 220 not HTTP at all\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                }
            }
        }
    }
}

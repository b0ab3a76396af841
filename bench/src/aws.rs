//! Stand-ins for Secrets Manager and DynamoDB behind TLS, with the two operations of a mint.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::HandshakeKind, server::TlsStream};

/// The API key in the secret.
pub const API_KEY: &str = "sk-proj-of-the-bench";

/// Both services, at one address.
pub struct Aws {
    pub url: String,
    pub ca_pem: String,
    handshakes: Arc<AtomicUsize>,
}

impl Aws {
    pub async fn start() -> io::Result<Self> {
        let (acceptor, ca_pem) = openai_simulator::tls::acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let handshakes = Arc::<AtomicUsize>::default();
        let listener = Tls { listener, acceptor, full: Arc::clone(&handshakes) };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
        Ok(Self { url, ca_pem, handshakes })
    }

    /// TLS handshakes so far that resumed no session.
    pub fn full_handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    full: Arc<AtomicUsize>,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let Ok(stream) = self.acceptor.accept(stream).await else { continue };
            if stream.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
                self.full.fetch_add(1, Ordering::Relaxed);
            }
            return (stream, address);
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(headers: HeaderMap) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let body = if target.ends_with("UpdateItem") {
        json!({"Attributes": {"day": {"N": "1"}, "expires": {"N": "1795564800"}}})
    } else {
        let secret = json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": "of-the-bench"}).to_string();
        json!({"ARN": "arn", "Name": "name", "VersionId": "1", "SecretString": secret, "CreatedDate": 1.0})
    };
    ([(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

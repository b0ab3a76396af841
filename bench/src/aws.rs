//! Stand-ins for Secrets Manager and DynamoDB behind TLS, with the operations of a mint.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, rustls::HandshakeKind, server::TlsStream};

/// The API key in the secret.
pub const API_KEY: &str = "sk-proj-of-the-bench";

/// The key of the safety identifiers in the secret.
pub const IDENTIFIER_KEY: &str = "identifier-key-of-the-bench";

/// Both services, at one address.
pub struct Aws {
    pub url: String,
    pub ca_pem: String,
    full_handshakes: Arc<AtomicUsize>,
    services: Arc<Services>,
}

/// The state of both services.
#[derive(Default)]
struct Services {
    table_requests: AtomicUsize,
    table_faults: Mutex<VecDeque<TableFault>>,
    blocked: Mutex<Vec<String>>,
}

impl Services {
    fn table_faults(&self) -> MutexGuard<'_, VecDeque<TableFault>> {
        self.table_faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blocked(&self) -> MutexGuard<'_, Vec<String>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fault of the table in one request.
#[derive(Clone, Copy, Debug)]
pub enum TableFault {
    /// The answer takes that long.
    Slow(Duration),
    /// No answer.
    Hangs,
    /// The update is made, but the connection breaks before its answer.
    Lost,
    /// A 500.
    Fails,
    Throttles,
    Denies,
    /// The counters have reached their limits.
    Full,
}

impl Aws {
    pub async fn start() -> io::Result<Self> {
        let (acceptor, ca_pem) = openai_simulator::tls::acceptor()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let full_handshakes = Arc::<AtomicUsize>::default();
        let listener = Tls { listener, acceptor, full: Arc::clone(&full_handshakes) };
        let services = Arc::<Services>::default();
        let routes = Router::new().route("/", post(answer)).with_state(Arc::clone(&services));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url, ca_pem, full_handshakes, services })
    }

    /// TLS handshakes so far that resumed no session.
    pub fn full_handshakes(&self) -> usize {
        self.full_handshakes.load(Ordering::Relaxed)
    }

    /// Requests to DynamoDB so far.
    pub fn table_requests(&self) -> usize {
        self.services.table_requests.load(Ordering::Relaxed)
    }

    /// Makes the next `times` requests to DynamoDB fail.
    pub fn fail_table(&self, fault: TableFault, times: usize) {
        self.services.table_faults().extend(std::iter::repeat_n(fault, times));
    }

    /// Cancels the faults that have not happened yet.
    pub fn clear_table_faults(&self) {
        self.services.table_faults().clear();
    }

    /// Puts a caller on the block list, by its safety identifier.
    pub fn block(&self, caller: String) {
        self.services.blocked().push(caller);
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

async fn answer(State(services): State<Arc<Services>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    if target.starts_with("DynamoDB_") {
        services.table_requests.fetch_add(1, Ordering::Relaxed);
        let fault = services.table_faults().pop_front();
        return update_item(fault, &serde_json::from_slice(&body).unwrap_or_default()).await;
    }
    let blocked = services.blocked().clone();
    let secret =
        json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": IDENTIFIER_KEY, "BLOCKED_CALLERS": blocked});
    let body = json!({"ARN": "arn", "Name": "name", "VersionId": "1", "SecretString": secret.to_string(),
        "CreatedDate": 1.0});
    reply(StatusCode::OK, &body)
}

/// The answer to an update: every counter is 1, or has reached its limit.
async fn update_item(fault: Option<TableFault>, update: &Value) -> Response {
    let attributes = |count: &str| {
        let names = update["ExpressionAttributeNames"].as_object().into_iter().flatten();
        let names = names.filter_map(|(_, name)| name.as_str());
        let number = |name| if name == "expires" { "1795564800" } else { count };
        names.map(|name| (name.to_owned(), json!({"N": number(name)}))).collect::<Value>()
    };
    let refusal = |code| json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "as planned"});
    // As DynamoDB does for an update that asks for no attributes.
    let is_silent = update["ReturnValues"] == "NONE";
    let counted = || {
        let answer = if is_silent { json!({}) } else { json!({"Attributes": attributes("1")}) };
        reply(StatusCode::OK, &answer)
    };
    match fault {
        None => counted(),
        Some(TableFault::Slow(time)) => {
            tokio::time::sleep(time).await;
            counted()
        }
        Some(TableFault::Hangs) => std::future::pending().await,
        // A body that ends in an error makes hyper drop the connection.
        Some(TableFault::Lost) => {
            Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::other("lost on demand"))])).into_response()
        }
        Some(TableFault::Fails) => reply(StatusCode::INTERNAL_SERVER_ERROR, &refusal("InternalServerError")),
        Some(TableFault::Throttles) => reply(StatusCode::BAD_REQUEST, &refusal("ThrottlingException")),
        Some(TableFault::Denies) => reply(StatusCode::BAD_REQUEST, &refusal("AccessDeniedException")),
        Some(TableFault::Full) => {
            let mut body = refusal("ConditionalCheckFailedException");
            body["Item"] = attributes("1000000000");
            reply(StatusCode::BAD_REQUEST, &body)
        }
    }
}

fn reply(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

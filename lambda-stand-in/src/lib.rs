//! A stand-in for AWS Lambda's Runtime API, from which a function takes events and to which it sends its answers.
//!
//! Source: AWS, "Using the Lambda runtime API for custom runtimes".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "used by tests and the bench only")]
#![allow(clippy::arithmetic_side_effects, reason = "used by tests and the bench only")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
};

/// The result of an invocation: the function's answer, or the error that it reported.
pub type Outcome = Result<Bytes, String>;

struct Invocation {
    id: String,
    event: String,
    deadline_ms: u128,
    further_headers: Vec<(HeaderName, HeaderValue)>,
    answer: oneshot::Sender<Outcome>,
}

/// A running Runtime API, for one process of a function.
#[derive(Debug)]
pub struct Lambda {
    /// The value of `AWS_LAMBDA_RUNTIME_API` for the function.
    pub address: SocketAddr,
    invoke: mpsc::UnboundedSender<Invocation>,
    polls: watch::Receiver<u64>,
    next_id: Mutex<u64>,
}

struct RuntimeApi {
    invocations: AsyncMutex<mpsc::UnboundedReceiver<Invocation>>,
    running: Mutex<Option<Invocation>>,
    polls: watch::Sender<u64>,
}

impl Lambda {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// If no port can be opened.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (invoke, invocations) = mpsc::unbounded_channel();
        let (polled, polls) = watch::channel(0);
        let api = RuntimeApi { invocations: AsyncMutex::new(invocations), running: Mutex::default(), polls: polled };
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .with_state(Arc::new(api));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, invoke, polls, next_id: Mutex::default() }
    }

    /// Waits until the function has finished its init and polls for its first event.
    ///
    /// # Panics
    /// After 10 s, which is Lambda's limit for the init phase.
    pub async fn wait_for_init(&self) {
        self.wait_for_polls(1).await;
    }

    /// Waits until the function has polled `count` times for an event, and so has finished all earlier events.
    ///
    /// # Panics
    /// After 10 s.
    pub async fn wait_for_polls(&self, count: u64) {
        let mut polls = self.polls.clone();
        let polled = tokio::time::timeout(Duration::from_secs(10), polls.wait_for(|polls| *polls >= count)).await;
        polled.expect("the function polls within 10 s").unwrap();
    }

    /// Invokes the function with an event. Its deadline is `timeout` from now.
    ///
    /// # Panics
    /// If the Runtime API has stopped.
    pub async fn invoke(&self, event: String, timeout: Duration) -> Outcome {
        self.invoke_with(event, timeout, Vec::new()).await
    }

    /// Invokes the function with an event and further headers, such as the client context.
    ///
    /// # Panics
    /// If the Runtime API has stopped.
    pub async fn invoke_with(
        &self,
        event: String,
        timeout: Duration,
        further_headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut next_id = self.next_id.lock().unwrap();
            *next_id += 1;
            format!("00000000-0000-0000-0000-{:012}", *next_id)
        };
        let deadline_ms = (SystemTime::now() + timeout).duration_since(UNIX_EPOCH).unwrap().as_millis();
        let sent = self.invoke.send(Invocation { id, event, deadline_ms, further_headers, answer });
        sent.unwrap_or_else(|_| panic!("the Runtime API has stopped"));
        match tokio::time::timeout(timeout + Duration::from_secs(2), answered).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => Err("the invocation timed out".to_owned()),
        }
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.polls.send_modify(|polls| *polls += 1);
    let Some(invocation) = api.invocations.lock().await.recv().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id.clone()),
        ("lambda-runtime-deadline-ms", invocation.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-west-1:123456789012:function:mint".to_owned()),
    ];
    let mut response = (headers, invocation.event.clone()).into_response();
    response.headers_mut().extend(invocation.further_headers.iter().cloned());
    *api.running.lock().unwrap() = Some(invocation);
    response
}

async fn response(State(api): State<Arc<RuntimeApi>>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    finish(&api, &id, Ok(body))
}

async fn error(State(api): State<Arc<RuntimeApi>>, Path(id): Path<String>, body: String) -> StatusCode {
    finish(&api, &id, Err(body))
}

fn finish(api: &RuntimeApi, id: &str, outcome: Outcome) -> StatusCode {
    let running = api.running.lock().unwrap().take_if(|running| running.id == id);
    let Some(invocation) = running else { return StatusCode::BAD_REQUEST };
    // The invoker may have timed out and stopped waiting.
    let _ = invocation.answer.send(outcome);
    StatusCode::ACCEPTED
}

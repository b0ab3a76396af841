//! A proxy in front of a stand-in, which holds back one request or its answer, so that a test can stop a process at that step.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use token_mint::net::{connection, tls};
use tokio::{net::TcpListener, sync::watch};

/// A step of a process, as the number of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The request does not arrive.
    Before(usize),
    /// The request is carried out, and its answer does not arrive.
    After(usize),
}

#[derive(Clone)]
pub struct Gate {
    /// Replaces the URL of the stand-in.
    pub url: String,
    upstream: String,
    http: reqwest::Client,
    held: Arc<Mutex<Option<Step>>>,
    fails_from: Arc<Mutex<Option<usize>>>,
    /// The requests that changed something since a step was set. One that is sent again has the same number.
    changes: Arc<Mutex<Vec<Bytes>>>,
    delay: Arc<Mutex<Duration>>,
    holding: watch::Sender<bool>,
    released: watch::Sender<()>,
}

impl Gate {
    /// In front of the stand-in at that URL, which may have a path.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, rest) = upstream.split_once("://").unwrap();
        let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let gate = Self {
            url: format!("http://{}{path}", listener.local_addr().unwrap()),
            upstream: format!("{scheme}://{host}"),
            http: connection::builder(&tls::client_config(None).unwrap()).build().unwrap(),
            held: Arc::default(),
            fails_from: Arc::default(),
            changes: Arc::default(),
            delay: Arc::default(),
            holding: watch::Sender::new(false),
            released: watch::Sender::new(()),
        };
        let routes = Router::new().fallback(pass).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        gate
    }

    /// Holds the request with that number, counted from now on.
    pub fn hold(&self, step: Step) {
        self.changes.lock().unwrap().clear();
        self.holding.send_replace(false);
        *self.held.lock().unwrap() = Some(step);
    }

    /// Lets the held request go on.
    pub fn release(&self) {
        self.pass_others();
        self.released.send_replace(());
    }

    /// Lets later requests pass. One that is held stays held.
    pub fn pass_others(&self) {
        *self.held.lock().unwrap() = None;
    }

    /// Refuses the change with that number and all later ones, as a stand-in that is down.
    pub fn fail_from(&self, number: usize) {
        self.changes.lock().unwrap().clear();
        *self.fails_from.lock().unwrap() = Some(number);
    }

    /// Delays each request that changes something.
    pub fn delay(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    /// Waits until a request is held.
    pub async fn wait_until_held(&self) {
        let held = async { self.holding.subscribe().wait_for(|held| *held).await.map(|_| ()) };
        tokio::time::timeout(Duration::from_secs(25), held).await.expect("a request is held").unwrap();
    }

    /// Waits for the release if this step is to be held. A request that is sent again has the same step.
    async fn wait_at(&self, step: Step) {
        let mut released = self.released.subscribe();
        let is_held = *self.held.lock().unwrap() == Some(step);
        if is_held {
            self.holding.send_replace(true);
            released.changed().await.unwrap();
        }
    }
}

async fn pass(State(gate): State<Gate>, method: Method, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
    let reads = target.as_deref().is_some_and(|target| target.ends_with(".GetItem"));
    if target.is_some() && has_empty_expression(&body) {
        let refusal = r#"{"__type": "com.amazon.coral.validate#ValidationException",
            "message": "Invalid ConditionExpression: The expression can not be empty;"}"#;
        return (StatusCode::BAD_REQUEST, refusal).into_response();
    }
    let number = {
        let mut changes = gate.changes.lock().unwrap();
        let known = changes.iter().position(|known| *known == body);
        if known.is_none() && !reads {
            changes.push(body.clone());
        }
        known.unwrap_or(changes.len().saturating_sub(1)) + 1
    };
    if !reads {
        let delay = *gate.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        let fails_from = *gate.fails_from.lock().unwrap();
        if fails_from.is_some_and(|from| number >= from) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        gate.wait_at(Step::Before(number)).await;
    }
    headers.remove(header::HOST);
    let request = gate.http.request(method, format!("{}{uri}", gate.upstream)).headers(headers).body(body);
    // It is carried out even if the client goes away.
    let answered = tokio::spawn(async move {
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Some((status, headers, answer.bytes().await.ok()?))
    });
    let Some((status, mut headers, body)) = answered.await.unwrap() else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    if !reads {
        gate.wait_at(Step::After(number)).await;
    }
    headers.remove(header::TRANSFER_ENCODING);
    (status, headers, body).into_response()
}

/// DynamoDB refuses an expression that is empty. Its stand-in does not.
fn has_empty_expression(body: &[u8]) -> bool {
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    ["ConditionExpression", "UpdateExpression"].iter().any(|name| asked[name] == "")
}

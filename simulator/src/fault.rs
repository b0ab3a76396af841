//! What can go wrong on OpenAI's side, as something one can ask for.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Deserialize;
use tokio::time;

use crate::{refusal::Refusal, server::Wire};

/// One way for a mint to go wrong.
///
/// As JSON, for `POST /simulator/faults`: `{"fault": "rate-limit", "retry_after": "2"}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// 401. The message repeats the caller's key whole, so that a client which passes it on shows.
    Unauthorized,
    /// 403, no access to the model.
    Forbidden,
    /// 400. The message repeats the request's session whole.
    BadRequest,
    /// 404, no such model.
    NotFound,
    /// 429 `rate_limit_exceeded`.
    RateLimit {
        /// The `Retry-After` header, word for word.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 429 `insufficient_quota`: the account has no money, so retrying is useless.
    InsufficientQuota,
    /// 5xx.
    ServerError {
        /// 500 to 599.
        status: u16,
        /// The `Retry-After` header, word for word.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The right answer, but this late.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer, ever, on an open connection.
    Hang,
    /// The right answer, one byte every 250 ms.
    Drip,
    /// Half of the right answer, then the end of the connection.
    Cut,
    /// A TCP reset in place of an answer.
    Reset,
    /// Bytes that are no HTTP.
    Garbage,
    /// 200 with a page of HTML.
    NotJson,
    /// 200 with a secret that expired a minute ago.
    Expired,
    /// 200 with a secret that does not start with `ek_`.
    WrongPrefix,
    /// 200 with the right answer in more than 64 KiB.
    Oversize,
    /// 307 to another place.
    Redirect {
        /// The `Location` header, word for word.
        location: String,
    },
}

impl Fault {
    /// Whether it lets the right answer through, in whatever way.
    pub(crate) fn needs_the_right_answer(&self) -> bool {
        matches!(self, Self::Delay { .. } | Self::Drip | Self::Cut)
    }
}

/// What the fault does to a request whose right answer would have been `right`.
pub(crate) async fn apply(fault: Fault, bearer: &str, session: &str, wire: &Wire, right: Response) -> Response {
    match fault {
        Fault::Unauthorized => Refusal::bad_key(bearer).into_response(),
        Fault::Forbidden => {
            Refusal::new(403, "You do not have access to this model.", None, "model_not_found").into_response()
        }
        Fault::BadRequest => {
            let message = format!("Invalid session: {session}");
            Refusal::new(400, message, Some("session"), "invalid_value").into_response()
        }
        Fault::NotFound => {
            Refusal::new(404, "The model does not exist.", Some("session.model"), "model_not_found").into_response()
        }
        Fault::RateLimit { retry_after } => with_retry_after(Refusal::rate_limit().into_response(), retry_after),
        Fault::InsufficientQuota => Refusal::no_money().into_response(),
        Fault::ServerError { status, retry_after } => {
            let message = "The server had an error while processing your request.";
            with_retry_after(Refusal::new(status, message, None, "server_error").into_response(), retry_after)
        }
        Fault::Delay { ms } => {
            time::sleep(Duration::from_millis(ms)).await;
            right
        }
        Fault::Hang => std::future::pending().await,
        Fault::Drip => dripping(right).await,
        Fault::Cut => cut(right).await,
        Fault::Reset => wire.reset().await,
        Fault::Garbage => wire.garbage().await,
        Fault::NotJson => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>Just a moment...</body></html>").into_response()
        }
        Fault::Expired | Fault::WrongPrefix | Fault::Oversize => altered(&fault, right).await,
        Fault::Redirect { location } => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
        }
    }
}

fn with_retry_after(mut response: Response, retry_after: Option<String>) -> Response {
    if let Some(value) = retry_after.and_then(|value| HeaderValue::try_from(value).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

async fn whole(body: Body) -> Bytes {
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

async fn dripping(right: Response) -> Response {
    let (head, body) = right.into_parts();
    let drops = stream::unfold(whole(body).await, |mut rest| async move {
        time::sleep(Duration::from_millis(250)).await;
        (!rest.is_empty()).then(|| (Ok::<_, Infallible>(rest.split_to(1)), rest))
    });
    Response::from_parts(head, Body::from_stream(drops))
}

async fn cut(right: Response) -> Response {
    let (mut head, body) = right.into_parts();
    let mut bytes = whole(body).await;
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.split_to(bytes.len() / 2);
    // A body that ends in an error makes hyper drop the connection short of the promised length.
    let parts = stream::iter([Ok(half), Err(std::io::Error::other("cut on demand"))]);
    Response::from_parts(head, Body::from_stream(parts))
}

async fn altered(fault: &Fault, right: Response) -> Response {
    let mut answer: serde_json::Value = serde_json::from_slice(&whole(right.into_body()).await).unwrap_or_default();
    match fault {
        Fault::Expired => answer["expires_at"] = crate::client_secrets::now().saturating_sub(60).into(),
        Fault::WrongPrefix => answer["value"] = "tok_0123456789abcdef".into(),
        _ => answer["session"]["instructions"] = "x".repeat(65 * 1024).into(),
    }
    axum::Json(answer).into_response()
}

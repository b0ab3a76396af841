//! Turns a planned fault into the answer that the client gets.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::time;

use crate::{clock, fault::Fault, refusal::Refusal, wire::Wire};

/// The failed answer to a request whose correct answer would have been `answer`.
pub(crate) async fn apply(fault: Fault, bearer: &str, session: &str, wire: &Wire, answer: Response) -> Response {
    match fault {
        Fault::Unauthorized => Refusal::invalid_key(bearer).into_response(),
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
        Fault::InsufficientQuota => Refusal::insufficient_quota().into_response(),
        Fault::ServerError { status, retry_after } => {
            let message = "The server had an error while processing your request.";
            with_retry_after(Refusal::new(status, message, None, "server_error").into_response(), retry_after)
        }
        Fault::Delay { ms } => {
            time::sleep(Duration::from_millis(ms)).await;
            answer
        }
        Fault::Hang => std::future::pending().await,
        Fault::Drip => drip(answer).await,
        Fault::Cut => cut(answer).await,
        Fault::Reset => wire.reset().await,
        Fault::Garbage => wire.garbage().await,
        Fault::NotJson => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>Just a moment...</body></html>").into_response()
        }
        Fault::Expired | Fault::WrongPrefix | Fault::Oversize => alter(&fault, answer).await,
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

async fn read_all(body: Body) -> Bytes {
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

async fn drip(answer: Response) -> Response {
    let (head, body) = answer.into_parts();
    let drops = stream::unfold(read_all(body).await, |mut rest| async move {
        time::sleep(Duration::from_millis(250)).await;
        (!rest.is_empty()).then(|| (Ok::<_, Infallible>(rest.split_to(1)), rest))
    });
    Response::from_parts(head, Body::from_stream(drops))
}

async fn cut(answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    let mut bytes = read_all(body).await;
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    let half = bytes.split_to(bytes.len() / 2);
    // A body that ends in an error makes hyper drop the connection short of the promised length.
    let parts = stream::iter([Ok(half), Err(std::io::Error::other("cut on demand"))]);
    Response::from_parts(head, Body::from_stream(parts))
}

async fn alter(fault: &Fault, answer: Response) -> Response {
    let mut answer: serde_json::Value = serde_json::from_slice(&read_all(answer.into_body()).await).unwrap_or_default();
    match fault {
        Fault::Expired => answer["expires_at"] = clock::unix_seconds().saturating_sub(60).into(),
        Fault::WrongPrefix => answer["value"] = "tok_0123456789abcdef".into(),
        _ => answer["session"]["instructions"] = "x".repeat(65 * 1024).into(),
    }
    axum::Json(answer).into_response()
}

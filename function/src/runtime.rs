//! The loop that takes invocations from Lambda's Runtime API and hands them to the handler.
//!
//! It replaces `lambda_runtime::Runtime::run`, which parses two headers that this function does not use, and ends the process
//! if it cannot: the client context, which the invoker writes, and the Cognito identity (version 1.5.0; open as
//! aws/aws-lambda-rust-runtime #559). `aws lambda invoke --client-context` with a document that mobile SDKs do not send would
//! thereby stop every instance that it reaches. Everything after these headers is the runtime's own: it reads the event and
//! sends the answer.

use std::{
    future::{self, poll_fn},
    sync::{Mutex, PoisonError},
    task::{self, Poll},
};

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use lambda_runtime::{Context, Error, LambdaEvent, LambdaInvocation, Runtime, service_fn};
use lambda_runtime_api_client::{PooledClient, body::Body, build_request};
use serde::{Serialize, de::DeserializeOwned};
use tower::{Layer, Service};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE: &str = "lambda-runtime-deadline-ms";

/// Hands invocations to `handle`, one after the other.
///
/// # Errors
/// If the Runtime API cannot be reached, or answers without an invocation. Otherwise it never ends.
pub async fn serve<E, R, F>(handle: impl FnMut(LambdaEvent<E>) -> F + Send + 'static) -> Result<(), Error>
where
    E: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, Error>> + Send + 'static,
{
    let client = PooledClient::builder().build();
    let mut service = service(handle)?;
    loop {
        let next = build_request().method(Method::GET).uri(NEXT).body(Body::empty())?;
        let (parts, body) = client.call(next).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let context = context(&parts.headers)
            .ok_or_else(|| format!("Lambda's Runtime API answered {} without an invocation", parts.status))?;
        poll_fn(|task| service.poll_ready(task)).await?;
        service.call(LambdaInvocation { parts, body, context }).await?;
    }
}

/// The parts of an invocation's context that the handler uses. Without a readable deadline, the handler's own budget applies.
fn context(headers: &HeaderMap) -> Option<Context> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let mut context = Context::default();
    text(REQUEST_ID)?.clone_into(&mut context.request_id);
    context.deadline = text(DEADLINE).and_then(|deadline| deadline.parse().ok()).unwrap_or(u64::MAX);
    Some(context)
}

/// The runtime's own service around the handler. The runtime hands it out to layers only.
fn service<E, R, F>(
    handle: impl FnMut(LambdaEvent<E>) -> F + Send + 'static,
) -> Result<impl Service<LambdaInvocation, Response = (), Error = Error, Future: Send> + Send, Error>
where
    E: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, Error>> + Send + 'static,
{
    let taken = Taken(Mutex::new(None));
    Runtime::new(service_fn(handle)).layer(&taken);
    let service = taken.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    service.ok_or_else(|| "the runtime has no service".into())
}

/// A layer that keeps the service below it.
struct Taken<S>(Mutex<Option<S>>);

impl<S> Layer<S> for Taken<S> {
    type Service = Nothing;

    fn layer(&self, service: S) -> Nothing {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
        Nothing
    }
}

/// The service that the layer leaves behind, which is never called.
struct Nothing;

impl Service<LambdaInvocation> for Nothing {
    type Response = ();
    type Error = Error;
    type Future = future::Ready<Result<(), Error>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: LambdaInvocation) -> Self::Future {
        future::ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_request_id_is_required() {
        let mut headers = HeaderMap::new();
        assert!(context(&headers).is_none());
        headers.insert(REQUEST_ID, HeaderValue::from_static("id"));
        for (deadline, expected) in
            [(None, u64::MAX), (Some("soon"), u64::MAX), (Some("1700000000000"), 1_700_000_000_000)]
        {
            if let Some(deadline) = deadline {
                headers.insert(DEADLINE, HeaderValue::from_static(deadline));
            }
            let context = context(&headers).unwrap();
            assert_eq!((context.request_id.as_str(), context.deadline), ("id", expected));
        }
    }
}

//! The table of routes: each path and method with its handler.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract,
    http::{HeaderMap, Uri},
    middleware,
    routing::{get, post},
};

#[cfg(not(feature = "calls"))]
use crate::call_disabled as sockets;
#[cfg(feature = "calls")]
use crate::sockets;
use crate::{
    calls, client_secrets, control, cors, hang_ups, models,
    refusal::Refusal,
    request::SeenRequest,
    state::{Shared, State},
    wire::Wire,
};

/// The routes, for the requests that come over one connection.
pub(crate) fn routes(state: Arc<State>, wire: Wire) -> Router {
    let calls = Router::new()
        .route("/v1/realtime/calls", post(calls::create))
        .route("/v1/realtime/translations/calls", post(calls::create))
        .layer(middleware::from_fn(cors::allow_any_origin));
    Router::new()
        .merge(calls)
        .route("/v1/realtime", get(sockets::open))
        .route("/v1/realtime/translations", get(sockets::open))
        .route("/v1/realtime/calls/{call_id}/hangup", post(hang_ups::create))
        .route("/v1/realtime/client_secrets", post(client_secrets::create))
        .route("/v1/realtime/translations/client_secrets", post(client_secrets::create))
        .route("/v1/models", get(models::list))
        .merge(control::routes())
        .fallback(unknown_path)
        .layer(Extension(wire))
        .with_state(state)
}

async fn unknown_path(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Refusal {
    state.record_request(SeenRequest::read(&wire, &uri, &headers, &body));
    Refusal::new(404, format!("Invalid URL ({})", uri.path()), None, "unknown_url")
}

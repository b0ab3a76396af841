//! Which path and method lead to which handler.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract,
    http::{HeaderMap, Uri},
    middleware,
    routing::{get, post},
};

use crate::{
    calls, client_secrets, control, cors, models,
    refusal::Refusal,
    request::SeenRequest,
    state::{Shared, State},
    wire::Wire,
};

/// All routes, for the requests of one connection.
pub(crate) fn routes(state: Arc<State>, wire: Wire) -> Router {
    let calls = Router::new()
        .route("/v1/realtime/calls", post(calls::calls_route))
        .route("/v1/realtime/translations/calls", post(calls::calls_route))
        .layer(middleware::from_fn(cors::for_browsers));
    Router::new()
        .merge(calls)
        .route("/v1/realtime/calls/{call_id}/hangup", post(calls::hang_up_route))
        .route("/v1/realtime/client_secrets", post(client_secrets::client_secrets_route))
        .route("/v1/realtime/translations/client_secrets", post(client_secrets::client_secrets_route))
        .route("/v1/models", get(models::models_route))
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

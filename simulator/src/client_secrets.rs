//! `POST /v1/realtime/client_secrets` and its translation counterpart: a session document in, an ephemeral token out.

use axum::{
    Extension, Json,
    body::Bytes,
    extract,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    clock,
    fault::Fault,
    fault_response,
    id::random,
    project::project_of,
    refusal::Refusal,
    request::{SeenRequest, bearer, safety_identifier},
    session_document,
    state::{Shared, State, Token},
    wire::Wire,
};

/// Mints, or fails in the way that was planned.
pub(crate) async fn create(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let bearer = bearer(&headers);
    let seen = SeenRequest::read(&wire, &uri, &headers, &body);
    let request = seen.body.clone();
    state.record_request(seen);
    let fault = state.memory().faults.pop_front();
    let answered = if !state.accepts(bearer) {
        Refusal::invalid_key(bearer).into_response()
    } else if request.is_null() {
        Refusal::new(400, "We could not parse the JSON body of your request.", None, "invalid_json").into_response()
    } else if uri.path().contains("/translations/") {
        answer(&state, &headers, mint_for_translation(&request), fault.as_ref())
    } else {
        answer(&state, &headers, mint(&request), fault.as_ref())
    };
    match fault {
        Some(fault) => fault_response::apply(fault, bearer, &request["session"].to_string(), &wire, answered).await,
        None => answered,
    }
}

/// The answer to a mint with these headers. Its token is remembered, so that it opens a session.
fn answer(state: &State, headers: &HeaderMap, secret: Result<Value, Refusal>, fault: Option<&Fault>) -> Response {
    let secret = match secret {
        Ok(secret) => secret,
        Err(refusal) => return refusal.into_response(),
    };
    if let (Some(token), Some(expires_at)) = (secret["value"].as_str(), secret["expires_at"].as_u64()) {
        let expires_at = if matches!(fault, Some(Fault::Expired)) { 0 } else { expires_at };
        let (session, project) = (secret["session"].clone(), project_of(bearer(headers)).to_owned());
        let safety_identifier = safety_identifier(headers);
        let minted = Token { session, project, safety_identifier, expires_at, used: false };
        state.memory().remember_token(token, minted);
    }
    Json(secret).into_response()
}

/// The body of OpenAI's answer to a valid request.
///
/// Source: `RealtimeCreateClientSecretResponse` of OpenAI's OpenAPI description (2026-08-21) and its example: a client
/// secret of 600 s by default, the session with its defaults filled in, and `session.expires_at` 0.
fn mint(request: &Value) -> Result<Value, Refusal> {
    Ok(secret(request, &session_document::create(request)?))
}

/// The same for `POST /v1/realtime/translations/client_secrets`, whose session has no type.
fn mint_for_translation(request: &Value) -> Result<Value, Refusal> {
    Ok(secret(request, &session_document::create_translation(request)?))
}

fn secret(request: &Value, session: &Value) -> Value {
    let seconds = request["expires_after"]["seconds"].as_u64().unwrap_or(600);
    json!({
        "value": format!("ek_{}", random(32)),
        "expires_at": clock::unix_seconds().saturating_add(seconds),
        "session": session,
    })
}

//! `GET /v1/realtime` and its translation counterpart open a session over a WebSocket.

use std::collections::HashMap;

use axum::{
    Extension,
    extract::{
        self, Query,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{
    call::socket,
    calls::{Credential, call_session},
    clock,
    refusal::Refusal,
    request::{SeenRequest, bearer},
    state::{Shared, State},
    wire::Wire,
};

/// The subprotocol under which browsers send a credential, since they cannot set headers.
const CREDENTIAL: &str = "openai-insecure-api-key.";

/// The longest message: 15 MiB of audio, as OpenAI's reference allows in an event.
const MAX_MESSAGE: usize = 21 * 1024 * 1024;

/// Opens a session. A used token gets its refusal as an event, since OpenAI opens the socket first.
pub(crate) async fn open(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    Query(query): Query<HashMap<String, String>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let bearer = credential(&headers).to_owned();
    let seen = SeenRequest { bearer: bearer.clone(), ..SeenRequest::read(&wire, &uri, &headers, b"") };
    state.record_request(seen);
    let translates = uri.path().ends_with("/translations");
    let found = Credential::of(&state, &bearer).and_then(|credential| session(&state, credential, &query, translates));
    let session = match found {
        Err(refusal) if !refusal.is_used_token() => return refusal.into_response(),
        session => session,
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.protocols(["realtime"]).max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE),
        Err(rejection) => return rejection.into_response(),
    };
    upgrade.on_upgrade(async move |socket| match session.and_then(|session| Ok((session, enter(&state, &bearer)?))) {
        Ok((mut session, closed)) => {
            let limit = state.memory().session_limit;
            session["expires_at"] = clock::unix_seconds().saturating_add(limit.as_secs()).into();
            socket::run(socket, session, limit, closed).await;
        }
        Err(refusal) => socket::refuse(socket, &refusal).await,
    })
}

/// The credential of the `Authorization` header or of a subprotocol.
fn credential(headers: &HeaderMap) -> &str {
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|list| list.to_str().ok());
    let mut protocols = protocols.flat_map(|list| list.split(',').map(str::trim));
    protocols.find_map(|protocol| protocol.strip_prefix(CREDENTIAL)).unwrap_or_else(|| bearer(headers))
}

/// The session of a token, or for an API key the one that the query names.
fn session(
    state: &State,
    Credential { session: bound, project, .. }: Credential,
    query: &HashMap<String, String>,
    translates: bool,
) -> Result<Value, Refusal> {
    if let Some(call_id) = query.get("call_id") {
        let memory = state.memory();
        let is_visible = bound.is_none() && memory.calls.is_visible(call_id, &project);
        let message = "The simulator does not let a server join a call.";
        let refusal =
            if is_visible { Refusal::new(501, message, None, "not_supported") } else { Refusal::unknown_call() };
        return Err(refusal);
    }
    let asked = match (query.get("model"), query.get("intent").map(String::as_str)) {
        (_, Some("transcription")) => json!({"type": "transcription"}),
        (Some(model), _) if translates => json!({"model": model}),
        (Some(model), _) => json!({"type": "realtime", "model": model}),
        (None, _) if bound.is_none() => {
            let message = "Missing required parameter: 'model'.";
            return Err(Refusal::invalid("model", message, "missing_required_parameter"));
        }
        (None, _) => Value::Null,
    };
    // A token's session keeps its own model.
    let asked = Some(&asked).filter(|_| bound.is_none());
    call_session(bound, asked, translates)
}

/// Uses the token and counts the socket as open. Returns a receiver that ends with the simulator.
fn enter(state: &State, bearer: &str) -> Result<oneshot::Receiver<()>, Refusal> {
    let mut memory = state.memory();
    memory.sockets.retain(|socket| !socket.is_closed());
    if memory.sockets.len() >= memory.max_calls {
        return Err(Refusal::rate_limit());
    }
    if !memory.use_token(bearer) {
        return Err(Refusal::used_token());
    }
    let (close, closed) = oneshot::channel();
    if !memory.stopped {
        memory.sockets.push(close);
    }
    Ok(closed)
}

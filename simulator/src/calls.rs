//! `POST /v1/realtime/calls` answers an offer and keeps the call running; `POST …/{call_id}/hangup` ends it.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{self, Path},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

#[cfg(feature = "calls")]
use crate::call::Call;
#[cfg(not(feature = "calls"))]
use crate::call_disabled::Call;
use crate::{
    call_fault::CallFault,
    clock, fault_response,
    id::new_id,
    offer::Offer,
    project::project_of,
    refusal::Refusal,
    request::{SeenRequest, bearer},
    schema, session_document,
    state::{RunningCall, Shared, State},
    wire::Wire,
};

/// The limit of calls at once: more than a test needs, and few enough for a small machine.
pub(crate) const MAX_CALLS: usize = 64;

/// Answers an offer, or fails in the way that was planned.
pub(crate) async fn create(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    state.record_request(SeenRequest::read(&wire, &uri, &headers, b""));
    let place = async |fault| match place_call(&state, &wire, &uri, &headers, &body, fault).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.into_response(),
    };
    let fault = state.memory().call_faults.pop_front();
    match fault {
        Some(CallFault::Answer(fault)) => {
            let answered = if fault.needs_answer() { place(None).await } else { Response::default() };
            fault_response::apply(fault, bearer(&headers), "", &wire, answered).await
        }
        fault => place(fault).await,
    }
}

async fn place_call(
    state: &Arc<State>,
    wire: &Wire,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
    fault: Option<CallFault>,
) -> Result<Response, Refusal> {
    let bearer = bearer(headers);
    let Credential { session: bound, project } = Credential::of(state, bearer)?;
    let Offer { sdp, session } = Offer::read(headers, body)?;
    let mut session = call_session(bound, session.as_ref(), uri.path().contains("/translations/"))?;
    let limit = state.memory().session_limit;
    session["expires_at"] = clock::unix_seconds().saturating_add(limit.as_secs()).into();
    if state.memory().calls.len() >= MAX_CALLS {
        return Err(Refusal::rate_limit());
    }
    let (call, answer) = Call::answer(&sdp, session, wire.ip, limit, fault).await?;
    let call_id = new_id("rtc");
    let location = format!("/v1/realtime/calls/{call_id}");
    let (hang_up, hung_up) = oneshot::channel();
    {
        let mut memory = state.memory();
        // Only now, so that a refused offer does not use the token. Of two calls at once, one is refused here.
        if !memory.use_token(bearer) {
            return Err(Refusal::used_token());
        }
        // Without an entry here the sender is dropped, which ends the call: the simulator has stopped.
        if !memory.stopped {
            memory.calls.insert(call_id.clone(), RunningCall { project, hang_up });
        }
    }
    let state = Arc::clone(state);
    tokio::spawn(async move {
        call.run(hung_up).await;
        state.memory().calls.remove(&call_id);
    });
    let headers = [(header::CONTENT_TYPE, "application/sdp".to_owned()), (header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, answer).into_response())
}

/// A checked token or API key: its session and its project.
pub(crate) struct Credential {
    /// The session that the token was minted for, or `None` for an API key.
    pub(crate) session: Option<Value>,
    pub(crate) project: String,
}

impl Credential {
    /// Checks a token or an API key.
    pub(crate) fn of(state: &State, bearer: &str) -> Result<Self, Refusal> {
        let memory = state.memory();
        match memory.tokens.get(bearer) {
            Some(token) if token.expires_at <= clock::unix_seconds() => Err(Refusal::expired_token()),
            Some(token) if token.used && !memory.tokens_are_reusable => Err(Refusal::used_token()),
            Some(token) => Ok(Self { session: Some(token.session.clone()), project: token.project.clone() }),
            None if memory.accepts(bearer) => Ok(Self { session: None, project: project_of(bearer).to_owned() }),
            None => Err(Refusal::invalid_key(bearer)),
        }
    }
}

/// The session of a new call or WebSocket: the token's, overlaid with the requested fields, or for an API key the requested
/// session.
pub(crate) fn call_session(
    bound: Option<Value>,
    asked: Option<&Value>,
    is_translation: bool,
) -> Result<Value, Refusal> {
    let request = json!({"session": asked});
    let session = match (bound, asked) {
        (None, None) => {
            return Err(Refusal::invalid(
                "session",
                "Missing required parameter: 'session'.",
                "missing_required_parameter",
            ));
        }
        (None, Some(_)) if is_translation => session_document::create_translation(&request)?,
        (None, Some(_)) => session_document::create(&request)?,
        (Some(bound), None) => bound,
        (Some(mut bound), Some(asked)) => {
            let checked =
                if is_translation { schema::checked_translation(&request) } else { schema::checked_session(&request) };
            checked?;
            session_document::overlay(&mut bound, asked);
            bound
        }
    };
    if (session["type"] == "translation") != is_translation {
        let message =
            "A translation session is held at /v1/realtime/translations/calls, any other at /v1/realtime/calls.";
        return Err(Refusal::invalid("session.type", message, "invalid_value"));
    }
    Ok(session)
}

/// Ends a call, for a caller with an API key of its project.
pub(crate) async fn hang_up(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    Path(call_id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    state.record_request(SeenRequest::read(&wire, &uri, &headers, b""));
    let bearer = bearer(&headers);
    if !state.accepts(bearer) {
        return Refusal::invalid_key(bearer).into_response();
    }
    let mut memory = state.memory();
    let is_visible = memory.calls.get(&call_id).is_some_and(|call| call.project == project_of(bearer));
    let call = if is_visible { memory.calls.remove(&call_id) } else { None };
    match call {
        Some(RunningCall { hang_up, .. }) => {
            // The result does not matter: the call also ends when the sender is dropped.
            let _ = hang_up.send(());
            StatusCode::OK.into_response()
        }
        None => Refusal::unknown_call().into_response(),
    }
}

//! `POST /v1/realtime/calls` answers an offer and keeps the call open.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension,
    body::Bytes,
    extract,
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
    call_register::{CallCredential, CallRecord},
    clock, fault_response,
    offer::{Offer, OfferParts},
    project::project_of,
    refusal::Refusal,
    request::{SeenRequest, bearer, safety_identifier},
    schema, session_document,
    state::{Shared, State},
    unreachable_call,
    wire::Wire,
};

/// The media line of an answer that its offer did not ask for.
const EXTRA_LINE: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:extra\r\n\
                          a=sctp-port:5000\r\n";

/// Answers an offer, or fails in the way that was planned.
pub(crate) async fn create(
    extract::State(state): Shared,
    Extension(wire): Extension<Wire>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parts = OfferParts::read(&headers, &body);
    let mut seen = SeenRequest::read(&wire, &uri, &headers, b"");
    if let Ok(parts) = &parts {
        (seen.sdp, seen.session) = (parts.sdp_text(), parts.session_document());
    }
    let session = seen.session.clone().unwrap_or_default().to_string();
    state.record_request(seen);
    let planned = state.memory().call_faults.pop_front();
    let (failure, fault) = match planned {
        Some(CallFault::Answer(failure)) => (Some(failure), None),
        fault => (None, fault),
    };
    let answered = match &failure {
        Some(failure) if !failure.needs_answer() => Response::default(),
        _ => {
            let placed = place_call(&state, wire.ip, &uri, &headers, parts, fault).await;
            placed.unwrap_or_else(IntoResponse::into_response)
        }
    };
    match failure {
        Some(failure) => fault_response::apply(failure, bearer(&headers), &session, &wire, answered).await,
        None => answered,
    }
}

async fn place_call(
    state: &Arc<State>,
    ip: IpAddr,
    uri: &Uri,
    headers: &HeaderMap,
    parts: Result<OfferParts, Refusal>,
    fault: Option<CallFault>,
) -> Result<Response, Refusal> {
    let bearer = bearer(headers);
    let Credential { session: bound, kind, project, safety_identifier: minted_for } = Credential::of(state, bearer)?;
    let channel = channel_number(uri)?;
    let Offer { sdp, session } = parts?.check()?;
    let mut session = call_session(bound, session.as_ref(), uri.path().contains("/translations/"))?;
    let (limit, connect_timeout) = state.memory().call_limits();
    session["expires_at"] = clock::unix_seconds().saturating_add(limit.as_secs()).into();
    let record = CallRecord {
        safety_identifier: minted_for.or_else(|| safety_identifier(headers)),
        model: session["model"].as_str().map(str::to_owned),
        data_channel: sdp.contains("\r\nm=application "),
        ..CallRecord::begin(project, kind, bearer)
    };
    let call_id = record.call_id.clone();
    // A broker's tests need no WebRTC. A browser with a token does, so its offer is refused without it.
    let is_built_in = cfg!(feature = "calls") || kind == CallCredential::Token;
    let answer_fault = fault.clone();
    let (call, answer) = if is_built_in && !matches!(fault, Some(CallFault::NeverConnects)) {
        let (call, answer) = Call::answer(&sdp, session, ip, channel, limit, fault).await?;
        (Some(call), answer)
    } else {
        (None, unreachable_call::answer(&sdp).ok_or_else(Refusal::invalid_offer)?)
    };
    let (hang_up, hung_up) = oneshot::channel();
    {
        let mut memory = state.memory();
        if memory.calls.len() >= memory.max_calls {
            return Err(Refusal::rate_limit());
        }
        // Only now, so that a refused offer does not use the token. Of two calls at once, one is refused here.
        if !memory.use_token(bearer) {
            return Err(Refusal::used_token());
        }
        // Without an entry here the sender is dropped, which ends the call: the simulator has stopped.
        if !memory.stopped {
            memory.calls.add(record, hang_up);
        }
    }
    let response = respond(&call_id, answer, answer_fault);
    let state = Arc::clone(state);
    tokio::spawn(async move {
        let reason = match call {
            // Boxed because it is large, and the task of an unreachable call would have its size.
            Some(call) => {
                let on_connect = || state.memory().calls.connected(&call_id);
                Box::pin(call.run(hung_up, connect_timeout, on_connect)).await
            }
            None => unreachable_call::run(hung_up, limit, connect_timeout).await,
        };
        state.memory().calls.end(&call_id, reason);
    });
    Ok(response)
}

/// The answer to the offer of an open call, changed by the planned fault.
fn respond(call_id: &str, mut sdp: String, fault: Option<CallFault>) -> Response {
    let mut location = format!("/v1/realtime/calls/{call_id}");
    let mut kind = "application/sdp";
    let mut is_located = true;
    match fault {
        Some(CallFault::NoLocation) => is_located = false,
        Some(CallFault::OtherLocation { location: other }) => location = other.replace("{call_id}", call_id),
        Some(CallFault::NotSdp) => (kind, sdp) = ("text/html", "<html><body>Just a moment...</body></html>".into()),
        Some(CallFault::ExtraLine) => sdp += EXTRA_LINE,
        _ => {}
    }
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::LOCATION, location)];
    let mut response = (StatusCode::CREATED, headers, sdp).into_response();
    if !is_located {
        response.headers_mut().remove(header::LOCATION);
    }
    response
}

/// The number of the data channel that both ends open without negotiation, from the query's `dcid`.
fn channel_number(uri: &Uri) -> Result<Option<u16>, Refusal> {
    let number = uri.query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("dcid="));
    number
        .map(|number| {
            let parsed = number.bytes().all(|digit| digit.is_ascii_digit()).then(|| number.parse().ok()).flatten();
            let message = format!("Invalid 'dcid': expected a value from 0 to 65535, but got '{number}'.");
            parsed.ok_or_else(|| Refusal::invalid("dcid", message, "invalid_value"))
        })
        .transpose()
}

/// A checked token or API key.
pub(crate) struct Credential {
    /// The session that the token was minted for, or `None` for an API key.
    pub(crate) session: Option<Value>,
    pub(crate) project: String,
    kind: CallCredential,
    /// The safety identifier that the token was minted for.
    safety_identifier: Option<String>,
}

impl Credential {
    /// Checks a token or an API key.
    pub(crate) fn of(state: &State, bearer: &str) -> Result<Self, Refusal> {
        let memory = state.memory();
        match memory.tokens.get(bearer) {
            Some(token) if token.expires_at <= clock::unix_seconds() => Err(Refusal::expired_token()),
            Some(token) if token.used && !memory.tokens_are_reusable => Err(Refusal::used_token()),
            Some(token) => Ok(Self {
                session: Some(token.session.clone()),
                project: token.project.clone(),
                kind: CallCredential::Token,
                safety_identifier: token.safety_identifier.clone(),
            }),
            None if memory.accepts(bearer) => Ok(Self {
                session: None,
                project: project_of(bearer).to_owned(),
                kind: CallCredential::Key,
                safety_identifier: None,
            }),
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

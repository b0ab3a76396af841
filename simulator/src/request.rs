//! A request as it arrived: the record that tests read back, and the caller's credential.

use axum::http::{HeaderMap, Uri, header};
use serde::Serialize;
use serde_json::Value;

use crate::wire::Wire;

/// One request to `/v1/…` as it arrived.
#[derive(Clone, Debug, Serialize)]
pub struct SeenRequest {
    /// The number of the connection that it came over, counted from 1.
    pub connection: usize,
    /// The path, for example `/v1/realtime/client_secrets`.
    pub path: String,
    /// The query without its question mark, for example `dcid=4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The credential after `Bearer `. `GET /simulator/requests` leaves it out.
    #[serde(skip)]
    pub bearer: String,
    /// The value of the header `OpenAI-Safety-Identifier`.
    pub safety_identifier: Option<String>,
    /// The body, or `null` if it is not JSON.
    pub body: Value,
    /// The SDP offer of a call, byte for byte if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp: Option<String>,
    /// The session in the form of a call, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Value>,
}

impl SeenRequest {
    /// The record of a request. An empty `body` is recorded as `null`.
    pub(crate) fn read(wire: &Wire, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Self {
        Self {
            connection: wire.connection,
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            bearer: bearer(headers).to_owned(),
            safety_identifier: safety_identifier(headers),
            body: serde_json::from_slice(body).unwrap_or_default(),
            sdp: None,
            session: None,
        }
    }
}

/// The value of the header `OpenAI-Safety-Identifier`.
pub(crate) fn safety_identifier(headers: &HeaderMap) -> Option<String> {
    headers.get("openai-safety-identifier").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The credential of the `Authorization` header; empty if there is none.
pub(crate) fn bearer(headers: &HeaderMap) -> &str {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

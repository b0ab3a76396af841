//! A request, independent of the kind of invoker.

use super::headers::Headers;

/// The parts of a request that the function uses.
#[derive(Debug)]
pub struct HttpRequest {
    /// The method as it was sent, for example `POST`.
    pub method: String,
    /// The path below the gateway's stage or base path, such as `/token`. `None` if the event has none, such as a
    /// test event from the Lambda console.
    pub path: Option<String>,
    /// The values of all `Origin` headers.
    pub origins: Vec<String>,
    pub headers: Headers,
    /// The body, decoded if the event has it in base64.
    pub body: Vec<u8>,
    /// The subject of the JWT that the gateway's authorizer has checked.
    pub subject: Option<String>,
    /// The caller's address, as the gateway saw it.
    pub source: Option<String>,
}

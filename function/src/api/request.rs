//! A request, independent of the kind of invoker.

use super::headers::Headers;
use crate::admission::{Applicant, sign_in::SignIn};

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
    /// The sign-in that the gateway has verified.
    pub sign_in: SignIn,
    /// The caller's address, as the gateway or the load balancer saw it.
    pub source: Option<String>,
    /// Whether a load balancer checks with this request that the function answers.
    pub is_health_check: bool,
}

impl HttpRequest {
    /// The parts that tell who sent the request.
    pub fn applicant(&self) -> Applicant<'_> {
        Applicant {
            origins: &self.origins,
            headers: &self.headers,
            sign_in: &self.sign_in,
            source: self.source.as_deref(),
        }
    }
}

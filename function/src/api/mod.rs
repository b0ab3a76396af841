//! The function as seen from outside: events, requests, answers and refusals.

pub(crate) mod answer;
pub(crate) mod call_form;
pub mod event;
mod gateway_sign_in;
mod headers;
mod path;
mod query;
pub(crate) mod rate_limit;
pub(crate) mod refusal;
pub(crate) mod request;

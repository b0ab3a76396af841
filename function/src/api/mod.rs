//! The function as seen from outside: what comes in, and what goes out.

pub(crate) mod answer;
pub mod event;
mod path;
pub(crate) mod rate_limit;
pub(crate) mod refusal;
pub(crate) mod request;

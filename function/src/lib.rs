//! Mints ephemeral OpenAI Realtime tokens in AWS Lambda: a browser sends `POST /token`, and the API key never leaves the
//! server. Or it sends its offer to `POST /call`, gets no token at all, and the server ends the call.
//!
//! Imports go one way, from [`runtime`] and [`handler`] down: [`api`] turns an event into a request, [`admission`] checks it,
//! its route in `routes` answers it with the help of [`profile`], [`secret`] and [`openai`], `api::refusal` turns every
//! failure into an answer, and `record` writes one line about it. `admission` and the modules below it do not depend on the
//! form of a request; below [`openai`] there are a profile's kind and [`net`], below [`secret`] and [`aws`] only [`net`].
//!
//! A module is public only if the program, the demo, the fuzzer or the whole-path tests need it.

pub mod admission;
pub mod api;
pub mod aws;
mod calls;
pub mod config;
#[cfg(test)]
mod description;
pub mod handler;
pub mod keeper_function;
pub mod log;
pub mod net;
pub mod openai;
pub mod profile;
mod record;
mod routes;
pub mod runtime;
pub mod secret;

//! An offline simulator of OpenAI's Realtime API.
//!
//! It mints client secrets by OpenAI's schema, accepts WebRTC calls that present one, refuses the requests that OpenAI
//! would refuse, and fails on demand in every way that a client must handle. By default it listens on loopback.
//!
//! Tests use it as a library, people as the program `openai-simulator`. The README describes both, and the limits.
//!
//! From the top: [`Simulator`] is the handle, `listener` accepts connections, `routes` leads each request to its
//! handler (`calls`, `hang_ups`, `sockets`, `client_secrets`, `models`, `control`). Below the handlers are the documents
//! (`session_document`, `schema`, `offer`), the planned faults, `call_register`, and `state`. `call` is a running session.

#![allow(clippy::indexing_slicing, reason = "a missing field of a JSON value reads as null")]

#[cfg(feature = "calls")]
mod call;
#[cfg(not(feature = "calls"))]
mod call_disabled;
mod call_fault;
mod call_register;
mod calls;
mod client_secrets;
mod clock;
mod control;
mod cors;
mod fault;
mod fault_response;
mod form;
mod hang_ups;
mod id;
mod listener;
mod models;
mod offer;
mod project;
mod refusal;
mod request;
mod routes;
mod schema;
mod session_document;
mod simulator;
#[cfg(feature = "calls")]
mod sockets;
mod state;
pub mod tls;
mod unreachable_call;
mod wire;

pub use call_fault::CallFault;
pub use call_register::{CallCredential, CallRecord, EndReason, EndedCall};
pub use fault::Fault;
pub use request::SeenRequest;
pub use simulator::Simulator;

/// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

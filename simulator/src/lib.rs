//! OpenAI's Realtime side, offline.
//!
//! It mints client secrets as OpenAI's schema says, holds WebRTC calls with whoever comes with one, refuses what
//! OpenAI would refuse, and fails on demand in every way that a client has to survive. It listens on loopback unless it
//! is told otherwise.
//!
//! As a library it serves tests, as the program `openai-simulator` it serves people. Its README says how, and what it
//! does not do.

#![allow(clippy::indexing_slicing, reason = "reading JSON: what is not there reads as null")]

#[cfg(feature = "calls")]
mod call;
#[cfg(not(feature = "calls"))]
mod call_disabled;
mod call_fault;
mod calls;
mod client_secrets;
mod clock;
mod control;
mod cors;
mod fault;
mod fault_response;
mod id;
mod listener;
mod models;
mod offer;
mod refusal;
mod request;
mod routes;
mod schema;
mod session_document;
mod simulator;
mod state;
pub mod tls;
mod wire;

pub use call_fault::CallFault;
pub use fault::Fault;
pub use request::SeenRequest;
pub use simulator::Simulator;

/// So that the README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! The whole path: an event as Lambda delivers it, the function's own process as Lambda starts it,
//! real HTTP to the simulator, and the answer as Lambda takes it back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "reading JSON: what is not there reads as null")]

mod answers;
mod any_event;
mod frozen;
mod function;
mod keys;
mod logs;
mod profiles;
mod quotas;
mod refusals;
mod secrets;
mod starts;
mod table;
mod upstream;

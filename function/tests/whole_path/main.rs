//! The whole path: an event in Lambda's form, the function's own process, real HTTP to the simulator, and the answer to
//! Lambda.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "indexing JSON, where a missing value reads as null")]

mod answers;
mod any_event;
mod callers;
mod counted_once;
mod daily_limit;
mod events;
mod faulty_table;
mod frozen;
mod function;
mod given_back;
mod invocations;
mod keys;
mod logs;
mod other_servers;
mod profiles;
mod proxy;
mod quotas;
mod raw_openai;
mod reasons;
mod refusals;
mod secrets;
mod slow_openai;
mod starts;
mod table;
mod upstream;
mod waits;

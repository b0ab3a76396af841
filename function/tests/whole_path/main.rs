//! The whole path: an event in Lambda's form, the function's own process, real HTTP to the simulator, and the answer to
//! Lambda.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "indexing JSON, where a missing value reads as null")]

mod answers;
mod any_event;
mod call_events;
mod call_faults;
mod call_limits;
mod call_offers;
mod callers;
mod calls;
mod counted_once;
mod crashes;
mod daily_limit;
mod events;
mod faulty_table;
mod frozen;
mod function;
mod gate;
mod given_back;
mod invocations;
mod keeper;
mod keeper_faults;
mod keeper_process;
mod keys;
mod line;
mod logs;
mod many_calls;
mod other_servers;
mod ports;
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

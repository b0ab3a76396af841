//! A browser asks `POST /token`; this mints an ephemeral OpenAI Realtime token for it, with an API
//! key that never leaves the server.
//!
//! Imports go one way, from [`handler`] down: an [`event`] becomes a request, [`admission`] checks it, its
//! route answers it with the help of [`profile`], `key` and [`openai`], `error` turns every failure into an answer, and
//! `record` writes down once what happened.
//!
//! Public is what the program, the demo, the fuzzer and the tests of the whole path need.

pub mod admission;
mod aws;
mod clock;
pub mod config;
pub mod connection;
pub mod dynamodb;
mod error;
pub mod event;
pub mod handler;
mod key;
pub mod log;
pub mod openai;
mod path;
pub mod profile;
mod rate_limit;
mod record;
mod routes;
mod sigv4;
pub mod tls;

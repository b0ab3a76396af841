//! OpenAI's Realtime side, offline.
//!
//! It mints client secrets as OpenAI's schema says, refuses what OpenAI would refuse, and fails on
//! demand in every way that a client has to survive. It listens on loopback unless it is told otherwise.
//!
//! As a library it serves tests, as the program `openai-simulator` it serves people:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use openai_simulator::{Fault, Simulator};
//!
//! let openai = Simulator::start().await?;
//! openai.fail(Fault::RateLimit { retry_after: Some("2".into()) }, 1);
//! // … point a client at openai.base_url(), then look at what it sent:
//! assert!(openai.requests().is_empty());
//! # Ok(())
//! # }
//! ```

#![allow(clippy::indexing_slicing, reason = "reading JSON: what is not there reads as null")]

mod call;
mod calls;
mod client_secrets;
mod control;
mod fault;
mod models;
mod offer;
mod refusal;
mod rules;
mod server;
mod state;
pub mod tls;

pub use call::CallFault;
pub use fault::Fault;
pub use server::Simulator;
pub use state::SeenRequest;

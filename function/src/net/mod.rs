//! Connections to other services, and time.

pub(crate) mod clock;
pub mod connection;
pub(crate) mod retry;
pub mod tls;

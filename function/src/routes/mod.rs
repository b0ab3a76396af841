//! One file for each route, and the answer to health checks.

pub mod health;
pub mod token;

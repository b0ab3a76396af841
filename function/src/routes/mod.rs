//! One file for each route.

pub mod token;

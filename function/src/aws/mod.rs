//! AWS: its SDK for Secrets Manager, and DynamoDB without it.

pub(crate) mod code;
pub mod dynamodb;
pub(crate) mod sdk;
mod sigv4;

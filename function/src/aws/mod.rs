//! AWS: its SDK for Secrets Manager, and DynamoDB without it.

pub mod dynamodb;
pub(crate) mod sdk;
mod sigv4;

//! One file for each route, and the answer to health checks.

pub mod call;
pub mod health;
pub mod token;

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{
    openai::OpenAiError,
    secret::{Rejection, Secret, SecretStore},
};

/// The secret with another key than that of `rejected`, which OpenAI does not accept.
async fn other_secret(
    store: &Arc<SecretStore>,
    rejected: &Arc<Secret>,
    error: &OpenAiError,
    deadline: Instant,
) -> Option<Arc<Secret>> {
    let other = timeout_at(deadline, store.other_than(rejected, Rejection::by(error.status()))).await.ok()?;
    other.inspect_err(|error| warn!(%error, "OpenAI rejected the key, and no other can be read")).ok().flatten()
}

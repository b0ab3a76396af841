//! The time that tokens and sessions expire by.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now, in whole seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

//! The time that tokens and sessions expire by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now, in whole seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    since_epoch().as_secs()
}

/// The time now, in seconds since the Unix epoch, with fractions.
pub(crate) fn unix_time() -> f64 {
    since_epoch().as_secs_f64()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

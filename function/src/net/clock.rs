//! Time, for a process that is frozen between requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::{DateTime, date_time::Format};
use tokio::time::Instant;

/// A moment on both clocks.
///
/// The monotonic clock may stand still while Lambda has the process frozen, and the wall clock may
/// be set back; the later of the two is the safe answer to "how long ago?".
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago it was, by the clock that says more.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }

    /// The same moment as a process saw it whose monotonic clock stood still for `frozen` since.
    #[cfg(test)]
    pub(crate) fn before_a_freeze_of(frozen: Duration) -> Self {
        let now = Self::now();
        Self { wall: now.wall.checked_sub(frozen).expect("a moment after 1970"), ..now }
    }
}

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds, to the microsecond, for the log.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// How many seconds to wait, rounded up: whoever comes back early is refused again.
#[must_use]
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// In ISO 8601's basic form, as AWS signs it: `20261122T083100Z`.
#[must_use]
pub fn iso_basic(time: SystemTime) -> String {
    let mut text = DateTime::from(time).fmt(Format::DateTime).unwrap_or_default();
    text.truncate("2026-11-22T08:31:00".len());
    text.retain(|letter| letter.is_ascii_alphanumeric());
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_that_says_more_is_believed() {
        let hour = Duration::from_secs(3600);
        assert!(Moment::before_a_freeze_of(hour).elapsed() >= hour, "the monotonic clock stood still");
        let moment = Moment::now();
        tokio::time::advance(hour).await;
        assert!(moment.elapsed() >= hour, "the wall clock stood still");
    }
}

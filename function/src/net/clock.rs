//! Time, as measured by a process that Lambda freezes between requests.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::{DateTime, date_time::Format};
use tokio::time::Instant;

/// A moment on both clocks.
///
/// The monotonic clock may stop while the process is frozen, and the wall clock may be set back. The longer of the two
/// times is the safe one.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The time since this moment, by the clock that measured more.
    pub fn elapsed(&self) -> Duration {
        self.monotonic.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }

    /// This moment, as seen by a process whose monotonic clock has stopped for `frozen` since.
    #[cfg(test)]
    pub(crate) fn before_a_freeze_of(frozen: Duration) -> Self {
        let now = Self::now();
        Self { wall: now.wall.checked_sub(frozen).expect("a moment after 1970"), ..now }
    }
}

/// The time since the Unix epoch, by the wall clock.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the Unix epoch, by the wall clock.
pub fn unix_millis() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

/// Seconds since the Unix epoch, by the wall clock.
pub fn unix_seconds() -> u64 {
    unix_millis() / 1_000
}

/// A time in milliseconds, rounded to microseconds, for the log.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// A wait in seconds, rounded up: a caller that comes back early is refused again.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

/// The date of a time in Unix seconds, in UTC, such as `2026-11-22`.
pub fn date(time: u64) -> String {
    let mut date =
        DateTime::from_secs(i64::try_from(time).unwrap_or_default()).fmt(Format::DateTime).unwrap_or_default();
    date.truncate("2026-11-22".len());
    date
}

/// A time in the basic format of ISO 8601, which AWS signs: `20261122T083100Z`.
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
    async fn the_clock_that_measured_more_counts() {
        let hour = Duration::from_secs(3600);
        assert!(Moment::before_a_freeze_of(hour).elapsed() >= hour, "the monotonic clock stopped");
        let moment = Moment::now();
        tokio::time::advance(hour).await;
        assert!(moment.elapsed() >= hour, "the wall clock stopped");
    }
}

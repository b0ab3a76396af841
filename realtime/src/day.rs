//! Calendar days in UTC, for shutdown dates.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SECONDS: u64 = 86_400;

/// A day in UTC, displayed in the form of OpenAI's shutdown dates: `2027-01-20`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    since_epoch: u64,
}

impl Day {
    /// The current day, by the system clock.
    #[must_use]
    pub fn today() -> Self {
        Self::at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The day of a point in time, given as the time since the Unix epoch.
    #[must_use]
    pub const fn at(since_epoch: Duration) -> Self {
        Self { since_epoch: since_epoch.as_secs() / SECONDS }
    }

    /// The day that is `days` days after this one.
    #[must_use]
    pub const fn plus(self, days: u64) -> Self {
        Self { since_epoch: self.since_epoch.saturating_add(days) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut year, mut month, mut left) = (1970_u64, 1, self.since_epoch);
        while let Some(rest) = left.checked_sub(if is_leap(year) { 366 } else { 365 }) {
            (year, left) = (year.saturating_add(1), rest);
        }
        let february = if is_leap(year) { 29 } else { 28 };
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            let Some(rest) = left.checked_sub(length) else { break };
            (month, left) = (u64::saturating_add(month, 1), rest);
        }
        write!(formatter, "{year:04}-{month:02}-{:02}", left.saturating_add(1))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_displayed_as_its_date() {
        for (seconds, date) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_795_651_200, "2026-11-26"),
            (1_800_403_200, "2027-01-20"),
        ] {
            assert_eq!(Day::at(Duration::from_secs(seconds)).to_string(), date);
        }
        assert_eq!(Day::at(Duration::from_secs(1_795_651_200)).plus(55).to_string(), "2027-01-20");
    }
}

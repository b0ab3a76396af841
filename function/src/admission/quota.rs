//! Quotas: the limits for the tokens of each caller, and of all callers together.
//!
//! Tokens are counted in one DynamoDB table, in fixed windows of UTC: one item per caller and day, which counts the day
//! and each of its minutes, and one item per day for all callers. Each window has its own name and no counter is ever
//! reset, so instances whose clocks differ cannot undo each other's counts.
//!
//! A caller's item stays below 1 KiB, one unit of DynamoDB's bill, up to some hundred tokens a day. Without a limit per
//! day it may grow to 12 KiB, all minutes of a day.
//!
//! A caller's count is one conditional update, which is exact for any number of concurrent instances. The count of all
//! callers is a second one, made only for callers within their own quota: in one transaction, all mints would conflict
//! over the common item, and in parallel, a refused caller would use up the tokens of the others.

use std::{
    num::NonZeroU32,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tracing::debug;

use super::counter::{self, Counter, DAY, MINUTE, Window};
use crate::{
    aws::dynamodb::{Table, TableError, Updated},
    net::clock::{millis, whole_seconds},
};

/// The caller's place in the item that counts all callers together.
const EVERYONE: &str = "everyone";

/// The numbers of tokens that may be taken. `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Per caller and minute of the clock.
    pub per_minute: Option<NonZeroU32>,
    /// Per caller and day of UTC.
    pub per_day: Option<NonZeroU32>,
    /// For all callers together, per day of UTC.
    pub all_callers_per_day: Option<NonZeroU32>,
}

impl Limits {
    /// Whether at least one limit is on.
    #[must_use]
    pub fn any(&self) -> bool {
        self.per_minute.or(self.per_day).or(self.all_callers_per_day).is_some()
    }
}

/// The limits, and the table that counts against them.
#[derive(Debug)]
pub struct Quota {
    table: Table,
    limits: Limits,
}

/// A caller's quota after a token was taken or refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QuotaStatus {
    /// One entry per limit of the caller: the minute's, then the day's.
    pub limits: Vec<LimitStatus>,
}

/// The state of one limit.
#[derive(Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The window's name, `minute` or `day`.
    pub name: &'static str,
    /// How many tokens the limit allows per window.
    pub limit: u32,
    /// The window's length, in seconds.
    pub window: u64,
    /// Tokens that are left in this window.
    pub remaining: u32,
    /// Seconds until the next window begins, rounded up.
    pub resets: u64,
}

/// Why no token could be taken.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// This caller has used up at least one of their limits.
    #[error("the caller's quota is used up")]
    Exceeded(QuotaStatus),
    /// All callers together have used up the day's tokens.
    #[error("the day's limit for all callers is reached")]
    DailyLimit {
        /// The time until the next day of UTC begins.
        retry_after: Duration,
    },
    /// The table could not count, so it is unknown whether a token is left.
    #[error("the quota table cannot be used")]
    Unavailable(#[from] TableError),
}

impl Quota {
    /// Quotas that are counted in `table`.
    #[must_use]
    pub fn new(table: Table, limits: Limits) -> Self {
        Self { table, limits }
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        self.table.warm().await;
    }

    /// Takes one token for `caller`, a hash, at the time `now`. It is never given back.
    ///
    /// # Errors
    /// If the caller's quota or the daily limit is used up, or the table cannot be used.
    pub async fn take(&self, caller: &str, now: SystemTime) -> Result<QuotaStatus, QuotaError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (minute, day) = (Window::at(now, MINUTE), Window::at(now, DAY));
        let counters = [(self.limits.per_minute, "minute", minute), (self.limits.per_day, "day", day)];
        let counters: Vec<_> = counters
            .into_iter()
            .filter_map(|(limit, name, window)| limit.map(|limit| Counter { name, limit: limit.get(), window }))
            .collect();
        let mut status = QuotaStatus::default();
        if !counters.is_empty() {
            status = match self.count(caller, day, &counters).await? {
                Counted::Taken(counts) => QuotaStatus::new(&counters, &counts),
                Counted::Full(counts) => return Err(QuotaError::Exceeded(QuotaStatus::new(&counters, &counts))),
            };
        }
        if let Some(limit) = self.limits.all_callers_per_day {
            let counter = Counter { name: "day", limit: limit.get(), window: day };
            if let Counted::Full(_) = self.count(EVERYONE, day, &[counter]).await? {
                return Err(QuotaError::DailyLimit { retry_after: day.left });
            }
        }
        Ok(status)
    }

    async fn count(&self, whose: &str, day: Window, counters: &[Counter]) -> Result<Counted, QuotaError> {
        // Kept one day longer than it is used, so that an operator can look at it.
        let expires = day.number.saturating_add(2).saturating_mul(DAY);
        let id = format!("{whose}/{}", day.date());
        let began = Instant::now();
        let counted = match self.table.update(&counter::update(id, counters, expires)).await? {
            Updated::Done(attributes) => Counted::Taken(counter::counts(counters, &attributes)),
            Updated::ConditionFailed(item) => Counted::Full(counter::counts(counters, &item)),
        };
        debug!(
            quota = if whose == EVERYONE { "all callers" } else { "caller" },
            taken = matches!(counted, Counted::Taken(_)),
            counts = %summary(counters, &counted),
            milliseconds = millis(began.elapsed()),
            "the quota was counted"
        );
        Ok(counted)
    }
}

/// The outcome of an update, with the current counts.
enum Counted {
    Taken(Vec<u32>),
    Full(Vec<u32>),
}

/// For the log, such as `minute 3 of 10, day 3 of 200`.
fn summary(counters: &[Counter], counted: &Counted) -> String {
    let (Counted::Taken(counts) | Counted::Full(counts)) = counted;
    let counts =
        counters.iter().zip(counts).map(|(counter, count)| format!("{} {count} of {}", counter.name, counter.limit));
    counts.collect::<Vec<_>>().join(", ")
}

impl QuotaStatus {
    fn new(counters: &[Counter], counts: &[u32]) -> Self {
        let limits = counters.iter().zip(counts).map(|(counter, count)| LimitStatus {
            name: counter.name,
            limit: counter.limit,
            window: counter.window.length,
            remaining: counter.limit.saturating_sub(*count),
            resets: whole_seconds(counter.window.left),
        });
        Self { limits: limits.collect() }
    }

    /// The time until a token can be taken again: all windows that are used up must end first.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let used_up = self.limits.iter().filter(|limit| limit.remaining == 0);
        Duration::from_secs(used_up.map(|limit| limit.resets).max().unwrap_or(MINUTE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &'static str, length: u64, now: Duration) -> Counter {
        Counter { name, limit: 10, window: Window::at(now, length) }
    }

    #[test]
    fn a_caller_that_used_up_several_windows_waits_for_the_last_of_them() {
        let now = Duration::from_millis(1_795_391_940_001);
        let counters = [counter("minute", MINUTE, now), counter("day", DAY, now)];
        let after = |counts: [u32; 2]| QuotaStatus::new(&counters, &counts).retry_after().as_secs();
        assert_eq!((after([10, 3]), after([3, 10]), after([10, 12])), (60, 60, 60), "the day's last minute");
        let counters = [counter("minute", MINUTE, Duration::ZERO), counter("day", DAY, Duration::ZERO)];
        let after = |counts: [u32; 2]| QuotaStatus::new(&counters, &counts).retry_after().as_secs();
        assert_eq!((after([10, 3]), after([3, 10]), after([10, 10])), (60, DAY, DAY));
    }
}

//! Quotas: the limits for the tokens of each caller, and of all callers together.
//!
//! Tokens are counted in one DynamoDB table, in fixed windows of UTC: one item per caller and day, which counts the day
//! and each of its minutes, and one item per day for all callers. Each window has its own name and no counter is ever
//! reset, so instances whose clocks differ cannot undo each other's counts. A repeated update is not counted twice.
//!
//! A caller's item stays below 1 KiB, one unit of DynamoDB's bill, up to some 50 minutes with tokens in a day. Without a
//! limit per day it may grow to 12 KiB, all minutes of a day.
//!
//! A caller's count is one conditional update, which is exact for any number of concurrent instances. The count of all
//! callers is another one, made only for callers within their own quota: in one transaction, all mints would conflict
//! over the common item, and in parallel, a refused caller would use up the tokens of the others. An instance that is
//! busy takes several tokens of all callers at once, while OpenAI is asked; see `stock.rs`.
//!
//! A minute counts attempts, so that no page hammers OpenAI. A day counts tokens: one that OpenAI certainly did not make
//! is given back.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{
    counter::{self, Change, Counter, DAY, Key, MINUTE, Window},
    everyone::{Everyone, Token},
    ledger::{self, Ledger},
};
use crate::{
    aws::dynamodb::{Table, TableError, UpdateError},
    net::clock::whole_seconds,
};

/// The longest that giving a token back may delay an answer. The table takes some 5 ms.
const GIVE_BACK: Duration = Duration::from_millis(300);

/// The longest that an answer waits for a stock that is being filled. It is usually full before OpenAI answers. Otherwise
/// the next request continues to fill it.
const REFILL: Duration = Duration::from_millis(25);

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
    ledger: Arc<Ledger>,
    limits: Limits,
    everyone: Option<Arc<Everyone>>,
}

/// A token that was taken from every limit.
#[derive(Debug, Default)]
pub struct Taken {
    /// The rest of the caller's quota.
    pub status: QuotaStatus,
    /// The caller's item, if it counts the day.
    item: Option<Key>,
    token: Option<Token>,
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
    pub fn new(table: Arc<Table>, limits: Limits) -> Self {
        let ledger = Arc::new(Ledger::new(table));
        let everyone =
            limits.all_callers_per_day.map(|limit| Arc::new(Everyone::new(Arc::clone(&ledger), limit.get())));
        Self { ledger, limits, everyone }
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        self.ledger.warm().await;
    }

    /// Takes one token for `caller`, a hash, at the time `now`.
    ///
    /// # Errors
    /// If the caller's quota or the daily limit is used up, or the table cannot be used. The token of another limit is
    /// then given back, except that of the caller's minute.
    pub async fn take(&self, caller: &str, now: SystemTime) -> Result<Taken, QuotaError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (minute, day) = (Window::at(now, MINUTE), Window::at(now, DAY));
        let limit_reached = QuotaError::DailyLimit { retry_after: day.left };
        if self.everyone.as_ref().is_some_and(|everyone| everyone.is_reached(day, now)) {
            debug!("the day's limit for all callers was reached a short time ago");
            return Err(limit_reached);
        }
        let counters = [(self.limits.per_minute, "minute", minute), (self.limits.per_day, "day", day)];
        let counters: Vec<_> = counters
            .into_iter()
            .filter_map(|(limit, name, window)| limit.map(|limit| Counter { name, limit: limit.get(), window }))
            .collect();
        let key = Key::of_caller(caller, day);
        let mut taken = Taken::default();
        if !counters.is_empty() {
            let began = Instant::now();
            let counted = self.ledger.count(&Change::count(key.clone(), &counters, 1, None)).await?;
            let counts = counter::counts(&counters, &counted.item);
            ledger::log("caller", &counters, &counts, counted.taken, began.elapsed());
            taken.status = QuotaStatus::new(&counters, &counts);
            if !counted.taken {
                return Err(QuotaError::Exceeded(taken.status));
            }
            taken.item = self.limits.per_day.map(|_| key);
        }
        let Some(everyone) = &self.everyone else { return Ok(taken) };
        let error = match everyone.take(day, now).await {
            Ok(Some(token)) => return Ok(Taken { token: Some(token), ..taken }),
            Ok(None) => limit_reached,
            Err(error) => error.into(),
        };
        self.give_back(&taken).await;
        Err(error)
    }

    /// Gives the tokens of the day back that OpenAI certainly did not make. This is tried for a short time only.
    pub async fn give_back(&self, taken: &Taken) {
        let of_caller = async {
            if let Some(key) = &taken.item {
                let _ = self.ledger.give_back(key, 1).await;
            }
        };
        let of_everyone = async {
            if let (Some(everyone), Some(token)) = (&self.everyone, &taken.token) {
                everyone.give_back(token).await;
            }
        };
        let _ = timeout(GIVE_BACK, async { tokio::join!(of_caller, of_everyone) }).await;
    }
}

impl Taken {
    /// Waits, but not for long, until the stock is full: Lambda freezes the process after the answer.
    pub async fn finish(&mut self) {
        if let Some(refill) = self.token.as_mut().and_then(|token| token.refill.as_mut()) {
            let _ = timeout(REFILL, refill).await;
        }
    }
}

impl From<UpdateError> for QuotaError {
    fn from(error: UpdateError) -> Self {
        Self::Unavailable(error.cause)
    }
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

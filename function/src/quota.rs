//! Quotas: how many tokens a caller, and everyone together, may take.
//!
//! Counted in one DynamoDB table, in fixed windows of UTC: one item per caller and day, which counts
//! the day and each of its minutes, and one per day for everyone. A window has a name of its own and
//! nothing is ever reset, so instances whose clocks differ cannot undo each other's counts.
//!
//! A caller's item stays below 1 KiB, one unit of DynamoDB's bill, up to some hundred tokens a day; without a
//! limit per day it may grow to 12 KiB, all minutes of a day.
//!
//! A caller's count is one conditional update, exact however many instances make it at once. Everyone's
//! is a second one, made only for those who are within their own quota: in one transaction, all mints
//! would conflict over everyone's item, and counted side by side, a caller who is refused would use up
//! what belongs to the others.

use std::{
    fmt::Write,
    num::NonZeroU32,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::{DateTime, date_time::Format};
use http::HeaderName;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    clock::{millis, whole_seconds},
    dynamodb::{Item, Map, Table, TableError, Update, Updated, Value},
};

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

/// The table's key.
const ID: &str = "id";
/// The table's time to live, Unix seconds: when DynamoDB may delete an item.
const EXPIRES: &str = "expires";
/// Whose item counts all callers together.
const EVERYONE: &str = "everyone";

/// How many tokens there are. What is `None` is not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Per caller and minute of the clock.
    pub per_minute: Option<NonZeroU32>,
    /// Per caller and day of UTC.
    pub per_day: Option<NonZeroU32>,
    /// For all callers together, per day of UTC.
    pub of_everyone_per_day: Option<NonZeroU32>,
}

impl Limits {
    /// Whether anything is limited.
    #[must_use]
    pub fn any(&self) -> bool {
        self.per_minute.or(self.per_day).or(self.of_everyone_per_day).is_some()
    }
}

/// The table, and what may be taken.
#[derive(Debug)]
pub struct Quota {
    table: Table,
    limits: Limits,
}

/// Where a caller stands after a token was taken or refused: one entry per limit of theirs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing(Vec<Allowance>);

/// What one limit leaves a caller.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowance {
    /// `minute` or `day`.
    pub name: &'static str,
    /// Tokens per window.
    pub limit: u32,
    /// The window's length, in seconds.
    pub window: u64,
    /// Tokens that are left in this window.
    pub remaining: u32,
    /// Seconds until the next window begins, rounded up.
    pub resets: u64,
}

/// Why there is nothing left to take, or no telling.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// This caller has used up what is theirs.
    #[error("the caller's quota is used up")]
    Exceeded(Standing),
    /// All callers together have used up the day's tokens.
    #[error("the day's limit for all callers is reached")]
    DailyLimit {
        /// Until the next day begins.
        retry_after: Duration,
    },
    /// The table did not answer, so no one knows.
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
    /// If the caller, or everyone, has none left; or if the table cannot be used.
    pub async fn take(&self, caller: &str, now: SystemTime) -> Result<Standing, QuotaError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (minute, day) = (Window::at(now, MINUTE), Window::at(now, DAY));
        let counters = [(self.limits.per_minute, "minute", minute), (self.limits.per_day, "day", day)];
        let counters: Vec<_> = counters
            .into_iter()
            .filter_map(|(limit, name, window)| limit.map(|limit| Counter { name, limit: limit.get(), window }))
            .collect();
        let mut standing = Standing::default();
        if !counters.is_empty() {
            standing = match self.count(caller, day, &counters).await? {
                Counted::Taken(counts) => Standing::new(&counters, &counts),
                Counted::Full(counts) => return Err(QuotaError::Exceeded(Standing::new(&counters, &counts))),
            };
        }
        if let Some(limit) = self.limits.of_everyone_per_day {
            let counter = Counter { name: "day", limit: limit.get(), window: day };
            if let Counted::Full(_) = self.count(EVERYONE, day, &[counter]).await? {
                return Err(QuotaError::DailyLimit { retry_after: day.left });
            }
        }
        Ok(standing)
    }

    async fn count(&self, whose: &str, day: Window, counters: &[Counter]) -> Result<Counted, QuotaError> {
        // Kept for a day longer than it counts, for whoever wants to look.
        let expires = day.number.saturating_add(2).saturating_mul(DAY);
        let id = format!("{whose}/{}", day.date());
        let began = Instant::now();
        let counted = match self.table.update(&update(id, counters, expires)).await? {
            Updated::Done(attributes) => Counted::Taken(read(counters, &attributes)),
            Updated::ConditionFailed(item) => Counted::Full(read(counters, &item)),
        };
        debug!(
            quota = if whose == EVERYONE { "all callers" } else { "caller" },
            taken = matches!(counted, Counted::Taken(_)),
            counts = %summary(counters, &counted),
            milliseconds = millis(began.elapsed()),
            "the quota was asked"
        );
        Ok(counted)
    }
}

/// Adds one to all counters, if each is below its limit; else to none.
fn update(id: String, counters: &[Counter], expires: u64) -> Update {
    let mut names = vec![("#expires", EXPIRES.to_owned())];
    let mut values = vec![(":expires", Value::N(expires.to_string())), (":one", Value::N("1".to_owned()))];
    let (mut add, mut below) = (String::new(), String::new());
    for counter in counters {
        let (name, limit) = counter.placeholders();
        let (comma, and) = if add.is_empty() { ("", "") } else { (", ", " AND ") };
        let _ = write!(add, "{comma}{name} :one");
        let _ = write!(below, "{and}(attribute_not_exists({name}) OR {name} < {limit})");
        names.push((name, counter.attribute()));
        values.push((limit, Value::N(counter.limit.to_string())));
    }
    Update {
        key: Map(vec![(ID, Value::S(id))]),
        update_expression: format!("SET #expires = :expires ADD {add}"),
        condition_expression: below,
        expression_attribute_names: Map(names),
        expression_attribute_values: Map(values),
    }
}

/// What came of an update, with the counters as they are now.
enum Counted {
    Taken(Vec<u32>),
    Full(Vec<u32>),
}

struct Counter {
    name: &'static str,
    limit: u32,
    window: Window,
}

impl Counter {
    /// What stands for it and for its limit in an expression.
    fn placeholders(&self) -> (&'static str, &'static str) {
        if self.window.length == DAY { ("#day", ":day") } else { ("#minute", ":minute") }
    }

    /// The counter's name in its item of a day: `day`, or the minute, such as `08:31`.
    fn attribute(&self) -> String {
        if self.window.length == DAY {
            return self.name.to_owned();
        }
        let minute = self.window.number % (DAY / MINUTE);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    }
}

/// For the log, such as `minute 3 of 10, day 3 of 200`.
fn summary(counters: &[Counter], counted: &Counted) -> String {
    let (Counted::Taken(counts) | Counted::Full(counts)) = counted;
    let counts =
        counters.iter().zip(counts).map(|(counter, count)| format!("{} {count} of {}", counter.name, counter.limit));
    counts.collect::<Vec<_>>().join(", ")
}

fn read(counters: &[Counter], item: &Item) -> Vec<u32> {
    let count = |counter: &Counter| item.get(&counter.attribute())?.get("N")?.as_str()?.parse().ok();
    counters.iter().map(|counter| count(counter).unwrap_or_default()).collect()
}

/// A stretch of time of the clock, such as one minute of one day.
#[derive(Clone, Copy)]
struct Window {
    /// In seconds.
    length: u64,
    /// How many of that length began and ended before it, since the Unix epoch.
    number: u64,
    /// Until it ends; never zero.
    left: Duration,
}

impl Window {
    fn at(now: Duration, length: u64) -> Self {
        let number = now.as_secs().checked_div(length).unwrap_or_default();
        let end = Duration::from_secs(number.saturating_add(1).saturating_mul(length));
        Self { length, number, left: end.saturating_sub(now) }
    }

    /// The day that this window of a day is, such as `2026-11-22`.
    fn date(self) -> String {
        let start = i64::try_from(self.number.saturating_mul(DAY)).unwrap_or_default();
        let mut date = DateTime::from_secs(start).fmt(Format::DateTime).unwrap_or_default();
        date.truncate("2026-11-22".len());
        date
    }
}

impl Standing {
    fn new(counters: &[Counter], counts: &[u32]) -> Self {
        let allowances = counters.iter().zip(counts).map(|(counter, count)| Allowance {
            name: counter.name,
            limit: counter.limit,
            window: counter.window.length,
            remaining: counter.limit.saturating_sub(*count),
            resets: whole_seconds(counter.window.left),
        });
        Self(allowances.collect())
    }

    /// Per limit of the caller.
    #[must_use]
    pub fn allowances(&self) -> &[Allowance] {
        &self.0
    }

    /// Until a token can be taken again: all windows that are used up have to end.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let used_up = self.0.iter().filter(|allowance| allowance.remaining == 0);
        Duration::from_secs(used_up.map(|allowance| allowance.resets).max().unwrap_or(MINUTE))
    }

    /// `RateLimit-Policy` and `RateLimit`, as the draft has them that is current in 2026
    /// (draft-ietf-httpapi-ratelimit-headers-11): `q` tokens per `w` seconds, `r` of them left, the
    /// next window in `t` seconds. Nothing where nothing limits the caller.
    #[must_use]
    pub fn headers(&self) -> Vec<(HeaderName, String)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let list = |item: fn(&Allowance) -> String| self.0.iter().map(item).collect::<Vec<_>>().join(", ");
        let policy = list(|Allowance { name, limit, window, .. }| format!("\"{name}\";q={limit};w={window}"));
        let left = list(|Allowance { name, remaining, resets, .. }| format!("\"{name}\";r={remaining};t={resets}"));
        vec![(HeaderName::from_static("ratelimit-policy"), policy), (HeaderName::from_static("ratelimit"), left)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(name: &'static str, length: u64, now: Duration) -> Counter {
        Counter { name, limit: 10, window: Window::at(now, length) }
    }

    #[test]
    fn a_window_is_named_and_ends_by_the_clock() {
        // 2026-11-22T23:59:59.250Z
        let now = Duration::from_millis(1_795_391_999_250);
        let day = Window::at(now, DAY);
        assert_eq!((day.date().as_str(), day.left), ("2026-11-22", Duration::from_millis(750)));
        assert_eq!(counter("minute", MINUTE, now).attribute(), "23:59");
        let next = now + Duration::from_millis(750);
        assert_eq!((Window::at(next, DAY).date().as_str(), Window::at(next, DAY).left.as_secs()), ("2026-11-23", DAY));
        assert_eq!(counter("minute", MINUTE, next).attribute(), "00:00");
        assert_eq!(Window::at(next, MINUTE).left.as_secs(), 60);
    }

    #[test]
    fn whoever_used_up_several_windows_waits_for_the_last_of_them() {
        let now = Duration::from_millis(1_795_391_940_001);
        let counters = [counter("minute", MINUTE, now), counter("day", DAY, now)];
        let after = |counts: [u32; 2]| Standing::new(&counters, &counts).retry_after().as_secs();
        assert_eq!((after([10, 3]), after([3, 10]), after([10, 12])), (60, 60, 60), "the day's last minute");
        let counters = [counter("minute", MINUTE, Duration::ZERO), counter("day", DAY, Duration::ZERO)];
        let after = |counts: [u32; 2]| Standing::new(&counters, &counts).retry_after().as_secs();
        assert_eq!((after([10, 3]), after([3, 10]), after([10, 10])), (60, DAY, DAY));
    }

    #[test]
    fn the_headers_say_what_is_left_and_until_when() {
        let now = Duration::from_millis(1_795_391_999_250);
        let standing = Standing::new(&[counter("minute", MINUTE, now), counter("day", DAY, now)], &[4, 11]);
        let headers: Vec<_> = standing.headers().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                r#"ratelimit-policy: "minute";q=10;w=60, "day";q=10;w=86400"#,
                r#"ratelimit: "minute";r=6;t=1, "day";r=0;t=1"#,
            ]
        );
        assert_eq!(Standing::default().headers(), []);
    }
}

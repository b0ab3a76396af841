//! The tokens of all callers that this instance has taken from the day's limit and not used yet, and how many it takes
//! at a time.
//!
//! DynamoDB makes 1,000 updates of one item a second, and each costs money. An instance therefore takes several tokens at
//! once, but never so many that the ones which idle instances keep are a noticeable share of the limit.

use std::{sync::Arc, time::Duration};

use super::counter::{Change, SET_OF_EVERYONE};

/// An instance takes no more tokens than it probably needs within this time.
const AHEAD: Duration = Duration::from_secs(60);

/// The most tokens that an instance takes at a time.
const MOST: u32 = 20;

/// If every instance of the day kept its tokens forever, that would be this part of those that are left: a twentieth.
const KEPT_PART: u32 = 20;

/// The tokens that are left before an instance takes more than one at a time, for each further one.
const NEAR: u32 = 50;

/// The updates of the item a second that are aimed at. Concurrent updates that find its set of identifiers full are made
/// again, which leaves some room below the 1,000.
const UPDATES_PER_SECOND: u32 = 700;

/// The shortest time between two batches from which the speed of all instances together is concluded: a fleet whose
/// instances are all as fast as this one.
const SHORTEST: Duration = Duration::from_millis(100);

/// The instances of a day from which on each keeps an unused token, if that is at most one in so many that are left.
const CROWD: u32 = 50;
const CROWD_PART: u32 = 5;

/// How long an instance does not ask again after the limit was reached. A crowd of refused callers then costs one update
/// in that time per instance. It is short, since another instance may give tokens back.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// The tokens of one UTC day.
#[derive(Debug, Default)]
pub struct Stock {
    /// The number of the day.
    day: u64,
    tokens: u32,
    /// Whether the item's number of instances includes this one.
    counted_in: bool,
    last: Option<Batch>,
    /// The changes that may have been made, but were not answered.
    unanswered: Vec<Unanswered>,
    /// Whether no update was answered after the last unanswered one.
    in_doubt: bool,
    /// The time, since the Unix epoch, of the last answer that the limit is reached.
    refused: Option<Duration>,
}

/// A change that takes tokens from the limit. It takes them once, however often it is sent.
#[derive(Debug)]
pub struct Unanswered {
    pub change: Arc<Change>,
    /// The number of its tokens.
    pub size: u32,
}

/// Tokens that were taken from the limit at a time, and the item after that.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub size: u32,
    /// The time, since the Unix epoch.
    pub at: Duration,
    /// The tokens that all instances have taken that day.
    pub count: u32,
    /// The number of instances that have taken tokens that day.
    pub instances: u32,
}

impl Stock {
    /// Changes to that day. The tokens of another day are worthless, but the demand of the day before is not: a crowd at
    /// midnight takes as many at a time as before.
    fn turn_to(&mut self, day: u64) {
        if self.day != day {
            let follows = self.day.checked_add(1) == Some(day);
            let last = self.last.filter(|_| follows).map(|last| Batch { count: 0, ..last });
            *self = Self { day, last, in_doubt: self.in_doubt, ..Self::default() };
        }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, day: u64) -> bool {
        self.turn_to(day);
        let Some(rest) = self.tokens.checked_sub(1) else { return false };
        self.tokens = rest;
        true
    }

    /// Whether the last token was taken.
    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }

    /// The number of tokens to take beyond those that are needed at once, of `limit` tokens a day. It is 0 before the first
    /// batch, near the limit, if there are so many instances that even one token for each is too much, and after an
    /// unanswered update until the table answers again.
    pub fn ahead(&mut self, day: u64, now: Duration, limit: u32) -> u32 {
        self.turn_to(day);
        let Some(last) = self.last.filter(|_| !self.in_doubt) else { return 0 };
        let left = limit.saturating_sub(last.count);
        let passed = now.saturating_sub(last.at);
        let needed = within(AHEAD, last.size, passed.max(Duration::from_millis(1)));
        let harmless = left.checked_div(last.instances.saturating_mul(KEPT_PART)).unwrap_or_default();
        let harmless = harmless.min(last.size.saturating_mul(2));
        let fleet = within(Duration::from_secs(1), last.size.saturating_mul(last.instances), passed.max(SHORTEST));
        let fast = if fleet < UPDATES_PER_SECOND { 0 } else { fleet.div_ceil(UPDATES_PER_SECOND) };
        needed.min(harmless.max(fast)).min(left / NEAR).min(MOST)
    }

    /// Adds the tokens of a batch, of which `used` are needed at once.
    pub fn add(&mut self, day: u64, batch: Batch, used: u32) {
        self.turn_to(day);
        self.counted_in = true;
        self.in_doubt = false;
        self.refused = None;
        self.tokens = self.tokens.saturating_add(batch.size.saturating_sub(used));
        self.last = Some(batch);
    }

    /// Whether this instance is not yet in the item's number of instances.
    pub fn is_new(&self, day: u64) -> bool {
        self.day != day || !self.counted_in
    }

    /// Whether an unused token is kept for the next request: others are kept too, or so many instances would write to the
    /// item while OpenAI issues no tokens, and there are enough tokens for each.
    pub fn keeps(&self, day: u64, limit: u32) -> bool {
        let Some(Batch { size, count, instances, .. }) = self.last.filter(|_| self.day == day) else { return false };
        let each = limit.saturating_sub(count).checked_div(instances).unwrap_or_default();
        size > 1 || (instances >= CROWD && each >= CROWD_PART)
    }

    /// Puts an unused token back.
    pub fn put_back(&mut self, day: u64) {
        if self.day == day {
            self.tokens = self.tokens.saturating_add(1);
        }
    }

    /// After an unused token went back to the limit: it was no demand, and another can be taken.
    pub fn forget_demand(&mut self, day: u64) {
        if self.day == day {
            self.last = None;
            self.refused = None;
        }
    }

    /// Keeps a change that was not answered, so that it is sent again before any other: tokens that it took are then used.
    ///
    /// If the item no longer remembers the change, it takes as many tokens as a new one of that size. A change of another
    /// day is dropped, and the smallest where there are more than the item's set can hold.
    pub fn keep(&mut self, day: u64, unanswered: Unanswered) {
        self.in_doubt = true;
        if self.day != day {
            return;
        }
        // The largest is the last.
        let place = self.unanswered.partition_point(|other| other.size < unanswered.size);
        self.unanswered.insert(place, unanswered);
        if self.unanswered.len() > SET_OF_EVERYONE {
            self.unanswered.remove(0);
        }
    }

    /// The unanswered change of that day with the most tokens, which is no longer kept.
    pub fn next_unanswered(&mut self, day: u64) -> Option<Unanswered> {
        self.turn_to(day);
        self.unanswered.pop()
    }

    /// Remembers that the limit is reached.
    pub fn refuse(&mut self, day: u64, now: Duration) {
        self.turn_to(day);
        self.in_doubt = false;
        self.refused = Some(now);
    }

    /// Whether the limit was reached a short time ago, and no token is left here.
    pub fn refuses(&self, day: u64, now: Duration) -> bool {
        let recent = |at: Duration| now.checked_sub(at).is_some_and(|passed| passed < REFUSED_FOR);
        self.day == day && self.is_empty() && self.refused.is_some_and(recent)
    }
}

/// The tokens that are needed within a time, if `tokens` were needed in the time that `passed`, which is not zero.
fn within(time: Duration, tokens: u32, passed: Duration) -> u32 {
    let needed = u128::from(tokens).saturating_mul(time.as_millis());
    u32::try_from(needed.checked_div(passed.as_millis()).unwrap_or(u128::MAX)).unwrap_or(u32::MAX)
}

/// The numbers that decide on the size of a batch, and the memory of a reached limit.
#[cfg(test)]
pub(crate) fn describe() -> serde_json::Value {
    serde_json::json!({
        "ahead_seconds": AHEAD.as_secs(),
        "most": MOST,
        "kept_part": KEPT_PART,
        "near": NEAR,
        "updates_per_second": UPDATES_PER_SECOND,
        "shortest_seconds": SHORTEST.as_secs_f64(),
        "crowd": CROWD,
        "crowd_part": CROWD_PART,
        "refused_seconds": REFUSED_FOR.as_secs(),
        "set": SET_OF_EVERYONE,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

    use super::*;
    use crate::admission::counter::{Key, Window};

    const DAY: u64 = 20_000;

    /// Takes batches as the requests of one of so many instances do, one request every `pause`. Returns their sizes.
    fn sizes(limit: u32, instances: u32, pause: Duration, requests: u32) -> Vec<u32> {
        let (mut stock, mut sizes, mut count) = (Stock::default(), Vec::new(), 0);
        for request in 0..requests {
            let at = pause * request;
            if stock.take(DAY) {
                continue;
            }
            let size = 1 + stock.ahead(DAY, at, limit);
            count += size;
            stock.add(DAY, Batch { size, at, count, instances }, 1);
            sizes.push(size);
        }
        sizes
    }

    #[test]
    fn batches_grow_with_the_demand_of_the_instance() {
        let second = Duration::from_secs(1);
        assert_eq!(sizes(100_000, 4, second, 100), [1, 3, 7, 15, 21, 21, 21, 21]);
        assert_eq!(sizes(100_000, 4, second * 15, 30), [1, 3, 5, 5, 5, 5, 5, 5], "what a minute needs");
        assert_eq!(sizes(100_000, 4, second * 61, 5), [1; 5], "a token that is not needed within a minute");
    }

    #[test]
    fn near_the_limit_and_in_a_large_fleet_tokens_are_taken_one_by_one() {
        let fast = Duration::from_millis(100);
        assert_eq!(sizes(49, 1, fast, 40), [1; 40], "near the limit");
        assert_eq!(
            sizes(5_000, 251, Duration::from_secs(1), 40),
            [1; 40],
            "251 instances with a token each are over a twentieth of 5,000"
        );
        assert_eq!(sizes(5_000, 50, fast, 40)[..4], [1, 3, 5, 5]);
        let all: u32 = sizes(5_000, 1, fast, 5_000).into_iter().sum();
        assert_eq!(all, 5_000, "no token is left over where one instance takes them all");
    }

    #[test]
    fn if_all_instances_together_are_too_fast_for_one_item_batches_grow() {
        let pause = Duration::from_millis(400);
        let last = |instances| *sizes(100_000, instances, pause, 90).last().unwrap();
        assert_eq!([1_000, 2_000, 4_000, 10_000].map(last), [5, 9, 16, 21]);
    }

    #[test]
    fn an_unused_token_is_kept_where_others_are_and_in_a_crowd() {
        let kept = |size, count, instances| {
            let mut stock = Stock::default();
            stock.add(DAY, Batch { size, at: Duration::ZERO, count, instances }, 1);
            assert!(!stock.keeps(DAY + 1, 5_000));
            stock.keeps(DAY, 5_000)
        };
        assert!(!kept(1, 1, 1) && kept(2, 2, 1));
        assert!(!kept(1, 49, 49) && kept(1, 50, 50) && kept(1, 900, 800) && !kept(1, 1_100, 800));
    }

    #[test]
    fn the_tokens_of_another_day_are_not_used() {
        let mut stock = Stock::default();
        stock.add(DAY, Batch { size: 5, at: Duration::ZERO, count: 5, instances: 1 }, 1);
        assert!(stock.take(DAY));
        assert!(!stock.take(DAY + 1) && stock.is_new(DAY + 1));
        stock.put_back(DAY);
        assert!(!stock.take(DAY + 1), "a token of yesterday");
        assert!(!stock.take(DAY), "an instance whose clock was set back takes new ones");
    }

    #[test]
    fn a_refusal_is_remembered_for_a_short_time_of_the_same_day() {
        let mut stock = Stock::default();
        let at = Duration::from_secs(86_400 * DAY);
        stock.refuse(DAY, at);
        let refuses = |stock: &Stock, seconds| stock.refuses(DAY, at + Duration::from_secs(seconds));
        assert_eq!([0, 9, 10].map(|seconds| refuses(&stock, seconds)), [true, true, false]);
        assert!(!stock.refuses(DAY + 1, at), "another day");
        assert!(!stock.refuses(DAY, at - Duration::from_secs(1)), "the clock was set back");
        stock.put_back(DAY);
        assert!(!refuses(&stock, 0), "a token is here");
    }

    fn unanswered(size: u32) -> Unanswered {
        let key = Key::of_everyone(Window::at(Duration::ZERO, 86_400));
        Unanswered { change: Arc::new(Change::count(key, &[], size, None)), size }
    }

    #[test]
    fn the_largest_unanswered_changes_of_a_day_are_kept() {
        let mut stock = Stock::default();
        stock.take(DAY);
        for size in [1, 21, 3].into_iter().chain([1; SET_OF_EVERYONE]) {
            stock.keep(DAY, unanswered(size));
        }
        stock.keep(DAY - 1, unanswered(5));
        let kept: Vec<_> = std::iter::from_fn(|| stock.next_unanswered(DAY)).map(|kept| kept.size).collect();
        assert_eq!((kept.len(), &kept[..3]), (SET_OF_EVERYONE, &[21, 3, 1][..]));
        stock.keep(DAY, unanswered(5));
        assert!(stock.next_unanswered(DAY + 1).is_none(), "another day");
    }

    #[test]
    fn after_an_unanswered_update_tokens_are_taken_one_by_one_until_the_table_answers() {
        let mut stock = Stock::default();
        let batch = Batch { size: 5, at: Duration::ZERO, count: 5, instances: 1 };
        stock.add(DAY, batch, 1);
        assert!(stock.ahead(DAY, Duration::ZERO, 5_000) > 0);
        stock.keep(DAY, unanswered(5));
        assert_eq!([DAY, DAY + 1].map(|day| stock.ahead(day, Duration::ZERO, 5_000)), [0, 0]);
        stock.add(DAY + 1, batch, 1);
        assert!(stock.ahead(DAY + 1, Duration::ZERO, 5_000) > 0);
    }
}

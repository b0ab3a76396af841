//! An item of the table, which counts one day's tokens of a caller or of all callers, and the updates of it.
//!
//! An update is made once, however often it is sent. Each has a random identifier, and an item remembers those of its
//! last [`REMEMBERED`] updates in the attributes `r0` (the newest), `r1` and so on. An update moves them on by one, and
//! its condition fails if its own identifier is among them. It is therefore also recognised after others: a slot chosen
//! by a hash, in place of these, would be overwritten by the first other update with the same hash.
//!
//! The expressions are plain ones, which DynamoDB Local, dynalite, moto and ministack evaluate as DynamoDB does. The
//! assignments are in an order in which it does not matter whether a value is read before or after an earlier one.

use std::{fmt::Write, sync::LazyLock, time::Duration};

use aws_smithy_types::{DateTime, date_time::Format};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::aws::dynamodb::{Item, Map, Update, Value};

// The lengths of the windows, in seconds.
pub const MINUTE: u64 = 60;
pub const DAY: u64 = 86_400;

/// The table's key attribute.
const ID: &str = "id";
/// The table's time-to-live attribute, Unix seconds: DynamoDB may delete an item after it.
const EXPIRES: &str = "expires";
/// The counter of a day.
const DAY_COUNTER: &str = "day";
/// The number of instances that have taken tokens of all callers that day.
const INSTANCES: &str = "instances";

/// The number of updates that an item remembers. They take 350 of the 1,024 bytes of a write unit. More other updates
/// between an update and its repetition are only possible for the item of all callers, or with a far higher
/// `QUOTA_PER_MINUTE` than the default; an update may then be counted twice, up to the limit.
const REMEMBERED: usize = 32;

/// The assignments that remember an update and forget the oldest.
static REMEMBER: LazyLock<String> = LazyLock::new(|| {
    let mut assignments = String::new();
    for (older, newer) in (1..REMEMBERED).map(|older| (older, older.saturating_sub(1))).rev() {
        let _ = write!(assignments, "r{older} = if_not_exists(r{newer}, :none), ");
    }
    assignments + "r0 = :update"
});

/// The condition that an item does not remember an update. An item of the first release remembers none.
static NOT_REMEMBERED: LazyLock<String> = LazyLock::new(|| {
    let slots: Vec<_> = (0..REMEMBERED).map(|slot| format!("r{slot} <> :update")).collect();
    format!("(attribute_not_exists(r0) OR ({}))", slots.join(" AND "))
});

/// The item of a caller, or of all callers, on one day.
pub fn item_id(whose: &str, day: Window) -> String {
    format!("{whose}/{}", day.date())
}

/// A change of an item that is made once, however often it is sent.
pub struct Change {
    pub update: Update,
    /// The random identifier, 48 bits.
    id: String,
}

impl Change {
    /// Adds `tokens` to all counters if each stays within its limit, else to none. No limit may be below `tokens`.
    ///
    /// `instances` are added to their number, which the item then has too. DynamoDB may delete the item a day after the
    /// one that it counts, so that an operator can look at it.
    pub fn count(item: String, counters: &[Counter], tokens: u32, instances: Option<u32>) -> Self {
        let mut change = Self::new(item);
        let Update {
            expression_attribute_names: Map(names),
            expression_attribute_values: Map(values),
            update_expression: make,
            condition_expression: condition,
            ..
        } = &mut change.update;
        let _ = write!(make, "SET #expires = :expires, {} ADD ", *REMEMBER);
        let day = counters.first().map(|counter| counter.window.day()).unwrap_or_default();
        names.push(("#expires", EXPIRES.to_owned()));
        values.push((":expires", number(day.saturating_add(2).saturating_mul(DAY))));
        values.push((":tokens", number(tokens)));
        for (place, counter) in counters.iter().enumerate() {
            let (name, most) = counter.placeholders();
            let comma = if place == 0 { "" } else { ", " };
            let _ = write!(make, "{comma}{name} :tokens");
            let _ = write!(condition, "(attribute_not_exists({name}) OR {name} <= {most}) AND ");
            names.push((name, counter.attribute()));
            values.push((most, number(counter.limit.saturating_sub(tokens))));
        }
        condition.push_str(&NOT_REMEMBERED);
        if let Some(instances) = instances {
            make.push_str(", #instances :instances");
            names.push(("#instances", INSTANCES.to_owned()));
            values.push((":instances", number(instances)));
        }
        change
    }

    /// Gives tokens of a day back. A count never becomes negative, and an item is never created.
    pub fn give_back(item: String, tokens: u32) -> Self {
        let mut change = Self::new(item);
        let update = &mut change.update;
        let _ = write!(update.update_expression, "SET {} ADD #day :tokens", *REMEMBER);
        let _ = write!(update.condition_expression, "#day >= :least AND {}", *NOT_REMEMBERED);
        update.expression_attribute_names.0.push(("#day", DAY_COUNTER.to_owned()));
        update
            .expression_attribute_values
            .0
            .extend([(":tokens", Value::N(format!("-{tokens}"))), (":least", number(tokens))]);
        change
    }

    fn new(item: String) -> Self {
        let id = URL_SAFE_NO_PAD.encode(fastrand::u64(..).to_be_bytes().get(2..).unwrap_or_default());
        let values = vec![(":update", Value::S(id.clone())), (":none", Value::S("-".to_owned()))];
        let update = Update {
            key: Map(vec![(ID, Value::S(item))]),
            update_expression: String::with_capacity(2048),
            condition_expression: String::with_capacity(1024),
            expression_attribute_names: Map(Vec::with_capacity(4)),
            expression_attribute_values: Map(values),
            return_values: "UPDATED_NEW",
        };
        Self { update, id }
    }

    /// Whether the item remembers this change: an earlier attempt made it.
    pub fn is_in(&self, item: &Item) -> bool {
        item.iter().any(|(name, value)| name.starts_with('r') && value == self.id)
    }
}

/// An update that changes nothing and returns the whole item, if there is one. The function may not read the table.
pub fn read(item: String) -> Update {
    Update {
        key: Map(vec![(ID, Value::S(item))]),
        update_expression: "SET #expires = #expires".to_owned(),
        condition_expression: "attribute_exists(#expires)".to_owned(),
        expression_attribute_names: Map(vec![("#expires", EXPIRES.to_owned())]),
        expression_attribute_values: Map(Vec::new()),
        return_values: "ALL_NEW",
    }
}

fn number(number: impl Into<u64>) -> Value {
    Value::N(number.into().to_string())
}

/// The count of one limit in one window.
pub struct Counter {
    /// `minute` or `day`.
    pub name: &'static str,
    /// Tokens per window.
    pub limit: u32,
    pub window: Window,
}

impl Counter {
    /// The placeholders of the counter, and of the highest count to which tokens can be added, in an expression.
    fn placeholders(&self) -> (&'static str, &'static str) {
        if self.window.length == DAY { ("#day", ":day") } else { ("#minute", ":minute") }
    }

    /// The counter's name in the item of its day: `day`, or the minute, such as `08:31`.
    fn attribute(&self) -> String {
        if self.window.length == DAY {
            return DAY_COUNTER.to_owned();
        }
        let minute = self.window.number % (DAY / MINUTE);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    }
}

/// The counts in an item. A counter that is missing is 0.
pub fn counts(counters: &[Counter], item: &Item) -> Vec<u32> {
    counters.iter().map(|counter| whole(item, &counter.attribute())).collect()
}

/// The number of instances in the item of all callers.
pub fn instances(item: &Item) -> u32 {
    whole(item, INSTANCES)
}

fn whole(item: &Item, name: &str) -> u32 {
    item.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// A window aligned with the clock, such as one minute of one day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// In seconds.
    pub length: u64,
    /// The number of windows of that length since the Unix epoch that ended before this one.
    pub number: u64,
    /// The time until it ends; never zero.
    pub left: Duration,
}

impl Window {
    /// The window of that length, in seconds, at a time since the Unix epoch.
    pub fn at(now: Duration, length: u64) -> Self {
        let number = now.as_secs().checked_div(length).unwrap_or_default();
        let end = Duration::from_secs(number.saturating_add(1).saturating_mul(length));
        Self { length, number, left: end.saturating_sub(now) }
    }

    /// The number of the day that it belongs to.
    fn day(self) -> u64 {
        self.number.saturating_mul(self.length) / DAY
    }

    /// The date of its day, such as `2026-11-22`.
    pub fn date(self) -> String {
        let start = i64::try_from(self.day().saturating_mul(DAY)).unwrap_or_default();
        let mut date = DateTime::from_secs(start).fmt(Format::DateTime).unwrap_or_default();
        date.truncate("2026-11-22".len());
        date
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
        assert_eq!(Window::at(now, MINUTE).date(), "2026-11-22");
        assert_eq!(counter("minute", MINUTE, now).attribute(), "23:59");
        let next = now + Duration::from_millis(750);
        assert_eq!((Window::at(next, DAY).date().as_str(), Window::at(next, DAY).left.as_secs()), ("2026-11-23", DAY));
        assert_eq!(counter("minute", MINUTE, next).attribute(), "00:00");
        assert_eq!(Window::at(next, MINUTE).left.as_secs(), 60);
    }

    #[test]
    fn expressions_stay_within_the_limits_of_dynamodb() {
        let now = Duration::from_secs(1_795_391_999);
        let counters = [counter("minute", MINUTE, now), counter("day", DAY, now)];
        let change = Change::count(item_id(&"f".repeat(64), Window::at(now, DAY)), &counters, 1, Some(1));
        for expression in [&change.update.update_expression, &change.update.condition_expression] {
            assert!(expression.len() <= 4096, "4 KB: {}", expression.len());
            let operators = expression.matches(['=', '(', '>']).count() + expression.matches(" AND ").count();
            assert!(operators <= 300, "{operators} operators and functions");
        }
    }

    #[test]
    fn a_callers_item_fits_into_a_write_unit_for_an_hour_of_minutes() {
        // AWS, "DynamoDB item sizes and formats": names and texts in bytes; a number takes a byte, and one for two digits.
        let number = |digits: usize| 1 + digits.div_ceil(2);
        let id = "id".len() + 64 + "/2026-11-22".len();
        let rest = "expires".len() + number(10) + "day".len() + number(3);
        let remembered: usize = (0..REMEMBERED).map(|slot| format!("r{slot}").len() + 8).sum();
        let minutes = 60 * ("08:31".len() + number(2));
        assert!(id + rest + remembered + minutes <= 1024, "{}", id + rest + remembered + minutes);
    }
}

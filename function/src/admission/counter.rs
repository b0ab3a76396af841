//! A limit's counter: its window of the clock, and its attribute in DynamoDB.

use std::{fmt::Write, time::Duration};

use aws_smithy_types::{DateTime, date_time::Format};

use crate::aws::dynamodb::{Item, Map, Update, Value};

// The lengths of the windows, in seconds.
pub const MINUTE: u64 = 60;
pub const DAY: u64 = 86_400;

/// The table's key attribute.
const ID: &str = "id";
/// The table's time-to-live attribute, Unix seconds: DynamoDB may delete an item after it.
const EXPIRES: &str = "expires";

/// An update that adds one to all counters if each is below its limit, else to none. DynamoDB may delete the item after
/// `expires`, in Unix seconds.
pub fn update(id: String, counters: &[Counter], expires: u64) -> Update {
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

/// The count of one limit in one window.
pub struct Counter {
    /// `minute` or `day`.
    pub name: &'static str,
    /// Tokens per window.
    pub limit: u32,
    pub window: Window,
}

impl Counter {
    /// The placeholders of the counter and of its limit in an expression.
    fn placeholders(&self) -> (&'static str, &'static str) {
        if self.window.length == DAY { ("#day", ":day") } else { ("#minute", ":minute") }
    }

    /// The counter's name in the item of its day: `day`, or the minute, such as `08:31`.
    fn attribute(&self) -> String {
        if self.window.length == DAY {
            return self.name.to_owned();
        }
        let minute = self.window.number % (DAY / MINUTE);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    }
}

/// The counts in an item. A counter that is missing is 0.
pub fn counts(counters: &[Counter], item: &Item) -> Vec<u32> {
    let count = |counter: &Counter| item.get(&counter.attribute())?.get("N")?.as_str()?.parse().ok();
    counters.iter().map(|counter| count(counter).unwrap_or_default()).collect()
}

/// A window aligned with the clock, such as one minute of one day.
#[derive(Clone, Copy)]
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

    /// The date of a window that is a day long, such as `2026-11-22`.
    pub fn date(self) -> String {
        let start = i64::try_from(self.number.saturating_mul(DAY)).unwrap_or_default();
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
        assert_eq!(counter("minute", MINUTE, now).attribute(), "23:59");
        let next = now + Duration::from_millis(750);
        assert_eq!((Window::at(next, DAY).date().as_str(), Window::at(next, DAY).left.as_secs()), ("2026-11-23", DAY));
        assert_eq!(counter("minute", MINUTE, next).attribute(), "00:00");
        assert_eq!(Window::at(next, MINUTE).left.as_secs(), 60);
    }
}

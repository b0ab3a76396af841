//! An item of the table, which counts one day's tokens of a caller or of all callers, and the changes of it.
//!
//! A change is made once, however often it is sent. Each has a random identifier, which it adds to the set `recent` of the
//! item, and its condition fails if the identifier is there already. When the set is full, the next change makes it the set
//! `older` and begins another. A change is therefore recognised after at least 32 others. A slot chosen by a hash, in
//! place of the sets, would be overwritten by the first other change with the same hash.
//!
//! The expressions are plain ones, which DynamoDB Local, dynalite, moto and ministack evaluate as DynamoDB does, and short
//! ones: with one slot for each identifier, an update takes some of these stand-ins ten times as long.

use std::{fmt::Write, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    aws::dynamodb::{Item, Map, Update, Value},
    net::clock::date,
};

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

/// The identifiers of the latest changes, and those of the changes before them.
const RECENT: &str = "recent";
const OLDER: &str = "older";

/// The size of a full set in a caller's item, and in the item of all callers, which counts no minutes. More other changes
/// between a change and its repetition are only possible for the item of all callers, or with a far higher
/// `QUOTA_PER_MINUTE` than the default; a token may then be counted twice, up to the limit.
const SET_OF_CALLER: usize = 32;
pub(super) const SET_OF_EVERYONE: usize = 56;

/// The length of an identifier, in characters of base64: 42 bits.
const ID_LENGTH: usize = 7;

/// The place of all callers in the key of the item that counts them together.
const EVERYONE: &str = "everyone";

/// The key of an item.
#[derive(Clone, Debug)]
pub struct Key {
    id: String,
    /// The size of a full set of identifiers.
    set: usize,
}

impl Key {
    /// The item of a caller, a hash, on one day.
    pub fn of_caller(caller: &str, day: Window) -> Self {
        Self { id: format!("{caller}/{}", day.date()), set: SET_OF_CALLER }
    }

    /// The item of all callers on one day.
    pub fn of_everyone(day: Window) -> Self {
        Self { id: format!("{EVERYONE}/{}", day.date()), set: SET_OF_EVERYONE }
    }
}

/// A change of an item that is made once, however often it is sent.
#[derive(Debug)]
pub struct Change {
    key: Key,
    /// The random identifier.
    id: String,
    /// The assignments other than those to the sets of identifiers.
    set: &'static str,
    /// The counters that are added to, and the condition of that.
    add: String,
    condition: String,
    names: Vec<(&'static str, String)>,
    values: Vec<(&'static str, Value)>,
    /// The name, the lowest and the highest count of each counter to which the tokens can be added.
    bounds: Vec<(String, u32, u32)>,
}

impl Change {
    /// Adds `tokens` to all counters if each stays within its limit, else to none. No limit may be below `tokens`.
    ///
    /// `instances` are added to their number, which the item then has too. DynamoDB may delete the item a day after the
    /// one that it counts, so that an operator can look at it.
    pub fn count(key: Key, counters: &[Counter], tokens: u32, instances: Option<u32>) -> Self {
        let mut change = Self::new(key, "#expires = :expires");
        let day = counters.first().map(|counter| counter.window.day()).unwrap_or_default();
        change.names.push(("#expires", EXPIRES.to_owned()));
        change.values.push((":expires", number(day.saturating_add(2).saturating_mul(DAY))));
        change.values.push((":tokens", number(tokens)));
        for counter in counters {
            let ((name, most), attribute) = (counter.placeholders(), counter.attribute());
            let highest = counter.limit.saturating_sub(tokens);
            let _ = write!(change.add, "{name} :tokens, ");
            let _ = write!(change.condition, "(attribute_not_exists({name}) OR {name} <= {most}) AND ");
            change.names.push((name, attribute.clone()));
            change.values.push((most, number(highest)));
            change.bounds.push((attribute, 0, highest));
        }
        if let Some(instances) = instances {
            change.add.push_str("#instances :instances, ");
            change.names.push(("#instances", INSTANCES.to_owned()));
            change.values.push((":instances", number(instances)));
        }
        change
    }

    /// Gives tokens of a day back. A count never becomes negative, and an item is never created.
    pub fn give_back(key: Key, tokens: u32) -> Self {
        let mut change = Self::new(key, "");
        change.add.push_str("#day :tokens, ");
        change.condition.push_str("#day >= :least AND ");
        change.names.push(("#day", DAY_COUNTER.to_owned()));
        change.values.extend([(":tokens", Value::N(format!("-{tokens}"))), (":least", number(tokens))]);
        change.bounds.push((DAY_COUNTER.to_owned(), tokens, u32::MAX));
        change
    }

    fn new(key: Key, set: &'static str) -> Self {
        let mut id = URL_SAFE_NO_PAD.encode(fastrand::u64(..).to_be_bytes());
        id.truncate(ID_LENGTH);
        let values = vec![
            (":id", Value::S(id.clone())),
            (":ids", Value::Ss([id.clone()])),
            (":full", Value::N(key.set.to_string())),
        ];
        let (names, bounds) = (Vec::with_capacity(4), Vec::with_capacity(2));
        Self { key, id, set, add: String::new(), condition: String::new(), names, values, bounds }
    }

    /// The update that makes the change: in an item whose recent set is full, or in another.
    pub fn update(&self, set_is_full: bool) -> Update {
        let Self { key, set, add, condition, .. } = self;
        let comma = if set.is_empty() { "" } else { ", " };
        let (make, size) = if set_is_full {
            let add = add.trim_end_matches(", ");
            (
                format!("SET {set}{comma}{OLDER} = {RECENT}, {RECENT} = :ids ADD {add}"),
                format!("size({RECENT}) >= :full"),
            )
        } else {
            let set = if set.is_empty() { String::new() } else { format!("SET {set} ") };
            let size = format!("(attribute_not_exists({RECENT}) OR size({RECENT}) < :full)");
            (format!("{set}ADD {add}{RECENT} :ids"), size)
        };
        let unseen = format!("NOT contains({RECENT}, :id) AND NOT contains({OLDER}, :id)");
        Update {
            key: Map(vec![(ID, Value::S(key.id.clone()))]),
            update_expression: make,
            condition_expression: format!("{condition}{size} AND {unseen}"),
            expression_attribute_names: Map(self.names.clone()),
            expression_attribute_values: Map(self.values.clone()),
            return_values: "UPDATED_NEW",
        }
    }

    /// An update that changes nothing and returns the whole item, if there is one. The function may not read the table.
    pub fn read(&self) -> Update {
        Update {
            key: Map(vec![(ID, Value::S(self.key.id.clone()))]),
            update_expression: "SET #expires = #expires".to_owned(),
            condition_expression: "attribute_exists(#expires)".to_owned(),
            expression_attribute_names: Map(vec![("#expires", EXPIRES.to_owned())]),
            expression_attribute_values: Map(Vec::new()),
            return_values: "ALL_NEW",
        }
    }

    /// Whether the change was made in the item.
    pub fn is_in(&self, item: &Item) -> bool {
        [RECENT, OLDER].iter().any(|set| item.texts(set).contains(&self.id))
    }

    /// Whether the counts of the item allow the change.
    pub fn is_allowed(&self, item: &Item) -> bool {
        self.bounds.iter().all(|(name, lowest, highest)| (*lowest..=*highest).contains(&whole(item, name)))
    }

    /// Whether the item's set of the latest changes is full.
    pub fn meets_full_set(&self, item: &Item) -> bool {
        item.texts(RECENT).len() >= self.key.set
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

/// A number that is not a `u32` counts as the highest: an operator may have set one to close a day.
fn whole(item: &Item, name: &str) -> u32 {
    let Some(text) = item.text(name) else { return 0 };
    text.parse().unwrap_or_else(|_| if text.parse().is_ok_and(|count: f64| count > 0.0) { u32::MAX } else { 0 })
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
        date(self.day().saturating_mul(DAY))
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
    fn an_item_fits_into_a_write_unit() {
        // AWS, "DynamoDB item sizes and formats": names and texts in bytes; a number takes a byte, and one for two digits;
        // a set takes 3 bytes, and one for each element.
        let number = |digits: usize| 1 + digits.div_ceil(2);
        let counts = "expires".len() + number(10) + "day".len() + number(10);
        let sets = |size: usize| RECENT.len() + OLDER.len() + 2 * (3 + size * (ID_LENGTH + 1));
        let minutes = 50 * ("08:31".len() + number(2));
        let of_caller = "id".len() + 64 + "/2026-11-22".len() + counts + sets(SET_OF_CALLER) + minutes;
        let of_everyone =
            "id".len() + "everyone/2026-11-22".len() + counts + INSTANCES.len() + number(6) + sets(SET_OF_EVERYONE);
        assert!(of_caller <= 1024 && of_everyone <= 1024, "{of_caller} and {of_everyone}");
    }
}

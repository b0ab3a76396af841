//! The items that describe calls: in the table, or in memory for a single process.
//!
//! An item is changed by one conditional update, which is exact for any number of concurrent instances. The expressions are
//! plain ones, which other stand-ins evaluate as DynamoDB does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    aws::dynamodb::{Item, Map, Table, TableError, Update, UpdateError, Updated, Value},
    net::clock,
};

/// The table's key attribute, and its time-to-live attribute.
const ID: &str = "id";
const EXPIRES: &str = "expires";

/// How long an item is kept after its last change, in seconds. An end that is asked for again is answered as the first one, and
/// the keeper settles calls that ended two days ago.
pub(super) const KEPT: u64 = 3 * 86_400;

/// The placeholders in an expression: as many attributes as one change can name.
const NAMES: [&str; 24] = [
    "#0", "#1", "#2", "#3", "#4", "#5", "#6", "#7", "#8", "#9", "#10", "#11", "#12", "#13", "#14", "#15", "#16", "#17",
    "#18", "#19", "#20", "#21", "#22", "#23",
];
const VALUES: [&str; 32] = [
    ":0", ":1", ":2", ":3", ":4", ":5", ":6", ":7", ":8", ":9", ":10", ":11", ":12", ":13", ":14", ":15", ":16", ":17",
    ":18", ":19", ":20", ":21", ":22", ":23", ":24", ":25", ":26", ":27", ":28", ":29", ":30", ":31",
];

/// The number of attributes that one change may set in addition to others.
pub(super) const BATCH: usize = 8;

/// With more items than this in memory, those that are no longer needed are dropped.
const MANY: usize = 1_000;

/// The place of the items.
#[derive(Debug)]
pub(super) enum Store {
    Table(Arc<Table>),
    Memory(Mutex<BTreeMap<String, Attributes>>),
}

type Attributes = BTreeMap<String, String>;

/// A change of one item, which is made if all conditions hold.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// The item's key.
    pub item: String,
    pub conditions: Vec<Condition>,
    /// Texts to set.
    pub set: Vec<(String, String)>,
    /// Numbers to add to, from 0 if there is none.
    pub add: Vec<(String, i64)>,
    pub remove: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Condition {
    Absent(String),
    Is(String, String),
    /// There is no such text, or it comes before this one in the order of its bytes.
    AbsentOrBefore(String, String),
    /// There is no such number, or it is at most this.
    AbsentOrAtMost(String, i64),
}

/// The outcome of a change.
#[derive(Debug)]
pub(super) enum Changed {
    Made,
    /// A condition did not hold. This is the item, unchanged.
    Refused(Item),
}

impl Store {
    pub fn in_memory() -> Self {
        Self::Memory(Mutex::default())
    }

    /// Whether no item was ever made. Only known in memory.
    pub fn is_unused(&self) -> bool {
        match self {
            Self::Table(_) => false,
            Self::Memory(items) => items.lock().unwrap_or_else(PoisonError::into_inner).is_empty(),
        }
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        if let Self::Table(table) = self {
            table.warm().await;
        }
    }

    /// Reads an item.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn read(&self, item: &str) -> Result<Item, TableError> {
        match self {
            Self::Table(table) => table.get(ID, item).await,
            Self::Memory(items) => {
                let items = items.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(items.get(item).map(described).unwrap_or_default())
            }
        }
    }

    /// The same, but the keeper does not wait for a throttled table.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn read_soon(&self, item: &str) -> Result<Item, TableError> {
        match self {
            Self::Table(table) => table.get_soon(ID, item).await,
            Self::Memory(_) => self.read(item).await,
        }
    }

    /// Makes a change if its conditions hold. A change whose answer was lost may have been made: it is sent again, and its
    /// conditions then fail.
    ///
    /// # Errors
    /// If the table cannot be used. The error says whether the change may have been made.
    pub async fn change(&self, change: &Change) -> Result<Changed, UpdateError> {
        match self {
            Self::Table(table) => match table.update(&change.update()).await? {
                Updated::Done(_) => Ok(Changed::Made),
                Updated::ConditionFailed(Some(item)) => Ok(Changed::Refused(item)),
                // Not every table returns the item with the failure, which an earlier attempt may have changed.
                Updated::ConditionFailed(None) => {
                    let read = table.get(ID, &change.item).await;
                    read.map(Changed::Refused).map_err(|cause| UpdateError { cause, perhaps_made: true })
                }
            },
            Self::Memory(items) => {
                let mut items = items.lock().unwrap_or_else(PoisonError::into_inner);
                if items.len() > MANY {
                    let now = i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX);
                    items.retain(|_, item| number(item, EXPIRES) >= now);
                }
                let item = items.entry(change.item.clone()).or_default();
                if !change.conditions.iter().all(|condition| condition.holds(item)) {
                    return Ok(Changed::Refused(described(item)));
                }
                change.make(item);
                Ok(Changed::Made)
            }
        }
    }
}

fn described(item: &Attributes) -> Item {
    Item::of(item.clone())
}

fn number(item: &Attributes, name: &str) -> i64 {
    item.get(name).and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

impl Condition {
    fn holds(&self, item: &Attributes) -> bool {
        match self {
            Self::Absent(name) => !item.contains_key(name),
            Self::Is(name, text) => item.get(name) == Some(text),
            Self::AbsentOrBefore(name, text) => item.get(name).is_none_or(|found| found < text),
            Self::AbsentOrAtMost(name, most) => number(item, name) <= *most,
        }
    }
}

/// The names and values of an expression, each behind a placeholder.
#[derive(Default)]
struct Placeholders {
    names: Vec<(&'static str, String)>,
    values: Vec<(&'static str, Value)>,
}

impl Placeholders {
    fn name(&mut self, name: &str) -> &'static str {
        if let Some((placeholder, _)) = self.names.iter().find(|(_, known)| known == name) {
            return placeholder;
        }
        let placeholder = NAMES.get(self.names.len()).copied().unwrap_or_default();
        self.names.push((placeholder, name.to_owned()));
        placeholder
    }

    fn value(&mut self, value: Value) -> &'static str {
        let placeholder = VALUES.get(self.values.len()).copied().unwrap_or_default();
        self.values.push((placeholder, value));
        placeholder
    }
}

/// Until when an item that is changed now is kept, in Unix seconds. The times of the call do not count: a call that is settled days
/// after its end would let the item of all callers expire.
fn keep_until() -> u64 {
    clock::unix_seconds().saturating_add(KEPT)
}

impl Change {
    fn make(&self, item: &mut Attributes) {
        item.extend(self.set.iter().cloned());
        for (name, amount) in &self.add {
            item.insert(name.clone(), number(item, name).saturating_add(*amount).to_string());
        }
        for name in &self.remove {
            item.remove(name);
        }
        item.insert(EXPIRES.to_owned(), keep_until().to_string());
    }

    fn update(&self) -> Update {
        let mut used = Placeholders::default();
        let conditions: Vec<_> = self.conditions.iter().map(|condition| condition.expression(&mut used)).collect();
        let mut set = vec![(EXPIRES.to_owned(), Value::N(keep_until().to_string()))];
        set.extend(self.set.iter().map(|(name, text)| (name.clone(), Value::S(text.clone()))));
        let set: Vec<_> =
            set.into_iter().map(|(name, value)| format!("{} = {}", used.name(&name), used.value(value))).collect();
        let add: Vec<_> = self
            .add
            .iter()
            .map(|(name, amount)| format!("{} {}", used.name(name), used.value(Value::N(amount.to_string()))))
            .collect();
        let remove: Vec<_> = self.remove.iter().map(|name| used.name(name)).collect();
        let clauses = [("SET", set.join(", ")), ("ADD", add.join(", ")), ("REMOVE", remove.join(", "))];
        let clauses = clauses.iter().filter(|(_, list)| !list.is_empty());
        Update {
            key: Map(vec![(ID, Value::S(self.item.clone()))]),
            update_expression: clauses.map(|(name, list)| format!("{name} {list}")).collect::<Vec<_>>().join(" "),
            condition_expression: conditions.join(" AND "),
            expression_attribute_names: Map(used.names),
            expression_attribute_values: Map(used.values),
            return_values: "NONE",
        }
    }
}

impl Condition {
    fn expression(&self, used: &mut Placeholders) -> String {
        match self {
            Self::Absent(name) => format!("attribute_not_exists({})", used.name(name)),
            Self::Is(name, text) => format!("{} = {}", used.name(name), used.value(Value::S(text.clone()))),
            Self::AbsentOrBefore(name, text) => {
                let (name, value) = (used.name(name), used.value(Value::S(text.clone())));
                format!("(attribute_not_exists({name}) OR {name} < {value})")
            }
            Self::AbsentOrAtMost(name, most) => {
                let (name, value) = (used.name(name), used.value(Value::N(most.to_string())));
                format!("(attribute_not_exists({name}) OR {name} <= {value})")
            }
        }
    }
}

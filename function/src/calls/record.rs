//! What is known about a call: one text in the item that registers the calls of a minute and a shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::{
    account::Booked,
    handle::{Handle, SHARDS, item_of},
    store::{BATCH, Change, Changed, Condition, Store},
};
use crate::aws::dynamodb::TableError;

/// The number of items that are read side by side, and that number after an outage. Each takes a connection of its own.
const READS: usize = 4;
const READS_OF_MANY: usize = 16;
/// From this number on, items are many.
const MANY: usize = 64;

/// The state of a call.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// OpenAI is being asked, or the function ended while it was.
    Booked,
    /// OpenAI has answered, and the call has a name there.
    Open,
    /// OpenAI did not answer in time, and may have opened the call. The browser got no answer, so it cannot connect.
    Uncertain,
    /// The operator ended the call before OpenAI answered. The function hangs up when it does.
    Stopped,
    /// The call is over, and its unused seconds are given back.
    Ended,
}

/// A call as the registry knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// The caller's safety identifier.
    pub caller: String,
    pub profile: String,
    pub state: State,
    /// When it was booked, in Unix seconds.
    pub began: u64,
    /// When it is hung up, in Unix seconds.
    pub ends: u64,
    /// OpenAI's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The base URL of the OpenAI that has it, and the proof of the key that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Made>,
    /// The seconds that it lasted, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Whether an ended call is hung up once more at its end. OpenAI did not know it when it was to be ended before that, and may
    /// not have known it yet: a browser may have connected to it afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hang_up_again: bool,
}

/// The origin of a call. Only keys of the same project, at the same server, can end it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Made {
    pub base_url: String,
    /// A keyed hash of the URL under the API key, which shows whether a key made the call. A writer of the table without
    /// the key cannot make the keeper send the key to another server.
    pub proof: String,
}

impl Record {
    pub(super) fn booked<'a>(&self, handle: &'a Handle) -> Booked<'a> {
        Booked { handle, began: self.began, ends: self.ends }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the call is still to be hung up.
    pub(super) fn is_to_end(&self) -> bool {
        self.state != State::Ended || self.hang_up_again
    }

    /// The time that the call has lasted at that moment, in seconds.
    pub fn lasted(&self, now: u64) -> u64 {
        now.min(self.ends).saturating_sub(self.began)
    }
}

/// Registers a new call.
///
/// # Errors
/// If the table cannot be used. The call may be registered.
pub(super) async fn register(store: &Store, handle: &Handle, record: &Record) -> Result<(), TableError> {
    let change = Change {
        item: handle.item(),
        conditions: vec![Condition::Absent(handle.to_string())],
        set: vec![(handle.to_string(), record.text())],
        ..Change::default()
    };
    match store.change(&change).await? {
        Changed::Made => Ok(()),
        Changed::Refused(item) if item.text(&handle.to_string()) == Some(record.text().as_str()) => Ok(()),
        Changed::Refused(_) => Err(TableError::Contended),
    }
}

/// Removes the record of a call that was not booked, so that refused callers do not fill the item.
///
/// # Errors
/// If the table cannot be used. The keeper then finds a call for which nothing is booked.
pub(super) async fn forget(store: &Store, handle: &Handle, record: &Record) -> Result<(), TableError> {
    let change = Change {
        item: handle.item(),
        conditions: vec![Condition::Is(handle.to_string(), record.text())],
        remove: vec![handle.to_string()],
        ..Change::default()
    };
    store.change(&change).await?;
    Ok(())
}

/// The records that an update did not replace.
#[derive(Debug, Default)]
pub(super) struct Others<'a> {
    /// Those that are no longer as they were read.
    pub changed: Vec<&'a Handle>,
    /// Those that had their new texts already: another process has written the same, or this one, if the answer was lost.
    pub equal: Vec<&'a Handle>,
    /// Those of which it is unknown, because the table could not be used.
    pub unknown: Vec<&'a Handle>,
    /// The first error of the table.
    pub error: Option<TableError>,
}

impl Others<'_> {
    /// # Errors
    /// If the table could not be used for one of the records.
    pub fn whole(self) -> Result<Self, TableError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}

/// Replaces records, each if it is still as it was read. Returns the others. An error of one item does not keep those of
/// other items from being replaced.
pub(super) async fn replace<'a>(store: &Store, records: &'a [(Handle, Record, Record)]) -> Others<'a> {
    let mut others = Others::default();
    let mut items: Vec<_> = records.iter().map(|(handle, ..)| handle.item()).collect();
    items.sort();
    items.dedup();
    for item in items {
        let of_item: Vec<_> = records.iter().filter(|(handle, ..)| handle.item() == item).collect();
        for batch in of_item.chunks(BATCH) {
            if let Err(error) = replace_batch(store, batch, &mut others).await {
                others.unknown.extend(batch.iter().map(|(handle, ..)| handle));
                others.error.get_or_insert(error);
            }
        }
    }
    others
}

async fn replace_batch<'a>(
    store: &Store,
    batch: &[&'a (Handle, Record, Record)],
    others: &mut Others<'a>,
) -> Result<(), TableError> {
    if make(store, batch).await? == Replaced::Now {
        return Ok(());
    }
    // One of them is another; each is tried alone.
    for one in batch {
        match make(store, std::slice::from_ref(one)).await? {
            Replaced::Now => {}
            Replaced::Before => others.equal.push(&one.0),
            Replaced::Not => others.changed.push(&one.0),
        }
    }
    Ok(())
}

#[derive(PartialEq)]
enum Replaced {
    Now,
    Before,
    Not,
}

/// Replaces records of one item, all or none.
async fn make(store: &Store, records: &[&(Handle, Record, Record)]) -> Result<Replaced, TableError> {
    let name = |handle: &Handle| handle.to_string();
    let mut change = Change {
        item: records.first().map(|(handle, ..)| handle.item()).unwrap_or_default(),
        conditions: records.iter().map(|(handle, old, _)| Condition::Is(name(handle), old.text())).collect(),
        set: records.iter().map(|(handle, _, new)| (name(handle), new.text())).collect(),
        ..Change::default()
    };
    match store.change(&change).await? {
        Changed::Made => Ok(Replaced::Now),
        Changed::Refused(item) => {
            // A record that another version of the function has written may have other fields, or another order of them.
            if let [(handle, old, _)] = records
                && let Some(text) = item.text(&name(handle))
                && serde_json::from_str::<Record>(text).is_ok_and(|found| found == *old)
            {
                change.conditions = vec![Condition::Is(name(handle), text.to_owned())];
                if let Changed::Made = store.change(&change).await? {
                    return Ok(Replaced::Now);
                }
            }
            let is_new =
                |(handle, _, new): &&(Handle, Record, Record)| item.text(&name(handle)) == Some(new.text().as_str());
            Ok(if records.iter().all(is_new) { Replaced::Before } else { Replaced::Not })
        }
    }
}

/// The record of a call, if there is such a call.
///
/// # Errors
/// If the table cannot be used.
pub(super) async fn find(store: &Store, handle: &Handle) -> Result<Option<Record>, TableError> {
    let item = store.read(&handle.item()).await?;
    Ok(item.text(&handle.to_string()).and_then(|text| serde_json::from_str(text).ok()))
}

/// The calls that are registered to end in some minutes, as far as they could be read.
#[derive(Debug, Default)]
pub(super) struct Register {
    pub calls: Vec<(Handle, Record)>,
    /// The minutes of which all calls were read.
    pub whole: BTreeSet<u64>,
    /// The first error of the table.
    pub error: Option<TableError>,
}

impl Register {
    /// The last of the minutes from `first` on without a call that is still to be hung up, each up to `last`. `ended`: calls that
    /// were ended after the reading. `None`: the first minute has such a call, or was not read.
    pub fn ended_up_to(&self, first: u64, last: u64, ended: &BTreeSet<Handle>) -> Option<u64> {
        let is_left = |(handle, record): &&(Handle, Record)| record.is_to_end() && !ended.contains(handle);
        let left: BTreeSet<_> = self.calls.iter().filter(is_left).filter_map(|(handle, _)| handle.minute()).collect();
        (first..=last).take_while(|minute| self.whole.contains(minute) && !left.contains(minute)).last()
    }
}

/// All calls that are registered to end in these minutes, as long as the next item is read within `patience`, and until
/// `deadline`. An item that cannot be read is tried again at once and no more, so that it does not hold up the others.
pub(super) async fn of_minutes(
    store: &Store,
    minutes: RangeInclusive<u64>,
    patience: Duration,
    deadline: Instant,
) -> Register {
    let items: Vec<_> = minutes.flat_map(|minute| (0..SHARDS).map(move |shard| (minute, shard))).collect();
    let side_by_side = if items.len() < MANY { READS } else { READS_OF_MANY };
    let reading = items
        .into_iter()
        .map(|(minute, shard)| async move { (minute, store.read_soon(&item_of(minute, shard)).await) });
    let mut reading = stream::iter(reading).buffer_unordered(side_by_side);
    let mut register = Register::default();
    let mut shards = BTreeMap::<u64, u8>::new();
    loop {
        let limit = Instant::now().checked_add(patience).map_or(deadline, |limit| limit.min(deadline));
        match timeout_at(limit, reading.next()).await {
            Ok(Some((minute, Ok(item)))) => {
                let read = shards.entry(minute).or_default();
                *read = read.saturating_add(1);
                if *read == SHARDS {
                    register.whole.insert(minute);
                }
                register.calls.extend(item.attributes().filter_map(|(name, text)| {
                    let handle = Handle::parse(name)?;
                    Some((handle, serde_json::from_str(text).ok()?))
                }));
            }
            Ok(Some((_, Err(error)))) => {
                register.error.get_or_insert(error);
            }
            Ok(None) => return register,
            Err(_) => {
                register.error.get_or_insert(TableError::Timeout);
                return register;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record() -> Record {
        Record {
            caller: "c".to_owned(),
            profile: "default".to_owned(),
            state: State::Booked,
            began: 60,
            ends: 120,
            id: None,
            made: None,
            used: None,
            hang_up_again: false,
        }
    }

    async fn end(store: &Store, handle: &Handle, old: Record) -> [usize; 2] {
        let new = Record { state: State::Ended, used: Some(1), ..old.clone() };
        let records = [(handle.clone(), old, new)];
        let Others { changed, equal, .. } = replace(store, &records).await.whole().unwrap();
        [changed.len(), equal.len()]
    }

    #[tokio::test]
    async fn a_record_is_replaced_once_and_only_as_it_was_read() {
        let (store, handle) = (Store::in_memory(), Handle::new(120).unwrap());
        register(&store, &handle, &record()).await.unwrap();
        let other = Record { state: State::Stopped, ..record() };
        assert_eq!(end(&store, &handle, other).await, [1, 0]);
        assert_eq!(end(&store, &handle, record()).await, [0, 0]);
        assert_eq!(end(&store, &handle, record()).await, [0, 1], "as if the answer had been lost");
        assert_eq!(find(&store, &handle).await.unwrap().unwrap().state, State::Ended);
    }

    #[tokio::test]
    async fn a_record_of_another_version_is_replaced() {
        let (store, handle) = (Store::in_memory(), Handle::new(120).unwrap());
        let text = r#"{"new": 5, "ends": 120, "began": 60, "state": "booked", "profile": "default", "caller": "c"}"#;
        let item =
            Change { item: handle.item(), set: vec![(handle.to_string(), text.to_owned())], ..Change::default() };
        store.change(&item).await.unwrap();
        let (_, read) = of_minutes(&store, 2..=2, SECOND, Instant::now() + SECOND).await.calls.remove(0);
        assert_eq!(end(&store, &handle, read).await, [0, 0]);
        assert_eq!(find(&store, &handle).await.unwrap().unwrap().used, Some(1));
    }
}

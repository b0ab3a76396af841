//! The open calls and the minutes of a caller, or of all callers: one item for each.
//!
//! An open call holds a slot, whose text begins with the time at which the slot frees itself. A slot is taken together with
//! the call's seconds, by one update, and both are given back together by another. Whether a call's seconds are booked is
//! therefore known by its slot, and no update is made twice, however often it is sent.

use std::num::NonZeroU32;

use super::{
    handle::Handle,
    store::{BATCH, Change, Changed, Condition, Store},
};
use crate::{
    aws::dynamodb::{Item, TableError, UpdateError},
    net::clock::date,
};

/// How long a slot stays taken after the end of its call, unless it is given back, in seconds. The hang-up is certain by then.
const GRACE: u64 = 60;

/// A day in seconds.
pub(super) const DAY: u64 = 86_400;

/// The most forms in which a change is sent, while other instances take or give back slots.
const ROUNDS: u32 = 16;

/// The start of a slot's attribute.
const SLOT: &str = "slot";
/// The start of the attribute that counts the booked seconds of a day.
const SECONDS: &str = "seconds";
/// Until when no call is accepted, in ten digits.
const CLOSED_UNTIL: &str = "closed";

/// The item of a caller, or of all callers, with its limits.
#[derive(Debug)]
pub(super) struct Account {
    item: String,
    /// The most calls at once.
    at_once: Option<NonZeroU32>,
    /// The most booked seconds in a day of UTC.
    seconds_per_day: Option<u64>,
}

/// A call as it is booked.
#[derive(Clone, Debug)]
pub(super) struct Booked<'a> {
    pub handle: &'a Handle,
    /// Unix seconds.
    pub began: u64,
    pub ends: u64,
}

impl Booked<'_> {
    pub fn seconds(&self) -> u64 {
        self.ends.saturating_sub(self.began)
    }

    /// The text of the slot. Ten digits first, so that texts are ordered by time until the year 2286.
    fn slot(&self) -> String {
        format!("{:010} {} {}", self.ends.saturating_add(GRACE), self.seconds(), self.handle)
    }
}

/// The outcome of taking a slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SlotOutcome {
    Taken,
    /// All slots are taken. The first of their calls ends at this time.
    NoSlot {
        frees: u64,
    },
    /// The day has too few seconds left.
    NoSeconds,
    /// The operator accepts no calls from this caller now.
    Closed,
}

impl Account {
    pub fn of_caller(caller: &str, at_once: Option<NonZeroU32>, seconds_per_day: Option<u64>) -> Self {
        Self { item: format!("calls/{caller}"), at_once, seconds_per_day }
    }

    pub fn of_everyone(at_once: Option<NonZeroU32>, seconds_per_day: Option<u64>) -> Self {
        Self { item: "calls/everyone".to_owned(), at_once, seconds_per_day }
    }

    /// Takes a slot and the call's seconds, if the limits allow it.
    ///
    /// # Errors
    /// If the table cannot be used. The error says whether the slot may have been taken.
    pub async fn take(&self, store: &Store, call: &Booked<'_>) -> Result<SlotOutcome, UpdateError> {
        let (now, day) = (format!("{:010}", call.began), seconds_of(call.began));
        let added = i64::try_from(call.seconds()).unwrap_or(i64::MAX);
        let mut slot = self.any_slot(call);
        for _ in 0..ROUNDS {
            let mut conditions = vec![
                Condition::AbsentOrBefore(slot.clone(), now.clone()),
                Condition::AbsentOrBefore(CLOSED_UNTIL.to_owned(), now.clone()),
            ];
            if let Some(limit) = self.seconds_per_day {
                let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_sub(added);
                // Without a count of the day, the condition would hold for a call that is longer than the limit.
                if most < 0 {
                    return Ok(SlotOutcome::NoSeconds);
                }
                conditions.push(Condition::AbsentOrAtMost(day.clone(), most));
            }
            let change = Change {
                item: self.item.clone(),
                conditions,
                set: vec![(slot.clone(), call.slot())],
                add: vec![(day.clone(), added)],
                // The counts of former days, of which a caller who calls every day would have ever more.
                remove: (2..=5).map(|days| seconds_of(call.began.saturating_sub(DAY.saturating_mul(days)))).collect(),
            };
            let item = match store.change(&change).await? {
                Changed::Made => return Ok(SlotOutcome::Taken),
                Changed::Refused(item) => item,
            };
            if slots(&item).any(|(_, found)| found.handle == call.handle.to_string()) {
                return Ok(SlotOutcome::Taken);
            }
            if item.text(CLOSED_UNTIL).is_some_and(|until| until >= now.as_str()) {
                return Ok(SlotOutcome::Closed);
            }
            if let Some(limit) = self.at_once {
                match free_slot(&item, limit.get(), &now) {
                    Some(free) => slot = free,
                    None => return Ok(SlotOutcome::NoSlot { frees: first_end(&item, call.began) }),
                }
            }
            let booked: i64 = item.text(&day).and_then(|digits| digits.parse().ok()).unwrap_or_default();
            let limit = self.seconds_per_day.and_then(|limit| i64::try_from(limit).ok());
            if limit.is_some_and(|limit| booked.saturating_add(added) > limit) {
                return Ok(SlotOutcome::NoSeconds);
            }
        }
        Err(UpdateError { cause: TableError::Contended, perhaps_made: false })
    }

    /// A slot that may be free. Without a limit, each call has its own.
    fn any_slot(&self, call: &Booked<'_>) -> String {
        match self.at_once {
            Some(limit) => numbered(fastrand::u32(0..limit.get())),
            None => format!("{SLOT} {}", call.handle),
        }
    }

    /// Gives back the slots of calls, and the seconds that they did not use. Calls without a slot are skipped.
    ///
    /// # Errors
    /// If the table cannot be used. Some of the slots may have been given back.
    pub async fn give_back(&self, store: &Store, calls: &[(Booked<'_>, u64)]) -> Result<(), TableError> {
        let mut rounds = 0;
        let mut left = calls.to_vec();
        let mut item = store.read(&self.item).await?;
        while !left.is_empty() {
            let held: Vec<_> = slots(&item).map(|(name, slot)| (name.to_owned(), slot.text.to_owned())).collect();
            let with_slot = |call: &Booked<'_>| {
                let text = call.slot();
                held.iter().find(|(_, found)| *found == text).cloned()
            };
            left.retain(|(call, _)| with_slot(call).is_some());
            let Some((Booked { began, .. }, _)) = left.first() else { break };
            // Calls of one day in one change, since each day has its own count.
            let day = seconds_of(*began);
            let batch: Vec<_> =
                left.iter().filter(|(call, _)| seconds_of(call.began) == day).take(BATCH).cloned().collect();
            let mut change = Change { item: self.item.clone(), ..Change::default() };
            let mut unused: i64 = 0;
            for (call, used) in &batch {
                let Some((name, text)) = with_slot(call) else { continue };
                change.conditions.push(Condition::Is(name.clone(), text));
                change.remove.push(name);
                unused = unused.saturating_add(i64::try_from(call.seconds().saturating_sub(*used)).unwrap_or_default());
            }
            change.add.push((day, unused.saturating_neg()));
            match store.change(&change).await? {
                Changed::Made => {
                    left.retain(|(call, _)| !batch.iter().any(|(done, _)| done.handle == call.handle));
                    rounds = 0;
                }
                Changed::Refused(newer) => item = newer,
            }
            rounds = u32::saturating_add(rounds, 1);
            if rounds > ROUNDS {
                return Err(TableError::Contended);
            }
        }
        Ok(())
    }

    /// Accepts no calls of this caller until that time, in Unix seconds. A later time that was set before stays.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn close(&self, store: &Store, until: u64) -> Result<(), TableError> {
        let change = Change {
            item: self.item.clone(),
            conditions: vec![Condition::AbsentOrBefore(CLOSED_UNTIL.to_owned(), format!("{until:010}"))],
            set: vec![(CLOSED_UNTIL.to_owned(), format!("{until:010}"))],
            ..Change::default()
        };
        store.change(&change).await?;
        Ok(())
    }

    /// The number of slots that are taken at that time.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn open(&self, store: &Store, now: u64) -> Result<usize, TableError> {
        let item = store.read(&self.item).await?;
        Ok(slots(&item).filter(|(_, slot)| slot.until >= now).count())
    }
}

/// The name of the attribute that counts the booked seconds of a time's day.
fn seconds_of(time: u64) -> String {
    format!("{SECONDS} {}", date(time))
}

fn numbered(number: u32) -> String {
    format!("{SLOT} {number}")
}

/// One of the free slots, at random, so that instances seldom try the same one.
fn free_slot(item: &Item, limit: u32, now: &str) -> Option<String> {
    let is_free = |slot: &String| item.text(slot).is_none_or(|text| text < now);
    let mut free: Vec<_> = (0..limit).map(numbered).filter(is_free).collect();
    (!free.is_empty()).then(|| free.swap_remove(fastrand::usize(0..free.len())))
}

/// A slot in an item.
struct Slot<'a> {
    text: &'a str,
    until: u64,
    handle: &'a str,
}

fn slots(item: &Item) -> impl Iterator<Item = (&str, Slot<'_>)> {
    item.attributes().filter_map(|(name, text)| {
        name.strip_prefix(SLOT)?;
        let mut words = text.split(' ');
        let until = words.next()?.parse().ok()?;
        let handle = words.nth(1)?;
        Some((name, Slot { text, until, handle }))
    })
}

/// When the first of the item's calls ends, in Unix seconds.
fn first_end(item: &Item, now: u64) -> u64 {
    let ends = slots(item).map(|(_, slot)| slot.until.saturating_sub(GRACE));
    // A call whose end is past is being hung up.
    ends.map(|ends| ends.max(now.saturating_add(1))).min().unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_795_694_400;

    fn account(at_once: u32, seconds: Option<u64>) -> Account {
        Account::of_caller("c", NonZeroU32::new(at_once), seconds)
    }

    async fn take(account: &Account, store: &Store, handle: &Handle, began: u64, seconds: u64) -> SlotOutcome {
        account.take(store, &Booked { handle, began, ends: began.saturating_add(seconds) }).await.unwrap()
    }

    async fn seconds(store: &Store, began: u64) -> Option<String> {
        store.read("calls/c").await.unwrap().text(&seconds_of(began)).map(str::to_owned)
    }

    fn handles<const N: usize>() -> [Handle; N] {
        [(); N].map(|()| Handle::new(NOON).unwrap())
    }

    #[tokio::test]
    async fn slots_are_taken_up_to_their_number_and_free_themselves_a_minute_after_the_end() {
        let (store, account, [one, two, three]) = (Store::in_memory(), account(2, None), handles());
        assert_eq!(take(&account, &store, &one, NOON, 100).await, SlotOutcome::Taken);
        assert_eq!(take(&account, &store, &two, NOON, 60).await, SlotOutcome::Taken);
        assert_eq!(take(&account, &store, &three, NOON, 60).await, SlotOutcome::NoSlot { frees: NOON + 60 });
        assert_eq!(take(&account, &store, &three, NOON + 120, 60).await, SlotOutcome::NoSlot { frees: NOON + 121 });
        assert_eq!(take(&account, &store, &three, NOON + 121, 60).await, SlotOutcome::Taken);
        assert_eq!(account.open(&store, NOON + 121).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_repeated_update_takes_one_slot() {
        let (store, account, [one]) = (Store::in_memory(), account(1, None), handles());
        for _ in 0..4 {
            assert_eq!(take(&account, &store, &one, NOON, 60).await, SlotOutcome::Taken);
        }
        assert_eq!(account.open(&store, NOON).await.unwrap(), 1);
        assert_eq!(seconds(&store, NOON).await.unwrap(), "60");
    }

    #[tokio::test]
    async fn unused_seconds_are_given_back_once() {
        let (store, account, [one, two]) = (Store::in_memory(), account(5, Some(160)), handles());
        assert_eq!(take(&account, &store, &one, NOON, 100).await, SlotOutcome::Taken);
        assert_eq!(take(&account, &store, &two, NOON, 61).await, SlotOutcome::NoSeconds);
        let booked = Booked { handle: &one, began: NOON, ends: NOON + 100 };
        for _ in 0..2 {
            account.give_back(&store, &[(booked.clone(), 30)]).await.unwrap();
            assert_eq!(seconds(&store, NOON).await.unwrap(), "30");
        }
        assert_eq!(take(&account, &store, &two, NOON, 130).await, SlotOutcome::Taken);
        assert_eq!(seconds(&store, NOON).await.unwrap(), "160");
    }

    #[tokio::test]
    async fn many_calls_of_two_days_are_given_back_together() {
        let (store, account, handles) = (Store::in_memory(), account(30, None), handles::<30>());
        let midnight = NOON + DAY / 2;
        let began = |at: usize| if at.is_multiple_of(2) { midnight.saturating_sub(10) } else { midnight };
        for (at, handle) in handles.iter().enumerate() {
            assert_eq!(take(&account, &store, handle, began(at), 60).await, SlotOutcome::Taken);
        }
        let booked = handles
            .iter()
            .enumerate()
            .map(|(at, handle)| (Booked { handle, began: began(at), ends: began(at) + 60 }, 1));
        account.give_back(&store, &booked.collect::<Vec<_>>()).await.unwrap();
        assert_eq!(account.open(&store, midnight).await.unwrap(), 0);
        assert_eq!(
            [seconds(&store, midnight - 10).await, seconds(&store, midnight).await],
            [(); 2].map(|()| Some("15".to_owned()))
        );
    }

    #[tokio::test]
    async fn a_call_longer_than_the_limit_is_refused_on_a_new_day() {
        let (store, account, [one]) = (Store::in_memory(), account(1, Some(60)), handles());
        assert_eq!(take(&account, &store, &one, NOON, 61).await, SlotOutcome::NoSeconds);
        assert_eq!(take(&account, &store, &one, NOON, 60).await, SlotOutcome::Taken);
    }

    #[tokio::test]
    async fn a_closed_account_takes_no_calls_until_its_time() {
        let (store, account, [one]) = (Store::in_memory(), account(1, None), handles());
        account.close(&store, NOON + 300).await.unwrap();
        account.close(&store, NOON + 60).await.unwrap();
        assert_eq!(take(&account, &store, &one, NOON + 300, 60).await, SlotOutcome::Closed);
        assert_eq!(take(&account, &store, &one, NOON + 301, 60).await, SlotOutcome::Taken);
    }

    #[tokio::test]
    async fn without_a_limit_each_call_has_a_slot() {
        let (store, account, handles) = (Store::in_memory(), account(0, None), handles::<9>());
        for handle in &handles {
            assert_eq!(take(&account, &store, handle, NOON, 60).await, SlotOutcome::Taken);
        }
        assert_eq!(account.open(&store, NOON).await.unwrap(), 9);
    }

    #[tokio::test]
    async fn counts_of_former_days_are_removed() {
        let (store, account) = (Store::in_memory(), account(1, None));
        for day in 0..9 {
            let [handle] = handles();
            assert_eq!(take(&account, &store, &handle, NOON + day * DAY, 60).await, SlotOutcome::Taken);
        }
        let item = store.read("calls/c").await.unwrap();
        assert_eq!(item.attributes().filter(|(name, _)| name.starts_with(SECONDS)).count(), 2);
    }
}

//! The table, as the counts in it are used: changes that are made once, and the item after each.

use std::{sync::Arc, time::Duration};

use tracing::debug;

use super::counter::{Change, Counter, Key};
use crate::{
    aws::dynamodb::{Item, Table, TableError, UpdateError, Updated},
    net::clock::millis,
};

/// The most forms in which a change is sent, while other changes fill the item's set or begin another.
const ROUNDS: u32 = 8;

/// The counts of all callers.
#[derive(Debug)]
pub struct Ledger {
    table: Arc<Table>,
}

/// The outcome of a count.
pub struct Counted {
    /// Whether the tokens were taken. Otherwise a limit does not allow them.
    pub taken: bool,
    /// The item, or those of its attributes that changed.
    pub item: Item,
}

impl Ledger {
    pub fn new(table: Arc<Table>) -> Self {
        Self { table }
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        self.table.warm().await;
    }

    /// Takes tokens, if all limits allow them; see [`Change::count`].
    ///
    /// # Errors
    /// If the table cannot be used. The tokens may have been taken. The same change can be sent again later.
    pub async fn count(&self, change: &Change) -> Result<Counted, UpdateError> {
        let (taken, item) = self.make(change).await?;
        Ok(Counted { taken, item })
    }

    /// Gives tokens of an item's day back.
    ///
    /// # Errors
    /// If the table cannot be used. The tokens may have been given back.
    pub async fn give_back(&self, key: &Key, tokens: u32) -> Result<(), UpdateError> {
        let (given_back, _) = self.make(&Change::give_back(key.clone(), tokens)).await?;
        debug!(tokens, given_back, "tokens were given back");
        Ok(())
    }

    /// Makes a change if the counts of the item allow it. Returns whether they did, and the item.
    async fn make(&self, change: &Change) -> Result<(bool, Item), UpdateError> {
        let mut set_is_full = false;
        for _ in 0..ROUNDS {
            let item = match self.table.update(&change.update(set_is_full)).await? {
                Updated::Done(item) => return Ok((true, item)),
                Updated::ConditionFailed(Some(item)) => item,
                // Not every table returns the item with the failure.
                Updated::ConditionFailed(None) => match self.table.update(&change.read()).await {
                    Ok(Updated::Done(item)) => item,
                    Ok(Updated::ConditionFailed(_)) => Item::default(),
                    // An earlier attempt may have made the change.
                    Err(UpdateError { cause, .. }) => return Err(UpdateError { cause, perhaps_made: true }),
                },
            };
            // The condition also fails if an earlier attempt made the change, or for the size of the set.
            if change.is_in(&item) {
                return Ok((true, item));
            }
            if !change.is_allowed(&item) {
                return Ok((false, item));
            }
            set_is_full = change.meets_full_set(&item);
        }
        Err(UpdateError { cause: TableError::Contended, perhaps_made: false })
    }
}

/// Logs a count, such as `minute 3 of 10, day 3 of 200`.
pub fn log(whose: &'static str, counters: &[Counter], counts: &[u32], taken: bool, took: Duration) {
    let described = || {
        let counts = counters.iter().zip(counts);
        counts
            .map(|(counter, count)| format!("{} {count} of {}", counter.name, counter.limit))
            .collect::<Vec<_>>()
            .join(", ")
    };
    debug!(quota = whose, taken, counts = described(), milliseconds = millis(took), "the quota was counted");
}

//! The table, as the counts in it are used: changes that are made once, and the item after each.

use std::time::Duration;

use tracing::debug;

use super::counter::{self, Change, Counter};
use crate::{
    aws::dynamodb::{Item, Table, UpdateError, Updated},
    net::clock::millis,
};

/// The counts of all callers.
#[derive(Debug)]
pub struct Ledger {
    table: Table,
}

/// The outcome of a count.
pub struct Counted {
    /// Whether the tokens were taken. Otherwise a limit does not allow them.
    pub taken: bool,
    /// The item, or those of its attributes that changed.
    pub item: Item,
}

impl Ledger {
    pub fn new(table: Table) -> Self {
        Self { table }
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        self.table.warm().await;
    }

    /// Takes tokens, if all limits allow them; see [`Change::count`].
    ///
    /// # Errors
    /// If the table cannot be used. The tokens may have been taken.
    pub async fn count(
        &self,
        item: &str,
        counters: &[Counter],
        tokens: u32,
        instances: Option<u32>,
    ) -> Result<Counted, UpdateError> {
        let change = Change::count(item.to_owned(), counters, tokens, instances);
        let item = match self.table.update(&change.update).await? {
            Updated::Done(item) => return Ok(Counted { taken: true, item }),
            Updated::ConditionFailed(Some(item)) => item,
            // Not every table returns the item with the failure.
            Updated::ConditionFailed(None) => match self.table.update(&counter::read(item.to_owned())).await? {
                Updated::Done(item) => item,
                Updated::ConditionFailed(_) => Item::default(),
            },
        };
        // The condition also fails if an earlier attempt took the tokens.
        Ok(Counted { taken: change.is_in(&item), item })
    }

    /// Gives tokens of an item's day back.
    ///
    /// # Errors
    /// If the table cannot be used. The tokens may have been given back.
    pub async fn give_back(&self, item: &str, tokens: u32) -> Result<(), UpdateError> {
        let change = Change::give_back(item.to_owned(), tokens);
        // The condition fails if an earlier attempt gave them back.
        self.table.update(&change.update).await?;
        debug!(tokens, "tokens were given back");
        Ok(())
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

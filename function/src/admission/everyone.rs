//! The day's limit for all callers together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as AsyncMutex, task::JoinHandle, time::Instant};
use tracing::debug;

use super::{
    counter::{self, Change, Counter, Key, Window},
    ledger::{self, Counted, Ledger},
    stock::{Batch, Stock, Unanswered},
};
use crate::aws::dynamodb::UpdateError;

/// The limit, and this instance's tokens of it.
#[derive(Debug)]
pub struct Everyone {
    ledger: Arc<Ledger>,
    limit: u32,
    stock: Mutex<Stock>,
    /// Held while more tokens are taken than needed at once, so that concurrent requests do not all take more.
    filling: AsyncMutex<()>,
}

/// A change that is being sent. Unless it is answered, the stock keeps it, also if the request ends before.
struct Sent<'a> {
    everyone: &'a Everyone,
    day: u64,
    unanswered: Option<Unanswered>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        if let Some(unanswered) = self.unanswered.take() {
            self.everyone.stock().keep(self.day, unanswered);
        }
    }
}

/// A token of the limit.
#[derive(Debug)]
pub struct Token {
    /// The day that it counts for.
    day: Window,
    /// The task that fills the stock again, if this was its last token.
    pub refill: Option<JoinHandle<()>>,
}

impl Everyone {
    pub fn new(ledger: Arc<Ledger>, limit: u32) -> Self {
        Self { ledger, limit, stock: Mutex::default(), filling: AsyncMutex::default() }
    }

    /// Whether the limit is known to be reached, without asking the table.
    pub fn is_reached(&self, day: Window, now: Duration) -> bool {
        self.stock().refuses(day.number, now)
    }

    /// Takes one token: from the stock, or from the table. `None`: the limit is reached.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn take(self: &Arc<Self>, day: Window, now: Duration) -> Result<Option<Token>, UpdateError> {
        if let Some(token) = self.take_from_stock(day, now) {
            return Ok(Some(token));
        }
        if self.ahead(day, now) == 0 {
            let fetched = self.fetch(day, now, 1, 0).await?;
            if fetched.is_some() {
                return Ok(fetched);
            }
        }
        // Another request may be filling the stock.
        let _filling = self.filling.lock().await;
        if let Some(token) = self.take_from_stock(day, now) {
            return Ok(Some(token));
        }
        if self.is_reached(day, now) {
            return Ok(None);
        }
        self.fetch(day, now, 1, self.ahead(day, now)).await
    }

    fn take_from_stock(self: &Arc<Self>, day: Window, now: Duration) -> Option<Token> {
        let mut stock = self.stock();
        if !stock.take(day.number) {
            return None;
        }
        let ahead = if stock.is_empty() { stock.ahead(day.number, now, self.limit) } else { 0 };
        // While OpenAI is asked, so that no request waits for it.
        let refill = (ahead > 0).then(|| tokio::spawn(Arc::clone(self).fill(day, now)));
        Some(Token { day, refill })
    }

    /// Fills the stock, unless this happens already.
    async fn fill(self: Arc<Self>, day: Window, now: Duration) {
        let Ok(_filling) = self.filling.try_lock() else { return };
        if let Err(error) = self.fetch(day, now, 0, self.ahead(day, now)).await {
            debug!(error = &error.cause as &dyn std::error::Error, "no tokens were taken ahead");
        }
    }

    fn ahead(&self, day: Window, now: Duration) -> u32 {
        self.stock().ahead(day.number, now, self.limit)
    }

    /// Takes `needed` tokens from the table, 0 or 1, and `ahead` more for the stock, or else only those needed. An update
    /// that was not answered is sent again first, and its tokens are used in place of new ones.
    async fn fetch(
        &self,
        day: Window,
        now: Duration,
        needed: u32,
        mut ahead: u32,
    ) -> Result<Option<Token>, UpdateError> {
        let key = Key::of_everyone(day);
        let counters = [Counter { name: "day", limit: self.limit, window: day }];
        loop {
            let again = self.stock().next_unanswered(day.number);
            let is_repeated = again.is_some();
            let size = again.as_ref().map_or(needed.saturating_add(ahead), |again| again.size);
            if size == 0 {
                return Ok(None);
            }
            let began = Instant::now();
            let change = again.map_or_else(
                || {
                    let new = u32::from(self.stock().is_new(day.number));
                    Arc::new(Change::count(key.clone(), &counters, size, Some(new)))
                },
                |again| again.change,
            );
            let counted = self.send(day.number, Unanswered { change, size }, is_repeated).await?;
            let counts = counter::counts(&counters, &counted.item);
            ledger::log("all callers", &counters, &counts, counted.taken, began.elapsed());
            if counted.taken {
                let count = counts.first().copied().unwrap_or_default();
                let instances = counter::instances(&counted.item);
                self.stock().add(day.number, Batch { size, at: now, count, instances }, needed);
                return Ok((needed > 0).then_some(Token { day, refill: None }));
            }
            if is_repeated {
                continue;
            }
            if ahead == 0 {
                self.stock().refuse(day.number, now);
                return Ok(None);
            }
            ahead = 0;
        }
    }

    /// Sends a change. `is_repeated`: an earlier attempt may have made it.
    async fn send(&self, day: u64, unanswered: Unanswered, is_repeated: bool) -> Result<Counted, UpdateError> {
        let change = Arc::clone(&unanswered.change);
        let mut sent = Sent { everyone: self, day, unanswered: Some(unanswered) };
        let outcome = self.ledger.count(&change).await;
        let is_settled = match &outcome {
            Ok(_) => true,
            Err(error) => !error.perhaps_made && !is_repeated,
        };
        if is_settled {
            sent.unanswered = None;
        }
        outcome
    }

    /// Takes back an unused token: into the stock of an instance that keeps one, otherwise into the table.
    pub async fn give_back(&self, token: &Token) {
        let day = token.day.number;
        if self.stock().keeps(day, self.limit) {
            return self.stock().put_back(day);
        }
        match self.ledger.give_back(&Key::of_everyone(token.day), 1).await {
            Ok(()) => self.stock().forget_demand(day),
            // Such as a throttled table: the token still belongs to this instance.
            Err(UpdateError { perhaps_made: false, .. }) => self.stock().put_back(day),
            Err(_) => {}
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Calls: which are open, when each has to end, and how many there may be.
//!
//! The order of the updates makes every crash harmless. A call is registered before anything is booked, under the minute of
//! its end. Then its caller's slot and seconds are booked by one update, then those of all callers, and only then OpenAI is
//! asked. The keeper reads every minute's calls when they end, and gives back all that is booked for them. Each update is
//! conditional and may be sent again; slots free themselves a minute after the end of their call.

mod account;
mod busy;
mod handle;
pub mod hang_up;
pub mod keeper;
mod record;
pub mod sdp;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;
use tracing::debug;

use self::{
    account::{Account, Booked, DAY, SlotOutcome},
    busy::Busy,
    hang_up::Over,
    store::Store,
};
pub use self::{
    handle::Handle,
    record::{Made, Record, State},
};
use crate::{
    aws::dynamodb::{Table, TableError, UpdateError},
    net::clock,
};

/// The limits of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// The longest call. A profile may allow less.
    pub longest: Duration,
    /// Calls of one caller at once. `None` is unlimited.
    pub at_once: Option<NonZeroU32>,
    /// Calls of all callers at once.
    pub at_once_for_all: u32,
    /// Minutes per caller and day of UTC. `None` is unlimited.
    pub minutes_per_day: Option<NonZeroU32>,
    /// Minutes of all callers together, per day of UTC. `None` is unlimited.
    pub daily_minutes: Option<NonZeroU32>,
}

/// The registry of calls, and what is booked for them.
#[derive(Debug)]
pub struct Calls {
    store: Store,
    limits: CallLimits,
    busy: Busy,
}

/// A call that is booked, until OpenAI has answered.
#[derive(Debug)]
pub struct Booking {
    pub handle: Handle,
    pub record: Record,
}

/// Why a call is not booked.
#[derive(Debug, thiserror::Error)]
pub enum BookingError {
    /// The caller has as many calls open as they may.
    #[error("the caller has no call left at once")]
    CallsAtOnce {
        /// Until the first of them ends.
        retry_after: Duration,
    },
    /// All callers together have as many calls open as they may.
    #[error("all lines are busy")]
    BusyLines {
        /// Until the first of them ends.
        retry_after: Duration,
    },
    /// The caller's minutes do not suffice for the call.
    #[error("the caller's minutes are used up")]
    MinutesExceeded {
        /// Until the next day of UTC begins.
        retry_after: Duration,
    },
    /// The minutes of all callers do not suffice for the call.
    #[error("the day's minutes for all callers are used up")]
    DailyMinutes {
        /// Until the next day of UTC begins.
        retry_after: Duration,
    },
    /// The operator has just blocked the caller.
    #[error("the caller's calls are stopped")]
    Closed,
    /// The operator has just ended the calls of all callers.
    #[error("the calls of all callers are stopped")]
    AllClosed,
    /// The table could not be used, so it is unknown what is booked.
    #[error("the calls cannot be counted")]
    Unavailable(#[from] TableError),
}

/// The number of callers to whose accounts is given back side by side.
const SIDE_BY_SIDE: usize = 16;

/// The longest that giving a booking back may delay an answer. The keeper does it otherwise.
pub const GIVE_BACK: Duration = Duration::from_secs(2);

/// The account of all callers in [`Calls::account`].
const EVERYONE: Option<&str> = None;

/// What is booked for a call that is refused in the end.
#[derive(Default)]
struct PerhapsBooked<'a> {
    accounts: Vec<Option<&'a str>>,
    /// Whether an update was not answered.
    is_in_doubt: bool,
}

/// The refusal of a call by the account of a caller, or of all callers. `None`: the account has taken it.
fn refusal(account: Option<&str>, outcome: SlotOutcome, began: u64) -> Option<BookingError> {
    let until = |time: u64| Duration::from_secs(time.saturating_sub(began).max(1));
    let tomorrow = until((began / DAY).saturating_add(1).saturating_mul(DAY));
    Some(match (outcome, account) {
        (SlotOutcome::Taken, _) => return None,
        (SlotOutcome::NoSlot { frees }, Some(_)) => BookingError::CallsAtOnce { retry_after: until(frees) },
        (SlotOutcome::NoSlot { frees }, None) => BookingError::BusyLines { retry_after: until(frees) },
        (SlotOutcome::NoSeconds, Some(_)) => BookingError::MinutesExceeded { retry_after: tomorrow },
        (SlotOutcome::NoSeconds, None) => BookingError::DailyMinutes { retry_after: tomorrow },
        (SlotOutcome::Closed, Some(_)) => BookingError::Closed,
        (SlotOutcome::Closed, None) => BookingError::AllClosed,
    })
}

impl Calls {
    /// Calls that are registered in `table`, or else in memory.
    pub fn new(table: Option<Arc<Table>>, limits: CallLimits) -> Self {
        Self { store: table.map_or_else(Store::in_memory, Store::Table), limits, busy: Busy::default() }
    }

    /// Whether the registry is lost with this process.
    pub fn are_in_memory(&self) -> bool {
        matches!(self.store, Store::Memory(_))
    }

    /// Opens the connection ahead of the first request.
    pub async fn warm(&self) {
        self.store.warm().await;
    }

    fn account(&self, caller: Option<&str>) -> Account {
        let seconds = |minutes: Option<NonZeroU32>| minutes.map(|minutes| u64::from(minutes.get()).saturating_mul(60));
        let limits = &self.limits;
        match caller {
            Some(caller) => Account::of_caller(caller, limits.at_once, seconds(limits.minutes_per_day)),
            None => Account::of_everyone(NonZeroU32::new(limits.at_once_for_all), seconds(limits.daily_minutes)),
        }
    }

    /// Books a call of at most `most` from now. `caller` is the caller's safety identifier.
    ///
    /// # Errors
    /// If a limit does not allow it, or the table cannot be used. What is booked by then is given back, at once or else by the
    /// keeper.
    pub async fn book(&self, caller: &str, profile: &str, most: Duration) -> Result<Booking, BookingError> {
        let began = clock::unix_seconds();
        let ends = began.saturating_add(most.min(self.limits.longest).as_secs());
        let record = Record {
            caller: caller.to_owned(),
            profile: profile.to_owned(),
            state: State::Booked,
            began,
            ends,
            id: None,
            made: None,
            used: None,
            hang_up_again: false,
        };
        let handle = Handle::new(ends).ok_or(TableError::Contended)?;
        let booking = Booking { handle, record };
        let call = booking.record.booked(&booking.handle);
        let remembered = self.busy.refuses(&call, clock::since_epoch());
        if let Some(refusal) = remembered.and_then(|outcome| refusal(EVERYONE, outcome, began)) {
            debug!("all callers together were refused a short time ago");
            return Err(refusal);
        }
        record::register(&self.store, &booking.handle, &booking.record).await?;
        let mut perhaps = PerhapsBooked::default();
        match self.take(caller, &call, &mut perhaps).await {
            Ok(()) => Ok(booking),
            Err(refusal) => {
                // An update that was not answered may still be made. The keeper finds it by the record.
                self.undo(&booking, &perhaps.accounts, !perhaps.is_in_doubt).await;
                Err(refusal)
            }
        }
    }

    /// Takes a slot and the seconds of a call, from the caller and then from all callers.
    async fn take<'a>(
        &self,
        caller: &'a str,
        call: &Booked<'_>,
        perhaps: &mut PerhapsBooked<'a>,
    ) -> Result<(), BookingError> {
        for account in [Some(caller), EVERYONE] {
            let outcome = match self.account(account).take(&self.store, call).await {
                Ok(outcome) => outcome,
                Err(UpdateError { cause, perhaps_made }) => {
                    perhaps.accounts.extend(perhaps_made.then_some(account));
                    perhaps.is_in_doubt = perhaps_made;
                    return Err(cause.into());
                }
            };
            if let Some(refusal) = refusal(account, outcome, call.began) {
                if account == EVERYONE {
                    self.busy.remember(outcome, call, clock::since_epoch());
                }
                return Err(refusal);
            }
            perhaps.accounts.push(account);
        }
        Ok(())
    }

    /// Gives back to these accounts what is booked for a call that certainly does not exist, and then forgets the call if nothing
    /// more can be booked for it. This is tried for a short time only: what fails, the keeper does when the call would have ended.
    async fn undo(&self, booking: &Booking, accounts: &[Option<&str>], forgets: bool) {
        let Booking { handle, record } = booking;
        let call = [(record.booked(handle), 0)];
        let undoing = async {
            // Side by side, so that an account that is busy does not hold up the other one.
            let given_back = join_all(accounts.iter().map(|account| self.give_back_to(*account, &call))).await;
            given_back.into_iter().collect::<Result<(), _>>()?;
            if forgets { record::forget(&self.store, handle, record).await } else { Ok(()) }
        };
        match timeout(GIVE_BACK, undoing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the booking was not given back; the keeper does it"),
            Err(_) => debug!("the booking was not given back in time; the keeper does it"),
        }
    }

    /// Registers OpenAI's name for a booked call. Returns whether the call may go on: the operator may have ended it meanwhile.
    ///
    /// # Errors
    /// If the table cannot be used, so that nobody would end the call.
    pub async fn confirm(&self, booking: &mut Booking, id: &str, made: Made) -> Result<bool, TableError> {
        let open = Record { state: State::Open, id: Some(id.to_owned()), made: Some(made), ..booking.record.clone() };
        self.replace(booking, open).await
    }

    /// Registers that OpenAI may have opened the call. Everything stays booked until its end.
    ///
    /// # Errors
    /// If the table cannot be used. It then stays booked, too.
    pub async fn doubt(&self, booking: &mut Booking) -> Result<(), TableError> {
        let uncertain = Record { state: State::Uncertain, ..booking.record.clone() };
        self.replace(booking, uncertain).await.map(|_| ())
    }

    async fn replace(&self, booking: &mut Booking, new: Record) -> Result<bool, TableError> {
        let change = [(booking.handle.clone(), booking.record.clone(), new)];
        let is_changed = record::replace(&self.store, &change).await.whole()?.changed.is_empty();
        if let ([(_, _, new)], true) = (change, is_changed) {
            booking.record = new;
        }
        Ok(is_changed)
    }

    /// Gives back all that is booked for a call that certainly was never made, and forgets it, so that refused offers do not fill
    /// the registry. What fails, the keeper does when the call would have ended.
    pub async fn give_back(&self, booking: Booking) {
        self.undo(&booking, &[Some(&booking.record.caller), EVERYONE], true).await;
    }

    /// Gives back all that is booked for a call that was hung up before a browser got its answer. What fails, the keeper does.
    pub async fn end_unused(&self, booking: Booking) {
        let Booking { handle, record } = booking;
        match timeout(GIVE_BACK, self.end(Ending { handle, record, used: 0, hang_up_again: false })).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(%error, "the call's end was not registered; the keeper does it"),
            Err(_) => debug!("the call's end was not registered in time; the keeper does it"),
        }
    }

    /// The record of a call, if there is such a call.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn find(&self, handle: &Handle) -> Result<Option<Record>, TableError> {
        record::find(&self.store, handle).await
    }

    async fn give_back_to(&self, caller: Option<&str>, calls: &[(Booked<'_>, u64)]) -> Result<(), TableError> {
        self.account(caller).give_back(&self.store, calls).await?;
        if caller == EVERYONE {
            self.busy.forget();
        }
        Ok(())
    }

    /// Registers the end of a call that is over, and gives back the seconds that it did not use. Returns whether no other has
    /// ended it meanwhile.
    ///
    /// # Errors
    /// If the table cannot be used. What is left can be done again.
    pub async fn end(&self, ending: Ending) -> Result<bool, TableError> {
        let Endings { others, error, .. } = self.end_all(vec![ending]).await;
        error.map_or(Ok(others.is_empty()), Err)
    }

    /// The same for many calls. An error in one account or record does not keep the others from being ended.
    async fn end_all(&self, calls: Vec<Ending>) -> Endings {
        let mut of_callers = BTreeMap::<_, Vec<_>>::new();
        for Ending { handle, record, used, .. } in &calls {
            of_callers.entry(record.caller.as_str()).or_default().push((record.booked(handle), *used));
        }
        let mut giving_back = Vec::new();
        for (caller, calls) in &of_callers {
            giving_back.push(async move { (*caller, self.give_back_to(Some(caller), calls).await) });
        }
        let mut endings = Endings::default();
        // One after the other, those of a thousand calls would keep the keeper from the calls that end next.
        let mut given_back = stream::iter(giving_back).buffer_unordered(SIDE_BY_SIDE);
        let mut failed = BTreeSet::new();
        while let Some((caller, outcome)) = given_back.next().await {
            if let Err(error) = outcome {
                failed.insert(caller.to_owned());
                endings.error.get_or_insert(error);
            }
        }
        drop(given_back);
        of_callers.retain(|caller, _| !failed.contains(*caller));
        let of_everyone: Vec<_> = of_callers.values().flatten().cloned().collect();
        if let Err(error) = self.give_back_to(EVERYONE, &of_everyone).await {
            endings.left = calls.into_iter().map(|ending| ending.handle).collect();
            endings.error.get_or_insert(error);
            return endings;
        }
        let (left, ended): (Vec<_>, Vec<_>) =
            calls.into_iter().partition(|ending| failed.contains(&ending.record.caller));
        let ended: Vec<_> = ended
            .into_iter()
            .map(|Ending { handle, record, used, hang_up_again }| {
                let ended = Record { state: State::Ended, used: Some(used), hang_up_again, ..record.clone() };
                (handle, record, ended)
            })
            .collect();
        let record::Others { changed, equal, unknown, error } = record::replace(&self.store, &ended).await;
        endings.others = changed.into_iter().chain(equal).cloned().collect();
        endings.left = left.into_iter().map(|ending| ending.handle).chain(unknown.into_iter().cloned()).collect();
        if let Some(error) = error {
            endings.error.get_or_insert(error);
        }
        endings
    }
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct Ending {
    pub handle: Handle,
    pub record: Record,
    /// The seconds that it used.
    pub used: u64,
    /// See [`Record::hang_up_again`].
    pub hang_up_again: bool,
}

/// The outcome for calls that are over.
#[derive(Debug, Default)]
struct Endings {
    /// Those that another has ended meanwhile.
    others: Vec<Handle>,
    /// Those whose end is not registered.
    left: Vec<Handle>,
    /// The first error of the table.
    error: Option<TableError>,
}

impl Ending {
    /// A call that was hung up at that time, or of which OpenAI knew nothing.
    pub fn new(handle: Handle, record: Record, over: Over, used: u64, at: u64) -> Self {
        let hang_up_again = over == Over::Gone && record.id.is_some() && at < record.ends;
        Self { handle, record, used, hang_up_again }
    }
}

impl Made {
    /// The origin of a call that this key made at this base URL.
    pub fn by(key: &SecretString, base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), proof: hex::encode(hmac::sign(&proof_key(key), base_url.as_bytes())) }
    }

    /// Whether this key made the call at that URL.
    pub fn is_by(&self, key: &SecretString) -> bool {
        hex::decode(&self.proof)
            .is_ok_and(|proof| hmac::verify(&proof_key(key), self.base_url.as_bytes(), &proof).is_ok())
    }
}

/// A key for this purpose alone, derived from the API key.
fn proof_key(key: &SecretString) -> hmac::Key {
    let api_key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&api_key, b"calls are made by this key").as_ref())
}

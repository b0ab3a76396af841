//! The keeper: it ends each call at its second, and gives back what the call did not use.
//!
//! Nothing is removed before the call is known to be over. A keeper that dies loses nothing: the next round finds the same
//! calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{Range, RangeInclusive},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::{
    Calls, Ending, Endings, Handle, Record, State,
    hang_up::{HangUpError, Over, Receiver},
    record::{self, Register},
    store::{Change, Changed, Condition},
};
use crate::{
    aws::dynamodb::TableError,
    net::clock::since_epoch,
    record::{Round, causes},
};

/// How far ahead a round looks. Rounds begin every minute, and the next one may be late by half a minute.
pub const AHEAD: Duration = Duration::from_secs(90);

/// The time between two rounds, in seconds.
const PERIOD: u64 = 60;

/// How much later a round ends a call that the next round ends at its second, in seconds. If the next round does not come, the
/// call is ended in time all the same.
const IN_RESERVE: u64 = 3;

/// The longest time between two looks at the registry while calls are about to end: a call may have been ended by its caller
/// or made meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The pause between two looks at a registry in memory.
const LOOK_IN_MEMORY: Duration = Duration::from_millis(250);

/// The pause before another attempt to end a call.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// The number of calls that are hung up side by side. Each has a connection of its own.
const SIDE_BY_SIDE: usize = 50;

/// The longest time for the end of one call. In a round, others may be due meanwhile, and the next attempt comes soon.
const EACH: Duration = Duration::from_secs(12);
const EACH_IN_ROUND: Duration = Duration::from_secs(4);

/// A call that was hung up later than this after its end counts as late, and one that is there after the other as outlived.
const LATE: u64 = 5;
const OUTLIVED: u64 = 120;

/// OpenAI ends every session after 60 minutes. So a look goes back this many minutes, unless earlier calls are known to be ended.
const LOOK_BACK: u64 = 75;

/// After an outage of the keeper, a round gives back seconds at most this many minutes back. Older calls concern past days only.
const LONGEST_LOOK_BACK: u64 = 2 * 24 * 60;

/// The number of such minutes that are read together, after which the round remembers how far it has come.
const CHUNK: u64 = 60;

/// The time that must be left for another chunk.
const WORTH_A_CHUNK: Duration = Duration::from_secs(5);

/// The longest wait for the next item of a look: an unreadable item must not delay the end of other calls. The second applies
/// where no call waits.
const LOOK: Duration = Duration::from_secs(3);
const PATIENT_LOOK: Duration = Duration::from_secs(15);

/// The number of readings for a command of the operator, if the table fails, and the pause between two of them.
const READINGS: u32 = 4;
const READ_AGAIN: Duration = Duration::from_secs(1);

/// The number of calls that are given back together.
const SETTLED_TOGETHER: usize = 128;

/// The time for giving back in each look, even if other calls are due meanwhile.
const SETTLING: Duration = Duration::from_secs(2);

/// A minute is no longer looked at when all of its calls are ended, and it ended this many minutes ago: a call is registered
/// at least ten seconds before its end, within a request of at most 25 s.
const SETTLED: u64 = 2;

/// The item that knows up to which minute all calls are ended.
const CURSOR: &str = "calls/keeper";
const DONE: &str = "done";

/// Ends calls.
#[derive(Clone, Debug)]
pub struct Keeper {
    pub(crate) calls: Arc<Calls>,
    pub(crate) receiver: Receiver,
}

/// An event of the keeper. Without a command, it is a round.
#[derive(Debug, Default, PartialEq)]
pub enum Command {
    /// End the calls that are due, as the schedule asks every minute.
    #[default]
    Round,
    /// Describe all calls.
    List,
    /// End these calls now.
    HangUp(Which),
}

/// The calls that an operator ends.
#[derive(Debug, PartialEq)]
pub enum Which {
    /// One call.
    Call(Handle),
    /// All calls of a caller, who can make no other for `closed` seconds.
    Caller { caller: String, closed: u64 },
    /// All calls. Nobody can make another for `closed` seconds.
    All { closed: u64 },
}

/// An event that is no command.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown command: expected {{\"command\": \"list\"}}, or {{\"command\": \"hang-up\"}} with \"call\": a call's name, \
     \"caller\": 64 hexadecimal digits, or \"all\": true; the last two optionally with \"closedSeconds\""
)]
pub struct UnknownCommand;

/// A call in the answer to an operator.
#[derive(Debug, PartialEq, Serialize)]
pub struct Listed {
    pub call: String,
    pub caller: String,
    pub profile: String,
    pub state: State,
    pub began: u64,
    pub ends: u64,
}

/// A call that is not known to be over.
#[derive(Debug, PartialEq, Serialize)]
pub struct Failed {
    pub call: String,
    /// The reason, without any secret.
    pub cause: String,
}

/// The answer to an operator.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    List { calls: Vec<Listed> },
    Ended { ended: usize, failed: Vec<Failed> },
}

/// The calls that were ended together, and those that were not.
#[derive(Debug, Default)]
struct Outcome {
    ended: Unsettled,
    failed: Vec<(Handle, Record, HangUpError)>,
}

/// Calls that are over but not yet registered as ended: each with its end and how it ended.
type Unsettled = BTreeMap<Handle, (Ending, Over)>;

impl Command {
    /// Reads an event.
    ///
    /// # Errors
    /// If it has a command that is not known.
    pub fn read(event: &serde_json::Value) -> Result<Self, UnknownCommand> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            command: String,
            call: Option<String>,
            caller: Option<String>,
            closed_seconds: Option<u64>,
            all: Option<bool>,
        }

        if event.get("command").is_none() {
            return Ok(Self::Round);
        }
        let fields = Fields::deserialize(event).map_err(|_| UnknownCommand)?;
        let closed = fields.closed_seconds.unwrap_or_default();
        match (fields.command.as_str(), fields.call, fields.caller, fields.all) {
            ("list", None, None, None) if fields.closed_seconds.is_none() => Ok(Self::List),
            ("hang-up", Some(call), None, None) if fields.closed_seconds.is_none() => {
                Handle::parse(&call).map(|call| Self::HangUp(Which::Call(call))).ok_or(UnknownCommand)
            }
            ("hang-up", None, Some(caller), None) if is_identifier(&caller) => {
                Ok(Self::HangUp(Which::Caller { caller, closed }))
            }
            ("hang-up", None, None, Some(true)) => Ok(Self::HangUp(Which::All { closed })),
            _ => Err(UnknownCommand),
        }
    }
}

fn is_identifier(caller: &str) -> bool {
    caller.len() == 64 && caller.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Keeper {
    /// Carries a command out, until `deadline` at the latest. `round` becomes what a round counts.
    ///
    /// # Errors
    /// If the table cannot be used. What is left can be done again.
    pub async fn run(&self, command: Command, deadline: Instant, round: &mut Round) -> Result<Report, TableError> {
        match command {
            Command::Round => self.round(AHEAD, deadline, round).await,
            Command::List => self.list(deadline).await,
            Command::HangUp(which) => self.hang_up(&which, deadline, round).await,
        }
    }

    /// Ends the calls in this process as long as it runs, for a registry in memory.
    pub async fn keep(self) {
        loop {
            sleep(LOOK_IN_MEMORY).await;
            // A process that mints tokens only has nothing to look at.
            if self.calls.store.is_unused() {
                continue;
            }
            if let Some(deadline) = Instant::now().checked_add(EACH) {
                let _ = self.round(Duration::ZERO, deadline, &mut Round::default()).await;
            }
        }
    }

    /// Ends the calls whose end is past or comes within `ahead`, each at its second. No error of the table keeps the other calls
    /// from being ended.
    async fn round(&self, ahead: Duration, deadline: Instant, round: &mut Round) -> Result<Report, TableError> {
        let began = since_epoch();
        let last = began.saturating_add(ahead);
        let minute = began.as_secs() / 60;
        let cursor = timeout(LOOK, self.first_minute(minute)).await.unwrap_or(Err(TableError::Timeout));
        // Without the cursor, all calls that OpenAI may still have.
        let oldest = minute.saturating_sub(LOOK_BACK);
        let start = cursor.as_ref().map_or(oldest, |first| *first);
        let oldest = start.max(oldest);
        let mut first = oldest;
        let (mut count, mut unsettled, mut settled) = (0_usize, Unsettled::new(), BTreeSet::new());
        let (failed, unread) = loop {
            let at = since_epoch();
            let mut register = self.look(first..=last.as_secs() / 60, LOOK, deadline).await;
            let unread = register.error.take();
            let calls = register.calls.iter().filter(|(handle, record)| {
                record.is_to_end() && record.ends <= last.as_secs() && !unsettled.contains_key(handle)
            });
            let (due, later): (Vec<_>, Vec<_>) =
                calls.cloned().partition(|(_, record)| due_at(record, began) <= at.as_secs());
            let Outcome { ended, failed } = self.end(due, EACH_IN_ROUND, deadline, round).await;
            count = count.saturating_add(number(&ended));
            unsettled.extend(ended);
            round.outlived = Some(outlived(&failed, since_epoch().as_secs()));
            let next = later.iter().map(|(_, record)| due_at(record, began)).min();
            // What is left of this is done after the next look.
            let until = soonest(next, deadline);
            let _ = self.settle(&mut unsettled, &mut settled, until, round).await;
            first = register
                .ended_up_to(first, (at.as_secs() / 60).saturating_sub(SETTLED), &settled)
                .map_or(first, |minute| minute.saturating_add(1));
            let is_incomplete = !failed.is_empty() || !unsettled.is_empty() || unread.is_some();
            let Some(pause) = pause(next, is_incomplete, last) else { break (failed, unread) };
            if Instant::now()
                .checked_add(pause)
                .is_none_or(|next| next.checked_add(EACH).is_none_or(|end| end > deadline))
            {
                break (failed, unread);
            }
            debug!(seconds = pause.as_secs_f64(), waiting = later.len(), "waiting for the end of calls");
            sleep(pause).await;
        };
        let mut fault = self.settle(&mut unsettled, &mut settled, deadline, round).await.or(unread);
        match cursor {
            Ok(_) => {
                let advanced = timeout_at(deadline, self.advance(start..oldest, first, deadline, round)).await;
                fault = fault.or(advanced.unwrap_or(Err(TableError::Timeout)).err());
            }
            Err(error) => fault = fault.or(Some(error)),
        }
        let everyone = self.calls.account(None);
        match timeout(LOOK, everyone.open(&self.calls.store, since_epoch().as_secs())).await {
            Ok(Ok(open)) => round.open = Some(open),
            Ok(Err(error)) => fault = fault.or(Some(error)),
            Err(_) => fault = fault.or(Some(TableError::Timeout)),
        }
        let Some(error) = fault else { return Ok(Report::Ended { ended: count, failed: described(&failed) }) };
        // Calls that were not read may have outlived their end. So a round that is not certain reports no zero, and the alarm
        // notices the missing data.
        round.outlived = round.outlived.filter(|outlived| *outlived > 0);
        Err(error)
    }

    /// Reads the calls that end in these minutes.
    async fn look(&self, minutes: RangeInclusive<u64>, patience: Duration, deadline: Instant) -> Register {
        record::of_minutes(&self.calls.store, minutes, patience, deadline).await
    }

    /// The first minute that may have calls which are not ended.
    async fn first_minute(&self, minute: u64) -> Result<u64, TableError> {
        let cursor = self.calls.store.read(CURSOR).await?;
        let done: Option<u64> = cursor.text(DONE).and_then(|digits| digits.parse().ok());
        let first = done.map_or(minute.saturating_sub(LOOK_BACK), |done| done.saturating_add(1));
        Ok(first.clamp(minute.saturating_sub(LONGEST_LOOK_BACK), minute))
    }

    /// Ends the calls of former minutes, which OpenAI no longer has, and remembers up to which minute all calls are ended. `first`:
    /// the first minute after them with a call that is not ended.
    async fn advance(
        &self,
        former: Range<u64>,
        first: u64,
        deadline: Instant,
        round: &mut Round,
    ) -> Result<(), TableError> {
        let mut next = former.start;
        while next < former.end && deadline.saturating_duration_since(Instant::now()) > WORTH_A_CHUNK {
            let last = next.saturating_add(CHUNK).min(former.end).saturating_sub(1);
            let mut register = self.look(next..=last, PATIENT_LOOK, deadline).await;
            let calls = register.calls.iter().filter(|(_, record)| record.is_to_end()).cloned();
            let mut unsettled: Unsettled =
                calls.map(|(handle, record)| ended(handle, record, Over::Gone, since_epoch().as_secs())).collect();
            let mut settled = BTreeSet::new();
            let fault = self.settle(&mut unsettled, &mut settled, deadline, round).await.or(register.error.take());
            let done = register.ended_up_to(next, last, &settled);
            if let Some(done) = done {
                next = done.saturating_add(1);
                self.remember(done).await?;
            }
            match (fault, done) {
                (Some(error), _) => return Err(error),
                // Another round is ending them.
                (None, None) => return Ok(()),
                (None, Some(_)) => {}
            }
        }
        if next >= former.end && first > next {
            self.remember(first.saturating_sub(1)).await?;
        }
        Ok(())
    }

    async fn remember(&self, done: u64) -> Result<(), TableError> {
        let change = Change {
            item: CURSOR.to_owned(),
            set: vec![(DONE.to_owned(), format!("{done:010}"))],
            // Another round may have come further.
            conditions: vec![Condition::AbsentOrBefore(DONE.to_owned(), format!("{done:010}"))],
            ..Change::default()
        };
        match self.calls.store.change(&change).await? {
            Changed::Made | Changed::Refused(_) => Ok(()),
        }
    }

    /// Hangs up calls side by side.
    async fn end(&self, calls: Vec<(Handle, Record)>, each: Duration, deadline: Instant, round: &mut Round) -> Outcome {
        let mut outcome = Outcome::default();
        let mut ending = stream::iter(calls.into_iter().map(|(handle, record)| async move {
            let limit = Instant::now().checked_add(each).map_or(deadline, |limit| limit.min(deadline));
            let over = self.receiver.hang_up(&record, limit).await;
            (handle, record, over, since_epoch().as_secs())
        }))
        .buffer_unordered(SIDE_BY_SIDE);
        while let Some((handle, record, over, at)) = ending.next().await {
            match over {
                // OpenAI may get to know it yet. It is hung up at its end.
                Ok(Over::Gone) if record.hang_up_again && at < record.ends => {}
                Ok(over) => {
                    if over == Over::HungUp && at > record.ends.saturating_add(LATE) {
                        round.late = round.late.saturating_add(1);
                    }
                    if over == Over::HungUp && record.hang_up_again {
                        warn!(
                            call = %handle, caller = record.caller,
                            "a call went on after its caller had ended it, because OpenAI did not know it then; it is hung up now"
                        );
                    }
                    outcome.ended.extend([ended(handle, record, over, at)]);
                }
                Err(error) => {
                    warn!(call = %handle, cause = causes(&error), "a call could not be ended; it is tried again");
                    outcome.failed.push((handle, record, error));
                }
            }
        }
        outcome
    }

    /// Registers that calls are over, and gives back what they did not use, until about `until`. Settled calls move from
    /// `unsettled` to `settled`.
    async fn settle(
        &self,
        unsettled: &mut Unsettled,
        settled: &mut BTreeSet<Handle>,
        until: Instant,
        round: &mut Round,
    ) -> Option<TableError> {
        let limit = Instant::now().checked_add(SETTLING).map_or(until, |least| least.max(until));
        let mut calls: Vec<_> = unsettled.values().map(|(ending, _)| ending.clone()).collect();
        // A caller's calls are given back together.
        calls.sort_by(|one, other| one.record.caller.cmp(&other.record.caller));
        let mut fault = None;
        for chunk in calls.chunks(SETTLED_TOGETHER) {
            let Ok(Endings { others, left, error }) = timeout_at(limit, self.calls.end_all(chunk.to_vec())).await
            else {
                return fault.or(Some(TableError::Timeout));
            };
            fault = fault.or(error);
            for Ending { handle, .. } in chunk.iter().filter(|ending| !left.contains(&ending.handle)) {
                let Some((ending, over)) = unsettled.remove(handle) else { continue };
                // Those that another round, or their caller, has ended meanwhile are counted there.
                if others.contains(handle) {
                    continue;
                }
                count(&ending, over, round);
                settled.insert(handle.clone());
            }
        }
        fault
    }

    async fn hang_up(&self, which: &Which, deadline: Instant, round: &mut Round) -> Result<Report, TableError> {
        let (account, closed) = match which {
            Which::Call(_) => (None, 0),
            Which::Caller { caller, closed } => (Some(caller.as_str()), *closed),
            Which::All { closed } => (None, *closed),
        };
        let mut fault = None;
        if closed > 0 {
            let until = since_epoch().as_secs().saturating_add(closed);
            fault = self.calls.account(account).close(&self.calls.store, until).await.err();
        }
        let calls = match which {
            Which::Call(handle) => {
                self.calls.find(handle).await?.map(|record| (handle.clone(), record)).into_iter().collect()
            }
            Which::Caller { .. } | Which::All { .. } => {
                let register = self.all(deadline).await;
                fault = fault.or(register.error);
                let mut calls = register.calls;
                calls.retain(|(_, record)| account.is_none_or(|caller| record.caller == caller));
                calls
            }
        };
        let calls = calls.into_iter().filter(|(_, record)| record.is_to_end());
        let (mut due, asking): (Vec<_>, Vec<_>) = calls.partition(|(_, record)| record.id.is_some());
        let stopped: Vec<_> = asking
            .into_iter()
            .filter(|(_, record)| record.state == State::Booked)
            .map(|(handle, record)| {
                let stopped = Record { state: State::Stopped, ..record.clone() };
                (handle, record, stopped)
            })
            .collect();
        // One that OpenAI has answered meanwhile is no longer as it was read, and is ended as the others.
        let record::Others { changed, unknown, error, .. } = record::replace(&self.calls.store, &stopped).await;
        fault = fault.or(error);
        let mut number_ended = stopped.len().saturating_sub(changed.len()).saturating_sub(unknown.len());
        for handle in changed {
            let found = self.calls.find(handle).await;
            match found {
                Ok(found) => {
                    due.extend(found.filter(|record| record.id.is_some()).map(|record| (handle.clone(), record)));
                }
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        let Outcome { ended, failed } = self.end(due, EACH, deadline, round).await;
        number_ended = number_ended.saturating_add(number(&ended));
        round.is_by_operator = true;
        let mut unsettled = ended;
        fault = self.settle(&mut unsettled, &mut BTreeSet::new(), deadline, round).await.or(fault);
        match fault {
            None => Ok(Report::Ended { ended: number_ended, failed: described(&failed) }),
            Some(error) => Err(error),
        }
    }

    async fn list(&self, deadline: Instant) -> Result<Report, TableError> {
        let register = self.all(deadline).await;
        if let Some(error) = register.error {
            return Err(error);
        }
        let mut calls: Vec<_> = register
            .calls
            .into_iter()
            .filter(|(_, record)| record.state != State::Ended)
            .map(|(handle, Record { caller, profile, state, began, ends, .. })| Listed {
                call: handle.to_string(),
                caller,
                profile,
                state,
                began,
                ends,
            })
            .collect();
        calls.sort_by_key(|call| call.ends);
        Ok(Report::List { calls })
    }

    /// All calls that may be open, as far as they could be read.
    async fn all(&self, deadline: Instant) -> Register {
        let minute = since_epoch().as_secs() / 60;
        let oldest = minute.saturating_sub(LOOK_BACK);
        let first = self.first_minute(minute).await.unwrap_or(oldest).max(oldest);
        // The longest call that can be configured.
        let last = minute.saturating_add(openai_realtime::CALL_SECONDS.end() / 60).saturating_add(1);
        let mut register = self.look(first..=last, PATIENT_LOOK, deadline).await;
        for _ in 1..READINGS {
            if register.error.is_none() {
                break;
            }
            sleep(READ_AGAIN).await;
            register = self.look(first..=last, PATIENT_LOOK, deadline).await;
        }
        register
    }
}

/// A call that was hung up at that time, or of which OpenAI knew nothing.
fn ended(handle: Handle, record: Record, over: Over, at: u64) -> (Handle, (Ending, Over)) {
    let used = used(&record, over, at);
    (handle.clone(), (Ending::new(handle, record, over, used, at), over))
}

/// The seconds that a call used. When a browser left is not known, so all seconds of such a call count. A call without
/// OpenAI's name was never answered, and used none.
fn used(record: &Record, over: Over, at: u64) -> u64 {
    match (&record.id, over, record.used) {
        (None, _, _) => 0,
        (Some(_), Over::Gone, Some(used)) => used,
        (Some(_), Over::HungUp, _) => record.lasted(at),
        (Some(_), Over::Gone, None) => record.lasted(record.ends),
    }
}

/// Whether the call was ended before, and the second hang-up found nothing.
fn was_over(ending: &Ending, over: Over) -> bool {
    ending.record.hang_up_again && over == Over::Gone
}

/// The number of calls that were ended now.
fn number(ended: &Unsettled) -> usize {
    ended.values().filter(|(ending, over)| !was_over(ending, *over)).count()
}

/// Counts a call with the seconds that were not counted when its caller ended it.
fn count(ending: &Ending, over: Over, round: &mut Round) {
    if ending.record.id.is_some() && !was_over(ending, over) {
        round.count(over == Over::HungUp, ending.used.saturating_sub(ending.record.used.unwrap_or_default()));
    }
}

/// When a round that began at `began` ends a call, in Unix seconds.
fn due_at(record: &Record, began: Duration) -> u64 {
    let is_of_the_next_round = record.ends > began.as_secs().saturating_add(PERIOD);
    record.ends.saturating_add(if is_of_the_next_round { IN_RESERVE } else { 0 })
}

/// The time until which a look may give back: the next call is due, or the next look.
fn soonest(next: Option<u64>, deadline: Instant) -> Instant {
    let Some(next) = next else { return deadline };
    let left = Duration::from_secs(next).saturating_sub(since_epoch()).min(LOOK_AGAIN);
    Instant::now().checked_add(left).map_or(deadline, |next| next.min(deadline))
}

/// The pause until the next look at the registry. `next`: when the next call is due. `None`: nothing is left to do.
fn pause(next: Option<u64>, is_incomplete: bool, last: Duration) -> Option<Duration> {
    let at = since_epoch();
    if at >= last && next.is_none() {
        return None;
    }
    match (next.map(|next| Duration::from_secs(next).saturating_sub(at)), is_incomplete) {
        (Some(next), false) => Some(next.min(LOOK_AGAIN)),
        (Some(next), true) => Some(next.min(TRY_AGAIN)),
        (None, true) => Some(TRY_AGAIN),
        (None, false) => None,
    }
}

/// The number of calls that are there long after their end.
fn outlived(failed: &[(Handle, Record, HangUpError)], now: u64) -> usize {
    failed.iter().filter(|(_, record, _)| now > record.ends.saturating_add(OUTLIVED)).count()
}

fn described(failed: &[(Handle, Record, HangUpError)]) -> Vec<Failed> {
    failed.iter().map(|(handle, _, error)| Failed { call: handle.to_string(), cause: causes(error) }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::store::KEPT, *};

    #[test]
    fn a_round_leaves_the_calls_of_the_next_one_to_it_for_three_seconds() {
        let record = |ends| Record {
            caller: String::new(),
            profile: String::new(),
            state: State::Open,
            began: 0,
            ends,
            id: None,
            made: None,
            used: None,
            hang_up_again: false,
        };
        let began = Duration::from_millis(1_000_400);
        for (ends, due) in [(900, 900), (1_060, 1_060), (1_061, 1_064), (1_090, 1_093)] {
            assert_eq!(due_at(&record(ends), began), due, "{ends}");
        }
        const { assert!(IN_RESERVE < LATE) };
        const { assert!(LONGEST_LOOK_BACK * 60 < KEPT, "what the keeper looks for has not expired") };
    }
}

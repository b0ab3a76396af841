//! The keeper: it ends each call at its second, and gives back what the call did not use.
//!
//! Nothing is removed before the call is known to be over. A keeper that dies loses nothing: the next round finds the same
//! calls.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{
    Calls, Handle, Record, State,
    hang_up::{HangUpError, Over, Receiver},
    record,
    store::{Change, Changed},
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

/// How many minutes back a keeper looks that does not know which calls were ended: the longest call, and some more.
const LOOK_BACK: u64 = 75;

/// The most minutes that a round looks back after an outage of the keeper. Older calls concern past days only.
const LONGEST_LOOK_BACK: u64 = 2 * 24 * 60;

/// A minute is no longer looked at when all of its calls are ended, and it ended this many minutes ago: a call is registered
/// at least ten seconds before its end, within a request of at most 25 s.
const SETTLED: u64 = 2;

/// The item that knows up to which minute all calls are ended.
const CURSOR: &str = "calls/keeper";
const DONE: &str = "done";
/// The time for which it is kept, in seconds.
const CURSOR_KEPT: u64 = 7 * 86_400;

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
    /// All calls.
    All,
}

/// An event that is no command.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown command: expected {{\"command\": \"list\"}}, or {{\"command\": \"hang-up\"}} with \"call\": a call's name, \
     \"caller\": 64 hexadecimal digits and perhaps \"closedSeconds\", or \"all\": true"
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
    /// With what ended each, and the seconds that it used.
    ended: Vec<(Handle, Record, Over, u64)>,
    failed: Vec<(Handle, HangUpError)>,
}

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
            ("hang-up", None, None, Some(true)) if fields.closed_seconds.is_none() => Ok(Self::HangUp(Which::All)),
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
            Command::List => self.list().await,
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

    /// Ends the calls whose end is past or comes within `ahead`, each at its second.
    async fn round(&self, ahead: Duration, deadline: Instant, round: &mut Round) -> Result<Report, TableError> {
        let began = since_epoch();
        let last = began.saturating_add(ahead);
        let first = self.first_minute(began.as_secs() / 60).await?;
        let mut ended = 0_usize;
        let failed = loop {
            let mut minutes = BTreeMap::new();
            for minute in first..=(last.as_secs() / 60) {
                minutes.insert(minute, record::of_minute(&self.calls.store, minute).await?);
            }
            let at = since_epoch();
            let (due, later): (Vec<_>, Vec<_>) = minutes
                .values()
                .flatten()
                .filter(|(_, record)| record.state != State::Ended && record.ends <= last.as_secs())
                .cloned()
                .partition(|(_, record)| due_at(record, began) <= at.as_secs());
            let outcome = self.end(due, EACH_IN_ROUND, deadline, round).await;
            ended = ended.saturating_add(outcome.ended.len());
            let failed = self.settle(outcome, round).await?;
            round.outlived = Some(outlived(&failed, &minutes, since_epoch().as_secs()));
            let next = later.iter().map(|(_, record)| due_at(record, began)).min();
            let Some(pause) = pause(next, !failed.is_empty(), last) else { break failed };
            if Instant::now()
                .checked_add(pause)
                .is_none_or(|next| next.checked_add(EACH).is_none_or(|end| end > deadline))
            {
                break failed;
            }
            debug!(seconds = pause.as_secs_f64(), waiting = later.len(), "waiting for the end of calls");
            sleep(pause).await;
        };
        self.advance(first, began.as_secs() / 60).await?;
        round.open = Some(self.calls.account(None).open(&self.calls.store, since_epoch().as_secs()).await?);
        Ok(Report::Ended { ended, failed: described(&failed) })
    }

    /// The first minute that may have calls which are not ended.
    async fn first_minute(&self, minute: u64) -> Result<u64, TableError> {
        let cursor = self.calls.store.read(CURSOR).await?;
        let done: Option<u64> = cursor.text(DONE).and_then(|digits| digits.parse().ok());
        let first = done.map_or(minute.saturating_sub(LOOK_BACK), |done| done.saturating_add(1));
        Ok(first.clamp(minute.saturating_sub(LONGEST_LOOK_BACK), minute))
    }

    /// Remembers up to which minute all calls are ended.
    async fn advance(&self, first: u64, minute: u64) -> Result<(), TableError> {
        let mut done = first.saturating_sub(1);
        while done.saturating_add(1).saturating_add(SETTLED) <= minute {
            let calls = record::of_minute(&self.calls.store, done.saturating_add(1)).await?;
            if calls.iter().any(|(_, record)| record.state != State::Ended) {
                break;
            }
            done = done.saturating_add(1);
        }
        if done < first {
            return Ok(());
        }
        let change = Change {
            item: CURSOR.to_owned(),
            set: vec![(DONE.to_owned(), format!("{done:010}"))],
            // Another round may have come further.
            conditions: vec![super::store::Condition::AbsentOrBefore(DONE.to_owned(), format!("{done:010}"))],
            keep_until: since_epoch().as_secs().saturating_add(CURSOR_KEPT),
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
                Ok(over) => {
                    if over == Over::HungUp && at > record.ends.saturating_add(LATE) {
                        round.late = round.late.saturating_add(1);
                    }
                    let used = used(&record, over, at);
                    outcome.ended.push((handle, record, over, used));
                }
                Err(error) => {
                    warn!(call = %handle, cause = causes(&error), "a call could not be ended; it is tried again");
                    outcome.failed.push((handle, error));
                }
            }
        }
        outcome
    }

    /// Gives back what the ended calls did not use. Returns those that are not ended.
    async fn settle(&self, outcome: Outcome, round: &mut Round) -> Result<Vec<(Handle, HangUpError)>, TableError> {
        let Outcome { ended, failed } = outcome;
        if ended.is_empty() {
            return Ok(failed);
        }
        let calls = ended.iter().map(|(handle, record, _, used)| (handle.clone(), record.clone(), *used)).collect();
        let others = self.calls.end(calls).await?;
        // Those that another round, or their caller, has ended meanwhile are counted there.
        for (_, record, over, used) in ended.iter().filter(|(handle, ..)| !others.contains(handle)) {
            if record.id.is_some() {
                round.count(*over == Over::HungUp, *used);
            }
        }
        Ok(failed)
    }

    async fn hang_up(&self, which: &Which, deadline: Instant, round: &mut Round) -> Result<Report, TableError> {
        if let Which::Caller { caller, closed } = which
            && *closed > 0
        {
            let until = since_epoch().as_secs().saturating_add(*closed);
            self.calls.account(Some(caller)).close(&self.calls.store, until).await?;
        }
        let calls = match which {
            Which::Call(handle) => {
                self.calls.find(handle).await?.map(|record| (handle.clone(), record)).into_iter().collect()
            }
            Which::Caller { caller, .. } => {
                let mut calls = self.all().await?;
                calls.retain(|(_, record)| record.caller == *caller);
                calls
            }
            Which::All => self.all().await?,
        };
        let calls = calls.into_iter().filter(|(_, record)| record.state != State::Ended);
        let (named, asking): (Vec<_>, Vec<_>) = calls.partition(|(_, record)| record.id.is_some());
        let stopped: Vec<_> = asking
            .into_iter()
            .filter(|(_, record)| record.state == State::Booked)
            .map(|(handle, record)| {
                let stopped = Record { state: State::Stopped, ..record.clone() };
                (handle, record, stopped)
            })
            .collect();
        // One that OpenAI has answered meanwhile is no longer as it was read, and is ended as the others.
        let answered: Vec<_> =
            record::replace(&self.calls.store, &stopped).await?.changed.into_iter().cloned().collect();
        let mut ended = stopped.len().saturating_sub(answered.len());
        let mut due = named;
        for handle in answered {
            due.extend(
                self.calls.find(&handle).await?.filter(|record| record.id.is_some()).map(|record| (handle, record)),
            );
        }
        let outcome = self.end(due, EACH, deadline, round).await;
        ended = ended.saturating_add(outcome.ended.len());
        round.is_by_operator = true;
        let failed = self.settle(outcome, round).await?;
        Ok(Report::Ended { ended, failed: described(&failed) })
    }

    async fn list(&self) -> Result<Report, TableError> {
        let mut calls: Vec<_> = self
            .all()
            .await?
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

    /// All calls that may be open.
    async fn all(&self) -> Result<Vec<(Handle, Record)>, TableError> {
        let minute = since_epoch().as_secs() / 60;
        let first = self.first_minute(minute).await?;
        // The longest call that can be configured.
        let last = minute.saturating_add(openai_realtime::CALL_SECONDS.end() / 60).saturating_add(1);
        let minutes = stream::iter((first..=last).map(|minute| record::of_minute(&self.calls.store, minute)));
        let minutes: Vec<_> = minutes.buffered(8).collect().await;
        let mut calls = Vec::new();
        for minute in minutes {
            calls.extend(minute?);
        }
        Ok(calls)
    }
}

/// The seconds that a call used. When a browser left is not known, so all seconds of such a call count. A call without
/// OpenAI's name was never answered, and used none.
fn used(record: &Record, over: Over, at: u64) -> u64 {
    match (&record.id, over) {
        (None, _) => 0,
        (Some(_), Over::HungUp) => record.lasted(at),
        (Some(_), Over::Gone) => record.lasted(record.ends),
    }
}

/// When a round that began at `began` ends a call, in Unix seconds.
fn due_at(record: &Record, began: Duration) -> u64 {
    let is_of_the_next_round = record.ends > began.as_secs().saturating_add(PERIOD);
    record.ends.saturating_add(if is_of_the_next_round { IN_RESERVE } else { 0 })
}

/// The pause until the next look at the registry. `next`: when the next call is due. `None`: nothing is left to do.
fn pause(next: Option<u64>, has_failed: bool, last: Duration) -> Option<Duration> {
    let at = since_epoch();
    if at >= last && next.is_none() {
        return None;
    }
    match (next.map(|next| Duration::from_secs(next).saturating_sub(at)), has_failed) {
        (Some(next), false) => Some(next.min(LOOK_AGAIN)),
        (Some(next), true) => Some(next.min(TRY_AGAIN)),
        (None, true) => Some(TRY_AGAIN),
        (None, false) => None,
    }
}

/// The number of calls that are there long after their end.
fn outlived(failed: &[(Handle, HangUpError)], minutes: &BTreeMap<u64, Vec<(Handle, Record)>>, now: u64) -> usize {
    let is_failed = |handle: &Handle| failed.iter().any(|(failed, _)| failed == handle);
    let calls = minutes.values().flatten();
    calls.filter(|(handle, record)| is_failed(handle) && now > record.ends.saturating_add(OUTLIVED)).count()
}

fn described(failed: &[(Handle, HangUpError)]) -> Vec<Failed> {
    failed.iter().map(|(handle, error)| Failed { call: handle.to_string(), cause: causes(error) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        };
        let began = Duration::from_millis(1_000_400);
        for (ends, due) in [(900, 900), (1_060, 1_060), (1_061, 1_064), (1_090, 1_093)] {
            assert_eq!(due_at(&record(ends), began), due, "{ends}");
        }
        const { assert!(IN_RESERVE < LATE) };
    }
}

//! What an instance remembers about the account of all callers: that it has just refused a call.
//!
//! All instances update that one item. While all lines are busy, each further attempt would be one more update of it, and a rush
//! of refusals would delay the bookings and the ends of the other calls. Only a refusal is remembered, never a free line.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::account::{Booked, DAY, SlotOutcome};

/// How long a refusal is remembered. A line that another instance gives back can be used after that time.
const REMEMBERED: Duration = Duration::from_secs(1);

/// The last refusal of the account of all callers.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<Option<Refused>>);

#[derive(Clone, Copy, Debug)]
struct Refused {
    outcome: SlotOutcome,
    /// The length of the refused call, and the day of its beginning.
    seconds: u64,
    day: u64,
    /// The time of the refusal, since the Unix epoch.
    at: Duration,
}

impl Busy {
    /// The refusal of a call that the table would refuse now as it has just refused another.
    pub fn refuses(&self, call: &Booked<'_>, now: Duration) -> Option<SlotOutcome> {
        let refused = (*self.last())?;
        let is_recent = now.checked_sub(refused.at).is_some_and(|passed| passed < REMEMBERED);
        let is_alike = match refused.outcome {
            SlotOutcome::NoSlot { .. } => true,
            SlotOutcome::NoSeconds => call.began / DAY == refused.day && call.seconds() >= refused.seconds,
            SlotOutcome::Taken | SlotOutcome::Closed => false,
        };
        (is_recent && is_alike).then_some(refused.outcome)
    }

    /// Remembers that the table has answered so.
    pub fn remember(&self, outcome: SlotOutcome, call: &Booked<'_>, now: Duration) {
        *self.last() = Some(Refused { outcome, seconds: call.seconds(), day: call.began / DAY, at: now });
    }

    /// Forgets the refusal, since this instance has given something back.
    pub fn forget(&self) {
        *self.last() = None;
    }

    fn last(&self) -> MutexGuard<'_, Option<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::handle::Handle;

    const NOON: u64 = 1_795_694_400;
    const NOW: Duration = Duration::from_millis(NOON * 1000 + 400);

    fn call(handle: &Handle, began: u64, seconds: u64) -> Booked<'_> {
        Booked { handle, began, ends: began.saturating_add(seconds) }
    }

    #[test]
    fn busy_lines_are_remembered_for_a_second() {
        let (busy, handle) = (Busy::default(), Handle::new(NOON).unwrap());
        let (of, no_slot) = (|seconds| call(&handle, NOON, seconds), SlotOutcome::NoSlot { frees: NOON + 9 });
        assert_eq!(busy.refuses(&of(60), NOW), None);
        busy.remember(no_slot, &of(60), NOW);
        for passed in [0, 999] {
            assert_eq!(busy.refuses(&of(10), NOW + Duration::from_millis(passed)), Some(no_slot), "{passed}");
        }
        assert_eq!(busy.refuses(&of(10), NOW + REMEMBERED), None);
        assert_eq!(busy.refuses(&of(10), NOW - Duration::from_millis(1)), None, "the clock was set back");
        busy.forget();
        assert_eq!(busy.refuses(&of(60), NOW), None);
    }

    #[test]
    fn used_up_minutes_are_remembered_for_calls_that_are_at_least_as_long() {
        let (busy, handle) = (Busy::default(), Handle::new(NOON).unwrap());
        busy.remember(SlotOutcome::NoSeconds, &call(&handle, NOON, 60), NOW);
        for (began, seconds, refused) in
            [(NOON, 60, true), (NOON, 61, true), (NOON, 59, false), (NOON + DAY, 60, false)]
        {
            let remembered = busy.refuses(&call(&handle, began, seconds), NOW);
            assert_eq!(remembered, refused.then_some(SlotOutcome::NoSeconds), "{began} {seconds}");
        }
        for outcome in [SlotOutcome::Taken, SlotOutcome::Closed] {
            busy.remember(outcome, &call(&handle, NOON, 60), NOW);
            assert_eq!(busy.refuses(&call(&handle, NOON, 60), NOW), None);
        }
    }
}

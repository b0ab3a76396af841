//! How long a mint waits for OpenAI, which depends on whether OpenAI answered this instance's last one.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::net::clock::Moment;

/// The longest time for a mint, with its retries. At the default `RateLimit` of 50 requests a second and `BurstLimit` of
/// 100, an OpenAI that never answers then holds 460 instances (docs/capacity.md), less than half of an account's default of
/// 1,000 concurrent executions. Mints take a fraction of a second.
pub(super) const FULL: Duration = Duration::from_secs(7);

/// The longest time for a mint after one that OpenAI did not answer.
pub(super) const BRIEF: Duration = Duration::from_secs(2);

/// The number of brief mints before a full one, which an OpenAI that is only slow can answer.
pub(super) const BRIEF_MINTS: u32 = 2;

/// How long a mint without an answer is remembered.
pub(super) const MEMORY: Duration = Duration::from_secs(30);

/// The memory of the last mint without an answer.
#[derive(Debug, Default)]
pub(super) struct Patience {
    silence: Mutex<Option<Silence>>,
}

#[derive(Clone, Copy, Debug)]
struct Silence {
    /// The end of the last full mint.
    since: Moment,
    /// The number of brief mints after it, none of which was answered either.
    brief: u32,
}

impl Patience {
    /// The longest time for the next mint.
    pub(super) fn limit(&self) -> Duration {
        match *self.silence() {
            Some(Silence { since, brief }) if brief < BRIEF_MINTS && since.elapsed() < MEMORY => BRIEF,
            _ => FULL,
        }
    }

    /// OpenAI answered, if only with an error.
    pub(super) fn answered(&self) {
        *self.silence() = None;
    }

    /// OpenAI did not answer within `limit`.
    pub(super) fn not_answered(&self, limit: Duration) {
        let mut silence = self.silence();
        *silence = match *silence {
            Some(Silence { since, brief }) if limit <= BRIEF => Some(Silence { since, brief: brief.saturating_add(1) }),
            _ => Some(Silence { since: Moment::now(), brief: 0 }),
        };
    }

    fn silence(&self) -> MutexGuard<'_, Option<Silence>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits of that many mints, none of which is answered.
    fn unanswered<const MINTS: usize>(patience: &Patience) -> [Duration; MINTS] {
        [(); MINTS].map(|()| {
            let limit = patience.limit();
            patience.not_answered(limit);
            limit
        })
    }

    #[test]
    fn after_a_mint_without_an_answer_some_are_brief_and_then_one_is_full() {
        let patience = Patience::default();
        assert_eq!(unanswered(&patience), [FULL, BRIEF, BRIEF, FULL, BRIEF, BRIEF, FULL]);
    }

    #[test]
    fn an_answer_ends_the_brief_limit() {
        let patience = Patience::default();
        assert_eq!(unanswered(&patience), [FULL, BRIEF]);
        patience.answered();
        assert_eq!(patience.limit(), FULL);
    }

    #[test]
    fn a_silence_is_forgotten_after_a_while_even_if_the_process_was_frozen() {
        let patience = Patience::default();
        patience.not_answered(FULL);
        let since =
            |frozen| *patience.silence() = Some(Silence { since: Moment::before_a_freeze_of(frozen), brief: 0 });
        since(MEMORY - Duration::from_secs(1));
        assert_eq!(patience.limit(), BRIEF);
        since(MEMORY + Duration::from_secs(1));
        assert_eq!(patience.limit(), FULL);
    }
}

//! Another attempt after a transient error: whether, when, and over which connection. One policy for OpenAI and DynamoDB.

use std::{error::Error, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::debug;

use super::{
    clock::millis,
    connection::{Connection, Lease},
};

/// The limits of retrying.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The number of tries that may fail. An attempt counts as a try if its error has a pause.
    pub max_tries: u32,
    /// The time that must be left before the deadline for another attempt.
    pub worth_an_attempt: Duration,
}

/// An error of an attempt, which decides on the next one.
pub trait Retryable: Error + From<reqwest::Error> {
    /// Whether another attempt may succeed.
    fn is_transient(&self) -> bool;

    /// Whether the connection is broken, or may be.
    fn needs_new_connection(&self) -> bool;

    /// The pause before the next attempt, if this was the `tries`-th try, over a reused connection or a new one. `None`:
    /// no pause, and the attempt does not count as a try.
    fn pause(&self, tries: u32, reused: bool) -> Option<Duration>;
}

/// The failed attempts at one request.
#[derive(Debug)]
pub struct Retries {
    policy: Policy,
    deadline: Option<Instant>,
    tries: u32,
}

impl Retries {
    /// No attempt was made yet. Without a deadline, only the number of tries is limited.
    pub fn new(policy: Policy, deadline: Option<Instant>) -> Self {
        Self { policy, deadline, tries: 0 }
    }

    /// After an attempt over `lease` failed: waits, and returns the connection for the next attempt.
    ///
    /// # Errors
    /// The failure itself, if another attempt cannot help, or the tries or the time are used up.
    pub async fn after<E: Retryable>(
        &mut self,
        failure: E,
        lease: &Lease,
        connection: &Connection,
    ) -> Result<Lease, E> {
        if !failure.is_transient() {
            return Err(failure);
        }
        let next_try = self.tries.saturating_add(1);
        let pause = failure.pause(next_try, lease.reused);
        if pause.is_some() {
            self.tries = next_try;
        }
        let pause = pause.unwrap_or_default();
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let too_late = left.is_some_and(|left| left < pause.saturating_add(self.policy.worth_an_attempt));
        if self.tries >= self.policy.max_tries || too_late {
            debug!(tries = self.tries, "no further attempt: the tries or the time are used up");
            return Err(failure);
        }
        debug!(milliseconds = millis(pause), "pausing before the next attempt");
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(if failure.needs_new_connection() { connection.replace()? } else { connection.lease()? })
    }
}

/// A random pause within [`backoff_bounds`], so that instances that failed together do not retry together.
pub fn backoff(first: Duration, tries: u32) -> Duration {
    let (least, most) = backoff_bounds(first, tries);
    least.saturating_add(most.saturating_sub(least).mul_f64(fastrand::f64()))
}

/// The shortest and the longest pause after that many tries. Both double with each try.
pub fn backoff_bounds(first: Duration, tries: u32) -> (Duration, Duration) {
    let most = first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    (most.mul_f64(0.5), most)
}

/// A policy, with the shortest and the longest pause after each try but the last, in seconds.
#[cfg(test)]
pub(crate) fn describe(policy: Policy, bounds: impl Fn(u32) -> (Duration, Duration)) -> serde_json::Value {
    let pauses: Vec<_> = (1..policy.max_tries)
        .map(|tries| {
            let (least, most) = bounds(tries);
            [least.as_secs_f64(), most.as_secs_f64()]
        })
        .collect();
    serde_json::json!({"max_tries": policy.max_tries, "pauses": pauses})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls;

    const FIRST: Duration = Duration::from_millis(200);

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("busy")]
        Busy,
        #[error("an old connection was dead")]
        Dead,
        #[error("refused")]
        Refused,
        #[error("the client cannot be built")]
        Client(#[from] reqwest::Error),
    }

    impl Retryable for Failure {
        fn is_transient(&self) -> bool {
            matches!(self, Self::Busy | Self::Dead)
        }

        fn needs_new_connection(&self) -> bool {
            matches!(self, Self::Dead)
        }

        fn pause(&self, tries: u32, reused: bool) -> Option<Duration> {
            (!(self.needs_new_connection() && reused)).then(|| FIRST.saturating_mul(tries))
        }
    }

    #[test]
    fn pauses_grow_and_are_random() {
        for _ in 0..100 {
            assert!((100..=200).contains(&backoff(FIRST, 1).as_millis()));
            assert!((200..=400).contains(&backoff(FIRST, 2).as_millis()));
        }
        assert_ne!(backoff(FIRST, 1), backoff(FIRST, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn tries_end_after_their_number_and_only_transient_errors_are_retried() {
        let connection = Connection::new(tls::client_config(None).unwrap()).unwrap();
        let lease = connection.lease().unwrap();
        let policy = Policy { max_tries: 3, worth_an_attempt: Duration::from_millis(500) };
        let mut retries = Retries::new(policy, None);
        let began = Instant::now();
        assert!(retries.after(Failure::Busy, &lease, &connection).await.is_ok());
        assert!(retries.after(Failure::Busy, &lease, &connection).await.is_ok());
        assert_eq!(began.elapsed(), FIRST * 3, "one pause, and one twice as long");
        assert!(matches!(retries.after(Failure::Busy, &lease, &connection).await, Err(Failure::Busy)));
        let mut retries = Retries::new(policy, None);
        assert!(matches!(retries.after(Failure::Refused, &lease, &connection).await, Err(Failure::Refused)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_reused_connection_is_not_a_try() {
        let connection = Connection::new(tls::client_config(None).unwrap()).unwrap();
        connection.mark_healthy(&connection.lease().unwrap());
        let reused = connection.lease().unwrap();
        assert!(reused.reused);
        let mut retries = Retries::new(Policy { max_tries: 1, worth_an_attempt: Duration::ZERO }, None);
        for _ in 0..5 {
            let next = retries.after(Failure::Dead, &reused, &connection).await.unwrap();
            assert!(!next.reused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_begins_too_close_to_the_deadline() {
        let connection = Connection::new(tls::client_config(None).unwrap()).unwrap();
        let lease = connection.lease().unwrap();
        let policy = Policy { max_tries: 3, worth_an_attempt: Duration::from_millis(500) };
        for (left, retried) in [(699, false), (700, true)] {
            let deadline = Instant::now() + Duration::from_millis(left);
            let mut retries = Retries::new(policy, Some(deadline));
            assert_eq!(retries.after(Failure::Busy, &lease, &connection).await.is_ok(), retried, "{left} ms");
        }
    }
}

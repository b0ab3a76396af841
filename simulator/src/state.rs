//! What a simulator remembers: the keys it takes, the faults it was asked for, what it was sent.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::{call_fault::CallFault, clock, fault::Fault, request::SeenRequest};

/// How many requests are remembered, and from how many tokens on the expired ones are not: enough for a test, and a
/// simulator that runs for months does not fill the machine.
const MAX_REMEMBERED: usize = 10_000;
/// The longest that a session may be told to last. A longer time could overflow a clock.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 60 * 60);

/// The state as the handlers take it.
pub(crate) type Shared = extract::State<Arc<State>>;

#[derive(Debug, Default)]
pub(crate) struct State {
    memory: Mutex<Memory>,
    /// How many connections are open now.
    pub(crate) open_connections: watch::Sender<usize>,
}

#[derive(Debug)]
pub(crate) struct Memory {
    /// `None`: any key that starts with `sk-`.
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) call_faults: VecDeque<CallFault>,
    requests: VecDeque<SeenRequest>,
    pub(crate) connections: usize,
    pub(crate) resumed_handshakes: usize,
    pub(crate) tokens: HashMap<String, Token>,
    /// A token opens one call and no more.
    pub(crate) tokens_serve_once: bool,
    /// The calls that are being held, and what ends each: to be sent to, or dropped.
    pub(crate) calls: HashMap<String, oneshot::Sender<()>>,
    pub(crate) session_limit: Duration,
    /// No more calls: the simulator is gone.
    pub(crate) stopped: bool,
}

/// What a minted token stands for.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) session: Value,
    /// Unix seconds.
    pub(crate) expires_at: u64,
    pub(crate) used: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            keys: None,
            faults: VecDeque::new(),
            call_faults: VecDeque::new(),
            requests: VecDeque::new(),
            connections: 0,
            resumed_handshakes: 0,
            tokens: HashMap::new(),
            tokens_serve_once: false,
            calls: HashMap::new(),
            // What OpenAI's guide to Realtime conversations says.
            session_limit: Duration::from_secs(60 * 60),
            stopped: false,
        }
    }
}

impl Memory {
    pub(crate) fn accepts(&self, bearer: &str) -> bool {
        match &self.keys {
            Some(keys) => keys.iter().any(|key| key == bearer),
            None => bearer.starts_with("sk-"),
        }
    }

    fn record_request(&mut self, request: SeenRequest) {
        if self.requests.len() >= MAX_REMEMBERED {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(crate) fn remember_token(&mut self, name: &str, token: Token) {
        if self.tokens.len() >= MAX_REMEMBERED {
            let now = clock::unix_seconds();
            self.tokens.retain(|_, token| token.expires_at > now);
        }
        self.tokens.insert(name.to_owned(), token);
    }

    pub(crate) fn limit_sessions(&mut self, limit: Duration) {
        self.session_limit = limit.min(LONGEST_SESSION);
    }

    pub(crate) fn clear_faults(&mut self) {
        self.faults.clear();
        self.call_faults.clear();
    }
}

impl State {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accepts(&self, bearer: &str) -> bool {
        self.memory().accepts(bearer)
    }

    pub(crate) fn record_request(&self, request: SeenRequest) {
        self.memory().record_request(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_requests_and_the_expired_tokens_are_forgotten_before_they_fill_the_machine() {
        let mut memory = Memory::default();
        for number in 0..=MAX_REMEMBERED {
            memory.record_request(SeenRequest {
                connection: number,
                path: String::new(),
                bearer: String::new(),
                safety_identifier: None,
                body: Value::Null,
            });
            // Every other one expired long ago.
            let expires_at = if number % 2 == 0 { 0 } else { u64::MAX };
            memory.remember_token(&number.to_string(), Token { session: Value::Null, expires_at, used: false });
        }
        let seen = memory.requests();
        assert_eq!((seen.len(), seen[0].connection), (MAX_REMEMBERED, 1));
        assert_eq!(memory.tokens.len(), MAX_REMEMBERED / 2 + 1);
        assert!(memory.tokens.contains_key("1") && !memory.tokens.contains_key("2"));
    }
}

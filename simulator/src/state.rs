//! The state that all connections share: accepted keys, planned faults, limits, tokens, calls and recorded requests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::extract;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::{call_fault::CallFault, call_register::CallRegister, clock, fault::Fault, request::SeenRequest};

/// The number of requests that are kept, and the number of tokens from which expired ones are dropped. Enough for a
/// test, and little enough for a simulator that runs for months.
const MAX_REMEMBERED: usize = 10_000;
/// The longest session limit. A longer one could overflow a clock.
const LONGEST_SESSION: Duration = Duration::from_secs(24 * 60 * 60);

/// The shared state as an argument of a handler.
pub(crate) type Shared = extract::State<Arc<State>>;

#[derive(Debug, Default)]
pub(crate) struct State {
    memory: Mutex<Memory>,
    /// The number of connections that are open now.
    pub(crate) open_connections: watch::Sender<usize>,
}

#[derive(Debug)]
pub(crate) struct Memory {
    /// The accepted keys; `None` accepts every key that starts with `sk-`.
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) call_faults: VecDeque<CallFault>,
    pub(crate) hang_up_faults: VecDeque<Fault>,
    requests: VecDeque<SeenRequest>,
    pub(crate) connections: usize,
    pub(crate) resumed_handshakes: usize,
    pub(crate) tokens: HashMap<String, Token>,
    /// Whether a token opens more than one session.
    pub(crate) tokens_are_reusable: bool,
    pub(crate) calls: CallRegister,
    /// The open WebSockets. Dropping a sender closes its socket.
    pub(crate) sockets: Vec<oneshot::Sender<()>>,
    pub(crate) session_limit: Duration,
    /// How long the client of a call may take to connect.
    pub(crate) connect_timeout: Duration,
    /// The number of calls that may be open at once, and of WebSockets.
    pub(crate) max_calls: usize,
    /// Whether the simulator has stopped and accepts no more calls.
    pub(crate) stopped: bool,
}

/// A minted token: the session that it is for, and whether it can still open it.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) session: Value,
    /// The project of the key that minted it.
    pub(crate) project: String,
    /// The header `OpenAI-Safety-Identifier` of its mint.
    pub(crate) safety_identifier: Option<String>,
    /// When it expires, in seconds since the Unix epoch.
    pub(crate) expires_at: u64,
    pub(crate) used: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            keys: None,
            faults: VecDeque::new(),
            call_faults: VecDeque::new(),
            hang_up_faults: VecDeque::new(),
            requests: VecDeque::new(),
            connections: 0,
            resumed_handshakes: 0,
            tokens: HashMap::new(),
            tokens_are_reusable: false,
            calls: CallRegister::default(),
            sockets: Vec::new(),
            // The maximum by OpenAI's guide to Realtime conversations.
            session_limit: Duration::from_secs(60 * 60),
            connect_timeout: Duration::from_secs(30),
            // More than a test needs, and few enough for a small machine.
            max_calls: 64,
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

    /// Marks a token as used. Returns `false` if it was used before and opens only one session.
    pub(crate) fn use_token(&mut self, name: &str) -> bool {
        let reusable = self.tokens_are_reusable;
        self.tokens.get_mut(name).is_none_or(|token| !std::mem::replace(&mut token.used, true) || reusable)
    }

    pub(crate) fn limit_sessions(&mut self, limit: Duration) {
        self.session_limit = limit.min(LONGEST_SESSION);
    }

    pub(crate) fn limit_connecting(&mut self, limit: Duration) {
        self.connect_timeout = limit.min(LONGEST_SESSION);
    }

    /// How long a call may last, and how long its client may take to connect.
    pub(crate) fn call_limits(&self) -> (Duration, Duration) {
        (self.session_limit, self.connect_timeout)
    }

    pub(crate) fn clear_faults(&mut self) {
        self.faults.clear();
        self.call_faults.clear();
        self.hang_up_faults.clear();
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

    fn token(expires_at: u64) -> Token {
        Token { session: Value::Null, project: String::new(), safety_identifier: None, expires_at, used: false }
    }

    #[test]
    fn the_oldest_requests_and_expired_tokens_are_dropped() {
        let mut memory = Memory::default();
        for number in 0..=MAX_REMEMBERED {
            memory.record_request(SeenRequest {
                connection: number,
                path: String::new(),
                query: None,
                bearer: String::new(),
                safety_identifier: None,
                body: Value::Null,
                sdp: None,
                session: None,
            });
            // Every other one expired long ago.
            let expires_at = if number % 2 == 0 { 0 } else { u64::MAX };
            memory.remember_token(&number.to_string(), token(expires_at));
        }
        let seen = memory.requests();
        assert_eq!((seen.len(), seen[0].connection), (MAX_REMEMBERED, 1));
        assert_eq!(memory.tokens.len(), MAX_REMEMBERED / 2 + 1);
        assert!(memory.tokens.contains_key("1") && !memory.tokens.contains_key("2"));
    }

    /// Two calls at once with one token both pass the first check.
    #[test]
    fn a_token_can_be_used_once_unless_tokens_are_reusable() {
        let mut memory = Memory::default();
        memory.remember_token("ek_1", token(u64::MAX));
        assert_eq!([memory.use_token("ek_1"), memory.use_token("ek_1")], [true, false]);
        assert!(memory.use_token("sk-1"), "an API key is not a token");
        memory.tokens_are_reusable = true;
        assert!(memory.use_token("ek_1"));
    }
}

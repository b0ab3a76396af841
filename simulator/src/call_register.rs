//! The calls that are open, and the last ones that ended.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::Serialize;
use tokio::sync::oneshot;

use crate::{clock, id::new_id};

/// The number of ended calls that are kept.
const MAX_ENDED: usize = 10_000;

/// A call that is open, as `GET /simulator/calls` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// The identifier in the call's `Location`, `rtc_…`.
    pub call_id: String,
    /// When its offer was answered, in seconds since the Unix epoch.
    pub since: f64,
    /// The project of the key that placed it, or that minted its token.
    pub project: String,
    /// Whether it was placed with an API key or with a token.
    pub credential: CallCredential,
    /// A hash of the key or token: 16 hexadecimal digits, which differ between keys.
    pub credential_hash: String,
    /// The header `OpenAI-Safety-Identifier` of the request that placed the call, or that minted its token.
    pub safety_identifier: Option<String>,
    /// The model of the session at the start of the call.
    pub model: Option<String>,
    /// Whether its offer has a data channel.
    pub data_channel: bool,
    /// Whether the client has connected.
    pub connected: bool,
}

/// The credential that placed a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallCredential {
    /// An API key, as a server uses it.
    Key,
    /// An ephemeral token, as a browser uses it.
    Token,
}

/// A call that has ended, as `GET /simulator/calls` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct EndedCall {
    /// The call as it was when it ended.
    #[serde(flatten)]
    pub call: CallRecord,
    /// When it ended, in seconds since the Unix epoch. A hang-up ends a call when its request arrives.
    pub ended_at: f64,
    /// Why it ended.
    pub reason: EndReason,
}

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// By `POST /v1/realtime/calls/{call_id}/hangup`.
    HungUp,
    /// The client closed the connection or its data channel, or stopped answering.
    ClientLeft,
    /// The client did not connect in time.
    NeverConnected,
    /// The session reached its longest duration.
    Limit,
    /// By a planned fault.
    Fault,
}

/// All calls of a simulator.
#[derive(Debug, Default)]
pub(crate) struct CallRegister {
    open: HashMap<String, OpenCall>,
    ended: VecDeque<EndedCall>,
}

#[derive(Debug)]
struct OpenCall {
    record: CallRecord,
    /// Sending to it, or dropping it, ends the call.
    hang_up: oneshot::Sender<()>,
}

impl CallRecord {
    /// A call that begins now.
    pub(crate) fn begin(project: String, credential: CallCredential, bearer: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        bearer.hash(&mut hasher);
        Self {
            call_id: new_id("rtc"),
            since: clock::unix_time(),
            project,
            credential,
            credential_hash: format!("{:016x}", hasher.finish()),
            safety_identifier: None,
            model: None,
            data_channel: false,
            connected: false,
        }
    }
}

impl CallRegister {
    pub(crate) fn add(&mut self, record: CallRecord, hang_up: oneshot::Sender<()>) {
        self.open.insert(record.call_id.clone(), OpenCall { record, hang_up });
    }

    /// The number of open calls.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether the call is open and belongs to this project.
    pub(crate) fn is_visible(&self, call_id: &str, project: &str) -> bool {
        self.open.get(call_id).is_some_and(|call| call.record.project == project)
    }

    pub(crate) fn connected(&mut self, call_id: &str) {
        if let Some(call) = self.open.get_mut(call_id) {
            call.record.connected = true;
        }
    }

    /// Ends a call of this project. Returns `false` if it has none.
    pub(crate) fn hang_up(&mut self, call_id: &str, project: &str) -> bool {
        self.is_visible(call_id, project) && self.end(call_id, EndReason::HungUp)
    }

    /// Records the end of a call, once. Returns `false` if it has ended before.
    pub(crate) fn end(&mut self, call_id: &str, reason: EndReason) -> bool {
        let Some(OpenCall { record, hang_up }) = self.open.remove(call_id) else { return false };
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(EndedCall { call: record, ended_at: clock::unix_time(), reason });
        // The result does not matter: the call also ends when the sender is dropped.
        let _ = hang_up.send(());
        true
    }

    /// The open calls, the oldest first.
    pub(crate) fn open(&self) -> Vec<CallRecord> {
        let mut open: Vec<CallRecord> = self.open.values().map(|call| call.record.clone()).collect();
        open.sort_by(|one, other| one.since.total_cmp(&other.since));
        open
    }

    /// The ended calls, in the order of their ends.
    pub(crate) fn ended(&self) -> Vec<EndedCall> {
        self.ended.iter().cloned().collect()
    }

    /// Ends all calls without a record.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bearer: &str) -> CallRecord {
        CallRecord::begin("alpha".into(), CallCredential::Key, bearer)
    }

    #[test]
    fn a_call_ends_once_and_the_oldest_ends_are_dropped() {
        let mut register = CallRegister::default();
        let mut first = None;
        for _ in 0..=MAX_ENDED {
            let call = record("sk-1");
            let call_id = call.call_id.clone();
            register.add(call, oneshot::channel().0);
            assert!(!register.hang_up(&call_id, "beta"));
            assert!(register.hang_up(&call_id, "alpha"));
            assert!(!register.hang_up(&call_id, "alpha") && !register.end(&call_id, EndReason::Limit));
            first.get_or_insert(call_id);
        }
        let ended = register.ended();
        assert_eq!((ended.len(), register.len()), (MAX_ENDED, 0));
        assert!(ended.iter().all(|call| call.reason == EndReason::HungUp && call.ended_at >= call.call.since));
        assert!(ended.iter().all(|call| Some(&call.call.call_id) != first.as_ref()));
    }

    #[test]
    fn a_record_contains_a_hash_of_the_key_and_not_the_key() {
        let key = "sk-proj-alpha-1";
        let shown = serde_json::to_string(&record(key)).unwrap();
        assert!(!shown.contains("sk-"), "{shown}");
        assert_eq!(record(key).credential_hash, record(key).credential_hash);
        assert_ne!(record(key).credential_hash, record("sk-proj-alpha-2").credential_hash);
        assert_eq!(record("sk-1").credential_hash.len(), 16);
    }
}

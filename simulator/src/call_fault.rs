//! What can go wrong with a call, as something one can ask for.

use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;

/// One way for a call to go wrong. Times are counted from when its data channel opens.
///
/// As JSON, for `POST /simulator/faults`: `{"at": "calls", "fault": "drops", "ms": 5000}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum CallFault {
    /// The answer goes wrong, in one of the ways in which that of a mint does.
    #[serde(skip)]
    Answer(Fault),
    /// 201, with an address in the answer that no one has (198.51.100.1, of TEST-NET-2).
    NeverConnects,
    /// Audio flows, but the data channel never opens.
    NoEvents,
    /// The data channel closes; audio goes on.
    EventsClose {
        /// Milliseconds.
        ms: u64,
    },
    /// An `error` event, after which the session goes on.
    ErrorEvent {
        /// For example `server_error`.
        code: String,
        /// Milliseconds.
        #[serde(default)]
        ms: u64,
    },
    /// The call ends in good order.
    Ends {
        /// Milliseconds.
        ms: u64,
    },
    /// The other end is gone without a goodbye, as after a cut cable.
    Drops {
        /// Milliseconds.
        ms: u64,
    },
    /// Replies are told of in events, but not one packet of audio comes.
    NoAudio,
}

impl From<Fault> for CallFault {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}

impl CallFault {
    /// Reads one of these, or one of the answer's.
    pub(crate) fn read(fault: &Value) -> Result<Self, String> {
        Self::deserialize(fault).or_else(|own| match Fault::deserialize(fault) {
            Ok(Fault::Expired | Fault::WrongPrefix | Fault::Oversize) => {
                Err("only a mint hands out a token that could be so\n".to_owned())
            }
            Ok(fault) => Ok(Self::Answer(fault)),
            Err(answer) => Err(format!("{own}; or {answer}")),
        })
    }
}

//! The faults that a test can plan for a call.

use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;

/// One way in which a call fails. Times count from the opening of its data channel.
///
/// As JSON, for `POST /simulator/faults`: `{"at": "calls", "fault": "drops", "ms": 5000}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum CallFault {
    /// The answer to the offer fails, in one of the ways in which a mint can fail.
    #[serde(skip)]
    Answer(Fault),
    /// 201, with an unreachable address in the answer (198.51.100.1, of TEST-NET-2).
    NeverConnects,
    /// Audio flows, but the data channel never opens, so no event arrives.
    NoEvents,
    /// The data channel closes while audio continues.
    EventsClose {
        /// Milliseconds after the data channel opened.
        ms: u64,
    },
    /// The server sends an `error` event, and the session continues.
    ErrorEvent {
        /// The code in the event, for example `server_error`.
        code: String,
        /// Milliseconds after the data channel opened.
        #[serde(default)]
        ms: u64,
    },
    /// The server ends the call properly, as after a hang-up.
    Ends {
        /// Milliseconds after the data channel opened.
        ms: u64,
    },
    /// The server disappears without closing anything, as after a cut cable.
    Drops {
        /// Milliseconds after the data channel opened.
        ms: u64,
    },
    /// Responses are announced in events, but no packet of audio is sent.
    NoAudio,
}

impl From<Fault> for CallFault {
    fn from(fault: Fault) -> Self {
        Self::Answer(fault)
    }
}

impl CallFault {
    /// Reads a fault of the call or, failing that, one of the answer.
    pub(crate) fn read(fault: &Value) -> Result<Self, String> {
        Self::deserialize(fault).or_else(|own| match Fault::deserialize(fault) {
            Ok(Fault::Expired | Fault::WrongPrefix | Fault::Oversize) => {
                Err("this fault changes a token, so it is for mints only\n".to_owned())
            }
            Ok(fault) => Ok(Self::Answer(fault)),
            Err(answer) => Err(format!("{own}; or {answer}")),
        })
    }
}

//! The faults that a test can plan for a call and for its hang-up.

use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;

/// One way in which a call fails. Times count from the opening of its data channel, or without one from the connection.
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
    /// 201 without `Location`. The call is open, and nobody can hang it up.
    NoLocation,
    /// 201 with another `Location`.
    OtherLocation {
        /// The value of the header, in which `{call_id}` is replaced by the call's identifier.
        #[serde(default = "foreign_location")]
        location: String,
    },
    /// 201 with `Location`, and an HTML page in place of the SDP.
    NotSdp,
    /// 201 with an SDP that has one media line more than the offer, for a data channel.
    ExtraLine,
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

fn foreign_location() -> String {
    "https://elsewhere.example/v1/realtime/calls/{call_id}".to_owned()
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

    /// Reads a fault of the answer to a hang-up, which has no body.
    pub(crate) fn read_for_hang_up(fault: Value) -> Result<Fault, String> {
        match Fault::deserialize(fault) {
            Ok(Fault::Expired | Fault::WrongPrefix | Fault::Oversize | Fault::Drip | Fault::Cut) => {
                Err("this fault changes a body, and the answer to a hang-up has none\n".to_owned())
            }
            fault => fault.map_err(|fault| fault.to_string()),
        }
    }
}

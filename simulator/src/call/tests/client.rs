//! A client for tests that places a call, sends a tone as speech and records the answer.

use std::time::Duration;

use serde_json::{Value, json};
use str0m::change::SdpPendingOffer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{self, Interval, MissedTickBehavior},
};

use super::super::{
    audio::{Decoder, Encoder, FRAME, FRAME_MS, SILENCE, level},
    peer::{Peer, PeerEvent},
};
use crate::{call_register::EndReason, simulator::Simulator};

/// Far longer than any step of these tests takes, even on a busy machine: it only ends a test that hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The end of a call is noticed within this time. Without a closing packet, ICE takes longer: at least 12 seconds in the
/// simulator, and 20 in the client.
pub(super) const CLOSED_WITHIN: Duration = Duration::from_secs(11);
/// Longer than the time between two packets of audio.
const QUIET: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The code in the error envelope, or an empty string.
    pub(super) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends one HTTP request. `headers` are sent as they are.
pub(super) async fn request(simulator: &Simulator, line: &str, headers: &str, body: &str) -> Answer {
    let address = simulator.base_url().replace("http://", "").replace("/v1", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// The answer to a mint for this session.
pub(super) async fn mint(simulator: &Simulator, session: Value) -> Value {
    let path = if session["type"].is_null() {
        "/v1/realtime/translations/client_secrets"
    } else {
        "/v1/realtime/client_secrets"
    };
    let body = json!({ "session": session }).to_string();
    request(simulator, &format!("POST {path}"), "authorization: Bearer sk-test\r\n", &body).await.json()
}

pub(super) async fn offer(simulator: &Simulator, path: &str, bearer: &str, sdp: &str) -> Answer {
    let headers = format!("authorization: Bearer {bearer}\r\ncontent-type: application/sdp\r\n");
    request(simulator, &format!("POST {path}"), &headers, sdp).await
}

pub(super) struct Client {
    peer: Peer,
    pub(super) call_id: String,
    frames: Interval,
    frame: u64,
    encoder: Encoder,
    decoder: Decoder,
    pub(super) speaking: bool,
    /// The number of samples in one packet of speech.
    pub(super) packet: usize,
    /// Whether it sends no packets at all, not even silence.
    pub(super) muted: bool,
    /// All events received so far.
    pub(super) events: Vec<Value>,
    /// The number of events that `until` has passed.
    seen: usize,
    /// The loudness of each received packet.
    pub(super) levels: Vec<f32>,
    pub(super) gone: bool,
}

impl Client {
    /// Places a call with a token for this session.
    pub(super) async fn call(simulator: &Simulator, session: Value) -> Self {
        let translates = session["type"].is_null();
        let secret = mint(simulator, session).await;
        let path = if translates { "/v1/realtime/translations/calls" } else { "/v1/realtime/calls" };
        Self::call_at(simulator, path, secret["value"].as_str().unwrap()).await
    }

    pub(super) async fn call_at(simulator: &Simulator, path: &str, bearer: &str) -> Self {
        Self::dial(simulator, path, bearer, Peer::offer().await).await
    }

    /// Places a call without the data channel for events.
    pub(super) async fn call_without_events(simulator: &Simulator, session: Value) -> Self {
        let secret = mint(simulator, session).await;
        let offer = Peer::offer_with(Some("another"), None).await;
        Self::dial(simulator, "/v1/realtime/calls", secret["value"].as_str().unwrap(), offer).await
    }

    /// Has a call placed by a server with its key. `channel` is the number of a data channel that both ends open without
    /// negotiation; without it, the call has none.
    pub(super) async fn call_by_broker(simulator: &Simulator, channel: Option<u16>, session: &Value) -> Self {
        let (peer, pending, sdp) = Peer::offer_with(channel.map(|_| "oai-events"), channel).await;
        let query = channel.map(|channel| format!("?dcid={channel}")).unwrap_or_default();
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"sdp\"\r\n\r\n{sdp}\r\n--b\r\n\
             Content-Disposition: form-data; name=\"session\"\r\n\r\n{session}\r\n--b--\r\n"
        );
        let headers = "authorization: Bearer sk-test\r\ncontent-type: multipart/form-data; boundary=b\r\n";
        let answer = request(simulator, &format!("POST /v1/realtime/calls{query}"), headers, &form).await;
        let media = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
        assert_eq!(media(&answer.body), media(&sdp), "{answer:?}");
        Self::connect(peer, pending, &answer)
    }

    async fn dial(
        simulator: &Simulator,
        path: &str,
        bearer: &str,
        (peer, pending, sdp): (Peer, SdpPendingOffer, String),
    ) -> Self {
        let answer = offer(simulator, path, bearer, &sdp).await;
        Self::connect(peer, pending, &answer)
    }

    fn connect(mut peer: Peer, pending: SdpPendingOffer, answer: &Answer) -> Self {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/sdp"));
        peer.accept(pending, &answer.body);
        let call_id = answer.header("location").and_then(|place| place.strip_prefix("/v1/realtime/calls/")).unwrap();
        assert!(call_id.starts_with("rtc_"), "{call_id}");
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        frames.set_missed_tick_behavior(MissedTickBehavior::Burst);
        Self {
            peer,
            call_id: call_id.to_owned(),
            frames,
            frame: 0,
            encoder: Encoder::new().unwrap(),
            decoder: Decoder::new().unwrap(),
            speaking: false,
            packet: FRAME,
            muted: false,
            events: Vec::new(),
            seen: 0,
            levels: Vec::new(),
            gone: false,
        }
    }

    async fn step(&mut self) {
        tokio::select! {
            event = self.peer.next_event() => self.record(event),
            _ = self.frames.tick() => {
                let tone: Vec<f32> = (0_u16..).take(FRAME).map(|at| f32::sin(f32::from(at) * 0.05236) * 0.3).collect();
                let at = self.frame.saturating_mul(960);
                if self.speaking && !self.muted {
                    for (samples, at) in tone.chunks(self.packet).zip((at..).step_by(self.packet)) {
                        self.peer.send_audio(self.encoder.encode(samples), at);
                    }
                } else if !self.muted {
                    self.peer.send_audio(SILENCE, at);
                }
                self.frame = self.frame.saturating_add(1);
            }
        }
    }

    fn record(&mut self, event: PeerEvent) {
        match event {
            PeerEvent::ClientEvent(event) => self.events.push(serde_json::from_slice(&event).unwrap()),
            PeerEvent::Audio(opus) => self.levels.push(level(self.decoder.decode(&opus))),
            PeerEvent::Closed => self.gone = true,
            PeerEvent::Connected | PeerEvent::ChannelOpen => {}
        }
    }

    /// Continues the call until the next event of this kind. Panics if none comes.
    pub(super) async fn until(&mut self, kind: &str) -> Value {
        let found = time::timeout(PATIENCE, async {
            loop {
                while let Some(event) = self.events.get(self.seen) {
                    self.seen = self.seen.saturating_add(1);
                    if event["type"] == kind {
                        return event.clone();
                    }
                }
                assert!(!self.gone, "the call ended before {kind}");
                self.step().await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("{kind} did not arrive; received {:?}", self.kinds()))
    }

    /// Continues the call until this many more packets have arrived that are at least as loud as `loudness`. Each packet is
    /// one step of the simulator. Panics if they do not come.
    pub(super) async fn until_heard(&mut self, packets: usize, loudness: f32) {
        let before = self.levels.len();
        let heard = time::timeout(PATIENCE, async {
            while self.levels.iter().skip(before).filter(|level| **level >= loudness).count() < packets {
                assert!(!self.gone, "the call ended before {packets} packets arrived");
                self.step().await;
            }
        });
        heard.await.unwrap_or_else(|_| panic!("fewer than {packets} packets arrived; received {:?}", self.kinds()));
    }

    /// Continues the call for this many milliseconds. On a busy machine, this time can pass without a step of either end,
    /// and packets can be left unread. A test that expects something has to wait for it instead.
    pub(super) async fn during(&mut self, ms: u64) {
        let end = time::Instant::now().checked_add(Duration::from_millis(ms)).unwrap();
        while time::Instant::now() < end && !self.gone {
            let _ = time::timeout_at(end, self.step()).await;
        }
    }

    pub(super) async fn until_gone(&mut self) {
        let gone = time::timeout(CLOSED_WITHIN, async {
            while !self.gone {
                self.step().await;
            }
        });
        gone.await.unwrap_or_else(|_| panic!("the call did not end; received {:?}", self.kinds()));
    }

    /// Continues the call until the simulator has recorded its end, and receives everything that the simulator sent before.
    /// Returns the recorded reason.
    pub(super) async fn until_ended(&mut self, simulator: &Simulator) -> EndReason {
        let ended = time::timeout(PATIENCE, async {
            let reason = loop {
                let mut ended = simulator.ended_calls().into_iter();
                if let Some(ended) = ended.find(|ended| ended.call.call_id == self.call_id) {
                    break ended.reason;
                }
                self.step().await;
            };
            while let Ok(event) = time::timeout(QUIET, self.peer.next_event()).await {
                self.record(event);
            }
            reason
        });
        ended.await.unwrap_or_else(|_| panic!("the call did not end; received {:?}", self.kinds()))
    }

    /// Sends this many milliseconds of speech, however long the sending takes.
    pub(super) async fn speak(&mut self, ms: u64) {
        self.speaking = true;
        self.pause(ms).await;
        self.speaking = false;
    }

    /// Sends this many milliseconds of silence, however long the sending takes.
    pub(super) async fn pause(&mut self, ms: u64) {
        let end = self.frame.saturating_add(ms / FRAME_MS);
        while self.frame < end && !self.gone {
            self.step().await;
        }
    }

    pub(super) fn open_channel(&mut self) {
        self.peer.open_channel();
    }

    pub(super) fn send(&mut self, event: &Value) {
        self.peer.send_event(event.to_string());
    }

    pub(super) fn send_bytes(&mut self, event: &str) {
        self.peer.send_event(event.to_owned());
    }

    /// The types of all events, without direct repetitions.
    pub(super) fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self.events.iter().filter_map(|event| event["type"].as_str()).collect();
        kinds.dedup();
        kinds
    }

    /// The greatest loudness after the first `packets` packets.
    pub(super) fn loudest_since(&self, packets: usize) -> f32 {
        self.levels.iter().skip(packets).copied().fold(0.0, f32::max)
    }

    pub(super) fn leave(mut self) {
        self.peer.close();
    }
}

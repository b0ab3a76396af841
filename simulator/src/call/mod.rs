//! A call: one WebRTC connection and the session that is held over it.

mod audio;
mod client_event;
mod conversation;
mod ear;
mod encryption;
mod events;
mod item;
mod output;
mod peer;
mod response;
mod session;
mod speech;
mod srtp;

use std::{net::IpAddr, time::Duration};

use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{self, Instant, MissedTickBehavior},
};

pub(crate) use self::events::id;
use self::{
    audio::{Decoder, Encoder, FRAME, FRAME_MS, SILENCE},
    conversation::Conversation,
    peer::{Heard, NoAnswer, Peer},
};
use crate::refusal::Refusal;

/// How long the other end may take to connect.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that was answered.
pub(crate) struct Call {
    peer: Peer,
    conversation: Conversation,
    decoder: Decoder,
    encoder: Encoder,
    ends: Instant,
    limit: Duration,
}

impl Call {
    /// Answers an offer. The call, which [`Self::run`] holds, and the SDP of the answer.
    pub(crate) async fn answer(
        offer: &str,
        session: Value,
        ip: IpAddr,
        limit: Duration,
    ) -> Result<(Self, String), Refusal> {
        let (peer, answer) = Peer::answer(offer, ip, false).await.map_err(|fault| match fault {
            NoAnswer::Offer(fault) => {
                Refusal::new(400, format!("Failed to parse the offer: {fault}"), None, "invalid_offer")
            }
            NoAnswer::Socket(fault) => Refusal::new(500, format!("No socket: {fault}"), None, "server_error"),
        })?;
        let broken = || Refusal::new(500, "No codec.", None, "server_error");
        let call = Self {
            peer,
            conversation: Conversation::new(session),
            decoder: Decoder::new().ok_or_else(broken)?,
            encoder: Encoder::new().ok_or_else(broken)?,
            ends: Instant::now() + limit,
            limit,
        };
        Ok((call, answer))
    }

    /// Holds the call until either side ends it. `hang_up` does when it is sent to, or dropped.
    pub(crate) async fn run(mut self, mut hang_up: oneshot::Receiver<()>) {
        let started = Instant::now();
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        // What is late is not made up for: the other end would have to play it faster.
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut connected = false;
        loop {
            tokio::select! {
                _ = &mut hang_up => break,
                () = time::sleep_until(self.ends) => {
                    self.conversation.expire(self.limit);
                    self.say();
                    break;
                }
                () = time::sleep_until(started + PATIENCE), if !connected => break,
                heard = self.peer.next() => match heard {
                    Heard::Connected => connected = true,
                    Heard::Opened => self.conversation.open(),
                    Heard::Event(event) => {
                        if !self.conversation.take(&event) {
                            self.say();
                            break;
                        }
                    }
                    Heard::Audio(opus) => {
                        for samples in self.decoder.decode(&opus).chunks(FRAME) {
                            self.conversation.hear(samples);
                        }
                    }
                    Heard::Gone => break,
                },
                at = frames.tick() => {
                    // Where in the audio this is, in a clock that does not stand still when frames are late.
                    let elapsed = at.saturating_duration_since(started).as_millis();
                    let samples = self.conversation.play();
                    if connected {
                        let packet = samples.as_deref().map_or(SILENCE, |samples| self.encoder.encode(samples));
                        self.peer.play(packet, u64::try_from(elapsed).unwrap_or_default().saturating_mul(48));
                    }
                }
            }
            self.say();
        }
        self.peer.close();
    }

    fn say(&mut self) {
        while let Some(event) = self.conversation.events.next() {
            self.peer.send(event.to_string());
        }
    }
}

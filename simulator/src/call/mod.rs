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

#[cfg(test)]
mod caller;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, time::Duration};

use serde_json::Value;
use tokio::{
    sync::oneshot,
    time::{self, Instant, MissedTickBehavior},
};

use self::{
    audio::{Decoder, Encoder, FRAME, FRAME_MS, SILENCE},
    conversation::Conversation,
    peer::{Heard, NoAnswer, Peer},
};
use crate::{call_fault::CallFault, refusal::Refusal};

/// How long the other end may take to connect.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how many steps of 20 ms packets may be late before there is silence in their place.
const STARVED: u32 = 10;
/// Longer than a call lasts; a later fault could overflow a clock.
const LATEST_FAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A call that was answered.
pub(crate) struct Call {
    peer: Peer,
    conversation: Conversation,
    decoder: Decoder,
    /// Less than 20 ms: a packet may be as short as 2.5 ms.
    unheard: Vec<f32>,
    encoder: Encoder,
    limit: Duration,
    fault: Option<CallFault>,
    /// Audio can go both ways.
    connected: bool,
    /// When the data channel opened.
    opened: Option<Instant>,
    /// For how many steps of 20 ms no audio has come, once some has.
    starved: Option<u32>,
}

/// How a call ends.
#[derive(PartialEq)]
enum End {
    /// The other end is told.
    Goodbye,
    Silent,
}

impl Call {
    /// Answers an offer. The call, which [`Self::run`] holds, and the SDP of the answer.
    pub(crate) async fn answer(
        offer: &str,
        session: Value,
        ip: IpAddr,
        limit: Duration,
        fault: Option<CallFault>,
    ) -> Result<(Self, String), Refusal> {
        let nowhere = matches!(fault, Some(CallFault::NeverConnects));
        let (mut peer, answer) = Peer::answer(offer, ip, nowhere).await.map_err(|fault| match fault {
            NoAnswer::Offer(fault) => {
                Refusal::new(400, format!("Failed to parse the offer: {fault}"), None, "invalid_offer")
            }
            NoAnswer::Socket(fault) => Refusal::new(500, format!("No socket: {fault}"), None, "server_error"),
        })?;
        peer.deaf_to_channels = matches!(fault, Some(CallFault::NoEvents));
        let broken = || Refusal::new(500, "No codec.", None, "server_error");
        let call = Self {
            peer,
            conversation: Conversation::new(session),
            decoder: Decoder::new().ok_or_else(broken)?,
            unheard: Vec::new(),
            encoder: Encoder::new().ok_or_else(broken)?,
            limit,
            fault,
            connected: false,
            opened: None,
            starved: None,
        };
        Ok((call, answer))
    }

    /// Holds the call until either side ends it. `hang_up` does when it is sent to, or dropped.
    pub(crate) async fn run(mut self, mut hang_up: oneshot::Receiver<()>) {
        let started = Instant::now();
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        // What is late is not made up for: the other end would have to play it faster.
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (limit, patience) = (time::sleep(self.limit), time::sleep(PATIENCE));
        tokio::pin!(limit, patience);
        let end = loop {
            let mishap = self.fault.as_ref().and_then(delay).zip(self.opened);
            let mishap = mishap.map(|(after, opened)| after.saturating_sub(opened.elapsed()));
            let ended = tokio::select! {
                _ = &mut hang_up => Some(End::Goodbye),
                () = &mut limit => {
                    self.conversation.expire(self.limit);
                    Some(End::Goodbye)
                }
                () = &mut patience, if !self.connected => Some(End::Silent),
                () = time::sleep(mishap.unwrap_or_default()), if mishap.is_some() => self.go_wrong(),
                heard = self.peer.next() => self.hear(heard),
                at = frames.tick() => {
                    self.play(at.saturating_duration_since(started));
                    None
                }
            };
            while let Some(event) = self.conversation.events.next() {
                // The first is `session.created`: what happened before it is not told of later.
                if self.peer.is_open() {
                    self.peer.send(event.to_string());
                }
            }
            if let Some(end) = ended {
                break end;
            }
        };
        if end == End::Goodbye {
            self.peer.close();
        }
    }

    fn hear(&mut self, heard: Heard) -> Option<End> {
        match heard {
            Heard::Connected => self.connected = true,
            Heard::Opened => {
                self.opened = Some(Instant::now());
                self.conversation.open();
            }
            Heard::Event(event) => return (!self.conversation.take(&event)).then_some(End::Goodbye),
            Heard::Audio(opus) => {
                self.starved = Some(0);
                self.unheard.extend_from_slice(self.decoder.decode(&opus));
                let steps = self.unheard.chunks_exact(FRAME);
                let rest = steps.remainder().to_vec();
                for samples in steps {
                    self.conversation.hear(samples);
                }
                self.unheard = rest;
            }
            Heard::Gone => return Some(End::Goodbye),
        }
        None
    }

    /// Lets 20 ms pass, and sends what is to be heard in them.
    fn play(&mut self, at: Duration) {
        // Who sends nothing any more does not speak any more.
        if let Some(starved) = &mut self.starved {
            *starved = starved.saturating_add(1);
            if *starved > STARVED {
                self.conversation.hear(&[]);
            }
        }
        let samples = self.conversation.play();
        if !self.connected || matches!(self.fault, Some(CallFault::NoAudio)) {
            return;
        }
        let packet = samples.as_deref().map_or(SILENCE, |samples| self.encoder.encode(samples));
        // By a clock that does not stand still when frames are late.
        let at = u64::try_from(at.as_millis()).unwrap_or_default().saturating_mul(48);
        self.peer.play(packet, at);
    }

    /// What was asked for happens, once.
    fn go_wrong(&mut self) -> Option<End> {
        match self.fault.take()? {
            CallFault::EventsClose { .. } => self.peer.close_channel(),
            CallFault::ErrorEvent { code, .. } => self.conversation.fail(&code),
            CallFault::Ends { .. } => return Some(End::Goodbye),
            CallFault::Drops { .. } => return Some(End::Silent),
            CallFault::Answer(_) | CallFault::NeverConnects | CallFault::NoEvents | CallFault::NoAudio => {}
        }
        None
    }
}

/// How long after the data channel opens a fault happens, if it is not there from the start.
fn delay(fault: &CallFault) -> Option<Duration> {
    match fault {
        CallFault::EventsClose { ms }
        | CallFault::ErrorEvent { ms, .. }
        | CallFault::Ends { ms }
        | CallFault::Drops { ms } => Some(Duration::from_millis(*ms).min(LATEST_FAULT)),
        CallFault::Answer(_) | CallFault::NeverConnects | CallFault::NoEvents | CallFault::NoAudio => None,
    }
}

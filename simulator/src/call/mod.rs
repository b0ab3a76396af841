//! A call: one WebRTC connection and the session that is held over it.

mod audio;
mod client_event;
mod conversation;
mod encryption;
mod item;
mod peer;
mod playback;
mod response;
mod server_event;
mod session;
mod srtp;
mod tone;
mod turn_detection;

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
    peer::{OfferError, Peer, PeerEvent},
};
use crate::{call_fault::CallFault, refusal::Refusal};

/// How long the other end may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For how many steps of 20 ms packets may be late before there is silence in their place.
const MAX_STEPS_WITHOUT_AUDIO: u32 = 10;
/// Longer than a call lasts; a later fault could overflow a clock.
const LATEST_FAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A call that was answered.
pub(crate) struct Call {
    peer: Peer,
    conversation: Conversation,
    decoder: Decoder,
    /// Less than 20 ms: a packet may be as short as 2.5 ms.
    partial_frame: Vec<f32>,
    encoder: Encoder,
    limit: Duration,
    fault: Option<CallFault>,
    /// Audio can go both ways.
    connected: bool,
    /// When the data channel opened.
    opened: Option<Instant>,
    /// For how many steps of 20 ms no audio has come, once some has.
    steps_without_audio: Option<u32>,
}

/// How a call ends.
#[derive(PartialEq)]
enum End {
    /// The other end is told.
    Graceful,
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
        let unreachable = matches!(fault, Some(CallFault::NeverConnects));
        let (mut peer, answer) = Peer::answer(offer, ip, unreachable).await.map_err(|fault| match fault {
            OfferError::Invalid(fault) => {
                Refusal::new(400, format!("Failed to parse the offer: {fault}"), None, "invalid_offer")
            }
            OfferError::Socket(fault) => Refusal::new(500, format!("No socket: {fault}"), None, "server_error"),
        })?;
        peer.discards_channel_data = matches!(fault, Some(CallFault::NoEvents));
        let broken = || Refusal::new(500, "No codec.", None, "server_error");
        let call = Self {
            peer,
            conversation: Conversation::new(session),
            decoder: Decoder::new().ok_or_else(broken)?,
            partial_frame: Vec::new(),
            encoder: Encoder::new().ok_or_else(broken)?,
            limit,
            fault,
            connected: false,
            opened: None,
            steps_without_audio: None,
        };
        Ok((call, answer))
    }

    /// Holds the call until either side ends it. `hang_up` does when it is sent to, or dropped.
    pub(crate) async fn run(mut self, mut hang_up: oneshot::Receiver<()>) {
        let started = Instant::now();
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        // What is late is not made up for: the other end would have to play it faster.
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (limit, connect_timeout) = (time::sleep(self.limit), time::sleep(CONNECT_TIMEOUT));
        tokio::pin!(limit, connect_timeout);
        let end = loop {
            let fault_in = self.fault.as_ref().and_then(delay).zip(self.opened);
            let fault_in = fault_in.map(|(after, opened)| after.saturating_sub(opened.elapsed()));
            let ended = tokio::select! {
                _ = &mut hang_up => Some(End::Graceful),
                () = &mut limit => {
                    self.conversation.expire(self.limit);
                    Some(End::Graceful)
                }
                () = &mut connect_timeout, if !self.connected => Some(End::Silent),
                () = time::sleep(fault_in.unwrap_or_default()), if fault_in.is_some() => self.inject_fault(),
                event = self.peer.next_event() => self.handle(event),
                at = frames.tick() => {
                    self.send_frame(at.saturating_duration_since(started));
                    None
                }
            };
            while let Some(event) = self.conversation.events.next() {
                // The first is `session.created`: what happened before it is not told of later.
                if self.peer.is_open() {
                    self.peer.send_event(event.to_string());
                }
            }
            if let Some(end) = ended {
                break end;
            }
        };
        if end == End::Graceful {
            self.peer.close();
        }
    }

    fn handle(&mut self, event: PeerEvent) -> Option<End> {
        match event {
            PeerEvent::Connected => self.connected = true,
            PeerEvent::ChannelOpen => {
                self.opened = Some(Instant::now());
                self.conversation.start();
            }
            PeerEvent::ClientEvent(event) => return (!self.conversation.handle(&event)).then_some(End::Graceful),
            PeerEvent::Audio(opus) => {
                self.steps_without_audio = Some(0);
                self.partial_frame.extend_from_slice(self.decoder.decode(&opus));
                let steps = self.partial_frame.chunks_exact(FRAME);
                let rest = steps.remainder().to_vec();
                for samples in steps {
                    self.conversation.receive_audio(samples);
                }
                self.partial_frame = rest;
            }
            PeerEvent::Closed => return Some(End::Graceful),
        }
        None
    }

    /// Lets 20 ms pass, and sends what is to be heard in them.
    fn send_frame(&mut self, at: Duration) {
        // Who sends nothing any more does not speak any more.
        if let Some(steps_without_audio) = &mut self.steps_without_audio {
            *steps_without_audio = steps_without_audio.saturating_add(1);
            if *steps_without_audio > MAX_STEPS_WITHOUT_AUDIO {
                self.conversation.receive_audio(&[]);
            }
        }
        let samples = self.conversation.next_frame();
        if !self.connected || matches!(self.fault, Some(CallFault::NoAudio)) {
            return;
        }
        let packet = samples.as_deref().map_or(SILENCE, |samples| self.encoder.encode(samples));
        // By a clock that does not stand still when frames are late.
        let at = u64::try_from(at.as_millis()).unwrap_or_default().saturating_mul(48);
        self.peer.send_audio(packet, at);
    }

    /// What was asked for happens, once.
    fn inject_fault(&mut self) -> Option<End> {
        match self.fault.take()? {
            CallFault::EventsClose { .. } => self.peer.close_channel(),
            CallFault::ErrorEvent { code, .. } => self.conversation.fail(&code),
            CallFault::Ends { .. } => return Some(End::Graceful),
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

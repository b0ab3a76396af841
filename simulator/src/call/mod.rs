//! A call: one WebRTC connection and the session that runs over it. Or the same session over a WebSocket.

mod audio;
mod client_event;
mod conversation;
mod encryption;
mod item;
mod pcm;
mod peer;
mod playback;
mod response;
mod server_event;
mod session;
pub(crate) mod socket;
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

/// How long the client may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Steps of 20 ms for which packets may be late before the caller counts as silent.
const MAX_STEPS_WITHOUT_AUDIO: u32 = 10;
/// Longer than a call lasts; a later fault could overflow a clock.
const LATEST_FAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A call whose offer has been answered.
pub(crate) struct Call {
    peer: Peer,
    conversation: Conversation,
    decoder: Decoder,
    /// Decoded samples that do not fill 20 ms yet, since a packet may be as short as 2.5 ms.
    partial_frame: Vec<f32>,
    encoder: Encoder,
    limit: Duration,
    fault: Option<CallFault>,
    /// Whether audio can flow both ways.
    connected: bool,
    /// When the data channel opened.
    opened: Option<Instant>,
    /// Steps of 20 ms since the last audio arrived; `None` before the first.
    steps_without_audio: Option<u32>,
}

/// Whether the client learns that the call ends.
#[derive(PartialEq)]
enum End {
    Graceful,
    Silent,
}

impl Call {
    /// Answers an offer. Returns the call, which [`Self::run`] then runs, and the SDP of the answer.
    pub(crate) async fn answer(
        offer: &str,
        session: Value,
        ip: IpAddr,
        limit: Duration,
        fault: Option<CallFault>,
    ) -> Result<(Self, String), Refusal> {
        // A client or a broker that trims an offer changes it: OpenAI takes it byte for byte.
        if !offer.ends_with('\n') {
            return Err(Refusal::invalid_offer());
        }
        let unreachable = matches!(fault, Some(CallFault::NeverConnects));
        let (mut peer, answer) = Peer::answer(offer, ip, unreachable).await.map_err(|fault| match fault {
            OfferError::Invalid => Refusal::invalid_offer(),
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

    /// Runs the call until either side ends it. Sending to the other end of `hang_up`, or dropping it, ends the call.
    pub(crate) async fn run(mut self, mut hang_up: oneshot::Receiver<()>) {
        let started = Instant::now();
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        // Late frames are skipped. A burst of them would be played too fast.
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
                // `session.created` must be the first, so events from before the channel opened are dropped.
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

    /// Advances the session by 20 ms and sends its audio.
    fn send_frame(&mut self, at: Duration) {
        // A caller that stops sending has stopped speaking.
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
        // From the clock and not from a count of frames, which would stand still when frames are skipped.
        let at = u64::try_from(at.as_millis()).unwrap_or_default().saturating_mul(48);
        self.peer.send_audio(packet, at);
    }

    /// Carries out the planned fault, once.
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

/// How long after the opening of the data channel a fault happens; `None` for one that is in effect from the start.
fn delay(fault: &CallFault) -> Option<Duration> {
    match fault {
        CallFault::EventsClose { ms }
        | CallFault::ErrorEvent { ms, .. }
        | CallFault::Ends { ms }
        | CallFault::Drops { ms } => Some(Duration::from_millis(*ms).min(LATEST_FAULT)),
        CallFault::Answer(_) | CallFault::NeverConnects | CallFault::NoEvents | CallFault::NoAudio => None,
    }
}

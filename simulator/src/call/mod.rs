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
use crate::{call_fault::CallFault, call_register::EndReason, refusal::Refusal};

/// Steps of 20 ms for which packets may be late before the caller counts as silent.
const MAX_STEPS_WITHOUT_AUDIO: u32 = 10;
/// Longer than a call lasts; a later fault could overflow a clock.
const LATEST_FAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A call whose offer has been answered.
pub(crate) struct Call {
    peer: Peer,
    conversation: Conversation,
    /// `None` until the client connects, since both are large.
    codecs: Option<Box<(Decoder, Encoder)>>,
    /// Decoded samples that do not fill 20 ms yet, since a packet may be as short as 2.5 ms.
    partial_frame: Vec<f32>,
    limit: Duration,
    fault: Option<CallFault>,
    /// Whether audio can flow both ways.
    connected: bool,
    /// The time that the fault's milliseconds count from: the opening of the data channel, or the connection of a call
    /// without one.
    began: Option<Instant>,
    /// Steps of 20 ms since the last audio arrived; `None` before the first.
    steps_without_audio: Option<u32>,
}

/// Why the call ends, and whether the client learns of it.
enum End {
    Graceful(EndReason),
    Silent(EndReason),
}

impl Call {
    /// Answers an offer, of which every line ends with CRLF. `channel` is the number of a data channel that both ends
    /// open without negotiation. Returns the call, which [`Self::run`] then runs, and the SDP of the answer.
    pub(crate) async fn answer(
        offer: &str,
        session: Value,
        ip: IpAddr,
        channel: Option<u16>,
        limit: Duration,
        fault: Option<CallFault>,
    ) -> Result<(Self, String), Refusal> {
        let (mut peer, answer) = Peer::answer(offer, ip, channel).await.map_err(|fault| match fault {
            OfferError::Invalid => Refusal::invalid_offer(),
            OfferError::Socket(fault) => Refusal::new(500, format!("No socket: {fault}"), None, "server_error"),
        })?;
        peer.discards_channel_data = matches!(fault, Some(CallFault::NoEvents));
        let call = Self {
            peer,
            conversation: Conversation::new(session),
            codecs: None,
            partial_frame: Vec::new(),
            limit,
            fault,
            connected: false,
            began: None,
            steps_without_audio: None,
        };
        Ok((call, answer))
    }

    /// Runs the call until either side ends it. Sending to the other end of `hang_up`, or dropping it, ends the call.
    pub(crate) async fn run(
        mut self,
        mut hang_up: oneshot::Receiver<()>,
        connect_timeout: Duration,
        on_connect: impl Fn(),
    ) -> EndReason {
        let started = Instant::now();
        let mut frames = time::interval(Duration::from_millis(FRAME_MS));
        // Late frames are skipped. A burst of them would be played too fast.
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (limit, connect_timeout) = (time::sleep(self.limit), time::sleep(connect_timeout));
        tokio::pin!(limit, connect_timeout);
        let end = loop {
            let fault_in = self.fault.as_ref().and_then(delay).zip(self.began);
            let fault_in = fault_in.map(|(after, began)| after.saturating_sub(began.elapsed()));
            let ended = tokio::select! {
                _ = &mut hang_up => Some(End::Graceful(EndReason::HungUp)),
                () = &mut limit => {
                    self.conversation.expire(self.limit);
                    Some(End::Graceful(EndReason::Limit))
                }
                () = &mut connect_timeout, if !self.connected => {
                    Some(End::Silent(EndReason::NeverConnected))
                }
                () = time::sleep(fault_in.unwrap_or_default()), if fault_in.is_some() => self.inject_fault(),
                event = self.peer.next_event() => {
                    if matches!(event, PeerEvent::Connected) {
                        on_connect();
                    }
                    self.handle(event)
                }
                at = frames.tick(), if self.connected => {
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
        match end {
            End::Graceful(reason) => {
                self.peer.close();
                reason
            }
            End::Silent(reason) => reason,
        }
    }

    fn handle(&mut self, event: PeerEvent) -> Option<End> {
        match event {
            PeerEvent::Connected => {
                self.connected = true;
                self.codecs = Decoder::new().zip(Encoder::new()).map(Box::new);
                if !self.peer.has_channel() {
                    self.began = Some(Instant::now());
                }
            }
            PeerEvent::ChannelOpen => {
                self.began = Some(Instant::now());
                self.conversation.start();
            }
            PeerEvent::ClientEvent(event) => {
                let goes_on = self.conversation.handle(&event);
                return (!goes_on).then_some(End::Graceful(EndReason::ClientLeft));
            }
            PeerEvent::Audio(opus) => {
                self.steps_without_audio = Some(0);
                let (decoder, _) = self.codecs.as_deref_mut()?;
                self.partial_frame.extend_from_slice(decoder.decode(&opus));
                let steps = self.partial_frame.chunks_exact(FRAME);
                let rest = steps.remainder().to_vec();
                for samples in steps {
                    self.conversation.receive_audio(samples);
                }
                self.partial_frame = rest;
            }
            PeerEvent::Closed => return Some(End::Graceful(EndReason::ClientLeft)),
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
        let Some((_, encoder)) = self.codecs.as_deref_mut() else { return };
        if matches!(self.fault, Some(CallFault::NoAudio)) {
            return;
        }
        let packet = samples.as_deref().map_or(SILENCE, |samples| encoder.encode(samples));
        // From the clock and not from a count of frames, which would stand still when frames are skipped.
        let at = u64::try_from(at.as_millis()).unwrap_or_default().saturating_mul(48);
        self.peer.send_audio(packet, at);
    }

    /// Carries out the planned fault, once.
    fn inject_fault(&mut self) -> Option<End> {
        match self.fault.take()? {
            CallFault::EventsClose { .. } => self.peer.close_channel(),
            CallFault::ErrorEvent { code, .. } => self.conversation.fail(&code),
            CallFault::Ends { .. } => return Some(End::Graceful(EndReason::Fault)),
            CallFault::Drops { .. } => return Some(End::Silent(EndReason::Fault)),
            _ => {}
        }
        None
    }
}

/// How long after [`Call::began`] a fault happens; `None` for one that is in effect from the start.
fn delay(fault: &CallFault) -> Option<Duration> {
    match fault {
        CallFault::EventsClose { ms }
        | CallFault::ErrorEvent { ms, .. }
        | CallFault::Ends { ms }
        | CallFault::Drops { ms } => Some(Duration::from_millis(*ms).min(LATEST_FAULT)),
        _ => None,
    }
}

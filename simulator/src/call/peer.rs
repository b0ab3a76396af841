//! The server's end of a WebRTC connection: it answers an offer, then carries events and audio both ways.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig,
    change::SdpOffer,
    channel::{ChannelConfig, ChannelId},
    format::Codec,
    media::{MediaKind, MediaTime, Mid},
    net::{Protocol, Receive},
};
use tokio::{net::UdpSocket, time};

use super::encryption;

/// The label of the data channel that carries events, as OpenAI's clients name it.
const EVENTS_CHANNEL: &str = "oai-events";
/// Bytes that may wait in str0m, and the longest event: the same as str0m accepts from the client.
const MAX_BUFFERED: usize = 256 * 1024;
/// The first byte of a DTLS record that carries application data, which is exactly what SCTP sends.
const APPLICATION_DATA: u8 = 23;

/// An event of the connection.
#[derive(Debug)]
pub(super) enum PeerEvent {
    /// Audio can now flow both ways.
    Connected,
    /// The data channel is open: events can now flow both ways.
    ChannelOpen,
    /// One message of the data channel, which may or may not be JSON.
    ClientEvent(Vec<u8>),
    /// One packet of Opus from the client.
    Audio(Arc<[u8]>),
    /// The connection, or its data channel, has ended.
    Closed,
}

pub(super) struct Peer {
    /// Boxed because it is large, and a call is moved a few times before it runs.
    rtc: Box<Rtc>,
    socket: UdpSocket,
    address: SocketAddr,
    /// The time of the next required call of str0m.
    wake_at: Instant,
    events: VecDeque<PeerEvent>,
    channel: Option<ChannelId>,
    /// Whether the offer has a line for data channels.
    has_channel: bool,
    /// Events that wait for the channel to open, or for room in it.
    unsent: VecDeque<String>,
    audio: Option<Mid>,
    /// Whether incoming data for data channels is discarded, so that none opens.
    pub(super) discards_channel_data: bool,
}

/// Why an offer could not be answered.
#[derive(Debug)]
pub(super) enum OfferError {
    /// The offer is not SDP, or does not fit a call: it has no audio line that accepts Opus, for example.
    Invalid,
    /// No UDP socket could be opened.
    Socket(io::Error),
}

impl Peer {
    /// Answers an offer. The answer names `ip`, an address of this machine. With `channel`, the data channel of this number
    /// is opened without negotiation, as the client does with `negotiated: true`.
    pub(super) async fn answer(offer: &str, ip: IpAddr, channel: Option<u16>) -> Result<(Self, String), OfferError> {
        let offer = SdpOffer::from_sdp_string(offer).map_err(|_| OfferError::Invalid)?;
        let socket = UdpSocket::bind((ip, 0)).await.map_err(OfferError::Socket)?;
        let address = socket.local_addr().map_err(OfferError::Socket)?;
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(encryption::provider())
            .clear_codecs()
            .enable_opus(true, false)
            // Both ends know the address, so there are no candidates to gather.
            .set_ice_lite(true)
            .set_sctp_max_buffered_amount(MAX_BUFFERED)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).map_err(|_| OfferError::Invalid)?);
        let answer = rtc.sdp_api().accept_offer(offer).map_err(|_| OfferError::Invalid)?.to_sdp_string();
        // Port 0 marks a rejected media line.
        let accepts = |kind: &str| {
            let mut lines = answer.lines().filter_map(|line| line.strip_prefix("m=")?.strip_prefix(kind));
            lines.any(|line| !line.starts_with(" 0 "))
        };
        if !accepts("audio") {
            return Err(OfferError::Invalid);
        }
        let has_channel = accepts("application");
        if let Some(number) = channel.filter(|_| has_channel) {
            let label = EVENTS_CHANNEL.to_owned();
            let negotiated = ChannelConfig { label, negotiated: Some(number), ..ChannelConfig::default() };
            rtc.direct_api().create_data_channel(negotiated);
        }
        let peer = Self { has_channel, ..Self::new(rtc, socket, address, None) };
        Ok((peer, answer))
    }

    fn new(rtc: Rtc, socket: UdpSocket, address: SocketAddr, audio: Option<Mid>) -> Self {
        let mut peer = Self {
            rtc: Box::new(rtc),
            socket,
            address,
            wake_at: Instant::now(),
            events: VecDeque::new(),
            channel: None,
            has_channel: false,
            unsent: VecDeque::new(),
            audio,
            discards_channel_data: false,
        };
        peer.drain();
        peer
    }

    /// Waits for the next event. Cancelling the wait loses none.
    pub(super) async fn next_event(&mut self) -> PeerEvent {
        let mut datagram = [0; 2048];
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            tokio::select! {
                received = self.socket.recv_from(&mut datagram) => {
                    if let Ok((length, source)) = received {
                        self.receive(datagram.get(..length).unwrap_or_default(), source);
                    }
                }
                () = time::sleep_until(self.wake_at.into()) => {
                    if self.rtc.handle_input(Input::Timeout(Instant::now())).is_err() {
                        self.events.push_back(PeerEvent::Closed);
                    }
                }
            }
            self.drain();
            self.flush();
        }
    }

    fn receive(&mut self, datagram: &[u8], source: SocketAddr) {
        if self.discards_channel_data && datagram.first() == Some(&APPLICATION_DATA) {
            return;
        }
        // Datagrams that are not STUN, DTLS or RTP do not come from the peer.
        if let Ok(received) = Receive::new(Protocol::Udp, source, self.address, datagram) {
            let input = Input::Receive(Instant::now(), received);
            if self.rtc.accepts(&input) && self.rtc.handle_input(input).is_err() {
                self.events.push_back(PeerEvent::Closed);
            }
        }
    }

    /// Whether the client asked for a data channel.
    pub(super) fn has_channel(&self) -> bool {
        self.has_channel
    }

    /// Whether the data channel for events is open.
    pub(super) fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// Sends an event as soon as there is room for it.
    pub(super) fn send_event(&mut self, event: String) {
        self.unsent.push_back(event);
        self.flush();
    }

    fn flush(&mut self) {
        while let (Some(event), Some(channel)) = (self.unsent.front(), self.channel) {
            let Some(mut channel) = self.rtc.channel(channel) else { return };
            // An event that can never fit is dropped, so that it does not block the ones behind it.
            if event.len() <= MAX_BUFFERED && matches!(channel.write(false, event.as_bytes()), Ok(false)) {
                return;
            }
            self.unsent.pop_front();
            self.drain();
        }
    }

    /// Sends one packet of Opus that starts `samples` after the first one, at 48 kHz.
    pub(super) fn send_audio(&mut self, packet: &[u8], samples: u64) {
        let Some(writer) = self.audio.and_then(|mid| self.rtc.writer(mid)) else { return };
        let Some(opus) = writer.payload_params().find(|params| params.spec().codec == Codec::Opus) else { return };
        let opus = opus.pt();
        let at = MediaTime::new(samples, str0m::media::Frequency::FORTY_EIGHT_KHZ);
        // Until the connection is up, str0m drops it.
        let _ = writer.write(opus, Instant::now(), at, packet);
        self.drain();
    }

    /// Closes the data channel and leaves the connection open.
    pub(super) fn close_channel(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.rtc.direct_api().close_data_channel(channel);
            self.drain();
        }
    }

    /// Closes the connection properly. Anything sent later is lost.
    pub(super) fn close(&mut self) {
        let _ = self.rtc.close();
        self.drain();
    }

    /// Processes str0m's pending output, which it requires after each change.
    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(wake)) => {
                    self.wake_at = wake;
                    return;
                }
                // A datagram that the socket has no room for is lost, as UDP allows.
                Ok(Output::Transmit(datagram)) => {
                    let _ = self.socket.try_send_to(&datagram.contents, datagram.destination);
                }
                Ok(Output::Event(event)) => self.handle(event),
                Err(_) => {
                    self.events.push_back(PeerEvent::Closed);
                    return;
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connected => self.events.push_back(PeerEvent::Connected),
            Event::MediaAdded(added) if added.kind == MediaKind::Audio => {
                self.audio.get_or_insert(added.mid);
            }
            Event::MediaData(media) => self.events.push_back(PeerEvent::Audio(media.data)),
            Event::ChannelOpen(channel, label) if label == EVENTS_CHANNEL && self.channel.is_none() => {
                self.channel = Some(channel);
                self.events.push_back(PeerEvent::ChannelOpen);
            }
            Event::ChannelData(data) if Some(data.id) == self.channel => {
                self.events.push_back(PeerEvent::ClientEvent(data.data));
            }
            Event::ChannelClose(channel) if Some(channel) == self.channel => self.events.push_back(PeerEvent::Closed),
            Event::Closed | Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                self.events.push_back(PeerEvent::Closed);
            }
            _ => {}
        }
    }
}

/// The client's end, for tests.
#[cfg(test)]
impl Peer {
    /// An offer, and the pending change that its answer completes.
    pub(super) async fn offer() -> (Self, str0m::change::SdpPendingOffer, String) {
        Self::offer_with(Some(EVENTS_CHANNEL), None).await
    }

    /// The same with a data channel of this label, or without one. A channel with a number opens without negotiation.
    pub(super) async fn offer_with(
        label: Option<&str>,
        negotiated: Option<u16>,
    ) -> (Self, str0m::change::SdpPendingOffer, String) {
        let socket = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(encryption::provider())
            .set_sctp_max_buffered_amount(MAX_BUFFERED)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap());
        let mut changes = rtc.sdp_api();
        let audio = changes.add_media(MediaKind::Audio, str0m::media::Direction::SendRecv, None, None, None);
        if let Some(label) = label {
            let config = ChannelConfig { label: label.to_owned(), negotiated, ..ChannelConfig::default() };
            changes.add_channel_with_config(config);
        }
        let (offer, pending) = changes.apply().unwrap();
        (Self::new(rtc, socket, address, Some(audio)), pending, offer.to_sdp_string())
    }

    /// Opens the data channel for events once the connection is up.
    pub(super) fn open_channel(&mut self) {
        let mut changes = self.rtc.sdp_api();
        changes.add_channel(EVENTS_CHANNEL.to_owned());
        assert!(changes.apply().is_none(), "a further channel needs no new offer");
        self.drain();
    }

    pub(super) fn accept(&mut self, pending: str0m::change::SdpPendingOffer, answer: &str) {
        let answer = str0m::change::SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap();
        self.drain();
    }
}

//! Opus in and out, as OpenAI speaks it over WebRTC: mono, 48 kHz, 20 ms a packet.

use opus_pure::{Application, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder, packet};

/// Samples in one packet of ours.
pub(super) const FRAME: usize = 960;
/// Milliseconds in one packet of ours.
pub(super) const FRAME_MS: u64 = 20;
/// 20 ms of silence, encoded (RFC 6716: a CELT frame whose first bit says that there is nothing in it).
pub(super) const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];

/// The longest packet there is holds 120 ms.
const LONGEST: usize = 5_760;

/// Decodes what the caller sends.
pub(super) struct Decoder {
    opus: OpusDecoder,
    samples: Vec<f32>,
}

impl Decoder {
    pub(super) fn new() -> Option<Self> {
        Some(Self { opus: OpusDecoder::new(48_000, 1).ok()?, samples: vec![0.0; LONGEST] })
    }

    /// The samples of a packet; none if it is not Opus.
    pub(super) fn decode(&mut self, opus: &[u8]) -> &[f32] {
        let length = match packet::samples_48k(opus) {
            Ok(length @ 1..=LONGEST) => self.opus.decode(opus, length, &mut self.samples).unwrap_or_default(),
            _ => 0,
        };
        self.samples.get(..length).unwrap_or_default()
    }
}

/// Encodes what the simulator says.
pub(super) struct Encoder {
    opus: OpusEncoder,
    packet: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Option<Self> {
        let mut opus = OpusEncoder::new(48_000, 1, Application::Voip).ok()?;
        opus.bitrate_bps = 32_000;
        // Tones, on a machine that has other things to do.
        opus.complexity = 3;
        Some(Self { opus, packet: vec![0; MAX_PACKET_BYTES] })
    }

    /// One packet, as a rule of [`FRAME`] samples.
    pub(super) fn encode(&mut self, samples: &[f32]) -> &[u8] {
        match self.opus.encode(samples, samples.len(), &mut self.packet) {
            Ok(length) => self.packet.get(..length).unwrap_or(SILENCE),
            Err(_) => SILENCE,
        }
    }
}

/// How long samples last.
pub(super) fn milliseconds(samples: &[f32]) -> u64 {
    u64::try_from(samples.len() / 48).unwrap_or(u64::MAX)
}

/// How loud samples are: their root mean square, where 1 is the loudest square wave.
pub(super) fn level(samples: &[f32]) -> f32 {
    let (sum, count) = samples.iter().fold((0.0, 0.0), |(sum, count), sample| (sum + sample * sample, count + 1.0));
    if count > 0.0 { f32::sqrt(sum / count) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone() -> Vec<f32> {
        (0_u16..960).map(|at| f32::sin(f32::from(at) * 0.06) * 0.2).collect()
    }

    #[test]
    fn what_is_encoded_is_heard_as_loud_as_it_was() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
        let mut heard = 0.0;
        for _ in 0..10 {
            let samples = decoder.decode(encoder.encode(&tone()));
            assert_eq!(samples.len(), FRAME);
            heard = level(samples);
        }
        assert!((0.12..0.16).contains(&heard), "{heard}");
        // Between one frame and the next there is a fade.
        let fading: Vec<f32> = (0..6).map(|_| level(decoder.decode(SILENCE))).collect();
        assert!(fading[5] < 0.001, "{fading:?}");
    }

    #[test]
    fn a_packet_that_is_not_opus_is_no_sound() {
        let mut decoder = Decoder::new().unwrap();
        fastrand::seed(1);
        for length in 0..2_000 {
            let packet: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length % 200).collect();
            decoder.decode(&packet);
        }
        assert!(decoder.decode(&[]).is_empty());
    }
}

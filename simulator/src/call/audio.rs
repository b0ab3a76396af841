//! Opus in the form that OpenAI uses over WebRTC: mono, 48 kHz, 20 ms per packet.

use opus_pure::{Application, MAX_PACKET_BYTES, OpusDecoder, OpusEncoder, packet};

/// Samples in one packet that the simulator sends.
pub(super) const FRAME: usize = 960;
/// Milliseconds in one packet that the simulator sends.
pub(super) const FRAME_MS: u64 = 20;
/// 20 ms of encoded silence (RFC 6716: a CELT frame whose first bit marks it as silent).
pub(super) const SILENCE: &[u8] = &[0xf8, 0xff, 0xfe];

/// Samples in the longest packet that Opus allows, 120 ms.
const LONGEST: usize = 5_760;

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

pub(super) struct Encoder {
    opus: OpusEncoder,
    packet: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Option<Self> {
        let mut opus = OpusEncoder::new(48_000, 1, Application::Voip).ok()?;
        opus.bitrate_bps = 32_000;
        // Low, since tones are easy to encode and tests share the machine.
        opus.complexity = 3;
        Some(Self { opus, packet: vec![0; MAX_PACKET_BYTES] })
    }

    /// Encodes one packet, usually of [`FRAME`] samples.
    pub(super) fn encode(&mut self, samples: &[f32]) -> &[u8] {
        match self.opus.encode(samples, samples.len(), &mut self.packet) {
            Ok(length) => self.packet.get(..length).unwrap_or(SILENCE),
            Err(_) => SILENCE,
        }
    }
}

/// The duration of samples, in milliseconds.
pub(super) fn milliseconds(samples: &[f32]) -> u64 {
    u64::try_from(samples.len() / 48).unwrap_or(u64::MAX)
}

/// The loudness of samples: their root mean square, where 1 is a square wave at full scale.
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
    fn loudness_survives_encoding_and_decoding() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::new().unwrap());
        let mut heard = 0.0;
        for _ in 0..10 {
            let samples = decoder.decode(encoder.encode(&tone()));
            assert_eq!(samples.len(), FRAME);
            heard = level(samples);
        }
        assert!((0.12..0.16).contains(&heard), "{heard}");
        // The decoder fades from one frame to the next.
        let fading: Vec<f32> = (0..6).map(|_| level(decoder.decode(SILENCE))).collect();
        assert!(fading[5] < 0.001, "{fading:?}");
    }

    #[test]
    fn a_packet_that_is_not_opus_is_skipped() {
        let mut decoder = Decoder::new().unwrap();
        fastrand::seed(1);
        for length in 0..2_000 {
            let packet: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(length % 200).collect();
            decoder.decode(&packet);
        }
        assert!(decoder.decode(&[]).is_empty());
    }
}

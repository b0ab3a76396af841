//! Audio in events: base64 of 16-bit samples in little-endian order, mono, 24 kHz.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::refusal::Refusal;

/// Samples in 20 ms.
pub(super) const STEP: usize = 480;

/// The samples of an event's `audio`.
pub(super) fn decode(audio: &str, format: &Value) -> Result<Vec<f32>, Refusal> {
    if format.as_str().is_some_and(|format| format != "audio/pcm") {
        return Err(Refusal::invalid("audio", "The simulator only takes audio/pcm in events.", "invalid_value"));
    }
    let invalid = || Refusal::invalid("audio", "Invalid 'audio': expected base64 of 16-bit samples.", "invalid_value");
    let bytes = STANDARD.decode(audio).map_err(|_| invalid())?;
    let pairs = bytes.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(invalid());
    }
    Ok(pairs
        .filter_map(|pair| pair.try_into().ok())
        .map(|pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0)
        .collect())
}

/// Samples of 48 kHz as the `delta` of an event.
pub(super) fn encode(samples: &[f32]) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the range of the type")]
    let whole = |sample: &f32| (sample.clamp(-1.0, 1.0) * 32_767.0) as i16;
    // Every other sample: a tone is far below the 12 kHz that 24 kHz can carry.
    let bytes: Vec<u8> = samples.iter().step_by(2).map(whole).flat_map(i16::to_le_bytes).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_survive_encoding_and_decoding_at_half_the_rate() {
        let samples = [0.0, 9.0, 0.5, 9.0, -1.0, 9.0, 2.0];
        let decoded = decode(&encode(&samples), &Value::Null).unwrap();
        for (sample, expected) in decoded.iter().zip([0.0, 0.5, -1.0, 1.0]) {
            assert!((sample - expected).abs() < 0.001, "{sample} {expected}");
        }
        assert_eq!(decoded.len(), 4);
        for (audio, format) in [("AAA", "audio/pcm"), ("AA==", "audio/pcm"), ("*", "audio/pcm"), ("AAA=", "audio/pcmu")]
        {
            assert!(decode(audio, &format.into()).is_err(), "{audio} {format}");
        }
        assert!(decode("AAA=", &"audio/pcm".into()).is_ok());
    }
}

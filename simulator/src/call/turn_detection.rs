//! The input audio buffer, and the turns detected in it by loudness, in steps of 20 ms.

use serde_json::Value;

use super::audio::FRAME_MS;

/// Milliseconds of loud audio that make speech. A click is shorter.
const ONSET_MS: u64 = 60;
/// The loudness that corresponds to a `threshold` of 1. A room with a fan has 0.003 and a voice 0.05 or more, so the
/// default threshold of 0.5 means 0.02.
const LOUD_AT_FULL_THRESHOLD: f32 = 0.04;

/// The setting `turn_detection` of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnDetection {
    threshold: f32,
    prefix_padding_ms: u64,
    silence_duration_ms: u64,
    pub(super) create_response: bool,
    pub(super) interrupt_response: bool,
}

impl TurnDetection {
    /// `None` if the session leaves it to the client to commit its speech.
    pub(super) fn of_session(session: &Value) -> Option<Self> {
        let asked = &session["audio"]["input"]["turn_detection"];
        // OpenAI's semantic detection waits depending on the words, which the simulator does not understand.
        let pause = match (asked["type"].as_str()?, asked["eagerness"].as_str()) {
            ("semantic_vad", Some("low")) => 1_000,
            ("semantic_vad", Some("high")) => 300,
            ("semantic_vad", _) => 500,
            _ => asked["silence_duration_ms"].as_u64().unwrap_or(200),
        };
        Some(Self {
            threshold: asked["threshold"].to_string().parse().unwrap_or(0.5),
            prefix_padding_ms: asked["prefix_padding_ms"].as_u64().unwrap_or(300),
            silence_duration_ms: pause,
            create_response: asked["create_response"].as_bool().unwrap_or(true),
            interrupt_response: asked["interrupt_response"].as_bool().unwrap_or(true),
        })
    }
}

/// A change of turn. Times are in milliseconds from the start of the audio.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// The caller began to speak. The padding is subtracted from the time.
    Started { audio_start_ms: u64 },
    /// The caller has been silent for `silence_duration_ms`.
    Stopped { audio_end_ms: u64 },
}

/// The contents of the buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Utterance {
    /// The duration of the audio, silent or not.
    pub(super) audio_ms: u64,
    /// The duration from the first loud step to the last.
    pub(super) speech_ms: u64,
}

impl Utterance {
    /// The length of the speech in words, such as "2.1 seconds".
    pub(super) fn speech_length(&self) -> String {
        format!("{}.{} seconds", self.speech_ms / 1_000, self.speech_ms % 1_000 / 100)
    }
}

#[derive(Debug, Default)]
pub(super) struct InputBuffer {
    /// The duration of all audio so far.
    heard_ms: u64,
    buffer_from_ms: u64,
    loud_ms: u64,
    quiet_ms: u64,
    speaking: bool,
    /// The start and end of the speech in the buffer, in milliseconds.
    speech: Option<(u64, u64)>,
}

impl InputBuffer {
    /// Adds 20 ms of audio of this loudness.
    pub(super) fn push(&mut self, level: f32, detection: Option<TurnDetection>) -> Option<Turn> {
        let from = self.heard_ms;
        self.heard_ms = from.saturating_add(FRAME_MS);
        let threshold = detection.map_or(0.5, |detection| detection.threshold);
        if level > f32::max(0.001, LOUD_AT_FULL_THRESHOLD * threshold) {
            self.loud_ms = self.loud_ms.saturating_add(FRAME_MS);
            self.quiet_ms = 0;
            let onset = self.speech.map_or(from, |(onset, _)| onset);
            self.speech = Some((onset, self.heard_ms));
        } else {
            self.loud_ms = 0;
            self.quiet_ms = self.quiet_ms.saturating_add(FRAME_MS);
        }
        let Some(detection) = detection else {
            self.speaking = false;
            return None;
        };
        if !self.speaking && self.loud_ms >= ONSET_MS {
            self.speaking = true;
            let onset = self.heard_ms.saturating_sub(self.loud_ms);
            self.speech = Some((onset, self.heard_ms));
            self.buffer_from_ms = onset.saturating_sub(detection.prefix_padding_ms).max(self.buffer_from_ms);
            return Some(Turn::Started { audio_start_ms: self.buffer_from_ms });
        }
        if self.speaking && self.quiet_ms >= detection.silence_duration_ms.max(FRAME_MS) {
            self.speaking = false;
            return Some(Turn::Stopped { audio_end_ms: self.heard_ms });
        }
        None
    }

    /// Empties the buffer and returns its contents.
    pub(super) fn empty(&mut self) -> Utterance {
        let audio_ms = self.heard_ms.saturating_sub(self.buffer_from_ms);
        let speech_ms = self.speech.map_or(0, |(from, to)| to.saturating_sub(from));
        self.buffer_from_ms = self.heard_ms;
        self.speech = None;
        self.speaking = false;
        self.loud_ms = 0;
        Utterance { audio_ms, speech_ms }
    }

    /// The duration of the audio in the buffer.
    pub(super) fn buffered_ms(&self) -> u64 {
        self.heard_ms.saturating_sub(self.buffer_from_ms)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detection(asked: &Value) -> Option<TurnDetection> {
        TurnDetection::of_session(&json!({"audio": {"input": {"turn_detection": asked}}}))
    }

    /// Adds `ms` of one loudness. Returns the turns, each with its time from the first of them.
    fn listen(input: &mut InputBuffer, ms: u64, level: f32, detection: Option<TurnDetection>) -> Vec<(u64, Turn)> {
        let steps = (FRAME_MS..=ms).step_by(20);
        steps.filter_map(|at| input.push(level, detection).map(|turn| (at, turn))).collect()
    }

    #[test]
    fn speech_starts_a_turn_and_silence_ends_it() {
        let vad = detection(&json!({"type": "server_vad", "silence_duration_ms": 400}));
        let mut input = InputBuffer::default();
        assert_eq!(listen(&mut input, 1_000, 0.0, vad), []);
        assert_eq!(listen(&mut input, 2_000, 0.1, vad), [(60, Turn::Started { audio_start_ms: 700 })]);
        assert_eq!(listen(&mut input, 380, 0.0, vad), []);
        assert_eq!(listen(&mut input, 1_000, 0.0, vad), [(20, Turn::Stopped { audio_end_ms: 3_400 })]);
        assert_eq!(input.empty(), Utterance { audio_ms: 3_680, speech_ms: 2_000 });
    }

    #[test]
    fn a_click_and_audio_below_the_threshold_are_not_speech() {
        let (coarse, fine) = (
            detection(&json!({"type": "server_vad", "threshold": 0.9})),
            detection(&json!({"type": "server_vad", "threshold": 0.1})),
        );
        let mut input = InputBuffer::default();
        assert_eq!(listen(&mut input, 40, 0.5, coarse), []);
        assert_eq!(listen(&mut input, 500, 0.02, coarse), []);
        assert_eq!(listen(&mut input, 500, 0.02, fine).len(), 1);
    }

    #[test]
    fn the_buffer_fills_without_turn_detection() {
        let mut input = InputBuffer::default();
        assert_eq!(listen(&mut input, 500, 0.1, None), []);
        assert_eq!(listen(&mut input, 500, 0.0, None), []);
        assert_eq!(input.buffered_ms(), 1_000);
        assert_eq!(input.empty(), Utterance { audio_ms: 1_000, speech_ms: 500 });
        assert_eq!(input.empty(), Utterance::default());
        assert!(detection(&Value::Null).is_none());
    }
}

//! The audio that is still to be played: responses one after the other, at the speed at which they are heard.

use std::collections::VecDeque;

use serde_json::json;

use super::{
    audio::{FRAME, FRAME_MS},
    server_event::ServerEvents,
};

/// The remaining audio of one response.
#[derive(Debug)]
pub(super) struct ResponseAudio {
    response_id: String,
    pub(super) item_id: String,
    samples: VecDeque<f32>,
    pub(super) played_ms: u64,
    /// Whether all its audio has been added.
    complete: bool,
}

/// The queue of responses. The first one is playing.
#[derive(Debug, Default)]
pub(super) struct Playback(VecDeque<ResponseAudio>);

impl Playback {
    pub(super) fn add(&mut self, response_id: &str, item_id: &str, samples: Vec<f32>) {
        if let Some(response) = self.0.back_mut().filter(|response| response.response_id == response_id) {
            response.samples.extend(samples);
        } else {
            self.0.push_back(ResponseAudio {
                response_id: response_id.to_owned(),
                item_id: item_id.to_owned(),
                samples: samples.into(),
                played_ms: 0,
                complete: false,
            });
        }
    }

    /// Marks the audio of the newest response as complete.
    pub(super) fn complete(&mut self) {
        if let Some(response) = self.0.back_mut() {
            response.complete = true;
        }
    }

    /// The next 20 ms of samples, if any are left to play.
    pub(super) fn next_frame(&mut self, events: &mut ServerEvents) -> Option<Vec<f32>> {
        let response = self.0.front_mut()?;
        let response_id = json!({"response_id": response.response_id});
        if response.samples.is_empty() {
            if response.complete {
                self.0.pop_front();
                events.send("output_audio_buffer.stopped", response_id);
            }
            return None;
        }
        if response.played_ms == 0 {
            events.send("output_audio_buffer.started", response_id);
        }
        response.played_ms = response.played_ms.saturating_add(FRAME_MS);
        let frame = response.samples.len().min(FRAME);
        let mut samples: Vec<f32> = response.samples.drain(..frame).collect();
        samples.resize(FRAME, 0.0);
        Some(samples)
    }

    /// Discards all audio that has not been played. Returns the response that was playing.
    pub(super) fn clear(&mut self, events: &mut ServerEvents) -> Option<ResponseAudio> {
        let playing = self.0.pop_front();
        self.0.clear();
        if let Some(response) = &playing {
            events.send("output_audio_buffer.cleared", json!({"response_id": response.response_id}));
        }
        playing
    }
}

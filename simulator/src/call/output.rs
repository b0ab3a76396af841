//! What is to be heard: replies, one after the other, at the pace at which they are heard.

use std::collections::VecDeque;

use serde_json::json;

use super::{
    audio::{FRAME, FRAME_MS},
    events::Events,
};

/// The audio of a reply.
#[derive(Debug)]
pub(super) struct Playback {
    response_id: String,
    pub(super) item_id: String,
    samples: VecDeque<f32>,
    pub(super) played_ms: u64,
    /// Nothing will be added.
    complete: bool,
}

/// The first is being heard.
#[derive(Debug, Default)]
pub(super) struct Output(VecDeque<Playback>);

impl Output {
    pub(super) fn add(&mut self, response_id: &str, item_id: &str, samples: Vec<f32>) {
        if let Some(playback) = self.0.back_mut().filter(|playback| playback.response_id == response_id) {
            playback.samples.extend(samples);
        } else {
            self.0.push_back(Playback {
                response_id: response_id.to_owned(),
                item_id: item_id.to_owned(),
                samples: samples.into(),
                played_ms: 0,
                complete: false,
            });
        }
    }

    /// The reply that was made up last is all there.
    pub(super) fn complete(&mut self) {
        if let Some(playback) = self.0.back_mut() {
            playback.complete = true;
        }
    }

    /// The next 20 ms, if there is something to be heard in them.
    pub(super) fn play(&mut self, events: &mut Events) -> Option<Vec<f32>> {
        let playback = self.0.front_mut()?;
        let response_id = json!({"response_id": playback.response_id});
        if playback.samples.is_empty() {
            if playback.complete {
                self.0.pop_front();
                events.send("output_audio_buffer.stopped", response_id);
            }
            return None;
        }
        if playback.played_ms == 0 {
            events.send("output_audio_buffer.started", response_id);
        }
        playback.played_ms = playback.played_ms.saturating_add(FRAME_MS);
        let frame = playback.samples.len().min(FRAME);
        let mut samples: Vec<f32> = playback.samples.drain(..frame).collect();
        samples.resize(FRAME, 0.0);
        Some(samples)
    }

    /// Forgets all that was not heard yet. What was being heard.
    pub(super) fn clear(&mut self, events: &mut Events) -> Option<Playback> {
        let playing = self.0.pop_front();
        self.0.clear();
        if let Some(playback) = &playing {
            events.send("output_audio_buffer.cleared", json!({"response_id": playback.response_id}));
        }
        playing
    }
}

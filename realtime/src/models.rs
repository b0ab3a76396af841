//! OpenAI's models and their shutdown dates.
//!
//! Source: OpenAI's deprecations page (with its notices of 2025-06-10 and 2026-04-22 for the snapshots) and the types of its
//! SDK, November 2026. Each model has a line of its own instead of a pattern, because snapshots of one model were shut down
//! on different days.

use crate::Day;

/// A model that OpenAI offers or has offered.
#[derive(Debug)]
pub struct Model {
    /// The name of the model in a session document.
    pub id: &'static str,
    /// When it was published, in seconds since the Unix epoch.
    pub created: u64,
    /// The sessions that use it.
    pub purpose: Purpose,
    /// The first day without it, as `2027-01-20`, if OpenAI has announced one.
    pub shutdown_date: Option<&'static str>,
    /// The replacement that OpenAI names. Empty without a shutdown date.
    pub replacement: &'static str,
}

/// The part of a session that a model serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It holds the conversation of a session.
    Conversation,
    /// It transcribes the speech of a session.
    Transcription,
    /// It translates in a translation session.
    Translation,
    /// It belongs to GPT-Live, which has its own kind of session and no ephemeral tokens.
    Live,
}

/// The announced or past shutdown of a model, if it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The model is not in the lists.
    Unknown,
    /// OpenAI has not announced a shutdown.
    Lives,
    /// A shutdown is announced or past: its date, and the replacement.
    Ends(&'static str, &'static str),
}

const fn model(id: &'static str, created: u64, purpose: Purpose) -> Model {
    Model { id, created, purpose, shutdown_date: None, replacement: "" }
}

impl Model {
    const fn until(self, date: &'static str, replacement: &'static str) -> Self {
        Self { shutdown_date: Some(date), replacement, ..self }
    }

    /// Whether the model has been shut down by that day.
    #[must_use]
    pub fn is_gone(&self, on: Day) -> bool {
        self.shutdown_date.is_some_and(|date| *date <= *on.to_string())
    }
}

use Purpose::{Conversation, Live, Transcription, Translation};

/// All models that OpenAI offers, and those that it has shut down.
pub const MODELS: [Model; 30] = [
    model("gpt-realtime-2.1", 1_785_542_400, Conversation),
    model("gpt-realtime-2.1-mini", 1_785_542_400, Conversation),
    model("gpt-realtime-2", 1_777_593_600, Conversation),
    model("gpt-realtime-1.5", 1_769_904_000, Conversation),
    model("gpt-realtime", 1_756_339_200, Conversation).until("2027-01-20", "gpt-realtime-2.1"),
    model("gpt-realtime-2025-08-28", 1_756_339_200, Conversation).until("2027-01-20", "gpt-realtime-2.1"),
    model("gpt-realtime-mini", 1_759_708_800, Conversation).until("2027-01-20", "gpt-realtime-2.1-mini"),
    model("gpt-realtime-mini-2025-10-06", 1_759_708_800, Conversation).until("2026-07-23", "gpt-realtime-2.1-mini"),
    model("gpt-realtime-mini-2025-12-15", 1_765_756_800, Conversation).until("2027-01-20", "gpt-realtime-2.1-mini"),
    model("gpt-audio-1.5", 1_769_904_000, Conversation),
    model("gpt-audio-mini", 1_759_708_800, Conversation),
    model("gpt-audio-mini-2025-10-06", 1_759_708_800, Conversation).until("2026-07-23", "gpt-audio-1.5"),
    model("gpt-audio-mini-2025-12-15", 1_765_756_800, Conversation),
    model("gpt-4o-realtime-preview", 1_727_740_800, Conversation).until("2026-05-07", "gpt-realtime-2.1"),
    model("gpt-4o-realtime-preview-2024-10-01", 1_727_740_800, Conversation).until("2025-10-10", "gpt-realtime-2.1"),
    model("gpt-4o-realtime-preview-2024-12-17", 1_734_393_600, Conversation).until("2026-05-07", "gpt-realtime-2.1"),
    model("gpt-4o-realtime-preview-2025-06-03", 1_748_908_800, Conversation).until("2026-05-07", "gpt-realtime-2.1"),
    model("gpt-4o-mini-realtime-preview", 1_734_393_600, Conversation).until("2026-05-07", "gpt-realtime-2.1-mini"),
    model("gpt-4o-mini-realtime-preview-2024-12-17", 1_734_393_600, Conversation)
        .until("2026-07-23", "gpt-realtime-2.1-mini"),
    model("gpt-realtime-translate", 1_777_593_600, Translation),
    model("gpt-live-transcribe", 1_787_702_400, Transcription),
    model("gpt-transcribe", 1_787_702_400, Transcription),
    model("gpt-realtime-whisper", 1_777_593_600, Transcription),
    model("gpt-4o-transcribe", 1_742_428_800, Transcription).until("2027-02-26", "gpt-live-transcribe"),
    model("gpt-4o-transcribe-diarize", 1_760_486_400, Transcription).until("2027-02-26", "gpt-live-transcribe"),
    model("gpt-4o-mini-transcribe", 1_742_428_800, Transcription).until("2027-02-26", "gpt-live-transcribe"),
    model("gpt-4o-mini-transcribe-2025-12-15", 1_765_756_800, Transcription).until("2027-02-26", "gpt-live-transcribe"),
    model("whisper-1", 1_677_532_384, Transcription).until("2027-02-26", "gpt-live-transcribe"),
    model("gpt-live-1", 1_788_998_400, Live),
    model("gpt-live-1.1", 1_795_046_400, Live),
];

/// Looks up a model's shutdown by its name.
#[must_use]
pub fn fate(id: &str) -> Fate {
    match MODELS.iter().find(|model| model.id == id) {
        None => Fate::Unknown,
        Some(Model { shutdown_date: Some(date), replacement, .. }) => Fate::Ends(date, replacement),
        Some(_) => Fate::Lives,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_replacement_serves_the_same_sessions_and_has_no_shutdown_date() {
        let ending: Vec<_> = MODELS.iter().filter(|model| model.shutdown_date.is_some()).collect();
        assert!(ending.len() > 5);
        for model in ending {
            let instead = MODELS.iter().find(|other| other.id == model.replacement).unwrap();
            assert_eq!((instead.purpose, instead.shutdown_date), (model.purpose, None), "{}", model.id);
        }
    }

    #[test]
    fn no_model_is_listed_twice() {
        for model in &MODELS {
            assert_eq!(MODELS.iter().filter(|other| other.id == model.id).count(), 1, "{}", model.id);
        }
    }

    #[test]
    fn snapshots_of_one_model_have_their_own_shutdown_dates() {
        assert_eq!(fate("gpt-realtime-mini-2025-10-06"), Fate::Ends("2026-07-23", "gpt-realtime-2.1-mini"));
        assert_eq!(fate("gpt-realtime-mini-2025-12-15"), Fate::Ends("2027-01-20", "gpt-realtime-2.1-mini"));
        let day = |id| match fate(id) {
            Fate::Ends(day, _) => day,
            other => panic!("{id}: {other:?}"),
        };
        assert_eq!(day("gpt-audio-mini-2025-10-06"), "2026-07-23");
        assert_eq!(day("gpt-4o-mini-realtime-preview"), "2026-05-07");
        assert_eq!(day("gpt-4o-mini-realtime-preview-2024-12-17"), "2026-07-23");
        assert_eq!(day("gpt-4o-realtime-preview"), "2026-05-07");
        assert_eq!(day("gpt-4o-realtime-preview-2024-10-01"), "2025-10-10");
        assert_eq!((fate("gpt-realtime-2.1"), fate("gpt-audio-mini-2025-12-15")), (Fate::Lives, Fate::Lives));
        for unknown in ["gpt-realtime-9", "gpt-realtime-mini-2099-01-01", "gpt-4o-realtime-preview-2099-01-01"] {
            assert_eq!(fate(unknown), Fate::Unknown, "no pattern decides on {unknown}");
        }
    }

    #[test]
    fn a_model_is_gone_from_its_shutdown_date_on() {
        let whisper = MODELS.iter().find(|model| model.id == "whisper-1").unwrap();
        let day = |seconds| Day::at(Duration::from_secs(seconds));
        assert!(!whisper.is_gone(day(1_803_513_600)), "{}", day(1_803_513_600));
        assert!(whisper.is_gone(day(1_803_600_000)), "{}", day(1_803_600_000));
    }
}

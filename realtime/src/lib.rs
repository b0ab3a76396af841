//! The rules of OpenAI's Realtime API as data: session documents, voices, and models with their shutdown dates.
//!
//! The simulator checks requests against this data, and the function's build checks `profiles.json` against it.

use std::ops::RangeInclusive;

mod day;
mod models;
pub mod schema;

pub use day::Day;
pub use models::{Fate, MODELS, Model, Purpose, fate};

/// OpenAI's built-in voices, from the types of the `openai` npm package 7.57.0 (2026-11-13).
pub const VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

/// The range that OpenAI accepts for `expires_after.seconds` (its OpenAPI description, 2026-08-21).
pub const TOKEN_TTL_SECONDS: RangeInclusive<u64> = 10..=7_200;

/// The lengths of a call that this service ends, in seconds. OpenAI ends every session after 60 minutes.
pub const CALL_SECONDS: RangeInclusive<u64> = 10..=3_600;

//! The log lines other than the record of each request: one JSON object per line on standard output.

use tracing::Level;
use tracing_subscriber::{filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging: this crate's own lines from `level` up, and other crates' warnings.
///
/// Other crates log at `WARN` at most, whatever the level is: below that, HTTP clients and the Lambda runtime write headers
/// and payloads, which contain secrets.
pub fn start(level: Level) {
    let filter = filter_fn(move |line| {
        let ours = line.target().starts_with(env!("CARGO_CRATE_NAME"));
        line.level() <= if ours { &level } else { &Level::WARN }
    });
    // The span is the request, with its ID.
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false).with_span_list(false);
    let lines = tracing_subscriber::Layer::with_filter(lines, filter);
    // A program that embeds this library may have set a subscriber of its own. That one stays.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

//! Checks a `profiles.json` before anything else is built: `token-mint-profile-check PATH [DAYS]`, with DAYS as of that
//! many days from now.
#![allow(clippy::print_stderr, reason = "a command-line program")]

use std::{env, fs, path::PathBuf, process::ExitCode};

use openai_realtime::Day;

fn main() -> ExitCode {
    let Some(path) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: token-mint-profile-check PATH [DAYS]");
        return ExitCode::FAILURE;
    };
    let file = match fs::read(&path) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("error: {} cannot be read: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let days = env::args().nth(2).and_then(|days| days.parse().ok()).unwrap_or_default();
    let findings = token_mint_profile_check::check(&file, Day::today().plus(days));
    for warning in &findings.warnings {
        eprintln!("warning: profiles.json: {warning}");
    }
    for mistake in &findings.mistakes {
        eprintln!("error: profiles.json: {mistake}");
    }
    if findings.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

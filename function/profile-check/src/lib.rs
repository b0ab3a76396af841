//! Finds every mistake in a `profiles.json`, and explains it to the author of the file.
//!
//! The function's build runs this, so a broken file is never deployed. The shipped function does not contain this code.
//! A mistake certainly fails, at start or at OpenAI. The subject of a warning may be correct: OpenAI adds voices,
//! models and fields.

mod allow;
mod call;
mod json;
mod place;
mod profile;
mod session;
mod spelling;

use openai_realtime::Day;
use serde_json::Value;

/// The profile for callers that name none.
const DEFAULT: &str = "default";

/// The findings of a check, a sentence for each.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Values that certainly fail.
    pub mistakes: Vec<String>,
    /// Values that may be correct, but should be checked.
    pub warnings: Vec<String>,
}

/// Reads a `profiles.json` and finds every mistake in it, as of `today`.
#[must_use]
pub fn check(file: &[u8], today: Day) -> Findings {
    let mut findings = Findings::default();
    let Some(file) = json::read(file, &mut findings) else { return findings };
    let Value::Object(profiles) = file else {
        let found = spelling::shown(&file);
        findings
            .mistakes
            .push(format!("the file must be an object with a profile under each name, but it is {found}."));
        return findings;
    };
    if !profiles.contains_key(DEFAULT) {
        let meant = spelling::nearest(DEFAULT, profiles.keys().map(String::as_str));
        let hint = meant.map_or_else(String::new, |name| format!(" Rename {name:?} if it is meant to be that one."));
        findings
            .mistakes
            .push(format!("there is no profile named {DEFAULT:?}, which serves every caller that names none.{hint}"));
    }
    for (name, profile) in &profiles {
        profile::check(name, profile, today, &mut findings);
    }
    findings
}

/// The findings in one profile. Every sentence begins with its name.
struct OfProfile<'a> {
    name: &'a str,
    findings: &'a mut Findings,
}

impl OfProfile<'_> {
    fn mistake(&mut self, sentence: impl AsRef<str>) {
        let sentence = format!("profile {:?}: {}", self.name, sentence.as_ref());
        if !self.findings.mistakes.contains(&sentence) {
            self.findings.mistakes.push(sentence);
        }
    }

    fn warning(&mut self, sentence: impl AsRef<str>) {
        let sentence = format!("profile {:?}: {}", self.name, sentence.as_ref());
        if !self.findings.warnings.contains(&sentence) {
            self.findings.warnings.push(sentence);
        }
    }
}

#[cfg(test)]
mod tests;

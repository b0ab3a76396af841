//! Every mistake in a `profiles.json`, as sentences for the person who wrote it.
//!
//! The function's build runs this, so a broken file is never deployed and the shipped function carries none of it.
//! A mistake is certain to fail, at start or at OpenAI. A warning may be right: OpenAI adds voices, models and fields.

mod allow;
mod json;
mod place;
mod profile;
mod session;
mod spelling;

use openai_realtime::Day;
use serde_json::Value;

/// The profile for callers that name none.
const DEFAULT: &str = "default";

/// What a check has found: a sentence each.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// What is certain to fail.
    pub mistakes: Vec<String>,
    /// What may be right, and is worth a look.
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

/// What is found in one profile: every sentence begins with its name.
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

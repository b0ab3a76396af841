//! The session document: whether OpenAI accepts it, alone and with the values that callers may set.

use openai_realtime::{
    Day, Fate, MODELS, Model, Purpose, VOICES, fate,
    schema::{Fault, FaultKind, REALTIME, Rule, Step, TRANSCRIPTION, TRANSLATION, faults},
};
use serde_json::Value;

use crate::{
    OfProfile,
    profile::without_quotes,
    spelling::{any_of, did_you_mean, listed, nearest, quoted, same_letters, shown},
};

const VOICE: &str = "/audio/output/voice";
const MODEL: &str = "/model";
const TRANSCRIPTION_MODEL: &str = "/audio/input/transcription/model";

/// Fields that the beta API had at the top of a session, their new places, and the new values if these have changed,
/// too. OpenAI removed that API in May 2026.
const MOVED: [(&str, Option<&str>, &str); 10] = [
    ("voice", Some(VOICE), ""),
    ("modalities", Some("/output_modalities"), r#"["audio"] or ["text"]"#),
    ("input_audio_format", Some("/audio/input/format"), PCM),
    ("output_audio_format", Some("/audio/output/format"), PCM),
    ("input_audio_transcription", Some("/audio/input/transcription"), ""),
    ("input_audio_noise_reduction", Some("/audio/input/noise_reduction"), ""),
    ("turn_detection", Some("/audio/input/turn_detection"), ""),
    ("speed", Some("/audio/output/speed"), ""),
    ("max_response_output_tokens", Some("/max_output_tokens"), ""),
    ("temperature", None, ""),
];

const PCM: &str = r#"{"type": "audio/pcm", "rate": 24000}, or the type "audio/pcmu" or "audio/pcma" alone,"#;

/// Fields whose removal OpenAI has announced, and their replacements. Source: OpenAI's deprecations page, November 2026.
const ENDING: [(&str, &str, &str); 1] = [("/prompt", "2026-11-30", "Write the prompt's text into \"instructions\".")];

/// The kind of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Realtime,
    Transcription,
    Translation,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "realtime" => Some(Self::Realtime),
            "transcription" => Some(Self::Transcription),
            "translation" => Some(Self::Translation),
            _ => None,
        }
    }

    fn rule(self) -> &'static Rule {
        match self {
            Self::Realtime => &REALTIME,
            Self::Transcription => &TRANSCRIPTION,
            Self::Translation => &TRANSLATION,
        }
    }

    /// The places of models, and the purpose of each. The first is the session's own.
    fn models(self) -> &'static [(&'static str, Purpose)] {
        match self {
            Self::Realtime => &[(MODEL, Purpose::Conversation), (TRANSCRIPTION_MODEL, Purpose::Transcription)],
            Self::Transcription => &[(TRANSCRIPTION_MODEL, Purpose::Transcription)],
            Self::Translation => &[(MODEL, Purpose::Translation), (TRANSCRIPTION_MODEL, Purpose::Transcription)],
        }
    }
}

/// A field that a caller may set, with its name in quotes.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    /// Whether its value is an example of any text.
    pub(crate) any_text: bool,
}

/// A session document as it is sent.
pub(crate) struct Session {
    kind: Kind,
    document: Value,
    today: Day,
}

impl Session {
    pub(crate) fn new(kind: Kind, mut document: Value, today: Day) -> Self {
        let session_type = match kind {
            Kind::Realtime => Some("realtime"),
            Kind::Transcription => Some("transcription"),
            Kind::Translation => None,
        };
        if let (Value::Object(fields), Some(session_type)) = (&mut document, session_type) {
            fields.insert("type".to_owned(), session_type.into());
        }
        Self { kind, document, today }
    }

    /// Checks the document without a caller's fields.
    pub(crate) fn check(&self, found: &mut OfProfile<'_>) {
        for fault in faults(&self.document, self.kind.rule()) {
            self.tell(&fault, &self.document, None, found);
        }
        self.names(&self.document, None, found);
        if self.kind != Kind::Translation
            && let Some((place, _)) = self.kind.models().first()
            && self.document.pointer(place).is_none_or(Value::is_null)
        {
            found.warning(format!("the session names no model at {place:?}, so OpenAI chooses one."));
        }
        for (place, date, instead) in ENDING {
            if self.document.pointer(place).is_none_or(Value::is_null) {
                continue;
            }
            let sentence =
                format!("OpenAI {} {place:?} on {date}. {instead}", self.ends(date, "removed", "will remove"));
            if self.is_gone(date) { found.mistake(sentence) } else { found.warning(sentence) }
        }
    }

    /// Checks the document with a value that a caller may set, and reports the faults that this value causes.
    pub(crate) fn check_with(&self, at: &str, value: Value, field: &Field<'_>, found: &mut OfProfile<'_>) {
        let mut document = self.document.clone();
        let Some(place) = document.pointer_mut(at) else { return };
        *place = value;
        for fault in faults(&document, self.kind.rule()) {
            // A fault elsewhere is not this field's.
            if format!("{}/", pointer(&fault.place)).starts_with(&format!("{at}/")) {
                self.tell(&fault, &document, Some(field), found);
            }
        }
        if !field.any_text {
            self.names(&document, Some(field), found);
        } else if self.kind.models().iter().any(|(place, _)| *place == at) {
            let Field { name, .. } = field;
            found
                .warning(format!("the field {name} lets callers write any text to {at:?}. Use \"one_of\" for models."));
        }
    }

    fn tell(&self, fault: &Fault, document: &Value, field: Option<&Field<'_>>, found: &mut OfProfile<'_>) {
        let place = pointer(&fault.place);
        let value = document.pointer(&place).unwrap_or(&Value::Null);
        let any_text = field.is_some_and(|field| field.any_text);
        if place == VOICE && value.is_string() && !any_text {
            return; // `names` reports it.
        }
        let is = match field {
            Some(Field { name, any_text: true }) => {
                format!("the field {name} lets callers write any text to {place:?}")
            }
            Some(Field { name, .. }) => format!("the field {name} can set {place:?} to {}", shown(value)),
            None => format!("{place:?} is {}", shown(value)),
        };
        match &fault.kind {
            FaultKind::Missing => found.mistake(format!("{place:?} is missing, and OpenAI requires it.")),
            FaultKind::WrongType(wanted) => {
                let wanted = wanted
                    .replace("an array", "a list")
                    .replace("a string", "text")
                    .replace("a boolean", "true or false");
                let wanted = wanted.replace("an integer", "a whole number");
                found.mistake(format!("{is}, but OpenAI accepts {wanted}.{}", without_quotes(value)));
            }
            FaultKind::OutOfRange(low, high) => {
                let endless = *high == i64::MAX.to_string() || *high == f64::MAX.to_string();
                let range = match (endless, low == high) {
                    (true, _) => format!("at least {low}"),
                    (_, true) => format!("only {low}"),
                    _ => format!("{low} to {high}"),
                };
                found.mistake(format!("{is}, but OpenAI accepts {range}."));
            }
            FaultKind::NotSingle => found.mistake(format!("{is}, but OpenAI accepts only one entry.")),
            FaultKind::NoChoice(choices) => {
                let hint = value.as_str().map_or_else(String::new, |word| did_you_mean(word, choices.iter().copied()));
                let choices = any_of(choices.iter().copied());
                found.mistake(format!("{is}, but OpenAI accepts {choices}.{hint}{}", without_quotes(value)));
            }
            FaultKind::Unknown(known) => self.unknown(&fault.place, known, found),
        }
    }

    /// Reports a field that the schema does not have. It is a mistake if it was the beta API's, else a warning, since
    /// OpenAI adds fields.
    fn unknown(&self, place: &[Step], known: &[&'static str], found: &mut OfProfile<'_>) {
        let at = pointer(place);
        let Some(Step::Field(name)) = place.last() else { return };
        if let ([_], Some((_, moved, write))) = (place, MOVED.iter().find(|(moved, ..)| moved == name)) {
            let now = moved.filter(|moved| has(self.kind.rule(), moved));
            found.mistake(match now {
                Some(now) if !write.is_empty() => {
                    format!("{at:?} was a field of OpenAI's beta API. Write {write} at {now:?} instead.")
                }
                Some(now) => format!("{at:?} was a field of OpenAI's beta API. Move the value to {now:?}."),
                None => format!("{at:?} was a field of OpenAI's beta API and is gone. Remove it."),
            });
            return;
        }
        let absent = known.iter().copied();
        let hint = match nearest(name, absent.clone()) {
            Some(near) => format!("Did you mean {near:?}?"),
            None => match elsewhere(self.kind.rule(), name).as_slice() {
                [] => format!("Known fields there: {}.", listed(absent)),
                places => {
                    format!("OpenAI accepts it at {}.", any_of(places.iter().map(String::as_str)))
                }
            },
        };
        found.warning(format!("OpenAI's schema has no {at:?}. {hint}"));
    }

    /// Checks the names of voices and models against the lists.
    fn names(&self, document: &Value, field: Option<&Field<'_>>, found: &mut OfProfile<'_>) {
        let text =
            |document: &'_ Value, place: &str| document.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let is_news = |place: &str| field.is_none() || text(document, place) != text(&self.document, place);
        let is = |place: &str, name: &str| match field {
            Some(field) => format!("the field {} can set {place:?} to {}", field.name, quoted(name)),
            None => format!("{place:?} is {}", quoted(name)),
        };
        if let Some(voice) = text(document, VOICE).filter(|_| self.kind == Kind::Realtime && is_news(VOICE)) {
            let is = is(VOICE, &voice);
            if VOICES.contains(&voice.as_str()) {
            } else if let Some(right) = same_letters(&voice, VOICES) {
                found.mistake(format!("{is}, but OpenAI writes that voice {right:?}."));
            } else {
                let hint = did_you_mean(&voice, VOICES);
                found.warning(format!("{is}, which is not a known voice ({}).{hint}", VOICES.join(", ")));
            }
        }
        for (place, purpose) in self.kind.models() {
            if let Some(model) = text(document, place).filter(|_| is_news(place)) {
                self.model(&model, *purpose, &is(place, &model), found);
            }
        }
    }

    fn model(&self, model: &str, purpose: Purpose, is: &str, found: &mut OfProfile<'_>) {
        match fate(model) {
            Fate::Ends(date, replacement) => {
                let when = self.ends(date, "was shut down", "will be shut down");
                let sentence = format!("{is}, which {when} on {date}. Use {replacement:?}.");
                if self.is_gone(date) { found.mistake(sentence) } else { found.warning(sentence) }
            }
            Fate::Lives => {}
            // Another server may know it: on Azure, operators choose the names.
            Fate::Unknown if !is_live(model) => {
                let fits = |known: &&Model| known.purpose == purpose && !known.is_gone(self.today);
                let names = || MODELS.iter().filter(fits).map(|model| model.id);
                let meant = same_letters(model, names());
                let hint =
                    meant.map_or_else(|| did_you_mean(model, names()), |right| format!(" Did you mean {right:?}?"));
                found.warning(format!("{is}, which is not a known model.{hint}"));
                return;
            }
            Fate::Unknown => {}
        }
        let listed = MODELS.iter().find(|listed| listed.id == model).map(|listed| listed.purpose);
        let listed = listed.or_else(|| is_live(model).then_some(Purpose::Live));
        let Some(listed) = listed else { return };
        if listed == Purpose::Live {
            found.mistake(format!(
                "{is}, a model of GPT-Live, which has no ephemeral tokens. Use \"gpt-realtime-2.1\"."
            ));
        } else if listed != purpose {
            let (of, for_) = (sessions(listed), sessions(purpose));
            found.warning(format!("{is}, which is a model for {of}, not for {for_}."));
        }
    }

    /// Whether this date has come. Until then an announced end is only a warning, so that other fixes can still be
    /// deployed.
    fn is_gone(&self, date: &str) -> bool {
        *date <= *self.today.to_string()
    }

    fn ends(&self, date: &str, past: &'static str, future: &'static str) -> &'static str {
        if self.is_gone(date) { past } else { future }
    }
}

/// Whether it is a model of GPT-Live, even an unlisted one: `gpt-live-` and a version.
fn is_live(model: &str) -> bool {
    model.strip_prefix("gpt-live-").is_some_and(|version| version.starts_with(|digit: char| digit.is_ascii_digit()))
}

fn sessions(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Conversation => "conversations",
        Purpose::Transcription => "transcription",
        Purpose::Translation => "translation",
        Purpose::Live => "GPT-Live",
    }
}

fn pointer(place: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
        Step::Entry(at) => format!("/{at}"),
    };
    place.iter().map(step).collect()
}

/// Whether a rule has a place.
fn has(rule: &Rule, place: &str) -> bool {
    let name = place.rsplit('/').next().unwrap_or_default();
    elsewhere(rule, name).iter().any(|found| found == place)
}

/// The places at which a rule has a field of that name. Lists are not searched.
fn elsewhere(rule: &Rule, name: &str) -> Vec<String> {
    match rule {
        Rule::Object(fields) | Rule::Typed(fields, _) => fields
            .iter()
            .flat_map(|field| {
                let own = (field.name == name).then(String::new);
                let inside = elsewhere(&field.rule, name);
                own.into_iter().chain(inside).map(|rest| format!("/{}{rest}", field.name)).collect::<Vec<_>>()
            })
            .collect(),
        Rule::Either(rules) => rules.iter().flat_map(|rule| elsewhere(rule, name)).collect(),
        _ => Vec::new(),
    }
}

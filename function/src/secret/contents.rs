//! The contents of the secret: API key, identifier key, block list, the proxy's secret.
//!
//! operate/contents.py has the same rules and sentences, and function/tests/secrets.json the samples for both.

use ring::hmac;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Map, Value};
use subtle::{Choice, ConstantTimeEq};

use super::{
    block_list::BlockList,
    key::{self, Unusable},
};
use crate::net::clock::Moment;

const IDENTIFIER_KEY: &str = "SAFETY_IDENTIFIER_KEY";
const BLOCKED: &str = "BLOCKED_CALLERS";
const PROXY: &str = "PROXY_SECRET";
const PREVIOUS_PROXY: &str = "PREVIOUS_PROXY_SECRET";
const PREVIOUS_KEY: &str = "PREVIOUS_OPENAI_API_KEY";

/// The contents of a usable secret.
#[derive(Debug)]
pub struct Secret {
    /// The OpenAI API key: visible ASCII, as a header requires.
    pub api_key: SecretString,
    /// The previous API key, used only to end the calls that it made.
    pub previous_api_key: Option<SecretString>,
    /// The key of the HMAC that makes safety identifiers.
    pub identifier_key: SecretSlice<u8>,
    /// The callers that the operator has blocked.
    blocked: BlockList,
    /// The secret that proves the operator's proxy.
    proxy: Option<SecretString>,
    /// The secret before it, which the proxy may still send.
    previous_proxy: Option<SecretString>,
    /// When the key was read.
    pub read: Moment,
    /// Why the key is that of the secret before: the fault of the new one.
    pub kept_key: Option<Unusable>,
    /// The fields that cannot be read, as clauses that never quote them.
    pub faults: Vec<&'static str>,
}

impl Secret {
    /// Whether the operator has blocked the caller with this safety identifier. The list is in the secret, so it is as
    /// fresh as the key and costs neither a request nor a permission.
    pub fn blocks(&self, safety_identifier: &str) -> bool {
        self.blocked.has(safety_identifier)
    }

    /// Whether there is a secret that proves the operator's proxy.
    pub fn has_proxy(&self) -> bool {
        self.proxies().next().is_some()
    }

    /// Whether this proves the operator's proxy. The time of the comparison depends on the lengths only.
    pub fn is_of_proxy(&self, proof: &SecretString) -> bool {
        let proof = proof.expose_secret().as_bytes();
        let matching = self.proxies().map(|secret| secret.expose_secret().as_bytes().ct_eq(proof));
        matching.fold(Choice::from(0), |any, one| any | one).into()
    }

    fn proxies(&self) -> impl Iterator<Item = &SecretString> {
        self.proxy.iter().chain(&self.previous_proxy)
    }

    /// Whether both have the same API key.
    pub fn has_key_of(&self, other: &Self) -> bool {
        self.api_key.expose_secret() == other.api_key.expose_secret()
    }
}

/// Reads the text of the secret with that ARN: a JSON object with `OPENAI_API_KEY` and, optionally,
/// `SAFETY_IDENTIFIER_KEY`, `BLOCKED_CALLERS`, `PROXY_SECRET`, `PREVIOUS_PROXY_SECRET` and `PREVIOUS_OPENAI_API_KEY`, or just
/// the key.
///
/// A field that cannot be read does not make the others unusable: it keeps its value of the secret `before`, if there is
/// one. So a mistake neither takes a good key away nor unblocks a caller.
///
/// # Errors
/// If the text as a whole cannot be read, or has no usable key and there was none before.
pub fn parse(secret: &SecretString, arn: &str, before: Option<&Secret>) -> Result<Secret, Unusable> {
    // Some editors begin a file with a byte order mark.
    let text = secret.expose_secret().trim_start_matches('\u{feff}').trim();
    // A key or an object that a program has written as a JSON string.
    let decoded = if text.starts_with('"') { serde_json::from_str::<String>(text).ok() } else { None };
    let text = decoded.as_deref().unwrap_or(text).trim();
    if !text.starts_with('{') {
        return Ok(Secret::new(key::parse(text)?, derived(arn)));
    }
    // serde's messages may quote the secret, so they are left out.
    let fields: Map<String, Value> = serde_json::from_str(text).map_err(|_| {
        Unusable("it begins with {, but is not a JSON object: correct it in the Secrets Manager console")
    })?;
    from_fields(&fields, arn, before)
}

fn from_fields(fields: &Map<String, Value>, arn: &str, before: Option<&Secret>) -> Result<Secret, Unusable> {
    let mut faults = Vec::new();
    let api_key = match fields.get(key::NAME) {
        None | Some(Value::Null) => Err(Unusable("its JSON has no field OPENAI_API_KEY: run make key")),
        Some(Value::String(text)) => key::parse(text),
        Some(_) => Err(Unusable("OPENAI_API_KEY is not text: run make key")),
    };
    let identifier_key = match text(fields.get(IDENTIFIER_KEY)) {
        Ok(Some(key)) => key.as_bytes().to_vec().into(),
        Ok(None) => derived(arn),
        Err(NotText) => {
            faults.push("SAFETY_IDENTIFIER_KEY is not text");
            before.map_or_else(|| derived(arn), |before| before.identifier_key.clone())
        }
    };
    let blocked = BlockList::parse(fields.get(BLOCKED)).unwrap_or_else(|readable| {
        faults.push("BLOCKED_CALLERS is not a list of identifiers");
        before.map_or_else(BlockList::default, |before| before.blocked.clone()).with(&readable)
    });
    let mut proxy = |name, fault, before: Option<&Option<SecretString>>| match text(fields.get(name)) {
        Ok(secret) => secret.map(SecretString::from),
        Err(NotText) => {
            faults.push(fault);
            before.cloned().flatten()
        }
    };
    let current = proxy(PROXY, "PROXY_SECRET is not text", before.map(|before| &before.proxy));
    let previous =
        proxy(PREVIOUS_PROXY, "PREVIOUS_PROXY_SECRET is not text", before.map(|before| &before.previous_proxy));
    let before_previous_key = || before.and_then(|before| before.previous_api_key.clone());
    let previous_api_key = match text(fields.get(PREVIOUS_KEY)).map(|text| text.map(key::parse)) {
        Ok(None) => None,
        Ok(Some(Ok(key))) => Some(key.into()),
        Ok(Some(Err(_))) => {
            faults.push("PREVIOUS_OPENAI_API_KEY is not a key");
            before_previous_key()
        }
        Err(NotText) => {
            faults.push("PREVIOUS_OPENAI_API_KEY is not text");
            before_previous_key()
        }
    };
    let (api_key, read, kept_key) = match (api_key, before) {
        (Ok(key), _) => (key.into(), Moment::now(), None),
        (Err(fault), Some(before)) => (before.api_key.clone(), before.read, Some(fault)),
        (Err(fault), None) => return Err(fault),
    };
    Ok(Secret {
        api_key,
        previous_api_key,
        identifier_key,
        blocked,
        proxy: current,
        previous_proxy: previous,
        read,
        kept_key,
        faults,
    })
}

/// A field that is neither text nor null.
struct NotText;

/// The text of a field, or `None` if it is absent or has no letters.
fn text(value: Option<&Value>) -> Result<Option<&str>, NotText> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(NotText),
    }
}

/// The contents of a key without a secret. The identifier key is derived from the key: as secret, but another value.
pub fn from_key(api_key: &SecretString) -> Result<Secret, Unusable> {
    let key = key::parse(api_key.expose_secret())?;
    Ok(Secret::new(key, derived(key)))
}

impl Secret {
    /// A key, and nobody is blocked.
    fn new(api_key: &str, identifier_key: SecretSlice<u8>) -> Self {
        Self {
            api_key: api_key.into(),
            previous_api_key: None,
            identifier_key,
            blocked: BlockList::default(),
            proxy: None,
            previous_proxy: None,
            read: Moment::now(),
            kept_key: None,
            faults: Vec::new(),
        }
    }
}

/// An identifier key for a secret without one. Derived from the secret's ARN, it survives a new API key, and with it quotas
/// and blocks. But the ARN is not secret, and the identifiers can be computed from it.
fn derived(from: &str) -> SecretSlice<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, from.as_bytes());
    hmac::sign(&key, b"token-mint safety identifier").as_ref().to_vec().into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-mint-AbCdEf";

    fn parsed(secret: &str) -> Secret {
        parse(&secret.into(), ARN, None).expect(secret)
    }

    fn after(before: &str, secret: &str) -> Result<Secret, Unusable> {
        parse(&secret.into(), ARN, Some(&parsed(before)))
    }

    fn identifier_key(secret: &Secret) -> String {
        hex::encode(secret.identifier_key.expose_secret())
    }

    /// A sample of `function/tests/secrets.json`, with the reading that operate/contents.py must have as well.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        secret: String,
        /// `None`: the secret is unusable.
        key: Option<String>,
        identifier_key: Option<String>,
        #[serde(default)]
        blocked: Vec<String>,
        /// The sentences: of the unusable secret, or of its fields.
        #[serde(default)]
        faults: Vec<String>,
    }

    #[test]
    fn every_sample_is_read_as_described() {
        let samples: Vec<Sample> = serde_json::from_str(include_str!("../../tests/secrets.json")).unwrap();
        for sample in samples {
            let read = parse(&sample.secret.as_str().into(), ARN, None);
            let (key, identifier, blocked, faults) = match &read {
                Ok(read) => (
                    Some(read.api_key.expose_secret().to_owned()),
                    Some(read.identifier_key.expose_secret().to_vec()),
                    read.blocked.sorted(),
                    read.faults.iter().map(ToString::to_string).collect(),
                ),
                Err(fault) => (None, None, vec![], vec![fault.to_string()]),
            };
            let own = sample.identifier_key.map_or_else(|| derived(ARN).expose_secret().to_vec(), Into::into);
            assert_eq!(key, sample.key, "{}: {faults:?}", sample.secret);
            assert!(identifier.is_none_or(|identifier| identifier == own), "{}", sample.secret);
            assert_eq!((blocked.iter().map(ToString::to_string).collect(), faults), (sample.blocked, sample.faults));
        }
    }

    #[test]
    fn a_missing_identifier_key_does_not_depend_on_the_api_key() {
        let plain = identifier_key(&parsed("sk-a"));
        for other in ["sk-b", "\"sk-c\"", r#"{"OPENAI_API_KEY": "sk-d", "SAFETY_IDENTIFIER_KEY": " "}"#] {
            assert_eq!(plain, identifier_key(&parsed(other)), "{other}");
        }
        assert_ne!(plain, identifier_key(&parse(&"sk-a".into(), "another ARN", None).unwrap()));
        let given = |key: &str| identifier_key(&from_key(&key.into()).unwrap());
        assert_ne!(given("sk-a"), given("sk-b"), "without a secret, it is derived from the key");
    }

    #[test]
    fn an_unusable_secret_is_never_quoted() {
        for secret in [
            r#"{"SAFETY_IDENTIFIER_KEY": "hunter2"}"#,
            "sk-hunter2\nsk-b",
            "sk-hunter2\u{e9}",
            "OPENAI_API_KEY=hunter2",
            "Bearer hunter2",
            r#"{"OPENAI_API_KEY": "sk-hunter2""#,
            r#"{"OPENAI_API_KEY": ["hunter2"]}"#,
        ] {
            let error = parse(&secret.into(), ARN, None).expect_err(secret);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_secret_without_a_key_takes_no_good_key_away() {
        let before = r#"{"OPENAI_API_KEY": "sk-good", "SAFETY_IDENTIFIER_KEY": "i"}"#;
        for unusable in ["", "null", "<html>", "OPENAI_API_KEY=sk-b", "[1]", "{", "sk a"] {
            assert!(after(before, unusable).is_err(), "the whole secret before it serves");
        }
        let caller = "0a".repeat(32);
        for key in ["null", "5", r#""""#, r#""export A=sk-b""#, r#"["sk-b"]"#] {
            let secret = format!(r#"{{"OPENAI_API_KEY": {key}, "BLOCKED_CALLERS": ["{caller}"]}}"#);
            let read = after(before, &secret).unwrap();
            assert_eq!(read.api_key.expose_secret(), "sk-good");
            assert!(read.kept_key.is_some() && read.blocks(&caller), "the other fields are read: {secret}");
        }
        assert!(after(before, "sk-new").unwrap().kept_key.is_none());
    }

    #[test]
    fn a_field_that_cannot_be_read_keeps_its_value() {
        let (caller, other) = ("0a".repeat(32), "0b".repeat(32));
        let before = format!(
            r#"{{"OPENAI_API_KEY": "sk-a", "SAFETY_IDENTIFIER_KEY": "i", "BLOCKED_CALLERS": "{caller}",
                "PROXY_SECRET": "new", "PREVIOUS_PROXY_SECRET": "old", "PREVIOUS_OPENAI_API_KEY": "sk-0"}}"#
        );
        let read = |fields: &str| after(&before, &format!(r#"{{"OPENAI_API_KEY": "sk-b"{fields}}}"#)).unwrap();
        let wrong = read(&format!(
            r#", "SAFETY_IDENTIFIER_KEY": 5, "BLOCKED_CALLERS": ["{other}", 5], "PROXY_SECRET": [],
                "PREVIOUS_PROXY_SECRET": {{}}, "PREVIOUS_OPENAI_API_KEY": 5"#
        ));
        assert_eq!(wrong.api_key.expose_secret(), "sk-b");
        assert_eq!(identifier_key(&wrong), identifier_key(&parsed(&before)));
        assert!(wrong.blocks(&caller) && wrong.blocks(&other));
        assert!(wrong.is_of_proxy(&"new".into()) && wrong.is_of_proxy(&"old".into()));
        let previous = |secret: &Secret| secret.previous_api_key.as_ref().map(|key| key.expose_secret().to_owned());
        assert_eq!(previous(&wrong).as_deref(), Some("sk-0"));
        let fields = [
            "SAFETY_IDENTIFIER_KEY",
            "BLOCKED_CALLERS",
            "PROXY_SECRET",
            "PREVIOUS_PROXY_SECRET",
            "PREVIOUS_OPENAI_API_KEY",
        ];
        assert_eq!(wrong.faults.iter().map(|fault| fault.split(' ').next().unwrap()).collect::<Vec<_>>(), fields);
        let removed = read("");
        assert!(!removed.blocks(&caller) && !removed.has_proxy() && removed.faults.is_empty());
        assert_eq!(previous(&removed), None);
        assert_eq!(previous(&read(r#", "PREVIOUS_OPENAI_API_KEY": "Bearer sk-2""#)).as_deref(), Some("sk-0"));
        assert_eq!(previous(&read(r#", "PREVIOUS_OPENAI_API_KEY": " 'sk-2' ""#)).as_deref(), Some("sk-2"));
    }

    #[test]
    fn a_proxy_is_proved_by_the_current_secret_and_by_the_one_before() {
        let of = |fields: &str| parsed(&format!("{{\"OPENAI_API_KEY\": \"sk-a\"{fields}}}"));
        let proves =
            |secret: &Secret| ["new", "old", "ne", "newer", "", " "].map(|text| secret.is_of_proxy(&text.into()));
        let both = of(r#", "PROXY_SECRET": " new\n", "PREVIOUS_PROXY_SECRET": "old""#);
        assert_eq!((both.has_proxy(), proves(&both)), (true, [true, true, false, false, false, false]));
        let one = of(r#", "PROXY_SECRET": "new""#);
        assert_eq!((one.has_proxy(), proves(&one)), (true, [true, false, false, false, false, false]));
        for fields in ["", r#", "PROXY_SECRET": null"#, r#", "PROXY_SECRET": "", "PREVIOUS_PROXY_SECRET": " ""#] {
            let none = of(fields);
            assert_eq!((none.has_proxy(), proves(&none)), (false, [false; 6]), "{fields}");
        }
        assert!(!parsed("sk-a").has_proxy());
        assert!(!format!("{both:?}").contains("new"), "{both:?}");
    }
}

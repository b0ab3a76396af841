//! The contents of the secret: API key, identifier key, block list, the proxy's secret.

use ring::hmac;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::Deserialize;
use subtle::{Choice, ConstantTimeEq};

use crate::net::clock::Moment;

/// The contents of a usable secret.
#[derive(Debug)]
pub struct Secret {
    /// The OpenAI API key: visible ASCII, as a header requires.
    pub api_key: SecretString,
    /// The key of the HMAC that makes safety identifiers.
    pub identifier_key: SecretSlice<u8>,
    /// The safety identifiers of the callers that the operator has blocked.
    blocked: Vec<String>,
    /// The secrets that prove the operator's proxy: the current one, and the one before it.
    proxy: Vec<SecretString>,
    pub read: Moment,
}

impl Secret {
    /// Whether the operator has blocked the caller with this safety identifier. The list is in the secret, so it is as
    /// fresh as the key and costs neither a request nor a permission.
    pub fn blocks(&self, safety_identifier: &str) -> bool {
        self.blocked.iter().any(|blocked| blocked.trim().eq_ignore_ascii_case(safety_identifier))
    }

    /// Whether there is a secret that proves the operator's proxy.
    pub fn has_proxy(&self) -> bool {
        !self.proxy.is_empty()
    }

    /// Whether this proves the operator's proxy. The time of the comparison depends on the lengths only.
    pub fn is_of_proxy(&self, proof: &SecretString) -> bool {
        let proof = proof.expose_secret().as_bytes();
        let matching = self.proxy.iter().map(|secret| secret.expose_secret().as_bytes().ct_eq(proof));
        matching.fold(Choice::from(0), |any, one| any | one).into()
    }
}

/// Why a secret cannot be used, as a clause that never quotes it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub &'static str);

/// Reads the secret's text: a JSON object with `OPENAI_API_KEY` and, optionally, `SAFETY_IDENTIFIER_KEY`, a list of
/// `BLOCKED_CALLERS`, `PROXY_SECRET` and `PREVIOUS_PROXY_SECRET`, or just the key.
pub fn parse(secret: &SecretString) -> Result<Secret, Unusable> {
    #[derive(Deserialize)]
    struct Fields {
        #[serde(rename = "OPENAI_API_KEY")]
        api_key: Option<String>,
        #[serde(rename = "SAFETY_IDENTIFIER_KEY")]
        identifier_key: Option<String>,
        #[serde(rename = "BLOCKED_CALLERS")]
        blocked: Option<Vec<String>>,
        #[serde(rename = "PROXY_SECRET")]
        proxy: Option<String>,
        #[serde(rename = "PREVIOUS_PROXY_SECRET")]
        previous_proxy: Option<String>,
    }

    if !secret.expose_secret().trim_start().starts_with('{') {
        return from_keys(secret.expose_secret(), None);
    }
    // serde's messages may quote the secret, so they are left out.
    let fields: Fields = serde_json::from_str(secret.expose_secret())
        .map_err(|_| Unusable("it begins with {, but is not a JSON object with text fields and lists of text"))?;
    let api_key = fields.api_key.ok_or(Unusable("its JSON has no field OPENAI_API_KEY"))?;
    let (api_key, identifier_key) = (SecretString::from(api_key), fields.identifier_key.map(SecretString::from));
    let read = from_keys(api_key.expose_secret(), identifier_key.as_ref().map(ExposeSecret::expose_secret))?;
    let proxy = [fields.proxy, fields.previous_proxy].into_iter().flatten();
    // An empty header proves nothing.
    let proxy = proxy.filter(|secret| !secret.trim().is_empty()).map(|secret| secret.trim().into()).collect();
    Ok(Secret { blocked: fields.blocked.unwrap_or_default(), proxy, ..read })
}

/// A secret without a block list and without a proxy. Without `identifier_key`, that is derived from the API key.
pub fn from_keys(api_key: &str, identifier_key: Option<&str>) -> Result<Secret, Unusable> {
    let text = api_key.trim();
    if text.is_empty() {
        return Err(Unusable("the key is empty"));
    }
    // A placeholder that is a sentence has spaces.
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unusable("the value of the key has spaces or characters that are not allowed in a key"));
    }
    let identifier_key = match identifier_key.map(str::trim).filter(|key| !key.is_empty()) {
        Some(key) => key.as_bytes().to_vec(),
        // Derived from the API key: as secret, but another value.
        None => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
            hmac::sign(&key, b"token-mint safety identifier").as_ref().to_vec()
        }
    };
    let (api_key, identifier_key) = (text.into(), identifier_key.into());
    Ok(Secret { api_key, identifier_key, blocked: Vec::new(), proxy: Vec::new(), read: Moment::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(secret: &str) -> Result<(String, String), String> {
        let parsed = parse(&SecretString::from(secret)).map_err(|error| error.to_string())?;
        let identifier_key = String::from_utf8_lossy(parsed.identifier_key.expose_secret()).into_owned();
        Ok((parsed.api_key.expose_secret().to_owned(), identifier_key))
    }

    #[test]
    fn a_secret_is_json_or_just_the_key() {
        assert_eq!(read(r#"{"OPENAI_API_KEY": " sk-a\n", "SAFETY_IDENTIFIER_KEY": " b ", "note": 1}"#), {
            Ok(("sk-a".to_owned(), "b".to_owned()))
        });
        assert_eq!(read(" sk-a\r\n").unwrap().0, "sk-a");
        assert_eq!(read("\n{\"OPENAI_API_KEY\": \"sk-a\"}").unwrap().0, "sk-a");
    }

    #[test]
    fn a_missing_identifier_key_is_derived_from_the_api_key() {
        let derived = read("sk-a").unwrap().1;
        assert_eq!(derived, read(r#"{"OPENAI_API_KEY": "sk-a", "SAFETY_IDENTIFIER_KEY": ""}"#).unwrap().1);
        assert_ne!(derived, read("sk-b").unwrap().1);
        assert_ne!(derived, "sk-a");
    }

    #[test]
    fn an_unusable_secret_is_refused_and_never_quoted() {
        for (secret, sentence) in [
            ("", "the key is empty"),
            (" \n", "the key is empty"),
            (r#"{"OPENAI_API_KEY": " "}"#, "the key is empty"),
            (r#"{"SAFETY_IDENTIFIER_KEY": "hunter2"}"#, "its JSON has no field OPENAI_API_KEY"),
            (r#"{"OPENAI_API_KEY": "not set yet: run make key"}"#, "has spaces"),
            ("sk-hunter2\nsk-b", "has spaces"),
            ("sk-hunter2\u{e9}", "has spaces or characters"),
            (r#"{"OPENAI_API_KEY": "sk-hunter2""#, "but is not a JSON object"),
            (r#"{"OPENAI_API_KEY": "sk-hunter2", "BLOCKED_CALLERS": "all"}"#, "lists of text"),
            (r#"{"OPENAI_API_KEY": 5}"#, "but is not a JSON object"),
        ] {
            let error = read(secret).expect_err(secret);
            assert!(error.contains(sentence), "{secret}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_proxy_is_proved_by_the_current_secret_and_by_the_one_before() {
        let of = |fields: &str| parse(&format!("{{\"OPENAI_API_KEY\": \"sk-a\"{fields}}}").into()).unwrap();
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
        assert!(!parse(&"sk-a".into()).unwrap().has_proxy());
        assert!(!format!("{both:?}").contains("new"), "{both:?}");
    }

    #[test]
    fn a_caller_is_blocked_if_the_list_has_it() {
        let list = r#"{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": ["0a1b", " 2C3D\n"]}"#;
        let parsed = parse(&list.into()).unwrap();
        assert_eq!(
            ["0a1b", "2c3d", "0a1", "", "0a1b2c3d"].map(|caller| parsed.blocks(caller)),
            [true, true, false, false, false]
        );
        for none in ["sk-a", r#"{"OPENAI_API_KEY": "sk-a", "BLOCKED_CALLERS": null}"#] {
            assert!(!parse(&none.into()).unwrap().blocks("0a1b"));
        }
    }
}

//! The caller's sign-in, as the gateway in front of the function verified it, and the subject that it names.
//!
//! A signed-in caller is never identified by an address: a sign-in without a usable subject is refused.

use std::{collections::BTreeMap, fmt};

use serde_json::value::RawValue;

use super::caller::Caller;

/// The claim that names the caller, unless the operator chooses another one.
pub const DEFAULT_CLAIM: &str = "sub";

/// The member that names the principal in the result of a REST API's Lambda authorizer.
const PRINCIPAL: &str = "principalId";

/// The gateway's result of a sign-in.
pub enum SignIn {
    /// The gateway verified no sign-in.
    Anonymous,
    /// The verified claims of a token, in JSON.
    Claims(Box<RawValue>),
    /// The context that a Lambda authorizer returned, in JSON.
    Context(Box<RawValue>),
    /// The identifier of the IAM principal, or of the identity in an identity pool, that signed the request.
    Principal(String),
    /// A sign-in that contains no claims, context or principal.
    Nameless,
    /// A load balancer's headers for a signed-in user. A caller can send the same headers to a load balancer that signs
    /// nobody in, and only a signature in one of them tells the two apart (AWS, "Authenticate users using an Application
    /// Load Balancer": verify the signature and the signer). The function does not fetch the keys for that.
    Unverified,
}

/// Why a sign-in names no caller.
#[derive(Debug, thiserror::Error)]
pub enum NoSubject {
    #[error("the claim '{0}' is missing or empty, or is neither text nor a number")]
    Claim(String),
    #[error("the result of the gateway's authorizer contains no claims and no principal")]
    Nameless,
    #[error("the function cannot verify the sign-in of a load balancer")]
    Unverified,
}

impl SignIn {
    /// The caller that the sign-in names by `claim`; `None` if there is no sign-in.
    ///
    /// # Errors
    /// If there is a sign-in without a usable name.
    pub fn caller(&self, claim: &str) -> Result<Option<Caller>, NoSubject> {
        let name = match self {
            Self::Anonymous => return Ok(None),
            Self::Claims(claims) => usable(claims, claim),
            Self::Context(context) => match usable(context, claim) {
                // The principal stands for the subject only, not for a claim that the operator chose.
                None if claim == DEFAULT_CLAIM && !contains(context, claim) => usable(context, PRINCIPAL),
                name => name,
            },
            Self::Principal(principal) => return Ok(Some(Caller::Subject(principal.clone()))),
            Self::Nameless => return Err(NoSubject::Nameless),
            Self::Unverified => return Err(NoSubject::Unverified),
        };
        let value = name.ok_or_else(|| NoSubject::Claim(claim.to_owned()))?;
        Ok(Some(match claim {
            DEFAULT_CLAIM => Caller::Subject(value),
            other => Caller::Claim { name: other.to_owned(), value },
        }))
    }
}

/// Without the claims: they are personal data.
impl fmt::Debug for SignIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SignIn")
    }
}

/// The members of a JSON object; none for any other JSON.
pub fn members(object: &RawValue) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(object.get()).unwrap_or_default()
}

/// A value that can name a caller: text that is not blank, or a number as it is written. A parsed number would not do,
/// because two long numbers can have the same floating-point value.
pub fn name(value: &RawValue) -> Option<String> {
    let text = match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).ok(),
        Some(b'-' | b'0'..=b'9') => Some(value.get().to_owned()),
        _ => None,
    };
    text.filter(|text| !text.trim().is_empty())
}

fn usable(object: &RawValue, member: &str) -> Option<String> {
    members(object).get(member).and_then(|value| name(value))
}

fn contains(object: &RawValue, member: &str) -> bool {
    members(object).contains_key(member)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn claims(claims: &Value) -> SignIn {
        SignIn::Claims(to_raw_value(claims).unwrap())
    }

    fn context(context: &Value) -> SignIn {
        SignIn::Context(to_raw_value(context).unwrap())
    }

    fn text(sign_in: &SignIn, claim: &str) -> Result<Option<String>, String> {
        sign_in.caller(claim).map(|caller| caller.map(|caller| caller.to_string())).map_err(|error| error.to_string())
    }

    fn named(name: &str) -> Result<Option<String>, String> {
        Ok(Some(name.to_owned()))
    }

    #[test]
    fn text_and_numbers_name_a_caller() {
        for (subject, expected) in [
            (json!("auth0|1"), "subject:auth0|1"),
            (json!("5"), "subject:5"),
            (json!(5), "subject:5"),
            (json!(-5), "subject:-5"),
            (json!(" a "), "subject: a "),
            (json!("203.0.113.7"), "subject:203.0.113.7"),
        ] {
            assert_eq!(text(&claims(&json!({"iss": "x", "sub": subject})), "sub"), named(expected));
        }
    }

    #[test]
    fn long_numbers_stay_different() {
        let of = |sub: &str| SignIn::Claims(RawValue::from_string(format!("{{\"sub\": {sub}}}")).unwrap());
        assert_eq!(text(&of("123456789012345678901"), "sub"), named("subject:123456789012345678901"));
        assert_eq!(text(&of("123456789012345678902"), "sub"), named("subject:123456789012345678902"));
    }

    #[test]
    fn a_sign_in_without_a_usable_subject_is_an_error() {
        for unusable in [json!(null), json!(""), json!(" \t\n"), json!({"a": 1}), json!(["a"]), json!(true)] {
            let error = text(&claims(&json!({"sub": unusable, "principalId": "x"})), "sub").unwrap_err();
            assert!(error.starts_with("the claim 'sub' is missing or empty"), "{error}");
            let error = text(&context(&json!({"sub": unusable, "principalId": "x"})), "sub").unwrap_err();
            assert!(error.starts_with("the claim 'sub' is missing or empty"), "{error}");
        }
        let error = text(&claims(&json!({"sub": "x"})), "email").unwrap_err();
        assert!(error.starts_with("the claim 'email' is missing"), "{error}");
        assert!(text(&claims(&json!({"principalId": "x"})), "sub").is_err(), "a token cannot name its principal");
        assert!(text(&SignIn::Nameless, "sub").is_err());
        assert!(text(&SignIn::Unverified, "sub").is_err());
        assert_eq!(text(&SignIn::Anonymous, "sub"), Ok(None));
    }

    #[test]
    fn the_principal_of_a_lambda_authorizer_stands_for_the_subject_only() {
        let result = json!({"principalId": "u1", "email": "a@example.com", "integrationLatency": 3});
        assert_eq!(text(&context(&result), "sub"), named("subject:u1"));
        assert_eq!(text(&context(&result), "principalId"), named("claim:principalId u1"));
        assert_eq!(text(&context(&result), "email"), named("claim:email a@example.com"));
        assert!(text(&context(&result), "oid").is_err());
        assert_eq!(text(&context(&json!({"principalId": "u1", "sub": "s1"})), "sub"), named("subject:s1"));
        assert!(text(&context(&json!(null)), "sub").is_err());
    }

    #[test]
    fn another_claim_never_equals_a_subject() {
        let all = json!({"sub": "a", "email": "a", "https://example.com/user_id": "a"});
        assert_eq!(text(&claims(&all), "email"), named("claim:email a"));
        assert_eq!(text(&claims(&all), "https://example.com/user_id"), named("claim:https://example.com/user_id a"));
        assert_eq!(text(&SignIn::Principal("AIDA1".to_owned()), "email"), named("subject:AIDA1"));
    }

    #[test]
    fn debug_output_contains_no_claim() {
        assert_eq!(format!("{:?}", claims(&json!({"sub": "hunter2"}))), "SignIn");
    }
}

//! The sign-in that API Gateway or a function URL has verified, as its events state it.
//!
//! The forms, by AWS's developer guide for API Gateway and captured events:
//!
//! - A JWT authorizer of an HTTP API: `authorizer.jwt.claims`, all values as text.
//! - A Cognito authorizer of a REST API, and a JWT authorizer with payload 1.0: `authorizer.claims`. Without an authorizer,
//!   payload 1.0 has `{"claims": null, "scopes": null}`.
//! - A Lambda authorizer of an HTTP API: `authorizer.lambda`, its context, `null` if it returned none.
//! - A Lambda authorizer of a REST API: `authorizer.principalId`, and the context beside it.
//! - IAM, with an HTTP API or a function URL: `authorizer.iam`. With a REST API: `identity`.
//!
//! API keys and client certificates name a program rather than a person: they are not a sign-in.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admission::sign_in::{SignIn, members, name};

/// The `identity` of payload 1.0.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Identity {
    pub source_ip: Option<String>,
    /// The principal that signed the request with IAM, and the same one as `caller`.
    user: Option<String>,
    caller: Option<String>,
    user_arn: Option<String>,
    access_key: Option<String>,
    cognito_identity_id: Option<String>,
    cognito_authentication_type: Option<String>,
}

/// The sign-in in the result of an authorizer, or otherwise in the signature with IAM.
pub fn read(authorizer: Option<&RawValue>, identity: &Identity) -> SignIn {
    let Some(authorizer) = authorizer else { return of_identity(identity) };
    if !is_object(authorizer) {
        return SignIn::Nameless;
    }
    // No default: an authorizer's result that cannot be read is not the same as none.
    let Ok(result) = serde_json::from_str::<BTreeMap<String, &RawValue>>(authorizer.get()) else {
        return SignIn::Nameless;
    };
    let object = |name: &str| result.get(name).copied().filter(|value| is_object(value));
    if let Some(jwt) = object("jwt") {
        return match members(jwt).get("claims") {
            Some(claims) => SignIn::Claims((*claims).to_owned()),
            None => SignIn::Nameless,
        };
    }
    if let Some(claims) = object("claims") {
        return SignIn::Claims(claims.to_owned());
    }
    if let Some(context) = result.get("lambda") {
        return SignIn::Context((*context).to_owned());
    }
    if let Some(iam) = object("iam") {
        return of_iam(iam);
    }
    if result.values().all(|value| is_null(value)) {
        return of_identity(identity);
    }
    SignIn::Context(authorizer.to_owned())
}

fn of_iam(iam: &RawValue) -> SignIn {
    let iam = members(iam);
    let text = |name_of: &str| iam.get(name_of).and_then(|value| name(value));
    let pool = iam.get("cognitoIdentity").map(|pool| members(pool)).unwrap_or_default();
    let methods = pool.get("amr").and_then(|methods| serde_json::from_str::<Vec<String>>(methods.get()).ok());
    let is_guest = methods.is_some_and(|methods| methods.iter().any(|method| method == "unauthenticated"));
    let pool_identity = pool.get("identityId").and_then(|value| name(value));
    principal(is_guest, [pool_identity, text("userId"), text("callerId")]).unwrap_or(SignIn::Nameless)
}

fn of_identity(identity: &Identity) -> SignIn {
    let is_guest = identity.cognito_authentication_type.as_deref() == Some("unauthenticated");
    let names = [&identity.cognito_identity_id, &identity.user, &identity.caller].map(Clone::clone);
    let is_signed = identity.user_arn.is_some() || identity.access_key.is_some();
    principal(is_guest, names).unwrap_or(if is_signed { SignIn::Nameless } else { SignIn::Anonymous })
}

/// The first name that is not blank. All users of an identity pool share the name of a role, so the pool's own identity
/// comes first. A guest of a pool is not signed in, and can take a new identity at any time.
fn principal(is_guest: bool, names: [Option<String>; 3]) -> Option<SignIn> {
    if is_guest {
        return Some(SignIn::Anonymous);
    }
    names.into_iter().flatten().find(|name| !name.trim().is_empty()).map(SignIn::Principal)
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    /// The caller, or why there is none, by the claim `sub`.
    fn caller(authorizer: &Value, identity: &Value) -> Result<Option<String>, String> {
        let authorizer = (!authorizer.is_null()).then(|| to_raw_value(authorizer).unwrap());
        let identity: Identity = serde_json::from_value(identity.clone()).unwrap();
        let caller = read(authorizer.as_deref(), &identity).caller("sub");
        caller.map(|caller| caller.map(|caller| caller.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_result_that_cannot_be_read_is_not_the_same_as_none() {
        // The name of a member is half of a surrogate pair.
        let authorizer: Box<RawValue> = serde_json::from_str(r#"{"principalId": "a", "\ud800": 1}"#).unwrap();
        let identity = serde_json::from_str("{}").unwrap();
        assert!(matches!(read(Some(&authorizer), &identity), SignIn::Nameless));
    }

    #[test]
    fn each_form_of_a_sign_in_names_its_caller() {
        for (authorizer, expected) in [
            (json!({"jwt": {"claims": {"sub": "auth0|1", "iss": "x"}, "scopes": null}}), "subject:auth0|1"),
            (json!({"jwt": {"claims": {"sub": 5}, "scopes": null}}), "subject:5"),
            (json!({"claims": {"sub": "pool-user"}}), "subject:pool-user"),
            (json!({"claims": {"sub": "1"}, "scopes": ["a"], "principalId": "2"}), "subject:1"),
            (json!({"lambda": {"sub": "x"}}), "subject:x"),
            (json!({"principalId": "user|a1", "integrationLatency": 12}), "subject:user|a1"),
            (json!({"principalId": "x", "claims": "x"}), "subject:x"),
            (json!({"principalId": 7}), "subject:7"),
            (json!({"iam": {"userId": "AIDA1", "callerId": "AIDA1", "cognitoIdentity": null}}), "subject:AIDA1"),
            (
                json!({"iam": {"userId": "AROA1:CognitoIdentityCredentials",
                "cognitoIdentity": {"amr": ["authenticated"], "identityId": "eu-west-1:1"}}}),
                "subject:eu-west-1:1",
            ),
        ] {
            assert_eq!(caller(&authorizer, &json!({})), Ok(Some(expected.to_owned())), "{authorizer}");
        }
        let identity = json!({"user": "AIDA1", "caller": "AIDA1", "userArn": "arn:x", "sourceIp": "203.0.113.7"});
        for authorizer in [json!(null), json!({"claims": null, "scopes": null})] {
            assert_eq!(caller(&authorizer, &identity), Ok(Some("subject:AIDA1".to_owned())));
        }
    }

    #[test]
    fn a_sign_in_without_a_name_is_never_anonymous() {
        for authorizer in [
            json!({"jwt": {"claims": {"iss": "x"}}}),
            json!({"jwt": {"claims": null}}),
            json!({"jwt": {}}),
            json!({"jwt": "x"}),
            json!({"claims": {}}),
            json!({"lambda": null}),
            json!({"lambda": {}}),
            json!({"lambda": "x"}),
            json!({"iam": {}}),
            json!({"iam": {"userId": " "}}),
            json!({"principalId": ""}),
            json!({"principalId": null, "tier": "gold"}),
            json!({"other": {"sub": "x"}}),
            json!("x"),
            json!(5),
            json!([{"sub": "x"}]),
        ] {
            assert!(caller(&authorizer, &json!({})).is_err(), "{authorizer}");
        }
        assert!(caller(&json!(null), &json!({"userArn": "arn:x", "user": ""})).is_err());
    }

    #[test]
    fn without_a_sign_in_a_caller_is_anonymous() {
        for authorizer in [
            json!(null),
            json!({}),
            json!({"claims": null, "scopes": null}),
            json!({"iam": {"userId": "AROA1:x", "cognitoIdentity": {"amr": ["unauthenticated"], "identityId": "1"}}}),
        ] {
            assert_eq!(caller(&authorizer, &json!({"sourceIp": "::1", "user": null})), Ok(None), "{authorizer}");
        }
        let guest =
            json!({"cognitoIdentityId": "1", "cognitoAuthenticationType": "unauthenticated", "user": "AROA1:x"});
        assert_eq!(caller(&json!(null), &guest), Ok(None));
    }
}

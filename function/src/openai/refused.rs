//! A response of OpenAI that is not a success: the reason in it, and the retry and the wait that it asks for.

use std::{fmt, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{
    error_code::{ErrorCode, name},
    wait,
};

/// A response that is not a success, without any text of OpenAI's that may repeat parts of the request.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The status of the response.
    pub status: StatusCode,
    /// OpenAI's code, and the field of the request that it is about.
    pub code: ErrorCode,
    /// The wait that the headers ask for.
    pub wait: Option<Duration>,
    /// `x-should-retry`, which has precedence over the status.
    pub should_retry: Option<bool>,
    /// The fault of a body that is not a JSON document.
    fault: Option<&'static str>,
}

#[cfg(test)]
impl Refused {
    /// A response with that status and an empty document.
    pub(crate) fn of(status: StatusCode) -> Self {
        Self { status, code: ErrorCode::default(), wait: None, should_retry: None, fault: None }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, fault, .. } = self;
        match fault {
            Some(fault) => write!(formatter, "{status}, {fault}"),
            None => write!(formatter, "{status}, {code}"),
        }
    }
}

/// The kinds of refusals, each a variant of [`super::OpenAiError`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reason {
    RejectedKey,
    Forbidden,
    RejectedSession,
    OutOfQuota,
    Busy,
    Unavailable,
}

/// The body of a response, as far as it was read.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Vec<u8>),
    /// It has more bytes than are read.
    TooLarge,
    /// It did not arrive in time, or the connection broke.
    Incomplete,
}

impl Body {
    /// The bytes of a whole body.
    pub(super) fn bytes(&self) -> &[u8] {
        if let Self::Whole(body) = self { body } else { &[] }
    }

    /// Whether the body has OpenAI's form of an error: an object with a message and a type (OpenAI's API reference). A proxy or a
    /// load balancer before OpenAI answers with a page or with a document of another form.
    pub(super) fn is_openai_error(&self) -> bool {
        let document = serde_json::from_slice::<Value>(self.bytes()).ok();
        let error = document.as_ref().and_then(|document| document.get("error"));
        error
            .is_some_and(|error| ["message", "type"].iter().all(|field| error.get(field).is_some_and(Value::is_string)))
    }

    /// The reason why the body cannot be a JSON document, as a clause.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge => Some("its body is over 64 KiB"),
            Self::Incomplete => Some("its body did not arrive completely"),
            Self::Whole(body) => match body.trim_ascii() {
                [] => Some("its body is empty"),
                [b'<', ..] => Some("its body is HTML or XML"),
                _ => None,
            },
        }
    }
}

/// The account cannot pay or is not active, so that neither a wait nor another key of it helps. By code or type, without
/// capitals and separators: OpenAI's own, and those of servers with the same API.
const OUT_OF_QUOTA: [&str; 14] = [
    "insufficientquota",
    "exceededcurrentquota",
    "accessterminated",
    "hardlimitreached",
    "budgetexceeded",
    "budgetreached",
    "spendlimit",
    "creditsexhausted",
    "creditbalance",
    "trialexpired",
    "paymentrequired",
    "insufficientbalance",
    "insufficientcredit",
    "insufficientfunds",
];

/// An owner of the key, and a state in which it cannot use the API.
const OWNERS: [&str; 5] = ["account", "organization", "organisation", "project", "workspace"];
const OUT_OF_USE: [&str; 10] = [
    "deactivated",
    "inactive",
    "notactive",
    "suspended",
    "terminated",
    "disabled",
    "restricted",
    "locked",
    "onhold",
    "archived",
];

/// The request is refused because of the place that it comes from or goes to, whatever its key: a country, an address, or a
/// host of another Region.
const WRONG_PLACE: [&str; 13] = [
    "country",
    "region",
    "territory",
    "unsupportedlocation",
    "locationnotsupported",
    "ipnotauthorized",
    "ipnotallowed",
    "ipforbidden",
    "ipblocked",
    "iprestricted",
    "ipaddressnot",
    "geoblocked",
    "incorrecthostname",
];

/// Of a 403 alone: the words of a firewall.
const FIREWALL: [&str; 5] = ["requestforbidden", "requestblocked", "trafficdenied", "accessdenied", "mtlsrequired"];

/// Reads a response with a status from 400.
pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &Body) -> (Reason, Refused) {
    let document = serde_json::from_slice::<Value>(body.bytes()).ok();
    let fault = if document.is_some() { None } else { body.fault().or(Some("its body is not JSON")) };
    let details = document.as_ref().map(details);
    let of = |field: &str| details.and_then(|details| details.get(field)).unwrap_or(&Value::Null);
    let (code, kind) = (of("code"), of("type"));
    let should_retry = match headers.get("x-should-retry").map(|value| value.as_bytes().trim_ascii()) {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        _ => None,
    };
    let refused = Refused {
        status,
        code: ErrorCode { code: name(code).or_else(|| name(kind)), param: name(of("param")) },
        wait: wait::asked_for(status, headers),
        should_retry,
        fault,
    };
    let names = [code, kind].map(|text| text.as_str().map(squeezed).unwrap_or_default());
    (reason(status, &names, headers.contains_key("cf-mitigated")), refused)
}

/// The reason for a status, with the squeezed code and type, and whether Cloudflare answered in OpenAI's place.
fn reason(status: StatusCode, names: &[String; 2], cloudflare: bool) -> Reason {
    let one_has = |known: &[&str]| names.iter().any(|name| known.iter().any(|known| name.contains(known)));
    let billing = names.iter().any(|name| name.starts_with("billing"));
    let out_of_use = names.iter().any(|name| {
        let has = |known: &[&str]| known.iter().any(|known| name.contains(known));
        has(&OWNERS) && has(&OUT_OF_USE)
    });
    // OpenAI names at least a type. A gateway before it answers with another kind of document, or with a number as the code.
    let unnamed = names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let firewall = cloudflare || unnamed || names.iter().any(|name| FIREWALL.contains(&name.as_str()));
    match status.as_u16() {
        402 => Reason::OutOfQuota,
        _ if billing || out_of_use || one_has(&OUT_OF_QUOTA) => Reason::OutOfQuota,
        407 | 451 => Reason::Forbidden,
        401 | 403 if one_has(&WRONG_PLACE) => Reason::Forbidden,
        403 if firewall => Reason::Forbidden,
        401 | 403 => Reason::RejectedKey,
        429 => Reason::Busy,
        // 409 is a lock conflict, which OpenAI's SDKs retry.
        408 | 409 | 500.. => Reason::Unavailable,
        _ => Reason::RejectedSession,
    }
}

/// The object with code, type and parameter. Most servers call it `error`; some have it in a list or without a name.
fn details(document: &Value) -> &Value {
    let document = document.get(0).unwrap_or(document);
    document.get("error").filter(|error| error.is_object()).unwrap_or(document)
}

/// The letters and digits of a name, in lower case: `insufficientquota` for `insufficient_quota` and `InsufficientQuota`.
/// Some servers write `None` for no name.
fn squeezed(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase());
    Some(letters.collect::<String>()).filter(|name| name != "none" && name != "null").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&str, &str)], body: &str) -> (Reason, Refused) {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        read(StatusCode::from_u16(status).unwrap(), &headers.collect(), &Body::Whole(body.into()))
    }

    fn reason(status: u16, body: &str) -> Reason {
        answered(status, &[], body).0
    }

    #[test]
    fn an_account_that_cannot_pay_is_out_of_quota_by_code_or_type_with_any_status() {
        for name in [
            "insufficient_quota",
            "billing_not_active",
            "access_terminated",
            "billing_hard_limit_reached",
            "account_deactivated",
            "organization_suspended",
            "OrganizationNotActive",
            "project_archived",
            "account_on_hold",
            "budget_exceeded",
            "spend_limit_exceeded",
            "credit_balance_too_low",
            "exceeded_current_quota_error",
            "InsufficientQuota",
        ] {
            for status in [400, 401, 403, 429, 503] {
                for (code, kind) in [(format!("{name:?}"), "null"), ("null".into(), &*format!("{name:?}"))] {
                    let body = format!(r#"{{"error": {{"message": "m", "type": {kind}, "code": {code}}}}}"#);
                    assert_eq!(reason(status, &body), Reason::OutOfQuota, "{status} {body}");
                }
            }
        }
        assert_eq!(reason(402, ""), Reason::OutOfQuota);
        for name in ["rate_limit_exceeded", "requests", "tokens", "quota_limit"] {
            assert_eq!(reason(429, &format!(r#"{{"error": {{"type": "{name}", "code": null}}}}"#)), Reason::Busy);
        }
    }

    #[test]
    fn a_403_is_about_the_key_only_if_it_names_a_reason_that_another_key_could_change() {
        for body in [
            r#"{"error": {"code": "model_not_found", "type": "invalid_request_error"}}"#,
            r#"{"error": {"code": null, "type": "invalid_request_error"}}"#,
            r#"{"error": {"code": "403", "type": "key_model_access_denied"}}"#,
            r#"{"error": {"code": "PermissionDenied"}}"#,
        ] {
            assert_eq!(reason(403, body), Reason::RejectedKey, "{body}");
            assert_eq!(reason(401, body), Reason::RejectedKey, "{body}");
        }
        for body in [
            r#"{"error": {"code": "unsupported_country_region_territory", "type": "request_forbidden"}}"#,
            r#"{"error": {"code": null, "type": "request_forbidden"}}"#,
            r#"{"error": {"code": "unsupported_country_region_territory", "type": null}}"#,
            r#"{"error": {"code": "AccessDenied", "message": "Virtual Network/Firewall rules"}}"#,
            r#"{"error": {"code": "403", "message": "Public access is disabled"}}"#,
            r#"{"error": {"code": "ip_address_not_allowed", "type": "x"}}"#,
            r#"{"error": {"code": "RequestBlocked", "type": "x"}}"#,
            r#"{"error": {"code": "geo_blocked", "type": "x"}}"#,
            r#"{"error": {"code": 403, "type": "None", "param": "None"}}"#,
            r#"{"message": "Forbidden"}"#,
            r#"{"error": "forbidden"}"#,
            r#"{"success": false, "errors": [{"code": 10000}]}"#,
            "<!DOCTYPE html><html><title>Just a moment...</title></html>",
            "Forbidden",
            "error code: 1020",
            "",
        ] {
            assert_eq!(reason(403, body), Reason::Forbidden, "{body}");
        }
        let of_the_key = r#"{"error": {"code": "model_not_found", "type": "invalid_request_error"}}"#;
        assert_eq!(answered(403, &[("cf-mitigated", "challenge")], of_the_key).0, Reason::Forbidden);
        assert_eq!(reason(401, r#"{"error": {"code": "ip_not_authorized", "type": "x"}}"#), Reason::Forbidden);
        assert_eq!(reason(401, "<html>"), Reason::RejectedKey, "a 401 is always about credentials");
        assert_eq!(reason(451, ""), Reason::Forbidden);
    }

    #[test]
    fn a_conflict_is_retried_like_a_server_error() {
        for status in [408, 409, 500, 529] {
            assert_eq!(reason(status, "{}"), Reason::Unavailable, "{status}");
        }
        for status in [400, 404, 405, 413, 422] {
            assert_eq!(reason(status, "{}"), Reason::RejectedSession, "{status}");
        }
        assert_eq!(reason(429, "{}"), Reason::Busy);
    }

    #[test]
    fn codes_of_other_servers_are_read_wherever_they_are() {
        let code = |body: &str| answered(404, &[], body).1.code;
        let named = |code: &str, param: Option<&str>| ErrorCode {
            code: Some(code.to_owned()),
            param: param.map(str::to_owned),
        };
        for (body, expected) in [
            (r#"{"error": {"code": "DeploymentNotFound", "message": "m"}}"#, named("DeploymentNotFound", None)),
            (r#"{"code": "OperationNotSupported"}"#, named("OperationNotSupported", None)),
            (
                r#"{"error": {"code": 404, "param": "session.tools[0].name"}}"#,
                named("404", Some("session.tools[0].name")),
            ),
            (r#"[{"error": {"code": 404, "status": "NOT_FOUND"}}]"#, named("404", None)),
            (r#"{"error": {"type": "requests", "code": null}}"#, named("requests", None)),
            (
                r#"{"error": {"type": "invalid_request_error", "code": "sk-proj-1"}}"#,
                named("invalid_request_error", None),
            ),
            (r#"{"error": "No such model"}"#, ErrorCode::default()),
            (r#"{"error": {"code": "Tell me a story", "type": {"a": 1}}}"#, ErrorCode::default()),
            ("3", ErrorCode::default()),
        ] {
            assert_eq!(code(body), expected, "{body}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_described() {
        let headers = HeaderMap::new();
        for (body, described) in [
            (Body::Whole(b" ".into()), "502 Bad Gateway, its body is empty"),
            (Body::Whole(b"\n<html>sk-1</html>".into()), "502 Bad Gateway, its body is HTML or XML"),
            (Body::Whole(b"sk-1".into()), "502 Bad Gateway, its body is not JSON"),
            (Body::TooLarge, "502 Bad Gateway, its body is over 64 KiB"),
            (Body::Incomplete, "502 Bad Gateway, its body did not arrive completely"),
            (Body::Whole(b"{}".into()), "502 Bad Gateway, code none, param none"),
        ] {
            assert_eq!(read(StatusCode::BAD_GATEWAY, &headers, &body).1.to_string(), described);
        }
    }
}

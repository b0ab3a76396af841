//! An event of Lambda, read as an HTTP request.
//!
//! It comes from an HTTP API (payload 2.0), a function URL (the same), a REST API (payload 1.0), a load balancer, or
//! the Lambda console, where a person wrote `{"httpMethod": "POST", "body": "{}"}`. Any other event is refused: services
//! other than these invoke functions too, some with events that resemble a request.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use serde_path_to_error::Segment;

use super::{
    answer::Invoker,
    gateway_sign_in::{self, Identity},
    headers::{Headers, Named},
    path::{self, Place},
    request::HttpRequest,
};
use crate::admission::sign_in::SignIn;

/// The beginning of the `User-Agent` of a load balancer's health check (AWS, "Use Lambda functions as targets").
const HEALTH_CHECKER: &str = "ELB-HealthChecker/";

/// The headers that a load balancer adds for a user whom it has signed in, the second one signed.
const BALANCER_SIGN_IN: [&str; 2] = ["x-amzn-oidc-identity", "x-amzn-oidc-data"];

/// The payload of an invocation. Any JSON is an event.
#[derive(Debug)]
pub struct Event {
    pub(crate) invoker: Invoker,
    pub(crate) request: Result<HttpRequest, EventError>,
}

/// Why an event is not read as a request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum EventError {
    #[error("the event is not the request of a caller")]
    NotARequest,
    #[error("the event's field {0} has a value that it cannot have")]
    Field(String),
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Raw first, so that an event of the wrong shape gets a refusal instead of a function error.
        let event = Box::<RawValue>::deserialize(deserializer)?;
        Ok(match RawEvent::read(&event) {
            Ok(fields) => {
                let is_balanced = fields.request_context.as_ref().is_some_and(|context| context.elb.is_some());
                Self { invoker: invoker(is_balanced), request: fields.request(event) }
            }
            Err(error) => Self { invoker: invoker(is_balanced(&event)), request: Err(error) },
        })
    }
}

fn invoker(is_balanced: bool) -> Invoker {
    if is_balanced { Invoker::LoadBalancer } else { Invoker::Gateway }
}

/// Whether an event that cannot be read comes from a load balancer, which needs an answer in its own form.
fn is_balanced(event: &RawValue) -> bool {
    let event: Option<Value> = serde_json::from_str(event.get()).ok();
    event.is_some_and(|event| event.pointer("/requestContext/elb").is_some_and(|elb| !elb.is_null()))
}

/// The fields of all five kinds of event that the function uses. Sources: the payloads in AWS's developer guides for API
/// Gateway (1.0, 2.0), function URLs and load balancers; samples of each are in `events/`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
    /// `REQUEST` or `TOKEN`: API Gateway asks an authorizer about a request, with nearly the same fields as the request's.
    r#type: Option<IgnoredAny>,
    http_method: Option<String>,
    /// Payload 2.0.
    raw_path: Option<String>,
    /// Payload 2.0: the method and path of the route that matched, such as `POST /token`, or `$default`.
    route_key: Option<String>,
    /// Payload 1.0, and a load balancer.
    path: Option<String>,
    /// Payload 1.0: the path of the route that matched.
    resource: Option<String>,
    path_parameters: Option<Map<String, Value>>,
    headers: Option<OriginHeaders>,
    multi_value_headers: Option<OriginHeaders>,
    body: Option<String>,
    is_base64_encoded: Option<Flag>,
    request_context: Option<RequestContext>,
}

/// The names of every field that AWS documents for the five kinds of event.
const REQUEST_FIELDS: [&str; 17] = [
    "body",
    "cookies",
    "headers",
    "httpMethod",
    "isBase64Encoded",
    "multiValueHeaders",
    "multiValueQueryStringParameters",
    "path",
    "pathParameters",
    "queryStringParameters",
    "rawPath",
    "rawQueryString",
    "requestContext",
    "resource",
    "routeKey",
    "stageVariables",
    "version",
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext {
    stage: Option<String>,
    api_id: Option<String>,
    /// The first label of the domain. On the API's own domain, that is the API's ID.
    domain_prefix: Option<String>,
    /// Payload 2.0.
    http: Option<Http>,
    /// Payload 1.0.
    identity: Option<Identity>,
    /// The result of an authorizer. The gateway adds it: a caller cannot send it.
    authorizer: Option<Box<RawValue>>,
    /// Only in a load balancer's event, which has the caller's address in `X-Forwarded-For` only.
    elb: Option<Balancer>,
    /// The connection of a WebSocket API.
    connection_id: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: Option<String>,
    source_ip: Option<String>,
}

#[derive(Deserialize)]
struct Balancer {}

impl RawEvent {
    /// Reads the fields of an event.
    ///
    /// # Errors
    /// If a field has a value of another type. The error names the field.
    fn read(event: &RawValue) -> Result<Self, EventError> {
        // A list of the fields' values would be read, too.
        if !event.get().starts_with('{') {
            return Err(EventError::NotARequest);
        }
        if let Ok(fields) = serde_json::from_str(event.get()) {
            return Ok(fields);
        }
        // Read again for the name of the field, which only a refusal needs.
        let read = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(event.get()));
        read.map_err(|error| {
            let names = error.path().iter().map_while(|segment| match segment {
                Segment::Map { key } => Some(key.as_str()),
                _ => None,
            });
            match names.take(3).collect::<Vec<_>>().join(".") {
                field if field.is_empty() => EventError::NotARequest,
                field => EventError::Field(field),
            }
        })
    }

    /// The request in the event.
    ///
    /// The method has one place in each kind of event, so its place tells the kinds apart. Two marks tell a request from
    /// an event that resembles one: `isBase64Encoded`, which says how to read the body of a request, and without which an
    /// event has to be written by a person and consist of nothing but a request's fields; and the absence of an
    /// authorizer's `type` and of a WebSocket's connection.
    fn request(self, event: Box<RawValue>) -> Result<HttpRequest, EventError> {
        let context = self.request_context.unwrap_or_default();
        let is_marked = self.is_base64_encoded.is_some() || has_only_request_fields(&event);
        if !is_marked || self.r#type.is_some() || context.connection_id.is_some() {
            return Err(EventError::NotARequest);
        }
        let headers = Headers::of(event);
        let identity = context.identity.unwrap_or_default();
        let signed_in = || gateway_sign_in::read(context.authorizer.as_deref(), &identity);
        let (method, source, sign_in) = match (&context.elb, context.http, self.http_method) {
            (Some(_), None, Some(method)) => (method, balanced_source(&headers)?, balanced_sign_in(&headers)),
            (None, Some(Http { method: Some(method), source_ip }), None) => (method, source_ip, signed_in()),
            (None, None, Some(method)) => (method, identity.source_ip.clone(), signed_in()),
            _ => return Err(EventError::NotARequest),
        };
        let is_health_check = context.elb.is_some() && method == "GET" && is_from_health_checker(&headers);
        let path = self.raw_path.as_deref().or(self.path.as_deref()).map(|path| {
            let route_key = self.route_key.as_deref().and_then(|key| key.split(' ').next_back());
            let place = Place {
                stage: context.stage.as_deref(),
                route: self.resource.as_deref().or(route_key),
                variables: self.path_parameters.as_ref(),
                custom_domain: context
                    .domain_prefix
                    .as_deref()
                    .is_some_and(|prefix| context.api_id.as_deref() != Some(prefix)),
            };
            path::below(&place, path)
        });
        let body = self.body.unwrap_or_default();
        let body = match self.is_base64_encoded {
            Some(Flag(true)) => STANDARD.decode(body).map_err(|_| EventError::Field("body".to_owned()))?,
            _ => body.into_bytes(),
        };
        // In an event with both kinds of headers, an origin may appear in both, which is not an error.
        let origins = [self.headers, self.multi_value_headers].into_iter().flatten().flat_map(|origins| origins.0);
        let origins = origins.collect();
        Ok(HttpRequest { method, path, origins, headers, body, sign_in, source, is_health_check })
    }
}

/// Whether an event consists of documented fields of a request, as an event does that a person wrote.
fn has_only_request_fields(event: &RawValue) -> bool {
    let fields: Option<BTreeMap<String, IgnoredAny>> = serde_json::from_str(event.get()).ok();
    fields.is_some_and(|fields| fields.keys().all(|name| REQUEST_FIELDS.contains(&name.as_str())))
}

/// The address in the last entry of `X-Forwarded-For`, the only one that the load balancer itself adds: it appends the
/// address that it sees to the entries of the caller, with its port if it is configured so (AWS, "HTTP headers and
/// Application Load Balancers"). In its modes `preserve` and `remove`, it adds none.
fn balanced_source(headers: &Headers) -> Result<Option<String>, EventError> {
    let values = headers.checked("x-forwarded-for").map_err(EventError::Field)?;
    let last = values.last().and_then(|value| value.rsplit(',').next());
    Ok(last.map(|entry| entry.trim().to_owned()))
}

fn balanced_sign_in(headers: &Headers) -> SignIn {
    let is_claimed = BALANCER_SIGN_IN.iter().any(|name| headers.checked(name) != Ok(Vec::new()));
    if is_claimed { SignIn::Unverified } else { SignIn::Anonymous }
}

fn is_from_health_checker(headers: &Headers) -> bool {
    let agents = headers.checked("user-agent").unwrap_or_default();
    matches!(agents.as_slice(), [agent] if agent.starts_with(HEALTH_CHECKER))
}

/// A boolean, or the spellings of one in events that people and templates write: `"false"`, `0` and `null`.
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Spelling;

        impl Visitor<'_> for Spelling {
            type Value = Flag;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Flag, E> {
                match value {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::custom("neither 0 nor 1")),
                }
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Flag, E> {
                match value.trim().to_ascii_lowercase().as_str() {
                    "false" | "0" | "" => Ok(Flag(false)),
                    "true" | "1" => Ok(Flag(true)),
                    _ => Err(E::custom("neither true nor false")),
                }
            }
        }

        deserializer.deserialize_any(Spelling)
    }
}

/// The values of the `Origin` headers in a map of headers.
#[derive(Default)]
struct OriginHeaders(Vec<String>);

impl<'de> Deserialize<'de> for OriginHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Named("origin").deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(event: &Value) -> Event {
        serde_json::from_str(&event.to_string()).expect("any JSON is an event")
    }

    fn request(event: &Value) -> HttpRequest {
        read(event).request.expect("an HTTP request")
    }

    #[test]
    fn two_fields_are_a_request() {
        let request = request(&json!({"httpMethod": "POST", "body": "{}"}));
        assert_eq!((request.method.as_str(), request.body.as_slice()), ("POST", &b"{}"[..]));
        assert_eq!(request.source, None);
    }

    /// The caller that the sign-in of an event names by the claim `sub`, or why there is none.
    fn caller(event: &Value) -> Result<Option<String>, String> {
        let caller = request(event).sign_in.caller("sub");
        caller.map(|caller| caller.map(|caller| caller.to_string())).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_gateway_can_sign_a_caller_in() {
        let signed_in = json!({"jwt": {"claims": {"sub": "auth0|1"}}});
        let event = json!({"requestContext": {"http": {"method": "POST"}, "authorizer": signed_in}});
        assert_eq!(caller(&event), Ok(Some("subject:auth0|1".to_owned())));
        let headers = json!({"authorization": "Bearer x", "x-amzn-oidc-identity": "x"});
        for forged in [
            json!({"httpMethod": "POST", "headers": headers}),
            json!({"httpMethod": "POST", "isBase64Encoded": false, "authorizer": {"claims": {"sub": "x"}}}),
        ] {
            assert_eq!(caller(&forged), Ok(None), "{forged}");
        }
    }

    #[test]
    fn the_headers_of_a_load_balancers_sign_in_are_not_believed() {
        for name in ["x-amzn-oidc-identity", "X-Amzn-Oidc-Data"] {
            for value in [json!("user-1"), json!(5)] {
                let mut event: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
                event["headers"][name] = value;
                assert!(caller(&event).unwrap_err().contains("cannot verify"), "{event}");
            }
        }
    }

    #[test]
    fn a_header_that_is_not_ascii_does_not_fail_the_request() {
        let headers = json!({"user-agent": "Käfer/1.0", "x-odd": ["a", 1, null], "ORIGIN": "https://a.example"});
        let event = json!({"headers": headers, "requestContext": {"http": {"method": "POST", "sourceIp": "::1"}}});
        assert_eq!(request(&event).origins, ["https://a.example"]);
        assert_eq!(request(&event).source.as_deref(), Some("::1"));
    }

    #[test]
    fn all_origin_headers_are_read() {
        let event = json!({"httpMethod": "POST", "headers": {"Origin": "https://b.example"},
            "multiValueHeaders": {"Origin": ["https://a.example", "https://b.example"]}});
        assert_eq!(request(&event).origins, ["https://b.example", "https://a.example", "https://b.example"]);
        let event = json!({"httpMethod": "POST", "headers": {"Origin": "https://b.example"}, "multiValueHeaders": {}});
        assert_eq!(request(&event).origins, ["https://b.example"]);
    }

    #[test]
    fn on_a_custom_domain_without_a_mapping_key_the_path_is_the_route() {
        let mut event: Value = serde_json::from_str(include_str!("../../events/http-api.json")).unwrap();
        let context = &mut event["requestContext"];
        (context["domainName"], context["domainPrefix"]) = ("tokens.example.com".into(), "tokens".into());
        assert_eq!(request(&event).path.as_deref(), Some("/token"));
    }

    #[test]
    fn a_body_in_base64_is_decoded() {
        let event = json!({"httpMethod": "POST", "body": "e30=", "isBase64Encoded": true});
        assert_eq!(request(&event).body, b"{}");
    }

    #[test]
    fn the_flag_of_a_body_in_base64_is_read_in_each_spelling() {
        for flag in [json!(false), json!("false"), json!("False"), json!(0), json!(null), json!("")] {
            let event = json!({"httpMethod": "POST", "body": "e30=", "isBase64Encoded": flag});
            assert_eq!(request(&event).body, b"e30=", "{flag}");
        }
        for flag in [json!(true), json!("true"), json!("TRUE"), json!(1), json!("1")] {
            let event = json!({"httpMethod": "POST", "body": "e30=", "isBase64Encoded": flag});
            assert_eq!(request(&event).body, b"{}", "{flag}");
        }
    }

    #[test]
    fn a_field_with_an_unexpected_value_is_named() {
        let http = |fields: Value| json!({"version": "2.0", "isBase64Encoded": false, "requestContext": fields});
        for (event, field) in [
            (json!({"httpMethod": 5}), "httpMethod"),
            (json!({"httpMethod": "POST", "body": {"voice": "ash"}}), "body"),
            (json!({"httpMethod": "POST", "body": "not base64!", "isBase64Encoded": true}), "body"),
            (json!({"httpMethod": "POST", "isBase64Encoded": "maybe"}), "isBase64Encoded"),
            (json!({"httpMethod": "POST", "isBase64Encoded": 2}), "isBase64Encoded"),
            (json!({"httpMethod": "POST", "isBase64Encoded": {}}), "isBase64Encoded"),
            (json!({"httpMethod": "POST", "headers": "x"}), "headers"),
            (json!({"httpMethod": "POST", "headers": []}), "headers"),
            (json!({"httpMethod": "POST", "headers": {"Origin": 5}}), "headers.Origin"),
            (json!({"httpMethod": "POST", "multiValueHeaders": {"origin": [5]}}), "multiValueHeaders.origin"),
            (json!({"httpMethod": "POST", "path": ["/token"]}), "path"),
            (json!({"httpMethod": "POST", "pathParameters": "token"}), "pathParameters"),
            (json!({"httpMethod": "POST", "requestContext": "x"}), "requestContext"),
            (http(json!({"http": "POST"})), "requestContext.http"),
            (http(json!({"http": {"method": "POST", "sourceIp": 5}})), "requestContext.http.sourceIp"),
            (http(json!({"http": {"method": "POST"}, "stage": 1})), "requestContext.stage"),
            (
                json!({"httpMethod": "POST", "requestContext": {"elb": {}}, "headers": {"x-forwarded-for": 5}}),
                "headers.x-forwarded-for",
            ),
        ] {
            assert_eq!(read(&event).request.unwrap_err(), EventError::Field(field.to_owned()), "{event}");
        }
        for event in [
            json!({"httpMethod": "POST", "headers": null, "body": null, "requestContext": null, "path": null}),
            json!({"httpMethod": "POST", "headers": {"x-odd": 5, "x-none": null}}),
            json!({"httpMethod": "POST", "multiValueHeaders": {"origin": "https://a.example"}}),
        ] {
            assert!(read(&event).request.is_ok(), "{event}");
        }
        let event = json!({"requestContext": {"elb": {}}, "httpMethod": 5});
        assert_eq!(read(&event).invoker, Invoker::LoadBalancer, "it needs the answer in its own form");
    }

    #[test]
    fn behind_a_load_balancer_the_last_address_is_its_own() {
        let source = |event: &Value| request(event).source;
        let event = |field: &str, value: Value| {
            let mut event: Value = serde_json::from_str(include_str!("../../events/load-balancer.json")).unwrap();
            event.as_object_mut().unwrap().remove("headers");
            event[field] = json!({"X-Forwarded-For": value});
            event
        };
        for (value, expected) in [
            (json!("203.0.113.9"), "203.0.113.9"),
            (json!("198.51.100.1, 203.0.113.9"), "203.0.113.9"),
            (json!("evil, 198.51.100.1,203.0.113.9:1234 "), "203.0.113.9:1234"),
            (json!("198.51.100.1, 2001:db8::1"), "2001:db8::1"),
            (json!(["198.51.100.1", "198.51.100.2, 203.0.113.9"]), "203.0.113.9"),
        ] {
            for field in ["headers", "multiValueHeaders"] {
                assert_eq!(source(&event(field, value.clone())).as_deref(), Some(expected), "{value}");
            }
        }
        let elsewhere = json!({"httpMethod": "POST", "headers": {"x-forwarded-for": "203.0.113.9"}});
        assert_eq!(source(&elsewhere), None);
        let removed: Value = json!({"httpMethod": "POST", "requestContext": {"elb": {}}, "headers": {}});
        assert_eq!(source(&removed), None);
    }

    #[test]
    fn a_health_check_comes_from_a_load_balancer_only() {
        let check = |context: Value, method: &str, agent: &str| {
            let event = json!({"httpMethod": method, "path": "/", "headers": {"user-agent": agent},
                "requestContext": context, "isBase64Encoded": false});
            request(&event).is_health_check
        };
        assert!(check(json!({"elb": {}}), "GET", "ELB-HealthChecker/2.0"));
        assert!(!check(json!({"elb": {}}), "POST", "ELB-HealthChecker/2.0"));
        assert!(!check(json!({"elb": {}}), "GET", "curl/8"));
        assert!(!check(json!({}), "GET", "ELB-HealthChecker/2.0"));
    }

    #[test]
    fn an_event_that_is_not_a_request_is_still_an_event() {
        for event in [
            json!(null),
            json!("POST"),
            json!([]),
            json!({}),
            json!({"key1": "value1"}),
            json!({"httpMethod": "POST", "comment": "not a field of a request"}),
            json!({"requestContext": {"http": {}}}),
            json!({"httpMethod": "POST", "requestContext": {"http": {"method": "POST"}}}),
            json!({"requestContext": {"elb": {}, "http": {"method": "POST"}}}),
        ] {
            assert_eq!(read(&event).request.unwrap_err(), EventError::NotARequest, "{event}");
        }
        let list = r#"[null, "POST", null, null, null, null, null, null, null, null, "false", null]"#;
        assert_eq!(read(&serde_json::from_str(list).unwrap()).request.unwrap_err(), EventError::NotARequest);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(serde_json::from_str::<Event>(&deep).unwrap().request.is_err());
        let deep = format!(r#"{{"httpMethod": "POST", "body": {deep}}}"#);
        assert!(serde_json::from_str::<Event>(&deep).unwrap().request.is_err());
    }
}

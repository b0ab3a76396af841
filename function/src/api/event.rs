//! An event of Lambda, read as an HTTP request.
//!
//! It comes from an HTTP API (payload 2.0), a function URL (the same), a REST API (payload 1.0), a load balancer, or
//! the Lambda console, where a person wrote `{"httpMethod": "POST", "body": "{}"}`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny},
};
use serde_json::{Map, Value, value::RawValue};

use super::{
    answer::Invoker,
    headers::{Headers, Named},
    path::{self, Place},
    request::HttpRequest,
};

/// The payload of an invocation. Any JSON is an event.
#[derive(Debug)]
pub struct Event {
    pub(crate) invoker: Invoker,
    /// `None`: the event is not an HTTP request.
    pub(crate) request: Option<HttpRequest>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Raw first, so that an event of the wrong shape gets a refusal instead of a function error.
        let event = Box::<RawValue>::deserialize(deserializer)?;
        let fields: Option<RawEvent> = serde_json::from_str(event.get()).ok();
        Ok(match fields {
            Some(fields) => fields.event(Headers::of(event)),
            None => Self { invoker: Invoker::Gateway, request: None },
        })
    }
}

/// The fields of all five kinds of event that the function uses. Sources: the payloads in AWS's developer guides for API
/// Gateway (1.0, 2.0), function URLs and load balancers; samples of each are in `events/`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
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
    is_base64_encoded: Option<bool>,
    request_context: Option<RequestContext>,
}

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
    authorizer: Option<Value>,
    /// Only in a load balancer's event, which has the caller's address in `X-Forwarded-For` only.
    elb: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    method: String,
    source_ip: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    source_ip: Option<String>,
}

impl RawEvent {
    fn event(self, headers: Headers) -> Event {
        let context = self.request_context.unwrap_or_default();
        let invoker = if context.elb.is_some() { Invoker::LoadBalancer } else { Invoker::Gateway };
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
        let subject = context.authorizer.as_ref().and_then(subject);
        let (method, source) = match (context.http, context.identity) {
            (Some(http), _) => (Some(http.method), http.source_ip),
            (None, identity) => (self.http_method, identity.and_then(|identity| identity.source_ip)),
        };
        let body = self.body.unwrap_or_default();
        let body = match self.is_base64_encoded {
            Some(true) => STANDARD.decode(body).ok(),
            _ => Some(body.into_bytes()),
        };
        // In an event with both kinds of headers, an origin may appear in both, which is not an error.
        let origins = [self.headers, self.multi_value_headers].into_iter().flatten().flat_map(|origins| origins.0);
        let origins = origins.collect();
        let request = method.zip(body).map(|(method, body)| HttpRequest {
            method,
            path,
            origins,
            headers,
            body,
            subject,
            source,
        });
        Event { invoker, request }
    }
}

/// The subject of the checked token, in payload 2.0 or 1.0.
fn subject(authorizer: &Value) -> Option<String> {
    let claims = authorizer.pointer("/jwt/claims").or_else(|| authorizer.get("claims"))?;
    claims.get("sub")?.as_str().map(str::to_owned)
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

    #[test]
    fn the_subject_comes_from_the_authorizer_only() {
        let of = |authorizer: Value| {
            request(&json!({"requestContext": {"http": {"method": "POST"}, "authorizer": authorizer}})).subject
        };
        assert_eq!(
            of(json!({"jwt": {"claims": {"sub": "auth0|1", "iss": "x"}, "scopes": null}})).as_deref(),
            Some("auth0|1")
        );
        assert_eq!(of(json!({"claims": {"sub": "pool-user"}})).as_deref(), Some("pool-user"));
        for other in [
            json!(null),
            json!({}),
            json!({"jwt": {"claims": {}}}),
            json!({"jwt": {"claims": {"sub": 5}}}),
            json!({"iam": {"userId": "x"}}),
            json!({"lambda": {"sub": "x"}}),
            json!({"principalId": "x", "claims": "x"}),
            json!("x"),
        ] {
            assert_eq!(of(other.clone()), None, "{other}");
        }
        let forged = json!({"httpMethod": "POST", "headers": {"authorization": "Bearer x"}, "authorizer": {"claims": {"sub": "x"}}});
        assert_eq!(request(&forged).subject, None);
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
    fn an_event_that_is_not_a_request_is_still_an_event() {
        for event in [
            json!(null),
            json!("POST"),
            json!([]),
            json!({}),
            json!({"key1": "value1"}),
            json!({"httpMethod": 5}),
            json!({"httpMethod": "POST", "body": {"voice": "ash"}}),
            json!({"httpMethod": "POST", "body": "not base64!", "isBase64Encoded": true}),
            json!({"httpMethod": "POST", "headers": []}),
            json!({"requestContext": {"http": {}}}),
        ] {
            assert!(read(&event).request.is_none(), "{event}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(serde_json::from_str::<Event>(&deep).unwrap().request.is_none());
    }
}

//! Whatever invoked us → one HTTP request; one answer → what the invoker understands.
//!
//! That is an HTTP API (payload 2.0), a function URL (the same), a REST API (payload 1.0), a load
//! balancer, or a person at the Lambda console who wrote `{"httpMethod": "POST", "body": "{}"}`.

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, StatusCode, header};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Map, Value, value::RawValue};

use crate::path::{self, Place};

/// An invocation, read as far as it matters here. Any JSON at all is an event.
#[derive(Debug)]
pub struct Event {
    pub(crate) form: Form,
    pub(crate) request: Option<HttpRequest>,
}

/// What a request consists of, as far as it matters here.
#[derive(Debug)]
pub struct HttpRequest {
    /// The method in upper case, for example `POST`.
    pub method: String,
    /// The path below the gateway's stage or base path, such as `/token`. `None`: the event has none, as a test that a
    /// person wrote at the Lambda console.
    pub path: Option<String>,
    /// The values of all `Origin` headers.
    pub origins: Vec<String>,
    /// The body, decoded if the event has it in base64.
    pub body: Vec<u8>,
    /// The subject of the JWT that the gateway's authorizer has checked, if there is one.
    pub subject: Option<String>,
    /// The caller's address by the gateway's word.
    pub source: Option<String>,
}

/// A request and its place in Lambda.
#[derive(Debug)]
pub struct Request {
    /// `None`: the event was no HTTP request.
    pub http: Option<HttpRequest>,
    /// Lambda's own request ID, which stands in all log lines of this invocation.
    pub id: String,
    /// How long until Lambda ends the invocation.
    pub remaining: Duration,
}

/// An answer, before it is put in the invoker's form.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status code to send.
    pub status: StatusCode,
    /// The headers, each at most once.
    pub headers: Vec<(HeaderName, String)>,
    /// The body, a JSON document.
    pub body: String,
}

impl Answer {
    /// A JSON answer that no cache may keep.
    #[must_use]
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let headers = vec![
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        ];
        // Only maps with keys that are no text, and failing Serialize impls, cannot be written; no
        // answer has either.
        Self { status, headers, body: serde_json::to_string(body).unwrap_or_default() }
    }
}

/// Who invoked the function, on which the form of the reply depends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// HTTP APIs, function URLs, REST APIs and people.
    Gateway,
    LoadBalancer,
}

/// An answer in the form that its invoker understands.
#[derive(Debug)]
pub struct Reply {
    pub(crate) form: Form,
    pub(crate) answer: Answer,
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Answer { status, headers, body } = &self.answer;
        let single: BTreeMap<&str, &str> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut reply = serializer.serialize_map(None)?;
        reply.serialize_entry("statusCode", &status.as_u16())?;
        if self.form == Form::LoadBalancer {
            // It reads the one or the other kind of headers, as its target group is set.
            let multi: BTreeMap<&str, [&str; 1]> = single.iter().map(|(name, value)| (*name, [*value])).collect();
            reply.serialize_entry("multiValueHeaders", &multi)?;
            reply.serialize_entry("statusDescription", &status.to_string())?;
        }
        reply.serialize_entry("headers", &single)?;
        reply.serialize_entry("body", body)?;
        reply.serialize_entry("isBase64Encoded", &false)?;
        reply.end()
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Raw first, so that an event of the wrong shape is still an event, to be refused with a
        // sentence, and not an error of the function.
        let event = Box::<RawValue>::deserialize(deserializer)?;
        let fields: Option<Fields> = serde_json::from_str(event.get()).ok();
        Ok(fields.map_or(Self { form: Form::Gateway, request: None }, Fields::event))
    }
}

/// What the five kinds of event have between them. Sources: the payloads in AWS's developer guides
/// for API Gateway (1.0, 2.0), function URLs and load balancers; samples of each are in `events/`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
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
    headers: Option<Origins>,
    multi_value_headers: Option<Origins>,
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
    /// What an authorizer found out. It exists only behind the gateway: no caller can send it.
    authorizer: Option<Value>,
    /// A load balancer. Its caller's address stands in `X-Forwarded-For` alone.
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

impl Fields {
    fn event(self) -> Event {
        let context = self.request_context.unwrap_or_default();
        let form = if context.elb.is_some() { Form::LoadBalancer } else { Form::Gateway };
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
        // Where there are both kinds of headers, they overlap; no one is refused for a header that is there twice.
        let origins = [self.headers, self.multi_value_headers].into_iter().flatten().flat_map(|origins| origins.0);
        let origins = origins.collect();
        let request =
            method.zip(body).map(|(method, body)| HttpRequest { method, path, origins, body, subject, source });
        Event { form, request }
    }
}

/// The subject, in payload 2.0 and in payload 1.0.
fn subject(authorizer: &Value) -> Option<String> {
    let claims = authorizer.pointer("/jwt/claims").or_else(|| authorizer.get("claims"))?;
    claims.get("sub")?.as_str().map(str::to_owned)
}

/// The values of the `Origin` headers in a map of headers, the only header that matters here. The
/// others are skipped unread, whatever they are.
#[derive(Default)]
struct Origins(Vec<String>);

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }

        struct Headers;

        impl<'de> Visitor<'de> for Headers {
            type Value = Origins;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut headers: A) -> Result<Origins, A::Error> {
                let mut origins = Vec::new();
                while let Some(name) = headers.next_key::<Cow<'de, str>>()? {
                    if name.eq_ignore_ascii_case("origin") {
                        match headers.next_value()? {
                            OneOrMany::One(origin) => origins.push(origin),
                            OneOrMany::Many(several) => origins.extend(several),
                        }
                    } else {
                        headers.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Origins(origins))
            }
        }

        deserializer.deserialize_map(Headers)
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
    fn the_subject_is_what_an_authorizer_says() {
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
    fn one_header_that_is_not_ascii_costs_no_one_the_request() {
        let headers = json!({"user-agent": "Käfer/1.0", "x-odd": ["a", 1, null], "ORIGIN": "https://a.example"});
        let event = json!({"headers": headers, "requestContext": {"http": {"method": "POST", "sourceIp": "::1"}}});
        assert_eq!(request(&event).origins, ["https://a.example"]);
        assert_eq!(request(&event).source.as_deref(), Some("::1"));
    }

    #[test]
    fn several_origins_are_all_seen() {
        let event = json!({"httpMethod": "POST", "headers": {"Origin": "https://b.example"},
            "multiValueHeaders": {"Origin": ["https://a.example", "https://b.example"]}});
        assert_eq!(request(&event).origins, ["https://b.example", "https://a.example", "https://b.example"]);
        let event = json!({"httpMethod": "POST", "headers": {"Origin": "https://b.example"}, "multiValueHeaders": {}});
        assert_eq!(request(&event).origins, ["https://b.example"]);
    }

    #[test]
    fn a_body_in_base64_is_decoded() {
        let event = json!({"httpMethod": "POST", "body": "e30=", "isBase64Encoded": true});
        assert_eq!(request(&event).body, b"{}");
    }

    #[test]
    fn what_is_no_request_is_still_an_event() {
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

    #[test]
    fn a_load_balancer_gets_both_kinds_of_headers_and_a_reason() {
        let Event { form, .. } = read(&json!({"httpMethod": "POST", "requestContext": {"elb": {}}}));
        let reply = Reply { form, answer: Answer::json(StatusCode::FORBIDDEN, &json!({"success": false})) };
        let reply = serde_json::to_value(&reply).unwrap();
        assert_eq!(reply["statusDescription"], "403 Forbidden");
        assert_eq!(reply["headers"]["cache-control"], "no-store");
        assert_eq!(reply["multiValueHeaders"]["cache-control"], json!(["no-store"]));
        let plain = Reply { form: Form::Gateway, answer: Answer::json(StatusCode::OK, &json!({})) };
        let plain = serde_json::to_value(&plain).unwrap();
        assert_eq!((plain.get("multiValueHeaders"), plain.get("statusDescription")), (None, None));
        assert_eq!((&plain["statusCode"], &plain["isBase64Encoded"]), (&json!(200), &json!(false)));
    }
}

//! Any event gets an answer: a token, or a refusal that names the caller's fault.

use openai_simulator::Simulator;
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use crate::function::{Function, http_api};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        any_text(),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(any_name(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

/// Names that the function reads, and others.
fn any_name() -> impl Strategy<Value = String> {
    let known = [
        "httpMethod",
        "body",
        "headers",
        "multiValueHeaders",
        "isBase64Encoded",
        "requestContext",
        "http",
        "method",
        "identity",
        "sourceIp",
        "elb",
        "authorizer",
        "jwt",
        "claims",
        "sub",
        "scenario",
        "speed",
        "origin",
        "Origin",
        "profile",
        "voice",
        "version",
        "rawPath",
        "path",
        "routeKey",
        "resource",
        "pathParameters",
        "proxy",
        "stage",
        "domainPrefix",
        "lambda",
        "iam",
        "principalId",
        "type",
        "connectionId",
        "x-forwarded-for",
        "user-agent",
    ];
    prop_oneof![3 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_text() -> impl Strategy<Value = Value> {
    let known = [
        "POST",
        "GET",
        "{}",
        "e30=",
        "default",
        "alloy",
        "/token",
        "/{proxy+}",
        "::1",
        "https://app.example.com",
        "\u{0}",
        "{\"voice\":\"ash\"}",
    ];
    proptest::sample::select(known.to_vec()).prop_map(Value::from)
}

/// A real event in which a few parts are replaced by any JSON.
fn any_event() -> impl Strategy<Value = Value> {
    let events = [
        include_str!("../../events/http-api.json"),
        include_str!("../../events/function-url.json"),
        include_str!("../../events/rest-api.json"),
        include_str!("../../events/load-balancer.json"),
        include_str!("../../events/console.json"),
    ];
    let parts = [
        "/httpMethod",
        "/body",
        "/headers",
        "/multiValueHeaders",
        "/isBase64Encoded",
        "/requestContext",
        "/requestContext/http",
        "/requestContext/http/method",
        "/requestContext/http/sourceIp",
        "/requestContext/identity",
        "/requestContext/identity/sourceIp",
        "/requestContext/elb",
        "/requestContext/authorizer",
        "/headers/origin",
        "/headers/host",
        "/rawPath",
        "/path",
        "/resource",
        "/routeKey",
        "/pathParameters",
        "/requestContext/domainPrefix",
        "/requestContext/stage",
    ];
    let part = (proptest::sample::select(parts.to_vec()), any_json());
    (proptest::sample::select(events.to_vec()), vec(part, 0..4)).prop_map(|(event, parts)| {
        let mut event: Value = serde_json::from_str(event).unwrap();
        for (pointer, value) in parts {
            if let Some(place) = event.pointer_mut(pointer) {
                *place = value;
            }
        }
        event
    })
}

fn check(cases: u32, events: impl Strategy<Value = Value>) {
    let runtime: Runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (openai, function) = runtime.block_on(async {
        let openai = Simulator::start().await.unwrap();
        let function = Function::with(&openai, &[]).await;
        (openai, function)
    });
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&events, |event| {
        let reply = runtime.block_on(function.invoke(&event));
        prop_assert!(matches!(reply.status, 200 | 400 | 403 | 404 | 405 | 413), "{}", reply.body);
        prop_assert_eq!(&reply.body["success"], &json!(reply.status == 200));
        prop_assert_eq!(reply.body["value"].is_string(), reply.status == 200);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    runtime.block_on(async { assert_eq!(function.mint().await.status, 200, "it still mints") });
    let refused = openai.requests().iter().any(|sent| sent.body["session"]["model"] != "gpt-realtime-2.1");
    assert!(!refused, "no caller got another model");
}

#[test]
fn any_event_gets_an_answer() {
    check(512, prop_oneof![any_json(), any_event(), any_event()]);
}

#[test]
fn any_body_gets_a_token_or_a_refusal() {
    let text = any::<String>().prop_map(|body| http_api(&json!({"body": body})));
    let json = any_json().prop_map(|body| http_api(&json!({"body": body.to_string()})));
    let bytes = vec(any::<u8>(), 0..200).prop_map(|body| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        http_api(&json!({"body": STANDARD.encode(body), "isBase64Encoded": true}))
    });
    check(512, prop_oneof![text, json, bytes]);
}

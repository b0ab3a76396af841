//! The refusals of invalid requests, which involve no other service.

use std::time::Duration;

use openai_simulator::Simulator;
use serde_json::{Value, json};

use crate::function::{Function, Reply, http_api};

/// Checks the form of a refusal, and returns its `details`.
pub fn assert_refused<'a>(reply: &'a Reply, status: u64, code: &str) -> &'a str {
    assert_eq!((reply.status, reply.body["code"].as_str()), (status, Some(code)), "{}", reply.body);
    let names: Vec<_> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["code", "details", "error", "message", "requestId", "success"]);
    assert_eq!(reply.body["success"], false);
    assert!(reply.body["requestId"].as_str().unwrap().starts_with("00000000-0000-0000-0000-"));
    assert_eq!(reply.headers["cache-control"], "no-store");
    for sentence in ["error", "message", "details"] {
        assert!(!reply.body[sentence].as_str().unwrap().is_empty(), "{sentence} in {}", reply.body);
    }
    reply.body["details"].as_str().unwrap()
}

#[tokio::test]
async fn an_invalid_body_is_refused_with_the_allowed_values() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for (body, details) in [
        (json!("{voice"), "The body is not valid JSON: send a JSON object, or no body"),
        (json!("[]"), "The body must be a JSON object, or empty"),
        (json!(r#"{"model": "gpt-4"}"#), "Unknown field 'model'; allowed fields: profile, voice"),
        // The Vercel AI SDK with a `sessionConfig`, and the body of OpenAI's own endpoint.
        (
            json!(r#"{"sessionConfig": {"instructions": "Be brief."}}"#),
            "'sessionConfig' is not accepted: a profile on the server defines the session; allowed fields: profile, voice",
        ),
        (
            json!(r#"{"session": {"type": "realtime"}}"#),
            "'session' is not accepted: a profile on the server defines the session; allowed fields: profile, voice",
        ),
        (
            json!(r#"{"profile": "admin"}"#),
            "Invalid value for 'profile': expected one of de-escalation, de-escalation-open, default",
        ),
        (
            json!(r#"{"voice": "nova"}"#),
            "Invalid value for 'voice': expected one of alloy, ash, ballad, coral, echo, sage, shimmer, verse, \
             marin, cedar",
        ),
    ] {
        let reply = function.invoke(&http_api(&json!({"body": body}))).await;
        assert_eq!(assert_refused(&reply, 400, "invalid_request"), details);
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn an_event_that_is_not_a_request_is_refused_without_a_function_error() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for event in [json!({}), json!(null), json!({"key1": "value1"}), json!({"httpMethod": "POST", "body": {}})] {
        assert_refused(&function.invoke(&event).await, 400, "invalid_request");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn an_unknown_path_is_not_found_for_every_kind_of_event() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let with = |event: &str, fields: Value| {
        let mut event: Value = serde_json::from_str(event).unwrap();
        for (pointer, value) in fields.as_object().unwrap() {
            *event.pointer_mut(pointer).unwrap() = value.clone();
        }
        event
    };
    let http_api = |path: &str| with(include_str!("../../events/http-api.json"), json!({"/rawPath": path}));
    let function_url = |path: &str| with(include_str!("../../events/function-url.json"), json!({"/rawPath": path}));
    let rest_api = |path: &str| with(include_str!("../../events/rest-api.json"), json!({"/path": path}));
    let load_balancer = |path: &str| with(include_str!("../../events/load-balancer.json"), json!({"/path": path}));
    let console = |path: &str| json!({"httpMethod": "POST", "path": path, "body": "{}"});
    let kinds: [&dyn Fn(&str) -> Value; 5] = [&http_api, &function_url, &rest_api, &load_balancer, &console];
    for event in kinds {
        for path in ["/", "/tokens", "/token/1", "/Token", "/%74oken", "/calls", "/call/1/2", ""] {
            let reply = function.invoke(&event(path)).await;
            let details = assert_refused(&reply, 404, "not_found");
            assert_eq!(details, "Unknown path; tokens are at /token, calls at /call", "{path}");
        }
        let mut event = event("/elsewhere");
        for method in ["/httpMethod", "/requestContext/http/method"] {
            if let Some(method) = event.pointer_mut(method) {
                *method = "GET".into();
            }
        }
        assert_refused(&function.invoke(&event).await, 404, "not_found");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn another_method_is_told_which_one_is_allowed() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for method in ["GET", "OPTIONS", "HEAD", "PUT", "DELETE", "post", "BREW", ""] {
        let reply = function.invoke(&json!({"httpMethod": method})).await;
        assert_refused(&reply, 405, "method_not_allowed");
        assert!(reply.body["message"].as_str().unwrap().contains("use POST"), "{}", reply.body);
        assert_eq!(reply.headers["allow"], "POST");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let rest_api = |origins: Value| {
        let mut event: Value = serde_json::from_str(include_str!("../../events/rest-api.json")).unwrap();
        event["headers"]["Origin"] = "https://app.example.com".into();
        event["multiValueHeaders"]["Origin"] = origins;
        event
    };
    for event in [
        http_api(&json!({"headers": {"origin": "https://evil.example"}})),
        http_api(&json!({"headers": {"Origin": "https://app.example.com.evil.example"}})),
        http_api(&json!({"headers": {"origin": "http://app.example.com"}})),
        http_api(&json!({"headers": {"origin": "https://app.example.com:8443"}})),
        http_api(&json!({"headers": {"origin": "null"}})),
        http_api(&json!({"headers": {"origin": ""}})),
        http_api(&json!({"headers": {"origin": "https://app.example.com, https://evil.example"}})),
        rest_api(json!(["https://evil.example", "https://app.example.com"])),
    ] {
        let reply = function.invoke(&event).await;
        let details = assert_refused(&reply, 403, "origin_not_allowed");
        assert_eq!(details, "Pages of this origin may request neither tokens nor calls");
    }
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn a_body_over_16_kib_is_not_parsed() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let of = |bytes: usize| http_api(&json!({"body": " ".repeat(bytes)}));
    assert_eq!(function.invoke(&of(16 * 1024)).await.status, 200);
    assert_refused(&function.invoke(&of(16 * 1024 + 1)).await, 413, "request_too_large");
    assert_eq!(openai.requests().len(), 1);
}

#[tokio::test]
async fn an_invocation_without_time_left_is_refused_before_its_deadline() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let reply = function.invoke_within(Duration::from_millis(100), &http_api(&json!({}))).await;
    assert_refused(&reply, 504, "openai_timeout");
}

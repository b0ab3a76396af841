//! The headers of an invocation that its invoker wrote: the function reads none of them, and none may stop it.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use openai_simulator::Simulator;
use serde_json::json;

use crate::function::{Function, http_api, records};

#[tokio::test]
async fn no_client_context_and_no_identity_stops_the_function() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let long = format!("{{\"custom\": {{\"a\": \"{}\"}}}}", "x".repeat(300_000));
    let mut invoked = 0;
    for name in ["lambda-runtime-client-context", "lambda-runtime-cognito-identity"] {
        for value in [
            &b"{"[..],
            b"text",
            b"5",
            b"[]",
            b"{}",
            b"",
            br#"{"client": {"installation_id": "1"}}"#,
            br#"{"client": "x", "custom": {"a": 1}, "env": []}"#,
            br#"{"custom": {"name": "J\u00fcrgen"}}"#,
            "{\"custom\": {\"name\": \"Jürgen\"}}".as_bytes(),
            br#"{"cognitoIdentityId": 5}"#,
            br#"{"identityId": "1", "identityPoolId": "2"}"#,
            b"\xff\xfe",
            long.as_bytes(),
        ] {
            let header = (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
            let reply = function.invoke_with(Duration::from_secs(30), &http_api(&json!({})), vec![header]).await;
            assert_eq!(reply.status, 200, "{name}: {}", reply.body);
            assert_eq!(function.mint().await.status, 200, "the next invocation is served");
            invoked += 2;
        }
    }
    let log = function.stop().await;
    let codes: Vec<_> = records(&log).iter().map(|record| record["Code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(codes, vec!["ok"; invoked], "one record for each invocation");
    assert_eq!(log.lines().count(), invoked, "and no other line:\n{log}");
}

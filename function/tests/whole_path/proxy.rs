//! A proxy in front of the gateway: its proof, the address that it states, and a new secret.

use openai_simulator::{Fault, Simulator};
use serde_json::{Value, json};

use crate::{
    function::{API_KEY, Function, Reply, http_api, records},
    refusals::assert_refused,
    secrets::{Secret, SecretsManager},
};

pub const PROOF: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CLOUDFRONT: (&str, &str) = ("PROXY_ADDRESS_HEADER", "CloudFront-Viewer-Address");

/// A secret with these fields and a key.
fn with(fields: &Value) -> Secret {
    let mut all = json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": "a random key"});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Secret::Text(all.to_string())
}

async fn behind(openai: &Simulator, secrets: &SecretsManager, further: &[(&str, &str)]) -> Function {
    let base_url = openai.base_url();
    let mut environment = secrets.environment();
    environment.push(("OPENAI_BASE_URL", &base_url));
    environment.extend_from_slice(further);
    Function::start(&environment).await
}

async fn ask(function: &Function, headers: Value) -> Reply {
    function.invoke(&http_api(&json!({"headers": headers}))).await
}

/// The caller's safety identifier at OpenAI, for a request that is answered.
async fn caller(openai: &Simulator, function: &Function, event: &Value) -> String {
    let reply = function.invoke(event).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    openai.requests().last().unwrap().safety_identifier.clone().unwrap()
}

#[tokio::test]
async fn only_a_request_with_the_proof_is_answered() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(with(&json!({"PROXY_SECRET": PROOF}))).await;
    let function = behind(&openai, &secrets, &[CLOUDFRONT]).await;
    let viewer = "198.51.100.10:46532";
    let proved = json!({"x-proxy-secret": PROOF, "cloudfront-viewer-address": viewer});
    assert_eq!(ask(&function, proved).await.status, 200);
    for headers in [
        json!({"cloudfront-viewer-address": viewer}),
        json!({"x-proxy-secret": "", "cloudfront-viewer-address": viewer}),
        json!({"x-proxy-secret": &PROOF[1..], "cloudfront-viewer-address": viewer}),
        json!({"x-proxy-secret": PROOF.to_uppercase(), "cloudfront-viewer-address": viewer}),
        // As an HTTP API joins the values of a repeated header, and as a REST API lists them.
        json!({"x-proxy-secret": format!("{PROOF},{PROOF}"), "cloudfront-viewer-address": viewer}),
        json!({"x-proxy-secret": [PROOF, "guess"], "cloudfront-viewer-address": viewer}),
        json!({"x-proxy-secret": PROOF}),
        json!({"x-proxy-secret": PROOF, "x-real-ip": "198.51.100.10"}),
        json!({"x-proxy-secret": PROOF, "cloudfront-viewer-address": "198.51.100.10:1,198.51.100.11:2"}),
        json!({"x-proxy-secret": PROOF, "cloudfront-viewer-address": ["198.51.100.10:1", "198.51.100.11:2"]}),
        json!({"x-proxy-secret": PROOF, "cloudfront-viewer-address": "unknown"}),
    ] {
        let reply = ask(&function, headers.clone()).await;
        let details = assert_refused(&reply, 403, "proxy_required");
        assert_eq!(details, "Requests must come through the proxy of this service", "{headers}");
    }
    assert_eq!(openai.requests().len(), 1, "OpenAI is asked for the first one only");
    let log = function.stop().await;
    assert!(!log.contains(PROOF) && !log.contains("198.51.100"), "{log}");
    let causes: Vec<_> = records(&log).iter().map(|record| record["cause"].as_str().unwrap_or("").to_owned()).collect();
    assert!(causes[1].ends_with("X-Proxy-Secret is missing or wrong"), "{causes:?}");
    assert!(causes[11].ends_with("does not contain exactly one address"), "{causes:?}");
}

#[tokio::test]
async fn the_caller_is_the_address_that_the_proxy_states() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(with(&json!({"PROXY_SECRET": PROOF}))).await;
    let function = behind(&openai, &secrets, &[CLOUDFRONT]).await;
    let through =
        |address: &str| http_api(&json!({"headers": {"X-Proxy-Secret": PROOF, "CloudFront-Viewer-Address": address}}));
    // Without a proxy, as the gateway sees it.
    let direct = |address: &str| {
        http_api(&json!({"requestContext": {"http": {"method": "POST", "sourceIp": address}},
            "headers": {"X-Proxy-Secret": PROOF, "CloudFront-Viewer-Address": "192.0.2.1:1"}}))
    };
    let plain = behind(&openai, &secrets, &[]).await;
    let expected = caller(&openai, &plain, &direct("198.51.100.10")).await;
    assert_eq!(caller(&openai, &function, &through("198.51.100.10:46532")).await, expected);
    assert_ne!(caller(&openai, &function, &through("198.51.100.11:46532")).await, expected);
    let expected = caller(&openai, &plain, &direct("2001:db8:1:2::9")).await;
    assert_eq!(caller(&openai, &function, &through("2001:db8:1:2::1:443")).await, expected, "its 64-bit network");

    let rest_api: Value = serde_json::from_str(include_str!("../../events/rest-api.json")).unwrap();
    let mut rest_api = rest_api;
    for (name, value) in [("X-Proxy-Secret", PROOF), ("CloudFront-Viewer-Address", "2001:db8:1:2::7:443")] {
        rest_api["headers"][name] = value.into();
        rest_api["multiValueHeaders"][name] = json!([value]);
    }
    assert_eq!(caller(&openai, &function, &rest_api).await, expected);
}

#[tokio::test]
async fn the_subject_of_a_sign_in_is_the_caller_behind_a_proxy_too() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(with(&json!({"PROXY_SECRET": PROOF}))).await;
    let function = behind(&openai, &secrets, &[CLOUDFRONT]).await;
    let signed_in = |headers: Value| {
        let context = json!({"http": {"method": "POST", "sourceIp": "192.0.2.1"},
            "authorizer": {"jwt": {"claims": {"sub": "auth0|1"}}}});
        http_api(&json!({"requestContext": context, "headers": headers}))
    };
    assert_refused(&function.invoke(&signed_in(json!({}))).await, 403, "proxy_required");
    let through = json!({"x-proxy-secret": PROOF, "cloudfront-viewer-address": "198.51.100.10:1"});
    let first = caller(&openai, &function, &signed_in(through)).await;
    let second = caller(&openai, &function, &signed_in(json!({"x-proxy-secret": PROOF}))).await;
    assert_eq!(first, second, "the address does not matter");
    let plain = behind(&openai, &secrets, &[]).await;
    assert_eq!(caller(&openai, &plain, &signed_in(json!({}))).await, first);
}

#[tokio::test]
async fn without_a_secret_for_the_proxy_every_request_is_refused() {
    let openai = Simulator::start().await.unwrap();
    for fields in [json!({}), json!({"PROXY_SECRET": ""})] {
        let secrets = SecretsManager::start(with(&fields)).await;
        let function = behind(&openai, &secrets, &[CLOUDFRONT]).await;
        for proof in ["", PROOF] {
            let headers = json!({"x-proxy-secret": proof, "cloudfront-viewer-address": "198.51.100.10:1"});
            assert_refused(&ask(&function, headers).await, 403, "proxy_required");
        }
        let log = function.stop().await;
        assert!(log.contains("the secret contains no PROXY_SECRET: run make proxy-secret"), "{log}");
    }
    let function = Function::with(&openai, &[CLOUDFRONT]).await;
    assert_refused(&function.mint().await, 403, "proxy_required");
    assert!(openai.requests().is_empty());
}

#[tokio::test]
async fn a_new_secret_and_the_one_before_are_accepted_once_they_are_read() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(with(&json!({"PROXY_SECRET": "first"}))).await;
    let function = behind(&openai, &secrets, &[CLOUDFRONT, ("KEY_TTL_SECONDS", "0")]).await;
    let status = async |proof: &str| {
        let headers = json!({"x-proxy-secret": proof, "cloudfront-viewer-address": "198.51.100.10:1"});
        ask(&function, headers).await.status
    };
    assert_eq!((status("first").await, status("second").await), (200, 403));
    secrets.put(with(&json!({"PROXY_SECRET": "second", "PREVIOUS_PROXY_SECRET": "first"})));
    assert_eq!(status("second").await, 200, "read during this request, which waits for it");
    assert_eq!((status("first").await, status("second").await), (200, 200));
    secrets.put(with(&json!({"PROXY_SECRET": "third", "PREVIOUS_PROXY_SECRET": "second"})));
    assert_eq!(status("third").await, 200);
    // Slow enough that the refresh of this request ends before the next one.
    openai.fail(Fault::Delay { ms: 300 }, 1);
    assert_eq!(status("third").await, 200);
    assert_eq!((status("first").await, status("second").await), (403, 200));
}

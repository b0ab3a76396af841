//! The key: its source, its lifetime, and its failures.

use std::time::{Duration, Instant};

use openai_simulator::{Fault, Simulator};
use serde_json::{Value, json};

use crate::{
    function::{API_KEY, Function, http_api, records},
    refusals::assert_refused,
    secrets::{Secret, SecretsManager},
};

async fn function(openai: &Simulator, secrets: &SecretsManager, further: &[(&str, &str)]) -> Function {
    let base_url = openai.base_url();
    let mut environment = secrets.environment();
    environment.push(("OPENAI_BASE_URL", &base_url));
    environment.extend_from_slice(further);
    Function::start(&environment).await
}

#[tokio::test]
async fn a_fetched_key_is_used_for_its_lifetime() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
    let function = function(&openai, &secrets, &[("OPENAI_API_KEY", "sk-of-the-environment")]).await;
    assert_eq!(secrets.reads(), 1, "read in init");
    for _ in 0..5 {
        assert_eq!(function.mint().await.status, 200);
    }
    assert_eq!(secrets.reads(), 1);
    assert!(
        openai.requests().iter().all(|sent| sent.bearer == API_KEY),
        "the secret takes precedence over the environment"
    );
}

#[tokio::test]
async fn a_secret_may_be_just_the_key() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(Secret::Text(format!("  {API_KEY}\n"))).await;
    let function = function(&openai, &secrets, &[]).await;
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(openai.requests()[0].bearer, API_KEY);
}

#[tokio::test]
async fn text_that_is_not_a_key_is_never_sent() {
    for (secret, bearer) in [
        ("\"sk-1\"", Some("sk-1")),
        ("'sk-1'\n", Some("sk-1")),
        (r#"{"OPENAI_API_KEY": "\"sk-1\"", "SAFETY_IDENTIFIER_KEY": "s", "BLOCKED_CALLERS": ""}"#, Some("sk-1")),
        (r#""{\"OPENAI_API_KEY\": \"sk-1\"}""#, Some("sk-1")),
        ("OPENAI_API_KEY=sk-1", None),
        ("export OPENAI_API_KEY=sk-1", None),
        ("Bearer sk-1", None),
        ("null", None),
        ("[\"sk-1\"]", None),
        ("12345", None),
        ("<!DOCTYPE html><p>Not found</p>", None),
        ("sk-1\u{200b}", None),
    ] {
        let openai = Simulator::start().await.unwrap();
        let secrets = SecretsManager::start(Secret::Text(secret.to_owned())).await;
        let function = function(&openai, &secrets, &[]).await;
        let reply = function.mint().await;
        let sent: Vec<_> = openai.requests().into_iter().map(|sent| sent.bearer).collect();
        assert_eq!((reply.status, sent.first().map(String::as_str)), (bearer.map_or(503, |_| 200), bearer), "{secret}");
        let record = records(&function.stop().await).remove(0);
        let cause = record["cause"].as_str().unwrap_or_default();
        assert_eq!(cause.contains("make key"), bearer.is_none(), "{record}");
        assert!(!cause.contains("sk-1"), "{record}");
    }
}

#[tokio::test]
async fn text_that_is_not_a_key_takes_no_good_key_away() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0"), ("LOG_LEVEL", "ERROR")]).await;
    secrets.put(Secret::Text("export OPENAI_API_KEY=sk-new".to_owned()));
    assert_eq!((function.mint().await.status, function.mint().await.status), (200, 200));
    assert!(openai.requests().iter().all(|sent| sent.bearer == API_KEY));
    let record = records(&function.stop().await).remove(1);
    let fault =
        "the secret contains no key: the key is a line such as NAME=value: store the value alone, with make key";
    assert_eq!((&record["secretFault"], &record["Code"]), (&json!(fault), &json!("ok")));
}

#[tokio::test]
async fn a_plain_text_secret_keeps_its_identifiers_after_a_rotation() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::start(Secret::Text("sk-one".to_owned())).await;
    function(&openai, &secrets, &[]).await.mint().await;
    secrets.put(Secret::Text("sk-two".to_owned()));
    function(&openai, &secrets, &[]).await.mint().await;
    secrets
        .put(Secret::Text(json!({"OPENAI_API_KEY": "sk-three", "SAFETY_IDENTIFIER_KEY": "a random key"}).to_string()));
    function(&openai, &secrets, &[]).await.mint().await;
    let sent = openai.requests();
    assert_eq!(sent[0].safety_identifier, sent[1].safety_identifier);
    assert_ne!(sent[1].safety_identifier, sent[2].safety_identifier, "a random key is another one");
}

#[tokio::test]
async fn the_safety_identifier_depends_only_on_its_own_key() {
    let openai = Simulator::start().await.unwrap();
    let secrets = SecretsManager::with_key("sk-one").await;
    function(&openai, &secrets, &[]).await.mint().await;
    secrets.put(SecretsManager::with_key("sk-two").await.secret());
    function(&openai, &secrets, &[]).await.mint().await;
    let sent = openai.requests();
    assert_eq!((sent[0].bearer.as_str(), sent[1].bearer.as_str()), ("sk-one", "sk-two"));
    assert_eq!(sent[0].safety_identifier, sent[1].safety_identifier, "a new API key changes no identifier");
}

#[tokio::test]
async fn an_old_key_is_used_while_a_new_one_is_read_in_the_background() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key("sk-old").await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    secrets.put(Secret::Hangs);
    for longest in [4, 2, 2] {
        let began = Instant::now();
        assert_eq!(function.mint().await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(longest), "only one request waits, for 2 s");
    }
    secrets.wait_for_reads(2).await;
    assert!(openai.requests().iter().all(|sent| sent.bearer == "sk-old"));
}

#[tokio::test]
async fn a_refreshed_key_is_used_from_the_next_request_on() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key("sk-old").await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    secrets.put(SecretsManager::with_key("sk-new").await.secret());
    // Slow enough that the refresh ends before the request.
    openai.fail(Fault::Delay { ms: 500 }, 1);
    function.mint().await;
    function.mint().await;
    let bearers: Vec<_> = openai.requests().into_iter().map(|sent| sent.bearer).collect();
    assert_eq!(bearers, ["sk-old", "sk-new"]);
}

#[tokio::test]
async fn a_stale_key_stays_in_use_after_a_failed_refresh() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    secrets.put(Secret::Refused("AccessDeniedException"));
    openai.fail(Fault::Delay { ms: 500 }, 1);
    for _ in 0..5 {
        assert_eq!(function.mint().await.status, 200);
    }
    assert_eq!(secrets.reads(), 2, "after a failure there is a pause");
    let log = function.stop().await;
    assert!(log.contains("the key could not be refreshed") && log.contains("AccessDeniedException"), "{log}");
}

#[tokio::test]
async fn a_rejected_key_is_read_again_and_the_new_one_tried_once() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key("sk-revoked").await);
    let function = function(&openai, &secrets, &[]).await;
    openai.take_only_keys(&["sk-new"]);
    secrets.put(SecretsManager::with_key("sk-new").await.secret());
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(function.mint().await.status, 200);
    let bearers: Vec<_> = openai.requests().into_iter().map(|sent| sent.bearer).collect();
    assert_eq!(bearers, ["sk-revoked", "sk-new", "sk-new"]);
    assert_eq!(secrets.reads(), 2);
    assert_eq!(records(&function.stop().await)[0]["Attempts"], 2);
}

#[tokio::test]
async fn a_rejected_key_that_is_still_in_the_secret_is_tried_only_once() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
    let function = function(&openai, &secrets, &[]).await;
    openai.fail(Fault::Unauthorized, 1);
    assert_refused(&function.mint().await, 502, "openai_rejected_key");
    assert_eq!((openai.requests().len(), secrets.reads()), (1, 2));
    openai.fail(Fault::Unauthorized, 50);
    for _ in 0..50 {
        assert_refused(&function.mint().await, 502, "openai_rejected_key");
    }
    assert_eq!(
        (openai.requests().len(), secrets.reads()),
        (51, 2),
        "each request is tried, and the secret is not read"
    );
    assert_eq!((function.mint().await.status, openai.requests().len(), secrets.reads()), (200, 52, 2));
}

#[tokio::test]
async fn one_rejection_takes_no_good_key_away() {
    for fault in [Fault::Unauthorized, Fault::Forbidden] {
        let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
        let function = function(&openai, &secrets, &[]).await;
        openai.fail(fault, 1);
        secrets.put(Secret::Refused("AccessDeniedException"));
        assert_refused(&function.mint().await, 502, "openai_rejected_key");
        assert_eq!((function.mint().await.status, secrets.reads()), (200, 2));
        assert!(openai.requests().iter().all(|sent| sent.bearer == API_KEY));
        let log = function.stop().await;
        let fault = &records(&log)[1]["secretFault"];
        assert_eq!(fault, "the secret cannot be read (AccessDeniedException)");
    }
}

#[tokio::test]
async fn a_profile_that_openai_refuses_costs_the_others_nothing() {
    for fault in [Fault::Forbidden, Fault::NotFound] {
        let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key("sk-old").await);
        let function = function(&openai, &secrets, &[]).await;
        openai.fail(fault, 1);
        assert_eq!(function.mint().await.status, 502);
        openai.take_only_keys(&["sk-new"]);
        secrets.put(SecretsManager::with_key("sk-new").await.secret());
        assert_eq!(function.mint().await.status, 200, "a revoked key is replaced at once");
    }
}

#[tokio::test]
async fn a_secret_without_a_key_is_refused_and_read_again_by_the_next_request() {
    for secret in [
        Secret::Refused("ResourceNotFoundException"),
        Secret::Refused("AccessDeniedException"),
        Secret::Text(String::new()),
        Secret::Text("{".to_owned()),
        Secret::Text(json!({"OPENAI_API_KEY": "not set yet: run make key"}).to_string()),
        Secret::Text(json!({"SAFETY_IDENTIFIER_KEY": "x"}).to_string()),
    ] {
        let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(secret).await);
        let function = function(&openai, &secrets, &[]).await;
        let details = "The OpenAI API key is not set or cannot be read";
        assert_eq!(assert_refused(&function.mint().await, 503, "key_unavailable"), details);
        assert!(openai.requests().is_empty());
        secrets.put(SecretsManager::with_key(API_KEY).await.secret());
        assert_eq!(function.mint().await.status, 200);
    }
}

#[tokio::test]
async fn a_silent_secrets_manager_delays_no_request_past_its_deadline() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(Secret::Hangs).await);
    let began = Instant::now();
    let function = function(&openai, &secrets, &[]).await;
    assert!(began.elapsed() < Duration::from_secs(9), "API Gateway counts it into its 30 s");
    let reply = function.invoke_within(Duration::from_secs(3), &http_api(&json!({}))).await;
    assert_refused(&reply, 503, "key_unavailable");
}

#[tokio::test]
async fn without_a_key_every_request_is_refused_and_the_log_names_the_variables() {
    let function = Function::start(&[]).await;
    assert_refused(&function.mint().await, 503, "key_unavailable");
    let log = function.stop().await;
    assert!(log.contains("neither OPENAI_SECRET_ARN nor OPENAI_API_KEY is set"), "{log}");
}

/// A secret with a key and this list of blocked callers.
fn with_list(list: &Value) -> Secret {
    let fields = json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": "a random key", "BLOCKED_CALLERS": list});
    Secret::Text(fields.to_string())
}

fn blocking(callers: &[&str]) -> Secret {
    with_list(&json!(callers))
}

#[tokio::test]
async fn only_the_blocked_caller_is_refused() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    function(&openai, &secrets, &[]).await.mint().await;
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    secrets.put(blocking(&["0a1b", &caller]));
    let function = function(&openai, &secrets, &[]).await;
    let details = "The operator of this service has blocked you";
    assert_eq!(assert_refused(&function.mint().await, 403, "caller_blocked"), details);
    assert_eq!(openai.requests().len(), 1, "OpenAI is not asked for a blocked caller");
    let other = json!({"requestContext": {"http": {"method": "POST", "sourceIp": "198.51.100.1"}}});
    assert_eq!(function.invoke(&http_api(&other)).await.status, 200);
    assert_eq!(records(&function.stop().await)[0]["caller"], caller.as_str(), "the record contains the caller");
}

#[tokio::test]
async fn a_block_list_that_is_read_during_a_request_counts_for_that_request() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    assert_eq!(function.mint().await.status, 200);
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    secrets.put(blocking(&[&caller]));
    assert_refused(&function.mint().await, 403, "caller_blocked");
    secrets.put(blocking(&[]));
    assert_eq!(function.mint().await.status, 200, "an unblocked caller is served at once");
}

#[tokio::test]
async fn a_list_in_a_text_blocks_its_callers() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    function(&openai, &secrets, &[]).await.mint().await;
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    let other = "0a".repeat(32);
    for (list, blocks) in [
        (json!(""), false),
        (json!(other), false),
        (json!(caller), true),
        (json!(format!("{other}, {caller}")), true),
        (json!(format!("{caller}\n{other}\n")), true),
        (json!(json!([caller]).to_string()), true),
    ] {
        secrets.put(with_list(&list));
        let function = function(&openai, &secrets, &[]).await;
        assert_eq!(function.mint().await.status, if blocks { 403 } else { 200 }, "{list}");
        assert_eq!(records(&function.stop().await)[0].get("secretFault"), None, "{list}");
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_unblocks_nobody() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    function(&openai, &secrets, &[]).await.mint().await;
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    secrets.put(blocking(&[&caller]));
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0"), ("LOG_LEVEL", "ERROR")]).await;
    let lists = [json!("everyone"), json!(5), json!({}), json!([5])];
    for list in &lists {
        secrets.put(with_list(list));
        assert_refused(&function.mint().await, 403, "caller_blocked");
        let other = json!({"requestContext": {"http": {"method": "POST", "sourceIp": "198.51.100.1"}}});
        assert_eq!(function.invoke(&http_api(&other)).await.status, 200, "the key serves");
    }
    secrets.put(blocking(&[]));
    assert_eq!(function.mint().await.status, 200);
    let records = records(&function.stop().await);
    let (last, wrong) = records.split_last().unwrap();
    for record in wrong {
        assert_eq!(record["secretFault"], "BLOCKED_CALLERS is not a list of identifiers");
    }
    assert_eq!((wrong.len(), last.get("secretFault")), (2 * lists.len(), None));
}

#[tokio::test]
async fn a_block_holds_although_secrets_manager_is_slow() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    assert_eq!(function.mint().await.status, 200);
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    let Secret::Text(list) = blocking(&[&caller]) else { unreachable!() };
    secrets.put(Secret::Slow(Duration::from_millis(600), list));
    assert_refused(&function.mint().await, 403, "caller_blocked");
}

#[tokio::test]
async fn a_read_that_was_frozen_is_made_again() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(blocking(&[])).await);
    let function = function(&openai, &secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    secrets.put(Secret::Hangs);
    assert_eq!(function.mint().await.status, 200);
    let caller = openai.requests()[0].safety_identifier.clone().unwrap();
    function.freeze().await;
    secrets.put(blocking(&[&caller]));
    tokio::time::sleep(Duration::from_secs(4)).await;
    function.thaw().await;
    assert_refused(&function.mint().await, 403, "caller_blocked");
}

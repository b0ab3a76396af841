//! The log: no secrets at any level, and the lines of each level.

use std::time::Duration;

use axum::http::StatusCode;
use openai_simulator::{Fault, Simulator};
use serde_json::{Value, json};

use crate::{
    function::{ADDRESS, API_KEY, Function, http_api, records},
    proxy::PROOF,
    secrets::{Secret, SecretsManager},
    table::{self, Store, Stub},
};

const PROMPT: &str = "You are an agitated caller";

/// The requests cause every refusal but that of a proxy, which the test below causes, and a few tokens.
#[tokio::test]
async fn no_level_logs_a_secret_a_token_a_prompt_or_an_address() {
    for level in ["DEBUG", "TRACE"] {
        let unusable = Secret::Text(format!("{{\"OPENAI_API_KEY\": \"{API_KEY}\""));
        let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::start(unusable).await);
        let (base_url, table) = (openai.base_url(), Stub::start(Store::Counts).await);
        let mut environment = secrets.environment();
        environment.extend(table::environment(&table.url));
        environment.extend([
            ("OPENAI_BASE_URL", base_url.as_str()),
            ("ALLOWED_ORIGINS", "https://app.example.com"),
            ("LOG_LEVEL", level),
            ("KEY_TTL_SECONDS", "0"),
            // So few that no instance keeps tokens in advance.
            ("DAILY_MINT_LIMIT", "40"),
        ]);
        let function = Function::start(&environment).await;
        let mut secrets_seen =
            vec![API_KEY.to_owned(), "a random key".to_owned(), PROMPT.to_owned(), ADDRESS.to_owned()];
        let mut codes = vec![function.mint().await];
        secrets.put(SecretsManager::with_key(API_KEY).await.secret());

        let subject = "trainee@example.com";
        secrets_seen.push(subject.to_owned());
        let authorizer = json!({"jwt": {"claims": {"sub": subject, "email": subject}}});
        for event in [
            http_api(&json!({})),
            http_api(
                &json!({"requestContext": {"http": {"method": "POST", "sourceIp": ADDRESS}, "authorizer": authorizer}}),
            ),
            http_api(&json!({"body": json!({"instructions": PROMPT}).to_string()})),
            http_api(&json!({"body": json!({"voice": PROMPT}).to_string()})),
            http_api(&json!({"body": json!({PROMPT: 1}).to_string()})),
            http_api(&json!({"body": PROMPT})),
            http_api(&json!({"body": PROMPT.repeat(1000)})),
            http_api(&json!({"headers": {"origin": "https://evil.example", "authorization": API_KEY}})),
            json!({"httpMethod": "GET", "body": PROMPT, "requestContext": {"identity": {"sourceIp": ADDRESS}}}),
            json!({"instructions": PROMPT, "sourceIp": ADDRESS}),
            http_api(&json!({"rawPath": format!("/{PROMPT}")})),
            http_api(&json!({"requestContext": {"http": {"method": "POST", "sourceIp": ADDRESS},
                "authorizer": {"jwt": {"claims": {"email": subject}}}}})),
            http_api(&json!({"isBase64Encoded": PROMPT})),
        ] {
            codes.push(function.invoke(&event).await);
        }
        for fault in [
            Fault::Unauthorized,
            Fault::Forbidden,
            Fault::BadRequest,
            Fault::NotFound,
            Fault::RateLimit { retry_after: Some("60".to_owned()) },
            Fault::InsufficientQuota,
            Fault::ServerError { status: 500, retry_after: Some("60".to_owned()) },
            Fault::Reset,
            Fault::Cut,
            Fault::Garbage,
            Fault::NotJson,
            Fault::Expired,
            Fault::WrongPrefix,
            Fault::Oversize,
            Fault::Redirect { location: "/elsewhere".to_owned() },
            Fault::Hang,
        ] {
            openai.clear_faults();
            openai.fail(fault, 10);
            codes.push(function.invoke_within(Duration::from_secs(2), &http_api(&json!({}))).await);
        }
        openai.clear_faults();
        let stores = [Store::CallerLimitReached, Store::Malformed, Store::Hangs];
        for store in stores.into_iter().chain([Store::Refuses(StatusCode::BAD_REQUEST, "AccessDeniedException")]) {
            table.set(store);
            codes.push(function.invoke(&http_api(&json!({}))).await);
        }
        table.set(Store::Counts);
        let caller = openai.requests()[0].safety_identifier.clone().unwrap();
        secrets.put(Secret::Text(
            json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": "a random key",
            "BLOCKED_CALLERS": [caller]})
            .to_string(),
        ));
        codes.push(function.mint().await);
        secrets.put(Secret::Text(format!("export OPENAI_API_KEY={API_KEY}")));
        codes.push(function.mint().await);
        // The last one: the function remembers it.
        table.set(Store::DailyLimitReached);
        codes.push(function.invoke(&json!({"httpMethod": "POST", "body": "{}"})).await);

        secrets_seen.extend(codes.iter().filter_map(|reply| reply.body["value"].as_str().map(str::to_owned)));
        let mut codes: Vec<_> = codes.iter().filter_map(|reply| reply.body["code"].as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(
            codes,
            [
                "caller_blocked",
                "daily_limit_reached",
                "invalid_request",
                "key_unavailable",
                "method_not_allowed",
                "no_subject",
                "not_found",
                "openai_answer_invalid",
                "openai_busy",
                "openai_out_of_quota",
                "openai_rejected_key",
                "openai_rejected_session",
                "openai_timeout",
                "openai_unavailable",
                "origin_not_allowed",
                "quota_exceeded",
                "quota_unavailable",
                "request_too_large",
            ],
            "every refusal that the simulator can cause"
        );
        let log = function.stop().await;
        assert!(log.contains("\"level\":\"DEBUG\""), "{log}");
        assert_eq!(records(&log).len(), 37);
        for secret in secrets_seen {
            assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
        }
        for pattern in ["ek_", "sk-", "Bearer", "tok_"] {
            assert!(!log.contains(pattern), "{pattern} is in the log:\n{log}");
        }
    }
}

#[tokio::test]
async fn no_level_logs_the_proof_of_a_proxy_or_the_address_that_it_states() {
    for level in ["DEBUG", "TRACE"] {
        let openai = Simulator::start().await.unwrap();
        let secret =
            json!({"OPENAI_API_KEY": API_KEY, "PROXY_SECRET": PROOF, "PREVIOUS_PROXY_SECRET": "the one before"});
        let secrets = SecretsManager::start(Secret::Text(secret.to_string())).await;
        let base_url = openai.base_url();
        let mut environment = secrets.environment();
        environment.extend([
            ("OPENAI_BASE_URL", base_url.as_str()),
            ("LOG_LEVEL", level),
            ("PROXY_ADDRESS_HEADER", "X-Real-IP"),
        ]);
        let function = Function::start(&environment).await;
        let ask = async |proof: &str, address: &str| {
            function
                .invoke(&http_api(&json!({"headers": {"x-proxy-secret": proof, "x-real-ip": address}})))
                .await
                .status
        };
        assert_eq!((ask(PROOF, ADDRESS).await, ask("the one before", ADDRESS).await), (200, 200));
        assert_eq!((ask("a wrong guess", ADDRESS).await, ask(PROOF, "not an address").await), (403, 403));
        let log = function.stop().await;
        assert!(log.contains("proxy_required"), "{log}");
        for secret in [PROOF, "the one before", "a wrong guess", ADDRESS, "not an address", "x-proxy-secret"] {
            assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
        }
    }
}

#[tokio::test]
async fn the_record_of_a_refusal_has_the_code_of_openai_but_not_its_message() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[("MODEL", "gpt-4o-realtime-preview")]).await;
    function.mint().await;
    let record = records(&function.stop().await).remove(0);
    assert_eq!(record["openaiStatus"], 404);
    assert_eq!((&record["openaiCode"], &record["openaiParam"]), (&json!("model_not_found"), &json!("session.model")));
    assert!(!record.to_string().contains("does not exist"), "{record}");
}

/// The DEBUG lines of one request, in order, as their message and fields.
fn debug_lines(log: &str, request_id: &str) -> Vec<(String, Value)> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_request = lines.filter(|line| line["level"] == "DEBUG" && line["span"]["requestId"] == request_id);
    of_request.map(|line| (line["message"].as_str().unwrap().to_owned(), line)).collect()
}

#[tokio::test]
async fn debug_follows_a_request_through_profile_key_caller_quota_and_each_attempt() {
    let (openai, secrets) = (Simulator::start().await.unwrap(), SecretsManager::with_key(API_KEY).await);
    let (base_url, table) = (openai.base_url(), Stub::start(Store::Counts).await);
    let mut environment = secrets.environment();
    environment.extend(table::environment(&table.url));
    environment.extend([("OPENAI_BASE_URL", base_url.as_str()), ("LOG_LEVEL", "DEBUG")]);
    let function = Function::start(&environment).await;
    openai.fail(Fault::ServerError { status: 503, retry_after: None }, 1);
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(function.mint().await.status, 200);
    let log = function.stop().await;

    let records = records(&log);
    let [first, second] = [0, 1].map(|at| debug_lines(&log, records[at]["requestId"].as_str().unwrap()));
    let messages: Vec<_> = first.iter().map(|(message, _)| message.as_str()).collect();
    let before = ["the request is valid", "the key is available", "the caller is identified"];
    let asked = ["the quota was counted", "the quota was counted", "asking OpenAI", "OpenAI answered"];
    let again = ["the attempt failed", "pausing before the next attempt", "asking OpenAI", "OpenAI answered"];
    assert_eq!(messages, [&before[..], &asked, &again].concat());
    let messages: Vec<_> = second.iter().map(|(message, _)| message.as_str()).collect();
    assert_eq!(messages, [&before[..], &asked].concat());

    let of = |at: usize| &first[at].1;
    assert_eq!((&of(0)["profile"], &of(0)["model"]), (&json!("default"), &json!("gpt-realtime-2.1")));
    assert_eq!((&of(2)["knownBy"], &of(2)["caller"]), (&json!("address"), &records[0]["caller"]));
    assert_eq!(of(3)["counts"], "minute 1 of 10, day 1 of 200");
    assert_eq!((&of(3)["quota"], &of(4)["quota"]), (&json!("caller"), &json!("all callers")));
    assert_eq!((&of(5)["attempt"], &of(5)["path"]), (&json!(1), &json!("/v1/realtime/client_secrets")));
    assert_eq!((&of(6)["status"], &of(10)["status"]), (&json!(503), &json!(200)));
    assert_eq!((&of(9)["attempt"], &of(9)["connection"]), (&json!(2), &json!("reused")));
    for at in [3, 4, 6, 8, 10] {
        assert!(of(at)["milliseconds"].as_f64().unwrap() > 0.0, "{}", of(at));
    }
}

#[tokio::test]
async fn log_level_limits_the_lines_other_than_records() {
    let openai = Simulator::start().await.unwrap();
    for (level, quiet) in [("ERROR", true), ("DEBUG", false)] {
        let function = Function::with(&openai, &[("LOG_LEVEL", level)]).await;
        openai.fail(Fault::Reset, 1);
        assert_eq!(function.mint().await.status, 200);
        let log = function.stop().await;
        assert_eq!(records(&log).len(), 1, "the record is there at any level");
        assert_eq!(log.lines().count() == 1, quiet, "{log}");
    }
    for (level, quiet) in [("ERROR", true), ("WARN", false)] {
        let function = Function::start(&[("LOG_LEVEL", level)]).await;
        assert_eq!(function.stop().await.is_empty(), quiet, "a missing key is a warning");
    }
}

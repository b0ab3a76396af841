//! The reasons why OpenAI, or a gateway or firewall before it, mints no token, and their records.

use serde_json::{Value, json};

use crate::{
    function::{API_KEY, records},
    raw_openai::{Answer, RawOpenAi},
    refusals::assert_refused,
};

/// The record of the refusal after this answer, which must not be retried. Checks that no line of the log has a secret.
async fn record(answer: Answer, status: u64, code: &str) -> Value {
    let openai = RawOpenAi::start(answer).await;
    let function = openai.function().await;
    let reply = function.mint().await;
    assert_refused(&reply, status, code);
    assert_eq!(openai.requests(), 1, "{}", reply.body);
    let log = function.stop().await;
    for secret in [API_KEY, "sk-", "ek_", "Tell me"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    records(&log).remove(0)
}

fn error(code: &str, kind: &str) -> String {
    json!({"error": {"message": "sk-proj-1 Tell me a story", "type": kind, "param": null, "code": code}}).to_string()
}

#[tokio::test]
async fn an_account_that_cannot_pay_is_out_of_quota_with_any_status() {
    for name in ["insufficient_quota", "billing_not_active", "access_terminated", "billing_hard_limit_reached"] {
        for status in [400, 403, 429] {
            let record = record(Answer::new(status, "", &error(name, name)), 503, "openai_out_of_quota").await;
            assert_eq!((&record["openaiStatus"], &record["openaiCode"]), (&json!(status), &json!(name)));
        }
    }
    let by_type = r#"{"error": {"message": "m", "type": "billing_not_active", "param": null, "code": null}}"#;
    let record = record(Answer::new(429, "", by_type), 503, "openai_out_of_quota").await;
    assert_eq!(record["openaiCode"], "billing_not_active");
}

#[tokio::test]
async fn a_403_that_no_other_key_would_change_is_not_about_the_key() {
    let country = error("unsupported_country_region_territory", "request_forbidden");
    let record_of_country = record(Answer::new(403, "", &country), 502, "openai_forbidden").await;
    assert_eq!(record_of_country["openaiCode"], "unsupported_country_region_territory");
    for (headers, body, described) in [
        ("content-type: text/html\r\ncf-mitigated: challenge\r\n", "<html>sk-1</html>", "its body is HTML or XML"),
        ("", "Forbidden", "its body is not JSON"),
        ("", "", "its body is empty"),
        ("content-type: application/json\r\n", r#"{"message": "Forbidden"}"#, "code none"),
    ] {
        let record = record(Answer::new(403, headers, body), 502, "openai_forbidden").await;
        assert!(record["cause"].as_str().unwrap().contains(described), "{record}");
        assert_eq!(record["openaiStatus"], 403);
    }
    let of_the_key = error("model_not_found", "invalid_request_error");
    record(Answer::new(403, "", &of_the_key), 502, "openai_rejected_key").await;
}

#[tokio::test]
async fn the_codes_of_other_servers_reach_the_record_and_secrets_do_not() {
    for (code, param, recorded) in [
        (json!("DeploymentNotFound"), json!("session.tools[0].name"), Some("DeploymentNotFound")),
        (json!("OperationNotSupported"), json!("session.tools[0].name"), Some("OperationNotSupported")),
        (json!(404), json!("session.tools[0].name"), Some("404")),
        (json!("sk-proj-1"), json!("session.tools[0].name"), None),
        (json!("ek_1"), json!("session.tools[0].name"), None),
        (json!("Tell me a story"), json!("session.tools[0].name"), None),
    ] {
        let body = json!({"error": {"code": code, "message": "m", "param": param}}).to_string();
        let record = record(Answer::new(404, "", &body), 502, "openai_rejected_session").await;
        assert_eq!((record["openaiCode"].as_str(), &record["openaiParam"]), (recorded, &param), "{body}");
    }
}

#[tokio::test]
async fn a_rate_limit_has_its_code_in_the_record() {
    let limited = error("rate_limit_exceeded", "requests");
    let record_of_limit = record(Answer::new(429, "retry-after: 9\r\n", &limited), 503, "openai_busy").await;
    assert_eq!(
        (&record_of_limit["openaiStatus"], &record_of_limit["openaiCode"]),
        (&json!(429), &json!("rate_limit_exceeded"))
    );
    let by_type = r#"{"error": {"message": "m", "type": "tokens", "param": null, "code": null}}"#;
    let record = record(Answer::new(429, "retry-after: 9\r\n", by_type), 503, "openai_busy").await;
    assert_eq!(record["openaiCode"], "tokens");
}

#[tokio::test]
async fn an_answer_that_is_not_json_is_described_in_the_record() {
    let huge = "x".repeat(65 * 1024);
    for (body, described) in [
        ("", "its body is empty"),
        ("<html>sk-1</html>", "its body is HTML or XML"),
        ("sk-1", "not JSON"),
        (&huge, "its body is over 64 KiB"),
    ] {
        let with_token = record(Answer::new(200, "", body), 502, "openai_answer_invalid").await;
        let refused = record(Answer::new(404, "", body), 502, "openai_rejected_session").await;
        let limited = record(Answer::new(429, "retry-after: 9\r\n", body), 503, "openai_busy").await;
        for record in [with_token, refused, limited] {
            assert!(record["cause"].as_str().unwrap().contains(described), "{record}");
        }
    }
}

//! The waits that OpenAI asks for, and the answers that it wants to have retried or not.

use std::time::Instant;

use crate::{
    raw_openai::{Answer, RawOpenAi},
    refusals::assert_refused,
};

const LIMITED: &str =
    r#"{"error": {"message": "m", "type": "requests", "param": null, "code": "rate_limit_exceeded"}}"#;

/// The `Retry-After` of the refusal after such answers, the number of requests, and the time in milliseconds.
async fn refused(answer: Answer, status: u64, code: &str) -> (Option<String>, usize, u128) {
    let openai = RawOpenAi::start(answer).await;
    let function = openai.function().await;
    let began = Instant::now();
    let reply = function.mint().await;
    let took = began.elapsed().as_millis();
    assert_refused(&reply, status, code);
    let wait = reply.headers.get("retry-after").map(|wait| wait.as_str().unwrap().to_owned());
    (wait, openai.requests(), took)
}

#[tokio::test]
async fn a_long_wait_is_the_callers_and_is_rounded_up() {
    for (headers, wait) in [
        ("retry-after-ms: 90000\r\n", "90"),
        ("retry-after-ms: 2001\r\nretry-after: 1\r\n", "3"),
        ("retry-after: 45.2\r\n", "46"),
        ("retry-after: 12\r\n", "12"),
        ("x-ratelimit-reset-requests: 6m0s\r\n", "360"),
        ("x-ratelimit-reset-tokens: 2.5s\r\n", "3"),
        ("retry-after: 7\r\nx-ratelimit-reset-requests: 6m0s\r\n", "7"),
    ] {
        let (told, requests, took) = refused(Answer::new(429, headers, LIMITED), 503, "openai_busy").await;
        assert_eq!((told.as_deref(), requests), (Some(wait), 1), "{headers}");
        assert!(took < 1_900, "{headers}: {took} ms");
    }
    let (told, requests, took) = refused(Answer::new(503, "retry-after: 2.5\r\n", ""), 502, "openai_unavailable").await;
    assert_eq!((told.as_deref(), requests, took < 1_900), (Some("3"), 1, true), "{took} ms");
}

#[tokio::test]
async fn a_short_wait_is_waited_for_and_never_without_a_pause() {
    for (headers, least) in [
        ("retry-after: 0\r\n", 300),
        ("retry-after-ms: 20\r\n", 340),
        ("x-ratelimit-reset-tokens: 20ms\r\n", 340),
        ("retry-after: 1.5\r\n", 3300),
        ("", 300),
    ] {
        let (told, requests, took) = refused(Answer::new(429, headers, LIMITED), 503, "openai_busy").await;
        assert_eq!((told.is_some(), requests), (true, 3), "{headers}");
        assert!((least..6_500).contains(&took), "{headers}: {took} ms");
    }
}

#[tokio::test]
async fn a_conflict_is_retried() {
    let conflict = r#"{"error": {"message": "m", "type": "invalid_request_error", "param": null, "code": "conflict"}}"#;
    let (told, requests, _) = refused(Answer::new(409, "", conflict), 502, "openai_unavailable").await;
    assert_eq!((told, requests), (None, 3));
}

#[tokio::test]
async fn x_should_retry_has_precedence_over_the_status() {
    for (status, refusal, code) in [
        (400, 502, "openai_rejected_session"),
        (401, 502, "openai_rejected_key"),
        (409, 502, "openai_unavailable"),
        (429, 503, "openai_busy"),
        (500, 502, "openai_unavailable"),
    ] {
        for (should, requests) in [("true", 3), ("false", 1)] {
            let answer = Answer::new(status, &format!("x-should-retry: {should}\r\n"), LIMITED);
            assert_eq!(refused(answer, refusal, code).await.1, requests, "{status} {should}");
        }
    }
}

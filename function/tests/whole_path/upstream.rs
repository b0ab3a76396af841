//! The refusals that come from OpenAI, and the attempts before them.

use std::time::{Duration, Instant};

use openai_simulator::{Fault, Simulator};

use crate::{
    function::{API_KEY, Function, records},
    ports::unused_port,
    refusals::assert_refused,
};

/// Makes one mint against OpenAI with a permanent fault. Checks the refusal, and that OpenAI got `asked` requests.
async fn with_fault(fault: Fault, status: u64, code: &str, details: &str, asked: usize) -> crate::function::Reply {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    openai.fail(fault.clone(), 100);
    let reply = function.mint().await;
    assert_eq!(assert_refused(&reply, status, code), details, "{fault:?}");
    assert_eq!(openai.requests().len(), asked, "{fault:?}");
    assert!(!reply.body.to_string().contains(API_KEY), "{fault:?}");
    let record = records(&function.stop().await).remove(0);
    assert_eq!((record["Code"].as_str(), record["status"].as_u64()), (Some(code), Some(status)));
    assert_eq!(record["Attempts"].as_u64(), Some(asked as u64), "{record}");
    reply
}

#[tokio::test]
async fn a_permanent_fault_is_not_tried_again() {
    with_fault(Fault::Unauthorized, 502, "openai_rejected_key", "OpenAI API returned 401", 1).await;
    with_fault(Fault::Forbidden, 502, "openai_rejected_key", "OpenAI API returned 403", 1).await;
    with_fault(Fault::BadRequest, 502, "openai_rejected_session", "OpenAI API returned 400", 1).await;
    with_fault(Fault::NotFound, 502, "openai_rejected_session", "OpenAI API returned 404", 1).await;
    let details = "OpenAI API returned 429: the account is out of quota";
    with_fault(Fault::InsufficientQuota, 503, "openai_out_of_quota", details, 1).await;
}

#[tokio::test]
async fn an_answer_without_a_valid_token_is_never_passed_on() {
    let details = "OpenAI's response did not contain a valid token";
    for fault in [Fault::NotJson, Fault::Expired, Fault::WrongPrefix, Fault::Oversize] {
        with_fault(fault, 502, "openai_answer_invalid", details, 1).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let elsewhere = Simulator::start().await.unwrap();
    let location = format!("{}/realtime/client_secrets", elsewhere.base_url());
    let details = "OpenAI's response did not contain a valid token";
    with_fault(Fault::Redirect { location }, 502, "openai_answer_invalid", details, 1).await;
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_transient_fault_is_tried_three_times() {
    for status in [500, 502, 503, 529] {
        let details = format!("OpenAI API returned {status}");
        let fault = Fault::ServerError { status, retry_after: None };
        let reply = with_fault(fault, 502, "openai_unavailable", &details, 3).await;
        assert_eq!(reply.headers.get("retry-after"), None);
    }
    let fault = Fault::RateLimit { retry_after: None };
    let reply = with_fault(fault, 503, "openai_busy", "OpenAI API returned 429: too many requests", 3).await;
    assert_eq!(reply.headers["retry-after"], "5");
}

#[tokio::test]
async fn after_a_broken_connection_new_ones_are_tried() {
    // Once over the connection from the start, which is not counted as a try, then three times over new ones.
    for fault in [Fault::Reset, Fault::Cut, Fault::Garbage] {
        with_fault(fault, 502, "openai_unavailable", "OpenAI API could not be reached", 4).await;
    }
}

#[tokio::test]
async fn a_refused_connection_is_unavailable() {
    let base_url = format!("http://127.0.0.1:{}/v1", unused_port());
    let function = Function::start(&[("OPENAI_BASE_URL", &base_url), ("OPENAI_API_KEY", API_KEY)]).await;
    let details = "OpenAI API could not be reached";
    assert_eq!(assert_refused(&function.mint().await, 502, "openai_unavailable"), details);
}

#[tokio::test]
async fn a_transient_fault_that_ends_in_time_still_gives_a_token() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for fault in [
        Fault::ServerError { status: 500, retry_after: None },
        Fault::ServerError { status: 503, retry_after: Some("0".into()) },
        Fault::RateLimit { retry_after: None },
        Fault::Reset,
        Fault::Cut,
        Fault::Garbage,
    ] {
        openai.fail(fault.clone(), 2);
        assert_eq!(function.mint().await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn retry_after_is_honoured_if_it_fits_and_passed_on_otherwise() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    openai.fail(Fault::RateLimit { retry_after: Some("2".into()) }, 1);
    let began = Instant::now();
    assert_eq!(function.mint().await.status, 200);
    assert!((2000..7000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());

    for fault in [
        Fault::RateLimit { retry_after: Some("40".into()) },
        Fault::ServerError { status: 503, retry_after: Some("40".into()) },
    ] {
        openai.fail(fault, 1);
        let began = Instant::now();
        let reply = function.mint().await;
        assert_eq!(reply.headers["retry-after"], "40", "{}", reply.body);
        assert!(began.elapsed() < Duration::from_secs(6), "a wait that does not fit is not begun");
    }
}

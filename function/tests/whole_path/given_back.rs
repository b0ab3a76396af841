//! A minute counts attempts, a day counts tokens: tokens that OpenAI certainly did not make are given back.

use std::time::{Duration, Instant};

use openai_simulator::{Fault as OpenAiFault, Simulator};
use serde_json::json;
use token_mint::admission::quota::QuotaError;

use crate::{
    counted_once::{count, day},
    faulty_table::{Fault, FaultyTable, Hits},
    function::{Function, http_api, records},
    quotas::{EDGE, at, limits, quota},
    raw_openai::FullListener,
    table::{DynamoDb, environment},
};

/// The sum of the minutes of all callers.
async fn attempts(database: &DynamoDb) -> u64 {
    let items = database.items().await;
    let minutes = items.iter().flat_map(|item| item.as_object().unwrap()).filter(|(name, _)| name.contains(':'));
    minutes.map(|(_, count)| count["N"].as_str().unwrap().parse::<u64>().unwrap()).sum()
}

/// The day's counts of the callers together, and of all callers.
async fn days(database: &DynamoDb) -> [u64; 2] {
    let items = database.items().await;
    let callers = items.iter().filter(|item| !item["id"]["S"].as_str().unwrap().starts_with("everyone"));
    let callers = callers.map(|item| item["day"]["N"].as_str().unwrap().parse::<u64>().unwrap()).sum();
    [callers, day(database, "everyone/").await]
}

#[tokio::test]
async fn tokens_that_openai_refused_or_never_received_are_given_back_and_no_others() {
    let Some(database) = DynamoDb::start().await else { return };
    let mut variables = environment(&database.url);
    variables.extend([("DAILY_MINT_LIMIT", "30"), ("QUOTA_PER_MINUTE", "100")]);
    let retry_after = || Some("60".to_owned());
    let mut counted = 0;
    for (number, (fault, given_back)) in [
        (OpenAiFault::Unauthorized, true),
        (OpenAiFault::Forbidden, true),
        (OpenAiFault::BadRequest, true),
        (OpenAiFault::NotFound, true),
        (OpenAiFault::RateLimit { retry_after: retry_after() }, true),
        (OpenAiFault::InsufficientQuota, true),
        (OpenAiFault::ServerError { status: 500, retry_after: retry_after() }, true),
        (OpenAiFault::ServerError { status: 503, retry_after: retry_after() }, true),
        (OpenAiFault::ServerError { status: 504, retry_after: retry_after() }, false),
        (OpenAiFault::Hang, false),
        (OpenAiFault::Reset, false),
        (OpenAiFault::Cut, false),
        (OpenAiFault::NotJson, false),
        (OpenAiFault::Oversize, false),
    ]
    .into_iter()
    .enumerate()
    {
        let openai = Simulator::start().await.unwrap();
        let function = Function::with(&openai, &variables).await;
        let case = format!("{fault:?}");
        openai.fail(fault, 20);
        let reply = function.invoke_within(Duration::from_secs(3), &http_api(&json!({}))).await;
        assert!(reply.status >= 500, "{case}");
        counted += u64::from(!given_back);
        assert_eq!(days(&database).await, [counted, counted], "{case}");
        assert_eq!(attempts(&database).await, number as u64 + 1, "the minute counts attempts: {case}");
    }
}

#[tokio::test]
async fn one_attempt_in_doubt_keeps_the_token_counted() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &environment(&database.url)).await;
    openai.fail(OpenAiFault::Cut, 1);
    openai.fail(OpenAiFault::BadRequest, 1);
    assert_eq!(function.mint().await.body["code"], "openai_rejected_session");
    assert_eq!(days(&database).await, [1, 1]);
}

#[tokio::test]
async fn an_unreachable_openai_uses_up_no_day() {
    let Some(database) = DynamoDb::start().await else { return };
    let mut variables = environment(&database.url);
    variables.extend([("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"), ("OPENAI_API_KEY", "sk-proj-1")]);
    variables.extend([("DAILY_MINT_LIMIT", "30"), ("QUOTA_PER_MINUTE", "0")]);
    let function = Function::start(&variables).await;
    for _ in 0..3 {
        assert_eq!(function.mint().await.body["code"], "openai_unavailable");
    }
    assert_eq!(days(&database).await, [0, 0]);
}

#[tokio::test]
async fn an_openai_that_accepts_no_connection_uses_up_no_day() {
    let Some(database) = DynamoDb::start().await else { return };
    let full = FullListener::new();
    let base_url = full.base_url();
    let mut variables = environment(&database.url);
    variables.extend([("OPENAI_BASE_URL", base_url.as_str()), ("OPENAI_API_KEY", "sk-proj-1")]);
    variables.extend([("DAILY_MINT_LIMIT", "30"), ("QUOTA_PER_MINUTE", "100")]);
    let function = Function::start(&variables).await;
    assert_eq!(function.mint().await.body["code"], "openai_timeout");
    assert_eq!(days(&database).await, [0, 0]);
    assert_eq!(attempts(&database).await, 1);
}

#[tokio::test]
async fn after_an_outage_with_a_retrying_crowd_everyone_gets_tokens_again() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let mut variables = environment(&database.url);
    variables.extend([("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "3"), ("DAILY_MINT_LIMIT", "6")]);
    let functions = [Function::with(&openai, &variables).await, Function::with(&openai, &variables).await];
    let callers = ["198.51.100.1", "198.51.100.2"]
        .map(|address| http_api(&json!({"requestContext": {"http": {"method": "POST", "sourceIp": address}}})));
    openai.fail(OpenAiFault::ServerError { status: 503, retry_after: Some("60".to_owned()) }, 1000);
    for _ in 0..10 {
        for (function, caller) in functions.iter().zip(&callers) {
            assert_eq!(function.invoke(caller).await.body["code"], "openai_unavailable");
        }
    }
    openai.clear_faults();
    let mut codes = Vec::new();
    for _ in 0..4 {
        for (function, caller) in functions.iter().zip(&callers) {
            codes.push(function.invoke(caller).await.body["code"].as_str().unwrap_or("ok").to_owned());
        }
    }
    assert_eq!(codes[..6], ["ok"; 6]);
    assert!(codes[6..].iter().all(|code| code == "quota_exceeded"), "{codes:?}");
}

#[tokio::test]
async fn a_slow_or_failing_table_delays_the_answer_only_briefly() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let table = FaultyTable::before(&database.url).await;
    let function = Function::with(&openai, &environment(&table.url)).await;
    openai.fail(OpenAiFault::BadRequest, 10);
    for (number, fault) in
        [Fault::Hangs, Fault::Late(Duration::from_secs(5)), Fault::Refused(503, "")].into_iter().enumerate()
    {
        table.set("", fault, Hits::GivingBack);
        let began = Instant::now();
        assert_eq!(function.mint().await.body["code"], "openai_rejected_session");
        assert!(began.elapsed() < Duration::from_millis(2_400), "{fault:?}: {:?}", began.elapsed());
        assert_eq!(attempts(&database).await, number as u64 + 1);
    }
    let hung = &records(&function.stop().await)[0];
    assert!(hung["QuotaTime"].as_f64().unwrap() >= 300.0, "giving back is counted as QuotaTime: {hung}");
}

#[tokio::test]
async fn a_token_is_given_back_once_to_its_own_day_and_never_below_zero() {
    let Some(database) = DynamoDb::start().await else { return };
    for (fault, omits) in [
        (Fault::Lost, false),
        (Fault::FailsAfterwards(500), false),
        (Fault::FailsAfterwards(503), true),
        (Fault::Refused(500, "{}"), false),
    ] {
        let table = FaultyTable::before(&database.url).await;
        if omits {
            table.omit_items();
        }
        let quota = quota(&table.url, limits(10, 10, 40));
        let caller = format!("{fault:?}");
        let (first, second) = (quota.take(&caller, at(EDGE)).await.unwrap(), quota.take(&caller, at(EDGE)).await);
        table.set("", fault, Hits::First);
        quota.give_back(&first).await;
        assert_eq!([day(&database, &caller).await, day(&database, "everyone/").await], [1, 1], "{fault:?}");
        assert_eq!(count(&database, &caller, "23:59").await, 2, "the minute is never given back");
        // The next day has begun.
        table.heal();
        let tomorrow = quota.take(&caller, at(EDGE + Duration::from_secs(1))).await.unwrap();
        quota.give_back(&second.unwrap()).await;
        assert_eq!([day(&database, &caller).await, day(&database, "everyone/2026-11-22").await], [0, 0], "{fault:?}");
        assert_eq!(day(&database, &format!("{caller}/2026-11-23")).await, 1, "{fault:?}");
        assert_eq!(day(&database, "everyone/2026-11-23").await, 1, "{fault:?}");
        for _ in 0..3 {
            quota.give_back(&tomorrow).await;
        }
        let counts = database.items().await.into_iter().map(|item| item["day"]["N"].clone());
        assert!(counts.clone().all(|count| count == "0"), "{:?}", counts.collect::<Vec<_>>());
    }
    quota(&database.url, limits(1, 1, 1))
        .give_back(&quota(&database.url, limits(0, 0, 0)).take("x", at(EDGE)).await.unwrap())
        .await;
    assert!(database.items().await.iter().all(|item| !item["id"]["S"].as_str().unwrap().starts_with('x')));
}

#[tokio::test]
async fn a_caller_refused_by_the_daily_limit_keeps_their_own_day() {
    let Some(database) = DynamoDb::start().await else { return };
    let quota = quota(&database.url, limits(0, 5, 2));
    for caller in ["a", "b"] {
        quota.take(caller, at(EDGE - Duration::from_secs(60))).await.unwrap();
    }
    for second in 0..40 {
        let now = EDGE - Duration::from_secs(60 - second);
        assert!(matches!(quota.take("c", at(now)).await, Err(QuotaError::DailyLimit { .. })));
    }
    assert_eq!([day(&database, "c/").await, day(&database, "everyone/").await], [0, 2]);
}

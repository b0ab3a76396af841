//! Quotas: exact for concurrent instances and across windows, and closed if the table fails.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use axum::http::StatusCode;
use openai_simulator::{Fault, Simulator};
use serde_json::{Value, json};
use token_mint::{
    admission::quota::{Limits, Quota, QuotaError},
    aws::dynamodb::Table,
    net::tls,
};
use tokio::task::JoinSet;

use crate::{
    function::{ADDRESS, Function, http_api, records},
    refusals::assert_refused,
    table::{DynamoDb, Store, Stub, TABLE, environment},
};

/// 2026-11-22T23:59:59.900Z
pub const EDGE: Duration = Duration::from_millis(1_795_391_999_900);

/// Quotas of an instance of the function, whose clock is the test's.
pub fn quota(url: &str, limits: Limits) -> Arc<Quota> {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .build();
    let table = Table::new(TABLE.to_owned(), &config, tls::client_config(None).unwrap()).unwrap();
    Arc::new(Quota::new(Arc::new(table), limits))
}

pub fn limits(per_minute: u32, per_day: u32, all_callers_per_day: u32) -> Limits {
    let [per_minute, per_day, all_callers_per_day] = [per_minute, per_day, all_callers_per_day].map(NonZeroU32::new);
    Limits { per_minute, per_day, all_callers_per_day }
}

pub fn at(since: Duration) -> SystemTime {
    UNIX_EPOCH + since
}

/// Sends 64 requests at once, each over a connection of its own, by the callers and at the times of `asking` in turn.
/// Returns the number of tokens.
pub async fn taken_of_64(url: &str, limits: Limits, asking: &[(&str, Duration)]) -> usize {
    let mut requests = JoinSet::new();
    for number in 0..64 {
        let (caller, now) = asking[number % asking.len()];
        let (quota, caller) = (quota(url, limits), caller.to_owned());
        requests.spawn(async move { quota.take(&caller, at(now)).await });
    }
    let mut taken = 0;
    while let Some(outcome) = requests.join_next().await {
        match outcome.unwrap() {
            Ok(_) => taken += 1,
            Err(QuotaError::Unavailable(error)) => panic!("{error:?}"),
            Err(_) => {}
        }
    }
    taken
}

#[tokio::test]
async fn each_limit_is_exact_for_64_requests_at_once() {
    let Some(database) = DynamoDb::start().await else { return };
    let (before, after) = (EDGE, EDGE + Duration::from_millis(200));
    // Days apart, so that the cases do not share counters.
    let day = |number: u32| Duration::from_secs(86_400) * number;
    for (case, limits, asking, expected) in [
        ("a minute", limits(10, 0, 0), vec![("a", before)], 10),
        ("a day", limits(0, 20, 0), vec![("a", before)], 20),
        ("all callers", limits(0, 0, 30), vec![("a", before), ("b", before)], 30),
        ("the lowest", limits(25, 7, 30), vec![("a", before)], 7),
        ("each caller", limits(10, 20, 0), vec![("a", before), ("b", before), ("c", before)], 30),
        ("each caller, then all", limits(10, 20, 25), vec![("a", before), ("b", before), ("c", before)], 25),
        // Half of the instances are already in the next minute and day.
        ("a minute, across its edge", limits(10, 0, 0), vec![("a", before), ("a", after)], 20),
        ("a day, across its edge", limits(0, 20, 0), vec![("a", before), ("a", after)], 40),
        ("all callers, across the edge", limits(0, 0, 15), vec![("a", before), ("b", after)], 30),
        ("a minute of one day", limits(9, 14, 0), vec![("a", before), ("a", before - Duration::from_secs(60))], 14),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (case, limits, asking, expected))| {
        let shift = day(3) * u32::try_from(number).unwrap();
        let asking: Vec<_> = asking.into_iter().map(|(caller, time)| (caller, time + shift)).collect();
        (case, limits, asking, expected)
    }) {
        assert_eq!(taken_of_64(&database.url, limits, &asking).await, expected, "{case}");
        assert_eq!(taken_of_64(&database.url, limits, &asking).await, 0, "{case}, repeated");
    }
}

#[tokio::test]
async fn the_limit_is_exact_for_64_requests_to_eight_processes() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let mut variables = environment(&database.url);
    variables.extend([("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "20")]);
    let mut functions = Vec::new();
    for _ in 0..8 {
        functions.push(Arc::new(Function::with(&openai, &variables).await));
    }
    // If the test runs across midnight, the requests fall into two days.
    let today = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
    let begun = today();
    let mut requests = JoinSet::new();
    for function in &functions {
        let function = Arc::clone(function);
        requests.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..8 {
                statuses.push(function.mint().await.status);
            }
            statuses
        });
    }
    let statuses: Vec<u64> = requests.join_all().await.concat();
    let got = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    if today() == begun {
        assert_eq!((got(200), got(429)), (20, 44));
        assert_eq!(openai.requests().len(), 20, "refused callers cause no request to OpenAI");
    }
}

#[tokio::test]
async fn a_refused_caller_takes_no_tokens_from_the_others() {
    let Some(database) = DynamoDb::start().await else { return };
    let quota = quota(&database.url, limits(0, 2, 5));
    let mut outcomes = Vec::new();
    for caller in ["greedy"; 20].into_iter().chain(["b", "b", "c", "d"]) {
        outcomes.push(match quota.take(caller, at(EDGE)).await {
            Ok(_) => 't',
            Err(QuotaError::Exceeded(_)) => 'q',
            Err(QuotaError::DailyLimit { .. }) => 'd',
            Err(QuotaError::Unavailable(_)) => '!',
        });
    }
    assert_eq!(outcomes.iter().collect::<String>(), "ttqqqqqqqqqqqqqqqqqqtttd");
}

#[tokio::test]
async fn retry_after_is_right_to_the_second() {
    let Some(database) = DynamoDb::start().await else { return };
    for (limits, now) in [
        (limits(1, 0, 0), Duration::from_millis(1_795_000_001_001)),
        (limits(1, 0, 0), Duration::from_secs(1_795_000_200)),
        (limits(5, 1, 0), Duration::from_millis(1_795_100_000_500)),
        (limits(1, 1, 0), EDGE),
        (limits(0, 0, 1), Duration::from_millis(1_795_300_000_999)),
    ] {
        let quota = quota(&database.url, limits);
        quota.take("a", at(now)).await.expect("a token is left");
        let wait = match quota.take("a", at(now)).await {
            Err(QuotaError::Exceeded(standing)) => standing.retry_after(),
            // As it is when it is written into a header.
            Err(QuotaError::DailyLimit { retry_after }) => Duration::from_secs_f64(retry_after.as_secs_f64().ceil()),
            other => panic!("{other:?}"),
        };
        assert!(quota.take("a", at(now + wait - Duration::from_secs(1))).await.is_err(), "a second early: {now:?}");
        assert!(quota.take("a", at(now + wait)).await.is_ok(), "on time: {now:?}");
    }
}

#[tokio::test]
async fn an_answer_has_the_remaining_quota_and_the_wait() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let mut variables = environment(&database.url);
    variables.extend([("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "2"), ("DAILY_MINT_LIMIT", "3")]);
    let function = Function::with(&openai, &variables).await;
    for left in [1, 0] {
        let reply = function.mint().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["ratelimit-policy"], r#""day";q=2;w=86400"#);
        assert!(reply.headers["ratelimit"].as_str().unwrap().starts_with(&format!("\"day\";r={left};t=")), "{reply:?}");
    }
    let reply = function.mint().await;
    let wait = reply.headers["retry-after"].as_str().unwrap();
    let details = assert_refused(&reply, 429, "quota_exceeded");
    assert_eq!(details, format!("The limit is 2 per day; the next token is available in {wait} s"));
    assert_eq!(reply.headers["ratelimit"], format!("\"day\";r=0;t={wait}"));
    assert!((1..=86_400).contains(&wait.parse::<u32>().unwrap()));

    // Another caller has a quota of its own, but shares the daily limit.
    let other = json!({"requestContext": {"http": {"method": "POST", "sourceIp": "198.51.100.1"}}});
    assert_eq!(function.invoke(&http_api(&other)).await.status, 200);
    let reply = function.invoke(&http_api(&other)).await;
    let details = assert_refused(&reply, 503, "daily_limit_reached");
    assert_eq!(details, "All of today's tokens are used up; the next day begins at midnight UTC");
    assert!((1..=86_400).contains(&reply.headers["retry-after"].as_str().unwrap().parse::<u32>().unwrap()));

    let records = records(&function.stop().await);
    assert!(records.iter().all(|record| record["QuotaTime"].as_f64().unwrap() > 0.0));
    let codes: Vec<_> = records.iter().map(|record| record["Code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ok", "ok", "quota_exceeded", "ok", "daily_limit_reached"]);
}

#[tokio::test]
async fn the_table_holds_hashes_and_counts_that_expire() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &environment(&database.url)).await;
    let subject = json!({"requestContext": {"http": {"method": "POST", "sourceIp": ADDRESS},
        "authorizer": {"jwt": {"claims": {"sub": "trainee@example.com"}}}}});
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(function.invoke(&http_api(&subject)).await.status, 200);
    let items = database.items().await;
    let identifiers: Vec<_> = openai.requests().into_iter().map(|sent| sent.safety_identifier.unwrap()).collect();
    assert_eq!((identifiers.len(), items.len()), (2, 3));
    for (item, whose) in items.iter().map(|item| (item, item["id"]["S"].as_str().unwrap().split('/').next().unwrap())) {
        assert!(whose == "everyone" || identifiers.iter().any(|hash| hash == whose), "{item}");
        assert!(!item.to_string().contains(ADDRESS) && !item.to_string().contains("trainee"), "{item}");
        let expires = item["expires"]["N"].as_str().unwrap().parse::<u64>().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((now + 86_400..=now + 2 * 86_400).contains(&expires), "one to two days from now: {item}");
    }
}

#[tokio::test]
async fn only_valid_requests_are_counted_and_only_issued_tokens_stay_counted() {
    let Some(database) = DynamoDb::start().await else { return };
    let openai = Simulator::start().await.unwrap();
    let mut variables = environment(&database.url);
    variables.extend([("QUOTA_PER_MINUTE", "0"), ("DAILY_MINT_LIMIT", "0"), ("QUOTA_PER_DAY", "2")]);
    variables.push(("ALLOWED_ORIGINS", "https://app.example.com"));
    let function = Function::with(&openai, &variables).await;
    for (wrong, status) in [
        (json!({"body": "{"}), 400),
        (json!({"body": r#"{"model": "gpt-4"}"#}), 400),
        (json!({"headers": {"origin": "https://evil.example"}}), 403),
        (json!({"requestContext": {"http": {"method": "GET", "sourceIp": ADDRESS}}}), 405),
    ] {
        assert_eq!(function.invoke(&http_api(&wrong)).await.status, status);
    }
    assert!(database.items().await.is_empty());
    openai.fail(Fault::BadRequest, 1);
    assert_eq!(function.mint().await.status, 502);
    let statuses = [function.mint().await.status, function.mint().await.status, function.mint().await.status];
    assert_eq!(statuses, [200, 200, 429], "the one that OpenAI refused was given back");
}

#[tokio::test]
async fn a_failing_table_refuses_every_request() {
    let openai = Simulator::start().await.unwrap();
    for (store, tried, cause) in [
        (Store::Refuses(StatusCode::BAD_REQUEST, "AccessDeniedException"), 1, "AccessDeniedException"),
        (Store::Refuses(StatusCode::BAD_REQUEST, "ResourceNotFoundException"), 1, "ResourceNotFoundException"),
        (Store::Refuses(StatusCode::BAD_REQUEST, "ThrottlingException"), 2, "ThrottlingException"),
        (Store::Refuses(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"), 2, "InternalServerError"),
        (Store::Malformed, 2, "its answer is malformed"),
        (Store::Hangs, 2, "no answer in time"),
    ] {
        let stub = Stub::start(store).await;
        let function = Function::with(&openai, &environment(&stub.url)).await;
        let began = Instant::now();
        let details = "The quota cannot be checked, so no token is issued";
        assert_eq!(assert_refused(&function.mint().await, 503, "quota_unavailable"), details);
        assert!(began.elapsed() < Duration::from_secs(5), "{cause}");
        assert_eq!(stub.updates(), tried, "{cause}");
        stub.set(Store::Counts);
        assert_eq!(function.mint().await.status, 200, "counts again by itself: {cause}");
        let log = function.stop().await;
        let logged = records(&log)[0]["cause"].as_str().unwrap().to_owned();
        assert_eq!(logged, format!("no token could be taken from the quota: the quota table cannot be used: {cause}"));
        assert!(!log.contains(ADDRESS), "AWS's message is not logged: {log}");
    }
    let function = Function::with(&openai, &environment("http://127.0.0.1:1")).await;
    assert_refused(&function.mint().await, 503, "quota_unavailable");
    assert_eq!(openai.requests().len(), 6, "no request was let through");
}

#[tokio::test]
async fn a_transient_refusal_is_tried_once_more() {
    let openai = Simulator::start().await.unwrap();
    let stub = Stub::start(Store::Counts).await;
    let function = Function::with(&openai, &environment(&stub.url)).await;
    for code in ["ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"] {
        stub.set(Store::RefusesOnce(StatusCode::BAD_REQUEST, code));
        assert_eq!(function.mint().await.status, 200, "{code}");
    }
}

#[tokio::test]
async fn the_connection_is_opened_in_init_and_kept() {
    let openai = Simulator::start().await.unwrap();
    let stub = Stub::start(Store::Counts).await;
    let function = Function::with(&openai, &environment(&stub.url)).await;
    assert_eq!((stub.connections(), stub.updates()), (1, 0), "opened, without a request");
    for _ in 0..5 {
        assert_eq!(function.mint().await.status, 200);
    }
    // One update for each mint, and for all callers three batches, of 1, 3 and more tokens.
    assert_eq!((stub.connections(), stub.updates()), (1, 8));
}

#[tokio::test]
async fn a_silent_table_on_an_old_connection_delays_a_mint_by_half_a_second() {
    let openai = Simulator::start().await.unwrap();
    let stub = Stub::start(Store::Counts).await;
    let function = Function::with(&openai, &environment(&stub.url)).await;
    // The second round uses the connection that replaced the first.
    for connections in [2, 3] {
        assert_eq!(function.mint().await.status, 200);
        stub.set(Store::Hangs);
        let (before, began) = (stub.updates(), Instant::now());
        let (reply, ()) = tokio::join!(function.mint(), async {
            while stub.updates() == before {
                tokio::task::yield_now().await;
            }
            stub.set(Store::Counts);
        });
        assert_eq!(reply.status, 200);
        assert!((Duration::from_millis(450)..Duration::from_millis(1500)).contains(&began.elapsed()));
        assert_eq!(stub.connections(), connections);
    }
}

#[tokio::test]
async fn without_a_table_or_a_limit_dynamodb_is_not_asked() {
    let openai = Simulator::start().await.unwrap();
    let stub = Stub::start(Store::Counts).await;
    for off in
        [vec![("QUOTA_TABLE", "")], vec![("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "0"), ("DAILY_MINT_LIMIT", "0")]]
    {
        let mut variables = environment(&stub.url);
        variables.extend(off);
        // Calls are registered in the table, whatever the limits are.
        variables.push(("ENDPOINTS", "token"));
        let function = Function::with(&openai, &variables).await;
        let reply = function.mint().await;
        assert_eq!((reply.status, reply.headers.get("ratelimit")), (200, None::<&Value>));
        assert_eq!(records(&function.stop().await)[0].get("QuotaTime"), None);
    }
    assert_eq!(stub.connections(), 0);
}

#[tokio::test]
async fn a_table_without_a_region_stops_the_start() {
    let log = Function::fails_to_start(&[("QUOTA_TABLE", "t"), ("AWS_EC2_METADATA_DISABLED", "true")]).await;
    assert!(log.contains("QUOTA_TABLE is set, but no AWS region is: expected one in AWS_REGION"), "{log}");
}

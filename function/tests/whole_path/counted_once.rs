//! A request is counted once, however often its updates are sent.

use std::time::Duration;

use openai_simulator::Simulator;
use serde_json::{Value, json};
use token_mint::admission::quota::QuotaError;
use tokio::task::JoinSet;

use crate::{
    faulty_table::{Fault, FaultyTable, Hits},
    function::{Function, http_api, records},
    quotas::{EDGE, at, limits, quota, taken_of_64},
    refusals::assert_refused,
    table::{DynamoDb, Store, Stub, environment},
};

/// The counter of a day in the first item whose key starts with that. 0: there is none.
pub async fn day(database: &DynamoDb, start: &str) -> u64 {
    count(database, start, "day").await
}

pub async fn count(database: &DynamoDb, start: &str, counter: &str) -> u64 {
    let items = database.items().await;
    let found = items.iter().find(|item| item["id"]["S"].as_str().unwrap().starts_with(start));
    found.and_then(|item| item[counter]["N"].as_str()).map_or(0, |count| count.parse().unwrap())
}

const LATE: Fault = Fault::Late(Duration::from_millis(800));

#[tokio::test]
async fn an_update_whose_answer_is_late_lost_or_an_error_is_counted_once() {
    let Some(database) = DynamoDb::start().await else { return };
    let faults = [LATE, Fault::Lost, Fault::FailsAfterwards(500), Fault::FailsAfterwards(503)];
    for (number, fault) in faults.into_iter().enumerate() {
        for (items, omits) in [("a/", false), ("everyone/", false), ("", false), ("", true)] {
            let table = FaultyTable::before(&database.url).await;
            if omits {
                table.omit_items();
            }
            table.set(items, fault, Hits::First);
            let quota = quota(&table.url, limits(5, 10, 40));
            // Over a connection that was opened earlier, a late answer is waited for half a second.
            quota.warm().await;
            let case = format!("{fault:?} of {items:?}, without items: {omits}");
            let (caller, before) = (format!("{number}{items}{omits}"), day(&database, "everyone/").await);
            let table_items = if items == "a/" { caller.as_str() } else { items };
            table.set(table_items, fault, Hits::First);
            let taken = quota.take(&caller, at(EDGE)).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
            let remaining: Vec<_> = taken.status.limits.iter().map(|limit| limit.remaining).collect();
            assert_eq!(remaining, [4, 9], "{case}");
            assert_eq!(day(&database, &caller).await, 1, "{case}");
            assert_eq!(count(&database, &caller, "23:59").await, 1, "{case}");
            assert_eq!(day(&database, "everyone/").await, before + 1, "{case}");
        }
    }
}

#[tokio::test]
async fn a_repeated_update_is_recognised_after_others_of_the_same_item() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let late = quota(&table.url, limits(100, 0, 0));
    table.set("", Fault::Late(Duration::from_secs(10)), Hits::First);
    let repeated = tokio::spawn(async move { late.take("a", at(EDGE)).await });
    while minute_of_a(&database).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The others overtake it: more than fit into one set of the item.
    let mut others = JoinSet::new();
    for _ in 0..40 {
        let quota = quota(&database.url, limits(100, 0, 0));
        others.spawn(async move { quota.take("a", at(EDGE)).await.is_ok() });
    }
    assert!(others.join_all().await.into_iter().all(|taken| taken));
    assert!(repeated.await.unwrap().is_ok());
    assert_eq!(minute_of_a(&database).await, 41);
}

async fn minute_of_a(database: &DynamoDb) -> u64 {
    count(database, "a/", "23:59").await
}

#[tokio::test]
async fn a_limit_is_exact_if_the_first_answer_to_each_of_64_requests_is_lost() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    table.set("", Fault::Lost, Hits::First);
    let three_days = Duration::from_secs(3 * 86_400);
    for (number, (limits, expected)) in
        [(limits(10, 0, 0), 10), (limits(0, 30, 0), 30), (limits(0, 0, 30), 30), (limits(25, 20, 30), 20)]
            .into_iter()
            .enumerate()
    {
        let now = EDGE + three_days * u32::try_from(number).unwrap();
        assert_eq!(taken_of_64(&table.url, limits, &[("a", now)]).await, expected, "{limits:?}");
    }
    let counts: Vec<_> = database.items().await.iter().map(|item| item["day"]["N"].clone()).collect();
    assert_eq!(counts, [Value::Null, json!("30"), json!("20"), json!("30"), json!("20")], "one for each token");
}

#[tokio::test]
async fn a_table_that_always_answers_late_issues_every_token_of_a_limit() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    table.set("", LATE, Hits::All);
    let mut requests = JoinSet::new();
    for _ in 0..20 {
        let quota = quota(&table.url, limits(0, 12, 0));
        requests.spawn(async move {
            quota.warm().await;
            quota.take("a", at(EDGE)).await.is_ok()
        });
    }
    assert_eq!(requests.join_all().await.into_iter().filter(|taken| *taken).count(), 12);
    assert_eq!(day(&database, "a/").await, 12);
}

#[tokio::test]
async fn every_5xx_of_the_table_is_tried_again() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    for (number, fault) in [
        Fault::Refused(500, r#"{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}"#),
        Fault::Refused(500, r#"{"__type": "com.amazonaws.dynamodb.v20120810#InternalFailure"}"#),
        Fault::Refused(502, "<html>Bad Gateway</html>"),
        Fault::Refused(503, r#"{"__type": "SlowDown", "message": "x"}"#),
        Fault::Refused(503, ""),
        Fault::Refused(504, r#"{"message": "Endpoint request timed out"}"#),
        Fault::Refused(400, r#"{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"}"#),
    ]
    .into_iter()
    .enumerate()
    {
        table.set("", fault, Hits::First);
        let caller = format!("caller-{number}");
        let taken = quota(&table.url, limits(5, 10, 40)).take(&caller, at(EDGE)).await;
        assert!(taken.is_ok(), "{fault:?}: {taken:?}");
        assert_eq!(day(&database, &caller).await, 1, "{fault:?}");
    }
    assert_eq!(day(&database, "everyone/").await, 7);
    table.set("", Fault::Refused(400, r#"{"__type": "x#AccessDeniedException"}"#), Hits::First);
    let before = table.updates("");
    let refused = quota(&table.url, limits(5, 10, 40)).take("b", at(EDGE)).await;
    assert!(matches!(refused, Err(QuotaError::Unavailable(_))), "{refused:?}");
    assert_eq!(table.updates(""), before + 1, "no other 4xx is");
}

#[tokio::test]
async fn with_no_time_left_nothing_is_counted_and_the_table_is_not_blamed() {
    let openai = Simulator::start().await.unwrap();
    let stub = Stub::start(Store::Counts).await;
    let function = Function::with(&openai, &environment(&stub.url)).await;
    for milliseconds in [100, 400, 550, 750, 1_000] {
        let reply = function.invoke_within(Duration::from_millis(milliseconds), &http_api(&json!({}))).await;
        assert_refused(&reply, 504, "openai_timeout");
    }
    assert_eq!((stub.updates(), openai.requests().len()), (0, 0));
    for record in records(&function.stop().await) {
        assert_eq!(record["cause"], "too little time was left to count a token and to ask OpenAI");
        assert_eq!(record.get("QuotaTime"), None);
    }
}

#[tokio::test]
async fn a_table_that_is_slower_than_the_time_left_is_not_blamed() {
    let Some(database) = DynamoDb::start().await else { return };
    let (openai, table) = (Simulator::start().await.unwrap(), FaultyTable::before(&database.url).await);
    let function = Function::with(&openai, &environment(&table.url)).await;
    table.set("", Fault::Late(Duration::from_millis(200)), Hits::All);
    for _ in 0..3 {
        let reply = function.invoke_within(Duration::from_millis(750), &http_api(&json!({}))).await;
        assert_refused(&reply, 504, "openai_timeout");
    }
    assert_eq!((table.updates(""), openai.requests().len()), (0, 0), "nothing is counted");
    assert_eq!(function.mint().await.status, 200, "the same table, with enough time");
    table.set("", Fault::Late(Duration::from_millis(450)), Hits::All);
    let reply = function.invoke_within(Duration::from_millis(1_300), &http_api(&json!({}))).await;
    assert_refused(&reply, 504, "openai_timeout");
    assert_eq!(openai.requests().len(), 1);
}

//! The daily limit for all callers: exact, remembered when it is reached, and taken in batches by busy instances.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use openai_simulator::{Fault as OpenAiFault, Simulator};
use token_mint::admission::quota::{Quota, QuotaError};
use tokio::task::JoinSet;

use crate::{
    counted_once::day,
    faulty_table::{Fault, FaultyTable, Hits},
    function::Function,
    quotas::{EDGE, at, limits, quota},
    table::{DynamoDb, environment},
};

/// Hours before midnight.
const NOON: Duration = Duration::from_secs(1_795_348_800);

#[tokio::test]
async fn a_reached_limit_is_remembered_for_ten_seconds_and_given_back_tokens_are_found() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let (first, second) = (quota(&table.url, limits(0, 5, 2)), quota(&table.url, limits(0, 5, 2)));
    let one = first.take("a", at(NOON)).await.unwrap();
    first.take("b", at(NOON)).await.unwrap();
    let refused = |outcome| matches!(outcome, Err(QuotaError::DailyLimit { .. }));
    assert!(refused(second.take("c", at(NOON)).await));
    let before = table.updates("");
    for millisecond in 0..500 {
        let now = NOON + Duration::from_millis(19 * millisecond);
        assert!(refused(second.take("c", at(now)).await), "{millisecond}");
    }
    assert_eq!(table.updates(""), before, "the table is not asked again");
    assert!(refused(second.take("c", at(NOON + Duration::from_secs(10))).await));
    assert!(table.updates("") > before, "ten seconds later it is");
    first.give_back(&one).await;
    assert!(first.take("c", at(NOON + Duration::from_secs(11))).await.is_ok(), "the instance that gave it back");
    assert!(refused(second.take("c", at(NOON + Duration::from_secs(21))).await));
    let midnight = NOON + Duration::from_secs(12 * 3600);
    assert!(refused(second.take("c", at(midnight - Duration::from_secs(1))).await));
    assert!(second.take("c", at(midnight)).await.is_ok(), "the next day");
}

/// Takes tokens for ever other callers, from instances in turn, until every instance refuses. Returns their number.
async fn take_all(instances: &[Arc<Quota>], now: Duration) -> u32 {
    let mut instances: Vec<_> = instances.iter().cloned().map(Some).collect();
    let mut taken = 0;
    while instances.iter().any(Option::is_some) {
        let mut requests = JoinSet::new();
        for (number, instance) in instances.iter().enumerate() {
            let Some(instance) = instance.clone() else { continue };
            let caller = format!("{number}-{taken}");
            requests.spawn(async move { (number, instance.take(&caller, at(now)).await) });
        }
        while let Some(outcome) = requests.join_next().await {
            match outcome.unwrap() {
                (_, Ok(mut token)) => {
                    token.finish().await;
                    taken += 1;
                }
                (number, Err(QuotaError::DailyLimit { .. })) => instances[number] = None,
                (_, Err(error)) => panic!("{error:?}"),
            }
        }
    }
    taken
}

#[tokio::test]
async fn instances_that_take_batches_issue_exactly_the_limit() {
    let Some(database) = DynamoDb::start().await else { return };
    for (number, (instances, limit)) in [(1, 1_000), (3, 700), (12, 400)].into_iter().enumerate() {
        let table = FaultyTable::before(&database.url).await;
        let instances: Vec<_> = (0..instances).map(|_| quota(&table.url, limits(0, 0, limit))).collect();
        let now = NOON + Duration::from_secs(86_400) * u32::try_from(number).unwrap();
        assert_eq!(take_all(&instances, now).await, limit, "{} instances", instances.len());
        let (updates, limit) = (table.updates("everyone/"), usize::try_from(limit).unwrap());
        assert!(instances.len() > 1 || updates < limit / 4, "{updates} updates for {limit} tokens");
    }
}

#[tokio::test]
async fn concurrent_requests_to_one_instance_do_not_take_more_than_the_limit() {
    let Some(database) = DynamoDb::start().await else { return };
    let quota = quota(&database.url, limits(0, 0, 150));
    let mut taken = 0;
    for _ in 0..4 {
        let mut requests = JoinSet::new();
        for caller in 0..50 {
            let quota = Arc::clone(&quota);
            requests.spawn(async move { quota.take(&caller.to_string(), at(NOON)).await.is_ok() });
        }
        taken += requests.join_all().await.into_iter().filter(|taken| *taken).count();
    }
    assert_eq!((taken, day(&database, "everyone/").await), (150, 150));
}

#[tokio::test]
async fn a_warm_mint_waits_for_one_update() {
    let Some(database) = DynamoDb::start().await else { return };
    let (openai, table) = (Simulator::start().await.unwrap(), FaultyTable::before(&database.url).await);
    let mut variables = environment(&table.url);
    variables.push(("QUOTA_PER_MINUTE", "100"));
    let function = Function::with(&openai, &variables).await;
    // The table takes less time than OpenAI, as in reality.
    table.set("", Fault::Late(Duration::from_millis(250)), Hits::All);
    openai.fail(OpenAiFault::Delay { ms: 300 }, 100);
    let mut times = Vec::new();
    for _ in 0..12 {
        let began = Instant::now();
        assert_eq!(function.mint().await.status, 200);
        times.push(began.elapsed());
    }
    let warm = &mut times[2..];
    warm.sort_unstable();
    // A busy machine makes some mints slower, and a second update would make each take 800 ms.
    assert!(warm[2] < Duration::from_millis(780), "250 and 300 ms, and no second update: {warm:?}");
    let updates = table.updates("everyone/");
    assert!(updates <= 8, "not one for each of the 12 mints: {updates}");
    let taken = day(&database, "everyone/").await;
    assert!((12..12 + 21).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_refused_caller_takes_no_tokens_from_the_others_on_any_instance() {
    let Some(database) = DynamoDb::start().await else { return };
    let instances: Vec<_> = (0..8).map(|_| quota(&database.url, limits(0, 2, 1_000))).collect();
    for instance in instances.iter().cycle().take(80) {
        let _ = instance.take("greedy", at(NOON)).await;
    }
    assert_eq!(day(&database, "everyone/").await, 2);
}

#[tokio::test]
async fn an_unused_token_of_a_busy_instance_is_kept_and_used_by_the_next_request() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let quota = quota(&table.url, limits(0, 0, 5_000));
    for _ in 0..20 {
        quota.take("a", at(NOON)).await.unwrap().finish().await;
    }
    let (updates, taken) = (table.updates(""), day(&database, "everyone/").await);
    for _ in 0..100 {
        let token = quota.take("a", at(NOON)).await.unwrap();
        quota.give_back(&token).await;
    }
    assert!(table.updates("") <= updates + 1, "an outage does not write to the common item");
    assert!(day(&database, "everyone/").await <= taken + 21);
}

#[tokio::test]
async fn the_tokens_of_a_day_are_worthless_on_the_next() {
    let Some(database) = DynamoDb::start().await else { return };
    let quota = quota(&database.url, limits(0, 0, 5_000));
    for _ in 0..5 {
        quota.take("a", at(EDGE)).await.unwrap().finish().await;
    }
    assert!(day(&database, "everyone/2026-11-22").await > 5, "some are left");
    quota.take("a", at(EDGE + Duration::from_secs(1))).await.unwrap();
    assert!(day(&database, "everyone/2026-11-23").await >= 1, "a token of the new day was taken");
}

#[tokio::test]
async fn an_instance_whose_updates_are_not_answered_loses_no_batch() {
    let Some(database) = DynamoDb::start().await else { return };
    for (day_number, (fault, at_once)) in
        [(Fault::Lost, 1), (Fault::Lost, 8), (Fault::FailsAfterwards(500), 1), (Fault::Refused(500, "{}"), 1)]
            .into_iter()
            .enumerate()
    {
        let case = format!("{fault:?}, {at_once} at once");
        let table = FaultyTable::before(&database.url).await;
        let quota = quota(&table.url, limits(0, 0, 400));
        let now = NOON + Duration::from_secs(86_400) * u32::try_from(day_number).unwrap();
        let item = format!("everyone/{}", ["2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25"][day_number]);
        let mut issued = 0;
        for _ in 0..62 {
            quota.take("a", at(now)).await.unwrap().finish().await;
            issued += 1;
        }
        assert!(day(&database, &item).await > issued, "{case}: some are left");
        table.set("", fault, Hits::All);
        let mut lost = 0;
        for _ in 0..40 {
            let mut requests = JoinSet::new();
            for _ in 0..at_once {
                let quota = Arc::clone(&quota);
                requests.spawn(async move { quota.take("a", at(now)).await });
            }
            for outcome in requests.join_all().await {
                match outcome {
                    Ok(mut token) => {
                        token.finish().await;
                        issued += 1;
                    }
                    Err(_) => lost += 1,
                }
            }
        }
        assert!(lost >= 20 && issued < 100, "{case}: {lost} lost, {issued} issued");
        let counted = day(&database, &item).await;
        assert!(counted <= issued + 21 + at_once, "{case}: {counted} counted, {issued} issued");
        table.heal();
        let rest = take_all(&[quota], now).await;
        assert_eq!(
            (issued + u64::from(rest), day(&database, &item).await),
            (400, 400),
            "{case}: every token is issued"
        );
    }
}

#[tokio::test]
async fn a_batch_whose_request_ended_before_its_answer_is_used_by_the_next() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let quota = quota(&table.url, limits(0, 0, 5_000));
    for _ in 0..3 {
        quota.take("a", at(NOON)).await.unwrap();
    }
    table.set("", Fault::Late(Duration::from_secs(5)), Hits::All);
    let mut ended = 0;
    for _ in 0..40 {
        let taken = tokio::time::timeout(Duration::from_millis(30), quota.take("a", at(NOON))).await;
        ended += u32::from(taken.is_err());
    }
    assert!(ended > 10, "{ended}");
    let counted = day(&database, "everyone/").await;
    assert!(counted <= 40 + 3 + 21, "{counted}");
}

#[tokio::test]
async fn an_unanswered_update_of_a_day_is_not_sent_again_on_the_next() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let quota = quota(&table.url, limits(0, 0, 5));
    table.set("", Fault::Lost, Hits::All);
    assert!(quota.take("a", at(EDGE)).await.is_err());
    table.heal();
    assert_eq!(take_all(&[quota], EDGE + Duration::from_secs(1)).await, 5);
    assert_eq!(day(&database, "everyone/2026-11-22").await, 1);
    assert_eq!(day(&database, "everyone/2026-11-23").await, 5);
}

#[tokio::test]
async fn an_unanswered_update_is_also_kept_while_the_table_throttles() {
    let Some(database) = DynamoDb::start().await else { return };
    let table = FaultyTable::before(&database.url).await;
    let quota = quota(&table.url, limits(0, 0, 5));
    let throttled = Fault::Refused(400, r#"{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"}"#);
    for fault in [Fault::Lost, throttled] {
        table.set("", fault, Hits::All);
        assert!(quota.take("a", at(NOON)).await.is_err());
    }
    table.heal();
    assert_eq!(take_all(&[quota], NOON).await, 5);
}

#[tokio::test]
async fn an_operator_closes_the_day_with_any_number() {
    let Some(database) = DynamoDb::start().await else { return };
    for (number, count) in ["5000", "4294967295", "4294967296", "99999999999", "1E+30"].into_iter().enumerate() {
        let now = NOON + Duration::from_secs(86_400) * u32::try_from(number).unwrap();
        let table = FaultyTable::before(&database.url).await;
        database.set_day(&format!("everyone/2026-11-{}", 22 + number), count).await;
        let taken = quota(&table.url, limits(0, 0, 5_000)).take("a", at(now)).await;
        assert!(matches!(taken, Err(QuotaError::DailyLimit { .. })), "{count}: {taken:?}");
        assert_eq!(table.updates(""), 1, "{count}");
    }
}

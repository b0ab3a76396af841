//! The keeper in a process of its own: rounds, and the commands of the operator.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use openai_simulator::{EndReason, EndedCall, Fault};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    call_events::{call_event, expires_at, handle, hang_up_from, hang_ups, offers},
    function::{ADDRESS, API_KEY, Function, records},
    gate::{Gate, Step},
    keeper_process::{Keeper, ended},
    line::{Account, Line, now},
    refusals::assert_refused,
    secrets::SecretsManager,
};

pub const SHORT: (&str, &str) = ("MAX_CALL_SECONDS", "10");

/// The sum of a metric in the records of keepers.
pub fn sum(log: &str, metric: &str) -> f64 {
    records(log).iter().filter_map(|record| record[metric].as_f64()).sum()
}

pub async fn call(function: &Function, address: &str) -> (String, u64) {
    let reply = function.invoke(&call_event(address)).await;
    (handle(&reply), expires_at(&reply))
}

/// How late a call ended, in seconds.
pub fn late(call: &EndedCall, ends: u64) -> f64 {
    call.ended_at - Duration::from_secs(ends).as_secs_f64()
}

/// A round with less time than the deployed keeper has.
async fn short_round(keeper: &Keeper) -> (u64, Vec<String>) {
    let answer = keeper.process.invoke_raw(Duration::from_secs(30), &json!({})).await.unwrap();
    ended(&serde_json::from_slice(&answer).unwrap())
}

/// The minute of a call's end in its name.
pub fn minute_in_handle(ends: u64) -> String {
    let mut minute = u32::try_from(ends / 60).unwrap();
    let mut digits = Vec::new();
    while minute > 0 {
        digits.push(char::from_digit(minute % 36, 36).unwrap());
        minute /= 36;
    }
    digits.iter().rev().collect()
}

/// The item that registers a call that nobody made through the function.
pub async fn register(line: &Line, number: usize, ends: u64, record: &str) -> String {
    let handle = format!("A{number:021}{}", minute_in_handle(ends));
    // The shard is the first byte's remainder by four.
    let item = json!({
        "id": {"S": format!("ending/{}/1", ends / 60)},
        handle.clone(): {"S": record},
        "expires": {"N": (ends + 86_400).to_string()},
    });
    line.database.put(&line.table, item).await;
    handle
}

#[tokio::test]
async fn a_round_ends_each_call_at_its_second() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let (short, longer) = tokio::join!(line.function(&[SHORT]), line.function(&[("MAX_CALL_SECONDS", "12")]));
    let (first, first_ends) = call(&short, "203.0.113.1").await;
    let (second, second_ends) = call(&longer, "203.0.113.2").await;
    let (third, _) = call(&short, "203.0.113.3").await;
    assert_eq!(short.invoke(&hang_up_from("203.0.113.3", &third)).await.status, 200);
    let keeper = line.keeper().await;
    let answer = keeper.command(&json!({"command": "list"})).await.unwrap();
    let calls = answer["calls"].as_array().unwrap();
    let names: Vec<_> = calls.iter().map(|call| call["call"].as_str().unwrap()).collect();
    assert_eq!(names, [&first, &second], "the first to end is the first");
    assert_eq!(calls[0]["ends"], first_ends);
    assert_eq!(
        (&calls[0]["state"], &calls[0]["profile"], calls[0]["began"].as_u64()),
        (&json!("open"), &json!("default"), Some(first_ends - 10))
    );
    assert_eq!(calls[0]["caller"].as_str(), offers(&line.openai)[0].safety_identifier.as_deref());
    assert_eq!(calls[0].as_object().unwrap().len(), 6, "and nothing else: {}", calls[0]);
    assert_eq!(keeper.round().await, (2, vec![]));
    let calls = line.openai.ended_calls();
    for (call, ends) in calls[1..].iter().zip([first_ends, second_ends]) {
        let late = late(call, ends);
        assert!((0.0..5.0).contains(&late), "{late} s after its end");
        assert_eq!(call.reason, EndReason::HungUp);
    }
    assert_eq!((line.states().await, keeper.list().await), (vec!["ended".to_owned(); 3], vec![]));
    assert_eq!(line.account("everyone").await.slots, 0);
    let began = Instant::now();
    assert_eq!(keeper.round().await, (0, vec![]));
    assert!(began.elapsed() < Duration::from_secs(2), "without calls, a round ends at once");
    for (call, seconds) in [(&first, 10), (&second, 12)] {
        let address = if call == &first { "203.0.113.1" } else { "203.0.113.2" };
        assert_eq!(short.invoke(&hang_up_from(address, call)).await.body["seconds"], seconds);
    }
    let log = keeper.process.stop().await;
    let rounds: Vec<_> = records(&log).into_iter().filter(|record| record.get("CallsOutlived").is_some()).collect();
    let metrics = |record: &Value| -> Vec<String> {
        let metrics = record["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().clone();
        metrics.iter().map(|metric| metric["Name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(metrics(&rounds[0]), ["CallsOpen", "CallsOutlived", "CallsEndedOnTime", "CallMinutesUsed"]);
    assert_eq!(metrics(&rounds[1]), ["CallsOpen", "CallsOutlived"]);
    for record in &rounds {
        assert_eq!(record["_aws"]["CloudWatchMetrics"][0]["Namespace"], "TokenMint");
        assert_eq!(record["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["FunctionName"]]));
        assert_eq!(record["FunctionName"], "keeper");
        assert!(metrics(record).iter().all(|name| record[name].is_number()), "{record}");
    }
    let counts = |name: &str| (rounds[0][name].as_f64(), rounds[1][name].as_f64());
    assert_eq!(counts("CallsOpen"), (Some(0.0), Some(0.0)));
    assert_eq!(counts("CallsOutlived"), (Some(0.0), Some(0.0)));
    assert_eq!(counts("CallsEndedOnTime"), (Some(2.0), None));
    assert_eq!(counts("CallMinutesUsed"), (Some(0.37), None));
    assert!(!log.contains("rtc_") && !log.contains(API_KEY));
}

#[tokio::test]
async fn rounds_that_overlap_end_and_count_each_call_once() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let function = line.function(&[SHORT, ("CALLS_AT_ONCE", "0")]).await;
    for number in 0..6 {
        call(&function, &format!("203.0.113.{number}")).await;
    }
    let keepers = [line.keeper().await, line.keeper().await];
    let rounds = join_all(keepers.iter().map(Keeper::round)).await;
    assert!(rounds.iter().all(|(_, failed)| failed.is_empty()), "{rounds:?}");
    assert_eq!((line.openai.calls(), line.states().await), (0, vec!["ended".to_owned(); 6]));
    assert_eq!(line.account("everyone").await, Account { slots: 0, seconds: 60 });
    let mut logs = String::new();
    for keeper in keepers {
        logs += &keeper.process.stop().await;
    }
    // A round counts a call as gone that the other one has just hung up.
    let counted = sum(&logs, "CallsEndedOnTime") + sum(&logs, "CallsGone");
    assert_eq!((counted, sum(&logs, "CallMinutesUsed")), (6.0, 1.0));
}

#[tokio::test]
async fn a_call_that_ended_by_itself_counts_with_all_of_its_seconds() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    line.openai.limit_connecting(Duration::from_secs(2));
    let function = line.function(&[SHORT]).await;
    call(&function, ADDRESS).await;
    let keeper = line.keeper().await;
    assert_eq!(keeper.round().await, (1, vec![]));
    assert_eq!(line.account("everyone").await, Account { slots: 0, seconds: 10 });
    let log = keeper.process.stop().await;
    assert_eq!((sum(&log, "CallsGone"), sum(&log, "CallsEndedOnTime"), sum(&log, "CallMinutesUsed")), (1.0, 0.0, 0.17));
}

#[tokio::test]
async fn a_hang_up_that_fails_is_tried_again_in_the_same_round() {
    let faults = [
        Fault::Unauthorized,
        Fault::RateLimit { retry_after: None },
        Fault::ServerError { status: 500, retry_after: None },
        Fault::Hang,
    ];
    join_all(faults.into_iter().map(async |fault| {
        let Some(line) = Line::open().await else { return };
        let name = format!("{fault:?}");
        line.mark_ended().await;
        let function = line.function(&[SHORT]).await;
        let (_, ends) = call(&function, ADDRESS).await;
        let tries = if matches!(fault, Fault::Hang) { 1 } else { 3 };
        line.openai.fail_hang_ups(fault, tries);
        let keeper = line.keeper().await;
        assert_eq!(keeper.round().await, (1, vec![]), "{name}");
        assert_eq!(line.openai.calls(), 0, "{name}");
        assert!(hang_ups(&line.openai) > tries, "{name}");
        assert!(now() < ends + 15, "{name}");
        assert_eq!(line.account("everyone").await, Account { slots: 0, seconds: 10 }, "{name}");
    }))
    .await;
}

#[tokio::test]
async fn a_silent_hang_up_does_not_delay_the_other_calls() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let function = line.function(&[SHORT]).await;
    let mut ends = HashMap::new();
    for number in 0..3 {
        let (_, at) = call(&function, &format!("203.0.113.{number}")).await;
        ends.insert(line.openai.open_calls()[number].call_id.clone(), at);
        sleep(Duration::from_millis(1_100)).await;
    }
    line.openai.fail_hang_ups(Fault::Hang, 2);
    let keeper = line.keeper().await;
    assert_eq!(keeper.round().await, (3, vec![]));
    let ended = line.openai.ended_calls();
    let mut late: Vec<_> = ended.iter().map(|call| late(call, ends[&call.call.call_id])).collect();
    late.sort_by(f64::total_cmp);
    // The first hang-up has 4 s, and so has the next one, 2 s later.
    assert!(late[0] >= 0.0 && late[1] <= 5.0 && late[2] >= 5.0, "all but the one whose hang-up is silent: {late:?}");
}

#[tokio::test]
async fn a_later_round_ends_the_calls_that_an_older_one_could_not_end() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[SHORT]).await;
    let (name, _) = call(&function, ADDRESS).await;
    line.openai.take_only_keys(&["sk-other"]);
    let keeper = line.keeper().await;
    let (ended, causes) = short_round(&keeper).await;
    assert_eq!((ended, causes.len()), (0, 1));
    assert!(causes[0].starts_with("OpenAI did not end it: OpenAI rejected the API key (401"), "{causes:?}");
    assert_eq!(line.account("everyone").await.slots, 1, "nothing is given back");
    assert_eq!(keeper.list().await[0]["call"], name.as_str());
    line.openai.take_only_keys(&[API_KEY]);
    assert_eq!(short_round(&keeper).await, (1, vec![]));
    assert_eq!((line.openai.calls(), line.account("everyone").await), (0, Account { slots: 0, seconds: 10 }));
    assert!(!keeper.process.stop().await.contains(API_KEY));
}

/// The record of a call, with its fields in the order in which the function writes them.
pub fn record(ends: u64, id: &str) -> String {
    let (caller, began) = ("0a".repeat(32), ends - 60);
    format!(r#"{{"caller":"{caller}","profile":"default","state":"open","began":{began},"ends":{ends}{id}}}"#)
}

#[tokio::test]
async fn a_keeper_that_has_never_run_finds_the_calls_of_the_last_hour() {
    let Some(line) = Line::open().await else { return };
    // OpenAI does not know the first one, but no session is longer than an hour. The second one was never answered.
    let (old, unanswered) = (now() - 4_200, now() - 300);
    register(&line, 1, old, &record(old, r#","id":"rtc_a""#)).await;
    register(&line, 2, unanswered, &record(unanswered, "")).await;
    let keeper = line.keeper().await;
    assert_eq!(keeper.round().await, (2, vec![]));
    assert_eq!(line.states().await, ["ended", "ended"]);
    assert!(cursor(&line).await >= now() / 60 - 3, "all former minutes are done");
    let log = keeper.process.stop().await;
    assert_eq!((sum(&log, "CallsOutlived"), sum(&log, "CallsGone")), (0.0, 1.0));
}

#[tokio::test]
async fn a_call_that_is_there_long_after_its_end_is_reported_and_looked_for_until_it_is_over() {
    let Some(line) = Line::open().await else { return };
    let ends = now() - 150;
    line.mark_ended_before(ends / 60).await;
    let name = register(&line, 1, ends, &record(ends, r#","id":"rtc_a""#)).await;
    let keeper = line.keeper().await;
    let answer = keeper.process.invoke_raw(Duration::from_secs(20), &json!({})).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((&answer["ended"], &answer["failed"][0]["call"]), (&json!(0), &json!(name)), "{answer}");
    assert!(answer["failed"][0]["cause"].as_str().unwrap().contains("the key or the base URL has changed"), "{answer}");
    assert_eq!(cursor(&line).await, ends / 60 - 1, "the minute of the call is not done");
    assert_eq!(sum(&keeper.process.stop().await, "CallsOutlived"), 1.0);
}

/// The minute up to which all calls are ended.
pub async fn cursor(line: &Line) -> u64 {
    let items = line.database.items_of(&line.table).await;
    let cursor = items.iter().find(|item| item["id"]["S"] == "calls/keeper").unwrap();
    cursor["done"]["S"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_operator_ends_one_call_those_of_a_caller_or_all() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let table = Gate::before(&line.database.url).await;
    let function = line.function(&[("CALLS_AT_ONCE", "3")]).await;
    let keeper = line.keeper_at(&table.url, &line.openai.base_url()).await;
    let mut calls = Vec::new();
    for address in ["203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        calls.push(call(&function, address).await.0);
    }
    let callers: Vec<_> = keeper.list().await.iter().map(|call| call["caller"].as_str().unwrap().to_owned()).collect();
    let first = callers.iter().find(|caller| callers.iter().filter(|other| other == caller).count() == 3).unwrap();

    let answer = keeper.command(&json!({"command": "hang-up", "call": calls[0]})).await.unwrap();
    assert_eq!(answer, json!({"ended": 1, "failed": []}));
    assert_eq!(keeper.command(&json!({"command": "hang-up", "call": calls[0]})).await.unwrap()["ended"], 0);
    let unknown = format!("{}{}", "A".repeat(22), &calls[0][22..]);
    assert_eq!(keeper.command(&json!({"command": "hang-up", "call": unknown})).await.unwrap()["ended"], 0);
    assert_eq!(line.openai.calls(), 4);

    let caller = json!({"command": "hang-up", "caller": first, "closedSeconds": 3600});
    assert_eq!(keeper.command(&caller).await.unwrap(), json!({"ended": 2, "failed": []}));
    assert_eq!((line.openai.calls(), line.account(first).await.slots), (2, 0));
    assert_refused(&function.invoke(&call_event("203.0.113.1")).await, 403, "caller_blocked");
    assert_eq!(line.account(first).await.slots, 0);
    calls.push(call(&function, "203.0.113.2").await.0);
    calls.push(call(&function, "203.0.113.4").await.0);

    line.openai.fail_hang_ups(Fault::Unauthorized, 1);
    let answer = keeper.command(&json!({"command": "hang-up", "all": true})).await.unwrap();
    let (count, causes) = ended(&answer);
    assert_eq!((count, causes.len(), line.openai.calls()), (3, 1, 1), "{answer}");
    assert_eq!(keeper.command(&json!({"command": "hang-up", "all": true})).await.unwrap()["ended"], 1);
    assert_eq!((line.openai.calls(), keeper.list().await), (0, vec![]));
    let everyone = line.account("everyone").await;
    assert!(everyone.slots == 0 && everyone.seconds < 100, "the rest is given back: {everyone:?}");
    assert_eq!(
        function.invoke(&hang_up_from("203.0.113.3", &calls[4])).await.status,
        200,
        "its caller's request is too late"
    );
    let log = keeper.process.stop().await;
    assert_eq!((sum(&log, "CallsEndedByOperator"), sum(&log, "CallsEndedOnTime")), (7.0, 0.0));
    assert!(
        records(&log).iter().all(|record| record.get("CallsOutlived").is_none()),
        "commands do not look for such calls"
    );
}

#[tokio::test]
async fn a_command_that_cannot_be_read_is_an_error_of_the_function() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let keeper = line.keeper().await;
    for command in [
        json!({"command": "hang-up"}),
        json!({"command": "hangup", "all": true}),
        json!({"command": "hang-up", "all": false}),
        json!({"command": "hang-up", "all": "true"}),
        json!({"command": "hang-up", "call": "rtc_abc"}),
        json!({"command": "hang-up", "call": "x", "all": true}),
        json!({"command": "hang-up", "caller": "0a"}),
        json!({"command": "hang-up", "caller": "0A".repeat(32)}),
        json!({"command": "hang-up", "caller": "0a".repeat(32), "closedSeconds": -1}),
        json!({"command": "hang-up", "all": true, "closedSeconds": -5}),
        json!({"command": "hang-up", "call": "A".repeat(27), "closedSeconds": 5}),
        json!({"command": "list", "all": true}),
        json!({"command": null}),
        json!({"command": 5}),
        json!({"command": "hang-up", "all": true, "dry": true}),
    ] {
        let error = keeper.command(&command).await.expect_err(&command.to_string());
        assert!(error.contains("unknown command: expected") && error.contains("closedSeconds"), "{error}");
    }
    assert_eq!(keeper.round().await, (0, vec![]), "the process goes on");
    for event in [json!(null), json!([]), json!("x"), json!({"detail-type": "Scheduled Event", "all": true})] {
        assert_eq!(keeper.command(&event).await.unwrap()["ended"], 0, "{event} is a round");
    }
}

#[tokio::test]
async fn a_call_that_is_being_made_is_ended_with_all_others() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let openai = Gate::before(&line.openai.base_url()).await;
    let (function, keeper) = tokio::join!(
        line.function_at(&line.database.url, &openai.url, &[]),
        line.keeper_at(&line.database.url, &openai.url)
    );
    for (address, faults) in [("203.0.113.1", 0), ("203.0.113.2", 1)] {
        openai.hold(Step::After(1));
        let event = call_event(address);
        let stop = async {
            openai.wait_until_held().await;
            assert_eq!(
                (line.openai.calls(), line.states().await.iter().filter(|state| *state == "booked").count()),
                (1, 1)
            );
            let answer = keeper.command(&json!({"command": "hang-up", "all": true})).await.unwrap();
            // The function itself cannot end the second call.
            line.openai.fail_hang_ups(Fault::Unauthorized, faults);
            openai.release();
            answer
        };
        let (reply, answer) = tokio::join!(function.invoke(&event), stop);
        assert_refused(&reply, 503, "ended_by_operator");
        assert_eq!(answer, json!({"ended": 1, "failed": []}));
        assert_eq!(line.openai.calls(), faults);
    }
    assert_eq!(line.states().await, ["ended", "open"]);
    keeper.command(&json!({"command": "hang-up", "all": true})).await.unwrap();
    assert_eq!(
        (line.openai.calls(), line.account("everyone").await.slots),
        (0, 0),
        "the keeper can end the one that is left"
    );
    assert!(line.openai.ended_calls().iter().all(|call| call.reason == EndReason::HungUp));
    assert_eq!(line.states().await, ["ended", "ended"]);
}

#[tokio::test]
async fn a_keeper_that_has_read_the_former_key_ends_the_calls_of_the_new_one() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let keeper = line.keeper_with_secret(&secrets).await;
    assert_eq!(keeper.round().await, (0, vec![]));
    let old = line.function_with_secret(&secrets, &[SHORT]).await;
    call(&old, "203.0.113.1").await;
    secrets.rotate("sk-proj-b-1");
    let new = line.function_with_secret(&secrets, &[SHORT]).await;
    call(&new, "203.0.113.2").await;
    let (_, ends) = call(&new, "203.0.113.3").await;
    assert_eq!(keeper.round().await, (3, vec![]));
    assert!(now() < ends + 6);
    assert!(line.openai.ended_calls().iter().all(|call| call.reason == EndReason::HungUp));
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0));
}

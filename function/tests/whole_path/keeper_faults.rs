//! The keeper while the table fails, after it was off, with other keys than those that made the calls, and with calls that
//! OpenAI did not know yet.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use openai_simulator::{EndReason, Fault};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    call_events::{call_event, hang_up_from, hang_ups, offers},
    faulty_table::{Fault as TableFault, FaultyTable, Hits},
    function::{ADDRESS, http_api, records},
    keeper::{SHORT, call, cursor, late, record, register, sum},
    keeper_process::{Keeper, ended},
    line::{Account, Line, now},
    raw_openai::{Answer, RawOpenAi},
    refusals::assert_refused,
    secrets::{Secret, SecretsManager},
};

const THROTTLED: TableFault = TableFault::Refused(
    400,
    r#"{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": "x"}"#,
);

fn all() -> Value {
    json!({"command": "hang-up", "all": true})
}

/// A round in an invocation that ends after this time. The last five seconds of it are the keeper's reserve.
async fn round_within(keeper: &Keeper, time: Duration) -> Result<(u64, Vec<String>), String> {
    let answer = keeper.process.invoke_raw(time, &json!({})).await?;
    Ok(ended(&serde_json::from_slice(&answer).unwrap()))
}

#[tokio::test]
async fn a_call_of_a_revoked_key_is_ended_with_the_current_one_of_the_same_project() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let old = line.function_with_secret(&secrets, &[]).await;
    let keeper = line.keeper_with_secret(&secrets).await;
    call(&old, "203.0.113.1").await;
    assert_eq!(keeper.command(&all()).await.unwrap(), json!({"ended": 1, "failed": []}), "it has read the key");
    let (first, _) = call(&old, "203.0.113.2").await;
    call(&old, "203.0.113.3").await;
    call(&old, "203.0.113.4").await;

    secrets.rotate("sk-proj-a-2");
    line.openai.take_only_keys(&["sk-proj-a-2"]);
    let new = line.function_with_secret(&secrets, &[]).await;
    assert_eq!(new.invoke(&hang_up_from("203.0.113.2", &first)).await.status, 200, "by a function with the new key");
    assert_eq!(old.invoke(&hang_up_from("203.0.113.2", &first)).await.status, 200);
    let answer = keeper.command(&all()).await.unwrap();
    assert_eq!(answer, json!({"ended": 2, "failed": []}), "by a keeper with the former key, at the first attempt");
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0));
    assert!(line.openai.ended_calls().iter().all(|call| call.reason == EndReason::HungUp));
    assert!(!keeper.process.stop().await.contains("sk-proj"));

    // A key of another project cannot end it.
    call(&new, "203.0.113.5").await;
    secrets.rotate("sk-proj-b-1");
    line.openai.take_only_keys(&["sk-proj-b-1"]);
    let keeper = line.keeper_with_secret(&secrets).await;
    let (count, causes) = ended(&keeper.command(&all()).await.unwrap());
    assert_eq!((count, causes.len(), line.openai.calls()), (0, 1, 1));
    assert!(causes[0].contains("the key or the base URL has changed"), "{causes:?}");
    assert!(!keeper.process.stop().await.contains("sk-proj"));
}

#[tokio::test]
async fn no_key_is_sent_to_a_server_that_no_key_proves() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let thief = RawOpenAi::start(Answer::new(200, "", "")).await;
    let made = json!({"base_url": thief.base_url, "proof": "0a".repeat(32)});
    let ends = now() + 600;
    register(&line, 1, ends, &record(ends, &format!(r#","id":"rtc_a","made":{made}"#))).await;
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    secrets.rotate("sk-proj-a-2");
    let keeper = line.keeper_with_secret(&secrets).await;
    for keys in [["sk-proj-a-2"], ["sk-proj-a-1"], ["sk-other"]] {
        line.openai.take_only_keys(&keys);
        assert_eq!(keeper.command(&all()).await.unwrap()["ended"], 0);
    }
    assert_eq!(thief.requests(), 0);
    assert!(hang_ups(&line.openai) >= 3, "the configured server is asked");
}

#[tokio::test]
async fn the_former_key_that_the_secret_keeps_ends_calls_after_further_changes() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let old = line.function_with_secret(&secrets, &[SHORT]).await;
    let (_, ends) = call(&old, ADDRESS).await;
    let rotated = json!({
        "OPENAI_API_KEY": "sk-proj-b-1", "PREVIOUS_OPENAI_API_KEY": "sk-proj-a-1", "SAFETY_IDENTIFIER_KEY": "a random key",
    });
    secrets.change(&rotated);
    let mut blocked = rotated;
    blocked["BLOCKED_CALLERS"] = json!(["0a".repeat(32)]);
    secrets.change(&blocked);
    let keeper = line.keeper_with_secret(&secrets).await;
    assert_eq!(keeper.round().await, (1, vec![]));
    assert!(now() < ends + 6);
    assert_eq!(line.openai.ended_calls()[0].reason, EndReason::HungUp);
    assert!(!keeper.process.stop().await.contains("sk-proj"));

    // It makes neither calls nor tokens.
    line.openai.take_only_keys(&["sk-proj-a-1"]);
    let function = line.function_with_secret(&secrets, &[]).await;
    let before = line.openai.requests().len();
    assert_refused(&function.invoke(&call_event("203.0.113.9")).await, 502, "openai_rejected_key");
    assert_refused(&function.invoke(&http_api(&json!({}))).await, 502, "openai_rejected_key");
    let bearers: Vec<_> = line.openai.requests().split_off(before).into_iter().map(|sent| sent.bearer).collect();
    assert!(bearers.iter().all(|bearer| bearer == "sk-proj-b-1"), "{bearers:?}");
    assert!(!function.stop().await.contains("sk-proj"));
}

#[tokio::test]
async fn a_keeper_that_was_off_for_a_day_ends_calls_in_time_and_catches_up() {
    let Some(line) = Line::open().await else { return };
    let (minute, day) = (now() / 60, 24 * 60);
    line.mark_ended_before(minute - day).await;
    let old = (minute - 10 * 60) * 60;
    register(&line, 1, old, &record(old, r#","id":"rtc_a""#)).await;
    let table = FaultyTable::before(&line.database.url).await;
    let keeper = line.keeper_at(&table.url, &line.openai.base_url()).await;
    assert_eq!(keeper.list().await, Vec::<Value>::new(), "OpenAI no longer has a call of ten hours ago");
    // So slow that no machine reads a day of minutes in the round, and each an hour of them.
    table.set("ending/", TableFault::Late(Duration::from_millis(50)), Hits::All);
    assert_eq!(round_within(&keeper, Duration::from_secs(17)).await, Ok((0, vec![])));
    table.heal();
    let reached = cursor(&line).await;
    assert!(reached >= minute - day + 59, "a round that is too short for all of it makes progress: {reached}");
    assert!(reached < minute - 75, "it was too short");

    let function = line.function(&[SHORT]).await;
    let (_, ends) = call(&function, ADDRESS).await;
    assert_eq!(keeper.round().await, (1, vec![]));
    let late = late(&line.openai.ended_calls()[0], ends);
    assert!((0.0..=5.0).contains(&late), "{late} s");
    assert_eq!((line.states().await, hang_ups(&line.openai)), (vec!["ended".to_owned(); 2], 1));
    assert!(cursor(&line).await >= minute - 3, "all former minutes are done");
}

#[tokio::test]
async fn a_call_that_is_settled_days_later_lets_no_item_expire() {
    let Some(line) = Line::open().await else { return };
    let ends = now() - 2 * 86_400 + 300;
    line.mark_ended_before(ends / 60).await;
    let old = register(&line, 1, ends, &record(ends, r#","id":"rtc_a""#)).await;
    let slot = json!({"S": format!("{:010} 60 {old}", ends + 60)});
    line.database.put(&line.table, json!({"id": {"S": "calls/everyone"}, "slot 1": slot})).await;
    let keeper = line.keeper().await;
    while line.states().await != ["ended"] {
        keeper.round().await;
    }
    assert_eq!(line.account("everyone").await.slots, 0);
    for item in line.database.items_of(&line.table).await {
        let expires: u64 = item["expires"]["N"].as_str().unwrap().parse().unwrap();
        assert!(expires > now() + 2 * 86_400, "{item}");
    }
}

#[tokio::test]
async fn calls_are_hung_up_while_the_table_gives_nothing_back() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let table = FaultyTable::before(&line.database.url).await;
    let function = line.function(&[SHORT]).await;
    let (_, first_ends) = call(&function, "203.0.113.1").await;
    sleep(Duration::from_millis(3_000)).await;
    let (_, second_ends) = call(&function, "203.0.113.2").await;
    let callers: Vec<_> = offers(&line.openai).into_iter().map(|sent| sent.safety_identifier.unwrap()).collect();
    let keeper = line.keeper_at(&table.url, &line.openai.base_url()).await;
    table.set(&format!("calls/{}", callers[0]), THROTTLED, Hits::All);
    let error = round_within(&keeper, Duration::from_secs(40)).await.unwrap_err();
    assert!(error.contains("ProvisionedThroughputExceededException"), "{error}");
    for (call, ends) in line.openai.ended_calls().iter().zip([first_ends, second_ends]) {
        let late = late(call, ends);
        assert!(call.reason == EndReason::HungUp && (0.0..=5.0).contains(&late), "{:?}, {late} s late", call.reason);
    }
    assert_eq!((line.openai.calls(), hang_ups(&line.openai)), (0, 2), "each is hung up once");
    assert_eq!(line.account(&callers[0]).await.slots, 1);
    assert_eq!(line.account(&callers[1]).await, Account { slots: 0, seconds: 10 });
    assert_eq!(line.states().await, ["ended", "open"]);
    table.heal();
    assert_eq!(keeper.round().await, (1, vec![]));
    assert_eq!(line.account("everyone").await, Account { slots: 0, seconds: 20 });
    let log = keeper.process.stop().await;
    let rounds: Vec<_> = records(&log).into_iter().map(|record| record["CallsOutlived"].as_f64()).collect();
    assert_eq!(rounds, [None, Some(0.0)], "a round with an error reports no number, and the alarm tells that");
}

#[tokio::test]
async fn calls_are_hung_up_while_others_cannot_be_read() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let table = FaultyTable::before(&line.database.url).await;
    let function = line.function(&[("MAX_CALL_SECONDS", "14"), ("CALLS_AT_ONCE", "0")]).await;
    // The item that registers a call is that of its last five letters' minute, and of the first letter's remainder by four.
    let item =
        |name: &str| format!("ending/{}/{}", u64::from_str_radix(&name[22..], 36).unwrap(), name.as_bytes()[0] % 4);
    let (mut items, mut ends) = (Vec::new(), HashMap::new());
    while items.iter().all(|known| *known == items[0]) || items.len() < 4 {
        let (name, at) = call(&function, ADDRESS).await;
        ends.insert(line.openai.open_calls()[items.len()].call_id.clone(), at);
        items.push(item(&name));
    }
    let unread = items.iter().filter(|known| **known == items[0]).count();
    let keeper = line.keeper_at(&table.url, &line.openai.base_url()).await;
    table.set(&items[0], THROTTLED, Hits::All);
    round_within(&keeper, Duration::from_secs(36)).await.unwrap_err();
    assert_eq!(line.openai.calls(), unread);
    for call in line.openai.ended_calls() {
        let late = late(&call, ends[&call.call.call_id]);
        assert!((0.0..=5.0).contains(&late), "{late} s");
    }
    table.heal();
    assert_eq!(keeper.round().await, (unread as u64, vec![]));
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0));
    let log = keeper.process.stop().await;
    assert_eq!(records(&log)[0].get("CallsOutlived"), None, "it is unknown whether the others outlived their end");
}

#[tokio::test]
async fn the_keeper_waits_for_a_throttled_table() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let table = FaultyTable::before(&line.database.url).await;
    let function = line.function(&[]).await;
    call(&function, ADDRESS).await;
    let keeper = line.keeper_at(&table.url, &line.openai.base_url()).await;
    for items in ["calls/", "ending/"] {
        table.set(items, THROTTLED, Hits::All);
        let (command, heal) = (all(), async {
            sleep(Duration::from_millis(1_200)).await;
            table.heal();
        });
        let (answer, ()) = tokio::join!(keeper.command(&command), heal);
        assert_eq!(answer.unwrap(), json!({"ended": 1, "failed": []}), "{items}");
        assert_eq!(line.account("everyone").await.slots, 0);
        call(&function, ADDRESS).await;
    }
}

#[tokio::test]
async fn an_operator_ends_all_calls_and_nobody_can_make_another_for_a_time() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let function = line.function(&[]).await;
    let keeper = line.keeper().await;
    call(&function, "203.0.113.1").await;
    let closed = json!({"command": "hang-up", "all": true, "closedSeconds": 10});
    assert_eq!(keeper.command(&closed).await.unwrap(), json!({"ended": 1, "failed": []}));
    let until = now() + 10;
    for address in ["203.0.113.1", "203.0.113.2"] {
        let reply = function.invoke(&call_event(address)).await;
        let details = assert_refused(&reply, 503, "ended_by_operator");
        assert!(details.contains("accepts no new ones yet"), "{details}");
    }
    assert_eq!((line.openai.calls(), offers(&line.openai).len()), (0, 1));
    assert_eq!(line.account("everyone").await.slots, 0);
    while now() <= until + 1 {
        sleep(Duration::from_millis(100)).await;
    }
    call(&function, "203.0.113.2").await;
    assert_eq!(keeper.command(&all()).await.unwrap()["ended"], 1);
    call(&function, "203.0.113.2").await;
}

#[tokio::test]
async fn a_call_that_openai_did_not_know_yet_is_hung_up_again_at_its_end() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let function = line.function(&[SHORT]).await;
    let (unknown, ends) = call(&function, ADDRESS).await;
    line.openai.fail_hang_ups(Fault::NotFound, 1);
    for _ in 0..2 {
        assert_eq!(function.invoke(&hang_up_from(ADDRESS, &unknown)).await.status, 200);
    }
    assert_eq!(line.account("everyone").await.slots, 0, "everything is given back at once");
    assert_eq!(line.openai.calls(), 1);
    let (known, _) = call(&function, ADDRESS).await;
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &known)).await.status, 200);
    let seconds = line.account("everyone").await.seconds;
    let keeper = line.keeper().await;
    assert_eq!(keeper.list().await, Vec::<Value>::new());
    assert_eq!(keeper.round().await, (1, vec![]));
    assert!(now() < ends + 6);
    assert_eq!((line.openai.calls(), hang_ups(&line.openai)), (0, 3), "the other one is not hung up again");
    assert_eq!(line.account("everyone").await, Account { slots: 0, seconds });
    assert!(line.records().await.iter().all(|(_, record)| record.get("hang_up_again").is_none()));
    assert_eq!(keeper.round().await, (0, vec![]));
    let log = keeper.process.stop().await;
    assert_eq!(log.matches("a call went on after its caller had ended it").count(), 1, "{log}");
    assert_eq!((sum(&log, "CallsEndedOnTime"), sum(&log, "CallsGone")), (1.0, 0.0));
}

#[tokio::test]
async fn a_call_that_was_over_before_its_caller_ended_it_is_over() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    line.openai.limit_connecting(Duration::from_secs(1));
    let function = line.function(&[SHORT]).await;
    let (gone, _) = call(&function, ADDRESS).await;
    while line.openai.calls() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &gone)).await.status, 200);
    let (used, keeper) = (line.account("everyone").await.seconds, line.keeper().await);
    assert_eq!(keeper.round().await, (0, vec![]));
    assert_eq!(hang_ups(&line.openai), 2);
    assert_eq!(keeper.round().await, (0, vec![]));
    assert_eq!(hang_ups(&line.openai), 2, "it is final");
    assert_eq!(line.account("everyone").await, Account { slots: 0, seconds: used });
    let body = function.invoke(&hang_up_from(ADDRESS, &gone)).await.body;
    assert_eq!(body["seconds"], used, "{body}");
    let log = keeper.process.stop().await;
    assert_eq!((sum(&log, "CallsEndedOnTime"), sum(&log, "CallsGone"), sum(&log, "CallMinutesUsed")), (0.0, 0.0, 0.0));
}

#[tokio::test]
async fn an_operator_also_ends_a_call_that_openai_did_not_know_yet() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    let function = line.function(&[]).await;
    let (unknown, _) = call(&function, ADDRESS).await;
    line.openai.fail_hang_ups(Fault::NotFound, 3);
    let keeper = line.keeper().await;
    assert_eq!(keeper.command(&all()).await.unwrap(), json!({"ended": 1, "failed": []}));
    assert_eq!(keeper.list().await, Vec::<Value>::new());
    for (count, open) in [(0, 1), (0, 1), (1, 0), (0, 0)] {
        assert_eq!(keeper.command(&all()).await.unwrap(), json!({"ended": count, "failed": []}));
        assert_eq!(line.openai.calls(), open);
    }
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &unknown)).await.status, 200);
}

#[tokio::test]
async fn a_caller_does_not_wait_long_for_a_silent_hang_up() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    let (name, _) = call(&function, ADDRESS).await;
    line.openai.fail_hang_ups(Fault::Hang, 5);
    let began = Instant::now();
    let reply = function.invoke(&hang_up_from(ADDRESS, &name)).await;
    assert_refused(&reply, 502, "hang_up_failed");
    assert!(began.elapsed() < Duration::from_millis(9_500), "{:?}", began.elapsed());
    assert_eq!((hang_ups(&line.openai), line.account("everyone").await.slots), (2, 1));
}

#[tokio::test]
async fn the_end_of_a_call_waits_for_the_secret_that_it_has_begun_to_read() {
    let Some(line) = Line::open().await else { return };
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let function = line.function_with_secret(&secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    let (name, _) = call(&function, ADDRESS).await;
    secrets.put(Secret::Slow(Duration::from_millis(700), "{}".to_owned()));
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &name)).await.status, 200);
    let record = records(&function.stop().await).pop().unwrap();
    assert!(record["secretFault"].as_str().is_some_and(|fault| fault.contains("OPENAI_API_KEY")), "{record}");
}

//! The failures of OpenAI and of the table while a call is made or ended: what OpenAI gets, and what stays booked.

use std::time::{Duration, Instant};

use openai_simulator::{CallFault, EndReason, Fault, Simulator};
use serde_json::{Value, json};

use crate::{
    call_events::{
        AUDIO, CHANNEL, HEAD, call_event, call_from, handle, hang_up_from, hang_ups, locked_offer, offers, open_offer,
        retry_after,
    },
    faulty_table::{Fault as TableFault, FaultyTable, Hits},
    function::{ADDRESS, API_KEY, Function, http_api, records},
    gate::Gate,
    line::{Account, Line},
    ports::unused_port,
    raw_openai::{Answer, FullListener, RawOpenAi},
    refusals::assert_refused,
    secrets::{Secret, SecretsManager},
};

const FREE: Account = Account { slots: 0, seconds: 0 };
const BOOKED: Account = Account { slots: 1, seconds: 600 };

/// The caller's hash in the record of the last request.
fn caller(record: &Value) -> &str {
    record["caller"].as_str().unwrap()
}

fn server_error(status: u16) -> CallFault {
    Fault::ServerError { status, retry_after: None }.into()
}

/// A fault, the refusal, the states that it leaves in the registry, and whether the caller is told to wait until the end of the
/// booking.
type Case = (CallFault, (u64, &'static str), &'static [&'static str], bool);

#[tokio::test]
async fn openai_gets_an_offer_once_and_only_a_doubtful_call_stays_booked() {
    let Some(line) = Line::open().await else { return };
    let rate_limit = Fault::RateLimit { retry_after: Some("7".to_owned()) };
    let elsewhere =
        CallFault::OtherLocation { location: "https://elsewhere.example/v1/realtime/calls/{call_id}".into() };
    let other = CallFault::OtherLocation { location: "/v1/".into() };
    let cases: Vec<Case> = vec![
        // Calls that were never made leave no record.
        (Fault::Unauthorized.into(), (502, "openai_rejected_key"), &[], false),
        (Fault::Forbidden.into(), (502, "openai_rejected_key"), &[], false),
        (Fault::BadRequest.into(), (502, "openai_rejected_session"), &[], false),
        (Fault::NotFound.into(), (502, "openai_rejected_session"), &[], false),
        (rate_limit.into(), (503, "openai_busy"), &[], false),
        (Fault::InsufficientQuota.into(), (503, "openai_out_of_quota"), &[], false),
        (server_error(500), (502, "openai_unavailable"), &[], false),
        (server_error(503), (502, "openai_unavailable"), &[], false),
        (
            Fault::Redirect { location: "/v1/realtime/calls".to_owned() }.into(),
            (502, "openai_answer_invalid"),
            &[],
            false,
        ),
        (server_error(504), (504, "call_uncertain"), &["uncertain"], true),
        (server_error(524), (504, "call_uncertain"), &["uncertain"], true),
        (Fault::Reset.into(), (504, "call_uncertain"), &["uncertain"], true),
        (Fault::Garbage.into(), (504, "call_uncertain"), &["uncertain"], true),
        // No name: nobody can hang it up.
        (Fault::NotJson.into(), (502, "openai_answer_invalid"), &["uncertain"], true),
        // These are hung up.
        (CallFault::NotSdp, (502, "openai_answer_invalid"), &["ended"], false),
        (CallFault::ExtraLine, (502, "openai_answer_invalid"), &["ended"], false),
        (elsewhere, (502, "openai_answer_invalid"), &["ended"], false),
        // The last ones, since their calls stay open.
        (other, (502, "openai_answer_invalid"), &["uncertain"], true),
        (CallFault::NoLocation, (502, "openai_answer_invalid"), &["uncertain"], true),
    ];
    let function = line.function(&[]).await;
    let mut open = 0;
    for (number, (fault, (status, code), states, waits)) in cases.into_iter().enumerate() {
        let name = format!("{fault:?}");
        line.openai.fail_calls(fault, 1);
        let address = format!("203.0.113.{number}");
        let before = (offers(&line.openai).len(), line.records().await.len());
        let offer = [HEAD, AUDIO, CHANNEL].concat();
        let reply = function.invoke(&call_from(&address, "", offer.as_bytes())).await;
        let details = assert_refused(&reply, status, code);
        if code == "openai_answer_invalid" {
            assert_eq!(details, "OpenAI's response did not contain a usable call", "{name}");
        }
        let sent = offers(&line.openai).split_off(before.0);
        assert_eq!(sent.len(), 1, "{name}");
        let caller = sent[0].safety_identifier.clone().unwrap();
        let expected = if waits { BOOKED } else { FREE };
        assert_eq!(line.account(&caller).await, expected, "{name}");
        let records = line.records().await;
        assert_eq!(records.len(), before.1 + states.len(), "{name}");
        let records = records.iter().filter(|(_, record)| record["caller"] == caller.as_str());
        assert!(records.map(|(_, record)| record["state"].as_str().unwrap()).eq(states.iter().copied()), "{name}");
        let seconds = reply.headers.get("retry-after").map(|_| retry_after(&reply));
        if waits {
            assert!((590..=600).contains(&seconds.unwrap()), "{name}: until the booking ends: {seconds:?}");
        } else {
            assert_eq!(seconds, (code == "openai_busy").then_some(7), "{name}");
        }
        // A call that can be hung up is.
        open += usize::from(["OtherLocation { location: \"/v1/\" }", "NoLocation"].contains(&name.as_str()));
        assert_eq!(line.openai.calls(), open, "{name}");
    }
    let ended = line.openai.ended_calls();
    assert_eq!((ended.len(), hang_ups(&line.openai)), (3, 4));
    assert!(ended.iter().all(|call| call.reason == EndReason::HungUp));
}

#[tokio::test]
async fn an_offer_that_openai_cannot_answer_is_the_callers_fault() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    let offer = locked_offer().replace("opus/48000", "PCMU/8000");
    let reply = function.invoke(&call_from(ADDRESS, "profile=de-escalation", offer.as_bytes())).await;
    let details = assert_refused(&reply, 400, "openai_rejected_offer");
    assert_eq!(details, "OpenAI API returned 400: it cannot answer this SDP offer");
    assert_eq!((line.account("everyone").await, offers(&line.openai).len()), (FREE, 1));
    assert_eq!(function.invoke(&call_event(ADDRESS)).await.status, 201);
}

#[tokio::test]
async fn a_call_that_openai_answers_too_late_counts_until_its_end() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    for (address, fault) in
        [("203.0.113.1", Fault::Hang), ("203.0.113.2", Fault::Delay { ms: 4_000 }), ("203.0.113.3", Fault::Drip)]
    {
        line.openai.fail_calls(fault.clone(), 1);
        let began = Instant::now();
        let reply = function.invoke_within(Duration::from_secs(8), &call_event(address)).await;
        assert!(began.elapsed() < Duration::from_secs(8));
        if let Fault::Drip = fault {
            // Its head has arrived, with the name of the call.
            assert_refused(&reply, 502, "openai_answer_invalid");
            continue;
        }
        assert_refused(&reply, 504, "call_uncertain");
        assert!((580..=600).contains(&retry_after(&reply)), "{}", retry_after(&reply));
        let again = function.invoke(&call_event(address)).await;
        assert_refused(&again, 429, "calls_at_once");
    }
    assert_eq!(offers(&line.openai).len(), 3);
    assert_eq!(line.states().await, ["ended", "uncertain", "uncertain"]);
    assert_eq!(line.account("everyone").await, Account { slots: 2, seconds: 1_200 });
    assert_eq!(line.openai.calls(), 1, "the one that is late is open, and the one with a name is hung up");
}

#[tokio::test]
async fn openai_is_not_asked_when_the_table_has_used_up_the_time() {
    let Some(line) = Line::open().await else { return };
    let table = Gate::before(&line.database.url).await;
    let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
    table.delay(Duration::from_millis(450));
    let reply = function.invoke_within(Duration::from_millis(6_700), &call_event(ADDRESS)).await;
    assert_refused(&reply, 504, "openai_timeout");
    assert!(line.openai.requests().is_empty());
    assert_eq!(line.account("everyone").await, FREE);
}

#[tokio::test]
async fn an_offer_is_sent_again_only_if_no_connection_was_made() {
    let Some(line) = Line::open().await else { return };
    let full = FullListener::new();
    for (address, base_url, status, code) in [
        ("203.0.113.1", format!("http://127.0.0.1:{}/v1", unused_port()), 502, "openai_unavailable"),
        ("203.0.113.2", full.base_url(), 504, "openai_timeout"),
    ] {
        let function = line.function_at(&line.database.url, &base_url, &[]).await;
        assert_refused(&function.invoke(&call_event(address)).await, status, code);
        let record = records(&function.stop().await).pop().unwrap();
        assert_eq!(record["Attempts"], 2, "{base_url}");
        assert_eq!(line.account(caller(&record)).await, FREE, "{base_url}");
    }
    assert_eq!(line.account("everyone").await, FREE);
}

#[tokio::test]
async fn a_kept_connection_that_openai_has_closed_is_replaced() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[("CALLS_AT_ONCE", "0")]).await;
    for calls in 1..4 {
        assert_eq!(function.invoke(&call_event(ADDRESS)).await.status, 201);
        assert_eq!(offers(&line.openai).len(), calls);
        line.openai.close_connections().await;
    }
}

#[tokio::test]
async fn an_offer_on_a_connection_that_swallows_it_is_not_sent_twice() {
    let location = "location: /v1/realtime/calls/rtc_1\r\n";
    let answer = Answer::new(201, location, &locked_offer());
    let openai = RawOpenAi::start(answer).await;
    let function = openai.function().await;
    let call = |address: &str| call_from(address, "profile=de-escalation", locked_offer().as_bytes());
    assert_eq!(function.invoke(&call("203.0.113.1")).await.status, 201);
    openai.requests();
    openai.swallow_packets();
    assert_refused(&function.invoke(&call("203.0.113.2")).await, 504, "call_uncertain");
    // One that was idle for more than five seconds is not trusted with a call.
    assert_eq!(function.invoke(&call("203.0.113.3")).await.status, 201);
    openai.requests();
    openai.swallow_packets();
    tokio::time::sleep(Duration::from_millis(5_200)).await;
    assert_eq!(function.invoke(&call("203.0.113.4")).await.status, 201);
    assert_eq!(openai.requests(), 1);
}

#[tokio::test]
async fn after_a_rejected_key_the_call_is_made_with_the_new_one() {
    let Some(line) = Line::open().await else { return };
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let function = line.function_with_secret(&secrets, &[("CALLS_AT_ONCE", "0")]).await;
    line.openai.take_only_keys(&["sk-proj-a-2"]);
    secrets.rotate("sk-proj-a-2");
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    let bearers: Vec<_> = offers(&line.openai).into_iter().map(|sent| sent.bearer).collect();
    assert_eq!(bearers, ["sk-proj-a-1", "sk-proj-a-2"]);
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0));

    line.openai.take_only_keys(&["sk-proj-a-4"]);
    let function = line.function_with_secret(&secrets, &[]).await;
    secrets.rotate("sk-proj-a-3");
    assert_refused(&function.invoke(&call_event("203.0.113.9")).await, 502, "openai_rejected_key");
    assert_eq!(offers(&line.openai).len(), 4, "one more try, and no third one");
    assert_eq!(line.account("everyone").await.slots, 0);
}

#[tokio::test]
async fn a_call_is_ended_with_the_key_that_made_it() {
    let Some(line) = Line::open().await else { return };
    // Keys of two projects: OpenAI shows the calls of one to its own keys only.
    let secrets = SecretsManager::with_key("sk-proj-a-1").await;
    let (mut addresses, old) = (Vec::new(), line.function_with_secret(&secrets, &[]).await);
    for number in 0..3 {
        let address = format!("203.0.113.{number}");
        let call = handle(&old.invoke(&call_event(&address)).await);
        addresses.push((address, call));
    }
    secrets.rotate("sk-proj-b-1");
    let new = line.function_with_secret(&secrets, &[]).await;
    let (address, call) = addresses.remove(0);
    assert_eq!(new.invoke(&hang_up_from(&address, &call)).await.status, 200, "with the former key");
    assert_eq!(line.openai.calls(), 2);
    // The instance with the old key ends the call of the new one.
    let call = handle(&new.invoke(&call_event("203.0.113.9")).await);
    let reply = old.invoke(&hang_up_from("203.0.113.9", &call)).await;
    assert_eq!(reply.status, 200, "the secret is read again: {}", reply.body);
    assert_eq!(line.openai.calls(), 2);
    // After two changes, no key is known that made the call.
    secrets.rotate("sk-proj-c-1");
    let newest = line.function_with_secret(&secrets, &[]).await;
    let (address, call) = addresses.remove(0);
    let reply = newest.invoke(&hang_up_from(&address, &call)).await;
    assert_refused(&reply, 502, "hang_up_failed");
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (2, 2), "nothing is given back");
    let cause = records(&newest.stop().await).pop().unwrap()["cause"].to_string();
    assert!(cause.contains("the key or the base URL has changed"), "{cause}");
}

#[tokio::test]
async fn a_hang_up_that_fails_leaves_the_call_to_the_next_attempt() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    let busy = || Fault::RateLimit { retry_after: None };
    let error = || Fault::ServerError { status: 500, retry_after: None };
    let hang_up = async |call: &str| function.invoke(&hang_up_from(ADDRESS, call)).await;
    for (fault, times, requests, fails) in [
        (Fault::Unauthorized, 1, 1, true),
        (busy(), 1, 2, false),
        (busy(), 2, 2, true),
        (error(), 1, 2, false),
        (error(), 2, 2, true),
        (Fault::Reset, 1, 2, false),
    ] {
        let call = handle(&function.invoke(&call_event(ADDRESS)).await);
        let (name, before) = (format!("{fault:?} {times}"), hang_ups(&line.openai));
        line.openai.fail_hang_ups(fault, times);
        let reply = hang_up(&call).await;
        if fails {
            let details = assert_refused(&reply, 502, "hang_up_failed");
            assert_eq!(details, "OpenAI API did not end the call; the call ends at `expiresAt` at the latest");
            assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (1, 1), "{name}");
        }
        assert_eq!(hang_ups(&line.openai), before + requests, "{name}");
        assert_eq!(hang_up(&call).await.status, 200, "{name}");
        assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0), "{name}");
    }
    // A call that ended by itself is over, too.
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    line.openai.fail_hang_ups(Fault::Delay { ms: 20_000 }, 1);
    // The answer is in time although OpenAI is silent: `invoke_within` fails otherwise.
    let reply = function.invoke_within(Duration::from_secs(3), &hang_up_from(ADDRESS, &call)).await;
    assert_refused(&reply, 502, "hang_up_failed");
    assert_eq!((line.openai.calls(), hang_up(&call).await.status), (0, 200));
}

#[tokio::test]
async fn a_call_that_cannot_be_registered_is_hung_up() {
    let Some(line) = Line::open().await else { return };
    // The updates of a call: its registration, the caller's slot, everyone's slot, OpenAI's name.
    for (number, (fails_from, open)) in [(1, 0), (2, 0), (3, 0), (4, 1)].into_iter().enumerate() {
        let address = format!("203.0.113.{number}");
        let table = Gate::before(&line.database.url).await;
        let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
        table.fail_from(fails_from);
        let before = line.openai.ended_calls().len();
        let reply = function.invoke(&call_event(&address)).await;
        assert_refused(&reply, 503, "quota_unavailable");
        assert_eq!((line.openai.calls(), line.openai.ended_calls().len()), (0, before + open), "{fails_from}");
    }
    assert_eq!(offers(&line.openai).len(), 1);
}

#[tokio::test]
async fn an_update_whose_answer_is_lost_or_late_books_once() {
    let Some(line) = Line::open().await else { return };
    let faults = [TableFault::Lost, TableFault::FailsAfterwards(500), TableFault::Late(Duration::from_millis(800))];
    for (number, fault) in faults.into_iter().enumerate() {
        for (place, items) in ["ending/", "calls/", ""].into_iter().enumerate() {
            let table = FaultyTable::before(&line.database.url).await;
            if place == 1 {
                table.omit_items();
            }
            let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
            table.set(items, fault, Hits::First);
            let (case, address) = (format!("{fault:?} of {items:?}"), format!("203.0.113.1{number}{place}"));
            let call = handle(&function.invoke(&call_event(&address)).await);
            assert_eq!(line.account("everyone").await.slots, 1, "{case}");
            let reply = function.invoke(&hang_up_from(&address, &call)).await;
            assert_eq!(reply.status, 200, "{case}: {}", reply.body);
            let seconds = reply.body["seconds"].as_u64().unwrap();
            let record = records(&function.stop().await).pop().unwrap();
            assert_eq!(line.account(caller(&record)).await, Account { slots: 0, seconds }, "{case}");
            assert_eq!(line.account("everyone").await.slots, 0, "{case}");
        }
    }
}

/// A blocked caller's call is refused although OpenAI has opened it, and it is hung up.
#[tokio::test]
async fn a_caller_who_is_blocked_meanwhile_gets_no_call() {
    let Some(line) = Line::open().await else { return };
    let secrets = SecretsManager::with_key(API_KEY).await;
    let function = line.function_with_secret(&secrets, &[("KEY_TTL_SECONDS", "0")]).await;
    assert_eq!(function.invoke(&http_api(&json!({}))).await.status, 200);
    let caller = line.openai.requests()[0].safety_identifier.clone().unwrap();
    let list = json!({"OPENAI_API_KEY": API_KEY, "SAFETY_IDENTIFIER_KEY": "a random key", "BLOCKED_CALLERS": [caller]});
    secrets.put(Secret::Slow(Duration::from_millis(700), list.to_string()));
    let reply = function.invoke(&call_event(ADDRESS)).await;
    assert_refused(&reply, 403, "caller_blocked");
    assert_eq!((line.openai.calls(), line.account("everyone").await.slots), (0, 0));
    assert_eq!(line.openai.ended_calls().len(), 1);
}

/// A part of the updates that take a slot, and of no others.
const TAKING: Hits = Hits::With("attribute_not_exists");
const THROTTLED: TableFault =
    TableFault::Refused(400, r#"{"__type": "x#ThrottlingException", "message": "Rate exceeded"}"#);

#[tokio::test]
async fn a_caller_has_nothing_booked_when_the_account_of_all_callers_fails() {
    let Some(line) = Line::open().await else { return };
    for (number, (fault, hits, left)) in [
        (THROTTLED, TAKING, None),
        // Also if the account cannot be read.
        (THROTTLED, Hits::All, None),
        (TableFault::Hangs, TAKING, Some("booked")),
        (TableFault::Hangs, Hits::All, Some("booked")),
        // These are made. The record stays, since one that is not answered may still be made later.
        (TableFault::FailsAfterwards(500), TAKING, Some("booked")),
        (TableFault::Lost, TAKING, Some("booked")),
    ]
    .into_iter()
    .enumerate()
    {
        let (case, address) = (format!("{fault:?} {hits:?}"), format!("203.0.113.{number}"));
        let table = FaultyTable::before(&line.database.url).await;
        let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
        table.set("calls/everyone", fault, hits);
        let (began, before, booked) = (Instant::now(), line.records().await.len(), line.account("everyone").await);
        assert_refused(&function.invoke(&call_event(&address)).await, 503, "quota_unavailable");
        assert!(began.elapsed() < Duration::from_secs(7), "{case}: {:?}", began.elapsed());
        assert_eq!(line.records().await.len(), before + usize::from(left.is_some()), "{case}");
        assert_eq!(line.account("everyone").await, booked, "{case}");
        table.heal();
        let call = handle(&function.invoke(&call_event(&address)).await);
        assert_eq!(function.invoke(&hang_up_from(&address, &call)).await.status, 200, "{case}");
    }
    assert_eq!(offers(&line.openai).len(), 6);
    assert!(line.states().await.iter().all(|state| ["booked", "ended"].contains(&state.as_str())));
}

#[tokio::test]
async fn a_caller_has_nothing_booked_when_their_own_account_fails() {
    let Some(line) = Line::open().await else { return };
    for (number, (fault, left)) in
        [(THROTTLED, 0), (TableFault::FailsAfterwards(500), 1), (TableFault::Lost, 1)].into_iter().enumerate()
    {
        let (case, address) = (format!("{fault:?}"), format!("203.0.113.{number}"));
        let table = FaultyTable::before(&line.database.url).await;
        let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
        table.set("calls/", fault, TAKING);
        let (before, booked) = (line.records().await.len(), line.account("everyone").await);
        assert_refused(&function.invoke(&call_event(&address)).await, 503, "quota_unavailable");
        assert_eq!((line.account("everyone").await, line.records().await.len()), (booked, before + left), "{case}");
        table.heal();
        let call = handle(&function.invoke(&call_event(&address)).await);
        assert_eq!(function.invoke(&hang_up_from(&address, &call)).await.status, 200, "{case}");
    }
}

/// A call that was never made is forgotten last, so that the keeper finds what could not be given back.
#[tokio::test]
async fn a_call_that_was_never_made_is_forgotten_when_its_accounts_are_free() {
    // The updates: the registration, two slots taken, two given back, the record.
    for (number, (fails_from, account, states)) in
        [(4, BOOKED, &["booked"][..]), (6, FREE, &["booked"]), (7, FREE, &[])].into_iter().enumerate()
    {
        let Some(line) = Line::open().await else { return };
        let table = Gate::before(&line.database.url).await;
        let function = line.function_at(&table.url, &line.openai.base_url(), &[]).await;
        line.openai.fail_calls(Fault::BadRequest, 1);
        table.fail_from(fails_from);
        let address = format!("203.0.113.{number}");
        assert_refused(&function.invoke(&call_event(&address)).await, 502, "openai_rejected_session");
        assert_eq!(
            (line.states().await, line.account("everyone").await),
            (states.iter().map(|state| (*state).to_owned()).collect(), account)
        );
    }
}

#[tokio::test]
async fn a_call_that_openai_made_counts_for_the_day_when_it_cannot_be_registered() {
    let Some(line) = Line::open().await else { return };
    let table = FaultyTable::before(&line.database.url).await;
    let function = line.function_at(&table.url, &line.openai.base_url(), &[("QUOTA_PER_DAY", "1")]).await;
    table.set("ending/", THROTTLED, Hits::With(r#"\"state\":\"open\""#));
    assert_refused(&function.invoke(&call_event(ADDRESS)).await, 503, "quota_unavailable");
    assert_eq!((line.openai.calls(), line.openai.ended_calls().len()), (0, 1));
    table.heal();
    assert_refused(&function.invoke(&call_event(ADDRESS)).await, 429, "quota_exceeded");
}

/// The end of a short call may come before OpenAI's answer, with and without a keeper that gives it back.
#[tokio::test]
async fn a_call_that_openai_answers_after_its_end_is_refused() {
    let Some(line) = Line::open().await else { return };
    let openai = Simulator::start().await.unwrap();
    let environment = [("MAX_CALL_SECONDS", "10")];
    let (function, in_memory) = tokio::join!(line.function(&environment), Function::with(&openai, &environment));
    for openai in [&line.openai, &openai] {
        openai.fail_calls(Fault::Delay { ms: 11_500 }, 1);
    }
    let event = call_event(ADDRESS);
    let (reply, of_memory) = tokio::join!(function.invoke(&event), in_memory.invoke(&event));
    for (reply, function, openai) in [(reply, &function, &line.openai), (of_memory, &in_memory, &openai)] {
        assert_refused(&reply, 504, "openai_timeout");
        assert_eq!((openai.calls(), openai.ended_calls().len()), (0, 1), "it is hung up");
        assert_eq!(function.invoke(&call_event(ADDRESS)).await.status, 201);
    }
}

/// A keeper whose clock is fast ends a call before its end by the clock of the function.
#[tokio::test]
async fn a_call_that_the_keeper_ends_while_openai_is_asked_is_not_ended_by_the_operator() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[]).await;
    line.openai.fail_calls(Fault::Delay { ms: 2_000 }, 1);
    let end = async {
        while offers(&line.openai).is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (call, mut record) = line.records().await.pop().unwrap();
        let items = line.database.items_of(&line.table).await;
        let mut item = items.into_iter().find(|item| !item[&call].is_null()).unwrap();
        (record["state"], record["used"]) = ("ended".into(), 0.into());
        item[&call]["S"] = record.to_string().into();
        line.database.put(&line.table, item).await;
    };
    let event = call_event(ADDRESS);
    let (reply, ()) = tokio::join!(function.invoke(&event), end);
    assert_refused(&reply, 504, "openai_timeout");
    assert_eq!((line.openai.calls(), line.openai.ended_calls().len()), (0, 1), "it is hung up");
    assert_eq!((line.account("everyone").await, line.states().await), (FREE, vec!["ended".to_owned()]));
}

#[tokio::test]
async fn a_gateway_before_openai_does_not_prove_that_no_call_was_made() {
    let openai = RawOpenAi::start(Answer::never()).await;
    let function = openai.function().await;
    let error = r#"{"error": {"message": "m", "type": "server_error", "param": null, "code": null}}"#;
    let mut number = 0;
    for (status, body, refused, code) in [
        (502, "<html>502 Bad Gateway</html>", 504, "call_uncertain"),
        (502, "", 504, "call_uncertain"),
        (502, r#"{"error": "upstream"}"#, 504, "call_uncertain"),
        (500, "Internal Server Error", 504, "call_uncertain"),
        (520, "error code: 520", 504, "call_uncertain"),
        (522, "error code: 522", 504, "call_uncertain"),
        (523, "<html>", 504, "call_uncertain"),
        (408, "", 504, "call_uncertain"),
        (502, error, 502, "openai_unavailable"),
        (500, error, 502, "openai_unavailable"),
        (503, "<html>503 Service Unavailable</html>", 502, "openai_unavailable"),
        (429, "Too Many Requests", 503, "openai_busy"),
        (401, "", 502, "openai_rejected_key"),
        (403, "<html>Blocked</html>", 502, "openai_forbidden"),
        (404, "<html>Not Found</html>", 502, "openai_rejected_session"),
    ] {
        number += 1;
        let event = call_event(&format!("203.0.113.{number}"));
        openai.answer(Answer::new(status, "", body));
        let reply = function.invoke(&event).await;
        assert_refused(&reply, refused, code);
        openai.answer(Answer::new(201, "location: /v1/realtime/calls/rtc_1\r\n", &open_offer()));
        let again = function.invoke(&event).await;
        if code == "call_uncertain" {
            assert!((590..=600).contains(&retry_after(&reply)), "{status} {body}");
            assert_refused(&again, 429, "calls_at_once");
        } else {
            assert_eq!(again.status, 201, "{status} {body}: {}", again.body);
        }
    }
}

#[tokio::test]
async fn a_call_whose_location_ends_with_a_slash_can_be_ended() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    openai.fail_calls(CallFault::OtherLocation { location: "/v1/realtime/calls/{call_id}/".to_owned() }, 1);
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    assert_eq!((openai.calls(), openai.ended_calls().len()), (0, 1));
}

#[tokio::test]
async fn an_answer_with_other_line_ends_is_passed_on_and_hides_no_line() {
    let openai = RawOpenAi::start(Answer::never()).await;
    let function = openai.function().await;
    let answers = |text: &str| {
        openai.answer(Answer::new(201, "location: /v1/realtime/calls/rtc_1\r\n", text));
    };
    let text = locked_offer();
    let texts =
        [text.replace("\r\n", "\n"), text.trim_end().to_owned(), text.replace("\r\n", "\n").trim_end().to_owned()];
    for (number, text) in texts.iter().enumerate() {
        let call = |address: String| call_from(&address, "profile=de-escalation", locked_offer().as_bytes());
        answers(text);
        let reply = function.invoke(&call(format!("203.0.113.{number}"))).await;
        assert_eq!((reply.status, reply.whole["body"].as_str()), (201, Some(text.as_str())), "{}", reply.body);
        for end in ["\n", "\r", "\r\n"] {
            answers(&format!("{text}{end}{CHANNEL}"));
            let reply = function.invoke(&call(format!("198.51.100.{number}"))).await;
            assert_refused(&reply, 502, "openai_answer_invalid");
        }
    }
}

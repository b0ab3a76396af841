//! The limits of calls are exact for concurrent instances.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use openai_simulator::{CallFault, Fault};
use tokio::time::sleep;

use crate::{
    call_events::{call_event, handle, hang_up_from, offers, retry_after},
    faulty_table::FaultyTable,
    function::{ADDRESS, Reply},
    line::Line,
    refusals::assert_refused,
};

/// Asks for a call from each of these addresses at once, through eight processes.
async fn ask_at_once(line: &Line, environment: &[(&str, &str)], addresses: &[String]) -> Vec<Reply> {
    let functions = join_all((0..8).map(|_| line.function(environment))).await;
    let asking = addresses.iter().zip(functions.iter().cycle());
    join_all(asking.map(|(address, function)| async move { function.invoke(&call_event(address)).await })).await
}

fn one_caller() -> Vec<String> {
    vec![ADDRESS.to_owned(); 64]
}

fn many_callers() -> Vec<String> {
    (0..64).map(|number| format!("203.0.113.{number}")).collect()
}

/// The case of a limit: the variables, the callers, the number of calls that they get, and the code of the other refusals.
type Case = (&'static [(&'static str, &'static str)], fn() -> Vec<String>, usize, (u64, &'static str));

#[tokio::test]
async fn each_limit_is_exact_for_64_calls_at_once_through_eight_processes() {
    const CASES: [Case; 5] = [
        (&[("CALLS_AT_ONCE", "1")], one_caller, 1, (429, "calls_at_once")),
        (&[("CALLS_AT_ONCE", "3")], one_caller, 3, (429, "calls_at_once")),
        (&[("CALLS_AT_ONCE", "0"), ("CALL_MINUTES_PER_DAY", "50")], one_caller, 5, (429, "minutes_exceeded")),
        (&[("CALLS_AT_ONCE_FOR_ALL", "7")], many_callers, 7, (503, "busy_lines")),
        (
            &[("CALLS_AT_ONCE_FOR_ALL", "1000"), ("DAILY_CALL_MINUTES", "119")],
            many_callers,
            11,
            (503, "daily_minutes_reached"),
        ),
    ];
    for (environment, callers, expected, (status, code)) in CASES {
        let Some(line) = Line::open().await else { return };
        let replies = ask_at_once(&line, environment, &callers()).await;
        let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
        assert_eq!(made.len(), expected, "{code}");
        for reply in refused {
            assert_refused(reply, status, code);
            let longest = if code.contains("minutes") { 86_400 } else { 600 };
            assert!((1..=longest).contains(&retry_after(reply)), "{code}: {}", retry_after(reply));
        }
        assert_eq!((line.openai.calls(), offers(&line.openai).len()), (expected, expected), "{code}");
        let everyone = line.account("everyone").await;
        assert_eq!((everyone.slots, everyone.seconds), (expected, 600 * expected as u64), "{code}");
        let callers: std::collections::BTreeSet<_> =
            offers(&line.openai).into_iter().map(|sent| sent.safety_identifier.unwrap()).collect();
        let mut booked = 0;
        for caller in &callers {
            booked += line.account(caller).await.slots;
        }
        assert_eq!(booked, expected, "{code}");
        assert_eq!(line.records().await.len(), expected, "refused calls leave no record: {code}");
    }
}

#[tokio::test]
async fn a_slot_and_minutes_are_free_after_the_caller_has_ended_the_call() {
    let Some(line) = Line::open().await else { return };
    let environment = [("CALL_MINUTES_PER_DAY", "10"), ("CALLS_AT_ONCE_FOR_ALL", "1"), ("MAX_CALL_SECONDS", "300")];
    let function = line.function(&environment).await;
    for round in 0..3 {
        let reply = function.invoke(&call_event(ADDRESS)).await;
        let call = handle(&reply);
        let refused = function.invoke(&call_event(ADDRESS)).await;
        assert_refused(&refused, 429, "calls_at_once");
        assert!((290..=300).contains(&retry_after(&refused)), "{round}");
        let busy = function.invoke(&call_event("198.51.100.1")).await;
        assert_refused(&busy, 503, "busy_lines");
        assert!((290..=300).contains(&retry_after(&busy)), "{round}");
        assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    }
    assert_eq!(line.records().await.len(), 3);
    assert_eq!(line.states().await, ["ended"; 3]);
}

#[tokio::test]
async fn busy_lines_are_remembered_for_a_second() {
    let Some(line) = Line::open().await else { return };
    let environment = [("CALLS_AT_ONCE_FOR_ALL", "1")];
    let (first, table) = (line.function(&environment).await, FaultyTable::before(&line.database.url).await);
    let other = line.function_at(&table.url, &line.openai.base_url(), &environment).await;
    let call = handle(&first.invoke(&call_event(ADDRESS)).await);
    let began = Instant::now();
    for number in 0..20 {
        let refused = other.invoke(&call_event(&format!("198.51.100.{number}"))).await;
        assert_refused(&refused, 503, "busy_lines");
        assert!((590..=600).contains(&retry_after(&refused)), "{number}");
    }
    let attempts = usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!(table.updates("calls/everyone") <= attempts, "{}", table.updates("calls/everyone"));
    // A caller that was refused by memory has nothing booked either.
    assert!(table.updates("ending/") <= 2 * attempts, "{}", table.updates("ending/"));
    // A line that another instance gives back is free after a second.
    assert_eq!(first.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    sleep(Duration::from_millis(1_100)).await;
    let call = handle(&other.invoke(&call_event(ADDRESS)).await);
    // One that the same instance gives back is free at once.
    assert_refused(&other.invoke(&call_event("198.51.100.1")).await, 503, "busy_lines");
    assert_eq!(other.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    assert_eq!(other.invoke(&call_event("198.51.100.1")).await.status, 201);
}

#[tokio::test]
async fn only_a_call_that_openai_certainly_did_not_open_is_given_back_to_the_day() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[("QUOTA_PER_DAY", "1"), ("CALLS_AT_ONCE", "0")]).await;
    let server_error = |status| CallFault::from(Fault::ServerError { status, retry_after: None });
    for (number, (fault, counts)) in [
        (server_error(500), false),
        (Fault::RateLimit { retry_after: None }.into(), false),
        (server_error(504), true),
        (CallFault::NotSdp, true),
        (CallFault::ExtraLine, true),
        (CallFault::NoLocation, true),
    ]
    .into_iter()
    .enumerate()
    {
        let (case, address) = (format!("{fault:?}"), format!("203.0.113.{number}"));
        line.openai.fail_calls(fault, 1);
        assert_ne!(function.invoke(&call_event(&address)).await.status, 201, "{case}");
        let again = function.invoke(&call_event(&address)).await;
        assert_eq!(again.status, if counts { 429 } else { 201 }, "{case}: {}", again.body);
    }
}

#[tokio::test]
async fn a_call_counts_as_a_token_for_the_quotas() {
    let Some(line) = Line::open().await else { return };
    let function = line.function(&[("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "2"), ("CALLS_AT_ONCE", "0")]).await;
    assert_eq!(function.invoke(&call_event(ADDRESS)).await.status, 201);
    assert_eq!(function.mint().await.status, 200);
    assert_refused(&function.invoke(&call_event(ADDRESS)).await, 429, "quota_exceeded");
    assert_eq!(line.openai.calls(), 1);
}

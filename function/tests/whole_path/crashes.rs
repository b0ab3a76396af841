//! The function and the keeper are killed between any two steps: what they leave is freed when the call ends, and no call goes
//! on. The table in docs/architecture.md, "What a crash leaves", has the same steps.

use std::time::Duration;

use futures_util::future::join_all;
use openai_simulator::{EndReason, Fault};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    call_events::{call_event, expires_at, handle, hang_up_from},
    function::{ADDRESS, Function, http_api},
    gate::{Gate, Step},
    keeper::late,
    line::{Account, Line, now},
};

/// The shortest call that can be configured.
const SECONDS: u64 = 10;
const SHORT: [(&str, &str); 3] = [("MAX_CALL_SECONDS", "10"), ("CALLS_AT_ONCE", "1"), ("CALL_MINUTES_PER_DAY", "1")];

/// OpenAI ends a call by itself to which no browser connects. A browser that got no answer cannot connect.
const CONNECTING: Duration = Duration::from_secs(18);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Table,
    OpenAi,
}

/// A crash: the step at which a process is killed, and what it leaves.
struct Crash {
    name: &'static str,
    place: Place,
    step: Step,
    /// The state of the call in the registry.
    state: Option<&'static str>,
    /// The slots that the caller and all callers hold.
    slots: [usize; 2],
    /// Whether OpenAI has an open call.
    is_open: bool,
    /// The seconds that count for the caller and for all callers in the end.
    used: [u64; 2],
}

const NOTHING: Crash = Crash {
    name: "",
    place: Place::Table,
    step: Step::Before(1),
    state: None,
    slots: [0, 0],
    is_open: false,
    used: [0, 0],
};
const BOOKED: Crash = Crash { state: Some("booked"), slots: [1, 1], ..NOTHING };
const OPEN: Crash = Crash { state: Some("open"), slots: [1, 1], is_open: true, used: [SECONDS, SECONDS], ..NOTHING };

/// A line for each crash, side by side.
async fn lines(crashes: &[Crash]) -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    for _ in crashes {
        let line = Line::open().await?;
        line.mark_ended().await;
        lines.push(line);
    }
    Some(lines)
}

/// The gates before the table and before OpenAI.
async fn gates(line: &Line) -> [Gate; 2] {
    [Gate::before(&line.database.url).await, Gate::before(&line.openai.base_url()).await]
}

fn gate_of<'a>([table, openai]: &'a [Gate; 2], crash: &Crash) -> &'a Gate {
    if crash.place == Place::Table { table } else { openai }
}

/// The caller's hash, which OpenAI gets with a token.
async fn caller_hash(line: &Line, function: &Function) -> String {
    assert_eq!(function.invoke(&http_api(&json!({}))).await.status, 200);
    line.openai.requests().pop().unwrap().safety_identifier.unwrap()
}

/// Sends an event and kills the process when the crash's step is held.
async fn kill_at(process: &Function, gates: &[Gate; 2], crash: &Crash, event: &Value) {
    let gate = gate_of(gates, crash);
    gate.hold(crash.step);
    tokio::select! {
        outcome = process.invoke_raw(Duration::from_secs(150), event) => panic!("{}: {outcome:?}", crash.name),
        () = gate.wait_until_held() => process.kill().await,
    }
    gate.pass_others();
}

/// Checks what the crash left.
async fn check_left(line: &Line, crash: &Crash, caller: &str) {
    let states = line.states().await;
    assert_eq!(states.first().map(String::as_str), crash.state, "{}", crash.name);
    for (account, slots) in [caller, "everyone"].into_iter().zip(crash.slots) {
        assert_eq!(line.account(account).await.slots, slots, "{}: {account}", crash.name);
    }
    assert_eq!(line.openai.calls(), usize::from(crash.is_open), "{}", crash.name);
}

/// Checks that a round of the keeper frees everything at the end of the call, and that OpenAI has no call any more.
async fn check_freed(line: &Line, crash: &Crash, caller: &str, ends: u64) {
    let name = crash.name;
    let (_, failed) = line.keeper().await.round().await;
    assert_eq!(failed, Vec::<String>::new(), "{name}");
    assert!(now() <= ends + 20, "{name}: at the end of the call, not {} s later", now() - ends);
    assert!(line.states().await.iter().all(|state| state == "ended"), "{name}");
    for (account, seconds) in [caller, "everyone"].into_iter().zip(crash.used) {
        assert_eq!(line.account(account).await, Account { slots: 0, seconds }, "{name}: {account}");
    }
    while line.openai.calls() > 0 {
        sleep(Duration::from_millis(50)).await;
    }
    for ended in line.openai.ended_calls() {
        let late = late(&ended, ends);
        assert!(late <= 70.0, "{name}: open {late} s after its end");
    }
    // The caller can make another call.
    let function = line.function(&SHORT).await;
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200, "{name}");
}

#[tokio::test]
async fn a_function_that_is_killed_while_it_makes_a_call_holds_nothing_after_the_calls_end() {
    use Place::OpenAi;
    use Step::{After, Before};
    let crashes = [
        Crash { name: "before the registration", ..NOTHING },
        Crash { name: "after the registration", step: After(1), slots: [0, 0], ..BOOKED },
        Crash { name: "after the caller's slot", step: After(2), slots: [1, 0], ..BOOKED },
        Crash { name: "after everyone's slot", step: After(3), ..BOOKED },
        Crash { name: "before OpenAI is asked", place: OpenAi, step: Before(1), ..BOOKED },
        Crash { name: "after OpenAI has opened the call", place: OpenAi, step: After(1), is_open: true, ..BOOKED },
        Crash { name: "before OpenAI's name is registered", step: Before(4), is_open: true, ..BOOKED },
        Crash { name: "before the caller's answer", step: After(4), ..OPEN },
    ];
    let Some(lines) = lines(&crashes).await else { return };
    join_all(lines.iter().zip(&crashes).map(|(line, crash)| async move {
        let gates = gates(line).await;
        line.openai.limit_connecting(CONNECTING);
        let function = line.function_at(&gates[0].url, &gates[1].url, &SHORT).await;
        let caller = caller_hash(line, &function).await;
        kill_at(&function, &gates, crash, &call_event(ADDRESS)).await;
        check_left(line, crash, &caller).await;
        check_freed(line, crash, &caller, now() + SECONDS).await;
        let reasons: Vec<_> = line.openai.ended_calls().iter().map(|call| call.reason).collect();
        let expected = match (crash.is_open, crash.state) {
            (true, Some("booked")) => vec![EndReason::NeverConnected, EndReason::HungUp],
            (true, _) => vec![EndReason::HungUp; 2],
            _ => vec![EndReason::HungUp],
        };
        assert_eq!(reasons, expected, "{}", crash.name);
    }))
    .await;
}

#[tokio::test]
async fn a_function_that_is_killed_while_it_gives_a_refused_call_back_holds_nothing_after_the_calls_end() {
    // Its registration, two slots taken, two given back, its record removed.
    let crashes = [
        Crash { name: "before the record is removed", step: Step::Before(6), slots: [0, 0], ..BOOKED },
        Crash { name: "before the answer", step: Step::After(6), ..NOTHING },
    ];
    let Some(lines) = lines(&crashes).await else { return };
    join_all(lines.iter().zip(&crashes).map(|(line, crash)| async move {
        let gates = gates(line).await;
        line.openai.fail_calls(Fault::BadRequest, 1);
        let function = line.function_at(&gates[0].url, &gates[1].url, &SHORT).await;
        let caller = caller_hash(line, &function).await;
        kill_at(&function, &gates, crash, &call_event(ADDRESS)).await;
        check_left(line, crash, &caller).await;
        check_freed(line, crash, &caller, now() + SECONDS).await;
    }))
    .await;
}

#[tokio::test]
async fn a_function_that_is_killed_while_it_ends_a_call_holds_nothing_after_the_calls_end() {
    use Place::OpenAi;
    use Step::{After, Before};
    let crashes = [
        Crash { name: "before the hang-up", place: OpenAi, step: Before(1), ..OPEN },
        Crash { name: "after the hang-up", place: OpenAi, step: After(1), is_open: false, ..OPEN },
        // The caller's account knows the seconds that the call used, everyone's does not.
        Crash {
            name: "between the accounts",
            step: After(1),
            slots: [0, 1],
            is_open: false,
            used: [1, SECONDS],
            ..OPEN
        },
        Crash { name: "before the record", step: After(2), slots: [0, 0], is_open: false, used: [1, 1], ..OPEN },
        Crash {
            name: "before the answer",
            step: After(3),
            state: Some("ended"),
            slots: [0, 0],
            is_open: false,
            used: [1, 1],
            ..OPEN
        },
    ];
    let Some(lines) = lines(&crashes).await else { return };
    join_all(lines.iter().zip(&crashes).map(|(line, crash)| async move {
        let gates = gates(line).await;
        let function = line.function_at(&gates[0].url, &gates[1].url, &SHORT).await;
        let caller = caller_hash(line, &function).await;
        let reply = function.invoke(&call_event(ADDRESS)).await;
        kill_at(&function, &gates, crash, &hang_up_from(ADDRESS, &handle(&reply))).await;
        check_left(line, crash, &caller).await;
        let used = line.account(&caller).await.seconds;
        // A second may have passed on a busy machine.
        let in_the_end = |expected: u64| if expected == 1 { used } else { expected };
        assert!((1..=SECONDS).contains(&used));
        let crash = Crash { used: crash.used.map(in_the_end), ..*crash };
        check_freed(line, &crash, &caller, expires_at(&reply)).await;
    }))
    .await;
}

#[tokio::test]
async fn a_call_whose_end_was_interrupted_is_ended_by_asking_again() {
    let Some(line) = Line::open().await else { return };
    let gates = gates(&line).await;
    let function = line.function_at(&gates[0].url, &gates[1].url, &SHORT).await;
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    let crash = Crash { name: "after the hang-up", place: Place::OpenAi, step: Step::After(1), ..OPEN };
    kill_at(&function, &gates, &crash, &hang_up_from(ADDRESS, &call)).await;
    let function = line.function(&SHORT).await;
    for _ in 0..2 {
        assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);
    }
    assert_eq!((line.states().await, line.account("everyone").await.slots), (vec!["ended".to_owned()], 0));
}

#[tokio::test]
async fn what_a_killed_keeper_leaves_is_done_by_the_next_round() {
    use Place::OpenAi;
    use Step::{After, Before};
    let crashes = [
        Crash { name: "before the hang-up", place: OpenAi, step: Before(1), ..OPEN },
        Crash { name: "after the hang-up", place: OpenAi, step: After(1), is_open: false, ..OPEN },
        Crash { name: "between the accounts", step: After(1), slots: [0, 1], is_open: false, ..OPEN },
        Crash { name: "before the record", step: After(2), slots: [0, 0], is_open: false, ..OPEN },
        Crash { name: "after the record", step: After(3), state: Some("ended"), slots: [0, 0], is_open: false, ..OPEN },
    ];
    let Some(lines) = lines(&crashes).await else { return };
    join_all(lines.iter().zip(&crashes).map(|(line, crash)| async move {
        let gates = gates(line).await;
        // The keeper ends a call where it was made.
        let function = line.function_at(&line.database.url, &gates[1].url, &SHORT).await;
        let caller = caller_hash(line, &function).await;
        let reply = function.invoke(&call_event(ADDRESS)).await;
        let keeper = line.keeper_at(&gates[0].url, &gates[1].url).await;
        kill_at(&keeper.process, &gates, crash, &json!({})).await;
        assert!(now() >= expires_at(&reply), "{}: not before the end of the call", crash.name);
        check_left(line, crash, &caller).await;
        check_freed(line, crash, &caller, expires_at(&reply)).await;
    }))
    .await;
}

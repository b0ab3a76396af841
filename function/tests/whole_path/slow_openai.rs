//! An OpenAI that is slow or silent: how many requests it gets, and how long a caller waits.

use std::time::{Duration, Instant};

use openai_simulator::{Fault, Simulator};
use serde_json::json;

use crate::{
    function::{API_KEY, Function, Reply, http_api, records},
    raw_openai::{Answer, FullListener, RawOpenAi},
    refusals::assert_refused,
};

/// The least and the most milliseconds of a mint that waits for a silent OpenAI for 7 s, and of one that waits for 2 s. A busy
/// machine may take longer for both.
const FULL: (u128, u128) = (7_000, 20_000);
const BRIEF: (u128, u128) = (2_000, 6_500);

/// A mint, and its time in milliseconds.
async fn timed(function: &Function) -> (Reply, u128) {
    let began = Instant::now();
    let reply = function.mint().await;
    (reply, began.elapsed().as_millis())
}

#[tokio::test]
async fn a_slow_answer_costs_one_request_over_any_connection() {
    tokio::join!(one_request_each(300), one_request_each(1100), one_request_each(2000), one_request_each(5000));
}

/// Three mints with answers after that time: over the connection from the start, over that one again, and over a new one
/// after OpenAI has closed it.
async fn one_request_each(milliseconds: u64) {
    let openai = RawOpenAi::start(Answer::token_after(milliseconds)).await;
    let function = openai.function().await;
    for closes in [false, true, false] {
        openai.answer(Answer { closes, ..Answer::token_after(milliseconds) });
        let (reply, took) = timed(&function).await;
        assert_eq!((reply.status, openai.requests()), (200, 1), "{milliseconds} ms: {}", reply.body);
        assert!(took >= milliseconds.into(), "{took} ms");
    }
    assert_eq!(openai.connections(), 2);
    let records = records(&function.stop().await);
    assert!(records.iter().all(|record| record["Attempts"] == 1), "{records:?}");
}

#[tokio::test]
async fn a_connection_that_swallows_packets_is_replaced_during_the_mint() {
    let openai = RawOpenAi::start(Answer::token_after(0)).await;
    let function = openai.function().await;
    // Over the connection from the start, and over one that was used.
    for connections in [2, 3] {
        openai.swallow_packets();
        let (reply, took) = timed(&function).await;
        assert_eq!((reply.status, openai.requests(), openai.connections()), (200, 1, connections), "{}", reply.body);
        assert!((1000..6000).contains(&took), "{took} ms");
    }
    let (reply, took) = timed(&function).await;
    assert_eq!((reply.status, openai.requests(), openai.connections()), (200, 1, 3), "{}", reply.body);
    assert!(took < 900, "the new connection is in use: {took} ms");
}

#[tokio::test]
async fn an_openai_that_never_answers_is_asked_once_a_mint_and_then_only_briefly() {
    let openai = RawOpenAi::start(Answer::never()).await;
    let function = openai.function().await;
    for (least, most) in [FULL, BRIEF, BRIEF, FULL] {
        let (reply, took) = timed(&function).await;
        let details = "OpenAI API did not answer in time";
        assert_eq!((assert_refused(&reply, 504, "openai_timeout"), openai.requests()), (details, 1));
        assert!((least..most).contains(&took), "{took} ms");
    }
}

#[tokio::test]
async fn an_openai_that_answers_again_gets_the_full_time_again() {
    let openai = RawOpenAi::start(Answer::never()).await;
    let function = openai.function().await;
    assert_refused(&function.mint().await, 504, "openai_timeout");
    for (answer, status) in [(Answer::new(500, "x-should-retry: false\r\n", ""), 502), (Answer::token_after(3000), 200)]
    {
        openai.answer(answer);
        assert_eq!(function.mint().await.status, status);
    }
}

#[tokio::test]
async fn an_openai_that_answers_again_but_slowly_is_not_refused_for_long() {
    let openai = RawOpenAi::start(Answer::never()).await;
    let function = openai.function().await;
    assert_refused(&function.mint().await, 504, "openai_timeout");
    openai.answer(Answer::token_after(5000));
    let mut statuses = vec![];
    for _ in 0..4 {
        statuses.push(function.mint().await.status);
    }
    assert_eq!(statuses, [504, 504, 200, 200]);
}

#[tokio::test]
async fn an_openai_that_accepts_no_connection_is_tried_for_the_same_times() {
    let full = FullListener::new();
    let base_url = full.base_url();
    let began = Instant::now();
    let function = Function::start(&[("OPENAI_BASE_URL", &base_url), ("OPENAI_API_KEY", API_KEY)]).await;
    let (_, took) = (timed(&function).await, began.elapsed().as_millis());
    assert!(took < 9_500, "the init has waited too, so the first mint is brief: {took} ms");
    for (_, most) in [BRIEF, FULL] {
        let (reply, took) = timed(&function).await;
        assert_refused(&reply, 504, "openai_timeout");
        assert!(took < most, "{took} ms");
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_refused_in_time_too() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    openai.fail(Fault::Drip, 100);
    for (least, most) in [FULL, BRIEF] {
        let (reply, took) = timed(&function).await;
        assert_refused(&reply, 504, "openai_timeout");
        assert!((least..most).contains(&took), "{took} ms");
    }
    assert_eq!(openai.requests().len(), 2);
}

#[tokio::test]
async fn a_silent_openai_is_refused_before_the_invocation_ends() {
    for fault in [Fault::Hang, Fault::Drip] {
        let openai = Simulator::start().await.unwrap();
        let function = Function::with(&openai, &[]).await;
        openai.fail(fault.clone(), 100);
        let began = Instant::now();
        let reply = function.invoke_within(Duration::from_secs(3), &http_api(&json!({}))).await;
        assert_refused(&reply, 504, "openai_timeout");
        assert!(began.elapsed().as_millis() >= 2400, "{fault:?}: {:?}", began.elapsed());
    }
}

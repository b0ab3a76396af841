//! Freezes between two requests, and connections that fail meanwhile.

use std::time::{Duration, Instant};

use openai_simulator::{Fault, Simulator};

use crate::function::{Function, records};

#[tokio::test]
async fn init_opens_the_connection_without_sending_a_request() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    assert_eq!((openai.connections(), openai.requests().len()), (1, 0));
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(openai.connections(), 1, "the first mint opens none");
}

#[tokio::test]
async fn after_a_closed_connection_the_mint_succeeds_over_a_new_one() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    for _ in 0..50 {
        function.freeze().await;
        openai.close_connections().await;
        function.thaw().await;
        assert_eq!(function.mint().await.status, 200);
    }
    let log = function.stop().await;
    for record in records(&log) {
        assert!(record["OpenAITime"].as_f64().unwrap() < 150.0, "no pause for a dead connection: {record}");
    }
}

#[tokio::test]
async fn after_a_connection_closed_before_the_first_request_the_mint_succeeds() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    function.freeze().await;
    openai.close_connections().await;
    function.thaw().await;
    assert_eq!(function.mint().await.status, 200);
    assert_eq!(openai.connections(), 2);
}

#[tokio::test]
async fn a_silent_connection_delays_a_mint_by_one_second() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    assert_eq!(function.mint().await.status, 200);
    openai.fail(Fault::Hang, 1);
    let began = Instant::now();
    assert_eq!(function.mint().await.status, 200);
    assert!((1000..1300).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(openai.connections(), 2);
    let began = Instant::now();
    assert_eq!(function.mint().await.status, 200);
    assert!(began.elapsed() < Duration::from_millis(500), "the new connection is in use");
    assert_eq!(openai.connections(), 2);
}

#[tokio::test]
async fn a_refusal_over_the_new_connection_does_not_wait_for_the_silent_one() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    openai.fail(Fault::Hang, 1);
    openai.fail(Fault::RateLimit { retry_after: Some("40".to_owned()) }, 1);
    let began = Instant::now();
    let reply = function.mint().await;
    assert_eq!((reply.status, &reply.headers["retry-after"]), (503, &"40".into()), "{}", reply.body);
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_connection_stays_in_use() {
    let openai = Simulator::start().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    // The first answers after 1.3 s, the second, begun after 1 s, would after 2.3 s.
    for _ in 0..3 {
        openai.clear_faults();
        openai.fail(Fault::Delay { ms: 1300 }, 2);
        assert_eq!(function.mint().await.status, 200);
    }
    openai.clear_faults();
    assert_eq!(function.mint().await.status, 200);
    let used: Vec<_> = openai.requests().into_iter().map(|sent| sent.connection).collect();
    assert_eq!(used, [1, 2, 1, 3, 1, 4, 1]);
}

#[tokio::test]
async fn reconnects_resume_the_tls_session() {
    let openai = Simulator::start_tls().await.unwrap();
    let ca_file = std::env::temp_dir().join(format!("token-mint-ca-{}.pem", std::process::id()));
    std::fs::write(&ca_file, openai.ca_pem().unwrap()).unwrap();
    let function = Function::with(&openai, &[("EXTRA_CA_FILE", ca_file.to_str().unwrap())]).await;
    assert_eq!((openai.connections(), openai.requests().len()), (1, 0));
    assert_eq!(function.mint().await.status, 200);
    assert_eq!((openai.connections(), openai.resumed_handshakes()), (1, 0));
    openai.close_connections().await;
    assert_eq!(function.mint().await.status, 200);
    assert_eq!((openai.connections(), openai.resumed_handshakes()), (2, 1));
    std::fs::remove_file(&ca_file).unwrap();
}

#[tokio::test]
async fn a_server_with_an_untrusted_certificate_gets_no_key() {
    let openai = Simulator::start_tls().await.unwrap();
    let function = Function::with(&openai, &[]).await;
    let reply = function.mint().await;
    assert_eq!((reply.status, &reply.body["code"]), (502, &"openai_unavailable".into()));
    assert!(openai.requests().is_empty());
}

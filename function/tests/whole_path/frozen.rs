//! Freezes between two requests, and connections that fail meanwhile.

use openai_simulator::Simulator;

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
    let records = records(&function.stop().await);
    let times: Vec<_> = records.iter().map(|record| record["OpenAITime"].as_f64().unwrap()).collect();
    // The pauses of the retries are 100 to 200 ms long at least. A busy machine may make a few mints as slow.
    let slow = times.iter().filter(|time| **time >= 150.0).count();
    assert!(times.len() == 50 && slow <= 5, "no pause for a dead connection: {times:?}");
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

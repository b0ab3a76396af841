//! Answers of other servers with OpenAI's API, and of OpenAI should it change: the forms of a token and of its expiry.

use std::{
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Router, extract::State, http::HeaderMap, routing::post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    function::{API_KEY, Function, Reply, records},
    refusals::assert_refused,
};

type Shared = Arc<Mutex<(String, HeaderMap)>>;

/// A server that answers every mint with one text, and keeps the headers of the last request.
struct Server {
    base_url: String,
    shared: Shared,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Shared::default();
        let routes = Router::new().route("/v1/realtime/client_secrets", post(answer)).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { base_url, shared }
    }

    async fn function(&self, environment: &[(&str, &str)]) -> Function {
        let mut all = vec![("OPENAI_BASE_URL", self.base_url.as_str()), ("OPENAI_API_KEY", API_KEY)];
        all.extend_from_slice(environment);
        Function::start(&all).await
    }

    /// One mint that this server answers with that value and that expiry, written as given.
    async fn mint(&self, function: &Function, value: &str, expires_at: &str) -> Reply {
        self.shared.lock().unwrap().0 = format!(r#"{{"value": "{value}", "expires_at": {expires_at}}}"#);
        function.mint().await
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap) -> String {
    let mut shared = shared.lock().unwrap();
    shared.1 = headers;
    shared.0.clone()
}

fn in_an_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600
}

#[tokio::test]
async fn an_expiry_is_passed_on_in_seconds_or_not_at_all() {
    let server = Server::start().await;
    let function = server.function(&[]).await;
    let expiry = in_an_hour();
    for written in [format!("{expiry}"), format!("{expiry}.0"), format!("{expiry}.75")] {
        let reply = server.mint(&function, "ek_1", &written).await;
        assert_eq!(reply.status, 200, "{written}: {}", reply.body);
        assert_eq!(
            (&reply.body["expiresAt"], &reply.body["expires_at"]),
            (&json!(expiry), &json!(expiry)),
            "{written}"
        );
    }
    for written in
        [format!("{expiry}000"), format!("{expiry}000.0"), format!("{expiry}000000"), format!("\"{expiry}\"")]
    {
        let reply = server.mint(&function, "ek_1", &written).await;
        assert_refused(&reply, 502, "openai_answer_invalid");
    }
    let records = records(&function.stop().await);
    assert!(records[3]["cause"].as_str().unwrap().ends_with("its expiry is not in seconds"), "{}", records[3]);
    assert_eq!(records[0].get("expiryExcessSeconds"), None);
}

#[tokio::test]
async fn the_record_names_an_expiry_far_beyond_the_requested_one() {
    let server = Server::start().await;
    let function = server.function(&[("TOKEN_TTL_SECONDS", "600")]).await;
    let expiry = in_an_hour();
    assert_eq!(server.mint(&function, "ek_1", &expiry.to_string()).await.body["expiresAt"], expiry);
    assert_eq!(server.mint(&function, "ek_1", &(expiry - 3_000 + 30).to_string()).await.status, 200);
    let records = records(&function.stop().await);
    let excess = records[0]["expiryExcessSeconds"].as_u64().unwrap();
    assert!((2_990..=3_000).contains(&excess), "{excess}");
    assert_eq!(records[1].get("expiryExcessSeconds"), None, "clocks may differ");
}

#[tokio::test]
async fn an_answer_is_requested_without_compression() {
    let server = Server::start().await;
    let function = server.function(&[]).await;
    server.mint(&function, "ek_1", &in_an_hour().to_string()).await;
    let headers = server.shared.lock().unwrap().1.clone();
    let accepted: Vec<_> = headers.get_all("accept-encoding").iter().collect();
    assert_eq!(accepted, ["identity"]);
}

#[tokio::test]
async fn the_tokens_of_another_server_are_accepted_if_the_prefix_allows_them() {
    let server = Server::start().await;
    let expiry = in_an_hour().to_string();
    for (prefix, accepted, refused) in [
        (None, &["ek_1"][..], &["vcst_1", "xai-1", "gAAAAAB=="][..]),
        (Some("vcst_"), &["vcst_1"], &["ek_1", "vcst_"]),
        (Some(""), &["ek_1", "vcst_1", "xai-1", "gAAAAABo-Zm9v+/=="], &["", "two words", "sk-1", API_KEY]),
    ] {
        let environment: Vec<_> = prefix.map(|prefix| ("TOKEN_PREFIX", prefix)).into_iter().collect();
        let function = server.function(&environment).await;
        for value in accepted {
            let reply = server.mint(&function, value, &expiry).await;
            assert_eq!((reply.status, &reply.body["value"]), (200, &Value::from(*value)), "{prefix:?}");
        }
        for value in refused {
            let reply = server.mint(&function, value, &expiry).await;
            assert_refused(&reply, 502, "openai_answer_invalid");
            assert!(!reply.body.to_string().contains(API_KEY));
        }
    }
}

#[tokio::test]
async fn a_token_leads_back_to_the_server_that_minted_it() {
    let server = Server::start().await;
    let function = server.function(&[("MODEL", "grok/voice"), ("TOKEN_PREFIX", "")]).await;
    let body = server.mint(&function, "xai-1", &in_an_hour().to_string()).await.body;
    assert_eq!(body["callsUrl"], format!("{}/realtime/calls", server.base_url));
    let socket = server.base_url.replace("http://", "ws://");
    assert_eq!(
        (&body["token"], &body["url"]),
        (&json!("xai-1"), &json!(format!("{socket}/realtime?model=grok%2Fvoice")))
    );
}

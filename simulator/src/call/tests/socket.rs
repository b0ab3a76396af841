//! Sessions over a WebSocket, as a browser or a server opens them.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::{
    super::{pcm, tone},
    client::{Client, PATIENCE, mint},
    realtime, start,
};
use crate::{fault::Fault, simulator::Simulator};

const MODEL: &str = "/realtime?model=gpt-realtime-2.1";

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// Opens a socket with these headers, or returns the status and code of the refusal.
async fn open(simulator: &Simulator, path: &str, headers: &[(&'static str, String)]) -> Result<Socket, (u16, String)> {
    let mut request = format!("{}{path}", simulator.base_url().replace("http", "ws")).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, response)) => {
            let chosen = response.headers().get("sec-websocket-protocol").map(|protocol| protocol.to_str().unwrap());
            let asked = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
            assert_eq!(chosen, asked.then_some("realtime"), "the credential is not repeated");
            Ok(Socket(socket))
        }
        Err(Error::Http(response)) => {
            let body: Value =
                serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            Err((response.status().as_u16(), body["error"]["code"].as_str().unwrap_or_default().to_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

fn as_browser(token: &str) -> Vec<(&'static str, String)> {
    vec![("sec-websocket-protocol", format!("realtime, openai-insecure-api-key.{token}"))]
}

fn as_server(credential: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {credential}"))]
}

async fn token(simulator: &Simulator) -> String {
    mint(simulator, realtime()).await["value"].as_str().unwrap().to_owned()
}

impl Socket {
    /// The next event, or `None` once the socket is closed.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match time::timeout(PATIENCE, self.0.next()).await.expect("an event should arrive") {
                Some(Ok(Message::Text(event))) => return Some(serde_json::from_str(&event).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the socket closed before {kind}"));
            if event["type"] == kind {
                return event;
            }
        }
    }

    async fn send(&mut self, event: Value) {
        self.0.send(Message::text(event.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_opens_one_socket_and_then_gets_an_error_event() {
    let simulator = start().await;
    for headers in [as_browser, as_server] {
        let token = token(&simulator).await;
        let mut first = open(&simulator, MODEL, &headers(&token)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
        let session = first.until("session.created").await["session"].clone();
        assert_eq!(
            (&session["model"], &session["audio"]["output"]["voice"]),
            (&json!("gpt-realtime-2.1"), &json!("alloy"))
        );
        let mut second =
            open(&simulator, MODEL, &headers(&token)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
        let error = second.next().await.unwrap();
        assert_eq!(
            (&error["type"], &error["error"]["code"]),
            (&json!("error"), &json!("ephemeral_token_already_used"))
        );
        assert_eq!(second.next().await, None, "then it closes");
        first
            .send(json!({"type": "session.update", "session": {"type": "realtime", "instructions": "Be brief."}}))
            .await;
        assert_eq!(first.until("session.updated").await["session"]["instructions"], "Be brief.");
    }
}

#[tokio::test]
async fn calls_and_sockets_use_the_same_token_only_once() {
    let simulator = start().await;
    let token = token(&simulator).await;
    let client = Client::call_at(&simulator, super::CALLS, &token).await;
    let mut socket = open(&simulator, MODEL, &as_browser(&token)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(socket.until("error").await["error"]["code"], "ephemeral_token_already_used");
    simulator.reuse_tokens();
    let mut socket = open(&simulator, MODEL, &as_browser(&token)).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    socket.until("session.created").await;
    assert_eq!(simulator.calls(), 1);
    drop(client);
}

#[tokio::test]
async fn a_socket_is_refused_as_a_call_is() {
    let simulator = start().await;
    simulator.fail(Fault::Expired, 1);
    let expired = token(&simulator).await;
    let other = Client::call(&simulator, realtime()).await;
    let of_other = format!("/realtime?call_id={}", other.call_id);
    for (path, headers, status, code) in [
        (MODEL, vec![], 401, "invalid_api_key"),
        (MODEL, as_browser("ek_of_someone_else"), 401, "invalid_api_key"),
        (MODEL, as_browser(&expired), 401, "token_expired"),
        ("/realtime", as_server("sk-1"), 400, "missing_required_parameter"),
        ("/realtime?model=gpt-realtime-mini-2025-10-06", as_server("sk-1"), 404, "model_not_found"),
        ("/realtime?call_id=rtc_none", as_server("sk-1"), 404, "call_id_not_found"),
        (of_other.as_str(), as_server("sk-proj-other"), 404, "call_id_not_found"),
        (of_other.as_str(), as_server("sk-1"), 501, "not_supported"),
    ] {
        let refused = open(&simulator, path, &headers).await.err();
        assert_eq!(refused, Some((status, code.to_owned())), "{path} {headers:?}");
    }
}

#[tokio::test]
async fn speech_in_events_is_answered_with_audio_in_events() {
    let simulator = start().await;
    let mut socket = open(&simulator, MODEL, &as_server("sk-1")).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    socket.until("session.created").await;
    let speech = pcm::encode(&tone::word_samples("conversation", "alloy").repeat(3));
    let silence = pcm::encode(&[0.0; 48_000]);
    // In pieces that do not end with a step of 20 ms.
    for audio in [speech, silence] {
        for piece in audio.as_bytes().chunks(4_000) {
            let piece = String::from_utf8(piece.to_vec()).unwrap();
            socket.send(json!({"type": "input_audio_buffer.append", "audio": piece})).await;
        }
    }
    socket.until("input_audio_buffer.speech_started").await;
    socket.until("input_audio_buffer.speech_stopped").await;
    let delta = socket.until("response.output_audio.delta").await["delta"].as_str().unwrap().to_owned();
    assert!(pcm::decode(&delta, &Value::Null).unwrap().iter().any(|sample| sample.abs() > 0.1));
    let done = socket.until("response.done").await;
    let said = &done["response"]["output"][0]["content"][0]["transcript"];
    assert!(said.as_str().unwrap().starts_with("This is the simulator. I heard you speak"), "{said}");
    socket.send(json!({"type": "input_audio_buffer.append", "audio": "*"})).await;
    assert_eq!(socket.until("error").await["error"]["param"], "audio");
}

#[tokio::test]
async fn a_socket_closes_at_the_session_limit_and_with_the_simulator() {
    let simulator = start().await;
    let mut running = open(&simulator, MODEL, &as_server("sk-1")).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    running.until("session.created").await;
    simulator.limit_sessions(Duration::from_millis(200));
    let mut limited = open(&simulator, MODEL, &as_server("sk-1")).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(limited.until("error").await["error"]["code"], "session_expired");
    assert_eq!(limited.next().await, None);
    drop(simulator);
    assert_eq!(running.next().await, None);
}

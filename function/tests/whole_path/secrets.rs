//! A stand-in for Secrets Manager that refuses, is slow, hangs and is rotated during a test, none of which ministack does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

pub const ARN: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-mint-AbCdEf";

/// The behaviour of a read.
#[derive(Clone)]
pub enum Secret {
    Text(String),
    /// A text after this time.
    Slow(Duration, String),
    Refused(&'static str),
    Hangs,
}

#[derive(Clone)]
pub struct SecretsManager {
    pub url: String,
    secret: Arc<Mutex<Secret>>,
    former: Arc<Mutex<Option<Secret>>>,
    reads: watch::Sender<usize>,
}

impl SecretsManager {
    pub async fn start(secret: Secret) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let secret = Arc::new(Mutex::new(secret));
        let manager = Self { url, secret, former: Arc::default(), reads: watch::Sender::new(0) };
        let routes = Router::new().route("/", post(get_secret_value)).with_state(manager.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        manager
    }

    pub async fn with_key(key: &str) -> Self {
        Self::start(Secret::Text(json!({"OPENAI_API_KEY": key, "SAFETY_IDENTIFIER_KEY": "a random key"}).to_string()))
            .await
    }

    /// The current secret.
    pub fn secret(&self) -> Secret {
        self.secret.lock().unwrap().clone()
    }

    pub fn put(&self, secret: Secret) {
        *self.secret.lock().unwrap() = secret;
    }

    /// Puts a secret with this key. The one before stays as AWSPREVIOUS.
    pub fn rotate(&self, key: &str) {
        self.change(&json!({"OPENAI_API_KEY": key, "SAFETY_IDENTIFIER_KEY": "a random key"}));
    }

    /// Puts a secret with these fields. The one before stays as AWSPREVIOUS.
    pub fn change(&self, fields: &Value) {
        let former = std::mem::replace(&mut *self.secret.lock().unwrap(), Secret::Text(fields.to_string()));
        *self.former.lock().unwrap() = Some(former);
    }

    pub fn reads(&self) -> usize {
        *self.reads.borrow()
    }

    /// Waits until the secret has been read `reads` times.
    pub async fn wait_for_reads(&self, reads: usize) {
        self.reads.subscribe().wait_for(|now| *now >= reads).await.unwrap();
    }

    /// The function's variables: the endpoint, and the credentials for the signature.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("OPENAI_SECRET_ARN", ARN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.url),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
    }
}

async fn get_secret_value(State(manager): State<SecretsManager>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["x-amz-target"], "secretsmanager.GetSecretValue");
    assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 "));
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(asked["SecretId"], ARN);
    let secret = match asked["VersionStage"].as_str() {
        Some(stage) => {
            assert_eq!(stage, "AWSPREVIOUS");
            let former = manager.former.lock().unwrap().clone();
            former.unwrap_or(Secret::Refused("ResourceNotFoundException"))
        }
        None => {
            manager.reads.send_modify(|reads| *reads += 1);
            manager.secret.lock().unwrap().clone()
        }
    };
    let found = |text: &str| {
        let body =
            json!({"ARN": ARN, "Name": "token-mint", "VersionId": "1", "SecretString": text, "CreatedDate": 1.0});
        (StatusCode::OK, body)
    };
    let (status, body) = match secret {
        Secret::Text(text) => found(&text),
        Secret::Slow(time, text) => {
            tokio::time::sleep(time).await;
            found(&text)
        }
        Secret::Refused(code) => (StatusCode::BAD_REQUEST, json!({"__type": code, "Message": "No."})),
        Secret::Hangs => std::future::pending().await,
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], body.to_string()).into_response()
}

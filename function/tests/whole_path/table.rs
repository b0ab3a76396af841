//! Two stand-ins for DynamoDB: ministack, which counts as DynamoDB does, and a stub that refuses, is busy, hangs and closes
//! connections, none of which ministack does.

use std::{
    env,
    ffi::OsStr,
    io::{Write, stderr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use serde_json::{Value, json};
use token_mint::net::{connection, tls};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::ports::unused_port;

pub const TABLE: &str = "quotas";

/// The function's variables: the table, its endpoint, and the credentials for the signature.
pub fn environment(endpoint: &str) -> Vec<(&str, &str)> {
    vec![
        ("QUOTA_TABLE", TABLE),
        ("AWS_ENDPOINT_URL_DYNAMODB", endpoint),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_SESSION_TOKEN", "tok_of_the_session"),
    ]
}

/// The program of ministack. `None` if it is not installed: the reason is printed, and the test passes without a check.
///
/// # Panics
/// If it is not installed and `CI` is `true`.
fn ministack() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/ministack/bin/ministack");
    if program.exists() {
        return Some(program);
    }
    let why = "the stand-in of DynamoDB is not installed; `make rust-tests` installs it";
    assert!(env::var_os("CI").is_none_or(|ci| ci != "true"), "would be skipped: {why}");
    let line = format!("skipped: {why} ({})\n", thread::current().name().unwrap_or_default());
    // Not `eprintln!`, whose output libtest shows for failed tests only.
    let _ = stderr().write_all(line.as_bytes());
    None
}

/// The URL of a ministack on an unused port, and the command that starts it, as an argument of `wrapper`.
fn command(program: &Path, wrapper: &[&str]) -> (String, std::process::Command) {
    let port = unused_port();
    let url = format!("http://127.0.0.1:{port}");
    let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ministack-{port}"));
    std::fs::create_dir_all(&data).unwrap();
    let mut words = wrapper.iter().map(OsStr::new).chain([program.as_os_str()]);
    let mut command = std::process::Command::new(words.next().unwrap());
    command
        .args(words)
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("IOT_MTLS_ENABLED", "0")
        .env("AWS_ENDPOINT_URL", &url)
        .env("TMPDIR", data)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    (url, command)
}

/// Waits until a ministack accepts connections.
async fn wait_for(url: &str) {
    let address = url.strip_prefix("http://").unwrap();
    tokio::time::timeout(Duration::from_secs(30), async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("ministack is up in 30 s");
}

fn http() -> reqwest::Client {
    connection::builder(&tls::client_config(None).unwrap()).build().unwrap()
}

/// ministack in a process of its own, with the table in it.
pub struct DynamoDb {
    pub url: String,
    http: reqwest::Client,
    _process: Option<Child>,
}

impl DynamoDb {
    /// `None` if ministack is not installed; the reason is printed.
    pub async fn start() -> Option<Self> {
        let database = Self::launch(&ministack()?).await;
        database.create(TABLE).await;
        Some(database)
    }

    /// A database that the tests of this process share, which costs them less than one each. Its tables are empty at first.
    pub async fn shared() -> Option<Self> {
        static URL: OnceLock<String> = OnceLock::new();
        let program = ministack()?;
        let url = URL.get_or_init(|| {
            let (url, mut command) = command(&program, &["sh", "-c", "\"$0\" & cat; kill $!"]);
            // It ends with this process, whose end of the pipe closes then.
            std::mem::forget(command.stdin(Stdio::piped()).spawn().unwrap());
            url
        });
        let url = url.clone();
        wait_for(&url).await;
        Some(Self { url, http: http(), _process: None })
    }

    /// Creates one more table.
    pub async fn create(&self, table: &str) {
        let table = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        });
        self.call("CreateTable", table).await;
    }

    async fn launch(program: &Path) -> Self {
        let (url, command) = command(program, &[]);
        let process = Command::from(command).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        wait_for(&url).await;
        Self { url, http: http(), _process: Some(process) }
    }

    /// All items, sorted by their key.
    pub async fn items(&self) -> Vec<Value> {
        self.items_of(TABLE).await
    }

    /// All items of a table, sorted by their key.
    pub async fn items_of(&self, table: &str) -> Vec<Value> {
        let mut items = self.call("Scan", json!({"TableName": table})).await["Items"].as_array().unwrap().clone();
        items.sort_by_key(|item| item["id"]["S"].as_str().unwrap().to_owned());
        items
    }

    /// Sets the day's count of an item, as an operator can.
    pub async fn set_day(&self, item: &str, count: &str) {
        let update = json!({
            "TableName": TABLE,
            "Key": {"id": {"S": item}},
            "UpdateExpression": "SET #day = :day",
            "ExpressionAttributeNames": {"#day": "day"},
            "ExpressionAttributeValues": {":day": {"N": count}},
        });
        self.call("UpdateItem", update).await;
    }

    pub async fn put(&self, table: &str, item: Value) {
        self.call("PutItem", json!({"TableName": table, "Item": item})).await;
    }

    /// Puts items, 25 at a time.
    pub async fn put_all(&self, table: &str, items: &[Value]) {
        for items in items.chunks(25) {
            let puts: Vec<_> = items.iter().map(|item| json!({"PutRequest": {"Item": item}})).collect();
            self.call("BatchWriteItem", json!({"RequestItems": {table: puts}})).await;
        }
    }

    async fn call(&self, operation: &str, body: Value) -> Value {
        let request = self
            .http
            .post(&self.url)
            .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
            .header(header::CONTENT_TYPE, "application/x-amz-json-1.0")
            .header(header::AUTHORIZATION, "AWS4-HMAC-SHA256 Credential=test/20261122/eu-west-1/dynamodb/aws4_request")
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{operation}: {answer:?}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}

/// The behaviour of the stub.
#[derive(Clone, Copy)]
pub enum Store {
    /// Makes the update: all counters are 1.
    Counts,
    /// The caller's quota is used up.
    CallerLimitReached,
    /// The limit of all callers is used up.
    DailyLimitReached,
    Refuses(StatusCode, &'static str),
    /// Refuses once, then counts.
    RefusesOnce(StatusCode, &'static str),
    Hangs,
    Malformed,
}

#[derive(Clone)]
pub struct Stub {
    pub url: String,
    store: Arc<Mutex<Store>>,
    updates: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Stub {
    pub async fn start(store: Store) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub =
            Self { url, store: Arc::new(Mutex::new(store)), updates: Arc::default(), connections: Arc::default() };
        let connections = Arc::clone(&stub.connections);
        let listener = listener.tap_io(move |_| {
            connections.fetch_add(1, Ordering::Relaxed);
        });
        let routes = Router::new().route("/", post(update_item)).with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        stub
    }

    pub fn set(&self, store: Store) {
        *self.store.lock().unwrap() = store;
    }

    pub fn updates(&self) -> usize {
        self.updates.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn update_item(State(stub): State<Stub>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["x-amz-target"], "DynamoDB_20120810.UpdateItem");
    assert_eq!(headers["x-amz-security-token"], "tok_of_the_session");
    assert!(headers[header::AUTHORIZATION].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 Credential=test/"));
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(asked["TableName"], TABLE);
    stub.updates.fetch_add(1, Ordering::Relaxed);
    let store = *stub.store.lock().unwrap();
    let everyone = asked["Key"]["id"]["S"].as_str().unwrap().starts_with("everyone/");
    let (status, body) = match store {
        Store::CallerLimitReached if !everyone => full(&asked),
        Store::DailyLimitReached if everyone => full(&asked),
        Store::Counts | Store::CallerLimitReached | Store::DailyLimitReached => {
            let names = asked["ExpressionAttributeNames"].as_object().unwrap().values();
            let counters = names.map(|name| (name.as_str().unwrap().to_owned(), json!({"N": "1"})));
            (StatusCode::OK, json!({"Attributes": Value::from_iter(counters)}))
        }
        Store::Refuses(status, code) => (status, refusal(code)),
        Store::RefusesOnce(status, code) => {
            stub.set(Store::Counts);
            (status, refusal(code))
        }
        Store::Hangs => std::future::pending().await,
        Store::Malformed => (StatusCode::OK, json!("<html>")),
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body.to_string()).into_response()
}

/// DynamoDB's answer if the condition does not hold.
fn full(asked: &Value) -> (StatusCode, Value) {
    let names = asked["ExpressionAttributeNames"].as_object().unwrap().values();
    let counters = names.map(|name| (name.as_str().unwrap().to_owned(), json!({"N": "1000000"})));
    let mut body = refusal("ConditionalCheckFailedException");
    body["Item"] = Value::from_iter(counters);
    (StatusCode::BAD_REQUEST, body)
}

fn refusal(code: &str) -> Value {
    json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "203.0.113.77 may not"})
}

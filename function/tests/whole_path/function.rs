//! The function's own process, started as Lambda starts it.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::http::{HeaderName, HeaderValue};
use lambda_stand_in::{Lambda, Outcome};
use openai_simulator::Simulator;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// Starts with `sk-`, which the simulator requires.
pub const API_KEY: &str = "sk-proj-5ecretKeyOfTheTests";

/// A caller's address, from the block for documentation (RFC 5737).
pub const ADDRESS: &str = "203.0.113.77";

/// The program of the mint.
const PROGRAM: &str = env!("CARGO_BIN_EXE_token-mint");

/// The timeout of the deployed function.
const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Function {
    lambda: Lambda,
    process: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// The HTTP answer in the function's JSON. A body that is not JSON is a text.
#[derive(Debug)]
pub struct Reply {
    pub status: u64,
    pub headers: Map<String, Value>,
    pub body: Value,
    pub whole: Value,
}

impl Function {
    /// Starts the function with only these variables, and waits for its init.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_program(PROGRAM, environment).await
    }

    /// Starts that program as a function.
    pub async fn start_program(program: &str, environment: &[(&str, &str)]) -> Self {
        let function = Self::launch(program, environment).await;
        function.lambda.wait_for_init().await;
        function
    }

    /// Starts it with the simulator as OpenAI, a key in the environment, and these further variables.
    pub async fn with(openai: &Simulator, environment: &[(&str, &str)]) -> Self {
        let base_url = openai.base_url();
        let mut all = vec![("OPENAI_BASE_URL", base_url.as_str()), ("OPENAI_API_KEY", API_KEY)];
        all.extend_from_slice(environment);
        Self::start(&all).await
    }

    async fn launch(program: &str, environment: &[(&str, &str)]) -> Self {
        let lambda = Lambda::start().await;
        let mut process = Command::new(program)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", lambda.address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "mint")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            collect(process.stdout.take().unwrap(), Arc::clone(&log)),
            collect(process.stderr.take().unwrap(), Arc::clone(&log)),
        ];
        Self { lambda, process, log, readers }
    }

    /// Starts it and expects it to fail. Returns the log after the process has ended by itself.
    pub async fn fails_to_start(environment: &[(&str, &str)]) -> String {
        let mut function = Self::launch(PROGRAM, environment).await;
        let ended = tokio::time::timeout(Duration::from_secs(5), function.process.wait()).await;
        assert!(!ended.expect("the process should end").unwrap().success());
        function.stop().await
    }

    pub async fn invoke(&self, event: &Value) -> Reply {
        self.invoke_within(TIMEOUT, event).await
    }

    /// Invokes with a deadline after `timeout`.
    pub async fn invoke_within(&self, timeout: Duration, event: &Value) -> Reply {
        self.invoke_with(timeout, event, Vec::new()).await
    }

    /// Invokes with further headers of the Runtime API, such as a client context.
    pub async fn invoke_with(
        &self,
        timeout: Duration,
        event: &Value,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Reply {
        let outcome = self.lambda.invoke_with(event.to_string(), timeout, headers).await;
        let answer = outcome.unwrap_or_else(|error| panic!("the function failed on {event}: {error}"));
        let whole: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(whole["isBase64Encoded"], false);
        let headers = whole["headers"].as_object().unwrap().clone();
        let body = whole["body"].as_str().unwrap();
        let body = if headers["content-type"] == "application/json" {
            serde_json::from_str(body).unwrap()
        } else {
            body.into()
        };
        Reply { status: whole["statusCode"].as_u64().unwrap(), headers, body, whole }
    }

    /// Invokes with any event. Returns the answer, or the error that the function reported.
    pub async fn invoke_raw(&self, timeout: Duration, event: &Value) -> Outcome {
        self.lambda.invoke(event.to_string(), timeout).await
    }

    /// Invokes as in production: a POST through an HTTP API, without a body.
    pub async fn mint(&self) -> Reply {
        self.invoke(&http_api(&json!({}))).await
    }

    /// Stops the process with SIGSTOP, as Lambda freezes it between requests.
    pub async fn freeze(&self) {
        self.signal("-STOP").await;
        let stat = format!("/proc/{}/stat", self.process.id().unwrap());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") T ")) {
            tokio::task::yield_now().await;
        }
    }

    pub async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    /// Kills the process with SIGKILL, as Lambda does at the timeout.
    pub async fn kill(&self) {
        self.signal("-KILL").await;
    }

    /// The most memory that the process has had, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    async fn signal(&self, signal: &str) {
        let kill = format!("kill {signal} {}", self.process.id().unwrap());
        assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    }

    /// Ends the process and returns its complete log.
    pub async fn stop(mut self) -> String {
        let _ = self.process.kill().await;
        for reader in self.readers {
            reader.await.unwrap();
        }
        let log = self.log.lock().unwrap();
        log.clone()
    }
}

/// The records of all requests in a log.
pub fn records(log: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}")));
    lines.filter(|line| line.get("_aws").is_some()).collect()
}

/// An event of an HTTP API, in which `fields` replace its own.
pub fn http_api(fields: &Value) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../events/http-api.json")).unwrap();
    event["requestContext"]["http"]["sourceIp"] = ADDRESS.into();
    event["body"] = Value::Null;
    for (name, value) in fields.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn collect(output: impl AsyncRead + Send + Unpin + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    })
}

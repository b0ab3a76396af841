//! A function's process against the stand-ins, and the measurements of it.

use std::{
    error::Error,
    fs, io,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use lambda_stand_in::Lambda;
use openai_simulator::Simulator;
use serde_json::Value;
use tokio::{
    process::{Child, ChildStderr, ChildStdout, Command},
    time::sleep,
};

use crate::{
    EVERY_MINT,
    aws::{API_KEY, Aws},
    candidate::{Answers, Candidate},
    cgroup::Cgroup,
};

/// Any error. The bench only prints its message.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The timeout of the deployed function.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The share of a CPU at 128 MB. One CPU corresponds to 1,769 MB (AWS, "Configure Lambda function memory").
const SHARE_AT_128_MB: f64 = 128.0 / 1769.0;

/// The pause before the CPU time of an idle process is read.
const REST: Duration = Duration::from_millis(20);

/// The stand-ins for OpenAI and AWS.
pub struct StandIns {
    pub openai: Simulator,
    pub aws: Aws,
    /// The path of a PEM file with the certificate authorities of both.
    pub ca_file: String,
    /// The same, after all the roots that Python's `requests` brings along. Python parses them for each connection, Go once,
    /// like those of Amazon Linux.
    pub ca_file_with_roots: String,
}

/// The process of a function, with a Runtime API of its own.
pub struct Process {
    lambda: Lambda,
    child: Child,
    /// `None` if none can be created. The CPU time of ended threads is then not counted.
    cgroup: Option<Cgroup>,
    polls: u64,
    event: String,
    answers: Answers,
}

/// How a process is started.
#[derive(Default)]
pub struct Start<'a> {
    /// Further variables, which may replace others.
    pub environment: &'a [(&'a str, &'a str)],
    /// Whether its output can be read. Otherwise it is dropped.
    pub with_output: bool,
}

/// The cost of one process: CPU in milliseconds, memory in megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub init: f64,
    pub first: f64,
    pub rss: f64,
    /// Connections to OpenAI that the first mint opened.
    pub opened_by_first: f64,
    /// Full TLS handshakes from start to end.
    pub full_handshakes: f64,
}

/// The waits of a caller at 128 MB, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    pub first: f64,
    pub warm: f64,
}

impl StandIns {
    /// Starts both. `roots` is Python's file of trusted roots, if it is installed.
    pub async fn start(roots: Option<&Path>) -> Result<Self, Failure> {
        let (openai, aws) = (Simulator::start_tls().await?, Aws::start().await?);
        // Nobody connects to the calls of a bench.
        openai.limit_calls(EVERY_MINT);
        openai.limit_connecting(Duration::from_secs(1));
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| {
            let name = format!("token-mint-bench-{}-{number}-{name}.pem", std::process::id());
            std::env::temp_dir().join(name).to_string_lossy().into_owned()
        };
        let (ca_file, ca_file_with_roots) = (file("own"), file("all"));
        let own = format!("{}{}", openai.ca_pem().unwrap_or_default(), aws.ca_pem);
        fs::write(&ca_file, &own)?;
        fs::write(&ca_file_with_roots, roots.map(fs::read_to_string).transpose()?.unwrap_or_default() + &own)?;
        Ok(Self { openai, aws, ca_file, ca_file_with_roots })
    }

    fn full_handshakes(&self) -> usize {
        self.openai
            .connections()
            .saturating_sub(self.openai.resumed_handshakes())
            .saturating_add(self.aws.full_handshakes())
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.ca_file);
        let _ = fs::remove_file(&self.ca_file_with_roots);
    }
}

impl Process {
    /// Starts a process and waits until its init has finished.
    pub async fn start(candidate: &Candidate, stand_ins: &StandIns, event: &str) -> Result<Self, Failure> {
        Self::start_as(candidate, stand_ins, event, &Start::default()).await
    }

    /// The same, started in another way than the measured ones.
    pub async fn start_as(
        candidate: &Candidate,
        stand_ins: &StandIns,
        event: &str,
        start: &Start<'_>,
    ) -> Result<Self, Failure> {
        let output = || if start.with_output { Stdio::piped() } else { Stdio::null() };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("token-mint-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::new(&name).ok();
        let lambda = Lambda::start().await;
        let joins: Vec<_> = cgroup.iter().flat_map(Cgroup::procs_files).collect();
        let joins: Vec<_> = joins.iter().map(|file| format!("echo $$ > {} &&", file.display())).collect();
        let mut command = Command::new("sh");
        // The shell joins the group before it executes the program, so that all of the program's time is counted.
        command.args(["-c", &format!("{} exec \"$@\"", joins.join(" ")), "sh"]).args(&candidate.command);
        command
            .current_dir(&candidate.folder)
            .env_clear()
            .envs([
                ("PATH", "/usr/local/bin:/usr/bin:/bin"),
                ("AWS_LAMBDA_RUNTIME_API", &lambda.address.to_string()),
                ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_DEFAULT_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &stand_ins.aws.url),
                ("AWS_ENDPOINT_URL_DYNAMODB", &stand_ins.aws.url),
                ("OPENAI_SECRET_ARN", "arn"),
                ("OPENAI_API_KEY", API_KEY),
                ("OPENAI_BASE_URL", &stand_ins.openai.base_url()),
                ("EXTRA_CA_FILE", &stand_ins.ca_file),
                ("REQUESTS_CA_BUNDLE", &stand_ins.ca_file_with_roots),
                ("AWS_CA_BUNDLE", &stand_ins.ca_file_with_roots),
                ("NODE_EXTRA_CA_CERTS", &stand_ins.ca_file),
                ("SSL_CERT_FILE", &stand_ins.ca_file_with_roots),
                // Otherwise Go also reads this machine's own folder of roots.
                ("SSL_CERT_DIR", "/nonexistent"),
            ])
            .envs(start.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(output())
            .kill_on_drop(true);
        if candidate.quotas {
            command.env("QUOTA_TABLE", "quotas");
        }
        let child = command.spawn()?;
        lambda.wait_for_init().await;
        let event = if candidate.answers == Answers::Calls { call_event(event)? } else { event.to_owned() };
        Ok(Self { lambda, child, cgroup, polls: 1, event, answers: candidate.answers })
    }

    /// Sends one request, and returns the time until its answer.
    pub async fn invoke(&mut self) -> Result<Duration, Failure> {
        let (waited, answer) = self.send(self.event.clone(), TIMEOUT).await?;
        let body = answer["body"].as_str().unwrap_or_default();
        let (status, is_right) = match self.answers {
            Answers::Text => (200, true),
            Answers::Tokens => (200, body.contains("\"ek_")),
            Answers::Calls => (201, body.starts_with("v=0\r\n")),
        };
        if answer["statusCode"] != status || !is_right {
            return Err(format!("the answer is not the expected one: {answer}").into());
        }
        Ok(waited)
    }

    /// Sends an event with a deadline after `timeout`. Returns the time until its answer, and the answer.
    pub async fn send(&mut self, event: String, timeout: Duration) -> Result<(Duration, Value), Failure> {
        let began = Instant::now();
        let answer = self.lambda.invoke(event, timeout).await?;
        let waited = began.elapsed();
        self.polls = self.polls.saturating_add(1);
        self.lambda.wait_for_polls(self.polls).await;
        Ok((waited, serde_json::from_slice(&answer)?))
    }

    /// Its output, once, if it was started with it.
    pub fn output(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    async fn cpu(&self) -> Result<f64, Failure> {
        sleep(REST).await;
        let cpu = match &self.cgroup {
            Some(cgroup) => cgroup.cpu()?,
            None => cpu_of_threads(self.id())?,
        };
        Ok(cpu.as_secs_f64() * 1e3)
    }

    /// Sends `mints` requests, and returns the CPU time of each, in milliseconds.
    pub async fn warm(&mut self, mints: u32) -> Result<f64, Failure> {
        let before = self.cpu().await?;
        for _ in 0..mints {
            self.invoke().await?;
        }
        Ok((self.cpu().await? - before) / f64::from(mints))
    }

    /// The peak resident memory, in megabytes.
    fn rss(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Sends a signal to the process, such as `-STOP`.
    pub async fn signal(&self, signal: &str) -> io::Result<()> {
        // The shell's builtin, since minimal systems have no program `kill`.
        let kill = format!("kill {signal} {}", self.id());
        let status = Command::new("sh").args(["-c", &kill]).status().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("`{kill}` failed"))) }
    }

    /// Ends the process, and removes its group.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.child.kill().await?;
        // The kernel needs a moment to notice that the group is empty.
        sleep(REST).await;
        Ok(())
    }
}

/// A browser's offer for a call with a data channel, as Chromium makes it, without its candidates.
const OFFER: &str = include_str!("offer.sdp");

/// The event for a call, with the offer in base64, as API Gateway sends it.
fn call_event(event: &str) -> Result<String, Failure> {
    let mut event: Value = serde_json::from_str(event)?;
    event["rawPath"] = "/call".into();
    event["routeKey"] = "POST /call".into();
    event["requestContext"]["http"]["path"] = "/call".into();
    event["headers"]["content-type"] = "application/sdp".into();
    event["body"] = STANDARD.encode(OFFER.replace("\r\n", "\n").replace('\n', "\r\n")).into();
    event["isBase64Encoded"] = true.into();
    Ok(event.to_string())
}

/// The cost of a process: its init, its first mint, and `mints` more.
pub async fn cost(candidate: &Candidate, stand_ins: &StandIns, event: &str, mints: u32) -> Result<Cost, Failure> {
    let handshakes = stand_ins.full_handshakes();
    let mut process = Process::start(candidate, stand_ins, event).await?;
    let init = process.cpu().await?;
    let connections = stand_ins.openai.connections();
    process.invoke().await?;
    let opened = stand_ins.openai.connections().saturating_sub(connections);
    let first = process.cpu().await?;
    for _ in 0..mints {
        process.invoke().await?;
    }
    let rss = process.rss()?;
    process.stop().await?;
    let full = stand_ins.full_handshakes().saturating_sub(handshakes);
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    Ok(Cost { init, first: first - init, rss, opened_by_first: count(opened), full_handshakes: count(full) })
}

/// CPU time of the running threads, as the scheduler counts it.
fn cpu_of_threads(process: u32) -> io::Result<Duration> {
    let mut nanoseconds: u64 = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let spent = stat.split(' ').next().unwrap_or_default().parse::<u64>().map_err(io::Error::other)?;
        nanoseconds = nanoseconds.saturating_add(spent);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The waits of callers at 128 MB, where init runs at full speed and requests do not. `None` if CPU cannot be limited.
pub async fn wait(
    candidate: &Candidate,
    stand_ins: &StandIns,
    event: &str,
    mints: u32,
) -> Result<Option<Wait>, Failure> {
    let mut process = Process::start(candidate, stand_ins, event).await?;
    sleep(REST).await;
    let Some(cgroup) = &process.cgroup else { return Ok(None) };
    cgroup.limit(SHARE_AT_128_MB)?;
    let first = process.invoke().await?;
    let mut waits = Vec::new();
    for _ in 0..mints {
        waits.push(process.invoke().await?.as_secs_f64() * 1e3);
    }
    process.stop().await?;
    Ok(Some(Wait { first: first.as_secs_f64() * 1e3, warm: median(&waits) }))
}

/// The median, or 0 without numbers.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

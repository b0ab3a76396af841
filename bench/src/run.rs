//! One life of a function: started, asked for tokens, frozen, ended.

use std::{
    error::Error,
    fs, io,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use lambda_stand_in::Lambda;
use openai_simulator::{Fault, Simulator};
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::{
    aws::{API_KEY, Aws},
    candidate::Candidate,
    cgroup::Cgroup,
};

/// Any error, since whoever runs a bench wants its sentence and nothing else.
pub type Failure = Box<dyn Error + Send + Sync>;

/// As long as an invocation of the deployed function may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What 128 MB get of a CPU: one CPU goes with 1,769 MB (AWS, "Configure Lambda function memory").
const SHARE_AT_128_MB: f64 = 128.0 / 1769.0;

/// How long a process has to be at rest before its CPU time is read.
const REST: Duration = Duration::from_millis(20);

/// What the functions talk to.
pub struct World {
    pub openai: Simulator,
    pub aws: Aws,
    /// A file with the authorities of both.
    pub ca_file: String,
    /// The same behind all the roots that Python's `requests` brings, which it parses for each connection.
    pub python_ca_file: String,
}

/// A started function.
pub struct Life {
    lambda: Lambda,
    process: Child,
    /// `None` where none can be made; then threads that have ended are not counted.
    cgroup: Option<Cgroup>,
    polls: u64,
    event: String,
    mints: bool,
}

/// What one life cost, in milliseconds of CPU and megabytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub init: f64,
    pub first: f64,
    pub rss: f64,
    /// Connections to OpenAI that the first mint opened.
    pub opened_by_first: f64,
    /// Full TLS handshakes of the whole life.
    pub full_handshakes: f64,
}

/// How long a caller waits at 128 MB, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wait {
    pub first: f64,
    pub warm: f64,
}

impl World {
    /// Both stand-ins, up. `roots` is the file of roots that comes with Python, if it is there.
    pub async fn start(roots: Option<&Path>) -> Result<Self, Failure> {
        let (openai, aws) = (Simulator::start_tls().await?, Aws::start().await?);
        let file = |name: &str| {
            let name = format!("token-mint-bench-{}-{name}.pem", std::process::id());
            std::env::temp_dir().join(name).to_string_lossy().into_owned()
        };
        let (ca_file, python_ca_file) = (file("own"), file("all"));
        let own = format!("{}{}", openai.ca_pem().unwrap_or_default(), aws.ca_pem);
        fs::write(&ca_file, &own)?;
        fs::write(&python_ca_file, roots.map(fs::read_to_string).transpose()?.unwrap_or_default() + &own)?;
        Ok(Self { openai, aws, ca_file, python_ca_file })
    }

    fn full_handshakes(&self) -> usize {
        self.openai
            .connections()
            .saturating_sub(self.openai.resumed_handshakes())
            .saturating_add(self.aws.full_handshakes())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.ca_file);
        let _ = fs::remove_file(&self.python_ca_file);
    }
}

impl Life {
    /// A process of its own, past its init.
    pub async fn begin(candidate: &Candidate, world: &World, event: &str) -> Result<Self, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("token-mint-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::new(&name).ok();
        let lambda = Lambda::start().await;
        let doors: Vec<_> =
            cgroup.iter().flat_map(Cgroup::doors).map(|door| format!("echo $$ > {} &&", door.display())).collect();
        let mut command = Command::new("sh");
        // It joins before it becomes the program, so that nothing of the program is left out.
        command.args(["-c", &format!("{} exec \"$@\"", doors.join(" ")), "sh"]).args(&candidate.command);
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
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &world.aws.url),
                ("AWS_ENDPOINT_URL_DYNAMODB", &world.aws.url),
                ("OPENAI_SECRET_ARN", "arn"),
                ("OPENAI_API_KEY", API_KEY),
                ("OPENAI_BASE_URL", &world.openai.base_url()),
                ("EXTRA_CA_FILE", &world.ca_file),
                ("REQUESTS_CA_BUNDLE", &world.python_ca_file),
                ("AWS_CA_BUNDLE", &world.python_ca_file),
                ("NODE_EXTRA_CA_CERTS", &world.ca_file),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        if candidate.quotas {
            command.env("QUOTA_TABLE", "quotas");
        }
        let process = command.spawn()?;
        let mut life = Self { lambda, process, cgroup, polls: 0, event: event.to_owned(), mints: candidate.mints };
        life.lambda.wait_for_init().await;
        life.polls = 1;
        Ok(life)
    }

    /// One request. How long its caller waited.
    pub async fn ask(&mut self) -> Result<Duration, Failure> {
        let asked = Instant::now();
        let answer = self.lambda.invoke(self.event.clone(), TIMEOUT).await?;
        let waited = asked.elapsed();
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let body = answer["body"].as_str().unwrap_or_default();
        if answer["statusCode"] != 200 || (self.mints && !body.contains("\"ek_")) {
            return Err(format!("it does not answer a token: {answer}").into());
        }
        self.wait_for_next().await;
        Ok(waited)
    }

    async fn wait_for_next(&mut self) {
        self.polls = self.polls.saturating_add(1);
        self.lambda.wait_for_polls(self.polls).await;
    }

    async fn cpu(&self) -> Result<f64, Failure> {
        sleep(REST).await;
        let cpu = match &self.cgroup {
            Some(cgroup) => cgroup.cpu()?,
            None => cpu_of_threads(self.process.id().unwrap_or_default())?,
        };
        Ok(cpu.as_secs_f64() * 1e3)
    }

    /// So many requests. What each of them cost, in milliseconds of CPU.
    pub async fn warm(&mut self, mints: u32) -> Result<f64, Failure> {
        let before = self.cpu().await?;
        for _ in 0..mints {
            self.ask().await?;
        }
        Ok((self.cpu().await? - before) / f64::from(mints))
    }

    /// The most memory that it ever had, in megabytes.
    fn rss(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id().unwrap_or_default()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    async fn signal(&self, signal: &str) -> io::Result<()> {
        // The shell's own `kill`: a minimal system has no program of that name.
        let kill = format!("kill {signal} {}", self.process.id().unwrap_or_default());
        let status = Command::new("sh").args(["-c", &kill]).status().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("`{kill}` failed"))) }
    }

    /// Ends the process, and with it the group.
    pub async fn end(mut self) -> Result<(), Failure> {
        self.process.kill().await?;
        // The kernel takes a moment to find the group empty.
        sleep(REST).await;
        Ok(())
    }
}

/// What a whole life costs: init, a first mint, and so many more.
pub async fn cost(candidate: &Candidate, world: &World, event: &str, mints: u32) -> Result<Cost, Failure> {
    let handshakes = world.full_handshakes();
    let mut life = Life::begin(candidate, world, event).await?;
    let init = life.cpu().await?;
    let connections = world.openai.connections();
    life.ask().await?;
    let opened = world.openai.connections().saturating_sub(connections);
    let first = life.cpu().await?;
    for _ in 0..mints {
        life.ask().await?;
    }
    let rss = life.rss()?;
    life.end().await?;
    let full = world.full_handshakes().saturating_sub(handshakes);
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    Ok(Cost { init, first: first - init, rss, opened_by_first: count(opened), full_handshakes: count(full) })
}

/// CPU time of the threads that there are, by the scheduler's own count.
fn cpu_of_threads(process: u32) -> io::Result<Duration> {
    let mut nanoseconds: u64 = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let spent = stat.split(' ').next().unwrap_or_default().parse::<u64>().map_err(io::Error::other)?;
        nanoseconds = nanoseconds.saturating_add(spent);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// How long callers wait at 128 MB, where init runs at full speed and requests do not. `None` where
/// CPU cannot be limited.
pub async fn wait(candidate: &Candidate, world: &World, event: &str, mints: u32) -> Result<Option<Wait>, Failure> {
    let mut life = Life::begin(candidate, world, event).await?;
    sleep(REST).await;
    let Some(cgroup) = &life.cgroup else { return Ok(None) };
    cgroup.limit(SHARE_AT_128_MB)?;
    let first = life.ask().await?;
    let mut waits = Vec::new();
    for _ in 0..mints {
        waits.push(life.ask().await?.as_secs_f64() * 1e3);
    }
    life.end().await?;
    Ok(Some(Wait { first: first.as_secs_f64() * 1e3, warm: median(&waits) }))
}

/// Freezes the process between requests while OpenAI closes all connections. How many mints failed.
pub async fn closed_while_frozen(
    candidate: &Candidate,
    world: &World,
    event: &str,
    cycles: u32,
) -> Result<u32, Failure> {
    let mut life = Life::begin(candidate, world, event).await?;
    let mut failed: u32 = 0;
    for _ in 0..cycles {
        life.signal("-STOP").await?;
        world.openai.close_connections().await;
        life.signal("-CONT").await?;
        failed = failed.saturating_add(u32::from(life.ask().await.is_err()));
    }
    life.end().await?;
    Ok(failed)
}

/// How long a mint takes whose connection has fallen silent, in milliseconds.
pub async fn silent_peer(candidate: &Candidate, world: &World, event: &str) -> Result<f64, Failure> {
    let mut life = Life::begin(candidate, world, event).await?;
    life.ask().await?;
    world.openai.fail(Fault::Hang, 1);
    let waited = life.ask().await?;
    life.end().await?;
    Ok(waited.as_secs_f64() * 1e3)
}

/// The middle one, or 0 of none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

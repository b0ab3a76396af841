//! A soak: one process under mixed load, with every fault of OpenAI, the table and the callers in between. Its memory, files
//! and threads must stay flat, every request must leave one record, and the log must contain no secret.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use openai_simulator::Fault;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use crate::{
    aws::{IDENTIFIER_KEY, TableFault},
    candidate::Candidate,
    figures::Figures,
    relay::Relay,
    run::{Failure, Process, StandIns, Start},
};

/// Undisturbed mints at the end of each round. The figures are read after them.
const MINTS: usize = 300;
/// The rounds of the shortest soak.
const LEAST_ROUNDS: usize = 3;
/// The number of problems after which a soak ends.
const ENOUGH: usize = 10;
/// The time for a request, and for one that OpenAI does not answer.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(1_200);

/// The address of a caller on the block list.
const BLOCKED: &str = "203.0.113.66";
const SOURCE: &str = "/requestContext/http/sourceIp";
/// A part of bodies that are refused.
const BODY: &str = "said-by-a-caller";
const AWS_SECRET: &str = "aws-secret-of-the-soak";
/// None of these may be in a line of the log: keys, tokens, bodies, addresses.
const SECRETS: [&str; 7] = ["sk-", "ek_", "Bearer", IDENTIFIER_KEY, AWS_SECRET, BODY, "203.0.113."];

/// OpenAI's faults that have no parameters and end by themselves.
const FAULTS: &str = "unauthorized forbidden bad-request not-found rate-limit insufficient-quota cut reset garbage \
                      not-json expired wrong-prefix oversize";

/// One request, and what happens to it.
#[derive(Clone)]
enum Step {
    Event(String),
    /// A fault in each attempt of a mint with that time.
    OpenAi(Fault, Duration),
    /// A fault in that many requests to the table.
    Table(TableFault, usize),
    /// OpenAI closes all connections while the process is frozen.
    Closes,
    /// The other end of the connection to OpenAI disappears.
    Silent,
    /// OpenAI closes all connections, and refuses new ones.
    Refuses,
}

struct Soak {
    process: Process,
    stand_ins: StandIns,
    relay: Relay,
    /// The request IDs of the records, and sentences about lines with a secret.
    log: mpsc::UnboundedReceiver<Result<String, String>>,
    /// The event of a valid request.
    mint: String,
    sent: u64,
    /// The number of answers by their code.
    codes: BTreeMap<String, u64>,
    problems: Vec<String>,
}

/// Runs for that many minutes, and prints the result. Returns whether there was no problem.
pub async fn soak(candidate: &Candidate, root: &Path, minutes: f64) -> Result<bool, Failure> {
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let events = ["http-api", "function-url", "rest-api", "load-balancer", "console"].map(|kind| {
        let file = fs::read_to_string(root.join(format!("function/events/{kind}.json")))?;
        Ok(serde_json::from_str::<Value>(&file)?)
    });
    let events = events.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let mut soak = Soak::start(candidate, &events).await?;
    soak.block(&changed(&events, SOURCE, BLOCKED.into())).await?;
    let mut steps = steps(&events)?;
    let mut rounds = Vec::new();
    while Instant::now() < end || rounds.len() < LEAST_ROUNDS {
        fastrand::shuffle(&mut steps);
        for step in steps.clone() {
            soak.take(step).await?;
        }
        for number in 0..MINTS {
            let answer = soak.send(events[number % events.len()].to_string(), LONG).await?;
            if answer["statusCode"] != 200 {
                soak.problems.push(format!("request {} failed without a reason: {answer}", soak.sent));
            }
        }
        rounds.push(Figures::of(soak.process.id())?);
    }
    soak.finish(minutes, &rounds).await
}

/// The first event, with another value in one place.
fn changed(events: &[Value], pointer: &str, value: Value) -> String {
    let mut event = events.first().cloned().unwrap_or_default();
    if let Some(place) = event.pointer_mut(pointer) {
        *place = value;
    }
    event.to_string()
}

/// The steps of a round.
fn steps(events: &[Value]) -> Result<Vec<Step>, Failure> {
    let with = |pointer: &str, value: Value| Step::Event(changed(events, pointer, value));
    let mut steps: Vec<_> = events.iter().map(|event| Step::Event(event.to_string())).collect();
    steps.extend(["null", "[]", "7", "{}"].map(|event| Step::Event(event.to_owned())));
    let bodies = [json!({BODY: 1}), json!({"voice": BODY}), json!({"profile": BODY}), json!([BODY]), json!(BODY)];
    steps.extend(bodies.map(|body| with("/body", body.to_string().into())));
    steps.extend([
        with("/body", format!("{{{BODY}").into()),
        with("/body", BODY.repeat(10_000).into()),
        with("/isBase64Encoded", true.into()),
        with("/headers/origin", "https://evil.example".into()),
        with("/requestContext/http/method", "GET".into()),
        with("/rawPath", format!("/{BODY}").into()),
        with(SOURCE, BLOCKED.into()),
    ]);
    let faults = FAULTS.split(' ').map(|name| (LONG, json!({"fault": name})));
    let faults = faults.chain([
        (LONG, json!({"fault": "delay", "ms": 300})),
        (LONG, json!({"fault": "delay", "ms": 1_200})),
        (LONG, json!({"fault": "rate-limit", "retry_after": "60"})),
        (LONG, json!({"fault": "server-error", "status": 503})),
        (LONG, json!({"fault": "redirect", "location": "https://elsewhere.example/"})),
        (SHORT, json!({"fault": "hang"})),
        (SHORT, json!({"fault": "drip"})),
    ]);
    let faults = faults.map(|(within, fault)| Ok(Step::OpenAi(serde_json::from_value(fault)?, within)));
    steps.extend(faults.collect::<Result<Vec<_>, Failure>>()?);
    let transient = [TableFault::Lost, TableFault::Fails, TableFault::Throttles];
    let others =
        [TableFault::Slow(Duration::from_millis(300)), TableFault::Hangs, TableFault::Denies, TableFault::Full];
    steps.extend(transient.map(|fault| Step::Table(fault, 9)));
    steps.extend(transient.into_iter().chain(others).map(|fault| Step::Table(fault, 1)));
    steps.extend([Step::Closes, Step::Silent, Step::Refuses]);
    Ok(steps)
}

impl Soak {
    async fn start(candidate: &Candidate, events: &[Value]) -> Result<Self, Failure> {
        let stand_ins = StandIns::start(None).await?;
        let relay = Relay::start(&stand_ins.openai.base_url()).await?;
        let base_url = relay.instead_of(&stand_ins.openai.base_url());
        let environment = [
            ("OPENAI_BASE_URL", base_url.as_str()),
            ("ALLOWED_ORIGINS", "https://app.example.com"),
            ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
            ("KEY_TTL_SECONDS", "1"),
            ("LOG_LEVEL", "DEBUG"),
        ];
        let start = Start { environment: &environment, with_output: true };
        let mut process = Process::start_as(candidate, &stand_ins, "", &start).await?;
        let (read, log) = mpsc::unbounded_channel();
        let (stdout, stderr) = process.output().ok_or("the output cannot be read")?;
        tokio::spawn(read_log(stdout, read.clone()));
        tokio::spawn(read_log(stderr, read));
        let mint = events.first().map(Value::to_string).unwrap_or_default();
        Ok(Self { process, stand_ins, relay, log, mint, sent: 0, codes: BTreeMap::new(), problems: Vec::new() })
    }

    /// Puts the caller of an event on the block list, and waits until the function obeys it.
    async fn block(&mut self, event: &str) -> Result<(), Failure> {
        self.send(event.to_owned(), LONG).await?;
        let asked = self.stand_ins.openai.requests();
        let caller = asked.last().and_then(|asked| asked.safety_identifier.clone());
        self.stand_ins.aws.block(caller.ok_or("the first request did not reach OpenAI")?);
        for _ in 0..100 {
            if self.send(event.to_owned(), LONG).await?["statusCode"] == 403 {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err("the caller is not blocked".into())
    }

    async fn take(&mut self, step: Step) -> Result<(), Failure> {
        let (mut event, mut within) = (self.mint.clone(), LONG);
        match step {
            Step::Event(other) => event = other,
            Step::OpenAi(fault, time) => {
                self.stand_ins.openai.fail(fault, 9);
                within = time;
            }
            Step::Table(fault, times) => self.stand_ins.aws.fail_table(fault, times),
            Step::Closes => {
                self.process.signal("-STOP").await?;
                self.stand_ins.openai.close_connections().await;
                self.process.signal("-CONT").await?;
            }
            Step::Silent => self.relay.silence().await,
            Step::Refuses => {
                self.relay.refuse().await;
                self.stand_ins.openai.close_connections().await;
            }
        }
        self.send(event, within).await?;
        self.stand_ins.openai.clear_faults();
        self.stand_ins.aws.clear_table_faults();
        Ok(self.relay.accept().await?)
    }

    /// Sends an event, checks the form of the answer, and waits for the one record.
    async fn send(&mut self, event: String, within: Duration) -> Result<Value, Failure> {
        if self.problems.len() >= ENOUGH {
            return Err(self.problems.join("\n").into());
        }
        self.sent = self.sent.saturating_add(1);
        let (_, answer) = self.process.send(event, within).await.map_err(|error| {
            let found = self.problems.join("\n");
            format!("{found}\nrequest {} got no answer: {error}", self.sent)
        })?;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
        let code = body["code"].as_str().unwrap_or(if body["value"].is_string() { "ok" } else { "" });
        if (answer["statusCode"] == 200) != (code == "ok") || code.is_empty() {
            self.problems.push(format!("request {} got a malformed answer: {answer}", self.sent));
        }
        let count = self.codes.entry(code.to_owned()).or_default();
        *count = count.saturating_add(1);
        // The Runtime API's own numbering.
        let id = format!("00000000-0000-0000-0000-{:012}", self.sent);
        loop {
            let problem = match timeout(SHORT, self.log.recv()).await {
                Ok(Some(Ok(record))) if record == id => return Ok(answer),
                Ok(Some(Ok(record))) => format!("{record} has one more record"),
                Ok(Some(Err(secret))) => secret,
                Ok(None) | Err(_) => {
                    self.problems.push(format!("{id} has no record"));
                    return Ok(answer);
                }
            };
            self.problems.push(problem);
        }
    }

    async fn finish(mut self, minutes: f64, rounds: &[Figures]) -> Result<bool, Failure> {
        // The records of the last request, if it has more than one.
        sleep(Duration::from_millis(200)).await;
        while let Ok(line) = self.log.try_recv() {
            self.problems.push(line.map_or_else(|secret| secret, |record| format!("{record} has one more record")));
        }
        self.process.stop().await?;
        println!("{minutes} minutes, {} rounds, {} requests. Answers:", rounds.len(), self.sent);
        for (code, count) in &self.codes {
            println!("{count:>9} {code}");
        }
        for (figure, grew) in Figures::compare(rounds) {
            println!("{figure}");
            self.problems.extend(grew.then_some(figure));
        }
        for problem in &self.problems {
            println!("FAILED {problem}");
        }
        Ok(self.problems.is_empty())
    }
}

async fn read_log(output: impl AsyncRead + Unpin, read: mpsc::UnboundedSender<Result<String, String>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(secret) = SECRETS.iter().find(|secret| line.contains(**secret)) {
            let _ = read.send(Err(format!("{secret:?} is in the log: {line}")));
        }
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if line["_aws"].is_object() {
            let _ = read.send(Ok(line["requestId"].as_str().unwrap_or_default().to_owned()));
        }
    }
}

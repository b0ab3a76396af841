//! Requests and recoveries of the function. A busy machine does not change them, unlike CPU times.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use openai_simulator::Fault;
use serde::Serialize;

use crate::{
    EVERY_MINT,
    candidate::Candidate,
    relay::Relay,
    run::{Failure, Process, StandIns, Start, median},
};

/// The times of OpenAI's answers, in milliseconds, at which requests are counted.
const ANSWERS_AFTER: [u64; 4] = [300, 1_100, 2_000, 5_000];

/// The instances that ask at each of these times.
const INSTANCES: u32 = 3;

/// Mints with quotas, before and while the requests to the table are counted. An instance may need some to learn how many of
/// the day's tokens to take at a time.
const WARM_UP: u32 = 20;
const MINTS: u32 = 40;

/// The results of the function.
#[derive(Debug, Default, Serialize)]
pub struct Counts {
    /// Requests to OpenAI for each token, by the milliseconds that OpenAI takes. Infinite if there was no token, which JSON
    /// writes as null.
    pub openai_requests_per_mint_after_ms: BTreeMap<u64, f64>,
    /// Requests to DynamoDB in a mint of a warm instance, with all quotas on: the median, since one request may take several
    /// of the day's tokens.
    pub table_requests_in_a_mint: f64,
    /// The same, as the mean.
    pub table_requests_per_mint: f64,
    /// Failed mints of a process that is frozen while OpenAI closes all connections.
    pub failed_when_closed: u32,
    /// The time of a mint over a connection whose other end has disappeared, in milliseconds. Infinite if it fails.
    pub silent_peer_ms: f64,
}

impl Counts {
    /// Counts with the function, `mint`, and with its quotas on. `cycles`: how often OpenAI closes the connections.
    pub async fn of(mint: &Candidate, with_quotas: &Candidate, event: &str, cycles: u32) -> Result<Self, Failure> {
        let stand_ins = StandIns::start(None).await?;
        let after = |ms| async move { Ok::<_, Failure>((ms, requests_per_mint(mint, event, ms).await?)) };
        let openai_requests = try_join_all(ANSWERS_AFTER.map(after)).await?;
        let table_requests = table_requests(with_quotas, &stand_ins, event).await?;
        Ok(Self {
            openai_requests_per_mint_after_ms: openai_requests.into_iter().collect(),
            table_requests_in_a_mint: median(&table_requests),
            table_requests_per_mint: table_requests.iter().sum::<f64>() / f64::from(MINTS),
            failed_when_closed: closed_while_frozen(mint, &stand_ins, event, cycles).await?,
            silent_peer_ms: silent_peer(mint, &stand_ins, event).await?,
        })
    }
}

/// Requests to OpenAI for each token of warm instances if each answer takes `ms`.
async fn requests_per_mint(mint: &Candidate, event: &str, ms: u64) -> Result<f64, Failure> {
    let stand_ins = StandIns::start(None).await?;
    let mut processes = Vec::new();
    for _ in 0..INSTANCES {
        let mut process = Process::start(mint, &stand_ins, event).await?;
        process.invoke().await?;
        processes.push(process);
    }
    let before = stand_ins.openai.requests().len();
    stand_ins.openai.fail(Fault::Delay { ms }, EVERY_MINT);
    let mints = processes.into_iter().map(|mut process| async move {
        let minted = process.invoke().await.is_ok();
        process.stop().await?;
        Ok::<_, Failure>(u32::from(minted))
    });
    let minted: u32 = try_join_all(mints).await?.iter().sum();
    Ok(difference(stand_ins.openai.requests().len(), before) / f64::from(minted))
}

/// The requests to DynamoDB in each mint.
async fn table_requests(with_quotas: &Candidate, stand_ins: &StandIns, event: &str) -> Result<Vec<f64>, Failure> {
    let mut process = Process::start(with_quotas, stand_ins, event).await?;
    for _ in 0..WARM_UP {
        process.invoke().await?;
    }
    let mut requests = Vec::new();
    for _ in 0..MINTS {
        let before = stand_ins.aws.table_requests();
        process.invoke().await?;
        requests.push(difference(stand_ins.aws.table_requests(), before));
    }
    process.stop().await?;
    Ok(requests)
}

fn difference(after: usize, before: usize) -> f64 {
    f64::from(u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX))
}

async fn closed_while_frozen(mint: &Candidate, stand_ins: &StandIns, event: &str, cycles: u32) -> Result<u32, Failure> {
    let mut process = Process::start(mint, stand_ins, event).await?;
    let mut failed: u32 = 0;
    for _ in 0..cycles {
        process.signal("-STOP").await?;
        stand_ins.openai.close_connections().await;
        process.signal("-CONT").await?;
        failed = failed.saturating_add(u32::from(process.invoke().await.is_err()));
    }
    process.stop().await?;
    Ok(failed)
}

async fn silent_peer(mint: &Candidate, stand_ins: &StandIns, event: &str) -> Result<f64, Failure> {
    let relay = Relay::start(&stand_ins.openai.base_url()).await?;
    let base_url = relay.instead_of(&stand_ins.openai.base_url());
    let environment = [("OPENAI_BASE_URL", base_url.as_str())];
    let start = Start { environment: &environment, ..Start::default() };
    let mut process = Process::start_as(mint, stand_ins, event, &start).await?;
    process.invoke().await?;
    relay.silence().await;
    let waited = process.invoke().await.map_or(f64::INFINITY, |waited| waited.as_secs_f64() * 1e3);
    process.stop().await?;
    Ok(waited)
}

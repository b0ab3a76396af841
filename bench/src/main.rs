//! Measures cold start, CPU and memory of a mint in whole processes, next to the alternatives. `bench/run` builds the
//! candidates and calls this program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]
#![allow(clippy::arithmetic_side_effects, reason = "floating point, which does not panic")]
#![allow(clippy::indexing_slicing, reason = "indexing JSON, where a missing value reads as null")]
#![allow(missing_docs, reason = "a program without an API")]

mod aws;
mod candidate;
mod cgroup;
mod chart;
mod counts;
mod figures;
mod relay;
mod report;
mod run;
mod soak;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use candidate::{CALL, Candidate, GO, HELLO, MINT, MINT_WITH_QUOTAS};
use cgroup::Cgroup;
use counts::Counts;
use openai_simulator::Fault;
use report::{Goal, Measured, Row};
use run::{Failure, Process, StandIns};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match bench().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The amount of measuring, and the tolerance.
struct Plan {
    cold_runs: u32,
    /// Rounds of warm mints, in each of which every candidate has its turn.
    rounds: u32,
    /// Mints in each cold run and in each round.
    mints: u32,
    /// How often the function is frozen while OpenAI closes its connections.
    cycles: u32,
    /// The factor by which a ratio may miss its goal.
    slack: f64,
    /// The candidates to measure; empty: all.
    only: &'static [&'static str],
}

const FULL: Plan = Plan { cold_runs: 20, rounds: 60, mints: 30, cycles: 200, slack: 1.0, only: &[] };
const QUICK: Plan = Plan { cold_runs: 10, rounds: 20, mints: 20, cycles: 50, slack: 1.0, only: &[] };
/// For a busy machine: detects only regressions by a multiple.
const GUARD: Plan =
    Plan { cold_runs: 7, rounds: 10, mints: 20, cycles: 10, slack: 3.0, only: &[HELLO, MINT, MINT_WITH_QUOTAS, CALL] };
/// For any machine: only the counts, without CPU times.
const COUNTS: Plan = Plan { cold_runs: 0, rounds: 0, only: &[MINT, MINT_WITH_QUOTAS], ..FULL };

/// More mints than a run of the bench makes.
const EVERY_MINT: usize = 100_000;

async fn bench() -> Result<bool, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
    let (mut plan, mut keep, mut delay, mut minutes, mut bootstrap) = (FULL, false, None, None, None);
    for argument in env::args_os().skip(1) {
        match argument.to_str() {
            Some("--quick") => plan = QUICK,
            Some("--guard") => plan = GUARD,
            Some("--counts") => plan = COUNTS,
            Some("--keep") => keep = true,
            Some(argument) if argument.starts_with("--delay=") => {
                let ms = argument.trim_start_matches("--delay=").parse();
                delay = Some(ms.map_err(|_| format!("{argument}: expected a whole number of milliseconds"))?);
            }
            Some(argument) if argument.starts_with("--soak=") => {
                let given = argument.trim_start_matches("--soak=").parse().ok().filter(|given| *given > 0.0);
                minutes = Some(given.ok_or_else(|| format!("{argument}: expected a number of minutes"))?);
            }
            _ => bootstrap = Some(PathBuf::from(argument)),
        }
    }
    let bootstrap = bootstrap
        .ok_or("usage: [--quick | --guard | --counts | --soak=MINUTES] [--keep] [--delay=MILLISECONDS] BOOTSTRAP")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let event = fs::read_to_string(root.join("function/events/http-api.json"))?;
    let mut candidates = Candidate::all(&root, &target, &bootstrap.canonicalize()?);
    if let Some(minutes) = minutes {
        let with_quotas = candidates.iter().find(|candidate| candidate.name == MINT_WITH_QUOTAS);
        return soak::soak(with_quotas.ok_or("the function is missing")?, &root, minutes).await;
    }
    let stand_ins = StandIns::start(python_roots(&root).as_deref()).await?;
    candidates.retain(|candidate| plan.only.is_empty() || plan.only.contains(&candidate.name));
    let mut complete = true;
    candidates.retain(|candidate| match candidate.missing() {
        None => true,
        Some(why) => {
            println!("skipped: {}: {why}", candidate.name);
            complete &= candidate.name == GO;
            false
        }
    });
    if keep && delay.is_none() && !(complete && Cgroup::can_limit()) {
        return Err(
            "The results of a full run go into the docs, so it needs every peer above but Go, and the right to limit CPU \
             (root has it). `make bench QUICK=1` measures the rest and keeps no results."
                .into(),
        );
    }
    if let Some(ms) = delay {
        stand_ins.openai.fail(Fault::Delay { ms }, EVERY_MINT);
    }
    let order: Vec<_> = candidates.iter().map(|candidate| candidate.name).collect();
    let mut rows = BTreeMap::new();
    if plan.cold_runs > 0 {
        rows = measure(&candidates, &stand_ins, &event, &plan).await?;
        println!("{}", report::table(&rows, &order));
    }
    if let Some(ms) = delay {
        println!("OpenAI took {ms} ms for each answer, so the results are not compared with the goals.");
        return Ok(true);
    }
    let candidate = |name| candidates.iter().find(|candidate| candidate.name == name).ok_or("the function is missing");
    let counts = Counts::of(candidate(MINT)?, candidate(MINT_WITH_QUOTAS)?, &event, plan.cycles).await?;
    let mut goals = report::goals(&rows, plan.slack);
    goals.extend(report::count_goals(&counts));
    for Goal { name, limit, reached, met } in &goals {
        println!("{} {name:<62} {reached:>8}, goal {limit}", if *met { "met   " } else { "MISSED" });
    }
    if keep {
        write(&root, &rows, &order, &counts, &plan)?;
    }
    Ok(goals.iter().all(|goal| goal.met) && (plan.cold_runs == 0 || rows.contains_key(HELLO)))
}

/// The trusted roots that Python's `requests` brings along, as in Lambda.
fn python_roots(root: &Path) -> Option<PathBuf> {
    let libraries = fs::read_dir(root.join(".venv/bench/lib")).ok()?;
    libraries.flatten().map(|python| python.path().join("site-packages/certifi/cacert.pem")).find(|file| file.exists())
}

/// Measures cold starts, then warm mints. The candidates take turns in each run and round, so that other work of the
/// machine affects all of them alike.
async fn measure(
    candidates: &[Candidate],
    stand_ins: &StandIns,
    event: &str,
    plan: &Plan,
) -> Result<BTreeMap<&'static str, Row>, Failure> {
    let mut measured: BTreeMap<&'static str, Measured> = BTreeMap::new();
    for run in 0..plan.cold_runs {
        for candidate in candidates {
            let results = measured.entry(candidate.name).or_default();
            results.zip_mb = candidate.zip_mb();
            let cost = run::cost(candidate, stand_ins, event, plan.mints).await;
            results.costs.push(cost.map_err(|error| named(candidate, &error))?);
            // A slow candidate takes a second for each of these.
            if run % 4 == 0 && plan.only.is_empty() {
                let wait = run::wait(candidate, stand_ins, event, 5).await;
                results.waits.extend(wait.map_err(|error| named(candidate, &error))?);
            }
        }
        eprint!("\rrun {} of {} ", run + 1, plan.cold_runs);
    }
    let mut processes = Vec::new();
    for candidate in candidates {
        let mut process = Process::start(candidate, stand_ins, event).await?;
        process.invoke().await.map_err(|error| named(candidate, &error))?;
        processes.push((candidate, process));
    }
    for round in 0..plan.rounds {
        for (candidate, process) in &mut processes {
            let warm = process.warm(plan.mints).await.map_err(|error| named(candidate, &error))?;
            measured.entry(candidate.name).or_default().warm.push(warm);
        }
        eprint!("\rround {} of {} ", round + 1, plan.rounds);
    }
    for (_, process) in processes {
        process.stop().await?;
    }
    eprintln!();
    Ok(measured.iter().map(|(name, measured)| (*name, Row::of(measured))).collect())
}

fn named(candidate: &Candidate, error: &Failure) -> Failure {
    format!("{}: {error}", candidate.name).into()
}

/// Writes `bench/results.json` and `bench/results.svg`.
fn write(
    root: &Path,
    rows: &BTreeMap<&'static str, Row>,
    order: &[&'static str],
    counts: &Counts,
    plan: &Plan,
) -> Result<(), Failure> {
    let (date, machine) = (env::var("BENCH_DATE")?, env::var("BENCH_MACHINE")?);
    let results = json!({"date": date, "machine": machine, "cold_runs": plan.cold_runs,
        "rounds": plan.rounds, "mints": plan.mints, "counts": counts, "candidates": rows});
    fs::write(root.join("bench/results.json"), format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    let footer =
        format!("{date}, {machine}; medians of {} cold starts and {} rounds; logarithmic", plan.cold_runs, plan.rounds);
    fs::write(root.join("bench/results.svg"), chart::draw(rows, order, &footer))?;
    Ok(())
}

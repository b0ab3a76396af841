//! Cold start, CPU and memory of a mint, as whole processes, side by side with what one would use
//! instead. `bench/run` builds what is compared, and calls this.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that speaks to a person")]
#![allow(clippy::arithmetic_side_effects, reason = "floating point, which does not panic")]
#![allow(clippy::indexing_slicing, reason = "reading JSON: what is not there reads as null")]
#![allow(missing_docs, reason = "no one builds upon a program")]

mod aws;
mod candidate;
mod cgroup;
mod chart;
mod report;
mod run;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use candidate::{Candidate, HELLO, MINT, MINT_WITH_QUOTAS};
use cgroup::Cgroup;
use openai_simulator::Fault;
use report::{Goal, Measured, Row};
use run::{Failure, Life, World};
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

/// How much is measured, and how strictly.
struct Plan {
    cold_runs: u32,
    /// In which all are warm, and asked in turn.
    rounds: u32,
    /// Of each cold run, and of each round.
    mints: u32,
    cycles: u32,
    slack: f64,
    /// Only the function itself and its floor.
    alone: bool,
}

const FULL: Plan = Plan { cold_runs: 20, rounds: 60, mints: 30, cycles: 200, slack: 1.0, alone: false };
const QUICK: Plan = Plan { cold_runs: 10, rounds: 20, mints: 20, cycles: 50, slack: 1.0, alone: false };
/// For a machine that does other things meanwhile: it catches what costs a multiple.
const GUARD: Plan = Plan { cold_runs: 7, rounds: 10, mints: 20, cycles: 10, slack: 3.0, alone: true };

/// Mints of one bench.
const MORE_THAN_ENOUGH: usize = 100_000;

async fn bench() -> Result<bool, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned();
    let (mut plan, mut keep, mut delay, mut bootstrap) = (FULL, false, None, None);
    for argument in env::args_os().skip(1) {
        match argument.to_str() {
            Some("--quick") => plan = QUICK,
            Some("--guard") => plan = GUARD,
            Some("--keep") => keep = true,
            Some(argument) if argument.starts_with("--delay=") => {
                let ms = argument.trim_start_matches("--delay=").parse();
                delay = Some(ms.map_err(|_| format!("{argument}: expected a whole number of milliseconds"))?);
            }
            _ => bootstrap = Some(PathBuf::from(argument)),
        }
    }
    let bootstrap = bootstrap
        .ok_or("say which function is to be measured: [--quick | --guard] [--keep] [--delay=MILLISECONDS] BOOTSTRAP")?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let event = fs::read_to_string(root.join("function/events/http-api.json"))?;
    let world = World::start(python_roots(&root).as_deref()).await?;

    let mut candidates = Candidate::all(&root, &target, &bootstrap.canonicalize()?);
    candidates.retain(|candidate| !plan.alone || [HELLO, MINT, MINT_WITH_QUOTAS].contains(&candidate.name));
    let all = candidates.len();
    candidates.retain(|candidate| match candidate.missing() {
        None => true,
        Some(why) => {
            println!("skipped: {}: {why}", candidate.name);
            false
        }
    });
    if keep && delay.is_none() && (candidates.len() < all || !Cgroup::can_limit()) {
        return Err(
            "A full run is kept in the docs, and this one would have gaps: it needs every peer above and the right \
                    to limit CPU, which root has. `make bench QUICK=1` measures the rest and keeps nothing."
                .into(),
        );
    }
    if let Some(ms) = delay {
        world.openai.fail(Fault::Delay { ms }, MORE_THAN_ENOUGH);
    }
    let rows = measure(&candidates, &world, &event, &plan).await?;
    world.openai.clear_faults();
    let mint = candidates.iter().find(|candidate| candidate.name == MINT).ok_or("there is no mint to be measured")?;
    let failed = run::closed_while_frozen(mint, &world, &event, plan.cycles).await?;
    let recovery = run::silent_peer(mint, &world, &event).await?;

    let order: Vec<_> = candidates.iter().map(|candidate| candidate.name).collect();
    println!("{}", report::table(&rows, &order));
    if let Some(ms) = delay {
        println!("Except that OpenAI took {ms} ms, so nothing is held against the goals.");
        return Ok(true);
    }
    let goals = report::goals(&rows, (failed, recovery), plan.slack);
    for Goal { what, limit, reached, met } in &goals {
        println!("{} {what:<62} {reached:>8}, goal {limit}", if *met { "met   " } else { "MISSED" });
    }
    if keep {
        write(&root, &rows, &order, &plan)?;
    }
    Ok(goals.iter().all(|goal| goal.met) && rows.contains_key(HELLO))
}

/// The roots that come with Python's `requests`, as it has them in Lambda.
fn python_roots(root: &Path) -> Option<PathBuf> {
    let libraries = fs::read_dir(root.join(".venv/bench/lib")).ok()?;
    libraries.flatten().map(|python| python.path().join("site-packages/certifi/cacert.pem")).find(|file| file.exists())
}

/// One after the other, over and over, so that whatever else the machine does meets all alike: first
/// whole lives, then mints of processes that are warm.
async fn measure(
    candidates: &[Candidate],
    world: &World,
    event: &str,
    plan: &Plan,
) -> Result<BTreeMap<&'static str, Row>, Failure> {
    let mut measured: BTreeMap<&'static str, Measured> = BTreeMap::new();
    for run in 0..plan.cold_runs {
        for candidate in candidates {
            let of = measured.entry(candidate.name).or_default();
            of.zip_mb = candidate.zip_mb();
            of.costs
                .push(run::cost(candidate, world, event, plan.mints).await.map_err(|error| named(candidate, &error))?);
            // The slow ones take a second for each of these.
            if run % 4 == 0 && !plan.alone {
                of.waits.extend(run::wait(candidate, world, event, 5).await.map_err(|error| named(candidate, &error))?);
            }
        }
        eprint!("\rrun {} of {} ", run + 1, plan.cold_runs);
    }
    let mut lives = Vec::new();
    for candidate in candidates {
        let mut life = Life::begin(candidate, world, event).await?;
        life.ask().await.map_err(|error| named(candidate, &error))?;
        lives.push((candidate, life));
    }
    for round in 0..plan.rounds {
        for (candidate, life) in &mut lives {
            let warm = life.warm(plan.mints).await.map_err(|error| named(candidate, &error))?;
            measured.entry(candidate.name).or_default().warm.push(warm);
        }
        eprint!("\rround {} of {} ", round + 1, plan.rounds);
    }
    for (_, life) in lives {
        life.end().await?;
    }
    eprintln!();
    Ok(measured.iter().map(|(name, measured)| (*name, Row::of(measured))).collect())
}

fn named(candidate: &Candidate, error: &Failure) -> Failure {
    format!("{}: {error}", candidate.name).into()
}

/// The numbers and the picture, for the README.
fn write(root: &Path, rows: &BTreeMap<&'static str, Row>, order: &[&'static str], plan: &Plan) -> Result<(), Failure> {
    let (date, machine) = (env::var("BENCH_DATE")?, env::var("BENCH_MACHINE")?);
    let results = json!({"date": date, "machine": machine, "cold_runs": plan.cold_runs,
        "rounds": plan.rounds, "mints": plan.mints, "candidates": rows});
    fs::write(root.join("bench/results.json"), format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    let footer =
        format!("{date}, {machine}; medians of {} cold starts and {} rounds; logarithmic", plan.cold_runs, plan.rounds);
    fs::write(root.join("bench/results.svg"), chart::draw(rows, order, &footer))?;
    Ok(())
}

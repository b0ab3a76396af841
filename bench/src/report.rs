//! Medians of the measurements, their table, and their comparison with the goals.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use crate::{
    candidate::{CALL, GO, HELLO, MINT, MINT_WITH_QUOTAS, NODE, PYTHON},
    counts::Counts,
    run::{Cost, Wait, median},
};

/// The CPU that a call may take in addition to a token with quotas, in milliseconds. It makes four more requests to the table,
/// of 0.06 ms each.
const CALL_CPU: f64 = 0.3;

/// All measurements of one candidate.
#[derive(Debug, Default)]
pub struct Measured {
    pub costs: Vec<Cost>,
    /// CPU per mint in each round, in milliseconds.
    pub warm: Vec<f64>,
    pub waits: Vec<Wait>,
    pub zip_mb: f64,
}

/// Medians of one candidate. Times are milliseconds, sizes megabytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Row {
    pub zip_mb: f64,
    pub init_cpu_ms: f64,
    pub first_cpu_ms: f64,
    pub cold_cpu_ms: f64,
    /// Half of the interquartile range of `cold_cpu_ms`.
    pub cold_spread_ms: f64,
    pub mint_cpu_ms: f64,
    /// Half of the interquartile range of `mint_cpu_ms`.
    pub mint_spread_ms: f64,
    pub rss_mb: f64,
    /// `None` if CPU cannot be limited.
    pub first_ms_at_128: Option<f64>,
    /// `None` if CPU cannot be limited.
    pub warm_ms_at_128: Option<f64>,
    pub opened_by_first: f64,
    pub full_handshakes: f64,
}

/// A goal of the project and its result.
#[derive(Debug)]
pub struct Goal {
    pub name: String,
    pub limit: String,
    pub reached: String,
    pub met: bool,
}

impl Goal {
    fn at_most(name: &str, reached: f64, limit: f64) -> Self {
        let digits = |number: f64| match number {
            small if small > 0.0 && small < 0.1 => format!("1/{:.0}", 1.0 / small),
            _ => format!("{number:.2}"),
        };
        Self { name: name.to_owned(), limit: digits(limit), reached: digits(reached), met: reached <= limit }
    }
}

impl Row {
    pub fn of(measured: &Measured) -> Self {
        let costs = |of: fn(&Cost) -> f64| measured.costs.iter().map(of).collect::<Vec<_>>();
        let wait_at_128 = |of: fn(&Wait) -> f64| {
            let waits: Vec<_> = measured.waits.iter().map(of).collect();
            (!waits.is_empty()).then(|| round(median(&waits)))
        };
        let cold = costs(|cost| cost.init + cost.first);
        Self {
            zip_mb: round(measured.zip_mb),
            init_cpu_ms: round(median(&costs(|cost| cost.init))),
            first_cpu_ms: round(median(&costs(|cost| cost.first))),
            cold_cpu_ms: round(median(&cold)),
            cold_spread_ms: round(spread(&cold)),
            mint_cpu_ms: round(median(&measured.warm)),
            mint_spread_ms: round(spread(&measured.warm)),
            rss_mb: round(median(&costs(|cost| cost.rss))),
            first_ms_at_128: wait_at_128(|wait| wait.first),
            warm_ms_at_128: wait_at_128(|wait| wait.warm),
            opened_by_first: costs(|cost| cost.opened_by_first).into_iter().fold(0.0, f64::max),
            full_handshakes: costs(|cost| cost.full_handshakes).into_iter().fold(0.0, f64::max),
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn spread(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: usize| sorted.get(sorted.len().saturating_sub(1) * part / 4).copied().unwrap_or_default();
    (at(3) - at(1)) / 2.0
}

/// The table that is printed at the end.
pub fn table(rows: &BTreeMap<&'static str, Row>, order: &[&'static str]) -> String {
    let mut text = format!(
        "{:<22} {:>7} {:>9} {:>9} {:>15} {:>15} {:>8} {:>12} {:>12}\n",
        "", "zip MB", "init CPU", "1st CPU", "cold CPU", "CPU per mint", "RSS MB", "1st at 128", "next at 128"
    );
    for name in order {
        let Some(row) = rows.get(name) else { continue };
        let with = |number: f64, spread: f64| format!("{number:.3} ± {spread:.3}");
        let wait = |measured: Option<f64>| measured.map_or("not measured".to_owned(), |ms| format!("{ms:.2}"));
        let _ = writeln!(
            text,
            "{name:<22} {:>7.2} {:>9.2} {:>9.3} {:>15} {:>15} {:>8.1} {:>12} {:>12}",
            row.zip_mb,
            row.init_cpu_ms,
            row.first_cpu_ms,
            with(row.cold_cpu_ms, row.cold_spread_ms),
            with(row.mint_cpu_ms, row.mint_spread_ms),
            row.rss_mb,
            wait(row.first_ms_at_128),
            wait(row.warm_ms_at_128)
        );
    }
    text.push_str(
        "CPU and waits in milliseconds; waits are a caller's, at 7.2 % of a CPU, with stand-ins that answer immediately.\n",
    );
    text
}

/// The goals whose peers were measured. `slack` is the factor by which a ratio may miss its goal.
///
/// All goals compare values of one run, since milliseconds depend on the machine and its load. The cost of quotas is
/// therefore a fraction of hello's cost, which was 2.14 ms and 0.080 ms when the goals were set.
pub fn goals(rows: &BTreeMap<&'static str, Row>, slack: f64) -> Vec<Goal> {
    let Some(mint) = rows.get(MINT) else { return Vec::new() };
    let mut goals = Vec::new();
    let mut at_most = |name, reached, limit| goals.push(Goal::at_most(name, reached, limit));
    if let Some(hello) = rows.get(HELLO) {
        at_most("cold CPU over hello", mint.cold_cpu_ms / hello.cold_cpu_ms, 2.5 * slack);
        at_most("CPU per mint over hello", mint.mint_cpu_ms / hello.mint_cpu_ms, 2.0 * slack);
        at_most("RSS over hello", mint.rss_mb / hello.rss_mb, 2.5);
        if let Some(quotas) = rows.get(MINT_WITH_QUOTAS) {
            let (cold, warm) = (quotas.cold_cpu_ms - mint.cold_cpu_ms, quotas.mint_cpu_ms - mint.mint_cpu_ms);
            at_most("quotas: added cold CPU over hello's", cold / hello.cold_cpu_ms, 1.5 / 2.14 * slack);
            at_most("quotas: added CPU per mint over hello's", warm / hello.mint_cpu_ms, 0.15 / 0.080 * slack);
            if let Some(call) = rows.get(CALL) {
                let own = (call.mint_cpu_ms - quotas.mint_cpu_ms) / hello.mint_cpu_ms;
                at_most("call: added CPU over a token, over hello's", own, CALL_CPU / 0.080 * slack);
            }
            at_most("quotas: connections opened by the first mint", quotas.opened_by_first, 0.0);
            at_most("quotas: full TLS handshakes of an instance", quotas.full_handshakes, 3.0);
        }
    }
    if let Some(python) = rows.get(PYTHON) {
        at_most("cold CPU over the Python original", mint.cold_cpu_ms / python.cold_cpu_ms, 1.0 / 30.0);
        at_most("CPU per mint over the Python original", mint.mint_cpu_ms / python.mint_cpu_ms, 1.0 / 150.0);
        if let (Some(mint), Some(python)) = (mint.first_ms_at_128, python.first_ms_at_128) {
            at_most("first mint at 128 MB over the Python original", mint / python, 1.0 / 300.0);
        }
    }
    if let Some(node) = rows.get(NODE) {
        at_most("cold CPU over Node", mint.cold_cpu_ms / node.cold_cpu_ms, 1.0 / 50.0);
    }
    if let Some(go) = rows.get(GO) {
        at_most("cold CPU over Go", mint.cold_cpu_ms / go.cold_cpu_ms, 1.0 / 2.0);
        at_most("CPU per mint over Go", mint.mint_cpu_ms / go.mint_cpu_ms, 1.0 / 2.0);
    }
    at_most("zip, MB", mint.zip_mb, 3.0);
    at_most("connections opened by the first mint", mint.opened_by_first, 0.0);
    at_most("full TLS handshakes of an instance", mint.full_handshakes, 2.0);
    goals
}

/// The goals for what is counted.
pub fn count_goals(counts: &Counts) -> Vec<Goal> {
    let requests = counts.openai_requests_per_mint_after_ms.iter().map(|(ms, requests)| {
        Goal::at_most(&format!("requests to OpenAI per mint, answered after {ms} ms"), *requests, 1.0)
    });
    let others = [
        Goal::at_most("quotas: requests to DynamoDB in a warm mint (median)", counts.table_requests_in_a_mint, 1.0),
        Goal::at_most(
            "mints that fail when OpenAI closes on a frozen process",
            f64::from(counts.failed_when_closed),
            0.0,
        ),
        Goal::at_most("recovery from a silent peer, ms", counts.silent_peer_ms, 2_000.0),
    ];
    requests.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unmeasured_wait_is_reported_as_not_measured() {
        let cost = Cost { init: 3.0, first: 0.5, rss: 6.0, ..Cost::default() };
        let mut measured = Measured { costs: vec![cost], warm: vec![0.1], ..Measured::default() };
        let unlimited = Row::of(&measured);
        measured.waits.push(Wait { first: 0.65, warm: 0.5 });
        let limited = Row::of(&measured);
        let python = Row { first_ms_at_128: Some(600.0), ..limited };

        let shown = |row| table(&BTreeMap::from([(MINT, row)]), &[MINT]);
        assert!(shown(unlimited).contains("not measured not measured\n"), "{}", shown(unlimited));
        assert!(shown(limited).contains("0.65         0.50\n"), "{}", shown(limited));
        assert!(serde_json::to_value(unlimited).unwrap()["first_ms_at_128"].is_null());

        let compared = |mint| {
            let goals = goals(&BTreeMap::from([(MINT, mint), (PYTHON, python)]), 1.0);
            goals.into_iter().any(|goal| goal.name.starts_with("first mint at 128 MB"))
        };
        assert!(compared(limited) && !compared(unlimited));
    }

    #[test]
    fn a_second_request_or_a_lost_mint_misses_its_goal() {
        let requests = [(300, 1.0), (1_100, 4.0 / 3.0), (5_000, f64::INFINITY)];
        let counts = Counts {
            openai_requests_per_mint_after_ms: requests.into(),
            table_requests_in_a_mint: 1.0,
            table_requests_per_mint: 1.05,
            failed_when_closed: 1,
            silent_peer_ms: 1_250.0,
        };
        let met: Vec<_> = count_goals(&counts).into_iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false, false, true, false, true]);
        let written = serde_json::to_value(&counts).unwrap();
        assert_eq!(written["openai_requests_per_mint_after_ms"]["300"], 1.0);
        assert!(written["openai_requests_per_mint_after_ms"]["5000"].is_null(), "no token");
    }
}

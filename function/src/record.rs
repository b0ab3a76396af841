//! The record of each request: log line, metrics and audit trail in one.
//!
//! It is a line of JSON in CloudWatch's embedded metric format, from which CloudWatch extracts metrics without an API call
//! (AWS, "Specification: Embedded metric format"). It is written at every log level, since alarms depend on it. Every field
//! is our own text or filtered: it never contains a key, token, body, prompt or address.

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::net::clock::{self, millis};

/// The namespace of all metrics.
const NAMESPACE: &str = "TokenMint";

/// Writes records of one function.
#[derive(Debug)]
pub struct Recorder {
    function_name: String,
    cold: AtomicBool,
}

/// Everything that is known about a request at its end. It starts empty.
#[derive(Debug, Default)]
pub struct RequestSummary {
    pub profile: Option<String>,
    /// The model as OpenAI names it, or else as it was requested.
    pub model: Option<String>,
    /// The caller's safety identifier, a keyed hash.
    pub caller: Option<String>,
    pub key_age: Option<Duration>,
    /// The faults of the secret, although its key serves. They never quote it.
    pub secret_fault: Option<String>,
    /// `None` if the request was not counted.
    pub quota_time: Option<Duration>,
    /// The number of requests to OpenAI, with those for which no connection could be made.
    pub attempts: u32,
    pub openai_time: Duration,
    /// The time by which the token outlives the requested one, if that is far more.
    pub expiry_excess: Option<Duration>,
    /// The call's name. Only its own caller can use it.
    pub call: Option<String>,
    /// The seconds that were booked for a call that has started.
    pub booked_seconds: Option<u64>,
    /// The seconds that a call lasted that its caller has just ended.
    pub used_seconds: Option<u64>,
}

/// A request that was answered as it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Done {
    Minted,
    CallStarted,
    CallEnded,
}

impl Done {
    fn message(self) -> &'static str {
        match self {
            Self::Minted => "minted",
            Self::CallStarted => "call started",
            Self::CallEnded => "call ended",
        }
    }

    /// A token and a call have the same code: each is a successful answer of this service.
    fn code(self) -> &'static str {
        match self {
            Self::Minted | Self::CallStarted => "ok",
            Self::CallEnded => "call_ended",
        }
    }
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The HTTP status of the answer.
    pub status: u16,
    pub end: Result<Done, Refused<'a>>,
}

/// Why a request got neither a token nor a call.
#[derive(Debug)]
pub struct Refused<'a> {
    pub code: &'static str,
    /// Every error of the chain. None of them may contain a secret.
    pub cause: String,
    pub openai_status: Option<u16>,
    pub openai_code: Option<&'a str>,
    pub openai_param: Option<&'a str>,
}

impl Recorder {
    /// A recorder for the function of that name, which separates its metrics from those of other stacks.
    pub fn new(function_name: String) -> Self {
        Self { function_name, cold: AtomicBool::new(true) }
    }

    /// Writes the record of a request that began at `began` and ends now.
    pub fn write(&self, request_id: &str, began: Instant, summary: &RequestSummary, outcome: Outcome<'_>) {
        let cold = self.cold.swap(false, Ordering::Relaxed);
        let record = self.record(request_id, began.elapsed(), cold, summary, outcome);
        write_line(&record);
    }

    /// Writes the record of a round of the keeper, or of a command to it.
    pub fn write_round(&self, request_id: &str, began: Instant, round: &Round, failure: Option<String>) {
        let took = millis(began.elapsed());
        write_line(&RoundRecord::new(&self.function_name, request_id, took, round, failure));
    }

    fn record<'a>(
        &'a self,
        request_id: &'a str,
        took: Duration,
        cold: bool,
        summary: &'a RequestSummary,
        outcome: Outcome<'a>,
    ) -> Record<'a> {
        let Outcome { status, end } = outcome;
        let done = end.as_ref().ok().copied();
        let refused = end.err();
        let openai_status = refused.as_ref().and_then(|refused| refused.openai_status);
        let openai_code = refused.as_ref().and_then(|refused| refused.openai_code);
        let openai_param = refused.as_ref().and_then(|refused| refused.openai_param);
        Record {
            aws: Metadata::new(summary),
            level: if done.is_some() { "INFO" } else { "WARN" },
            message: done.map_or("refused", Done::message),
            request_id,
            function_name: &self.function_name,
            code: done.map(Done::code).or(refused.as_ref().map(|refused| refused.code)).unwrap_or_default(),
            cause: refused.map(|refused| refused.cause),
            status,
            profile: summary.profile.as_deref(),
            model: summary.model.as_deref(),
            caller: summary.caller.as_deref(),
            openai_status,
            openai_code,
            openai_param,
            secret_fault: summary.secret_fault.as_deref(),
            requests: 1,
            mints: u8::from(done == Some(Done::Minted)),
            cold_starts: u8::from(cold),
            own_time: millis(
                took.saturating_sub(summary.openai_time).saturating_sub(summary.quota_time.unwrap_or_default()),
            ),
            openai_time: (summary.attempts > 0).then(|| millis(summary.openai_time)),
            attempts: (summary.attempts > 0).then_some(summary.attempts),
            quota_time: summary.quota_time.map(millis),
            key_age: summary.key_age.map(|age| age.as_secs()),
            expiry_excess_seconds: summary.expiry_excess.map(|excess| excess.as_secs()),
            call: summary.call.as_deref(),
            calls_started: summary.booked_seconds.map(|_| 1),
            call_minutes_booked: summary.booked_seconds.map(minutes),
            calls_ended_by_caller: summary.used_seconds.map(|_| 1),
            call_minutes_used: summary.used_seconds.map(minutes),
        }
    }
}

/// An error with every error that caused it.
pub fn causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn write_line(record: &impl Serialize) {
    let mut line = Vec::with_capacity(1024);
    if serde_json::to_writer(&mut line, record).is_ok() {
        line.push(b'\n');
        // If standard output is closed, the failure cannot be reported either.
        let _ = io::stdout().lock().write_all(&line);
    }
}

/// The counts of a round of the keeper, or of a command to it.
#[derive(Debug, Default)]
pub struct Round {
    /// The calls that are open at its end.
    pub open: Option<usize>,
    /// The calls that it hung up, and those that had ended by themselves.
    pub hung_up: usize,
    pub gone: usize,
    /// The seconds that both lasted.
    pub used_seconds: u64,
    /// The hang-ups that were late by more than 5 s.
    pub late: usize,
    /// The calls that are there two minutes after their end. `None`: nobody looked.
    pub outlived: Option<usize>,
    /// Whether an operator ended the calls.
    pub is_by_operator: bool,
}

impl Round {
    /// Counts a call that is over, with the seconds that it lasted.
    pub fn count(&mut self, is_hung_up: bool, used: u64) {
        let count = if is_hung_up { &mut self.hung_up } else { &mut self.gone };
        *count = count.saturating_add(1);
        self.used_seconds = self.used_seconds.saturating_add(used);
    }

    /// The metrics that have a value: their names, units and values.
    fn metrics(&self) -> Vec<(Metric, f64)> {
        let count = |name, count: usize| (metric(name, "Count"), u32::try_from(count).map_or(f64::MAX, f64::from));
        let always = [("CallsOpen", self.open), ("CallsOutlived", self.outlived)];
        let always = always.into_iter().filter_map(|(name, number)| Some(count(name, number?)));
        let hung_up = if self.is_by_operator { "CallsEndedByOperator" } else { "CallsEndedOnTime" };
        let sometimes = [(hung_up, self.hung_up), ("CallsGone", self.gone), ("HangUpsLate", self.late)];
        let sometimes =
            sometimes.into_iter().filter(|(_, number)| *number > 0).map(|(name, number)| count(name, number));
        let ended = self.hung_up.saturating_add(self.gone) > 0;
        let used = ended.then(|| (metric("CallMinutesUsed", "None"), minutes(self.used_seconds)));
        always.chain(sometimes).chain(used).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoundRecord<'a> {
    #[serde(rename = "_aws")]
    aws: RoundMetadata,
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    milliseconds: f64,
    #[serde(rename = "FunctionName")]
    function_name: &'a str,
    #[serde(flatten)]
    values: BTreeMap<&'static str, f64>,
}

impl<'a> RoundRecord<'a> {
    fn new(
        function_name: &'a str,
        request_id: &'a str,
        milliseconds: f64,
        round: &Round,
        failure: Option<String>,
    ) -> Self {
        let metrics = round.metrics();
        let values = metrics.iter().map(|(metric, value)| (metric.name, *value)).collect();
        let metrics = metrics.into_iter().map(|(metric, _)| metric).collect();
        let by_function = Directive { namespace: NAMESPACE, dimensions: &[&["FunctionName"]], metrics };
        let aws = RoundMetadata { timestamp: clock::unix_millis(), cloud_watch_metrics: [by_function] };
        let level = if failure.is_none() { "INFO" } else { "ERROR" };
        Self { aws, level, message: "round", request_id, cause: failure, milliseconds, function_name, values }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RoundMetadata {
    timestamp: u64,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    #[serde(rename = "_aws")]
    aws: Metadata,
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openai_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openai_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openai_param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_fault: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry_excess_seconds: Option<u64>,
    #[serde(rename = "FunctionName")]
    function_name: &'a str,
    #[serde(rename = "Code")]
    code: &'static str,
    #[serde(rename = "Requests")]
    requests: u8,
    #[serde(rename = "Mints")]
    mints: u8,
    #[serde(rename = "ColdStarts")]
    cold_starts: u8,
    #[serde(rename = "OwnTime")]
    own_time: f64,
    #[serde(rename = "OpenAITime", skip_serializing_if = "Option::is_none")]
    openai_time: Option<f64>,
    #[serde(rename = "Attempts", skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(rename = "QuotaTime", skip_serializing_if = "Option::is_none")]
    quota_time: Option<f64>,
    #[serde(rename = "KeyAge", skip_serializing_if = "Option::is_none")]
    key_age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a str>,
    #[serde(rename = "CallsStarted", skip_serializing_if = "Option::is_none")]
    calls_started: Option<u8>,
    #[serde(rename = "CallMinutesBooked", skip_serializing_if = "Option::is_none")]
    call_minutes_booked: Option<f64>,
    #[serde(rename = "CallsEndedByCaller", skip_serializing_if = "Option::is_none")]
    calls_ended_by_caller: Option<u8>,
    #[serde(rename = "CallMinutesUsed", skip_serializing_if = "Option::is_none")]
    call_minutes_used: Option<f64>,
}

/// Seconds as minutes, rounded to hundredths.
fn minutes(seconds: u64) -> f64 {
    (Duration::from_secs(seconds).as_secs_f64() / 0.6).round() / 100.0
}

/// The fields that are metrics, and their dimensions.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    timestamp: u64,
    cloud_watch_metrics: [Directive; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: &'static [&'static [&'static str]],
    metrics: Vec<Metric>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metric {
    name: &'static str,
    unit: &'static str,
}

const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

impl Metadata {
    fn new(summary: &RequestSummary) -> Self {
        // A metric that is named here but has no field makes the whole line invalid.
        let mut metrics =
            vec![metric("Mints", "Count"), metric("ColdStarts", "Count"), metric("OwnTime", "Milliseconds")];
        if summary.attempts > 0 {
            metrics.extend([metric("OpenAITime", "Milliseconds"), metric("Attempts", "Count")]);
        }
        if summary.quota_time.is_some() {
            metrics.push(metric("QuotaTime", "Milliseconds"));
        }
        if summary.key_age.is_some() {
            metrics.push(metric("KeyAge", "Seconds"));
        }
        if summary.booked_seconds.is_some() {
            metrics.extend([metric("CallsStarted", "Count"), metric("CallMinutesBooked", "None")]);
        }
        if summary.used_seconds.is_some() {
            metrics.extend([metric("CallsEndedByCaller", "Count"), metric("CallMinutesUsed", "None")]);
        }
        let by_function = Directive { namespace: NAMESPACE, dimensions: &[&["FunctionName"]], metrics };
        // By code there is only a count, since each metric under each code is billed separately.
        let by_code = Directive {
            namespace: NAMESPACE,
            dimensions: &[&["FunctionName", "Code"]],
            metrics: vec![metric("Requests", "Count")],
        };
        Self { timestamp: clock::unix_millis(), cloud_watch_metrics: [by_function, by_code] }
    }
}

/// The metrics of a record that has all of them: their names, units and dimensions, and whether only quotas or only calls
/// cause them; and those of the keeper.
#[cfg(test)]
pub(crate) fn describe() -> serde_json::Value {
    let second = Some(Duration::from_secs(1));
    let plain = || RequestSummary { attempts: 1, key_age: second, ..RequestSummary::default() };
    let with_quotas = || RequestSummary { quota_time: second, ..plain() };
    let with_calls = RequestSummary { booked_seconds: Some(1), used_seconds: Some(1), ..with_quotas() };
    let metrics = |summary: &RequestSummary| {
        let directives = Metadata::new(summary).cloud_watch_metrics.into_iter();
        let metrics = directives.flat_map(|Directive { dimensions, metrics, .. }| {
            metrics.into_iter().map(move |metric| (metric.name, metric.unit, dimensions))
        });
        metrics.collect::<Vec<_>>()
    };
    let (without_quotas, without_calls) = (metrics(&plain()), metrics(&with_quotas()));
    let described = metrics(&with_calls).into_iter().map(|metric| {
        let (name, unit, dimensions) = metric;
        let calls_only = !without_calls.contains(&metric);
        let quotas_only = !calls_only && !without_quotas.contains(&metric);
        serde_json::json!({"name": name, "unit": unit, "dimensions": dimensions, "quotas_only": quotas_only, "calls_only": calls_only})
    });
    described.collect()
}

/// The metrics of the keeper: their names and units, and whether each round has them.
#[cfg(test)]
pub(crate) fn describe_keeper() -> serde_json::Value {
    let always = Round { open: Some(0), outlived: Some(0), ..Round::default() };
    let all = |is_by_operator| Round {
        open: Some(1),
        hung_up: 1,
        gone: 1,
        used_seconds: 60,
        late: 1,
        outlived: Some(1),
        is_by_operator,
    };
    let names = |round: &Round| round.metrics().into_iter().map(|(metric, _)| metric).collect::<Vec<_>>();
    let mut metrics = names(&all(false));
    metrics.extend(names(&all(true)));
    metrics.sort_by_key(|metric| metric.name);
    metrics.dedup_by_key(|metric| metric.name);
    let described = metrics.into_iter().map(|Metric { name, unit }| {
        let is_always = names(&always).iter().any(|metric| metric.name == name);
        serde_json::json!({"name": name, "unit": unit, "every_round": is_always})
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_announced_metric_and_dimension_has_a_field() {
        let recorder = Recorder::new("mint".to_owned());
        let second = Some(Duration::from_secs(1));
        let known = RequestSummary { attempts: 1, key_age: second, quota_time: second, ..RequestSummary::default() };
        let call = RequestSummary { booked_seconds: Some(90), used_seconds: Some(1), ..RequestSummary::default() };
        for (summary, metrics) in [(RequestSummary::default(), 4), (known, 8), (call, 8)] {
            let record = recorder.record(
                "id",
                Duration::from_millis(1),
                true,
                &summary,
                Outcome { status: 200, end: Ok(Done::Minted) },
            );
            let record = serde_json::to_value(&record).unwrap();
            let directives = record["_aws"]["CloudWatchMetrics"].as_array().unwrap();
            let mut announced = 0;
            for directive in directives {
                assert_eq!(directive["Namespace"], "TokenMint");
                for dimension in
                    directive["Dimensions"].as_array().unwrap().iter().flat_map(|set| set.as_array().unwrap())
                {
                    assert!(record[dimension.as_str().unwrap()].is_string(), "{dimension}");
                }
                for metric in directive["Metrics"].as_array().unwrap() {
                    assert!(record[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
                    announced += 1;
                }
            }
            assert_eq!(announced, metrics);
            assert!(record["_aws"]["Timestamp"].is_u64());
        }
    }

    #[test]
    fn own_time_excludes_openai_and_the_quota() {
        let recorder = Recorder::new("mint".to_owned());
        let summary = RequestSummary {
            attempts: 2,
            openai_time: Duration::from_micros(200_500),
            quota_time: Some(Duration::from_millis(9)),
            ..RequestSummary::default()
        };
        let refused = Refused {
            code: "openai_timeout",
            cause: "OpenAI did not answer in time".to_owned(),
            openai_status: None,
            openai_code: None,
            openai_param: None,
        };
        let outcome = Outcome { status: 504, end: Err(refused) };
        let record = recorder.record("id", Duration::from_micros(210_750), false, &summary, outcome);
        let record = serde_json::to_value(&record).unwrap();
        assert_eq!((&record["OpenAITime"], &record["OwnTime"]), (&Value::from(200.5), &Value::from(1.25)));
        assert_eq!((&record["Mints"], &record["ColdStarts"]), (&Value::from(0), &Value::from(0)));
        assert_eq!((&record["Code"], &record["status"]), (&Value::from("openai_timeout"), &Value::from(504)));
    }

    #[test]
    fn the_keeper_announces_the_metrics_that_it_has() {
        let of = |round: &Round| {
            let record = RoundRecord::new("keeper", "id", 1.5, round, None);
            serde_json::to_value(&record).unwrap()
        };
        let idle = of(&Round { open: Some(0), outlived: Some(0), ..Round::default() });
        assert_eq!((&idle["CallsOpen"], &idle["CallsOutlived"]), (&Value::from(0.0), &Value::from(0.0)));
        let busy = Round { hung_up: 2, gone: 1, used_seconds: 90, late: 1, ..Round::default() };
        let by_operator = of(&Round { is_by_operator: true, hung_up: 1, ..Round::default() });
        let busy = of(&busy);
        assert_eq!((&busy["CallsEndedOnTime"], &busy["CallMinutesUsed"]), (&Value::from(2.0), &Value::from(1.5)));
        assert_eq!((&by_operator["CallsEndedByOperator"], by_operator.get("CallsOutlived")), (&Value::from(1.0), None));
        for record in [idle, busy, by_operator] {
            let directive = &record["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Dimensions"], serde_json::json!([["FunctionName"]]));
            for metric in directive["Metrics"].as_array().unwrap() {
                assert!(record[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
            }
        }
    }
}

//! The record of each request: log line, metrics and audit trail in one.
//!
//! It is a line of JSON in CloudWatch's embedded metric format, from which CloudWatch extracts metrics without an API call
//! (AWS, "Specification: Embedded metric format"). It is written at every log level, since alarms depend on it. Every field
//! is our own text or filtered: it never contains a key, token, body, prompt or address.

use std::{
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
}

/// How a request ended.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The HTTP status of the answer.
    pub status: u16,
    /// `None`: a token was minted.
    pub refused: Option<Refused<'a>>,
}

/// Why a request got no token.
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
        let mut line = Vec::with_capacity(1024);
        if serde_json::to_writer(&mut line, &record).is_ok() {
            line.push(b'\n');
            // If standard output is closed, the failure cannot be reported either.
            let _ = io::stdout().lock().write_all(&line);
        }
    }

    fn record<'a>(
        &'a self,
        request_id: &'a str,
        took: Duration,
        cold: bool,
        summary: &'a RequestSummary,
        outcome: Outcome<'a>,
    ) -> Record<'a> {
        let Outcome { status, refused } = outcome;
        let minted = refused.is_none();
        let openai_status = refused.as_ref().and_then(|refused| refused.openai_status);
        let openai_code = refused.as_ref().and_then(|refused| refused.openai_code);
        let openai_param = refused.as_ref().and_then(|refused| refused.openai_param);
        Record {
            aws: Metadata::new(summary),
            level: if minted { "INFO" } else { "WARN" },
            message: if minted { "minted" } else { "refused" },
            request_id,
            function_name: &self.function_name,
            code: refused.as_ref().map_or("ok", |refused| refused.code),
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
            mints: u8::from(minted),
            cold_starts: u8::from(cold),
            own_time: millis(
                took.saturating_sub(summary.openai_time).saturating_sub(summary.quota_time.unwrap_or_default()),
            ),
            openai_time: (summary.attempts > 0).then(|| millis(summary.openai_time)),
            attempts: (summary.attempts > 0).then_some(summary.attempts),
            quota_time: summary.quota_time.map(millis),
            key_age: summary.key_age.map(|age| age.as_secs()),
            expiry_excess_seconds: summary.expiry_excess.map(|excess| excess.as_secs()),
        }
    }
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

/// The metrics of a record that has all of them: their names, units and dimensions, and whether only quotas cause them.
#[cfg(test)]
pub(crate) fn describe() -> serde_json::Value {
    let second = Some(Duration::from_secs(1));
    let without_quotas = RequestSummary { attempts: 1, key_age: second, ..RequestSummary::default() };
    let all = RequestSummary { attempts: 1, key_age: second, quota_time: second, ..RequestSummary::default() };
    let metrics = |summary: &RequestSummary| {
        let directives = Metadata::new(summary).cloud_watch_metrics.into_iter();
        let metrics = directives.flat_map(|Directive { dimensions, metrics, .. }| {
            metrics.into_iter().map(move |metric| (metric.name, metric.unit, dimensions))
        });
        metrics.collect::<Vec<_>>()
    };
    let without_quotas = metrics(&without_quotas);
    let described = metrics(&all).into_iter().map(|metric| {
        let (name, unit, dimensions) = metric;
        let quotas_only = !without_quotas.contains(&metric);
        serde_json::json!({"name": name, "unit": unit, "dimensions": dimensions, "quotas_only": quotas_only})
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
        for (summary, metrics) in [(RequestSummary::default(), 4), (known, 8)] {
            let record =
                recorder.record("id", Duration::from_millis(1), true, &summary, Outcome { status: 200, refused: None });
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
        let outcome = Outcome { status: 504, refused: Some(refused) };
        let record = recorder.record("id", Duration::from_micros(210_750), false, &summary, outcome);
        let record = serde_json::to_value(&record).unwrap();
        assert_eq!((&record["OpenAITime"], &record["OwnTime"]), (&Value::from(200.5), &Value::from(1.25)));
        assert_eq!((&record["Mints"], &record["ColdStarts"]), (&Value::from(0), &Value::from(0)));
        assert_eq!((&record["Code"], &record["status"]), (&Value::from("openai_timeout"), &Value::from(504)));
    }
}

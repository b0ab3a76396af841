//! The wait that OpenAI asks for before another request.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// The longest wait that is read.
const DAY: Duration = Duration::from_secs(86_400);

/// OpenAI's rate limits, each with its headers for the number that is left and for the time until it is full again.
const RATE_LIMITS: [(&str, &str); 2] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];

/// The wait in the headers of a response: the first of `retry-after-ms`, `Retry-After` and, since a limit on requests per
/// day sends neither, the time at which a rate limit ends. OpenAI's SDKs read the first two in this order (PyPI 3.57,
/// npm 7.57).
pub(super) fn asked_for(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let value = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = value("retry-after-ms")
        .and_then(|text| decimal(text, 1e-3))
        .or_else(|| value(header::RETRY_AFTER.as_str()).and_then(seconds_or_date));
    // Every response has the headers of the rate limits. They are a reason to wait only if a limit is reached.
    let asked =
        asked.or_else(|| if status == StatusCode::TOO_MANY_REQUESTS { end_of_rate_limits(headers) } else { None });
    asked.map(|wait| wait.min(DAY))
}

/// RFC 9110, section 10.2.3, and fractions of seconds, which OpenAI's SDKs accept.
fn seconds_or_date(text: &str) -> Option<Duration> {
    decimal(text, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

/// The end of the limits of which nothing is left or, if none says so, of all.
fn end_of_rate_limits(headers: &HeaderMap) -> Option<Duration> {
    let value = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let end = |only_reached: bool| {
        let limits = RATE_LIMITS.iter().filter(|(left, _)| !only_reached || value(left) == Some("0"));
        limits.filter_map(|(_, reset)| duration(value(reset)?)).max()
    };
    end(true).or_else(|| end(false))
}

/// A duration such as `6m0s`, `1.5s` or `20ms`. A number without a unit is in seconds, unless it can only be a time.
fn duration(text: &str) -> Option<Duration> {
    if let Some(wait) = decimal(text, 1.0) {
        return (wait < DAY).then_some(wait);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, unit) = rest.split_at(rest.find(|letter: char| letter.is_ascii_alphabetic())?);
        let (unit, next) = unit.split_at(unit.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(unit.len()));
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.saturating_add(decimal(number, seconds)?);
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// A decimal number of units of that many seconds, up to a day.
fn decimal(text: &str, seconds: f64) -> Option<Duration> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let wait = text.parse::<f64>().ok()? * seconds;
    Some(Duration::try_from_secs_f64(wait).unwrap_or(DAY).min(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(status: u16, headers: &[(&str, &str)]) -> Option<f64> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let wait = asked_for(StatusCode::from_u16(status).unwrap(), &headers.collect());
        wait.map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn retry_after_is_seconds_with_fractions_or_a_date() {
        let parsed = |value: &str| wait(503, &[("retry-after", value)]);
        assert_eq!(parsed("7"), Some(7.0));
        assert_eq!(parsed("45.2"), Some(45.2));
        assert_eq!(parsed("0"), Some(0.0));
        assert_eq!(parsed("18446744073709551615"), Some(86_400.0));
        assert_eq!(parsed(&"9".repeat(400)), Some(86_400.0));
        assert_eq!(parsed("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0.0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!((58.0..=60.0).contains(&parsed(&soon).unwrap()));
        for nonsense in ["", ".", "soon", "-1", "1e9", "NaN", "inf", "1.2.3"] {
            assert_eq!(parsed(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn retry_after_ms_is_read_first_and_the_rate_limits_last() {
        let reset = ("x-ratelimit-reset-requests", "6m0s");
        assert_eq!(wait(429, &[("retry-after-ms", "90000"), ("retry-after", "1"), reset]), Some(90.0));
        assert_eq!(wait(429, &[("retry-after-ms", "12.5"), ("retry-after", "1")]), Some(0.0125));
        assert_eq!(wait(429, &[("retry-after-ms", "soon"), ("retry-after", "1"), reset]), Some(1.0));
        assert_eq!(wait(429, &[("retry-after", "soon"), reset]), Some(360.0));
        assert_eq!(wait(429, &[]), None);
    }

    #[test]
    fn a_rate_limit_ends_after_the_longest_time_of_those_that_are_reached() {
        let limits = |requests_left: &str, requests: &str, tokens_left: &str, tokens: &str| {
            wait(
                429,
                &[
                    ("x-ratelimit-remaining-requests", requests_left),
                    ("x-ratelimit-reset-requests", requests),
                    ("x-ratelimit-remaining-tokens", tokens_left),
                    ("x-ratelimit-reset-tokens", tokens),
                ],
            )
        };
        assert_eq!(limits("0", "1.5s", "9", "6m0s"), Some(1.5));
        assert_eq!(limits("9", "1.5s", "0", "20ms"), Some(0.02));
        assert_eq!(limits("0", "1.5s", "0", "1h2m3.5s"), Some(3723.5));
        assert_eq!(limits("9", "1.5s", "9", "6m0s"), Some(360.0), "neither says that it is reached");
        assert_eq!(limits("0", "later", "9", "3d"), Some(86_400.0));
        assert_eq!(limits("0", "7", "9", ""), Some(7.0));
        for nonsense in ["", "later", "s", "6m0", "6 m", "m6", "1y", "-1s", "1795000000", "2026-11-26T08:31:00Z"] {
            assert_eq!(wait(429, &[("x-ratelimit-reset-tokens", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn the_headers_of_the_rate_limits_mean_no_wait_after_another_error() {
        assert_eq!(wait(500, &[("x-ratelimit-reset-requests", "8.64s")]), None);
    }
}

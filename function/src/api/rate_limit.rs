//! The headers with a caller's remaining quota.

use http::HeaderName;

use crate::admission::quota::{LimitStatus, QuotaStatus};

/// `RateLimit-Policy` and `RateLimit`, by the draft that is current in 2026
/// (draft-ietf-httpapi-ratelimit-headers-11): `q` tokens per `w` seconds, `r` of them left, the next window in `t`
/// seconds. Neither is sent if the caller is not limited.
pub fn headers(QuotaStatus { limits }: &QuotaStatus) -> Vec<(HeaderName, String)> {
    if limits.is_empty() {
        return Vec::new();
    }
    let list = |item: fn(&LimitStatus) -> String| limits.iter().map(item).collect::<Vec<_>>().join(", ");
    let policy = list(|LimitStatus { name, limit, window, .. }| format!("\"{name}\";q={limit};w={window}"));
    let left = list(|LimitStatus { name, remaining, resets, .. }| format!("\"{name}\";r={remaining};t={resets}"));
    vec![(HeaderName::from_static("ratelimit-policy"), policy), (HeaderName::from_static("ratelimit"), left)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_name_each_limit_with_its_remaining_tokens_and_seconds() {
        let status = QuotaStatus {
            limits: vec![
                LimitStatus { name: "minute", limit: 10, window: 60, remaining: 6, resets: 1 },
                LimitStatus { name: "day", limit: 10, window: 86_400, remaining: 0, resets: 1 },
            ],
        };
        let headers: Vec<_> = headers(&status).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                r#"ratelimit-policy: "minute";q=10;w=60, "day";q=10;w=86400"#,
                r#"ratelimit: "minute";r=6;t=1, "day";r=0;t=1"#,
            ]
        );
        assert_eq!(super::headers(&QuotaStatus::default()), []);
    }
}

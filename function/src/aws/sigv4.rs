//! AWS's signature, version 4, for the one kind of request that is sent without the SDK: a POST of JSON to `/`.
//!
//! Source: AWS, "Create a signed AWS API request" (IAM User Guide). The tests compare it with the
//! `aws-sigv4` crate. By callgrind, that crate took 204,000 instructions a request inside the SDK, this
//! 88,000 when it still derived its key anew for each.

use std::fmt::Write;

use aws_credential_types::Credentials;
use ring::{
    digest::{SHA256, digest},
    hmac::{HMAC_SHA256, Key, sign},
};

/// Signs for one day, one region and one service: the derived key is the same for all of them.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
    day: String,
    /// For example `20261122/eu-west-1/dynamodb/aws4_request`.
    scope: String,
    key: Key,
}

/// The parts of a request that are signed; each but the body is the header of that name.
#[derive(Debug)]
pub struct Request<'a> {
    pub host: &'a str,
    pub content_type: &'a str,
    pub target: &'a str,
    /// The header `X-Amz-Date`: now, such as `20261122T083100Z`. AWS takes it for 5 minutes.
    pub date: &'a str,
    pub body: &'a [u8],
}

impl Signer {
    /// A signer for the day of `date`, which is like [`Request::date`].
    pub fn new(credentials: Credentials, region: &str, service: &str, date: &str) -> Self {
        let day = day_of(date).to_owned();
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let key = [&day, region, service, "aws4_request"]
            .iter()
            .fold(Key::new(HMAC_SHA256, secret.as_bytes()), |key, text| {
                Key::new(HMAC_SHA256, sign(&key, text.as_bytes()).as_ref())
            });
        let scope = format!("{day}/{region}/{service}/aws4_request");
        Self { credentials, day, scope, key }
    }

    /// Whether a request of that date can be signed: its day is the signer's.
    pub fn signs_on(&self, date: &str) -> bool {
        day_of(date) == self.day
    }

    /// The credentials that it signs with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The header `X-Amz-Security-Token`, if the credentials need one.
    pub fn session_token(&self) -> Option<&str> {
        self.credentials.session_token()
    }

    /// The header `Authorization` for a request that has exactly the headers named in it, and
    /// `X-Amz-Security-Token` where the credentials have a session token.
    pub fn authorization(&self, request: &Request<'_>) -> String {
        let Request { host, content_type, target, date, body } = request;
        let mut headers = format!("content-type:{content_type}\nhost:{host}\nx-amz-date:{date}\n");
        let mut names = "content-type;host;x-amz-date".to_owned();
        if let Some(token) = self.session_token() {
            let _ = writeln!(headers, "x-amz-security-token:{token}");
            names.push_str(";x-amz-security-token");
        }
        let _ = writeln!(headers, "x-amz-target:{target}");
        names.push_str(";x-amz-target");
        let canonical = format!("POST\n/\n\n{headers}\n{names}\n{}", sha256(body));
        let (scope, key_id) = (&self.scope, self.credentials.access_key_id());
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let signature = hex::encode(sign(&self.key, text.as_bytes()));
        format!("AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

fn day_of(date: &str) -> &str {
    date.split('T').next().unwrap_or_default()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use aws_credential_types::Credentials;
    use aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SigningSettings, sign},
        sign::v4,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::net::clock;

    proptest! {
        #[test]
        fn the_signature_equals_that_of_aws_sigv4(
            seconds in 0_u64..4_102_444_800,
            keys in "[A-Z0-9]{16,20}/[A-Za-z0-9+=]{40}",
            token in proptest::option::of("[A-Za-z0-9+/=]{1,400}"),
            region in "[a-z]{2}-[a-z]{4,9}-[1-9]",
            host in "[a-z0-9.-]{1,60}(:[0-9]{2,5})?",
            body in any::<Vec<u8>>(),
        ) {
            let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).expect("before 2100");
            let (id, secret) = keys.split_once('/').expect("there is one");
            let credentials = Credentials::new(id, secret, token.clone(), None, "test");
            let date = clock::iso_basic(time);
            let target = "DynamoDB_20120810.UpdateItem";
            let request =
                Request { host: &host, content_type: "application/x-amz-json-1.0", target, date: &date, body: &body };
            let signer = Signer::new(credentials.clone(), &region, "dynamodb", &date);
            prop_assert!(signer.signs_on(&date));

            let identity = credentials.into();
            let params = v4::SigningParams::builder().identity(&identity).region(&region).name("dynamodb").time(time)
                .settings(SigningSettings::default()).build().expect("complete").into();
            let headers =
                [("host", host.as_str()), ("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target)];
            let url = format!("https://{host}/");
            let signable =
                SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(&body)).expect("a request");
            let (instructions, _) = sign(signable, &params).expect("signed").into_parts();
            let header = |name| instructions.headers().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());

            prop_assert_eq!(header("x-amz-date"), Some(date.clone()));
            prop_assert_eq!(header("x-amz-security-token"), token);
            prop_assert_eq!(header("authorization"), Some(signer.authorization(&request)));
        }
    }
}

//! Two operations of one DynamoDB table, `UpdateItem` and `GetItem`, over one connection that is opened ahead of the first
//! request and kept.
//!
//! Without `aws-sdk-dynamodb`, which takes more CPU from call to connection than the rest of a mint: 0.25 ms for the first
//! update and 0.16 ms for the second. This module takes 0.06 ms for each.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::service_config::ServiceConfigKey;
use http::{StatusCode, header};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use tokio::time::{Instant, timeout};
use tracing::debug;
use url::{Position, Url};

use super::{
    code::Code,
    sigv4::{self, Signer},
};
use crate::net::{
    clock,
    connection::{Connection, Lease},
    retry::{Policy, Retries, Retryable, backoff},
};

const SERVICE: &str = "dynamodb";
const UPDATE: &str = "DynamoDB_20120810.UpdateItem";
const GET: &str = "DynamoDB_20120810.GetItem";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The limit of one attempt. DynamoDB answers in milliseconds.
const ATTEMPT: Duration = Duration::from_secs(2);

/// The limit of an attempt over a reused connection, which may have died while the process was frozen.
const PATIENCE: Duration = Duration::from_millis(500);

/// The regions whose domain is not `amazonaws.com`, by the start of their name (the partitions of AWS's SDKs, November
/// 2026).
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];

/// The longest pause before the second try of a throttled update. It doubles with each further try.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Two tries, also over a reused connection that turns out dead.
const POLICY: Policy = Policy { max_tries: 2, worth_an_attempt: Duration::ZERO };
const TWO: Tries = Tries { policy: POLICY, within: None };

/// The tries of the keeper, which can wait for a throttled table. The pauses are 3 to 6.4 s in all.
const PATIENT: Tries =
    Tries { policy: Policy { max_tries: 8, worth_an_attempt: Duration::ZERO }, within: Some(Duration::from_secs(8)) };

/// Credentials are no longer used when they expire within this time.
const EXPIRY_MARGIN: Duration = Duration::from_secs(300);

/// A table, by its name or ARN.
#[derive(Debug)]
pub struct Table {
    name: String,
    region: String,
    endpoint: Url,
    connection: Connection,
    tries: Tries,
    provider: SharedCredentialsProvider,
    /// The latest signer. In Lambda, credentials last as long as the process.
    signer: Mutex<Option<Arc<Signer>>>,
}

/// How often a request is sent.
#[derive(Clone, Copy, Debug)]
struct Tries {
    policy: Policy,
    /// The time after which no further try begins. `None`: only their number is limited.
    within: Option<Duration>,
}

/// An update, in DynamoDB's own expressions, which refer to names and values by placeholders, `#name` and `:name`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Update {
    /// The key of the item to update.
    pub key: Map<Value>,
    /// `UpdateExpression`: the change to make if the condition holds.
    pub update_expression: String,
    /// `ConditionExpression`: otherwise the item stays as it is. Without one, it is empty; DynamoDB rejects an empty one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition_expression: String,
    /// Attribute names by their placeholder in the expressions, such as `#day`.
    pub expression_attribute_names: Map<String>,
    /// Values by their placeholder in the expressions, such as `:tokens`. DynamoDB rejects an empty map.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub expression_attribute_values: Map<Value>,
    /// The attributes to return: `UPDATED_NEW` or `ALL_NEW`.
    pub return_values: &'static str,
}

/// A map of a few fields. A hash map would cost more than the signature.
#[derive(Debug)]
pub struct Map<V>(pub Vec<(&'static str, V)>);

impl<V> Map<V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V: Serialize> Serialize for Map<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A value as DynamoDB writes it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Value {
    /// A string, of any length up to DynamoDB's 400 KB an item.
    S(String),
    /// A number, written in decimal digits as DynamoDB sends numbers.
    N(String),
    /// A set of texts, of which there is one.
    Ss([String; 1]),
}

/// The attributes of an item that are texts, numbers or sets of texts. A hash map of values would cost more than the
/// signature.
#[derive(Debug, Default)]
pub struct Item(Vec<(String, Vec<String>)>);

impl Item {
    /// An item with these attributes, texts or numbers.
    pub(crate) fn of(attributes: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(attributes.into_iter().map(|(name, text)| (name, vec![text])).collect())
    }

    /// Each attribute with its text or digits.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, texts)| Some((name.as_str(), texts.first()?.as_str())))
    }

    /// The text, or the digits, of an attribute.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).first().map(String::as_str)
    }

    /// The texts of a set. It is empty if there is none.
    #[must_use]
    pub fn texts(&self, name: &str) -> &[String] {
        self.0.iter().find(|(known, _)| known == name).map(|(_, texts)| texts.as_slice()).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        struct Attribute {
            s: Option<String>,
            n: Option<String>,
            ss: Option<Vec<String>>,
        }

        struct Attributes;

        impl<'de> Visitor<'de> for Attributes {
            type Value = Item;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the attributes of an item")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Item, M::Error> {
                let mut item = Item::default();
                while let Some((name, Attribute { s, n, ss })) = map.next_entry()? {
                    let texts = ss.unwrap_or_else(|| s.or(n).into_iter().collect());
                    item.0.push((name, texts));
                }
                Ok(item)
            }
        }

        deserializer.deserialize_map(Attributes)
    }
}

/// The outcome of an update that DynamoDB answered.
#[derive(Debug)]
pub enum Updated {
    /// It was made; these are the new values of the attributes.
    Done(Item),
    /// The condition did not hold; this is the item, unchanged. `None`: there is no item, or the table returned none.
    ConditionFailed(Option<Item>),
}

/// The update was not made, or it is unknown whether it was.
#[derive(Debug)]
pub struct UpdateError {
    /// The error of the last attempt.
    pub cause: TableError,
    /// Whether an attempt may have made it all the same.
    pub perhaps_made: bool,
}

impl From<UpdateError> for TableError {
    fn from(error: UpdateError) -> Self {
        error.cause
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// DynamoDB's status and code, such as `AccessDeniedException`.
    #[error("{1}")]
    Refused(StatusCode, Code),
    /// The connection could not be made or broke.
    #[error("the connection failed")]
    Connection(#[from] reqwest::Error),
    /// No answer within the attempt's limit.
    #[error("no answer in time")]
    Timeout,
    /// A response that DynamoDB does not send.
    #[error("its answer is malformed")]
    Malformed,
    /// Other updates of the item made each attempt obsolete.
    #[error("the item is updated too often")]
    Contended,
    /// No AWS credentials were found, or they could not be refreshed.
    #[error("there are no AWS credentials")]
    NoCredentials,
}

/// Faults in the settings of the table.
#[derive(Debug, thiserror::Error)]
pub enum TableSetupError {
    /// The configuration names no AWS region.
    #[error("QUOTA_TABLE is set, but no AWS region is: expected one in AWS_REGION")]
    Region,
    /// The configuration has no source of AWS credentials.
    #[error("QUOTA_TABLE is set, but AWS credentials are switched off")]
    Credentials,
    /// The configured endpoint is not a URL.
    #[error("the AWS endpoint for DynamoDB is not a URL: expected one in AWS_ENDPOINT_URL_DYNAMODB")]
    Endpoint(#[from] url::ParseError),
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be built")]
    Http(#[from] reqwest::Error),
}

impl Table {
    /// The table of that name at the endpoint of `config`. No request is sent yet.
    ///
    /// # Errors
    /// If `config` has no region or a malformed endpoint, or the HTTP client cannot be built.
    pub fn new(name: String, config: &SdkConfig, tls: rustls::ClientConfig) -> Result<Self, TableSetupError> {
        let region = config.region().ok_or(TableSetupError::Region)?.to_string();
        let provider = config.credentials_provider().ok_or(TableSetupError::Credentials)?;
        let endpoint = endpoint(config, &region).parse()?;
        let connection = Connection::new(tls)?;
        let signer = Mutex::default();
        Ok(Self { name, region, endpoint, connection, tries: TWO, provider, signer })
    }

    /// The same table for the keeper, which can wait: with more tries after transient errors, and longer pauses before them.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { tries: PATIENT, ..self }
    }

    /// Opens the connection and finds the credentials ahead of the first update. A step that fails here is tried again with
    /// that update.
    pub async fn warm(&self) {
        self.connection.warm(&self.endpoint).await;
        let _ = self.signer(&clock::iso_basic(SystemTime::now())).await;
    }

    /// Makes an update, with further tries after transient errors. If the response to the first is lost, the update arrives
    /// twice: its condition must then fail.
    ///
    /// # Errors
    /// If it was not made, or it is unknown whether it was.
    pub async fn update(&self, update: &Update) -> Result<Updated, UpdateError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request<'a> {
            table_name: &'a str,
            #[serde(flatten)]
            update: &'a Update,
            return_values_on_condition_check_failure: &'static str,
        }

        let request = Request { table_name: &self.name, update, return_values_on_condition_check_failure: "ALL_OLD" };
        self.ask(UPDATE, &request, parse_response, self.tries).await
    }

    /// Reads the item with the text `id` in the key attribute `key`, with every change that was answered before. There is no
    /// difference between an item without attributes and none.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn get(&self, key: &'static str, id: &str) -> Result<Item, TableError> {
        self.get_in(key, id, self.tries).await
    }

    /// The same, with two tries at most.
    ///
    /// # Errors
    /// If the table cannot be used.
    pub async fn get_soon(&self, key: &'static str, id: &str) -> Result<Item, TableError> {
        self.get_in(key, id, TWO).await
    }

    async fn get_in(&self, key: &'static str, id: &str, tries: Tries) -> Result<Item, TableError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Request<'a> {
            table_name: &'a str,
            key: Map<Value>,
            consistent_read: bool,
        }

        let key = Map(vec![(key, Value::S(id.to_owned()))]);
        let request = Request { table_name: &self.name, key, consistent_read: true };
        self.ask(GET, &request, parse_item, tries).await.map_err(|error| error.cause)
    }

    /// Sends a request, with further tries after transient errors.
    async fn ask<T>(
        &self,
        target: &'static str,
        request: &impl Serialize,
        parse: fn(StatusCode, &[u8]) -> Result<T, TableError>,
        Tries { policy, within }: Tries,
    ) -> Result<T, UpdateError> {
        let mut perhaps_made = false;
        let failed = |cause, perhaps_made| UpdateError { cause, perhaps_made };
        let body = serde_json::to_vec(request).map_err(|_| failed(TableError::Malformed, false))?;
        let mut lease = self.connection.lease().map_err(|error| failed(error.into(), false))?;
        let mut retries = Retries::new(policy, within.and_then(|time| Instant::now().checked_add(time)));
        loop {
            let limit = if lease.reused { PATIENCE } else { ATTEMPT };
            let exchange = timeout(limit, self.exchange(&lease, target, body.clone(), parse)).await;
            let failure = match exchange.unwrap_or(Err(TableError::Timeout)) {
                Err(failure) => failure,
                Ok(answer) => return Ok(answer),
            };
            perhaps_made |= failure.leaves_doubt();
            if failure.is_transient() {
                debug!(error = &failure as &dyn std::error::Error, "the table could not be used");
            }
            let next = retries.after(failure, &lease, &self.connection).await;
            lease = next.map_err(|cause| failed(cause, perhaps_made))?;
        }
    }

    async fn exchange<T>(
        &self,
        lease: &Lease,
        target: &'static str,
        body: Vec<u8>,
        parse: fn(StatusCode, &[u8]) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let date = clock::iso_basic(SystemTime::now());
        let signer = self.signer(&date).await?;
        let authorization = signer.authorization(&sigv4::Request {
            host: &self.endpoint[Position::BeforeHost..Position::AfterPort],
            content_type: CONTENT_TYPE,
            target,
            date: &date,
            body: &body,
        });
        let mut request = lease
            .client
            .post(self.endpoint.clone())
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, CONTENT_TYPE)
            .header("x-amz-target", target)
            .header("x-amz-date", date)
            .body(body);
        if let Some(token) = signer.session_token() {
            request = request.header("x-amz-security-token", token);
        }
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let body = response.bytes().await.map_err(reqwest::Error::without_url)?;
        self.connection.mark_healthy(lease);
        parse(status, &body)
    }

    /// A signer for that date, with credentials that are not about to expire.
    async fn signer(&self, date: &str) -> Result<Arc<Signer>, TableError> {
        let lock = || self.signer.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts =
            |expiry: SystemTime| expiry.duration_since(SystemTime::now()).is_ok_and(|left| left > EXPIRY_MARGIN);
        let held = lock().clone();
        let credentials = match held {
            Some(held) if held.credentials().expiry().is_none_or(lasts) => {
                if held.signs_on(date) {
                    return Ok(held);
                }
                held.credentials().clone()
            }
            _ => self.provider.provide_credentials().await.map_err(|_| TableError::NoCredentials)?,
        };
        let signer = Arc::new(Signer::new(credentials, &self.region, SERVICE, date));
        *lock() = Some(Arc::clone(&signer));
        Ok(signer)
    }
}

/// The configured endpoint, looked up in the order of AWS's SDKs, or else the region's own.
fn endpoint(config: &SdkConfig, region: &str) -> String {
    let key = ServiceConfigKey::builder().service_id("DynamoDB").env("AWS_ENDPOINT_URL").profile("endpoint_url");
    let of_dynamodb = config.service_config().zip(key.build().ok()).and_then(|(config, key)| config.load_config(key));
    if let Some(configured) = of_dynamodb.or_else(|| config.endpoint_url().map(str::to_owned)) {
        return configured;
    }
    let partition = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    let domain = partition.map_or("amazonaws.com", |(_, domain)| domain);
    format!("https://{SERVICE}.{region}.{domain}")
}

fn parse_response(status: StatusCode, body: &[u8]) -> Result<Updated, TableError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Success {
        #[serde(default)]
        attributes: Item,
    }

    if status == StatusCode::OK {
        let Success { attributes } = serde_json::from_slice(body).map_err(|_| TableError::Malformed)?;
        return Ok(Updated::Done(attributes));
    }
    let Failure { kind, item } = serde_json::from_slice(body).map_err(|_| TableError::Malformed)?;
    match Code::of(&kind) {
        Code(code) if code == "ConditionalCheckFailedException" => Ok(Updated::ConditionFailed(item)),
        code => Err(TableError::Refused(status, code)),
    }
}

fn parse_item(status: StatusCode, body: &[u8]) -> Result<Item, TableError> {
    #[derive(Deserialize)]
    struct Success {
        #[serde(rename = "Item", default)]
        item: Item,
    }

    if status == StatusCode::OK {
        return serde_json::from_slice(body).map(|Success { item }| item).map_err(|_| TableError::Malformed);
    }
    let Failure { kind, .. } = serde_json::from_slice(body).map_err(|_| TableError::Malformed)?;
    Err(TableError::Refused(status, Code::of(&kind)))
}

/// An error of DynamoDB, with the item if a condition failed.
#[derive(Deserialize)]
struct Failure {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(rename = "Item", default)]
    item: Option<Item>,
}

impl TableError {
    /// Whether the update may have been made all the same.
    fn leaves_doubt(&self) -> bool {
        match self {
            Self::Refused(status, _) => status.is_server_error(),
            Self::Connection(error) => !error.is_connect(),
            Self::Timeout | Self::Malformed => true,
            Self::NoCredentials | Self::Contended => false,
        }
    }
}

impl Retryable for TableError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout | Self::Malformed => true,
            // AWS, "Error handling with DynamoDB": every 5xx, and these codes of a 400.
            Self::Refused(status, Code(code)) => {
                let throttled = ["Throttl", "ThroughputExceeded", "LimitExceeded"];
                status.is_server_error() || throttled.iter().any(|part| code.contains(part))
            }
            Self::NoCredentials | Self::Contended => false,
        }
    }

    fn needs_new_connection(&self) -> bool {
        !matches!(self, Self::Refused(..))
    }

    fn pause(&self, tries: u32, _: bool) -> Option<Duration> {
        Some(match (tries, self) {
            (1, Self::Refused(..)) => LONGEST_PAUSE.mul_f64(fastrand::f64()),
            // A connection that has died is replaced at once, the first time.
            (1, _) => Duration::ZERO,
            _ => backoff(LONGEST_PAUSE, tries),
        })
    }
}

/// The retries of a request's update that DynamoDB refused.
#[cfg(test)]
pub(crate) fn describe_retries() -> serde_json::Value {
    crate::net::retry::describe(POLICY, |_| (Duration::ZERO, LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};

    use super::*;

    #[test]
    fn a_configured_endpoint_takes_precedence_over_that_of_the_region() {
        let of = |region: &'static str, configured: Option<&str>| {
            let mut config =
                SdkConfig::builder().behavior_version(BehaviorVersion::latest()).region(Region::from_static(region));
            config.set_endpoint_url(configured.map(str::to_owned));
            endpoint(&config.build(), region)
        };
        assert_eq!(of("eu-west-1", None), "https://dynamodb.eu-west-1.amazonaws.com");
        assert_eq!(of("us-gov-west-1", None), "https://dynamodb.us-gov-west-1.amazonaws.com");
        assert_eq!(of("cn-north-1", None), "https://dynamodb.cn-north-1.amazonaws.com.cn");
        assert_eq!(of("eusc-de-east-1", None), "https://dynamodb.eusc-de-east-1.amazonaws.eu");
        assert_eq!(of("eu-west-1", Some("http://localhost:4566")), "http://localhost:4566");
    }

    #[test]
    fn a_response_is_an_update_a_refusal_or_malformed() {
        let read = |status: u16, body: &str| parse_response(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert!(
            matches!(read(200, r#"{"Attributes": {"x": {"BOOL": true}, "day": {"N": "3"}}}"#), Ok(Updated::Done(item)) if item.text("day") == Some("3"))
        );
        let failed = r#"{"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "Item": {"day": {"N": "5"}}, "message": "The conditional request failed"}"#;
        assert!(matches!(read(400, failed), Ok(Updated::ConditionFailed(Some(item))) if item.text("day") == Some("5")));
        let without_item =
            r#"{"__type": "ConditionalCheckFailedException", "message": "The conditional request failed"}"#;
        assert!(matches!(read(400, without_item), Ok(Updated::ConditionFailed(None))));
        let refused = r#"{"__type": "com.amazon.coral.service#AccessDenied<Exception>", "Message": "x"}"#;
        assert!(
            matches!(read(400, refused), Err(TableError::Refused(_, code)) if code.to_string() == "AccessDeniedException")
        );
        for (status, body) in [(200, "<html>"), (503, "Service Unavailable"), (400, "{}")] {
            assert!(matches!(read(status, body), Err(TableError::Malformed)), "{body}");
        }
    }
}

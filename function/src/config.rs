//! Every variable that the function reads: its name, its range, its meaning.

use std::{
    env,
    fmt::Display,
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use openai_realtime::{CALL_SECONDS, TOKEN_TTL_SECONDS as TOKEN_TTL_RANGE, VOICES};
use tracing::Level;
use url::{Host, Url};

use crate::{
    admission::{origin::Origins, quota::Limits, sign_in::DEFAULT_CLAIM},
    calls::CallLimits,
    openai,
    profile::Voice,
    secret::{Source, is_placeholder},
};

/// Declares the names of variables. The comment of each is its row in docs/parameters.md.
macro_rules! variables {
    ($($(#[doc = $line:literal])+ $name:ident;)+) => {
        $($(#[doc = $line])+ const $name: &str = stringify!($name);)+

        #[cfg(test)]
        const COMMENTS: &[(&str, &[&str])] = &[$(($name, &[$($line),+])),+];
    };
}

variables! {
    /// ARN or name of the secret in AWS Secrets Manager. It contains
    /// `{"OPENAI_API_KEY": "sk-…", "SAFETY_IDENTIFIER_KEY": "…", "BLOCKED_CALLERS": ["…"], "PROXY_SECRET": "…"}`, or just
    /// the key as plain text. `make key` and `make proxy-secret` keep the values before theirs, in `PREVIOUS_OPENAI_API_KEY` and
    /// `PREVIOUS_PROXY_SECRET`.
    OPENAI_SECRET_ARN;
    /// The key itself, for runs on your own machine. Read only if `OPENAI_SECRET_ARN` is unset.
    OPENAI_API_KEY;
    /// Base URL of OpenAI's API, or of another server with the same API. `http:` on loopback hosts only.
    OPENAI_BASE_URL;
    /// The start of every accepted token: up to 32 letters, digits and `_-.`. OpenAI's tokens start with `ek_`. Empty
    /// accepts the tokens of other servers, in any form; unset does not. An API key is never accepted as a token.
    TOKEN_PREFIX;
    /// Replaces the default profile's model. Up to 128 letters, digits and `-_.:/`.
    MODEL;
    /// Replaces the default profile's voice.
    VOICE;
    /// How long a token can open a session, in seconds, unless its profile sets less.
    TOKEN_TTL_SECONDS;
    /// How long a fetched key is used before it is read again in the background, in seconds; the old one serves
    /// meanwhile.
    KEY_TTL_SECONDS;
    /// Exact origins, separated by commas. Empty or `*`: not checked. `make demo` also allows its own page; with your
    /// own key and an empty list, it allows only that page.
    ALLOWED_ORIGINS;
    /// Claim of a verified sign-in that names the caller, such as `email`. A request whose claims lack it gets
    /// `no_subject`.
    AUTH_SUBJECT_CLAIM;
    /// Header in which a proxy in front of the gateway states the caller's address: `CloudFront-Viewer-Address`, or another
    /// one with a single address. A request is then accepted only if its `X-Proxy-Secret` equals `PROXY_SECRET` in the
    /// secret. Empty: no header is believed.
    PROXY_ADDRESS_HEADER;
    /// Name or ARN of a DynamoDB table with the partition key `id`. Empty: no quotas, and calls are kept in memory, which is
    /// for a single process such as `make demo`.
    QUOTA_TABLE;
    /// Requested tokens per caller and clock minute, also those that OpenAI does not issue. 0: not limited.
    QUOTA_PER_MINUTE;
    /// Tokens per caller and UTC day. 0: not limited.
    QUOTA_PER_DAY;
    /// Tokens for all callers together, per UTC day. 0: not limited.
    DAILY_MINT_LIMIT;
    /// What is open: `token` for `POST /token`, `call` for `POST /call`, or `both`.
    ENDPOINTS;
    /// The longest call, in seconds. A profile may set less. The server hangs up at its end.
    MAX_CALL_SECONDS;
    /// Calls of one caller at once. 0: not limited.
    CALLS_AT_ONCE;
    /// Calls of all callers at once.
    CALLS_AT_ONCE_FOR_ALL;
    /// Minutes of calls per caller and UTC day. A call counts with its longest possible length until it has ended. 0: not
    /// limited.
    CALL_MINUTES_PER_DAY;
    /// Minutes of calls of all callers together, per UTC day. 0: not limited.
    DAILY_CALL_MINUTES;
    /// A PEM file with additional trusted roots, for OpenAI and AWS.
    EXTRA_CA_FILE;
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`. No level shows a secret.
    LOG_LEVEL;
}

/// Set by Lambda itself, as is `AWS_LAMBDA_RUNTIME_API`.
const AWS_LAMBDA_FUNCTION_NAME: &str = "AWS_LAMBDA_FUNCTION_NAME";
const AWS_LAMBDA_RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
const DEFAULT_ENDPOINTS: &str = "both";
const DEFAULT_LEVEL: Level = Level::INFO;
const TOKEN_TTL: Number<u64> =
    Number { name: TOKEN_TTL_SECONDS, unit: "seconds", range: TOKEN_TTL_RANGE, default: 3_600 };
const KEY_TTL: Number<u64> = Number { name: KEY_TTL_SECONDS, unit: "seconds", range: 0..=86_400, default: 300 };
const PER_MINUTE: Number<u32> = Number { name: QUOTA_PER_MINUTE, unit: "tokens", range: 0..=1_000_000, default: 10 };
const PER_DAY: Number<u32> = Number { name: QUOTA_PER_DAY, unit: "tokens", range: 0..=1_000_000, default: 200 };
const ALL_CALLERS_PER_DAY: Number<u32> =
    Number { name: DAILY_MINT_LIMIT, unit: "tokens", range: 0..=1_000_000_000, default: 5_000 };
const LONGEST_CALL: Number<u64> = Number { name: MAX_CALL_SECONDS, unit: "seconds", range: CALL_SECONDS, default: 600 };
const AT_ONCE: Number<u32> = Number { name: CALLS_AT_ONCE, unit: "calls", range: 0..=100, default: 1 };
const AT_ONCE_FOR_ALL: Number<u32> =
    Number { name: CALLS_AT_ONCE_FOR_ALL, unit: "calls", range: 1..=1_000, default: 25 };
const MINUTES_PER_DAY: Number<u32> =
    Number { name: CALL_MINUTES_PER_DAY, unit: "minutes", range: 0..=1_440, default: 60 };
const ALL_MINUTES_PER_DAY: Number<u32> =
    Number { name: DAILY_CALL_MINUTES, unit: "minutes", range: 0..=1_000_000, default: 1_500 };
/// The rule of the template's `AllowedOrigins`, too. A test of the template keeps the two equal.
const ORIGINS: &str = "* alone, or a list of origins exactly as browsers send them, separated by commas: http:// or \
                       https://, a host in lower case, and a port if it is not the default; no path and no slash at \
                       the end";

/// The rule of the template's `ProxyAddressHeader`, too.
const HEADER_NAME: &str = "the name of a header, such as CloudFront-Viewer-Address: a letter, then at most 63 letters, digits \
                           and hyphens";

/// The rule of the template's `AuthSubjectClaim`, too. A space would make the caller's text ambiguous before it is hashed.
const CLAIM_NAME: &str =
    "the name of a claim, such as sub or https://example.com/user_id: at most 128 letters, digits and -_.:/";

/// The function's configuration, every value of it checked.
#[derive(Debug)]
pub struct Config {
    /// The source of the API key: `OPENAI_SECRET_ARN`, or else `OPENAI_API_KEY`.
    pub key_source: Source,
    /// `OPENAI_BASE_URL`, without a slash at its end. Default `https://api.openai.com/v1`.
    pub base_url: Url,
    /// `TOKEN_PREFIX`: the start of every accepted token, default `ek_`. Empty accepts every plausible token.
    pub token_prefix: String,
    /// `MODEL`: replaces the model of the `default` profile.
    pub model: Option<String>,
    /// `VOICE`: replaces the voice of the `default` profile.
    pub voice: Option<Voice>,
    /// `TOKEN_TTL_SECONDS`, 10 to 7200, default 3600: how long a minted token can open its session.
    pub token_ttl: Duration,
    /// `KEY_TTL_SECONDS`, 0 to 86400, default 300: how long a fetched key is used before it is read again, in the
    /// background, while the old one stays in use.
    pub key_ttl: Duration,
    /// `ALLOWED_ORIGINS`: the pages that may ask for tokens; empty or `*` turns the check off.
    pub allowed_origins: Origins,
    /// `AUTH_SUBJECT_CLAIM`: the claim of a verified sign-in that names the caller. Default `sub`.
    pub auth_subject_claim: String,
    /// `PROXY_ADDRESS_HEADER`: the header in which a proxy states the caller's address. `None`: there is no proxy.
    pub proxy_address_header: Option<String>,
    /// `QUOTA_TABLE`: the DynamoDB table, by its name or ARN.
    pub table: Option<String>,
    /// `QUOTA_PER_MINUTE` and `QUOTA_PER_DAY` (0 to 1000000, default 10 and 200) and `DAILY_MINT_LIMIT` (0 to 1000000000,
    /// default 5000). They need the table.
    pub limits: Limits,
    /// `ENDPOINTS`: the open endpoints, by default both.
    pub endpoints: Endpoints,
    /// `CALLS_AT_ONCE` (0 to 100, default 1), `CALLS_AT_ONCE_FOR_ALL` (1 to 1000, default 25), `CALL_MINUTES_PER_DAY` (0 to
    /// 1440, default 60), `DAILY_CALL_MINUTES` (0 to 1000000, default 1500), and `MAX_CALL_SECONDS` (10 to 3600, default 600).
    pub call_limits: CallLimits,
    /// `EXTRA_CA_FILE`: a PEM file with additional trusted roots, for connections to OpenAI and AWS.
    pub extra_ca_file: Option<PathBuf>,
    /// `LOG_LEVEL`: `ERROR`, `WARN`, `INFO` (default), `DEBUG` or `TRACE`. No level shows a secret.
    pub log_level: Level,
    /// `AWS_LAMBDA_FUNCTION_NAME`: the dimension that keeps the metrics of several stacks apart.
    pub function_name: String,
    /// Whether `AWS_LAMBDA_RUNTIME_API` is set, that is, whether this runs in Lambda.
    pub in_lambda: bool,
}

/// The open endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Whether `POST /token` is open.
    pub token: bool,
    /// Whether `POST /call` is open.
    pub call: bool,
}

/// A variable with an invalid value. The sentence names the variable, the fault and the range.
#[derive(Debug, thiserror::Error)]
#[error("{name} {fault}: expected {range}")]
pub struct ConfigError {
    name: &'static str,
    fault: String,
    range: String,
}

impl Config {
    /// Reads the process environment.
    ///
    /// # Errors
    /// If the value of a variable is outside its range.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads variables through `lookup`. One that is empty counts as unset, except `TOKEN_PREFIX`.
    ///
    /// # Errors
    /// If the value of a variable is outside its range.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let read = |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        Ok(Self {
            key_source: key_source(read(OPENAI_SECRET_ARN), read(OPENAI_API_KEY))?,
            base_url: base_url(read(OPENAI_BASE_URL))?,
            token_prefix: token_prefix(lookup(TOKEN_PREFIX).as_deref())?,
            model: read(MODEL).map(model).transpose()?,
            voice: read(VOICE).as_deref().map(voice).transpose()?,
            token_ttl: Duration::from_secs(TOKEN_TTL.parse(read(TOKEN_TTL.name))?),
            key_ttl: Duration::from_secs(KEY_TTL.parse(read(KEY_TTL.name))?),
            allowed_origins: origins(read(ALLOWED_ORIGINS).as_deref())?,
            auth_subject_claim: claim_name(read(AUTH_SUBJECT_CLAIM))?,
            proxy_address_header: read(PROXY_ADDRESS_HEADER).map(header_name).transpose()?,
            table: read(QUOTA_TABLE),
            limits: Limits {
                per_minute: NonZeroU32::new(PER_MINUTE.parse(read(PER_MINUTE.name))?),
                per_day: NonZeroU32::new(PER_DAY.parse(read(PER_DAY.name))?),
                all_callers_per_day: NonZeroU32::new(ALL_CALLERS_PER_DAY.parse(read(ALL_CALLERS_PER_DAY.name))?),
            },
            endpoints: endpoints(read(ENDPOINTS).as_deref())?,
            call_limits: CallLimits {
                longest: Duration::from_secs(LONGEST_CALL.parse(read(LONGEST_CALL.name))?),
                at_once: NonZeroU32::new(AT_ONCE.parse(read(AT_ONCE.name))?),
                at_once_for_all: AT_ONCE_FOR_ALL.parse(read(AT_ONCE_FOR_ALL.name))?,
                minutes_per_day: NonZeroU32::new(MINUTES_PER_DAY.parse(read(MINUTES_PER_DAY.name))?),
                daily_minutes: NonZeroU32::new(ALL_MINUTES_PER_DAY.parse(read(ALL_MINUTES_PER_DAY.name))?),
            },
            extra_ca_file: read(EXTRA_CA_FILE).map(PathBuf::from),
            log_level: log_level(read(LOG_LEVEL))?,
            function_name: read(AWS_LAMBDA_FUNCTION_NAME).unwrap_or_else(|| "token-mint".to_owned()),
            in_lambda: read(AWS_LAMBDA_RUNTIME_API).is_some(),
        })
    }
}

fn invalid(name: &'static str, fault: impl Into<String>, range: impl Into<String>) -> ConfigError {
    ConfigError { name, fault: fault.into(), range: range.into() }
}

fn quoted_fault(value: &str) -> String {
    format!("is {value:?}")
}

fn key_source(arn: Option<String>, key: Option<String>) -> Result<Source, ConfigError> {
    match (arn, key) {
        (Some(arn), _) => Ok(Source::SecretsManager(arn)),
        // The sentences do not quote the value: it was meant to be a secret.
        (None, Some(key)) if is_placeholder(&key) => {
            Err(invalid(OPENAI_API_KEY, "still has a placeholder in it", "your own OpenAI API key in its place"))
        }
        (None, Some(key)) if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Source::Given(key.into())),
        (None, Some(_)) => {
            Err(invalid(OPENAI_API_KEY, "has spaces or other characters that no key has", "an OpenAI API key (sk-…)"))
        }
        (None, None) => Ok(Source::Nowhere),
    }
}

fn base_url(value: Option<String>) -> Result<Url, ConfigError> {
    const RANGE: &str = "an https: URL without query or credentials, such as https://api.openai.com/v1 \
                         (http: on a loopback host only)";
    // The sentence does not quote the value: a URL may contain a password.
    let refuse = |fault: &str| Err(invalid(OPENAI_BASE_URL, fault, RANGE));
    let text = value.unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
    let text = text.trim_end_matches('/');
    let Ok(url) = Url::parse(text) else { return refuse("is not a URL") };
    // By the URL standard, the host of https:///v1 is v1.
    if text.contains(":///") {
        return refuse("has no host");
    }
    let on_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => return refuse("has no host"),
    };
    match url.scheme() {
        "https" => {}
        "http" if on_loopback => {}
        "http" => return refuse("would send the key unencrypted"),
        _ => return refuse("is neither http: nor https:"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("has credentials in it");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("has a query or a fragment");
    }
    if !is_plain_url(text) {
        return refuse("has a host, port or path in an unusual form");
    }
    Ok(url)
}

/// Whether a URL is written as the template's `OpenAIBaseUrl` allows: no form that the URL standard would silently rewrite,
/// such as `HTTPS:`, `127.1`, `api.example.com.` or a tab.
fn is_plain_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or(text.strip_prefix("http://")) else { return false };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix("[::1]") {
        Some(port) => ("localhost", port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_name = host.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    });
    // By the URL standard, a host whose last label is a number is an IPv4 address.
    let last = host.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let is_address = !(is_number(&last) || hexadecimal) || host.parse::<Ipv4Addr>().is_ok();
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@".contains(&byte));
    is_name && is_address && is_port && is_path
}

fn is_port(text: &str) -> bool {
    !text.starts_with('0') && is_number(text) && text.parse::<u16>().is_ok()
}

/// Up to 128 letters, digits and `-_.:/`.
fn is_plain_name(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte)) && value.len() <= 128
}

fn claim_name(value: Option<String>) -> Result<String, ConfigError> {
    match value {
        None => Ok(DEFAULT_CLAIM.to_owned()),
        Some(value) if is_plain_name(&value) => Ok(value),
        Some(value) => Err(invalid(AUTH_SUBJECT_CLAIM, quoted_fault(&value), CLAIM_NAME)),
    }
}

fn token_prefix(value: Option<&str>) -> Result<String, ConfigError> {
    let prefix = value.map_or(openai::TOKEN_PREFIX, str::trim);
    let known_characters = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    if known_characters && prefix.len() <= 32 {
        return Ok(prefix.to_owned());
    }
    Err(invalid(TOKEN_PREFIX, quoted_fault(prefix), "up to 32 letters, digits and _-., or nothing for any token"))
}

fn model(value: String) -> Result<String, ConfigError> {
    if is_plain_name(&value) {
        return Ok(value);
    }
    Err(invalid(MODEL, quoted_fault(&value), "a model's name of up to 128 letters, digits and -_.:/"))
}

fn header_name(value: String) -> Result<String, ConfigError> {
    let known_characters = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if known_characters && value.starts_with(|first: char| first.is_ascii_alphabetic()) && value.len() <= 64 {
        return Ok(value);
    }
    Err(invalid(PROXY_ADDRESS_HEADER, quoted_fault(&value), HEADER_NAME))
}

fn voice(value: &str) -> Result<Voice, ConfigError> {
    Voice::named(value).ok_or_else(|| invalid(VOICE, quoted_fault(value), format!("one of {}", VOICES.join(", "))))
}

/// A variable whose value is a whole number.
struct Number<N> {
    name: &'static str,
    unit: &'static str,
    range: RangeInclusive<N>,
    default: N,
}

impl<N: Copy + FromStr + PartialOrd + Display> Number<N> {
    fn parse(&self, value: Option<String>) -> Result<N, ConfigError> {
        let Self { name, unit, range, default } = self;
        let Some(value) = value else { return Ok(*default) };
        match next_to(&value) {
            Some([below, above]) if range.contains(&below) && range.contains(&above) => Ok(above),
            _ => {
                let (least, most) = (range.start(), range.end());
                Err(invalid(name, quoted_fault(&value), format!("a whole number of {unit} from {least} to {most}")))
            }
        }
    }
}

/// The whole numbers next to a number, below and above; twice the same if it is whole.
///
/// CloudFormation accepts any spelling of a number for a parameter of type `Number`, such as `1e3`, `60.0` and `0.5`, and
/// passes it on unchanged. The function rounds a fraction up, because 0 would turn a limit off.
fn next_to<N: Copy + FromStr>(value: &str) -> Option<[N; 2]> {
    if let Ok(number) = value.parse() {
        return Some([number, number]);
    }
    let number = value.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    // Adding 0 turns -0 into 0.
    let whole = |number: f64| format!("{:.0}", number + 0.0).parse().ok();
    Some([whole(number.floor())?, whole(number.ceil())?])
}

fn endpoints(value: Option<&str>) -> Result<Endpoints, ConfigError> {
    match value {
        None | Some(DEFAULT_ENDPOINTS) => Ok(Endpoints { token: true, call: true }),
        Some("token") => Ok(Endpoints { token: true, call: false }),
        Some("call") => Ok(Endpoints { token: false, call: true }),
        Some(value) => Err(invalid(ENDPOINTS, quoted_fault(value), "token, call or both")),
    }
}

/// An origin that browsers do not send is refused rather than normalised: API Gateway gets the same list from the template
/// unchanged, and compares it exactly.
fn origins(value: Option<&str>) -> Result<Origins, ConfigError> {
    let entries: Vec<_> = value.unwrap_or_default().split(',').map(str::trim).collect();
    if ["*", ""].iter().any(|any| entries.iter().all(|entry| entry == any)) {
        return Ok(Origins::Any);
    }
    for entry in &entries {
        if !is_origin(entry) {
            let fault = match entry_meant(entry).filter(|meant| is_origin(meant)) {
                Some(meant) => format!("has {entry:?} in it (did you mean {meant:?}?)"),
                None if entry.is_empty() => "has an empty entry".to_owned(),
                None => format!("has {entry:?} in it"),
            };
            return Err(invalid(ALLOWED_ORIGINS, fault, ORIGINS));
        }
    }
    Ok(Origins::Only(entries.into_iter().map(str::to_owned).collect()))
}

/// Whether an entry is an origin as browsers send it. Only http and https: API Gateway refuses any other scheme in
/// `AllowOrigins` ("Invalid format for origin capacitor://localhost").
fn is_origin(entry: &str) -> bool {
    let rest = |scheme| entry.strip_prefix(scheme);
    let Some((rest, default)) = rest("http://").zip(Some("80")).or(rest("https://").zip(Some("443"))) else {
        return false;
    };
    let has_only = |text: &str, others: &[u8]| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || others.contains(&byte);
        !text.is_empty() && text.bytes().all(known)
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(address) => {
            let Some((address, port)) = address.split_once(']') else { return false };
            let is_hex = address.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b':'));
            (is_hex && address.contains(':'), port)
        }
        None => {
            let (name, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            (name.split('.').all(|label| has_only(label, b"-_")), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port != default && is_port(port),
        None => port.is_empty(),
    };
    host && port
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The origin that a browser sends for a page at this address.
fn entry_meant(entry: &str) -> Option<String> {
    let is_local = ["localhost", "127.", "[::1]"].iter().any(|host| entry.starts_with(host));
    let with_scheme = match entry {
        _ if entry.contains("://") => entry.to_owned(),
        // A page under development is not served over TLS.
        _ if is_local => format!("http://{entry}"),
        _ if entry.contains('.') => format!("https://{entry}"),
        _ => return None,
    };
    Some(Url::parse(&with_scheme).ok()?.origin().ascii_serialization())
}

fn log_level(value: Option<String>) -> Result<Level, ConfigError> {
    let Some(value) = value else { return Ok(DEFAULT_LEVEL) };
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let level = levels.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(&value));
    level.ok_or_else(|| invalid(LOG_LEVEL, quoted_fault(&value), "ERROR, WARN, INFO, DEBUG or TRACE"))
}

/// The variables, with their comments, ranges and defaults.
#[cfg(test)]
pub(crate) fn describe() -> serde_json::Value {
    use serde_json::{Value, json};

    fn number<N: Copy + Into<u64>>(number: &Number<N>) -> (&'static str, Value) {
        let Number { name, range, default, .. } = number;
        let [least, most, default] = [*range.start(), *range.end(), *default].map(Into::<u64>::into);
        (name, json!({"range": [least, most], "default": default}))
    }

    let mut values = std::collections::HashMap::from([
        number(&TOKEN_TTL),
        number(&KEY_TTL),
        number(&PER_MINUTE),
        number(&PER_DAY),
        number(&ALL_CALLERS_PER_DAY),
        number(&LONGEST_CALL),
        number(&AT_ONCE),
        number(&AT_ONCE_FOR_ALL),
        number(&MINUTES_PER_DAY),
        number(&ALL_MINUTES_PER_DAY),
        (ENDPOINTS, json!({"range": null, "default": DEFAULT_ENDPOINTS})),
        (OPENAI_BASE_URL, json!({"range": null, "default": DEFAULT_BASE_URL})),
        (AUTH_SUBJECT_CLAIM, json!({"range": null, "default": DEFAULT_CLAIM})),
        (TOKEN_PREFIX, json!({"range": null, "default": openai::TOKEN_PREFIX})),
        (LOG_LEVEL, json!({"range": null, "default": DEFAULT_LEVEL.as_str()})),
    ]);
    let described = COMMENTS.iter().map(|(name, lines)| {
        let mut value = values.remove(name).unwrap_or(json!({"range": null, "default": null}));
        value["name"] = (*name).into();
        value["comment"] = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").into();
        value
    });
    described.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_lookup(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn sentence(name: &str, value: &str) -> String {
        config(&[(name, value)]).expect_err("this value is out of range").to_string()
    }

    #[test]
    fn an_unset_variable_takes_its_documented_default() {
        for empty in [&[][..], &[("OPENAI_SECRET_ARN", ""), ("MODEL", " "), ("ALLOWED_ORIGINS", "")]] {
            let config = config(empty).unwrap();
            assert!(matches!(config.key_source, Source::Nowhere));
            assert_eq!(config.base_url.as_str(), "https://api.openai.com/v1");
            assert_eq!((config.model, config.voice), (None, None));
            assert_eq!(config.token_ttl, Duration::from_secs(3600));
            assert_eq!(config.key_ttl, Duration::from_secs(300));
            assert_eq!(config.allowed_origins, Origins::Any);
            assert_eq!(config.auth_subject_claim, "sub");
            assert_eq!(config.table, None);
            assert_eq!(config.endpoints, Endpoints { token: true, call: true });
            assert_eq!(config.log_level, Level::INFO);
        }
    }

    #[test]
    fn a_limit_of_zero_is_off() {
        let limits = |variables: &[(&str, &str)]| config(variables).unwrap().limits;
        let on = |per_minute, per_day, all_callers_per_day| {
            let [per_minute, per_day, all_callers_per_day] =
                [per_minute, per_day, all_callers_per_day].map(NonZeroU32::new);
            Limits { per_minute, per_day, all_callers_per_day }
        };
        assert_eq!(limits(&[]), on(10, 200, 5000));
        assert_eq!(limits(&[("QUOTA_PER_DAY", "0")]), on(10, 0, 5000));
        let off = [("QUOTA_PER_MINUTE", "0"), ("QUOTA_PER_DAY", "0"), ("DAILY_MINT_LIMIT", "0")];
        assert_eq!((limits(&off), limits(&off).any()), (on(0, 0, 0), false));
    }

    #[test]
    fn calls_are_limited_unless_a_limit_is_zero() {
        let limits = |variables: &[(&str, &str)]| config(variables).unwrap().call_limits;
        let CallLimits { longest, at_once, at_once_for_all, minutes_per_day, daily_minutes } = limits(&[]);
        assert_eq!((longest, at_once_for_all), (Duration::from_secs(600), 25));
        assert_eq!([at_once, minutes_per_day, daily_minutes].map(|limit| limit.unwrap().get()), [1, 60, 1500]);
        let off = [("CALLS_AT_ONCE", "0"), ("CALL_MINUTES_PER_DAY", "0"), ("DAILY_CALL_MINUTES", "0")];
        let CallLimits { at_once, minutes_per_day, daily_minutes, .. } = limits(&off);
        assert_eq!([at_once, minutes_per_day, daily_minutes], [None; 3]);
        assert!(sentence("CALLS_AT_ONCE_FOR_ALL", "0").contains("a whole number of calls from 1 to 1000"));
        assert!(sentence("MAX_CALL_SECONDS", "9").contains("a whole number of seconds from 10 to 3600"));
    }

    #[test]
    fn one_endpoint_or_both_are_open() {
        let endpoints = |value: &str| config(&[("ENDPOINTS", value)]).unwrap().endpoints;
        assert_eq!(endpoints("both"), endpoints(""));
        assert_eq!(endpoints("token"), Endpoints { token: true, call: false });
        assert_eq!(endpoints("call"), Endpoints { token: false, call: true });
        assert_eq!(sentence("ENDPOINTS", "calls"), "ENDPOINTS is \"calls\": expected token, call or both");
    }

    #[test]
    fn an_empty_prefix_accepts_any_token_and_an_unset_one_does_not() {
        let prefix = |variables: &[(&str, &str)]| config(variables).unwrap().token_prefix;
        assert_eq!(prefix(&[]), "ek_");
        for (value, expected) in [("", ""), (" ", ""), ("vcst_", "vcst_"), (" ek_ ", "ek_"), ("a.b-C_9", "a.b-C_9")] {
            assert_eq!(prefix(&[("TOKEN_PREFIX", value)]), expected, "{value:?}");
        }
        for refused in ["ek_*", "e k", "\u{e9}k_", &"x".repeat(33)] {
            assert!(sentence("TOKEN_PREFIX", refused).contains("up to 32 letters, digits and _-."), "{refused}");
        }
    }

    #[test]
    fn a_secret_takes_precedence_over_a_key() {
        let both = config(&[("OPENAI_SECRET_ARN", "arn:x"), ("OPENAI_API_KEY", "sk-x")]).unwrap();
        assert!(matches!(both.key_source, Source::SecretsManager(arn) if arn == "arn:x"));
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_fault_and_range() {
        assert_eq!(
            sentence("TOKEN_TTL_SECONDS", "9"),
            "TOKEN_TTL_SECONDS is \"9\": expected a whole number of seconds from 10 to 7200"
        );
        for value in ["7201", "-1", "1h", "9.5", "7200.5", "-0.5", "NaN", "inf", "1e400", "99999999999999999999"] {
            assert!(sentence("TOKEN_TTL_SECONDS", value).contains(value));
        }
        assert!(sentence("KEY_TTL_SECONDS", "86401").contains("0 to 86400"));
        assert_eq!(
            sentence("QUOTA_PER_DAY", "-1"),
            "QUOTA_PER_DAY is \"-1\": expected a whole number of tokens from 0 to 1000000"
        );
        assert!(sentence("VOICE", "nova").contains("alloy, ash"));
        assert!(sentence("MODEL", "a model").contains("MODEL is \"a model\""));
        assert_eq!(
            sentence("PROXY_ADDRESS_HEADER", "X-Real-IP:"),
            format!("PROXY_ADDRESS_HEADER is \"X-Real-IP:\": expected {HEADER_NAME}")
        );
        assert_eq!(
            sentence("AUTH_SUBJECT_CLAIM", "user id"),
            format!("AUTH_SUBJECT_CLAIM is \"user id\": expected {CLAIM_NAME}")
        );
        assert!(sentence("LOG_LEVEL", "VERBOSE").ends_with("expected ERROR, WARN, INFO, DEBUG or TRACE"));
    }

    #[test]
    fn a_number_is_accepted_in_any_spelling_and_rounded_up() {
        for (value, seconds) in
            [("60", 60), ("0060", 60), ("+60", 60), ("60.0", 60), ("6e1", 60), ("59.01", 60), ("7199.5", 7200)]
        {
            let config = config(&[("TOKEN_TTL_SECONDS", value)]).unwrap();
            assert_eq!(config.token_ttl, Duration::from_secs(seconds), "{value}");
        }
        let of = |value| {
            let config = config(&[("QUOTA_TABLE", "t"), ("QUOTA_PER_DAY", value)]).unwrap();
            config.limits.per_day.map(NonZeroU32::get)
        };
        assert_eq!((of("0.01"), of("0"), of("-0"), of("0.0")), (Some(1), None, None, None));
    }

    #[test]
    fn the_key_is_never_sent_unencrypted() {
        for taken in [
            "http://127.0.0.1:8081/v1/",
            "http://localhost/v1",
            "http://[::1]:9/v1",
            "https://example.openai.azure.com/openai/v1",
        ] {
            let config = config(&[("OPENAI_BASE_URL", taken)]).unwrap();
            assert_eq!(config.base_url.as_str(), taken.trim_end_matches('/'));
        }
        for refused in [
            "http://api.openai.com/v1",
            "http://127.0.0.1.example.com/v1",
            "http://localhost.example.com/v1",
            "ftp://127.0.0.1/v1",
            "api.openai.com/v1",
            "https://user:hunter2@api.openai.com/v1",
            "https://api.openai.com/v1?key=hunter2",
            "https://api.openai.com/v1#x",
            "https:///v1",
            "HTTPS://api.openai.com/v1",
            "https:\\\\api.openai.com/v1",
            "https://api.openai.com./v1",
            "https://api.ope\tnai.com/v1",
            "https://b\u{fc}cher.example/v1",
            "https://api.openai.com:0443/v1",
            "https://[2001:db8::1]/v1",
            "https://1.2.3.04/v1",
            "https://127.1/v1",
            "https://api.openai.com/v1@",
            "https://api.openai.com/v 1",
        ] {
            let sentence = sentence("OPENAI_BASE_URL", refused);
            assert!(sentence.starts_with("OPENAI_BASE_URL "), "{sentence}");
            assert!(!sentence.contains("hunter2"), "{sentence}");
        }
    }

    #[test]
    fn a_malformed_key_is_refused_and_never_quoted() {
        let sentence = sentence("OPENAI_API_KEY", "sk-hunter2 and more");
        assert!(sentence.starts_with("OPENAI_API_KEY has spaces"), "{sentence}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
        let debug = format!("{:?}", config(&[("OPENAI_API_KEY", "sk-hunter2")]).unwrap());
        assert!(!debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn a_placeholder_for_the_key_is_reported_as_one() {
        for placeholder in [
            "sk-…",
            "sk-...",
            "sk-proj-…",
            "<key>",
            "sk-<your key>",
            "your-key",
            "YOUR_OPENAI_API_KEY",
            "sk-xxxx",
            "sk-***",
        ] {
            assert_eq!(
                sentence("OPENAI_API_KEY", placeholder),
                "OPENAI_API_KEY still has a placeholder in it: expected your own OpenAI API key in its place"
            );
        }
        for key in ["sk-simulated", "sk-proj-1Your2", "sk-x", "abc.def..ghi"] {
            assert!(config(&[("OPENAI_API_KEY", key)]).is_ok(), "{key}");
        }
    }

    #[test]
    fn origins_are_accepted_as_browsers_send_them() {
        let read = |value| config(&[("ALLOWED_ORIGINS", value)]).unwrap().allowed_origins;
        for any in ["*", "*, *", ","] {
            assert_eq!(read(any), Origins::Any);
        }
        let only = [
            "https://app.example.com",
            "http://localhost:5173",
            "http://127.0.0.1:8080",
            "http://[::1]:5173",
            "https://xn--bcher-kva.example",
            "https://app.example.com:80",
        ];
        assert_eq!(read(&only.join(", ")), Origins::Only(only.map(str::to_owned).to_vec()));
    }

    #[test]
    fn an_origin_that_browsers_do_not_send_stops_the_start_and_is_corrected() {
        for (value, fault) in [
            (
                "https://app.example.com/",
                "has \"https://app.example.com/\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "https://app.example.com/login",
                "has \"https://app.example.com/login\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "https://app.example.com?x",
                "has \"https://app.example.com?x\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "https://me@app.example.com",
                "has \"https://me@app.example.com\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "https://App.Example.com",
                "has \"https://App.Example.com\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "https://app.example.com:443",
                "has \"https://app.example.com:443\" in it (did you mean \"https://app.example.com\"?)",
            ),
            (
                "http://app.example.com:80",
                "has \"http://app.example.com:80\" in it (did you mean \"http://app.example.com\"?)",
            ),
            (
                "https://bücher.example",
                "has \"https://bücher.example\" in it (did you mean \"https://xn--bcher-kva.example\"?)",
            ),
            ("app.example.com", "has \"app.example.com\" in it (did you mean \"https://app.example.com\"?)"),
            ("127.0.0.1:5173", "has \"127.0.0.1:5173\" in it (did you mean \"http://127.0.0.1:5173\"?)"),
            ("localhost:5173", "has \"localhost:5173\" in it (did you mean \"http://localhost:5173\"?)"),
            ("https://app.example.com:65536", "has \"https://app.example.com:65536\" in it"),
            ("https://*.example.com", "has \"https://*.example.com\" in it"),
            ("https://*", "has \"https://*\" in it"),
            ("*,https://app.example.com", "has \"*\" in it"),
            ("capacitor://localhost", "has \"capacitor://localhost\" in it"),
            ("null", "has \"null\" in it"),
            ("https://app.example.com,", "has an empty entry"),
            ("https://a.example,,https://b.example", "has an empty entry"),
            ("https://", "has \"https://\" in it"),
            ("http://[localhost]", "has \"http://[localhost]\" in it"),
        ] {
            let expected = format!("ALLOWED_ORIGINS {fault}: expected {ORIGINS}");
            assert_eq!(sentence("ALLOWED_ORIGINS", value), expected);
        }
    }

    #[test]
    fn the_template_offers_exactly_the_known_voices() {
        let template = include_str!("../../template.yaml");
        let section = template.split("\n  Voice:\n").nth(1).unwrap();
        let offered = section.lines().find_map(|line| line.trim().strip_prefix("AllowedValues: ")).unwrap();
        assert_eq!(offered, format!("[\"\", {}]", VOICES.join(", ")));
    }

    proptest::proptest! {
        /// The URL standard defines the origin that a browser sends.
        #[test]
        fn every_origin_of_a_web_page_is_accepted(
            scheme in "https?",
            host in "[a-zA-Z0-9][a-zA-Z0-9-]{0,6}(\\.[a-z][a-z0-9]{0,5}){0,2}|[0-9]{1,3}\\.0\\.0\\.1|\\[[0-9a-fA-F]{1,4}::[0-9]{1,4}\\]",
            port in proptest::option::of(proptest::num::u16::ANY),
            path in "(/[a-z]*)?",
        ) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let Ok(page) = Url::parse(&format!("{scheme}://{host}{port}{path}")) else { return Ok(()) };
            let origin = page.origin().ascii_serialization();
            proptest::prop_assume!(page.port() != Some(0));
            proptest::prop_assert!(is_origin(&origin), "{}", origin);
        }
    }
}

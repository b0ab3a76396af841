//! The table of refusals: the status, the code and the sentences for each cause.

use std::time::Duration;

use http::{StatusCode, header};
use serde::Serialize;

use super::{answer::Answer, event::EventError, rate_limit};
use crate::{
    admission::{
        AdmissionError,
        quota::{LimitStatus, QuotaError, QuotaStatus},
        sign_in::NoSubject,
    },
    calls::{BookingError, hang_up::HangUpError, sdp::Broken},
    net::clock::whole_seconds,
    openai::{OpenAiError, Refused},
    record,
};

/// Why a request gets neither a token nor a call.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the event is not an HTTP request")]
    NoRequest(#[source] EventError),
    #[error("the path is not a route")]
    NotFound,
    #[error("the method is not {0}")]
    MethodNotAllowed(&'static str),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error("OpenAI did not create a session")]
    OpenAi(#[from] OpenAiError),
    #[error("the offer is not allowed")]
    OfferNotAllowed(#[source] Broken),
    #[error("the call is not booked")]
    Booking(#[from] BookingError),
    #[error("OpenAI cannot answer the offer")]
    RejectedOffer(#[source] OpenAiError),
    #[error("OpenAI may have opened the call")]
    CallUncertain {
        #[source]
        error: OpenAiError,
        /// Until the booking ends.
        retry_after: Duration,
    },
    #[error("OpenAI's answer is not a usable call: {fault}")]
    UnusableCall {
        /// The fault of the answer, as a clause.
        fault: &'static str,
        /// Until the booking ends, if the call may be open.
        retry_after: Option<Duration>,
    },
    #[error("the operator ended the call while OpenAI was asked")]
    EndedByOperator,
    #[error("the caller has no such call")]
    CallNotFound,
    #[error("the call is not known to be over")]
    HangUp(#[source] HangUpError),
}

struct Row {
    status: StatusCode,
    code: &'static str,
    error: &'static str,
    details: String,
    message: &'static str,
}

/// Advice for the user of a page, which is in `message`.
const TRY_AGAIN: &str = "Please try again in a few moments";
const AFTER_THE_WAIT: &str = "Please try again after the number of seconds in Retry-After";
const TELL_THE_OPERATOR: &str = "Please tell the operator of this service; trying again will not help";

/// `Retry-After` for a rate limit of OpenAI that says no time.
const BUSY_DEFAULT: Duration = Duration::from_secs(5);

impl Refusal {
    fn row(&self) -> Row {
        const NO_SESSION: &str = "Failed to create OpenAI session";
        let row = |status, code, error, details: &str, message| Row {
            status,
            code,
            error,
            details: details.to_owned(),
            message,
        };
        let blocked = || {
            let details = "The operator of this service has blocked you";
            row(StatusCode::FORBIDDEN, "caller_blocked", "Caller blocked", details, TELL_THE_OPERATOR)
        };
        let ended_by_operator = |details| {
            row(StatusCode::SERVICE_UNAVAILABLE, "ended_by_operator", "Ended by the operator", details, TRY_AGAIN)
        };
        let returned = |refused: &Refused| format!("OpenAI API returned {}", refused.status.as_u16());
        match self {
            Self::NoRequest(error) => row(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Invalid request",
                &match error {
                    EventError::NotARequest => "The event is not a caller's request from an HTTP API, a REST API, a \
                                                function URL or a load balancer"
                        .to_owned(),
                    EventError::Field(field) => format!("Invalid value in the event's field '{field}'"),
                },
                r#"Test with the event {"httpMethod": "POST", "body": "{}"}"#,
            ),
            Self::Admission(AdmissionError::InvalidRequest(fault)) => row(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Invalid request",
                &fault.to_string(),
                "Correct the request and send it again",
            ),
            Self::Admission(AdmissionError::OriginNotAllowed) => row(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "Origin not allowed",
                "Pages of this origin may request neither tokens nor calls",
                "Open the application at its own address, or ask its operator to allow this origin",
            ),
            Self::NotFound => row(
                StatusCode::NOT_FOUND,
                "not_found",
                "Not found",
                "Unknown path; tokens are at /token, calls at /call",
                "Send the request to /token or /call",
            ),
            Self::MethodNotAllowed(method) => {
                let (details, message) = match *method {
                    "DELETE" => ("A call is ended with DELETE only", "Send the request again, and use DELETE"),
                    _ => ("Tokens and calls are requested with POST only", "Send the request again, and use POST"),
                };
                row(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", details, message)
            }
            Self::Admission(AdmissionError::BodyTooLarge { limit }) => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                "Request too large",
                &format!("The body is larger than {limit} KiB"),
                "Send a smaller body",
            ),
            Self::Admission(AdmissionError::NoSubject(error)) => row(
                StatusCode::FORBIDDEN,
                "no_subject",
                "Sign-in without a subject",
                &format!("The sign-in does not say who you are: {error}"),
                match error {
                    NoSubject::Claim(_) => {
                        "Please tell the operator of this service: the issuer must add that claim (Keycloak 25 and later: \
                         client scope basic), or AuthSubjectClaim must name another one"
                    }
                    NoSubject::Nameless => TELL_THE_OPERATOR,
                    NoSubject::Unverified => {
                        "Please tell the operator of this service: let users sign in at an API Gateway instead"
                    }
                },
            ),
            Self::Admission(AdmissionError::NotThroughProxy(_)) => row(
                StatusCode::FORBIDDEN,
                "proxy_required",
                "Proxy required",
                "Requests must come through the proxy of this service",
                "Open the application at its own address, or tell the operator of this service",
            ),
            Self::Admission(AdmissionError::CallerBlocked) => blocked(),
            Self::Admission(AdmissionError::Quota(error)) => match error {
                QuotaError::Exceeded(status) => row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "quota_exceeded",
                    "Quota exceeded",
                    &quota_sentence(status),
                    AFTER_THE_WAIT,
                ),
                QuotaError::DailyLimit { .. } => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "daily_limit_reached",
                    "Daily limit reached",
                    "All of today's tokens are used up; the next day begins at midnight UTC",
                    "Please try again tomorrow, or tell the operator of this service",
                ),
                QuotaError::Unavailable(_) => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "quota_unavailable",
                    "Quota unavailable",
                    "The quota cannot be checked, so no token is issued",
                    TRY_AGAIN,
                ),
            },
            Self::Admission(AdmissionError::TooLate) => row(
                StatusCode::GATEWAY_TIMEOUT,
                "openai_timeout",
                NO_SESSION,
                "No time was left to ask the OpenAI API",
                TRY_AGAIN,
            ),
            Self::Admission(AdmissionError::Secret(_) | AdmissionError::SecretTooLate) => row(
                StatusCode::SERVICE_UNAVAILABLE,
                "key_unavailable",
                NO_SESSION,
                "The OpenAI API key is not set or cannot be read",
                "Please try again in a few moments; if that does not help, tell the operator of this service",
            ),
            Self::OfferNotAllowed(broken) => row(
                StatusCode::BAD_REQUEST,
                "offer_not_allowed",
                "Offer not allowed",
                &format!("The offer breaks a rule of the profile: {broken}"),
                "Correct the offer and send it again",
            ),
            Self::Booking(error) => match error {
                BookingError::CallsAtOnce { .. } => row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "calls_at_once",
                    "Too many calls at once",
                    "You have as many calls open as you may; a call that was not ended counts until its end",
                    "End your other call, or try again after the number of seconds in Retry-After",
                ),
                BookingError::BusyLines { .. } => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "busy_lines",
                    "All lines are busy",
                    "All callers together have as many calls open as they may",
                    AFTER_THE_WAIT,
                ),
                BookingError::MinutesExceeded { .. } => row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "minutes_exceeded",
                    "Minutes exceeded",
                    "Your minutes of today do not suffice for another call; an open call counts with its longest possible length",
                    "End your other call, or try again tomorrow; the next day begins at midnight UTC",
                ),
                BookingError::DailyMinutes { .. } => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "daily_minutes_reached",
                    "Daily minutes reached",
                    "Today's minutes of all callers do not suffice for another call; the next day begins at midnight UTC",
                    "Please try again tomorrow, or tell the operator of this service",
                ),
                BookingError::Closed => blocked(),
                BookingError::AllClosed => {
                    ended_by_operator("The operator of this service has ended all calls, and accepts no new ones yet")
                }
                BookingError::Unavailable(_) => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "quota_unavailable",
                    "Quota unavailable",
                    "The calls cannot be counted, so none is made or ended",
                    TRY_AGAIN,
                ),
            },
            Self::RejectedOffer(error) => row(
                StatusCode::BAD_REQUEST,
                "openai_rejected_offer",
                NO_SESSION,
                &format!(
                    "OpenAI API returned {}: it cannot answer this SDP offer",
                    error.status().map(|status| status.as_u16()).unwrap_or_default()
                ),
                "Send the browser's offer unchanged, with its line ends",
            ),
            Self::CallUncertain { .. } => row(
                StatusCode::GATEWAY_TIMEOUT,
                "call_uncertain",
                NO_SESSION,
                "It is unknown whether OpenAI API has opened the call, so the call counts until its end",
                AFTER_THE_WAIT,
            ),
            Self::UnusableCall { retry_after, .. } => row(
                StatusCode::BAD_GATEWAY,
                "openai_answer_invalid",
                NO_SESSION,
                "OpenAI's response did not contain a usable call",
                if retry_after.is_some() { AFTER_THE_WAIT } else { TRY_AGAIN },
            ),
            Self::EndedByOperator => ended_by_operator("The operator of this service has ended the call"),
            Self::CallNotFound => row(
                StatusCode::NOT_FOUND,
                "call_not_found",
                "Call not found",
                "You have no such call",
                "Use the name from the answer to your own request for the call",
            ),
            Self::HangUp(_) => row(
                StatusCode::BAD_GATEWAY,
                "hang_up_failed",
                "Failed to end the call",
                "OpenAI API did not end the call; the call ends at `expiresAt` at the latest",
                TRY_AGAIN,
            ),
            Self::OpenAi(error) => match error {
                OpenAiError::RejectedKey(refused) => {
                    row(StatusCode::BAD_GATEWAY, "openai_rejected_key", NO_SESSION, &returned(refused), TRY_AGAIN)
                }
                OpenAiError::Forbidden(refused) => {
                    row(StatusCode::BAD_GATEWAY, "openai_forbidden", NO_SESSION, &returned(refused), TELL_THE_OPERATOR)
                }
                OpenAiError::RejectedSession(refused) => row(
                    StatusCode::BAD_GATEWAY,
                    "openai_rejected_session",
                    NO_SESSION,
                    &returned(refused),
                    TELL_THE_OPERATOR,
                ),
                OpenAiError::OutOfQuota(refused) => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "openai_out_of_quota",
                    NO_SESSION,
                    &format!("{}: the account is out of quota", returned(refused)),
                    TELL_THE_OPERATOR,
                ),
                OpenAiError::Busy(refused) => row(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "openai_busy",
                    NO_SESSION,
                    &format!("{}: too many requests", returned(refused)),
                    TRY_AGAIN,
                ),
                OpenAiError::Unavailable(refused) => {
                    row(StatusCode::BAD_GATEWAY, "openai_unavailable", NO_SESSION, &returned(refused), TRY_AGAIN)
                }
                OpenAiError::Unreachable(_) => row(
                    StatusCode::BAD_GATEWAY,
                    "openai_unavailable",
                    NO_SESSION,
                    "OpenAI API could not be reached",
                    TRY_AGAIN,
                ),
                OpenAiError::Timeout => row(
                    StatusCode::GATEWAY_TIMEOUT,
                    "openai_timeout",
                    NO_SESSION,
                    "OpenAI API did not answer in time",
                    TRY_AGAIN,
                ),
                OpenAiError::InvalidAnswer(_) => row(
                    StatusCode::BAD_GATEWAY,
                    "openai_answer_invalid",
                    NO_SESSION,
                    "OpenAI's response did not contain a valid token",
                    TRY_AGAIN,
                ),
            },
        }
    }

    /// The refusal for the record: the code, the cause, and OpenAI's status and code if OpenAI refused.
    pub fn refused(&self) -> record::Refused<'_> {
        let openai = match self {
            Self::OpenAi(error)
            | Self::RejectedOffer(error)
            | Self::CallUncertain { error, .. }
            | Self::HangUp(HangUpError::Failed(error)) => Some(error),
            _ => None,
        };
        let (status, code) = (openai.and_then(OpenAiError::status), openai.and_then(OpenAiError::code));
        record::Refused {
            code: self.row().code,
            cause: record::causes(self),
            openai_status: status.map(|status| status.as_u16()),
            openai_code: code.and_then(|code| code.code.as_deref()),
            openai_param: code.and_then(|code| code.param.as_deref()),
        }
    }

    /// The time that the caller should wait, if it is known.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Admission(AdmissionError::Quota(QuotaError::Exceeded(status))) => Some(status.retry_after()),
            Self::Admission(AdmissionError::Quota(QuotaError::DailyLimit { retry_after })) => Some(*retry_after),
            Self::CallUncertain { retry_after, .. }
            | Self::Booking(
                BookingError::CallsAtOnce { retry_after }
                | BookingError::BusyLines { retry_after }
                | BookingError::MinutesExceeded { retry_after }
                | BookingError::DailyMinutes { retry_after },
            ) => Some(*retry_after),
            Self::UnusableCall { retry_after, .. } => *retry_after,
            Self::OpenAi(error @ OpenAiError::Busy(_)) => Some(error.wait().unwrap_or(BUSY_DEFAULT)),
            Self::OpenAi(error @ OpenAiError::Unavailable(_)) => error.wait(),
            _ => None,
        }
    }

    /// The refusal for the caller.
    pub fn answer(&self, request_id: &str) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            success: bool,
            code: &'a str,
            error: &'a str,
            details: &'a str,
            message: &'a str,
            request_id: &'a str,
        }

        let Row { status, code, error, details, message } = self.row();
        let body = Body { success: false, code, error, details: &details, message, request_id };
        let mut answer = Answer::json(status, &body);
        if let Self::MethodNotAllowed(method) = self {
            answer.headers.push((header::ALLOW, (*method).to_owned()));
        }
        if let Self::Admission(AdmissionError::Quota(QuotaError::Exceeded(status))) = self {
            answer.headers.extend(rate_limit::headers(status));
        }
        if let Some(wait) = self.retry_after() {
            answer.headers.push((header::RETRY_AFTER, whole_seconds(wait).max(1).to_string()));
        }
        answer
    }
}

fn quota_sentence(status: &QuotaStatus) -> String {
    let limits = status.limits.iter().map(|LimitStatus { limit, name, .. }| format!("{limit} per {name}"));
    let limits = limits.collect::<Vec<_>>().join(" and ");
    format!("The limit is {limits}; the next token is available in {} s", status.retry_after().as_secs())
}

/// The status and code of each refusal, sorted.
#[cfg(test)]
pub(crate) fn describe() -> serde_json::Value {
    use crate::{
        admission::{
            proxy::ProxyError,
            quota::QuotaError::{DailyLimit, Exceeded, Unavailable as TableUnavailable},
        },
        aws::dynamodb::TableError,
        openai::OpenAiError as OpenAi,
        profile::InvalidRequest,
    };

    // A new kind of refusal does not compile until it is in both lists.
    let known = |refusal: &Refusal| match refusal {
        Refusal::NoRequest(_)
        | Refusal::NotFound
        | Refusal::MethodNotAllowed(_)
        | Refusal::OfferNotAllowed(_)
        | Refusal::RejectedOffer(_)
        | Refusal::CallUncertain { .. }
        | Refusal::UnusableCall { .. }
        | Refusal::EndedByOperator
        | Refusal::CallNotFound
        | Refusal::HangUp(_) => {}
        Refusal::Booking(
            BookingError::CallsAtOnce { .. }
            | BookingError::BusyLines { .. }
            | BookingError::MinutesExceeded { .. }
            | BookingError::DailyMinutes { .. }
            | BookingError::Closed
            | BookingError::AllClosed
            | BookingError::Unavailable(_),
        ) => {}
        Refusal::Admission(error) => match error {
            AdmissionError::InvalidRequest(_)
            | AdmissionError::OriginNotAllowed
            | AdmissionError::BodyTooLarge { .. }
            | AdmissionError::NoSubject(_)
            | AdmissionError::NotThroughProxy(_)
            | AdmissionError::CallerBlocked
            | AdmissionError::Secret(_)
            | AdmissionError::SecretTooLate
            | AdmissionError::TooLate
            | AdmissionError::Quota(Exceeded(_) | DailyLimit { .. } | TableUnavailable(_)) => {}
        },
        Refusal::OpenAi(
            OpenAi::RejectedKey(_)
            | OpenAi::Forbidden(_)
            | OpenAi::RejectedSession(_)
            | OpenAi::OutOfQuota(_)
            | OpenAi::Busy(_)
            | OpenAi::Unavailable(_)
            | OpenAi::Unreachable(_)
            | OpenAi::Timeout
            | OpenAi::InvalidAnswer(_),
        ) => {}
    };
    let refused = Refused::of(StatusCode::BAD_REQUEST);
    let unreachable = reqwest::Request::try_from(http::Request::new("")).unwrap_err();
    let retry_after = Duration::ZERO;
    let admission = [
        AdmissionError::InvalidRequest(InvalidRequest::NotJson),
        AdmissionError::OriginNotAllowed,
        AdmissionError::BodyTooLarge { limit: 16 },
        AdmissionError::NoSubject(NoSubject::Nameless),
        AdmissionError::NotThroughProxy(ProxyError::NotProved),
        AdmissionError::CallerBlocked,
        AdmissionError::Quota(Exceeded(QuotaStatus::default())),
        AdmissionError::Quota(DailyLimit { retry_after }),
        AdmissionError::Quota(TableUnavailable(TableError::Timeout)),
        AdmissionError::SecretTooLate,
        AdmissionError::TooLate,
    ];
    let openai = [
        OpenAi::RejectedKey(refused.clone()),
        OpenAi::Forbidden(refused.clone()),
        OpenAi::RejectedSession(refused.clone()),
        OpenAi::OutOfQuota(refused.clone()),
        OpenAi::Busy(refused.clone()),
        OpenAi::Unavailable(refused),
        OpenAi::Unreachable(unreachable),
        OpenAi::Timeout,
        OpenAi::InvalidAnswer(""),
    ];
    let booking = [
        BookingError::CallsAtOnce { retry_after },
        BookingError::BusyLines { retry_after },
        BookingError::MinutesExceeded { retry_after },
        BookingError::DailyMinutes { retry_after },
        BookingError::Closed,
        BookingError::AllClosed,
        BookingError::Unavailable(TableError::Timeout),
    ];
    let refusals = [
        Refusal::NoRequest(EventError::NotARequest),
        Refusal::NotFound,
        Refusal::MethodNotAllowed("POST"),
        Refusal::OfferNotAllowed(Broken::Audio),
        Refusal::RejectedOffer(OpenAi::RejectedSession(Refused::of(StatusCode::BAD_REQUEST))),
        Refusal::CallUncertain { error: OpenAi::Timeout, retry_after },
        Refusal::UnusableCall { fault: "", retry_after: None },
        Refusal::EndedByOperator,
        Refusal::CallNotFound,
        Refusal::HangUp(HangUpError::NotOurs),
    ];
    let refusals = refusals.into_iter().chain(booking.map(Refusal::Booking));
    let refusals = refusals.chain(admission.map(Refusal::Admission)).chain(openai.map(Refusal::OpenAi));
    let mut described: Vec<_> = refusals
        .inspect(known)
        .map(|refusal| {
            let Row { status, code, .. } = refusal.row();
            (status.as_u16(), code)
        })
        .collect();
    described.sort_unstable();
    described.dedup();
    described.into_iter().map(|(status, code)| serde_json::json!({"status": status, "code": code})).collect()
}

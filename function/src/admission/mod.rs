//! Admission: one order of checks for every route, on values that do not depend on HTTP.

mod caller;
mod counter;
mod everyone;
mod ledger;
pub mod origin;
pub(crate) mod proxy;
pub mod quota;
pub(crate) mod sign_in;
mod stock;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

#[cfg(test)]
pub(crate) use self::stock::describe as describe_daily_limit;
use self::{
    caller::Caller,
    origin::Origins,
    proxy::{HeaderValues, Proxy, ProxyError},
    quota::{Quota, QuotaError, Taken},
    sign_in::{NoSubject, SignIn},
};
use crate::{
    openai::WORTH_AN_ATTEMPT,
    profile::{InvalidRequest, Profiles, Session},
    record::RequestSummary,
    secret::{Secret, SecretError, SecretStore},
};

/// The largest body of a request for a token that is parsed, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// The largest body of a request for a call, in bytes. A browser's offer has some 2 KiB, or 8 KiB with video.
pub(crate) const MAX_CALL_BODY: usize = 64 * 1024;

/// The time that two updates of the table need at least.
const TWO_UPDATES: Duration = Duration::from_millis(100);

/// The time that must be left to count a token: the table and OpenAI are asked within it.
const WORTH_COUNTING: Duration = TWO_UPDATES.saturating_add(WORTH_AN_ATTEMPT);

/// The checks, and the values that they compare with.
#[derive(Debug)]
pub(crate) struct Admission {
    pub origins: Origins,
    pub profiles: Profiles,
    pub secret: Arc<SecretStore>,
    /// The claim of a sign-in that names the caller.
    pub subject_claim: String,
    /// `None`: callers reach the gateway themselves.
    pub proxy: Option<Proxy>,
    /// `None`: tokens are not counted.
    pub quota: Option<Quota>,
}

/// The origin of a request: the parts that tell who sent it.
#[derive(Debug)]
pub(crate) struct Applicant<'a> {
    /// The values of all `Origin` headers.
    pub origins: &'a [String],
    pub headers: &'a dyn HeaderValues,
    pub sign_in: &'a SignIn,
    /// The address that the gateway or the load balancer saw.
    pub source: Option<&'a str>,
}

/// What the caller asks for.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// A token, by the body of the request.
    Token(&'a [u8]),
    /// A call.
    Call {
        /// The size of the body, in bytes.
        size: usize,
        /// The fields, and the names of those that are texts.
        fields: Result<(&'a Map<String, Value>, &'a BTreeSet<String>), &'a InvalidRequest>,
    },
}

/// An identified caller, and the secret.
#[derive(Debug)]
pub(crate) struct Known {
    /// The caller's safety identifier.
    pub caller: String,
    pub secret: Arc<Secret>,
}

/// A request that passed every check, and was counted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub session: Session,
    /// The caller's safety identifier.
    pub caller: String,
    pub secret: Arc<Secret>,
    /// The token that was counted.
    pub taken: Taken,
}

/// Why a request is not admitted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error("the origin is not allowed")]
    OriginNotAllowed,
    #[error("the body is too large")]
    BodyTooLarge {
        /// In KiB.
        limit: usize,
    },
    #[error("the body is not a valid request")]
    InvalidRequest(InvalidRequest),
    #[error("the sign-in names no caller")]
    NoSubject(#[source] NoSubject),
    #[error("there is no API key")]
    Secret(#[source] SecretError),
    #[error("the secret was not read in time")]
    SecretTooLate,
    #[error("the request did not come through the proxy")]
    NotThroughProxy(#[source] ProxyError),
    #[error("the caller is blocked")]
    CallerBlocked,
    #[error("no token could be taken from the quota")]
    Quota(#[source] QuotaError),
    #[error("too little time was left to count a token and to ask OpenAI")]
    TooLate,
}

impl Admission {
    /// Fetches the secret and opens the connection to the quota table ahead of the first request. A step
    /// that fails here is tried again with that request.
    pub async fn warm(&self) {
        let quota = async {
            if let Some(quota) = &self.quota {
                quota.warm().await;
            }
        };
        let (secret, ()) = tokio::join!(self.secret.current(), quota);
        if let Err(error) = secret {
            warn!(%error, "no key was found; the next request tries again");
        }
    }

    /// Checks a request, cheapest checks first, and counts it as the last step. The results of the checks go into
    /// `summary`, even if the request is not admitted.
    ///
    /// # Errors
    /// If a check fails, or does not end by `deadline`.
    pub async fn admit(
        &self,
        applicant: &Applicant<'_>,
        asked: &Asked<'_>,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Admitted, AdmissionError> {
        let session = self.session(applicant, asked)?;
        let signed_in = applicant.sign_in.caller(&self.subject_claim).map_err(AdmissionError::NoSubject)?;
        summary.profile = Some(session.profile.clone());
        summary.model.clone_from(&session.model);
        debug!(profile = session.profile, model = session.model, "the request is valid");

        let Known { caller, secret } = self.know(applicant, signed_in, deadline, summary).await?;
        if secret.blocks(&caller) && self.is_blocked_now(&caller, deadline).await {
            return Err(AdmissionError::CallerBlocked);
        }
        let taken = self.take_quota(&caller, deadline, &mut summary.quota_time).await?;
        Ok(Admitted { session, caller, secret, taken })
    }

    /// Identifies the caller of a request that spends nothing, such as the end of a call. A blocked caller may do that, too.
    ///
    /// # Errors
    /// If a check fails, or does not end by `deadline`.
    pub async fn identify(
        &self,
        applicant: &Applicant<'_>,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Known, AdmissionError> {
        if !self.origins.allow(applicant.origins) {
            return Err(AdmissionError::OriginNotAllowed);
        }
        let signed_in = applicant.sign_in.caller(&self.subject_claim).map_err(AdmissionError::NoSubject)?;
        self.know(applicant, signed_in, deadline, summary).await
    }

    async fn know(
        &self,
        applicant: &Applicant<'_>,
        signed_in: Option<Caller>,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Known, AdmissionError> {
        let secret = timeout_at(deadline, self.secret.current()).await.map_err(|_| AdmissionError::SecretTooLate)?;
        let secret = secret.map_err(AdmissionError::Secret)?;
        let age = *summary.key_age.insert(secret.read.elapsed());
        debug!(ageSeconds = age.as_secs(), "the key is available");

        let known = self.caller(applicant, signed_in, &secret, deadline).await;
        let known = known.map_err(AdmissionError::NotThroughProxy)?;
        let caller = known.safety_identifier(secret.identifier_key.expose_secret());
        summary.caller = Some(caller.clone());
        debug!(caller, knownBy = known.known_by(), "the caller is identified");
        Ok(Known { caller, secret })
    }

    /// Ends the counting of a request after OpenAI answered. `made_no_token`: OpenAI certainly made none, so that the day
    /// does not count it.
    pub async fn settle(&self, taken: &mut Taken, made_no_token: bool, summary: &mut RequestSummary) {
        let Some(quota) = &self.quota else { return };
        let began = Instant::now();
        if made_no_token {
            quota.give_back(taken).await;
        }
        taken.finish().await;
        summary.quota_time = summary.quota_time.map(|time| time.saturating_add(began.elapsed()));
    }

    /// Checks again, just before the answer, whether the operator has blocked the caller meanwhile.
    ///
    /// # Errors
    /// If the caller is now blocked.
    pub async fn recheck(&self, admitted: &Admitted, deadline: Instant) -> Result<(), AdmissionError> {
        self.secret.wait_for_refresh(deadline).await;
        match self.secret.held() {
            // The list that was looked up for its admission is not looked up again.
            Some(newest) if !Arc::ptr_eq(&newest, &admitted.secret) && newest.blocks(&admitted.caller) => {
                Err(AdmissionError::CallerBlocked)
            }
            _ => Ok(()),
        }
    }

    /// The checks that need no other service.
    fn session(&self, applicant: &Applicant<'_>, asked: &Asked<'_>) -> Result<Session, AdmissionError> {
        if !self.origins.allow(applicant.origins) {
            return Err(AdmissionError::OriginNotAllowed);
        }
        let session = match *asked {
            Asked::Token(body) if body.len() > MAX_BODY => {
                return Err(AdmissionError::BodyTooLarge { limit: MAX_BODY / 1024 });
            }
            Asked::Token(body) => self.profiles.session(body),
            Asked::Call { size, .. } if size > MAX_CALL_BODY => {
                return Err(AdmissionError::BodyTooLarge { limit: MAX_CALL_BODY / 1024 });
            }
            Asked::Call { fields: Ok((fields, texts)), .. } => self.profiles.call_session(fields, texts),
            Asked::Call { fields: Err(fault), .. } => Err(fault.clone()),
        };
        session.map_err(AdmissionError::InvalidRequest)
    }

    /// The caller: the subject of the sign-in, or otherwise an address. In both cases a proxy must prove itself.
    async fn caller(
        &self,
        applicant: &Applicant<'_>,
        signed_in: Option<Caller>,
        secret: &Secret,
        deadline: Instant,
    ) -> Result<Caller, ProxyError> {
        let Some(proxy) = &self.proxy else {
            return Ok(signed_in.unwrap_or_else(|| Caller::from_source(applicant.source)));
        };
        if let Err(error) = proxy::prove(applicant.headers, secret) {
            // As with the block list, a secret that this request is reading in the background counts too.
            self.secret.wait_for_refresh(deadline).await;
            let newest = self.secret.held().ok_or(error)?;
            proxy::prove(applicant.headers, &newest)?;
        }
        match signed_in {
            Some(caller) => Ok(caller),
            None => proxy.address(applicant.headers).map(Caller::from_address),
        }
    }

    /// Whether the newest block list contains the caller. A list that this request is reading in the background counts too,
    /// so that an instance that was frozen does not use an old list for one more token or refusal. It nearly always arrives
    /// before OpenAI's answer.
    async fn is_blocked_now(&self, caller: &str, deadline: Instant) -> bool {
        self.secret.wait_for_refresh(deadline).await;
        self.secret.held().is_none_or(|newest| newest.blocks(caller))
    }

    /// Takes a token from the quotas, if tokens are counted, and sets `took` to the duration.
    async fn take_quota(
        &self,
        caller: &str,
        deadline: Instant,
        took: &mut Option<Duration>,
    ) -> Result<Taken, AdmissionError> {
        let Some(quota) = &self.quota else { return Ok(Taken::default()) };
        let began = Instant::now();
        if deadline.saturating_duration_since(began) < WORTH_COUNTING {
            return Err(AdmissionError::TooLate);
        }
        let taken = timeout_at(deadline, quota.take(caller, SystemTime::now())).await;
        *took = Some(began.elapsed());
        // The table has time-outs of its own: here, the request's time ended first.
        taken.map_err(|_| AdmissionError::TooLate)?.map_err(AdmissionError::Quota)
    }
}

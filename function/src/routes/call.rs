//! `POST /call`: the browser's offer becomes a call that the server ends. `DELETE /call/{handle}`: its caller ends it.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode, header};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::{
    admission::{Admission, AdmissionError, Admitted, Asked, Known},
    api::{answer::Answer, call_form::CallForm, rate_limit, refusal::Refusal, request::HttpRequest},
    calls::{
        Booking, Calls, Ending, GIVE_BACK, Handle, Made, State,
        hang_up::{Over, Receiver},
        sdp,
    },
    net::clock,
    openai::{Attempts, CallError, CallRequest, HungUp, MadeCall, OpenAi, OpenAiError},
    profile::CallRules,
    record::RequestSummary,
    routes::other_secret,
    secret::SecretStore,
};

/// The header with the moment at which the call is ended, in Unix seconds.
const EXPIRES_AT: HeaderName = HeaderName::from_static("call-expires-at");

/// The time that is reserved for hanging up a call that must not go on.
const RESERVE: Duration = Duration::from_secs(5);

/// The time that must be left before that for the booking and OpenAI's answer.
const WORTH_A_CALL: Duration = Duration::from_secs(1);

/// The longest that a caller waits for the end of a call. The keeper ends it otherwise.
const HANG_UP: Duration = Duration::from_secs(7);

/// Makes calls for admitted requests.
#[derive(Debug)]
pub struct CallRoute {
    pub openai: Arc<OpenAi>,
    pub secret: Arc<SecretStore>,
    pub calls: Arc<Calls>,
    pub receiver: Receiver,
}

/// OpenAI's name for a call.
#[derive(Clone, Copy)]
enum Name<'a> {
    Sure(&'a str),
    /// From an answer that cannot be used. It may be the name of another resource.
    Perhaps(&'a str),
}

/// Why a browser gets no call.
struct NoCall {
    refusal: Refusal,
    /// Whether OpenAI has made one, or may have.
    perhaps_made: bool,
}

impl NoCall {
    fn perhaps_made(refusal: Refusal) -> Self {
        Self { refusal, perhaps_made: true }
    }
}

impl From<Refusal> for NoCall {
    /// A refusal without any call.
    fn from(refusal: Refusal) -> Self {
        Self { refusal, perhaps_made: false }
    }
}

impl CallRoute {
    /// Answers an offer with a call, until `deadline` at the latest.
    ///
    /// # Errors
    /// If the request is not admitted, or there is no call.
    pub async fn answer(
        &self,
        admission: &Admission,
        request: &HttpRequest,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Answer, Refusal> {
        let form = CallForm::read(request);
        let fields = form.as_ref().map(|form| (&form.fields, &form.texts));
        let asked = Asked::Call { size: request.body.len(), fields };
        let mut admitted = admission.admit(&request.applicant(), &asked, deadline, summary).await?;
        let form = form.map_err(AdmissionError::InvalidRequest)?;
        let made = self.place(&form, &admitted, deadline, summary).await;
        let made_nothing = matches!(made, Err(NoCall { perhaps_made: false, .. }));
        admission.settle(&mut admitted.taken, made_nothing, summary).await;
        let (call, booking) = made.map_err(|no_call| no_call.refusal)?;
        if let Err(error) = admission.recheck(&admitted, deadline).await {
            self.drop_call(booking, Name::Sure(&call.id), &admitted, deadline).await;
            return Err(error.into());
        }
        summary.booked_seconds = Some(booking.record.ends.saturating_sub(booking.record.began));
        Ok(call_answer(&form, &admitted, call, &booking))
    }

    /// Checks the offer, books the call, and asks OpenAI for it.
    async fn place(
        &self,
        form: &CallForm,
        admitted: &Admitted,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<(MadeCall, Booking), NoCall> {
        let Admitted { session, caller, .. } = admitted;
        // Admission lets only profiles with calls through.
        let Some(CallRules { mode, max_seconds }) = session.call else { return Err(Refusal::NotFound.into()) };
        sdp::check(&form.offer, mode).map_err(Refusal::OfferNotAllowed)?;
        let began = Instant::now();
        let before_reserve = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        if before_reserve.saturating_duration_since(began) < WORTH_A_CALL {
            return Err(Refusal::from(AdmissionError::TooLate).into());
        }
        let booking = self.calls.book(caller, &session.profile, Duration::from_secs(max_seconds)).await;
        add(&mut summary.quota_time, began.elapsed());
        let mut booking = booking.map_err(Refusal::from)?;
        summary.call = Some(booking.handle.to_string());
        let mut attempts = Attempts::default();
        let made = self.call_with_fallback_key(form, admitted, before_reserve, &mut attempts).await;
        (summary.attempts, summary.openai_time) = (attempts.count, attempts.took);
        let began = Instant::now();
        let no_call = match made {
            Ok((call, made)) => match sdp::check_answer(&call.answer, mode) {
                Ok(()) if left(&booking).is_zero() => {
                    self.drop_call(booking, Name::Sure(&call.id), admitted, deadline).await;
                    NoCall::perhaps_made(Refusal::OpenAi(OpenAiError::Timeout))
                }
                Ok(()) => return self.confirm(call, made, booking, admitted, deadline, summary).await,
                Err(broken) => {
                    debug!(%broken, "the answer breaks the rules for the call's mode");
                    let retry_after = self.drop_call(booking, Name::Sure(&call.id), admitted, deadline).await;
                    let fault = "the SDP has other lines than the profile's calls may have";
                    NoCall::perhaps_made(Refusal::UnusableCall { fault, retry_after })
                }
            },
            Err(CallError::Unusable { fault, id: Some(id) }) => {
                let retry_after = self.drop_call(booking, Name::Perhaps(&id), admitted, deadline).await;
                NoCall::perhaps_made(Refusal::UnusableCall { fault, retry_after })
            }
            // It cannot be ended, and no browser can connect to it. Its slot stays taken as long as OpenAI may have it.
            Err(CallError::Unusable { fault, id: None }) => {
                let retry_after = Some(self.doubt(&mut booking).await);
                NoCall::perhaps_made(Refusal::UnusableCall { fault, retry_after })
            }
            Err(CallError::Uncertain(error)) => {
                let retry_after = self.doubt(&mut booking).await;
                NoCall::perhaps_made(Refusal::CallUncertain { error, retry_after })
            }
            Err(CallError::NotMade(error)) => {
                self.calls.give_back(booking).await;
                NoCall::from(match error {
                    OpenAiError::InvalidAnswer(fault) => Refusal::UnusableCall { fault, retry_after: None },
                    error => Refusal::OpenAi(error),
                })
            }
            Err(CallError::RejectedOffer(error)) => {
                self.calls.give_back(booking).await;
                NoCall::from(Refusal::RejectedOffer(error))
            }
        };
        add(&mut summary.quota_time, began.elapsed());
        Err(no_call)
    }

    /// Asks with the held key. If OpenAI rejects it, no call was made: the secret is read again, and a different key in it is
    /// tried once.
    async fn call_with_fallback_key(
        &self,
        form: &CallForm,
        Admitted { session, caller, secret, .. }: &Admitted,
        deadline: Instant,
        attempts: &mut Attempts,
    ) -> Result<(MadeCall, Made), CallError> {
        let base_url = &self.receiver.base_url;
        let mut request = CallRequest {
            api_key: &secret.api_key,
            safety_identifier: caller,
            offer: &form.offer,
            session: &session.request,
            dcid: form.dcid,
        };
        let rejected = match self.openai.call(&request, deadline, attempts).await {
            Err(CallError::NotMade(rejected @ OpenAiError::RejectedKey { .. })) => rejected,
            made => return made.map(|call| (call, Made::by(&secret.api_key, base_url))),
        };
        let Some(other) = other_secret(&self.secret, secret, &rejected, deadline).await else {
            return Err(CallError::NotMade(rejected));
        };
        request.api_key = &other.api_key;
        let made = self.openai.call(&request, deadline, attempts).await;
        made.map(|call| (call, Made::by(&other.api_key, base_url)))
    }

    /// Registers OpenAI's name for the call, without which nobody could end it.
    async fn confirm(
        &self,
        call: MadeCall,
        made: Made,
        mut booking: Booking,
        admitted: &Admitted,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<(MadeCall, Booking), NoCall> {
        let began = Instant::now();
        let confirmed = self.calls.confirm(&mut booking, &call.id, made).await;
        add(&mut summary.quota_time, began.elapsed());
        let refusal = match confirmed {
            Ok(true) => return Ok((call, booking)),
            Ok(false) => self.ended_meanwhile(&mut booking).await,
            Err(error) => Refusal::Booking(error.into()),
        };
        self.drop_call(booking, Name::Sure(&call.id), admitted, deadline).await;
        Err(NoCall::perhaps_made(refusal))
    }

    /// The refusal of a call that is no longer booked when OpenAI has answered: the operator has ended it, or its end has come by
    /// the keeper's clock.
    async fn ended_meanwhile(&self, booking: &mut Booking) -> Refusal {
        if let Ok(Some(record)) = self.calls.find(&booking.handle).await {
            booking.record = record;
        }
        match booking.record.state {
            State::Ended => Refusal::OpenAi(OpenAiError::Timeout),
            _ => Refusal::EndedByOperator,
        }
    }

    /// Hangs up a call that must not go on, and gives back what was booked for it. What fails here, the keeper does. Returns the
    /// time for which the call stays booked, if it is not known to be over.
    async fn drop_call(
        &self,
        mut booking: Booking,
        name: Name<'_>,
        admitted: &Admitted,
        deadline: Instant,
    ) -> Option<Duration> {
        let (Name::Sure(id) | Name::Perhaps(id)) = name;
        let base_url = &self.receiver.base_url;
        let key = self.secret.held().unwrap_or_else(|| Arc::clone(&admitted.secret));
        match (self.openai.hang_up(base_url, &key.api_key, id, deadline).await, name) {
            (Ok(HungUp::Ended), _) | (Ok(HungUp::Unknown), Name::Sure(_)) => {
                self.calls.end_unused(booking).await;
                None
            }
            (Ok(HungUp::Unknown), Name::Perhaps(_)) => Some(self.doubt(&mut booking).await),
            (Err(error), _) => {
                warn!(%error, "a call that must not go on could not be ended; the keeper ends it");
                // With its name, the keeper can.
                if let Err(error) = self.calls.confirm(&mut booking, id, Made::by(&key.api_key, base_url)).await {
                    warn!(%error, "nor could it be registered: OpenAI ends it, since no browser can connect to it");
                }
                Some(left(&booking))
            }
        }
    }

    /// Keeps a call booked that nobody can end. Returns the time for which it stays so.
    async fn doubt(&self, booking: &mut Booking) -> Duration {
        if let Ok(Err(error)) = timeout(GIVE_BACK, self.calls.doubt(booking)).await {
            debug!(%error, "the uncertain call was not marked; it stays booked in any case");
        }
        left(booking)
    }

    /// Ends a call for its own caller. One that is over is answered as before.
    ///
    /// # Errors
    /// If the caller has no such call, or it is not known to be over.
    pub async fn end(
        &self,
        admission: &Admission,
        request: &HttpRequest,
        handle: Option<&Handle>,
        deadline: Instant,
        summary: &mut RequestSummary,
    ) -> Result<Answer, Refusal> {
        let Known { caller, .. } = admission.identify(&request.applicant(), deadline, summary).await?;
        let handle = handle.ok_or(Refusal::CallNotFound)?;
        let unavailable = |error| Refusal::Booking(crate::calls::BookingError::Unavailable(error));
        let found = self.calls.find(handle).await.map_err(unavailable)?;
        let record = found.filter(|record| record.caller == caller).ok_or(Refusal::CallNotFound)?;
        summary.profile = Some(record.profile.clone());
        summary.call = Some(handle.to_string());
        let seconds = match (record.state, record.used) {
            (State::Ended, used) => used.unwrap_or_default(),
            // Nobody was told the name of a call that has not been answered.
            (State::Booked | State::Uncertain | State::Stopped, _) => return Err(Refusal::CallNotFound),
            (State::Open, _) => {
                let began = Instant::now();
                let limit = began.checked_add(HANG_UP).map_or(deadline, |limit| limit.min(deadline));
                let over = self.receiver.hang_up(&record, limit).await.map_err(Refusal::HangUp)?;
                summary.openai_time = began.elapsed();
                debug!(gone = over == Over::Gone, "the call is over");
                let at = clock::unix_seconds();
                let used = record.lasted(at.saturating_add(1));
                if self.calls.end(Ending::new(handle.clone(), record, over, used, at)).await.map_err(unavailable)? {
                    summary.used_seconds = Some(used);
                }
                used
            }
        };
        #[derive(Serialize)]
        struct Body {
            success: bool,
            seconds: u64,
        }
        Ok(Answer::json(StatusCode::OK, &Body { success: true, seconds }))
    }
}

/// The time for which a call is booked.
fn left(booking: &Booking) -> Duration {
    Duration::from_secs(booking.record.ends.saturating_sub(clock::unix_seconds()))
}

fn add(total: &mut Option<Duration>, time: Duration) {
    *total = Some(total.unwrap_or_default().saturating_add(time));
}

fn call_answer(
    form: &CallForm,
    Admitted { session, taken, .. }: &Admitted,
    call: MadeCall,
    booking: &Booking,
) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        success: bool,
        sdp: &'a str,
        call_id: &'a str,
        /// The name that the Vercel AI SDK reads (`ai` 7, `api.session`).
        session_id: &'a str,
        expires_at: u64,
        model: Option<&'a str>,
        voice: Option<&'a str>,
        message: &'static str,
    }

    let (handle, ends) = (booking.handle.to_string(), booking.record.ends);
    let mut answer = if form.is_json {
        let body = Body {
            success: true,
            sdp: &call.answer,
            call_id: &handle,
            session_id: &handle,
            expires_at: ends,
            model: session.model.as_deref(),
            voice: session.voice.as_deref(),
            message: "Call created successfully",
        };
        Answer::json(StatusCode::CREATED, &body)
    } else {
        Answer::sdp(StatusCode::CREATED, call.answer)
    };
    answer.headers.push((header::LOCATION, format!("/call/{handle}")));
    answer.headers.push((EXPIRES_AT, ends.to_string()));
    answer.headers.extend(rate_limit::headers(&taken.status));
    answer
}

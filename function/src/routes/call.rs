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
        Booking, Calls, Handle, Made, State,
        hang_up::{Over, Receiver},
        sdp,
    },
    net::clock,
    openai::{Attempts, CallError, CallRequest, MadeCall, OpenAi, OpenAiError},
    profile::CallRules,
    record::RequestSummary,
    routes::{finish_refresh, other_secret},
    secret::SecretStore,
};

/// The header with the moment at which the call is ended, in Unix seconds.
const EXPIRES_AT: HeaderName = HeaderName::from_static("call-expires-at");

/// The time that is reserved for hanging up a call that must not go on.
const RESERVE: Duration = Duration::from_secs(5);

/// The time that must be left before that for the booking and OpenAI's answer.
const WORTH_A_CALL: Duration = Duration::from_secs(1);

/// The longest that giving a booking back may delay an answer. The keeper does it otherwise.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Makes calls for admitted requests.
#[derive(Debug)]
pub struct CallRoute {
    pub openai: Arc<OpenAi>,
    pub secret: Arc<SecretStore>,
    pub calls: Arc<Calls>,
    pub receiver: Receiver,
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
        let answered = self.call(admission, request, deadline, summary).await;
        finish_refresh(&self.secret, deadline, summary).await;
        answered
    }

    async fn call(
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
        // An answer that cannot be used belongs to a call that OpenAI has opened, or may have.
        let made_nothing = !matches!(
            made,
            Ok(_)
                | Err(Refusal::CallUncertain { .. }
                    | Refusal::EndedByOperator
                    | Refusal::OpenAi(OpenAiError::InvalidAnswer(_)))
        );
        admission.settle(&mut admitted.taken, made_nothing, summary).await;
        let (call, booking) = made?;
        if let Err(error) = admission.recheck(&admitted, deadline).await {
            self.drop_call(booking, &call.id, &admitted, deadline).await;
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
    ) -> Result<(MadeCall, Booking), Refusal> {
        let Admitted { session, caller, .. } = admitted;
        // Admission lets only profiles with calls through.
        let Some(CallRules { mode, max_seconds }) = session.call else { return Err(Refusal::NotFound) };
        sdp::check(&form.offer, mode).map_err(Refusal::OfferNotAllowed)?;
        let began = Instant::now();
        let before_reserve = deadline.checked_sub(RESERVE).unwrap_or(deadline);
        if before_reserve.saturating_duration_since(began) < WORTH_A_CALL {
            return Err(AdmissionError::TooLate.into());
        }
        let booking = self.calls.book(caller, &session.profile, Duration::from_secs(max_seconds)).await;
        add(&mut summary.quota_time, began.elapsed());
        let mut booking = booking?;
        summary.call = Some(booking.handle.to_string());
        let mut attempts = Attempts::default();
        let made = self.call_with_fallback_key(form, admitted, before_reserve, &mut attempts).await;
        (summary.attempts, summary.openai_time) = (attempts.count, attempts.took);
        let began = Instant::now();
        let outcome = match made {
            Ok((call, made)) => match sdp::check(call.answer.as_bytes(), mode) {
                Ok(()) => return self.confirm(call, made, booking, admitted, deadline, summary).await,
                Err(broken) => {
                    debug!(%broken, "the answer breaks the rules for the call's mode");
                    self.drop_call(booking, &call.id, admitted, deadline).await;
                    Refusal::OpenAi(OpenAiError::InvalidAnswer(
                        "the SDP has other lines than the profile's calls may have",
                    ))
                }
            },
            Err(CallError::Unusable { fault, id: Some(id) }) => {
                self.drop_call(booking, &id, admitted, deadline).await;
                Refusal::OpenAi(OpenAiError::InvalidAnswer(fault))
            }
            // It cannot be ended, and no browser can connect to it. Its slot stays taken as long as OpenAI may have it.
            Err(CallError::Unusable { fault, id: None }) => {
                self.doubt(&mut booking).await;
                Refusal::OpenAi(OpenAiError::InvalidAnswer(fault))
            }
            Err(CallError::Uncertain(error)) => {
                self.doubt(&mut booking).await;
                let left = booking.record.ends.saturating_sub(clock::unix_seconds());
                Refusal::CallUncertain { error, retry_after: Duration::from_secs(left) }
            }
            Err(CallError::NotMade(error)) => {
                self.give_back(booking).await;
                Refusal::OpenAi(error)
            }
            Err(CallError::RejectedOffer(error)) => {
                self.give_back(booking).await;
                Refusal::RejectedOffer(error)
            }
        };
        add(&mut summary.quota_time, began.elapsed());
        Err(outcome)
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
    ) -> Result<(MadeCall, Booking), Refusal> {
        let began = Instant::now();
        let confirmed = self.calls.confirm(&mut booking, &call.id, made).await;
        add(&mut summary.quota_time, began.elapsed());
        let refusal = match confirmed {
            Ok(true) => return Ok((call, booking)),
            Ok(false) => {
                booking.record.state = State::Stopped;
                Refusal::EndedByOperator
            }
            Err(error) => Refusal::Booking(error.into()),
        };
        self.drop_call(booking, &call.id, admitted, deadline).await;
        Err(refusal)
    }

    /// Hangs up a call that must not go on, and gives back what was booked for it. What fails here, the keeper does.
    async fn drop_call(&self, mut booking: Booking, id: &str, admitted: &Admitted, deadline: Instant) {
        let base_url = &self.receiver.base_url;
        let key = self.secret.held().unwrap_or_else(|| Arc::clone(&admitted.secret));
        let made = Made::by(&key.api_key, base_url);
        match self.openai.hang_up(base_url, &key.api_key, id, deadline).await {
            Ok(_) => self.give_back(booking).await,
            Err(error) => {
                warn!(%error, "a call that must not go on could not be ended; the keeper ends it");
                // With its name, the keeper can.
                if let Err(error) = self.calls.confirm(&mut booking, id, made).await {
                    warn!(%error, "nor could it be registered: OpenAI ends it, since no browser can connect to it");
                }
            }
        }
    }

    async fn give_back(&self, booking: Booking) {
        match timeout(GIVE_BACK, self.calls.give_back(booking)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the booking was not given back; the keeper does it"),
            Err(_) => debug!("the booking was not given back in time; the keeper does it"),
        }
    }

    async fn doubt(&self, booking: &mut Booking) {
        if let Ok(Err(error)) = timeout(GIVE_BACK, self.calls.doubt(booking)).await {
            debug!(%error, "the uncertain call was not marked; it stays booked in any case");
        }
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
                let over = self.receiver.hang_up(&record, deadline).await.map_err(Refusal::HangUp)?;
                summary.openai_time = began.elapsed();
                debug!(gone = over == Over::Gone, "the call is over");
                let used = record.lasted(clock::unix_seconds().saturating_add(1));
                let others = self.calls.end(vec![(handle.clone(), record, used)]).await.map_err(unavailable)?;
                if others.is_empty() {
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

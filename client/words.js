// The types and the documentation are in words.d.ts.

const LATER = 'Try again in a few moments.';
const OPERATOR = 'Please tell the operator of this page; trying again does not help.';

const CODES = {
  busy_lines: 'All lines are busy.',
  call_not_found: 'You have no such call. It may have ended.',
  call_uncertain: 'OpenAI did not answer as expected, and may have opened a call.',
  caller_blocked: `The operator has blocked you. ${OPERATOR}`,
  calls_at_once: 'You have another call. End it first.',
  daily_limit_reached: 'Today’s calls are used up for everyone. They begin again at midnight UTC.',
  daily_minutes_reached: 'Today’s minutes are used up for everyone. They begin again at midnight UTC.',
  ended_by_operator: `The operator ended the call. ${LATER}`,
  hang_up_failed: `OpenAI did not end the call. ${LATER} It ends by itself when its time is up.`,
  invalid_request: 'The service does not accept these options. Choose other ones.',
  key_unavailable: `The service has no OpenAI key. ${OPERATOR}`,
  method_not_allowed: `The page and the service do not fit together. ${OPERATOR}`,
  minutes_exceeded: 'You have used up your minutes of today. They begin again at midnight UTC.',
  no_subject: `Your sign-in does not say who you are. ${OPERATOR}`,
  not_found: `The service is not at this address. ${OPERATOR}`,
  offer_not_allowed: `The page’s call does not fit the profile. ${OPERATOR}`,
  openai_answer_invalid: `OpenAI’s answer cannot be used. ${LATER}`,
  openai_busy: `OpenAI is busy. ${LATER}`,
  openai_forbidden: `OpenAI is not available to this service. ${OPERATOR}`,
  openai_out_of_quota: `The OpenAI account is out of credit. ${OPERATOR}`,
  openai_rejected_key: `OpenAI rejected the service’s key. ${OPERATOR}`,
  openai_rejected_offer: `OpenAI cannot answer the page’s call. ${OPERATOR}`,
  openai_rejected_session: `OpenAI rejected the session. ${OPERATOR}`,
  openai_timeout: `OpenAI did not answer in time. ${LATER}`,
  openai_unavailable: `OpenAI is unavailable. ${LATER}`,
  origin_not_allowed: `This page may not use the service. ${OPERATOR}`,
  proxy_required: 'The service is used at another address. Open the page at its own address.',
  quota_exceeded: 'You have used up your tokens and calls for now.',
  quota_unavailable: `Your quota cannot be checked. ${LATER}`,
  request_too_large: 'The request is too large. Enter shorter texts.',
  openai_refused: `OpenAI did not accept the call. ${LATER}`,
  connection_failed: 'No audio connection could be established. Try another network: a firewall or a VPN may block it.',
  forbidden: 'Your sign-in does not cover this service. Sign in again.',
  too_many_requests: `Too many requests at once. ${LATER}`,
  unauthorized: 'You are not signed in, or your sign-in has expired. Sign in, then try again.',
  unavailable: `The service is paused or overloaded. ${LATER}`,
  unexpected_answer: `Something other than the service answered. Check the network’s own sign-in page. ${LATER}`,
  unreachable: 'No answer arrived. Check the network connection. If it works, this page may not use the service.',
};

const MICROPHONE = {
  NotAllowedError: 'The microphone is not allowed. Allow it in the site settings next to the address, then try again.',
  NotFoundError: 'No microphone was found. Plug one in, then try again.',
  NotReadableError: 'The microphone cannot be used. Another program may be using it.',
};

const ENDS = {
  hung_up: 'You hung up.',
  time_up: 'The time is up.',
  ended: 'The call was ended by the service.',
  lost: 'The connection was lost. Check the network, then call again.',
};

export function explain(error) {
  // Browsers give no microphone to such a page.
  if (globalThis.isSecureContext === false && error.name !== 'Refusal')
    return 'This page is not secure. Open it over https.';
  const words = CODES[error.code] ?? MICROPHONE[error.name] ?? `The call failed: ${error.message}`;
  return error.retryAfter ? `${words} Wait ${formatTime(error.retryAfter)}.` : words;
}

export const explainEnd = reason => ENDS[reason];

export function formatTime(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = number => String(number).padStart(2, '0');
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}

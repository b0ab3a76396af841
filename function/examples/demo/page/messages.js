/** Every message about a failure or the end of a call: a title, the cause, and the action to take. */

const TRY_AGAIN = 'Try again in a few moments.';

/** The function's refusals, by the `code` of its answer: [title, action]. */
const REFUSALS = {
  invalid_request: [
    'These options are not allowed',
    'Choose other values. function/profiles.json lists the allowed ones.',
  ],
  origin_not_allowed: ['This page is not allowed', 'Add this page’s origin to ALLOWED_ORIGINS.'],
  no_subject: [
    'Your sign-in does not say who you are',
    'Add the claim sub to the issuer’s tokens (in Keycloak, the client scope basic), or set AUTH_SUBJECT_CLAIM.',
  ],
  proxy_required: ['Requests must come through the proxy', 'Open the page at the address of the service.'],
  caller_blocked: ['You are blocked', 'Only the operator can unblock you, with make unblock.'],
  not_found: [
    'There is no such service at this address',
    'Check the URL: its path is /token or /call, and ENDPOINTS can turn one of them off.',
  ],
  method_not_allowed: ['Wrong request method', 'Send the request again, and use POST.'],
  request_too_large: ['The request is too large', 'Enter shorter texts.'],
  quota_exceeded: ['You have used up your tokens and calls for now', 'Wait for the countdown, then try again.'],
  daily_limit_reached: [
    'Today’s tokens and calls are used up for everyone',
    'Wait until midnight UTC, or raise DAILY_MINT_LIMIT.',
  ],
  key_unavailable: [
    'The server has no OpenAI key',
    'Set one with make key, or with OPENAI_API_KEY on your own machine.',
  ],
  quota_unavailable: ['Quota check failed', `${TRY_AGAIN} If it still fails, check the quota table.`],
  openai_rejected_key: ['OpenAI rejected the API key', 'Set a valid key that may use this model.'],
  openai_forbidden: [
    'OpenAI is not available from here',
    'A new key does not help. Check the country, the firewall or proxy, and OPENAI_BASE_URL.',
  ],
  openai_rejected_session: ['OpenAI rejected this session', 'Check the profile’s model: it may be retired.'],
  openai_out_of_quota: [
    'The OpenAI account is out of credit',
    'Add credit to the OpenAI account or raise its limit. Waiting does not help.',
  ],
  openai_busy: ['OpenAI is busy', 'Wait for the countdown, then try again.'],
  openai_unavailable: ['OpenAI is unavailable', `${TRY_AGAIN} Check status.openai.com.`],
  openai_timeout: ['OpenAI did not answer in time', `${TRY_AGAIN} Check status.openai.com.`],
  openai_answer_invalid: ['OpenAI’s response cannot be used', 'Try again. If it still fails, check OPENAI_BASE_URL.'],
  calls_at_once: ['You already have a call', 'Hang up in the other tab or window, then connect again.'],
  busy_lines: ['All lines are busy', 'Connect again when another caller has hung up, or raise CALLS_AT_ONCE_FOR_ALL.'],
  minutes_exceeded: [
    'Your minutes for today are used up',
    'Hang up your open call, which counts in full until then. Otherwise wait until midnight UTC, or raise CALL_MINUTES_PER_DAY.',
  ],
  daily_minutes_reached: [
    'Today’s minutes are used up for everyone',
    'Wait until midnight UTC, or raise DAILY_CALL_MINUTES.',
  ],
  offer_not_allowed: [
    'The server does not allow this offer',
    'Reload the page, then connect again: the rules of the profile may have changed.',
  ],
  openai_rejected_offer: [
    'OpenAI cannot answer the browser’s offer',
    'Connect again. If it still fails, use a current Chrome, Edge, Firefox or Safari.',
  ],
  call_uncertain: [
    'OpenAI may or may not have opened the call',
    'Wait for the countdown: until then, the server counts the call as open.',
  ],
  call_not_found: [
    'The server does not know this call',
    'Connect again. Only the caller who made a call can end it, and a restarted demo has forgotten its calls.',
  ],
  ended_by_operator: ['The operator ended the call', 'Try again later, or ask the operator.'],
  hang_up_failed: [
    'The call could not be ended yet',
    'The server tries again and ends it when its time is up, at the latest. Until then, it counts as open.',
  ],
};

/** Refusals whose cause may be over before the wait is. */
const MAY_END_SOONER = ['busy_lines', 'calls_at_once', 'minutes_exceeded'];

/** API Gateway's own refusals, sent before the function is invoked, by status: [title, cause, action]. */
const GATEWAY = {
  401: [
    'You are not signed in',
    'The API requires a sign-in.',
    'Sign in, and send the token of the sign-in with the request.',
  ],
  429: ['Too many requests', 'The API’s rate limit rejected the request.', TRY_AGAIN],
  503: ['The service is paused', 'The API answers, but its function accepts no requests.', TRY_AGAIN],
};

/**
 * Why a call did not start or has ended: [title, cause, action]. A fourth text is the action after a call through the server,
 * which needs no new token.
 */
const CALL_ENDS = {
  cancelled: [
    'You hung up',
    'The call was not sent to OpenAI yet.',
    'The token is still valid: connect whenever you like.',
    'Connect whenever you like.',
  ],
  hung_up: [
    'You hung up',
    '',
    'Get a new token for the next call: OpenAI accepts each token only once.',
    'The server knows that the call is over: connect again whenever you like.',
  ],
  server_ended: [
    'The server ended the call',
    'Its time was over.',
    '',
    'Connect again to continue talking. This is a new conversation.',
  ],
  time_over: [
    'The time of the call is over',
    'The server did not hang up within 5 seconds, so the page did.',
    '',
    'Connect again to continue talking. This is a new conversation.',
  ],
  other_side_ended: [
    'The other side ended the call',
    'It ended before its time: by the operator, or by OpenAI.',
    '',
    'Connect again to continue talking. This is a new conversation.',
  ],
  server_timeout: [
    'The server did not answer the call',
    'No answer arrived within 30 seconds.',
    '',
    `${TRY_AGAIN} Until the answer arrives or the call ends, the server may count it as open.`,
  ],
  insecure_page: [
    'The browser gives this page no microphone',
    'The page was loaded neither over https nor from this machine.',
    'Open it as http://127.0.0.1 or http://localhost, or serve it over https.',
  ],
  no_webrtc: [
    'This browser cannot make calls',
    'It has no WebRTC, or a setting or an extension has turned WebRTC off.',
    'Use a current Chrome, Edge, Firefox or Safari.',
  ],
  microphone_denied: [
    'The microphone is not allowed',
    'The browser or the system denied this page the microphone.',
    'Allow it in the site settings next to the address, then try again. This cost no token.',
    'Allow it in the site settings next to the address, then try again. No call was placed.',
  ],
  microphone_missing: [
    'No microphone was found',
    'The browser found no device that records sound.',
    'Plug one in or select one in the system’s settings, then try again. This cost no token.',
    'Plug one in or select one in the system’s settings, then try again. No call was placed.',
  ],
  microphone_busy: [
    'The microphone cannot be used',
    'Another program may be using it.',
    'Close that program, then try again. This cost no token.',
    'Close that program, then try again. No call was placed.',
  ],
  token_expired: [
    'The token has expired',
    'A token opens its session only until it expires.',
    'Get a new token, and connect at once.',
  ],
  token_used: [
    'The token was used before',
    'A token opens only one session, and this one has opened it.',
    'Get a new token for each connection.',
  ],
  network: [
    'OpenAI cannot be reached',
    'The page could not read an answer to the call. Possible causes: no network, a firewall, or a blocking extension.',
    'Check the connection, then connect again. If that does not help, get a new token first.',
  ],
  calls_timeout: [
    'OpenAI did not answer the call',
    'No answer arrived within 15 seconds.',
    'Get a new token and try again. Check status.openai.com.',
  ],
  calls_400: [
    'OpenAI rejected the call',
    'It reported an error in the SDP offer or in the session.',
    'Check the profile in function/profiles.json.',
  ],
  calls_401: [
    'OpenAI rejected the token',
    'The token has expired, or was issued by another OpenAI server.',
    'Get a new token, and connect at once.',
  ],
  calls_403: [
    'OpenAI does not permit this call',
    'The key’s project may not use this model, or not from this location.',
    'Check the project’s models at OpenAI.',
  ],
  calls_404: [
    'There are no calls at this address',
    'The server at OPENAI_BASE_URL does not support calls, or the model no longer exists.',
    'Check both.',
  ],
  calls_429: [
    'OpenAI accepts no more calls now',
    'The account’s rate limit is reached.',
    'Wait a little, then get a new token.',
  ],
  calls_out_of_quota: [
    'The OpenAI account is out of credit',
    'OpenAI opens no call for this account.',
    'Add credit to the account or raise its limit. Waiting does not help.',
  ],
  calls_5xx: [
    'OpenAI is unavailable',
    'It failed to open the call.',
    'Get a new token and try again. Check status.openai.com.',
  ],
  calls_other: ['OpenAI did not open the call', 'It sent an unexpected answer.', 'Get a new token and try again.'],
  answer_invalid: [
    'OpenAI’s answer to the call is invalid',
    'The browser cannot read it as SDP.',
    'Check OPENAI_BASE_URL.',
  ],
  connection_failed: [
    'No audio connection could be established',
    'OpenAI answered, but the audio connection failed. Often a firewall or a VPN blocks UDP.',
    'Try another network, or allow UDP. With make demo in Firefox, set media.peerconnection.ice.loopback. Get a new token first.',
    'Try another network, or allow UDP. With make demo in Firefox, set media.peerconnection.ice.loopback.',
  ],
  connection_lost: [
    'The connection was lost',
    'No more audio was received.',
    'Check the network, then get a new token and connect again.',
    'Check the network, then connect again.',
  ],
  channel_not_opened: [
    'The data channel did not open',
    'Audio could be sent, but no events between the page and OpenAI.',
    'Get a new token and try again.',
    TRY_AGAIN,
  ],
  channel_closed: [
    'OpenAI ended the session',
    'It closed the data channel without giving a reason.',
    'Get a new token to continue talking.',
  ],
  session_limit: [
    'The session reached its maximum length',
    'OpenAI ends every session at that point.',
    'Get a new token to continue talking.',
    'Connect again to continue talking. This is a new conversation.',
  ],
  unexpected: ['The call failed', 'The browser’s error is below.', 'Get a new token and try again.', TRY_AGAIN],
};

/** The action to take after common `error` events, by code. */
const ERRORS = {
  conversation_already_has_active_response: 'Wait until the model has finished speaking.',
  insufficient_quota: 'Add credit to the OpenAI account or raise its limit.',
  rate_limit_exceeded: 'Wait a little before you continue.',
};

/** The message for a refused request. `status` is 0 without an answer, and `body` is null unless the answer was JSON. */
export function refusalMessage({ status, body }) {
  if (!status) {
    return {
      title: 'The server does not answer',
      cause: 'The request got no answer.',
      action: 'Check that make demo is still running. Start it if not, then try again.',
    };
  }
  const details = [body?.code, `HTTP ${status}`, body?.requestId].filter(Boolean).join(' · ');
  const known = REFUSALS[body?.code];
  if (known) return { title: known[0], cause: asSentence(body.details), action: known[1], details };
  const [title, cause, action] = GATEWAY[status] ?? [
    'The server refused the request',
    asSentence(body?.details ?? ''),
    body?.message ?? TRY_AGAIN,
  ];
  return { title, cause, action, details };
}

/** Whether the cause of a refusal may be over before its wait is. */
export function mayEndSooner(code) {
  return MAY_END_SOONER.includes(code);
}

/** The ends of calls that are not failures. */
export const CALM_ENDS = ['cancelled', 'hung_up', 'server_ended', 'time_over'];

/**
 * The message for the end of a call that was placed with a `token` or by the server with a `call`. `seconds` is its length,
 * or `undefined` if it was never connected.
 */
export function callEndMessage({ code, details, refusal }, seconds, endpoint = 'token') {
  if (refusal) return refusalMessage(refusal);
  const [title, cause, withToken, withoutToken = withToken] = CALL_ENDS[code] ?? CALL_ENDS.unexpected;
  const action = endpoint === 'call' ? withoutToken : withToken;
  const length = seconds === undefined ? '' : `The call lasted ${formatDuration(seconds)}.`;
  return { title, cause: [cause, length].filter(Boolean).join(' '), action, details };
}

/** The message for an `error` event or a failed response. The call continues. */
export function errorMessage({ code, message, type }) {
  return {
    title: 'OpenAI reports an error',
    cause: asSentence(message ?? 'OpenAI gave no reason'),
    action: ERRORS[code] ?? 'The call continues. The event log has the details.',
    details: code ?? type,
  };
}

/** A sentence for each state of a call. */
export const CALL_STATES = {
  idle: 'Get a token first.',
  ready: 'Ready to connect.',
  expired: 'The token has expired. Get a new one.',
  microphone: 'Waiting for the microphone…',
  offer: 'Calling OpenAI…',
  placing: 'Asking the server for a call…',
  connecting: 'Establishing the audio connection…',
  connected: 'Connected. Say something.',
  recovering: 'The connection is interrupted. Waiting for it to recover…',
  ended: 'The call has ended.',
  failed: 'Not connected.',
};

/** The sentence beside the time that a call through the server has left, by the state of its limit. */
export function limitMessage(state, at, seconds) {
  return {
    next: `The server ends a call after ${formatDuration(seconds)} at the latest.`,
    running: `The server ends this call at ${at}.`,
    warning: `${formatDuration(seconds)} left. The server ends this call at ${at}.`,
    over: 'The time is over. The server is ending the call…',
  }[state];
}

/** The sentence about the choice between a token and a call through the server. */
export function endpointMessage({ call }, endpoint) {
  if (!call) return 'This profile has no calls through the server.';
  if (call.mode === 'locked') {
    return 'This profile is locked. Only the server places its calls, and they have no data channel: the browser cannot change the session.';
  }
  return endpoint === 'call'
    ? 'The browser gets no token: the server places the call and ends it.'
    : 'The browser calls OpenAI with a token, and only the browser ends the call.';
}

/** What the panels for captions, events and typing say: a locked call, by its `rules`, has none of them. */
export function panelTexts(rules) {
  return rules?.mode === 'locked'
    ? {
        transcript: 'No captions: a locked call has no data channel. You hear the model, and it hears you.',
        events:
          'No events: a locked call has no data channel, so the page cannot change the session. In the browser’s console, peer.sctp is null during the call.',
        message: 'Locked: no typing',
      }
    : {
        transcript: 'The conversation appears here.',
        events: 'Events sent and received over the data channel appear here.',
        message: 'Type instead of speaking',
      };
}

/** Formats seconds as 3:07, or as 1:02:03. */
export function formatTime(seconds) {
  const twoDigits = number => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const rest = twoDigits(seconds % 60);
  return hours ? `${hours}:${twoDigits(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** Formats seconds as “1 minute and 5 seconds”. */
function formatDuration(seconds) {
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  const count = (number, unit) => `${number} ${unit}${number === 1 ? '' : 's'}`;
  return [minutes && count(minutes, 'minute'), (rest || !minutes) && count(rest, 'second')]
    .filter(Boolean)
    .join(' and ');
}

/** Adds the full stop that the service's texts leave out. */
function asSentence(text) {
  return text && !/[.!?…]$/.test(text) ? `${text}.` : text;
}

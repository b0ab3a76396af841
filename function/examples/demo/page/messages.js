/** Every message about a failure or the end of a call: a title, the cause, and the action to take. */

const TRY_AGAIN = 'Try again in a few moments.';

/** The function's refusals, by the `code` of its answer: [title, action]. */
const REFUSALS = {
  invalid_request: [
    'These options are not allowed',
    'Choose other values. function/profiles.json lists the allowed ones.',
  ],
  origin_not_allowed: ['This page may not request tokens', 'Add this page’s origin to ALLOWED_ORIGINS.'],
  no_subject: [
    'Your sign-in does not say who you are',
    'Add the claim sub to the issuer’s tokens (in Keycloak, the client scope basic), or set AUTH_SUBJECT_CLAIM.',
  ],
  proxy_required: ['Tokens are issued through a proxy only', 'Open the page at the address of the service.'],
  caller_blocked: ['You are blocked', 'Only the operator can unblock you, with make unblock.'],
  not_found: ['There is no token service at this address', 'Check the token URL: its path ends in /token.'],
  method_not_allowed: ['Wrong request method', 'Send the request again, and use POST.'],
  request_too_large: ['The request is too large', 'Enter shorter texts.'],
  quota_exceeded: ['You have used up your tokens for now', 'Wait for the countdown, then try again.'],
  daily_limit_reached: [
    'Today’s tokens are used up for everyone',
    'Wait until midnight UTC, or raise DAILY_MINT_LIMIT.',
  ],
  key_unavailable: [
    'The token service has no OpenAI key',
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
  openai_answer_invalid: [
    'OpenAI’s response did not contain a valid token',
    'Try again. If it still fails, check OPENAI_BASE_URL.',
  ],
};

/** API Gateway's own refusals, sent before the function is invoked, by status: [title, cause, action]. */
const GATEWAY = {
  401: [
    'You are not signed in',
    'The API requires a sign-in.',
    'Sign in, and send the token of the sign-in with the request.',
  ],
  429: ['Too many requests', 'The API’s rate limit rejected the request.', TRY_AGAIN],
  503: ['The token service is paused', 'The API answers, but its function accepts no requests.', TRY_AGAIN],
};

/** Why a call did not start or has ended: [title, cause, action]. */
const CALL_ENDS = {
  cancelled: [
    'You hung up',
    'The call was not sent to OpenAI yet.',
    'The token is still valid: connect whenever you like.',
  ],
  hung_up: ['You hung up', '', 'Get a new token for the next call: OpenAI accepts each token only once.'],
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
  ],
  microphone_missing: [
    'No microphone was found',
    'The browser found no device that records sound.',
    'Plug one in or select one in the system’s settings, then try again. This cost no token.',
  ],
  microphone_busy: [
    'The microphone cannot be used',
    'Another program may be using it.',
    'Close that program, then try again. This cost no token.',
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
  ],
  connection_lost: [
    'The connection was lost',
    'No more audio was received.',
    'Check the network, then get a new token and connect again.',
  ],
  channel_not_opened: [
    'The data channel did not open',
    'Audio could be sent, but no events between the page and OpenAI.',
    'Get a new token and try again.',
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
  ],
  unexpected: ['The call failed', 'The browser’s error is below.', 'Get a new token and try again.'],
};

/** The action to take after common `error` events, by code. */
const ERRORS = {
  conversation_already_has_active_response: 'Wait until the model has finished speaking.',
  insufficient_quota: 'Add credit to the OpenAI account or raise its limit.',
  rate_limit_exceeded: 'Wait a little before you continue.',
};

/** The message for a refused token. `status` is 0 without an answer, and `body` is null unless the answer was JSON. */
export function refusalMessage(status, body) {
  if (!status) {
    return {
      title: 'The token service does not answer',
      cause: 'The request got no answer.',
      action: 'Check that make demo is still running. Start it if not, then try again.',
    };
  }
  const details = [body?.code, `HTTP ${status}`, body?.requestId].filter(Boolean).join(' · ');
  const known = REFUSALS[body?.code];
  if (known) return { title: known[0], cause: asSentence(body.details), action: known[1], details };
  const [title, cause, action] = GATEWAY[status] ?? [
    'The token service returned no token',
    asSentence(body?.details ?? ''),
    body?.message ?? TRY_AGAIN,
  ];
  return { title, cause, action, details };
}

/** The message for the end of a call. `seconds` is its length, or `undefined` if it was never connected. */
export function callEndMessage({ code, details }, seconds) {
  const [title, cause, action] = CALL_ENDS[code] ?? CALL_ENDS.unexpected;
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
  connecting: 'Establishing the audio connection…',
  connected: 'Connected. Say something.',
  recovering: 'The connection is interrupted. Waiting for it to recover…',
  ended: 'The call has ended.',
  failed: 'Not connected.',
};

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

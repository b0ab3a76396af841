/** Every sentence about what went wrong or came to its end: what it is, why, and what to do now. */

const AGAIN = 'Try again in a few moments.';

/** What the mint says no with, by the code in its answer. */
const REFUSALS = {
  invalid_request: ['That is not on offer', 'Choose something else. What may be set is in function/profiles.json.'],
  origin_not_allowed: ['This page may not ask for tokens', 'Add this page’s own origin to ALLOWED_ORIGINS.'],
  caller_blocked: ['You are blocked', 'Only the operator can undo that, with make unblock.'],
  not_found: ['There is no token service at this address', 'Check the token URL: its path ends in /token.'],
  method_not_allowed: ['Wrong request method', 'Ask with POST.'],
  request_too_large: ['The request is too large', 'Set shorter texts.'],
  quota_exceeded: ['You have used up your tokens for now', 'Wait for the countdown, then ask again.'],
  daily_limit_reached: [
    'Today’s tokens are used up, for everyone',
    'Wait for midnight UTC, or raise DAILY_MINT_LIMIT.',
  ],
  key_unavailable: ['The mint has no OpenAI key', 'Set one: make key, or OPENAI_API_KEY on your own machine.'],
  quota_unavailable: ['Quota check failed', `${AGAIN} If that does not help, look at the quota table.`],
  openai_rejected_key: ['OpenAI rejected the API key', 'Set a key that is valid and may use this model.'],
  openai_rejected_session: ['OpenAI rejected this session', 'Check the profile’s model: was it retired?'],
  openai_out_of_quota: [
    'The OpenAI account is out of credit',
    'Add credit or raise the limit of the OpenAI account; waiting does not help.',
  ],
  openai_busy: ['OpenAI is busy', 'Wait for the countdown, then ask again.'],
  openai_unavailable: ['OpenAI is unavailable', `${AGAIN} See status.openai.com.`],
  openai_timeout: ['OpenAI did not answer in time', `${AGAIN} See status.openai.com.`],
  openai_answer_invalid: [
    'OpenAI’s answer held no usable token',
    'Try again. If it stays so, check OPENAI_BASE_URL.',
  ],
};

/** What API Gateway says no with by itself, in front of the mint, by status. */
const GATEWAY = {
  401: [
    'You are not signed in',
    'The API asks for a sign-in.',
    'Sign in, and send the token of that with the request.',
  ],
  429: ['Too many ask at once', 'The API’s own rate limit turned the request away.', AGAIN],
  503: ['The mint is paused', 'The API answers, but the function behind it takes no requests.', AGAIN],
};

/** Why there is no call, or no longer: [title, why, what to do]. */
const CALLS = {
  cancelled: ['You hung up', 'OpenAI was not asked yet.', 'The token is still good: connect when you like.'],
  hung_up: ['You hung up', '', 'Get a new token for the next call: OpenAI may take each only once.'],
  insecure_page: [
    'The browser gives this page no microphone',
    'The page came neither over https nor from this machine itself.',
    'Open it as http://127.0.0.1 or http://localhost, or serve it over https.',
  ],
  no_webrtc: [
    'This browser cannot make calls',
    'It has no WebRTC, or a setting or extension has turned that off.',
    'Use a current Chrome, Edge, Firefox or Safari.',
  ],
  microphone_denied: [
    'The microphone is not allowed',
    'The browser or the system refused it to this page.',
    'Allow it in the site settings beside the address, then connect again. The token is still good.',
  ],
  microphone_missing: [
    'There is no microphone',
    'The browser found no device that records sound.',
    'Plug one in or choose one in the system’s settings, then connect again. The token is still good.',
  ],
  microphone_busy: [
    'The microphone cannot be used',
    'Another program may be holding it.',
    'Close what uses it, then connect again. The token is still good.',
  ],
  token_expired: [
    'The token has expired',
    'It opens sessions only until its time is over.',
    'Get a new token, and connect at once.',
  ],
  network: [
    'OpenAI cannot be reached',
    'The request for the call got no answer that the page may read: no network, a firewall, or a blocking extension.',
    'Check the connection, then connect again. If that does not help, get a new token first.',
  ],
  calls_timeout: [
    'OpenAI does not answer the call',
    'It had 15 seconds to.',
    'Get a new token and try again. See status.openai.com.',
  ],
  calls_400: [
    'OpenAI does not take the call',
    'It found a fault in the offer or in the session.',
    'Check the profile in function/profiles.json.',
  ],
  calls_401: [
    'OpenAI refuses the token',
    'It has expired or was used before, or another OpenAI minted it.',
    'Get a new token, and connect at once.',
  ],
  calls_403: [
    'OpenAI forbids this call',
    'The key’s project may not use this model, or not from here.',
    'Check the project’s models at OpenAI.',
  ],
  calls_404: [
    'There are no calls at this address',
    'OPENAI_BASE_URL leads to a server without them, or the model is gone.',
    'Check both.',
  ],
  calls_429: [
    'OpenAI takes no more calls now',
    'The account’s rate limit is reached.',
    'Wait a little, then get a new token.',
  ],
  calls_out_of_quota: [
    'The OpenAI account is out of credit',
    'OpenAI opens no call for it.',
    'Add credit or raise its limit; waiting does not help.',
  ],
  calls_5xx: [
    'OpenAI is unavailable',
    'It failed to open the call.',
    'Get a new token and try again. See status.openai.com.',
  ],
  calls_other: [
    'OpenAI does not open the call',
    'It gave an answer that nothing is known about.',
    'Get a new token and try again.',
  ],
  answer_invalid: [
    'OpenAI’s answer is no answer to the call',
    'The browser cannot read it as SDP.',
    'Check OPENAI_BASE_URL.',
  ],
  path_failed: [
    'No audio connection',
    'OpenAI answered, but no connection for sound came about: often a firewall or VPN that blocks UDP.',
    'Try another network, or allow UDP. With make demo in Firefox, set media.peerconnection.ice.loopback. Get a new token first.',
  ],
  path_lost: [
    'The connection was lost',
    'No sound came through any more.',
    'Check the network, then get a new token and connect again.',
  ],
  channel_missing: [
    'The channel for events does not open',
    'Sound would come through, but not what the page and OpenAI tell each other.',
    'Get a new token and try again.',
  ],
  channel_closed: [
    'OpenAI ended the session',
    'It closed the channel for events without a reason.',
    'Get a new token to go on talking.',
  ],
  session_limit: [
    'The session reached its longest time',
    'OpenAI ends each one after that.',
    'Get a new token to go on talking.',
  ],
  unexpected: ['The call failed', 'The browser says why below.', 'Get a new token and try again.'],
};

/** What to do about the `error` events that people meet. */
const ERRORS = {
  conversation_already_has_active_response: 'Wait until it has finished speaking.',
  insufficient_quota: 'Add credit or raise the OpenAI account’s limit.',
  rate_limit_exceeded: 'Wait a little before you go on.',
};

/** The mint's answer in words; `body` is null where it was no JSON, `status` 0 where there was none at all. */
export function refusal(status, body) {
  if (!status) {
    return {
      title: 'The mint does not answer',
      why: 'The request got no answer.',
      now: 'Is make demo still running? Start it, then ask again.',
    };
  }
  const fine = [body?.code, `HTTP ${status}`, body?.requestId].filter(Boolean).join(' · ');
  const own = REFUSALS[body?.code];
  if (own) return { title: own[0], why: sentence(body.details), now: own[1], fine };
  const [title, why, now] = GATEWAY[status] ?? [
    'The mint gave no token',
    sentence(body?.details ?? ''),
    body?.message ?? AGAIN,
  ];
  return { title, why, now, fine };
}

/** The end of a call, or of the attempt, in words. `seconds` is how long one could talk. */
export function ending({ code, details }, seconds) {
  const [title, why, now] = CALLS[code] ?? CALLS.unexpected;
  const talked = seconds === undefined ? '' : `The call lasted ${duration(seconds)}.`;
  return { title, why: [why, talked].filter(Boolean).join(' '), now, fine: details };
}

/** An `error` event, or a response that failed, in words: the call itself goes on. */
export function trouble({ code, message, type }) {
  return {
    title: 'OpenAI reports an error',
    why: sentence(message ?? 'It does not say what'),
    now: ERRORS[code] ?? 'The call goes on; the event log has all of it.',
    fine: code ?? type,
  };
}

/** Where a call is, in a sentence for the line of its state. */
export const STEPS = {
  idle: 'Get a token first.',
  ready: 'Ready to connect.',
  expired: 'The token has expired. Get a new one.',
  microphone: 'Asking for the microphone…',
  offer: 'Asking OpenAI for the call…',
  path: 'Looking for a way for the sound…',
  connected: 'Connected. Say something.',
  unsteady: 'The connection is shaky. Waiting for it to come back…',
  ended: 'The call is over.',
  failed: 'Not connected.',
};

/** 3:07, or 1:02:03. */
export function clock(seconds) {
  const two = number => String(number).padStart(2, '0');
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

function duration(seconds) {
  const [minutes, rest] = [Math.floor(seconds / 60), seconds % 60];
  const of = (number, unit) => `${number} ${unit}${number === 1 ? '' : 's'}`;
  return [minutes && of(minutes, 'minute'), (rest || !minutes) && of(rest, 'second')].filter(Boolean).join(' and ');
}

function sentence(text) {
  return text && !/[.!?…]$/.test(text) ? `${text}.` : text;
}

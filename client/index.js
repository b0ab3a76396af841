// The types and the documentation of all exports are in index.d.ts.

/** Seconds after which OpenAI ends every session. A call that was opened with a token has no earlier end. */
const SESSION_LIMIT = 3600;

/** Milliseconds within which a call must connect after its answer. */
const CONNECT_TIMEOUT = 20_000;

/** If the other end closes a call with at most this many seconds left, its time was up. */
const END_TOLERANCE = 5;

/** Milliseconds by which two right clocks can seem to differ, since the header `Date` has whole seconds. */
const CLOCK_TOLERANCE = 5000;

/** Codes for answers that have none, by status. API Gateway itself refuses in this way. */
const CODES = {
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  429: 'too_many_requests',
};

export class Refusal extends Error {
  constructor(code, status, details, more) {
    super();
    const message = more?.message ?? details ?? code;
    Object.assign(this, more, { name: 'Refusal', message, code, status, details });
  }
}

export function tokenMint(url, { headers } = {}) {
  const base = `${url}`.replace(/(\/(token|call))?\/*$/, '');

  let given;

  async function prepare() {
    given = { 'Content-Type': 'application/json', ...(await headers?.()) };
  }

  const ask = (path, json, settings) => send(base + path, { headers: given, body: JSON.stringify(json), ...settings });

  async function token({ profile, fields, signal } = {}) {
    await prepare();
    return ask('/token', { ...fields, profile }, { signal });
  }

  async function open(sdp, { profile, fields, dcid, signal } = {}) {
    await prepare();
    signal?.throwIfAborted();
    // An abort does not stop the request: it may have opened a call, and only its answer says how to end that.
    const call = await ask('/call', { ...fields, profile, dcid, sdp });
    const hangUp = async event => {
      // A page that closes has no time to wait for new headers.
      if (event?.type !== 'pagehide') await prepare();
      return ask(`/call/${call.callId}`, undefined, { method: 'DELETE', keepalive: true });
    };
    const cancel = () => hangUp().catch(() => {});
    if (signal?.aborted) await cancel();
    signal?.throwIfAborted();
    signal?.addEventListener('abort', cancel);
    return { ...call, hangUp };
  }

  async function openWithToken(sdp, { dcid, ...request }) {
    const { value, callsUrl, model, voice } = await token(request);
    const headers = { Authorization: `Bearer ${value}`, 'Content-Type': 'application/sdp' };
    const address = dcid >= 0 ? `${callsUrl}?dcid=${dcid}` : callsUrl;
    const answer = await send(address, { headers, body: sdp, signal: request.signal }, 'openai_refused');
    return {
      ...answer,
      model,
      voice,
      ...until(Math.floor(Date.now() / 1000) + SESSION_LIMIT, 0),
      hangUp: async () => ({}),
    };
  }

  return { token, open, call: (request = {}) => connect(request.endpoint === 'token' ? openWithToken : open, request) };
}

export function countdown(timed, { warnBefore = 30, onTick, onWarning }) {
  let warned;
  const tick = () => {
    const left = Math.ceil(timed.remaining());
    onTick?.(left);
    if (!left) clearInterval(timer);
    else if (left <= warnBefore && !warned) {
      warned = true;
      onWarning?.(left);
    }
  };
  const timer = setInterval(tick, 500);
  tick();
  return () => clearInterval(timer);
}

/** Makes a call with the browser's microphone and WebRTC. `open` exchanges the offer for an answer. */
async function connect(open, { locked, microphone, audio: speaker = new Audio(), onEvent, onEnd, ...request }) {
  const { dcid, signal } = request;
  const peer = new RTCPeerConnection();
  // A locked profile accepts no data channel. With `dcid`, both ends know the channel before they connect.
  const channel = locked ? undefined : peer.createDataChannel('oai-events', { negotiated: dcid >= 0, id: dcid });
  const asked = Promise.resolve(microphone ?? navigator.mediaDevices.getUserMedia({ audio: true }));
  let opened, connected, ended, stopCountdown, resolve, reject;
  const connecting = new Promise((...settle) => {
    [resolve, reject] = settle;
  });

  function end(reason, error = new Refusal('connection_failed', 0), event) {
    if (ended) return ended;
    ended = Promise.resolve(opened?.hangUp(event));
    // hangUp() returns this promise. Elsewhere a failure does not matter: the server ends the call on time.
    ended.catch(() => {}).then(() => reject(error));
    stopCountdown?.();
    removeEventListener('pagehide', hangUp);
    peer.close();
    // The user may allow the microphone only after the call has been cancelled, or never.
    if (!microphone) asked.then(stream => stream.getTracks().map(track => track.stop())).catch(() => {});
    if (connected) onEnd?.({ reason });
    return ended;
  }

  const hangUp = event => end('hung_up', signal?.reason, event);
  const closed = () => end(opened?.remaining() <= END_TOLERANCE ? 'time_up' : 'ended');

  function check() {
    if (peer.connectionState === 'failed') end('lost');
    if (ended || peer.connectionState !== 'connected' || (channel && channel.readyState !== 'open')) return;
    connected = true;
    resolve();
  }

  const call = { peer, channel, send: event => channel.send(JSON.stringify(event)) };
  addEventListener('pagehide', hangUp);
  signal?.addEventListener('abort', hangUp);
  speaker.autoplay = true;
  peer.ontrack = ({ streams }) => {
    speaker.srcObject = streams[0];
  };
  peer.onconnectionstatechange = check;
  if (channel) {
    const onmessage = ({ data }) => onEvent?.(JSON.parse(data), call);
    Object.assign(channel, { onopen: check, onclose: closed, onmessage });
  }
  try {
    const stream = await Promise.race([connecting, asked]);
    const sender = peer.addTrack(stream.getAudioTracks()[0], stream);
    await peer.setLocalDescription();
    opened = await open(peer.localDescription.sdp, request);
    if (ended) await opened.hangUp();
    Object.assign(call, opened, { hangUp });
    setTimeout(() => connected || end('lost'), CONNECT_TIMEOUT);
    await peer.setRemoteDescription({ type: 'answer', sdp: opened.sdp });
    // Without a data channel, only this shows that the other end has closed the connection.
    sender.transport?.addEventListener('statechange', ({ target }) => target.state === 'closed' && closed());
  } catch (error) {
    end('failed', error);
  }
  await connecting;
  if (!ended) stopCountdown = countdown(call, request);
  return call;
}

const until = (expiresAt, ahead) => ({
  expiresAt,
  remaining: () => Math.max(0, expiresAt - (Date.now() + ahead) / 1000),
});

/**
 * Sends a request. Returns the answer's fields, or its text as `sdp`; throws a `Refusal` for any other answer. `code` is the
 * refusal's code for answers without one.
 */
async function send(url, settings, code) {
  let answer, text, body;
  try {
    answer = await fetch(url, { method: 'POST', cache: 'no-store', ...settings });
    text = await answer.text();
  } catch (cause) {
    settings.signal?.throwIfAborted();
    throw new Refusal('unreachable', 0, undefined, { cause });
  }
  const { ok, status, headers } = answer;
  try {
    body = JSON.parse(text);
  } catch {}
  if (ok && (body?.success || /^v=/.test(text))) {
    // The device's clock may be wrong. The API lets the pages of AllowedOrigins read this header.
    const ahead = Date.parse(headers.get('Date')) - Date.now() || 0;
    return { ...(body ?? { sdp: text }), ...until(body?.expiresAt, Math.abs(ahead) > CLOCK_TOLERANCE ? ahead : 0) };
  }
  const wait = headers.get('Retry-After');
  const seconds = Math.ceil(wait >= 0 ? wait : (Date.parse(wait) - Date.now()) / 1000);
  throw new Refusal(
    body?.code ?? code ?? CODES[status] ?? (status < 500 ? 'unexpected_answer' : 'unavailable'),
    status,
    body?.details ?? body?.error?.message,
    {
      message: body?.message,
      requestId: body?.requestId,
      retryAfter: seconds > 0 ? seconds : undefined,
    },
  );
}

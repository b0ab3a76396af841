/** One session with OpenAI over WebRTC: https://developers.openai.com/api/docs/guides/realtime-webrtc */

/** Milliseconds for OpenAI's answer, for the way through the network, and for one that broke to come back. */
const [ANSWER_IN, CONNECT_IN, RECOVER_IN] = [15_000, 20_000, 10_000];

/** Seconds after which a session that closes has reached OpenAI's limit of 60 minutes. */
const LIMIT = 3590;

/** Why there is no call, by a code that words.js knows, and whether the token is spent with it. */
class Failure extends Error {
  constructor(code, details, { spent = true } = {}) {
    super(details);
    Object.assign(this, { code, details, spent });
  }
}

export class Call {
  #on;
  #peer;
  #channel;
  #deadline;
  #since;
  #over = false;
  #asking = new AbortController();

  /**
   * `on` hears of it all: `step(name)`, `microphone(stream)`, `voice(stream)`, `event(direction, event)`, and once
   * `end({ code, details, spent }, seconds)`, without seconds where no one could talk.
   */
  constructor(on) {
    this.#on = on;
  }

  get connected() {
    return this.#since !== undefined && !this.#over;
  }

  /** Whole seconds since one could talk. */
  get seconds() {
    return this.#since === undefined ? undefined : Math.floor((performance.now() - this.#since) / 1000);
  }

  async start(token) {
    try {
      this.#on.step('microphone');
      this.microphone = await openMicrophone();
      if (this.#over) return this.#silence();
      this.#on.microphone(this.microphone);
      if (token.expiresAt * 1000 <= Date.now()) throw new Failure('token_expired');
      this.#on.step('offer');
      await this.#offer(token.callsUrl, token.value);
    } catch (failure) {
      this.#end(failure instanceof Failure ? failure : new Failure('unexpected', String(failure)));
    }
  }

  async #offer(url, secret) {
    const peer = (this.#peer = new RTCPeerConnection());
    for (const track of this.microphone.getTracks()) peer.addTrack(track, this.microphone);
    peer.ontrack = ({ track, streams }) => this.#on.voice(streams[0] ?? new MediaStream([track]));
    peer.onconnectionstatechange = () => this.#look();
    this.#channel = peer.createDataChannel('oai-events');
    this.#channel.onopen = () => this.#look();
    this.#channel.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#channel.onclose = () => this.#end(new Failure(this.seconds >= LIMIT ? 'session_limit' : 'channel_closed'));
    await peer.setLocalDescription();
    if (this.#over) return;
    const sdp = await askForCall(url, secret, peer.localDescription.sdp, this.#asking.signal);
    if (this.#over) return;
    this.#on.step('path');
    this.#within(CONNECT_IN, () => (peer.connectionState === 'connected' ? 'channel_missing' : 'path_failed'));
    await peer.setRemoteDescription({ type: 'answer', sdp }).catch(error => {
      throw new Failure('answer_invalid', String(error));
    });
  }

  /** What the connection has come to. */
  #look() {
    if (this.#over) return;
    const state = this.#peer.connectionState;
    if (state === 'failed') return this.#end(new Failure(this.#since === undefined ? 'path_failed' : 'path_lost'));
    if (state === 'disconnected') {
      this.#on.step('unsteady');
      this.#within(RECOVER_IN, () => 'path_lost');
    } else if (state === 'connected' && this.#channel.readyState === 'open') {
      clearTimeout(this.#deadline);
      this.#since ??= performance.now();
      this.#on.step('connected');
    }
  }

  #hear(event) {
    this.#on.event('received', event);
    if (event.type === 'error' && event.error?.code === 'session_expired') {
      this.#end(new Failure('session_limit', event.error.message));
    }
  }

  send(event) {
    if (this.#channel?.readyState !== 'open') return;
    this.#channel.send(JSON.stringify(event));
    this.#on.event('sent', event);
  }

  mute(muted) {
    for (const track of this.microphone.getTracks()) track.enabled = !muted;
  }

  /** Before OpenAI was asked, only the microphone was, and the token is still good. */
  hangUp() {
    this.#end(this.#peer ? new Failure('hung_up') : new Failure('cancelled', undefined, { spent: false }));
  }

  /** The token is out of time, which ends a call that OpenAI was not asked for yet, and no other. */
  expire() {
    if (!this.#peer) this.#end(new Failure('token_expired'));
  }

  /** Ends the call for the reason that `why` finds, if it is not connected by then. */
  #within(milliseconds, why) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#end(new Failure(why())), milliseconds);
  }

  #end(failure) {
    if (this.#over) return;
    const { seconds } = this;
    this.#over = true;
    clearTimeout(this.#deadline);
    this.#asking.abort();
    this.#peer?.close();
    this.#silence();
    this.#on.end(failure, seconds);
  }

  /** The browser shows a microphone as in use until its tracks are stopped. */
  #silence() {
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
  }
}

async function openMicrophone() {
  const fail = (code, details) => new Failure(code, details, { spent: false });
  if (!window.isSecureContext || !navigator.mediaDevices) throw fail('insecure_page');
  if (!window.RTCPeerConnection) throw fail('no_webrtc');
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    const codes = {
      NotAllowedError: 'microphone_denied',
      SecurityError: 'microphone_denied',
      NotFoundError: 'microphone_missing',
    };
    throw fail(codes[error.name] ?? 'microphone_busy', String(error));
  }
}

/** Posts the SDP; OpenAI's SDP. `signal` ends it early. */
async function askForCall(url, secret, sdp, signal) {
  let response, text;
  try {
    const headers = { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/sdp' };
    const ends = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_IN)]);
    response = await fetch(url, { method: 'POST', headers, body: sdp, signal: ends });
    text = await response.text();
  } catch (error) {
    if (error.name === 'TimeoutError') throw new Failure('calls_timeout');
    throw new Failure('network', String(error), { spent: false });
  }
  if (response.ok) return text;
  const details = [`HTTP ${response.status}`, reason(text)?.code, reason(text)?.message].filter(Boolean).join(' · ');
  throw new Failure(refused(response.status, reason(text)), details);
}

function refused(status, error) {
  if (status === 429 && error?.code === 'insufficient_quota') return 'calls_out_of_quota';
  if ([400, 401, 403, 404, 429].includes(status)) return `calls_${status}`;
  return status >= 500 ? 'calls_5xx' : 'calls_other';
}

/** OpenAI's own reason, where there is one: `{ message, type, param, code }`. */
function reason(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}

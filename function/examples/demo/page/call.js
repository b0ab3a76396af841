/** One session with OpenAI over WebRTC: https://developers.openai.com/api/docs/guides/realtime-webrtc */

/** Milliseconds to wait for OpenAI's answer, for a connection, and for a broken connection to recover. */
const [ANSWER_TIMEOUT, CONNECT_TIMEOUT, RECOVERY_TIMEOUT] = [15_000, 20_000, 10_000];

/** A session that closes after this many seconds has reached OpenAI's limit of 60 minutes. */
const SESSION_LIMIT = 3590;

/** Why a call did not start or has ended: a code of messages.js, and whether the token is spent. */
class CallEnd extends Error {
  constructor(code, details, { spent = true } = {}) {
    super(details);
    Object.assign(this, { code, details, spent });
  }
}

export class Call {
  #listener;
  #peer;
  #channel;
  #timer;
  #connectedAt;
  #ended = false;
  #abort = new AbortController();

  /**
   * Calls `listener`: `state(name)`, `microphone(stream)`, `voice(stream)`, `event(direction, event)`, and once
   * `end({ code, details, spent }, seconds)`, without seconds if the call was never connected.
   */
  constructor(listener) {
    this.#listener = listener;
  }

  get connected() {
    return this.#connectedAt !== undefined && !this.#ended;
  }

  /** Whole seconds since the call was connected, or `undefined` before. */
  get seconds() {
    return this.#connectedAt === undefined ? undefined : Math.floor((performance.now() - this.#connectedAt) / 1000);
  }

  async start(token) {
    try {
      this.#listener.state('microphone');
      this.microphone = await openMicrophone();
      if (this.#ended) return this.#stopMicrophone();
      this.#listener.microphone(this.microphone);
      if (token.expiresAt * 1000 <= Date.now()) throw new CallEnd('token_expired');
      this.#listener.state('offer');
      await this.#connect(token.callsUrl, token.value);
    } catch (error) {
      this.#end(error instanceof CallEnd ? error : new CallEnd('unexpected', String(error)));
    }
  }

  async #connect(url, secret) {
    const peer = new RTCPeerConnection();
    this.#peer = peer;
    for (const track of this.microphone.getTracks()) peer.addTrack(track, this.microphone);
    peer.ontrack = ({ track, streams }) => this.#listener.voice(streams[0] ?? new MediaStream([track]));
    peer.onconnectionstatechange = () => this.#checkConnection();
    this.#channel = peer.createDataChannel('oai-events');
    this.#channel.onopen = () => this.#checkConnection();
    this.#channel.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#channel.onclose = () => {
      this.#end(new CallEnd(this.seconds >= SESSION_LIMIT ? 'session_limit' : 'channel_closed'));
    };
    await peer.setLocalDescription();
    if (this.#ended) return;
    const sdp = await postOffer(url, secret, peer.localDescription.sdp, this.#abort.signal);
    if (this.#ended) return;
    this.#listener.state('connecting');
    this.#setTimer(CONNECT_TIMEOUT, () =>
      peer.connectionState === 'connected' ? 'channel_not_opened' : 'connection_failed',
    );
    await peer.setRemoteDescription({ type: 'answer', sdp }).catch(error => {
      throw new CallEnd('answer_invalid', String(error));
    });
  }

  /** Acts on the state of the connection and of the data channel. */
  #checkConnection() {
    if (this.#ended) return;
    const state = this.#peer.connectionState;
    if (state === 'failed') {
      this.#end(new CallEnd(this.#connectedAt === undefined ? 'connection_failed' : 'connection_lost'));
    } else if (state === 'disconnected') {
      this.#listener.state('recovering');
      this.#setTimer(RECOVERY_TIMEOUT, () => 'connection_lost');
    } else if (state === 'connected' && this.#channel.readyState === 'open') {
      clearTimeout(this.#timer);
      this.#connectedAt ??= performance.now();
      this.#listener.state('connected');
    }
  }

  #receive(event) {
    this.#listener.event('received', event);
    if (event.type === 'error' && event.error?.code === 'session_expired') {
      this.#end(new CallEnd('session_limit', event.error.message));
    }
  }

  send(event) {
    if (this.#channel?.readyState !== 'open') return;
    this.#channel.send(JSON.stringify(event));
    this.#listener.event('sent', event);
  }

  mute(muted) {
    for (const track of this.microphone.getTracks()) track.enabled = !muted;
  }

  /** Until the offer is sent, only the microphone has been requested, and the token stays valid. */
  hangUp() {
    this.#end(this.#peer ? new CallEnd('hung_up') : new CallEnd('cancelled', undefined, { spent: false }));
  }

  /** The token has expired. This ends only a call whose offer is not sent yet. */
  expire() {
    if (!this.#peer) this.#end(new CallEnd('token_expired'));
  }

  /** Ends the call with the code that `findCode` returns, unless it connects in time. */
  #setTimer(milliseconds, findCode) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(new CallEnd(findCode())), milliseconds);
  }

  #end(reason) {
    if (this.#ended) return;
    const { seconds } = this;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
    this.#peer?.close();
    this.#stopMicrophone();
    this.#listener.end(reason, seconds);
  }

  /** The browser shows a microphone as in use until its tracks are stopped. */
  #stopMicrophone() {
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
  }
}

/**
 * Asks for the microphone, unless it opens without a prompt, and releases it again. Returns the reason if it cannot be used,
 * as for the end of a call.
 */
export async function findMicrophoneFault() {
  // An insecure page cannot ask. A call from it explains this.
  if (!navigator.mediaDevices || (await opensWithoutPrompt())) return;
  try {
    const microphone = await openMicrophone();
    for (const track of microphone.getTracks()) track.stop();
  } catch (error) {
    return error;
  }
}

/** Whether the microphone is allowed and there is one. A browser that does not say so is asked. */
async function opensWithoutPrompt() {
  const permission = await navigator.permissions.query({ name: 'microphone' }).catch(() => undefined);
  const devices = await navigator.mediaDevices.enumerateDevices();
  return permission?.state === 'granted' && devices.some(({ kind }) => kind === 'audioinput');
}

async function openMicrophone() {
  const callEnd = (code, details) => new CallEnd(code, details, { spent: false });
  if (!window.isSecureContext || !navigator.mediaDevices) throw callEnd('insecure_page');
  if (!window.RTCPeerConnection) throw callEnd('no_webrtc');
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    const codes = {
      NotAllowedError: 'microphone_denied',
      SecurityError: 'microphone_denied',
      NotFoundError: 'microphone_missing',
    };
    throw callEnd(codes[error.name] ?? 'microphone_busy', String(error));
  }
}

/** Posts the SDP offer and returns OpenAI's SDP answer. `signal` aborts the request. */
async function postOffer(url, secret, sdp, signal) {
  let response, text;
  try {
    const headers = { Authorization: `Bearer ${secret}`, 'Content-Type': 'application/sdp' };
    const anySignal = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT)]);
    response = await fetch(url, { method: 'POST', headers, body: sdp, signal: anySignal });
    text = await response.text();
  } catch (error) {
    if (error.name === 'TimeoutError') throw new CallEnd('calls_timeout');
    throw new CallEnd('network', String(error), { spent: false });
  }
  if (response.ok) return text;
  const error = openAiError(text);
  const details = [`HTTP ${response.status}`, error?.code, error?.message].filter(Boolean).join(' · ');
  throw new CallEnd(endCode(response.status, error), details);
}

/** The code for a refused call. */
function endCode(status, error) {
  if (status === 429 && error?.code === 'insufficient_quota') return 'calls_out_of_quota';
  if (status === 401 && error?.code === 'ephemeral_token_already_used') return 'token_used';
  if ([400, 401, 403, 404, 429].includes(status)) return `calls_${status}`;
  return status >= 500 ? 'calls_5xx' : 'calls_other';
}

/** OpenAI's error, if the response contains one: `{ message, type, param, code }`. */
function openAiError(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}

/** One session with OpenAI over WebRTC. */

import { CallEnd } from './call_end.js';

/** Milliseconds to wait for a connection, and for a broken connection to recover. */
const [CONNECT_TIMEOUT, RECOVERY_TIMEOUT] = [20_000, 10_000];

/** Milliseconds to wait for the server's answer to an offer, and for its hang-up after the end. */
const [SERVER_TIMEOUT, HANG_UP_TIMEOUT] = [30_000, 5_000];

/** A session that closes after this many seconds has reached OpenAI's limit of 60 minutes. */
const SESSION_LIMIT = 3590;

export class Call {
  #listener;
  #placement;
  #peer;
  #channel;
  #timer;
  #endTimer;
  #connectedAt;
  #ended = false;

  /**
   * Places the call with `placement`, a `TokenCall` or a `ServerCall`. Calls `listener`: `state(name)`, `microphone(stream)`,
   * `voice(stream)`, `event(direction, event)`, `limit(end)` with the Unix seconds at which the server ends the call, and once
   * `end({ code, details, spent, refusal }, seconds, ended)`, without seconds if the call was never connected. `ended` is a
   * promise of the server's refusal to end the call, if it refuses.
   */
  constructor(placement, listener) {
    this.#placement = placement;
    this.#listener = listener;
  }

  get connected() {
    return this.#connectedAt !== undefined && !this.#ended;
  }

  /** Whether the call has a data channel. Without one there are no events. */
  get hasChannel() {
    return this.#placement.hasChannel;
  }

  /** Whole seconds since the call was connected, or `undefined` before. */
  get seconds() {
    return this.#connectedAt === undefined ? undefined : Math.floor((performance.now() - this.#connectedAt) / 1000);
  }

  async start() {
    try {
      this.#listener.state('microphone');
      this.microphone = await openMicrophone();
      if (this.#ended) return this.#stopMicrophone();
      this.#listener.microphone(this.microphone);
      this.#placement.checkReady();
      this.#listener.state(this.#placement.placing);
      await this.#connect();
    } catch (error) {
      this.#end(error instanceof CallEnd ? error : new CallEnd('unexpected', String(error)));
    }
  }

  async #connect() {
    const peer = new RTCPeerConnection();
    this.#peer = peer;
    // For the browser's console: without a data channel, `peer.sctp` is null.
    globalThis.peer = peer;
    for (const track of this.microphone.getTracks()) peer.addTrack(track, this.microphone);
    peer.ontrack = ({ track, streams }) => this.#listener.voice(streams[0] ?? new MediaStream([track]));
    peer.onconnectionstatechange = () => this.#checkConnection();
    if (this.hasChannel) this.#openChannel();
    await peer.setLocalDescription();
    if (this.#ended) return;
    this.#setTimer(SERVER_TIMEOUT, () => 'server_timeout');
    const sdp = await this.#placement.place(peer.localDescription.sdp);
    if (this.#ended) return;
    const { expiresAt } = this.#placement;
    if (expiresAt) this.#setLimit(expiresAt);
    this.#listener.state('connecting');
    this.#setTimer(CONNECT_TIMEOUT, () =>
      peer.connectionState === 'connected' ? 'channel_not_opened' : 'connection_failed',
    );
    await peer.setRemoteDescription({ type: 'answer', sdp }).catch(error => {
      throw new CallEnd('answer_invalid', String(error));
    });
    if (!this.hasChannel) this.#watchTransport();
  }

  #openChannel() {
    this.#channel = this.#peer.createDataChannel('oai-events');
    this.#channel.onopen = () => this.#checkConnection();
    this.#channel.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#channel.onclose = () => {
      this.#end(new CallEnd(this.seconds >= SESSION_LIMIT ? 'session_limit' : 'channel_closed'));
    };
  }

  /** Without a data channel, only the transport shows that the other side has closed the connection. */
  #watchTransport() {
    const transport = this.#peer.getSenders()[0]?.transport;
    transport?.addEventListener('statechange', () => {
      if (transport.state === 'closed') this.#end(new CallEnd('channel_closed'));
    });
  }

  /** The server ends the call at `end`. If the connection is still up after that, the page closes it. */
  #setLimit(end) {
    this.#listener.limit(end);
    this.#endTimer = setTimeout(() => this.#end(new CallEnd('time_over')), end * 1000 - Date.now() + HANG_UP_TIMEOUT);
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
    } else if (state === 'connected' && (!this.hasChannel || this.#channel.readyState === 'open')) {
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

  /** A token has expired. This ends only a call with it whose offer is not sent yet. */
  expire() {
    if (this.#peer) return;
    try {
      this.#placement.checkReady();
    } catch (error) {
      this.#end(error);
    }
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
    clearTimeout(this.#endTimer);
    const explained = this.#placement.explain(reason);
    const ended = this.#placement.end(explained);
    this.#peer?.close();
    this.#stopMicrophone();
    this.#listener.end(explained, seconds, ended);
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

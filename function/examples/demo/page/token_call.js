/** A call that the browser places at OpenAI, with a token: https://developers.openai.com/api/docs/guides/realtime-webrtc */

import { CallEnd } from './call_end.js';

/** Milliseconds to wait for OpenAI's answer. */
const ANSWER_TIMEOUT = 15_000;

export class TokenCall {
  #token;
  #abort = new AbortController();

  /** The state of the call while OpenAI is asked. */
  placing = 'offer';
  hasChannel = true;

  constructor(token) {
    this.#token = token;
  }

  checkReady() {
    if (this.#token.expiresAt * 1000 <= Date.now()) throw new CallEnd('token_expired');
  }

  /** Posts the SDP offer and returns OpenAI's SDP answer. */
  async place(sdp) {
    let response, text;
    try {
      const headers = { Authorization: `Bearer ${this.#token.value}`, 'Content-Type': 'application/sdp' };
      const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(ANSWER_TIMEOUT)]);
      response = await fetch(this.#token.callsUrl, { method: 'POST', headers, body: sdp, signal });
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

  explain(reason) {
    return reason;
  }

  end() {
    this.#abort.abort();
  }
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

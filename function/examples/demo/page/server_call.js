/** A call that the server places and ends. No token is in the browser. */

import { CallEnd } from './call_end.js';
import { NO_ANSWER, readRefusal } from './refusal.js';

/** Seconds before the end in which a break of the connection is the server's hang-up: the header has whole seconds. */
const END_TOLERANCE = 1;

/** The end of the last call. The next call waits for it, since the server counts the last one until then. */
let lastEnd = Promise.resolve();

/** The path and query of the request for a call with these fields. */
export function callPath(fields) {
  const query = new URLSearchParams(fields).toString();
  return query ? `/call?${query}` : '/call';
}

export class ServerCall {
  #path;
  #location;
  #placed;
  #ended;

  /** The state of the call while the server places it. */
  placing = 'placing';

  /** The moment at which the server ends the call, in Unix seconds, once it is placed. */
  expiresAt;

  /** A call with the `fields` of a request, of a profile with these call `rules`. */
  constructor(fields, rules) {
    this.#path = callPath(fields);
    this.hasChannel = rules.mode === 'open';
  }

  checkReady() {}

  /** Sends the SDP offer and returns OpenAI's SDP answer. */
  async place(sdp) {
    await lastEnd;
    if (this.#ended) return;
    this.#placed = this.#post(sdp);
    return this.#placed;
  }

  async #post(sdp) {
    let response;
    try {
      response = await fetch(this.#path, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: sdp,
      });
    } catch {
      throw new CallEnd('refused', undefined, { refusal: NO_ANSWER });
    }
    if (!response.ok) throw new CallEnd('refused', undefined, { refusal: await readRefusal(response) });
    this.#location = response.headers.get('location');
    this.expiresAt = Number(response.headers.get('call-expires-at'));
    return response.text();
  }

  /** The end of a call with its cause: a connection that breaks at the second of its end was ended by the server. */
  explain(reason) {
    const broken = ['channel_closed', 'connection_lost'].includes(reason.code);
    if (broken && Date.now() / 1000 >= this.expiresAt - END_TOLERANCE) return new CallEnd('server_ended');
    return reason.code === 'channel_closed' ? new CallEnd('other_side_ended') : reason;
  }

  /**
   * Tells the server that the call is over, even if the page closes. Returns a refusal if the server did not end the call.
   * A call whose answer is still on its way is ended when it arrives.
   */
  end({ code }) {
    this.#ended = true;
    if (code === 'server_ended') return;
    const ended = this.#delete();
    lastEnd = ended;
    return ended;
  }

  async #delete() {
    // A closing page can only send this request now, so there is nothing to wait for once the call is placed.
    if (!this.#location) await this.#placed?.catch(() => {});
    if (!this.#location) return;
    try {
      const response = await fetch(this.#location, { method: 'DELETE', keepalive: true });
      return response.ok ? undefined : await readRefusal(response);
    } catch {
      return NO_ANSWER;
    }
  }
}

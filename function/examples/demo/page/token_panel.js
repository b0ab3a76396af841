/** The token: requested, and watched until it is used or expires. */

import { findMicrophoneFault } from './call.js';
import { copyText } from './copy.js';
import { countDown } from './count_down.js';
import { elements } from './elements.js';
import { callEndMessage, formatTime, refusalMessage } from './messages.js';
import { showNotice } from './notice.js';
import { NO_ANSWER } from './refusal.js';
import { maskToken, requestToken, tokenAsJson } from './token.js';
import { holdOff } from './wait.js';

export class TokenPanel {
  #session;
  #listener;
  #token;
  #profile;
  /** The request that the token was minted for, as JSON. */
  #mintedFor;
  #stopExpiry = () => {};
  #stopWait = () => {};

  /** Requests tokens for `session`. Calls `listener`: `requestStarted()`, `requestFinished()`, `minted()` and `expired()`. */
  constructor(session, listener) {
    this.#session = session;
    this.#listener = listener;
    elements['session-form'].addEventListener('submit', event => {
      event.preventDefault();
      if (session.endpoint === 'token' && elements['get-token'].ariaDisabled !== 'true') return this.#request();
    });
    elements.copy.addEventListener('click', () => copyText(elements.copy, 'Copy', this.#token.value));
  }

  /** The token, until it is used or expires. */
  get token() {
    return this.#token;
  }

  /** The profile that the last token was minted for. */
  get profile() {
    return this.#profile;
  }

  /** Loads the profiles and enables the button. Earlier, a click would make the browser submit the form itself. */
  async open() {
    await this.#load();
    elements['get-token'].disabled = false;
  }

  /** No token can be requested during a call: it would seem to be the call's. */
  setCalling(calling) {
    elements['get-token'].disabled = calling;
  }

  /** Marks the token as used. */
  markUsed() {
    this.#discard('used');
  }

  focus() {
    elements['get-token'].focus();
  }

  /** The choices have changed. Only a call with a token needs this part of the page. */
  showChoices() {
    const isNeeded = this.#session.endpoint === 'token';
    elements['get-token'].hidden = !isNeeded;
    elements.minted.hidden = !isNeeded || this.#mintedFor === undefined;
    this.#showOutdated();
  }

  /** If the demo is not running yet, the next request for a token loads the profiles again. */
  async #load() {
    if (!(await this.#session.load())) showNotice(elements.refusal, refusalMessage(NO_ANSWER));
  }

  /** Asks for the microphone first: without one, no token is requested, and none is taken from the quota. */
  async #request() {
    this.#setWaiting(true);
    showNotice(elements.refusal);
    if (!this.#session.isLoaded) await this.#load();
    if (!this.#session.isLoaded || this.#session.endpoint !== 'token') return this.#setWaiting(false);
    const fault = await findMicrophoneFault();
    if (fault) {
      this.#setWaiting(false);
      return showNotice(elements.refusal, callEndMessage(fault));
    }
    const { profile, request } = this.#session;
    const mintedFor = JSON.stringify(request);
    const { token, ...refused } = await requestToken(request);
    this.#setWaiting(false);
    if (token) return this.#keep(token, profile, mintedFor);
    showNotice(elements.refusal, refusalMessage(refused));
    if (!refused.retryAfter) return;
    this.#stopWait = holdOff(elements['get-token'], refused.retryAfter, () => this.#setWaiting(false));
  }

  #keep(token, profile, mintedFor) {
    this.#token = token;
    this.#profile = profile;
    this.#mintedFor = mintedFor;
    this.showChoices();
    elements.minted.classList.remove('spent');
    elements.copy.disabled = false;
    elements.secret.textContent = maskToken(token.value);
    elements['token-summary'].textContent = [token.model, token.voice].filter(Boolean).join(' · ');
    elements.answer.textContent = tokenAsJson(token);
    this.#listener.minted();
    const lifetime = token.expiresAt - Date.now() / 1000;
    this.#stopExpiry();
    this.#stopExpiry = countDown(token.expiresAt, left => {
      elements['time-left'].textContent = left ? formatTime(left) : 'expired';
      elements.ring.setAttribute('stroke-dasharray', `${Math.max(0, (100 * left) / lifetime).toFixed(1)} 100`);
      if (left) return;
      this.#discard('expired');
      this.#listener.expired();
    });
  }

  /** Choices made after the request do not change the token. */
  #showOutdated() {
    const outdated = this.#token && JSON.stringify(this.#session.request) !== this.#mintedFor;
    elements.outdated.textContent = outdated
      ? 'This token has the options that you chose before. Get a new one to apply your changes.'
      : '';
  }

  /** A used or expired token cannot open a session. */
  #discard(reason) {
    this.#stopExpiry();
    this.#token = undefined;
    this.#showOutdated();
    elements['time-left'].textContent = reason;
    elements.minted.classList.add('spent');
    elements.copy.disabled = true;
  }

  /** `aria-disabled` keeps the keyboard focus on the button, unlike `disabled`. */
  #setWaiting(waiting) {
    this.#stopWait();
    elements['get-token'].ariaDisabled = String(waiting);
    elements['get-token'].textContent = waiting ? 'Requesting…' : 'Get a token';
    if (waiting) this.#listener.requestStarted();
    else this.#listener.requestFinished();
  }
}

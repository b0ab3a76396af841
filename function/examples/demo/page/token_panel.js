/** The first step: choose a profile, get a token, and watch it expire. */

import { findMicrophoneFault } from './call.js';
import { copyText } from './copy.js';
import { elements } from './elements.js';
import { callEndMessage, formatTime, refusalMessage } from './messages.js';
import { showNotice } from './notice.js';
import { ProfileForm } from './profile_form.js';
import { countDown, maskToken, requestToken, tokenAsJson } from './token.js';

export class TokenPanel {
  #listener;
  #form;
  #token;
  #profile;
  /** The request that the token was minted for, as JSON. */
  #mintedFor;
  #stopExpiry = () => {};
  #stopWait = () => {};

  /** Calls `listener`: `requestStarted()`, `requestFinished()`, `minted()` and `expired()`. */
  constructor(listener) {
    this.#listener = listener;
    elements['token-form'].addEventListener('submit', event => {
      event.preventDefault();
      if (elements['get-token'].ariaDisabled !== 'true') return this.#request();
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
    await this.#loadProfiles();
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

  /** Asks for the microphone first: without one, no token is requested, and none is taken from the quota. */
  async #request() {
    this.#setWaiting(true);
    showNotice(elements.refusal);
    if (!this.#form) await this.#loadProfiles();
    if (!this.#form) return this.#setWaiting(false);
    const fault = await findMicrophoneFault();
    if (fault) {
      this.#setWaiting(false);
      return showNotice(elements.refusal, callEndMessage(fault));
    }
    const { profile, request } = this.#form;
    const mintedFor = JSON.stringify(request);
    const { token, ...refused } = await requestToken(request);
    this.#setWaiting(false);
    if (token) return this.#keep(token, profile, mintedFor);
    showNotice(elements.refusal, refusalMessage(refused.status, refused.body));
    if (refused.retryAfter) this.#holdOff(refused.retryAfter);
  }

  /** If the demo is not running yet, the next request for a token loads the profiles again. */
  async #loadProfiles() {
    try {
      const answer = await (await fetch('/profiles')).json();
      const upstream = answer.simulated ? 'Simulated OpenAI' : 'OpenAI';
      elements.upstream.textContent = `${upstream} · ${new URL(answer.openai).host}`;
      this.#form = new ProfileForm(answer.profiles, elements.profile, elements.fields, () => this.#showRequest());
      this.#showRequest();
    } catch {
      showNotice(elements.refusal, refusalMessage(0, null));
    }
  }

  #showRequest() {
    const { profile, request } = this.#form;
    elements.request.textContent = `POST /token${Object.keys(request).length ? ` ${JSON.stringify(request)}` : ''}`;
    elements['transcribe-option'].hidden = profile.kind !== 'realtime';
    this.#showOutdated();
  }

  #keep(token, profile, mintedFor) {
    this.#token = token;
    this.#profile = profile;
    this.#mintedFor = mintedFor;
    this.#showOutdated();
    elements.minted.hidden = false;
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
    const outdated = this.#token && JSON.stringify(this.#form.request) !== this.#mintedFor;
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

  #holdOff(seconds) {
    elements['get-token'].ariaDisabled = 'true';
    this.#stopWait = countDown(Date.now() / 1000 + seconds, left => {
      elements['get-token'].textContent = `Try again in ${formatTime(left)}`;
      if (!left) this.#setWaiting(false);
    });
  }
}

/** The choice of the session: a profile, the fields that it lets a caller set, and how the call is placed. */

import { elements } from './elements.js';
import { endpointMessage } from './messages.js';
import { ProfileForm } from './profile_form.js';
import { callPath } from './server_call.js';

export class SessionPanel {
  #form;
  #endpoints = [...elements.endpoints.querySelectorAll('input')];
  #listener;

  /** Calls `listener`: `changed()` after each change of the choices. */
  constructor(listener) {
    this.#listener = listener;
    for (const endpoint of this.#endpoints) endpoint.addEventListener('change', () => this.#show());
  }

  /** Loads the profiles. Returns `false` if the demo does not answer. */
  async load() {
    try {
      const answer = await (await fetch('/profiles')).json();
      const upstream = answer.simulated ? 'Simulated OpenAI' : 'OpenAI';
      elements.upstream.textContent = `${upstream} · ${new URL(answer.openai).host}`;
      this.#form = new ProfileForm(answer.profiles, elements.profile, elements.fields, () => this.#show());
      this.#show();
      return true;
    } catch {
      return false;
    }
  }

  get isLoaded() {
    return this.#form !== undefined;
  }

  /** The selected profile: `kind`, `fields`, `token`, and the rules of its calls in `call`. */
  get profile() {
    return this.#form.profile;
  }

  /** The fields of the request. It contains only the changed ones. */
  get request() {
    return this.#form.request;
  }

  /** How the call is placed: with a `token`, or by the server with a `call`. A profile may allow only one of them. */
  get endpoint() {
    if (!this.#form) return 'token';
    const { token, call } = this.profile;
    if (token && call) return this.#endpoints.find(endpoint => endpoint.checked).value;
    return call ? 'call' : 'token';
  }

  /** Choices made during a call would seem to be the call's. */
  setCalling(calling) {
    elements.choices.disabled = calling;
  }

  #show() {
    const { endpoint, profile, request } = this;
    const body = Object.keys(request).length ? ` ${JSON.stringify(request)}` : '';
    elements.request.textContent = endpoint === 'token' ? `POST /token${body}` : `POST ${callPath(request)}`;
    elements.endpoints.hidden = !(profile.token && profile.call);
    elements['endpoint-note'].textContent = endpointMessage(profile, endpoint);
    this.#listener.changed();
  }
}

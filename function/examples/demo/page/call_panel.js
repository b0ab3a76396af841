/** The call, its transcript and its events. */

import { Call } from './call.js';
import { copyText } from './copy.js';
import { elements } from './elements.js';
import { EventLog } from './events.js';
import { LevelMeters } from './levels.js';
import { LimitPanel } from './limit_panel.js';
import {
  CALL_STATES,
  CALM_ENDS,
  callEndMessage,
  errorMessage,
  formatTime,
  mayEndSooner,
  panelTexts,
  refusalMessage,
} from './messages.js';
import { showNotice } from './notice.js';
import { ServerCall } from './server_call.js';
import { TokenCall } from './token_call.js';
import { Transcript } from './transcript.js';
import { holdOff, showLongestWait } from './wait.js';

export class CallPanel {
  #session;
  #tokenPanel;
  #call;
  #endpoint;
  #stopwatch;
  #stopWait = () => {};
  #limit = new LimitPanel();
  #transcript = new Transcript(elements.turns);
  #log = new EventLog(elements.events, elements.count);
  #levels = new LevelMeters();

  /** Places the calls that `session` describes, if they need a token with that of `tokenPanel`. */
  constructor(session, tokenPanel) {
    this.#session = session;
    this.#tokenPanel = tokenPanel;
    elements.connect.addEventListener('click', event => {
      if (!isSecondClick(event) && elements.connect.ariaDisabled !== 'true') return this.#start();
    });
    // The browser sends the request that ends a call through the server even after the page is closed.
    window.addEventListener('pagehide', () => this.#call?.hangUp());
    elements['hang-up'].addEventListener('click', event => {
      if (!isSecondClick(event)) this.#call.hangUp();
    });
    for (const button of [elements.connect, elements['hang-up']]) {
      button.addEventListener('keydown', event => event.repeat && event.preventDefault());
    }
    elements.mute.addEventListener('click', () => {
      const muted = elements.mute.classList.toggle('pressed');
      this.#call.mute(muted);
      elements.mute.textContent = muted ? 'Unmute' : 'Mute';
    });
    elements['start-response'].addEventListener('click', () => this.#call.send({ type: 'response.create' }));
    elements['message-form'].addEventListener('submit', event => {
      event.preventDefault();
      this.#sendMessage();
    });
    const copyEvents = elements['copy-events'];
    copyEvents.addEventListener('click', () => copyText(copyEvents, 'Copy all', this.#log.text));
  }

  open() {
    this.showChoices();
  }

  /** The choices have changed: how a call would be placed, how long it may last, and whether it has a data channel. */
  showChoices() {
    const { endpoint } = this.#session;
    if (endpoint !== this.#endpoint) {
      this.#endpoint = endpoint;
      this.#resetWait();
      showNotice(elements.failure);
      this.#showState(endpoint === 'call' || this.#tokenPanel.token ? 'ready' : 'idle');
    }
    const { profile, rules } = this.#choice;
    const texts = panelTexts(rules);
    elements['no-turns'].textContent = texts.transcript;
    elements['no-events'].textContent = texts.events;
    elements.message.placeholder = texts.message;
    elements['transcribe-option'].hidden = profile?.kind !== 'realtime' || rules?.mode === 'locked';
    this.#limit.showNext(rules?.max_seconds);
    this.showToken();
  }

  /** The selected profile, and the rules of its calls if the server places the call. */
  get #choice() {
    const profile = this.#session.isLoaded ? this.#session.profile : undefined;
    return { profile, rules: this.#endpoint === 'call' ? profile.call : undefined };
  }

  /** A new token replaces the current one, so no call can start until the answer is here. */
  tokenRequested() {
    if (this.#endpoint !== 'token') return;
    elements.connect.disabled = true;
    showNotice(elements.failure);
  }

  /** A call needs a token, unless the server places it. */
  showToken() {
    elements.connect.disabled = this.#endpoint === 'token' && !this.#tokenPanel.token;
  }

  tokenMinted() {
    this.showToken();
    if (!this.#call) this.#showState('ready');
  }

  tokenExpired() {
    this.showToken();
    if (this.#call) this.#call.expire();
    else if (this.#endpoint === 'token') this.#showState('expired');
  }

  #start() {
    showNotice(elements.failure);
    this.#resetWait();
    elements['call-time'].textContent = '';
    this.#transcript.clear();
    this.#log.clear();
    const { rules } = this.#choice;
    const placement = rules ? new ServerCall(this.#session.request, rules) : new TokenCall(this.#tokenPanel.token);
    this.#call = new Call(placement, {
      state: state => this.#showState(state),
      microphone: stream => this.#levels.follow(stream, elements.input),
      voice: stream => this.#play(stream),
      event: (direction, event) => this.#handleEvent(direction, event),
      limit: end => this.#limit.start(end),
      end: (reason, seconds, ended) => this.#end(reason, seconds, ended),
    });
    this.#setCalling(true);
    elements['hang-up'].focus();
    return this.#call.start();
  }

  #sendMessage() {
    const text = elements.message.value.trim();
    if (!text || !this.#call?.connected) return;
    const content = [{ type: 'input_text', text }];
    this.#call.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
    this.#call.send({ type: 'response.create' });
    elements.message.value = '';
  }

  #showState(state) {
    elements['state-text'].textContent = CALL_STATES[state];
    elements.state.dataset.state = state;
    if (state !== 'connected') return;
    this.#setTalking(true);
    const showTime = () => (elements['call-time'].textContent = formatTime(this.#call.seconds));
    showTime();
    clearInterval(this.#stopwatch);
    this.#stopwatch = setInterval(showTime, 1000);
  }

  #play(stream) {
    elements.speaker.srcObject = stream;
    this.#levels.follow(stream, elements.output);
  }

  #handleEvent(direction, event) {
    this.#log.add(direction, event);
    elements['copy-events'].disabled = false;
    if (direction === 'sent') return;
    this.#transcript.handle(event);
    if (event.type === 'session.created') this.#transcribeSpeech(event.session);
    if (event.type === 'error') showNotice(elements.failure, errorMessage(event.error ?? {}));
    if (event.type === 'response.created') showNotice(elements.failure);
    const failed = event.type === 'response.done' && event.response?.status === 'failed';
    if (failed) showNotice(elements.failure, errorMessage(event.response.status_details?.error ?? {}));
  }

  /** Turns on the transcription of the caller's speech, unless the session's profile already does. */
  #transcribeSpeech(session) {
    if (session.type !== 'realtime' || !elements.transcribe.checked || session.audio?.input?.transcription) return;
    const audio = { input: { transcription: { model: 'gpt-live-transcribe' } } };
    this.#call.send({ type: 'session.update', session: { type: 'realtime', audio } });
  }

  #end(reason, seconds, ended) {
    const parts = [elements.state.parentElement, elements['message-form']];
    const hadFocus = parts.some(part => part.contains(document.activeElement));
    clearInterval(this.#stopwatch);
    this.#levels.close();
    this.#transcript.end();
    this.#call = undefined;
    elements.speaker.srcObject = null;
    this.#setCalling(false);
    this.#setTalking(false);
    const { rules } = this.#choice;
    if (!rules && reason.spent && this.#tokenPanel.token) this.#tokenPanel.markUsed();
    this.showToken();
    this.#limit.showNext(rules?.max_seconds);
    const isReady = rules ? reason.code === 'cancelled' : this.#tokenPanel.token;
    this.#showState(seconds === undefined ? (isReady ? 'ready' : 'failed') : 'ended');
    const message = callEndMessage(reason, seconds, this.#endpoint);
    showNotice(elements.failure, message, CALM_ENDS.includes(reason.code));
    if (reason.refusal?.retryAfter) this.#wait(reason.refusal);
    ended?.then(refusal => {
      if (refusal && reason.code === 'hung_up' && !this.#call) showNotice(elements.failure, refusalMessage(refusal));
    });
    // The focused control is now hidden or disabled, so the focus moves to the next step.
    if (hadFocus) (elements.connect.disabled ? this.#tokenPanel : elements.connect).focus();
  }

  /** Holds the button back for as long as the server asks for, unless the cause may end sooner. */
  #wait({ body, retryAfter }) {
    this.#stopWait = mayEndSooner(body?.code)
      ? showLongestWait(elements.wait, retryAfter)
      : holdOff(elements.connect, retryAfter, () => this.#resetWait());
  }

  #resetWait() {
    this.#stopWait();
    elements.connect.ariaDisabled = 'false';
    elements.connect.textContent = 'Connect';
  }

  /** Shows the buttons for before or during a call. */
  #setCalling(calling) {
    elements.connect.hidden = calling;
    this.#session.setCalling(calling);
    this.#tokenPanel.setCalling(calling);
    elements.transcribe.disabled = calling;
    elements['hang-up'].hidden = !calling;
  }

  /** Enables the controls that need a connection. */
  #setTalking(talking) {
    elements.mute.hidden = !talking;
    // Reset only at the end: a connection that recovers keeps the microphone muted.
    if (!talking) {
      elements.mute.classList.remove('pressed');
      elements.mute.textContent = 'Mute';
    }
    // Translations and transcriptions have no responses to request, and a locked call has no data channel to request them.
    const { profile } = this.#endpoint === 'call' ? this.#session : this.#tokenPanel;
    const hasResponses = talking && this.#call.hasChannel && profile.kind === 'realtime';
    for (const control of [elements['start-response'], elements.message, elements.send]) {
      control.disabled = !hasResponses;
    }
  }
}

/** True for the second click of a double click: “Connect” and “Hang up” replace each other under the pointer. */
function isSecondClick({ detail: clicks }) {
  return clicks > 1;
}

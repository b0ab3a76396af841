/** The second step: the call, its transcript and its events. */

import { Call } from './call.js';
import { copyText } from './copy.js';
import { elements } from './elements.js';
import { EventLog } from './events.js';
import { LevelMeters } from './levels.js';
import { CALL_STATES, callEndMessage, errorMessage, formatTime } from './messages.js';
import { showNotice } from './notice.js';
import { Transcript } from './transcript.js';

export class CallPanel {
  #tokenPanel;
  #call;
  #stopwatch;
  #transcript = new Transcript(elements.turns);
  #log = new EventLog(elements.events, elements.count);
  #levels = new LevelMeters();

  /** Calls with the token of `tokenPanel`. */
  constructor(tokenPanel) {
    this.#tokenPanel = tokenPanel;
    elements.connect.addEventListener('click', event => {
      if (!isSecondClick(event)) return this.#start();
    });
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
    this.#showState('idle');
  }

  /** A new token replaces the current one, so no call can start until the answer is here. */
  tokenRequested() {
    elements.connect.disabled = true;
    showNotice(elements.failure);
  }

  /** A call needs a token. */
  showToken() {
    elements.connect.disabled = !this.#tokenPanel.token;
  }

  tokenMinted() {
    this.showToken();
    this.#showState('ready');
  }

  tokenExpired() {
    this.showToken();
    if (this.#call) this.#call.expire();
    else this.#showState('expired');
  }

  #start() {
    showNotice(elements.failure);
    elements['call-time'].textContent = '';
    this.#transcript.clear();
    this.#log.clear();
    this.#call = new Call({
      state: state => this.#showState(state),
      microphone: stream => this.#levels.follow(stream, elements.input),
      voice: stream => this.#play(stream),
      event: (direction, event) => this.#handleEvent(direction, event),
      end: (reason, seconds) => this.#end(reason, seconds),
    });
    this.#setCalling(true);
    elements['hang-up'].focus();
    return this.#call.start(this.#tokenPanel.token);
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

  #end(reason, seconds) {
    const parts = [elements.state.parentElement, elements['message-form']];
    const hadFocus = parts.some(part => part.contains(document.activeElement));
    clearInterval(this.#stopwatch);
    this.#levels.close();
    this.#transcript.end();
    this.#call = undefined;
    elements.speaker.srcObject = null;
    this.#setCalling(false);
    this.#setTalking(false);
    if (reason.spent && this.#tokenPanel.token) this.#tokenPanel.markUsed();
    this.showToken();
    const { token } = this.#tokenPanel;
    this.#showState(seconds === undefined ? (token ? 'ready' : 'failed') : 'ended');
    showNotice(elements.failure, callEndMessage(reason, seconds), ['hung_up', 'cancelled'].includes(reason.code));
    // The focused control is now hidden or disabled, so the focus moves to the next step.
    if (hadFocus) (token ? elements.connect : this.#tokenPanel).focus();
  }

  /** Shows the buttons for before or during a call. */
  #setCalling(calling) {
    elements.connect.hidden = calling;
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
    // Translations and transcriptions have no responses to request.
    const hasResponses = talking && this.#tokenPanel.profile.kind === 'realtime';
    for (const control of [elements['start-response'], elements.message, elements.send]) {
      control.disabled = !hasResponses;
    }
  }
}

/** True for the second click of a double click: “Connect” and “Hang up” replace each other under the pointer. */
function isSecondClick({ detail: clicks }) {
  return clicks > 1;
}

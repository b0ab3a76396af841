/** The page: what a person does, and what they see of it. */

import { Call } from './call.js';
import { EventLog } from './events.js';
import { Levels } from './levels.js';
import { tell } from './notice.js';
import { Offer } from './offer.js';
import { askForToken, countDown, masked, shown } from './token.js';
import { Transcript } from './transcript.js';
import { clock, ending, refusal, STEPS, trouble } from './words.js';

const at = Object.fromEntries([...document.querySelectorAll('[id]')].map(element => [element.id, element]));
const transcript = new Transcript(at.turns);
const log = new EventLog(at.events, at.count);
const levels = new Levels();

let offer, token, profile, mintedFor, call;
let stopCounting = () => {};
let stopWaiting = () => {};
let stopwatch;

at.ask.addEventListener('submit', async event => {
  event.preventDefault();
  if (at.mint.ariaDisabled === 'true') return;
  wait(true);
  tell(at.refusal);
  tell(at.failure);
  if (!offer) await learn();
  if (!offer) return wait(false);
  const asked = [offer.profile, JSON.stringify(offer.request)];
  const { token: minted, ...refused } = await askForToken(offer.request);
  wait(false);
  if (minted) return keep(minted, ...asked);
  tell(at.refusal, refusal(refused.status, refused.body));
  if (refused.wait) holdOff(refused.wait);
});

at.connect.addEventListener('click', event => {
  if (again(event)) return;
  tell(at.failure);
  at.time.textContent = '';
  transcript.clear();
  log.clear();
  call = new Call({ step, microphone: stream => levels.follow(stream, at.input), voice: play, event: see, end });
  showCall(true);
  at['hang-up'].focus();
  call.start(token);
});

at['hang-up'].addEventListener('click', event => {
  if (!again(event)) call.hangUp();
});

for (const button of [at.connect, at['hang-up']]) {
  button.addEventListener('keydown', event => event.repeat && event.preventDefault());
}

at.mute.addEventListener('click', () => {
  call.mute(at.mute.classList.toggle('pressed'));
  at.mute.textContent = at.mute.classList.contains('pressed') ? 'Unmute' : 'Mute';
});

at.prompt.addEventListener('click', () => call.send({ type: 'response.create' }));

at.say.addEventListener('submit', event => {
  event.preventDefault();
  const text = at.text.value.trim();
  if (!text || !call?.connected) return;
  const content = [{ type: 'input_text', text }];
  call.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  call.send({ type: 'response.create' });
  at.text.value = '';
});

at.copy.addEventListener('click', () => copy(at.copy, 'Copy', token.value));
at['copy-events'].addEventListener('click', () => copy(at['copy-events'], 'Copy all', log.text));

await learn();
// Before, a click would have had the browser send the form.
at.mint.disabled = false;
step('idle');

/** What there is to ask for; where the demo is not up yet, the next try asks again. */
async function learn() {
  try {
    const offered = await (await fetch('/profiles')).json();
    at.upstream.textContent = `${offered.simulated ? 'Simulated OpenAI' : 'OpenAI'} · ${new URL(offered.openai).host}`;
    offer = new Offer(offered, at.profile, at.fields, showRequest);
    showRequest();
  } catch {
    tell(at.refusal, refusal(0, null));
  }
}

/** The second half of a double click: “Hang up” comes where “Connect” was, and the other way round. */
function again({ detail: clicks }) {
  return clicks > 1;
}

function showRequest() {
  const { request, profile: chosen } = offer;
  at.request.textContent = `POST /token${Object.keys(request).length ? ` ${JSON.stringify(request)}` : ''}`;
  at['write-down'].hidden = chosen.kind !== 'realtime';
  compare();
}

function keep(minted, chosen, request) {
  [token, profile, mintedFor] = [minted, chosen, request];
  compare();
  at.minted.hidden = false;
  at.minted.classList.remove('spent');
  at.copy.disabled = false;
  at.secret.textContent = masked(token.value);
  at.about.textContent = [token.model, token.voice].filter(Boolean).join(' · ');
  at.answer.textContent = shown(token);
  const whole = token.expiresAt - Date.now() / 1000;
  stopCounting();
  stopCounting = countDown(token.expiresAt, left => {
    at.left.textContent = left ? clock(left) : 'expired';
    at.ring.setAttribute('stroke-dasharray', `${Math.max(0, (100 * left) / whole).toFixed(1)} 100`);
    if (!left) spend('expired');
  });
  at.connect.disabled = false;
  step('ready');
}

/** A token stays what it was minted for, whatever is chosen afterwards. */
function compare() {
  const outdated = token && JSON.stringify(offer.request) !== mintedFor;
  at.outdated.textContent = outdated ? 'For what you had chosen before. Get a new one for what you have chosen now.' : '';
}

/** A token that is used or out of time opens nothing any more. */
function spend(word) {
  stopCounting();
  token = undefined;
  compare();
  at.left.textContent = word;
  at.minted.classList.add('spent');
  at.copy.disabled = true;
  at.connect.disabled = true;
  if (word !== 'expired') return;
  if (call) call.expire();
  else step('expired');
}

function step(name) {
  at.said.textContent = STEPS[name];
  at.state.dataset.step = name;
  if (name !== 'connected') return;
  showTalk(true);
  at.time.textContent = clock(call.seconds);
  clearInterval(stopwatch);
  stopwatch = setInterval(() => (at.time.textContent = clock(call.seconds)), 1000);
}

function play(stream) {
  at.speaker.srcObject = stream;
  levels.follow(stream, at.output);
}

function see(side, event) {
  log.add(side, event);
  at['copy-events'].disabled = false;
  if (side === 'sent') return;
  transcript.see(event);
  if (event.type === 'session.created') writeDown(event.session);
  if (event.type === 'error') tell(at.failure, trouble(event.error ?? {}));
  if (event.type === 'response.created') tell(at.failure);
  const failed = event.type === 'response.done' && event.response?.status === 'failed';
  if (failed) tell(at.failure, trouble(event.response.status_details?.error ?? {}));
}

/** Has the session write down the caller's side too, where its profile does not say so already. */
function writeDown(session) {
  if (session.type !== 'realtime' || !at.transcribe.checked || session.audio?.input?.transcription) return;
  const audio = { input: { transcription: { model: 'gpt-live-transcribe' } } };
  call.send({ type: 'session.update', session: { type: 'realtime', audio } });
}

function end(failure, seconds) {
  const inCall = [at.state.parentElement, at.say].some(part => part.contains(document.activeElement));
  clearInterval(stopwatch);
  levels.close();
  transcript.end();
  call = undefined;
  at.speaker.srcObject = null;
  showCall(false);
  showTalk(false);
  if (failure.spent && token) spend('used');
  at.connect.disabled = !token;
  step(seconds === undefined ? (token ? 'ready' : 'failed') : 'ended');
  tell(at.failure, ending(failure, seconds), ['hung_up', 'cancelled'].includes(failure.code));
  // Focus goes to what one does next, since what had it is gone or disabled.
  if (inCall) (token ? at.connect : at.mint).focus();
}

/** What there is to press before a call, and during one. */
function showCall(calling) {
  at.connect.hidden = calling;
  // The next token would be taken for this call's.
  at.mint.disabled = calling;
  at.transcribe.disabled = calling;
  at['hang-up'].hidden = !calling;
}

function showTalk(talking) {
  at.mute.hidden = !talking;
  // Not at each connection: one that came back has the microphone as it was.
  if (!talking) {
    at.mute.classList.remove('pressed');
    at.mute.textContent = 'Mute';
  }
  // Translations and transcriptions have no turns that one could ask for.
  const writes = talking && profile.kind === 'realtime';
  for (const control of [at.prompt, at.text, at.send]) control.disabled = !writes;
}

/** Disabled for the eye and the click, and still there for the keyboard. */
function wait(waiting) {
  stopWaiting();
  at.mint.ariaDisabled = String(waiting);
  // The token that is on its way takes the place of the one there is.
  at.connect.disabled = waiting || !token;
  at.mint.textContent = waiting ? 'Asking…' : 'Get a token';
}

function holdOff(seconds) {
  at.mint.ariaDisabled = 'true';
  stopWaiting = countDown(Date.now() / 1000 + seconds, left => {
    at.mint.textContent = `Ask again in ${clock(left)}`;
    if (!left) wait(false);
  });
}

async function copy(button, label, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed';
  }
  setTimeout(() => (button.textContent = label), 1500);
}

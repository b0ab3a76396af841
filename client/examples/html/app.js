import { tokenMint } from 'token-mint';
import { answerTools } from 'token-mint/tools';
import { explain, explainEnd, formatTime } from 'token-mint/words';

// The address that `make deploy` printed; here that of `make demo`, or the one in `?mint=`.
const mint = tokenMint(new URLSearchParams(location.search).get('mint') ?? 'http://127.0.0.1:8080');

const [form, start, hangUp, time, status, alert, said] = [
  'form',
  'start',
  'hang-up',
  'time',
  'status',
  'alert',
  'said',
].map(id => document.getElementById(id));

// The profile's own tool: the model calls it when the exercise is over.
const runTools = answerTools({
  end_exercise({ outcome }, { finish }) {
    said.textContent = `The exercise is over: ${outcome}.`;
    finish();
  },
});

function show(sentence, calling) {
  status.textContent = sentence;
  start.hidden = calling;
  hangUp.hidden = !calling;
  if (calling) return;
  time.textContent = '';
  time.classList.remove('warning');
}

form.onsubmit = async event => {
  event.preventDefault();
  const { profile, endpoint } = Object.fromEntries(new FormData(form));
  const abort = new AbortController();
  hangUp.onclick = () => abort.abort();
  alert.textContent = said.textContent = '';
  show('Calling…', true);
  try {
    // With the endpoint `token`, each call gets a token of its own: a token expires, and opens one session only.
    await mint.call({
      profile,
      endpoint,
      locked: 'locked' in form.profile.selectedOptions[0].dataset,
      signal: abort.signal,
      warnBefore: 60,
      onTick: seconds => {
        time.textContent = formatTime(seconds);
      },
      onWarning: () => time.classList.add('warning'),
      onEvent(event, call) {
        if (event.type === 'response.output_audio_transcript.done') said.textContent = event.transcript;
        return runTools(event, call);
      },
      onEnd: ({ reason }) => show(explainEnd(reason), false),
    });
    show('Connected. Say something.', true);
  } catch (error) {
    show('Not connected.', false);
    if (!abort.signal.aborted) alert.textContent = explain(error);
  }
};

import { type FormEvent, useState } from 'react';
import { tokenMint } from 'token-mint';
import { useCall } from 'token-mint/react';
import { answerTools } from 'token-mint/tools';
import { explain, explainEnd, formatTime } from 'token-mint/words';

// The address that `make deploy` printed; here that of `make demo`, or the one in `?mint=`.
const mint = tokenMint(new URLSearchParams(location.search).get('mint') ?? 'http://127.0.0.1:8080');

const PROFILES = [
  { name: 'default', locked: false },
  { name: 'de-escalation', locked: true },
  { name: 'de-escalation-open', locked: false },
];

export function App() {
  const call = useCall(mint);
  const [said, setSaid] = useState('');
  const calling = call.state === 'connecting' || call.state === 'connected';

  function start(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setSaid('');
    // The profile's own tool: the model calls it when the exercise is over.
    const runTools = answerTools({
      end_exercise({ outcome }: { outcome: string }, { finish }) {
        setSaid(`The exercise is over: ${outcome}.`);
        finish();
      },
    });
    const profile = PROFILES.find(({ name }) => name === form.get('profile'));
    // With the endpoint `token`, each call gets a token of its own: a token expires, and opens one session only.
    call.start({
      profile: profile?.name,
      locked: profile?.locked,
      endpoint: form.get('endpoint') === 'token' ? 'token' : 'call',
      warnBefore: 60,
      onEvent(event, call) {
        if (event.type === 'response.output_audio_transcript.done') setSaid(event.transcript);
        return runTools(event, call);
      },
    });
  }

  const status = {
    idle: 'Not connected.',
    refused: 'Not connected.',
    connecting: 'Calling…',
    connected: 'Connected. Say something.',
    ended: call.reason && explainEnd(call.reason),
  }[call.state];

  return (
    <main>
      <h1>A call in React</h1>
      <form onSubmit={start}>
        <label>
          Profile
          <select name="profile">
            {PROFILES.map(({ name }) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          Endpoint
          <select name="endpoint">
            <option value="call">POST /call</option>
            <option value="token">POST /token</option>
          </select>
        </label>
        {calling ? (
          <button key="hang-up" type="button" onClick={call.hangUp}>
            Hang up
          </button>
        ) : (
          <button key="call" type="submit">
            Call
          </button>
        )}
      </form>
      {call.state === 'connected' && call.remaining !== undefined && (
        <p role="timer" className={call.warning ? 'time warning' : 'time'}>
          {formatTime(call.remaining)}
        </p>
      )}
      <p role="status">{status}</p>
      <p role="alert" className="alert">
        {call.error && explain(call.error)}
      </p>
      <p className="said">{said}</p>
    </main>
  );
}

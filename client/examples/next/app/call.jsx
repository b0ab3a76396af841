'use client';

import { useMemo, useState } from 'react';
import { tokenMint } from 'token-mint';
import { useCall } from 'token-mint/react';
import { answerTools } from 'token-mint/tools';
import { explain, explainEnd, formatTime } from 'token-mint/words';

const LOCKED = { default: false, 'de-escalation': true, 'de-escalation-open': false };

const STATUS = {
  idle: 'Not connected.',
  refused: 'Not connected.',
  connecting: 'Calling…',
  connected: 'Connected. Say something.',
};

export function Call({ url }) {
  const mint = useMemo(() => tokenMint(url), [url]);
  const call = useCall(mint);
  const [said, setSaid] = useState('');
  const calling = call.state === 'connecting' || call.state === 'connected';

  function start(event) {
    event.preventDefault();
    const { profile, endpoint } = Object.fromEntries(new FormData(event.currentTarget));
    setSaid('');
    // The profile's own tool: the model calls it when the exercise is over.
    const runTools = answerTools({
      end_exercise({ outcome }, { finish }) {
        setSaid(`The exercise is over: ${outcome}.`);
        finish();
      },
    });
    // With the endpoint `token`, each call gets a token of its own: a token expires, and opens one session only.
    call.start({
      profile,
      endpoint,
      locked: LOCKED[profile],
      warnBefore: 60,
      onEvent(event, call) {
        if (event.type === 'response.output_audio_transcript.done') setSaid(event.transcript);
        return runTools(event, call);
      },
    });
  }

  return (
    <>
      <form onSubmit={start}>
        <label>
          Profile
          <select name="profile">
            {Object.keys(LOCKED).map(name => (
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
      <p role="status">{call.state === 'ended' ? explainEnd(call.reason) : STATUS[call.state]}</p>
      <p role="alert" className="alert">
        {call.error && explain(call.error)}
      </p>
      <p className="said">{said}</p>
    </>
  );
}

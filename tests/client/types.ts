// Compiled, and not run: how a page uses the types. Lines after @ts-expect-error must be errors.

import { OpenAIRealtimeWebRTC } from 'openai/realtime/webrtc';
import { type Call, countdown, type OpenedCall, Refusal, type RefusalCode, type Token, tokenMint } from 'token-mint';
import { type CallState, useCall } from 'token-mint/react';
import { answerTools } from 'token-mint/tools';
import { explain, explainEnd, formatTime } from 'token-mint/words';

const mint = tokenMint(new URL('https://id.execute-api.eu-central-1.amazonaws.com/prod/token'), {
  headers: async () => ({ Authorization: 'Bearer eyJ' }),
});

const token: Token = await mint.token({ profile: 'de-escalation-open', fields: { speed: 1.1, scenario: 'noise' } });
const seconds: number = token.remaining();
const stop: () => void = countdown(token, { warnBefore: 60, onTick: left => formatTime(left) });

const opened: OpenedCall = await mint.open('v=0', { dcid: 4, signal: AbortSignal.timeout(seconds) });
const lasted: { seconds: number } = await opened.hangUp();

const call: Call = await mint.call({
  endpoint: 'token',
  locked: false,
  microphone: new MediaStream(),
  audio: new Audio(),
  onEvent: answerTools({ end_exercise: ({ outcome }, { finish }) => (outcome === 'settled' ? finish() : outcome) }),
  onEnd: ({ reason }) => explainEnd(reason),
});
call.send({ type: 'response.create' });
const channel: RTCDataChannel | undefined = call.channel;

// OpenAI's own class, with the offer exchanged through the service.
const connection = new OpenAIRealtimeWebRTC();
await connection.connect({
  exchangeSdp: async (offer, { signal }) => (await mint.open(offer, { profile: 'default', signal })).sdp,
});

try {
  await mint.token();
} catch (error) {
  if (error instanceof Refusal) {
    const code: RefusalCode = error.code;
    const wait: number | undefined = error.retryAfter;
    if (error.code === 'unauthorized') explain(error);
    // @ts-expect-error: not a code
    if (error.code === 'no_such_code') stop();
    Object.assign({}, { code, wait });
  }
}

const state: CallState = useCall(mint);
if (state.state === 'refused' && state.error) explain(state.error);
state.start({ profile: 'default', onEvent: event => event.type });

// @ts-expect-error: there are two endpoints
await mint.call({ endpoint: 'window' });
// @ts-expect-error: the signal is the hook's own
state.start({ signal: AbortSignal.abort() });
// @ts-expect-error: a token has no SDP
Object.assign({}, { sdp: token.sdp, lasted, channel });

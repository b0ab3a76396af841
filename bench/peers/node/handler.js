// A mint in Node.js that reads the key once, at the cold start. fetch keeps the connection to OpenAI.

import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';

const REQUEST = JSON.stringify({
  expires_after: { anchor: 'created_at', seconds: 3600 },
  session: { type: 'realtime', model: 'gpt-realtime-2.1', audio: { output: { voice: 'alloy' } } },
});

const secret = await new SecretsManagerClient().send(
  new GetSecretValueCommand({ SecretId: process.env.OPENAI_SECRET_ARN }),
);
const key = JSON.parse(secret.SecretString).OPENAI_API_KEY;

export async function handler(_event, context) {
  let token;
  try {
    const answer = await fetch(`${process.env.OPENAI_BASE_URL}/realtime/client_secrets`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: REQUEST,
      signal: AbortSignal.timeout(10_000),
    });
    if (!answer.ok) throw new Error(`OpenAI answered ${answer.status}`);
    token = await answer.json();
  } catch (error) {
    return reply(context, 502, { success: false, error: 'Failed to create OpenAI session' }, String(error));
  }
  const { value, expires_at, session } = token;
  return reply(context, 200, {
    success: true,
    ephemeralToken: value,
    sessionId: session.id,
    expiresAt: expires_at,
    model: session.model,
    voice: session.audio.output.voice,
    message: 'Ephemeral token created successfully',
    value,
    expires_at,
  });
}

function reply(context, status, body, error = null) {
  console.log(JSON.stringify({ requestId: context.awsRequestId, status, error }));
  const headers = { 'content-type': 'application/json', 'cache-control': 'no-store' };
  return { statusCode: status, headers, body: JSON.stringify(body), isBase64Encoded: false };
}

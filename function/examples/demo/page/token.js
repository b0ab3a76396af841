/** A token: requested, and shown without its full value. */

import { NO_ANSWER, readRefusal } from './refusal.js';

/** Requests a token. Returns `{ token }`, or a refusal: `{ status, body, retryAfter }`, `retryAfter` in seconds if known. */
export async function requestToken(fields) {
  let response;
  try {
    const body = Object.keys(fields).length ? JSON.stringify(fields) : undefined;
    response = await fetch('/token', { method: 'POST', body });
  } catch {
    return NO_ANSWER;
  }
  const refusal = await readRefusal(response);
  return response.ok && refusal.body?.success ? { token: refusal.body } : refusal;
}

/** The start of a token: enough to tell two tokens apart, not enough to use one. */
export function maskToken(value) {
  return `${value.slice(0, 8)}…`;
}

/** The response as JSON, with the token masked under each of its names. */
export function tokenAsJson(token) {
  const mask = (_, value) => (value === token.value ? maskToken(value) : value);
  return JSON.stringify(token, mask, 2);
}

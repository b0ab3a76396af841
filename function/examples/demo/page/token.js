/** A token: requested, counted down, and shown without its full value. */

/** Requests a token. Returns `{ token }`, or a refusal: `{ status, body, retryAfter }`, `retryAfter` in seconds if known. */
export async function requestToken(fields) {
  let response;
  try {
    const body = Object.keys(fields).length ? JSON.stringify(fields) : undefined;
    response = await fetch('/token', { method: 'POST', body });
  } catch {
    return { status: 0, body: null };
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body?.success) return { token: body };
  const seconds = Number.parseInt(response.headers.get('retry-after'), 10);
  return { status: response.status, body, retryAfter: seconds > 0 ? seconds : undefined };
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

/** Calls `tick` each second with the whole seconds left until `end` (Unix seconds), down to 0. Returns a stop function. */
export function countDown(end, tick) {
  const update = () => {
    const seconds = Math.max(0, Math.ceil(end - Date.now() / 1000));
    if (!seconds) clearInterval(timer);
    tick(seconds);
  };
  const timer = setInterval(update, 1000);
  update();
  return () => clearInterval(timer);
}

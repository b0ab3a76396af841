/** A token: asked of the mint, counted down, shown without being shown whole. */

/** Asks for a token: `{ token }`, or `{ status, body, wait }` of a refusal, `wait` in seconds where it is known. */
export async function askForToken(fields) {
  let response;
  try {
    const body = Object.keys(fields).length ? JSON.stringify(fields) : undefined;
    response = await fetch('/token', { method: 'POST', body });
  } catch {
    return { status: 0, body: null };
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body?.success) return { token: body };
  const wait = Number.parseInt(response.headers.get('retry-after'), 10);
  return { status: response.status, body, wait: wait > 0 ? wait : undefined };
}

/** Enough to tell two tokens apart, and not enough to use one. */
export function masked(value) {
  return `${value.slice(0, 8)}…`;
}

/** The answer as JSON, without the token in it. */
export function shown(token) {
  const hide = (name, value) => (name === 'value' || name === 'ephemeralToken' ? masked(value) : value);
  return JSON.stringify(token, hide, 2);
}

/** Calls `tick` with the whole seconds left until `end` (Unix seconds), each second down to 0. A way to stop. */
export function countDown(end, tick) {
  const left = () => Math.max(0, Math.ceil(end - Date.now() / 1000));
  const step = () => {
    const seconds = left();
    if (!seconds) clearInterval(timer);
    tick(seconds);
  };
  const timer = setInterval(step, 1000);
  step();
  return () => clearInterval(timer);
}

/** Reads a refusal of the server: `{ status, body, retryAfter }`, `retryAfter` in seconds if known. */
export async function readRefusal(response) {
  const body = await response.json().catch(() => null);
  const seconds = Number.parseInt(response.headers.get('retry-after'), 10);
  return { status: response.status, body, retryAfter: seconds > 0 ? seconds : undefined };
}

/** The refusal if no answer can be read. */
export const NO_ANSWER = { status: 0, body: null };

/** Why a call did not start or has ended. */
export class CallEnd extends Error {
  /**
   * `code` is one of messages.js. A `refusal` of the server takes its place: `{ status, body, retryAfter }`. A token that is
   * not `spent` can still open its session.
   */
  constructor(code, details, { spent = true, refusal } = {}) {
    super(details);
    Object.assign(this, { code, details, spent, refusal });
  }
}

/** Codes of the function's own refusals, as in function/description.json. */
export type ServiceCode =
  | 'busy_lines'
  | 'call_not_found'
  | 'call_uncertain'
  | 'caller_blocked'
  | 'calls_at_once'
  | 'daily_limit_reached'
  | 'daily_minutes_reached'
  | 'ended_by_operator'
  | 'hang_up_failed'
  | 'invalid_request'
  | 'key_unavailable'
  | 'method_not_allowed'
  | 'minutes_exceeded'
  | 'no_subject'
  | 'not_found'
  | 'offer_not_allowed'
  | 'openai_answer_invalid'
  | 'openai_busy'
  | 'openai_forbidden'
  | 'openai_out_of_quota'
  | 'openai_rejected_key'
  | 'openai_rejected_offer'
  | 'openai_rejected_session'
  | 'openai_timeout'
  | 'openai_unavailable'
  | 'origin_not_allowed'
  | 'proxy_required'
  | 'quota_exceeded'
  | 'quota_unavailable'
  | 'request_too_large';

/**
 * Codes that this package adds, for failures without a code of the function:
 *
 * - `unauthorized`: API Gateway answered 401, since the sign-in is missing or has expired.
 * - `forbidden`: API Gateway answered 403, since the sign-in lacks a scope.
 * - `too_many_requests`: API Gateway answered 429.
 * - `unavailable`: an answer with a status of 500 or more, and without a code.
 * - `unexpected_answer`: any other answer, such as a page of a Wi-Fi's sign-in.
 * - `unreachable`: no answer that the page can read. The network failed, or the service does not allow this page, or API
 *   Gateway refused and the browser hides it.
 * - `connection_failed`: the call was answered, but no audio connection came about.
 * - `openai_refused`: OpenAI refused a call that was made with a token, such as one that was used before. `details` says why.
 */
export type ClientCode =
  | 'connection_failed'
  | 'forbidden'
  | 'openai_refused'
  | 'too_many_requests'
  | 'unauthorized'
  | 'unavailable'
  | 'unexpected_answer'
  | 'unreachable';

export type RefusalCode = ServiceCode | ClientCode;

/** Why there is no token or call. Errors of the browser, such as a denied microphone, are no refusals. */
export class Refusal extends Error {
  /** For programs. A newer service may send a code that this version does not list. */
  readonly code: RefusalCode;
  /** The HTTP status, or 0 without an answer. */
  readonly status: number;
  /** The cause, for people. */
  readonly details?: string;
  /** What to do, for people; the cause or the code if the answer does not say. */
  readonly message: string;
  /** Whole seconds to wait before the next attempt. */
  readonly retryAfter?: number;
  /** The ID of the request in the service's log. */
  readonly requestId?: string;
  /** The browser's error, if no answer could be read. */
  readonly cause?: unknown;
  constructor(
    code: RefusalCode,
    status: number,
    details?: string,
    more?: { message?: string; retryAfter?: number; requestId?: string; cause?: unknown },
  );
}

/** What a token or a call is for. */
export interface Request {
  /** A profile of the service; `default` if left out. */
  profile?: string;
  /** The fields that the profile lets callers set. */
  fields?: Record<string, string | number>;
  /** Cancels the request. An abort of a call also hangs up, at once or as soon as the answer arrives. */
  signal?: AbortSignal;
}

export interface OpenRequest extends Request {
  /** The ID of a data channel that both ends have negotiated, 0 to 65534, the most that browsers accept. */
  dcid?: number;
}

/** What tokens and calls have in common. */
export interface Timed {
  /** The end, in Unix seconds. */
  readonly expiresAt: number;
  /** Seconds until the end, 0 after it, with fractions. */
  remaining(): number;
}

/** The answer of `POST /token`. It opens one session, until `expiresAt`. */
export interface Token extends Timed {
  readonly success: true;
  /** The ephemeral token. */
  readonly value: string;
  readonly ephemeralToken: string;
  readonly token: string;
  readonly sessionId: string | null;
  readonly expires_at: number;
  readonly model: string | null;
  readonly voice: string | null;
  /** The URL to which the page posts its offer, with the token. */
  readonly callsUrl: string;
  /** The WebSocket that the token opens. */
  readonly url: string;
  readonly message: string;
}

/** The answer of `POST /call`. The service ends the call at `expiresAt`. */
export interface OpenedCall extends Timed {
  readonly success: true;
  /** The SDP answer, for `setRemoteDescription`. */
  readonly sdp: string;
  readonly callId: string;
  readonly sessionId: string;
  readonly model: string | null;
  readonly voice: string | null;
  readonly message: string;
  /**
   * Ends the call on the server. Resolves to the whole seconds that it lasted; rejects with a `Refusal`. It may be repeated.
   * As a listener for `pagehide`, it does not wait for new `headers`.
   */
  hangUp(event?: Event): Promise<{ seconds: number }>;
}

/** Events of a session's data channel: https://developers.openai.com/api/reference/resources/realtime */
// biome-ignore lint/suspicious/noExplicitAny: the events are those of OpenAI's API, which has types of its own.
export type RealtimeEvent = { type: string; [field: string]: any };

/**
 * Why a call has ended: the page hung up (also when it was closed), its time was up, the other end closed it before (the
 * operator or OpenAI), or the connection was lost.
 */
export type EndReason = 'hung_up' | 'time_up' | 'ended' | 'lost';

export interface CountdownOptions {
  /** Seconds before the end at which `onWarning` is called; 30 if left out. */
  warnBefore?: number;
  /** Called at once and twice a second, with whole seconds until the end, and last with 0. */
  onTick?(secondsLeft: number): void;
  /** Called once. */
  onWarning?(secondsLeft: number): void;
}

export interface CallRequest extends OpenRequest, CountdownOptions {
  /**
   * `call`, which is the default, sends the offer through the service, which ends the call on time. `token` gets a token and
   * calls OpenAI directly; the end is then OpenAI's own limit of an hour.
   */
  endpoint?: 'call' | 'token';
  /** Whether the profile is locked: the call then has no data channel, and so no events. */
  locked?: boolean;
  /** The user's microphone. If left out, the browser asks for it first, and it is off after the call. */
  microphone?: MediaStream;
  /** Plays the model's voice. */
  audio?: HTMLAudioElement;
  /** Called with each event of the data channel. */
  onEvent?(event: RealtimeEvent, call: Call): void;
  /** Called once, at the end of a call that was connected. */
  onEnd?(end: { reason: EndReason }): void;
}

/** A connected call. */
export interface Call extends Timed {
  /** The name of the call; absent with the endpoint `token`. */
  readonly callId?: string;
  readonly model: string | null;
  readonly voice: string | null;
  readonly peer: RTCPeerConnection;
  /** The channel for events, `undefined` in a call with a locked profile. */
  readonly channel?: RTCDataChannel;
  /** Sends an event to the model. */
  send(event: RealtimeEvent): void;
  /**
   * Ends the call, and releases the microphone. Resolves to the seconds that it lasted, if the service knows them; rejects with
   * a `Refusal` if the service could not be asked to end it.
   */
  hangUp(): Promise<{ seconds?: number }>;
}

export interface TokenMint {
  /** Gets a token. Throws a `Refusal`, or the signal's reason. */
  token(request?: Request): Promise<Token>;
  /** Opens a call with an SDP offer of any WebRTC client. Throws a `Refusal`, or the signal's reason. */
  open(offer: string, request?: OpenRequest): Promise<OpenedCall>;
  /**
   * Makes a call with the browser's own WebRTC, and resolves once it is connected. Throws a `Refusal`, the signal's reason, or
   * the browser's error for the microphone (`NotAllowedError`, `NotFoundError`, `NotReadableError`).
   */
  call(request?: CallRequest): Promise<Call>;
}

export interface MintOptions {
  /**
   * The sign-in's `Authorization` header. Called before each request. From a page of another origin, the service accepts no
   * further header of yours.
   */
  headers?(): Record<string, string> | Promise<Record<string, string>>;
}

/** `url` is the service's address, with or without `/token` or `/call` at its end. */
export function tokenMint(url: string | URL, options?: MintOptions): TokenMint;

/** Counts down to the end of a token or call. Returns a function that stops it. `call()` does this by itself. */
export function countdown(timed: Timed, options: CountdownOptions): () => void;

import type { Call, RealtimeEvent } from './index.js';

export interface ToolContext {
  call: Call;
  /** Hangs up once the model has finished speaking. */
  finish(): void;
}

/**
 * A tool of the profile, by the model's arguments. Its result goes to the model, which then continues; after `undefined`
 * nothing is sent.
 */
// biome-ignore lint/suspicious/noExplicitAny: the profile defines the arguments.
export type Tool = (given: any, context: ToolContext) => unknown;

/** An `onEvent` for `call()`, which runs the page's tools when the model calls them. It serves one call after the other. */
export function answerTools(tools: Record<string, Tool>): (event: RealtimeEvent, call: Call) => Promise<void>;

import type { EndReason } from './index.js';

/** Says in English why there is no call and what the user can do, with the time to wait. For a `Refusal` or any error. */
export function explain(error: Error): string;

/** Says in English why a call has ended. */
export function explainEnd(reason: EndReason): string;

/** Formats whole seconds as 3:07, or as 1:02:03. */
export function formatTime(seconds: number): string;

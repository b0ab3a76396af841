import type { Call, CallRequest, EndReason, TokenMint } from './index.js';

export interface CallState {
  /** `refused` also stands for a denied microphone. */
  state: 'idle' | 'connecting' | 'connected' | 'ended' | 'refused';
  /** The call, while it is connected. */
  call?: Call;
  /** Whole seconds until the end of the call. */
  remaining?: number;
  /** Whether `warnBefore` seconds or fewer remain. */
  warning?: boolean;
  /** Why the call has ended. */
  reason?: EndReason;
  /** Why there is no call: a `Refusal`, or the browser's error for the microphone. */
  error?: Error;
  /** Starts a call; one that is in progress ends first. Call it after a click. */
  start(request?: Omit<CallRequest, 'signal'>): void;
  /** Hangs up, also while the call is being connected. */
  hangUp(): void;
}

/**
 * A call of this component, which ends when the component is unmounted. Create `mint` once, outside of the component.
 */
export function useCall(mint: TokenMint): CallState;

// The types and the documentation are in react.d.ts.

import { useCallback, useEffect, useRef, useState } from 'react';

/** The calls of each service that are being ended, as a promise. The service may allow one call at once. */
const endings = new WeakMap();

export function useCall(mint) {
  const [shown, setShown] = useState({ state: 'idle' });
  const current = useRef({ hangUp() {} });

  const start = useCallback(
    request => {
      current.current.hangUp();
      const abort = new AbortController();
      let call;
      const self = {
        hangUp() {
          const ending = Promise.all([endings.get(mint), self.over]);
          endings.set(
            mint,
            ending.then(() => {}),
          );
          if (call) call.hangUp().catch(() => {});
          else abort.abort();
        },
      };
      current.current = self;
      const show = change => current.current === self && setShown(before => ({ ...before, ...change }));

      async function run() {
        await endings.get(mint);
        abort.signal.throwIfAborted();
        let ended;
        const end = new Promise(resolve => {
          ended = resolve;
        });
        call = await mint.call({
          ...request,
          signal: abort.signal,
          onTick(remaining) {
            show({ remaining });
            request?.onTick?.(remaining);
          },
          onWarning(remaining) {
            show({ warning: true });
            request?.onWarning?.(remaining);
          },
          onEnd: ended,
        });
        show({ state: 'connected', call });
        const { reason } = await end;
        show({ state: 'ended', call: undefined, reason });
        request?.onEnd?.({ reason });
        await call.hangUp().catch(() => {});
      }

      setShown({ state: 'connecting' });
      self.over = run().catch(error => {
        show(abort.signal.aborted ? { state: 'idle' } : { state: 'refused', error });
      });
    },
    [mint],
  );
  const hangUp = useCallback(() => current.current.hangUp(), []);
  useEffect(() => hangUp, [hangUp]);

  return { ...shown, start, hangUp };
}

// The types and the documentation are in react.d.ts.

import { useCallback, useEffect, useRef, useState } from 'react';

export function useCall(mint) {
  const [shown, setShown] = useState({ state: 'idle' });
  const current = useRef({ hangUp() {} });

  const start = useCallback(
    request => {
      const previous = current.current;
      previous.hangUp();
      const abort = new AbortController();
      let call;
      const self = { hangUp: () => (call ? call.hangUp() : abort.abort()) };
      current.current = self;
      const show = change => current.current === self && setShown(before => ({ ...before, ...change }));

      async function run() {
        // The service may allow one call at once, so the previous one must be over there too.
        await previous.over;
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

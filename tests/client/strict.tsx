// A component that calls as soon as it is mounted, under StrictMode, which mounts each component twice.

import { StrictMode, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { tokenMint } from 'token-mint';
import { useCall } from 'token-mint/react';

const mint = tokenMint(new URLSearchParams(location.search).get('mint') ?? '');

function Caller() {
  const { state, error, start, hangUp } = useCall(mint);
  useEffect(() => start(), [start]);
  return (
    <>
      <p role="status">{error ? error.message : state}</p>
      <button type="button" onClick={() => start()}>
        Again
      </button>
      <button type="button" onClick={hangUp}>
        Hang up
      </button>
    </>
  );
}

function Page() {
  const [shown, setShown] = useState(true);
  return (
    <>
      <button type="button" onClick={() => setShown(!shown)}>
        Toggle
      </button>
      {shown && <Caller />}
    </>
  );
}

createRoot(document.body.appendChild(document.createElement('main'))).render(
  <StrictMode>
    <Page />
  </StrictMode>,
);

import { Call } from './call';

export const dynamic = 'force-dynamic';

export default function Page() {
  // The address that `make deploy` printed; by default that of `make demo`. No key and no token is on this server.
  const url = process.env.MINT_URL ?? 'http://127.0.0.1:8080';
  return (
    <main>
      <h1>A call in Next.js</h1>
      <Call url={url} />
    </main>
  );
}

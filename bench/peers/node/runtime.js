// A client of the Runtime API, which passes events to the handler. AWS's own client, aws-lambda-ric on npm, compiles curl and
// a C++ addon on installation, and requires Node 22 from version 4 on.

import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';

// Not fetch, which times out after waiting five minutes for an event.
const agent = new Agent({ keepAlive: true });

async function call(method, path, body) {
  const url = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/${path}`;
  const [answer] = await once(request(url, { agent, method }).end(body), 'response');
  const event = await text(answer);
  if (answer.statusCode >= 400) throw new Error(`the Runtime API answered ${answer.statusCode} to ${method} ${path}`);
  return { id: answer.headers['lambda-runtime-aws-request-id'], event };
}

function report(error) {
  return JSON.stringify({ errorType: error.name, errorMessage: error.message, stackTrace: error.stack.split('\n') });
}

// Imported here because loading it reads the key, which may fail.
const { handler } = await import('./handler.js').catch(async error => {
  await call('POST', 'init/error', report(error));
  throw error;
});

for (;;) {
  const { id, event } = await call('GET', 'invocation/next');
  const [outcome, body] = await handler(JSON.parse(event), { awsRequestId: id }).then(
    answer => ['response', JSON.stringify(answer)],
    error => ['error', report(error)],
  );
  await call('POST', `invocation/${id}/${outcome}`, body);
}

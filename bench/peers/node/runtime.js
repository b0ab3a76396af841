// What Lambda's runtime does for a handler: takes one event after the other from the Runtime API. Not AWS's own client,
// aws-lambda-ric on npm: its installation compiles curl and a C++ addon, and from version 4 on it asks for Node 22.

import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';

// Not fetch, which gives up on an event that is five minutes in coming.
const agent = new Agent({ keepAlive: true });

async function call(method, path, body) {
  const url = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/${path}`;
  const [answer] = await once(request(url, { agent, method }).end(body), 'response');
  const said = await text(answer);
  if (answer.statusCode >= 400) throw new Error(`the Runtime API answered ${answer.statusCode} to ${method} ${path}`);
  return { id: answer.headers['lambda-runtime-aws-request-id'], event: said };
}

function report(error) {
  return JSON.stringify({ errorType: error.name, errorMessage: error.message, stackTrace: error.stack.split('\n') });
}

// In here, because it reads the key while it is loaded, and that may fail.
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

// The types and the documentation are in index.d.ts and tools.d.ts.

export function answerTools(tools) {
  let current, speaking, finishing;

  async function hangUp(call) {
    try {
      await call.hangUp();
    } catch {
      // The service ends the call on time in any case.
    }
  }

  return async (event, call) => {
    if (call !== current) [current, speaking, finishing] = [call];
    if (event.type.startsWith('output_audio_buffer.')) speaking = event.type.endsWith('.started');
    if (finishing && !speaking) return hangUp(call);
    if (event.type !== 'response.done' || event.response.status !== 'completed') return;
    const finish = () => {
      finishing = true;
      if (!speaking) void hangUp(call);
    };
    let answered;
    for (const { name, call_id, arguments: given } of event.response.output) {
      if (!Object.hasOwn(tools, name ?? '')) continue;
      const output = await tools[name](JSON.parse(given), { call, finish });
      // After `finish` the model says nothing more, and the call may have ended.
      if (output === undefined || finishing || call !== current) continue;
      answered = true;
      const item = { type: 'function_call_output', call_id, output: JSON.stringify(output) };
      call.send({ type: 'conversation.item.create', item });
    }
    if (answered) call.send({ type: 'response.create' });
  };
}

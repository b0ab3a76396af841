// The types and the documentation are in index.d.ts and tools.d.ts.

export function answerTools(tools) {
  let speaking, finishing;
  return async (event, call) => {
    if (event.type.startsWith('output_audio_buffer.')) speaking = event.type.endsWith('.started');
    if (finishing && !speaking) return call.hangUp();
    if (event.type !== 'response.done' || event.response.status !== 'completed') return;
    const finish = () => {
      finishing = true;
      if (!speaking) call.hangUp();
    };
    let answered;
    for (const { name, call_id, arguments: given } of event.response.output) {
      if (!Object.hasOwn(tools, name ?? '')) continue;
      const output = await tools[name](JSON.parse(given), { call, finish });
      if (output === undefined) continue;
      answered = true;
      const item = { type: 'function_call_output', call_id, output: JSON.stringify(output) };
      call.send({ type: 'conversation.item.create', item });
    }
    if (answered) call.send({ type: 'response.create' });
  };
}

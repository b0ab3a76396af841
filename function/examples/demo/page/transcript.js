/** What was said, by both sides, as it comes. */

/** In place of what is not written down, or not yet. */
const [SPEAKING, SPOKEN] = ['speaking…', '(spoken)'];

/** How a response ends that did not end well, by its `status_details.reason`. */
const CUT = {
  turn_detected: 'interrupted',
  client_cancelled: 'cancelled',
  max_output_tokens: 'cut off: it reached the longest answer that its profile allows',
  content_filter: 'cut off by OpenAI’s content filter',
};

export class Transcript {
  #list;
  #turns = new Map();

  /** Turns go into `list`. */
  constructor(list) {
    this.#list = list;
  }

  clear() {
    this.#turns.clear();
    this.#list.replaceChildren();
  }

  /** The call is over, and no one is speaking any more. */
  end() {
    for (const turn of this.#turns.values()) {
      if (turn.text.textContent === SPEAKING) this.#hint(turn, SPOKEN);
    }
  }

  /** Takes from an event what was said in it, if anything. */
  see(event) {
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 24;
    this.#hear[event.type]?.(event);
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #hear = {
    'conversation.item.added': ({ item, previous_item_id: previous }) => this.#item(item, previous),
    'input_audio_buffer.speech_started': ({ item_id: id }) => this.#hint(this.#turn(id, 'user'), SPEAKING),
    'input_audio_buffer.speech_stopped': ({ item_id: id }) => this.#hint(this.#turn(id, 'user'), SPOKEN),
    'conversation.item.input_audio_transcription.delta': ({ item_id: id, delta }) =>
      this.#more(this.#turn(id, 'user'), delta),
    'conversation.item.input_audio_transcription.completed': ({ item_id: id, transcript }) =>
      this.#all(this.#turn(id, 'user'), transcript || '(nothing to be understood)'),
    'conversation.item.input_audio_transcription.failed': ({ item_id: id }) =>
      this.#hint(this.#turn(id, 'user'), '(spoken, but it could not be written down)'),
    'response.output_audio_transcript.delta': ({ item_id: id, delta }) =>
      this.#more(this.#turn(id, 'assistant'), delta),
    'response.output_audio_transcript.done': ({ item_id: id, transcript }) =>
      this.#all(this.#turn(id, 'assistant'), transcript),
    'response.output_text.delta': ({ item_id: id, delta }) => this.#more(this.#turn(id, 'assistant'), delta),
    'response.output_text.done': ({ item_id: id, text }) => this.#all(this.#turn(id, 'assistant'), text),
    'response.output_item.done': ({ item }) => {
      if (item.type === 'function_call') this.#all(this.#turn(item.id, 'tool'), `${item.name} ${item.arguments}`);
    },
    'response.done': ({ response }) => this.#ended(response),
    // A translation has no turns: each side is one text that grows.
    'session.input_transcript.delta': ({ delta }) => this.#more(this.#turn('source', 'user'), delta),
    'session.output_transcript.delta': ({ delta }) => this.#more(this.#turn('translation', 'assistant'), delta),
  };

  #item(item, previous) {
    if (item.type !== 'message' || item.role === 'system') return;
    const turn = this.#turn(item.id, item.role);
    this.#turns.get(previous)?.element.after(turn.element);
    const typed = (item.content ?? [])
      .map(part => part.text)
      .filter(Boolean)
      .join('\n');
    if (typed) this.#all(turn, typed);
    else this.#hint(turn, item.role === 'user' ? SPOKEN : '…');
  }

  #ended({ status, status_details: details, output }) {
    const cut = status === 'failed' ? 'failed' : CUT[details?.reason];
    const turn = this.#turns.get(output?.at(-1)?.id);
    if (cut && turn) turn.element.dataset.cut = cut;
  }

  #turn(id, role) {
    if (!this.#turns.has(id)) {
      const [element, who, text] = ['li', 'b', 'p'].map(name => document.createElement(name));
      element.className = role;
      who.textContent = { user: 'You', assistant: 'Model', tool: 'Tool call' }[role];
      element.append(who, text);
      this.#list.append(element);
      this.#turns.set(id, { element, text, said: '' });
    }
    return this.#turns.get(id);
  }

  /** A word in place of what is not said yet. */
  #hint(turn, word) {
    if (turn.said) return;
    turn.text.textContent = word;
    turn.element.classList.add('hint');
  }

  #more(turn, delta) {
    this.#all(turn, turn.said + delta);
  }

  #all(turn, said) {
    turn.said = said;
    turn.text.textContent = said;
    turn.element.classList.remove('hint');
  }
}

/** The transcript of both sides, updated as the events arrive. */

/** Placeholders for speech without a transcript, or without one yet. */
const [SPEAKING, SPOKEN] = ['speaking…', '(spoken)'];

/** Labels of responses that were cut off, by their `status_details.reason`. */
const CUT_OFF = {
  turn_detected: 'interrupted',
  client_cancelled: 'cancelled',
  max_output_tokens: 'cut off: it reached the profile’s maximum length of a response',
  content_filter: 'cut off by OpenAI’s content filter',
};

export class Transcript {
  #list;
  #turns = new Map();

  /** Shows the turns in `list`. */
  constructor(list) {
    this.#list = list;
  }

  clear() {
    this.#turns.clear();
    this.#list.replaceChildren();
  }

  /** The call has ended, so nobody is speaking. */
  end() {
    for (const turn of this.#turns.values()) {
      if (turn.text.textContent === SPEAKING) this.#showPlaceholder(turn, SPOKEN);
    }
  }

  /** Adds an event's text to its turn, if the event has any. */
  handle(event) {
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 24;
    this.#handlers[event.type]?.(event);
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  #handlers = {
    'conversation.item.added': ({ item, previous_item_id: previous }) => this.#addItem(item, previous),
    'input_audio_buffer.speech_started': ({ item_id: id }) => this.#showPlaceholder(this.#turn(id, 'user'), SPEAKING),
    'input_audio_buffer.speech_stopped': ({ item_id: id }) => this.#showPlaceholder(this.#turn(id, 'user'), SPOKEN),
    'conversation.item.input_audio_transcription.delta': ({ item_id: id, delta }) =>
      this.#append(this.#turn(id, 'user'), delta),
    'conversation.item.input_audio_transcription.completed': ({ item_id: id, transcript }) =>
      this.#setText(this.#turn(id, 'user'), transcript || '(no words recognized)'),
    'conversation.item.input_audio_transcription.failed': ({ item_id: id }) =>
      this.#showPlaceholder(this.#turn(id, 'user'), '(spoken; the transcription failed)'),
    'response.output_audio_transcript.delta': ({ item_id: id, delta }) =>
      this.#append(this.#turn(id, 'assistant'), delta),
    'response.output_audio_transcript.done': ({ item_id: id, transcript }) =>
      this.#setText(this.#turn(id, 'assistant'), transcript),
    'response.output_text.delta': ({ item_id: id, delta }) => this.#append(this.#turn(id, 'assistant'), delta),
    'response.output_text.done': ({ item_id: id, text }) => this.#setText(this.#turn(id, 'assistant'), text),
    'response.output_item.done': ({ item }) => {
      if (item.type === 'function_call') this.#setText(this.#turn(item.id, 'tool'), `${item.name} ${item.arguments}`);
    },
    'response.done': ({ response }) => this.#markCutOff(response),
    // A translation has no turns: each side is one growing text.
    'session.input_transcript.delta': ({ delta }) => this.#append(this.#turn('source', 'user'), delta),
    'session.output_transcript.delta': ({ delta }) => this.#append(this.#turn('translation', 'assistant'), delta),
  };

  #addItem(item, previous) {
    if (item.type !== 'message' || item.role === 'system') return;
    const turn = this.#turn(item.id, item.role);
    this.#turns.get(previous)?.element.after(turn.element);
    const typed = (item.content ?? [])
      .map(part => part.text)
      .filter(Boolean)
      .join('\n');
    if (typed) this.#setText(turn, typed);
    else this.#showPlaceholder(turn, item.role === 'user' ? SPOKEN : '…');
  }

  #markCutOff({ status, status_details: details, output }) {
    const label = status === 'failed' ? 'failed' : CUT_OFF[details?.reason];
    const turn = this.#turns.get(output?.at(-1)?.id);
    if (label && turn) turn.element.dataset.cutOff = label;
  }

  #turn(id, role) {
    if (!this.#turns.has(id)) {
      const [element, speaker, text] = ['li', 'b', 'p'].map(name => document.createElement(name));
      element.className = role;
      speaker.textContent = { user: 'You', assistant: 'Model', tool: 'Tool call' }[role];
      element.append(speaker, text);
      this.#list.append(element);
      this.#turns.set(id, { element, text, transcript: '' });
    }
    return this.#turns.get(id);
  }

  /** Shows a placeholder until the turn has text. */
  #showPlaceholder(turn, placeholder) {
    if (turn.transcript) return;
    turn.text.textContent = placeholder;
    turn.element.classList.add('placeholder');
  }

  #append(turn, delta) {
    this.#setText(turn, turn.transcript + delta);
  }

  #setText(turn, transcript) {
    turn.transcript = transcript;
    turn.text.textContent = transcript;
    turn.element.classList.remove('placeholder');
  }
}

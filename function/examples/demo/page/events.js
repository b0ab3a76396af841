/** The log of the data channel's events in both directions. Repeated events share one row with a count. */

/** Older rows are removed: an hour of conversation has more than anyone reads. */
const MAX_ROWS = 400;

const DIRECTIONS = { sent: ['→', 'sent'], received: ['←', 'received'] };

export class EventLog {
  #list;
  #count;
  #events = [];
  #last;
  #start;

  constructor(list, count) {
    this.#list = list;
    this.#count = count;
  }

  clear() {
    this.#list.replaceChildren();
    this.#events = [];
    this.#last = undefined;
    this.#start = performance.now();
    this.#showCount();
  }

  add(direction, event) {
    this.#events.push({ direction, event });
    if (this.#last?.direction === direction && this.#last.type === event.type) this.#last.add(event);
    else {
      const seconds = (performance.now() - this.#start) / 1000;
      const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 24;
      this.#last = createRow(direction, event, seconds);
      this.#list.append(this.#last.element);
      if (this.#list.children.length > MAX_ROWS) this.#list.firstChild.remove();
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#showCount();
  }

  /** All events as JSON, for a bug report. */
  get text() {
    return JSON.stringify(this.#events, null, 2);
  }

  #showCount() {
    const { length } = this.#events;
    this.#count.textContent = length === 1 ? '1 event' : `${length} events`;
  }
}

function createRow(direction, event, seconds) {
  const [arrow, label] = DIRECTIONS[direction];
  const element = document.createElement('li');
  const details = document.createElement('details');
  const summary = document.createElement('summary');
  const json = document.createElement('pre');
  const repeats = createSpan('repeats', '');
  const events = [event];
  // Formatted only when the row is open: most rows never are.
  const showJson = () => {
    if (details.open) json.textContent = events.map(one => JSON.stringify(one, null, 2)).join('\n');
  };
  summary.append(
    createSpan(`direction ${direction}`, arrow, label),
    createSpan('type', event.type),
    repeats,
    createSpan('time', `${seconds.toFixed(1)} s`),
  );
  details.classList.toggle('error', event.type === 'error');
  details.addEventListener('toggle', showJson);
  details.append(summary, json);
  element.append(details);
  const add = another => {
    events.push(another);
    repeats.textContent = `×${events.length}`;
    showJson();
  };
  return { element, direction, type: event.type, add };
}

/** A span. With a `label` its text is a symbol, and screen readers announce the label instead. */
function createSpan(name, text, label) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  if (label) {
    element.setAttribute('role', 'img');
    element.setAttribute('aria-label', label);
  }
  return element;
}

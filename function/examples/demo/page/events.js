/** The log of what went over the data channel, both ways; what repeats itself is one row with a count. */

/** Rows that are kept: an hour of talk is more than one reads. */
const KEPT = 400;

const SIDES = { sent: ['→', 'sent'], received: ['←', 'received'] };

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
    this.#tell();
  }

  add(side, event) {
    this.#events.push({ side, event });
    if (this.#last?.side === side && this.#last.type === event.type) this.#last.add(event);
    else {
      const seconds = (performance.now() - this.#start) / 1000;
      const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 24;
      this.#last = row(side, event, seconds);
      this.#list.append(this.#last.element);
      if (this.#list.children.length > KEPT) this.#list.firstChild.remove();
      if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
    }
    this.#tell();
  }

  /** All events as JSON, to be put into a report. */
  get text() {
    return JSON.stringify(this.#events, null, 2);
  }

  #tell() {
    const { length } = this.#events;
    this.#count.textContent = length === 1 ? '1 event' : `${length} events`;
  }
}

function row(side, event, seconds) {
  const [arrow, word] = SIDES[side];
  const element = document.createElement('li');
  const details = document.createElement('details');
  const summary = document.createElement('summary');
  const json = document.createElement('pre');
  const times = span('times', '');
  const events = [event];
  // Written out only for who looks: most rows are never opened.
  const write = () => {
    if (details.open) json.textContent = events.map(one => JSON.stringify(one, null, 2)).join('\n');
  };
  summary.append(
    span(`side ${side}`, arrow, word),
    span('type', event.type),
    times,
    span('at', `${seconds.toFixed(1)} s`),
  );
  details.classList.toggle('error', event.type === 'error');
  details.addEventListener('toggle', write);
  details.append(summary, json);
  element.append(details);
  const add = another => {
    events.push(another);
    times.textContent = `×${events.length}`;
    write();
  };
  return { element, side, type: event.type, add };
}

/** A span; with `spoken` its text is a sign, and that is what it says. */
function span(name, text, spoken) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = text;
  if (spoken) {
    element.setAttribute('role', 'img');
    element.setAttribute('aria-label', spoken);
  }
  return element;
}

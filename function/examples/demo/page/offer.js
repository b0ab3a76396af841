/** What may be asked for: the profiles that the handler offers, as fields of a form. */

export class Offer {
  #profiles;
  #select;
  #fields;
  #controls = [];

  /** `offered` is the answer of GET /profiles; it is shown in `select` and `fields`, and `changed` is told. */
  constructor(offered, select, fields, changed) {
    this.#profiles = offered.profiles;
    this.#select = select;
    this.#fields = fields;
    // The one that a request without a body gets comes first.
    const names = Object.keys(offered.profiles).sort((one, other) => (other === 'default') - (one === 'default'));
    select.replaceChildren(...names.map(name => new Option(name, name)));
    select.addEventListener('change', () => this.#show());
    for (const event of ['change', 'input']) fields.addEventListener(event, changed);
    select.addEventListener('change', changed);
    this.#show();
  }

  /** The profile that is chosen. */
  get profile() {
    return this.#profiles[this.#select.value];
  }

  /** The body of the request: what was changed, and nothing else. */
  get request() {
    const name = this.#select.value;
    const set = this.#controls
      .map(control => [control.name, control.value()])
      .filter(([, value]) => value !== undefined);
    return { ...(name === 'default' ? {} : { profile: name }), ...Object.fromEntries(set) };
  }

  #show() {
    this.#controls = this.profile.fields.map(control);
    this.#fields.replaceChildren(...this.#controls.map(({ label }) => label));
  }
}

/** A labelled control for a field, and how to read it: `undefined` leaves the field as the profile has it. */
function control({ name, allow, own }) {
  const label = document.createElement('label');
  const title = document.createElement('span');
  title.textContent = words(name);
  label.className = 'field';
  const [rule, limits] = Object.entries(allow)[0];
  const made = { one_of: choice, number: slider, integer: whole, text: line }[rule](limits, own);
  made.input.name = name;
  if (made.beside) title.append(made.beside);
  label.append(title, made.input);
  return { name, label, value: made.value };
}

function choice(names) {
  const input = document.createElement('select');
  input.append(new Option('Default', ''), ...names.map(name => new Option(words(name), name)));
  return { input, value: () => input.value || undefined };
}

function slider({ from, to }, own) {
  const step = 10 ** Math.floor(Math.log10((to - from) / 10));
  const input = Object.assign(document.createElement('input'), { type: 'range', min: from, max: to, step });
  input.value = own ?? from;
  const start = input.value;
  // For the eye; who listens hears it from the slider. An output would take the label for itself.
  const beside = Object.assign(document.createElement('span'), { ariaHidden: 'true' });
  const tell = () => (beside.textContent = input.value);
  input.addEventListener('input', tell);
  tell();
  return { input, beside, value: () => (input.value === start ? undefined : Number(input.value)) };
}

function whole({ from, to }, own) {
  const input = Object.assign(document.createElement('input'), { type: 'number', min: from, max: to, step: 1 });
  input.placeholder = own ?? `${from} to ${to}`;
  return { input, value: () => (input.value === '' ? undefined : Number(input.value)) };
}

function line({ max_characters: maxLength }) {
  const input = Object.assign(document.createElement('input'), { type: 'text', maxLength });
  input.placeholder = 'Default';
  return { input, value: () => input.value || undefined };
}

/** A name of the configuration as one reads it. */
function words(name) {
  const text = name.replaceAll(/[-_]/g, ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The form of a token request: a profile, and the fields that it lets a caller set. */

export class ProfileForm {
  #profiles;
  #select;
  #fields;
  #controls = [];

  /** Shows `profiles`, of the answer of GET /profiles, in `select` and `fields`. Calls `changed` after each change. */
  constructor(profiles, select, fields, changed) {
    this.#profiles = profiles;
    this.#select = select;
    this.#fields = fields;
    // The profile of a request without a body comes first.
    const names = Object.keys(profiles).sort((one, other) => (other === 'default') - (one === 'default'));
    select.replaceChildren(...names.map(name => new Option(name, name)));
    select.addEventListener('change', () => this.#showFields());
    for (const event of ['change', 'input']) fields.addEventListener(event, changed);
    select.addEventListener('change', changed);
    this.#showFields();
  }

  /** The selected profile. */
  get profile() {
    return this.#profiles[this.#select.value];
  }

  /** The body of the request. It contains only the changed fields. */
  get request() {
    const name = this.#select.value;
    const fields = this.#controls
      .map(control => [control.name, control.value()])
      .filter(([, value]) => value !== undefined);
    return { ...(name === 'default' ? {} : { profile: name }), ...Object.fromEntries(fields) };
  }

  #showFields() {
    this.#controls = this.profile.fields.map(createControl);
    this.#fields.replaceChildren(...this.#controls.map(({ label }) => label));
  }
}

/** The function that creates the control, by the kind of rule. */
const CONTROLS = { one_of: createSelect, number: createSlider, integer: createNumberInput, text: createTextInput };

/** A labelled control for a field, and a function that reads it: `undefined` keeps the profile's default. */
function createControl({ name, allow, default: defaultValue }) {
  const label = document.createElement('label');
  const title = document.createElement('span');
  title.textContent = readableName(name);
  label.className = 'field';
  const [rule, limits] = Object.entries(allow)[0];
  const { input, reading, value } = CONTROLS[rule](limits, defaultValue);
  input.name = name;
  if (reading) title.append(reading);
  label.append(title, input);
  return { name, label, value };
}

function createSelect(names) {
  const input = document.createElement('select');
  input.append(new Option('Default', ''), ...names.map(name => new Option(readableName(name), name)));
  return { input, value: () => input.value || undefined };
}

function createSlider({ from, to }, defaultValue) {
  const step = 10 ** Math.floor(Math.log10((to - from) / 10));
  const input = Object.assign(document.createElement('input'), { type: 'range', min: from, max: to, step });
  input.value = defaultValue ?? from;
  const start = input.value;
  // Hidden from screen readers, which announce the slider's own value. An <output> would take over the label.
  const reading = Object.assign(document.createElement('span'), { ariaHidden: 'true' });
  const showValue = () => (reading.textContent = input.value);
  input.addEventListener('input', showValue);
  showValue();
  return { input, reading, value: () => (input.value === start ? undefined : Number(input.value)) };
}

function createNumberInput({ from, to }, defaultValue) {
  const input = Object.assign(document.createElement('input'), { type: 'number', min: from, max: to, step: 1 });
  input.placeholder = defaultValue ?? `${from} to ${to}`;
  return { input, value: () => (input.value === '' ? undefined : Number(input.value)) };
}

function createTextInput({ max_characters: maxLength }) {
  const input = Object.assign(document.createElement('input'), { type: 'text', maxLength });
  input.placeholder = 'Default';
  return { input, value: () => input.value || undefined };
}

/** A name from the configuration as a label: `cancelled-train` becomes `Cancelled train`. */
function readableName(name) {
  const text = name.replaceAll(/[-_]/g, ' ');
  return text.charAt(0).toUpperCase() + text.slice(1);
}

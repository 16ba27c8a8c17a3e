// ---- forms: a form made from a JSON Schema -------------------------------------------------------------------------
// A field is {node, read, write}. `read` gives the value, or undefined where nothing is to be sent; it throws a Wrong
// for what cannot be sent. The server checks the rest: no pattern of a schema runs here, since it could run for ever.

const MAX_DEPTH = 6; // of nested forms; deeper values are written as JSON
const MAX_ITEMS = 200; // of a list that is written field by field
const MAX_FIELDS = 400; // of one form: schemas that refer to themselves grow at each level

class Wrong extends Error {
  constructor(message, control) {
    super(message);
    this.control = control;
  }
}

// The frame of a field: label, control, description, and the place of its error.
function framed(control, schema, { name, required, root }, kind) {
  const id = control.id || (control.id = newId('field'));
  const hint = el('p', { class: 'hint said', id: `${id}-hint`, dir: 'auto' }, described(schema));
  const error = el('p', { class: 'wrong', id: `${id}-error`, role: 'alert', hidden: true });
  control.setAttribute('aria-describedby', `${id}-hint ${id}-error`);
  if (required) control.setAttribute('aria-required', 'true');
  if (root) control.setAttribute('aria-label', 'Value');
  const ticked = control.type === 'checkbox';
  const label = el('label', { for: id }, ticked && [control, ' '], el('bdi', {}, schema.title || name || 'value'),
    el('span', { class: 'quiet' }, ` ${kind}${required ? '' : ', optional'}`));
  return el('div', { class: 'field' }, label, !ticked && control, hint.textContent && hint, error);
}

function described(schema) {
  const parts = [];
  if (schema.description) parts.push(String(schema.description));
  const limits = {
    minimum: 'at least', exclusiveMinimum: 'more than', maximum: 'at most', exclusiveMaximum: 'less than',
    minLength: 'characters, at least', maxLength: 'characters, at most', minItems: 'items, at least', maxItems: 'items, at most',
    multipleOf: 'a multiple of', pattern: 'pattern', format: 'format',
  };
  const told = Object.entries(limits).filter(([key]) => schema[key] !== undefined);
  if (told.length) parts.push(`(${told.map(([key, words]) => `${words} ${shown(schema[key]).slice(0, 200)}`).join('; ')})`);
  return parts.join(' ');
}

function showWrong(control, message) {
  const error = byId(`${control.id}-error`);
  control.setAttribute('aria-invalid', message ? 'true' : 'false');
  if (error) {
    error.hidden = !message;
    error.textContent = message;
  }
}

// One field for a schema. `about`: {name, required, root document, depth}.
function fieldFor(given, about) {
  const schema = simplified(given, about.document);
  if (--about.room.fields < 0) return jsonField(schema, about);
  const choices = choicesOf(schema);
  if (schema.const !== undefined) return constField(schema, about);
  if (choices) return choiceField(schema, about, choices);
  if (about.depth < MAX_DEPTH) {
    if (schema.alternatives) return alternativesField(schema, about);
    if (schema.type === 'object' && isObject(schema.properties)) return objectField(schema, about);
    if (schema.type === 'array' && !schema.prefixItems) return arrayField(schema, about);
  }
  if (schema.type === 'boolean') return booleanField(schema, about);
  if (schema.type === 'integer' || schema.type === 'number') return numberField(schema, about);
  if (schema.type === 'string') return textField(schema, about);
  return jsonField(schema, about);
}

// The values of an enumeration: [{value, label}], or nothing.
function choicesOf(schema) {
  if (Array.isArray(schema.enum)) {
    const names = Array.isArray(schema.enumNames) ? schema.enumNames : [];
    return schema.enum.map((value, at) => ({ value, label: String(names[at] ?? shown(value)) }));
  }
  const titled = schema.alternatives;
  if (titled?.length && titled.every(one => one.const !== undefined)) {
    return titled.map(one => ({ value: one.const, label: String(one.title ?? shown(one.const)) }));
  }
  return undefined;
}

function constField(schema, about) {
  const control = el('output', { id: newId('field') }, pretty(schema.const));
  return { node: framed(control, schema, about, 'fixed'), read: () => (about.required ? schema.const : undefined), write() {} };
}

function choiceField(schema, about, choices) {
  const same = value => choices.findIndex(one => pretty(one.value) === pretty(value));
  const optional = !about.required || schema.nullable || schema.default === undefined;
  const control = el('select', { id: newId('field') },
    optional && el('option', { value: '' }, about.required && !schema.nullable ? 'Choose…' : 'Not set'),
    choices.map((one, at) => el('option', { value: at }, one.label)));
  const write = value => { control.value = same(value) < 0 ? '' : String(same(value)); };
  write(schema.default);
  return {
    node: framed(control, schema, about, 'choice'),
    write,
    read() {
      if (control.value !== '') return choices[Number(control.value)].value;
      if (!about.required) return undefined;
      if (schema.nullable) return null;
      throw new Wrong('Choose a value', control);
    },
  };
}

function booleanField(schema, about) {
  if (!about.required && typeof schema.default !== 'boolean') {
    return choiceField({ ...schema, nullable: true }, about, [{ value: true, label: 'true' }, { value: false, label: 'false' }]);
  }
  const control = el('input', { type: 'checkbox', id: newId('field'), checked: schema.default === true });
  return {
    node: framed(control, schema, about, 'yes or no'),
    read: () => control.checked,
    write(value) { control.checked = value === true; },
  };
}

function numberField(schema, about) {
  const integer = schema.type === 'integer';
  const control = el('input', { type: 'text', inputmode: integer ? 'numeric' : 'decimal', autocomplete: 'off', id: newId('field') });
  const write = value => { control.value = value === undefined || value === null ? '' : pretty(value); };
  write(schema.default);
  return {
    node: framed(control, schema, about, integer ? 'whole number' : 'number'),
    write,
    read() {
      const text = control.value.trim();
      if (text === '') return missing(schema, about, control);
      if (!/^-?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw new Wrong('This has to be a number', control);
      const value = Number(text);
      if (integer && !Number.isInteger(value)) throw new Wrong('This has to be a whole number', control);
      if (!Number.isFinite(value)) throw new Wrong('This number is too large', control);
      if (value < numberOf(schema.minimum)) throw new Wrong(`This has to be at least ${shown(schema.minimum)}`, control);
      if (value > numberOf(schema.maximum)) throw new Wrong(`This has to be at most ${shown(schema.maximum)}`, control);
      if (Number.isSafeInteger(value) || !integer || !/^-?\d+$/.test(text)) return value;
      if (!JSON.rawJSON) throw new Wrong('This browser cannot send a number of so many digits', control);
      return JSON.rawJSON(text.replace(/^(-?)0+(?=\d)/, '$1'));
    },
  };
}

function missing(schema, about, control) {
  if (!about.required) return undefined;
  if (schema.nullable) return null;
  throw new Wrong('This is required', control);
}

const INPUT_TYPES = { email: 'email', uri: 'url', date: 'date', password: 'password' };
const EXAMPLES = { 'date-time': '2026-01-31T12:00:00Z', time: '12:00:00Z', uuid: '00000000-0000-0000-0000-000000000000' };

function textField(schema, about) {
  const type = INPUT_TYPES[schema.format];
  const common = { id: newId('field'), spellcheck: 'false', autocomplete: 'off', placeholder: EXAMPLES[schema.format] };
  // In a text of several lines Enter sends the form, as in a chat; Shift+Enter begins a line.
  const control = type ? el('input', { ...common, type }) : el('textarea', { ...common, rows: 1, onkeydown(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    control.form?.requestSubmit();
  } });
  const write = value => { control.value = value === undefined || value === null ? '' : String(value); };
  write(schema.default);
  return {
    node: framed(control, schema, about, 'text'),
    write,
    read() {
      if (control.value === '' && (!about.required || schema.nullable || about.filled)) return missing(schema, about, control);
      if (control.value.length < schema.minLength) throw new Wrong(`At least ${schema.minLength} characters`, control);
      if ([...control.value].length > schema.maxLength) throw new Wrong(`At most ${schema.maxLength} characters`, control);
      return control.value;
    },
  };
}

function jsonField(schema, about) {
  const control = el('textarea', { id: newId('field'), rows: 3, class: 'code', spellcheck: 'false', placeholder: 'JSON' });
  const write = value => { control.value = value === undefined ? '' : pretty(value); };
  write(schema.default);
  return {
    node: framed(control, schema, about, schema.type ? `${schema.type}, as JSON` : 'JSON'),
    write,
    read() {
      if (control.value.trim() === '') return missing(schema, about, control);
      try {
        return parse(control.value);
      } catch (error) {
        throw new Wrong(`This is not JSON: ${error.message}`, control);
      }
    },
  };
}

function alternativesField(schema, about) {
  const all = schema.alternatives;
  const place = el('div', {});
  const select = el('select', { id: newId('field'), onchange: () => choose(Number(select.value)) },
    all.map((one, at) => el('option', { value: at }, one.title || one.type || `form ${at + 1}`)));
  let field;
  const choose = at => {
    const { alternatives: _, description: __, ...outer } = schema;
    field = fieldFor({ ...outer, ...all[at] }, { ...about, depth: about.depth + 1 });
    place.replaceChildren(field.node);
  };
  choose(0);
  const frame = framed(select, schema, { ...about, required: true }, 'one of several forms');
  return { node: el('div', {}, frame, place), read: () => field.read(), write: value => field.write(value) };
}

function objectField(schema, about) {
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const below = { ...about, depth: about.depth + 1, root: false };
  const fields = Object.entries(schema.properties).map(([name, one]) =>
    [name, fieldFor(one, { ...below, name, required: required.has(name) })]);
  const nodes = fields.map(([, field]) => field.node);
  // An object that may be missing is sent where its box is ticked.
  const box = about.required ? undefined : el('input', { type: 'checkbox', id: newId('field'), checked: schema.default !== undefined });
  const inside = el('fieldset', { class: 'inside' }, nodes);
  if (box) {
    const follow = () => { inside.hidden = inside.disabled = !box.checked; };
    box.addEventListener('change', follow);
    follow();
  }
  const write = value => {
    if (box) {
      box.checked = isObject(value);
      inside.hidden = inside.disabled = !box.checked;
    }
    if (isObject(value)) for (const [name, field] of fields) field.write(value[name]);
  };
  if (isObject(schema.default)) write(schema.default);
  const title = el('bdi', {}, schema.title || about.name);
  const legend = el('legend', {}, box ? el('label', {}, box, ' ', title, el('span', { class: 'quiet' }, ' optional')) : title);
  const node = about.root ? el('div', {}, nodes)
    : el('fieldset', { class: 'group' }, legend, schema.description && said(schema.description, 'p'), inside);
  return {
    node,
    write,
    read() {
      if (box && !box.checked) return undefined;
      const found = {};
      for (const [name, field] of fields) {
        const value = field.read();
        if (value !== undefined) Object.defineProperty(found, name, { value, enumerable: true, configurable: true, writable: true });
      }
      return found;
    },
  };
}

function arrayField(schema, about) {
  const items = simplified(schema.items ?? {}, about.document);
  const choices = choicesOf(items);
  return choices ? choicesField(schema, about, choices) : listField(schema, about, items);
}

function choicesField(schema, about, choices) {
  const boxes = choices.map(one => el('input', { type: 'checkbox', id: newId('field') }));
  const write = value => boxes.forEach((box, at) => {
    box.checked = Array.isArray(value) && value.some(one => pretty(one) === pretty(choices[at].value));
  });
  write(schema.default);
  const node = grouped(schema, about, choices.map((one, at) => el('label', { class: 'tick' }, boxes[at], ' ', el('bdi', {}, one.label))));
  return { node, write, read: () => filled(choices.filter((_, at) => boxes[at].checked).map(one => one.value), schema, about, boxes[0]) };
}

function listField(schema, about, items) {
  const list = el('ol', { class: 'items' });
  let fields = [];
  const add = value => {
    if (fields.length >= MAX_ITEMS) return undefined;
    const field = fieldFor(items, { ...about, name: 'item', required: true, depth: about.depth + 1, root: false });
    const row = el('li', {}, field.node, el('button', { type: 'button', 'aria-label': 'Remove this item', onclick() {
      fields = fields.filter(one => one !== field);
      row.remove();
      button.focus();
    } }, 'Remove'));
    if (value !== undefined) field.write(value);
    fields.push(field);
    list.append(row);
    return field;
  };
  const button = el('button', { type: 'button', onclick() {
    add()?.node.querySelector('input, textarea, select')?.focus();
  } }, 'Add an item');
  const write = value => {
    list.replaceChildren();
    fields = [];
    for (const one of Array.isArray(value) ? value : []) add(one);
  };
  write(schema.default);
  const node = grouped(schema, about, [list, button]);
  return { node, write, read: () => filled(fields.map(field => field.read()), schema, about, button) };
}

function grouped(schema, about, parts) {
  const legend = el('legend', {}, el('bdi', {}, schema.title || about.name || 'list'),
    el('span', { class: 'quiet' }, about.required ? ' list' : ' list, optional'));
  const hint = described(schema);
  return el('fieldset', { class: 'group' }, legend, hint && said(hint, 'p'), parts);
}

function filled(values, schema, about, control) {
  if (!values.length && !about.required && schema.default === undefined) return undefined;
  if (values.length < schema.minItems) throw new Wrong(`At least ${schema.minItems} items`, control);
  if (values.length > schema.maxItems) throw new Wrong(`At most ${schema.maxItems} items`, control);
  return values;
}

// A form for an object, with a second way to write it: as JSON. `read` gives the object, or undefined after it has
// shown the mistake.
function formFor(schema, { raw = true } = {}) {
  // A tool may want an empty text; a question and a prompt do not.
  const about = { name: '', required: true, root: true, document: schema, depth: 0, filled: !raw, room: { fields: MAX_FIELDS } };
  const shape = isObject(schema) ? { ...schema, type: schema.type ?? 'object', properties: schema.properties ?? {} } : {};
  let fields;
  try {
    fields = fieldFor(shape, about);
  } catch {
    fields = jsonField({ default: {} }, about); // a schema that cannot be followed
  }
  const empty = fields.node.childElementCount === 0;
  const editor = jsonField({}, { ...about, required: true });
  const holder = el('div', { class: 'fields' }, empty ? el('p', { class: 'quiet' }, 'No arguments.') : fields.node);
  const general = el('p', { class: 'wrong', role: 'alert', hidden: true });
  let asJson = false;
  const toggle = el('button', { type: 'button', class: 'plain', 'aria-pressed': 'false', onclick() {
    let value = {};
    try {
      value = (asJson ? editor : fields).read() ?? {};
    } catch { /* an unfinished form begins anew */ }
    asJson = !asJson;
    (asJson ? editor : fields).write(value);
    holder.replaceChildren(asJson ? editor.node : empty ? el('p', { class: 'quiet' }, 'No arguments.') : fields.node);
    toggle.setAttribute('aria-pressed', String(asJson));
    toggle.textContent = asJson ? 'Edit as a form' : 'Edit as JSON';
  } }, 'Edit as JSON');
  return {
    node: el('div', {}, holder, general),
    toggle: raw && toggle,
    read() {
      for (const control of holder.querySelectorAll('[aria-invalid=true]')) showWrong(control, '');
      general.hidden = true;
      try {
        const value = (asJson ? editor : fields).read();
        if (!isObject(value)) throw new Wrong('This has to be a JSON object', byId(editor.node.querySelector('textarea').id));
        return value;
      } catch (error) {
        if (!(error instanceof Wrong)) throw error;
        if (byId(`${error.control?.id}-error`)) showWrong(error.control, error.message);
        else {
          general.hidden = false;
          general.textContent = error.message;
        }
        error.control?.focus();
        return undefined;
      }
    },
  };
}

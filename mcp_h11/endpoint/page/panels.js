// ---- panels: tools, resources, prompts -----------------------------------------------------------------------------

const HINTS = {
  readOnlyHint: ['only reads', 'may change things'],
  destructiveHint: ['may destroy', 'destroys nothing'],
  idempotentHint: ['may be repeated', 'each call counts'],
  openWorldHint: ['reaches the outside', 'stays inside'],
};

function titled(item, name) {
  const title = item.title || item.annotations?.title;
  return [
    el('h3', { tabindex: -1 }, el('bdi', {}, title || name)),
    title && title !== name && el('p', {}, el('code', {}, name)),
    item.description && said(item.description, 'p'),
  ];
}

function badges(annotations) {
  const known = Object.entries(HINTS).filter(([key]) => typeof annotations?.[key] === 'boolean');
  return known.length > 0 && el('ul', { class: 'badges', 'aria-label': 'What the server says of it' }, known.map(([key, [yes, no]]) =>
    el('li', { title: key, class: key === 'destructiveHint' && annotations[key] ? 'danger' : undefined }, annotations[key] ? yes : no)));
}

const schemaView = (title, schema) => isObject(schema) && el('details', {}, el('summary', {}, title), block(pretty(schema), title));

// A form with a button, and the runs below it. `start(arguments, call)` makes the request.
function callable({ form, label, title, start, show }) {
  const runs = el('div', { class: 'runs' });
  const node = el('form', { novalidate: true, onsubmit(event) {
    event.preventDefault();
    const given = form.read();
    if (given) run(runs, title, call => start(given, call), show);
  } }, form.node, el('div', { class: 'row' }, el('button', { class: 'main' }, label), form.toggle));
  return [node, runs];
}

function toolView(tool, client) {
  const name = String(tool.name);
  const form = formFor(tool.inputSchema);
  return el('div', {}, titled(tool, name), badges(tool.annotations), callable({
    form, label: 'Call', title: name,
    start: (given, call) => client.wire.request('tools/call', { name, arguments: given }, { ...call, schema: tool.inputSchema }),
    show: result => toolResultView(result, uri => client.openResource(uri)),
  }), schemaView('Input schema', tool.inputSchema), schemaView('Output schema', tool.outputSchema));
}

function resourceItemView(resource, client) {
  const uri = String(resource.uri);
  const form = { read: () => ({}) };
  const about = [resource.mimeType, typeof resource.size === 'number' && sized(resource.size)].filter(Boolean).join(', ');
  return el('div', {}, titled(resource, resource.name || uri), el('p', {}, el('code', {}, uri), about && el('span', { class: 'quiet' }, ` ${about}`)),
    readable(form, client, () => uri), watchBox(uri, client));
}

function readable(form, client, uriOf) {
  return callable({
    form, label: 'Read', title: 'Read',
    start: (given, call) => client.wire.request('resources/read', { uri: uriOf(given) }, call),
    show: result => (Array.isArray(result.contents) ? result.contents : []).filter(isObject).map(resourceView),
  });
}

function watchBox(uri, client) {
  if (!client.wire.capabilities.resources?.subscribe) return false;
  const count = el('span', { class: 'quiet', role: 'status' });
  let changes = 0;
  const box = el('input', { type: 'checkbox', checked: client.watching.has(uri), async onchange() {
    try {
      await client.wire.watch(uri, box.checked);
      if (box.checked) client.watching.set(uri, () => { count.textContent = ` changed ${++changes}×; read it again to see`; });
      else client.watching.delete(uri);
    } catch (error) {
      count.textContent = ` ${error.message}`;
      box.checked = !box.checked;
    }
  } });
  return el('p', {}, el('label', { class: 'tick' }, box, ' Tell me about changes'), count);
}

function templateView(template, client) {
  const pattern = String(template.uriTemplate);
  const form = argumentsForm(variablesOf(pattern), client, { type: 'ref/resource', uri: pattern });
  return el('div', {}, titled(template, template.name || pattern), el('p', {}, el('code', {}, pattern)),
    readable(form, client, given => expanded(pattern, given)));
}

function promptView(prompt, client) {
  const name = String(prompt.name);
  const wanted = (Array.isArray(prompt.arguments) ? prompt.arguments : []).filter(isObject);
  const form = argumentsForm(wanted, client, { type: 'ref/prompt', name });
  return el('div', {}, titled(prompt, name), callable({
    form, label: 'Get', title: name,
    start: (given, call) => client.wire.request('prompts/get', { name, arguments: given }, call),
    show: result => messagesView(result.messages, uri => client.openResource(uri)),
  }));
}

// A form of texts; the server completes them as they are typed, where it can.
function argumentsForm(wanted, client, ref) {
  const properties = Object.fromEntries(wanted.map(one => [String(one.name), { type: 'string', title: one.title, description: one.description }]));
  const required = wanted.filter(one => one.required).map(one => String(one.name));
  const form = formFor({ type: 'object', properties, required }, { raw: false });
  if (!client.wire.capabilities.completions) return form;
  [...form.node.querySelectorAll('textarea')].forEach((area, at) => {
    const name = Object.keys(properties)[at];
    const offers = el('div', { class: 'offers', role: 'group', 'aria-label': `Suggestions for ${name}` });
    let turn = 0;
    area.addEventListener('input', async () => {
      const mine = ++turn;
      await pause(150);
      if (mine !== turn) return;
      const others = [...form.node.querySelectorAll('textarea')].map((one, place) => [Object.keys(properties)[place], one.value]);
      const context = { arguments: Object.fromEntries(others.filter(([key, value]) => key !== name && value)) };
      const result = await client.wire.request('completion/complete', { ref, argument: { name, value: area.value }, context }).catch(() => ({}));
      if (mine !== turn) return;
      const values = (result.completion?.values || []).filter(value => typeof value === 'string' && value !== area.value).slice(0, 8);
      offers.replaceChildren(...values.map(value => el('button', { type: 'button', onclick() {
        area.value = value;
        offers.replaceChildren();
        area.focus();
      } }, value)));
    });
    area.after(offers);
  });
  return form;
}

// ---- URI templates (RFC 6570, with texts for values) ----

const OPERATORS = {
  '': ['', ',', false], '+': ['', ',', false], '#': ['#', ',', false], '.': ['.', '.', false], '/': ['/', '/', false],
  ';': [';', ';', true], '?': ['?', '&', true], '&': ['&', '&', true],
};
const EXPRESSION = /\{([+#./;?&]?)([^{}]*)\}/g;

// The arguments of a template; those of a query may be missing.
function variablesOf(template) {
  const found = new Map();
  for (const [, operator, names] of template.matchAll(EXPRESSION)) {
    for (const name of names.split(',').map(bareName)) {
      if (!found.has(name)) found.set(name, { name, required: operator !== '?' && operator !== '&' });
    }
  }
  return [...found.values()];
}

const bareName = name => name.replace(/(\*|:\d+)$/, '').trim();

function expanded(template, values) {
  return template.replace(EXPRESSION, (_, operator, names) => {
    const [first, between, named] = OPERATORS[operator];
    const keeps = operator === '+' || operator === '#';
    const parts = names.split(',').map(bareName).filter(name => Object.hasOwn(values, name)).map(name => {
      const text = keeps ? encodeURI(values[name]) : encodeURIComponent(values[name]).replace(/[!'()*]/g, one => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
      return named ? `${name}${text || operator !== ';' ? '=' : ''}${text}` : text;
    });
    return parts.length ? first + parts.join(between) : '';
  });
}

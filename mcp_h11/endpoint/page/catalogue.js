// ---- catalogue: a list at the left, the chosen thing at the right; and the run of a call --------------------------

// `detailOf(item)` makes the view of one item; it is kept until the item changes.
class Catalogue {
  constructor(noun, keyOf, detailOf) {
    Object.assign(this, { noun, keyOf, detailOf });
    this.items = [];
    this.views = new Map(); // key -> {text of the item, node}
    this.filter = el('input', { type: 'search', 'aria-label': `Filter the ${noun}`, placeholder: `Filter ${noun}`, oninput: () => this.draw() });
    this.list = el('ul', { class: 'list' });
    this.detail = el('div', { class: 'detail' });
    this.node = el('div', { class: 'catalogue' }, el('nav', { 'aria-label': `List of ${noun}` }, this.filter, this.list), this.detail);
  }

  show(items) {
    this.items = items;
    const keys = new Map(items.map(item => [this.keyOf(item), pretty(item)]));
    for (const [key, view] of this.views) if (keys.get(key) !== view.text) this.views.delete(key);
    if (!keys.has(this.chosen)) this.chosen = items.length ? this.keyOf(items[0]) : undefined;
    this.filter.hidden = items.length < 8;
    this.draw();
    this.choose(this.chosen);
  }

  draw() {
    const wanted = this.filter.value.toLowerCase();
    const found = this.items.filter(item => !wanted || pretty([item.name, item.title, item.uri, item.description]).toLowerCase().includes(wanted));
    this.list.replaceChildren(...found.slice(0, MAX_SHOWN).map(item => {
      const key = this.keyOf(item);
      return el('li', {}, el('button', { type: 'button', 'data-key': key, 'aria-current': key === this.chosen ? 'true' : undefined,
        onclick: () => this.choose(key) }, el('bdi', {}, item.title || item.name || key)));
    }));
    if (found.length > MAX_SHOWN) this.list.append(el('li', { class: 'quiet' }, `and ${found.length - MAX_SHOWN} more: filter them`));
    if (!found.length) this.list.append(el('li', { class: 'quiet' }, this.items.length ? 'None fits.' : `The server has no ${this.noun}.`));
  }

  choose(key) {
    this.chosen = key;
    for (const button of this.list.querySelectorAll('button')) {
      if (button.dataset.key === key) button.setAttribute('aria-current', 'true');
      else button.removeAttribute('aria-current');
    }
    const item = this.items.find(one => this.keyOf(one) === key);
    if (!item) return this.detail.replaceChildren();
    let view = this.views.get(key);
    if (!view) this.views.set(key, view = { text: pretty(item), node: this.detailOf(item) });
    if (view.node.parentNode !== this.detail) this.detail.replaceChildren(view.node);
    return view.node;
  }
}

const MAX_SHOWN = 500; // lines of a list; the filter finds the others
const MAX_RUNS = 10; // results that are kept below a form
const MAX_LINES = 500; // log lines of one call

// The card of one call: progress, logs, result. `start(call)` makes the request, `show(result)` the nodes of its result.
async function run(place, title, start, show) {
  const began = performance.now();
  const cancel = new AbortController();
  const state = el('span', { class: 'quiet' }, 'running');
  const bar = el('progress', { hidden: true, 'aria-label': 'Progress' });
  const told = el('p', { class: 'said', dir: 'auto', hidden: true });
  const logs = el('ol', { class: 'logs', hidden: true, 'aria-label': 'Log messages' });
  const body = el('div', { class: 'body' });
  const stop = el('button', { type: 'button', onclick: () => cancel.abort() }, 'Cancel');
  const card = el('section', { class: 'card run', 'aria-label': title },
    el('div', { class: 'row spread' }, el('h4', {}, el('bdi', {}, title), ' ', state), stop), bar, told, logs, body);
  place.prepend(card);
  while (place.childElementCount > MAX_RUNS) place.lastElementChild.remove();
  const ticking = setInterval(() => { state.textContent = `running, ${elapsed(began)}`; }, 200);
  const call = {
    signal: cancel.signal,
    onProgress({ progress, total, message }) {
      bar.hidden = false;
      if (typeof total === 'number') Object.assign(bar, { max: total, value: numberOf(progress) });
      told.hidden = false;
      told.textContent = message ?? (total === undefined ? shown(progress) : `${shown(progress)} of ${shown(total)}`);
    },
    onLog: params => {
      logs.hidden = false;
      if (logs.childElementCount < MAX_LINES) logs.append(logLine(params));
    },
  };
  announce(`${title} runs`);
  const end = (word, ...parts) => {
    state.textContent = `${word}, ${elapsed(began)}`;
    card.classList.add(word.replace(' ', '-'));
    body.replaceChildren(...parts.flat());
    announce(`${title}: ${word}`);
  };
  try {
    const result = await start(call);
    end(result.isError ? 'error' : 'done', show(result));
  } catch (error) {
    if (error instanceof Cancelled) end('cancelled');
    else {
      end('failed', await explained(error));
      if (error.status === 401) client.refused(error); // the token has expired
    }
  } finally {
    clearInterval(ticking);
    bar.hidden = true;
    if (document.activeElement === stop) card.querySelector('h4').setAttribute('tabindex', '-1'), card.querySelector('h4').focus();
    stop.remove();
  }
}

// An error for a person. Some errors name addresses to open first (2025-11-25 client/elicitation).
async function explained(error) {
  const wanted = error.code === -32042 && Array.isArray(error.data?.elicitations) ? error.data.elicitations.slice(0, 10) : [];
  for (const params of wanted.filter(isObject)) questions.ask('elicitation/create', { ...params, mode: 'url' }).catch(() => {});
  const numbers = [error.status && `HTTP ${error.status}`, error.code !== undefined && `code ${error.code}`].filter(Boolean).join(', ');
  return [
    el('p', { class: 'wrong' }, said(error.message, 'span'), numbers && el('span', { class: 'quiet' }, ` (${numbers})`)),
    error.data !== undefined && block(pretty(error.data), 'details of the error'),
    wanted.length > 0 && el('p', {}, 'Open the address above, then call again.'),
  ].filter(Boolean);
}

function logLine({ level, logger, data }) {
  const text = typeof data === 'string' ? data : pretty(data);
  return el('li', {}, el('span', { class: `level ${/^[a-z]+$/.test(level) ? level : ''}` }, String(level)), ' ',
    logger && el('span', { class: 'quiet' }, `${logger} `), said(text, 'span'));
}

// ---- main: the page as a whole -------------------------------------------------------------------------------------

const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
const endpoint = new URL(document.querySelector('meta[name=mcp-endpoint]').content || location.pathname, location.href);
endpoint.search = endpoint.hash = '';

const client = {
  wire: undefined,
  token: '',
  watching: new Map(), // functions that tell of a change, by the URI

  async connect() {
    this.wire?.close();
    this.watching.clear();
    byId('questions').replaceChildren();
    const kind = byId('era').value === 'session' ? Session : Stateless;
    const wire = this.wire = new kind(endpoint.href, {
      question: (method, params, about) => questions.ask(method, params, about),
      over: id => questions.over(id),
      changed: kind => this.refresh(kind),
      updated: uri => this.watching.get(uri)?.(),
      logged: params => notices.add(params),
      state,
      regained: () => {
        state('', 'good');
        this.refreshAll(); // the notices of the time between are lost
      },
      ended: async () => {
        await pause(FIRST_PAUSE);
        if (this.wire === wire) this.connect();
      },
    });
    wire.token = this.token;
    wire.level = byId('level').value;
    state('Connecting', 'busy');
    try {
      await wire.connect();
    } catch (error) {
      if (this.wire === wire) this.refused(error);
      return;
    }
    if (this.wire !== wire) return;
    byId('token-form').hidden = true;
    state('', 'good');
    this.describe();
    await this.refreshAll();
  },

  refused(error) {
    state(error.status === 401 ? 'A token is needed' : error.message, 'bad');
    if (error.status !== 401 && error.status !== 403) return;
    this.guarded = true;
    this.describe();
    const source = /resource_metadata="([^"]*)"/.exec(error.challenge)?.[1];
    byId('token-why').textContent = `${this.token ? 'This token is refused: ' : ''}${error.message}`
      + (source ? `. Where tokens come from is told at ${source}` : '');
    byId('token-form').hidden = false;
    byId('token').focus();
  },

  describe() {
    const { server, instructions, version } = this.wire;
    const name = server.title || server.name || 'MCP server';
    document.title = `${name}, MCP server`;
    byId('name').textContent = name;
    byId('version').textContent = [server.title && server.name !== server.title && server.name, server.version,
      version && version !== byId('era').selectedOptions[0].text.slice(0, 10) && `speaks ${version}`].filter(Boolean).join(' · ');
    byId('about').hidden = !instructions;
    byId('instructions').textContent = instructions;
    byId('about').open = instructions.length < 400;
    panels.connect.node.replaceChildren(clientsView(server.name || 'mcp', endpoint.href, Boolean(this.token) || this.guarded));
  },

  async refreshAll() {
    await Promise.all(['tools', 'resources', 'prompts'].map(kind => this.refresh(kind)));
  },

  // Ask for the lists of a kind anew.
  async refresh(kind) {
    const wire = this.wire;
    const offered = isObject(wire.capabilities[kind]);
    try {
      const lists = offered ? await Promise.all(panels[kind].lists.map(({ method, key }) =>
        wire.list(method, key).catch(error => { if (error.code === -32601) return []; throw error; }))) : panels[kind].lists.map(() => []);
      if (this.wire !== wire) return;
      lists.forEach((items, at) => panels[kind].lists[at].catalogue.show(items));
      tabs.count(kind, lists.flat().length);
    } catch (error) {
      if (!(error instanceof Cancelled)) state(`The list of ${kind} is missing: ${error.message}`, 'bad');
    }
  },

  openResource(uri) {
    const [{ catalogue }] = panels.resources.lists;
    if (!catalogue.items.some(one => one.uri === uri)) catalogue.show([...catalogue.items, { uri, name: uri }]);
    tabs.choose('resources');
    const view = catalogue.choose(uri);
    view?.querySelector('form')?.requestSubmit();
    view?.querySelector('h3')?.focus();
  },
};

function state(text, kind) {
  const words = { good: 'Connected', busy: 'Connecting', bad: 'Not connected' };
  byId('state').textContent = text || words[kind];
  byId('state').className = kind;
}

// Log messages that belong to no call of this page.
const notices = {
  list: el('ol', { class: 'logs' }),
  add(params) {
    if (this.list.childElementCount >= MAX_LINES) this.list.firstElementChild.remove();
    this.list.append(logLine(params));
    byId('notices').hidden = false;
  },
};

const catalogueOf = (noun, key, view) => new Catalogue(noun, item => String(item[key]), item => view(item, client));

const panels = {
  tools: { title: 'Tools', lists: [{ method: 'tools/list', key: 'tools', catalogue: catalogueOf('tools', 'name', toolView) }] },
  resources: { title: 'Resources', lists: [
    { method: 'resources/list', key: 'resources', catalogue: catalogueOf('resources', 'uri', resourceItemView) },
    { method: 'resources/templates/list', key: 'resourceTemplates', catalogue: catalogueOf('templates', 'uriTemplate', templateView) },
  ] },
  prompts: { title: 'Prompts', lists: [{ method: 'prompts/list', key: 'prompts', catalogue: catalogueOf('prompts', 'name', promptView) }] },
  connect: { title: 'Connect a client', node: el('div', {}) },
};

// Tabs as ARIA has them: arrow keys move, Home and End too.
const tabs = {
  buttons: {},

  build() {
    for (const [kind, panel] of Object.entries(panels)) {
      const button = el('button', { type: 'button', role: 'tab', id: `tab-${kind}`, 'aria-controls': `panel-${kind}`, onclick: () => this.choose(kind),
        onkeydown: event => this.moved(event, kind) }, panel.title);
      this.buttons[kind] = button;
      byId('tabs').append(button);
      const parts = panel.node || panel.lists.map(({ catalogue }, at) => [at > 0 && el('h2', {}, 'Templates'), catalogue.node]);
      byId('panels').append(el('section', { role: 'tabpanel', id: `panel-${kind}`, 'aria-labelledby': button.id }, parts));
    }
    byId('panels').append(el('details', { id: 'notices', hidden: true }, el('summary', {}, 'Log messages outside of calls'), notices.list));
    this.choose('tools');
  },

  choose(kind) {
    for (const [one, button] of Object.entries(this.buttons)) {
      button.setAttribute('aria-selected', String(one === kind));
      button.tabIndex = one === kind ? 0 : -1;
      byId(`panel-${one}`).hidden = one !== kind;
    }
  },

  moved(event, kind) {
    const kinds = Object.keys(this.buttons);
    const at = kinds.indexOf(kind);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + kinds.length, Home: 0, End: kinds.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = kinds[to % kinds.length];
    this.choose(next);
    this.buttons[next].focus();
  },

  count(kind, number) {
    this.buttons[kind].textContent = `${panels[kind].title} (${number})`;
  },
};

function begin() {
  byId('level').append(el('option', { value: '' }, "the server's"), ...LEVELS.map(level => el('option', { value: level }, level)));
  tabs.build();
  byId('era').addEventListener('change', () => client.connect());
  byId('connect').addEventListener('click', () => client.connect());
  byId('level').addEventListener('change', () => client.wire.setLevel(byId('level').value).catch(error => state(error.message, 'bad')));
  byId('journal-clear').addEventListener('click', () => journal.clear());
  byId('journal-copy').addEventListener('click', async () => announce(await copy(journal.text()) ? 'Copied' : 'Copying failed'));
  byId('token-form').addEventListener('submit', event => {
    event.preventDefault();
    client.token = byId('token').value.trim();
    byId('token').value = '';
    client.connect();
  });
  window.addEventListener('pagehide', event => { if (!event.persisted) client.wire?.close(); });
  client.connect();
}

begin();

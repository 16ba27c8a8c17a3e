// ---- stateless: revision 2026-07-28, where each request stands alone and questions are results ---------------------

const META = 'io.modelcontextprotocol/';
const MAX_ROUNDS = 10;
// The member of the params that `Mcp-Name` repeats.
const NAMED = { 'tools/call': 'name', 'prompts/get': 'name', 'resources/read': 'uri' };

class Stateless extends Wire {
  static revision = '2026-07-28';

  async connect() {
    const result = await this.request('server/discover', {});
    const server = result._meta?.[`${META}serverInfo`];
    this.server = isObject(server) ? server : this.server;
    this.version = Stateless.revision;
    this.capabilities = isObject(result.capabilities) ? result.capabilities : {};
    this.instructions = String(result.instructions ?? '');
    this.watched = new Set();
    this.follow();
  }

  meta(id, call) {
    const meta = {
      [`${META}protocolVersion`]: Stateless.revision,
      [`${META}clientInfo`]: CLIENT,
      [`${META}clientCapabilities`]: CAPABILITIES,
    };
    if (this.level) meta[`${META}logLevel`] = this.level;
    if (call.onProgress) meta.progressToken = id;
    return meta;
  }

  // `call.schema` is the input schema of a tool: some of its arguments are repeated in headers.
  mirrored(method, params, call) {
    const headers = { 'MCP-Protocol-Version': Stateless.revision, 'Mcp-Method': method };
    const name = params[NAMED[method]];
    if (typeof name === 'string') headers['Mcp-Name'] = headerValue(name);
    for (const [path, suffix] of annotated(call.schema)) {
      const value = path.reduce((found, key) => (isObject(found) ? found[key] : undefined), params.arguments);
      if (['string', 'number', 'boolean'].includes(typeof value) || isRaw(value)) headers[`Mcp-Param-${suffix}`] = headerValue(shown(value));
    }
    return headers;
  }

  async request(method, params, call = {}) {
    let again = {};
    for (let round = 0; round <= MAX_ROUNDS; round++) {
      const result = await this.exchange(method, { ...params, ...again }, call);
      if (result.resultType !== 'input_required') return result;
      again = await this.answers(result, call);
    }
    throw new Failure(`The server still asks after ${MAX_ROUNDS} rounds`);
  }

  async answers(result, call) {
    const questions = Object.entries(isObject(result.inputRequests) ? result.inputRequests : {});
    const again = {};
    if (typeof result.requestState === 'string') again.requestState = result.requestState;
    if (!questions.length) await pause(FIRST_PAUSE);
    else {
      const answers = questions.map(async ([key, { method, params }]) =>
        [key, await this.hooks.question(method, params || {}, { signal: call.signal })]);
      again.inputResponses = Object.fromEntries(await Promise.all(answers));
    }
    return again;
  }

  async exchange(method, params, call) {
    const id = this.nextId(method);
    const message = { jsonrpc: '2.0', id, method, params: { ...params, _meta: this.meta(id, call) } };
    const cut = new AbortController();
    const stop = () => cut.abort(); // a request is cancelled by its end
    const signals = [this.closing.signal, call.signal].filter(Boolean);
    for (const signal of signals) signal.addEventListener('abort', stop);
    this.calls.set(id, call);
    let answer;
    try {
      if (signals.some(signal => signal.aborted)) throw new Cancelled();
      const response = await this.post(message, this.mirrored(method, params, call), cut.signal);
      await this.read(response, one => {
        if (one.id === id && !('method' in one)) answer = one;
        else if (typeof one.method === 'string') this.heard(one, call);
        if (answer) call.answered?.();
      });
    } catch (error) {
      if (!answer) throw cut.signal.aborted ? new Cancelled() : error;
    } finally {
      this.calls.delete(id);
      for (const signal of signals) signal.removeEventListener('abort', stop);
    }
    if (!answer) throw new Failure('The stream ended without an answer');
    return resultOf(answer);
  }

  // One stream of notices; a change of the watched resources opens it anew.
  follow() {
    this.following?.abort();
    const mine = this.following = new AbortController();
    this.keepOpen(async () => {
      const notifications = { toolsListChanged: true, promptsListChanged: true, resourcesListChanged: true };
      if (this.watched.size) notifications.resourceSubscriptions = [...this.watched];
      await this.exchange('subscriptions/listen', { notifications }, { signal: mine.signal });
      return FIRST_PAUSE;
    });
  }

  async setLevel(level) {
    this.level = level;
  }

  async watch(uri, on) {
    if (on) this.watched.add(uri);
    else this.watched.delete(uri);
    this.follow();
  }
}

// The annotated properties of a tool's input schema: [path of names, what stands behind Mcp-Param-].
function annotated(schema, path = []) {
  const found = [];
  for (const [name, one] of Object.entries(isObject(schema?.properties) ? schema.properties : {})) {
    if (!isObject(one)) continue;
    if (typeof one['x-mcp-header'] === 'string') found.push([[...path, name], one['x-mcp-header']]);
    if (path.length < 10) found.push(...annotated(one, [...path, name]));
  }
  return found;
}

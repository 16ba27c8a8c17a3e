// ---- wire: one exchange with the endpoint, and the parts that both eras of the protocol share ----------------------

const CLIENT = { name: 'mcp_h11 page', version: '1' };
const CAPABILITIES = { elicitation: { form: {}, url: {} }, sampling: {}, roots: {} };
const MAX_PAGES = 100; // of one list
const FIRST_PAUSE = 1000; // milliseconds before a stream is opened again
const LAST_PAUSE = 30_000;

// An error that the server sent, or an HTTP status that it answered with.
class Failure extends Error {
  constructor(message, { status, code, data } = {}) {
    super(message);
    Object.assign(this, { status, code, data });
  }
}

class Cancelled extends Error {
  constructor() { super('Cancelled'); }
}

// The events of a stream: {id, data, retry}. A line ends with \r\n, \r or \n, and a chunk may end within one.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = { data: [] };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += value;
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        const [, field, text] = /^([^:]*):? ?([^]*)$/.exec(line);
        if (line === '') {
          if (event.data.length || event.id !== undefined || event.retry) yield { ...event, data: event.data.join('\n') };
          event = { data: [] };
        } else if (field === 'data') event.data.push(text);
        else if (field === 'id') event.id = text;
        else if (field === 'retry' && /^\d+$/.test(text)) event.retry = Number(text);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A value as a header of MCP may have it (2026-07-28 streamable-http, Value Encoding).
function headerValue(text) {
  const plain = /^[\x20-\x7e]*$/.test(text) && text === text.trim() && !/^=\?base64\?.*\?=$/.test(text);
  if (plain) return text;
  return `=?base64?${btoa(String.fromCharCode(...new TextEncoder().encode(text)))}?=`;
}

// A client of the endpoint. `session.js` and `stateless.js` derive the two eras.
//
// `hooks`: question(method, params, call, signal) gives the result of a question, changed(kind), updated(uri),
// logged(params), state(text, kind), over(id), regained() after a lost connection, and ended() for a session.
class Wire {
  constructor(address, hooks) {
    this.address = address;
    this.hooks = hooks;
    this.token = '';
    this.level = '';
    this.lastId = 0;
    this.methods = new Map(); // the method of each request, by its id
    this.calls = new Map(); // calls that run, by their id, which is their progress token as well
    this.closing = new AbortController();
    this.server = { name: '', version: '' };
    this.capabilities = {};
    this.instructions = '';
  }

  headers(more) {
    const all = { Accept: 'application/json, text/event-stream', ...more };
    if (this.token) all.Authorization = `Bearer ${this.token}`;
    return all;
  }

  nextId(method) {
    const id = ++this.lastId;
    this.methods.set(id, method);
    if (this.methods.size > 2000) this.methods.delete(this.methods.keys().next().value);
    return id;
  }

  // POST a message; gives the response once its head is there.
  async post(message, headers, signal) {
    const text = JSON.stringify(message);
    journal.add('sent', labelOf(message, id => this.methods.get(id)), text);
    return this.fetched({ method: 'POST', body: text, signal, headers: { 'Content-Type': 'application/json', ...headers } });
  }

  async fetched(options) {
    const headers = this.headers(options.headers);
    try {
      const response = await fetch(this.address, { cache: 'no-store', redirect: 'error', ...options, headers });
      if (this.lost) this.hooks.regained();
      this.lost = false;
      return response;
    } catch (error) {
      if (options.signal?.aborted) throw new Cancelled();
      journal.add('received', 'no answer', String(error), { failed: true });
      throw new Failure('The server does not answer. Does it still run?');
    }
  }

  // Every message of a response goes to `take`; gives the last event id, and the time to wait before coming back.
  async read(response, take) {
    const type = (response.headers.get('Content-Type') || '').split(';')[0].trim();
    const found = { lastEvent: undefined, retry: FIRST_PAUSE };
    if (type !== 'text/event-stream') {
      const text = await response.text();
      const message = type === 'application/json' && text ? this.parsed(text) : undefined;
      const label = message ? labelOf(message, id => this.methods.get(id)) : text ? 'answer' : '';
      const failed = !response.ok || (isObject(message) && 'error' in message);
      journal.add('received', response.status === 200 ? label : `${response.status} ${label}`.trim(), text, { failed });
      if (!response.ok) throw refusal(response, message, text);
      for (const one of Array.isArray(message) ? message : [message]) if (one) take(one);
      return found;
    }
    for await (const event of eventsOf(response.body)) {
      if (event.id !== undefined) found.lastEvent = event.id;
      if (event.retry) found.retry = event.retry;
      if (!event.data) continue;
      const message = this.parsed(event.data);
      const label = message ? labelOf(message, id => this.methods.get(id)) : 'not JSON';
      journal.add('received', label, event.data, { failed: isObject(message) && 'error' in message });
      for (const one of Array.isArray(message) ? message : [message]) if (one) take(one);
    }
    return found;
  }

  parsed(text) {
    try {
      return parse(text);
    } catch {
      return undefined;
    }
  }

  // What a server says beside the answers.
  heard(message, call) {
    const params = isObject(message.params) ? message.params : {};
    if (message.method === 'notifications/progress') this.calls.get(params.progressToken)?.onProgress?.(params);
    else if (message.method === 'notifications/message') (call?.onLog || this.hooks.logged)(params);
    else if (message.method === 'notifications/resources/updated') this.hooks.updated(String(params.uri));
    else if (message.method === 'notifications/cancelled') this.hooks.over(params.requestId);
    else if (message.method === 'notifications/elicitation/complete') this.hooks.over(params.elicitationId);
    else {
      const changed = /^notifications\/(tools|prompts|resources)\/list_changed$/.exec(message.method);
      if (changed) this.hooks.changed(changed[1]);
    }
  }

  // All pages of a list.
  async list(method, key) {
    const found = [];
    let cursor;
    for (let page = 0; page < MAX_PAGES; page++) {
      const result = await this.request(method, cursor === undefined ? {} : { cursor });
      if (Array.isArray(result[key])) found.push(...result[key].filter(isObject));
      cursor = result.nextCursor;
      if (typeof cursor !== 'string') break;
    }
    return found;
  }

  close() {
    this.closing.abort();
  }

  // Open a stream again and again until `close`: `once` reads it to its end, and gives the milliseconds to wait.
  async keepOpen(once) {
    let failures = 0;
    while (!this.closing.signal.aborted) {
      let wait;
      try {
        wait = await once();
        failures = 0;
        if (wait === undefined) return; // the server has none
      } catch (error) {
        if (this.closing.signal.aborted || error instanceof Cancelled) return;
        if (error.status === 404) return void this.hooks.ended();
        wait = Math.min(FIRST_PAUSE * 2 ** failures++, LAST_PAUSE);
        this.lost = true;
        this.hooks.state('The connection is lost; trying again', 'bad');
      }
      await pause(wait);
    }
  }
}

function refusal(response, message, text) {
  const error = isObject(message?.error) ? message.error : {};
  const reason = typeof error.message === 'string' ? error.message : text.slice(0, 300) || response.statusText;
  const failure = new Failure(reason, { status: response.status, code: error.code, data: error.data });
  failure.challenge = response.headers.get('WWW-Authenticate') || '';
  return failure;
}

// The result of a response; throws the error that it holds.
function resultOf(message) {
  if (isObject(message.error)) {
    const { code, message: text, data } = message.error;
    throw new Failure(String(text ?? 'Error'), { code, data });
  }
  return isObject(message.result) ? message.result : {};
}

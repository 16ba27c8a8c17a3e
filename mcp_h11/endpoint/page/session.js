// ---- session: revision 2025-11-25, where a session exists and questions are requests of the server -----------------

class Session extends Wire {
  static revision = '2025-11-25';

  async connect() {
    this.session = '';
    this.version = '';
    const result = await this.exchange('initialize', {
      protocolVersion: Session.revision, capabilities: CAPABILITIES, clientInfo: CLIENT,
    });
    this.version = String(result.protocolVersion);
    this.server = isObject(result.serverInfo) ? result.serverInfo : this.server;
    this.capabilities = isObject(result.capabilities) ? result.capabilities : {};
    this.instructions = String(result.instructions ?? '');
    await this.notify('notifications/initialized');
    if (this.level && this.capabilities.logging) await this.request('logging/setLevel', { level: this.level });
    if (this.session) this.keepOpen(() => this.listen()); // without a session there is no stream of notices
  }

  headers(more) {
    const all = super.headers(more);
    if (this.session) all['Mcp-Session-Id'] = this.session;
    if (this.version) all['MCP-Protocol-Version'] = this.version;
    return all;
  }

  async notify(method, params) {
    const response = await this.post({ jsonrpc: '2.0', method, ...(params && { params }) }, {}, this.closing.signal);
    await this.read(response, () => {});
  }

  // `call`: onProgress, onLog and the signal that cancels it; all may be missing.
  async request(method, params, call = {}) {
    try {
      return await this.exchange(method, params, call);
    } catch (error) {
      if (error.status !== 404 || !this.session) throw error;
      // The session is over, and the request did not run.
      this.hooks.state('The session was over; a new one begins', 'busy');
      await this.connect();
      return this.exchange(method, params, call);
    }
  }

  async exchange(method, params, call = {}) {
    const id = this.nextId(method);
    const sent = call.onProgress ? { ...params, _meta: { ...params._meta, progressToken: id } } : params;
    const cut = new AbortController();
    const stop = () => cut.abort();
    this.closing.signal.addEventListener('abort', stop);
    const cancel = () => {
      this.notify('notifications/cancelled', { requestId: id, reason: 'The user cancelled it' }).catch(() => {});
      stop();
    };
    call.signal?.addEventListener('abort', cancel);
    this.calls.set(id, call);
    try {
      if (call.signal?.aborted) throw new Cancelled();
      return await this.answer(id, { jsonrpc: '2.0', id, method, params: sent }, call, cut.signal);
    } catch (error) {
      throw call.signal?.aborted ? new Cancelled() : error;
    } finally {
      this.calls.delete(id);
      this.closing.signal.removeEventListener('abort', stop);
      call.signal?.removeEventListener('abort', cancel);
    }
  }

  async answer(id, message, call, signal) {
    let answer;
    const take = one => {
      if (one.id === id && !('method' in one)) answer = one;
      else this.incoming(one, call);
    };
    let response = await this.post(message, {}, signal);
    const session = response.headers.get('Mcp-Session-Id');
    if (session && message.method === 'initialize') this.session = session;
    let found = await this.read(response, take);
    // A stream may end before the answer: the rest of it is there for the one who comes back.
    while (!answer && found.lastEvent) {
      await pause(found.retry);
      const last = { 'Last-Event-ID': found.lastEvent, Accept: 'text/event-stream' };
      journal.add('sent', 'GET, the rest of a stream', '');
      response = await this.fetched({ method: 'GET', headers: last, signal });
      if (response.status === 204) break;
      const next = await this.read(response, take);
      found = { lastEvent: next.lastEvent || found.lastEvent, retry: next.retry };
    }
    if (!answer) throw new Failure('The stream ended without an answer');
    return resultOf(answer);
  }

  // The session's own stream: notices, and questions of calls whose stream is gone.
  async listen() {
    const last = this.lastEvent ? { 'Last-Event-ID': this.lastEvent } : {};
    journal.add('sent', 'GET, the stream of notices', '');
    const headers = { ...last, Accept: 'text/event-stream' };
    const response = await this.fetched({ method: 'GET', headers, signal: this.closing.signal });
    if (response.status === 405 || response.status === 204) return undefined;
    const found = await this.read(response, one => this.incoming(one));
    this.lastEvent = found.lastEvent || this.lastEvent;
    return found.retry;
  }

  incoming(message, call) {
    if (typeof message.method !== 'string') return;
    if (message.id === undefined) this.heard(message, call);
    else this.asked(message, call);
  }

  // A request of the server.
  async asked({ id, method, params }, call) {
    let answer;
    try {
      answer = { result: method === 'ping' ? {} : await this.hooks.question(method, params || {}, { id, signal: call?.signal }) };
    } catch (error) {
      if (error instanceof Cancelled) return;
      answer = { error: { code: error.code ?? -32603, message: error.message } };
    }
    try {
      this.methods.set(id, method);
      await this.read(await this.post({ jsonrpc: '2.0', id, ...answer }, {}, this.closing.signal), () => {});
    } catch { /* the journal shows it */ }
  }

  async setLevel(level) {
    this.level = level;
    if (level && this.capabilities.logging) await this.request('logging/setLevel', { level });
  }

  async watch(uri, on) {
    await this.request(on ? 'resources/subscribe' : 'resources/unsubscribe', { uri });
  }

  close() {
    super.close();
    if (!this.session) return;
    // The page may be closing: `keepalive` lets the request outlive it.
    fetch(this.address, { method: 'DELETE', keepalive: true, headers: this.headers({}) }).catch(() => {});
    journal.add('sent', 'DELETE, the end of the session', '');
  }
}

// ---- journal: the messages of both directions, as they were sent ---------------------------------------------------

const MAX_ENTRIES = 300;
const MAX_JOURNAL = 4_000_000; // characters of all entries

const journal = {
  entries: [],
  size: 0,

  // `text` is the body as it was sent or received; `label` says what it is.
  add(direction, label, text, { failed = false } = {}) {
    const entry = { direction, label, text, time: new Date() };
    entry.node = this.shown(entry, failed);
    const list = byId('journal');
    const follows = list.scrollTop + list.clientHeight >= list.scrollHeight - 40;
    this.entries.push(entry);
    this.size += text.length;
    list.append(entry.node);
    while (this.entries.length > MAX_ENTRIES || (this.size > MAX_JOURNAL && this.entries.length > 1)) {
      const oldest = this.entries.shift();
      this.size -= oldest.text.length;
      oldest.node.remove();
    }
    if (follows) list.scrollTop = list.scrollHeight;
  },

  shown(entry, failed) {
    const sent = entry.direction === 'sent';
    const details = el('details', { ontoggle() {
      if (!details.open || details.childElementCount > 1) return;
      details.append(
        el('div', { class: 'row' }, copyButton(() => entry.text)),
        block(indented(entry.text) || '(no body)', entry.label),
      );
    } }, el('summary', {},
      el('time', { datetime: entry.time.toISOString() }, clock(entry.time)),
      el('span', { class: sent ? 'arrow sent' : 'arrow', 'aria-hidden': 'true' }, sent ? '→' : '←'),
      el('span', { class: 'unseen' }, sent ? 'sent' : 'received'),
      el('span', { class: failed ? 'label failed' : 'label' }, entry.label),
      el('span', { class: 'quiet size' }, sized(entry.text.length))));
    return el('li', {}, details);
  },

  clear() {
    this.entries = [];
    this.size = 0;
    byId('journal').replaceChildren();
    announce('The messages are cleared');
  },

  text() {
    return this.entries.map(one => `${one.time.toISOString()} ${one.direction} ${one.label}\n${one.text}\n`).join('\n');
  },
};

const clock = time => time.toTimeString().slice(0, 8) + '.' + String(time.getMilliseconds()).padStart(3, '0');

// A word for a message; `asked` gives the method of a request by its id.
function labelOf(message, asked) {
  if (Array.isArray(message)) return `batch of ${message.length}`;
  if (!isObject(message)) return 'not a message';
  if (typeof message.method === 'string') {
    const { name, uri } = isObject(message.params) ? message.params : {};
    return [message.method, name ?? uri].filter(one => typeof one === 'string').join(' ').slice(0, 80);
  }
  const method = asked(message.id);
  return ('error' in message ? 'error' : 'result') + (method ? ` of ${method}` : '');
}

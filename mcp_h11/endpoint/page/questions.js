// ---- questions: what the server asks while a call runs -------------------------------------------------------------
// Each question is a card above the rest. It ends with an answer, or when its call or the server takes it back.

const MAX_QUESTIONS = 20; // at once

const questions = {
  open: new Map(), // the functions that take a question back, by the id of its request

  over(id) {
    this.open.get(id)?.();
  },

  // Ask the person; gives the result of the request. Throws a Failure for a refusal, and Cancelled.
  ask(method, params, { id, signal } = {}) {
    const cards = {
      'elicitation/create': params.mode === 'url' ? urlCard : formCard,
      'sampling/createMessage': samplingCard,
      'roots/list': rootsCard,
    };
    if (!Object.hasOwn(cards, method)) return Promise.reject(new Failure(`No answer to ${method}`, { code: -32601 }));
    if (byId('questions').childElementCount >= MAX_QUESTIONS) {
      return Promise.reject(new Failure('Too many questions at once', { code: -32603 }));
    }
    return new Promise((resolve, reject) => {
      const before = document.activeElement;
      const keys = [id, params.elicitationId].filter(key => key !== undefined);
      const close = () => {
        signal?.removeEventListener('abort', takeBack);
        for (const key of keys) this.open.delete(key);
        card.remove();
        if (before?.isConnected) before.focus();
      };
      const takeBack = () => { close(); reject(new Cancelled()); };
      const answer = result => { close(); resolve(result); };
      const refuse = failure => { close(); reject(failure); };
      const { title, parts } = cards[method](params, answer, refuse);
      const heading = el('h2', { tabindex: -1, id: newId('question') }, title);
      const card = el('section', { class: 'card question', 'aria-labelledby': heading.id }, heading, parts);
      for (const key of keys) this.open.set(key, takeBack);
      if (signal?.aborted) return takeBack();
      signal?.addEventListener('abort', takeBack);
      byId('questions').append(card);
      announce(`${title}`);
      heading.focus();
      return undefined;
    });
  },
};

const pressed = (label, onclick, attributes) => el('button', { type: 'button', onclick, ...attributes }, label);

const elicited = answer => [
  pressed('Decline', () => answer({ action: 'decline' })),
  pressed('Cancel', () => answer({ action: 'cancel' })),
];

function formCard(params, answer) {
  const form = formFor(params.requestedSchema, { raw: false });
  const node = el('form', { novalidate: true, onsubmit(event) {
    event.preventDefault();
    const content = form.read();
    if (content) answer({ action: 'accept', content });
  } }, said(params.message, 'p'), form.node,
  el('div', { class: 'row' }, el('button', { class: 'main' }, 'Accept'), elicited(answer)),
  el('p', { class: 'hint' }, 'The server gets what you enter here. Enter no password.'));
  return { title: 'The server asks', parts: [node] };
}

function urlCard(params, answer) {
  const url = webAddress(params.url);
  const open = () => {
    window.open(url.href, '_blank', 'noopener,noreferrer');
    answer({ action: 'accept' });
  };
  return { title: 'The server wants to open an address', parts: [
    said(params.message, 'p'),
    url ? el('p', {}, 'The address leads to ', el('strong', {}, url.host), ':') : el('p', { class: 'wrong' }, 'This is no web address, so it cannot be opened:'),
    el('p', {}, el('code', {}, url ? url.href : String(params.url))),
    el('div', { class: 'row' }, url && pressed('Open in a new tab', open, { class: 'main' }), elicited(answer)),
  ] };
}

function samplingCard(params, answer, refuse) {
  const text = el('textarea', { id: newId('field'), rows: 4, required: true });
  const model = el('input', { id: newId('field'), type: 'text', value: 'a person', autocomplete: 'off' });
  const { messages, systemPrompt, ...rest } = params;
  const node = el('form', { onsubmit(event) {
    event.preventDefault();
    answer({ role: 'assistant', content: { type: 'text', text: text.value }, model: model.value || 'a person', stopReason: 'endTurn' });
  } },
  el('p', {}, 'The server asks for the answer of a language model. Here you write it.'),
  systemPrompt && el('div', { class: 'message' }, el('h4', {}, 'system'), block(systemPrompt, 'system prompt')),
  messagesView(messages),
  el('details', {}, el('summary', {}, 'The rest of the request'), block(pretty({ ...rest, _meta: undefined }), 'request')),
  el('div', { class: 'field' }, el('label', { for: text.id }, 'Answer'), text),
  el('div', { class: 'field' }, el('label', { for: model.id }, 'Name of the model'), model),
  el('div', { class: 'row' }, el('button', { class: 'main' }, 'Send'),
    pressed('Refuse', () => refuse(new Failure('The user refused the request', { code: -1 })))));
  return { title: 'The server asks for a model', parts: [node] };
}

function rootsCard(params, answer, refuse) {
  const text = el('textarea', { id: newId('field'), rows: 2, placeholder: 'file:///home/me/project', spellcheck: 'false' });
  const node = el('form', { onsubmit(event) {
    event.preventDefault();
    const lines = text.value.split('\n').map(line => line.trim()).filter(Boolean);
    answer({ roots: lines.map(uri => ({ uri })) });
  } }, el('div', { class: 'field' }, el('label', { for: text.id }, 'Folders, as file:// addresses, one a line; none is an answer as well'), text),
  el('div', { class: 'row' }, el('button', { class: 'main' }, 'Send'),
    pressed('Refuse', () => refuse(new Failure('The user refused the request', { code: -1 })))));
  return { title: 'The server asks for your folders', parts: [node] };
}

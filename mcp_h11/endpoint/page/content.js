// ---- content: what a server gives, shown as text, pictures and sounds ----------------------------------------------

const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp|svg\+xml)$/; // in an <img> no script of an SVG runs
const SOUNDS = /^audio\/[a-z0-9.+-]+$/;
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

const bytesOf = data => Math.floor((data.length * 3) / 4) - (data.endsWith('==') ? 2 : data.endsWith('=') ? 1 : 0);

// `read` opens a resource by its URI.
function contentView(item, read) {
  if (!isObject(item)) return block(pretty(item), 'content');
  if (item.type === 'text') return textView(String(item.text ?? ''));
  if (item.type === 'image' || item.type === 'audio') return binaryView(String(item.data ?? ''), String(item.mimeType ?? ''));
  if (item.type === 'resource' && isObject(item.resource)) return resourceView(item.resource);
  if (item.type === 'resource_link') {
    return el('div', { class: 'link' }, el('strong', {}, said(item.title || item.name, 'span')), ' ', el('code', {}, item.uri),
      item.description && said(item.description, 'p'),
      read && el('button', { type: 'button', onclick: () => read(String(item.uri)) }, 'Read'));
  }
  return block(pretty(item), 'content');
}

function textView(text) {
  const start = text.trimStart()[0];
  if (start === '{' || start === '[') {
    try {
      parse(text);
      return block(indented(text), 'text');
    } catch { /* it only begins like JSON */ }
  }
  return block(text, 'text');
}

function binaryView(data, type) {
  if (!BASE64.test(data)) return el('p', { class: 'wrong' }, 'The data is not base64.');
  const size = el('span', { class: 'quiet' }, `${type || 'data'}, ${sized(bytesOf(data))}`);
  const kind = type.toLowerCase();
  let view;
  if (PICTURES.test(kind)) view = el('img', { alt: 'Picture of the server', src: `data:${kind};base64,${data}` });
  else if (SOUNDS.test(kind)) view = el('audio', { controls: true, src: `data:${kind};base64,${data}` });
  return el('figure', {}, view, el('figcaption', { class: 'row' }, size, saveButton(data)));
}

function saveButton(data) {
  return el('button', { type: 'button', onclick() {
    const bytes = Uint8Array.from(atob(data), character => character.charCodeAt(0));
    // As bytes of no type: a browser would run HTML of this origin.
    const url = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
    el('a', { href: url, download: 'data.bin' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } }, 'Save');
}

function resourceView(resource) {
  const type = String(resource.mimeType ?? '');
  const binary = typeof resource.blob === 'string';
  const head = el('p', { class: 'quiet' }, el('code', {}, String(resource.uri ?? '')), !binary && type && ` ${type}`);
  const body = binary ? binaryView(resource.blob, type) : textView(String(resource.text ?? ''));
  return el('div', { class: 'resource' }, head, body);
}

// The result of a tool. Text that only repeats the structured content is shown once.
function toolResultView(result, read) {
  const parts = [];
  const structured = result.structuredContent;
  const repeats = item => {
    if (structured === undefined || item?.type !== 'text') return false;
    try {
      return pretty(parse(item.text)) === pretty(structured);
    } catch {
      return false;
    }
  };
  const content = (Array.isArray(result.content) ? result.content : []).filter(item => !repeats(item));
  if (result.isError) parts.push(el('p', { class: 'wrong' }, 'The tool reports an error.'));
  parts.push(...content.map(item => contentView(item, read)));
  if (structured !== undefined) parts.push(el('h4', {}, 'Structured content'), block(pretty(structured), 'structured content'));
  if (!parts.length) parts.push(el('p', { class: 'quiet' }, 'The result is empty.'));
  return parts;
}

function messagesView(messages, read) {
  return (Array.isArray(messages) ? messages : []).filter(isObject).map(message => el('div', { class: 'message' },
    el('h4', {}, said(message.role, 'span')),
    (Array.isArray(message.content) ? message.content : [message.content]).map(item => contentView(item, read))));
}

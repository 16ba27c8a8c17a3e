// ---- dom: elements, made of text alone -----------------------------------------------------------------------------
// A string becomes a text node, and never markup: a server chooses most texts of this page.

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'hidden', 'open', 'textContent', 'htmlFor', 'indeterminate']);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(3).filter(child => child !== undefined && child !== null && child !== false));
  return node;
}

const byId = id => document.getElementById(id);

let counted = 0;
const newId = prefix => `${prefix}-${++counted}`;

// Text of a server. `dir=auto` and the style isolate it, so that it cannot turn the letters around it.
const said = (text, tag = 'div') => el(tag, { class: 'said', dir: 'auto' }, String(text ?? ''));

// A status for people who listen to the page.
function announce(text) {
  byId('said').textContent = '';
  byId('said').textContent = text;
}

const LONG = 100_000; // characters that are shown at once

function block(text, label) {
  const whole = String(text);
  const pre = el('pre', { tabindex: 0, dir: 'auto', 'aria-label': label }, whole.slice(0, LONG));
  if (whole.length <= LONG) return pre;
  const more = el('button', {
    type: 'button',
    onclick() {
      pre.textContent = whole;
      more.remove();
    },
  }, `Show all ${whole.length.toLocaleString('en')} characters`);
  return el('div', {}, pre, more);
}

function copyButton(textOf, label = 'Copy') {
  const button = el('button', { type: 'button', class: 'copy', async onclick() {
    const done = await copy(textOf());
    button.textContent = done ? 'Copied' : 'Press Ctrl+C';
    announce(done ? 'Copied' : 'Copying failed');
    setTimeout(() => { button.textContent = label; }, 1500);
  } }, label);
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text); // there on https and loopback alone
    return true;
  } catch {
    const area = el('textarea', { class: 'unseen', value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

function sized(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

function elapsed(since) {
  const milliseconds = performance.now() - since;
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));

// http and https alone: an address of a server must not be a script.
function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url : null;
  } catch {
    return null;
  }
}

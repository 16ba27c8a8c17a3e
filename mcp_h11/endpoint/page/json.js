// ---- json: numbers as they were sent, and schemas with their references followed -----------------------------------

// Integers past 2^53 stay as they are written, where the browser can (JSON.rawJSON).
function parse(text) {
  return JSON.parse(text, (key, value, context) => {
    const exact = typeof value !== 'number' || Number.isSafeInteger(value) || !context?.source || !JSON.rawJSON;
    return exact || !/^-?\d+$/.test(context.source) ? value : JSON.rawJSON(context.source);
  });
}

const isRaw = value => Boolean(JSON.isRawJSON?.(value));
const numberOf = value => (isRaw(value) ? Number(value.rawJSON) : value);

const pretty = value => JSON.stringify(value, null, 2) ?? '';

const MAX_INDENTED = 2_000_000; // characters

// The same JSON text with line breaks. It is not parsed, so every number and name stays as it was sent.
function indented(text) {
  if (text.length > MAX_INDENTED) return text;
  let out = '';
  let depth = 0;
  const line = () => '\n' + '  '.repeat(Math.min(depth, 40));
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"?|[[{]\s*[\]}]|[[\]{},:]|[^\s"[\]{},:]+/g)) {
    if (/^[[{]\s*[\]}]$/.test(token)) out += token[0] + token.at(-1);
    else if (token === '{' || token === '[') { depth++; out += token + line(); }
    else if (token === '}' || token === ']') { depth--; out += line() + token; }
    else if (token === ',') out += token + line();
    else out += token === ':' ? ': ' : token;
  }
  return out;
}

const isObject = value => typeof value === 'object' && value !== null && !Array.isArray(value) && !isRaw(value);
const shown = value => (typeof value === 'string' ? value : pretty(value));
const MAX_REFERENCES = 32;

// The schema that a reference within `root` leads to, with its siblings; {} where it leads nowhere.
function followed(schema, root) {
  let found = isObject(schema) ? schema : {};
  for (let hops = 0; typeof found.$ref === 'string'; hops++) {
    const { $ref, ...siblings } = found;
    let target = hops < MAX_REFERENCES && $ref.startsWith('#') ? root : {};
    for (const part of $ref.split('/').slice(1)) {
      const name = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~');
      target = isObject(target) && Object.hasOwn(target, name) ? target[name] : {};
    }
    found = { ...(isObject(target) ? target : {}), ...siblings };
    if (hops >= MAX_REFERENCES) delete found.$ref;
  }
  return found;
}

const isNull = schema => schema.type === 'null' || schema.const === null;

// A schema in the few forms that a field knows: without $ref, allOf, and null among several types.
function simplified(schema, root, hops = 0) {
  let found = hops > MAX_REFERENCES ? {} : followed(schema, root);
  if (Array.isArray(found.allOf)) {
    const { allOf, ...rest } = found;
    for (const part of allOf.map(one => followed(one, root))) {
      rest.properties = part.properties || rest.properties ? { ...rest.properties, ...part.properties } : undefined;
      rest.required = [...(rest.required || []), ...(part.required || [])];
      found = { ...part, ...rest };
    }
    delete found.allOf;
  }
  const key = ['anyOf', 'oneOf'].find(name => Array.isArray(found[name]));
  if (key) {
    const all = found[key].map(one => followed(one, root));
    const real = all.filter(one => !isNull(one));
    const { [key]: _, ...rest } = found;
    if (real.length < all.length) rest.nullable = true;
    if (real.length === 1) return { ...simplified(real[0], root, hops + 1), ...rest };
    found = { ...rest, alternatives: real };
  }
  if (Array.isArray(found.type)) {
    const types = found.type.filter(one => one !== 'null');
    found = { ...found, type: types.length === 1 ? types[0] : undefined, nullable: types.length < found.type.length };
  }
  return found;
}

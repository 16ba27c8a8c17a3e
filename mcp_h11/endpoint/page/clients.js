// ---- clients: what to paste into which client ----------------------------------------------------------------------

const shell = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
const VARIABLE = 'MCP_TOKEN';

function clientsView(name, url, guarded) {
  const key = name.replace(/[^A-Za-z0-9_-]+/g, '-').replace(/^-+|-+$/g, '') || 'mcp';
  const bearer = `Authorization: Bearer $${VARIABLE}`;
  const header = guarded ? ` --header "${bearer}"` : '';
  const headers = value => (guarded ? { headers: { Authorization: `Bearer ${value}` } } : {});
  const servers = entry => pretty({ mcpServers: { [key]: entry } });
  const remote = ['-y', 'mcp-remote', url, ...(guarded ? ['--header', 'Authorization: Bearer ${' + VARIABLE + '}'] : [])];
  const env = guarded ? { env: { [VARIABLE]: 'YOUR-TOKEN' } } : {};
  const vscode = { type: 'http', url, ...headers('${input:token}') };
  const inputs = guarded ? { inputs: [{ id: 'token', type: 'promptString', description: `Token of ${key}`, password: true }] } : {};
  const ways = [
    ['Claude Code', 'Run this in a terminal:', `claude mcp add --transport http ${key} ${shell(url)}${header}`],
    ['Claude Desktop', 'Settings, Developer, Edit Config (claude_desktop_config.json). It starts mcp-remote, which needs Node.js:',
      servers({ command: 'npx', args: remote, ...env })],
    ['Cursor', 'Into .cursor/mcp.json of a project, or ~/.cursor/mcp.json:', servers({ url, ...headers('${env:' + VARIABLE + '}') })],
    ['VS Code', 'Into .vscode/mcp.json of a project, or "MCP: Open User Configuration":', pretty({ ...inputs, servers: { [key]: vscode } })],
    ['Codex', 'Into ~/.codex/config.toml:', [`[mcp_servers.${key}]`, `url = ${pretty(url)}`,
      ...(guarded ? [`bearer_token_env_var = "${VARIABLE}"`] : [])].join('\n')],
    ['Gemini CLI', 'Into ~/.gemini/settings.json:', servers({ httpUrl: url, ...headers('$' + VARIABLE) })],
  ];
  return el('div', { class: 'clients' },
    el('p', {}, 'The address of this server: ', el('code', {}, url), ' ', copyButton(() => url)),
    guarded && el('p', { class: 'hint' }, `The server asks for a token. Keep it in the variable ${VARIABLE}, or where the client wants it.`),
    ways.map(([client, where, text]) => el('section', { class: 'card', 'aria-label': client },
      el('div', { class: 'row spread' }, el('h3', {}, client), copyButton(() => text, 'Copy')),
      el('p', { class: 'hint' }, where), block(text, `Configuration for ${client}`))));
}

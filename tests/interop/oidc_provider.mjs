// SPDX-License-Identifier: MIT
// npm's `oidc-provider` as an authorization server: clients register, tokens are for a resource, refresh tokens rotate.
//
// node oidc_provider.mjs FOLDER PORT; FOLDER has node_modules.  It says "ready" when it listens.
// POST /test/forget/AccessToken ends all tokens of that kind, as an operator would in the database.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const kept = new Map();

class Adapter {
  constructor(kind) {
    this.kind = kind;
  }
  async upsert(id, payload) {
    kept.set(`${this.kind}/${id}`, payload);
  }
  async find(id) {
    return kept.get(`${this.kind}/${id}`);
  }
  async findByUid(uid) {
    return [...kept.entries()].find(([key, value]) => key.startsWith(`${this.kind}/`) && value.uid === uid)?.[1];
  }
  async consume(id) {
    kept.get(`${this.kind}/${id}`).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    kept.delete(`${this.kind}/${id}`);
  }
  async revokeByGrantId(grant) {
    for (const [key, value] of kept) if (value.grantId === grant) kept.delete(key);
  }
}

const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  adapter: Adapter,
  clients: [
    // The MCP server, which asks whether a token holds.
    {
      client_id: "mcp-server",
      client_secret: "mcp-server-secret",
      redirect_uris: [],
      grant_types: [],
      response_types: [],
    },
  ],
  cookies: { keys: ["a key of this test"] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com` }) }),
  claims: { openid: ["sub"], email: ["email"] },
  scopes: ["openid", "offline_access", "email"],
  conformIdTokenClaims: false,
  rotateRefreshToken: true,
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  ttl: { AccessToken: 3600, AuthorizationCode: 60, Grant: 3600, IdToken: 3600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  features: {
    registration: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "files:read files:write",
        audience: resource,
        accessTokenFormat: "opaque",
      }),
    },
  },
});
provider.on("server_error", (_, error) => console.error(error));

const answer = provider.callback();
createServer((request, response) => {
  const [, kind] = request.url.match(/^\/test\/forget\/([A-Za-z]+)$/) ?? [];
  if (kind === undefined) return answer(request, response);
  for (const key of kept.keys()) if (key.startsWith(`${kind}/`)) kept.delete(key);
  response.end();
}).listen(Number(port), "127.0.0.1", () => console.log("ready"));

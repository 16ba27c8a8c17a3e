// SPDX-License-Identifier: MIT
// npm @modelcontextprotocol/server without sessions: `node ts_modern_only.mjs PORT`.  What is of an older revision is
// refused with the versions that are spoken.

import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';

function newServer() {
    const server = new McpServer({ name: 'modern only', version: '1' });
    server.registerTool('add', { inputSchema: z.object({ a: z.number(), b: z.number() }) }, async ({ a, b }) => ({
        content: [{ type: 'text', text: String(a + b) }]
    }));
    return server;
}

const handler = createMcpHandler(newServer, { legacy: 'reject' });
createServer(toNodeHandler(handler)).listen(Number(process.argv[2]), '127.0.0.1');

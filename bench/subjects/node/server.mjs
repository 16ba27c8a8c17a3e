// SPDX-License-Identifier: MIT
// npm @modelcontextprotocol/server: `node server.mjs PORT`.
//
// Its own entry point, createMcpHandler, on node:http: every request has a server object of its own, whichever the era.

import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';

const [port, ...words] = process.argv.slice(2);
const text = value => ({ content: [{ type: 'text', text: value }] });
const numbers = z.object({ a: z.number().int(), b: z.number().int() });
const count = z.object({ n: z.number().int() });
const words_ = z.object({ text: z.string() });
const time = z.object({ seconds: z.number() });

function newServer() {
    const server = new McpServer({ name: 'subject', version: '1' });
    const add = async ({ a, b }) => text(String(a + b));
    server.registerTool('add', { description: 'Add two numbers.', inputSchema: numbers }, add);
    server.registerTool('ticks', { description: 'Report progress n times.', inputSchema: count }, async ({ n }, ctx) => {
        const progressToken = ctx.mcpReq._meta?.progressToken;
        for (let i = 1; i <= n; i++) {
            await ctx.mcpReq.notify({
                method: 'notifications/progress',
                params: { progressToken, progress: i, total: n }
            });
        }
        return text('done');
    });
    server.registerTool('echo', { description: 'Say it again.', inputSchema: words_ }, async args => text(args.text));
    server.registerTool('sleep', { description: 'Wait.', inputSchema: time }, async ({ seconds }) => {
        await new Promise(resolve => setTimeout(resolve, seconds * 1000));
        return text('slept');
    });
    // For the list alone: here they are registered again for each request.
    if (words.includes('tools')) {
        for (let i = 0; i < 96; i++) {
            server.registerTool(`extra_${i}`, { description: 'Another tool.', inputSchema: numbers }, add);
        }
    }
    return server;
}

createServer(toNodeHandler(createMcpHandler(newServer))).listen(Number(port), '127.0.0.1', 1024);

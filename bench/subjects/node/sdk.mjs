// SPDX-License-Identifier: MIT
// npm @modelcontextprotocol/sdk: `node sdk.mjs PORT [json]`.
//
// As its examples do it, one McpServer and one transport for each session, but on node:http alone: a web framework is
// not what is measured.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { z } from 'zod';

const [port, ...words] = process.argv.slice(2);
const text = value => ({ content: [{ type: 'text', text: value }] });

function newServer() {
    const server = new McpServer({ name: 'subject', version: '1' });
    const numbers = { a: z.number().int(), b: z.number().int() };
    const add = async ({ a, b }) => text(String(a + b));
    server.registerTool('add', { description: 'Add two numbers.', inputSchema: numbers }, add);
    server.registerTool(
        'ticks',
        { description: 'Report progress n times.', inputSchema: { n: z.number().int() } },
        async ({ n }, extra) => {
            const progressToken = extra._meta?.progressToken;
            for (let i = 1; i <= n; i++) {
                await extra.sendNotification({
                    method: 'notifications/progress',
                    params: { progressToken, progress: i, total: n }
                });
            }
            return text('done');
        }
    );
    server.registerTool('echo', { description: 'Say it again.', inputSchema: { text: z.string() } }, async args =>
        text(args.text)
    );
    server.registerTool(
        'sleep',
        { description: 'Wait.', inputSchema: { seconds: z.number() } },
        async ({ seconds }) => {
            await new Promise(resolve => setTimeout(resolve, seconds * 1000));
            return text('slept');
        }
    );
    // For the list alone: registering a hundred tools is a large part of opening a session here.
    if (words.includes('tools')) {
        for (let i = 0; i < 96; i++) {
            server.registerTool(`extra_${i}`, { description: 'Another tool.', inputSchema: numbers }, add);
        }
    }
    return server;
}

const sessions = new Map();

async function handle(req, res) {
    const id = req.headers['mcp-session-id'];
    let transport = id === undefined ? undefined : sessions.get(id);
    if (transport === undefined && id !== undefined) {
        res.writeHead(404).end();
        return;
    }
    if (transport === undefined) {
        transport = new StreamableHTTPServerTransport({
            sessionIdGenerator: () => randomUUID(),
            enableJsonResponse: words.includes('json'),
            onsessioninitialized: sessionId => sessions.set(sessionId, transport)
        });
        transport.onclose = () => sessions.delete(transport.sessionId);
        await newServer().connect(transport);
    }
    await transport.handleRequest(req, res);
}

createServer((req, res) => {
    handle(req, res).catch(error => {
        console.error(error);
        res.writeHead(500).end();
    });
}).listen(Number(port), '127.0.0.1', 1024);

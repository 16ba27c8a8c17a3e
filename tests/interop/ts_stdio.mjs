// SPDX-License-Identifier: MIT
// npm's two server packages on pipes: `node ts_stdio.mjs 1` is @modelcontextprotocol/sdk, `2` @modelcontextprotocol/server.
//
// The tools are those of bench/subjects/node, with the same order and words, and a tool that asks.  Packages are looked
// for from where this script lies.

import { z } from 'zod';

const two = process.argv[2] === '2';
const load = path => import(`@modelcontextprotocol/${path}`);
const { McpServer, ResourceTemplate, ...rest } = await load(two ? 'server' : 'sdk/server/mcp.js');
const text = value => ({ content: [{ type: 'text', text: value }] });
// The older package takes the properties, the newer one the schema.
const shape = properties => (two ? z.object(properties) : properties);
const who = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };

function newServer() {
    const server = new McpServer({ name: 'subject', version: '1' }, { capabilities: { logging: {} } });
    const tool = (name, properties, run) => server.registerTool(name, { inputSchema: shape(properties) }, run);
    tool('add', { a: z.number().int(), b: z.number().int() }, async ({ a, b }) => text(String(a + b)));
    tool('ticks', { n: z.number().int() }, async ({ n }, context) => {
        const request = two ? context.mcpReq : context;
        for (let progress = 1; progress <= n; progress++) {
            const params = { progressToken: request._meta?.progressToken, progress, total: n };
            const notification = { method: 'notifications/progress', params };
            await (two ? request.notify(notification) : context.sendNotification(notification));
        }
        return text('done');
    });
    tool('echo', { text: z.string() }, async arguments_ => text(arguments_.text));
    tool('sleep', { seconds: z.number() }, async ({ seconds }) => {
        // Nobody waits for this at the end: then the process is to end with its input.
        await new Promise(resolve => setTimeout(resolve, seconds * 1000).unref());
        return text('slept');
    });
    tool('ask', {}, async (_, context) => {
        if (!two) {
            const { action, content } = await server.server.elicitInput({ message: 'Who?', requestedSchema: who });
            return text(`${action} ${content.name}`);
        }
        const answer = rest.acceptedContent(context.mcpReq.inputResponses, 'who');
        if (answer !== undefined) return text(`accept ${answer.name}`);
        const question = rest.inputRequired.elicit({ message: 'Who?', requestedSchema: who });
        return rest.inputRequired({ inputRequests: { who: question } });
    });
    tool('long', { size: z.number().int() }, async ({ size }) => text('x'.repeat(size)));
    const template = new ResourceTemplate('note://{name}', { list: undefined });
    server.registerResource('note', template, {}, async (uri, { name }) => ({
        contents: [{ uri: uri.href, text: `note ${name}` }]
    }));
    server.registerPrompt('review', { argsSchema: shape({ code: z.string() }) }, ({ code }) => ({
        messages: [{ role: 'user', content: { type: 'text', text: `review ${code}` } }]
    }));
    return server;
}

if (two) {
    const { serveStdio } = await load('server/stdio');
    serveStdio(newServer);
} else {
    const { StdioServerTransport } = await load('sdk/server/stdio.js');
    await newServer().connect(new StdioServerTransport());
}

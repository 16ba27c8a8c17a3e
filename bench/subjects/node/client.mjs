// SPDX-License-Identifier: MIT
// The client of the official TypeScript SDK: `client.mjs REVISION URL` or `client.mjs REVISION COMMAND ...`.
//
// Orders and answers are those of ../calling.py, line by line on stdin and stdout.

import { createInterface } from 'node:readline';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [revision, ...target] = process.argv.slice(2);
const say = members => process.stdout.write(JSON.stringify(members) + '\n');
const wait = seconds => new Promise(resolve => setTimeout(resolve, seconds * 1000));

const client = new Client({ name: 'bench', version: '1' });
const transport =
    target.length > 1
        ? new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env })
        : new StreamableHTTPClientTransport(new URL(target[0]));
await client.connect(transport);
if (transport.protocolVersion && transport.protocolVersion !== revision) {
    throw new Error(`the revision is ${transport.protocolVersion}`);
}

async function add(a, b) {
    const result = await client.callTool({ name: 'add', arguments: { a, b } });
    if (result.content[0].text !== String(a + b)) {
        throw new Error(`not the answer to the question: ${JSON.stringify(result)} for ${a} + ${b}`);
    }
}

async function obey({ concurrency, warmup, seconds }) {
    let latencies = [];
    let going = true;
    async function caller(number) {
        for (let turn = 1; going; turn++) {
            const began = performance.now();
            await add(100 + ((number * 7 + turn) % 400), 100 + ((number * 3 + turn * 11) % 400));
            latencies.push((performance.now() - began) / 1000);
        }
    }
    const callers = Promise.all(Array.from({ length: concurrency }, (_, number) => caller(number)));
    await Promise.race([wait(warmup), callers]);
    say({ begin: true });
    latencies = [];
    const began = performance.now();
    const before = process.cpuUsage();
    await Promise.race([wait(seconds), callers]);
    const used = process.cpuUsage(before);
    const taken = (performance.now() - began) / 1000;
    const kept = latencies;
    latencies = [];
    going = false;
    await callers;
    say({ seconds: taken, cpu: (used.user + used.system) / 1e6, latencies: kept });
}

await add(1, 2);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
    await obey(JSON.parse(line));
}
await client.close();

// SPDX-License-Identifier: MIT
// Drives a server with the official TypeScript SDK 1.x:
//   node ts_sdk.mjs http URL
//   node ts_sdk.mjs sse URL
//   node ts_sdk.mjs stdio COMMAND...

import { Signal, Watch, afterDelete, answers, battery, emit, finish, load } from "./steps.mjs";

const { Client } = await load("sdk/dist/esm/client/index.js");
const { StreamableHTTPClientTransport } = await load("sdk/dist/esm/client/streamableHttp.js");
const { SSEClientTransport } = await load("sdk/dist/esm/client/sse.js");
const { StdioClientTransport } = await load("sdk/dist/esm/client/stdio.js");
const t = await load("sdk/dist/esm/types.js");

function connectTo(kind, args, watch) {
    if (kind === "http") return new StreamableHTTPClientTransport(new URL(args[0]), { fetch: watch.fetch });
    if (kind === "sse") return new SSEClientTransport(new URL(args[0]));
    return new StdioClientTransport({ command: args[0], args: args.slice(1), env: process.env });
}

await finish(async ([kind, ...args]) => {
    const watch = new Watch();
    const heard = { logs: [], updated: [], resourceUpdated: new Signal(), toolsChanged: new Signal() };
    const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
    const client = new Client({ name: "interop", version: "1" }, { capabilities });
    client.setRequestHandler(t.CreateMessageRequestSchema, ({ params }) => answers.sampling(params));
    client.setRequestHandler(t.ElicitRequestSchema, ({ params }) => answers.elicitation(params));
    client.setRequestHandler(t.ListRootsRequestSchema, () => answers.roots());
    client.setNotificationHandler(t.LoggingMessageNotificationSchema, ({ params }) => {
        heard.logs.push(params.data);
    });
    client.setNotificationHandler(t.ResourceUpdatedNotificationSchema, ({ params }) => {
        heard.updated.push(params.uri);
        heard.resourceUpdated.set();
    });
    client.setNotificationHandler(t.ToolListChangedNotificationSchema, () => heard.toolsChanged.set());

    const transport = connectTo(kind, args, watch);
    let protocol;
    transport.setProtocolVersion = new Proxy(transport.setProtocolVersion ?? (() => {}), {
        apply(target, self, [version]) {
            protocol = version;
            return Reflect.apply(target, self, [version]);
        },
    });
    await client.connect(transport);
    await battery({
        client,
        modern: false,
        protocol: protocol ?? "unknown",
        heard,
        watch,
        call: (params, options) => client.callTool(params, t.CallToolResultSchema, options),
        subscribe: async (uri) => {
            await client.subscribeResource({ uri });
            return () => client.unsubscribeResource({ uri });
        },
    });
    if (kind === "http") await afterDelete(args[0], transport, watch, protocol);
    else emit("after_delete", { value: "no session" });
    await client.close();
});

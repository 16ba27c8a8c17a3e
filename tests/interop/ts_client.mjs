// SPDX-License-Identifier: MIT
// Drives a server with the official TypeScript client 2.x:
//   node ts_client.mjs http URL auto|legacy|2026-07-28
//   node ts_client.mjs stdio auto|legacy|2026-07-28 COMMAND...

import { Signal, Watch, afterDelete, answers, battery, emit, finish, load } from "./steps.mjs";

const { Client, StreamableHTTPClientTransport } = await load("client/dist/index.mjs");
const { StdioClientTransport } = await load("client/dist/stdio.mjs");

await finish(async ([kind, ...args]) => {
    const watch = new Watch();
    const heard = { logs: [], updated: [], resourceUpdated: new Signal(), toolsChanged: new Signal() };
    const mode = kind === "http" ? args[1] : args[0];
    const client = new Client(
        { name: "interop", version: "1" },
        {
            capabilities: { sampling: {}, elicitation: {}, roots: { listChanged: true } },
            versionNegotiation: { mode: mode.startsWith("20") ? { pin: mode } : mode },
        },
    );
    client.setRequestHandler("sampling/createMessage", ({ params }) => answers.sampling(params));
    client.setRequestHandler("elicitation/create", ({ params }) => answers.elicitation(params));
    client.setRequestHandler("roots/list", () => answers.roots());
    client.setNotificationHandler("notifications/message", ({ params }) => {
        heard.logs.push(params.data);
    });
    client.setNotificationHandler("notifications/resources/updated", ({ params }) => {
        heard.updated.push(params.uri);
        heard.resourceUpdated.set();
    });
    client.setNotificationHandler("notifications/tools/list_changed", () => heard.toolsChanged.set());

    const transport =
        kind === "http"
            ? new StreamableHTTPClientTransport(new URL(args[0]), { fetch: watch.fetch })
            : new StdioClientTransport({ command: args[1], args: args.slice(2), env: process.env });
    await client.connect(transport);
    const modern = client.getProtocolEra() === "modern";
    const protocol = client.getNegotiatedProtocolVersion();
    await battery({
        client,
        modern,
        protocol,
        heard,
        watch,
        call: (params, options) => client.callTool(params, options),
        subscribe: async (uri) => {
            if (!modern) {
                await client.subscribeResource({ uri });
                return () => client.unsubscribeResource({ uri });
            }
            const subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
            return () => subscription.close();
        },
    });
    if (kind === "http") await afterDelete(args[0], transport, watch, protocol);
    else emit("after_delete", { value: "no session" });
    await client.close();
});

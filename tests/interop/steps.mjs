// SPDX-License-Identifier: MIT
// The battery that both TypeScript drivers run: one JSON line a step, a time limit each, the same names and
// values as steps.py.  A step that throws is a line with `error`, and the next step runs all the same.

import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const STEP_LIMIT = 20_000; // ms; a resumed call waits for the server's retry hint, all else is immediate
const BIG = 3_000_000;
const WATCHED = "test://watched-resource";
const UNWATCHED = "test://static-text";
const ACCEPT = "accept, please";
const PERSON = { username: "alice", email: "alice@example.com" };
const ECHO = 'h\u00e9llo \u2028 \u{1f600} \\u0000 "quoted"';
const MISSING = "missing-by-design";

// The SDKs live in a cache folder that is no ancestor of this file: they are imported by path.
const root = pathToFileURL(`${process.env.MCP_H11_NPM ?? "."}/`);
export const load = (path) => import(new URL(`node_modules/@modelcontextprotocol/${path}`, root));

export const emit = (step, fields) => console.log(JSON.stringify({ step, ...fields }));

async function step(name, run) {
    const started = performance.now();
    const seconds = () => Math.round(performance.now() - started) / 1000;
    const abort = new AbortController();
    const late = sleep(STEP_LIMIT, undefined, { signal: abort.signal }).then(() => {
        throw new Error(`no answer within ${STEP_LIMIT} ms`);
    });
    try {
        const value = await Promise.race([run(), late]);
        emit(name, { value: value ?? null, seconds: seconds() });
    } catch (error) {
        emit(name, { error: `${error?.name}: ${error?.message ?? error}`.slice(0, 2000), seconds: seconds() });
    } finally {
        abort.abort();
        late.catch(() => {});
    }
}

// A fetch that remembers the session and counts resumptions.
export class Watch {
    session = null;
    resumed = 0;

    fetch = async (url, init) => {
        if (new Headers(init?.headers).has("last-event-id")) this.resumed += 1;
        const response = await fetch(url, init);
        this.session ??= response.headers.get("mcp-session-id");
        return response;
    };
}

export class Signal {
    constructor() {
        this.wait = new Promise((resolve) => (this.set = resolve));
    }
}

// What the pretended user, model and host answer.
export const answers = {
    sampling: (params) => ({
        role: "assistant",
        content: { type: "text", text: `the answer to ${[params.messages[0].content].flat()[0].text}` },
        model: "pretended",
        stopReason: "endTurn",
    }),
    elicitation: (params) => (params.message === ACCEPT ? { action: "accept", content: PERSON } : { action: "decline" }),
    roots: () => ({ roots: [{ uri: "file:///interop/root", name: "interop" }] }),
};

async function codeOf(run) {
    let answer;
    try {
        answer = await run();
    } catch (error) {
        return error.code ?? `${error}`;
    }
    return { answered: JSON.stringify(answer).slice(0, 200) };
}

/**
 * Run every step.
 *
 * `peer` hides where the two SDKs differ: `client`, `modern`, `protocol`, `call(params, options)`,
 * `changes(battery)`, `watch`, and `heard`: {logs, updated, resourceUpdated, toolsChanged}.
 */
export async function battery(peer) {
    const { client, call, heard, watch, modern } = peer;
    const text = async (name, args = {}) => {
        const result = await call({ name, arguments: args });
        if (result.isError) throw new Error(JSON.stringify(result));
        return result.content[0].text;
    };
    const count = async () => Number(await text("battery_cancel_count"));
    const logging = { name: "test_tool_with_logging", arguments: {} };
    const level = (value) => ({ _meta: { "io.modelcontextprotocol/logLevel": value } });
    const logged = async (value) => {
        if (!modern) await client.setLoggingLevel(value);
        heard.logs.length = 0;
        await call(modern ? { ...logging, ...level(value) } : logging);
        return heard.logs;
    };

    await step("connect", async () => ({
        protocol: peer.protocol,
        server: client.getServerVersion()?.name ?? null,
        capabilities: Object.keys(client.getServerCapabilities())
            .filter((name) => !["experimental", "extensions"].includes(name))
            .sort(),
    }));
    await step("tools", async () => (await client.listTools()).tools.map((tool) => tool.name));
    await step("resources", async () => (await client.listResources()).resources.map((r) => r.uri));
    await step("templates", async () =>
        (await client.listResourceTemplates()).resourceTemplates.map((r) => r.uriTemplate),
    );
    await step("prompts", async () => (await client.listPrompts()).prompts.map((p) => p.name));

    await step("call_text", () => text("test_simple_text"));
    await step("call_echo", async () => (await text("battery_echo", { text: ECHO })) === ECHO);
    await step("call_image", async () => {
        const [content] = (await call({ name: "test_image_content" })).content;
        return [content.type, content.mimeType];
    });
    await step("call_structured", async () => {
        return (await call({ name: "battery_weather", arguments: { city: "Paris" } })).structuredContent;
    });
    await step("call_big", async () => (await text("battery_big", { size: BIG })).length);
    await step("call_failing", async () => {
        const result = await call({ name: "test_error_handling" });
        return [result.isError, result.content[0].text.includes("intentionally returns an error")];
    });
    await step("call_parallel", async () => {
        const texts = Array.from({ length: 10 }, (_, n) => `call ${n}`);
        const echoes = await Promise.all(texts.map((value) => text("battery_echo", { text: value })));
        return echoes.filter((echo, n) => echo === texts[n]).length;
    });

    await step("progress", async () => {
        // The SDK hears of progress a moment after it has read it, and no more once it has read the answer: where a busy
        // machine gives it both in one read, it passes over the last step.  Then it is asked again.
        let seen = [];
        for (let tries = 0; tries < 5 && (tries === 0 || seen.length === 2); tries++) {
            seen = [];
            const onprogress = (p) => seen.push([p.progress, p.total, p.message]);
            await call({ name: "test_tool_with_progress" }, { onprogress });
        }
        return seen;
    });
    await step("logs_all", () => logged("debug"));
    await step("logs_filtered", () => logged("error"));
    await step("sampling", () => text("test_sampling", { prompt: "hello" }));
    await step("elicit_accept", () => text("test_elicitation", { message: ACCEPT }));
    await step("elicit_decline", () => text("test_elicitation", { message: "no, thanks" }));
    await step("roots", () => text("battery_roots"));

    // Subscribe to one resource, touch another and then that one: the first news is of the right one.
    await step("changes", async () => {
        const listening = await peer.subscribe(WATCHED);
        await text("battery_touch", { uri: UNWATCHED });
        await text("battery_touch", { uri: WATCHED });
        await heard.resourceUpdated.wait;
        await text("test_trigger_tool_change");
        await heard.toolsChanged.wait;
        await listening();
        return [...heard.updated, "ToolsListChanged"];
    });

    const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
    const argument = { name: "arg1", value: "test" };
    await step("complete", async () => (await client.complete({ ref, argument })).completion.values);
    await step("prompt", async () => {
        const got = await client.getPrompt({ name: ref.name, arguments: { arg1: "one", arg2: "two" } });
        return got.messages[0].content.text;
    });
    const read = async (uri) => (await client.readResource({ uri })).contents[0];
    await step("read_text", async () => (await read("test://static-text")).text);
    await step("read_blob", async () => {
        const contents = await read("test://static-binary");
        return [contents.mimeType, contents.blob.length];
    });
    await step("read_template", async () => (await read("test://template/42/data")).text.includes("Data for ID: 42"));

    await step("cancel", async () => {
        const before = await count();
        const running = new Signal();
        const abort = new AbortController();
        const slow = call(
            { name: "battery_slow", arguments: { seconds: 60 } },
            { onprogress: () => running.set(), signal: abort.signal },
        ).catch((error) => error);
        await running.wait;
        abort.abort("no longer needed");
        await slow;
        while ((await count()) === before) await sleep(20);
        return (await count()) - before;
    });
    // The answer to a call whose stream the server cut, and whether it took a resumption to get it.
    await step("resume", async () => {
        const before = watch.resumed;
        return [await text("test_reconnection"), watch.resumed > before];
    });

    await step("unknown_tool", () => codeOf(() => call({ name: MISSING })));
    await step("unknown_prompt", () => codeOf(() => client.getPrompt({ name: MISSING })));
    await step("unknown_resource", () => codeOf(() => client.readResource({ uri: `test://${MISSING}` })));
    await step("bad_cursor", () => codeOf(() => client.listTools({ cursor: MISSING })));
    await step("ping", async () => {
        if (modern) return "not in this revision";
        await client.ping();
        return "pong";
    });
}

/** End the session as the SDK does, then look whether a bare POST still finds it. */
export async function afterDelete(url, transport, { session }, protocol) {
    if (!session) return emit("after_delete", { value: "no session" });
    await transport.terminateSession();
    const response = await fetch(url, {
        method: "POST",
        headers: {
            "Content-Type": "application/json",
            Accept: "application/json, text/event-stream",
            "Mcp-Session-Id": session,
            "Mcp-Protocol-Version": protocol,
        },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" }),
    });
    emit("after_delete", { value: response.status });
}

/** Run a driver; whatever stopped it halfway is its last line. */
export async function finish(main) {
    try {
        await main(process.argv.slice(2));
    } catch (error) {
        emit("end", { error: `${error?.stack ?? error}`.slice(0, 2000) });
        process.exit(1);
    }
    emit("end", { value: "done" });
    process.exit(0); // event sources and keep-alive sockets would hold the process
}

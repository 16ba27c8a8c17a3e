# SPDX-License-Identifier: MIT
"""Official clients through the bridge: onto our fixture on pipes, with the battery that they run without a bridge, and
onto npm's `server-everything`, which is nobody's of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from provision import (
    Running,
    Unavailable,
    everything_bridge,
    everything_required,
    npm_folder,
    process_on_a_port,
    server_environment,
)
from test_interop import CASES, NO_SESSION, Case, drive, npm_packages

from mcp_h11 import Client, InternalError

pytestmark = pytest.mark.interop

# A backend on pipes has no stream that it could close for a client to come back to.
UNCUT = {"resume": NO_SESSION["resume"]}
BRIDGED = [replace(case, different={**case.different, **UNCUT}) for case in CASES if case.transport in ("http", "sse")]
EVERYTHING = "@modelcontextprotocol/server-everything"
VERSION = "2026.8.31"
LIMIT = 60.0


@pytest.fixture(scope="module")
def bridge_for() -> Iterator[Callable[[str], Running]]:
    """One bridge for each way of answering."""
    started: dict[str, Running] = {}
    with ExitStack() as stack:

        def get(response: str) -> Running:
            if response not in started:
                # A shared backend on pipes asks no client.  Clients of 2026-07-28 have no sessions: they share one, and
                # its log messages.
                options = ("--response", response, "--per-session", "--share-logs")
                started[response] = stack.enter_context(everything_bridge(*options))
            return started[response]

        yield get


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in BRIDGED])
def test_an_official_client_sees_every_feature_through_the_bridge(
    bridge_for: Callable[[str], Running], case: Case
) -> None:
    try:
        seen = drive(case, bridge_for(case.response))
    except Unavailable as reason:
        if everything_required():
            raise
        pytest.skip(str(reason))
    expected = case.expected()
    wrong = {step: (seen.get(step), expected[step]) for step in expected if seen.get(step) != expected[step]}
    assert not wrong, "\n".join(f"{step}: saw {saw}, expected {wanted}" for step, (saw, wanted) in wrong.items())


# --- npm's own --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def npm_bridge() -> Iterator[Running]:
    try:
        folder = npm_folder("npm-everything", f"{EVERYTHING}@{VERSION}")
    except Unavailable as reason:
        if everything_required():
            raise
        pytest.skip(str(reason))
    script = folder / "node_modules" / EVERYTHING / "dist" / "index.js"
    node = shutil.which("node") or "node"
    options = ("--port", "{port}", "--per-session")
    with process_on_a_port("-m", "mcp_h11", "proxy", *options, "--", node, str(script), "stdio") as running:
        yield running


async def sampled(params: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": {"type": "text", "text": "sampled"}, "model": "m"}


async def patiently(work: Callable[[], Awaitable[Any]]) -> Any:
    """What it gives once the backend has begun: a call waits ten seconds for it, and a busy machine takes longer."""
    while True:
        try:
            return await work()
        except InternalError as error:  # noqa: PERF203
            if "was not started yet" not in str(error):
                raise


@pytest.mark.anyio
@pytest.mark.parametrize("revision", [None, "2025-11-25"])
async def test_our_client_uses_it(npm_bridge: Running, revision: str | None) -> None:
    with anyio.fail_after(LIMIT):
        async with Client(npm_bridge.url, revision=revision, on_sampling=sampled, on_roots=[]) as client:
            assert "everything" in client.server_info["name"]
            names = [tool["name"] for tool in await patiently(client.list_tools)]
            assert {"echo", "get-sum"} <= set(names)
            echoed = await client.call_tool("echo", {"message": "hello"})
            assert echoed["content"][0]["text"] == "Echo: hello"
            steps: list[float] = []
            slow = {"duration": 1, "steps": 4}
            await client.call_tool("trigger-long-running-operation", slow, progress=lambda done, *_: steps.append(done))
            assert steps == [1, 2, 3, 4]
            asked = await client.call_tool("trigger-sampling-request", {"prompt": "x", "maxTokens": 5})
            # Without a session and a principal it is not known which client is to be asked.
            assert ("sampled" if revision else "told apart by their principals") in json.dumps(asked)
            resources = await client.list_resources()
            assert (await client.read_resource(resources[0]["uri"]))["contents"]
            assert await client.list_prompts()


PYTHON = """
import asyncio, json, sys
from mcp import Client
async def main():
    async with Client(sys.argv[1], mode=sys.argv[2]) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("echo", {"message": "hello"})
        total = await client.call_tool("get-sum", {"a": 2, "b": 3})
        print(json.dumps([client.protocol_version, "echo" in tools, result.content[0].text, total.content[0].text]))
asyncio.run(main())
"""
TYPESCRIPT = """
const [folder, url] = process.argv.slice(2);
const load = (path) => import(`${folder}/node_modules/@modelcontextprotocol/${path}`);
const { Client } = await load("sdk/dist/esm/client/index.js");
const { StreamableHTTPClientTransport } = await load("sdk/dist/esm/client/streamableHttp.js");
const client = new Client({ name: "interop", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = await client.listTools();
const result = await client.callTool({ name: "echo", arguments: { message: "hello" } });
const total = await client.callTool({ name: "get-sum", arguments: { a: 2, b: 3 } });
const seen = [tools.some(({ name }) => name === "echo"), result.content[0].text, total.content[0].text];
console.log(JSON.stringify(seen));
await client.close();
"""


def ran(*command: str) -> Any:
    done = subprocess.run(command, env=server_environment(), timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_the_official_python_client_uses_it(npm_bridge: Running, mode: str, version: str) -> None:
    seen = ran(sys.executable, "-c", PYTHON, npm_bridge.url, mode)
    assert seen[:3] == [version, True, "Echo: hello"] and "5" in seen[3]


def test_the_official_typescript_client_uses_it(npm_bridge: Running, tmp_path: Path) -> None:
    script = tmp_path / "client.mjs"
    script.write_text(TYPESCRIPT)
    seen = ran(shutil.which("node") or "node", str(script), npm_packages(), npm_bridge.url)
    assert seen[:2] == [True, "Echo: hello"] and "5" in seen[2]

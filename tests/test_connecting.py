# SPDX-License-Identifier: MIT
"""What a target means: a handler in this process, a command, an address; and old servers that are odd on pipes."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import anyio
import pytest
from provision import EVERYTHING

from mcp_h11 import Client, ConnectionLost, Context, MCPServer
from mcp_h11.client_memory import MemoryTransport
from mcp_h11.client_stdio import StdioTransport

pytestmark = pytest.mark.anyio

LIMIT = 20.0
REVISIONS = [None, "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]

# A server of sessions on pipes; what it does before `initialize` is said by its argument.
OLD = """
import json, sys
no = {"code": -32600, "message": "no"}
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        said = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
    elif message["method"] == "ping":
        said = {}
    elif "id" not in message:
        continue
    elif sys.argv[1] == "ends":
        sys.exit(1)
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": no}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": said}), flush=True)
"""


async def accept(params: dict[str, Any]) -> dict[str, Any]:
    return {"action": "accept", "content": {"it": "me"}}


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_handler_in_this_process(revision: str | None) -> None:
    server = MCPServer("near", version="1")

    @server.tool
    async def ask(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return str(answer.data)

    told: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with Client(server, revision=revision, on_elicitation=accept) as client:
            assert isinstance(client.transport, MemoryTransport) and client.server_info["name"] == "near"
            assert client.revision.name == (revision or "2026-07-28")
            result = await client.call_tool("ask", progress=lambda *step: told.append(step[0]))
    if client.revision.elicitation:
        assert result["content"][0]["text"] == "{'it': 'me'}"
    assert told[0] == 1


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("as_text", [False, True])
async def test_a_command(revision: str | None, as_text: bool) -> None:
    command = [sys.executable, str(EVERYTHING), "--stdio"]
    target: Any = shlex.join(command) if as_text else command
    with anyio.fail_after(LIMIT):
        async with Client(target, revision=revision, env="inherit") as client:
            assert isinstance(client.transport, StdioTransport) and client.server_info["name"] == "everything"
            assert client.revision.name == (revision or "2026-07-28")
            await client.call_tool("test_simple_text")
            await client.ping()
        assert await client.wait_closed() is None


@pytest.mark.parametrize("what", ["ends", "refuses"])
async def test_an_old_server_that_knows_nothing_but_initialize(what: str) -> None:
    with anyio.fail_after(LIMIT):
        async with Client([sys.executable, "-c", OLD, what]) as client:
            assert client.revision.name == "2025-06-18"
            await client.ping()
            with anyio.move_on_after(0.05) as waited:
                await client.wait_closed()
            assert waited.cancelled_caught


async def test_a_command_that_is_none_is_a_lost_connection() -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(ConnectionLost):
            async with Client(["no-such-program-of-that-name"]):
                raise AssertionError
        with pytest.raises(ConnectionLost):
            async with Client([sys.executable, "-c", "pass"]):
                raise AssertionError

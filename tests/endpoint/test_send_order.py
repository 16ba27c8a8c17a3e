# SPDX-License-Identifier: MIT
"""Notifications of one call keep their order, also where a reader was slow and is quick again."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from rawclient import LIMIT
from serving import ASYNCIO, request, served, turns

from mcp_h11 import Context, MCPServer
from mcp_h11.server.connection import Connection

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}'
)
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"race","_meta":{"progressToken":"t"}}}'
MANY = 30  # more than the turns from the end of the slowness to the last writer that waited for it


def racing(slow: list[Any]) -> MCPServer:
    made = MCPServer("race")

    @made.tool(structured_output=False)
    async def race(ctx: Context) -> str:
        await ctx.report_progress(0)
        slow[0].pause_writing()
        told = []
        for step in range(1, MANY):
            if step == 4:  # the first one waits for the reader by now, and two wait for the first one
                slow[0].resume_writing()
            told.append(asyncio.create_task(ctx.report_progress(step)))
            await asyncio.sleep(0)
            if step == 1:
                await turns(2)
                assert not told[0].done(), "it waits for its reader"
        await asyncio.gather(*told)
        return "done"

    return made


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])
async def test_no_notification_passes_one_that_waits_for_the_reader(anyio_backend: Any) -> None:
    slow: list[Any] = []
    async with served(racing(slow)) as server:
        connection = Connection(server)
        slow.append(connection)
        wire = FakeTransport(connection)
        connection.connection_made(wire)
        connection.data_received(request(INITIALIZE))
        await turns(2)
        found = re.search(rb"mcp-session-id: (\S+)", bytes(wire.written), re.IGNORECASE)
        assert found is not None
        fields = {"Mcp_Session_Id": found[1].decode(), "MCP_Protocol_Version": "2025-11-25"}
        connection.data_received(request(CALL, **fields))
        with anyio.fail_after(LIMIT):
            while b"done" not in wire.written:
                await turns(1)
        steps = [int(step) for step in re.findall(rb'"progress":(\d+)}', bytes(wire.written))]
        assert steps == list(range(MANY))
        connection.close()
        await turns()

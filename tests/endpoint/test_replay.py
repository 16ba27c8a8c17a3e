# SPDX-License-Identifier: MIT
"""A replay leaves in as few writes as the reader's room allows."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest
from fuzzing import FakeTransport
from rawclient import LIMIT
from serving import ASYNCIO, head, request, served, turns

from mcp_h11 import Context, MCPServer
from mcp_h11.endpoint.streams import REPLAYED_BYTES
from mcp_h11.server.connection import Connection

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"t","version":"1"}}}'
)
EVENTS = 40
OVERHEAD = 200  # bytes of an event beside its message, at the most


class Wire(FakeTransport):
    """Keeps each write by itself; `slow`: takes one write and no more."""

    def __init__(self, connection: Connection, slow: bool = False) -> None:
        super().__init__(connection)
        self.pieces: list[bytes] = []
        self.slow = slow

    def write(self, data: bytes) -> None:
        super().write(data)
        self.pieces.append(data)
        if self.slow:
            self.connection.pause_writing()


def telling() -> MCPServer:
    made = MCPServer("replay")

    @made.tool(structured_output=False)
    async def tell(n: int, size: int, ctx: Context) -> str:
        for step in range(1, n + 1):
            await ctx.report_progress(step, n, "x" * size)
        return "done"

    return made


def joined(server: Any, slow: bool = False) -> tuple[Connection, Wire]:
    connection = Connection(server)
    wire = Wire(connection, slow)
    connection.connection_made(wire)
    return connection, wire


async def said(wire: Wire, want: bytes) -> bytes:
    with anyio.fail_after(LIMIT):
        while want not in wire.written:
            await turns(1)
    return bytes(wire.written)


async def told(server: Any, size: int) -> dict[str, str]:
    """The fields of a GET that asks for all events of a call but the first."""
    connection, wire = joined(server)
    connection.data_received(request(INITIALIZE))
    found = re.search(rb"mcp-session-id: (\S+)", await said(wire, b"serverInfo"), re.IGNORECASE)
    assert found is not None
    fields = {"Mcp_Session_Id": found[1].decode(), "MCP_Protocol_Version": "2025-11-25"}
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"tell","arguments":{"n":%d,"size":%d},%b}}'
    connection.data_received(request(call % (EVENTS, size, b'"_meta":{"progressToken":"t"}'), **fields))
    ids = re.findall(rb"\nid: (\S+)\ndata: {", await said(wire, b"done"))
    assert len(ids) == EVENTS + 1
    connection.close()
    return {**fields, "Last_Event_ID": ids[0].decode()}


def replayed(written: bytes) -> list[int]:
    return [int(step) for step in re.findall(rb'"progress":(\d+),', written)]


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


@pytest.mark.anyio
async def test_a_small_replay_is_one_write_behind_the_head() -> None:
    async with served(telling()) as server:
        fields = await told(server, 10)
        connection, wire = joined(server)
        connection.data_received(head(method="GET", Accept="text/event-stream", **fields) + b"\r\n")
        written = await said(wire, b"0\r\n\r\n")
        assert replayed(written) == list(range(2, EVENTS + 1)) and b"done" in written
        assert len(wire.pieces) == 2
        connection.close()
        await turns()


@pytest.mark.anyio
async def test_a_large_replay_waits_for_its_reader_after_each_piece() -> None:
    size = REPLAYED_BYTES // 8
    async with served(telling()) as server:
        fields = await told(server, size)
        connection, wire = joined(server)
        wire.slow = True
        connection.data_received(head(method="GET", Accept="text/event-stream", **fields) + b"\r\n")
        rounds = 0
        with anyio.fail_after(LIMIT):
            while b"done" not in wire.written:
                await turns(2)
                rounds += 1
                assert len(wire.pieces) <= rounds  # no piece before the one before was taken
                connection.resume_writing()
        *pieces, _ = wire.pieces[1:]
        assert all(REPLAYED_BYTES <= len(piece) < REPLAYED_BYTES + size + 8 * OVERHEAD for piece in pieces)
        assert len(pieces) == (EVENTS - 1) // 8
        assert replayed(bytes(wire.written)) == list(range(2, EVENTS + 1))
        connection.close()
        await turns()

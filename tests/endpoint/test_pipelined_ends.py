# SPDX-License-Identifier: MIT
"""A stream that the server ends, with another request of its connection behind it: the request comes after the end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from patience import errors
from rawclient import LIMIT, SSE_TYPE, Legacy, RawClient, encode
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, head, modern, request, served, turns

pytestmark = pytest.mark.anyio
STREAM = {"method": "GET", "Accept": SSE_TYPE}


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


class Gone(Held):
    """A handler whose backends are there until a test says that they are not."""

    old = False

    def serves(self, generation: Any) -> bool:
        return not self.old


async def test_a_call_behind_its_own_stream_does_not_break_the_end_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """HTTP+SSE.  The call is refused, since all places are taken, and that ends its session a second time."""
    handler = Held()
    async with AsyncExitStack() as stack:
        async with served(handler, legacy_sse=True, max_running=1, max_waiting=1) as server:
            busy, waiting, reader = [await stack.enter_async_context(RawClient(server.port)) for _ in range(3)]
            await busy.send(modern("tools/call", call("hold"), id=1))
            await handler.until(started=1)
            await waiting.send(modern("tools/call", call("echo", text="x"), id=2))
            await reader.send(head("/mcp", **STREAM))
            stream = await reader.receive_stream("GET")
            path = (await stream.next_event()).data
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call("echo", text="x")}
            await reader.send(request(encode(message), path))
            with anyio.fail_after(LIMIT):
                while not server.runtime.waiting or not any(one._http.buffered for one in server.connections):
                    await turns(1)
            asyncio.get_running_loop().call_soon(handler.released.set)
        assert (await busy.receive("POST")).status == 200
    assert not server.endpoint.legacy_sse.sessions and not server.connections
    assert errors(caplog) == []


async def test_a_delete_behind_the_stream_of_an_outdated_session_ends_it_once(caplog: pytest.LogCaptureFixture) -> None:
    handler = Gone()
    wrong: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: wrong.append(context))
    async with served(handler) as server, AsyncExitStack() as stack:
        for _ in range(3):
            session = Legacy(server.port, LEGACY)
            await session.initialize()
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(head(**STREAM, Mcp_Session_Id=session.session))
            await (await client.receive_stream("GET")).next_event()
            await client.send(head(method="DELETE", Mcp_Session_Id=session.session))
        with anyio.fail_after(LIMIT):
            while sum(bool(one._http.buffered) for one in server.connections) < 3:
                await turns(1)
        handler.old = True
        server.endpoint.sweep()
        await turns()
        assert not server.endpoint.legacy.sessions
    assert wrong == [] and errors(caplog) == []

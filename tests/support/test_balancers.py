# SPDX-License-Identifier: MIT
"""The balancers of the tests: which worker has the next turn, bytes as they come, and ends that are passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from balancers import Balancer, Proxy, Splice
from rawclient import LIMIT, Closed, RawClient
from serving import Held, call, modern

from mcp_h11 import listening

pytestmark = pytest.mark.anyio
KINDS = [Splice, Proxy]


@asynccontextmanager
async def balanced(kind: Callable[..., Balancer], count: int = 3) -> AsyncIterator[tuple[Any, list[Any]]]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(listening(Held(), port=0)) for _ in range(count)]
        balancer = kind([server.port for server in servers])
        yield await stack.enter_async_context(balancer.running()), servers


@pytest.mark.parametrize(("kind", "turns"), [(Splice, [0, 0, 1, 1, 2, 2]), (Proxy, [0, 1, 2, 0, 1, 2])])
async def test_connections_or_requests_have_turns(kind: Any, turns: list[int]) -> None:
    async with balanced(kind) as (balancer, servers):
        answers = []
        for _ in range(3):
            async with RawClient(balancer.port) as client:
                for _ in range(2):
                    await client.send(modern("tools/call", call("echo", text="x" * 200_000)))
                    answers.append(await client.receive("POST"))
        assert all(len(answer.body) > 200_000 and answer.status == 200 for answer in answers)
        spread = [servers.index(next(s for s in servers if s.port == port)) for port in balancer.given]
        assert spread == (turns if kind is Proxy else turns[::2])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_is_gone_is_passed_over(kind: Any) -> None:
    async with balanced(kind) as (balancer, servers):
        await servers[1].aclose()
        for _ in range(4):
            async with RawClient(balancer.port) as client:
                await client.send(modern("server/discover"))
                assert (await client.receive("POST")).status == 200
        assert servers[1].port not in balancer.given


@pytest.mark.parametrize("kind", KINDS)
async def test_events_come_as_they_are_sent_and_the_end_of_the_client_is_passed_on(kind: Any) -> None:
    async with balanced(kind, 1) as (balancer, (server,)):
        handler = server.runtime.handler
        meta = {"_meta": {"io.modelcontextprotocol/logLevel": "info"}}
        async with RawClient(balancer.port) as client:
            await client.send(modern("tools/call", {**call("stream", label="one"), **meta}))
            stream = await client.receive_stream("POST")
            assert (await stream.next_message())["params"]["data"] == "one began"
        await handler.until(started=1, cancelled=1)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_that_breaks_off_breaks_off_at_the_client(kind: Any) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    balancer = kind([server.sockets[0].getsockname()[1]])
    async with balancer.running():
        async with RawClient(balancer.port) as client:
            stream = await client.open_stream("GET", "/")
            assert await stream.next_bytes() == b"abc"
            with pytest.raises((Closed, ConnectionError)):
                await stream.next_bytes(LIMIT)
    server.close()

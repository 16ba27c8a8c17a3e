# SPDX-License-Identifier: MIT
"""One client takes all connections, sessions, listeners or kept events that it can: what is left for the next one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, MAX_HEAD, Legacy, Modern, RawClient, within
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, head, lives, modern, served, still_serves, turns

from mcp_h11.protocol.errors import EventsExpired
from mcp_h11.runtime.fairness import Crowd
from mcp_h11.runtime.storage import EVENT_OVERHEAD, STREAM_OVERHEAD, MemoryEventStore

US = "127.0.0.1"
FLOOD, OTHER, THIRD = "192.0.2.1", "192.0.2.2", "192.0.2.3"
on_sockets = pytest.mark.anyio
one_more_address = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has 127.0.0.2 without being asked")


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


class Elsewhere(RawClient):
    """A connection from another address of loopback."""

    async def connect(self) -> RawClient:
        opening = asyncio.open_connection(self.host, self.port, limit=MAX_HEAD, local_addr=("127.0.0.2", 0))
        self._reader, self._writer = await within(self.limit, "connection", opening)
        return self


def legacy(port: int, address: str) -> Legacy:
    client = Legacy(port, LEGACY)
    client.extra_headers["X-Forwarded-For"] = address
    return client


# --- connections -------------------------------------------------------------------------------------------------


async def connected(server: Any, count: int) -> None:
    with anyio.fail_after(LIMIT):
        while len(server.connections) != count:
            await asyncio.sleep(0)


@on_sockets
@one_more_address
@pytest.mark.parametrize("data", [b"", head()[:20], head(Content_Length="100")], ids=["silent", "head", "body"])
async def test_idle_connections_of_one_address_make_room_for_another(data: bytes) -> None:
    async with served(max_connections=5) as server, AsyncExitStack() as stack:
        flood = []
        for _ in range(5):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(data)
            flood.append(client)
        await connected(server, 5)
        other = await stack.enter_async_context(Elsewhere(server.port))
        await lives(other)
        assert len(server.connections) == 5
        # One more of the first address is one too many, and costs the other nothing.
        late = await stack.enter_async_context(RawClient(server.port))
        assert (await late.receive("POST")).status == 503
        await lives(other)


@on_sockets
@one_more_address
async def test_a_connection_that_waits_for_a_request_goes_before_one_that_is_used() -> None:
    handler = Held()
    async with served(handler, max_connections=4) as server, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(RawClient(server.port)) for _ in range(2)]
        for client in busy:
            await client.send(modern("tools/call", call("hold")))
        await handler.until(started=2)
        idle = [await stack.enter_async_context(RawClient(server.port)) for _ in range(2)]
        for client in idle:
            await lives(client)
        others = [await stack.enter_async_context(Elsewhere(server.port)) for _ in range(2)]
        for client in others:
            await lives(client)
        assert await idle[0].receive_eof() == await idle[1].receive_eof() == b""
        handler.released.set()
        for client in busy:
            assert (await client.receive("POST")).status == 200


@on_sockets
@one_more_address
async def test_no_connection_with_a_call_is_ended_for_another() -> None:
    handler = Held()
    async with served(handler, max_connections=3) as server, AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(RawClient(server.port)) for _ in range(3)]
        for client in busy:
            await client.send(modern("tools/call", call("hold")))
        await handler.until(started=3)
        other = await stack.enter_async_context(Elsewhere(server.port))
        assert (await other.receive("POST")).status == 503
        handler.released.set()
        for client in busy:
            assert (await client.receive("POST")).status == 200


@on_sockets
@one_more_address
async def test_a_stream_that_only_listens_makes_room() -> None:
    async with served(max_connections=3) as server, AsyncExitStack() as stack:
        for _ in range(3):
            stream = await stack.enter_async_context(Modern(server.port).listen(toolsListChanged=True))
            assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
        other = await stack.enter_async_context(Elsewhere(server.port))
        await lives(other)
        await turns()
        assert len(server.endpoint.modern.listeners) == 2


@on_sockets
@one_more_address
async def test_connections_far_past_the_limit_do_not_keep_another_address_out() -> None:
    async with served(max_connections=5) as server, AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(RawClient(server.port))
        for _ in range(3):
            await lives(await stack.enter_async_context(Elsewhere(server.port)))


@on_sockets
async def test_one_address_alone_has_every_connection() -> None:
    async with served(max_connections=50) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient(server.port)) for _ in range(50)]
        for client in clients:
            await lives(client)
        late = await stack.enter_async_context(RawClient(server.port))
        assert (await late.receive("POST")).status == 503


@on_sockets
@one_more_address
async def test_the_connections_of_a_proxy_are_of_many_clients() -> None:
    async with served(max_connections=3, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        proxy = [await stack.enter_async_context(RawClient(server.port)) for _ in range(3)]
        await connected(server, 3)
        other = await stack.enter_async_context(Elsewhere(server.port))
        assert (await other.receive("POST")).status == 503
        for client in proxy:
            await lives(client)


# --- sessions ----------------------------------------------------------------------------------------------------


@on_sockets
async def test_a_session_of_the_client_with_most_makes_room_and_not_the_oldest() -> None:
    async with served(max_sessions=6, trusted_proxies=[US]) as server:
        first = legacy(server.port, OTHER)
        await first.initialize()
        flood = [legacy(server.port, FLOOD) for _ in range(5)]
        for client in flood:
            await client.initialize()
        for _ in range(2):
            await legacy(server.port, THIRD).initialize()
        assert (await first.call("ping")).result == {}
        statuses = [(await client.post(client.request("ping"))).status for client in flood]
        assert statuses == [404, 404, 200, 200, 200]
        server.endpoint.legacy.close()
        assert not server.endpoint.legacy.table.peers


@on_sockets
async def test_sessions_that_only_listen_make_room_for_another_client() -> None:
    async with served(max_sessions=3, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        for _ in range(3):
            client = legacy(server.port, FLOOD)
            await client.initialize()
            await stack.enter_async_context(client.get_stream())
        other = legacy(server.port, OTHER)
        await other.initialize()
        assert (await other.call("ping")).result == {}
        # The flood has two; a third would be more than the other has, so the other's would have to go: it does not.
        greedy = legacy(server.port, FLOOD)
        await stack.enter_async_context(other.get_stream())
        assert (await greedy.post(greedy.request("initialize", _hello()))).status == 503


@on_sockets
async def test_sessions_in_which_calls_run_are_left_alone() -> None:
    handler = Held()
    async with served(handler, max_sessions=2, trusted_proxies=[US]) as server, anyio.create_task_group() as group:
        for _ in range(2):
            client = legacy(server.port, FLOOD)
            await client.initialize()
            group.start_soon(client.call, "tools/call", call("hold"))
        await handler.until(started=2)
        other = legacy(server.port, OTHER)
        assert (await other.post(other.request("initialize", _hello()))).status == 503
        handler.released.set()


def _hello() -> dict[str, Any]:
    return {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}


@on_sockets
async def test_sessions_of_one_ipv6_network_are_one_clients() -> None:
    async with served(max_sessions_peer=2, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        for number in range(2):
            client = legacy(server.port, f"2001:db8::{number + 1}")
            await client.initialize()
            await stack.enter_async_context(client.get_stream())
        late = legacy(server.port, "2001:db8::ffff")
        assert (await late.post(late.request("initialize", _hello()))).status == 503
        other = legacy(server.port, "2001:db8:0:1::1")
        assert (await other.post(other.request("initialize", _hello()))).status == 200


@on_sockets
async def test_sessions_of_http_sse_make_room_as_well() -> None:
    handler = Held()
    options: dict[str, Any] = {"legacy_sse": True, "max_sessions": 3, "trusted_proxies": [US]}
    async with served(handler, **options) as server, AsyncExitStack() as stack:

        async def open_stream(address: str) -> Any:
            client = await stack.enter_async_context(RawClient(server.port))
            headers = {"Accept": "text/event-stream", "X-Forwarded-For": address}
            return await client.open_stream("GET", "/sse", headers)

        flood = [await open_stream(FLOOD) for _ in range(3)]
        assert [stream.status for stream in flood] == [200] * 3
        assert (await open_stream(OTHER)).status == 200
        assert (await flood[0].next_event()).event == "endpoint"
        assert await flood[0].next_event() is None  # ended, cleanly
        assert (await open_stream(FLOOD)).status == 503


@on_sockets
async def test_a_session_of_http_sse_in_which_a_call_runs_is_left_alone() -> None:
    handler = Held()
    options: dict[str, Any] = {"legacy_sse": True, "max_sessions": 2, "max_sessions_peer": 2, "trusted_proxies": [US]}
    async with served(handler, **options) as server, AsyncExitStack() as stack:
        for _ in range(2):
            connection = await stack.enter_async_context(RawClient(server.port))
            headers = {"Accept": "text/event-stream", "X-Forwarded-For": FLOOD}
            stream = await connection.open_stream("GET", "/sse", headers)
            client = Legacy(server.port, "2024-11-05", (await stream.next_event()).data)
            await client.post(client.request("initialize", {**_hello(), "protocolVersion": "2024-11-05"}))
            await client.post(client.request("tools/call", call("hold")))
        await handler.until(started=2)
        for address in (OTHER, FLOOD):
            connection = await stack.enter_async_context(RawClient(server.port))
            headers = {"Accept": "text/event-stream", "X-Forwarded-For": address}
            assert (await connection.open_stream("GET", "/sse", headers)).status == 503
        handler.released.set()


# --- listeners ---------------------------------------------------------------------------------------------------


@on_sockets
async def test_listeners_of_one_client_leave_places_for_another() -> None:
    async with served(max_listeners=10, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        flood, other = Modern(server.port), Modern(server.port)
        flood.extra_headers["X-Forwarded-For"], other.extra_headers["X-Forwarded-For"] = FLOOD, OTHER
        statuses = []
        for client in [flood] * 10 + [other] * 2:
            stream = await stack.enter_async_context(client.listen(toolsListChanged=True))
            statuses.append(stream.status)
        assert statuses == [200] * 8 + [503] * 2 + [200] * 2
        await stack.aclose()
        await turns()
        async with flood.listen(toolsListChanged=True) as stream:
            assert stream.status == 200
        await still_serves(server.port)


# --- kept events -------------------------------------------------------------------------------------------------

EVENT = b"x" * (1_000 - EVENT_OVERHEAD)
STREAM = STREAM_OVERHEAD + 1_000


async def kept(store: MemoryEventStore, session: str, stream: str = "s") -> bool:
    try:
        return bool(await store.replay(session, stream, 0))
    except EventsExpired:
        return False


@on_sockets
async def test_events_of_the_client_with_most_are_evicted_first() -> None:
    store = MemoryEventStore(max_total_bytes=10 * STREAM)
    store.belongs("modest", "other")
    await store.append("modest", "s", 1, EVENT)
    for number in range(50):
        store.belongs(f"flood {number}", "flood")
        await store.append(f"flood {number}", "s", 1, EVENT)
    assert await kept(store, "modest")
    assert [number for number in range(50) if await kept(store, f"flood {number}")] == list(range(41, 50))
    assert store.total_bytes == 10 * STREAM
    for number in range(50):
        await store.discard(f"flood {number}")
    await store.discard("modest")
    assert (store.total_bytes, store._parties, store._age, len(store._held)) == (0, {}, {}, 0)


@on_sockets
async def test_sessions_without_a_client_are_each_their_own() -> None:
    store = MemoryEventStore(max_total_bytes=4 * STREAM)
    for number in range(3):
        await store.append("greedy", str(number), 1, EVENT)
    await store.append("modest", "s", 1, EVENT)
    await store.append("third", "s", 1, EVENT)
    assert await kept(store, "modest") and await kept(store, "third")
    assert [await kept(store, "greedy", str(number)) for number in range(3)] == [False, True, True]


@on_sockets
async def test_calls_of_one_address_do_not_evict_the_events_of_another() -> None:
    store = MemoryEventStore(max_total_bytes=200_000, max_session_bytes=150_000)
    handler = Held()
    async with served(handler, event_store=store, trusted_proxies=[US], response="sse") as server:
        modest = legacy(server.port, OTHER)
        await modest.initialize()
        (session,) = server.endpoint.legacy.sessions.values()
        await modest.call("tools/call", call("big", size=20_000))
        (stream,) = session.streams
        for _ in range(4):
            greedy = legacy(server.port, FLOOD)
            await greedy.initialize()
            for _ in range(6):
                await greedy.call("tools/call", call("big", size=20_000))
        assert len(await store.replay(session.id, stream, 0)) == 1
        assert store.total_bytes <= 200_000
        server.endpoint.legacy.close()
        await turns()
        assert store._parties == {}


# --- crowds ------------------------------------------------------------------------------------------------------


def test_room_is_made_by_the_party_that_would_still_not_have_less() -> None:
    crowd = Crowd[str]()
    assert list(crowd.before("a")) == [] and len(crowd) == 0
    for member in ("a1", "a2", "a3", "b1"):
        crowd.add(member[0], member)
    assert list(crowd.before("b")) == ["a1", "a2", "a3"] == list(crowd.before("c"))
    crowd.remove("a", "a2")
    assert list(crowd.before("b")) == [] and list(crowd.before("c")) == ["a1", "a3"]
    crowd.remove("a", "a2")
    crowd.remove("d", "d1")
    assert (crowd.count("a"), crowd.count("d"), list(crowd.of("a")), list(crowd.of("d"))) == (2, 0, ["a1", "a3"], [])
    for member in ("a1", "a3", "b1"):
        crowd.remove(member[0], member)
    assert len(crowd) == 0

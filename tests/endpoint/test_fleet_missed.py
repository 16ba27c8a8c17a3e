# SPDX-License-Identifier: MIT
"""The session's own stream after signals were lost, and while it moves from one worker to another: none is missed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fleets import fleet, handshake_lost, in_memory, roaming, session_at, until
from rawclient import SSE_TYPE, Stream
from sessions_support import Tools

from mcp_h11.endpoint.fleet_notices import MAX_RECENT
from mcp_h11.stores.memory import MemoryBus, MemoryLogs

pytestmark = pytest.mark.anyio

URI = "test://watched"


async def test_lost_signals_are_told_as_changes_of_all_that_the_handler_has_and_the_client_watches() -> None:
    async with fleet(Tools, in_memory()) as workers, roaming(workers[0]) as client:
        assert (await client.at(workers[1]).notify("notifications/initialized")).status == 202  # once more
        assert (await client.call("resources/subscribe", {"uri": URI})).result == {}
        async with client.at(workers[0]).get_stream() as stream:
            workers[0].runtime.fleet.on_missed()
            events: list[Any] = []
            while len(events) < 3:
                event = await stream.next_event()
                assert event is not None
                events += [event] if event.data else []
        told = [event.json() for event in events]
        assert sorted(one["method"] for one in told) == [
            "notifications/resources/list_changed",
            "notifications/resources/updated",
            "notifications/tools/list_changed",
        ]
        assert [one["params"]["uri"] for one in told if one["method"].endswith("updated")] == [URI]
        # Another worker has the same stream, and goes on behind the event that the client names.
        async with client.at(workers[1]).get_stream(events[0].id) as rest:
            assert [await rest.next_message() for _ in range(2)] == told[1:]


# --- the stream moves from one worker to another ----------------------------------------------------------------------


async def methods_of(stream: Stream, count: int) -> list[str]:
    return [(await stream.next_message())["method"] for _ in range(count)]


@pytest.mark.parametrize("heard", ["before the move", "after the move"])
async def test_a_notice_that_meets_the_move_of_a_stream_comes_once(heard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new worker hears it before it knows of the move, the old one after the log has named the new reader."""
    read, hear = MemoryLogs.read, MemoryBus.hear
    held, go_on = asyncio.Event(), asyncio.Event()
    late: list[bytes] = []

    async def read_late(self: Any, *where: Any, reader: str | None = None) -> Any:
        moves = reader == workers[1].runtime.fleet.worker and not held.is_set()
        if moves and heard == "after the move":
            held.set()
            await go_on.wait()
        tail = await read(self, *where, reader=reader)
        if moves and heard == "before the move":
            held.set()
            await go_on.wait()
        return tail

    def hear_late(self: Any, message: bytes) -> None:
        old = self is workers[0].runtime.fleet.store._store.bus
        if old and heard == "after the move" and b'"notice"' in message and b"prompts" in message:
            late.append(message)
        else:
            hear(self, message)

    async with fleet(Tools, in_memory()) as workers, roaming(workers[0]) as client, AsyncExitStack() as stack:
        session = client.session
        async with client.at(workers[0]).get_stream() as old:
            monkeypatch.setattr(MemoryLogs, "read", read_late)
            monkeypatch.setattr(MemoryBus, "hear", hear_late)
            connection = await stack.enter_async_context(client.at(workers[1]).client())
            headers = {**client.headers_for(None), "Accept": SSE_TYPE, "Content-Type": None}
            moving = asyncio.ensure_future(connection.open_stream("GET", client.path, headers))
            await until(held.is_set)
            workers[2].runtime.handler.notify_prompts_changed()
            sessions = workers[1].endpoint.legacy.sessions
            await until(lambda: any(one.kind == "prompts" for one in sessions[session].recent.since(0)))
            go_on.set()
            new = await moving
            assert await old.next_message() is None
            if heard == "after the move":
                await until(lambda: bool(late))
                hear(workers[0].runtime.fleet.store._store.bus, late.pop())
            workers[2].runtime.handler.notify_tools_changed()  # which the old worker passes on as well
            found = await methods_of(new, 2)
            assert sorted(found) == ["notifications/prompts/list_changed", "notifications/tools/list_changed"]
            workers[0].runtime.handler.notify_resources_changed()
            assert await methods_of(new, 1) == ["notifications/resources/list_changed"]


async def test_a_notice_that_no_reader_was_given_waits_for_the_first_one_at_any_worker() -> None:
    async with fleet(Tools, in_memory()) as workers, roaming(workers[0]) as client:
        workers[2].runtime.handler.notify_tools_changed()
        home = session_at(workers[0], client)
        await until(lambda: home.has_standalone and home.standalone.last == 1)
        async with client.at(workers[1]).get_stream() as stream:
            assert await methods_of(stream, 1) == ["notifications/tools/list_changed"]


async def test_what_a_worker_remembers_of_notices_has_a_limit() -> None:
    async with fleet(Tools, in_memory(), count=1) as workers, roaming(workers[0]) as client:
        recent = session_at(workers[0], client).recent
        for number in range(MAX_RECENT + 1):
            workers[0].runtime.handler.notify_resource_updated(f"test://{number}")
        uris = [one.uri for one in recent.since(0)]
        assert uris == [f"test://{number}" for number in range(MAX_RECENT, 0, -1)]
        assert list(recent.since(recent.count)) == []


async def test_a_notice_of_the_moment_in_which_the_worker_that_has_the_stream_dies_is_told_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hear = MemoryBus.hear

    def hear_nothing_when_dead(self: Any, message: bytes) -> None:
        if self is not workers[0].runtime.fleet.store._store.bus:
            hear(self, message)

    async with fleet(Tools, in_memory()) as workers, roaming(workers[0]) as client:
        async with client.at(workers[0]).get_stream() as old:
            assert old.status == 200
            await client.at(workers[1]).call("ping")  # which drops what it hears: it does not have the stream
            monkeypatch.setattr(MemoryBus, "hear", hear_nothing_when_dead)
            workers[2].runtime.handler.notify_tools_changed()
            recent = session_at(workers[1], client).recent
            await until(lambda: any(recent.since(0)))
        async with client.at(workers[1]).get_stream() as stream:
            assert "notifications/tools/list_changed" in await methods_of(stream, 2)


# --- a worker dies with `notifications/initialized`, which it has answered with 202 -----------------------------------


async def test_a_client_that_opens_its_stream_is_told_of_changes_also_where_its_handshake_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fleet(Tools, in_memory()) as workers:
        client = await handshake_lost(workers, monkeypatch)
        async with client.at(workers[0]).get_stream() as stream:
            workers[2].runtime.handler.notify_tools_changed()
            assert await methods_of(stream, 1) == ["notifications/tools/list_changed"]


async def test_a_call_at_any_worker_shows_that_the_client_is_ready_and_a_ping_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fleet(Tools, in_memory()) as workers:
        client = await handshake_lost(workers, monkeypatch)
        handler, opened = workers[2].runtime.handler, workers[0].endpoint.legacy
        for worker in (workers[0], workers[2]):
            assert (await client.at(worker).call("ping")).result == {}
        # "The server SHOULD NOT send [...] before receiving the initialized notification" (basic/lifecycle).
        handler.notify_tools_changed()
        await until(lambda: any(opened.sessions[client.session].recent.since(0)))
        assert (await client.at(workers[2]).call("tools/list")).result == {"tools": []}
        await until(lambda: not opened.table.uninitialized)
        handler.notify_resources_changed()
        async with client.at(workers[0]).get_stream() as stream:
            assert await methods_of(stream, 1) == ["notifications/resources/list_changed"]

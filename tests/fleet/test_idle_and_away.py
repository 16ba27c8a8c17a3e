# SPDX-License-Identifier: MIT
"""A fleet that rests asks its store nothing but heartbeats; a store that never answers holds no worker up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import anyio
import pytest
import wire
from rawclient import Legacy, Modern, RawClient
from replicas import LIMIT, REPLY_LIMIT, RedisKeys, Replica, Replicas, SharedStore
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]

BEATS = 3  # of each worker, during which the store is watched
WAITING = 20  # sessions of each kind that wait meanwhile
ANSWER = 8.0  # seconds for an answer while the store hangs: it has 2, and a busy machine needs some


async def operations(fleet: Replicas) -> list[dict[str, int]]:
    """What each worker has asked of its store, by operation."""
    found = []
    for worker in fleet.workers:
        count = worker.said.count("\noperations ") + 1
        worker.tell("operations")
        line = (await worker.line(r"operations (.*)", count))[1]
        found.append({name: int(number) for name, _, number in (one.partition("=") for one in line.split())})
    return found


async def rested(fleet: Replicas) -> list[dict[str, int]]:
    """What each worker asks of its store during some heartbeats."""
    before = await operations(fleet)
    with anyio.fail_after(LIMIT):
        while True:
            after = await operations(fleet)
            pairs = list(zip(before, after, strict=True))
            if all(new["take"] - old["take"] >= BEATS for old, new in pairs):
                return [{name: new[name] - old.get(name, 0) for name in new} for old, new in pairs]
            await asyncio.sleep(0.1)


async def test_sessions_that_wait_ask_the_store_nothing(fleet: Replicas) -> None:
    async with AsyncExitStack() as stack:
        for number in range(WAITING):
            client = fleet.roaming()
            await client.initialize({"elicitation": {}})
            await stack.enter_async_context(client.at(number % 3).get_stream())
            asking = client.request("tools/call", call("ask", label="idle"))
            asked = await stack.enter_async_context(client.at(0).posting(asking))
            question = await asked.next_event()
            while question is not None and not question.data:
                question = await asked.next_event()
            assert question is not None and question.id is not None
            await stack.enter_async_context(client.at(1).get_stream(question.id))  # reads what another one writes
        await rested(fleet)  # what was told late
        first, before = await operations(fleet), commands(fleet.store)
        for asked_for in await rested(fleet):
            took = asked_for.pop("take")
            # Workers whose streams are read elsewhere are looked at with one question, and all uses are told with one.
            assert asked_for.pop("workers", 0) <= 3 * took
            assert sum(count for name, count in asked_for.items() if name != "touch") == 0, asked_for
            assert asked_for.get("touch", 0) <= 6 * took
        asked, last = commands(fleet.store) - before, await operations(fleet)
        beats = sum(new["take"] - old["take"] for old, new in zip(first, last, strict=True))
        # A heartbeat is a script of a few commands and the wait; the look for dead workers is one more.
        assert asked <= 20 * (beats + len(fleet))


def commands(store: SharedStore) -> int:
    """How many commands Redis was asked; SQLite has no such number."""
    if not isinstance(store, RedisKeys):
        return 0
    stats = store.server.ask("INFO", "commandstats")
    assert isinstance(stats, dict)
    return sum(int(one["calls"]) for one in stats.values())


@contextmanager
def silent() -> Iterator[str]:
    """A store that accepts connections and never answers: its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_store_that_never_answers_does_not_hold_up_a_start() -> None:
    with silent() as url:
        worker = Replica("A", url, {"health": True})
        try:
            port = int((await worker.line(r"at (\d+)"))[1])
            client = Legacy(port, wire.D, limit=REPLY_LIMIT)
            modern = await Modern(port, limit=REPLY_LIMIT).call("tools/call", call("echo", text="served"))
            assert modern.result["content"][0]["text"] == "served"
            with anyio.fail_after(ANSWER):
                refused = await client.post(client.request("initialize", INITIALIZE))
            assert refused.status == 503 and int(refused.headers["retry-after"]) > 0
            async with RawClient(port) as connection:
                ready = await connection.request("GET", "/ready")
            assert ready.status == 503 and "store away" in ready.body.decode()
            assert await worker.leaves() == 0
        finally:
            worker.close()


INITIALIZE = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}

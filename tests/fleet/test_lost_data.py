# SPDX-License-Identifier: MIT
"""Three processes whose store loses all its data: Redis starts again empty, FLUSHALL, the file of SQLite is replaced.

These fleets have stores of their own: the data of the others is not theirs to lose.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest
from fleets import until_told
from rawclient import Response
from redis_servers import redis_server
from replicas import LIMIT, Replicas, Roaming, SharedStore, replicas, stored_in
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@contextmanager
def loses(way: str, folder: Path) -> Iterator[tuple[SharedStore, Callable[[], object]]]:
    """A store, and the way in which it loses its data."""
    if way == "the file is replaced":
        store = stored_in("sqlite", folder, None)

        def replace() -> None:
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.remove(store.path.with_name(store.path.name + suffix))  # type: ignore[attr-defined]

        yield store, replace
        return
    with redis_server() as server:

        def restart() -> None:
            server.kill()
            server.start()

        yield (
            stored_in("redis", folder, server),
            restart if way == "Redis starts again empty" else lambda: server.ask("FLUSHALL"),
        )


async def served(client: Roaming, worker: int) -> Response:
    """The answer to a ping that is not 503."""
    with anyio.fail_after(LIMIT):
        while (answer := await client.at(worker).post(client.request("ping"))).status == 503:
            await asyncio.sleep(0.1)
    return answer


@pytest.mark.parametrize("way", ["Redis starts again empty", "FLUSHALL", "the file is replaced"])
async def test_sessions_calls_and_streams_outlive_the_loss(way: str, tmp_path: Path) -> None:
    with loses(way, tmp_path) as (store, lose), replicas(store) as fleet:
        await go_through(fleet, lose)


async def go_through(fleet: Replicas, lose: Callable[[], object]) -> None:
    caller, listener, idle = fleet.roaming(), fleet.roaming(), fleet.roaming()
    await caller.initialize({"elicitation": {}})
    await listener.initialize()
    await idle.initialize()
    assert (await idle.at(1).call("logging/setLevel", {"level": "error"})).result == {}
    request = caller.request("tools/call", call("stream", label="lost", events=1))
    async with (
        caller.at(0).posting(request) as called,
        listener.at(1).get_stream() as listening,
    ):
        first = await until_told(called, "notifications/message")
        await anyio.to_thread.run_sync(lose)
        # Each session was at hand at one worker or two, and the third one has it again.
        for client in (caller, listener, idle):
            assert (await served(client, 2)).status == 200
        with anyio.fail_after(LIMIT):
            while True:
                announced = await listener.at(2).call("tools/call", call("announce", what="prompts"))
                if announced.status == 200:
                    break
        assert (await until_told(listening, "notifications/prompts/list_changed")).id
        fleet[0].tell("release lost")
        message = await called.next_message()
        while "id" not in message:
            message = await called.next_message()
        assert message["id"] == request["id"] and "result" in message
        # And the rest of the call is in a log again.
        with anyio.fail_after(LIMIT):
            while True:
                async with caller.at(2).get_stream(first.id, in_reply_to="tools/call") as rest:
                    if rest.status == 200:
                        again = [event.json() async for event in rest if event.data]
                        break
                    assert rest.status == 503
                await asyncio.sleep(0.1)
        assert again[-1] == message
    for number in range(3):
        assert "is dead" not in fleet[number].said
    assert (await idle.at(2).delete()).status == 204

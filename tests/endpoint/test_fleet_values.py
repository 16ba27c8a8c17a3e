# SPDX-License-Identifier: MIT
"""`ctx.session.get`, `set` and `delete` in a fleet: one set of values, whichever worker a call meets."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Roaming, Stores, fleet, in_memory, roaming
from keeping import done, keeper, tried

from mcp_h11.eras.values import MAX_SESSION_VALUES
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import StoreError
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio
AWAY = "What is kept in this session is out of reach for a moment: its store is away"


def at(client: Roaming, worker: Any) -> Roaming:
    """The same client, to send one request to this worker while others go elsewhere."""
    return copy.copy(client).at(worker)


def between(worker: Any, meanwhile: Callable[[], Awaitable[Any]]) -> None:
    """Do something just after this worker has read the values of a session for the first time from now on."""
    records = worker.runtime.fleet.records
    load, left = records.load, [meanwhile]

    async def loaded(space: str, key: str) -> Any:
        found = await load(space, key)
        if space == "value" and left:
            await left.pop()()
        return found

    records.load = loaded


async def test_a_value_is_there_on_every_worker(stores: Stores) -> None:
    async with fleet(keeper, stores) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text='{"a": "\u00e9"}')
        for worker in workers.servers:
            assert await done(at(client, worker), "get", key="k") == '{"a": "\\u00e9"}'
        await done(at(client, workers[1]), "set", key="k", text="2")
        assert await done(at(client, workers[2]), "get", key="k") == "2"
        await done(at(client, workers[2]), "delete", key="k")
        assert await done(at(client, workers[0]), "get", key="k") == '"nothing"'
        await done(at(client, workers[1]), "delete", key="k")
        async with roaming(workers[1]) as other:
            await done(client, "set", key="k", text="3")
            assert await done(other, "get", key="k") == '"nothing"'


async def test_many_changes_at_once_lose_nothing(stores: Stores) -> None:
    async with fleet(keeper, stores, max_running_session=None) as workers, roaming(workers[0]) as client:
        keys = [str(number) for number in range(30)]
        changes = [done(at(client, workers[n % 3]), "set", key=key, text=key) for n, key in enumerate(keys)]
        await asyncio.gather(*changes)
        assert [await done(at(client, workers[2]), "get", key=key) for key in keys] == keys


@pytest.mark.parametrize("begun", [False, True], ids=["a new record", "a record that is there"])
async def test_a_change_that_meets_another_one_is_made_anew(begun: bool) -> None:
    async with fleet(keeper, in_memory()) as workers, roaming(workers[0]) as client:
        if begun:
            await done(client, "set", key="old", text="0")
        between(workers[0], lambda: done(at(client, workers[1]), "set", key="b", text="2"))
        await done(at(client, workers[0]), "set", key="a", text="1")
        assert [await done(at(client, workers[2]), "get", key=key) for key in "ab"] == ["1", "2"]
        between(workers[0], lambda: done(at(client, workers[1]), "set", key="c", text="3"))
        await done(at(client, workers[0]), "delete", key="a")
        found = [await done(at(client, workers[2]), "get", key=key) for key in ("old", *"abc")]
        assert found == ["0" if begun else '"nothing"', '"nothing"', "2", "3"]


async def test_the_limit_is_that_of_the_session_and_not_of_a_worker(stores: Stores) -> None:
    async with fleet(keeper, stores) as workers, roaming(workers[0]) as client:
        await done(client, "fill", key="k", size=MAX_SESSION_VALUES)
        failed, text = await tried(at(client, workers[1]), "set", key="l", text="1")
        assert failed and f"at most {MAX_SESSION_VALUES} bytes as JSON" in text
        failed, text = await tried(at(client, workers[2]), "fill", key="k", size=MAX_SESSION_VALUES + 1)
        assert failed and f"these have {MAX_SESSION_VALUES + 1}" in text
        assert len(await done(at(client, workers[2]), "get", key="k")) == MAX_SESSION_VALUES - len('{"k":}')


async def test_values_end_with_their_session(stores: Stores) -> None:
    async with fleet(keeper, stores) as workers, roaming(workers[0]) as client:
        await done(at(client, workers[1]), "set", key="k", text="1")
        records = workers[0].runtime.fleet.records
        assert await records.count("value") == 1
        assert (await at(client, workers[2]).delete()).status == 204
        with anyio.fail_after(LIMIT):
            while await records.count("value"):
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("begun", [False, True], ids=["a new record", "a record that is there"])
async def test_a_change_that_meets_the_end_of_the_session_leaves_nothing(begun: bool) -> None:
    async with fleet(keeper, in_memory()) as workers, roaming(workers[0]) as client:
        if begun:
            await done(client, "set", key="old", text="0")
        records = workers[0].runtime.fleet.records

        async def end() -> None:
            # As another worker does it; this one hears of it only later.
            for space in ("session", "value"):
                await workers[1].runtime.fleet.records.delete(space, key_of(client.session))

        between(workers[0], end)
        assert await tried(client, "set", key="k", text="1") == (True, "The session has ended")
        assert await records.count("value") == 0


async def test_values_of_a_session_that_no_worker_uses_end_by_themselves() -> None:
    now = [0.0]
    hub = Hub(lambda: now[0])
    async with fleet(keeper, lambda: MemoryStore(hub), session_idle=600.0) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text="1")
        now[0] = 600.0
        assert await workers[0].runtime.fleet.records.count("value") == 1  # not before the session
        now[0] = 661.0
        assert await workers[0].runtime.fleet.records.count("value") == 0


@pytest.mark.parametrize("idle", [None, 5.0])
async def test_values_live_without_an_idle_time_as_well(idle: float | None) -> None:
    now = [0.0]
    hub = Hub(lambda: now[0])
    async with fleet(keeper, lambda: MemoryStore(hub), session_idle=idle) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text="1")
        now[0] = 30 * 86_400.0
        assert await workers[0].runtime.fleet.records.count("value") == (idle is None)


@pytest.mark.parametrize("tool", ["get", "set", "delete"])
async def test_a_store_that_is_away_is_a_tool_error_and_comes_back(tool: str) -> None:
    async with fleet(keeper, in_memory()) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text="1")
        records = workers[0].runtime.fleet.records
        load = records.load

        async def away(*arguments: Any) -> Any:
            raise StoreError("the store did not answer within 2 s")

        records.load = away
        arguments = {"key": "k", **({"text": "2"} if tool == "set" else {})}
        assert await tried(client, tool, **arguments) == (True, AWAY)
        records.load = load
        assert await done(client, "get", key="k") == "1"


async def test_a_change_that_never_finds_the_record_unchanged_ends() -> None:
    async with fleet(keeper, in_memory()) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text="1")
        tries = []

        async def lost(*arguments: Any) -> None:
            tries.append(arguments)

        workers[0].runtime.fleet.records.save = lost
        assert await tried(client, "set", key="k", text="2") == (True, AWAY)
        assert 10 <= len(tries) <= 1_000
        assert await done(at(client, workers[1]), "get", key="k") == "1"


async def test_values_that_a_worker_cannot_read_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(keeper, in_memory()) as workers, roaming(workers[0]) as client:
        await workers[1].runtime.fleet.records.create("value", key_of(client.session), b"\x80 of a newer version", 60.0)
        text = "The values that are kept in this session cannot be read"
        assert await tried(client, "get", key="k") == (True, text)
        assert await tried(client, "set", key="k", text="1") == (True, text)
        assert "cannot be read" in caplog.text
        assert (await workers[1].runtime.fleet.records.load("value", key_of(client.session))).value[:1] == b"\x80"

# SPDX-License-Identifier: MIT
"""What operators see of a fleet: `/health`, `/ready` and `/metrics` of a worker that shares a store."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from fleets import LIMIT, Stores, fleet, in_memory, in_sqlite, roaming, until
from keeping import done, keeper
from rawclient import Legacy, RawClient, Response
from serving import LEGACY, Held, call, head, served

from mcp_h11.endpoint import fleet_stores
from mcp_h11.endpoint.fleet_streams import LEFT
from mcp_h11.runtime.fleet import key_of
from mcp_h11.runtime.store_metrics import MAX_STATISTICS, store_metrics
from mcp_h11.server.totals import Totals
from mcp_h11.stores.base import StoreError

pytestmark = pytest.mark.anyio
ON: dict[str, Any] = {"health": True, "metrics": True}
NAMES = {
    "mcp_h11_store_operations_total": "counter",
    "mcp_h11_store_failures_total": "counter",
    "mcp_h11_store_seconds_total": "counter",
    "mcp_h11_store_written_bytes_total": "counter",
    "mcp_h11_store_events_total": "counter",
    "mcp_h11_fleet_letters_total": "counter",
    "mcp_h11_store_away": "gauge",
    "mcp_h11_store_bytes": "gauge",
    "mcp_h11_fleet_sessions": "gauge",
    "mcp_h11_fleet_workers": "gauge",
}


async def get(port: int, path: str) -> Response:
    async with RawClient(port) as client:
        await client.send(head(path, method="GET"))
        return await client.receive("GET")


async def samples(port: int) -> dict[str, float]:
    """The samples of /metrics by name and label, each of which has the format and a heading."""
    types: dict[str, str] = {}
    found: dict[str, float] = {}
    for line in (await get(port, "/metrics")).body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r'([a-z0-9_]+)((?:\{(?:[a-z_]+="[^"\\\n]*",?)+\})?) ([0-9.e+-]+)', line)
            assert match, line
            if match[1] in NAMES:
                assert types[match[1]] == NAMES[match[1]]
                found[match[1] + match[2]] = float(match[3])
    return found


def named(name: str, operation: str) -> str:
    return f'mcp_h11_store_{name}_total{{db_operation_name="{operation}"}}'


async def until_sample(port: int, name: str, value: float) -> None:
    with anyio.fail_after(LIMIT):
        while (await samples(port)).get(name) != value:
            await asyncio.sleep(0.01)


async def test_a_server_without_a_store_shows_nothing_of_one() -> None:
    async with served(**ON) as server, Legacy(server.port, LEGACY) as client:
        await client.call("tools/call", call("echo", text="x"))
        assert await samples(server.port) == {}


async def test_metrics_count_what_the_store_was_asked(local_stores: Stores) -> None:
    async with fleet(keeper, local_stores, **ON) as workers, roaming(workers[0]) as client:
        # The session is at hand first, as it was saved last: a change of it that is on its way would have its record
        # loaded once more, and saved once more.  A notice comes behind the word of that change.
        with anyio.fail_after(LIMIT):
            while not (await samples(workers[0].port)).get(named("seconds", "save")):
                await asyncio.sleep(0.01)
        heard: list[Any] = []
        workers[1].runtime.notice_listeners.append(heard.append)
        workers.handlers[0].notify_tools_changed()
        await until(lambda: bool(heard))
        await client.at(workers[1]).call("ping")
        before = await samples(workers[1].port)
        assert named("operations", "save") not in before
        await done(client, "set", key="k", text='"xx"')
        await done(client, "set", key="k", text='"xxxx"')
        await done(client, "get", key="k")
        after = await samples(workers[1].port)

        def more(what: str, operation: str) -> float:
            return after.get(named(what, operation), 0.0) - before.get(named(what, operation), 0.0)

        # The record of its values: before each change, and to get one; the session's once, after the first change.
        assert (more("operations", "load"), more("operations", "create"), more("operations", "save")) == (4, 1, 1)
        assert more("written_bytes", "create") == len('{"k":"xx"}')
        assert more("written_bytes", "save") == len('{"k":"xxxx"}')
        assert more("failures", "load") == more("failures", "save") == 0
        assert 0 < after[named("seconds", "load")] < 60
        assert named("seconds", "take") not in after and after[named("operations", "take")] >= 1
        assert after["mcp_h11_store_away"] == 0
        await until_sample(workers[1].port, "mcp_h11_fleet_workers", 3)


async def test_metrics_count_the_letters_of_other_workers() -> None:
    async with fleet(Held, in_memory(), **ON) as workers, roaming(workers[0]) as client:
        assert (await samples(workers[0].port))["mcp_h11_fleet_letters_total"] == 0
        await client.at(workers[1]).notify("notifications/cancelled", {"requestId": 7})
        for number, letters in ((0, 1), (1, 0), (2, 1)):
            await until_sample(workers[number].port, "mcp_h11_fleet_letters_total", letters)


async def test_metrics_show_the_numbers_of_the_store_itself(tmp_path: Path) -> None:
    async with fleet(Held, in_sqlite(tmp_path), count=1, **ON) as workers:
        await until_sample(workers[0].port, "mcp_h11_fleet_workers", 1)
        found = await samples(workers[0].port)
        assert found["mcp_h11_store_bytes"] >= 4096
        assert found['mcp_h11_store_events_total{event="transactions"}'] >= 1
        assert 'mcp_h11_store_events_total{event="bytes"}' not in found
        assert {name.partition("{")[0] for name in found} == {*NAMES}


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({}, {}),
        ({"reconnections": 2, "bytes": 7.5}, {'events_total{event="reconnections"}': 2.0, "bytes": 7.5}),
        ({'"} 1\nevil': 1, "Big": 1, "": 1, "a" * 41: 1, "ok": 1}, {'events_total{event="ok"}': 1.0}),
        ({"a": float("nan"), "b": float("inf"), "ok": 1}, {'events_total{event="ok"}': 1.0}),
        ({"a": "many"}, {}),
        ({f"e{'x' * n}": 1 for n in range(MAX_STATISTICS)}, None),
        ({f"e{'x' * n}": 1 for n in range(MAX_STATISTICS + 1)}, None),
        (ZeroDivisionError("no"), {}),
    ],
    ids=["none", "some", "odd names", "odd numbers", "no number", "most", "too many", "an error"],
)
async def test_the_numbers_of_a_users_store_cannot_break_the_page(told: Any, shown: dict[str, float] | None) -> None:
    def statistics() -> Any:
        if isinstance(told, Exception):
            raise told
        return told

    async with fleet(Held, in_memory(), count=1, **ON) as workers:
        workers[0].runtime.fleet.store.statistics = statistics
        found = await samples(workers[0].port)
    kept = {
        name.removeprefix("mcp_h11_store_"): value
        for name, value in found.items()
        if name.startswith(("mcp_h11_store_events", "mcp_h11_store_bytes"))
    }
    assert kept == shown if shown is not None else len(kept) == MAX_STATISTICS


@pytest.mark.long
async def test_a_store_that_is_away_is_told_on_all_three_pages_and_so_is_its_return(local_stores: Stores) -> None:
    async with fleet(keeper, local_stores, **ON) as workers, roaming(workers[0]) as client:
        await done(client, "set", key="k", text="1")
        port, fleet_ = workers[0].port, workers[0].runtime.fleet
        failures = (await samples(port)).get(named("failures", "load"), 0.0)
        gone = asyncio.Event()
        parts = (fleet_.records._records, fleet_.store.inbox._inbox)
        real = [parts[0].load, parts[0].create, parts[1].take]

        async def away(*arguments: Any, **options: Any) -> Any:
            gone.set()
            raise StoreError("the store is away")

        parts[0].load = parts[0].create = parts[1].take = away
        with anyio.fail_after(LIMIT):
            await gone.wait()
        answer = await get(port, "/ready")
        assert (answer.status, answer.json()["reasons"]) == (503, ["store away"])
        health = await get(port, "/health")
        assert (health.status, health.json()["status"], health.json()["store"]) == (200, "degraded", "away")
        found = await samples(port)
        assert found["mcp_h11_store_away"] == 1
        await client.call("tools/call", call("get", key="k"))
        assert (await samples(port))[named("failures", "load")] == failures + 1
        assert (await get(workers[1].port, "/ready")).status == 200  # it does not fail there
        parts[0].load, parts[0].create, parts[1].take = real
        with anyio.fail_after(LIMIT):
            while (await get(port, "/ready")).status != 200:
                await asyncio.sleep(0.01)
        assert (await samples(port))["mcp_h11_store_away"] == 0
        assert (await get(port, "/health")).json()["store"] == "ok"


async def test_an_error_of_our_own_does_not_keep_the_store_away_for_ever() -> None:
    async with fleet(Held, in_memory(), **ON) as workers, roaming(workers[0]) as client:
        async with client.get_stream() as stream:
            assert stream.status == 200
        # The GET fails by a mistake of ours, though the store works.
        records = workers[1].runtime.fleet.records
        real, asked = records.load, []

        async def broken(space: str, key: str) -> Any:
            if space != LEFT:
                return await real(space, key)
            asked.append(key)
            raise ZeroDivisionError

        records.load = broken
        async with client.at(workers[1]).get_stream() as stream:
            assert (stream.status, asked) == (503, [key_of(client.session)])
        records.load = real
        with anyio.fail_after(LIMIT):
            while (await get(workers[1].port, "/ready")).status != 200:
                await asyncio.sleep(0.01)


async def test_workers_and_bytes_are_not_added_up_over_workers() -> None:
    async with fleet(Held, in_memory(), **ON) as workers:
        for server in workers.servers:
            await until_sample(server.port, "mcp_h11_fleet_workers", 3)
            server.runtime.fleet.store.statistics = lambda: {"bytes": 4096, "reconnections": 2}
        workers[1].runtime.fleet.guard.works = False
        texts = ["\n".join(store_metrics(server.runtime.fleet)) for server in workers.servers]
        workers[1].runtime.fleet.guard.works = True
    total = dict(line.rsplit(" ", 1) for line in Totals().render(texts).splitlines() if line[:1] not in ("#", ""))
    shown = ("mcp_h11_fleet_workers", "mcp_h11_store_bytes", "mcp_h11_store_away")
    assert [total[name] for name in shown] == ["3", "4096", "1"]
    assert total['mcp_h11_store_events_total{event="reconnections"}'] == "6"
    assert json.loads(total['mcp_h11_store_operations_total{db_operation_name="take"}']) >= 3


async def room(server: Any) -> tuple[int, str, int, list[str]]:
    health, ready = await get(server.port, "/health"), await get(server.port, "/ready")
    return health.status, health.json()["status"], ready.status, ready.json()["reasons"]


ROOM, FULL = (200, "ok", 200, []), (503, "full", 503, ["full"])


async def until_room(server: Any, wanted: tuple[int, str, int, list[str]]) -> None:
    with anyio.fail_after(LIMIT):
        while await room(server) != wanted:
            await asyncio.sleep(0.01)


async def test_a_full_fleet_is_full_at_each_worker_and_has_room_again(
    local_stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at a worker that has no session itself, and for as long as no client comes to ask for one."""
    monkeypatch.setattr(fleet_stores, "COUNT_EVERY", 0.0)  # at each sweep, which `keep_alive` makes often
    async with fleet(Held, local_stores, max_sessions=2, **ON, keep_alive=0.2) as workers:
        one, two, none = workers.servers
        async with roaming(one) as first:
            await until_sample(none.port, "mcp_h11_fleet_sessions", 1)
            assert [await room(server) for server in workers.servers] == [ROOM] * 3  # one below the limit
            async with roaming(two) as second, first.get_stream(), second.get_stream():
                for server in workers.servers:
                    await until_room(server, FULL)
                assert (await samples(none.port))["mcp_h11_fleet_sessions"] == 2
                assert (await first.at(none).delete()).status == 204
                for server in workers.servers:
                    await until_room(server, ROOM)


async def test_a_session_that_no_worker_uses_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_stores, "COUNT_EVERY", 0.0)
    async with fleet(Held, in_memory(), max_sessions=1, **ON, session_initialize=2.0) as workers:
        async with roaming(workers[0]) as client, client.get_stream():
            await until_room(workers[1], FULL)
        await until_room(workers[1], ROOM)  # its GET stream has ended, and it is not used any more
        assert (await samples(workers[1].port))["mcp_h11_fleet_sessions"] == 1

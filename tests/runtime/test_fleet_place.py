# SPDX-License-Identifier: MIT
"""A worker's place in a fleet: the shared keys, what is remembered up to a limit, and rounds that find no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from moody import Mood, MoodyStore

from mcp_h11 import MCPServer, listening
from mcp_h11.runtime import fleet as fleet_module
from mcp_h11.runtime import fleet_keys
from mcp_h11.runtime.fleet import Fleet
from mcp_h11.runtime.fleet_keys import KEYS
from mcp_h11.runtime.storage import StoreFull
from mcp_h11.stores.base import StoreRefused
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio


def spawn(work: object) -> object:
    return asyncio.ensure_future(work)  # type: ignore[call-overload]


@asynccontextmanager
async def member(store: MemoryStore | MoodyStore) -> AsyncIterator[Fleet]:
    """A worker of the fleet that shares the store."""
    fleet = Fleet(store)
    await fleet.open(spawn)
    try:
        yield fleet
    finally:
        await fleet.close()


async def test_a_server_does_not_begin_with_a_store_of_another_program() -> None:
    mood = Mood()

    async def refuses(name: str) -> None:
        raise StoreRefused("another program's")

    mood.of = refuses
    with pytest.raises(StoreRefused, match="another program's"):
        async with listening(MCPServer("one", version="1"), port=0, store=MoodyStore(Hub(), mood)):
            raise AssertionError("it serves")


async def test_two_workers_that_begin_at_once_have_the_same_keys() -> None:
    hub, mood = Hub(), Mood()
    async with member(MemoryStore(hub)) as first:
        records = first.records
        for name in ("principals", "state"):
            await records.delete(KEYS, name)
        made = []

        async def another_is_faster(name: str) -> None:
            if name == "create" and len(made) < 2:
                made.append(("principals", "state")[len(made)])
                await records.create(KEYS, made[-1], made[-1].encode(), None)

        mood.of = another_is_faster
        got: list[bytes] = []
        second = Fleet(MoodyStore(hub, mood))
        second.keys.on_state = got.append
        await second.open(spawn)
        assert (made, got, second.works) == (["principals", "state"], [b"state"], True)
        async with member(MemoryStore(hub)) as third:
            assert third.hashed("somebody") == second.hashed("somebody") != first.hashed("somebody")
        await second.close()


async def test_a_key_that_is_gone_as_soon_as_it_was_made_is_made_again(caplog: pytest.LogCaptureFixture) -> None:
    hub, mood = Hub(), Mood()
    async with member(MemoryStore(hub)) as first:
        records = first.records
        await records.delete(KEYS, "principals")
        seen: list[str] = []

        async def is_made_and_lost(name: str) -> None:
            seen.append(name)
            if seen[-1] == "create" and seen.count("create") == 1:
                await records.create(KEYS, "principals", b"theirs", None)
            elif seen[-2:] == ["create", "load"] and seen.count("create") == 1:
                await records.delete(KEYS, "principals")

        mood.of = is_made_and_lost
        async with member(MoodyStore(hub, mood)) as second:
            assert not second.works
            assert "gone as soon as it was made" in caplog.text
            while not second.works:
                await asyncio.sleep(0.01)
            assert second.hashed("somebody") != first.hashed("somebody")


async def test_what_is_remembered_has_a_limit_and_goes_on_past_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet_keys, "MAX_HASHES", 2)
    monkeypatch.setattr(fleet_module, "MAX_LOGGED_ONCE", 2)
    async with member(MemoryStore()) as fleet:
        names = ["a", "b", "c", "a"]
        hashes = []
        for name in names:
            hashes.append(fleet.hashed(name))
            assert len(fleet.keys._hashes) <= 2
            fleet.log_once(f"line {name}")
            fleet.log_once(f"line {name}")
            assert len(fleet._logged) <= 2
        assert hashes[0] == hashes[3] and len({*hashes}) == 3
        # The third line made room by the loss of the first one, so that one comes again.
        assert [one.getMessage() for one in caplog.records if "line" in one.getMessage()] == [
            f"line {n}" for n in names
        ]


async def test_rounds_have_a_limit_for_the_whole_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_NONCES", 2)
    hub = Hub()
    async with member(MemoryStore(hub)) as first, member(MemoryStore(hub)) as second:
        assert await first.once.claim("one", 60.0, 0.0, "")
        assert await second.once.claim("two", 60.0, 0.0, "")
        assert not await second.once.claim("one", 60.0, 0.0, "")
        with pytest.raises(StoreFull):
            await first.once.claim("three", 60.0, 0.0, "")


async def test_one_client_has_a_share_of_the_rounds_of_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MAX_NONCES", 4)
    monkeypatch.setattr(fleet_module, "MAX_CLIENT_NONCES", 2)
    hub = Hub()
    async with member(MemoryStore(hub)) as first, member(MemoryStore(hub)) as second:
        assert await first.once.claim("one", 60.0, 0.0, "a")
        assert await second.once.claim("two", 60.0, 0.0, "a")
        with pytest.raises(StoreFull):
            await second.once.claim("three", 60.0, 0.0, "a")
        assert await second.once.claim("three", 60.0, 0.0, "b")
        assert not await first.once.claim("three", 60.0, 0.0, "a")

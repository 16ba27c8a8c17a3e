# SPDX-License-Identifier: MIT
"""Clients of a fleet that send made-up names, floods and odd bytes: a clear status, and nothing of it in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fleets import Roaming, fleet, in_memory, in_sqlite, roaming, until, vanish
from rawclient import encode
from redis_servers import RedisServer, fresh_prefix
from serving import LEGACY, Held, call, still_serves
from sse_support import connected

from mcp_h11 import Principal, Settings
from mcp_h11.protocol.errors import MCPError
from mcp_h11.stores import memory
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.redis_keys import redis_name

pytestmark = pytest.mark.anyio

MADE_UP = ["nobody.1-1", ".1", "..", "a" * 5_000 + ".1-1", "\u2028.1", "\ud800.1-1", "x y\r\n.1", "{bus}.1-1", "*.1-1"]


def keys_of(server: RedisServer, prefix: str) -> list[str]:
    """The keys of a fleet, without those that every operation of an inbox writes anew."""
    return [key for key in server.keys(prefix) if ":t:" not in key]


@pytest.mark.long
async def test_made_up_names_make_no_key_in_redis(shared_redis: RedisServer) -> None:
    prefix = fresh_prefix()
    url = shared_redis.url(prefix)
    async with fleet(Held, lambda: RedisStore.from_url(url), count=2, legacy_sse=True) as workers:
        async with roaming(workers[0]) as client:
            await client.at(workers[1]).call("ping")
            await until(lambda: len(keys_of(shared_redis, prefix)) > 3)
            before = keys_of(shared_redis, prefix)
            for name in MADE_UP:
                answer = {"jsonrpc": "2.0", "id": name, "result": {}}
                assert (await client.at(workers[1]).post(answer)).status in (202, 400)
                for request_id in (name, 7):
                    response = await client.notify("notifications/cancelled", {"requestId": request_id})
                    assert response.status in (202, 400)
            for cursor in (
                "nobody.0",
                "nobody.7",
                ".",
                "..",
                "a" * 5_000 + ".1",
                "\xe9.1",
                "x.99999999999999999",
                "x.-1",
            ):
                async with client.at(workers[1]).get_stream(cursor) as stream:
                    assert stream.status == 400
            for session in ("x", "\xe9", "a" * 5_000, "{bus}", "*", "..", "a b"):
                heads = {**client.headers_for(None), "Mcp-Session-Id": session}
                async with client.client() as raw:
                    ping = encode(client.request("ping"))
                    assert (await raw.request("POST", "/mcp", heads, ping)).status == 404
                async with client.client() as raw:
                    target = f"/messages?session_id={'b' * 5_000}"
                    assert (await raw.request("POST", target, heads, ping)).status == 404
            alive = [one.runtime.fleet.worker for one in workers.servers]
            inboxes = {f"{prefix}:{kind}:{{inbox}}:{redis_name(worker)}" for kind in "iz" for worker in alive}
            assert {*keys_of(shared_redis, prefix)} - {*before} <= inboxes
            assert (await client.call("ping")).result == {}


async def test_a_session_id_of_a_mebibyte_is_refused_before_the_store_hears_of_it() -> None:
    async with fleet(Held, in_memory(), count=1) as workers, roaming(workers[0]) as client:
        asked = workers[0].runtime.fleet.guard.counters["load"].operations
        async with client.client() as raw:
            heads = {**client.headers_for(None), "Mcp-Session-Id": "a" * 1024 * 1024}
            assert (await raw.request("POST", "/mcp", heads, encode(client.request("ping")))).status == 431
        assert workers[0].runtime.fleet.guard.counters["load"].operations == asked
        await still_serves(workers[0].port)


@pytest.mark.long
async def test_many_cancellations_of_nothing_leave_nothing() -> None:
    async with fleet(Held, in_memory(), count=2) as workers, roaming(workers[0]) as client:
        receiver = workers[1].runtime.fleet
        count = 2_000
        for start in range(0, count, 100):
            body = b""
            async with client.client() as raw:
                for number in range(start, start + 100):
                    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
                    body = encode(message)
                    await raw.send(raw.head("POST", "/mcp", {**client.headers_for(message)}, body) + body)
                for _ in range(100):
                    assert (await raw.receive("POST")).status == 202
        await until(lambda: receiver.letters == count)
        inbox = receiver.store._store.inbox
        await until(lambda: not inbox._taken and not inbox._new)
        await still_serves(workers[1].port)


async def test_a_full_inbox_is_told_and_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    room = 3
    async with fleet(Held, in_memory(), count=2, legacy_sse=True) as workers, roaming(workers[0]) as client:
        receiver = workers[1].runtime.fleet
        async with connected(workers[1].port) as peer:
            await peer.initialize("2024-11-05")
            batching = Roaming(workers[0].port, "2025-03-26")
            await batching.initialize()
            monkeypatch.setattr(memory, "MAX_INBOX_MESSAGES", room)
            vanish(workers[1])  # it takes no letters, and is not dead yet
            answer = {"jsonrpc": "2.0", "id": f"{receiver.worker}.1-1", "result": {}}
            assert (await batching.post([answer])).status == 202
            assert [(await client.post(answer)).status for _ in range(room - 1)] == [202] * (room - 1)
            refused = await client.post(answer)
            assert refused.status == 503 and refused.headers["retry-after"]
            assert "Too many messages" in refused.json()["error"]["message"]
            refused = await client.notify("notifications/cancelled", {"requestId": 5})
            assert refused.status == 503 and refused.headers["retry-after"]
            refused = await batching.post([answer, answer])
            assert refused.status == 503 and refused.headers["retry-after"]
            peer.port = workers[0].port
            refused = await peer.post(encode({"jsonrpc": "2.0", "id": 1, "method": "ping"}))
            assert refused.status == 503 and refused.headers["retry-after"]


async def test_a_client_that_floods_an_inbox_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its share is one for all its sessions and all kinds of messages: answers, cancels, POSTs of HTTP+SSE."""
    room = 3
    monkeypatch.setattr(memory, "MAX_PARTY_MESSAGES", room)
    async with fleet(Held, in_memory(), count=2, legacy_sse=True, authorize=by_header) as workers:
        receiver = workers[1].runtime.fleet
        answer = {"jsonrpc": "2.0", "id": f"{receiver.worker}.1-1", "result": {}}
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        greedy, again, modest = [Roaming(workers[0].port, LEGACY) for _ in range(3)]
        for client, user in ((greedy, "greedy"), (again, "greedy"), (modest, "modest")):
            client.extra_headers = {"X-User": user}
            await client.initialize()
        async with connected(workers[1].port) as peer:
            await peer.initialize("2024-11-05")
            inbox = receiver.store._store.inbox
            await until(lambda: not inbox._taken and not inbox._new)
            vanish(workers[1])  # it takes no letters, and is not dead yet
            assert [(await one.post(answer)).status for one in (greedy, again)] == [202, 202]
            assert (await greedy.post(cancel)).status == 202  # the last one of the share
            for one, message in ((greedy, answer), (again, answer), (greedy, cancel)):
                refused = await one.post(message)
                assert refused.status == 503 and refused.headers["retry-after"]
                assert refused.json()["error"]["message"] == "Too many messages wait for another worker"
            assert [(await modest.post(one)).status for one in (answer, cancel)] == [202, 202]
            peer.port = workers[0].port
            ping = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert [(await peer.post(ping)).status for _ in range(room)] == [202] * room
            refused = await peer.post(ping)
            assert refused.status == 503 and "Too many messages" in refused.json()["error"]["message"]


async def test_a_channel_of_a_dead_worker_and_one_without_a_record_are_gone() -> None:
    hub = memory.Hub()
    now = 0.0
    hub.clock = lambda: now
    async with fleet(Held, lambda: memory.MemoryStore(hub), count=2, legacy_sse=True) as workers:
        ping = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        async with connected(workers[0].port) as peer, connected(workers[0].port) as other:
            for one in (peer, other):
                await one.initialize("2024-11-05")
                one.port = workers[1].port
            (space,) = (space for space in hub.spaces if space.endswith(" channel"))
            key = next(iter(hub.spaces[space]))
            del hub.spaces[space][key]
            assert (await peer.post(ping)).status == 404
            assert (await other.post(ping)).status == 202
            vanish(workers[0])
            now = 5.0
            await until(lambda: workers[1].runtime.fleet.store._store.inbox.is_alive())
            assert (await other.post(ping)).status == 404


def by_header(head: Any) -> Principal:
    return Principal(head.get("x-user") or "nobody")


async def test_what_the_store_keeps_names_no_principal_and_no_session_id(tmp_path: Path) -> None:
    names: list[str] = []
    async with fleet(Held, in_sqlite(tmp_path), authorize=by_header, legacy_sse=True) as workers:
        client = Roaming(workers[0].port, LEGACY)
        client.extra_headers = {"X-User": "ann-of-the-hill"}
        await client.initialize()
        await client.at(workers[1]).call("tools/call", call("echo", text="x"))
        async with client.at(workers[1]).get_stream():
            names = ["ann-of-the-hill", str(client.session)]
            kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
            assert kept and not [name for name in names if name.encode() in kept]


async def test_a_state_is_sealed_by_the_first_key_and_opened_by_any_at_every_worker() -> None:
    old, new = b"o" * 32, b"n" * 32
    stores = in_memory()
    async with fleet(Held, stores, count=1, state_keys=[old]) as before:
        async with fleet(Held, stores, count=1, state_keys=[new, old]) as after:
            sealers = [one[0].runtime.sealer for one in (before, after)]
            now = before[0].runtime.now()
            state = sealers[0].seal({"a": 1}, b"", now)
            assert sealers[1].open(state, b"", now) == {"a": 1}
            with pytest.raises(Exception, match="Invalid or expired"):
                sealers[0].open(sealers[1].seal({"a": 1}, b"", now), b"", now)
    # Without keys of its own, a fleet has one from its store.
    async with fleet(Held, stores, count=2) as workers:
        one, other = (worker.runtime.sealer for worker in workers.servers)
        assert other.open(one.seal({"a": 1}, b"", now), b"", now) == {"a": 1}


def test_a_password_of_a_store_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    url = "redis://user:s3cret@127.0.0.1:1/0"
    assert "s3cret" not in repr(Settings(store=url)) + repr(RedisStore.from_url(url))


async def test_clocks_that_differ_by_a_minute_end_no_state_early_and_let_no_round_be_played_twice() -> None:
    hub = memory.Hub()
    now = 0.0
    hub.clock = lambda: now
    async with fleet(Held, lambda: memory.MemoryStore(hub), count=2) as workers:
        one, ahead = (worker.runtime for worker in workers.servers)
        ttl = one.sealer.ttl
        began = one.now()
        state = one.sealer.seal({"a": 1}, b"", began)
        assert ahead.sealer.open(state, b"", began + ttl - 1.0 + 60.0) == {"a": 1}
        with pytest.raises(MCPError, match="Invalid or expired"):
            ahead.sealer.open(state, b"", began + ttl + 61.0)
        # A worker whose clock is behind opens the state for two minutes more: so long the round is remembered.
        assert await ahead.once.claim("n", began + 60.0 + ttl, began + 60.0, "")
        now = ttl + 119.0
        await until(lambda: one.fleet.works)
        assert not await one.once.claim("n", began + ttl, began, "")

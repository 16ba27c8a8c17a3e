# SPDX-License-Identifier: MIT
"""A fleet whose store is away, hangs, is full, or holds something that no worker of this version has written."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest
from fleets import Roaming, Stores, fleet, in_memory, lose_memory, ready, roaming, said, until, until_ready
from moody import Mood, MoodyStore, fails
from rawclient import INFO, RawClient, Response, encode
from serving import LEGACY, Held, call
from sse_support import connected

from mcp_h11 import listening
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import StoreError, StoreRefused
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio


async def begin(server: Any, session: str | None = None) -> Response:
    """The answer to an `initialize`, perhaps beside the id of a session."""
    client = Roaming(server.port, LEGACY)
    client.session = session
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
    return await client.post(client.request("initialize", params))


# --- what no worker of this version has written ---------

UNREADABLE = [
    b"",
    b"\xff\xfe",
    b"[]",
    b"17",
    b'{"format": 2}',
    b'{"format": 1}',
    b"[" * 100_000,
    {"format": 2},
    {"revision": 5},
    {"log_level": "loudest"},
    {"client_info": 5},
    {"client_capabilities": []},
    {"created": "yesterday"},
    {"generation": "a"},
    {"pinned": "no"},
    {"subscriptions": 5},
    {"subscriptions": [5]},
    {"home": None},
    {"stream": None},
    {"principal": None},
    {"more": 1},
    {"client_info": {"name": "x" * 1_000_000}},
]


@pytest.mark.parametrize("wrong", UNREADABLE, ids=range(len(UNREADABLE)))
async def test_a_session_whose_record_cannot_be_read_is_gone_and_the_log_says_so_once(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        fleet(Held, in_memory(), count=2) as workers,
        roaming(workers[0]) as client,
        roaming(workers[0]) as other,
    ):
        session, records = client.session, workers[0].runtime.fleet.records
        assert session is not None
        key = key_of(session)
        record = await records.load("session", key)
        value = wrong if isinstance(wrong, bytes) else json.dumps({**json.loads(record.value), **wrong}).encode()
        await records.save("session", key, value, record.version, 600.0)
        for _ in range(3):
            assert (await client.at(workers[1]).post(client.request("ping"))).status == 404
            async with client.client() as raw:
                heads = {"Mcp-Session-Id": session, "Accept": "text/event-stream"}
                assert (await raw.request("GET", "/mcp", heads)).status == 404
        assert said(caplog, f"the record of session {session[:8]} cannot be read") == 1
        # Nothing is overwritten: a worker of a newer version may know the record.
        assert (await records.load("session", key)).value == value
        assert (await other.at(workers[1]).call("ping")).result == {}


async def test_a_channel_whose_record_cannot_be_read_is_gone_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(Held, in_memory(), count=2, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        records = workers[0].runtime.fleet.records
        (session,) = map(key_of, workers[0].endpoint.legacy_sse.sessions)
        record = await records.load("channel", session)
        peer.port = workers[1].port
        version = record.version
        for wrong in (b"\xff", b"[]", b"5", b"{}", b'{"worker": 5, "principal": ""}', b'{"principal": "x"}'):
            version = await records.save("channel", session, wrong, version, 600.0)
            assert (await peer.post(encode({"jsonrpc": "2.0", "id": 1, "method": "ping"}))).status == 404
        assert said(caplog, "cannot be read") == 1
        await records.save("channel", session, record.value, version, 600.0)
        assert (await peer.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}))["result"] == {}


@pytest.mark.parametrize("about", [b"\xff", b"{}", b"[[]]", b"[" * 100_000, b"5"])
async def test_a_stream_whose_state_cannot_be_read_is_an_expired_one(
    about: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(Held, in_memory(), count=2) as workers, roaming(workers[0]) as client:
        logs = workers[0].runtime.fleet.logs
        await logs.open(key_of(client.session), "abc", 600.0, writer="made-up", about=about)
        for _ in range(3):
            async with client.at(workers[1]).get_stream("abc.0") as stream:
                assert stream.status == 400
        assert said(caplog, "cannot be read") == 1
        assert not workers[1].runtime.store_away
        assert (await client.call("ping")).result == {}


async def test_letters_and_signals_that_cannot_be_read_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(Held, in_memory(), count=2) as workers, roaming(workers[0]) as client:
        session = key_of(client.session)
        sender, receiver = (one.runtime.fleet for one in workers.servers)
        kinds = [*receiver.on_letter, *receiver.on_signal, "unheard-of"]
        bodies = [{}, {"session": 5}, {"session": session}, {"session": [], "stream": []}]
        bodies += [{"session": session, "id": [], "request": {}, "stream": {}, "by": 5, "messages": [5], "taken": 5}]
        for message in (b"", b"\xff", b"5", b"[]", b"{}", b"[" * 100_000, b'{"kind": [], "scope": ""}'):
            await sender.store.inbox.put(receiver.worker, message)
            await sender.store.bus.publish(message)
        for kind in kinds:
            for body in bodies:
                await sender.send(receiver.worker, kind, **body)
                sender.signal(kind, **body)
        await sender.send(receiver.worker, "cancelled", session=session, request=1)
        letters = 7 + len(kinds) * len(bodies) + 1
        await until(lambda: receiver.letters == letters)
        assert (await client.at(workers[1]).call("tools/call", call("echo", text="on"))).result
        assert not receiver.reading.done() and receiver.works


async def test_an_initialize_beside_the_session_of_another_worker_is_refused(stores: Stores) -> None:
    async with fleet(Held, stores, count=2) as workers, roaming(workers[0]) as client:
        answers = [await begin(server, client.session) for server in workers.servers]
        assert [answer.status for answer in answers] == [400, 400]
        assert answers[0].json() == answers[1].json()
        assert "already initialized" in answers[0].json()["error"]["message"]
        assert (await begin(workers[1], "unknown")).status == 200


# --- a store that fails ---------


async def fails_oddly(name: str) -> None:
    raise ConnectionResetError("no StoreError")


async def hangs(name: str) -> None:
    await asyncio.get_running_loop().create_future()


async def is_full(name: str) -> None:
    if name in ("create", "save", "append", "open", "put"):
        raise StoreError("full")


@pytest.mark.parametrize("mood_of", [fails, fails_oddly, pytest.param(hangs, marks=pytest.mark.long), is_full])
async def test_what_a_client_sees_while_the_store_fails(mood_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    async with (
        fleet(Held, lambda: MoodyStore(hub, mood), count=2, health=True) as workers,
        roaming(workers[0]) as client,
    ):
        held = workers.handlers[0]
        async with client.client() as connection:
            stream = await connection.open_stream(
                "POST", "/mcp", client.headers_for(None), encode(client.request("tools/call", call("stream")))
            )
            while not (event := await stream.next_event()).data:
                pass
            mood.of = mood_of
            refused = await begin(workers[0])
            assert refused.status == 503 and refused.headers["retry-after"]
            # A session at hand asks the store nothing; one that is not at hand may well be there, and so is not 404.
            assert (await client.at(workers[0]).call("ping")).result == {}
            if mood_of is not is_full:
                assert (await client.at(workers[1]).post(client.request("ping"))).status == 503
            assert "store away" in (await ready(workers[0]))[1]
            held.released.set()
            while not (event := await stream.next_event()).data:
                pass
            assert event.json()["result"]["content"][0]["text"] == "stream released"
            assert await client.at(workers[0]).call("tools/call", call("stream", label="again"))
        mood.of = None
        await until_ready(workers[0])
        await until_ready(workers[1])
        assert (await begin(workers[0])).status == 200
        assert (await client.at(workers[1]).call("ping")).result == {}
        assert said(caplog, "is dead") == 0
        assert said(caplog, "Traceback") == 0
        if mood_of is fails_oddly:
            assert all(said(caplog, f"by the operation {name}") <= 2 for name in ("create", "take", "append"))


@pytest.mark.parametrize("mood_of", [fails, fails_oddly, is_full])
async def test_a_store_that_is_away_at_the_start_is_used_when_it_comes(mood_of: Any) -> None:
    mood, hub = Mood(), Hub()
    mood.of = mood_of
    async with listening(Held(), port=0, store=MoodyStore(hub, mood), health=True) as server:
        assert (await ready(server))[0] == 503
        assert (await begin(server)).status == 503
        mood.of = None
        await until_ready(server)
        assert (await begin(server)).status == 200


@pytest.mark.parametrize("away", [True, False])
async def test_a_store_that_comes_back_empty_has_lost_its_data_also_to_a_worker_that_never_saw_it(away: bool) -> None:
    """Another worker may have a session at hand that it keeps anew in a moment.  A store that is new has lost none."""
    mood, hub = Mood(), Hub()
    mood.of = fails if away else None
    async with listening(Held(), port=0, store=MoodyStore(hub, mood), health=True) as server:
        mood.of = None
        await until_ready(server)
        client = Roaming(server.port, LEGACY)
        client.session = "of another worker"
        assert (await client.post(client.request("ping"))).status == (503 if away else 404)
        client.session = None


async def test_a_session_that_begins_as_the_store_comes_back_empty_is_one_of_all_workers() -> None:
    """Another worker has made keys meanwhile; this one was told of it, and could not look."""
    mood, hub = Mood(), Hub()
    async with fleet(Held, lambda: MoodyStore(hub, mood), count=1) as workers:
        mood.of = fails
        assert (await begin(workers[0])).status == 503
        lose_memory(hub)
        async with fleet(Held, lambda: MemoryStore(hub), count=1) as late:
            mood.of = None
            async with roaming(workers[0]) as client:
                assert (await client.at(late[0]).post(client.request("ping"))).status == 200


async def test_a_store_that_turns_out_to_be_foreign_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    mood.of = fails
    tries = 0

    async def refuses(name: str) -> None:
        nonlocal tries
        tries += 1
        raise StoreRefused("another program's")

    async with listening(Held(), port=0, store=MoodyStore(hub, mood), health=True) as server:
        mood.of = refuses
        await until(lambda: tries > 2)
        assert said(caplog, "the store is refused: another program's") == 1
        assert (await begin(server)).status == 503


async def test_streams_that_wait_for_a_slow_store_take_no_more_room_than_there_is() -> None:
    mood, hub, come = Mood(), Hub(), asyncio.Event()

    async def is_slow(name: str) -> None:
        if name == "create":
            await come.wait()

    options: dict[str, Any] = {"legacy_sse": True, "max_sessions_peer": 2}
    async with fleet(Held, lambda: MoodyStore(hub, mood), count=1, **options) as workers:
        mood.of = is_slow
        statuses: list[int] = []

        async def open_one(done: asyncio.Event) -> None:
            async with RawClient(workers[0].port) as client:
                stream = await client.open_stream("GET", "/sse", {"Accept": "text/event-stream"})
                statuses.append(stream.status)
                await done.wait()

        counters = workers[0].runtime.fleet.guard.counters
        asked, done = counters["create"].operations, asyncio.Event()
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(open_one, done)
            await until(lambda: counters["create"].operations == asked + 4)
            come.set()
            await until(lambda: len(statuses) == 4)
            assert sorted(statuses) == [200, 200, 503, 503]
            await until(lambda: len(next(kept for space, kept in hub.spaces.items() if "channel" in space)) == 2)
            done.set()


async def test_letters_that_could_not_be_acknowledged_are_so_later() -> None:
    mood, hub = Mood(), Hub()

    async def keeps_them(name: str) -> None:
        if name == "acknowledge":
            raise StoreError("away")

    async with fleet(Held, lambda: MoodyStore(hub, mood), count=2) as workers:
        sender, receiver = (one.runtime.fleet for one in workers.servers)
        inbox = hub.workers[receiver.worker].inbox
        mood.of = keeps_them
        await sender.send(receiver.worker, "unheard-of")
        await until(lambda: receiver.letters == 1 and not receiver.works)
        assert len(inbox._taken) == 1
        mood.of = None
        await until(lambda: receiver.works and not inbox._taken)


async def test_the_loop_that_takes_letters_outlives_a_fault_beside_it(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()

    def is_faulty() -> None:
        raise RuntimeError("a fault")

    async with fleet(Held, lambda: MoodyStore(hub, mood), count=2, health=True) as workers:
        one = workers[0].runtime.fleet
        one.on_back.append(is_faulty)
        mood.of = fails
        assert (await begin(workers[0])).status == 503
        mood.of = None
        await until(lambda: said(caplog, "the loop that takes the letters failed") == 1)
        await until_ready(workers[0])
        assert not one.reading.done()
        assert (await begin(workers[0])).status == 200

# SPDX-License-Identifier: MIT
"""A store that lost all its data: the workers keep the sessions that they have at hand anew, and calls go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fleets import KINDS, LIMIT, Roaming, Workers, fleet, in_sqlite, lose_memory, roaming, session_at, until, until_told
from rawclient import Modern, Response, Stream
from redis_servers import RedisServer, fresh_prefix
from serving import Held, call
from sse_support import Peer, connected

from mcp_h11 import Context
from mcp_h11.runtime import fleet as fleet_module
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores import sqlite_thread
from mcp_h11.stores.memory import Hub, MemoryBus, MemoryStore
from mcp_h11.stores.redis import RedisStore

pytestmark = pytest.mark.anyio

URI = "test://it"
ABLE = {"elicitation": {"form": {}}}
SOON = 0.3  # seconds: a short time to mend, where its end is the point
# Deletes all that is under a prefix in one step, as FLUSHALL does.
FLUSH = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do redis.call('DEL', key) end"


class Kept(Held):
    """With a resource, and tools that log and that keep a value."""

    def __init__(self) -> None:
        super().__init__()
        for tool in (self.log, self.keep, self.kept, self.once):
            self.add_tool(tool, name=tool.__name__)

        @self.resource(URI)
        async def it() -> str:
            return "it"

    async def log(self, ctx: Context) -> str:
        await ctx.debug("detail")
        return "logged"

    async def keep(self, ctx: Context, text: str) -> str:
        await ctx.session.set("text", text)
        return "kept"

    async def kept(self, ctx: Context) -> str:
        return str(await ctx.session.get("text"))

    async def once(self, ctx: Context) -> str:
        answer = await ctx.elicit("Sure?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return f"{answer.data}"


class Losing:
    """A kind of store: `make` gives a worker's end, `lose` takes the data away."""

    def __init__(self, make: Callable[[], Any], lose: Callable[[], object]) -> None:
        self.make = make
        self.lose = lose


def lose_file(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.remove(f"{path}{suffix}")


def losing(kind: str, request: pytest.FixtureRequest, folder: Path) -> Losing:
    if kind == "redis":
        server: RedisServer = request.getfixturevalue("shared_redis")
        prefix = fresh_prefix()
        return Losing(lambda: RedisStore.from_url(server.url(prefix)), lambda: server.ask("EVAL", FLUSH, 0, prefix))
    if kind == "sqlite":
        return Losing(in_sqlite(folder), lambda: lose_file(folder / "fleet.db"))
    hub = Hub()
    return Losing(lambda: MemoryStore(hub), lambda: lose_memory(hub))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Losing:
    monkeypatch.setattr(sqlite_thread, "LOOK_AT_FILE_EVERY", 0.0)
    return losing(request.param, request, tmp_path)


@pytest.fixture
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Losing:
    return losing("memory", request, tmp_path)


async def served(ask: Callable[[], Any]) -> Any:
    """The answer that is not 503: a client comes back after that."""
    with anyio.fail_after(LIMIT):
        while (answer := await ask()).status == 503:
            assert answer.headers["retry-after"]
            await asyncio.sleep(0.02)
    return answer


async def ping(client: Roaming, worker: Any) -> Response:
    return await served(lambda: client.at(worker).post(client.request("ping")))


@asynccontextmanager
async def listening_to(client: Roaming, worker: Any, last: str | None = None) -> AsyncIterator[Stream]:
    """The session's own stream, as soon as the worker has it."""
    with anyio.fail_after(LIMIT):
        while True:
            async with client.at(worker).get_stream(last) as stream:
                if stream.head.status != 503:
                    yield stream
                    return
            await asyncio.sleep(0.02)


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_that_one_worker_has_at_hand_lives_on_everywhere(store: Losing) -> None:
    async with fleet(Kept, store.make) as workers, roaming(workers[0]) as client:
        await client.call("resources/subscribe", {"uri": URI})
        await client.call("logging/setLevel", {"level": "debug"})
        store.lose()
        assert (await ping(client, workers[1])).status == 200
        said = await client.at(workers[2]).call("tools/call", call("log"))
        assert [one["params"]["data"] for one in said.notifications] == ["detail"]
        async with listening_to(client, workers[1]) as stream:
            workers.handlers[2].notify_resource_updated(URI)
            assert (await until_told(stream, "notifications/resources/updated")).id
        assert (await client.at(workers[0]).delete()).status == 204


async def test_two_workers_that_have_a_session_at_hand_keep_one_record_with_the_changes_of_both(store: Losing) -> None:
    async with fleet(Kept, store.make) as workers, roaming(workers[0]) as client:
        await ping(client, workers[1])
        uris = [f"test://{n}" for n in range(4)]
        await client.at(workers[0]).call("resources/subscribe", {"uri": uris[0]})
        await client.at(workers[1]).call("resources/subscribe", {"uri": uris[1]})
        store.lose()
        # Both change it at the same time, before either knows of the loss.
        async with anyio.create_task_group() as tasks:
            for n, worker in enumerate(workers.servers[:2]):
                one = Roaming(worker.port, client.revision, limit=LIMIT)
                one.session, one.initialized = client.session, client.initialized
                tasks.start_soon(one.call, "resources/subscribe", {"uri": uris[2 + n]})
        assert (await ping(client, workers[2])).status == 200
        sessions = [session_at(worker, client) for worker in workers.servers]
        await until(lambda: all({*uris} == {*one.state.subscriptions} for one in sessions))
        assert len({one.state.stream for one in sessions}) == 1
        assert await workers[2].runtime.fleet.records.count("session") == 1
        assert (await client.at(workers[1]).delete()).status == 204
        for worker in workers.servers:
            assert (await client.at(worker).post(client.request("ping"))).status in (400, 404)


async def test_a_session_that_no_worker_has_at_hand_is_gone_after_a_moment(
    store: Losing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "MEND_TIME", SOON)
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0]) as client, roaming(workers[1]) as other:
        workers[0].endpoint.legacy.table.end(session_at(workers[0], client), forget=False)
        store.lose()
        first = await client.at(workers[0]).post(client.request("ping"))
        assert first.status == 503 and first.headers["retry-after"]
        assert (await ping(client, workers[1])).status == 404
        assert (await ping(client, workers[0])).status == 404
        assert (await ping(other, workers[0])).status == 200


async def test_a_session_that_was_deleted_before_the_loss_does_not_come_back(
    store: Losing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "MEND_TIME", SOON)
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0]) as client:
        await ping(client, workers[1])
        session = client.session
        await client.delete()
        store.lose()
        client.session = session
        for worker in workers.servers:
            assert (await ping(client, worker)).status == 404


async def test_what_only_the_store_had_is_lost_and_can_be_kept_again(memory: Losing) -> None:
    async with fleet(Kept, memory.make, count=2) as workers, roaming(workers[0]) as client:
        await client.call("tools/call", call("keep", text="old"))
        memory.lose()
        assert (await client.call("tools/call", call("kept"))).result["content"][0]["text"] == "None"
        assert (await client.call("tools/call", call("keep", text="new"))).result["content"][0]["text"] == "kept"
        await ping(client, workers[1])
        assert (await client.at(workers[1]).call("tools/call", call("kept"))).result["content"][0]["text"] == "new"


async def test_the_newest_sessions_have_the_room_that_there_is(memory: Losing) -> None:
    options = {"max_sessions": 2, "session_idle": 0.5}
    async with fleet(Kept, memory.make, count=2, **options) as workers, roaming(workers[0]) as old:
        await ping(old, workers[0])
        memory.lose()
        async with roaming(workers[1]), roaming(workers[1]):
            refused = await served(lambda: old.at(workers[0]).post(old.request("ping")))
            assert refused.status in (200, 404)
            await until(lambda: len(workers[0].endpoint.legacy.sessions) <= 1)
            assert await workers[0].runtime.fleet.records.count("session") <= 2


# --- streams ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def resumed(client: Any, event: str) -> AsyncIterator[Any]:
    """The stream of a call behind an event, as a client gets it that comes again after each 503."""
    async with AsyncExitStack() as stack:
        with anyio.fail_after(LIMIT):
            while True:
                rest = await stack.enter_async_context(client.get_stream(event, in_reply_to="tools/call"))
                if rest.head.status != 503:
                    break
                await stack.aclose()
        assert rest.head.status == 200
        yield rest


async def test_a_call_that_streams_goes_on_and_can_be_resumed_behind_the_loss(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
            store.lose()
            await ping(client, workers[1])
            # The log is there again soon, and the reader has all that it lacks.  Before that it is asked to come again.
            async with resumed(client.at(workers[1]), first.id) as rest:
                workers.handlers[0].released.set()
                message = await rest.next_message(LIMIT)
                assert (message["id"], message["result"]["content"][0]["text"]) == ("s", "stream released")


async def test_a_reader_elsewhere_gets_the_answer_of_a_call_whose_log_was_lost(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
        async with client.at(workers[1]).get_stream(first.id, in_reply_to="tools/call") as rest:
            await rest.next_event(LIMIT)
            store.lose()
            workers.handlers[0].released.set()
            message = await rest.next_message(LIMIT)
            assert (message["id"], message["result"]["content"][0]["text"]) == ("s", "stream released")


async def test_a_reader_that_lacks_events_which_are_lost_is_told_so(
    memory: Losing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "MEND_TIME", SOON)
    async with fleet(Kept, memory.make, count=2) as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
            memory.lose()
            await ping(client, workers[1])
            name, _, index = first.id.rpartition(".")
            before = f"{name}.{int(index) - 1}"
            with anyio.fail_after(LIMIT):
                while True:
                    async with client.at(workers[1]).get_stream(before) as rest:
                        if rest.head.status != 503:
                            break
                    await asyncio.sleep(0.02)
            assert rest.head.status == 400
            workers.handlers[0].released.set()
            assert (await stream.next_message(LIMIT))["id"] == "s"


async def test_the_sessions_own_stream_goes_on_under_another_id(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0]) as client:
        async with client.at(workers[0]).get_stream() as stream:
            workers.handlers[1].notify_tools_changed()
            old = await until_told(stream, "notifications/tools/list_changed")
            store.lose()
            await ping(client, workers[1])
            told = await until_told(stream, "notifications/tools/list_changed")  # it may have changed meanwhile
            workers.handlers[1].notify_prompts_changed()
            new = await until_told(stream, "notifications/prompts/list_changed")
        stream_id = old.id.rpartition(".")[0]
        assert new.id and new.id.rpartition(".")[0] != stream_id
        # A client that names an event of before is told that all may have changed, at any worker.
        async with listening_to(client, workers[1], old.id) as again:
            assert again.head.status == 200
            event = await until_told(again, "notifications/tools/list_changed")
            assert event.id.rpartition(".")[0] == new.id.rpartition(".")[0]
        async with listening_to(client, workers[0], event.id) as rest:
            assert rest.head.status == 200
            workers.handlers[1].notify_resource_updated(URI)  # no subscription: not told
            workers.handlers[1].notify_tools_changed()
            assert (await until_told(rest, "notifications/tools/list_changed")).id
        del told


async def test_a_log_of_the_sessions_own_stream_under_an_id_of_before_is_read_by_no_client(
    memory: Losing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "MEND_TIME", SOON)
    async with fleet(Kept, memory.make, count=2) as workers, roaming(workers[0]) as client:
        async with client.at(workers[0]).get_stream() as stream:
            workers.handlers[0].notify_tools_changed()
            old = await until_told(stream, "notifications/tools/list_changed")
        session = session_at(workers[0], client)
        for _ in range(2):  # twice, so that the record does not name it any more
            memory.lose()
            assert await workers[0].runtime.fleet.lost_data()
            await until(lambda: session.version > 0 and not session.unsaved_streams)
        # A worker that had not noticed the loss may have begun that log.
        logs, name = workers[0].runtime.fleet.logs, old.id.rpartition(".")[0]
        await logs.open(session.key, name, 60.0, after=1)
        async with listening_to(client, workers[1], old.id) as refused:
            assert refused.head.status == 400
        async with listening_to(client, workers[1]) as again:
            workers.handlers[0].notify_prompts_changed()
            assert (await until_told(again, "notifications/prompts/list_changed")).id.rpartition(".")[0] != name


async def test_an_answer_at_another_worker_reaches_a_question_that_was_open(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2) as workers, roaming(workers[0], capabilities=ABLE) as client:
        async with client.at(workers[0]).posting(client.request("tools/call", call("ask"), id="a")) as stream:
            question = (await until_told(stream, "elicitation/create")).json()
            store.lose()
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"it": "yes"}}}
            assert (await served(lambda: client.at(workers[1]).post(answer))).status == 202
            message = await stream.next_message(LIMIT)
            assert message["id"] == "a" and "yes" in message["result"]["content"][0]["text"]


async def test_no_worker_that_lives_is_dead_to_the_others_after_a_loss(
    memory: Losing, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(Kept, memory.make, count=2) as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
        async with client.at(workers[1]).get_stream(first.id, in_reply_to="tools/call") as rest:
            await rest.next_event(LIMIT)
            memory.lose()
            await workers[1].runtime.fleet._look_for_dead()
            assert "is dead" not in caplog.text
            workers.handlers[0].released.set()
            assert "result" in await rest.next_message(LIMIT)


# --- others -----------------------------------------------------------------------------------------------------------


async def test_a_state_of_before_the_loss_opens_at_any_worker(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2) as workers:
        clients = [Modern(worker.port, capabilities=ABLE) for worker in workers.servers]
        first = (await clients[0].call("tools/call", call("once"))).result
        store.lose()
        answers = {key: {"action": "accept", "content": {"it": "yes"}} for key in first["inputRequests"]}
        params = {**call("once"), "requestState": first["requestState"], "inputResponses": answers}
        assert "yes" in (await clients[1].call("tools/call", params)).result["content"][0]["text"]


async def test_a_listener_of_2026_is_told_that_all_may_have_changed(memory: Losing) -> None:
    async with fleet(Kept, memory.make, count=2) as workers, roaming(workers[0]) as client:
        async with Modern(workers[1].port).listen(toolsListChanged=True) as stream:
            await until_told(stream, "notifications/subscriptions/acknowledged")
            memory.lose()
            await ping(client, workers[0])
            assert (await client.at(workers[0]).call("tools/call", call("kept"))).result
            await client.at(workers[0]).call("resources/subscribe", {"uri": URI})
            await until_told(stream, "notifications/tools/list_changed")


async def test_a_stream_of_http_sse_takes_posts_at_any_worker_after_a_loss(store: Losing) -> None:
    async with fleet(Kept, store.make, count=2, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        store.lose()
        elsewhere = Peer(workers[1].port, peer.stream)
        elsewhere.endpoint = peer.endpoint
        message = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
        assert (await served(lambda: elsewhere.post(message))).status == 202
        assert (await peer.next("ping"))["id"] == 7


async def test_a_worker_that_began_after_the_loss_has_its_keys_taken_over(memory: Losing) -> None:
    async with fleet(Kept, memory.make, count=1) as workers, roaming(workers[0]) as client:
        old = workers[0].runtime.fleet
        before = old.hashed("ann")
        memory.lose()
        async with fleet(Kept, memory.make, count=1) as late:
            new = late[0].runtime.fleet
            await until(lambda: old.hashed("ann") == new.hashed("ann") != before)  # it says so to all others
            assert (await ping(client, late[0])).status == 200
            record = await old.records.load("session", key_of(client.session))
            assert await old.lost_data()
            assert await old.records.load("session", key_of(client.session)) == record  # once is enough


async def marked_anew(workers: Workers, lose: Callable[[], object]) -> None:
    """The store has lost its data, and a worker has died when it had made a mark and no key."""
    lose()
    fleet_ = workers[0].runtime.fleet
    with anyio.fail_after(LIMIT):
        while not await fleet_.store.inbox.workers():  # its heart beats again
            await asyncio.sleep(0.01)
    await fleet_.records.create("key", "mark", b"of a worker that has died", None)


async def test_a_worker_that_begins_beside_others_has_their_keys_and_none_of_its_own(store: Losing) -> None:
    """Else a session that begins at one of them would be no session to the other, until that one misses something."""
    async with fleet(Kept, store.make, count=1) as workers:
        able = {"capabilities": ABLE}
        asked = (await Modern(workers[0].port, **able).call("tools/call", call("once"))).result
        await marked_anew(workers, store.lose)
        async with fleet(Kept, store.make, count=1) as late, roaming(workers[0]) as client:
            assert (await client.at(late[0]).post(client.request("ping"))).status == 200
            answers = {key: {"action": "accept", "content": {"it": "yes"}} for key in asked["inputRequests"]}
            state = {"requestState": asked["requestState"], "inputResponses": answers}
            done = await Modern(late[0].port, **able).call("tools/call", {**call("once"), **state})
            assert "yes" in done.result["content"][0]["text"]


async def test_a_worker_that_was_not_told_of_other_keys_has_them_after_the_gap(
    memory: Losing, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps: list[Callable[[], None]] = []
    subscribe, hear = MemoryBus.subscribe, MemoryBus.hear
    monkeypatch.setattr(
        MemoryBus, "subscribe", lambda self, heard, gap: (gaps.append(gap), subscribe(self, heard, gap))[1]
    )
    async with fleet(Kept, memory.make, count=1) as workers:
        bus = workers[0].runtime.fleet.store._store.bus
        await marked_anew(workers, memory.lose)
        monkeypatch.setattr(MemoryBus, "hear", lambda self, message: None if self is bus else hear(self, message))
        async with fleet(Kept, memory.make, count=1) as late:
            monkeypatch.undo()
            gaps[0]()
            await until(lambda: workers[0].runtime.fleet.hashed("ann") == late[0].runtime.fleet.hashed("ann"))
            async with roaming(workers[0]) as client:
                assert (await client.at(late[0]).post(client.request("ping"))).status == 200


async def test_a_store_that_is_set_back_to_an_earlier_time_gets_what_the_workers_know() -> None:
    hub = Hub()
    async with fleet(Kept, lambda: MemoryStore(hub), count=2) as workers, roaming(workers[0]) as client:
        (records,) = (kept for space, kept in hub.spaces.items() if space.endswith(" session"))
        record = records[key_of(client.session)]
        before = (record.value, record.version)
        await client.call("resources/subscribe", {"uri": URI})
        await client.call("logging/setLevel", {"level": "debug"})
        await ping(client, workers[1])
        record.value, record.version = before
        for worker in workers.servers:
            worker.runtime.fleet.on_missed()  # as after each new connection
        await until(lambda: b"debug" in record.value and URI.encode() in record.value)
        sessions = [session_at(worker, client) for worker in workers.servers]
        for one in sessions:
            assert ({*one.state.subscriptions}, one.state.log_level) == ({URI}, "debug")
        assert (await client.at(workers[1]).delete()).status == 204


async def test_a_worker_that_begins_while_others_mend_calls_no_session_gone(memory: Losing) -> None:
    async with fleet(Kept, memory.make, count=1) as workers, roaming(workers[0]) as client:
        memory.lose()
        assert await workers[0].runtime.fleet.lost_data()
        session = session_at(workers[0], client)
        async with fleet(Kept, memory.make, count=1) as late:
            await workers[0].runtime.fleet.records.delete("session", session.key)  # as if it was slow
            session.version = 0
            assert (await client.at(late[0]).post(client.request("ping"))).status == 503
            assert await workers[0].endpoint.legacy.stores.reload(session)
            assert (await ping(client, late[0])).status == 200

# SPDX-License-Identifier: MIT
"""Requests that are handed to a session's owner where the owner, its session or the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import wire
from fleets import LIMIT, Roaming, fleet, in_memory, roaming, session_at, until, vanish_first
from rawclient import Answer, encode
from serving import Held, call
from sessions_support import Tools
from sessions_support import call as tool_call
from sse_support import connected

from mcp_h11 import Context, ProxyHandler
from mcp_h11.stores import memory
from mcp_h11.stores.base import StoreError

pytestmark = pytest.mark.anyio

ROOTS = "notifications/roots/list_changed"


class Bridge(ProxyHandler):
    """A bridge that keeps the notifications that it gets; each of its sessions has the same backend."""

    def __init__(self) -> None:
        self.backend = Held()
        self.heard: list[str] = []
        self.free: asyncio.Event | None = None  # a notification is done when it is set
        super().__init__(self.backend, per_session=True)

    async def notification(self, method: str, params: Any, ctx: Any) -> None:
        self.heard.append(method)
        if self.free is not None:
            await self.free.wait()


def gone(*args: Any, **options: Any) -> Any:
    """An operation of a store that is away."""
    raise StoreError("the store is away")


def without(fleet_: Any, kind: str, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., Any] = gone) -> None:
    """Letters of this kind fail at this worker."""
    send = fleet_.send

    async def sent(worker: str, what: str, **body: Any) -> Any:
        return fails() if what == kind else await send(worker, what, **body)

    monkeypatch.setattr(fleet_, "send", sent)


@asynccontextmanager
async def handing(**options: Any) -> Any:
    """Three workers, and a client at the second one whose session the first one owns."""
    async with fleet(Bridge, in_memory(), **options) as workers, roaming(workers[0]) as client:
        assert (await client.at(workers[1]).call("ping")).result == {}
        yield workers, client


async def hold(client: Roaming, server: Any, request: Any, answers: list[Answer]) -> None:
    """Call `hold` at this worker, and keep the answer."""
    other = Roaming(server.port, client.revision)
    other.session, other.initialized = client.session, client.initialized
    answers.append(await other.call("tools/call", call("hold"), id=request))


async def test_notifications_and_answers_go_to_the_owner() -> None:
    async with handing() as (workers, client):
        for number in (1, 2):
            assert (await client.at(workers[number]).notify(ROOTS)).status == 202
        await until(lambda: workers.handlers[0].heard == [ROOTS, ROOTS])
        assert workers.handlers[1].heard == workers.handlers[2].heard == []
        # No call waits for these answers.
        for answer in ({"result": {}}, {"error": {"code": 1, "message": "no", "data": [1]}}):
            taken = workers[0].runtime.fleet.letters
            assert (await client.at(workers[1]).post({"jsonrpc": "2.0", "id": 7, **answer})).status == 202
            await until(lambda taken=taken: workers[0].runtime.fleet.letters > taken)
        assert (await client.call("tools/call", call("echo", text="on"))).result["content"][0]["text"] == "on"


async def test_a_notification_for_a_dead_owner_is_a_404() -> None:
    async with handing(grace=0.2) as (workers, client):
        await vanish_first(workers)
        assert (await client.at(workers[1]).notify(ROOTS)).status == 404
        assert (await client.post(client.request("ping"))).status == 404


async def test_two_calls_that_find_the_owner_dead_at_once_are_both_404(monkeypatch: pytest.MonkeyPatch) -> None:
    async with handing() as (workers, client):
        asked, found = 0, asyncio.Event()

        async def never(*args: Any, **options: Any) -> bool:
            nonlocal asked
            asked += 1
            await found.wait()
            return False

        monkeypatch.setattr(workers[1].runtime.fleet, "send", never)
        client.at(workers[1])
        calls = [asyncio.ensure_future(client.post(client.request("ping"))) for _ in range(2)]
        await until(lambda: asked == 2)
        found.set()
        assert [(await one).status for one in calls] == [404, 404]
        assert client.session not in workers[1].endpoint.legacy.sessions


async def test_a_call_that_streams_already_when_its_owner_is_found_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    async with handing(patience=0.05) as (workers, client):
        fleet_, found = workers[1].runtime.fleet, asyncio.Event()

        async def never(*args: Any, **options: Any) -> bool:
            await found.wait()
            return False

        monkeypatch.setattr(fleet_, "send", never)
        async with client.at(workers[1]).posting(client.request("tools/call", call("echo", text="x"))) as stream:
            assert stream.status == 200  # the head of the stream: the exchange was silent for long
            found.set()
            with anyio.fail_after(LIMIT):
                assert await stream.next_message() is None
        await until(lambda: client.session not in workers[1].endpoint.legacy.sessions)
        assert (await client.post(client.request("ping"))).status == 404


async def test_where_the_store_is_away_a_notification_is_refused_and_a_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with handing() as (workers, client):
        with monkeypatch.context() as patch:
            without(workers[1].runtime.fleet, "handed", patch)
            refused = await client.at(workers[1]).notify(ROOTS)
            assert refused.status == 503 and refused.headers["retry-after"]
            answer = await client.call("tools/call", call("echo", text="x"))
            assert "store is away" in answer.error["message"]
        assert (await client.notify(ROOTS)).status == 202
        assert (await client.call("tools/call", call("echo", text="x"))).result["content"][0]["text"] == "x"
        await until(lambda: workers.handlers[0].heard == [ROOTS])


async def test_where_the_owners_inbox_is_full_a_notification_is_refused_and_a_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with handing() as (workers, client):
        with monkeypatch.context() as patch:
            patch.setattr(memory, "MAX_INBOX_MESSAGES", 0)
            refused = await client.at(workers[1]).notify(ROOTS)
            assert refused.status == 503 and refused.headers["retry-after"]
            answer = await client.call("tools/call", call("echo", text="x"))
            words = "Too many messages wait for the worker of this session"
            assert refused.json()["error"]["message"] == answer.error["message"] == words
        assert (await client.call("tools/call", call("echo", text="x"))).result["content"][0]["text"] == "x"


async def test_a_cancelled_call_ends_here_also_when_the_owner_cannot_be_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mcp_h11")
    async with handing() as (workers, client):
        fleet_, backend = workers[1].runtime.fleet, workers.handlers[0].backend
        without(fleet_, "cancelled", monkeypatch)
        monkeypatch.setattr(fleet_.logs, "discard", gone)
        answers: list[Answer] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, client, workers[1], 5, answers)
            await backend.until(started=1)
            assert (await client.at(workers[1]).notify("notifications/cancelled", {"requestId": 5})).status == 202
        assert answers[0].message is None
        assert backend.cancelled == []
        await until(lambda: "a cancellation did not reach the owner" in caplog.text)
        await until(lambda: "a log is left to its time" in caplog.text)
        backend.released.set()


async def test_a_cancellation_at_the_owner_ends_the_call_at_the_other_worker() -> None:
    async with handing() as (workers, client):
        backend, answers = workers.handlers[0].backend, []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, client, workers[1], 5, answers)
            await backend.until(started=1)
            assert (await client.at(workers[0]).notify("notifications/cancelled", {"requestId": 5})).status == 202
        assert answers[0].message is None
        await backend.until(cancelled=1)
        assert (await client.at(workers[1]).notify("notifications/cancelled", {"requestId": None})).status == 202
        assert (await client.call("ping")).result == {}


async def test_what_comes_to_an_owner_that_has_ended_the_session_is_refused() -> None:
    async with handing() as (workers, client):
        owner = workers[0].endpoint.legacy
        owner.table.end(owner.sessions[client.session], forget=False)  # the others do not know it yet
        assert (await client.at(workers[1]).notify(ROOTS)).status == 202  # no answer is awaited
        answer = await client.call("tools/call", call("echo", text="x"))
        assert "session" in answer.error["message"].lower()
        assert workers.handlers[0].heard == []


async def test_an_owner_without_a_place_refuses_calls_and_drops_notifications(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with handing(max_running=1, max_waiting=1) as (workers, client):
        bridge = workers.handlers[0]
        answers: list[Answer] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold, client, workers[0], "runs", answers)
            await bridge.backend.until(started=1)
            tasks.start_soon(hold, client, workers[1], "waits", answers)
            await until(lambda: len(session_at(workers[0], client).calls) == 2)
            refused = await client.at(workers[2]).call("tools/call", call("hold"))
            assert refused.error["message"] == "Server is busy"
            assert (await client.at(workers[2]).notify(ROOTS)).status == 202
            await until(lambda: "was dropped" in caplog.text)
            bridge.backend.released.set()
        assert [one.result["content"][0]["text"] for one in answers] == ["hold released"] * 2
        assert bridge.heard == []


async def test_without_replay_a_call_streams_as_at_a_lone_server() -> None:
    async with fleet(Held, in_memory(), replay=False) as workers, roaming(workers[0]) as client:
        workers.handlers[1].released.set()
        answer = await client.at(workers[1]).call("tools/call", call("stream"))
        assert [one["method"] for one in answer.notifications] == ["notifications/message"]
        assert answer.result["content"][0]["text"] == "stream released"


async def test_messages_of_http_sse_are_the_same_after_their_way_as_letters() -> None:
    async def ask(ctx: Context) -> str:
        return (await ctx.sample("?")).text

    async with fleet(lambda: Tools(ask=ask), in_memory(), legacy_sse=True) as workers:
        async with connected(workers[0].port) as peer:
            peer.port = workers[1].port
            await peer.initialize(wire.A, sampling={})
            batch = [{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0"}]
            assert (await peer.post(encode(batch))).status == 202
            answers = [await peer.next() for _ in range(2)]
            assert [one["id"] for one in answers if "result" in one] == [1]
            assert [one["error"]["code"] for one in answers if "error" in one] == [-32600]
            question = await peer.ask(tool_call("ask", id=2))
            result = {"role": "assistant", "content": {"type": "text", "text": "!"}, "model": "m"}
            assert (await peer.post({"jsonrpc": "2.0", "id": question["id"], "result": result})).status == 202
            assert (await peer.next("tools/call"))["result"]["content"][0]["text"] == "!"
            question = await peer.ask(tool_call("ask", id=3))
            error = {"code": -1, "message": "the user says no", "data": {"why": "late"}}
            assert (await peer.post({"jsonrpc": "2.0", "id": question["id"], "error": error})).status == 202
            refused = (await peer.next("tools/call"))["error"]
            assert refused == {**error, "message": "The client refused: the user says no"}

# SPDX-License-Identifier: MIT
"""A session of Streamable HTTP on every worker of a fleet that shares a store."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest
import wire
from fleets import LIMIT, Roaming, Stores, fleet, roaming, session_at, until, vanish
from rawclient import encode
from serving import Held
from sse_support import connected

from mcp_h11.runtime import fleet as fleet_module

pytestmark = pytest.mark.anyio


def post(tool: str, request: str | int = 1, **arguments: Any) -> bytes:
    """The body of a call."""
    params = {"name": tool, "arguments": arguments}
    return encode({"jsonrpc": "2.0", "id": request, "method": "tools/call", "params": params})


async def test_any_worker_answers_the_calls_of_a_session(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        for worker in (*workers.servers, *workers.servers):
            answer = await client.at(worker).call("tools/call", {"name": "echo", "arguments": {"text": "hi"}})
            assert answer.result["content"][0]["text"] == "hi"
        assert [len(one.endpoint.legacy.sessions) for one in workers.servers] == [1, 1, 1]


async def test_a_session_that_was_deleted_is_gone_everywhere(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        for worker in workers.servers:
            await client.at(worker).call("ping")
        session = client.session
        assert (await client.at(workers[1]).delete()).status == 204
        client.session = session
        await until(lambda: not any(one.endpoint.legacy.sessions for one in workers.servers))
        for worker in workers.servers:
            response = await client.at(worker).post(client.request("ping"))
            assert response.status == 404
        assert await workers[0].runtime.fleet.records.count("session") == 0


async def test_a_change_is_known_everywhere_once_it_is_answered(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "HEAR_LIMIT", LIMIT)  # a store that a busy machine holds up is waited for
    uri = "test://watched"
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        for worker in workers.servers:
            await client.at(worker).call("ping")
        sessions = [session_at(one, client) for one in workers.servers]
        await client.at(workers[1]).call("resources/subscribe", {"uri": uri})
        assert [uri in session.state.subscriptions for session in sessions] == [True] * 3
        await client.at(workers[2]).call("logging/setLevel", {"level": "error"})
        assert [session.state.log_level for session in sessions] == ["error"] * 3
        await client.at(workers[0]).call("resources/unsubscribe", {"uri": uri})
        assert [uri in session.state.subscriptions for session in sessions] == [False] * 3
        gone = client.session
        await client.at(workers[1]).delete()
        assert [gone in one.endpoint.legacy.sessions for one in workers.servers] == [False] * 3


async def test_a_worker_that_does_not_hear_costs_a_wait_with_an_end(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "HEAR_LIMIT", 0.05)
    hears = asyncio.Event()

    async def late() -> None:
        await hears.wait()

    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        deaf = workers[2].runtime.fleet
        deaf.on_signal["record"] = lambda body: late()
        assert (await client.call("logging/setLevel", {"level": "error"})).result == {}
        hears.set()  # what it says now is of no more interest
        assert (await client.call("logging/setLevel", {"level": "debug"})).result == {}


async def test_a_stream_that_was_cut_goes_on_at_another_worker(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        async with client.client() as connection:
            stream = await connection.open_stream(
                "POST", client.path, client.headers_for(None), post("stream", label="one")
            )
            seen = []
            while not seen or not seen[-1].data:
                event = await stream.next_event()
                assert event is not None
                seen.append(event)
        assert seen[-1].json()["params"]["data"] == "one began"
        async with client.at(workers[1]).get_stream(seen[-1].id, in_reply_to="tools/call") as rest:
            assert rest.status == 200
            workers.handlers[0].released.set()
            message = await rest.next_message()
            assert message["result"]["content"][0]["text"] == "one released"
            assert await rest.next_message() is None


async def test_an_answer_finds_the_question_at_another_worker(stores: Stores) -> None:
    def ask(message: Any) -> Any:
        client.at(workers[1])
        return {"result": {"action": "accept", "content": {"it": "blue"}}}

    async with fleet(Held, stores) as workers, roaming(workers[0], capabilities={"elicitation": {}}) as client:
        answer = await client.call("tools/call", {"name": "ask"}, answerer=ask)
        assert "blue" in answer.result["content"][0]["text"]


async def test_a_cancellation_finds_the_call_at_another_worker(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        async with client.client() as connection:
            await connection.send_request("POST", client.path, client.headers_for(None), post("hold", request=77))
            await workers.handlers[0].until(started=1)
            response = await client.at(workers[2]).notify("notifications/cancelled", {"requestId": 77})
            assert response.status == 202
            await workers.handlers[0].until(cancelled=1)


async def test_notices_of_all_workers_come_on_the_one_stream(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        async with client.at(workers[1]).get_stream() as stream:
            assert stream.status == 200
            for handler in workers.handlers:
                handler.notify_tools_changed()
                message = await stream.next_message()
                assert message["method"] == "notifications/tools/list_changed"
            async with client.at(workers[2]).get_stream() as newer:
                assert await stream.next_message() is None
                workers.handlers[0].notify_prompts_changed()
                assert (await newer.next_message())["method"] == "notifications/prompts/list_changed"


@pytest.mark.long  # it waits until a worker counts as dead
async def test_a_dead_worker_leaves_a_definite_error(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        async with client.client() as connection:
            stream = await connection.open_stream(
                "POST", client.path, client.headers_for(None), post("stream", request="x", label="one")
            )
            while not (event := await stream.next_event()).data:
                pass
        async with client.at(workers[1]).get_stream(event.id, in_reply_to="tools/call") as rest:
            vanish(workers[0])
            message = await rest.next_message()
            assert message["id"] == "x" and message["error"]["code"] == -32603
            assert await rest.next_message() is None
        workers.handlers[0].released.set()


async def test_the_messages_of_http_sse_come_to_the_stream_from_every_worker(stores: Stores) -> None:
    async with fleet(Held, stores, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        peer.port = workers[1].port
        await peer.initialize("2024-11-05", elicitation={})
        for number in range(12):
            peer.port = workers[number % 3].port
            answer = await peer.ask(json.loads(post("echo", request=number, text=str(number))))
            assert (answer["id"], answer["result"]["content"][0]["text"]) == (number, str(number))
        peer.port = workers[2].port
        assert (await peer.post({"jsonrpc": "2.0", "id": 1, "result": {}}, "/messages?session_id=no")).status == 404
    async with fleet(Held, stores, legacy_sse=True) as workers:
        async with connected(workers[0].port) as peer:
            pass
        ping = encode({"jsonrpc": "2.0", "id": 1, "method": "ping"})
        peer.port = workers[1].port
        with anyio.fail_after(LIMIT):
            while (await peer.post(ping)).status != 404:  # the end of the stream is on its way
                await anyio.sleep(0)


async def test_messages_of_http_sse_keep_their_order(stores: Stores) -> None:
    async with fleet(Held, stores, legacy_sse=True) as workers, connected(workers[0].port) as peer:
        await peer.initialize("2024-11-05")
        for number in range(30):
            peer.port = workers[number % 3].port
            assert (await peer.post(post("echo", request=number, text="x"))).status == 202
        assert [(await peer.next("tools/call"))["id"] for _ in range(30)] == [*range(30)]


async def test_the_store_has_no_session_id_and_no_principal(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    async with fleet(Held, stores, authorize=lambda head: head.get("x-user")) as workers:
        for worker in workers.servers:
            store = worker.runtime.fleet.store
            for part in (store.records, store.logs, store.inbox, store.bus):
                record_arguments(part, kept, monkeypatch)
        client = Roaming(workers[0].port, wire.D)
        client.extra_headers = {"X-User": "somebody@example.com"}
        await client.initialize({"elicitation": {}})
        for worker in workers.servers:
            await client.at(worker).call("tools/call", {"name": "echo", "arguments": {"text": "x"}})
            await client.notify("notifications/cancelled", {"requestId": 99})
        async with client.get_stream():
            workers.handlers[1].notify_tools_changed()
        assert client.session is not None
        session = client.session
        await client.delete()
    assert kept
    assert not [one for one in kept if session.encode() in one or b"somebody" in one]


def record_arguments(part: Any, kept: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the arguments of every operation of a part of a store."""

    def wrapped(run: Any) -> Any:
        def record(*arguments: Any, **named: Any) -> Any:
            kept.append(repr((arguments, named)).encode())
            return run(*arguments, **named)

        return record

    inner = next(value for name, value in vars(part).items() if name in ("_records", "_logs", "_inbox", "_bus"))
    for name in ("create", "load", "save", "delete", "open", "append", "read", "put", "publish"):
        if hasattr(inner, name):
            monkeypatch.setattr(inner, name, wrapped(getattr(inner, name)))


async def test_a_worker_that_ends_before_its_call_leaves_a_definite_error(stores: Stores) -> None:
    async with fleet(Held, stores) as workers, roaming(workers[0]) as client:
        async with client.client() as connection:
            stream = await connection.open_stream(
                "POST", client.path, client.headers_for(None), post("stream", request="x", label="one")
            )
            while not (event := await stream.next_event()).data:
                pass
        async with client.at(workers[1]).get_stream(event.id, in_reply_to="tools/call") as rest:
            await workers[0].aclose(grace=0.0)
            message = await rest.next_message()
            assert message["id"] == "x" and message["error"]["code"] == -32603
            assert await rest.next_message() is None

# SPDX-License-Identifier: MIT
"""One session on three processes: calls, lists, subscriptions, questions, cancels, notices, and its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio
import pytest
import wire
from fleets import messages_of
from rawclient import Stream, encode
from replica import WATCHED
from replicas import LIMIT, STEP, Replicas, Roaming
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def text_of(client: Roaming, tool: str, **arguments: Any) -> str:
    text: str = (await client.call("tools/call", call(tool, **arguments))).result["content"][0]["text"]
    return text


async def is_gone(client: Roaming, session: str) -> None:
    """No worker knows the session, and the store has nothing of it."""
    client.session = session
    for number in range(len(client.fleet)):
        assert (await client.at(number).post(client.request("ping"))).status == 404
    with anyio.fail_after(LIMIT):
        while client.fleet.store.left_of(session):
            await asyncio.sleep(STEP)
    client.session = None


@pytest.mark.parametrize("revision", [wire.B, wire.C, wire.D])
async def test_a_session_is_the_same_on_every_worker(fleet: Replicas, revision: str) -> None:
    async with fleet.roaming(revision) as client:
        for number in (1, 2, 0, 2, 1):
            assert await text_of(client.at(number), "echo", text=f"at {number}") == f"at {number}"
            tools = (await client.at(number).call("tools/list")).result["tools"]
            assert "announce" in [tool["name"] for tool in tools]
        assert (await client.at(1).call("resources/subscribe", {"uri": WATCHED})).result == {}
        assert (await client.at(2).call("logging/setLevel", {"level": "error"})).result == {}
        for number in (0, 1, 2, 2):  # B subscribed, C set the level; A was told of both
            answer = await client.at(number).call("tools/call", call("talk"))
            assert [one["params"]["data"] for one in answer.notifications] == ["loud"]
        async with client.at(0).get_stream() as stream:
            for number in (1, 2, 0):
                await text_of(client.at(number), "announce", what=WATCHED)
                message = await stream.next_message()
                assert (message["method"], message["params"]["uri"]) == ("notifications/resources/updated", WATCHED)
            assert (await client.at(0).call("resources/unsubscribe", {"uri": WATCHED})).result == {}
            await text_of(client.at(0), "announce", what=WATCHED)  # is heard by no stream
            await text_of(client.at(0), "announce", what="tools")
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("kind", ["elicit", "sample", "roots"])
async def test_a_question_is_answered_at_another_worker(fleet: Replicas, kind: str) -> None:
    answers = {
        "elicit": ({"action": "accept", "content": {"it": "blue"}}, "accept {'it': 'blue'}"),
        "sample": ({"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}, "hi"),
        "roots": ({"roots": [{"uri": "file:///a"}]}, "['file:///a']"),
    }

    def answer(message: Any) -> Any:
        client.at(1)
        return {"result": answers[kind][0]}

    client = fleet.roaming()
    await client.initialize({"elicitation": {}, "sampling": {}, "roots": {}})
    got = await client.call("tools/call", call("ask", label="q", kind=kind), answerer=answer)
    assert got.result["content"][0]["text"] == answers[kind][1]
    await client.at(2).delete()


async def test_a_stranger_does_not_answer_a_question(fleet: Replicas) -> None:
    """Neither another session of the same principal, nor another principal with the id of the session."""
    asked, other, enemy = fleet.roaming(user="ann"), fleet.roaming(user="ann"), fleet.roaming(user="eve")
    for client in (asked, other, enemy):
        await client.initialize({"elicitation": {}})
    async with asked.posting(asked.request("tools/call", call("ask", label="q"))) as stream:
        question = await stream.next_message()
        wrong = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"it": "wrong"}}}
        for number in range(3):
            assert (await other.at(number).post(wrong)).status in (202, 400)
            enemy.session, own = asked.session, enemy.session
            assert (await enemy.at(number).post(wrong)).status == 404
            enemy.session = own
            assert (await enemy.at(number).post(wrong)).status in (202, 400)
        right = {**wrong, "result": {"action": "decline"}}
        assert (await asked.at(2).post(right)).status == 202
        (answer,) = await messages_of(stream)
        assert answer["result"]["content"][0]["text"].startswith("decline")
    for client in (asked, other, enemy):
        await client.delete()


async def test_a_call_is_cancelled_at_another_worker(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        for number, tool in ((1, "hold"), (2, "stream")):
            label = f"cancel-{tool}"
            request = client.request("tools/call", call(tool, label=label), id=f"id {tool}")
            async with client.at(0).client() as connection:
                await connection.send_request("POST", "/mcp", client.headers_for(request), encode(request))
                await fleet[0].line(f"began {label}")
                assert (await client.at(number).notify("notifications/cancelled", cancels(request))).status == 202
                await fleet[0].line(f"cancelled {label}")
                stream = await connection.receive_stream("POST")
                assert not [message for message in await messages_of(stream) if "id" in message]
            assert (await client.at(number).call("ping")).result == {}


def cancels(request: Any) -> dict[str, Any]:
    return {"requestId": request["id"]}


async def test_a_cancel_that_meets_the_answer_leaves_all_well(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        await client.at(1).call("ping")
        for number in range(20):
            request = client.request("tools/call", call("count", events=number % 4))
            async with client.at(0).posting(request) as stream:
                assert (await client.at(1).notify("notifications/cancelled", cancels(request))).status == 202
                answers = [message for message in await messages_of(stream) if "id" in message]
                assert len(answers) <= 1
        for number in range(3):
            assert await text_of(client.at(number), "echo", text="well") == "well"


async def hears(stream: Stream, what: str) -> str:
    """The next notice is of `what`; returns the id of its event."""
    while True:
        event = await stream.next_event(LIMIT)
        assert event is not None, f"the stream ended before {what}"
        if event.data:
            assert json.loads(event.data)["method"] == f"notifications/{what}/list_changed"
            return str(event.id)


async def test_the_own_stream_of_a_session_hears_all_workers(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        async with client.at(0).get_stream() as stream:
            for number, what in ((1, "tools"), (2, "prompts"), (0, "resources")):
                fleet[number].tell(f"notify {what}")
                assert (await stream.next_message())["method"] == f"notifications/{what}/list_changed"
            async with client.at(2).get_stream() as newer:
                assert newer.status == 200
                assert await stream.next_message() is None  # the newest reader wins
                last = ""
                for number, what in ((1, "tools"), (0, "prompts"), (2, "resources")):
                    fleet[number].tell(f"notify {what}")
                    last = await hears(newer, what)
        # A notice that comes while no stream is open is not lost: a client that comes back gets it, at any worker.  It
        # names its last event, since the server may have written the notice to the stream that the client just left.
        fleet[1].tell("notify tools")
        async with client.at(1).get_stream(last) as stream:
            await hears(stream, "tools")


async def test_a_notice_that_meets_a_move_of_the_stream_comes_once(fleet: Replicas) -> None:
    kinds = ("tools", "prompts", "resources")
    last = ""
    async with fleet.roaming() as client:
        for number in range(45):
            # It is published while the client moves: at the worker before, at the next one, or at the third.
            fleet[(number + number // 3) % 3].tell(f"notify {kinds[number % 3]}")
            async with client.at(number % 3).get_stream(last or None) as stream:
                last = await hears(stream, kinds[number % 3])
        async with client.at(0).get_stream(last) as stream:
            for number in range(3):
                fleet[number].tell(f"notify {kinds[number]}")
                await hears(stream, kinds[number])


async def test_a_deleted_session_ends_everywhere(fleet: Replicas) -> None:
    client = fleet.roaming()
    await client.initialize()
    session = client.session
    assert session is not None
    request = client.request("tools/call", call("stream", label="deleted"))
    async with client.at(0).posting(request) as running, client.at(2).get_stream() as own:
        await fleet[0].line("began deleted")
        assert (await client.at(1).delete()).status == 204
        await fleet[0].line("cancelled deleted")
        assert not [message for message in await messages_of(running) if "id" in message]
        assert await messages_of(own) == []
    await is_gone(client, session)


async def test_another_principal_finds_no_session(fleet: Replicas) -> None:
    async with fleet.roaming(user="ann") as ann:
        await ann.at(1).call("ping")
        enemy = fleet.roaming(user="eve")
        enemy.session, enemy.initialized = ann.session, ann.initialized
        for number in range(3):
            assert (await enemy.at(number).post(enemy.request("ping"))).status == 404
            async with enemy.get_stream() as stream:
                assert stream.status == 404
            async with enemy.client() as connection:
                assert (await connection.request("DELETE", "/mcp", enemy.headers_for(None))).status == 404
        for number in range(3):
            assert (await ann.at(number).call("ping")).result == {}


async def test_an_event_of_another_session_is_not_replayed(fleet: Replicas) -> None:
    async with fleet.roaming(user="ann") as ann, fleet.roaming(user="eve") as eve:
        async with ann.posting(ann.request("tools/call", call("count", events=2))) as stream:
            await messages_of(stream)
        seen = [event.id for event in stream.seen if event.id is not None]
        for number in range(3):
            async with eve.at(number).get_stream(seen[0]) as stolen:
                assert stolen.status == 400 or stolen.status == 404
            async with ann.at(number).get_stream(seen[0], in_reply_to="tools/call") as own:
                assert len(await messages_of(own)) > 0


async def test_bytes_that_are_no_session_are_refused_alike_everywhere(fleet: Replicas) -> None:
    client = fleet.roaming()
    for session in ("no-such-session", "x" * 300, "~!", "p:s:{1}"):
        client.session = session
        for number in range(3):
            assert (await client.at(number).post(encode(client.request("ping")))).status == 404

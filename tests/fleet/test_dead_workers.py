# SPDX-License-Identifier: MIT
"""Workers that are killed or stand still: their clients hear something definite, and all other clients hear nothing."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack, nullcontext
from typing import Any

import anyio
import pytest
from rawclient import Closed, RawClient, Stream, encode
from replicas import LIMIT, Replicas, Roaming
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]

FAILOVER = 6.0  # seconds from the death of a worker until its clients hear something definite
KILLS = 8  # of the long test
TRIES = 3  # of each: a machine that stands still for a second does not do it at each of them
GONE = -32603


class Running:
    """A call at A with an open stream, in a session of its own."""

    def __init__(self, client: Roaming, request: Any, stream: Stream) -> None:
        self.client, self.request, self.stream = client, request, stream
        self.seen: list[Any] = []
        self.last_id = ""

    @property
    def id(self) -> Any:
        return self.request["id"]

    async def take(self, count: int) -> None:
        """Read this many messages."""
        while len(self.seen) < count:
            event = await self.stream.next_event()
            assert event is not None
            self.last_id = event.id or self.last_id
            if event.data:
                self.seen.append(event.json())

    async def breaks(self) -> None:
        """Read until the connection breaks: the worker is dead."""
        with pytest.raises((Closed, ConnectionError)):
            await self.take(1000)

    async def rest(self, number: int) -> list[Any]:
        """Come back at this worker, and read to the end."""
        async with self.client.at(number).get_stream(self.last_id, in_reply_to="tools/call") as stream:
            assert stream.status == 200
            return [event.json() async for event in stream if event.data]


async def began(stack: AsyncExitStack, fleet: Replicas, tool: str, take: int, at: int = 0, **arguments: Any) -> Running:
    client = fleet.roaming()
    await client.initialize({"elicitation": {}})
    request = client.request("tools/call", call(tool, **arguments))
    running = Running(client, request, await stack.enter_async_context(client.at(at).posting(request)))
    await running.take(take)
    return running


def numbers(messages: list[Any]) -> list[int]:
    return [one["params"]["data"] for one in messages if one.get("method") == "notifications/message"]


async def test_a_worker_is_killed_in_the_middle_of_everything(fleet: Replicas) -> None:
    async with AsyncExitStack() as stack:
        # Four calls: one was read in part, one not at all, one waits for an answer, one is read at another worker.
        half = await began(stack, fleet, "stream", 3, label="half", events=8)
        fresh = await began(stack, fleet, "stream", 0, label="fresh", events=5)
        asked = await began(stack, fleet, "ask", 1, label="asked")
        elsewhere = await began(stack, fleet, "stream", 1, label="elsewhere", events=4)
        other = await stack.enter_async_context(elsewhere.client.at(1).get_stream(elsewhere.last_id))
        listener = fleet.roaming()
        await listener.initialize()
        own = await stack.enter_async_context(listener.at(0).get_stream())
        # One that has nothing to do with A.
        bystander = await began(stack, fleet, "stream", 2, at=1, label="bystander", events=2)
        fleet[2].tell("notify tools")
        assert (await own.next_message())["method"] == "notifications/tools/list_changed"
        for label in ("half", "fresh", "elsewhere"):
            await fleet[0].line(f"began {label}")
        await fresh.take(1)

        fleet[0].kill()
        for one in (half, fresh, asked):
            await one.breaks()
        assert (await bystander.client.at(2).call("ping")).result == {}
        # The answer to a question that nothing waits for is no error of the client.
        question = next(one for one in asked.seen if "method" in one)
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert (await asked.client.at(1).post(answer)).status == 202

        for one, events in ((half, 8), (fresh, 5)):
            rest = await one.rest(2)
            assert numbers(one.seen) + numbers(rest) == [*range(events)]
            assert_is_gone(one, rest)
        assert_is_gone(asked, await asked.rest(1))
        moved = [event.json() async for event in other if event.data]
        assert numbers(elsewhere.seen) + numbers(moved) == [0, 1, 2, 3]
        assert_is_gone(elsewhere, moved)

        # The session's own stream goes on at another worker; the client is told that it may have missed something.
        last = next(event.id for event in reversed(own.seen) if event.id)
        async with listener.at(1).get_stream(last) as again:
            assert again.status == 200
            fleet[2].tell("notify prompts")
            methods = []
            while not methods or methods[-1] != "notifications/prompts/list_changed":
                methods.append((await again.next_message())["method"])

        fleet[1].tell("release bystander")
        rest_of_it = [event.json() async for event in bystander.stream if event.data]
        assert [one["id"] for one in rest_of_it] == [bystander.id]
        assert rest_of_it[0]["result"]["content"][0]["text"] == "bystander released"
        # The sessions live on, and a call that died can be made again.
        for one in (half, fresh, asked, elsewhere):
            again_called = await one.client.at(2).call("tools/call", call("echo", text="again"), id=one.id)
            assert again_called.result["content"][0]["text"] == "again"


def assert_is_gone(one: Running, rest: list[Any]) -> None:
    """The last message is an error for the call, and the only answer to it."""
    answers = [message for message in (*one.seen, *rest) if "method" not in message]
    assert [answer["id"] for answer in answers] == [one.id]
    assert answers[0]["error"]["code"] == GONE
    assert rest[-1] == answers[0]


async def test_a_call_that_sent_nothing_ends_with_its_connection(fleet: Replicas) -> None:
    """Without an event, a client has no id to come back with: it calls again."""
    async with fleet.roaming() as client:
        request = client.request("tools/call", call("hold", label="silent"))
        async with RawClient(fleet[0].port, limit=LIMIT) as connection:
            await connection.send_request("POST", "/mcp", client.headers_for(request), encode(request))
            await fleet[0].line("began silent")
            fleet[0].kill()
            with pytest.raises((Closed, ConnectionError)):
                await connection.receive("POST")
        assert (await client.at(1).call("tools/call", call("echo", text="x"), id=request["id"])).status == 200
        client.at(1)  # the block deletes the session there


async def test_a_worker_that_stands_still_counts_as_dead_and_cannot_write_afterwards(fleet: Replicas) -> None:
    async with AsyncExitStack() as stack:
        client = await began(stack, fleet, "stream", 1, label="still", events=1)
        reader = await stack.enter_async_context(client.client.at(1).get_stream(client.last_id))
        bystander = await began(stack, fleet, "stream", 1, at=2, label="other", events=1)
        with fleet[0].stopped():
            messages = [event.json() async for event in reader if event.data]
            assert_is_gone(client, messages)
            assert (await client.client.at(2).call("ping")).result == {}
        # It goes on, and finishes the call; the stream that was ended stays as it is.
        fleet[0].tell("release still")
        for number in range(3):
            assert (await client.client.at(number).call("ping")).result == {}
            rest = await client.rest(number)
            assert [message.get("id") for message in rest] == [client.id]
            assert rest[0]["error"]["code"] == GONE
        fleet[0].tell("notify tools")
        fleet[2].tell("release other")
        answers = [event.json() async for event in bystander.stream if event.data]
        assert [one["result"]["content"][0]["text"] for one in answers] == ["other released"]
        async with client.client.at(1).get_stream() as own:  # signals from it are heard again
            fleet[0].tell("notify prompts")
            heard = []
            while not heard or heard[-1] != "notifications/prompts/list_changed":
                heard.append((await own.next_message())["method"])


@pytest.mark.long
async def test_the_clients_of_a_dead_worker_hear_within_six_seconds(fleet: Replicas, capsys: Any) -> None:
    took: dict[str, list[float]] = {"kill": [], "stop": []}
    for turn in range(KILLS):
        kind = ("kill", "stop")[turn % 2]
        tries = [await time_until_told(fleet, kind, turn, 0)]
        while min(tries) >= FAILOVER and len(tries) < TRIES:
            tries.append(await time_until_told(fleet, kind, turn, len(tries)))
        took[kind].append(min(tries))
    with capsys.disabled():
        for kind, seconds in took.items():
            median, most = statistics.median(seconds), max(seconds)
            print(f"\n{type(fleet.store).__name__}: after {kind}, {median:.2f} s in the middle, {most:.2f} s at most")
    assert max(took["kill"] + took["stop"]) < FAILOVER


async def time_until_told(fleet: Replicas, kind: str, turn: int, number: int) -> float:
    """Seconds from the death of a worker until a client of it, which reads elsewhere, is told."""
    async with AsyncExitStack() as stack:
        running = await began(stack, fleet, "stream", 1, label=f"turn{turn}.{number}", events=1)
        reader = await stack.enter_async_context(running.client.at(1).get_stream(running.last_id))
        await reader.next_event()
        await asyncio.sleep(turn * 0.13)  # another moment between two heartbeats each time
        began_at = time.monotonic()
        with fleet[0].stopped() if kind == "stop" else nullcontext():
            if kind == "kill":
                fleet[0].kill()
            messages = [event.json() async for event in reader if event.data]
            took = time.monotonic() - began_at
        assert_is_gone(running, messages)
    await anyio.to_thread.run_sync(fleet.revive)
    return took

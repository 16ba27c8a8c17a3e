# SPDX-License-Identifier: MIT
"""A client is told of each question that it need not answer any more, however the wait for the answer ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
import wire
from pipes_support import piped
from rawclient import JSON_TYPE, LIMIT, Legacy, Stream
from serving import turns
from sessions_support import LEGACY_HTTP, SOON, GatedStore, Tools, call, quiet, rest, said

from mcp_h11 import Context, ListRoots, MCPServer, Sample, listening

pytestmark = pytest.mark.anyio
__all__ = ["quiet"]

ABLE = {"sampling": {}, "roots": {}}
ROOTS = {"roots": [{"uri": "file:///home"}]}


class Asked(Legacy):
    """A client that may be asked, and answers when the test says so."""

    async def __aenter__(self) -> Asked:
        await self.initialize(ABLE)
        return self

    async def reply(self, question: dict[str, Any], **answer: Any) -> None:
        assert (await self.post({"jsonrpc": "2.0", "id": question["id"], **answer})).status == 202

    async def cancel(self, request_id: str | int) -> None:
        assert (await self.notify("notifications/cancelled", {"requestId": request_id})).status == 202


async def three(ctx: Context) -> str:
    found = await ctx.ask(a=Sample("?"), b=ListRoots(), c=Sample("!"))
    return str(sorted(found))


def void(*questions: dict[str, Any], reason: str) -> list[dict[str, Any]]:
    """The notices that these questions need no answer."""
    return [
        {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"requestId": question["id"], "reason": reason},
        }
        for question in questions
    ]


async def messages(stream: Stream, count: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(count):
        message = await stream.next_message()
        assert message is not None
        found.append(message)
    return found


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_the_questions_of_a_cancelled_call_are_void_but_not_those_with_an_answer(revision: str) -> None:
    async with listening(Tools(three=three), port=0) as server, Asked(server.port, revision) as client:
        async with client.posting(call("three", id="c")) as stream:
            first, second, third = await messages(stream, 3)
            await client.reply(second, result=ROOTS)
            await client.cancel("c")
            assert await messages(stream, 2) == void(first, third, reason="cancelled")
            assert await rest(stream) == [], "the stream ends, and with no answer"
        await client.reply(first, result={})  # too late, and no error


@pytest.mark.parametrize("revision", [wire.A, *LEGACY_HTTP])
async def test_on_a_pipe_a_cancelled_call_takes_its_question_back(revision: str) -> None:
    server = MCPServer()
    server.add_tool(asks, "asks")
    async with piped(server) as client:
        await client.initialize(revision, {"roots": {}})
        client.call(7, "asks")
        question = await client.receive()
        client.notify("notifications/cancelled", requestId=7)
        assert [await client.receive()] == void(question, reason="cancelled")
        client.request(8, "ping")
        assert await client.result(8) == {}, "the cancelled call has no answer"


async def asks(ctx: Context) -> str:
    return str(await ctx.list_roots())


async def test_beside_a_refused_question_the_others_are_void() -> None:
    async with listening(Tools(three=three), port=0) as server, Asked(server.port, wire.D) as client:
        async with client.posting(call("three")) as stream:
            first, second, third = await messages(stream, 3)
            await client.reply(third, error={"code": -1, "message": "no"})
            assert await messages(stream, 2) == void(first, second, reason="another question was refused")
            assert (await stream.next_message())["error"]["code"] == -1


async def test_when_the_time_is_over_only_open_questions_are_void() -> None:
    async with (
        listening(Tools(three=three), port=0, ask_timeout=SOON) as server,
        Asked(server.port, wire.D) as client,
        client.posting(call("three")) as stream,
    ):
        # The client answers none: an answer could come after the time, on a busy machine.
        questions = await messages(stream, 3)
        assert await messages(stream, 3) == void(*questions, reason="timed out")
        assert (await stream.next_message())["result"]["isError"] is True


@pytest.mark.parametrize("slow", [False, True])
async def test_a_question_that_the_tool_itself_gives_up_is_void_before_the_tool_goes_on(slow: bool) -> None:
    """Also where the notice has to wait: a cancel scope breaks off each wait of the tool, but not this one."""
    scope = anyio.CancelScope()
    store = GatedStore()

    async def impatient(ctx: Context) -> str:
        with scope:
            await ctx.sample("?")
        await ctx.info("went on")
        return "done"

    handler = Tools(impatient=impatient)
    async with listening(handler, port=0, event_store=store) as server, Asked(server.port, wire.D) as client:
        async with client.posting(call("impatient")) as stream:
            question = await stream.next_message()
            assert question["method"] == "sampling/createMessage"
            if slow:
                store.hold()
            scope.cancel()
            if slow:
                with anyio.fail_after(LIMIT):
                    await store.kept.wait()
                await turns()
                store.gate.set()
            assert await messages(stream, 1) == void(question, reason="cancelled")
            assert await rest(stream) == ["went on", "done"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_a_question_on_the_sessions_stream_is_void_there(revision: str, before: bool) -> None:
    """Also where the client reads the stream only after its call has ended: it gets the question, and learns that."""
    running = asyncio.Event()

    async def sample(ctx: Context) -> str:
        running.set()
        return (await ctx.sample("?")).text

    async with listening(Tools(sample=sample), port=0, response="json") as server:
        async with Asked(server.port, revision) as client, AsyncExitStack() as stack:
            waiting = asyncio.ensure_future(client.post(call("sample", id="c")))
            if before:
                stream = await stack.enter_async_context(client.get_stream())
                question = await stream.next_message()
            with anyio.fail_after(LIMIT):
                await running.wait()
            await client.cancel("c")
            answer = await waiting
            assert (answer.content_type, answer.json()["error"]["code"]) == (JSON_TYPE, -32800)
            if not before:
                stream = await stack.enter_async_context(client.get_stream())
                question = await stream.next_message()
            assert question["method"] == "sampling/createMessage"
            assert await messages(stream, 1) == void(question, reason="cancelled")


@pytest.mark.parametrize("form", ["json", "events", "batch"])
async def test_a_question_after_the_answer_uses_the_sessions_stream(form: str) -> None:
    """A tool left a task behind that asks.  The exchange of its call has ended, in one form or another."""
    answered = asyncio.Event()
    tasks = []

    async def later(ctx: Context) -> None:
        with anyio.fail_after(LIMIT):
            await answered.wait()
        await ctx.sample("?")

    async def leaves(ctx: Context) -> str:
        tasks.append(asyncio.ensure_future(later(ctx)))
        if form != "json":
            await ctx.info("working")
        return "done"

    async with listening(Tools(leaves=leaves), port=0) as server, Asked(server.port, wire.B) as client:
        if form == "json":
            assert said((await client.post(call("leaves"))).json()) == "done"
        else:
            async with client.posting([call("leaves")] if form == "batch" else call("leaves")) as stream:
                assert await rest(stream) == ["working", "done"]
        async with client.get_stream() as stream:
            answered.set()
            question = await stream.next_message()
            assert question["method"] == "sampling/createMessage"
            tasks[0].cancel()
            assert await messages(stream, 1) == void(question, reason="cancelled")


async def test_the_end_of_the_session_says_nothing_more_on_its_streams() -> None:
    async with listening(Tools(three=three), port=0) as server, Asked(server.port, wire.D) as client:
        async with client.posting(call("three")) as stream, client.get_stream() as own:
            await messages(stream, 3)
            assert (await client.delete()).status == 204
            assert await rest(stream) == [] and await rest(own) == []
        client.session_id = None

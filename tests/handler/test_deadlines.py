# SPDX-License-Identifier: MIT
"""Calls that take too long: what the client gets, in both eras and on stdio, and what is left of the call."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock
from rawclient import LIMIT, Legacy, Modern
from serving import LEGACY, call, served, turns

from mcp_h11 import Context, MCPServer, ServerHandler, Settings
from mcp_h11.handler.deadlines import CLEANUP_TIME
from mcp_h11.runtime.runtime import Runtime
from mcp_h11.server.stdio import Pipe

pytestmark = pytest.mark.anyio

SHORT = 0.05
LONG = 20 * LIMIT


class Slow(MCPServer):
    """Tools that end only when the test says so, or never."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.released = asyncio.Event()
        self.cancelled = 0
        self.ignored = 0
        self.unblocked = threading.Event()
        for tool in (self.hold, self.deaf, self.swallow, self.block, self.quick, self.step, self.ask):
            self.add_tool(tool, name=tool.__name__)
        self.add_tool(self.hold, name="patient", timeout=math.inf)
        self.add_tool(self.hold, name="hasty", timeout=SHORT)
        self.add_resource("slow://x", self.hold)
        self.add_prompt(self.hold, name="slow")

    async def hold(self, ctx: Context) -> str:
        await ctx.info("began")  # a legacy client, which need not ask, has the head of its answer now
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "released"

    async def deaf(self, ctx: Context) -> str:
        await ctx.info("began")
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:  # noqa: PERF203 - it is the point
                self.ignored += 1
        return "much later"

    async def swallow(self) -> str:
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            pass
        return "too late"

    def block(self) -> str:
        assert self.unblocked.wait(LIMIT)
        return "unblocked"

    async def quick(self) -> str:
        return "quick"

    async def step(self, ctx: Context, steps: int, every: float, rising: bool = True) -> str:
        for number in range(steps):
            await asyncio.sleep(every)
            await ctx.report_progress(number if rising else 0)
        return "stepped"

    async def ask(self, ctx: Context, after: float = 0.0) -> str:
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {}})
        await asyncio.sleep(after)
        return str(answer.action)


def said(result: dict[str, Any]) -> tuple[bool, str]:
    return bool(result.get("isError")), result["content"][0]["text"]


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    handler = Slow()
    yield handler
    handler.released.set()
    handler.unblocked.set()


@pytest.fixture(params=["legacy", "modern"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def client(era: str, port: int) -> Any:
    return Legacy(port, LEGACY) if era == "legacy" else Modern(port)


async def begin(one: Any) -> None:
    if isinstance(one, Legacy):
        await one.initialize({"elicitation": {}})


async def decline(one: Legacy, question: dict[str, Any]) -> None:
    await one.post({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})


async def cancel_in_session(one: Legacy, tool: str) -> None:
    """Begin a session and a call, and cancel the call, which then has no result."""
    await begin(one)
    async with one.posting(one.request("tools/call", call(tool), id="x")) as stream:
        await one.notify("notifications/cancelled", {"requestId": "x"})
        assert not [m for m in (await stream.read()).messages() if "result" in m]


async def test_calls_have_no_deadline_unless_one_is_set(slow: Slow) -> None:
    assert Settings().call_timeout is None and Settings().call_ceiling == 3600
    assert slow.timeouts == {"patient": math.inf, "hasty": SHORT}


async def test_a_tool_that_takes_too_long_is_cancelled_and_says_so(slow: Slow, era: str) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        one = client(era, server.port)
        await begin(one)
        answer = await one.call("tools/call", call("hold"))
        assert answer.status == 200
        assert said(answer.result) == (True, f"Timed out after {SHORT:g} s")
        assert slow.cancelled == 1
        assert said((await one.call("tools/call", call("quick"))).result) == (False, "quick")


@pytest.mark.parametrize(
    ("method", "params"), [("resources/read", {"uri": "slow://x"}), ("prompts/get", {"name": "slow"})]
)
async def test_another_request_that_takes_too_long_is_an_internal_error(
    slow: Slow, era: str, method: str, params: dict[str, Any]
) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        one = client(era, server.port)
        await begin(one)
        answer = await one.call(method, params)
        assert answer.error == {"code": -32603, "message": f"Timed out after {SHORT:g} s"}
        assert slow.cancelled == 1


async def test_a_tool_may_have_a_time_of_its_own(slow: Slow, era: str) -> None:
    async with served(slow) as server:
        one = client(era, server.port)
        await begin(one)
        assert said((await one.call("tools/call", call("hasty"))).result) == (True, f"Timed out after {SHORT:g} s")
        async with anyio.create_task_group() as tasks:
            answers: list[Any] = []

            async def patient() -> None:
                answers.append(await one.call("tools/call", call("hold")))

            tasks.start_soon(patient)
            await asyncio.sleep(2 * SHORT)
            assert not answers
            slow.released.set()
        assert said(answers[0].result) == (False, "released")


@on_a_still_clock
async def test_a_tool_may_be_without_limit_where_others_have_one(slow: Slow) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        loop = asyncio.get_running_loop()
        loop.call_later(4 * SHORT, slow.released.set)
        assert said((await Modern(server.port).call("tools/call", call("patient"))).result) == (False, "released")


def test_a_timeout_of_nothing_is_refused() -> None:
    server = MCPServer("x")
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="timeout"):
            server.add_tool(lambda: "x", name="x", timeout=wrong)
    with pytest.raises(ValueError, match="call_timeout"):
        Settings(call_timeout=0)
    with pytest.raises(ValueError, match="call_ceiling"):
        Settings(call_ceiling=0)
    server.add_tool(lambda: "x", name="x", timeout=1)
    server.remove_tool("x")
    assert not server.timeouts


@on_a_still_clock
async def test_progress_gives_a_call_its_whole_time_again(slow: Slow, era: str) -> None:
    # 6 steps of 0.1 s are three times what it may take without a word; nobody has asked to be told.
    async with served(slow, call_timeout=0.2) as server:
        one = client(era, server.port)
        await begin(one)
        answer = await one.call("tools/call", call("step", steps=6, every=0.1))
        assert said(answer.result) == (False, "stepped")


@on_a_still_clock
async def test_progress_that_does_not_rise_is_none(slow: Slow) -> None:
    async with served(slow, call_timeout=0.2) as server:
        answer = await Modern(server.port).call("tools/call", call("step", steps=40, every=0.02, rising=False))
        assert said(answer.result) == (True, "Timed out after 0.2 s")


@on_a_still_clock
async def test_no_progress_gives_a_call_more_than_its_ceiling(slow: Slow, era: str) -> None:
    async with served(slow, call_timeout=0.2, call_ceiling=0.3) as server:
        one = client(era, server.port)
        await begin(one)
        loop = asyncio.get_running_loop()
        began = loop.time()
        answer = await one.call("tools/call", call("step", steps=1000, every=0.02))
        assert said(answer.result) == (True, "Timed out: it took longer than 0.3 s")
        assert 0.3 <= loop.time() - began < 0.4


@on_a_still_clock
async def test_who_gives_a_tool_more_than_the_ceiling_means_it(slow: Slow) -> None:
    slow.add_tool(slow.step, name="long", timeout=0.4)
    slow.add_tool(slow.ask, name="question", timeout=LIMIT)
    async with served(slow, call_ceiling=0.1) as server:
        answer = await Modern(server.port).call("tools/call", call("long", steps=2, every=0.1))
        assert said(answer.result) == (False, "stepped")
        one = Legacy(server.port, LEGACY)
        await begin(one)
        async with one.posting(one.request("tools/call", call("question", after=SHORT))) as stream:
            question = await stream.next_message()
            await asyncio.sleep(0.2)
            await decline(one, question)
            assert said((await stream.next_message())["result"]) == (False, "decline")


async def test_a_call_that_ignores_its_cancellation_is_answered_all_the_same(
    slow: Slow, era: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        one = client(era, server.port)
        await begin(one)
        began = time.monotonic()
        answer = await one.call("tools/call", call("deaf"))
        assert said(answer.result) == (True, f"Timed out after {SHORT:g} s")
        assert CLEANUP_TIME <= time.monotonic() - began < LIMIT
        assert slow.ignored == 1
        assert server.runtime.gate.inside == 1  # it still runs, so it keeps its place
        slow.released.set()
        await turns()
        assert server.runtime.gate.inside == 0
    assert [r.getMessage() for r in caplog.records if "ignores" in r.getMessage()] == [
        "tools/call 'deaf' ignores its cancellation; its answer will be dropped"
    ]


async def test_an_answer_that_comes_of_the_cancellation_is_too_late(slow: Slow, era: str) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        one = client(era, server.port)
        await begin(one)
        answer = await one.call("tools/call", call("swallow"))
        assert said(answer.result) == (True, f"Timed out after {SHORT:g} s")
        assert not answer.notifications  # nor is there another answer, which the helper would not take


async def test_a_blocked_thread_does_not_keep_the_client_waiting(slow: Slow) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        began = time.monotonic()
        answer = await Modern(server.port).call("tools/call", call("block"))
        assert said(answer.result) == (True, f"Timed out after {SHORT:g} s")
        assert time.monotonic() - began < CLEANUP_TIME
        slow.unblocked.set()


@on_a_still_clock
async def test_the_time_a_person_takes_to_answer_does_not_count(slow: Slow) -> None:
    async with served(slow, call_timeout=0.2) as server:
        one = Legacy(server.port, LEGACY)
        await begin(one)
        async with one.posting(one.request("tools/call", call("ask", after=0.1))) as stream:
            question = await stream.next_message()
            assert question["method"] == "elicitation/create"
            await asyncio.sleep(0.4)
            await decline(one, question)
            assert said((await stream.next_message())["result"]) == (False, "decline")
        async with one.posting(one.request("tools/call", call("ask", after=0.4))) as stream:
            await decline(one, await stream.next_message())
            # From the answer on it does.
            assert said((await stream.next_message())["result"]) == (True, "Timed out after 0.2 s")


async def test_a_client_that_cancels_a_call_with_a_deadline_cancels_it(slow: Slow) -> None:
    async with served(slow, call_timeout=LONG) as server:
        await cancel_in_session(Legacy(server.port, LEGACY), "hold")
        assert slow.cancelled == 1


async def test_a_deaf_call_that_the_client_cancels_gives_its_exchange_back(
    slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(slow) as server:
        one = Legacy(server.port, LEGACY)
        await cancel_in_session(one, "deaf")
        assert slow.ignored == 1
        slow.released.set()
        await turns()
        assert said((await one.call("tools/call", call("quick"))).result) == (False, "quick")
    assert any("tools/call ignores its cancellation" in r.getMessage() for r in caplog.records)


async def test_shutdown_cancels_what_was_left_behind(slow: Slow) -> None:
    async with served(slow, call_timeout=SHORT, grace=0) as server:
        await Modern(server.port).call("tools/call", call("deaf"))
        assert len(server.runtime.tasks) == 1

        asyncio.get_running_loop().call_later(SHORT, slow.released.set)
    assert slow.ignored >= 2


class Bare(ServerHandler):
    """A handler that is no MCPServer."""

    async def list_tools(self, params: Any, ctx: Any) -> Any:
        await asyncio.sleep(LONG)

    async def call_tool(self, params: Any, ctx: Any) -> Any:
        await asyncio.sleep(LONG)


async def test_any_handler_has_the_deadline_of_the_settings(era: str) -> None:
    async with served(Bare(), call_timeout=SHORT) as server:  # type: ignore[arg-type]
        one = client(era, server.port)
        await begin(one)
        assert (await one.call("tools/list")).error["code"] == -32603
        assert said((await one.call("tools/call", call("any"))).result)[0]


@on_a_still_clock
async def test_without_a_ceiling_progress_and_people_have_all_the_time(slow: Slow) -> None:
    async with served(slow, call_timeout=0.2, call_ceiling=None) as server:
        answer = await Modern(server.port).call("tools/call", call("step", steps=6, every=0.1))
        assert said(answer.result) == (False, "stepped")
        one = Legacy(server.port, LEGACY)
        await begin(one)
        async with one.posting(one.request("tools/call", call("ask"))) as stream:
            question = await stream.next_message()
            await asyncio.sleep(0.4)
            await decline(one, question)
            assert said((await stream.next_message())["result"]) == (False, "decline")


async def test_a_client_that_leaves_while_a_call_cleans_up_leaves_nothing(slow: Slow) -> None:
    async with served(slow, call_timeout=SHORT) as server:
        one = Legacy(server.port, LEGACY)
        await begin(one)
        async with one.posting(one.request("tools/call", call("deaf"), id="x")) as stream:
            with anyio.fail_after(LIMIT):
                while not slow.ignored:  # its time is over, and it has a moment to clean up
                    await turns()
            await one.notify("notifications/cancelled", {"requestId": "x"})
            assert not [m for m in (await stream.read()).messages() if "id" in m]
        slow.released.set()
        await turns()
        assert not server.runtime.tasks and server.runtime.gate.inside == 0


@on_a_still_clock
async def test_progress_while_a_person_is_asked_does_not_start_the_clock(slow: Slow) -> None:
    @slow.tool
    async def both(ctx: Context) -> str:
        async def tell() -> None:
            await asyncio.sleep(0.1)
            await ctx.report_progress(1)

        told, answer = await asyncio.gather(tell(), ctx.elicit("?", {"type": "object", "properties": {}}))
        return str(answer.action)

    async with served(slow, call_timeout=0.2) as server:
        one = Legacy(server.port, LEGACY)
        await begin(one)
        async with one.posting(one.request("tools/call", call("both"))) as stream:
            question = await stream.next_message()
            await asyncio.sleep(0.5)
            await decline(one, question)
            assert said((await stream.next_message())["result"]) == (False, "decline")


# --- stdio -------------------------------------------------------------------------------------------------------


class Written:
    """What a pipe writes, line by line."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.loop = asyncio.get_running_loop()
        self.more = asyncio.Event()

    def write(self, data: Any) -> int:
        self.lines += bytes(data).splitlines()
        self.loop.call_soon_threadsafe(self.more.set)
        return len(data)

    def flush(self) -> None:
        pass

    async def messages(self, count: int) -> list[Any]:
        with anyio.fail_after(LIMIT):
            while len(self.lines) < count:
                self.more.clear()
                await self.more.wait()
        return [json.loads(line) for line in self.lines]


async def test_calls_on_stdio_have_deadlines_as_well(slow: Slow) -> None:
    async with Runtime(slow, Settings(call_timeout=SHORT)) as runtime:
        out = Written()
        pipe = Pipe(runtime, out)  # type: ignore[arg-type]
        old = Legacy(0, LEGACY)
        pipe.take_line(json.dumps(old.request("initialize", {
            "protocolVersion": LEGACY, "clientInfo": {"name": "x", "version": "0"}, "capabilities": {},
        }, id=0)).encode())  # fmt: skip
        for id, name in enumerate(("hold", "deaf"), 1):
            pipe.take_line(json.dumps(old.request("tools/call", call(name), id=id)).encode())
        for id, name in enumerate(("hold", "deaf"), 3):
            pipe.take_line(json.dumps(Modern(0).request("tools/call", call(name), id=id)).encode())
        answers = {message["id"]: message for message in await out.messages(7) if "id" in message}
        assert sorted(answers) == [0, 1, 2, 3, 4]
        for id in (1, 2, 3, 4):
            assert said(answers[id]["result"]) == (True, f"Timed out after {SHORT:g} s")
        slow.released.set()
        await turns()
        await pipe.close()
        assert len(out.lines) == 7


# --- what blocks the loop ----------------------------------------------------------------------------------------

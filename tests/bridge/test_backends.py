# SPDX-License-Identifier: MIT
"""A backend is swapped while clients use it: no call is lost or runs twice, and sessions follow the chosen mode."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock
from ports import free_port
from rawclient import LIMIT, Legacy, Modern, ProtocolError
from serving import LEGACY, Held, call, served
from test_proxy import ERAS, client

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.bridge.generations import MAX_BACKENDS, MAX_DRAINING, Generation
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.bridge.supervisor import Supervisor
from mcp_h11.client.targets import Command, Url
from mcp_h11.protocol.errors import MCPError

pytestmark = pytest.mark.anyio

SWAPS, CALLERS = 200, 50
SERVER = str(Path(__file__).resolve().parents[1] / "support" / "legacy_server.py")


class Named(Held):
    """A backend with a tool that gives the name of the backend."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.add_tool(self.who, name="who")

    async def who(self) -> str:
        return self.name


@asynccontextmanager
async def bridge(backend: Any, **options: Any) -> AsyncIterator[Any]:
    async with served(ProxyHandler(backend, **options), health=True) as front:  # type: ignore[arg-type]
        yield front


async def initialized(front: Any) -> Legacy:
    c = Legacy(front.port, LEGACY)
    await c.initialize()
    return c


async def who(c: Any) -> str:
    return str((await c.call("tools/call", call("who"))).result["content"][0]["text"])


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_migrated_sessions_go_on_and_are_told_what_changed() -> None:
    async with bridge(Named("one")) as front:
        c = await initialized(front)
        async with c.get_stream() as stream:
            assert await who(c) == "one"
            await front.runtime.handler.swap(Named("two"), "migrate")
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            assert await who(c) == "two"


@pytest.mark.parametrize("modern", [False, True])
async def test_invalidated_sessions_are_404_and_their_clients_come_back(modern: bool) -> None:
    async with bridge(Named("one")) as front:
        c = await initialized(front)
        assert await who(c) == "one"
        await front.runtime.handler.swap(Named("two"), "invalidate")
        assert (await c.post(c.request("ping"))).status == 404
        async with c.client() as raw:
            fields = {**c.headers_for(None), "Accept": "text/event-stream"}
            assert (await raw.request("GET", "/mcp", fields)).status == 404
        async with c.client() as raw:
            assert (await raw.request("GET", "/mcp", {**fields, "Last-Event-ID": "x.1"})).status == 404
        again: Any = Modern(front.port) if modern else await initialized(front)
        assert await who(again) == "two"


@on_a_still_clock
async def test_draining_sessions_keep_the_old_backend_for_their_time_and_no_longer() -> None:
    async with bridge(Named("one"), drain_time=0.3) as front:
        c = await initialized(front)
        await front.runtime.handler.swap(Named("two"))
        assert await who(c) == "one"
        assert await who(await initialized(front)) == "two"
        assert await who(Modern(front.port)) == "two"
        with anyio.fail_after(LIMIT):
            while front.runtime.handler._generations.draining:
                await anyio.sleep(0.02)
        assert (await c.post(c.request("ping"))).status == 404


@pytest.mark.parametrize("sessions", ["drain", "invalidate", "migrate"])
@pytest.mark.parametrize("per_session", [False, True])
async def test_who_listens_without_a_session_goes_on_with_the_new_backend(sessions: str, per_session: bool) -> None:
    old, new = Named("old"), Named("new")
    async with bridge(old, per_session=per_session) as front:
        session, listener = await initialized(front), Modern(front.port)
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["test://x"]}
        async with session.get_stream() as to_session, listener.listen(**wanted) as stream:
            await stream.next_message()
            handler = front.runtime.handler
            with anyio.fail_after(LIMIT):
                while not any(backend.interests.uris for backend in handler._generations.now.backends):
                    await anyio.sleep(0.01)
            await handler.swap(new, sessions)
            kinds = []
            while "notifications/resources/updated" not in kinds:
                kinds.append((await stream.next_message())["method"])
            assert kinds[0] == "notifications/tools/list_changed"
            if sessions == "drain":  # the session still has the old backend
                with pytest.raises(TimeoutError):
                    await to_session.next_message(0.1)


@pytest.mark.parametrize("sessions", ["drain", "invalidate", "migrate"])
async def test_what_runs_ends_on_the_old_backend(sessions: str) -> None:
    old = Named("one")
    async with bridge(old) as front:
        c = await initialized(front)
        answers: list[Any] = []

        async def hold() -> None:
            answers.append(await c.call("tools/call", call("hold")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await old.until(started=1)
            await front.runtime.handler.swap(Named("two"), sessions)
            assert await who(Modern(front.port)) == "two"
            old.released.set()
        assert answers[0].result["content"][0]["text"] == "hold released"


@pytest.mark.parametrize("era", ERAS)
async def test_what_runs_too_long_is_ended_and_its_client_told(era: str) -> None:
    old = Named("one")
    async with bridge(old, drain_time=0.1) as front, client(front, era) as c:
        async with anyio.create_task_group() as tasks:

            async def swap() -> None:
                await old.until(started=1)
                await front.runtime.handler.swap(Named("two"), "migrate")

            tasks.start_soon(swap)
            error = (await c.call("tools/call", call("hold"))).error
        assert error["code"] == -32603 and "replaced" in error["message"]
        await old.until(cancelled=1)


async def test_swapped_for_none_it_is_503_until_there_is_another() -> None:
    async with bridge(Named("one")) as front:
        handler = front.runtime.handler
        c, gone = await initialized(front), await initialized(front)
        await handler.swap(None, "migrate")
        assert (await c.post(c.request("ping"))).status == 503
        async with c.client() as ops:
            ready = await ops.request("GET", "/ready")
            assert (ready.status, ready.json()["reasons"]) == (503, ["no backend"])
        await handler.swap(Named("two"), "migrate")
        assert await who(c) == "two"
        await handler.swap(None, "invalidate")
        await handler.swap(Named("three"), "migrate")
        # An invalidated session stays invalid after the next swap.
        assert (await gone.post(gone.request("ping"))).status == 404


async def test_a_backend_that_cannot_be_connected_changes_nothing() -> None:
    async with bridge(Named("one"), start_time=2.0) as front:
        c = await initialized(front)
        with pytest.raises(MCPError):
            await front.runtime.handler.swap(Url("http://127.0.0.1:1/mcp"), "invalidate")
        assert await who(c) == "one"
        with pytest.raises(ValueError, match="sessions"):
            await front.runtime.handler.swap(Named("two"), "keep")


async def test_a_swap_to_what_cannot_be_started_fails_at_once() -> None:
    async with bridge(Named("one")) as front:
        with anyio.fail_after(LIMIT):
            with pytest.raises(MCPError, match="/nowhere/such"):
                await front.runtime.handler.swap(Command(["/nowhere/such"]))
        assert await who(await initialized(front)) == "one"


async def test_several_swaps_at_once_follow_each_other() -> None:
    async with bridge(Named("0")) as front:
        handler = front.runtime.handler
        c = await initialized(front)
        async with anyio.create_task_group() as tasks:
            for number in range(1, 6):
                tasks.start_soon(handler.swap, Named(str(number)), "migrate")
        assert await who(c) == "5"
        with anyio.fail_after(LIMIT):
            while handler._generations.draining:
                await anyio.sleep(0.01)


async def test_what_old_and_new_say_reaches_their_own_sessions_only() -> None:
    old, new = Named("old"), Named("new")
    async with bridge(old) as front:
        c = await initialized(front)
        await c.call("resources/subscribe", {"uri": "test://x"})
        await front.runtime.handler.swap(new, "drain")
        d = await initialized(front)
        await d.call("resources/subscribe", {"uri": "test://x"})
        listener = Modern(front.port)
        async with c.get_stream() as to_c, d.get_stream() as to_d, listener.listen(toolsListChanged=True) as to_all:
            await to_all.next_message()
            old.notify_tools_changed()
            old.notify_resource_updated("test://x")
            kinds = [(await to_c.next_message())["method"] for _ in range(2)]
            assert kinds == ["notifications/tools/list_changed", "notifications/resources/updated"]
            new.notify_tools_changed()
            assert (await to_d.next_message())["method"] == "notifications/tools/list_changed"
            assert (await to_all.next_message())["method"] == "notifications/tools/list_changed"
            for stream in (to_c, to_d, to_all):
                with pytest.raises(TimeoutError):
                    await stream.next_message(0.1)


async def test_a_backend_over_http_that_has_forgotten_its_session_is_a_swap_too() -> None:
    async with AsyncExitStack() as stack:
        port = free_port()
        async with listening(Named("one"), port=port) as first:
            front = await stack.enter_async_context(bridge(Url(first.url, revision=LEGACY)))
            c = await initialized(front)
            await c.call("resources/subscribe", {"uri": "test://x"})
            changes = await stack.enter_async_context(c.get_stream())
        async with listening(Named("two"), port=port):
            kinds = []
            while "notifications/resources/updated" not in kinds:
                kinds.append((await changes.next_message(2 * LIMIT))["method"])
            assert kinds[0] == "notifications/tools/list_changed"
            assert await who(c) == "two"
            assert (await initialized(front)).initialized["serverInfo"]["name"] == "two"


async def test_a_server_at_an_address_is_asked_again_until_it_is_there() -> None:
    port = free_port()
    url = Url(f"http://127.0.0.1:{port}/mcp")
    tries: list[float] = []

    class Eager(Supervisor):
        def failed(self, now: float) -> float:
            tries.append(super().failed(now))
            return 0.05

    async with bridge(url, supervisor=Eager) as front:
        with anyio.fail_after(LIMIT):
            while len(tries) < 8:  # more failures than a circuit breaker would allow
                await anyio.sleep(0.01)
        assert front.runtime.handler.readiness_problems() == ["backend away"]
        async with listening(Named("one"), port=port):
            with anyio.fail_after(LIMIT):
                while front.runtime.handler.readiness_problems():
                    await anyio.sleep(0.01)
            assert await who(Modern(front.port)) == "one"


async def test_with_a_backend_for_each_session_what_it_wanted_is_migrated_too() -> None:
    def command(name: str) -> Command:
        return Command([sys.executable, SERVER, "--name", name])

    async with bridge(command("one"), per_session=True) as front:
        c = await initialized(front)
        await c.call("logging/setLevel", {"level": "debug"})
        await c.call("resources/subscribe", {"uri": "test://x"})
        async with c.get_stream() as stream:
            await front.runtime.handler.swap(command("two"), "migrate")
            kinds = []
            while "notifications/resources/updated" not in kinds:
                kinds.append((await stream.next_message())["method"])
            assert kinds[0] == "notifications/tools/list_changed"
            said = json.loads((await c.call("tools/call", call("state"))).result["content"][0]["text"])
        assert (said["name"], said["levels"], said["subscribed"]) == ("two", ["debug"], ["test://x"])


async def test_a_swap_that_is_cancelled_leaves_nothing_behind() -> None:
    async with bridge(Named("one")) as front:
        with anyio.move_on_after(0.05):
            await front.runtime.handler.swap(Command([sys.executable, "-c", "import time; time.sleep(60)"]))
        assert await who(await initialized(front)) == "one"


async def test_nobody_s_handler_cannot_be_swapped() -> None:
    with pytest.raises(RuntimeError):
        await ProxyHandler(None).swap(Named("one"))


async def test_only_so_many_old_backends_keep_their_sessions() -> None:
    async with bridge(Named("0"), drain_time=30.0) as front:
        first = await initialized(front)
        for number in range(1, MAX_DRAINING + 2):
            if number == MAX_DRAINING + 1:
                assert await who(first) == "0"
            await initialized(front)
            await front.runtime.handler.swap(Named(str(number)))
        assert (await first.post(first.request("ping"))).status == 404


async def test_a_backend_that_serves_nobody_any_more_does_not_wait_for_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mcp_h11.bridge import generations

    monkeypatch.setattr(generations, "MAX_DRAINING", 1)
    async with bridge(Command([sys.executable, SERVER]), drain_time=60.0) as front:
        c = await initialized(front)
        pid = int((await c.call("tools/call", call("pid"))).result["content"][0]["text"])
        await front.runtime.handler.swap(Named("one"))
        os.kill(pid, 0)  # the child runs as long as its session
        await initialized(front)
        await front.runtime.handler.swap(Named("two"))
        with anyio.fail_after(LIMIT), pytest.raises(ProcessLookupError):
            while True:
                os.kill(pid, 0)
                await anyio.sleep(0.02)


# --- under load -------------------------------------------------------------------------------------------------------


class Counting(MCPServer):
    """Counts each call that it runs, in a counter that all instances share."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__("counting", version="1")
        self.seen = seen
        self.add_tool(self.work, name="work")

    async def work(self, label: str, ctx: Context) -> str:
        self.seen[label] += 1
        await asyncio.sleep(0.001)
        return label


@pytest.mark.long
@pytest.mark.parametrize("sessions", ["drain", "migrate", "invalidate"])
async def test_many_swaps_under_many_callers_lose_nothing_and_answer_nothing_twice(sessions: str) -> None:
    seen: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    swapping = True
    swaps = SWAPS if sessions == "migrate" else SWAPS // 4
    async with bridge(Counting(seen), drain_time=10 * LIMIT) as front:  # no call is cut for its time
        handler = front.runtime.handler

        async def modern(name: int) -> None:
            c = Modern(front.port)
            number = 0
            while swapping:
                label = f"m{name}.{number}"
                number += 1
                answer = await c.call("tools/call", call("work", label=label))
                assert answer.result["content"][0]["text"] == label
                answered[label] += 1

        async def attempt() -> Legacy | None:
            try:
                return await initialized(front)
            except ProtocolError as error:  # the session was outdated before its handshake was over
                assert sessions != "migrate" and "404" in str(error)
                return None

        async def begin() -> Legacy:
            while (c := await attempt()) is None:
                pass
            return c

        async def legacy(name: int) -> None:
            c = await begin()
            number = 0
            while swapping:
                label = f"l{name}.{number}"
                response = await c.post(c.request("tools/call", call("work", label=label)))
                if response.status == 404 and sessions != "migrate":
                    assert label not in seen  # refused before it began
                    c = await begin()
                    continue
                number += 1
                message = response.messages()[-1]
                assert "result" in message, f"{response.status} {message}"
                assert message["result"]["content"][0]["text"] == label
                answered[label] += 1

        # A busy machine takes its time for two hundred swaps, so each of them has a limit, and so has their end.
        async with anyio.create_task_group() as tasks:
            with anyio.fail_after(LIMIT) as limit:
                for name in range(CALLERS // 2):
                    tasks.start_soon(modern, name)
                    tasks.start_soon(legacy, name)
                for _ in range(swaps):
                    limit.deadline = anyio.current_time() + LIMIT
                    await handler.swap(Counting(seen), sessions)
                    # Leave the clients time to open new sessions before the next swap ends all of them.
                    await anyio.sleep(0 if sessions == "migrate" else 0.05)
                swapping = False
    assert answered == seen
    assert set(seen.values()) == {1} and len(seen) >= CALLERS


async def test_swaps_of_children_leave_none_behind() -> None:
    def command(name: str) -> Command:
        return Command([sys.executable, SERVER, "--name", name])

    async with bridge(command("0")) as front:
        c = await initialized(front)
        pids = set()
        for number in range(1, 6):
            pids.add(int((await c.call("tools/call", call("pid"))).result["content"][0]["text"]))
            await front.runtime.handler.swap(command(str(number)), "migrate")
            said = json.loads((await c.call("tools/call", call("state"))).result["content"][0]["text"])
            assert said["name"] == str(number)
    assert len(pids) == 5
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_there_are_so_many_backends_of_sessions_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.bridge import generations

    assert MAX_BACKENDS == 100
    monkeypatch.setattr(generations, "MAX_BACKENDS", 2)
    async with bridge(Named("one"), per_session=True) as front:
        a, b, c = [await initialized(front) for _ in range(3)]
        assert [await who(a), await who(b)] == ["one", "one"]
        assert "Too many backends" in (await c.call("tools/call", call("who"))).error["message"]
        await a.delete()
        with anyio.fail_after(LIMIT):
            while len(front.runtime.handler._generations.now.own) == 2:
                await anyio.sleep(0.05)
        assert await who(c) == "one"


async def test_one_client_leaves_backends_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.bridge import generations

    async def user_of(head: Any) -> str:
        return str(head.get("x-user"))

    def of(front: Any, user: str) -> Legacy:
        c = Legacy(front.port, LEGACY)
        c.extra_headers = {"X-User": user}
        return c

    monkeypatch.setattr(generations, "MAX_BACKENDS", 10)
    handler = ProxyHandler(Named("one"), per_session=True)
    async with served(handler, authorize=user_of) as front:  # type: ignore[arg-type]
        begun, had = [], 0
        while True:
            c = of(front, "ada")
            await c.initialize()
            begun.append(c)
            answer = await c.call("tools/call", call("who"))
            if "error" in answer.message:  # type: ignore[operator]
                break
            had += 1
        assert (had, "Too many backends" in answer.error["message"]) == (8, True)
        other = of(front, "bob")
        await other.initialize()
        assert await who(other) == "one"
        # The limit does not refuse the backends of a swap, though it refuses a new session.
        await handler.swap(Named("two"), "migrate")
        assert await who(other) == "two" and await who(begun[0]) == "two"
        for c in begun:
            await c.delete()
        with anyio.fail_after(LIMIT):
            while len(handler._generations.now.own) > 1:  # type: ignore[union-attr]
                await anyio.sleep(0.05)
        for _ in range(7):
            c = of(front, "bob")
            await c.initialize()
            assert await who(c) == "two"


@pytest.mark.long
async def test_memory_and_descriptors_are_flat_after_many_sessions() -> None:
    """A short form of the long run: memory that a session does not give back would show."""
    async with bridge(Named("one")) as front:

        async def session() -> None:
            c = await initialized(front)
            await c.call("resources/subscribe", {"uri": "test://x"})
            await who(c)
            await c.delete()

        handler = front.runtime.handler
        for _ in range(20):
            await session()
        descriptors = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
        for _ in range(200):
            await session()
        assert (
            not front.endpoint.legacy.sessions
            and not handler._generations.now.shared.runs
            and not handler._listening.log_sessions
        )
        assert handler._generations.now.running == 0 and len(handler._parking) == 0
        with anyio.fail_after(LIMIT):
            while handler._interests.uris:
                await anyio.sleep(0.05)
        if descriptors:
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 5


def test_a_generation_covers_its_sessions() -> None:
    generation = Generation.__new__(Generation)
    generation.low, generation.number = 2, 4
    assert [number for number in range(7) if generation.covers(number)] == [2, 3, 4]

# SPDX-License-Identifier: MIT
"""Faults of children behind the bridge: they exit, close pipes, write garbage, flood, or do not exit.

Also: the questions of a child that several clients share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, META, Legacy, Modern, RawClient
from serving import LEGACY, call, served
from test_proxy import ABLE, ERAS, MODERN, client, yes

from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.bridge.supervisor import Supervisor
from mcp_h11.client.targets import Command
from mcp_h11.client.transports import process
from mcp_h11.client.transports.errors import ConnectionLost
from mcp_h11.protocol.errors import MCPError

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
    pytest.mark.long,
]

SERVER = str(Path(__file__).resolve().parents[1] / "support" / "legacy_server.py")
SOON = 15.0  # seconds for an error after a death, which no timeout brings: the client sets none


def command(*more: str) -> Command:
    return Command([sys.executable, SERVER, *more])


def quick(**policy: Any) -> Any:
    """A supervisor that restarts a child almost at once."""
    return lambda: Supervisor(restart_min=0.01, restart_max=0.05, **policy)


@asynccontextmanager
async def bridge(*more: str, **options: Any) -> AsyncIterator[Any]:
    handler = ProxyHandler(command(*more), **{"supervisor": quick(), **options})
    async with served(handler, health=True) as front:  # type: ignore[arg-type]
        yield front


async def state(c: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await c.text("state"))
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie does not count as running.
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


async def until_gone(pid: int, limit: float = LIMIT) -> None:
    with anyio.fail_after(limit):
        while alive(pid):
            await anyio.sleep(0.02)


# --- death ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", ["die", "close_stdout"])
async def test_a_call_in_flight_gets_its_error_at_once_and_the_next_one_a_new_child(
    era: str, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tool == "die":
        monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    async with bridge() as front, client(front, era) as c:
        before = await c.text("pid")
        with anyio.fail_after(SOON):
            error = (await c.call("tools/call", call(tool))).error
        assert error["code"] == -32603
        if tool == "die":
            assert error["message"].endswith("which exited with code 3")
        after = await c.text("pid")
        assert after != before


@pytest.mark.parametrize("per_session", [False, True])
async def test_its_last_words_are_for_the_log_and_for_no_client(
    per_session: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LAST_WORDS_TIME", LIMIT)  # a busy machine tells later how it ended
    slow = {"supervisor": lambda: Supervisor(restart_min=20.0), "per_session": per_session}
    async with bridge(**slow) as front, client(front, LEGACY) as a, client(front, MODERN) as b:
        await a.text("flood", lines=20)
        for backend in front.runtime.handler._generations.now.backends:
            backend._hooks = replace(backend._hooks, wait_time=0.1)
        broken = (await a.call("tools/call", call("die", text="\x1b[2J"))).error["message"]
        # The stderr of a child may be about any of its clients, so that no client gets any of it.
        assert broken.endswith("which exited with code 3")
        again = await a.raw.post(a.raw.request("tools/call", call("echo", text="x")))
        c = b.raw
        refused = await c.post(c.request("tools/call", call("die" if per_session else "echo", text="x")))
        for answer in (again, refused):
            assert answer.status == 503 or answer.json()["error"]["code"] == -32603
            assert "exited with code 3" in str(answer.body) and "last words" not in str(answer.body)
            assert "eeee" not in str(answer.body) and "stderr" not in str(answer.body)
        lines = [record.getMessage() for record in caplog.records if "next try in" in record.getMessage()]
        (line,) = [line for line in lines if "eeee" in line]
        assert line.count("e" * 1000) == 8 and "last words \\x1b[2J" in line and "\x1b" not in line


@pytest.mark.parametrize("ending", ["closes its stdout", "is swapped", "is stopped reading"])
async def test_no_way_to_lose_a_child_shows_its_stderr_to_a_client(ending: str) -> None:
    async with (
        bridge(ping_every=None, drain_time=0.05) as front,
        client(front, LEGACY) as a,
        client(front, LEGACY) as b,
    ):
        await a.text("flood", lines=1)
        errors: list[str] = []

        async def held() -> None:
            errors.append((await b.call("tools/call", call("hold"))).error["message"])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held)
            shared = front.runtime.handler._generations.now.shared
            with anyio.fail_after(LIMIT):
                while not shared.runs:
                    await anyio.sleep(0.01)
            if ending == "closes its stdout":
                errors.append((await a.call("tools/call", call("close_stdout"))).error["message"])
            elif ending == "is swapped":
                await front.runtime.handler.swap(command(), "migrate")
            else:
                shared.client._conversation.closed(ConnectionLost(shared.client.transport.why))
        assert errors and not [error for error in errors if "eeee" in error or "stderr" in error]


async def test_every_call_in_flight_gets_an_error_when_a_child_is_killed() -> None:
    async with bridge() as front, client(front, LEGACY) as a, client(front, MODERN) as b:
        pid = int(await a.text("pid"))
        errors: list[Any] = []

        async def hold(c: Any) -> None:
            errors.append((await c.call("tools/call", call("hold"))).error)

        async with anyio.create_task_group() as tasks:
            for c in (a, b, b):
                tasks.start_soon(hold, c)
            with anyio.fail_after(LIMIT):
                while len(front.runtime.handler._generations.now.shared.runs) < 3:
                    await anyio.sleep(0.01)
            with anyio.fail_after(SOON):
                os.kill(pid, signal.SIGKILL)
                while len(errors) < 3:
                    await anyio.sleep(0.01)
        assert [error["code"] for error in errors] == [-32603] * 3


async def test_what_sessions_wanted_is_said_again_to_the_next_child() -> None:
    async with bridge() as front, client(front, LEGACY, roots={}) as c:
        await c.call("logging/setLevel", {"level": "debug"})
        await c.call("resources/subscribe", {"uri": "test://a"})
        async with c.raw.get_stream() as stream:
            await c.raw.call("tools/call", call("die"))
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            assert (await stream.next_message())["method"] == "notifications/resources/list_changed"
            assert (await stream.next_message())["method"] == "notifications/resources/updated"
        said = await state(c)
        assert (said["levels"], said["subscribed"], said["initializes"]) == (["debug"], ["test://a"], 1)
        assert "notifications/initialized" in said["notified"]


async def test_a_crash_loop_opens_a_circuit_that_ready_names() -> None:
    options = {"supervisor": quick(crash_limit=3, open_for=60)}
    handler = ProxyHandler(command("--crash"), **options)  # type: ignore[arg-type]
    async with served(handler, health=True) as front:  # type: ignore[arg-type]
        with anyio.fail_after(LIMIT):
            while handler.readiness_problems() != ["backend crash loop"]:
                await anyio.sleep(0.02)
        async with RawClient(front.port) as ops:
            ready = await ops.request("GET", "/ready")
            assert (ready.status, ready.json()["reasons"]) == (503, ["backend crash loop"])
            health = await ops.request("GET", "/health")
            assert (health.status, health.json()["status"]) == (503, "unavailable")
        c = Modern(front.port)
        refused = await c.post(c.request("tools/list"))
        assert refused.status == 503 and "I never start" not in refused.body.decode()


async def test_the_circuit_closes_when_a_try_succeeds(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    started = f"runpy.run_path({SERVER!r}, None, '__main__')"
    script = f"import os, runpy; os.path.exists({str(mended)!r}) or exit(3); {started}"
    handler = ProxyHandler(Command([sys.executable, "-c", script]), supervisor=quick(crash_limit=2, open_for=0.3))
    async with served(handler, health=True) as front, RawClient(front.port) as ops:  # type: ignore[arg-type]
        with anyio.fail_after(LIMIT):
            while handler.readiness_problems() != ["backend crash loop"]:
                await anyio.sleep(0.01)
            mended.touch()
            while (await ops.request("GET", "/ready")).status != 200:
                await anyio.sleep(0.05)
        assert (await client(front, MODERN).text("echo", text="x")) == "x"


async def test_a_command_that_is_not_there_is_a_backend_that_is_away() -> None:
    handler = ProxyHandler(Command(["/nowhere/no-such-command"]))
    async with served(handler, health=True) as front:  # type: ignore[arg-type]
        c = Modern(front.port)
        assert (await c.post(c.request("tools/list"))).status == 503
        assert list(handler.readiness_problems()) == ["backend away"]


# --- noise ------------------------------------------------------------------------------------------------------------


async def test_garbage_on_stdout_harms_nobody() -> None:
    async with bridge() as front, client(front, LEGACY) as c:
        assert await c.text("garbage", size=100_000) == "after garbage"
        # A line past the limit is garbage, too.  One that begins like an answer is an error of its call.
        assert await c.text("garbage", size=17 * 1024 * 1024) == "after garbage"
        too_long = (await c.call("tools/call", call("big", size=16 * 1024 * 1024))).error
        assert too_long["code"] == -32603 and "16777216" in too_long["message"]
        assert await c.text("echo", text="x") == "x"


async def test_a_flood_on_stderr_does_not_block_the_child() -> None:
    async with bridge() as front, client(front, LEGACY) as c:
        assert await c.text("flood", lines=20_000) == "flooded"


async def test_a_result_of_many_megabytes_comes_through() -> None:
    async with bridge() as front, client(front, LEGACY) as c:
        size = 8 * 1024 * 1024
        assert len(await c.text("big", size=size)) == size


# --- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_child_ends_with_its_bridge_and_so_does_what_it_started() -> None:
    async with bridge() as front, client(front, LEGACY) as c:
        child, grandchild = int(await c.text("pid")), int(await c.text("fork"))
        assert alive(child) and alive(grandchild)
    await until_gone(child)
    await until_gone(grandchild)


@pytest.mark.long
async def test_a_child_that_ignores_everything_is_killed() -> None:
    async with bridge("--ignore-term") as front, client(front, LEGACY) as c:
        child = int(await c.text("pid"))
        begin = anyio.current_time()
    assert anyio.current_time() - begin < 12
    await until_gone(child)


# --- sessions of one backend, and backends of one session -------------------------------------------------------------


@asynccontextmanager
async def bridge_for_one(**options: Any) -> AsyncIterator[Any]:
    """With a backend for each client, and a principal by which clients without sessions are told apart."""

    async def ada(head: Any) -> str:
        return "ada"

    handler = ProxyHandler(command(), per_session=True, supervisor=quick(), **options)
    async with served(handler, authorize=ada) as front:  # type: ignore[arg-type]
        yield front


def runs(front: Any) -> int:
    """How many calls are under way at all backends."""
    return sum(len(backend.runs) for backend in front.runtime.handler._generations.now.backends)


@pytest.mark.parametrize("era", ERAS)
async def test_the_backend_of_one_client_asks_it(era: str) -> None:
    async with bridge_for_one() as front, client(front, era, **ABLE) as c, client(front, LEGACY, **ABLE):
        assert json.loads(await c.text("ask", yes)) == {"action": "accept", "content": {"it": "?"}}
        assert json.loads(await c.text("roots", yes)) == yes("roots/list", {})
        assert json.loads(await c.text("ask", yes, twice=True))[1]["content"] == {"it": "again?"}


@pytest.mark.parametrize("era", ERAS)
async def test_a_shared_backend_asks_no_client_even_where_one_alone_is_there(era: str) -> None:
    async with bridge() as front, client(front, era, **ABLE) as c:
        for tool in ("ask", "sample", "roots"):
            answer = await c.call("tools/call", call(tool))  # a question would raise here
            error = json.loads(answer.result["content"][0]["text"])["error"]
            assert error["code"] == -32603 and "--per-session" in error["message"]


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_client_did_not_declare_is_refused_as_it_would(era: str) -> None:
    async with bridge_for_one() as front, client(front, era, elicitation={}) as c:
        assert json.loads(await c.text("sample"))["error"]["code"] == -32601
        assert json.loads(await c.text("roots"))["error"]["code"] == -32601
        url = {"mode": "url", "url": "https://example.com", "elicitationId": "1"}
        assert json.loads(await c.text("ask", more=url))["error"]["code"] == -32602


@pytest.mark.parametrize("eras", [(LEGACY, LEGACY), (LEGACY, MODERN), (MODERN, MODERN)])
async def test_a_question_that_may_be_of_either_client_is_refused_and_nobody_hears_of_it(
    eras: tuple[str, str],
) -> None:
    async with bridge() as front, client(front, eras[0], **ABLE) as a, client(front, eras[1], **ABLE) as b:
        done: list[Any] = []

        async def hold() -> None:
            done.append(await a.call("tools/call", call("hold", seconds=30, label="secret"), id=5))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            with anyio.fail_after(LIMIT):
                while not front.runtime.handler._generations.now.shared.runs:
                    await anyio.sleep(0.01)
            for tool in ("ask", "sample", "roots"):
                answer = await b.call("tools/call", call(tool))  # a question would raise here
                error = json.loads(answer.result["content"][0]["text"])["error"]
                assert error["code"] == -32603 and "--per-session" in error["message"]
            # No client gets log messages of another client's call.
            said = await b.call("tools/call", call("log", text="mine"))
            assert said.notifications == []
            tasks.cancel_scope.cancel()


def withdrawing(seen: Path) -> dict[str, Any]:
    """A call that asks, takes its question back when there is this file, and ends when there is one more."""
    question = {"mode": "form", "message": "?", "requestedSchema": {"type": "object", "properties": {}}}
    return call("emit", method="elicitation/create", params=question, question=True, withdrawn=str(seen))


async def test_a_question_that_the_backend_takes_back_is_taken_back_from_the_client(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    async with bridge_for_one() as front, client(front, LEGACY, **ABLE) as c:
        async with c.raw.posting(c.raw.request("tools/call", withdrawing(seen))) as stream:
            asked = await stream.next_message()
            assert asked["method"] == "elicitation/create"
            seen.touch()
            cancelled = await stream.next_message()
            assert cancelled["method"] == "notifications/cancelled"
            assert cancelled["params"]["requestId"] == asked["id"]
            seen.with_name("seen.told").touch()
            assert (await stream.next_message())["result"]["content"][0]["text"] == "withdrawn"


async def test_a_question_outlives_the_call_it_was_taken_for_while_another_of_its_client_runs(tmp_path: Path) -> None:
    go, end = tmp_path / "go", tmp_path / "end"
    async with bridge_for_one() as front, client(front, LEGACY, **ABLE) as c:
        await c.call("logging/setLevel", {"level": "info"})
        # On pipes the bridge cannot tell which of two calls asks.  It takes the newer one, which ends first here.
        async with c.raw.posting(c.raw.request("tools/call", call("ask", after=str(go)))) as asks:
            assert (await asks.next_message())["params"]["data"] == "asking soon"
            async with c.raw.posting(c.raw.request("tools/call", call("hold", until=str(end)))) as holds:
                seen: list[Any] = [await holds.next_message()]
                go.touch()
                seen.append(await holds.next_message())
                end.touch()
                while (message := await holds.next_message()) is not None:
                    seen.append(message)
                assert [m.get("method") for m in seen] == ["notifications/message", "elicitation/create", None]
                assert seen[-1]["result"]["content"][0]["text"] == "held"
            answer = {"action": "accept", "content": {"it": "late"}}
            await c.raw.post({"jsonrpc": "2.0", "id": seen[1]["id"], "result": answer})
            assert json.loads((await asks.next_message())["result"]["content"][0]["text"]) == answer


async def test_a_question_that_outlived_its_call_is_taken_back_on_the_call_that_goes_on() -> None:
    async with bridge_for_one() as front, client(front, LEGACY, **ABLE) as c:
        await c.call("logging/setLevel", {"level": "info"})
        async with c.raw.posting(c.raw.request("tools/call", call("hold"))) as holds:
            assert (await holds.next_message())["method"] == "notifications/message"
            async with c.raw.posting(c.raw.request("tools/call", call("ask"), id="c")) as asks:
                question = await asks.next_message()
                assert question["method"] == "elicitation/create"
                await c.raw.notify("notifications/cancelled", {"requestId": "c"})
                assert await asks.next_message() is None, "nothing says yet that the question is void"
            # The child takes its question back, while only the call runs that did not ask.
            back = {"method": "notifications/cancelled", "params": {"requestId": "ask-1"}}
            assert await c.text("emit", **back) == "emitted"
            void = await holds.next_message()
            assert (void["method"], void["params"]["requestId"]) == ("notifications/cancelled", question["id"])


async def test_a_call_of_another_era_does_not_go_on_with_a_question_of_a_session() -> None:
    """One pipe may carry calls of both eras.  A question by request cannot become an `input_required` result."""
    async with piped(ProxyHandler(command(), per_session=True)) as pipe:  # type: ignore[arg-type]
        await pipe.initialize(LEGACY, ABLE)
        # It says that it runs, while no other call could be the one that says so.
        pipe.call("newer era", "hold", revision=MODERN, meta={f"{META}logLevel": "info"})
        assert (await pipe.receive())["params"]["data"] == "holding "
        pipe.call("c", "ask")
        question = await pipe.receive()
        assert question["method"] == "elicitation/create"
        pipe.notify("notifications/cancelled", requestId="c")
        void = await pipe.receive()
        assert (void["method"], void["params"]["requestId"]) == ("notifications/cancelled", question["id"])
        pipe.notify("notifications/cancelled", requestId="newer era")


async def test_a_question_whose_call_ended_last_is_void_on_the_sessions_stream() -> None:
    async with bridge_for_one() as front, client(front, LEGACY, **ABLE) as c, c.raw.get_stream() as own:
        async with c.raw.posting(c.raw.request("tools/call", call("ask"), id="c")) as asks:
            question = await asks.next_message()
            await c.raw.notify("notifications/cancelled", {"requestId": "c"})
            assert await asks.next_message() is None
        void = await own.next_message()
        assert (void["method"], void["params"]["requestId"]) == ("notifications/cancelled", question["id"])


async def test_without_sessions_both_calls_of_one_client_may_bring_the_answer(tmp_path: Path) -> None:
    go, end = tmp_path / "go", tmp_path / "end"
    async with bridge_for_one() as front, client(front, MODERN, **ABLE) as c:
        ask, hold = call("ask", after=str(go)), call("hold", until=str(end))
        answers: list[Any] = []

        async def asks() -> None:
            answers.append((await c.call("tools/call", ask, yes)).result)

        async def running(count: int) -> None:
            with anyio.fail_after(LIMIT):
                while runs(front) < count:
                    await anyio.sleep(0.01)

        async def asks_once_both_run() -> None:
            await running(2)
            go.touch()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asks)
            await running(1)
            tasks.start_soon(asks_once_both_run)
            parked = (await c.raw.call("tools/call", hold)).result
            assert parked["resultType"] == "input_required"
            end.touch()
            # No client resumes the parked call until it has ended.
            while runs(front):
                await anyio.sleep(0.01)
        assert json.loads(answers[0]["content"][0]["text"])["action"] == "accept"
        asked = {key: yes(q["method"], q["params"]) for key, q in parked["inputRequests"].items()}
        again = {**hold, "requestState": parked["requestState"], "inputResponses": asked}
        assert (await c.raw.call("tools/call", again)).result["content"][0]["text"] == "held"
        assert not len(front.runtime.handler._parking)


async def test_who_comes_back_late_gets_what_became_of_the_call(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    async with bridge_for_one() as front, client(front, MODERN, **ABLE) as c:
        params = withdrawing(seen)
        first = (await c.raw.call("tools/call", params)).result
        handler = front.runtime.handler
        seen.touch()
        seen.with_name("seen.told").touch()
        with anyio.fail_after(LIMIT):
            while runs(front):
                await anyio.sleep(0.01)
        asked = {key: yes(q["method"], q["params"]) for key, q in first["inputRequests"].items()}
        again = {**params, "requestState": first["requestState"], "inputResponses": asked}
        assert (await c.raw.call("tools/call", again)).result["content"][0]["text"] == "withdrawn"
        assert (await c.raw.call("tools/call", again)).error["code"] == -32602
        assert not len(handler._parking)


async def test_a_question_without_any_call_is_refused() -> None:
    async with bridge_for_one() as front, client(front, LEGACY, **ABLE) as c:
        await c.text("pid")
        handler = front.runtime.handler
        (own,) = handler._generations.now.own.values()
        with pytest.raises(MCPError, match="No call runs"):
            await handler._attribution.on_request(own, "roots/list", {})


async def test_each_session_has_a_backend_of_its_own_that_declares_what_its_client_did() -> None:
    async with bridge(per_session=True) as front:
        async with client(front, LEGACY, roots={}) as a, client(front, LEGACY, sampling={}) as b:
            pids = {await a.text("pid"), await b.text("pid")}
            assert len(pids) == 2 and await a.text("pid") in pids
            of_a, of_b = await state(a), await state(b)
            assert set(of_a["initialize"]["capabilities"]) == {"roots"}
            assert set(of_b["initialize"]["capabilities"]) == {"sampling"}
            assert of_a["initialize"]["clientInfo"]["name"] == "rawclient"
            # Subscriptions, changes and the log of one client do not affect the other client.
            await a.call("resources/subscribe", {"uri": "test://a"})
            assert (await state(b))["subscribed"] == []
            async with a.raw.get_stream() as to_a, b.raw.get_stream() as to_b:
                await a.text("change")
                await a.text("touch", uri="test://a")
                await b.text("change")
                kinds = [(await to_a.next_message())["method"] for _ in range(2)]
                assert kinds == ["notifications/tools/list_changed", "notifications/resources/updated"]
                assert (await to_b.next_message())["method"] == "notifications/tools/list_changed"
                with pytest.raises(TimeoutError):
                    await to_a.next_message(0.1)
        for pid in pids:
            await until_gone(int(pid))


async def test_clients_without_sessions_share_a_backend_for_each_principal() -> None:
    async def who(head: Any) -> str:
        return str(head.get("x-user"))

    handler = ProxyHandler(command(), per_session=True, supervisor=quick())
    async with served(handler, authorize=who) as front:  # type: ignore[arg-type]
        pids = []
        for user in ("ada", "bob", "ada"):
            c = client(front, MODERN)
            c.raw.extra_headers = {"X-User": user}
            pids.append(await c.text("pid"))
        assert pids[0] == pids[2] != pids[1]


async def test_what_a_backend_of_a_principal_says_reaches_those_without_sessions_of_that_principal_alone() -> None:
    async def who(head: Any) -> str:
        return str(head.get("x-user"))

    def of(user: str, era: str) -> Any:
        c = client(front, era)
        c.raw.extra_headers = {"X-User": user}
        return c

    handler = ProxyHandler(command(), per_session=True, supervisor=quick())
    wanted = {"resourceSubscriptions": ["test://a"], "toolsListChanged": True}
    async with served(handler, authorize=who) as front:  # type: ignore[arg-type]
        ada, eve = of("ada", MODERN), of("eve", MODERN)
        async with of("ada", LEGACY) as session, session.raw.get_stream() as to_session:
            await session.call("logging/setLevel", {"level": "debug"})
            await session.call("resources/subscribe", {"uri": "test://a"})
            async with ada.raw.listen(**wanted) as to_ada, eve.raw.listen(**wanted) as to_eve:
                for stream in (to_ada, to_eve):
                    assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
                await ada.text("log", text="ada's", later=0.05)
                await ada.text("touch", uri="test://a")
                await ada.text("change")
                kinds = [(await to_ada.next_message())["method"] for _ in range(2)]
                assert kinds == ["notifications/resources/updated", "notifications/tools/list_changed"]
                await session.text("change")
                assert (await to_session.next_message())["method"] == "notifications/tools/list_changed"
                for stream in (to_session, to_ada, to_eve):
                    with pytest.raises(TimeoutError):
                        await stream.next_message(0.15)


async def test_a_session_is_told_when_its_own_backend_was_started_again() -> None:
    async with bridge(per_session=True) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        await a.call("resources/subscribe", {"uri": "test://a"})
        await b.text("pid")
        async with a.raw.get_stream() as to_a, b.raw.get_stream() as to_b:
            await a.call("tools/call", call("die"))
            kinds = [(await to_a.next_message())["method"].split("/", 1)[1] for _ in range(3)]
            assert kinds == ["tools/list_changed", "resources/list_changed", "resources/updated"]
            assert (await state(a))["subscribed"] == ["test://a"]
            with pytest.raises(TimeoutError):
                await to_b.next_message(0.1)


async def test_one_session_that_kills_its_backend_harms_no_other() -> None:
    async with bridge(per_session=True) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        before = await b.text("pid")
        await a.text("pid")
        assert (await a.call("tools/call", call("die"))).error["code"] == -32603
        assert await b.text("pid") == before


@pytest.mark.parametrize("era", ERAS)
async def test_progress_keeps_its_call_whatever_tokens_clients_choose(era: str) -> None:
    async with bridge() as front, client(front, era) as c:
        for token in (1, "1", 0):
            params = {**call("progress"), "_meta": {"progressToken": token}}
            answer = await c.call("tools/call", params)
            assert [m["params"]["progress"] for m in answer.notifications] == [0, 1, 2]
            assert all(type(m["params"]["progressToken"]) is type(token) for m in answer.notifications)


async def test_a_log_message_of_no_call_reaches_the_sessions_that_asked_for_a_level() -> None:
    async with bridge(share_logs=True) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        await a.call("logging/setLevel", {"level": "info"})
        async with a.raw.get_stream() as to_a, b.raw.get_stream() as to_b:
            await a.text("log", text="late", later=0.05)
            assert (await to_a.next_message())["params"]["data"] == "late"
            with pytest.raises(TimeoutError):
                await to_b.next_message(0.1)


async def test_a_cancelled_call_is_told_to_the_child_by_its_own_id() -> None:
    async with bridge_for_one() as front, client(front, LEGACY) as c:
        async with c.raw.posting(c.raw.request("tools/call", call("hold"), id="mine")):
            await c.raw.notify("notifications/cancelled", {"requestId": "mine"})
        with anyio.fail_after(LIMIT):
            while not (cancelled := (await state(c))["cancelled"]):
                await asyncio.sleep(0.02)
        assert cancelled != ["mine"] and len(cancelled) == 1


async def test_pings_that_are_not_answered_show_and_start_the_child_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.bridge import backends

    async with bridge(ping_every=0.1) as front, Legacy(front.port, LEGACY) as c:
        answer = await c.call("tools/call", call("pid"))
        pid = int(answer.result["content"][0]["text"])
        monkeypatch.setattr(backends, "PING_TIMEOUT", 0.2)  # not before: a child that starts is slow on a busy machine
        os.kill(pid, signal.SIGSTOP)
        handler = front.runtime.handler
        with anyio.fail_after(LIMIT):
            while list(handler.readiness_problems()) != ["backend does not answer pings"]:
                await anyio.sleep(0.01)
        os.kill(pid, signal.SIGCONT)
        with anyio.fail_after(LIMIT):
            while handler.readiness_problems():
                await anyio.sleep(0.01)

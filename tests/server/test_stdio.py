# SPDX-License-Identifier: MIT
"""stdio as a parent process sees it: lines in, lines out, and what becomes of the process.

What the protocol decides runs over a pair of pipes in this process; what descriptors, signals and the interpreter's end
decide runs in a process of its own, with every warning shown.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pipes_support
import pytest
from patience import without_stalls
from pipes_support import Held, Wire, piped
from rawclient import INFO, LIMIT, Modern, encode, within
from wire import A, B, C, D, E

from mcp_h11 import Context, ListRoots, MCPServer, Settings, run_stdio, serve_stdio

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
META = "io.modelcontextprotocol/"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of `piped` runs on both kinds of ends, and one of a process of its own once."""
    kinds = ["descriptors", "streams"] if "piped" in metafunc.function.__code__.co_names else ["descriptors"]
    metafunc.parametrize("ends", kinds, indirect=True)


@pytest.fixture(autouse=True)
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends that `piped` gives the server."""
    monkeypatch.setattr(pipes_support, "STREAMS", request.param == "streams")


def texts(result: Any) -> list[str]:
    return [block["text"] for block in result["content"]]


# --- the protocol ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [A, B, C, D])
async def test_a_legacy_session_is_opened_by_initialize(revision: str) -> None:
    async with piped() as client:
        result = await client.initialize(revision)
        assert (result["protocolVersion"], result["serverInfo"]["name"]) == (revision, "held")
        client.request(1, "ping")
        assert await client.result(1) == {}
        client.request("1", "tools/list")
        assert {tool["name"] for tool in (await client.result("1"))["tools"]} >= {"echo", "hold"}
        client.call(2, "echo", text="ü\u2028\n")
        assert texts(await client.result(2)) == ["ü\u2028\n"]
        client.request(3, "no/method")
        assert (await client.error(3))["code"] == -32601
        client.request(4, "initialize", {"protocolVersion": D, "capabilities": {}, "clientInfo": INFO})
        assert (await client.error(4))["code"] == -32600  # once is enough


async def test_the_newest_revision_needs_no_handshake() -> None:
    async with piped() as client:
        client.request("d", "server/discover")
        discovered = await client.result("d")
        assert E in discovered["supportedVersions"] and discovered["resultType"] == "complete"
        client.call(1, "echo", text="t")
        assert texts(await client.result(1)) == ["t"]
        client.request(2, "ping")
        assert (await client.error(2))["code"] == -32601
        client.send(
            {"jsonrpc": "2.0", "id": 3, "method": "tools/list",
             "params": {"_meta": {f"{META}protocolVersion": "2030-01-01", f"{META}clientCapabilities": {}}}}
        )  # fmt: skip
        error = await client.error(3)
        assert (error["code"], error["data"]["requested"]) == (-32022, "2030-01-01")
        for method in ("server/discover", "subscriptions/listen"):  # no envelope, and yet no other era has them
            client.send({"jsonrpc": "2.0", "id": 4, "method": method})
            error = await client.error(4)
            assert error["code"] == -32602 and "protocolVersion" in error["message"]


async def test_both_eras_take_turns_on_one_pair_of_pipes() -> None:
    async with piped() as client:
        client.request(1, "server/discover")
        assert (await client.result(1))["resultType"] == "complete"
        await client.initialize(C)
        for number in range(3):
            client.call(f"m{number}", "echo", text="modern", revision=E)
            assert (await client.result(f"m{number}", E))["resultType"] == "complete"
            client.call(number, "echo", text="legacy", revision=C)
            result = await client.result(number, C)
            assert texts(result) == ["legacy"] and "resultType" not in result


async def test_before_initialize_a_legacy_client_may_ping_and_no_more() -> None:
    async with piped() as client:
        client.revision = D
        client.request(1, "ping")
        assert await client.result(1) == {}
        client.request(2, "tools/list")
        error = await client.error(2)
        assert error["code"] == -32600 and "initialize" in error["message"]
        client.notify("notifications/initialized")
        client.send([{"jsonrpc": "2.0", "id": 3, "method": "ping"}])
        assert (await client.error(None))["code"] == -32600
        client.request(4, "initialize", {"protocolVersion": D})
        assert (await client.error(4))["code"] == -32602
        assert (await client.initialize(D))["protocolVersion"] == D


async def test_an_unknown_revision_is_answered_with_the_newest_legacy_one() -> None:
    async with piped() as client:
        client.revision = D
        client.request(1, "initialize", {"protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": INFO})
        assert (await client.result(1))["protocolVersion"] == D


@pytest.mark.parametrize(
    ("line", "code", "id"),
    [
        (b"not json", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"', -32700, None),
        (b"\xff\xfe", -32700, None),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"method":"ping"}', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":NaN}}', -32700, None),
        (b"[" * 129 + b"]" * 129, -32700, None),
        (b"3", -32600, None),
        (b"{}", -32600, None),
        (b"[]", -32600, None),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":7,"method":3}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', -32600, 7),
    ],
)
@pytest.mark.parametrize("early", [True, False], ids=["first", "in a session"])
async def test_what_is_no_message_is_refused_and_what_follows_is_served(
    line: bytes, code: int, id: Any, early: bool
) -> None:
    async with piped() as client:
        if not early:
            await client.initialize()
        client.write(line + b"\n")
        assert (await client.error(id))["code"] == code
        client.call(1, "echo", text="alive", revision=E)
        assert texts(await client.result(1, E)) == ["alive"]


async def test_blank_lines_carriage_returns_and_pieces_of_lines_are_nothing() -> None:
    async with piped() as client:
        await client.initialize()
        client.write(b"\n\r\n  \n")
        for byte in b'{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n':
            client.write(bytes([byte]))
        client.write(b'{"jsonrpc":"2.0","id":2,"method":"ping"}\n{"jsonrpc":"2.0","id":3,"method":"ping"}\n')
        for id in (1, 2, 3):
            assert await client.result(id) == {}


async def test_a_long_line_is_a_line_and_a_too_long_one_is_skipped() -> None:
    async with piped() as client:
        await client.initialize()
        loop = asyncio.get_running_loop()
        size = 3 * 1024 * 1024
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "echo", "arguments": {"text": "é" * size}}}  # fmt: skip
        writing = loop.run_in_executor(None, lambda: _write_all(client, encode(call) + b"\n"))
        result = await client.result(1)
        await writing
        assert texts(result) == ["é" * size]
        too_long = b'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"a":"' + b"x" * (16 * 1024 * 1024) + b'"}}\n'
        writing = loop.run_in_executor(None, lambda: _write_all(client, too_long))
        assert (await client.error(None))["code"] == -32700
        await writing
        client.request(3, "ping")
        assert await client.result(3) == {}


def _write_all(client: Wire, data: bytes) -> None:
    while data:
        data = data[os.write(client._descriptor, data) :]


async def test_a_last_line_without_its_end_is_served() -> None:
    async with piped() as client:
        await client.initialize()
        client.write(b'{"jsonrpc":"2.0","id":9,"method":"ping"}')
        client.close()
        assert await client.result(9) == {}


# --- batches --------------------------------------------------------------------------------------------------------


def ping(id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": "ping"}


async def test_a_batch_is_answered_with_one_array_in_the_one_revision_that_has_them() -> None:
    async with piped() as client:
        await client.initialize(B)
        note = {"jsonrpc": "2.0", "method": "notifications/unknown"}
        init = {"jsonrpc": "2.0", "id": 5, "method": "initialize", "params": {}}
        envelope = Modern(0).request("tools/list", id=6)
        bad = {"jsonrpc": "2.0", "id": 7}
        call = {
            "jsonrpc": "2.0",
            "id": 8,
            "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": "t"}},
        }
        client.send([ping(1), note, ping("1"), 3, init, envelope, bad, call])
        answers = await client.receive()
        kinds = {repr(a.get("id")): a.get("error", {}).get("code", "result") for a in answers}
        assert kinds == {
            "1": "result", "'1'": "result", "None": -32600, "5": -32600, "6": -32600, "7": -32600, "8": "result",
        }  # fmt: skip
        client.send([ping(9)])
        assert await client.receive() == [{"jsonrpc": "2.0", "id": 9, "result": {}}]  # an array, though of one
        client.send([note, {"jsonrpc": "2.0", "id": "server-9", "result": {}}])  # nothing to answer
        client.send([])
        assert (await client.error(None))["code"] == -32600
        client.send([ping(n) for n in range(101)])
        assert (await client.error(None))["code"] == -32600
        client.request(10, "ping")
        assert await client.result(10) == {}


@pytest.mark.parametrize("revision", [A, C, D])
async def test_a_batch_is_refused_in_every_other_revision(revision: str) -> None:
    async with piped() as client:
        await client.initialize(revision)
        client.send([ping(1)])
        assert (await client.error(None))["code"] == -32600
    async with piped() as client:
        client.send([Modern(0).request("tools/list", id=6)])
        assert (await client.error(None))["code"] == -32600


async def test_a_cancelled_call_of_a_batch_leaves_a_gap_and_what_it_emits_comes_before() -> None:
    server = Held()
    async with piped(server) as client:
        await client.initialize(B)
        hold = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hold"}}
        logs = {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "logs", "arguments": {"count": 1}},
        }
        client.send([hold, logs])
        assert (await client.receive())["method"] == "notifications/message"
        await server.until(running=1)
        client.notify("notifications/cancelled", requestId=1)
        assert [answer["id"] for answer in await client.receive()] == [2]
        client.send([{**hold, "id": 3}])
        await server.until(running=2)
        client.notify("notifications/cancelled", requestId=3)  # and a batch of nothing is not answered
        client.request(4, "ping")
        assert await client.result(4) == {}


async def test_a_call_too_many_of_a_batch_is_refused_in_the_array() -> None:
    server = Held()
    async with piped(server, max_running=1, max_waiting=1) as client:
        await client.initialize(B)
        call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "hold"}}
        client.send([{**call, "id": id} for id in (1, 2, 3)])
        await server.until(running=1)
        server.release.set()
        answers = {answer["id"]: "error" in answer for answer in await client.receive()}
        assert answers == {1: False, 2: False, 3: True}


# --- while a call runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [D, E])
async def test_what_a_call_emits_comes_before_its_answer_and_in_order(revision: str) -> None:
    async with piped() as client:
        if revision != E:
            await client.initialize(revision)
        client.call(1, "logs", count=3, meta={"progressToken": "p", f"{META}logLevel": "debug"})
        found = [await client.receive() for _ in range(6)]
        assert [m["params"].get("progress", m["params"].get("data")) for m in found] == [
            0, "step 0", 1, "step 1", 2, "step 2",
        ]  # fmt: skip
        assert texts(await client.result(1)) == ["logged"]


async def test_answers_come_when_they_are_ready_and_not_in_turn() -> None:
    server = Held()
    async with piped(server) as client:
        client.call(1, "hold")
        await server.until(running=1)
        client.call(2, "echo", text="first")
        assert texts(await client.result(2)) == ["first"]
        server.release.set()
        assert texts(await client.result(1)) == ["released 0"]


@pytest.mark.parametrize("revision", [D, E])
async def test_a_cancelled_call_is_never_answered(revision: str) -> None:
    server = Held()
    async with piped(server) as client:
        if revision != E:
            await client.initialize(revision)
        client.call("x", "hold")
        await server.until(running=1)
        for wrong in (None, 7, "y", True, {}, ["x"]):
            client.notify("notifications/cancelled", requestId=wrong)
        client.send({"jsonrpc": "2.0", "method": "notifications/cancelled"})
        client.notify("notifications/cancelled", requestId="x", reason="changed my mind")
        await server.until(cancelled=1)
        client.notify("notifications/cancelled", requestId="x")  # again, too late
        client.call("z", "echo", text="next")
        assert texts(await client.result("z")) == ["next"]


async def test_a_cancelled_call_that_goes_on_is_not_heard_any_more() -> None:
    server = Held()
    async with piped(server) as client:
        client.call("x", "stubborn", meta={f"{META}logLevel": "debug"})
        await server.until(running=1)
        cancelled = Modern(0).request("notifications/cancelled", {"requestId": "x"})
        del cancelled["id"]
        client.send(cancelled)  # with an envelope
        await server.until(cancelled=1)
        client.call("z", "echo", text="next")
        assert texts(await client.result("z")) == ["next"]


async def test_more_calls_than_may_wait_are_refused_by_their_ids() -> None:
    server = Held()
    async with piped(server, max_running=1, max_waiting=1) as client:
        await client.initialize()
        client.call(1, "hold")
        await server.until(running=1)
        client.call("waits", "hold", label=1)
        client.call("legacy", "echo", text="")
        assert (await client.error("legacy"))["code"] < 0
        client.call("modern", "echo", text="", revision=E)
        assert (await client.error("modern", E))["code"] < 0
        server.release.set()
        assert texts(await client.result(1)) == ["released 0"]
        assert texts(await client.result("waits")) == ["released 1"]
        client.call("modern", "echo", text="again", revision=E)  # the id is free
        assert texts(await client.result("modern", E)) == ["again"]


async def test_a_legacy_client_is_asked_in_the_middle_of_a_call() -> None:
    async with piped() as client:
        await client.initialize(D, {"elicitation": {}})
        for tool, said in (("asks", "{'it': 'this'}"), ("raw", "this kept")):
            client.call(tool, tool)
            question = await client.receive()
            assert question["method"] == "elicitation/create"
            accepted = {"action": "accept", "content": {"it": "this"}}
            client.send({"jsonrpc": "2.0", "id": "unasked", "result": {}})  # dropped
            client.send({"jsonrpc": "2.0", "id": question["id"], "result": accepted})
            assert texts(await client.result(tool)) == [said]
        client.call(1, "asks")
        question = await client.receive()
        client.send({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "User said no"}})
        assert "User said no" in (await client.error(1))["message"]


async def test_a_modern_client_is_asked_by_a_result() -> None:
    async with piped() as client:
        client._modern.capabilities = {"elicitation": {}}
        for tool, said in (("asks", "{'it': 'this'}"), ("raw", "this kept")):
            client.call(1, tool)
            asked = await client.result(1)
            (key,) = asked["inputRequests"]
            responses = {key: {"action": "accept", "content": {"it": "this"}}}
            params = {"name": tool, "arguments": {}, "inputResponses": responses, "requestState": asked["requestState"]}
            client.request(2, "tools/call", params)
            assert texts(await client.result(2)) == [said]


# --- notices --------------------------------------------------------------------------------------------------------


async def test_changes_are_told_to_the_session_and_to_each_listener_that_asked() -> None:
    server = Held()
    async with piped(server) as client:
        server.notify_tools_changed()  # nobody listens yet
        client.request("l", "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        acknowledged = await client.receive()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"toolsListChanged": True}
        uris = {"notifications": {"resourceSubscriptions": ["note://one"]}}
        client.request(0, "subscriptions/listen", uris)
        assert (await client.receive())["params"]["_meta"] == {f"{META}subscriptionId": 0}
        await client.initialize()
        server.add_tool(lambda: 1, "new")
        heard = await client.receive(E)
        assert (heard["method"], heard["params"]) == (
            "notifications/tools/list_changed", {"_meta": {f"{META}subscriptionId": "l"}},
        )  # fmt: skip
        assert await client.receive(D) == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        client.call(1, "touch")
        assert (await client.receive(E))["params"] == {"uri": "note://one", "_meta": {f"{META}subscriptionId": 0}}
        assert texts(await client.result(1, D)) == []  # the session did not subscribe
        client.request(2, "resources/subscribe", {"uri": "note://one"})
        assert await client.result(2, D) == {}
        client.notify("notifications/cancelled", requestId="l")
        client.notify("notifications/cancelled", requestId=0)
        client.request(3, "ping")
        await client.result(3, D)
        server.remove_tool("new")
        assert (await client.receive(D))["method"] == "notifications/tools/list_changed"
        client.call(4, "touch")
        assert (await client.receive(D))["params"] == {"uri": "note://one"}
        await client.result(4, D)


async def test_listeners_end_with_a_result_when_the_server_does() -> None:
    async with piped() as client:
        client.request("l", "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
        await client.receive()
        client.close()
        assert (await client.result("l"))["_meta"] == {f"{META}subscriptionId": "l"}


async def test_a_listener_for_nothing_ends_at_once_and_a_bad_filter_is_refused() -> None:
    async with piped(max_listeners=1) as client:
        client.request(1, "subscriptions/listen", {"notifications": {}})
        assert (await client.receive())["params"]["notifications"] == {}
        assert (await client.result(1))["resultType"] == "complete"
        for id, bad in enumerate((None, {"toolsListChanged": 1}, {"resourceSubscriptions": "x"}), 2):
            client.request(id, "subscriptions/listen", {"notifications": bad} if bad else {})
            assert (await client.error(id))["code"] == -32602
        some = {"notifications": {"toolsListChanged": True}}
        client.request(5, "subscriptions/listen", some)
        await client.receive()
        client.request(6, "subscriptions/listen", some)
        assert (await client.error(6))["code"] < 0  # one is the limit
        client.notify("notifications/cancelled", requestId=5)
        client.request(7, "subscriptions/listen", some)
        assert (await client.receive())["params"]["_meta"] == {f"{META}subscriptionId": 7}


# --- a client that does not read ------------------------------------------------------------------------------------


async def test_a_client_that_does_not_read_is_still_read_from() -> None:
    server = Held()
    async with piped(server, write_high=1024) as client:
        client._reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.call(1, "big", size=2_000_000)  # more than the pipe and the buffer take
        client.call(2, "hold", label=2)
        await server.until(running=1)
        client.notify("notifications/cancelled", requestId=2)
        await server.until(cancelled=1)
        client.call(3, "hold", label=3)
        await server.until(running=2)
        server.release.set()
        client._reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(texts(await client.result(1))[0]) == 2_000_000
        assert texts(await client.result(3)) == ["released 3"]


async def test_a_call_that_talks_waits_for_a_client_that_does_not_read() -> None:
    server, steps = Held(), 50_000
    said: list[int] = []

    @server.tool
    async def talks(ctx: Context) -> None:
        for step in range(steps):
            said.append(step)
            await ctx.info("x" * 100)

    async with piped(server, write_high=1024) as client:
        await client.initialize()
        client._reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.call(1, "talks")
        client.call(2, "hold")
        await server.until(running=1)
        assert len(said) < steps / 10  # or all of them were in memory now
        client.notify("notifications/cancelled", requestId=1)
        server.release.set()
        client._reader._transport.resume_reading()  # type: ignore[attr-defined]
        while (message := await client.receive()).get("method") == "notifications/message":
            pass
        assert message["id"] == 2


async def test_equal_notices_wait_as_one_for_a_client_that_does_not_read() -> None:
    server = Held()
    async with piped(server, write_high=1024) as client:
        filters = {"toolsListChanged": True, "resourceSubscriptions": ["note://one"]}
        client.request("l", "subscriptions/listen", {"notifications": filters})
        await client.receive()
        client._reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.call(1, "big", size=2_000_000)
        client.call(2, "hold")
        await server.until(running=1)
        for _ in range(10_000):
            server.notify_resource_updated("note://one")
            server.notify_tools_changed()
        client._reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(texts(await client.result(1))[0]) == 2_000_000
        methods = [(await client.receive())["method"] for _ in range(2)]
        assert methods == ["notifications/resources/updated", "notifications/tools/list_changed"]
        server.release.set()
        await client.result(2)


async def test_a_client_that_sends_and_never_reads_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_h11.server.stdio.MAX_UNWRITTEN", 64 * 1024)
    async with piped(write_high=1024) as client:
        client._reader._transport.pause_reading()  # type: ignore[attr-defined]
        os.set_blocking(client._descriptor, False)
        sent, full = 0, 0
        while full < 30:  # for as long as it takes something
            try:
                sent += os.write(client._descriptor, (b"x" * 511 + b"\n") * 4)
                full = 0
            except BlockingIOError:
                full += 1
                await asyncio.sleep(0.01)
            assert sent < 10_000_000
        os.set_blocking(client._descriptor, True)
        client._reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(sent // 512):
            assert b"-32700" in await client.line()
        client.call(1, "echo", text="alive")
        assert texts(await client.result(1)) == ["alive"]


# --- the end --------------------------------------------------------------------------------------------------------


async def test_what_runs_at_the_end_of_stdin_may_finish() -> None:
    server = Held()
    async with piped(server) as client:
        client.call(1, "hold")
        await server.until(running=1)
        client.close()
        server.release.set()
        assert texts(await client.result(1)) == ["released 0"]


async def test_what_does_not_finish_is_cancelled_after_the_grace() -> None:
    server = Held()
    async with piped(server, grace=0.05) as client:
        client.call(1, "hold")
        await server.until(running=1)
        client.close()
        await server.until(cancelled=1)


async def test_a_question_that_nobody_can_answer_any_more_holds_nothing_up() -> None:
    server = Held()
    async with piped(server, grace=30) as client:  # longer than any wait of this test
        await client.initialize(D, {"elicitation": {}})
        client.call(1, "asks")
        await client.receive()
        client.close()
        assert (await client.result(1))["isError"] is True


async def test_a_call_with_one_of_two_answers_ends_when_the_client_has_gone() -> None:
    server = Held()

    async def both(ctx: Context) -> str:
        return str(await ctx.ask(a=ListRoots(), b=ListRoots()))

    server.add_tool(both, name="both")
    async with piped(server, grace=30) as client:  # longer than any wait of this test
        await client.initialize(D, {"roots": {}})
        client.call(1, "both")
        questions = [await client.receive() for _ in range(2)]
        client.send({"jsonrpc": "2.0", "id": questions[0]["id"], "result": {"roots": []}})
        client.close()
        assert (await client.result(1))["isError"] is True


async def test_a_client_that_closes_its_end_for_reading_is_gone() -> None:
    server = Held()
    into, out = os.pipe(), os.pipe()
    with open(into[0], "rb") as stdin, open(out[1], "wb", buffering=0) as stdout:
        serving = asyncio.ensure_future(
            serve_stdio(server, settings=Settings(grace=0.05), stdin=stdin, stdout=stdout, signals=False)
        )
        client = Wire(asyncio.StreamReader(), into[1])
        client.call(1, "hold")
        await server.until(running=1)
        os.close(out[0])
        client.call(2, "echo", text="to nobody")
        await within(LIMIT, "end of the server", serving)
        assert server.cancelled == [0]
        client.close()


async def test_a_server_that_is_cancelled_ends_in_order() -> None:
    server = Held()
    into, out = os.pipe(), os.pipe()
    with open(into[0], "rb") as stdin, open(out[1], "wb") as stdout, open(out[0], "rb"):
        serving = asyncio.ensure_future(
            serve_stdio(server, settings=Settings(grace=0.05), stdin=stdin, stdout=stdout, signals=False)
        )
        Wire(asyncio.StreamReader(), into[1]).call(1, "hold")
        await server.until(running=1)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(LIMIT, "end of the server", serving)
        assert server.cancelled == [0]
        os.close(into[1])


# --- a process of its own -------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio, os, subprocess, sys, time
from contextlib import asynccontextmanager
from mcp_h11 import Context, MCPServer

kept = sys.stdout

@asynccontextmanager
async def lifespan(server):
    print("opened")
    try:
        yield
    finally:
        print("closed", file=sys.stderr)

server = MCPServer("child", lifespan=lifespan)

@server.tool
async def noisy() -> str:
    print("by print")
    kept.write("by what was stdout\\n")
    os.write(1, b"by descriptor\\n")
    subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
    return "quiet"

@server.tool
def greedy() -> str:
    try:
        typed = input()
    except EOFError:
        typed = "nothing"
    child = "import sys; print(repr(sys.stdin.read()))"
    ran = subprocess.run([sys.executable, "-c", child], stdout=subprocess.PIPE, check=True)
    return f"{typed} {ran.stdout.decode().strip()}"

@server.tool
async def waits() -> str:
    print("waiting")
    await asyncio.sleep(60)

@server.tool
def blocks() -> str:
    print("blocking")
    time.sleep(60)

@server.tool
async def big(size: int) -> str:
    return "x" * size

@server.tool
def exits() -> str:
    sys.exit(3)

server.run(transport="stdio"%s)
if len(sys.argv) == 1:
    print("after")
"""


class Child:
    """A server in a process of its own; its stderr goes to a file."""

    def __init__(self, folder: Path, options: str = "", *arguments: str) -> None:
        script = folder / "server.py"
        script.write_text(SCRIPT % options)
        self._log = folder / "stderr"
        self._stderr = open(self._log, "wb")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        self._stderr.close()

    @property
    def stderr(self) -> str:
        return without_stalls(self._log.read_text("utf-8"))

    def send(self, *messages: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(encode(message) + b"\n" for message in messages))
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def call(self, tool: str, id: int = 1, **arguments: Any) -> None:
        self.send(Modern(0).request("tools/call", {"name": tool, "arguments": arguments}, id=id))

    def said(self, text: str) -> None:
        """Until its stderr has that."""
        expired = deadline()
        while text not in self.stderr:
            assert not expired(), self.stderr
            assert self.process.poll() is None, self.stderr

    def end(self) -> tuple[int, bytes]:
        """How it ended, and what else was on stdout."""
        out, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, out


def deadline() -> Callable[[], bool]:
    """Whether `LIMIT` has passed."""
    end = time.monotonic() + LIMIT
    return lambda: time.monotonic() > end


INITIALIZE = {
    "jsonrpc": "2.0", "id": 0, "method": "initialize",
    "params": {"protocolVersion": D, "capabilities": {}, "clientInfo": INFO},
}  # fmt: skip


def test_the_end_of_stdin_ends_the_process_with_success(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.send(INITIALIZE)
        assert child.receive()["result"]["serverInfo"]["name"] == "child"
        code, out = child.end()
        assert (code, out) == (0, b"after\n")  # stdout is the program's again
        assert child.stderr == "opened\nclosed\n"  # and no warning


@contextmanager
def streams(data: bytes) -> Iterator[Any]:
    """This process with a stdin that holds `data` and ends, and a stdout that can be read afterwards."""
    saved = [os.dup(number) for number in (0, 1)]
    into, out = os.pipe(), os.pipe()
    os.write(into[1], data)
    for source, target in ((into[0], 0), (out[1], 1)):
        os.dup2(source, target)
    for number in (*into, out[1]):
        os.close(number)
    try:
        yield lambda: os.read(out[0], 65536)
    finally:
        for source, target in zip(saved, (0, 1), strict=True):
            os.dup2(source, target)
            os.close(source)
        os.close(out[0])


def test_a_program_that_goes_on_has_its_streams_and_signals_back() -> None:
    server = MCPServer()
    server.add_tool(lambda: print("heard by nobody"), "prints")
    before = (sys.stdin, sys.stdout, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    line = encode(Modern(0).request("tools/call", {"name": "prints"}, id=1)) + b"\n"
    with streams(line) as read:
        run_stdio(server, settings=Settings())
        assert json.loads(read())["id"] == 1
        os.write(1, b"mine again")
        assert read() == b"mine again"
        assert os.read(0, 1) == b""
    assert before == (sys.stdin, sys.stdout, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    with streams(line) as read:  # and once more
        server.run(transport="stdio")
        assert json.loads(read())["id"] == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_tool_may_end_the_server_by_a_signal() -> None:
    server = MCPServer()

    @server.tool
    async def stop() -> str:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()
        return "never"

    into = os.pipe()
    with open(into[0], "rb") as stdin, streams(b"") as read:
        os.write(into[1], encode(Modern(0).request("tools/call", {"name": "stop"}, id=1)) + b"\n")
        asyncio.run(asyncio.wait_for(serve_stdio(server, stdin=stdin), LIMIT))
        os.close(into[1])
        os.write(1, b"-")
        assert read() == b"-"  # the call was cancelled, not answered


def test_nothing_but_protocol_is_on_stdout(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.call("noisy")
        assert texts(child.receive()["result"]) == ["quiet"]
        assert child.end() == (0, b"after\n")
        for by in ("by print", "by what was stdout", "by descriptor", "by a child"):
            assert f"{by}\n" in child.stderr


def test_nobody_else_reads_stdin(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        child.call("greedy")
        child.call("exits", id=2)
        answers = {answer["id"]: answer["result"] for answer in (child.receive(), child.receive())}
        assert texts(answers[1]) == ["nothing ''"]
        assert answers[2]["isError"] is True  # and the process lives
        child.call("big", id=3, size=1)
        assert texts(child.receive()["result"]) == ["x"]
        assert child.end()[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("tool", ["", "waits", "blocks"])
@pytest.mark.long
def test_a_signal_ends_the_process_in_order_though_stdin_is_open(tmp_path: Path, number: int, tool: str) -> None:
    with Child(tmp_path, ", settings=__import__('mcp_h11').Settings(grace=0.1)") as child:
        listen = Modern(0).request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
        child.send(listen)
        child.receive()
        if tool:
            child.call(tool)
            child.said("waiting" if tool == "waits" else "blocking")
        child.process.send_signal(number)
        assert child.receive()["id"] == "l"  # the listener is told
        assert child.process.wait(LIMIT) == 0
        assert child.stderr.endswith("closed\n") and "Traceback" not in child.stderr, child.stderr


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_second_signal_does_not_wait_for_what_runs(tmp_path: Path) -> None:
    with Child(tmp_path) as child:  # ten seconds of grace
        child.call("waits")
        child.said("waiting")
        listen = Modern(0).request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
        child.send(listen)
        child.receive()
        child.process.send_signal(signal.SIGTERM)
        assert child.receive()["id"] == "l"  # the first has arrived
        child.process.send_signal(signal.SIGTERM)
        assert child.process.wait(LIMIT) == 0


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_client_that_does_not_read_does_not_keep_the_process(tmp_path: Path) -> None:
    with Child(tmp_path, ", settings=__import__('mcp_h11').Settings(grace=0.1)", "no more") as child:
        child.call("big", size=5_000_000)
        child.call("noisy", id=2)
        child.said("by print")
        assert child.process.stdin is not None
        child.process.stdin.close()
        assert child.process.wait(LIMIT) == 0
        assert "Traceback" not in child.stderr, child.stderr


def test_a_client_that_is_gone_ends_the_process(tmp_path: Path) -> None:
    with Child(tmp_path) as child:
        assert child.process.stdout is not None
        child.process.stdout.close()
        child.call("big", size=10)
        assert child.process.wait(LIMIT) in (0, 120)  # 120: "after" could not be printed either
        assert "mcp_h11" not in child.stderr.replace(str(ROOT), ""), child.stderr


def test_it_serves_without_stderr(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text((SCRIPT % "").replace("import asyncio,", "import os; os.close(2)\nimport asyncio,"))
    call = encode(Modern(0).request("tools/call", {"name": "big", "arguments": {"size": 2}}, id=1)) + b"\n"
    ran = subprocess.run(
        [sys.executable, str(script)],
        input=call, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert b'"xx"' in ran.stdout.splitlines()[0]

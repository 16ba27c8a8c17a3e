# SPDX-License-Identifier: MIT
"""The client above its transports: calls, questions, rounds, eras, caches, changes.

`Wire` is a transport that a test holds both ends of: what the client says is a list, what comes back is said by the
test, message by message.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from hurrying import on_a_still_clock

from mcp_h11 import MCPServer, listening
from mcp_h11.client import client as client_client
from mcp_h11.client import lists, subscriptions
from mcp_h11.client.client import Client
from mcp_h11.client.conversation import callbacks, conversation
from mcp_h11.client.conversation import pending as calls
from mcp_h11.client.conversation.cache import ResultCache, Same
from mcp_h11.client.http.httpclient import HTTPCall, Next
from mcp_h11.client.http.middleware import BearerToken
from mcp_h11.client.http.wire import HTTPAnswer
from mcp_h11.client.probe import EraMemory, discover
from mcp_h11.client.transports.backoff import Backoff
from mcp_h11.client.transports.base import Outgoing, Receiver
from mcp_h11.client.transports.errors import (
    AuthorizationRequired,
    ConnectionLost,
    HTTPStatusError,
    InvalidAnswer,
    RequestTimeout,
    answered_error,
)
from mcp_h11.protocol.errors import (
    HeaderMismatch,
    InvalidParams,
    InvalidRequest,
    MCPError,
    MethodNotFound,
    MissingClientCapability,
    ParseError,
    ResourceNotFound,
    UnsupportedProtocolVersion,
)
from mcp_h11.protocol.jsonrpc import JSON
from mcp_h11.protocol.revisions import REVISIONS, Revision

pytestmark = pytest.mark.anyio

LIMIT = 30.0
CODEC = JSON()
META = "io.modelcontextprotocol/"
SERVER = {"name": "wire", "version": "1"}
OFFERED = {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": True}}

Said = dict[str, Any]


class Wire:
    """A transport in memory.  `answers` maps methods to results, exceptions' JSON, or functions of the message."""

    why = "the wire"

    def __init__(
        self, answers: dict[str, Any] | None = None, *, revision: str = "2025-11-25", duplex: bool = True
    ) -> None:
        self.duplex = duplex
        self.answers: dict[str, Any] = {**self._usual(revision), **(answers or {})}
        self.said: list[Said] = []
        self.safe: list[bool] = []
        self.cancelled: list[Any] = []
        self.closed = 0
        self._changed = anyio.Event()
        self.receiver: Receiver

    def _usual(self, revision: str) -> dict[str, Any]:
        if REVISIONS[revision].modern:
            found = {"supportedVersions": [revision], "capabilities": OFFERED, "resultType": "complete",
                     "_meta": {f"{META}serverInfo": SERVER}, "instructions": "be kind"}  # fmt: skip
            return {"server/discover": found}
        said = {"protocolVersion": revision, "capabilities": OFFERED, "serverInfo": SERVER, "instructions": "be kind"}
        return {"initialize": said, "server/discover": MethodNotFound("server/discover"), "ping": {}}

    async def start(self, receiver: Receiver, tasks: Any) -> None:
        self.receiver = receiver

    async def send(self, out: Outgoing) -> None:
        message = CODEC.loads(out.payload)
        self.said.append(message)
        self.safe.append(out.safe)
        self._changed.set()
        answer = self.answers.get(message.get("method", ""))
        if "id" not in message or "method" not in message or answer is None:
            return
        if callable(answer):
            answer = answer(message)
        if isinstance(answer, MCPError):
            self.hear({"id": message["id"], "error": answer.to_json()}, via=message["id"])
        elif isinstance(answer, Exception):
            raise answer
        elif answer is not None:
            self.hear({"id": message["id"], "result": answer}, via=message["id"])

    def hear(self, message: Said, via: Any = None) -> None:
        decoded = CODEC.decode(CODEC.dumps({"jsonrpc": "2.0", **message}))
        assert not isinstance(decoded, list)
        self.receiver.message(decoded, None if self.duplex else via)

    def of(self, method: str) -> list[Said]:
        return [message for message in self.said if message.get("method") == method]

    async def until(self, method: str, count: int = 1) -> Said:
        with anyio.fail_after(LIMIT):
            while len(self.of(method)) < count:
                self._changed = anyio.Event()
                await self._changed.wait()
        return self.of(method)[count - 1]

    async def answer_to(self, id: Any) -> Said:
        """What the client answered to a question of ours."""
        with anyio.fail_after(LIMIT):
            while True:
                for message in self.said:
                    if message.get("id") == id and "method" not in message:
                        return message
                self._changed = anyio.Event()
                await self._changed.wait()

    async def cancel(self, request_id: Any) -> None:
        self.cancelled.append(request_id)

    def settle(self, revision: Revision) -> None: ...

    async def listen(self) -> None: ...

    async def aclose(self) -> None:
        self.closed += 1


@asynccontextmanager
async def on(wire: Wire, **options: Any) -> AsyncIterator[Client]:
    with anyio.fail_after(2 * LIMIT):
        async with Client(wire, **{"timeout": LIMIT, **options}) as client:
            yield client


def modern(answers: dict[str, Any] | None = None, *, duplex: bool = True) -> Wire:
    return Wire(answers, revision="2026-07-28", duplex=duplex)


# --- calls ----------------------------------------------------------------------------------------------------------


async def test_a_session_begins_with_a_handshake() -> None:
    wire = Wire({"tools/call": {"content": []}})
    async with on(wire, revision="2025-11-25", name="me", version="2") as client:
        assert await client.call_tool("a", {"b": 1}) == {"content": []}
        assert (client.revision.name, client.modern, client.session_id) == ("2025-11-25", False, None)
        assert (client.server_info, client.server_capabilities, client.instructions) == (SERVER, OFFERED, "be kind")
    first, second, call = wire.said
    assert first["params"] == {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "me", "version": "2"},
    }  # fmt: skip
    assert second == {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert call["params"] == {"name": "a", "arguments": {"b": 1}} and wire.closed == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (-32700, ParseError), (-32600, InvalidRequest), (-32601, MethodNotFound), (-32602, InvalidParams),
        (-32002, ResourceNotFound), (-32020, HeaderMismatch), (-32021, MissingClientCapability),
        (-32022, UnsupportedProtocolVersion), (7, MCPError),
    ],
)  # fmt: skip
async def test_an_error_is_an_exception_by_its_code(error: int, kind: type[MCPError]) -> None:
    wire = Wire({"x": MCPError(error, "said", {"a": 1})})
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(MCPError) as caught:
            await client.request("x")
    found = caught.value
    assert type(found) is kind and (found.code, found.message, found.data) == (error, "said", {"a": 1})


async def test_a_missing_resource_is_the_same_in_either_era() -> None:
    for wire, revision in ((Wire(), "2025-11-25"), (modern(), "2026-07-28")):
        code = REVISIONS[revision].missing_resource
        wire.answers["resources/read"] = MCPError(code, "gone", {"uri": "a://b"})
        async with on(wire, revision=revision) as client:
            with pytest.raises(ResourceNotFound):
                await client.read_resource("a://b")
    assert type(answered_error({"code": -32602, "message": "bad"}, "resources/read")) is InvalidParams


async def test_progress_is_heard_in_order_and_before_the_result() -> None:
    heard: list[Any] = []

    def work(message: Said) -> Any:
        token = message["params"]["_meta"]["progressToken"]
        for params in ({"progress": 1}, {"progress": 2.5, "total": 3, "message": "m"}, {"progress": "x"}):
            wire.hear({"method": "notifications/progress", "params": {"progressToken": token, **params}})
        wire.hear({"method": "notifications/progress", "params": {"progressToken": "nobody", "progress": 9}})
        return {"content": []}

    async def later(*told: Any) -> None:
        await anyio.sleep(0)
        heard.append(told)

    wire = Wire({"tools/call": work})
    async with on(wire, revision="2025-11-25") as client:
        await client.call_tool("a", progress=lambda *told: heard.append(told))
        assert heard == [(1, None, None), (2.5, 3, "m")]
        heard.clear()
        await client.call_tool("a", progress=later)
        assert heard == [(1, None, None), (2.5, 3, "m")]


async def test_a_progress_callback_that_fails_is_logged_and_the_call_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def work(message: Said) -> Any:
        token = message["params"]["_meta"]["progressToken"]
        wire.hear({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        return {"content": []}

    async def later(*told: Any) -> None:
        raise ZeroDivisionError

    wire = Wire({"tools/call": work})
    async with on(wire, revision="2025-11-25") as client:
        assert await client.call_tool("a", progress=lambda *told: 1 / 0) == {"content": []}
        assert await client.call_tool("a", progress=later) == {"content": []}
    assert len([record for record in caplog.records if "progress callback" in record.message]) == 2


@on_a_still_clock
async def test_a_timeout_is_told_and_the_late_answer_is_dropped() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(RequestTimeout, match="0.05"):
            await client.call_tool("a", timeout=0.05)
        told = await wire.until("notifications/cancelled")
        (call,) = wire.of("tools/call")
        assert told["params"]["requestId"] == call["id"]
        for _ in range(2):
            wire.hear({"id": call["id"], "result": {"late": True}})
        wire.answers["ping"] = {}
        await client.ping()


@on_a_still_clock
async def test_the_caller_who_leaves_tells_the_server() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        with anyio.move_on_after(0.05):
            await client.call_tool("a")
        told = await wire.until("notifications/cancelled")
        assert told["params"]["requestId"] == wire.of("tools/call")[0]["id"]


async def test_a_handshake_is_never_cancelled() -> None:
    wire = Wire({"initialize": lambda message: None})
    with pytest.raises(RequestTimeout):
        async with on(wire, revision="2025-11-25", timeout=0.05):
            raise AssertionError
    assert not wire.of("notifications/cancelled") and wire.closed == 1


@pytest.mark.parametrize("id", ["1", 999, 1.0, True])
@on_a_still_clock
async def test_only_the_id_that_was_given_out_is_an_id(id: Any) -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(RequestTimeout):
                    await client.call_tool("a", timeout=0.1)

            tasks.start_soon(ask)
            await wire.until("tools/call")
            try:
                wire.hear({"id": id, "result": {}})
            except MCPError:  # the codec has refused it already
                pass


@pytest.mark.parametrize("value", [None, [], "text", 1])
async def test_a_result_is_an_object(value: Any) -> None:
    wire = Wire()
    wire.answers["x"] = lambda message: wire.hear({"id": message["id"], "result": value})
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(InvalidAnswer):
            await client.request("x")


async def test_when_the_transport_ends_so_does_every_call_at_once() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises(ConnectionLost, match="the wire"):
                    await client.call_tool("a", timeout=None)

            tasks.start_soon(ask)
            await wire.until("tools/call")
            wire.receiver.closed(OSError("broken"))
        with anyio.fail_after(LIMIT):
            with pytest.raises(ConnectionLost):
                await client.ping()
            with pytest.raises(ConnectionLost):
                await client.notify("x")
            assert isinstance(await client.wait_closed(), ConnectionLost)


async def test_what_did_not_leave_is_an_error_and_nothing_is_left_behind() -> None:
    wire = Wire({"x": ConnectionLost("no", sent=False)})
    wire.answers["x"] = lambda message: OSError("pipe")
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(OSError, match="pipe"):
            await client.request("x")
        assert not client._conversation.calls.running()


async def test_an_exception_of_the_user_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with on(Wire(), revision="2025-11-25"):
            raise ZeroDivisionError


async def test_a_client_is_entered_once() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(RuntimeError, match="once"):
            async with client:
                raise AssertionError


@pytest.mark.parametrize("wrong", [{"revision": "1999"}, {"timeout": 0}, {"ping_every": -1}, {"transport": "ftp"}])
def test_an_option_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Client("http://localhost/mcp", **wrong)


async def test_progress_that_nobody_awaits_in_time_is_superseded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_PROGRESS", 2)
    heard: list[float] = []

    async def later(done: float, total: float | None, message: str | None) -> None:
        heard.append(done)

    def work(message: Said) -> Any:
        token = message["params"]["_meta"]["progressToken"]
        for number in range(5):
            wire.hear({"method": "notifications/progress", "params": {"progressToken": token, "progress": number}})
        return {"content": []} if message["params"]["name"] == "a" else None

    wire = Wire({"tools/call": work})
    async with on(wire, revision="2025-11-25") as client:
        await client.call_tool("a", progress=later)
        assert heard == [3, 4]
        # Asked for and not wanted: a call without a callback, with a token of its own.
        await client.request("tools/call", {"name": "a", "_meta": {"progressToken": "mine"}})
        heard.clear()
        with anyio.move_on_after(0.05):
            await client.call_tool("b", progress=later)
        assert heard == [3, 4]


async def test_a_server_that_cannot_be_told_of_a_cancellation_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire({"ping": {}})
    async with on(wire, revision="2025-11-25") as client:
        send = wire.send

        async def broken(out: Outgoing) -> None:
            if out.method == "notifications/cancelled":
                raise OSError("pipe")
            await send(out)

        wire.send = broken  # type: ignore[method-assign]
        with caplog.at_level(logging.DEBUG, "mcp_h11"):
            with pytest.raises(RequestTimeout):
                await client.call_tool("a", timeout=0.05)
            await client.ping()
            await anyio.sleep(0)
    assert "was not told" in caplog.text


async def test_over_http_a_missed_ping_ends_what_runs_and_the_client_may_be_used_on() -> None:
    wire = Wire({"ping": lambda message: None, "x": {}}, duplex=False)
    async with on(wire, revision="2025-11-25", ping_every=0.05, ping_timeout=0.05) as client:
        with pytest.raises(ConnectionLost, match="pings"):
            await client.call_tool("a", timeout=None)
        assert await client.request("x") == {}


async def test_what_is_not_connected_says_so() -> None:
    client = Client("http://localhost/mcp")
    with pytest.raises(RuntimeError, match="not connected"):
        client.server_info  # noqa: B018


# --- lists ----------------------------------------------------------------------------------------------------------


async def test_all_pages_are_walked_and_an_empty_cursor_is_a_cursor() -> None:
    pages = {None: ("a", ""), "": ("b", "2"), "2": ("c", None)}

    def page(message: Said) -> Any:
        name, following = pages[message["params"].get("cursor")]
        return {"prompts": [{"name": name}]} | ({} if following is None else {"nextCursor": following})

    async with on(Wire({"prompts/list": page}), revision="2025-11-25") as client:
        assert [prompt["name"] for prompt in await client.list_prompts()] == ["a", "b", "c"]


async def test_a_list_may_have_as_many_pages_as_the_limit_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_PAGES", 3)
    pages = 3

    def page(message: Said) -> Any:
        number = int(message["params"].get("cursor", 1))
        return {"resources": []} | ({} if number == pages else {"nextCursor": str(number + 1)})

    wire = Wire({"resources/list": page})
    async with on(wire, revision="2025-11-25") as client:
        assert await client.list_resources() == []
        pages = 4
        with pytest.raises(InvalidAnswer, match="3 pages"):
            await client.list_resources()
    assert len(wire.of("resources/list")) == 6


def paged(page: Said, pages: int) -> Callable[[Said], Said]:
    """That page so many times, each with the cursor of the next."""

    def answer(message: Said) -> Said:
        number = int(message["params"].get("cursor", 1))
        return page | ({} if number == pages else {"nextCursor": str(number + 1)})

    return answer


async def test_the_pages_of_a_list_have_one_budget_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # 500 values of few bytes each: as objects they take far more than their text.
    page = {"prompts": [{"name": [[]] * 500}]}
    wire = Wire({"prompts/list": paged(page, 3)})
    async with on(wire, revision="2025-11-25") as client:
        followed = (page | {"nextCursor": "2"}, page | {"nextCursor": "3"}, page)
        size = sum(lists.memory_of(JSON(), result) for result in followed)
        assert size > 3 * 500 * sys.getsizeof([])
        monkeypatch.setattr(lists, "MAX_LIST_SIZE", size)
        assert len(await client.list_prompts()) == 3
        monkeypatch.setattr(lists, "MAX_LIST_SIZE", size - 1)
        with pytest.raises(InvalidAnswer, match=f"more than {size - 1} bytes together"):
            await client.list_prompts()
        assert len(wire.of("prompts/list")) == 6
        # The list that never ends is over when the budget is.
        wire.answers["prompts/list"] = paged(page, 10**9)
        with pytest.raises(InvalidAnswer, match="bytes together"):
            await client.list_prompts()
        assert len(wire.of("prompts/list")) == 9


@pytest.mark.parametrize("own", [True, False])
async def test_the_pages_of_a_list_have_one_budget_of_time(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each page takes 40 of 100 seconds of a clock that the test moves: the fourth is not asked for.
    passed, now = [0.0], anyio.current_time
    page = paged({"tools": []}, 10**9)

    def slow(message: Said) -> Said:
        passed[0] += 40
        return page(message)

    wire = Wire({"tools/list": slow, "resources/list": paged({"resources": []}, 5)})
    async with on(wire, revision="2025-11-25", timeout=LIMIT if own else 100.0) as client:
        monkeypatch.setattr(client_client.anyio, "current_time", lambda: now() + passed[0])
        with pytest.raises(RequestTimeout, match="no answer to tools/list within 100 s, all pages together"):
            await (client.list_tools(timeout=100.0) if own else client.list_tools())
        assert len(wire.of("tools/list")) == 3
        assert await client.list_resources(timeout=None) == []


@on_a_still_clock
async def test_a_page_that_never_comes_ends_with_the_time_of_the_list() -> None:
    wire = Wire({"prompts/list": paged({"prompts": []}, 2)})
    answer = wire.answers["prompts/list"]
    wire.answers["prompts/list"] = lambda message: answer(message) if "cursor" not in message["params"] else None
    wire.answers["tools/list"] = lambda message: None
    async with on(wire, revision="2025-11-25", timeout=0.1) as client:
        with pytest.raises(RequestTimeout, match="no answer to prompts/list within 0.1 s, all pages together"):
            await client.list_prompts()
        with pytest.raises(RequestTimeout, match="no answer to tools/list within"):
            await client.list_tools()


async def test_reading_the_tools_again_takes_no_longer_than_a_request_may(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (0.1, None):
        monkeypatch.setattr(conversation, "SEND_LIMIT", 0.1 if seconds is None else LIMIT * 10)
        wire = modern({"tools/call": HeaderMismatch("x"), "tools/list": lambda message: None}, duplex=False)
        async with on(wire, revision="2026-07-28") as client:
            with pytest.raises(HeaderMismatch):
                await client.call_tool("a", timeout=seconds)
        assert len(wire.of("tools/list")) == 1 and len(wire.of("tools/call")) == 2


async def test_a_list_may_have_as_many_entries_as_the_limit_and_not_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "MAX_ITEMS", 2)
    wire = Wire({"resources/templates/list": {"resourceTemplates": [{}, {}]}, "prompts/list": {"prompts": [{}] * 3},
                 "tools/list": {"no": []}})  # fmt: skip
    async with on(wire, revision="2025-11-25") as client:
        assert len(await client.list_resource_templates()) == 2
        with pytest.raises(InvalidAnswer, match="2 entries"):
            await client.list_prompts()
        with pytest.raises(InvalidAnswer, match="without tools"):
            await client.list_tools()


async def test_what_may_be_sent_again_is_marked() -> None:
    tools = [
        {"name": "r", "inputSchema": {}, "annotations": {"readOnlyHint": True}},
        {"name": "i", "inputSchema": {}, "annotations": {"idempotentHint": True}},
        {"name": "n", "inputSchema": {}, "annotations": {"readOnlyHint": "yes"}},
        {"name": "p", "inputSchema": {}},
    ]
    wire = Wire({"tools/list": {"tools": tools}, "tools/call": {}, "x": {}, "prompts/get": {}})
    async with on(wire, revision="2025-11-25") as client:
        await client.list_tools()
        for name in ("r", "i", "n", "p", "unknown"):
            await client.call_tool(name)
        await client.get_prompt("p", {"a": "b"})
        await client.request("x")
        await client.request("x", safe=True)
    assert wire.safe[2:] == [True, True, True, False, False, False, True, False, True]


# --- what a server may ask ------------------------------------------------------------------------------------------


async def sample(params: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}


async def test_capabilities_follow_from_callbacks() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25", on_sampling=sample, on_elicitation=sample, on_roots=[{"uri": "file:///"}],
                  capabilities={"elicitation": {"form": {}, "url": {}}}):  # fmt: skip
        wire.hear({"id": 1, "method": "roots/list"})
        wire.hear({"id": "s", "method": "sampling/createMessage", "params": {}})
        wire.hear({"id": 3, "method": "elicitation/create", "params": {"mode": "url"}})
        assert (await wire.answer_to(1))["result"] == {"roots": [{"uri": "file:///"}]}
        assert (await wire.answer_to("s"))["result"]["model"] == "m"
        assert "result" in await wire.answer_to(3)
    assert wire.of("initialize")[0]["params"]["capabilities"] == {
        "sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {"listChanged": True},
    }  # fmt: skip


async def test_what_was_not_declared_is_refused_and_ping_is_always_answered() -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25", on_elicitation=sample):
        wire.hear({"id": 1, "method": "sampling/createMessage", "params": {}})
        wire.hear({"id": 2, "method": "ping"})
        wire.hear({"id": 3, "method": "elicitation/create", "params": {"mode": "url"}})
        wire.hear({"id": 4, "method": "no/such"})
        assert (await wire.answer_to(1))["error"]["code"] == -32601
        assert (await wire.answer_to(2))["result"] == {}
        assert (await wire.answer_to(3))["error"]["code"] == -32602
        assert (await wire.answer_to(4))["error"]["code"] == -32601


async def test_a_callback_that_fails_is_an_internal_error_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def secret(params: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("secret of this machine")

    async def said(params: dict[str, Any]) -> dict[str, Any]:
        raise MCPError(-1, "the user said no")

    async def wrong(params: dict[str, Any]) -> Any:
        return [1]

    async def unwritable(params: dict[str, Any]) -> dict[str, Any]:
        return {"x": object()}

    for callback, expected in ((secret, -32603), (said, -1), (wrong, -32603), (unwritable, -32603)):
        wire = Wire()
        async with on(wire, revision="2025-11-25", on_sampling=callback):
            wire.hear({"id": 1, "method": "sampling/createMessage", "params": {}})
            answer = await wire.answer_to(1)
            assert answer["error"]["code"] == expected and "secret" not in str(answer)
    assert "secret of this machine" in caplog.text


@pytest.mark.parametrize("given", [None, 2])
async def test_the_reader_does_not_wait_for_a_handler_and_too_many_questions_are_refused(given: int | None) -> None:
    release = anyio.Event()

    async def slow(params: dict[str, Any]) -> dict[str, Any]:
        await release.wait()
        return {"roots": []}

    wire = Wire()
    most = given or 100
    options = {} if given is None else {"max_questions": given}
    async with on(wire, revision="2025-11-25", on_roots=slow, **options) as client:
        for number in range(most + 1):
            wire.hear({"id": number, "method": "roots/list"})
        await client.ping()
        assert (await wire.answer_to(most))["error"]["code"] == -32603
        assert not [message for message in wire.said if message.get("id") == most - 1 and "method" not in message]
        for number in range(most + 1, 3 * most):  # who does not stop is not even refused
            wire.hear({"id": number, "method": "roots/list"})
        release.set()
        for number in range(most):
            assert (await wire.answer_to(number))["result"] == {"roots": []}
    answered = [message for message in wire.said if "method" not in message]
    assert len(answered) <= 2 * most + 1


def test_a_client_that_answers_no_question_at_all_says_so_by_having_no_callback() -> None:
    with pytest.raises(ValueError, match="max_questions is at least 1, not 0"):
        Client("http://127.0.0.1:1/mcp", max_questions=0)


async def test_the_server_takes_a_question_back() -> None:
    cancelled = anyio.Event()

    async def slow(params: dict[str, Any]) -> dict[str, Any]:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_roots=slow) as client:
        wire.hear({"id": 5, "method": "roots/list"})
        wire.hear({"id": 5, "method": "roots/list"})
        await client.ping()
        for wrong in ("5", 6, None, [1]):
            wire.hear({"method": "notifications/cancelled", "params": {"requestId": wrong}})
        assert not cancelled.is_set()
        wire.hear({"method": "notifications/cancelled", "params": {"requestId": 5}})
        with anyio.fail_after(LIMIT):
            await cancelled.wait()
        await client.ping()
    assert not [message for message in wire.said if message.get("id") == 5 and "method" not in message]


async def test_a_question_is_for_the_call_that_it_came_with() -> None:
    async def mine(method: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"mine": method}

    heard: list[str] = []
    wire = Wire(duplex=False)
    async with on(
        wire, revision="2025-11-25", capabilities={"roots": {}, "sampling": {}}, on_sampling=sample
    ) as client:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                await client.request("x", on_request=mine, on_notification=lambda method, _: heard.append(method))

            tasks.start_soon(ask)
            call = await wire.until("x")
            wire.hear({"id": 1, "method": "roots/list"}, via=call["id"])
            wire.hear({"id": 2, "method": "elicitation/create"}, via=call["id"])
            wire.hear({"id": 3, "method": "roots/list"}, via=None)
            wire.hear({"method": "notifications/message", "params": {}}, via=call["id"])
            wire.hear({"method": "notifications/message", "params": {}}, via=None)
            assert (await wire.answer_to(1))["result"] == {"mine": "roots/list"}
            assert (await wire.answer_to(2))["error"]["code"] == -32601
            assert (await wire.answer_to(3))["error"]["code"] == -32601
            wire.hear({"id": call["id"], "result": {}}, via=call["id"])
    assert heard == ["notifications/message"]


@on_a_still_clock
async def test_the_clock_of_a_call_stands_still_while_its_question_is_answered() -> None:
    async def slow(params: dict[str, Any]) -> dict[str, Any]:
        await anyio.sleep(0.3)
        return {"roots": []}

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_roots=slow) as client:
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                assert await client.call_tool("a", timeout=0.2) == {"content": []}

            tasks.start_soon(ask)
            call = await wire.until("tools/call")
            wire.hear({"id": 1, "method": "roots/list"})
            await wire.answer_to(1)
            wire.hear({"id": call["id"], "result": {"content": []}})


# --- what a server tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
async def test_what_the_server_tells_reaches_its_callback(later: bool) -> None:
    heard: list[Any] = []

    def callback(name: str) -> Any:
        def at_once(*told: Any) -> None:
            heard.append((name, *told))

        async def then(*told: Any) -> None:
            heard.append((name, *told))

        return then if later else at_once

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_log=callback("log"), on_list_changed=callback("list"),
                  on_updated=callback("updated"), on_notification=callback("all")) as client:  # fmt: skip
        wire.hear({"method": "notifications/message", "params": {"level": "info"}})
        wire.hear({"method": "notifications/prompts/list_changed"})
        wire.hear({"method": "notifications/resources/updated", "params": {"uri": "a://b"}})
        wire.hear({"method": "notifications/resources/updated", "params": {"uri": 1}})
        wire.hear({"method": "notifications/own", "params": {"x": 1}})
        await client.ping()
        await anyio.sleep(0)
    assert [one for one in heard if one[0] != "all"] == [
        ("log", {"level": "info"}),
        ("list", "prompts"),
        ("updated", "a://b"),
    ]
    assert len([one for one in heard if one[0] == "all"]) == 5


async def test_callbacks_that_fail_or_do_not_keep_up_harm_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks, "MAX_UNHEARD", 2)
    heard = []

    async def slow(params: dict[str, Any]) -> None:
        heard.append(params)
        raise ValueError

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_log=slow, on_list_changed=lambda kind: 1 / 0) as client:
        wire.hear({"method": "notifications/tools/list_changed"})
        for _ in range(4):
            wire.hear({"method": "notifications/message", "params": {}})
        await client.ping()
        await anyio.sleep(0)
    assert len(heard) == 2 and caplog.text.count("was dropped") == 2


async def test_a_client_that_is_left_forgets_what_nobody_heard() -> None:
    async def never(params: dict[str, Any]) -> None:
        await anyio.sleep_forever()

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_log=never):
        for _ in range(3):
            wire.hear({"method": "notifications/message", "params": {}})


# --- levels, pings, completion --------------------------------------------------------------------------------------


async def test_the_level_is_said_in_the_words_of_the_era() -> None:
    for wire, revision in ((Wire({"logging/setLevel": {}, "x": {}}), "2025-11-25"), (modern({"x": {}}), "2026-07-28")):
        async with on(wire, revision=revision) as client:
            await client.set_log_level("warning")
            await client.request("x")
        meta = wire.of("x")[0]["params"].get("_meta", {})
        assert len(wire.of("logging/setLevel")) == (0 if client.modern else 1)
        assert meta.get(f"{META}logLevel") == ("warning" if client.modern else None)


async def test_who_does_not_answer_a_ping_is_gone() -> None:
    wire = Wire({"ping": lambda message: None})
    async with on(wire, revision="2025-11-25", ping_every=0.05, ping_timeout=0.05) as client:
        with pytest.raises(ConnectionLost, match="pings"):
            await client.call_tool("a", timeout=None)
        assert wire.of("ping")


async def test_pings_that_are_answered_by_an_error_are_answered() -> None:
    wire = Wire({"ping": MethodNotFound("ping")})
    async with on(wire, revision="2025-11-25", ping_every=0.01) as client:
        await wire.until("ping", 3)
        wire.answers["x"] = {}
        await client.request("x")


async def test_completion_and_discovery() -> None:
    ref, argument = {"type": "ref/prompt", "name": "p"}, {"name": "a", "value": "v"}
    wire = Wire({"completion/complete": {"completion": {"values": ["v1"]}}})
    async with on(wire, revision="2025-11-25") as client:
        assert await client.complete(ref, argument, {"arguments": {"b": "c"}}) == {"values": ["v1"]}
        assert wire.of("completion/complete")[0]["params"] == {
            "ref": ref, "argument": argument, "context": {"arguments": {"b": "c"}},
        }  # fmt: skip
        said = await client.discover()
        assert said["supportedVersions"] == ["2025-11-25"] and said["instructions"] == "be kind"
        wire.answers["completion/complete"] = {}
        with pytest.raises(InvalidAnswer):
            await client.complete(ref, argument)
        await client.notify_roots_changed()
        assert wire.of("notifications/roots/list_changed")
    async with on(modern(), revision="2026-07-28") as client:
        assert (await client.discover())["supportedVersions"] == ["2026-07-28"]
        await client.notify_roots_changed()
        await client.ping()


# --- 2026-07-28: results and rounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("duplex", [True, False])
async def test_questions_are_answered_and_the_state_goes_back_as_it_came(duplex: bool) -> None:
    state = 'ä "\\u0000\u2028" =' + "\U0001f600" * 3
    asked: list[Any] = []

    async def elicit(params: dict[str, Any]) -> dict[str, Any]:
        asked.append(params)
        return {"action": "accept", "content": {"x": 1}}

    def call(message: Said) -> Any:
        if "inputResponses" not in message["params"]:
            question = {"method": "elicitation/create", "params": {"message": "?"}}
            roots = {"method": "roots/list"}
            return {"resultType": "input_required", "inputRequests": {"k": question, "r": roots}, "requestState": state}
        return {"resultType": "complete", "content": []}

    wire = modern({"tools/call": call, "x": {}}, duplex=duplex)
    async with on(wire, revision="2026-07-28", on_elicitation=elicit, on_roots=[]) as client:
        assert (await client.call_tool("a", {"b": 1}))["content"] == []
        await client.request("x")
    first, second = wire.of("tools/call")
    assert first["id"] != second["id"] and asked == [{"message": "?"}]
    assert second["params"]["requestState"] == state and second["params"]["arguments"] == {"b": 1}
    assert second["params"]["inputResponses"] == {
        "k": {"action": "accept", "content": {"x": 1}}, "r": {"roots": []},
    }  # fmt: skip
    assert not {"requestState", "inputResponses"} & set(wire.of("x")[0]["params"])


async def test_a_state_alone_is_sent_back_and_none_is_invented() -> None:
    def call(message: Said) -> Any:
        if "requestState" in message["params"]:
            return {"resultType": "complete"}
        return {"resultType": "input_required", "requestState": "s"}

    wire = modern({"tools/call": call})
    async with on(wire, revision="2026-07-28") as client:
        await client.call_tool("a")
    assert "inputResponses" not in wire.of("tools/call")[1]["params"]


async def test_there_are_ten_rounds_and_not_more() -> None:
    rounds = 10

    def call(message: Said) -> Any:
        if len(wire.of("tools/call")) > rounds:
            return {"content": []}
        return {"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}}

    wire = modern({"tools/call": call})
    async with on(wire, revision="2026-07-28", on_roots=[]) as client:
        assert await client.call_tool("a") == {"content": []}
        assert len(wire.of("tools/call")) == 11
        wire.said.clear()
        rounds = 11
        with pytest.raises(InvalidAnswer, match="10 rounds"):
            await client.call_tool("a")
        assert len(wire.of("tools/call")) == 11


@pytest.mark.parametrize(
    "answer",
    [
        {"resultType": "what"}, {"resultType": 1}, {"resultType": None}, {"resultType": "task"},
        {"resultType": "input_required"}, {"resultType": "input_required", "requestState": 1},
        {"resultType": "input_required", "inputRequests": []}, {"resultType": "input_required", "inputRequests": [1]},
        {"resultType": "input_required", "inputRequests": {"a": {"method": "tools/call"}}},
        {"resultType": "input_required", "inputRequests": {"a": "b"}},
        {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list", "params": 1}}},
        {"resultType": "input_required", "inputRequests": {str(n): {"method": "roots/list"} for n in range(101)}},
    ],
)  # fmt: skip
async def test_a_result_that_the_protocol_does_not_have_is_invalid(answer: Said) -> None:
    async with on(modern({"tools/call": answer}), revision="2026-07-28", on_roots=[]) as client:
        with pytest.raises(InvalidAnswer):
            await client.call_tool("a")


async def test_input_may_be_asked_for_where_it_may_and_only_of_what_was_declared() -> None:
    wanted = {"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}}
    async with on(modern({"tools/call": wanted, "prompts/list": wanted}), revision="2026-07-28") as client:
        with pytest.raises(InvalidAnswer):
            await client.request("prompts/list")
        with pytest.raises(MethodNotFound):
            await client.call_tool("a")
        assert await client.request("tools/call", {"name": "a"}, rounds=False) == wanted


async def test_a_declared_result_type_is_returned() -> None:
    wire = modern({"tools/call": {"resultType": "task", "taskId": "1"}})
    async with on(wire, revision="2026-07-28", result_types=("task",)) as client:
        assert (await client.call_tool("a"))["taskId"] == "1"


async def test_no_request_of_a_modern_server_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    wire = modern({"x": {}}, duplex=False)
    async with on(wire, revision="2026-07-28", on_roots=[]) as client:
        wire.hear({"id": 1, "method": "roots/list"})
        await client.request("x")
    assert not [message for message in wire.said if "method" not in message] and "ignored" in caplog.text


async def test_an_argument_that_no_header_can_carry_is_an_error_here() -> None:
    async with on(modern(duplex=False), revision="2026-07-28") as client:
        with pytest.raises(InvalidParams):
            await client.call_tool("\ud800")


# --- callbacks of any kind ------------------------------------------------------------------------------------------

ASKS = {"sampling/createMessage": "on_sampling", "elicitation/create": "on_elicitation", "roots/list": "on_roots"}


def as_any_kind(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """The same callback in each form that a user may write it in."""

    async def coroutine(*given: Any) -> Any:
        return function(*given)

    class Called:
        def __call__(self, *given: Any) -> Any:
            return function(*given)

    class Awaited:
        async def __call__(self, *given: Any) -> Any:
            return function(*given)

        async def method(self, *given: Any) -> Any:
            return function(*given)

    return {
        "function": function, "coroutine function": coroutine, "lambda": lambda *given: coroutine(*given),
        "partial": partial(function), "partial of a coroutine function": partial(coroutine), "object": Called(),
        "object that is awaited": Awaited(), "bound method": Awaited().method,
    }  # fmt: skip


KINDS = list(as_any_kind(lambda: None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ASKS)
async def test_a_question_is_answered_by_a_callback_of_any_kind(method: str, kind: str) -> None:
    answer = as_any_kind(lambda params: {"said": params["a"], "thread": threading.current_thread().name})[kind]
    wire = Wire()
    async with on(wire, revision="2025-11-25", **{ASKS[method]: answer}):
        wire.hear({"id": 7, "method": method, "params": {"a": 1}})
        result = (await wire.answer_to(7))["result"]
    assert result["said"] == 1
    # A plain function may ask a person and wait: the loop goes on.
    assert (result["thread"] != threading.current_thread().name) == (kind in ("function", "partial", "object"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_question_of_a_round_or_a_request_is_answered_by_a_callback_of_any_kind(kind: str) -> None:
    def call(message: Said) -> Said:
        if "inputResponses" in message["params"]:
            return {"content": [], "said": message["params"]["inputResponses"]}
        return {"resultType": "input_required", "inputRequests": {"q": {"method": "elicitation/create", "params": {}}}}

    own = as_any_kind(lambda method, params: {"action": method})[kind]
    everybodys = as_any_kind(lambda params: {"action": "accept"})[kind]
    async with on(modern({"tools/call": call}), revision="2026-07-28", on_elicitation=everybodys) as client:
        assert (await client.call_tool("a"))["said"] == {"q": {"action": "accept"}}
        result = await client.request("tools/call", {"name": "a"}, on_request=own)
        assert result["said"] == {"q": {"action": "elicitation/create"}}


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_told_is_told_to_a_callback_of_any_kind(kind: str) -> None:
    heard: dict[str, list[Any]] = {name: [] for name in ("log", "lists", "updated", "all", "own", "progress")}
    done = anyio.Event()

    def hears(name: str) -> Callable[..., Any]:
        def hear(*given: Any) -> None:
            heard[name].append(given)
            if name == "all" and len(heard["all"]) == 4:
                done.set()

        return as_any_kind(hear)[kind]

    def call(message: Said) -> Any:
        token = message["params"]["_meta"]["progressToken"]
        wire.hear({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        wire.hear({"method": "notifications/message", "params": {"data": "x"}})
        wire.hear({"method": "notifications/tools/list_changed"})
        wire.hear({"method": "notifications/resources/updated", "params": {"uri": "a://b"}})
        return {"content": []}

    wire = Wire({"tools/call": call})
    told = {"on_log": "log", "on_list_changed": "lists", "on_updated": "updated", "on_notification": "all"}
    async with on(wire, revision="2025-11-25", **{name: hears(what) for name, what in told.items()}) as client:
        await client.request("tools/call", {"name": "a"}, progress=hears("progress"), on_notification=hears("own"))
        with anyio.fail_after(LIMIT):
            await done.wait()
        await anyio.sleep(0)
    assert heard["log"] == [({"data": "x"},)] and heard["lists"] == [("tools",)] and heard["updated"] == [("a://b",)]
    assert [method for method, _ in heard["own"]] == ["notifications/progress"]
    assert heard["progress"] == [(1, None, None)] and len(heard["all"]) == 4


async def test_a_callback_that_waits_for_a_person_does_not_hold_up_the_end() -> None:
    asked, forever = threading.Event(), threading.Event()

    def person(params: Said) -> Said:
        asked.set()
        forever.wait(LIMIT * 4)
        return {"action": "accept"}

    wire = Wire()
    try:
        async with on(wire, revision="2025-11-25", on_elicitation=person):
            wire.hear({"id": 1, "method": "elicitation/create", "params": {}})
            assert await anyio.to_thread.run_sync(asked.wait, LIMIT)
    finally:
        forever.set()
    assert not [message for message in wire.said if message.get("id") == 1 and "result" in message]


async def test_a_plain_callback_that_fails_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(params: Said) -> Said:
        if params.get("a"):
            raise InvalidParams("not so")
        raise ZeroDivisionError

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_sampling=refuse, on_elicitation=lambda params: "no dict"):  # type: ignore[arg-type,return-value]
        wire.hear({"id": 1, "method": "sampling/createMessage", "params": {}})
        wire.hear({"id": 2, "method": "sampling/createMessage", "params": {"a": 1}})
        wire.hear({"id": 3, "method": "elicitation/create", "params": {}})
        codes = [(await wire.answer_to(number))["error"]["code"] for number in (1, 2, 3)]
    assert codes == [-32603, -32602, -32603] and "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({name: value}, f"{name} is a function or a coroutine function, not {type(value).__name__}")
          for name in ("on_sampling", "on_elicitation", "on_log", "on_list_changed", "on_updated", "on_notification")
          for value in ("text", {"action": "accept"})),
        ({"on_roots": 5}, "on_roots is a list of roots"), ({"on_roots": "file:///a"}, "on_roots is a list of roots"),
        ({"on_roots": {"uri": "file:///a"}}, "on_roots is a list of roots"), ({"token": 5}, "token is a text"),
        ({"on_roots": ["file:///a"]}, "a root of on_roots"), ({"middleware": [None]}, "middleware is a list"),
        ({"middleware": BearerToken(lambda: "t")}, "not iterable"),
    ],
)  # fmt: skip
def test_what_can_never_be_called_is_refused_when_the_client_is_made(options: Said, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        Client("http://127.0.0.1:1/mcp", **options)


@pytest.mark.parametrize("name", ["progress", "on_notification", "on_request"])
async def test_what_can_never_be_called_is_refused_when_the_request_is_made(name: str) -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client:
        with pytest.raises(TypeError, match=f"{name} is a function"):
            await client.request("x", **{name: "text"})
    assert not wire.of("x")


# --- what a server can say as often as it likes ---------------------------------------------------------------------


async def test_notifications_that_nobody_has_time_for_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    going = anyio.Event()

    async def slow(method: str, params: Said) -> None:
        await going.wait()

    def many(message: Said) -> Said:
        for _ in range(callbacks.MAX_UNHEARD + 19_000):
            wire.hear({"method": "notifications/x", "params": {}})
        return {"content": []}

    wire = Wire({"tools/call": many})
    async with on(wire, revision="2025-11-25", on_notification=slow) as client:
        await client.call_tool("a")
        assert len(caplog.records) == 1 and "one was dropped" in caplog.text
        going.set()
    counted = int(caplog.messages[1].split()[0])
    assert len(caplog.records) == 2 and "more of: more than" in caplog.messages[1] and 18_990 < counted < 19_000


async def test_a_callback_that_fails_each_time_has_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    ran, all_ran = [0], anyio.Event()

    async def later(params: Said) -> None:
        ran[0] += 1
        if ran[0] == 100:
            all_ran.set()
        raise ZeroDivisionError

    def at_once(method: str, params: Said) -> None:
        raise KeyError

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_notification=at_once, on_log=later):
        for _ in range(100):
            wire.hear({"method": "notifications/message", "params": {}})
        with anyio.fail_after(LIMIT):
            await all_ran.wait()
        await anyio.sleep(0)
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert sum(int(line.split()[0]) for line in caplog.messages if "more of: a callback failed" in line) == 199


async def test_progress_and_questions_that_fail_each_time_have_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def later(*told: Any) -> None:
        raise ZeroDivisionError

    def refuse(params: Said) -> Said:
        raise ZeroDivisionError

    def work(message: Said) -> Any:
        token = message["params"]["_meta"]["progressToken"]
        for _ in range(100):
            wire.hear({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        return {"content": []}

    wire = Wire({"tools/call": work})
    async with on(wire, revision="2025-11-25", on_elicitation=refuse, on_sampling=lambda params: None) as client:  # type: ignore[arg-type,return-value]
        for progress in (lambda *told: 1 / 0, later):
            caplog.clear()
            await client.call_tool("a", progress=progress)
            assert [line for line in caplog.messages if "progress callback" in line] == [
                "the progress callback of tools/call failed", "the progress callback of tools/call failed 99 times more"
            ]  # fmt: skip
        caplog.clear()
        for number in range(50):
            wire.hear({"id": number, "method": "elicitation/create", "params": {}})
            wire.hear({"id": 50 + number, "method": "sampling/createMessage", "params": {}})
        for number in range(100):
            await wire.answer_to(number)
        assert len(caplog.records) == 2
    assert sum(line.startswith("49 more of: the callback") for line in caplog.messages) == 2


async def test_plain_callbacks_of_a_client_have_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "MAX_THREADS", 2)
    began, go = threading.Semaphore(0), threading.Event()
    running, lock = [0, 0], threading.Lock()

    def answer(params: Said) -> Said:
        with lock:
            running[0] += 1
            running[1] = max(running)
        began.release()
        go.wait(LIMIT)
        with lock:
            running[0] -= 1
        return {"action": "accept"}

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_elicitation=answer):
        for number in range(6):
            wire.hear({"id": number, "method": "elicitation/create", "params": {}})
        for _ in range(2):
            assert await anyio.to_thread.run_sync(began.acquire, True, LIMIT)
        go.set()
        for number in range(6):
            assert (await wire.answer_to(number))["result"] == {"action": "accept"}
    assert running[1] == 2


async def test_changes_that_nobody_reads_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    async with on(wire, revision="2025-11-25") as client, client.listen(["tools"]):
        for _ in range(subscriptions.MAX_UNREAD + 100):
            wire.hear({"method": "notifications/tools/list_changed"})
    assert [line.split(":")[0] for line in caplog.messages] == [
        "more than 1000 notifications were not read",
        "99 more of",
    ]


async def test_tools_that_are_left_out_are_one_line_for_each_reason(caplog: pytest.LogCaptureFixture) -> None:
    bad = {"inputSchema": {"properties": {"a": {"x-mcp-header": "A"}}}}
    tools = [{"name": f"t{n}", **bad} for n in range(100)] + [{}] * 100
    async with on(modern({"tools/list": {"tools": tools}}, duplex=False), revision="2026-07-28") as client:
        assert await client.list_tools() == []
        assert len(caplog.records) == 2
    assert len(caplog.records) == 4


async def test_questions_that_cannot_be_answered_are_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def never(params: Said) -> Said:
        await anyio.sleep_forever()
        raise AssertionError

    wire = Wire()
    async with on(wire, revision="2025-11-25", on_elicitation=never):
        for number in range(1_000):
            wire.hear({"id": number, "method": "elicitation/create", "params": {}})
        wire.hear({"id": 1, "method": "elicitation/create", "params": {}})
        assert [line for line in caplog.messages if "dropped" in line] == [
            "the wire asks more than can be answered: a question was dropped"
        ]
    assert any(line.startswith("799 more of") for line in caplog.messages)


# --- 2026-07-28: kept results ---------------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def counted(result: Said) -> Callable[[Said], Said]:
    return lambda message: {**result, "resultType": "complete"}


async def test_a_result_is_kept_as_long_as_it_says_and_not_longer() -> None:
    clock = Clock()
    wire = modern({"prompts/list": counted({"prompts": [{"name": "p"}], "ttlMs": 1000, "cacheScope": "public"})})
    async with on(wire, revision="2026-07-28", cache=ResultCache(clock)) as client:
        (await client.list_prompts())[0]["name"] = "changed by the user"
        clock.now += 0.999
        assert (await client.list_prompts())[0]["name"] == "p" and len(wire.of("prompts/list")) == 1
        clock.now += 0.001
        await client.list_prompts()
        assert len(wire.of("prompts/list")) == 2


@pytest.mark.parametrize("ttl", [0, -1, None, "1000", True, float("1e400") if False else 0.0])
async def test_what_does_not_say_so_is_not_kept(ttl: Any) -> None:
    wire = modern({"prompts/list": counted({"prompts": [], "ttlMs": ttl})})
    async with on(wire, revision="2026-07-28") as client:
        await client.list_prompts()
        await client.list_prompts()
    assert len(wire.of("prompts/list")) == 2


async def test_params_tell_results_apart_and_changes_drop_them() -> None:
    kept = {"ttlMs": 60_000, "cacheScope": "public"}
    wire = modern(
        {"resources/read": counted({"contents": [], **kept}), "tools/list": counted({"tools": [], **kept}),
         "resources/list": counted({"resources": [], **kept}), "tools/call": counted(kept)}
    )  # fmt: skip
    async with on(wire, revision="2026-07-28") as client:

        async def counts() -> tuple[int, ...]:
            wire.said.clear()
            await client.read_resource("a://b")
            await client.read_resource("a://c")
            await client.list_tools()
            await client.list_resources()
            await client.call_tool("t")
            return tuple(len(wire.of(m)) for m in ("resources/read", "tools/list", "resources/list", "tools/call"))

        assert await counts() == (2, 1, 1, 1)
        assert await counts() == (0, 0, 0, 1)
        wire.hear({"method": "notifications/tools/list_changed"})
        wire.hear({"method": "notifications/resources/updated", "params": {"uri": "a://b"}})
        assert await counts() == (1, 1, 0, 1)
        wire.hear({"method": "notifications/resources/list_changed"})
        assert await counts() == (0, 0, 1, 1)


async def test_what_is_private_is_for_one_credential() -> None:
    cache = ResultCache()
    cache.put("s", "me", "tools/list", {}, {"ttlMs": 1000, "x": 1})
    cache.put("s", "me", "prompts/list", {}, {"ttlMs": 1000, "cacheScope": "public", "x": 2})
    assert cache.get("s", "me", "tools/list", {}) == {"ttlMs": 1000, "x": 1}
    assert cache.get("s", None, "tools/list", {}) is None and cache.get("s", "you", "tools/list", {}) is None
    assert cache.get("s", "you", "prompts/list", {"_meta": {}})["x"] == 2
    assert cache.get("t", "you", "prompts/list", {}) is None


def numbered() -> Wire:
    """A server that tells each asker another private name."""
    asked = count()

    def prompts(message: Said) -> Said:
        return {"prompts": [{"name": f"n{next(asked)}"}], "resultType": "complete", "ttlMs": 600_000}

    return modern({"prompts/list": prompts})


async def test_a_private_result_never_reaches_another_client_however_alike_the_two_are() -> None:
    # 400 clients that come and go: with keys made of id(), 20 of them read the result of an earlier one.
    cache, wire, read = ResultCache(), numbered(), []
    for _ in range(400):

        async def sign(call: HTTPCall, follow: Next) -> HTTPAnswer:
            return await follow(call)

        async with on(wire, revision="2026-07-28", cache=cache, middleware=[sign], token="t") as client:
            read += [(await client.list_prompts())[0]["name"] for _ in range(2)]
        del sign
    assert read == [f"n{number}" for number in range(400) for _ in range(2)]


async def test_a_client_that_is_left_leaves_nothing_private_in_a_shared_cache() -> None:
    cache, wire = ResultCache(), numbered()
    async with on(wire, revision="2026-07-28", cache=cache) as client:
        await client.list_prompts()
        wire.answers["tools/list"] = {"tools": [], "resultType": "complete", "ttlMs": 600_000, "cacheScope": "public"}
        await client.list_tools()
        assert [key[2] for key in cache._kept] == ["prompts/list", "tools/list"]
    assert [key[2] for key in cache._kept] == ["tools/list"] and cache._size == len(next(iter(cache._kept.values()))[1])


async def test_clients_that_name_one_partition_share_what_is_private() -> None:
    cache, wire, read = ResultCache(), numbered(), []
    for partition in ("ann", "bob", "ann", None, None):
        async with on(wire, revision="2026-07-28", cache=cache, cache_partition=partition) as client:
            read.append((await client.list_prompts())[0]["name"])
    assert read == ["n0", "n1", "n0", "n2", "n3"]
    with pytest.raises(TypeError, match="cache_partition is a text"):
        Client("http://127.0.0.1:1/mcp", cache_partition=7)  # type: ignore[arg-type]


def public_key(target: Any, **options: Any) -> Any:
    return Client(target, **options)._options.server


def test_a_public_result_is_shared_only_where_the_server_is_certainly_the_same() -> None:
    url, command = "https://127.0.0.1:1/mcp", ["server", "--stdio"]
    trusting, strict = ssl.create_default_context(), ssl.create_default_context()
    assert public_key(url, ssl=strict) == public_key(url, ssl=strict) == public_key(url, ssl=strict, token="t")
    assert public_key(url, ssl=strict) != public_key(url, ssl=trusting)
    assert public_key(url, ssl=strict) != public_key(url)
    assert public_key(url, headers={"X-Tenant": "a"}) != public_key(url, headers={"X-Tenant": "b"})
    assert public_key(url, headers={"authorization": "Bearer a"}) == public_key(url, headers={"Cookie": "b=c"})
    assert public_key(command, env={"KEY": "a"}) == public_key(command, env={"KEY": "a"})
    assert public_key(command, env={"KEY": "a"}) != public_key(command, env={"KEY": "b"})
    assert public_key(command, cwd="/a") != public_key(command, cwd="/b")
    hash(public_key(command, env={"KEY": "a"}))


def test_an_object_is_told_from_others_by_itself_and_not_by_what_it_says_of_itself() -> None:
    class Alike:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    one, other = Alike(), Alike()
    assert Same(one) == Same(one) and hash(Same(one)) == hash(Same(one))
    assert Same(one) != Same(other) and Same(one) != one
    gone = weakref.ref(one)
    key = Same(one)
    del one
    assert gone() is not None  # a key that outlived its object could meet a new one with the same id
    del key
    assert gone() is None


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.client.conversation import cache as resultcache

    monkeypatch.setattr(resultcache, "MAX_RESULTS", 2)
    cache = ResultCache()
    for number in range(3):
        cache.put("s", None, "tools/list", {"cursor": str(number)}, {"ttlMs": 1000})
    found = [cache.get("s", None, "tools/list", {"cursor": str(number)}) is not None for number in range(3)]
    assert found == [False, True, True]
    monkeypatch.setattr(resultcache, "MAX_CACHED_BYTES", 30)
    cache.put("s", None, "prompts/list", {}, {"ttlMs": 1000, "x": "a" * 30})
    assert cache.get("s", None, "prompts/list", {}) is None


async def test_a_retry_with_answers_is_not_kept() -> None:
    def read(message: Said) -> Any:
        if "inputResponses" in message["params"]:
            return {"contents": [], "ttlMs": 60_000, "cacheScope": "public"}
        return {"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}}

    wire = modern({"resources/read": read})
    async with on(wire, revision="2026-07-28", on_roots=[]) as client:
        await client.read_resource("a://b")
        await client.read_resource("a://b")
    assert len(wire.of("resources/read")) == 4


# --- changes --------------------------------------------------------------------------------------------------------


class Listens:
    """Answers `subscriptions/listen` by an acknowledgment."""

    def __init__(self, honoured: Said | None = None) -> None:
        self.honoured = honoured
        self.wire: Wire

    def __call__(self, message: Said) -> Any:
        agreed = message["params"]["notifications"] if self.honoured is None else self.honoured
        self.tell(message, "notifications/subscriptions/acknowledged", {"notifications": agreed})

    def tell(self, listen: Said, method: str, params: Said | None = None) -> None:
        meta = {f"{META}subscriptionId": listen["id"]}
        self.wire.hear({"method": method, "params": {**(params or {}), "_meta": meta}}, via=listen["id"])


def listening_wire(honoured: Said | None = None, *, duplex: bool = False) -> tuple[Wire, Listens]:
    listens = Listens(honoured)
    wire = modern({"subscriptions/listen": listens}, duplex=duplex)
    listens.wire = wire
    return wire, listens


@pytest.mark.parametrize("duplex", [True, False])
async def test_a_listen_hears_what_it_asked_for_until_the_server_ends_it(duplex: bool) -> None:
    wire, listens = listening_wire(duplex=duplex)
    everybody: list[str] = []
    async with on(wire, revision="2026-07-28") as client:
        client._conversation.extra_listeners.append(lambda method, _: everybody.append(method))
        async with client.listen(["tools"], ["a://b"]) as changes:
            (listen,) = wire.of("subscriptions/listen")
            assert listen["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["a://b"]}
            assert changes.honoured == listen["params"]["notifications"]
            listens.tell(listen, "notifications/tools/list_changed")
            listens.tell(listen, "notifications/resources/updated", {"uri": "a://b"})
            wire.hear({"id": listen["id"], "result": {"resultType": "complete"}}, via=listen["id"])
            heard = [method async for method, _ in changes]
        assert heard == ["notifications/tools/list_changed", "notifications/resources/updated"] and not everybody
        assert len(wire.of("subscriptions/listen")) == 1


async def test_a_listen_that_is_lost_is_opened_again_and_says_what_may_have_been_missed() -> None:
    wire, _ = listening_wire()
    wire.answers["prompts/list"] = counted({"prompts": [], "ttlMs": 60_000})
    async with on(wire, revision="2026-07-28") as client:
        await client.list_prompts()
        async with client.listen(["prompts"], ["a://b"]) as changes:
            (listen,) = wire.of("subscriptions/listen")
            wire.receiver.lost(listen["id"], ConnectionLost("cut"))
            with anyio.fail_after(LIMIT):
                assert await changes.__anext__() == ("notifications/prompts/list_changed", {})
                assert await changes.__anext__() == ("notifications/resources/updated", {"uri": "a://b"})
        await client.list_prompts()
    assert len(wire.of("subscriptions/listen")) == 2 and len(wire.of("prompts/list")) == 2


@pytest.mark.parametrize("end", ["result", "cut", "not there", "cancelled"])
async def test_for_callbacks_a_listen_that_ends_is_opened_again_whoever_ended_it(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "REOPEN_ATTEMPTS", 1)
    monkeypatch.setattr(Backoff, "delay", lambda self, failures, at_least=0.0: 0.01)
    wire, _ = listening_wire(duplex=end == "cancelled")
    heard: list[str] = []
    async with on(wire, revision="2026-07-28", on_list_changed=heard.append) as client:
        await client.subscribe("a://b")
        for time in range(3):
            listen = wire.of("subscriptions/listen")[-1]
            if end == "cut":
                wire.receiver.lost(listen["id"], ConnectionLost("cut"))
            elif end == "not there":  # a proxy whose server is started again
                wire.receiver.lost(listen["id"], HTTPStatusError(503, "not there", headers={}, error=None))
            elif end == "result":
                wire.hear({"id": listen["id"], "result": {"resultType": "complete"}}, via=listen["id"])
            else:
                wire.hear({"method": "notifications/cancelled", "params": {"requestId": listen["id"]}})
            with anyio.fail_after(LIMIT):
                while len(heard) < 2 * (time + 1):
                    await anyio.sleep(0.01)
    assert heard == ["tools", "resources"] * 3


async def test_a_server_that_ends_each_listen_at_once_is_asked_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[int] = []

    def delay(self: Backoff, failures: int, at_least: float = 0.0) -> float:
        waits.append(failures)
        return 0.001 if len(waits) < 8 else 60.0

    monkeypatch.setattr(Backoff, "delay", delay)
    monkeypatch.setattr(subscriptions, "LASTING", 0.05)
    wire, listens = listening_wire()

    def end_at_once(message: Said) -> Any:
        listens(message)
        # The fifth holds for a while.
        if len(wire.of("subscriptions/listen")) != 5:
            wire.hear({"id": message["id"], "result": {"resultType": "complete"}}, via=message["id"])

    wire.answers["subscriptions/listen"] = end_at_once
    async with on(wire, revision="2026-07-28", on_list_changed=lambda kind: None):
        with anyio.fail_after(LIMIT):
            while len(waits) < 4:
                await anyio.sleep(0.001)
            await anyio.sleep(0.1)
            fifth = wire.of("subscriptions/listen")[4]
            wire.hear({"id": fifth["id"], "result": {"resultType": "complete"}}, via=fifth["id"])
            while len(waits) < 8:
                await anyio.sleep(0.001)
    assert waits == [0, 1, 2, 3, 0, 1, 2, 3]


async def test_a_listen_that_is_refused_later_ends_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    wire, _ = listening_wire()
    async with on(wire, revision="2026-07-28", on_list_changed=lambda kind: None):
        listen = wire.of("subscriptions/listen")[0]
        wire.receiver.lost(listen["id"], InvalidParams("no more"))
        with anyio.fail_after(LIMIT):
            while "no longer hear of" not in caplog.text:
                await anyio.sleep(0.01)
    assert len(wire.of("subscriptions/listen")) == 1


async def test_a_listen_that_is_left_is_cancelled() -> None:
    wire, _ = listening_wire()
    async with on(wire, revision="2026-07-28") as client:
        async with client.listen(["tools"]):
            pass
        with anyio.fail_after(LIMIT):
            while not wire.cancelled:
                await anyio.sleep(0.01)
    assert wire.cancelled == [wire.of("subscriptions/listen")[0]["id"]]


async def test_on_pipes_a_server_ends_a_listen_by_cancelling_it() -> None:
    wire, _ = listening_wire(duplex=True)
    async with on(wire, revision="2026-07-28") as client:
        async with client.listen(["tools"]) as changes:
            (listen,) = wire.of("subscriptions/listen")
            wire.hear({"method": "notifications/cancelled", "params": {"requestId": listen["id"]}})
            with pytest.raises(StopAsyncIteration):
                await changes.__anext__()
    assert len(wire.of("subscriptions/listen")) == 1


async def test_a_listen_that_is_refused_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "ACK_LIMIT", 0.05)
    wire = modern({"subscriptions/listen": InvalidParams("no")})
    async with on(wire, revision="2026-07-28") as client:
        with pytest.raises(InvalidParams):
            async with client.listen(["tools"]):
                raise AssertionError
        wire.answers["subscriptions/listen"] = lambda message: None
        with pytest.raises(RequestTimeout):
            async with client.listen(["tools"]):
                raise AssertionError


async def test_callbacks_hear_by_one_listen_which_grows_with_subscriptions() -> None:
    wire, listens = listening_wire()
    heard: list[str] = []
    async with on(wire, revision="2026-07-28", on_list_changed=heard.append, on_updated=heard.append) as client:
        first = await wire.until("subscriptions/listen")
        assert first["params"]["notifications"] == {"toolsListChanged": True, "resourcesListChanged": True}
        await client.subscribe("a://b")
        await client.subscribe("a://b")
        second = wire.of("subscriptions/listen")[1]
        assert second["params"]["notifications"]["resourceSubscriptions"] == ["a://b"]
        listens.tell(second, "notifications/resources/updated", {"uri": "a://b"})
        listens.tell(second, "notifications/tools/list_changed")
        await client.unsubscribe("a://b")
        await client.unsubscribe("a://b")
        assert "resourceSubscriptions" not in wire.of("subscriptions/listen")[2]["params"]["notifications"]
        assert len(wire.of("subscriptions/listen")) == 3
    assert heard == ["a://b", "tools"]


async def test_a_resource_that_the_server_does_not_tell_of_is_an_error() -> None:
    wire, _ = listening_wire({})
    async with on(wire, revision="2026-07-28") as client:
        with pytest.raises(InvalidAnswer):
            await client.subscribe("a://b")


async def test_a_server_that_tells_nothing_does_not_keep_the_client_out(caplog: pytest.LogCaptureFixture) -> None:
    wire = modern({"subscriptions/listen": MethodNotFound("subscriptions/listen")})
    async with on(wire, revision="2026-07-28", on_list_changed=lambda kind: None):
        pass
    assert "will not hear of" in caplog.text


async def test_listening_in_a_session_is_what_the_session_sends() -> None:
    wire = Wire({"resources/subscribe": {}, "resources/unsubscribe": {}})
    async with on(wire, revision="2025-11-25") as client:
        async with client.listen(["prompts"], ["a://b"]) as changes:
            for method, params in (
                ("notifications/tools/list_changed", {}), ("notifications/prompts/list_changed", {}),
                ("notifications/resources/updated", {"uri": "a://b/c"}),
                ("notifications/resources/updated", {"uri": "x:"}),
            ):  # fmt: skip
                wire.hear({"method": method, "params": params})
            assert await changes.__anext__() == ("notifications/prompts/list_changed", {})
            assert await changes.__anext__() == ("notifications/resources/updated", {"uri": "a://b/c"})
        with pytest.raises(StopAsyncIteration):
            await changes.__anext__()
    assert (
        wire.of("resources/subscribe")[0]["params"] == wire.of("resources/unsubscribe")[0]["params"] == {"uri": "a://b"}
    )


async def test_who_does_not_read_loses_the_oldest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    changes = subscriptions.ChangeStream()
    for number in range(subscriptions.MAX_UNREAD + 1):
        changes.put("m", {"n": number})
    changes.end(ConnectionLost("over"))
    assert await changes.__anext__() == ("m", {"n": 1}) and "the oldest was dropped" in caplog.text
    for _ in range(subscriptions.MAX_UNREAD - 1):
        await changes.__anext__()
    with pytest.raises(ConnectionLost):
        await changes.__anext__()


# --- which era ------------------------------------------------------------------------------------------------------


def refused(status: int, error: Said | None = None) -> HTTPStatusError:
    kind = AuthorizationRequired if status in (401, 403) else HTTPStatusError
    return kind(status, "refused", headers={}, error=error)


MODERN = "modern"
LEGACY = "legacy"
UNSUPPORTED = "Unsupported protocol version"


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([{"supportedVersions": ["2026-07-28", "2025-11-25"]}], MODERN),
        ([{"supportedVersions": ["2027-01-01", "2026-07-28"]}], MODERN),
        ([{"supportedVersions": ["2025-11-25"]}], LEGACY),
        ([{}], LEGACY),
        ([{"supportedVersions": "2026-07-28"}], LEGACY),
        ([UnsupportedProtocolVersion("x", ["2026-07-28"]), {"supportedVersions": ["2026-07-28"]}], MODERN),
        ([UnsupportedProtocolVersion("x", ["2026-07-28"])] * 2, UnsupportedProtocolVersion),
        ([UnsupportedProtocolVersion("x", ["2025-11-25"])], LEGACY),
        ([UnsupportedProtocolVersion("x", ["2027-01-01", "2025-11-25"])], LEGACY),
        ([UnsupportedProtocolVersion("x", [])], LEGACY),
        ([UnsupportedProtocolVersion("x", ["2027-01-01"])], UnsupportedProtocolVersion),
        ([HeaderMismatch("x")], HeaderMismatch),
        ([MissingClientCapability({"roots": {}})], MissingClientCapability),
        ([MethodNotFound("x")], LEGACY),
        ([MCPError(-32000, "Bad Request: no session")], LEGACY),
        ([InvalidAnswer("nonsense")], LEGACY),
        ([refused(400)], LEGACY),
        ([refused(404)], LEGACY),
        ([refused(405)], LEGACY),
        ([refused(401)], AuthorizationRequired),
        ([refused(403)], AuthorizationRequired),
        ([refused(429)], HTTPStatusError),
        ([refused(500)], HTTPStatusError),
        ([refused(503, {"code": -32603, "message": "busy"})], HTTPStatusError),
        ([ConnectionLost("network")], ConnectionLost),
        ([RequestTimeout("slow")], RequestTimeout),
    ],
)
async def test_what_an_answer_to_the_probe_means(answers: list[Any], verdict: Any) -> None:
    waiting = list(answers)

    async def send(method: str, params: Said, revision: Revision | None, timeout: float | None) -> Said:
        assert method == "server/discover" and revision is not None and revision.modern and timeout == 10
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer_like_the_wire(answer)
        return dict(answer)

    if isinstance(verdict, str):
        agreed = await discover(send, silence_is_legacy=False)
        assert ("legacy" if agreed is None else "modern") == verdict
    else:
        with pytest.raises(verdict):
            await discover(send, silence_is_legacy=False)
    assert not waiting


def answer_like_the_wire(error: Exception) -> Exception:
    return error


async def test_on_pipes_silence_means_a_server_that_waits_for_initialize() -> None:
    async def send(method: str, params: Said, revision: Revision | None, timeout: float | None) -> Said:
        raise RequestTimeout("slow")

    assert await discover(send, silence_is_legacy=True) is None


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_server_chooses_among_what_is_spoken_here(version: str) -> None:
    async with on(Wire(revision=version)) as client:
        assert client.revision is REVISIONS[version]


@pytest.mark.parametrize("version", ["2023-01-01", "2026-07-28", None, 7])
async def test_another_version_is_the_end(version: Any) -> None:
    wire = Wire()
    wire.answers["initialize"] = {"protocolVersion": version, "capabilities": {}, "serverInfo": SERVER}
    with pytest.raises(InvalidAnswer, match="not spoken here"):
        async with on(wire):
            raise AssertionError
    assert not wire.of("notifications/initialized") and wire.closed == 1


async def test_a_pinned_revision_is_that_one_or_none() -> None:
    with pytest.raises(ConnectionLost, match="not 2025-11-25"):
        async with on(Wire(revision="2025-06-18"), revision="2025-11-25"):
            raise AssertionError
    with pytest.raises(ConnectionLost, match="2026-07-28"):
        async with on(Wire(), revision="2026-07-28"):
            raise AssertionError


def test_what_is_remembered_is_by_origin_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.client import probe as era

    monkeypatch.setattr(era, "MAX_ORIGINS", 2)
    memory = EraMemory()
    memory.put("http://A:1/x", "legacy")
    assert memory.get("http://a:1/y?z") == "legacy" and memory.get("http://a:2/x") is None
    memory.put("http://b:80/c", "sse")
    memory.put("http://c", "modern")
    assert (memory.get("http://a:1"), memory.get("http://b"), memory.get("http://c")) == (None, "sse", "modern")
    memory.drop("http://b/any")
    assert memory.get("http://b") is None


# --- against our own server -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "json", "sse"])
@pytest.mark.parametrize("stateless", [False, True])
@pytest.mark.parametrize("revision", [None, "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_our_own_server_in_every_form(mode: str, stateless: bool, revision: str | None) -> None:
    server = MCPServer("own", version="3")

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.resource("notes://{name}")
    def note(name: str) -> str:
        return f"note {name}"

    @server.prompt
    def review(code: str) -> str:
        return f"review {code}"

    with anyio.fail_after(4 * LIMIT):
        async with listening(server, port=0, response=mode, stateless=stateless) as running:
            url = f"http://127.0.0.1:{running.port}/mcp"
            async with Client(url, revision=revision, timeout=LIMIT) as client:
                assert client.modern == (revision is None) and client.server_info["name"] == "own"
                assert [tool["name"] for tool in await client.list_tools()] == ["add"]
                assert (await client.call_tool("add", {"a": 1, "b": 2}))["content"][0]["text"] == "3"
                assert (await client.call_tool("add", {"a": "x"}))["isError"] is True
                assert (await client.read_resource("notes://x"))["contents"][0]["text"] == "note x"
                assert (await client.get_prompt("review", {"code": "y"}))["messages"]
                assert [t["uriTemplate"] for t in await client.list_resource_templates()] == ["notes://{name}"]
                with pytest.raises(ResourceNotFound):
                    await client.read_resource("other://x")
                await client.ping()
                assert (client.session_id is None) == (stateless or revision is None)

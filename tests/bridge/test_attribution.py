# SPDX-License-Identifier: MIT
"""The client that gets a message of a backend, for every kind of message and every way to serve a backend.

`TABLE` repeats the table of docs/proxy.md.  Each cell is tested in each mode that it applies to.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern
from scripted import Peer, Seen, modern_server, result, scripted, session_server
from serving import LEGACY, call, served
from test_proxy import ABLE, MODERN, yes

from mcp_h11 import Client
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.targets import Command, Url
from mcp_h11.client.transports import exchange

pytestmark = pytest.mark.anyio

SERVER = str(Path(__file__).resolve().parents[1] / "support" / "legacy_server.py")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "proxy.md"
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}

OF_REQUEST, NONE, EVERY, SUBSCRIBED = "the client of the request", "no client", "every client", "its subscribers"
ONE, REFUSED, BRIDGE = "the client", "refused", "the bridge answers"
COLUMNS = ("on a request's exchange", "shared, naming no request", "of one client")
TABLE: dict[str, tuple[str, str, str]] = {
    "log message": (OF_REQUEST, NONE, ONE),
    "progress": (OF_REQUEST, OF_REQUEST, ONE),
    "list changed": (EVERY, EVERY, ONE),
    "resource updated": (SUBSCRIBED, SUBSCRIBED, ONE),
    "cancelled": (OF_REQUEST, NONE, ONE),
    "sampling": (OF_REQUEST, REFUSED, ONE),
    "elicitation, form": (OF_REQUEST, REFUSED, ONE),
    "elicitation, URL": (OF_REQUEST, REFUSED, ONE),
    "elicitation complete": (OF_REQUEST, NONE, ONE),
    "roots": (OF_REQUEST, REFUSED, ONE),
    "ping": (BRIDGE, BRIDGE, BRIDGE),
    "task status": (NONE, NONE, NONE),
    "unknown notification": (OF_REQUEST, NONE, ONE),
    "unknown request": (REFUSED, REFUSED, REFUSED),
}
SECRET = {"secret": "of somebody else"}
MESSAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "log message": ("notifications/message", {"level": "info", "data": SECRET}),
    "progress": ("notifications/progress", {"progress": 1}),
    "list changed": ("notifications/resources/list_changed", {}),
    "resource updated": ("notifications/resources/updated", {"uri": "test://a"}),
    "cancelled": ("sampling/createMessage", {"messages": [], "maxTokens": 1}),
    "sampling": ("sampling/createMessage", {"messages": [], "maxTokens": 1}),
    "elicitation, form": ("elicitation/create", {"mode": "form", "message": "?", "requestedSchema": FORM}),
    "elicitation, URL": (
        "elicitation/create", {"mode": "url", "message": "?", "url": "https://example.com/", "elicitationId": "e1"},
    ),
    "elicitation complete": ("notifications/elicitation/complete", {"elicitationId": "e1"}),
    "roots": ("roots/list", {}),
    "ping": ("ping", {}),
    "task status": ("notifications/tasks/status", {"taskId": "t1", "status": "working"}),
    "unknown notification": ("notifications/x/own", {"data": SECRET}),
    "unknown request": ("x/own", {"data": SECRET}),
}  # fmt: skip
QUESTIONS = {kind for kind, (method, _) in MESSAGES.items() if not method.startswith("notifications/")}


class Seat:
    """A client of the bridge: it listens to every stream, answers every question, and records all messages."""

    def __init__(self, front: Any, era: str, *, user: str = "", uri: str = "test://a") -> None:
        self.front = front
        self.modern = era == MODERN
        self.raw: Any = Modern(front.port, capabilities=ABLE) if self.modern else Legacy(front.port, era)
        self.raw.check = False  # these backends send messages that no revision defines
        self.raw.extra_headers = {"X-User": user} if user else {}
        self.uri = uri
        self.seen: list[str] = []
        self.marked = anyio.Event()
        self.tokens: set[Any] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if self.modern:
                wanted = {"toolsListChanged": True, "resourcesListChanged": True, "resourceSubscriptions": [self.uri]}
                stream = await stack.enter_async_context(self.raw.listen(**wanted))
                await stream.next_message()
            else:
                await self.raw.initialize(ABLE)
                await self.raw.call("logging/setLevel", {"level": "debug"})
                await self.raw.call("resources/subscribe", {"uri": self.uri})
                stream = await stack.enter_async_context(self.raw.get_stream())
            hearing = asyncio.ensure_future(self._hear(stream))
            try:
                yield
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])
            if not self.modern:
                await self.raw.delete()

    async def _hear(self, stream: Any) -> None:
        while (message := await stream.next_message(60)) is not None:
            if message["method"] == "notifications/tools/list_changed":
                self.marked.set()
            else:
                self.seen.append(message["method"])

    async def until_marked(self) -> None:
        with anyio.fail_after(LIMIT):
            await self.marked.wait()

    async def run(self, tool: str, **arguments: Any) -> str:
        """Call a tool and give its text.  A question is answered, unless the backend is going to cancel it."""
        params = {**call(tool, **arguments), "_meta": {"progressToken": "mine"}}
        if self.modern:
            return await self._run_modern(params)
        async with self.raw.posting(self.raw.request("tools/call", params)) as stream:
            if stream.head.content_type != "text/event-stream":
                return _text((await stream.read()).json())
            while (message := await stream.next_message()) is not None:
                if "method" not in message:
                    return _text(message)
                self.seen.append(message["method"])
                self.tokens |= {message["params"]["progressToken"]} if "progress" in message["method"] else set()
                if message["method"] == "notifications/cancelled":
                    Path(arguments["withdrawn"] + ".told").touch()
                if "id" in message and arguments.get("withdrawn"):
                    Path(arguments["withdrawn"]).touch()
                elif "id" in message:
                    await self.raw.post(_answer(message))
        raise AssertionError("no answer")

    async def _run_modern(self, params: dict[str, Any]) -> str:
        while True:
            answer = await self.raw.call("tools/call", params, meta={"io.modelcontextprotocol/logLevel": "debug"})
            self.seen += [message["method"] for message in answer.notifications]
            asked = (answer.message or {}).get("result", {}).get("inputRequests")
            if not asked:
                return _text(answer.message)
            self.seen += [question["method"] for question in asked.values()]
            if params["arguments"].get("withdrawn"):
                Path(params["arguments"]["withdrawn"] + ".told").touch()
                Path(params["arguments"]["withdrawn"]).touch()
            answers = {key: yes(one["method"], one.get("params", {})) for key, one in asked.items()}
            params = {**params, "requestState": answer.result["requestState"], "inputResponses": answers}


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": yes(message["method"], message["params"])}


def _text(message: Any) -> str:
    return str(message["result"]["content"][0]["text"])


def arguments_of(kind: str, column: int, withdrawn: str = "") -> dict[str, Any]:
    """The arguments of the tool `emit`.  It cancels its question once a client has it and has made `withdrawn`."""
    method, params = MESSAGES[kind]
    if kind == "resource updated" and column == 2:
        params = {"uri": "test://b"}
    return {"method": method, "params": params, "question": kind in QUESTIONS, "withdrawn": withdrawn}


# --- modes: a bridge, and two clients of it, of which the second one makes the call -----------------------------------


@asynccontextmanager
async def seated(
    front: Any, era: str, mark: Callable[[], Any], users: tuple[str, str] = ("", "")
) -> AsyncIterator[Any]:
    a, b = Seat(front, era, user=users[0], uri="test://a"), Seat(front, era, user=users[1], uri="test://b")
    async with a.listening(), b.listening():
        yield a, b, mark


async def user_of(head: Any) -> str:
    return str(head.get("x-user"))


@asynccontextmanager
async def child(
    era: str = LEGACY, users: tuple[str, str] = ("", ""), token: str = "", **options: Any
) -> AsyncIterator[Any]:
    """A bridge to a child on pipes, and two clients of the bridge."""
    handler = ProxyHandler(Command([sys.executable, SERVER]), **options)
    more: dict[str, Any] = {"authorize": user_of} if users[0] else {}
    async with served(handler, **more) as front:  # type: ignore[arg-type]
        async with seated(front, era, handler.notify_tools_changed, users) as seats:
            yield seats


class Remote:
    """A scripted server over HTTP: its tool `emit` sends a message on the connection that `where` names."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.get: Peer | None = None
        self.before: Peer | None = None  # the exchange of an earlier call, which stays open after its answer
        self.answers: dict[Any, anyio.Event] = {}
        self.said: dict[Any, Any] = {}

    async def open(self, seen: Seen, peer: Peer) -> None:
        await peer.events()
        self.get = peer
        await peer.gone()

    def server(self) -> Any:
        inner = session_server(self.answer, get=self.open)

        async def serve(seen: Seen, peer: Peer) -> None:
            if seen.method is None and isinstance(seen.message, dict) and seen.id in self.answers:
                self.said[seen.id] = seen.message.get("result", {"error": seen.message.get("error")})
                await peer.answer(status=202)
                self.answers[seen.id].set()
            else:
                await inner(seen, peer)

        return serve

    async def answer(self, seen: Seen, peer: Peer) -> None:
        if seen.method != "tools/call":
            await peer.answer(result(seen, {"tools": []} if seen.method == "tools/list" else {}))
            return
        await peer.events()
        if seen.message["params"]["name"] == "emit":
            text = await self.emit(seen, peer)
        else:
            text = "kept"
        said = {"content": [{"type": "text", "text": text}]}
        await peer.event(result(seen, said))
        if seen.message["params"]["name"] == "keep":
            self.before = peer
            await peer.gone()
        peer.cut()

    async def emit(self, seen: Seen, peer: Peer) -> str:
        arguments = seen.message["params"]["arguments"]
        params = dict(arguments["params"])
        out = {"exchange": peer, "get": self.get, "over": self.before}[self.where]
        assert out is not None
        if arguments["method"] == "notifications/progress":
            params["progressToken"] = seen.message["params"]["_meta"]["progressToken"]
        message = {"jsonrpc": "2.0", "method": arguments["method"], "params": params}
        if not arguments["question"]:
            await out.event(message)
            await self.mark(out)
            return "emitted"
        self.answers["q1"] = anyio.Event()
        await out.event({**message, "id": "q1"})
        if arguments["withdrawn"]:
            await self.until(arguments["withdrawn"])
            await out.event({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "q1"}})
            await self.until(arguments["withdrawn"] + ".told")
            await self.mark(out)
            return "withdrawn"
        with anyio.fail_after(LIMIT):
            await self.answers["q1"].wait()
        await self.mark(out)
        return json.dumps(self.said["q1"])

    async def until(self, name: str) -> None:
        """Wait until a client that got the question has made this file, or until the question is refused."""
        with anyio.fail_after(LIMIT):
            while not self.answers["q1"].is_set() and not Path(name).exists():
                await anyio.sleep(0.001)

    async def mark(self, out: Peer) -> None:
        """Send a mark on the same connection, so that it arrives after the other messages."""
        await out.event({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})


@asynccontextmanager
async def remote(where: str) -> AsyncIterator[Any]:
    there = Remote(where)
    async with scripted(there.server()) as script:
        handler = ProxyHandler(Url(script.url, revision=LEGACY))
        async with served(handler) as front:  # type: ignore[arg-type]
            async with seated(front, LEGACY, lambda: None) as (a, b, mark):
                if where == "over":
                    assert await a.run("keep") == "kept"
                yield a, b, mark


MODES: dict[str, tuple[int, Callable[[], Any]]] = {
    "a child, sessions": (1, child),
    "a child, no sessions": (1, lambda: child(MODERN)),
    "a child, principals without sessions": (1, lambda: child(MODERN, ("ada", "bob"))),
    "a child per session, no names": (1, lambda: child(MODERN, per_session=True)),
    "HTTP, the exchange of the call": (0, lambda: remote("exchange")),
    "HTTP, the stream of all": (1, lambda: remote("get")),
    "HTTP, the exchange of a call that has ended": (1, lambda: remote("over")),
    "a child per session, sessions": (2, lambda: child(per_session=True)),
    "a child per session, principals without sessions": (2, lambda: child(MODERN, ("ada", "bob"), per_session=True)),
}


STARTS = [pytest.param(mode, marks=[pytest.mark.long] * mode.startswith("a child")) for mode in MODES]


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.parametrize("mode", STARTS)
async def test_a_message_reaches_the_clients_that_the_table_says(
    mode: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "AFTER_ANSWER", 60.0)
    column, make = MODES[mode]
    method, _ = MESSAGES[kind]
    async with make() as (a, b, mark):
        a.seen.clear()
        withdrawn = str(tmp_path / "asked") if kind == "cancelled" else ""
        text = await b.run("emit", **arguments_of(kind, column, withdrawn))
        mark()
        await a.until_marked()
        await b.until_marked()
        meant = TABLE[kind][column]
        seen_by_a, seen_by_b = a.seen, b.seen
        if kind == "cancelled":
            # No client hears of the cancellation of a question that no client got.  A client without a session learns
            # of a cancellation when it sends the answer.
            told = meant in (OF_REQUEST, ONE) and not b.modern
            assert ("notifications/cancelled" in seen_by_b, seen_by_a) == (told, [])
            return
        assert seen_by_a == ([method] if meant in (EVERY, SUBSCRIBED) else [])
        assert seen_by_b == ([method] if meant in (EVERY, OF_REQUEST, ONE) else [])
        assert kind != "progress" or b.modern or b.tokens == {"mine"}
        if kind in QUESTIONS:
            assert ("error" in json.loads(text)) == (meant == REFUSED)
        if meant == REFUSED:
            assert json.loads(text)["error"]["code"] == (-32601 if kind == "unknown request" else -32603)


@pytest.mark.parametrize("kind", TABLE)
@pytest.mark.long
async def test_a_bridge_on_pipes_has_one_client(kind: str, tmp_path: Path) -> None:
    seen: list[str] = []
    withdrawn = tmp_path / "asked"

    def asked(method: str) -> Any:
        async def answer(params: dict[str, Any]) -> dict[str, Any]:
            seen.append(method)
            if kind == "cancelled":
                withdrawn.touch()
                try:
                    with anyio.fail_after(LIMIT):
                        await anyio.sleep_forever()
                finally:
                    Path(f"{withdrawn}.told").touch()
            return yes(method, params)

        return answer

    bridge = [sys.executable, "-m", "mcp_h11", "proxy", "--stdio", "--", sys.executable, SERVER]
    async with Client(
        bridge, revision=LEGACY, capabilities=ABLE, on_notification=lambda method, params: seen.append(method),
        on_sampling=asked("sampling/createMessage"), on_elicitation=asked("elicitation/create"),
        on_roots=asked("roots/list"),
    ) as client:  # fmt: skip
        await client.set_log_level("debug")
        await client.subscribe("test://b")
        arguments = arguments_of(kind, 2, str(withdrawn) if kind == "cancelled" else "")
        said = await client.call_tool("emit", arguments, progress=lambda *_: None)
        await client.ping()
        meant, (method, _) = TABLE[kind][2], MESSAGES[kind]
        if kind == "cancelled":
            assert seen == [method, "notifications/cancelled"]
        else:
            assert seen == ([method] if meant == ONE else [])
        if kind in QUESTIONS and kind != "cancelled":
            assert ("error" in json.loads(said["content"][0]["text"])) == (meant == REFUSED)


@pytest.mark.parametrize("kind", ["log message", "elicitation complete", "unknown notification", "task status"])
async def test_a_backend_of_the_newest_revision_speaks_on_exchanges_alone(kind: str) -> None:
    method, params = MESSAGES[kind]

    async def answer(seen: Seen, peer: Peer) -> None:
        if seen.method == "subscriptions/listen":
            await peer.events()
            told = {"notifications": {}, "_meta": {"io.modelcontextprotocol/subscriptionId": seen.id}}
            await peer.event({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": told})
            await peer.gone()
            return
        if seen.method != "tools/call":
            await peer.answer(
                result(seen, {"tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
            )
            return
        await peer.events()
        await peer.event({"jsonrpc": "2.0", "method": method, "params": params})
        # The bridge refuses this request: a client of this revision answers none.
        await peer.event({"jsonrpc": "2.0", "id": "q1", "method": "sampling/createMessage", "params": {}})
        said = {"content": [{"type": "text", "text": "said"}], "resultType": "complete"}
        await peer.event(result(seen, said))
        peer.cut()

    async with scripted(modern_server(answer)) as script:
        handler = ProxyHandler(Url(script.url, revision=MODERN))
        async with served(handler) as front:  # type: ignore[arg-type]
            async with seated(front, LEGACY, handler.notify_tools_changed) as (a, b, mark):
                assert await b.run("emit") == "said"
                mark()
                await a.until_marked()
                await b.until_marked()
        assert (a.seen, b.seen) == ([], [method] if TABLE[kind][0] == OF_REQUEST else [])
        assert not [seen for seen in script.seen if seen.id == "q1"]


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_logs_are_shared_where_the_operator_says_so(era: str) -> None:
    async with child(era, share_logs=True) as (a, b, mark):
        await b.run("emit", **arguments_of("log message", 1))
        await b.run("emit", **arguments_of("unknown notification", 1))
        assert "error" in json.loads(await b.run("emit", **arguments_of("sampling", 1)))
        mark()
        await a.until_marked()
        await b.until_marked()
        # A client without a session asks for logs in each call, so that a client without a call gets none.
        assert (a.seen, b.seen) == ([] if era == MODERN else ["notifications/message"], ["notifications/message"])


async def test_shared_logs_reach_no_session_that_did_not_ask_for_them() -> None:
    async with child(share_logs=True) as (a, b, mark):
        await a.raw.call("logging/setLevel", {"level": "error"})
        await b.run("emit", **arguments_of("log message", 1))
        mark()
        await a.until_marked()
        assert a.seen == []


async def test_a_token_that_many_may_hold_names_no_client() -> None:
    handler = ProxyHandler(Command([sys.executable, SERVER]), per_session=True)
    async with served(handler, token="shared") as front:  # type: ignore[arg-type]
        client = Seat(front, MODERN)
        client.raw.extra_headers = {"Authorization": "Bearer shared"}
        error = json.loads(await client.run("emit", **arguments_of("sampling", 1)))["error"]
        assert error["code"] == -32603 and "principals" in error["message"]
        await client.run("emit", **arguments_of("log message", 1))
        assert client.seen == []


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_what_a_child_says_late_for_one_client_does_not_reach_another_whose_call_runs(
    era: str, tmp_path: Path
) -> None:
    """The child has answered the first client, and sends messages while only a call of the second one runs."""
    when = tmp_path / "now"
    messages = [MESSAGES[kind] for kind in ("log message", "unknown notification", "elicitation, form", "roots")]
    async with child(era) as (a, b, mark):
        assert await a.run("arm", when=str(when), messages=messages) == "armed"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.run, "hold")
            handler = b.front.runtime.handler
            await _until(lambda: any(backend.runs for backend in handler._generations.now.backends))
            when.touch()
            await _until(lambda: not when.exists())  # every message is sent, and every question is answered
            mark()
            await a.until_marked()
            await b.until_marked()
            tasks.cancel_scope.cancel()
        assert (a.seen, b.seen) == ([], [])


async def _until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(2 * LIMIT):
        while not condition():
            await anyio.sleep(0.01)


def test_the_docs_have_this_table() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", DOCS.read_text("utf-8"), re.M)
    assert rows[0][1:] == COLUMNS
    assert {row[0]: tuple(re.sub(r"\s*\(.*\)", "", cell) for cell in row[1:]) for row in rows[1:]} == TABLE

# SPDX-License-Identifier: MIT
"""What real servers answer, by every way to a server: it is read as the official SDK reads it, or is an error at once.

`TABLE` is the list of answers; each way asks for all of them with one client, so that a bad answer must not spoil the
next call.  An error shows how the answer begins.  What is safe to repeat is asked for: it must not be repeated here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import LIMIT, Peer, Seen, failure, modern_server, result, scripted, session_server

from mcp_h11 import ProxyHandler, listening
from mcp_h11.client import probe as era
from mcp_h11.client.client import Client
from mcp_h11.client.conversation import pending as calls
from mcp_h11.client.http.httpclient import HTTPClient
from mcp_h11.client.targets import Command, Url
from mcp_h11.client.transports import responses as httpanswers
from mcp_h11.client.transports.errors import ConnectionLost, HTTPStatusError, InvalidAnswer, RequestTimeout
from mcp_h11.client.transports.lenient import Unreadable, is_answer_to, number, read
from mcp_h11.client.transports.responses import seconds_in
from mcp_h11.client.transports.sse import SSETransport
from mcp_h11.protocol.errors import MCPError
from mcp_h11.protocol.jsonrpc import JSON, Notification, Request, Response

pytestmark = pytest.mark.anyio

READ, ERROR, INVALID, SKIPPED = "read", "error", "invalid", "skipped"
ID = b"@ID@"
VALUE = b'{"messages":[],"resultType":"complete","x":%b}'
GOOD = VALUE % b"1"
NO = b'{"code":-7,"message":"no"}'


@dataclass(frozen=True)
class Row:
    """One answer: what comes of it, and of it as a line of a child, where anything may be the log of a runtime."""

    body: bytes
    outcome: str
    on_pipes: str | None = None
    sdk: bool = True  # the official SDK reads it so, too

    def with_id(self, id: int) -> bytes:
        return self.body.replace(ID, b"%d" % id)


def answer(result: bytes, more: bytes = b"", id: bytes = ID) -> bytes:
    return b'{"jsonrpc":"2.0","id":' + id + b',"result":' + result + more + b"}"


def failed(error: bytes, id: bytes = ID, more: bytes = b"") -> bytes:
    return b'{"jsonrpc":"2.0","id":' + id + b',"error":' + error + more + b"}"


TABLE = {
    "a result": Row(answer(GOOD), READ),
    "an error": Row(failed(NO), ERROR),
    # numbers that JSON does not have
    "NaN": Row(answer(VALUE % b"NaN"), READ),
    "Infinity": Row(answer(VALUE % b"[Infinity,-Infinity]"), READ),
    "1e999": Row(answer(VALUE % b"1e999"), READ),
    "NaN in an error": Row(failed(b'{"code":-7,"message":"no","data":NaN}'), ERROR),
    "nan": Row(answer(VALUE % b"nan"), INVALID),
    "too many digits": Row(answer(VALUE % (b"9" * 5000)), INVALID),
    # envelopes
    "error null beside a result": Row(answer(GOOD, b',"error":null'), READ),
    "error null before a result": Row(b'{"jsonrpc":"2.0","error":null,"result":' + GOOD + b',"id":@ID@}', READ),
    "error false beside a result": Row(answer(GOOD, b',"error":false'), READ),
    "result null beside an error": Row(failed(NO, more=b',"result":null'), ERROR),
    "result beside an error": Row(failed(NO, more=b',"result":{}'), ERROR),
    "method null beside a result": Row(answer(GOOD, b',"method":null,"params":null'), READ),
    "method null beside an error": Row(failed(NO, more=b',"method":null'), ERROR),
    "more members": Row(answer(GOOD, b',"took":3'), READ),
    "result null": Row(answer(b"null"), INVALID),
    "result an array": Row(answer(b"[]"), INVALID),
    "result a text": Row(answer(b'"x"'), INVALID),
    "error null": Row(failed(b"null"), INVALID),
    "error a text": Row(failed(b'"broken"'), INVALID),
    "error without a message": Row(failed(b'{"code":-7}'), INVALID),
    "error without a code": Row(failed(b'{"message":"no"}'), INVALID),
    "code as a text": Row(failed(b'{"code":"-7","message":"no"}'), ERROR),
    "code as a float": Row(failed(b'{"code":-7.0,"message":"no"}'), ERROR),
    "code a word": Row(failed(b'{"code":"E_NO","message":"no"}'), INVALID),
    "neither": Row(b'{"jsonrpc":"2.0","id":@ID@}', INVALID),
    "jsonrpc 1.0": Row(answer(GOOD).replace(b'"2.0"', b'"1.0"'), INVALID),
    "jsonrpc a number": Row(answer(GOOD).replace(b'"2.0"', b"2.0"), INVALID),
    "no jsonrpc": Row(b'{"id":@ID@,"result":' + GOOD + b"}", INVALID),
    "result twice": Row(answer(b"{}", b',"result":' + GOOD), INVALID, sdk=False),
    "id twice": Row(answer(GOOD, b',"id":@ID@'), INVALID, sdk=False),
    "deep": Row(answer(VALUE % (b"[" * 300 + b"]" * 300)), INVALID),
    # ids
    "id as a text": Row(answer(GOOD, id=b'"@ID@"'), READ),
    "id as a text, an error": Row(failed(NO, id=b'"@ID@"'), ERROR),
    "id as a float": Row(answer(GOOD, id=b"@ID@.0"), READ, sdk=False),
    "id as a float, an error": Row(failed(NO, id=b"@ID@.0"), ERROR, sdk=False),
    "id null, an error": Row(failed(NO, id=b"null"), ERROR),
    "no id, an error": Row(b'{"jsonrpc":"2.0","error":' + NO + b"}", ERROR, sdk=False),
    "id null, a result": Row(answer(GOOD, id=b"null"), INVALID),
    "id true": Row(answer(GOOD, id=b"true"), INVALID),
    "id of a half": Row(answer(GOOD, id=b"@ID@.5"), INVALID),
    # bytes
    "a byte order mark": Row(b"\xef\xbb\xbf" + answer(GOOD), READ, sdk=False),
    "cut off in the result": Row(answer(GOOD)[:-9], INVALID),
    "cut off in the id": Row(b'{"jsonrpc":"2.0","resul', INVALID),
    "a comma too many": Row(answer(GOOD, b","), INVALID),
    "something behind": Row(answer(GOOD) + b" done", INVALID),
    "bad UTF-8": Row(answer(VALUE % b'"\xff"'), INVALID),
    "bad UTF-8, the id last": Row(b'{"result":' + VALUE % b'"\xff"' + b',"jsonrpc":"2.0","id":@ID@}', INVALID),
    "no value": Row(b'{"jsonrpc":"2.0","result":{"x":undefined},"id":@ID@}', INVALID),
    "an array": Row(b"[" + answer(GOOD) + b"]", INVALID, READ),
    "UTF-16": Row(answer(GOOD).decode().encode("utf-16"), INVALID, SKIPPED),
    # nothing of a message: on pipes it is a line of a log, and the answer may come yet
    "HTML": Row(b"<!DOCTYPE html><html><title>Welcome</title></html>", INVALID, SKIPPED),
    "a word": Row(b"OK", INVALID, SKIPPED),
    "an empty object": Row(b"{}", INVALID, SKIPPED),
    "null": Row(b"null", INVALID, SKIPPED),
    "a number": Row(b"17", INVALID, SKIPPED),
    "an empty array": Row(b"[]", INVALID, SKIPPED),
    "a log line": Row(b'{"level":30,"msg":"up"}', INVALID, SKIPPED),
}
NAMES = list(TABLE)


def params(name: str) -> dict[str, Any]:
    return {"name": str(NAMES.index(name))}


def row_of(message: dict[str, Any]) -> Row:
    return TABLE[NAMES[int(message["params"]["name"])]]


async def outcome(client: Client, name: str) -> str:
    """What came of asking for that answer, in the words of the table."""
    try:
        said = await client.request("prompts/get", params(name))
    except InvalidAnswer as error:
        begins = TABLE[name].body.partition(ID)[0].partition(b"\xff")[0]
        shown = " ".join(begins[:20].decode().split())
        assert (error.body.startswith(begins) and shown in str(error)) or "is no object: " in str(error), error
        return INVALID
    except MCPError as error:
        return ERROR if (error.code, error.message) == (-7, "no") else repr(error)
    return READ if said["messages"] == [] and "x" in said else repr(said)


async def outcomes(client: Client) -> dict[str, str]:
    return {name: await outcome(client, name) for name in NAMES}


def expected(*, pipes: bool = False) -> dict[str, str]:
    """A line that is skipped here is followed by a good answer."""
    wanted = {name: (pipes and row.on_pipes) or row.outcome for name, row in TABLE.items()}
    return {name: READ if outcome == SKIPPED else outcome for name, outcome in wanted.items()}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "UNCLAIMED_TIME", 0.1)


# --- the ways -------------------------------------------------------------------------------------------------------

Serve = Callable[[Seen, Peer], Any]


async def by_json(seen: Seen, peer: Peer) -> None:
    if seen.method == "prompts/get":
        await peer.answer(row_of(seen.message).with_id(seen.id))
    else:
        await peer.answer(failure(seen, -32601))


async def by_events(seen: Seen, peer: Peer) -> None:
    if seen.method != "prompts/get":
        await peer.answer(failure(seen, -32601))
        return
    body = b"data: " + row_of(seen.message).with_id(seen.id) + b"\n\n"
    await peer.head(200, Content_Type="text/event-stream", Transfer_Encoding="chunked")
    # It does not end: an answer that cannot be read must be seen by what it is.
    await peer.write(b"%x\r\n%b\r\n" % (len(body), body))
    await peer.gone()


@pytest.mark.parametrize("form", [by_json, by_events])
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_over_http(form: Serve, revision: str) -> None:
    server = (modern_server if revision == "2026-07-28" else session_server)(form)
    wanted = expected()
    if form is by_events:
        # Events are text that is UTF-8 by its kind: what is not becomes U+FFFD, and is read.
        wanted |= {"bad UTF-8": READ, "bad UTF-8, the id last": READ}
    with anyio.fail_after(12 * LIMIT):
        async with scripted(server) as script, Client(script.url, revision=revision, timeout=LIMIT) as client:
            assert await outcomes(client) == wanted
            assert len(script.of("prompts/get")) == len(TABLE), "nothing is sent twice"


CHILD = """
import json, sys
table = [tuple(map(bytes.fromhex, row)) for row in json.loads(open(sys.argv[1]).read())]
def say(line):
    sys.stdout.buffer.write(line + b"\\n")
    sys.stdout.buffer.flush()
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        info = {"name": "c", "version": "1"}
        said = {"protocolVersion": "2025-11-25", "capabilities": {"prompts": {}}, "serverInfo": info}
        say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": said}).encode())
    elif message["method"] == "prompts/get":
        bodies = table[int(message["params"]["name"])]
        for body in bodies:
            say(body.replace(b"@ID@", str(message["id"]).encode()))
    elif "id" in message:
        say(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}}).encode())
"""


@pytest.fixture
def child(tmp_path: Path) -> list[str]:
    """A server on pipes that answers by the table; behind a line that is no answer it sends a good one."""
    rows = [[row.body.hex(), *([answer(GOOD).hex()] if row.on_pipes == SKIPPED else [])] for row in TABLE.values()]
    (tmp_path / "table.json").write_text(json.dumps(rows))
    (tmp_path / "child.py").write_text(CHILD)
    return [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "table.json")]


async def test_over_pipes(child: list[str]) -> None:
    with anyio.fail_after(12 * LIMIT):
        async with Client(child, revision="2025-11-25", timeout=LIMIT) as client:
            assert await outcomes(client) == expected(pipes=True)


class Old:
    """A server of HTTP+SSE that answers by the table."""

    stream: Peer

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if seen.verb == "GET":
            self.stream = peer
            await peer.events()
            await peer.write(b"event: endpoint\ndata: /messages\n\n")
            await peer.gone()
            return
        await peer.answer(status=202)
        if seen.method == "initialize":
            said = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "o", "version": "1"}}
            await self.say(json.dumps(result(seen, said)).encode())
        elif seen.method == "prompts/get":
            await self.say(row_of(seen.message).with_id(seen.id))

    async def say(self, body: bytes) -> None:
        await self.stream.write(b"data: " + body + b"\n\n")


async def test_over_http_and_sse() -> None:
    wanted = expected() | {"bad UTF-8": READ, "bad UTF-8, the id last": READ, "an array": READ}
    with anyio.fail_after(12 * LIMIT):
        async with scripted(Old()) as script:
            transport = SSETransport(script.url, HTTPClient(head_timeout=None))
            async with Client(transport, revision="2024-11-05", timeout=LIMIT) as client:
                assert await outcomes(client) == wanted
                assert len(script.of("prompts/get")) == len(TABLE)


# --- through a bridge -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def bridged(backend: Any) -> AsyncIterator[Client]:
    async with Client(ProxyHandler(backend), revision="2025-11-25", timeout=LIMIT) as client:
        yield client


async def through(client: Client, name: str) -> str:
    """As `outcome`; a bridge tells its own clients that the backend did not answer, and how what came begins."""
    try:
        said = await client.request("prompts/get", params(name))
    except MCPError as error:
        if (error.code, error.message) == (-7, "no"):
            return ERROR
        return INVALID if error.code == -32603 and "did not answer: " in error.message else repr(error)
    return READ if said["messages"] == [] and "x" in said else repr(said)


# A client of the bridge is sent JSON, which does not have these; and a backend may have many clients: what names no
# request is shown to none of them then.
NO_JSON = dict.fromkeys(("NaN", "Infinity", "1e999"), "InternalError('The result cannot be encoded as JSON')")
NAMELESS = dict.fromkeys(("id null, an error", "no id, an error"), INVALID)


@pytest.mark.parametrize("form", [by_json, by_events])
async def test_through_a_bridge_to_http(form: Serve) -> None:
    wanted = expected() | NO_JSON
    if form is by_events:
        wanted |= {"bad UTF-8": READ, "bad UTF-8, the id last": READ}
    with anyio.fail_after(12 * LIMIT):
        async with scripted(session_server(form)) as script, bridged(Url(script.url)) as client:
            assert {name: await through(client, name) for name in NAMES} == wanted
            assert len(script.of("prompts/get")) == len(TABLE)


async def test_through_a_bridge_to_pipes(child: list[str]) -> None:
    with anyio.fail_after(12 * LIMIT):
        async with bridged(Command(child)) as client:
            said = {name: await through(client, name) for name in NAMES}
    assert said == expected(pipes=True) | NO_JSON


async def test_through_a_bridge_of_several_clients_to_pipes(child: list[str]) -> None:
    with anyio.fail_after(12 * LIMIT):
        async with listening(ProxyHandler(Command(child)), port=0) as server:
            async with Client(f"http://127.0.0.1:{server.port}/mcp", revision="2025-11-25", timeout=LIMIT) as client:
                assert {name: await through(client, name) for name in NAMELESS} == NAMELESS
                assert await through(client, "an error") == ERROR


# --- as the official SDK --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.sdk])
def test_the_official_sdk_reads_it_so_too(name: str) -> None:
    types: Any = pytest.importorskip("mcp_types")
    row = TABLE[name]
    try:
        found = types.jsonrpc_message_adapter.validate_json(row.with_id(1), by_name=False)
    except ValueError:
        outcome = INVALID
    else:
        outcome = ERROR if isinstance(found, types.JSONRPCError) else READ
        # It compares ids as numbers, too.
        assert found.id is None or int(found.id) == 1
        if outcome == READ:
            ours = read(JSON(), row.with_id(1))
            assert isinstance(ours, Response) and repr(ours.result) == repr(found.result)
    assert outcome == row.outcome


# --- which of several -----------------------------------------------------------------------------------------------


class Several:
    """A server of HTTP+SSE, which says something when so many requests wait."""

    def __init__(self, count: int, *said: bytes) -> None:
        self.count = count
        self.said = said
        self.ids: list[int] = []
        self.old = Old()

    async def __call__(self, seen: Seen, peer: Peer) -> None:
        if seen.method != "prompts/get":
            await self.old(seen, peer)
            return
        await peer.answer(status=202)
        self.ids.append(seen.id)
        if len(self.ids) == self.count:
            for body in self.said:
                for number, id in enumerate(self.ids):
                    body = body.replace(b"@%d@" % number, b"%d" % id)
                await self.old.say(body)


async def ask_several(server: Several, count: int, owners: tuple[Any, ...] = ()) -> list[Any]:
    said: list[Any] = [None] * count
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script:
            transport = SSETransport(script.url, HTTPClient(head_timeout=None))
            async with Client(transport, revision="2024-11-05", timeout=LIMIT) as client:

                async def ask(number: int) -> None:
                    owner = owners[number] if owners else None
                    try:
                        said[number] = await client.request("prompts/get", {"name": "x"}, owner=owner, timeout=1.0)
                    except MCPError as error:
                        said[number] = error

                async with anyio.create_task_group() as tasks:
                    for number in range(count):
                        tasks.start_soon(ask, number)
    return said


async def test_of_several_that_wait_the_one_that_is_left_is_meant() -> None:
    server = Several(3, failed(NO, id=b"null"), answer(GOOD, id=b"@0@"), answer(GOOD, id=b'"@2@"'))
    said = await ask_several(server, 3)
    errors = [one for one in said if isinstance(one, MCPError)]
    assert [(error.code, error.message) for error in errors] == [(-7, "no")] and said.count(None) == 0


@pytest.mark.parametrize("body", [failed(NO, id=b"null"), b'{"jsonrpc":"2.0","resul', b"OK"])
async def test_where_it_is_not_known_which_all_that_wait_end_soon(body: bytes) -> None:
    # Said twice: nothing more comes of it.
    said = await ask_several(Several(2, body, body), 2)
    assert len({id(error) for error in said}) == 2
    for error in said:
        assert isinstance(error, InvalidAnswer) and "one of 2 requests" in error.message


async def test_of_several_clients_behind_a_bridge_none_can_end_the_calls_of_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said = await ask_several(Several(2, failed(NO, id=b"null")), 2, ("a", "b"))
    assert all(isinstance(error, RequestTimeout) for error in said)
    assert "several clients" in caplog.text


async def test_what_names_no_request_is_not_shown_to_a_client_behind_a_bridge(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = failed(b'{"code":-7,"message":"secret"}', id=b"null")
    said = await ask_several(Several(2, secret, answer(GOOD, id=b"@0@")), 2, ("a", "b"))
    (error,) = (one for one in said if isinstance(one, MCPError))
    assert isinstance(error, InvalidAnswer) and "secret" not in str(error) and "secret" in caplog.text


async def test_rubbish_before_an_answer_ends_no_call() -> None:
    """A line that two threads wrote into each other, and then the answer."""
    said = await ask_several(Several(1, b'{"jsonrpc":"2.0","resul', b"OK", answer(GOOD, id=b"@0@")), 1)
    assert said[0]["messages"] == []


async def test_what_names_no_request_where_none_waits_is_dropped() -> None:
    heard = anyio.Event()

    class Late(Old):
        async def __call__(self, seen: Seen, peer: Peer) -> None:
            if seen.method == "notifications/initialized":
                await self.say(failed(NO, id=b"null"))
                # Its answer comes when what was said before it has been read.
                await self.say(b'{"jsonrpc":"2.0","id":"q","method":"ping"}')
                await heard.wait()
            await super().__call__(seen, peer)
            if seen.id == "q":
                heard.set()

    with anyio.fail_after(4 * LIMIT):
        async with scripted(Late()) as script:
            transport = SSETransport(script.url, HTTPClient(head_timeout=None))
            async with Client(transport, revision="2024-11-05", timeout=LIMIT) as client:
                assert await outcome(client, "a result") == READ


async def test_an_error_that_ends_a_client_is_raised_anew_each_time() -> None:
    class Ends(Old):
        async def __call__(self, seen: Seen, peer: Peer) -> None:
            if seen.method == "prompts/get":
                self.stream.cut()
            else:
                await super().__call__(seen, peer)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(Ends()) as script:
            transport = SSETransport(script.url, HTTPClient(head_timeout=None))
            async with Client(transport, revision="2024-11-05", timeout=LIMIT) as client:
                depths = set()
                raised = []
                for _ in range(5):
                    with pytest.raises(ConnectionLost) as caught:
                        await client.request("prompts/get", params("a result"))
                    with pytest.raises(ConnectionLost):
                        await client.notify("notifications/x")
                    raised.append(caught.value)
                    depths.add(len(caught.traceback))
    assert len({id(error) for error in raised}) == 5 and len(depths) <= 2


# --- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "request_id", "answers", "calls"),
    [
        (b'{"jsonrpc":"2.0","id":7}', 7, True, False),
        (b'{"jsonrpc":"2.0","id":"7","result":{},}', "7", True, False),
        (b'{"jsonrpc":"2.0","method":7,"id":3}', 3, False, True),
        (b'{"method":"notifications/mess', None, False, True),
        (b'{"level":30,"id":7}', 7, False, False),
        (b'{"level":30,"id":7', None, False, False),
        (b'{"id": 5, "jsonrpc', None, True, False),
        (b"[" + b'{"jsonrpc":"2.0","id":7,"result":{}},' * 100 + b"{}]", None, False, False),
        (b'{"jsonrpc":"2.0","id":[1],"result":{}}', None, True, False),
        (b"{" * 200, None, False, False),
    ],
)
def test_what_cannot_be_read_says_whose_it_was(body: bytes, request_id: Any, answers: bool, calls: bool) -> None:
    with pytest.raises(Unreadable) as caught:
        read(JSON(), body)
    error = caught.value
    assert (error.request_id, error.answers, error.calls) == (request_id, answers, calls)
    assert error.body == body[:1024] and str(error).startswith(f"the answer is {error.what}")


def test_calls_of_a_server_are_read_as_well() -> None:
    for body in (b'{"jsonrpc":"2.0","id":null,"method":"a","params":{"x":NaN},"result":null,"error":null}',):
        message = read(JSON(), body)
        assert isinstance(message, Notification) and message.method == "a" and str(message.params) == "{'x': nan}"
    asked = read(JSON(), b'\xef\xbb\xbf{"jsonrpc":"2.0","id":"q","method":"ping","params":{}}')
    assert isinstance(asked, Request) and asked.id == "q"


def test_of_an_array_each_element_is_read_for_itself() -> None:
    found = read(JSON(), b'[{"jsonrpc":"2.0","id":1,"result":{"x":NaN}},{"jsonrpc":"2.0","id":2,"result":{},"id":2},3]')
    assert isinstance(found, list)
    assert [type(one) for one in found] == [Response, Unreadable, Unreadable]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0", 0), ("01", None), ("", None), ("-1", None), ("1e3", None), ("²", None), ("9" * 19, None)],
)
def test_a_number_is_spelled_in_one_way(text: str, value: int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("said", "same"), [(1, True), ("1", True), (2, False), ("01", False), (None, False), (True, False)]
)
def test_an_id_is_that_number_or_its_text(said: Any, same: bool) -> None:
    assert is_answer_to(1, said) is same
    assert not is_answer_to("x", 1) and is_answer_to("x", "x")


# --- what is no answer, beside one ----------------------------------------------------------------------------------

BROKEN_CALLS = (b'{"jsonrpc":"2.0","method":7}', b'{"method":"notifications/mess', b'{"id":[],"method":"ping"}')


@pytest.mark.parametrize("body", BROKEN_CALLS)
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_call_that_cannot_be_read_is_skipped_and_the_answer_is_waited_for(body: bytes, revision: str) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.events()
        for piece in (body, body, answer(GOOD).replace(ID, b"%d" % seen.id)):
            await peer.write(b"data: " + piece + b"\n\n")
        peer.cut()

    server = (modern_server if revision == "2026-07-28" else session_server)(serve)
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script, Client(script.url, revision=revision, timeout=LIMIT) as client:
            assert await outcome(client, "a result") == READ
            assert getattr(client.transport, "skipped") == 2  # noqa: B009


@pytest.mark.parametrize(
    ("elements", "outcome"),
    [((BROKEN_CALLS[0], answer(GOOD)), READ), ((b"{}", answer(GOOD)), READ), ((BROKEN_CALLS[0], b"{}"), INVALID)],
)
async def test_of_a_batch_only_what_was_to_be_the_answer_counts(elements: tuple[bytes, ...], outcome: str) -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(b"[" + b",".join(elements).replace(ID, b"%d" % seen.id) + b"]")

    server = session_server(serve, revision="2025-03-26")
    with anyio.fail_after(4 * LIMIT):
        async with scripted(server) as script, Client(script.url, revision="2025-03-26", timeout=LIMIT) as client:
            if outcome == READ:
                assert (await client.request("prompts/get", {"name": "x"}))["messages"] == []
            else:
                with pytest.raises(InvalidAnswer, match="200 and no message: .*begins with: \\["):
                    await client.request("prompts/get", {"name": "x"})


async def test_what_cannot_be_read_on_the_get_stream_is_skipped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    heard = anyio.Event()

    async def get(seen: Seen, peer: Peer) -> None:
        await peer.events()
        for body in (b"OK", b"[{}]", b"\xef\xbb\xbf{}", b'{"jsonrpc":"2.0","method":"notifications/x","id":null}'):
            await peer.write(b"data: " + body + b"\n\n")
        await peer.gone()

    def hear(method: str, params: dict[str, Any]) -> None:
        assert method == "notifications/x"
        heard.set()

    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(by_json, get=get)) as script:
            async with Client(script.url, revision="2025-11-25", timeout=LIMIT, on_notification=hear) as client:
                await heard.wait()
                assert getattr(client.transport, "skipped") == 3  # noqa: B009
    assert len([record for record in caplog.records if "are skipped" in record.getMessage()]) == 1


async def test_a_progress_token_may_come_back_as_text() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        token = seen.message["params"]["_meta"]["progressToken"]
        await peer.events()
        for text in (str(token), "x", token):
            said = {"progressToken": text, "progress": 1}
            await peer.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": said})
        await peer.event(result(seen, {"messages": []}))
        peer.cut()

    seen: list[float] = []
    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(serve)) as script, Client(script.url, timeout=LIMIT) as client:
            await client.request("prompts/get", {"name": "x"}, progress=lambda done, *_: seen.append(done))
    assert seen == [1, 1]


async def test_on_pipes_an_error_without_an_id_says_at_once_that_a_server_is_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the silence would have to say it, which has no end here."""
    monkeypatch.setattr(era, "PROBE_TIMEOUT", 1e6)
    code = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    said = {"jsonrpc": "2.0", "id": message.get("id")}
    if message["method"] == "initialize":
        info = {"name": "c", "version": "1"}
        said["result"] = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}
    elif message["method"] == "server/discover":
        said |= {"id": None, "error": {"code": -32600, "message": "initialize first"}}
    if "result" in said or "error" in said:
        print(json.dumps(said), flush=True)
"""
    (tmp_path / "old.py").write_text(code)
    with anyio.fail_after(4 * LIMIT):
        async with Client([sys.executable, str(tmp_path / "old.py")], timeout=None) as client:
            assert client.revision.name == "2025-11-25"


# --- a server that is asked what it is ------------------------------------------------------------------------------

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"
OLD_ANSWERS = {
    "an empty object": b"{}",
    "null": b"null",
    "nothing": b"",
    "an empty array": b"[]",
    "true": b"true",
    "error without an id": b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"no session"}}',
    "error with id null": b'{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"what"}}',
    "error with another id": b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"what"}}',
    "error in words": b'{"error":"unknown method"}',
    "a result that says nothing": b'{"jsonrpc":"2.0","id":@ID@,"result":{}}',
    "a result that is null": b'{"jsonrpc":"2.0","id":@ID@,"result":null}',
    "cut off": b'{"jsonrpc":"2.0","id"',
    "HTML": b"<html></html>",
}
OLD_HTTP = {
    "202": b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "200 of no type": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "200 of HTML": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
    "200 of text": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nOK",
    "no event, and the end": CHUNKED + b"0\r\n\r\n",
    "no event, and the end of the connection": EVENTS + b"Connection: close\r\n\r\n",
    "a comment, and the end": CHUNKED + b"8\r\n: hello\n\r\n0\r\n\r\n",
    "an event that is no answer": CHUNKED + b"a\r\ndata: {}\n\n\r\n0\r\n\r\n",
}


def asked_first(say: Callable[[Seen, Peer], Any]) -> Serve:
    usual = session_server(by_json)

    async def serve(seen: Seen, peer: Peer) -> None:
        await (say if seen.method == "server/discover" else usual)(seen, peer)

    return serve


async def finds_a_session(serve: Serve) -> None:
    with anyio.fail_after(4 * LIMIT):
        async with scripted(serve) as script, Client(script.url, timeout=LIMIT) as client:
            assert client.revision.name == "2025-11-25" and client.session_id
            assert await outcome(client, "a result") == READ
            assert len(script.of("server/discover")) == len(script.of("initialize")) == 1


@pytest.mark.parametrize("name", OLD_ANSWERS)
async def test_what_an_old_server_answers_to_discover_leads_to_initialize(name: str) -> None:
    async def say(seen: Seen, peer: Peer) -> None:
        await peer.answer(OLD_ANSWERS[name].replace(ID, b"%d" % seen.id), Content_Type="application/json")

    await finds_a_session(asked_first(say))


@pytest.mark.parametrize("name", OLD_HTTP)
async def test_what_an_old_server_says_in_http_to_discover_leads_to_initialize(name: str) -> None:
    async def say(seen: Seen, peer: Peer) -> None:
        await peer.write(OLD_HTTP[name])
        if b"close" in OLD_HTTP[name]:
            peer.cut()

    await finds_a_session(asked_first(say))


@pytest.mark.parametrize("what", ["cut in the body", "cut before the head"])
async def test_a_connection_that_breaks_says_nothing_of_an_era(what: str) -> None:
    async def say(seen: Seen, peer: Peer) -> None:
        if what == "cut in the body":
            await peer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        peer.cut()

    with anyio.fail_after(4 * LIMIT):
        async with scripted(asked_first(say)) as script:
            with pytest.raises(ConnectionLost):
                async with Client(script.url, timeout=LIMIT):
                    raise AssertionError("it is connected")
            assert not script.of("initialize")


async def test_what_is_no_server_of_mcp_at_all_is_shown() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(b"<html><title>Router login</title></html>", Content_Type="text/html")

    with anyio.fail_after(4 * LIMIT):
        async with scripted(serve) as script:
            with pytest.raises(InvalidAnswer, match="initialize was answered with 200 and text/html; .*Router login"):
                async with Client(script.url, timeout=LIMIT):
                    raise AssertionError("it is connected")


async def test_a_body_without_end_that_is_no_answer_is_shown_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpanswers, "END_LIMIT", 0.1)

    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.head(200, Content_Type="text/html")
        await peer.write(b"<html>" if params("HTML")["name"] == seen.message["params"]["name"] else b"x" * 5000)
        await peer.gone()

    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(serve)) as script, Client(script.url, timeout=LIMIT) as client:
            for name, begins in (("HTML", b"<html>"), ("null", b"x" * 1024)):
                with pytest.raises(InvalidAnswer) as caught:
                    await client.request("prompts/get", params(name))
                assert caught.value.body == begins


# --- refusals by HTTP -----------------------------------------------------------------------------------------------

PROBLEM = b'{"type":"about:blank","title":"Too busy","status":429,"detail":"come\\n back \\u202e later"}'
REFUSALS = {
    "problem": ("application/problem+json", PROBLEM, "Too busy: come back \\u202e later"),
    "detail": ("application/json", b'{"detail":"quota used up"}', "quota used up"),
    "details of FastAPI": (
        "application/json",
        b'{"detail":[{"loc":["body"],"msg":"field required"}]}',
        "field required",
    ),
    "message": ("application/json; charset=utf-8", b'{"message":"Forbidden by policy"}', "Forbidden by policy"),
    "OAuth": ("application/json", b'{"error":"slow_down","error_description":"wait"}', "slow_down: wait"),
    "an object in error": ("application/json", b'{"error":{"status":429,"message":"no more"}}', "no more"),
    "no words": ("application/json", b'{"code":[[[[[[1]]]]]]}', '{"code":[[[[[[1]]]]]]}'),
    "deep": ("application/json", b'{"error":' * 9 + b'"x"' + b"}" * 9, '{"error":' * 9 + '"x"' + "}" * 9),
    "a list of none": ("application/json", b'{"errors":[],"title":"none"}', "none"),
    "no JSON": ("application/json", b"<oops>", "<oops>"),
    "bytes": ("application/json", b"\xff\xfe\x00", "\ufffd\ufffd\\x00"),
    "HTML": ("text/html; charset=utf-8", b"<html><head><TITLE>\n502 &amp; more </TITLE>", "502 & more"),
    "HTML without a title": ("text/html", b"<p>no</p>", "<p>no</p>"),
    "text": ("text/plain", b"no\r\nsession\x1b[2J", "no session\\x1b[2J"),
    "long": ("text/plain", b"x" * 1000, "x" * 300),
    "nothing": ("application/json", b"", ""),
    "of no type": ("", b"who knows", "who knows"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_says_what_its_body_says(name: str) -> None:
    kind, body, reason = REFUSALS[name]

    async def serve(seen: Seen, peer: Peer) -> None:
        length = str(len(body))
        await peer.head(429, Content_Length=length, Retry_After="7", **({"Content_Type": kind} if kind else {}))
        await peer.write(body)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(serve)) as script, Client(script.url, timeout=LIMIT) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.request("prompts/get", params("null"))
    error = caught.value
    assert (error.status, error.reason, error.retry_after, error.body) == (429, reason, 7.0, body[:1024])
    assert not error.rpc and error.message == str(error)
    words = f": {reason}" if reason else ""
    assert str(error) == f"prompts/get was refused with status 429{words}; it may be tried again after 7 s"


async def test_an_error_in_json_rpc_keeps_its_words_and_the_text_has_the_status() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        await peer.answer(
            {"jsonrpc": "2.0", "id": None, "error": {"code": -7, "message": "busy"}}, 503, Retry_After="2"
        )

    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(serve)) as script, Client(script.url, timeout=LIMIT) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.request("prompts/get", params("null"))
    error = caught.value
    assert error.rpc and (error.code, error.message, error.reason, error.status) == (-7, "busy", "busy", 503)
    assert str(error) == "busy (status 503; it may be tried again after 2 s)"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 40, None),
        ("²", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str | None, seconds: float | None) -> None:
    assert seconds_in(said) == seconds


def test_a_date_to_come_is_seconds_from_now() -> None:
    found = seconds_in("Wed, 21 Oct 2150 07:28:00 GMT")
    assert found is not None and found > 86_400


async def test_through_a_bridge_a_refusal_says_why() -> None:
    async def serve(seen: Seen, peer: Peer) -> None:
        if seen.method == "prompts/get":
            await peer.answer(PROBLEM, 429, Content_Type="application/problem+json", Retry_After="7")
        else:
            await by_json(seen, peer)

    with anyio.fail_after(4 * LIMIT):
        async with scripted(session_server(serve)) as script, bridged(Url(script.url)) as client:
            with pytest.raises(MCPError, match=r"did not answer: .*429: Too busy.*after 7 s"):
                await client.request("prompts/get", params("null"))


# --- any bytes ------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [b'{"jsonrpc":"2.0"', b',"id":1', b',"id":"1"', b',"id":null', b',"result":{}', b',"result":null', b',"error":null',
     b',"error":{"code":1,"message":"m"}', b',"error":{"code":"1","message":"m"}', b',"method":"m"', b',"method":null',
     b"}", b"[", b"]", b",", b"NaN", b"\xff", b"\xef\xbb\xbf", b'"', b"\\", b"1.0", b"\n", b'"x":-Infinity']
)  # fmt: skip


@given(st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40))
def test_any_bytes_are_messages_or_an_error_that_shows_them(body: bytes) -> None:
    try:
        strict: Any = JSON().decode(body)
    except MCPError:
        strict = None
    try:
        found: Any = read(JSON(), body)
    except Unreadable as error:
        assert strict is None or isinstance(strict, list)
        assert error.body == body and error.request_id in (None, 1, "1")
        return
    if strict is not None and not isinstance(strict, list):
        # What the strict reading takes is what it takes.
        assert (type(found), repr(found)) == (type(strict), repr(strict))

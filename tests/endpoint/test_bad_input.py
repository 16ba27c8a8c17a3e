# SPDX-License-Identifier: MIT
"""Messages that no client should send, in both eras.

Each gets the status and code of the specification, and the id where it could be read.  The connection is kept where
HTTP allows it, other sessions do not change, and the server still serves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import heard
from rawclient import META, Legacy, Modern, RawClient, Response, encode
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, head, lives, modern, request, served, still_serves

from mcp_h11 import MCPServer
from mcp_h11.protocol.codec import MAX_DEPTH
from mcp_h11.protocol.jsonrpc import MAX_BATCH

pytestmark = pytest.mark.anyio
BODY_LIMIT = 4 * 1024 * 1024
ERAS = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
NEW = ERAS[0]


both_loops = pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"], indirect=True)


@pytest.fixture
def anyio_backend(request: Any) -> Any:
    return getattr(request, "param", ASYNCIO)


class Fixture(Held):
    """A server with one object of each kind, so that every method exists."""

    def __init__(self) -> None:
        super().__init__()
        self.resource("test://one")(lambda: "one")
        self.resource("test://{name}")(lambda name: name)
        self.prompt(name="greet")(greet)


def greet(who: str) -> str:
    return who


class Bystander:
    """Another session with a call that runs during the test; the test must not affect it."""

    def __init__(self, port: int, handler: Held) -> None:
        self.port, self.handler = port, handler

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        async with Legacy(self.port, LEGACY) as session:
            message = session.request("tools/call", call("stream"), id="bystander")
            async with session.posting(message) as stream:
                assert (await stream.next_message())["method"] == "notifications/message"
                yield
                self.handler.released.set()
                assert (await stream.next_message())["id"] == "bystander"
                assert await stream.next_message() is None


@asynccontextmanager
async def victim(era: str, **options: Any) -> AsyncIterator[tuple[RawClient, Any]]:
    """A connection, and a function that makes a POST of the era; checks afterwards that the server is unchanged."""
    handler = Fixture()
    async with served(handler, **options) as server, Bystander(server.port, handler).watching():
        if era == NEW:
            fields: dict[str, Any] = {"MCP_Protocol_Version": NEW, "Mcp_Method": "tools/list"}
        else:
            session = Legacy(server.port, era)
            await session.initialize()
            fields = {"Mcp_Session_Id": session.session, "MCP_Protocol_Version": era}
        async with RawClient(server.port) as client:
            yield client, lambda body, **more: request(body, **{**fields, **more})
        await still_serves(server.port)
        if era != NEW:
            assert (await session.call("ping")).result == {}
            await session.delete()


async def answer_to(client: RawClient, data: bytes) -> Response:
    """The answer, on a connection that is kept."""
    await client.send(data)
    answer = await client.receive("POST")
    assert "connection" not in answer.headers
    assert "Traceback" not in answer.body.decode("utf-8", "replace")
    await lives(client)
    return answer


def nested(depth: int) -> bytes:
    """A request with JSON of this depth; the envelope is one level, and its params are another."""
    inner = b"[" * (depth - 2) + b"]" * (depth - 2)
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":' + inner + b"}}"


def rpc(**members: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 9, "method": "tools/list", **members}
    return json.dumps({k: v for k, v in message.items() if v is not ...}).encode()


PARSE = {
    "empty": b"",
    "blank": b" \r\n",
    "not UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "a surrogate in UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xed\xa0\x80"}',
    "BOM": b"\xef\xbb\xbf" + rpc(),
    "UTF-16": rpc().decode().encode("utf-16"),
    "UTF-32": rpc().decode().encode("utf-32-le"),
    "not JSON": b"hello",
    "half JSON": rpc()[:-1],
    "two values": rpc() + rpc(),
    "NaN": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":NaN}}',
    "Infinity as id": b'{"jsonrpc":"2.0","id":Infinity,"method":"tools/list"}',
    "past a double": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":1e999}}',
    "5,000 digits": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":' + b"9" * 5_000 + b"}}",
    "single quotes": b"{'jsonrpc':'2.0'}",
    "a control character": b'{"jsonrpc":"2.0","id":1,"method":"a\x00b"}',
    "too deep": nested(MAX_DEPTH + 1),
    "far too deep": b"[" * 20_000,  # and no more values than a message may have, which is refused first
}


@pytest.mark.parametrize("era", ERAS)
async def test_what_is_no_json_is_a_parse_error(era: str) -> None:
    async with victim(era) as (client, post):
        for what, body in PARSE.items():
            answer = await answer_to(client, post(body))
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32700), what
            assert "id" not in answer.json(), what


# body -> the id that comes back, None for none
ENVELOPE: dict[str, tuple[bytes, Any]] = {
    "a number": (b"7", None),
    "a string": (b'"tools/list"', None),
    "null": (b"null", None),
    "true": (b"true", None),
    "an empty object": (b"{}", None),
    "no jsonrpc": (rpc(jsonrpc=...), 9),
    "jsonrpc 1.0": (rpc(jsonrpc="1.0"), 9),
    "jsonrpc as a number": (rpc(jsonrpc=2.0), 9),
    "id null": (rpc(id=None), None),
    "id true": (rpc(id=True), None),
    "id a fraction": (rpc(id=1.5), None),
    "id an object": (rpc(id={}), None),
    "id an array": (rpc(id=[1]), None),
    "method a number": (rpc(method=7), 9),
    "method null": (rpc(method=None), 9),
    "method missing": (rpc(method=...), 9),
    "params an array": (rpc(params=[1]), 9),
    "params a string": (rpc(params="x"), 9),
    "method and result": (rpc(result={}), 9),
    "result and error": (rpc(method=..., result={}, error={"code": 1, "message": ""}), None),
    "a bad error": (rpc(method=..., error="no"), None),
    "jsonrpc twice": (b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":9,"method":"tools/list"}', None),
    "method twice": (b'{"jsonrpc":"2.0","id":9,"method":"ping","method":"tools/list"}', None),
    "id twice": (b'{"jsonrpc":"2.0","id":1,"id":9,"method":"tools/list"}', None),
    "method in capitals": (b'{"jsonrpc":"2.0","id":9,"Method":"tools/list"}', 9),
    "NUL after a key": (b'{"jsonrpc":"2.0","id":9,"method\\u0000":"tools/list"}', 9),
    "an empty batch": (b"[]", None),
}


@pytest.mark.parametrize("era", ERAS)
async def test_json_that_is_no_message_is_an_invalid_request(era: str) -> None:
    async with victim(era) as (client, post):
        for what, (body, id) in ENVELOPE.items():
            answer = await answer_to(client, post(body))
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32600), what
            assert answer.json().get("id") == id, what


@pytest.mark.parametrize("era", ERAS)
async def test_batches_are_refused_where_the_revision_has_none_and_bounded_where_it_has(era: str) -> None:
    async with victim(era) as (client, post):
        one = rpc(method="tools/list" if era == NEW else "ping")
        batch = b"[" + one + b"]"
        answer = await answer_to(client, post(batch))
        if era == "2025-03-26":
            assert (answer.status, [m["id"] for m in answer.messages()]) == (200, [9])
            mixed = b'[7,[],{"jsonrpc":"2.0","id":"bad"},%b,{"jsonrpc":"2.0","method":"x"}]' % one
            answer = await answer_to(client, post(mixed))
            found = [(m.get("id"), m.get("error", {}).get("code")) for m in answer.messages()]
            assert sorted(found, key=str) == sorted(
                [(None, -32600), (None, -32600), ("bad", -32600), (9, None)], key=str
            )
            full = b"[" + b",".join([one] * MAX_BATCH) + b"]"
            assert len((await answer_to(client, post(full))).messages()) == MAX_BATCH
            answer = await answer_to(client, post(full[:-1] + b"," + one + b"]"))
            notes = b"[" + b",".join([b'{"jsonrpc":"2.0","method":"x"}'] * 3) + b"]"
            assert (await answer_to(client, post(notes))).status == 202
            first = b"[" + rpc(method="initialize", params={}) + b"]"
            assert (await answer_to(client, post(first))).json()["error"]["code"] == -32600
        assert (answer.status, answer.json()["error"]["code"], "id" in answer.json()) == (400, -32600, False)


@both_loops
@pytest.mark.parametrize("era", [NEW, LEGACY])
async def test_depth_and_size_are_allowed_to_the_limit_and_no_further(era: str) -> None:
    async with victim(era) as (client, post):
        params: Any = Modern(0).request("tools/list")["params"] if era == NEW else {}
        body = encode({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
        deep = body[:-2] + (b"," if params else b"") + b'"x":' + b"[" * 126 + b"]" * 126 + b"}}"
        assert "result" in (await answer_to(client, post(deep))).json()
        deeper = deep.replace(b"[" * 126 + b"]" * 126, b"[" * 127 + b"]" * 127)
        assert (await answer_to(client, post(deeper))).json()["error"]["code"] == -32700
        full = body + b" " * (BODY_LIMIT - len(body))
        answer = await answer_to(client, post(full))
        assert answer.status == 200 and "result" in answer.json()
        await client.send(post(full + b" "))
        answer = await client.receive("POST")
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.json()["error"]["code"] == -32600
    async with victim(era) as (client, post):
        chunk = b"%x\r\n%b\r\n0\r\n\r\n"
        fields = {"Transfer_Encoding": "chunked", "Content_Length": None}
        await client.send(post(b"", **fields) + chunk % (len(full), full))
        assert (await client.receive("POST")).status == 200
        await client.send(post(b"", **fields) + chunk % (len(full) + 1, full + b" "))
        answer = await client.receive("POST")
        assert (answer.status, answer.headers["connection"]) == (413, "close")


# method, params -> code in legacy, code in 2026-07-28 (None: a tool error); the id always comes back
PARAMS: list[tuple[str, Any, int | None, int | None]] = [
    ("no/such/method", {}, -32601, -32601),
    ("", {}, -32601, -32601),
    ("tools/List", {}, -32601, -32601),
    ("rpc.discover", {}, -32601, -32601),
    ("__class__", {}, -32601, -32601),
    ("tools/list", {"cursor": "nonsense"}, -32602, -32602),
    ("tools/list", {"cursor": 7}, -32602, -32602),
    ("resources/list", {"cursor": "\u2028"}, -32602, -32602),
    ("prompts/list", {"cursor": "MTIz"}, -32602, -32602),
    ("resources/templates/list", {"cursor": []}, -32602, -32602),
    ("tools/call", {}, -32602, -32602),
    ("tools/call", {"name": 7}, -32602, -32602),
    ("tools/call", {"name": "no-such-tool"}, -32602, -32602),
    ("tools/call", {"name": "echo", "arguments": [1]}, -32602, -32602),
    ("tools/call", {"name": "echo", "arguments": "x"}, -32602, -32602),
    ("tools/call", {"name": "echo", "arguments": {}}, None, None),
    ("tools/call", {"name": "echo", "arguments": {"text": 7}}, None, None),
    ("tools/call", {"name": "echo", "arguments": {"txet": "x"}}, None, None),
    ("tools/call", {"name": "big", "arguments": {"size": "x"}}, None, None),
    ("resources/read", {}, -32602, -32602),
    ("resources/read", {"uri": 7}, -32602, -32602),
    ("resources/read", {"uri": "nothing://here"}, -32002, -32602),
    ("prompts/get", {}, -32602, -32602),
    ("prompts/get", {"name": "no-such-prompt"}, -32602, -32602),
    ("prompts/get", {"name": "greet"}, -32602, -32602),
    ("prompts/get", {"name": "greet", "arguments": {"who": 7}}, -32602, -32602),
    ("completion/complete", {}, -32601, -32601),
]


@both_loops
@pytest.mark.parametrize("era", [NEW, LEGACY])
async def test_bad_params_are_errors_of_their_call_alone(era: str) -> None:
    handler = Fixture()
    async with served(handler) as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        for n, (method, params, old_code, new_code) in enumerate(PARAMS):
            code = new_code if era == NEW else old_code
            peer: Any = Modern(server.port) if era == NEW else session
            message = peer.request(method, params, id=f"call {n}")
            fields = {name.replace("-", "_"): value for name, value in peer.headers_for(message).items()}
            answer = await answer_to(client, request(encode(message), **fields))
            body = answer.json()
            assert body["id"] == f"call {n}", (method, params)
            if code is None:
                assert body["result"]["isError"] and answer.status == 200, (method, params, body)
            else:
                assert body["error"]["code"] == code, (method, params, body)
                expected = 200 if era == LEGACY else {-32601: 404, -32602: 400}[code]
                assert answer.status == expected, (method, params, body)
        assert (await session.call("ping")).result == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"_meta": None}, -32602),
        ({"_meta": "x"}, -32602),
        ({f"{META}protocolVersion": None}, -32602),
        ({f"{META}protocolVersion": 20260728}, -32602),
        ({f"{META}protocolVersion": "2026-07-28 "}, -32020),
        ({f"{META}clientCapabilities": None}, -32602),
        ({f"{META}clientCapabilities": []}, -32602),
        ({f"{META}logLevel": "loud"}, -32602),
        ({f"{META}logLevel": 7}, -32602),
    ],
)
async def test_a_bad_envelope_of_the_newest_revision_is_400_with_its_id(change: dict[str, Any], code: int) -> None:
    async with victim(NEW) as (client, post):
        message = Modern(0).request("tools/list", id="it")
        for key, value in change.items():
            where = message["params"] if key == "_meta" else message["params"]["_meta"]
            if value is None:
                del where[key]
            else:
                where[key] = value
        answer = await answer_to(client, post(encode(message)))
        assert (answer.status, answer.json()["error"]["code"], answer.json()["id"]) == (400, code, "it")


@pytest.mark.parametrize(
    ("method", "params", "fields", "code"),
    [
        ("tools/list", {}, {"MCP_Protocol_Version": None}, -32020),
        ("tools/list", {}, {"MCP_Protocol_Version": "2025-11-25"}, -32020),
        ("tools/list", {}, {"MCP_Protocol_Version": ""}, -32020),
        ("tools/list", {}, {"MCP_Protocol_Version": "2026-07-28, 2026-07-28"}, -32020),
        ("tools/list", {}, {"Mcp_Method": None}, -32020),
        ("tools/list", {}, {"Mcp_Method": "tools/call"}, -32020),
        ("tools/list", {}, {"Mcp_Method": "TOOLS/LIST"}, -32020),
        ("tools/list", {}, {"Mcp_Method": ""}, -32020),
        ("tools/call", call("echo", text="x"), {"Mcp_Name": None}, -32020),
        ("tools/call", call("echo", text="x"), {"Mcp_Name": "hold"}, -32020),
        ("tools/call", call("echo", text="x"), {"Mcp_Name": "=?base64?ZWNobw?="}, -32020),
        ("tools/call", call("echo", text="x"), {"Mcp_Name": "=?base64?/////w==?="}, -32020),
        ("tools/call", call("echo", text="x"), {"Mcp_Name": "\xe9"}, -32020),
        ("prompts/get", {"name": "greet"}, {"Mcp_Name": "other"}, -32020),
        ("resources/read", {"uri": "test://one"}, {"Mcp_Name": "test://two"}, -32020),
    ],
)
async def test_a_header_that_does_not_mirror_the_body_is_400_with_its_id(
    method: str, params: dict[str, Any], fields: dict[str, Any], code: int
) -> None:
    handler = Fixture()
    async with served(handler) as server, RawClient(server.port) as client:
        answer = await answer_to(client, modern(method, params, id="it", **fields))
        assert (answer.status, answer.json()["error"]["code"], answer.json()["id"]) == (400, code, "it")
        assert handler.started == []


async def test_headers_that_come_twice_are_not_chosen_from() -> None:
    async with served() as server, RawClient(server.port) as client:
        for name in ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/list"):
            data = modern("tools/list").replace(b"\r\n\r\n", f"\r\n{name}\r\n\r\n".encode(), 1)
            answer = await answer_to(client, data)
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize("session_id", ["", "x" * 4000, "../../etc", "\xff\xfe", "a b", "'; --"])
async def test_a_session_id_that_is_none_is_404_and_400_if_empty(session_id: str) -> None:
    async with served() as server, RawClient(server.port) as client:
        for version in (None, LEGACY):
            data = request(rpc(), Mcp_Session_Id=session_id, MCP_Protocol_Version=version)
            answer = await answer_to(client, data)
            assert (answer.status, "id" in answer.json()) == (404, False)


@pytest.mark.parametrize(
    "params", [{}, {"protocolVersion": 7, "capabilities": {}, "clientInfo": {}}, {"capabilities": []}]
)
async def test_an_initialize_that_fails_opens_no_session(params: dict[str, Any]) -> None:
    async with served(max_sessions=1) as server, RawClient(server.port) as client:
        for _ in range(3):
            answer = await answer_to(client, request(rpc(method="initialize", params=params)))
            assert (answer.status, answer.json()["error"]["code"], answer.json()["id"]) == (200, -32602, 9)
            assert "mcp-session-id" not in answer.headers
        assert not server.endpoint.legacy.sessions


async def test_refused_requests_leave_no_session_behind() -> None:
    body = rpc(method="initialize", params={"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "x"}})
    async with served() as server:
        for fields in ({"Accept": "text/html"}, {"Content_Type": "text/plain"}, {"Origin": "http://evil.example"}):
            async with RawClient(server.port) as client:
                await client.send(request(body, **fields))
                assert (await client.receive("POST")).status in (403, 406, 415)
        assert not server.endpoint.legacy.sessions


async def test_ids_of_every_kind_come_back_as_they_were() -> None:
    ids = [0, -1, 2**53, 2**64, 10**400, "", "1", "\u2028", "\ud800", "x" * 100_000, "null"]
    async with served() as server, Legacy(server.port, LEGACY) as session, RawClient(server.port) as client:
        for id in ids:
            body = json.dumps(session.request("ping", id=id) if id != 0 else {**session.request("ping"), "id": 0})
            fields = {name.replace("-", "_"): value for name, value in session.headers_for(None).items()}
            answer = await answer_to(client, request(body.encode(), **fields))
            assert (answer.status, answer.json()) == (200, {"jsonrpc": "2.0", "id": id, "result": {}})


async def test_unknown_notifications_answers_and_cancellations_are_swallowed() -> None:
    async with victim(LEGACY) as (client, post):
        for message in (
            {"method": "notifications/nonsense", "params": {"x": 1}},
            {"method": "nonsense"},
            {"method": "notifications/cancelled"},
            {"method": "notifications/cancelled", "params": {"requestId": "bystander"}},  # another session's
            {"method": "notifications/cancelled", "params": {"requestId": {"a": []}}},
            {"method": "notifications/progress", "params": {"progressToken": [], "progress": "x"}},
            {"id": "server-1", "result": {}},
            {"id": 77, "error": {"code": 1, "message": "no"}},
        ):
            answer = await answer_to(client, post(encode({"jsonrpc": "2.0", **message})))
            assert (answer.status, answer.body) == (202, b"")


@both_loops
async def test_a_parse_error_before_a_good_request_harms_neither() -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(request(b"{") + modern("server/discover", id=2) + request(b"[]") + modern("tools/list", id=3))
        statuses = [await client.receive("POST") for _ in range(4)]
        assert [answer.status for answer in statuses] == [400, 200, 400, 200]
        assert [answer.json().get("id") for answer in statuses] == [None, 2, None, 3]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], indirect=True)
async def test_a_codec_of_the_users_makes_no_difference() -> None:
    orjson = pytest.importorskip("orjson")
    async with served(Fixture(), json=orjson) as server, RawClient(server.port) as client:
        for what, body in PARSE.items():
            answer = await answer_to(client, request(body))
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32700), what
        for what, (body, id) in ENVELOPE.items():
            answer = await answer_to(client, request(body))
            assert (answer.status, answer.json()["error"]["code"]) == (400, -32600), what
            assert answer.json().get("id") == id, what


PIECES = st.sampled_from(
    [b"POST /mcp HTTP/1.1\r\n", b"GET /mcp HTTP/1.1\r\n", b"Host: localhost\r\n", b"Content-Length: 5\r\n", b"\r\n",
     b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"Content-Type: application/json\r\n", b"{}",
     b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"\x00", b"Mcp-Session-Id: x\r\n", b'{"jsonrpc":"2.0"',
     head(), head(method="GET"), head(method="OPTIONS"), head(Content_Length="2") + b"{}", modern("server/discover")]
)  # fmt: skip


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], indirect=True)
async def test_no_bytes_wedge_or_kill_the_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    streams: list[list[bytes]] = []

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=12))
    def collect(pieces: list[bytes]) -> None:
        streams.append(pieces)

    collect()
    async with served(MCPServer("plain")) as server:
        for pieces in streams:
            async with RawClient(server.port) as client:
                try:
                    for piece in pieces:
                        await client.send(piece)
                    await client.send_eof()
                    # Every answer is HTTP, and then the connection ends.
                    said = await client.receive_eof()
                except ConnectionError:
                    continue
                assert said == b"" or said.startswith(b"HTTP/1."), pieces
                assert b" 500 " not in said, pieces
        await still_serves(server.port)
        assert not [task for task in server.runtime.tasks if not task.done()]
    assert [record for record in heard(caplog) if record.name.startswith(("mcp_h11", "asyncio"))] == []
    await asyncio.sleep(0)

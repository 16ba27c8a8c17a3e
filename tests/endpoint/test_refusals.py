# SPDX-License-Identifier: MIT
"""Every kind of refusal, given thousands of times, leaves nothing in memory.

An exception that is kept and raised again holds the frames of every time that it was raised.  So each kind is repeated
with the same bytes, and the memory of the process must not grow.  A scan of the sources shows that no module of the
package raises an exception that it keeps.
"""

from __future__ import annotations

import ast
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from fuzzing import FakeTransport
from rawclient import Legacy, encode
from serving import LEGACY, call, head, modern, request, served, turns

import mcp_h11
from mcp_h11 import Context, MCPError, MCPServer, Principal, Refusal, ToolError
from mcp_h11.bridge.gateway import Gateway, GatewayServer
from mcp_h11.client.transports import errors as failures
from mcp_h11.client.transports.errors import ConnectionLost, HTTPStatusError
from mcp_h11.http import client as http_client
from mcp_h11.http import messages
from mcp_h11.http.messages import Limits
from mcp_h11.protocol import errors
from mcp_h11.protocol.errors import Denial, ResourceNotFound, again
from mcp_h11.server.connection import Connection

TIMES = 3_000
WARM_UP = 500  # templates, doors and arenas are made
MOST = 1024 * 1024  # bytes of RSS that all the times together may leave
PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096
PACKAGE = Path(mcp_h11.__file__).parent
on_loop = pytest.mark.anyio


# --- what is refused -----------------------------------------------------------------------------------------------

KEPT = MCPError(errors.URL_ELICITATION_REQUIRED, "Open this first", {"elicitations": []})
KEPT_TOOL_ERROR = ToolError("as always")
KEPT_FAULT = ValueError("a fault of the tool's")
KEPT_REFUSAL = Refusal(403, "not you")


class Refusing(MCPServer):
    """A server with functions that raise the same exception objects again and again."""

    def __init__(self) -> None:
        super().__init__("refusing", version="1")
        self.busy = False
        for tool in (self.kept, self.kept_tool_error, self.kept_fault, self.asks):
            self.add_tool(tool, name=tool.__name__)
        self.resource("it://it")(lambda: "it")

    async def kept(self) -> str:
        raise KEPT

    async def kept_tool_error(self) -> str:
        raise KEPT_TOOL_ERROR

    async def kept_fault(self) -> str:
        raise KEPT_FAULT

    async def asks(self, ctx: Context) -> str:
        return str(await ctx.elicit("Which?", {"type": "object", "properties": {}}))


class Unavailable(Refusing):
    def unavailable(self) -> str | None:
        return "not now"


async def nobody(_: Any) -> None:
    return None


def keeps_its_refusal(_: Any) -> None:
    raise KEPT_REFUSAL


class Tokens:
    """A verifier: the token `narrow` has no scopes, `old` has expired, and all others are unknown."""

    async def verify_token(self, token: str) -> Principal | None:
        if token == "narrow":
            return Principal("somebody")
        return Principal("somebody", ("use",), expires_at=1) if token == "old" else None


class Kind(NamedTuple):
    """One kind of refusal.  The code 0 means an answer that is no JSON-RPC error."""

    data: bytes
    status: int
    code: int
    options: dict[str, Any] = {}
    handler: Callable[[], Any] = Refusing


OLD = {"MCP_Protocol_Version": LEGACY}
PING = encode(Legacy(0, LEGACY).request("ping"))
METADATA = {"authorization_servers": ["https://as.example"], "verifier": Tokens(), "required_scopes": ["use"]}
INVALID, PARAMS, INTERNAL = errors.INVALID_REQUEST, errors.INVALID_PARAMS, errors.INTERNAL_ERROR
MANY = b"".join(b"A%d: b\r\n" % n for n in range(101))


def old(method: str, params: Any = None, **headers: str) -> bytes:
    return request(encode(Legacy(0, LEGACY).request(method, params, id=1)), **OLD, **headers)


def bearer(token: str) -> bytes:
    return modern("server/discover", Authorization=f"Bearer {token}")


def chunked(body: bytes) -> bytes:
    return head(Transfer_Encoding="chunked") + body


KINDS = {
    # refused by the head alone: host, origin, path, method, format
    "host": Kind(modern("server/discover", Host="evil.example"), 403, INVALID),
    "host that is none": Kind(modern("server/discover", Host="[:::]"), 400, INVALID),
    "no host": Kind(head(version="1.0", Host=None, Content_Length="0"), 403, INVALID),
    "origin": Kind(modern("server/discover", Origin="https://evil.example"), 403, INVALID),
    "origins": Kind(head(Content_Length="0", Origin="http://localhost\r\nOrigin: http://localhost"), 403, INVALID),
    "path": Kind(head("/elsewhere", "GET"), 404, INVALID),
    "method": Kind(head(method="PUT", Content_Length="0"), 405, INVALID),
    "method of an era": Kind(head(method="GET", MCP_Protocol_Version="2026-07-28"), 405, INVALID),
    "method, stateless": Kind(head(method="GET", **OLD), 405, INVALID, {"stateless": True}),
    "connect": Kind(head("localhost:1", "CONNECT"), 405, INVALID),
    "accept": Kind(modern("server/discover", Accept="text/html"), 406, INVALID),
    "accept of a stream": Kind(head(method="GET", Accept="application/json", **OLD), 406, INVALID),
    "strict accept": Kind(
        modern("server/discover", Accept="application/json"), 406, INVALID, {"strict_accept": True}
    ),
    "content type": Kind(modern("server/discover", Content_Type="text/plain"), 415, INVALID),
    "no content type": Kind(request(PING, Content_Type=None), 415, INVALID),
    "twice": Kind(head(Content_Length="0", Mcp_Session_Id="a\r\nMcp-Session-Id: b"), 400, INVALID),
    "refused before its body": Kind(head(Content_Length="9", Content_Type="text/plain"), 415, INVALID),
    "forwarded twice": Kind(
        modern("ping", Forwarded="for=192.0.2.1", X_Forwarded_For="192.0.2.2"), 400, INVALID,
        {"trusted_proxies": ["127.0.0.1"]},
    ),
    "forwarded host": Kind(
        modern("ping", X_Forwarded_Host="evil.example"), 403, INVALID, {"trusted_proxies": ["127.0.0.1"]}
    ),
    # authorization and the rate limit
    "no token": Kind(modern("server/discover"), 401, INVALID, {"token": "secret"}),
    "wrong token": Kind(bearer("wrong"), 401, INVALID, {"token": "secret"}),
    "refused token before its body": Kind(head(Content_Length="9"), 401, INVALID, {"token": "secret"}),
    "nobody": Kind(modern("server/discover"), 401, INVALID, {"authorize": lambda _: None}),
    "nobody, later": Kind(modern("server/discover"), 401, INVALID, {"authorize": nobody}),
    "a refusal that authorize keeps": Kind(modern("server/discover"), 403, INVALID, {"authorize": keeps_its_refusal}),
    "no bearer token": Kind(modern("server/discover"), 401, INVALID, METADATA),
    "malformed token": Kind(bearer("a b"), 400, INVALID, METADATA),
    "unknown token": Kind(bearer("unknown"), 401, INVALID, METADATA),
    "expired token": Kind(bearer("old"), 401, INVALID, METADATA),
    "scopes": Kind(bearer("narrow"), 403, INVALID, METADATA),
    "rate": Kind(modern("server/discover"), 429, INTERNAL, {"rate_limit": (1, 3_600.0)}),
    "rate of those who guess": Kind(bearer("wrong"), 429, INTERNAL, {"token": "x", "rate_limit": (1, 3_600.0)}),
    "unavailable": Kind(modern("ping"), 503, INTERNAL, {}, Unavailable),
    # the body
    "no JSON": Kind(request(b"{"), 400, errors.PARSE_ERROR),
    "no UTF-8": Kind(request(b'"\xff"'), 400, errors.PARSE_ERROR),
    "no message": Kind(request(b"{}"), 400, INVALID),
    "empty batch": Kind(request(b"[]"), 400, INVALID),
    "version": Kind(modern("server/discover", MCP_Protocol_Version="1999-01-01"), 400, errors.HEADER_MISMATCH),
    "unknown version": Kind(
        request(PING, MCP_Protocol_Version="1999-01-01"), 400, errors.UNSUPPORTED_PROTOCOL_VERSION
    ),
    "mirrored header": Kind(modern("server/discover", Mcp_Method="ping"), 400, errors.HEADER_MISMATCH),
    "unknown method": Kind(modern("no/such"), 404, errors.METHOD_NOT_FOUND),
    "params": Kind(modern("tools/call", {"name": "no such"}), 400, PARAMS),
    "capability": Kind(modern("tools/call", call("asks")), 400, errors.MISSING_CLIENT_CAPABILITY),
    "no session": Kind(old("tools/list"), 400, -32000),
    "unknown session": Kind(old("tools/list", Mcp_Session_Id="unknown"), 404, errors.SESSION_NOT_FOUND),
    "stream of no session": Kind(head(method="GET", **OLD), 405, INVALID),
    "end of an unknown session": Kind(
        head(method="DELETE", Mcp_Session_Id="unknown", **OLD), 404, errors.SESSION_NOT_FOUND
    ),
    "a post to no session of HTTP+SSE": Kind(request(PING, "/messages"), 400, -32000, {"legacy_sse": True}),
    "a post to an unknown session of HTTP+SSE": Kind(
        request(PING, "/messages?session_id=x"), 404, errors.SESSION_NOT_FOUND, {"legacy_sse": True}
    ),
    "resource": Kind(modern("resources/read", {"uri": "it://other"}), 400, PARAMS),
    "resource of an earlier revision": Kind(
        old("resources/read", {"uri": "it://other"}), 200, errors.RESOURCE_NOT_FOUND, {"stateless": True}
    ),
    # exceptions that a handler keeps
    "an error that a tool keeps": Kind(
        old("tools/call", call("kept")), 200, errors.URL_ELICITATION_REQUIRED, {"stateless": True}
    ),
    "an error that a tool keeps, of the newest revision": Kind(modern("tools/call", call("kept")), 200, INTERNAL),
    "a tool error that a tool keeps": Kind(modern("tools/call", call("kept_tool_error")), 200, 0),
    "a fault that a tool keeps": Kind(modern("tools/call", call("kept_fault")), 200, 0),
    # faults of HTTP, and requests past its limits: each ends its connection
    "no HTTP": Kind(b"\x16\x03\x01\r\n\r\n", 400, INVALID),
    "syntax": Kind(b"GET /\r\n\r\n", 400, INVALID),
    "HTTP version": Kind(b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", 505, INVALID),
    "request line": Kind(b"GET /" + b"x" * 9_000, 414, INVALID),
    "fields": Kind(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + MANY + b"\r\n", 431, INVALID),
    "head": Kind(b"GET / HTTP/1.1\r\nA: " + b"x" * 33_000, 431, INVALID),
    "body": Kind(head(Content_Length="9999999"), 413, INVALID),
    "chunks": Kind(chunked(b"x\r\n"), 400, INVALID),
    "overhead": Kind(chunked(b"1;" + b"x" * 200 + b"\r\n"), 413, INVALID, {"limits": Limits(max_chunk_overhead=99)}),
    "too late": Kind(head(Content_Length="9"), 408, INVALID),
    "too many connections": Kind(b"", 503, INTERNAL, {"max_connections": 1}),
}  # fmt: skip
GATEWAY = {
    "no site": Kind(head("/servers/none/mcp", "GET"), 404, INVALID),
    "no site, before its body": Kind(head("/servers/none/mcp", Content_Length="9"), 404, INVALID),
    "host of no site": Kind(head("/servers/none/mcp", Host="evil.example", Content_Length="9"), 403, INVALID),
    "no page": Kind(head("/elsewhere", "GET"), 404, INVALID),
    "page": Kind(head("/health", "POST", Content_Length="0"), 405, INVALID),
}
# The handler of these is a gateway without any server.
ALL = {**KINDS, **{name: kind._replace(handler=lambda: Gateway({})) for name, kind in GATEWAY.items()}}
NOT_ON_THE_WIRE = {errors.REQUEST_CANCELLED}  # the answer to a request that the client cancelled


def test_the_table_has_every_code_and_every_status_of_a_refusal() -> None:
    codes = {value for name, value in vars(errors).items() if name.isupper() and type(value) is int and value < 0}
    assert codes - NOT_ON_THE_WIRE <= {kind.code for kind in ALL.values()}
    statuses = {400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 429, 431, 503, 505}
    assert {kind.status for kind in ALL.values()} - {200} == statuses


# --- thousands of times ----------------------------------------------------------------------------------------------


class Asker:
    """A connection that is kept for as long as the server keeps it, then the next one."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.transport: Any = None

    async def ask(self, kind: Kind) -> bytes:
        """Send a request, and give the bytes of the answer."""
        if self.transport is not None and not self.transport.closed:
            self.transport.written.clear()
        else:
            connection = Connection(self.server)
            self.transport = FakeTransport(connection)
            connection.connection_made(self.transport)
        transport = self.transport
        if kind.data:
            transport.connection.data_received(kind.data)
        if kind.status == 408:
            transport.connection.tick(self.server.now + 3_600)
        if self.server.runtime.outbox is not None:
            self.server.runtime.outbox.flush()
        for _ in range(20):
            if transport.written:
                break
            await turns(1)
        answer = bytes(transport.written)
        if b"connection: close" in answer.lower():
            transport.close()
            await turns(1)
        return answer


def used() -> int:
    """The resident memory of the process in bytes."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def _options(kind: Kind) -> dict[str, Any]:
    gateway = {"kind": GatewayServer, "health": True} if kind.handler not in (Refusing, Unavailable) else {}
    return {**gateway, "max_requests": None, **kind.options}


@pytest.mark.long
@on_loop
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory comes from /proc")
@pytest.mark.parametrize("name", ALL)
async def test_a_refusal_that_is_given_three_thousand_times_leaves_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL")  # a fault of a tool is logged each time, and pytest keeps the records
    kind = ALL[name]
    with anyio.fail_after(240):
        async with served(kind.handler(), **_options(kind)) as server:
            asker, first = Asker(server), None
            if kind.status in (429, 503) and kind.handler is Refusing:
                first = Asker(server)  # the one request that has room
                await first.ask(kind)
            blocks = memory = 0
            for n in range(WARM_UP + TIMES):
                answer = await asker.ask(kind)
                assert answer.startswith(b"HTTP/1.1 %d " % kind.status), answer
                if n % 500 == 0 and kind.code:
                    assert b'"code":%d,' % kind.code in answer, answer
                if n == WARM_UP - 1:
                    memory, blocks = used(), sys.getallocatedblocks()
            grown, kept = used() - memory, sys.getallocatedblocks() - blocks
            for one in (asker, first):
                if one is not None and one.transport is not None:
                    one.transport.close()
            await turns(3)
    assert kept < TIMES // 4, f"{kept} blocks"
    assert grown <= MOST, f"{grown} bytes"


# --- that there is no other way --------------------------------------------------------------------------------------

# Functions that raise an exception which their caller caught: (module, function).
CAUGHT_BEFORE = {
    ("answers", "_failure"),  # the one exception of a group
    ("drive", "_fail"),  # it was made or caught a moment before, at each of its calls
    ("exchange", "_deliver"),  # one of the messages of a payload, which were read a moment before
    ("era_watch", "_find_other"),
    ("connect", "go_by_sse"),
    ("eager", "throw"),  # as a generator's `throw`
    ("readers", "_go_on"),
    ("thread", "_start"),  # it is taken out of where it was kept
}


def raised_again(tree: ast.Module) -> list[tuple[str, int]]:
    """Functions, and lines, that raise an exception which that function neither made nor caught."""
    found = []
    functions = [one for one in ast.walk(tree) if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))]
    for function in functions:
        made = {one.name for one in ast.walk(function) if isinstance(one, ast.ExceptHandler) and one.name}
        for one in ast.walk(function):
            if isinstance(one, (ast.Assign, ast.AnnAssign)) and one.value is not None:
                value = one.value.value if isinstance(one.value, ast.Await) else one.value
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                if isinstance(value, ast.Call) or (isinstance(value, ast.Name) and value.id in made):
                    made |= {target.id for target in targets if isinstance(target, ast.Name)}
        for one in ast.walk(function):
            if isinstance(one, ast.Raise) and one.exc is not None:
                either = one.exc.values if isinstance(one.exc, ast.BoolOp) else [one.exc]
                if not all(is_new(raised, made) for raised in either):
                    found.append((function.name, one.lineno))
    return found


def is_new(raised: ast.expr, made: set[str]) -> bool:
    raised = raised.value if isinstance(raised, ast.Await) else raised
    if isinstance(raised, ast.Call) or (isinstance(raised, ast.Name) and raised.id in made):
        return True
    name = raised.id if isinstance(raised, ast.Name) else raised.attr if isinstance(raised, ast.Attribute) else ""
    # `raise` with a class makes a new exception.
    return name.lstrip("_")[:1].isupper() and not name.isupper()


def test_no_module_raises_what_it_keeps() -> None:
    found = {path: raised_again(ast.parse(path.read_text("utf-8"))) for path in PACKAGE.rglob("*.py")}
    assert len(found) > 100
    again = [(path, *one) for path, ones in found.items() for one in ones if (path.stem, one[0]) not in CAUGHT_BEFORE]
    assert again == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("raise self.error", True), ("raise door.verdict.unfit", True), ("raise KEPT", True), ("raise kept[0]", True),
        ("raise given", True),
        ("raise asyncio.CancelledError", False), ("raise await made_of(1)", False),
        ("raise self.error or ValueError()", True), ("raise ValueError", False),
        ("raise ValueError(1)", False), ("raise again(self.error)", False), ("made = made_of(1)\n raise made", False),
        ("try:\n  pass\n except ValueError as error:\n  raise error", False), ("raise", False),
    ],
)  # fmt: skip
def test_the_scan_finds_what_is_raised_again(source: str, wrong: bool) -> None:
    assert bool(raised_again(ast.parse(f"def f(self, given):\n {source}\n"))) is wrong


def test_no_module_has_an_exception_of_its_own() -> None:
    """Not as a constant, and not as the default of an argument: those live as long as the process."""
    ours = [*vars(errors).items(), *vars(failures).items(), *vars(messages).items(), *vars(http_client).items()]
    names = {name for name, value in ours if isinstance(value, type) and issubclass(value, BaseException)}
    for path in PACKAGE.rglob("*.py"):
        for statement in ast.parse(path.read_text("utf-8")).body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Call):
                called = statement.value.func
                assert not (isinstance(called, ast.Name) and called.id in names), (path, statement.lineno)


# --- the same error for another caller -------------------------------------------------------------------------------

ERRORS = [
    MCPError(1, "it", {"a": 1}),
    Refusal(429, "slowly", headers=[("Retry-After", "1")], close=True, data="x"),
    ConnectionLost("gone", sent=False),
    HTTPStatusError(500, "no", headers={"a": "b"}, error={"code": 5, "message": "m"}),
    ResourceNotFound("it://it"),
    FileNotFoundError(2, "No such file", "a name"),
    KeyError("key"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_is_told_again_says_the_same_and_grows_not(error: Exception) -> None:
    error.__cause__ = ValueError("why")
    made = again(error)
    assert made is not error and type(made) is type(error)
    assert (str(made), made.args, vars(made), made.__cause__) == (
        str(error), error.args, vars(error), error.__cause__,
    )  # fmt: skip
    for _ in range(3):
        with pytest.raises(type(error)):
            raise again(error)
    assert error.__traceback__ is None and made.__traceback__ is None


def test_a_denial_makes_a_new_refusal_each_time() -> None:
    denial = Denial(405, "not so", (("Allow", "GET"),))
    first, second = denial.refusal(), denial.refusal()
    assert first is not second
    assert (first.status, first.message, first.headers, first.code) == (405, "not so", (("Allow", "GET"),), INVALID)


def test_a_client_that_has_lost_its_server_says_so_with_a_new_error_each_time() -> None:
    async def ask() -> None:
        server = MCPServer("x")
        async with mcp_h11.Client(server) as client:
            calls = client._conversation.calls
            calls.end(ConnectionLost("gone"))
            kept = calls.ended
            assert kept is not None
            seen = []
            for _ in range(3):
                with pytest.raises(ConnectionLost) as caught:
                    await client.list_tools()
                seen.append(caught.value)
            assert len({id(error) for error in [kept, *seen]}) == 4 and kept.__traceback__ is None

    anyio.run(ask)

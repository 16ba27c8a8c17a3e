# SPDX-License-Identifier: MIT
"""What a target means: a handler in this process, a command, an address; and old servers that are odd on pipes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest
import trustme
from certificates import certified, trusting
from provision import EVERYTHING

from mcp_h11 import Client, ConnectionLost, Context, MCPServer, detect, listening
from mcp_h11.client import probe
from mcp_h11.client.http.urls import origin_of
from mcp_h11.client.transports.base import Outgoing
from mcp_h11.client.transports.memory import MemoryTransport
from mcp_h11.client.transports.stdio import StdioTransport

pytestmark = pytest.mark.anyio

LIMIT = 60.0
REVISIONS = [None, "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]

# A server of sessions on pipes; what it does before `initialize` is said by its argument.
OLD = """
import json, sys
no = {"code": -32600, "message": "no"}
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "initialize":
        said = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
    elif message["method"] == "ping":
        said = {}
    elif "id" not in message:
        continue
    elif sys.argv[1] == "ends":
        sys.exit(1)
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": no}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": said}), flush=True)
"""

# A server of 2026-07-28 on pipes that begins so late that `initialize` is there before it answers the first request.
LATE = """
import json, sys
first, second = (json.loads(sys.stdin.readline()) for _ in range(2))
assert (first["method"], second["method"]) == ("server/discover", "initialize")
found = {"supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private",
         "resultType": "complete"}
def say(id, **said):
    print(json.dumps({"jsonrpc": "2.0", "id": id, **said}), flush=True)
say(first["id"], result=found)
say(second["id"], error={"code": -32022, "message": "no handshake here", "data": {"supported": ["2026-07-28"]}})
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        say(message["id"], result=found if message["method"] == "server/discover" else {"resultType": "complete"})
"""


async def accept(params: dict[str, Any]) -> dict[str, Any]:
    return {"action": "accept", "content": {"it": "me"}}


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_handler_in_this_process(revision: str | None) -> None:
    server = MCPServer("near", version="1")

    @server.tool
    async def ask(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return str(answer.data)

    told: list[Any] = []
    with anyio.fail_after(LIMIT):
        async with Client(server, revision=revision, on_elicitation=accept) as client:
            assert isinstance(client.transport, MemoryTransport) and client.server_info["name"] == "near"
            assert client.revision.name == (revision or "2026-07-28")
            result = await client.call_tool("ask", progress=lambda *step: told.append(step[0]))
    if client.revision.elicitation:
        assert result["content"][0]["text"] == "{'it': 'me'}"
    assert told[0] == 1


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("as_text", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_command(revision: str | None, as_text: bool) -> None:
    command = [sys.executable, str(EVERYTHING), "--stdio"]
    target: Any = shlex.join(command) if as_text else command
    with anyio.fail_after(LIMIT):
        async with Client(target, revision=revision, env="inherit") as client:
            assert isinstance(client.transport, StdioTransport) and client.server_info["name"] == "everything"
            assert client.revision.name == (revision or "2026-07-28")
            await client.call_tool("test_simple_text")
            await client.ping()
        assert await client.wait_closed() is None


@pytest.mark.parametrize("what", ["ends", "refuses"])
async def test_an_old_server_that_knows_nothing_but_initialize(what: str) -> None:
    with anyio.fail_after(LIMIT):
        async with Client([sys.executable, "-c", OLD, what]) as client:
            assert client.revision.name == "2025-06-18"
            await client.ping()
            with anyio.move_on_after(0.05) as waited:
                await client.wait_closed()
            assert waited.cancelled_caught


async def test_a_new_server_that_begins_after_the_time_of_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT", 0.05)
    send = StdioTransport.send

    async def slowly(transport: StdioTransport, out: Outgoing) -> None:
        if out.method == "initialize":  # from then on it answers
            monkeypatch.setattr(probe, "PROBE_TIMEOUT", LIMIT)
        await send(transport, out)

    monkeypatch.setattr(StdioTransport, "send", slowly)
    with anyio.fail_after(LIMIT):
        async with Client([sys.executable, "-c", LATE]) as client:
            assert client.revision.name == "2026-07-28"
            assert (await client.request("x/y")) == {"resultType": "complete"}


async def test_a_function_that_makes_a_transport_is_called_again_where_the_server_is_started_again() -> None:
    made: list[StdioTransport] = []

    def make() -> StdioTransport:
        made.append(StdioTransport([sys.executable, "-c", OLD, "ends"]))
        return made[-1]

    with anyio.fail_after(LIMIT):
        async with Client(make) as client:
            assert client.revision.name == "2025-06-18" and client.transport is made[-1]
            await client.ping()
        assert len(made) == 2
        async with Client(lambda: MemoryTransport(MCPServer("near", version="1"))) as client:
            assert client.server_info["name"] == "near"


@pytest.mark.long
async def test_a_command_that_is_none_is_a_lost_connection() -> None:
    with anyio.fail_after(LIMIT):
        with pytest.raises(ConnectionLost):
            async with Client(["no-such-program-of-that-name"]):
                raise AssertionError
        with pytest.raises(ConnectionLost):
            async with Client([sys.executable, "-c", "pass"]):
                raise AssertionError


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["TLS", "Unix socket"])
@pytest.mark.parametrize("revision", [*REVISIONS, "sse"])
async def test_an_address_of_tls_or_of_a_unix_socket(way: str, revision: str | None, tmp_path: Path) -> None:
    server = MCPServer("far", version="1")
    heard: list[str] = []

    @server.tool
    async def ask(ctx: Context) -> str:
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        return str(answer.data)

    bound: dict[str, Any] = {"uds": str(tmp_path / "S.sock")}
    context = None
    if way == "TLS":
        authority = trustme.CA()
        context, bound = trusting(authority), {"port": 0, "ssl": certified(authority, "127.0.0.1")}
    options: dict[str, Any] = {"transport": "sse"} if revision == "sse" else {"revision": revision}
    if revision == "2024-11-05":  # has nothing else
        options["transport"] = "sse"
    path = "/sse" if "transport" in options else "/mcp"
    with anyio.fail_after(LIMIT):
        async with listening(server, legacy_sse=True, **bound) as running:
            if way == "TLS":
                url = f"https://127.0.0.1:{running.port}{path}"
            else:
                url = f"http+unix://{quote(bound['uds'], safe='')}{path}"
            kinds = {"on_elicitation": accept, "on_list_changed": heard.append}
            async with Client(url, ssl=context, timeout=LIMIT, **kinds, **options) as client:
                assert client.server_info["name"] == "far"
                if client.revision.elicitation:
                    assert (await client.call_tool("ask"))["content"][0]["text"] == "{'it': 'me'}"
                server.notify_tools_changed()
                while not heard:
                    await anyio.sleep(0.01)
            if path == "/mcp":
                assert (await detect(url, ssl=context)).revisions[0] == "2026-07-28"
            assert not running.endpoint.legacy.sessions


async def test_a_certificate_that_nobody_vouches_for_is_a_connection_that_never_was() -> None:
    async with listening(MCPServer("far", version="1"), port=0, ssl=certified(trustme.CA(), "127.0.0.1")) as running:
        for target in (f"https://127.0.0.1:{running.port}/mcp", f"https://127.0.0.1:{running.port}/sse"):
            with anyio.fail_after(LIMIT), pytest.raises(ConnectionLost, match="certificate") as caught:
                async with Client(target):
                    raise AssertionError
            assert not caught.value.sent


def test_what_no_request_can_carry_is_refused_when_the_client_is_made() -> None:
    address = "http://127.0.0.1/mcp"
    for target, options in (
        ("http://ann:hush@127.0.0.1/mcp", {}), ("https://", {}), ("http://127.0.0.1:x/", {}),
        (address, {"headers": {"A": "hush\n"}}), (address, {"headers": {"A b": "hush"}}),
        (address, {"token": "hush\r"}),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            Client(target, **options)
        assert "hush" not in str(caught.value)


def test_the_case_of_a_scheme_does_not_count() -> None:
    assert Client("HTTPS://127.0.0.1/mcp")._options.url == "HTTPS://127.0.0.1/mcp"


def test_an_origin_is_known_by_what_tells_it_apart() -> None:
    assert origin_of("HTTP://A:1/x") == origin_of("http://a:1/y?z") != origin_of("https://a:1/")
    assert origin_of("http+unix://%2FS/x") != origin_of("http+unix://%2Fs/x")

# SPDX-License-Identifier: MIT
"""`ctx.session.get`, `set` and `delete` on one worker without a store."""

from __future__ import annotations

import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest
from keeping import done, keeper, tried
from pipes_support import piped
from rawclient import Legacy, Modern
from serving import LEGACY
from sse_support import connected
from wire import D

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.eras.session import SMALL_CLIENT
from mcp_h11.eras.values import MAX_SESSION_VALUES, packed, unpacked
from mcp_h11.protocol.errors import ToolError

pytestmark = pytest.mark.anyio


async def test_a_value_is_there_in_the_next_call_and_in_no_other_session() -> None:
    async with listening(keeper(), port=0) as server, Legacy(server.port, LEGACY) as client:
        value = '{"a": [1, 2.5, null, true, "\u00e9\\ud800"], "": {}}'
        assert await done(client, "get", key="k") == '"nothing"'
        assert await done(client, "set", key="k", text=value) == "kept"
        assert json.loads(await done(client, "get", key="k")) == json.loads(value)
        await done(client, "set", key="", text="null")
        assert await done(client, "get", key="") == "null"
        async with Legacy(server.port, LEGACY) as other:
            assert await done(other, "get", key="k") == '"nothing"'
        await done(client, "delete", key="k")
        await done(client, "delete", key="k")
        assert await done(client, "get", key="k") == '"nothing"'
        assert await done(client, "get", key="") == "null"


async def test_the_data_of_a_session_are_objects_that_its_next_call_finds() -> None:
    mcp = MCPServer("data", version="1")

    @mcp.tool()
    async def count(ctx: Context, *, anew: bool = False) -> str:
        assert ctx.session is not None
        if anew:
            ctx.session.data = {"seen": [object()]}
        else:
            ctx.session.data.setdefault("seen", []).append(object())
        return str(len(ctx.session.data["seen"]))

    async with listening(mcp, port=0) as server, Legacy(server.port, LEGACY) as client:
        assert [await done(client, "count") for _ in range(3)] == ["1", "2", "3"]
        async with Legacy(server.port, LEGACY) as other:
            assert await done(other, "count") == "1"
        assert await done(client, "count", anew=True) == "1"
        assert await done(client, "count") == "2"


async def test_a_function_in_a_thread_keeps_values_as_well() -> None:
    async with listening(keeper(), port=0) as server, Legacy(server.port, LEGACY) as client:
        assert await done(client, "sync", key="k") == "by a thread"
        assert await done(client, "get", key="k") == '"by a thread"'


async def test_the_one_session_of_a_pipe_keeps_values() -> None:
    async with piped(keeper()) as pipe:
        await pipe.initialize(D)
        pipe.call(1, "set", key="k", text="[1]")
        await pipe.result(1, D)
        pipe.call(2, "get", key="k")
        assert (await pipe.result(2, D))["content"][0]["text"] == "[1]"


async def test_a_session_of_http_and_sse_keeps_values() -> None:
    async with listening(keeper(), port=0, legacy_sse=True) as server, connected(server.port) as client:
        await client.initialize("2024-11-05")
        for tool, arguments, text in (("set", {"text": "[1]"}, "kept"), ("get", {}, "[1]")):
            params = {"name": tool, "arguments": {"key": "k", **arguments}}
            answer = await client.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            assert answer["result"]["content"][0]["text"] == text


async def test_where_there_is_no_session_there_is_none_to_keep_values_in() -> None:
    async with listening(keeper(), port=0) as server:
        assert await done(Modern(server.port), "none") == "no session"
    async with listening(keeper(), port=0, stateless=True) as server, Legacy(server.port, LEGACY) as client:
        assert await done(client, "none") == "no session"


async def test_what_a_tool_does_to_its_value_later_changes_nothing_that_is_kept() -> None:
    server = MCPServer("aliasing", version="1")

    @server.tool
    async def it(ctx: Context) -> str:
        assert ctx.session is not None
        mine = {"list": [1]}
        await ctx.session.set("k", mine)
        mine["list"].append(2)
        got = await ctx.session.get("k")
        got["list"].append(3)
        return json.dumps([await ctx.session.get("k"), got])

    async with listening(server, port=0) as listener, Legacy(listener.port, LEGACY) as client:
        assert json.loads(await done(client, "it")) == [{"list": [1]}, {"list": [1, 3]}]


def looped() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "NaN, which JSON does not have"),
        ({"a": [0, float("inf")]}, "a[1] is infinity"),
        (object(), "object is not JSON serializable"),
        ({1: "one"}, "names of members are str in JSON, not int"),
        (["", ({"a": {None: 1}},)], "not NoneType"),
        (looped(), "nested too deeply"),
        (nested(128), "nested deeper than 128"),
        (nested(100_000), "nested too deeply"),
    ],
    ids=["NaN", "infinity", "object", "number as name", "None as name", "circle", "deep", "very deep"],
)
async def test_what_is_no_json_is_refused_and_the_old_value_stays(value: Any, text: str) -> None:
    server = keeper()

    @server.tool
    async def bad(ctx: Context) -> None:
        assert ctx.session is not None
        await ctx.session.set("k", value)

    async with listening(server, port=0) as listener, Legacy(listener.port, LEGACY) as client:
        await done(client, "set", key="k", text='"old"')
        failed, said = await tried(client, "bad")
        assert failed and text in said
        assert await done(client, "get", key="k") == '"old"'


@pytest.mark.parametrize("method", ["get", "set", "delete"])
async def test_a_key_is_a_text(method: str) -> None:
    server = keeper()

    @server.tool
    async def bad(ctx: Context) -> None:
        await getattr(ctx.session, method)(*([1, 1] if method == "set" else [1]))

    async with listening(server, port=0) as listener, Legacy(listener.port, LEGACY) as client:
        failed, text = await tried(client, "bad")
        assert failed and "a key of a session is a str, not int" in text


async def test_a_list_may_be_given_as_a_tuple() -> None:
    server = keeper()

    @server.tool
    async def it(ctx: Context) -> None:
        assert ctx.session is not None
        await ctx.session.set("k", ({"a": (1,)},))

    async with listening(server, port=0) as listener, Legacy(listener.port, LEGACY) as client:
        await done(client, "it")
        assert json.loads(await done(client, "get", key="k")) == [{"a": [1]}]


async def test_a_session_keeps_up_to_its_limit_and_not_a_byte_more() -> None:
    async with listening(keeper(), port=0) as server, Legacy(server.port, LEGACY) as client:
        await done(client, "fill", key="k", size=MAX_SESSION_VALUES)
        value = await done(client, "get", key="k")
        assert len(value) == MAX_SESSION_VALUES - len('{"k":}')
        failed, text = await tried(client, "fill", key="k", size=MAX_SESSION_VALUES + 1)
        assert failed and f"at most {MAX_SESSION_VALUES} bytes as JSON, and these have {MAX_SESSION_VALUES + 1}" in text
        # The keys and the other values count.
        failed, text = await tried(client, "set", key="l", text="1")
        assert failed and f"at most {MAX_SESSION_VALUES} bytes" in text
        failed, text = await tried(client, "set", key="l", text=json.dumps("x" * MAX_SESSION_VALUES))
        assert failed and "a value has at most" in text
        assert await done(client, "get", key="k") == value
        await done(client, "delete", key="k")
        await done(client, "set", key="l", text="1")


async def test_the_values_of_all_sessions_count_in_the_memory_of_their_client() -> None:
    memory = 20 * MAX_SESSION_VALUES
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(keeper(), port=0, max_client_memory=memory))
        clients = [await stack.enter_async_context(Legacy(server.port, LEGACY)) for _ in range(20)]

        async def fills(client: Legacy, size: int = MAX_SESSION_VALUES) -> bool:
            failed, text = await tried(client, "fill", key="k", size=size)
            assert not failed or text == "The server keeps as much for this client as its share allows"
            return not failed

        # One client gets 4/5 of the whole.
        assert [await fills(client) for client in clients] == [True] * 16 + [False] * 4
        assert await done(clients[-1], "get", key="k") == '"nothing"'
        assert await fills(clients[-1], SMALL_CLIENT // 2)
        # The memory of values that are deleted, and that of a session that ends, is free again.
        await done(clients[0], "delete", key="k")
        assert await fills(clients[-1]) and not await fills(clients[-2])
        await clients[1].delete()
        assert await fills(clients[-2])
    assert not server.runtime.memory.total


def test_values_that_cannot_be_read_are_an_error_and_not_an_empty_session(caplog: pytest.LogCaptureFixture) -> None:
    assert unpacked(packed({})) == {} and unpacked(packed({"a": 1})) == {"a": 1}
    for text in (b"[1]", b"{", b"\xff"):
        with caplog.at_level(logging.ERROR), pytest.raises(ToolError, match="cannot be read"):
            unpacked(text)
    assert len(caplog.records) == 3

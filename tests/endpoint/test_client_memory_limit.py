# SPDX-License-Identifier: MIT
"""`max_client_memory`: the data of clients that the server holds, in bytes of memory and not of JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rawclient import LIMIT, Legacy, Modern, RawClient, encode
from serving import ASYNCIO, LEGACY, Held, call, head, modern, served, still_serves, turns

from mcp_h11 import MCPServer, Principal
from mcp_h11.endpoint.endpoint import SMALL_BODY
from mcp_h11.eras.session import JSON_OF_MEMORY, SMALL_CLIENT
from mcp_h11.http.bodies import BLOCK
from mcp_h11.protocol.jsonrpc import JSON
from mcp_h11.runtime.fairness import Load, Shares, held_memory, json_memory
from mcp_h11.runtime.storage import MAX_CLIENT_MEMORY, MAX_CLIENT_SIZE

US = "127.0.0.1"
FLOOD, OTHER = "192.0.2.1", "192.0.2.2"
on_sockets = pytest.mark.anyio
MIB = 1024 * 1024


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


def array(item: str, count: int = 20_000) -> bytes:
    return ("[" + ",".join([item] * count) + "]").encode()


HOSTILE = {
    "lists": array("[]"),
    "dicts": array("{}"),
    "dicts of one": array('{"":1}'),
    "dicts in dicts": array('{"":{}}'),
    "dicts of six": array('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1}'),
    "dicts of eleven": array('{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1}'),
    "lists of one": array("[257]"),
    "lists of five": array("[257,257,257,257,257]"),
    "integers": array("257"),
    "long integers": array("9" * 40),
    "floats": array("1.5"),
    "words": array('"ab"'),
    "wide words": array('"\u4e00b"'),
    "escaped words": array('"\\u4e00b"'),
    "keys": ("{" + ",".join(f'"{n:x}":{n + 300}' for n in range(20_000)) + "}").encode(),
    "wide keys": ("{" + ",".join(f'"\u4e00{n:x}":{n + 300}' for n in range(20_000)) + "}").encode(),
    "text": b'"' + b"a" * 300_000 + b'"',
    "wide text": ('"' + "a" * 300_000 + '\U0001f600"').encode(),
    "escaped text": b'"' + b"a" * 300_000 + b'\\ud83d\\ude00"',
}


# --- measures ----------------------------------------------------------------------------------------------------


@pytest.mark.long  # it measures, 10 s in all
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_no_json_takes_more_memory_than_it_is_counted_for(data: bytes) -> None:
    for _ in range(3):  # another thread, such as that of pytest-xdist, may take memory meanwhile
        gc.collect()
        tracemalloc.start()
        try:
            value = json.loads(data)
            current, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if json_memory(data) >= len(data) + peak and held_memory([value]) >= 0.95 * current:
            break
    assert json_memory(data) >= len(data) + peak
    assert held_memory([value]) >= 0.95 * current  # spare places at the end of a list are not in its size


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(), inner, max_size=8),
    )
)
@example("\x00" * 5_000)
@example("\xe9" * 5_000 + "\ud800")  # a lone surrogate has all written as escapes
@example("\u4e00" * 5_000 + "\ud800")
@example("\U0001f600" * 5_000 + "\ud800")
@example(10**4_000)
@example(-1.2345678901234567e-300)
@example([[]] * 1_000)
def test_no_value_is_longer_as_json_than_its_memory_says(value: Any) -> None:
    assert len(JSON().dumps(value)) <= JSON_OF_MEMORY * held_memory([value])


def test_a_plain_upload_is_counted_for_little_more_than_it_takes() -> None:
    assert json_memory(b'{"data":"' + b"QUJD" * MIB + b'"}') < 3.01 * 4 * MIB


def test_a_load_goes_back_with_its_last_reference() -> None:
    shares = Shares(1_000)
    load = Load(shares, "a")
    assert load.resize(700) and load.resize(800)
    assert not Load(shares, "b").resize(300) and Load(shares, "b").resize(200)
    assert not Load(shares, "a").resize(1)  # its share is spent
    assert load.resize(100) and shares.total == 100
    kept = load
    del load
    assert shares.total == 100
    del kept
    assert (shares.total, len(shares)) == (0, 0)


def test_a_load_that_is_alone_may_grow_past_the_limit() -> None:
    shares = Shares(1_000)
    load, other = Load(shares, "a"), Load(shares, "b")
    assert load.resize(900) and load.resize(2_000)
    assert not other.resize(1)
    assert load.resize(0) and other.resize(1) and shares.total == 1


# --- calls -------------------------------------------------------------------------------------------------------


class Sink(Held):
    """A server that accepts any argument; its tool `keep` waits and holds its argument."""

    def __init__(self) -> None:
        super().__init__()
        self.add_tool(self.keep, name="keep")
        self.noticed = 0

    async def keep(self, data: list[dict[str, int]] | str) -> str:
        return await self._wait("keep")

    async def notification(self, method: str, params: Any, ctx: Any) -> None:
        self.noticed += 1
        await self.released.wait()


DATA = "x" * 100_000
COST = json_memory(encode(Modern(0).request("tools/call", call("keep", data=DATA))))


def within(limit: float, condition: Callable[[], bool]) -> Any:
    async def wait() -> None:
        with anyio.fail_after(limit):
            while not condition():
                await asyncio.sleep(0)

    return wait()


async def emptied(server: Any) -> None:
    """Wait until all memory is given back, without the garbage collector, for which a busy server cannot wait."""
    await within(LIMIT, lambda: not server.runtime.memory.total)
    assert len(server.runtime.memory) == 0


def keep(address: str, data: Any = DATA) -> bytes:
    return modern("tools/call", call("keep", data=data), X_Forwarded_For=address)


@pytest.fixture
def uncollected() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_large_calls_have_a_share_of_memory_and_503_beyond_it() -> None:
    handler = Sink()
    async with served(handler, max_client_memory=10 * COST, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        clients = []
        for _ in range(8):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(keep(FLOOD))
            clients.append(client)
        await handler.until(started=8)
        for _ in range(3):
            async with RawClient(server.port) as client:
                await client.send(keep(FLOOD))
                answer = await client.receive("POST")
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert answer.json()["error"]["message"] == "Too much of this client's is under way"
        async with RawClient(server.port) as client:
            # A body that arrives in one piece is refused after it has arrived, and small calls go on.
            await client.send(keep(FLOOD, [{"": 1}] * 8_000))
            assert (await client.receive("POST")).status == 503
            await client.send(modern("tools/call", call("echo", text="x"), X_Forwarded_For=FLOOD))
            assert (await client.receive("POST")).status == 200
        async with RawClient(server.port) as client:
            await client.send(modern("tools/call", call("echo", text=DATA), X_Forwarded_For=OTHER))
            assert (await client.receive("POST")).status == 200
        handler.released.set()
        for client in clients:
            assert (await client.receive("POST")).status == 200
        await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_memory_is_counted_and_not_bytes_of_json() -> None:
    handler = Sink()
    hostile = [{"": 1}] * 4_000  # 28 KB
    async with served(handler, max_client_memory=4 * MIB) as server, AsyncExitStack() as stack:
        for number in range(3):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(keep(FLOOD, hostile))
            if number < 2:
                await handler.until(started=number + 1)
        assert (await client.receive("POST")).status == 503
        handler.released.set()
    await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("stateless", [False, True])
async def test_calls_in_line_and_calls_whose_client_left_are_counted(stateless: bool) -> None:
    handler = Sink()
    async with served(handler, max_running=1, max_client_memory=10 * COST, stateless=stateless) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize()
        messages = [session.request("tools/call", call("keep", data=DATA)) for _ in range(5)]
        for number, message in enumerate(messages):
            async with RawClient(server.port) as client:
                body = encode(message)
                await client.send_request("POST", "/mcp", session.headers_for(message), body)
                await within(LIMIT, lambda: server.runtime.memory.total >= (number + 1) * COST * 0.9)  # noqa: B023
        await handler.until(started=1)
        assert server.runtime.memory.total >= 5 * COST * 0.9
        handler.released.set()
        await emptied(server)
        if not stateless:
            await session.delete()


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_notifications_that_wait_are_counted() -> None:
    handler = Sink()
    async with served(handler, max_client_memory=5 * COST) as server, Legacy(server.port, LEGACY) as session:
        statuses = [(await session.notify("notifications/it", {"data": DATA})).status for _ in range(6)]
        assert statuses == [202] * 4 + [503] * 2
        handler.released.set()
        await emptied(server)
        assert handler.noticed == 4


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_calls_of_http_sse_are_counted_although_their_post_is_answered() -> None:
    handler = Sink()
    async with served(handler, legacy_sse=True, max_client_memory=5 * COST) as server:
        async with RawClient(server.port) as listening:
            stream = await listening.open_stream("GET", "/sse", {"Accept": "text/event-stream"})
            endpoint = (await stream.next_event()).data
            client = Legacy(server.port, "2024-11-05", endpoint)
            await client.post(client.request("initialize", {
                "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
            }))  # fmt: skip
            message = client.request("tools/call", call("keep", data=DATA))
            statuses = [(await client.post(message)).status for _ in range(6)]
            assert statuses == [202] * 4 + [503] * 2
            handler.released.set()
            await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_a_batch_is_counted_once_and_until_its_last_call_ends() -> None:
    handler = Sink()
    async with served(handler, max_client_memory=3 * COST) as server:
        async with Legacy(server.port, "2025-03-26") as session:
            batch = [session.request("tools/call", call("keep", data=DATA[::2])) for _ in range(2)]
            async with anyio.create_task_group() as group:
                group.start_soon(session.post, batch)
                await handler.until(started=2)
                assert COST - 5_000 < server.runtime.memory.total < COST + 5_000
                handler.released.set()
            await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_answers_of_clients_are_counted_while_the_call_may_hold_them() -> None:
    handler = Sink()

    async def survey(ctx: Any) -> str:
        answer = await ctx.elicit("Which?", {"type": "object", "properties": {"it": {"type": "string"}}})
        await handler._wait("survey")
        return str(len(answer.data["it"]))

    from mcp_h11 import Context

    survey.__annotations__["ctx"] = Context
    handler.add_tool(survey, name="survey")
    async with served(handler, max_client_memory=3 * COST) as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({"elicitation": {}})
        async with session.posting(session.request("tools/call", call("survey"))) as stream:
            question = await stream.next_message()
            answer = {"action": "accept", "content": {"it": DATA}}
            assert (await session.post({"jsonrpc": "2.0", "id": question["id"], "result": answer})).status == 202
            await handler.until(started=1)
            assert server.runtime.memory.total >= 3 * len(DATA)
            handler.released.set()
            assert (await stream.next_message())["result"]["content"][0]["text"] == str(len(DATA))
        await session.delete()
        await emptied(server)


# --- bodies on their way -----------------------------------------------------------------------------------------


@on_sockets
@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("chunked", [False, True])
async def test_bodies_that_are_on_their_way_are_counted_as_they_come(chunked: bool) -> None:
    fields: dict[str, str | None] = {"X_Forwarded_For": FLOOD, "Content_Length": str(2 * MIB)}
    if chunked:
        fields = {"X_Forwarded_For": FLOOD, "Transfer_Encoding": "chunked"}
    piece = b"x" * 32_768
    data = (b"8000\r\n%b\r\n" % piece if chunked else piece) * 16
    async with served(max_client_memory=2 * MIB, trusted_proxies=[US]) as server, AsyncExitStack() as stack:
        clients = []
        for number in range(3):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(head(**fields) + data)
            clients.append(client)
            if number < 2:
                # All of it is there: it is counted with the block that would come next.
                counted = (number + 1) * (MIB // 2 + BLOCK)
                await within(LIMIT, lambda: server.runtime.memory.total == counted)  # noqa: B023
        answer = await clients[2].receive("POST")
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "1", "close")
        async with RawClient(server.port) as client:
            await client.send(keep(OTHER, "x" * 20_000)[:10_000])
            await within(LIMIT, lambda: server.runtime.memory.held(OTHER) > 0)
        for client in clients:
            await client.aclose()
        await emptied(server)
        await still_serves(server.port)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_a_length_that_is_only_announced_costs_nothing_like_it() -> None:
    async with served(max_client_memory=4 * MIB) as server, AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(RawClient(server.port))
            await client.send(head(Content_Length=str(4 * MIB)))
        await within(LIMIT, lambda: len(server.runtime.memory) > 0)
        await turns()
        assert server.runtime.memory.total <= 20 * 64 * 1024
    await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_a_small_body_in_two_parts_is_counted_until_it_is_answered() -> None:
    async with served(max_client_memory=MIB) as server, RawClient(server.port) as client:
        whole = modern("tools/call", call("echo", text="x"))
        assert len(whole) < SMALL_BODY
        await client.send(whole[:-10])
        await within(LIMIT, lambda: server.runtime.memory.total > 0)
        await client.send(whole[-10:])
        assert (await client.receive("POST")).status == 200
        await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_bodies_that_wait_for_authorization_are_counted() -> None:
    known, asked = asyncio.Event(), 0

    async def authorize(head: Any) -> Any:
        nonlocal asked
        asked += 1
        await known.wait()
        return Principal("anna")

    handler = Sink()
    async with served(handler, authorize=authorize, max_client_memory=8 * len(DATA)) as server:
        async with AsyncExitStack() as stack:
            clients = []
            for number in range(8):
                client = await stack.enter_async_context(RawClient(server.port))
                await client.send(modern("tools/call", call("echo", text=DATA)))
                clients.append(client)
                await within(LIMIT, lambda: asked == min(number + 1, 7))  # noqa: B023
            assert (await clients[-1].receive("POST")).status == 503
            known.set()
            # The decoded requests take more memory, so there is not room for all of them at once.
            statuses = [(await client.receive("POST")).status for client in clients[:-1]]
            assert 200 in statuses and set(statuses) <= {200, 503}
        await emptied(server)


# --- what sessions and listeners keep ----------------------------------------------------------------------------


def client_says(**capabilities: Any) -> dict[str, Any]:
    return {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "x", "version": "1"}}


@on_sockets
async def test_unknown_capabilities_are_not_kept_and_known_ones_are() -> None:
    known = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}}, "experimental": {"x": {}}}
    async with served() as server:
        session = Legacy(server.port, LEGACY)
        await session.initialize({**known, "unheard/of": {"y": [1]}})
        (live,) = server.endpoint.legacy.sessions.values()
        assert live.state.client_capabilities == known
        await session.delete()


@on_sockets
async def test_what_a_client_says_of_itself_is_limited_in_memory() -> None:
    many = [{"": 1}] * (MAX_CLIENT_SIZE // 8 - 100)  # 24 times as much in memory
    async with served() as server, Legacy(server.port, LEGACY) as session:
        session.session = None
        answer = await session.call("initialize", client_says(experimental={"x": many}))
        assert answer.error["code"] == -32602 and str(MAX_CLIENT_MEMORY) in answer.error["message"]
        # A text takes no more memory than its length, so an icon of nearly the whole size is allowed.
        params = client_says()
        params["clientInfo"]["icons"] = [{"src": "data:image/png;base64," + "A" * (MAX_CLIENT_SIZE - 500)}]
        assert (await session.call("initialize", params)).result["protocolVersion"] == LEGACY
        # Capabilities that are dropped are not counted.
        assert (await session.call("initialize", client_says(unknown=many))).result["protocolVersion"] == LEGACY
        server.endpoint.legacy.close()


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_what_sessions_keep_is_counted_and_comes_back() -> None:
    params = client_says()
    params["clientInfo"]["icons"] = [{"src": "data:image/png;base64," + "A" * 50_000}]
    async with served(max_client_memory=600_000, trusted_proxies=[US]) as server:
        client = Legacy(server.port, LEGACY)
        client.extra_headers["X-Forwarded-For"] = FLOOD
        statuses = []
        for _ in range(12):
            response = await client.post(client.request("initialize", params))
            statuses.append(response.status)
        # Nine fit; the request itself needs room as well, while it is read.
        assert 200 in statuses and statuses[-1] == 503 and statuses == sorted(statuses)
        kept = statuses.count(200)
        assert server.runtime.memory.held(FLOOD) >= kept * 50_000
        client.extra_headers["X-Forwarded-For"] = OTHER
        await client.initialize()
        await client.delete()
        for session in list(server.endpoint.legacy.sessions.values()):
            server.endpoint.legacy.table.end(session)
        del session
        await emptied(server)


class Library(MCPServer):
    """With resources that can be subscribed to."""

    def __init__(self) -> None:
        super().__init__("library")
        self.add_resource("note://{name}", lambda name: name, name="note")


def note(number: int) -> str:
    return f"note://{number}" + "x" * 2_000


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_subscriptions_of_sessions_are_counted_and_come_back() -> None:
    async with served(Library(), max_client_memory=100_000) as server, Legacy(server.port, LEGACY) as session:
        for number in range(100):
            answer = await session.call("resources/subscribe", {"uri": note(number)})
            if answer.message is not None and "error" in answer.message:
                break
        assert answer.error["message"] == "Too much is kept of this client"
        assert 5 < number < 30 and server.runtime.memory.total > SMALL_CLIENT
        for one in range(number):
            await session.call("resources/unsubscribe", {"uri": note(one)})
        assert server.runtime.memory.total <= SMALL_CLIENT
        assert (await session.call("resources/subscribe", {"uri": note(0)})).result == {}
    await emptied(server)


@on_sockets
@pytest.mark.usefixtures("uncollected")
async def test_the_uris_of_listeners_are_counted_and_come_back() -> None:
    uris = [note(number) for number in range(20)]
    async with served(Library(), max_client_memory=400_000) as server, AsyncExitStack() as stack:
        client = Modern(server.port)
        for number in range(20):  # noqa: B007
            stream = await stack.enter_async_context(client.listen(resourceSubscriptions=uris))
            if stream.status == 503:
                break
            assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
        assert 3 < number < 10
        assert server.runtime.memory.total >= number * 20 * 2_000
        await stack.aclose()
        await emptied(server)

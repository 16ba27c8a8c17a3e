# SPDX-License-Identifier: MIT
"""The seam for extensions, on the wire: announcements, methods, the wrapper, notices, headers and records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from pipes_support import piped
from rawclient import LIMIT, Legacy, Modern
from wire import A, B, C, D, E

from mcp_h11 import Context, InvalidParams, MCPServer, ServerHandler, ToolError, listening
from mcp_h11.handler.extension import MAX_IDENTIFIER, Extension, ExtensionMethod, Extensions, text_member
from mcp_h11.handler.notices import Notice
from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio

ID = "com.example/notes"
ANNOUNCED = {"extensions": {ID: {"colour": "red"}}}
LEGACY = (A, B, C, D)


class Notes(Extension):
    """Each of the contributions, and what happened to it."""

    identifier = ID
    filter = "notes"
    needs_store = True

    def __init__(self) -> None:
        self.log: list[str] = []
        self.services: Any = None

    def settings(self) -> dict[str, Any]:
        return {"deep": True}

    def methods(self) -> dict[str, Any]:
        return {
            "notes/keep": ExtensionMethod(self.keep, mirrored="key"),
            "notes/all": ExtensionMethod(self.list_all, cacheable=True, announced=False),
            "notes/colour": self.colour,
        }

    def attach(self, server: MCPServer) -> None:
        server.add_tool(self.write_note)

    def write_note(self) -> str:
        return "written"

    async def call_tool(self, params: dict[str, Any], ctx: Context, call: Any) -> Any:
        if params.get("name") == "refused":
            raise ToolError("not today")
        result = dict(await call(params, ctx))
        result["_meta"] = {f"{ID}-announced": self.announced(ctx) is not None}
        return result

    async def keep(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        key = text_member(params, "key")
        await self.services.records.create(ID, key, b"kept", None)
        ctx.server.notices.publish(
            Notice.extended(f"{key} of {ctx.principal or ''}", "notifications/notes", {"k": key})
        )
        return {"kept": await self.services.records.count(ID)}

    async def list_all(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"notes": []}

    async def colour(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return self.require(ctx)

    def heard(self, wanted: Any, principal: str) -> tuple[Any, list[str]]:
        if not isinstance(wanted, list) or not all(isinstance(key, str) for key in wanted):
            raise InvalidParams("notifications.notes must be a list of keys")
        return wanted, [f"{key} of {principal}" for key in wanted]

    @asynccontextmanager
    async def lifespan(self, services: Any) -> AsyncIterator[None]:
        self.services = services
        self.log.append("opened")
        yield
        self.log.append("closed")


class Handwritten(ServerHandler):
    """A handler with an extension and without a catalogue; its `call_tool` is no coroutine."""

    def __init__(self) -> None:
        self.notes = Notes()

    def extensions(self) -> list[Extension]:
        return [self.notes]

    def call_tool(self, params: Any, ctx: Context) -> Any:  # type: ignore[override]
        return {"content": []}


@asynccontextmanager
async def served(handler: Any = None, **options: Any) -> AsyncIterator[tuple[Any, Notes]]:
    notes = Notes()
    server = MCPServer("s", extensions=[notes]) if handler is None else handler
    async with listening(server, port=0, **options) as running:
        yield running, notes if handler is None else handler.notes


# -- announcements --


async def test_discovery_tells_the_settings_of_each_extension() -> None:
    async with served() as (running, _):
        result = (await Modern(running.port).call("server/discover")).result
    assert result["capabilities"]["extensions"] == {ID: {"deep": True}}
    assert result["capabilities"]["tools"] == {"listChanged": True}


@pytest.mark.parametrize("revision", LEGACY)
async def test_a_handshake_tells_them_too(revision: str) -> None:
    async with served() as (running, _), Legacy(running.port, revision) as client:
        assert client.initialized["capabilities"]["extensions"] == {ID: {"deep": True}}


@pytest.mark.parametrize("revision", [D, E])
async def test_a_server_without_extensions_announces_none(revision: str) -> None:
    async with listening(MCPServer("s"), port=0) as running:
        if revision == E:
            capabilities = (await Modern(running.port).call("server/discover")).result["capabilities"]
        else:
            async with Legacy(running.port, revision) as client:
                capabilities = client.initialized["capabilities"]
    assert "extensions" not in capabilities


class ModernOnly(Notes):
    legacy = False


async def test_an_extension_of_the_modern_era_alone_is_not_there_in_a_session() -> None:
    async with listening(MCPServer("s", extensions=[ModernOnly()]), port=0) as running:
        async with Legacy(running.port, D) as client:
            assert "extensions" not in client.initialized["capabilities"]
            assert (await client.call("notes/all")).error["code"] == -32601
            called = (await client.call("tools/call", {"name": "write_note"})).result
            assert called["_meta"] == {f"{ID}-announced": False}  # the wrapper may refuse what it cannot do there
        assert (await Modern(running.port).call("notes/all")).result["notes"] == []


# -- methods --


async def test_a_method_is_for_clients_that_announced_its_extension() -> None:
    async with served() as (running, _):
        answer = await Modern(running.port).call("notes/colour")
        assert (answer.status, answer.error["code"]) == (400, -32021)
        assert answer.error["data"] == {"requiredCapabilities": {"extensions": {ID: {}}}}
        assert (await Modern(running.port, capabilities=ANNOUNCED).call("notes/colour")).result["colour"] == "red"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_session_announces_once(announced: bool) -> None:
    async with served() as (running, _):
        client = Legacy(running.port, D)
        await client.initialize(ANNOUNCED if announced else {})
        answer = await client.call("notes/colour")
        await client.delete()
    if announced:
        assert answer.result == {"colour": "red"}
    else:
        assert answer.error["code"] == -32021


@pytest.mark.parametrize("extensions", [None, 5, [ID], {ID: None}, {ID: "yes"}])
async def test_an_announcement_of_another_form_is_none(extensions: Any) -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities={"extensions": extensions})
        assert (await client.call("notes/colour")).error["code"] == -32021


async def test_a_method_that_no_extension_has_is_not_found() -> None:
    async with served() as (running, _):
        answer = await Modern(running.port, capabilities=ANNOUNCED).call("notes/none")
    assert (answer.status, answer.error["code"]) == (404, -32601)


async def test_a_cacheable_result_says_for_how_long_it_holds_in_the_modern_era_alone() -> None:
    async with served() as (running, _):
        result = (await Modern(running.port).call("notes/all")).result
        assert (result["ttlMs"], result["cacheScope"]) == (0, "public")
        async with Legacy(running.port, D) as client:
            assert (await client.call("notes/all")).result == {"notes": []}
    hinted = MCPServer("s", extensions=[Notes()], cache_hints={"notes/all": (5000, "private")})
    async with listening(hinted, port=0) as running:
        result = (await Modern(running.port).call("notes/all")).result
        assert (result["ttlMs"], result["cacheScope"]) == (5000, "private")


def test_a_cache_hint_for_a_method_that_is_not_cacheable_is_refused() -> None:
    with pytest.raises(ValueError, match="notes/colour is nothing that a client may keep"):
        MCPServer("s", extensions=[Notes()], cache_hints={"notes/colour": (5000, None)})


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("a", 200, None), ("=?base64?YQ==?=", 200, None), ("b", 400, -32020), (None, 400, -32020)],
)
async def test_a_mirrored_member_is_compared_with_its_header(name: str | None, status: int, code: int | None) -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        for _ in range(2):  # also where the head is known already
            answer = await client.call("notes/keep", {"key": "a"}, headers={"Mcp-Name": name})
            assert answer.message is not None
            assert (answer.status, answer.message.get("error", {}).get("code")) == (status, code)


async def test_a_malformed_member_is_the_methods_own_error() -> None:
    async with served() as (running, _):
        answer = await Modern(running.port, capabilities=ANNOUNCED).call("notes/keep", {"key": 5})
    assert (answer.error["code"], answer.error["message"]) == (-32602, "key must be a string")


async def test_a_handler_without_a_catalogue_has_extensions_too() -> None:
    async with served(Handwritten()) as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        assert (await client.call("server/discover")).result["capabilities"]["extensions"] == {ID: {"deep": True}}
        assert (await client.call("notes/colour")).result["colour"] == "red"
        called = (await client.call("tools/call", {"name": "any"})).result
        assert called["_meta"][f"{ID}-announced"] is True


# -- tools and the wrapper --


@pytest.mark.parametrize("announced", [True, False])
async def test_the_wrapper_stands_around_every_call_and_knows_the_client(announced: bool) -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED if announced else {})
        result = (await client.call("tools/call", {"name": "write_note"})).result
    assert result["content"][0]["text"] == "written"
    assert result["_meta"][f"{ID}-announced"] is announced


async def test_an_error_of_the_wrapper_is_one_of_the_tool() -> None:
    async with served() as (running, _):
        result = (await Modern(running.port).call("tools/call", {"name": "refused"})).result
    assert result["isError"] is True
    assert result["content"][0]["text"] == "not today"


async def test_the_first_extension_is_the_outermost() -> None:
    order: list[str] = []

    class Named(Extension):
        def __init__(self, name: str) -> None:
            self.identifier = f"com.example/{name}"
            self.name = name

        async def call_tool(self, params: dict[str, Any], ctx: Context, call: Any) -> Any:
            order.append(self.name)
            return await call({**params, "arguments": {"text": params["arguments"]["text"] + self.name}}, ctx)

    server = MCPServer("s", extensions=[Named("a"), Named("b")])
    server.add_tool(lambda text: text, "echo", input_schema={"type": "object"})
    async with listening(server, port=0) as running:
        answer = await Modern(running.port).call("tools/call", {"name": "echo", "arguments": {"text": ""}})
    assert order == ["a", "b"]
    assert answer.result["content"][0]["text"] == "ab"


# -- notices --


async def test_a_listen_stream_hears_the_notices_of_its_keys() -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        with anyio.fail_after(LIMIT):
            async with client.listen(id=7, notes=["b"], toolsListChanged=True) as stream:
                acknowledged = await stream.next_message()
                assert acknowledged["params"]["notifications"] == {"notes": ["b"], "toolsListChanged": True}
                for key in ("a", "b"):
                    await client.call("notes/keep", {"key": key}, headers={"Mcp-Name": key})
                heard = await stream.next_message()
    assert heard["method"] == "notifications/notes"
    assert heard["params"]["k"] == "b"
    assert heard["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": 7}


@pytest.mark.parametrize("extensions", [None, {}, {ID: True}])
async def test_a_filter_of_an_extension_that_was_not_announced_is_refused(extensions: Any) -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities={"extensions": extensions})
        wanted = {"notes": ["b"], "toolsListChanged": True}
        answer = await client.call("subscriptions/listen", {"notifications": wanted})
    assert (answer.status, answer.error["code"]) == (400, -32021)
    assert answer.error["data"] == {"requiredCapabilities": {"extensions": {ID: {}}}}


@pytest.mark.parametrize("wanted", ["b", [5], {}])
async def test_a_malformed_filter_is_refused(wanted: Any) -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        answer = await client.call("subscriptions/listen", {"notifications": {"notes": wanted}})
    assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_a_filter_without_keys_is_not_honoured() -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        async with client.listen(notes=[]) as stream:
            assert (await stream.next_message())["params"]["notifications"] == {}


@pytest.mark.parametrize(("count", "status"), [(3, 200), (4, 400)])
async def test_the_keys_of_one_listener_are_bounded(count: int, status: int) -> None:
    async with served(max_subscriptions=3) as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        keys = [str(number) for number in range(count)]
        async with client.posting(client.request("subscriptions/listen", {"notifications": {"notes": keys}})) as stream:
            assert stream.status == status


async def test_the_size_of_the_keys_is_bounded() -> None:
    async with served() as (running, _):
        client = Modern(running.port, capabilities=ANNOUNCED)
        answer = await client.call("subscriptions/listen", {"notifications": {"notes": ["x" * 256 * 1024]}})
        assert (answer.status, answer.error["code"]) == (400, -32602)


async def test_pipes_have_extensions_in_both_eras() -> None:
    async with piped(MCPServer("s", extensions=[Notes()])) as wire:
        wire.request(1, "server/discover")
        assert (await wire.receive())["result"]["capabilities"]["extensions"] == {ID: {"deep": True}}
        wire.request(2, "notes/colour")
        assert (await wire.receive())["error"]["code"] == -32021
        wire._modern.capabilities = ANNOUNCED
        wire.request(3, "subscriptions/listen", {"notifications": {"notes": ["k"]}})
        assert (await wire.receive())["params"]["notifications"] == {"notes": ["k"]}
        wire.request(4, "notes/keep", {"key": "k"})
        received = [await wire.receive(), await wire.receive()]
        assert {message.get("method") for message in received} == {"notifications/notes", None}


# -- its life, and records --


async def test_an_extension_lives_as_long_as_its_server_and_keeps_records() -> None:
    async with served() as (running, notes):
        assert notes.log == ["opened"]
        client = Modern(running.port, capabilities=ANNOUNCED)
        for count, key in enumerate(("a", "b"), 1):
            result = (await client.call("notes/keep", {"key": key}, headers={"Mcp-Name": key})).result
            assert result["kept"] == count
        assert len(notes.services.worker) >= 16
        ran = anyio.Event()

        async def job() -> None:
            ran.set()

        notes.services.spawn(job())
        with anyio.fail_after(LIMIT):
            await ran.wait()
    assert notes.log == ["opened", "closed"]


async def test_records_are_in_the_servers_store_where_it_has_one(tmp_path: Any) -> None:
    url = f"sqlite:{tmp_path}/x.db"
    for count in (1, 2):
        async with served(store=url) as (running, notes):
            client = Modern(running.port, capabilities=ANNOUNCED)
            key = str(count)
            result = (await client.call("notes/keep", {"key": key}, headers={"Mcp-Name": key})).result
            assert result["kept"] == count
            assert await notes.services.logs.discard("none") is None


class Storeless(Notes):
    needs_store = False


async def test_an_extension_that_needs_no_store_has_none() -> None:
    notes = Storeless()
    async with listening(MCPServer("s", extensions=[notes]), port=0):
        for part in ("records", "logs"):
            with pytest.raises(RuntimeError, match="needs_store"):
                getattr(notes.services, part)


# -- mistakes of the author --


class Bare(Extension):
    def __init__(self, identifier: Any = ID, **methods: Any) -> None:
        self.identifier = identifier
        self.given = {name.replace("_", "/"): answer for name, answer in methods.items()}

    def methods(self) -> dict[str, Any]:
        return self.given


@pytest.mark.parametrize(
    "identifier",
    ["", "notes", "/notes", "com.example/", "com..example/x", "1com/x", "com-/x", "com.example/-x", "a/b/c", 5, None,
     "com.example/x\n", "a/" + "b" * MAX_IDENTIFIER],
)  # fmt: skip
def test_an_identifier_has_a_prefix_and_a_name(identifier: Any) -> None:
    with pytest.raises(ValueError, match="an identifier is a prefix, a slash and a name"):
        MCPServer("s", extensions=[Bare(identifier)])


@pytest.mark.parametrize("identifier", ["a/b", "io.modelcontextprotocol/ui", "com.ex-ample/x.y_z-1", "a/" + "b" * 198])
def test_sound_identifiers(identifier: str) -> None:
    assert MCPServer("s", extensions=[Bare(identifier)]).extensions()[0].identifier == identifier


def test_two_of_one_identifier_are_refused() -> None:
    with pytest.raises(ValueError, match="two extensions have the identifier"):
        MCPServer("s", extensions=[Bare(), Bare()])


@pytest.mark.parametrize("method", ["tools/call", "server/discover", "notifications/x"])
def test_a_method_of_the_protocol_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match="is a method of the protocol itself"):
        MCPServer("s", extensions=[Bare(**{method.replace("/", "_"): None})])


def test_a_method_of_two_extensions_is_refused() -> None:
    with pytest.raises(ValueError, match="two extensions have the method x/y"):
        MCPServer("s", extensions=[Bare("a/b", x_y=print), Bare("a/c", x_y=print)])


def test_a_filter_of_two_extensions_is_refused() -> None:
    other = Notes()
    other.identifier = "com.example/other"
    other.methods = dict  # type: ignore[method-assign, assignment]
    with pytest.raises(ValueError, match="two extensions have the filter 'notes'"):
        Extensions([Notes(), other])


def test_what_is_no_extension_is_refused() -> None:
    with pytest.raises(TypeError, match="an extension is an instance of Extension"):
        MCPServer("s", extensions=[Notes])  # type: ignore[list-item]


async def test_the_defaults_of_an_extension_do_nothing() -> None:
    async with listening(MCPServer("s", extensions=[Bare()]), port=0) as running:
        client = Modern(running.port, capabilities=ANNOUNCED)
        assert (await client.call("server/discover")).result["capabilities"]["extensions"] == {ID: {}}
    assert Bare().heard(["x"], "") == (None, ())

    async def call(params: Any, ctx: Any) -> Any:
        return params

    assert await Bare().call_tool({"name": "x"}, None, call) == {"name": "x"}  # type: ignore[arg-type]


async def test_a_filter_without_the_member_of_an_extension_is_as_without_it() -> None:
    async with served() as (running, _), Modern(running.port).listen(toolsListChanged=True) as stream:
        assert (await stream.next_message())["params"]["notifications"] == {"toolsListChanged": True}


async def test_a_notice_reaches_the_listeners_of_every_worker() -> None:
    hub = Hub()
    async with served(store=MemoryStore(hub)) as (here, _), served(store=MemoryStore(hub)) as (there, _):
        listener, client = (Modern(one.port, capabilities=ANNOUNCED) for one in (here, there))
        with anyio.fail_after(LIMIT):
            async with listener.listen(notes=["k"]) as stream:
                await stream.next_message()
                await client.call("notes/keep", {"key": "k"}, headers={"Mcp-Name": "k"})
                assert (await stream.next_message())["params"]["k"] == "k"

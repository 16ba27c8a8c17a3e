# SPDX-License-Identifier: MIT
"""`MCPServer` as its clients see it; every answer is judged by the schema of the revision that it is sent in."""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import decimal
import enum
import functools
import inspect
import json
import logging
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from urllib.parse import quote

import anyio
import pydantic
import pytest
from rawclient import LIMIT, Answer, Legacy, Modern
from wire import A, B, C, D, E

from mcp_h11 import (
    Audio,
    Context,
    Image,
    InputRequired,
    MCPError,
    MCPServer,
    ParamHeader,
    ResourceNotFound,
    ToolError,
    assistant,
    audio,
    embedded,
    image,
    listening,
    resource_link,
    text,
    user,
)
from mcp_h11.server import running, stdio

pytestmark = pytest.mark.anyio

ALL = (A, B, C, D, E)
SECRET = "s3cret-in-a-traceback"
PNG = b"\x89PNG\r\n\x1a\n"
WAV = b"RIFF\x00\x00\x00\x00WAVE"
Client = Legacy | Modern


@asynccontextmanager
async def connected(server: MCPServer, revision: str = E, **options: Any) -> AsyncIterator[Any]:
    """A client of a server of its own."""
    async with listening(server, port=0, **options) as running, joined(running.port, revision) as client:
        yield client


@asynccontextmanager
async def joined(port: int, revision: str) -> AsyncIterator[Any]:
    if revision == E:
        yield Modern(port)
        return
    async with Legacy(port, revision) as client:
        yield client


async def call(client: Any, tool: str, **arguments: Any) -> Any:
    """The result of a tool."""
    return (await client.call("tools/call", {"name": tool, "arguments": arguments})).result


async def listed(client: Any, kind: str = "tools") -> Any:
    method = {"resourceTemplates": "resources/templates/list"}.get(kind, f"{kind}/list")
    return (await client.call(method)).result[kind]


async def first(client: Any, kind: str = "tools") -> Any:
    return (await listed(client, kind))[0]


def texts(result: Any) -> list[str]:
    return [block["text"] for block in result["content"]]


def failure(result: Any) -> str:
    """The text of a tool error."""
    assert result["isError"] is True, result
    (message,) = texts(result)
    return str(message)


def module(source: str) -> dict[str, Any]:
    """Runs a snippet as a module of its own: annotations are looked up there."""
    made = ModuleType("snippet")
    sys.modules["snippet"] = made
    exec(compile(source, "snippet.py", "exec"), made.__dict__)
    return made.__dict__


# --- registering -------------------------------------------------------------------------------------------------


async def test_a_tool_is_registered_in_every_form() -> None:
    server = MCPServer()

    @server.tool
    def bare() -> None:
        "Bare."

    @server.tool()
    async def called() -> None:
        "Called."

    @server.tool("by_position")
    def one() -> None: ...

    @server.tool(name="by.name-1", title="T", description="D")
    def two() -> None: ...

    class Box:
        "An object."

        def method(self, x: int) -> int:
            "A method."
            return x + 1

        def __call__(self) -> None: ...

    server.add_tool(Box().method)
    server.add_tool(Box())
    server.add_tool(functools.partial(Box().method, x=3), "partial")
    server.add_tool(functools.partial(bare), title="P", name="x" * 128)
    server.add_prompt(functools.partial(bare))
    server.add_tool(lambda: "anonymous", "named")
    assert bare() is None and inspect.iscoroutinefunction(called)  # a decorator gives the function back

    async with connected(server) as client:
        tools = {tool["name"]: tool for tool in await listed(client)}
        assert list(tools) == [
            "bare", "called", "by_position", "by.name-1", "method", "Box", "partial", "x" * 128, "named",
        ]  # fmt: skip
        assert (tools["by.name-1"]["title"], tools["by.name-1"]["description"]) == ("T", "D")
        assert tools["bare"]["description"] == "Bare." and tools["method"]["description"] == "A method."
        assert tools["Box"]["description"] == "An object." and tools["by_position"]["description"] == "by_position"
        assert texts(await call(client, "method", x=4)) == ["5"]
        assert texts(await call(client, "partial")) == ["4"]
        assert (await first(client, "prompts"))["name"] == "bare"
        assert texts(await call(client, "named")) == ["anonymous"]
        assert (await call(client, "called"))["content"] == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 129, "<lambda>", "tab\t"])
def test_a_malformed_name_is_refused_when_it_is_registered(name: str) -> None:
    server = MCPServer()

    def fn() -> None: ...

    fn.__name__ = name
    with pytest.raises(ValueError, match="name"):
        server.add_tool(fn)


def test_what_is_taken_is_refused_and_what_was_there_stays() -> None:
    server = MCPServer()
    server.add_tool(lambda: "old", "tool")
    server.add_prompt(lambda: "old", "prompt")
    server.add_resource("a://b", lambda: "old", name="r")
    server.add_resource("a://{b}", lambda b: "old", name="t")
    for add in (
        lambda: server.add_tool(lambda: "new", "tool"),
        lambda: server.add_prompt(lambda: "new", "prompt"),
        lambda: server.add_resource("a://b", lambda: "new", name="r"),
        lambda: server.add_resource("a://{b}", lambda b: "new", name="t"),
    ):
        with pytest.raises(ValueError, match="already"):
            add()
    for remove in (server.remove_tool, server.remove_prompt, server.remove_resource):
        with pytest.raises(KeyError):
            remove("nothing")


def generator() -> Iterator[int]:
    yield 1


async def asynchronous() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda s: s.add_tool(generator), TypeError, "generator"),
        (lambda s: s.add_tool(asynchronous), TypeError, "generator"),
        (lambda s: s.add_tool(lambda *args: 1, "t"), TypeError, "args"),
        (lambda s: s.add_tool(lambda: 1, "t", structured_output=True), TypeError, "return"),
        (lambda s: s.add_tool(lambda: 1, "t", input_schema={"type": "array"}), ValueError, "object"),
        (lambda s: s.add_tool(lambda: 1, "t", input_schema={}), ValueError, "object"),
        (lambda s: s.resource(lambda: 1), TypeError, "URI"),
        (lambda s: s.add_resource("no-scheme", lambda: 1, name="r"), ValueError, "scheme"),
        (lambda s: s.add_resource("a: b", lambda: 1, name="r"), ValueError, "blanks"),
        (lambda s: s.add_resource("a://{b", lambda: 1, name="r"), ValueError, "b"),
        (lambda s: s.add_resource("a://{b}", lambda c: 1, name="r"), TypeError, "variables"),
        (lambda s: s.add_resource("a://{b}", lambda: 1, name="r"), TypeError, "variables"),
        (lambda s: s.add_resource("a://b", lambda c: 1, name="r"), TypeError, "variables"),
        (lambda s: s.add_resource("a://{b}", lambda b: 1, name="r", size=3), ValueError, "size"),
        (lambda s: MCPServer(page_size=0), ValueError, "page_size"),
        (lambda s: MCPServer(cache_hints={"tools/call": (1, "public")}), ValueError, "tools/call"),
        (lambda s: MCPServer(cache_hints={"tools/lists": (1, "public")}), ValueError, "tools/lists"),
        (lambda s: MCPServer(cache_hints={"tools/list": (-1, "public")}), ValueError, "-1"),
        (lambda s: MCPServer(cache_hints={"tools/list": (True, "public")}), ValueError, "True"),
        (lambda s: MCPServer(cache_hints={"tools/list": (1, "shared")}), ValueError, "shared"),
        (lambda s: s.run(transport="stdoi"), ValueError, "stdoi"),
    ],
)
def test_a_mistake_is_an_error_when_it_is_made(wrong: Callable[[Any], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        wrong(MCPServer())


async def test_what_a_failed_registration_named_is_free_again() -> None:
    server = MCPServer()
    with pytest.raises(ValueError):
        server.add_tool(lambda: 1, "t", input_schema={})
    server.add_tool(lambda: "second", "t")
    async with connected(server) as client:
        assert texts(await call(client, "t")) == ["second"]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "string", "x-mcp-header": "bad name"}, "token"),
        ({"type": "string", "x-mcp-header": ""}, "x-mcp-header"),
        ({"type": "number", "x-mcp-header": "Size"}, "integer"),
        ({"type": "array", "items": {"type": "string", "x-mcp-header": "Item"}}, "x-mcp-header"),
    ],
)
def test_a_header_annotation_that_clients_would_drop_is_refused(schema: dict[str, Any], says: str) -> None:
    server = MCPServer()
    with pytest.raises(ValueError, match=says):
        server.add_tool(lambda: 1, "t", input_schema={"type": "object", "properties": {"p": schema}})


async def test_an_annotated_argument_is_held_to_its_header() -> None:
    server = MCPServer()

    @server.tool
    async def where(region: Annotated[str, ParamHeader("Region")]) -> str:
        return region

    async with connected(server) as client:
        assert (await first(client))["inputSchema"]["properties"]["region"]["x-mcp-header"] == "Region"
        params = {"name": "where", "arguments": {"region": "eu"}}
        agreed = await client.call("tools/call", params, headers={"Mcp-Param-Region": "eu"})
        assert texts(agreed.result) == ["eu"]
        lied = await client.call("tools/call", params, headers={"Mcp-Param-Region": "us"})
        assert (lied.status, lied.error["code"]) == (400, -32020)


# --- the official SDK's tutorials ----------------------------------------------------------------------------------


def changed(source: str) -> dict[str, Any]:
    """Runs a snippet of the official SDK's documentation with its import line changed, and nothing else."""
    found, count = re.subn(r"^from mcp\.server(\.mcpserver)? import", "from mcp_h11 import", source, flags=re.M)
    assert count
    return module(found)


async def test_the_example_of_the_official_readme_runs_when_its_import_changes() -> None:
    pytest.importorskip("mcp")
    readme = metadata.metadata("mcp")["Description"] or metadata.metadata("mcp").get_payload()
    (source,) = (b for b in re.findall(r"```python\n(.*?)```", readme, re.S) if "MCPServer(" in b)
    server = changed(source)["mcp"]
    async with connected(server, D) as client:
        assert client.initialized["serverInfo"]["name"] == "Demo"
        result = await call(client, "add", a=1, b=2)
        assert (texts(result), result["structuredContent"]) == (["3"], {"result": 3})
        read = await client.call("resources/read", {"uri": "greeting://Ada"})
        assert read.result["contents"][0]["text"] == "Hello, Ada!"
        assert (await first(client, "resourceTemplates"))["uriTemplate"] == "greeting://{name}"


# The forms below are those of the official tutorials on tools, resources, prompts, context and structured output:
# each decorator, argument and method by the name that it has there.
FORMS = '''
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mcp.server import MCPServer
from mcp.server.mcpserver import Audio, Context, Image

mcp = MCPServer("Shop", instructions="Ask for books.", version="2.0")


class Book(BaseModel):
    title: str = Field(description="On the cover.")
    year: int


@dataclass
class Weather:
    degrees: float
    sky: str


@mcp.tool(title="Search")
def search(
    query: Annotated[str, Field(description="What to look for.")],
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    genre: Literal["fiction", "poetry"] = "fiction",
) -> str:
    """Search the shelves."""
    return f"{query} {limit} {genre}"


@mcp.tool()
def add_book(book: Book) -> Book:
    """Take a book in."""
    return book


@mcp.tool(name="weather", description="The weather.", structured_output=True)
def get_weather(city: str) -> Weather:
    return Weather(16.5, city)


@mcp.tool(structured_output=False)
def report(city: str) -> dict[str, str]:
    """Only text."""
    return {"city": city}


@mcp.tool()
async def load(urls: list[str], ctx: Context) -> str:
    """Load all."""
    for done, url in enumerate(urls, start=1):
        await ctx.report_progress(done, total=len(urls), message=url)
    await ctx.notify_tools_changed()
    return f"{len(urls)} loaded by {ctx.request_id}"


@mcp.tool()
def cover() -> Image:
    """The cover."""
    return Image(data=b"png", format="png")


@mcp.resource("stats://shop", name="stats", mime_type="application/json")
def stats() -> dict[str, int]:
    """Counts."""
    return {"books": 7}


@mcp.resource("users://{user_id}/profile")
def profile(user_id: str) -> str:
    """Who it is."""
    return f"User {user_id}"


@mcp.prompt(title="Review")
def review(code: Annotated[str, Field(description="What to review.")], language: str = "python") -> str:
    """Review code."""
    return f"Review this {language}: {code}"


@mcp.completion()
async def complete(ref, argument, context):
    return ["python", "pascal"]
'''


@pytest.mark.parametrize("revision", [D, E])
async def test_the_forms_of_the_official_tutorials_run_when_their_import_changes(revision: str) -> None:
    server = changed(FORMS)["mcp"]
    async with connected(server, revision) as client:
        tools = {tool["name"]: tool for tool in await listed(client)}
        schema = tools["search"]["inputSchema"]
        assert schema["required"] == ["query"] and tools["search"]["title"] == "Search"
        assert schema["properties"]["query"]["description"] == "What to look for."
        assert schema["properties"]["limit"]["maximum"] == 50 and schema["properties"]["limit"]["default"] == 10
        assert schema["properties"]["genre"]["enum"] == ["fiction", "poetry"]
        assert texts(await call(client, "search", query="dune")) == ["dune 10 fiction"]
        assert "limit" in failure(await call(client, "search", query="dune", limit=51))
        book = {"title": "Dune", "year": 1965}
        assert (await call(client, "add_book", book=book))["structuredContent"] == book
        assert (await call(client, "weather", city="grey"))["structuredContent"] == {"degrees": 16.5, "sky": "grey"}
        assert "outputSchema" not in tools["report"]
        assert await call(client, "report", city="x") == {
            **({"resultType": "complete", "_meta": tools_meta(client)} if revision == E else {}),
            "content": [text('{"city":"x"}')],
        }
        loaded = await client.call(
            "tools/call", {"name": "load", "arguments": {"urls": ["a", "b"]}, "_meta": {"progressToken": "p"}}
        )
        progress = [n["params"] for n in loaded.notifications if n["method"] == "notifications/progress"]
        assert [(p["progress"], p["total"], p["message"]) for p in progress] == [(1, 2, "a"), (2, 2, "b")]
        assert texts(loaded.result)[0].startswith("2 loaded by ")
        assert (await call(client, "cover"))["content"] == [image(b"png", "image/png")]
        read = await client.call("resources/read", {"uri": "stats://shop"})
        assert json.loads(read.result["contents"][0]["text"]) == {"books": 7}
        read = await client.call("resources/read", {"uri": "users://7/profile"})
        assert read.result["contents"] == [{"uri": "users://7/profile", "mimeType": "text/plain", "text": "User 7"}]
        (prompt,) = await listed(client, "prompts")
        assert prompt["arguments"] == [
            {"name": "code", "description": "What to review.", "required": True},
            {"name": "language"},
        ]
        got = await client.call("prompts/get", {"name": "review", "arguments": {"code": "x"}})
        assert got.result["messages"] == [user("Review this python: x")]
        ref = {"type": "ref/prompt", "name": "review"}
        done = await client.call("completion/complete", {"ref": ref, "argument": {"name": "language", "value": "p"}})
        assert done.result["completion"]["values"] == ["python", "pascal"]


def tools_meta(client: Modern) -> dict[str, Any]:
    return {"io.modelcontextprotocol/serverInfo": {"name": "Shop", "version": "2.0"}}


async def test_annotations_and_icons_of_the_official_types_are_sent_by_their_wire_names() -> None:
    types = pytest.importorskip("mcp_types")
    server = MCPServer("s", icons=[types.Icon(src="https://a.example/i.png", mime_type="image/png")])
    server.add_tool(lambda: 1, "t", annotations=types.ToolAnnotations(read_only_hint=True))
    async with connected(server, D) as client:
        assert client.initialized["serverInfo"]["icons"] == [
            {"src": "https://a.example/i.png", "mimeType": "image/png"}
        ]
        assert (await first(client))["annotations"] == {"readOnlyHint": True}


# --- results -------------------------------------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: int


class City(TypedDict):
    name: str
    size: int


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


class Model(pydantic.BaseModel):
    when: int
    label: str = "l"


def returning(value: Any, annotation: Any) -> Callable[[], Any]:
    def fn() -> Any:
        return value

    fn.__annotations__ = {"return": annotation}
    return fn


@pytest.mark.parametrize(
    ("annotation", "value", "structured", "shown"),
    [
        (int, 3, {"result": 3}, "3"),
        (float, 0.5, {"result": 0.5}, "0.5"),
        (bool, True, {"result": True}, "true"),
        (int | None, None, {"result": None}, "null"),
        (int | str, "a", {"result": "a"}, "a"),
        (Literal["a", "b"], "b", {"result": "b"}, "b"),
        (Colour, Colour.RED, {"result": "red"}, "red"),
        (list[int], [1, 2], {"result": [1, 2]}, "[1,2]"),
        (tuple[int, str], (1, "a"), {"result": [1, "a"]}, '[1,"a"]'),
        (list[Point], [Point(1, 2)], {"result": [{"x": 1, "y": 2}]}, '[{"x":1,"y":2}]'),
        (dict[str, int], {"a": 1}, {"a": 1}, '{"a":1}'),
        (Point, Point(1, 2), {"x": 1, "y": 2}, '{"x":1,"y":2}'),
        (City, {"name": "ö", "size": 1}, {"name": "ö", "size": 1}, '{"name":"ö","size":1}'),
        (Pair, Pair(1, "r"), {"left": 1, "right": "r"}, '{"left":1,"right":"r"}'),
        (Model, Model(when=1), {"when": 1, "label": "l"}, '{"when":1,"label":"l"}'),
        (Point | InputRequired, Point(1, 2), {"x": 1, "y": 2}, '{"x":1,"y":2}'),
    ],
    ids=str,
)
async def test_what_is_annotated_comes_structured_and_as_text(
    annotation: Any, value: Any, structured: Any, shown: str
) -> None:
    server = MCPServer()
    server.add_tool(returning(value, annotation), "t")
    async with listening(server, port=0) as running:
        for revision in (A, B, C, D, E):
            async with joined(running.port, revision) as client:
                tool, result = await first(client), await call(client, "t")
                assert texts(result) == [shown] and "isError" not in result
                if revision in (A, B):  # 2025-06-18 brought structure
                    assert "structuredContent" not in result and "outputSchema" not in tool
                else:
                    assert result["structuredContent"] == structured
                    assert tool["outputSchema"]["type"] == "object"


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (None, []),
        ("text", [text("text")]),
        (["a", "b"], [text("a"), text("b")]),
        ([1, "b"], [text('[1,"b"]')]),
        ({"a": [1]}, [text('{"a":[1]}')]),
        (Point(1, 2), [text('{"x":1,"y":2}')]),
        (Image(data=PNG), [image(PNG)]),
        (Image(data=PNG, format="jpeg"), [image(PNG, "image/jpeg")]),
        (["see", Image(data=PNG)], [text("see"), image(PNG)]),
        (text("as it is"), [text("as it is")]),
        (embedded("a://b", text="t"), [embedded("a://b", text="t")]),
        (embedded("a://b", blob=b"\x00"), [embedded("a://b", blob=b"\x00")]),
        ({"type": "text"}, [text('{"type":"text"}')]),  # not a block: it has no text
    ],
    ids=str,
)
async def test_what_is_not_annotated_comes_as_content(value: Any, content: list[Any]) -> None:
    server = MCPServer()
    server.add_tool(returning(value, Any), "t")
    async with listening(server, port=0) as running:
        for revision in ALL:
            async with joined(running.port, revision) as client:
                result = await call(client, "t")
                assert result["content"] == content
                assert "structuredContent" not in result and "outputSchema" not in await first(client)


async def test_audio_and_links_go_to_the_revisions_that_have_them() -> None:
    server = MCPServer()
    link = resource_link("a://b", "b", title="B", mime_type="text/plain", size=3)
    server.add_tool(returning([Audio(data=WAV), link], list[Any]), "t")
    async with listening(server, port=0) as running:
        for revision, kinds in {
            B: ["audio", "text"],
            C: ["audio", "resource_link"],
            E: ["audio", "resource_link"],
        }.items():
            async with joined(running.port, revision) as client:
                content = (await call(client, "t"))["content"]
                assert [block["type"] for block in content] == kinds
                assert content[0] == audio(WAV)
        async with joined(running.port, A) as client:  # judged by the client: there is no audio
            assert "audio" not in [block["type"] for block in (await call(client, "t"))["content"]]


async def test_an_image_is_read_from_its_file_when_it_is_returned(tmp_path: Path) -> None:
    server = MCPServer()
    path = tmp_path / "p.webp"
    server.add_tool(lambda: Image(path), "t")
    async with connected(server) as client:
        assert "p.webp" in failure(await call(client, "t"))
        path.write_bytes(PNG)
        assert (await call(client, "t"))["content"] == [image(PNG, "image/webp")]


async def test_a_whole_result_goes_as_it_is() -> None:
    server = MCPServer()
    whole = {"content": [text("no")], "isError": True, "_meta": {"a.example/k": 1}}
    server.add_tool(returning(whole, dict[str, Any]), "t", structured_output=False)
    async with connected(server, D) as client:
        assert await call(client, "t") == whole


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"x": 1}, "y"),
        ({"x": 1, "y": "two"}, "y"),
        ({"content": [text("t")]}, "structuredContent"),
        ({"content": [], "structuredContent": {"x": 1}}, "y"),
        (object(), "t"),
    ],
    ids=["y is missing", "y is a text", "no structure", "y is missing in the structure", "no JSON"],
)
async def test_a_result_that_breaks_the_promised_schema_is_not_sent(
    value: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = MCPServer()
    server.add_tool(returning(value, Point), "annotated")
    schema = {"type": "object", "properties": {"x": {}, "y": {"type": "integer"}}, "required": ["y"]}
    server.add_tool(returning(value, Any), "given", output_schema=schema)
    async with connected(server, D) as client:
        for tool in ("annotated", "given"):
            result = await call(client, tool)
            assert says in failure(result) and "structuredContent" not in result
    assert caplog.messages.count("the tool given failed") == 1


async def test_a_whole_result_with_the_promised_structure_goes_as_it_is() -> None:
    server = MCPServer()
    whole = {"content": [text("here")], "structuredContent": {"x": 1, "y": 2}, "_meta": {"a.example/k": 1}}
    server.add_tool(returning(whole, Point), "annotated")
    server.add_tool(returning(whole, Any), "given", output_schema={"type": "object", "required": ["y"]})
    async with connected(server, D) as client:
        for tool in ("annotated", "given"):
            assert await call(client, tool) == whole


async def test_an_error_needs_no_structure() -> None:
    server = MCPServer()
    server.add_tool(returning({"content": [text("no")], "isError": True}, Point), "t")
    async with connected(server, D) as client:
        assert failure(await call(client, "t")) == "no"


async def test_a_schema_of_the_users_own_is_listed_and_checked_by() -> None:
    server = MCPServer()
    given: list[dict[str, Any]] = []
    takes = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1}, "extra": {"type": "string"}, "ctx": {}},
        "required": ["n"],
        "$defs": {"unused": {"type": "string"}},
    }
    gives = {"type": "array", "items": {"type": "integer"}, "minItems": 1}

    @server.tool(input_schema=takes, output_schema=gives)
    def narrow(n: str, ctx: Context) -> Any:
        given.append({"n": n, "ctx": type(ctx)})
        return [1] * int(n)

    @server.tool(input_schema={"type": "object"}, output_schema={"title": "Anything"})
    def wide(ctx: Context, **anything: Any) -> str:
        assert isinstance(ctx, Context)
        return json.dumps(anything)

    async with connected(server) as client:
        tool = await first(client)
        assert tool["inputSchema"] == takes and tool["outputSchema"] == gives
        result = await call(client, "narrow", n=2, extra="dropped", ctx="not a context")
        assert given == [{"n": 2, "ctx": Context}]  # unconverted, and nothing passes for the context
        assert result["structuredContent"] == [1, 1]
        assert "n" in failure(await call(client, "narrow", n=0))
        assert "n" in failure(await call(client, "narrow"))
        assert given[1:] == []
        result = await call(client, "wide", a=1, b=[2], ctx="not a context")
        assert texts(result) == [result["structuredContent"]] == ['{"a": 1, "b": [2]}']
    async with connected(server, D) as client:  # where only an object is structure
        assert (await first(client))["outputSchema"]["properties"] == {"result": gives}
        assert (await call(client, "narrow", n=1))["structuredContent"] == {"result": [1]}


# --- methods ---------------------------------------------------------------------------------------------------------

REGISTRARS: dict[str, Callable[[MCPServer], Callable[[Any], Any]]] = {
    "tool": lambda server: server.tool,
    "tool()": lambda server: server.tool(),
    "tool(name)": lambda server: server.tool("named"),
    "add_tool": lambda server: server.add_tool,
    "prompt": lambda server: server.prompt,
    "prompt()": lambda server: server.prompt(title="Title"),
    "resource": lambda server: server.resource("a://b"),
    "template": lambda server: server.resource("a://{x}"),
    "completion": lambda server: server.completion,
    "completion()": lambda server: server.completion(thread=False),
    "lifespan": lambda server: lambda fn: MCPServer(lifespan=fn),
}


@pytest.mark.parametrize("registrar", REGISTRARS)
def test_a_method_is_refused_where_it_has_no_object_and_the_error_says_how_to_register_it(registrar: str) -> None:
    server = MCPServer()
    register = REGISTRARS[registrar](server)

    with pytest.raises(
        TypeError, match=r"it is a method of .*Tools, .*'self' .* server\.add_tool\(an_object\."
    ) as caught:

        class Tools:
            @register
            def method(self, x: str) -> str:
                return x

    with pytest.raises(TypeError, match="'cls'"):

        class Others:
            @register
            async def method(cls, x: str) -> str:
                return x

    assert not isinstance(caught.value, ValueError)
    assert_nothing_is_registered(server)


def assert_nothing_is_registered(server: MCPServer) -> None:
    known = server._catalogue
    assert not (known.tools or known.prompts or known.resources or known.templates)
    assert "completions" not in server.capabilities()


@pytest.mark.parametrize("registrar", REGISTRARS)
@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (classmethod, r"not a classmethod object; .*server\.add_tool\(TheClass\."),
        (property, "not a property object; register a function"),
        (functools.cached_property, "not a cached_property object"),
        (functools.partialmethod, "not a partialmethod object"),
        (lambda fn: {"fn": fn}, "not a dict object"),
        (lambda fn: b"name", "not a bytes object"),
    ],
)
def test_what_cannot_be_called_is_never_registered_silently(registrar: str, wrap: Any, says: str) -> None:
    server = MCPServer()

    def fn(x: str) -> str:
        return x

    with pytest.raises(TypeError, match=f"a function is wanted, {says}"):
        REGISTRARS[registrar](server)(wrap(fn))
    assert_nothing_is_registered(server)


@pytest.mark.parametrize("uri", [classmethod(len), property(len), len, None, b"a://b", 7])
def test_a_resource_without_its_uri_is_refused_also_where_the_decorator_stands_on_a_method(uri: Any) -> None:
    with pytest.raises(TypeError, match="a resource needs its URI"):
        MCPServer().resource(uri)


def test_a_lifespan_of_which_no_signature_is_known_is_taken() -> None:
    class Opaque:
        __signature__ = 5

        def __call__(self, server: MCPServer) -> Any: ...

    with pytest.raises(TypeError):
        inspect.signature(Opaque())
    assert MCPServer(lifespan=Opaque()).name == "mcp-server"


async def test_bound_methods_and_static_ones_are_registered() -> None:
    server = MCPServer()

    class Tools:
        factor = 2

        def method(self, x: int) -> int:
            return x * self.factor

        @classmethod
        def of_class(cls, x: int) -> int:
            return x * cls.factor

        @server.tool
        @staticmethod
        def static(x: int) -> int:
            return x

        @staticmethod
        @server.tool
        def plain(x: int) -> int:
            return x

        def prompt(self, x: int) -> str:
            return f"{x * self.factor}"

        @asynccontextmanager
        async def lifespan(self, server: MCPServer) -> AsyncIterator[int]:
            yield self.factor

    @server.tool
    def function(self: int) -> int:  # no class, and so an argument like any other
        return self

    tools = Tools()
    server.add_tool(tools.method)
    server.add_tool(Tools.of_class)
    server.add_tool(functools.partial(Tools.method, tools), name="partial")
    server.add_prompt(tools.prompt)
    server.add_resource("a://{x}", tools.prompt)
    MCPServer(lifespan=tools.lifespan)
    async with connected(server) as client:
        for name, gives in (("static", 3), ("plain", 3), ("method", 6), ("of_class", 6), ("partial", 6)):
            assert texts(await call(client, name, x=3)) == [str(gives)], name
        assert texts(await call(client, "function", self=3)) == ["3"]
        got = await client.call("prompts/get", {"name": "prompt", "arguments": {"x": "3"}})
        assert got.result["messages"] == [user("6")]


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ALL)
async def test_what_models_write_instead_of_a_number_a_boolean_a_list_and_an_object_is_taken(revision: str) -> None:
    server = MCPServer()
    seen: list[Any] = []

    @server.tool
    def take(
        number: int,
        bounded: Annotated[int, pydantic.Field(ge=1)],
        share: float,
        sure: bool,
        names: list[str],
        city: City,
        extra: dict[str, int],
    ) -> None:
        seen.append([number, bounded, share, sure, names, city, extra])

    server.add_tool(take, name="strictly", strict=True)
    written = {
        "number": "5", "bounded": "5", "share": "1.5", "sure": "true", "names": '["a"]',
        "city": '{"name": "x", "size": "1"}', "extra": '{"a": 1}',
    }  # fmt: skip
    exact = [5, 5, 1.5, True, ["a"], {"name": "x", "size": 1}, {"a": 1}]
    async with connected(server, revision) as client:
        one, two = await listed(client)
        assert one["inputSchema"] == two["inputSchema"]  # exact in both
        assert one["inputSchema"]["properties"]["number"] == {"type": "integer"}
        assert "isError" not in await call(client, "take", **written)
        assert seen == [exact]
        message = failure(await call(client, "strictly", **written))
        assert all(name in message for name in written)
        as_it_is = {**dict(zip(written, exact, strict=True)), "city": {"name": "x", "size": 1}}
        assert "isError" not in await call(client, "strictly", **as_it_is)
        assert seen == [exact, exact]


async def test_a_server_is_strict_where_its_tool_does_not_say_otherwise() -> None:
    server = MCPServer(strict=True)

    @server.tool
    def exact(a: int, b: Annotated[int, pydantic.Field(ge=1)] = 1) -> int:
        return a + b

    @server.tool(strict=False)
    def lax(a: int) -> int:
        return a

    @server.prompt
    def prompt(a: int) -> str:
        return f"{a!r}"

    @server.resource("a://{a}")
    def resource(a: int) -> str:
        return f"{a!r}"

    async with connected(server) as client:
        assert "a: expected integer" in failure(await call(client, "exact", a="1"))
        assert "b: " in failure(await call(client, "exact", a=1, b="1"))
        assert texts(await call(client, "exact", a=1, b=1)) == ["2"]
        assert texts(await call(client, "lax", a="1")) == ["1"]
        # What is text by protocol is read all the same.
        got = await client.call("prompts/get", {"name": "prompt", "arguments": {"a": "1"}})
        assert got.result["messages"] == [user("1")]
        got = await client.call("resources/read", {"uri": "a://1"})
        assert got.result["contents"][0]["text"] == "1"


class Place(TypedDict):
    street: str


class Routed(NamedTuple):
    tenant: Annotated[str, ParamHeader("Tenant")]


async def test_no_value_hides_from_its_header_in_a_text_or_a_list() -> None:
    """A gateway that routes by headers sees no value there, so the tool must see none either."""
    server = MCPServer(strict=False)
    seen = []

    @server.tool
    def route(to: Routed = Routed("b"), number: int = 0) -> str:  # noqa: B008
        seen.append(to)
        return "routed"

    @server.tool(strict=False)
    def direct(tenant: Annotated[str, ParamHeader("Tenant")], number: int = 0) -> str:
        return f"{tenant} {number}"

    async with connected(server) as client:
        await listed(client)
        for hidden in ('{"tenant": "a"}', ["a"], [{"tenant": "a"}]):
            params = {"name": "route", "arguments": {"to": hidden}}
            assert failure((await client.call("tools/call", params)).result).startswith(
                "Invalid arguments for route: to"
            )
        assert seen == []
        answer = await client.call(
            "tools/call", {"name": "route", "arguments": {"to": {"tenant": "a"}}}, headers={"Mcp-Param-Tenant": "a"}
        )
        assert texts(answer.result) == ["routed"] and seen.pop() == Routed("a")
        assert texts(await call(client, "route", more=1)) == ["routed"]
        params = {"name": "direct", "arguments": {"tenant": "a", "number": "1"}}
        answer = await client.call("tools/call", params, headers={"Mcp-Param-Tenant": "a"})
        assert texts(answer.result) == ["a 1"]


async def test_arguments_that_a_tool_does_not_have_are_passed_over_and_logged_at_debug_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = MCPServer()

    @server.tool
    def visit(city: City, place: Place, limit: int = 3) -> str:
        return f"{city['name']} {len(city) - 1} {place} {limit}"

    @server.tool
    def more(**rest: Any) -> str:
        return f"{rest}"

    given: dict[str, Any] = {
        "city": {"name": "x", "size": 1, "toolCallId": "t"}, "toolCallId": "call\x1b[2J\u202e", "sessionId": 1,
        "place": {"street": "s", "toolCallId": "t"},
    }  # fmt: skip
    async with connected(server) as client:
        with caplog.at_level(logging.DEBUG, logger="mcp_h11.handler.functions"):
            assert texts(await call(client, "visit", **given)) == ["x 1 {'street': 's'} 3"]
        (line,) = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.handler.functions"]
        assert line == "visit ignores 2 arguments that it does not have: 'toolCallId', 'sessionId'"
        assert texts(await call(client, "more", toolCallId=1)) == ["{'toolCallId': 1}"]
        caplog.clear()
        many = {f"{number}\n\x1b" + "x" * 1_000: 1 for number in range(1_000)}
        with caplog.at_level(logging.DEBUG, logger="mcp_h11.handler.functions"):
            assert "isError" not in await call(client, "visit", **given, **many)
        (line,) = [record.getMessage() for record in caplog.records if record.name == "mcp_h11.handler.functions"]
        assert line.startswith("visit ignores 1002 arguments") and line.isprintable() and len(line) < 2_000
        for missing, extra in (("city", "City"), ("place", "palce"), ("city", "theCity")):
            wrong = {extra if name == missing else name: value for name, value in given.items()}
            message = failure(await call(client, "visit", **wrong))
            assert f"{missing}: missing, expected object (did you mean it by '{extra}'?)" in message


async def test_arguments_that_a_tool_does_not_have_are_refused_where_it_or_its_server_says_so() -> None:
    refusing, ignoring = MCPServer(extra_arguments="refuse"), MCPServer()

    def visit(city: City, place: Place) -> str:
        return "visited"

    refusing.add_tool(visit)
    refusing.add_tool(visit, name="ignoring", extra_arguments="ignore")
    ignoring.add_tool(visit, extra_arguments="refuse")
    ignoring.add_tool(visit, name="ignoring")
    right = {"city": {"name": "x", "size": 1}, "place": {"street": "s"}}
    for server in (refusing, ignoring):
        async with connected(server) as client:
            assert texts(await call(client, "visit", **right)) == ["visited"]
            for wrong, where in (
                ({**right, "toolCallId": "t"}, "toolCallId: unknown"),
                ({**right, "city": {"name": "x", "size": 1, "id": 1}}, "city.id: unknown"),
                ({**right, "place": {"street": "s", "id": 1}}, "place.id: unknown"),
            ):
                assert where in failure(await call(client, "visit", **wrong))
                assert texts(await call(client, "ignoring", **wrong)) == ["visited"]
    for make in (MCPServer, lambda extra_arguments: MCPServer().add_tool(visit, extra_arguments=extra_arguments)):
        with pytest.raises(ValueError, match='extra_arguments is "ignore" or "refuse", not \'forbid\''):
            make(extra_arguments="forbid")


# --- arguments and failures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", ALL)
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["count", "city"]),
        ({"count": "many", "city": {"name": "x", "size": 1}}, ["count"]),
        ({"count": 1, "city": {"name": "x"}}, ["city", "size"]),
        ({"count": 1.5, "city": {"name": 1, "size": 1}}, ["count", "name"]),
        ({"count": 1, "city": {"name": "x", "size": 1}, "surplus": 1}, ["surplus"]),
    ],
)
async def test_bad_arguments_are_a_tool_error_that_names_them(
    revision: str, arguments: dict[str, Any], names: list[str]
) -> None:
    # `mask_errors` hides what tools raise, and not what a client did wrong.
    server = MCPServer(mask_errors=True, extra_arguments="refuse")
    ran = []

    @server.tool
    def visit(count: int, city: City) -> None:
        ran.append(count)

    async with connected(server, revision) as client:
        message = failure(await call(client, "visit", **arguments))
        assert all(name in message for name in ["visit", *names]), message
    assert ran == []


@pytest.mark.parametrize("revision", [A, D, E])
@pytest.mark.parametrize(
    "params", [{}, {"name": "nothing"}, {"name": 3}, {"name": ["t"]}, {"name": "t", "arguments": [1]},
               {"name": "t", "arguments": "x"}],
)  # fmt: skip
async def test_a_call_of_nothing_is_a_protocol_error(revision: str, params: dict[str, Any]) -> None:
    server = MCPServer()
    server.add_tool(lambda: "t", "t")
    async with connected(server, revision) as client:
        answer = await client.call("tools/call", params)
        # In the newest revision the header that repeats the name is looked at before.
        codes = (-32602,) if revision != E or isinstance(params.get("name"), str) else (-32602, -32020)
        assert answer.error["code"] in codes
        assert answer.status == (400 if revision == E else 200)


async def test_absent_and_null_arguments_are_none() -> None:
    server = MCPServer()
    server.add_tool(lambda x=5: x, "t")
    async with connected(server) as client:
        for params in ({"name": "t"}, {"name": "t", "arguments": None}):
            assert texts((await client.call("tools/call", params)).result) == ["5"]


def raising(exc: BaseException, kind: str) -> Callable[[], Any]:
    def deeper() -> Any:
        local = SECRET  # noqa: F841  # seen in a traceback that shows its lines
        raise exc

    async def on_the_loop() -> Any:
        deeper()

    return on_the_loop if kind == "async" else deeper


@pytest.mark.parametrize("kind", ["async", "thread", "inline"])
@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (ValueError("no such book"), "no such book"),
        (KeyError("k"), "'k'"),
        (RuntimeError(), "RuntimeError"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (StopIteration("end"), None),
        (SystemExit(2), None),
        (asyncio.TimeoutError(), None),
        (OSError(2, "gone", "/a/file"), "[Errno 2] gone: '/a/file'"),
    ],
    ids=repr,
)
async def test_whatever_a_tool_raises_is_a_result_and_its_traceback_is_in_the_log_alone(
    kind: str, exc: BaseException, message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    server = MCPServer()
    server.add_tool(raising(exc, kind), "t", thread=kind != "inline")
    async with listening(server, port=0) as running:
        for revision in (D, E):
            async with joined(running.port, revision) as client:
                request = client.request("tools/call", {"name": "t"})
                response = await client.post(request)
                (answer,) = response.messages()
                client.judge(answer, "tools/call")
                said = failure(answer["result"])
                assert message is None or said == message
                assert b"Traceback" not in response.body and b"test_app" not in response.body
                assert SECRET.encode() not in response.body and b"deeper" not in response.body
                assert (await client.call("tools/list")).status == 200  # and the server lives
    assert caplog.text.count("Traceback (most recent call last)") >= 2 and "in deeper" in caplog.text


@pytest.mark.parametrize("revision", [D, E])
async def test_masked_errors_say_nothing_but_what_a_tool_error_says(
    revision: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = MCPServer(mask_errors=True)
    server.add_tool(raising(ValueError(SECRET), "async"), "error")
    server.add_tool(raising(SystemExit(SECRET), "async"), "exit")
    server.add_tool(raising(ToolError("for the model"), "async"), "tool_error")
    server.add_tool(raising(MCPError(4711, "for the client", {"a": 1}), "thread"), "mcp_error")
    async with connected(server, revision) as client:
        for tool in ("error", "exit"):
            result = await call(client, tool)
            assert failure(result) and SECRET not in json.dumps(result)
        assert failure(await call(client, "tool_error")) == "for the model"
        answer = await client.call("tools/call", {"name": "mcp_error"})
        assert answer.error == {"code": 4711, "message": "for the client", "data": {"a": 1}}
    assert SECRET in caplog.text


@pytest.mark.parametrize("thread", [True, False])
async def test_an_mcp_error_is_a_json_rpc_error_with_its_code_and_data(thread: bool) -> None:
    server = MCPServer()
    server.add_tool(raising(MCPError(4711, "stop", [1, {"a": None}]), "sync"), "t", thread=thread)
    server.add_tool(raising(MCPError(4711, "bare"), "async"), "bare")
    async with listening(server, port=0) as running:
        for revision in (D, E):
            async with joined(running.port, revision) as client:
                answer = await client.call("tools/call", {"name": "t"})
                assert answer.error == {"code": 4711, "message": "stop", "data": [1, {"a": None}]}
                assert (await client.call("tools/call", {"name": "bare"})).error == {"code": 4711, "message": "bare"}


@pytest.mark.parametrize(
    ("exc", "said"),
    [(ToolError("one"), "one"), (ValueError("deep"), "deep"), (MCPError(7, "protocol"), None)],
    ids=repr,
)
async def test_the_one_failure_of_a_task_group_counts_as_itself(exc: Exception, said: str | None) -> None:
    server = MCPServer()

    @server.tool
    async def grouped() -> None:
        async def fail() -> None:
            raise exc

        async with anyio.create_task_group() as outer, anyio.create_task_group() as group:
            outer.start_soon(anyio.lowlevel.checkpoint)
            group.start_soon(fail)

    async with connected(server, D) as client:
        answer = await client.call("tools/call", {"name": "grouped"})
        if said is None:
            assert answer.error == {"code": 7, "message": "protocol"}
        else:
            assert failure(answer.result) == said


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tells no cancellation from another")
@pytest.mark.parametrize("revision", [D, E])
async def test_a_cancelled_task_of_a_tools_own_is_a_failure_of_the_tool(revision: str) -> None:
    server = MCPServer()

    @server.tool
    async def awaits() -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    async with connected(server, revision) as client:
        assert failure(await call(client, "awaits")) == "CancelledError"


@pytest.mark.parametrize("revision", [D, E])
async def test_a_call_that_is_cancelled_ends_and_is_no_failure(revision: str, caplog: pytest.LogCaptureFixture) -> None:
    server, started, ended = MCPServer(), asyncio.Event(), asyncio.Event()

    @server.tool
    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with connected(server, revision) as client:
        request = client.request("tools/call", {"name": "waits"}, id="x")
        calling = asyncio.ensure_future(client.post(request))
        with anyio.fail_after(LIMIT):
            await started.wait()
        if revision == D:
            await client.notify("notifications/cancelled", {"requestId": "x"})
            assert (await calling).messages() == []
        else:
            calling.cancel()  # which closes the connection
        with anyio.fail_after(LIMIT):
            await ended.wait()
    assert "failed" not in caplog.text


async def test_an_exception_that_cannot_be_shown_is_still_a_tool_error() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    server = MCPServer()
    server.add_tool(raising(Mute(), "async"), "t")
    async with connected(server, D) as client:
        assert failure(await call(client, "t"))


async def test_a_result_that_is_no_json_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    server = MCPServer()
    server.add_tool(returning({"content": [text("x")], "_meta": {"a": object()}}, Any), "t")
    async with connected(server, D) as client:
        assert (await client.call("tools/call", {"name": "t"})).error["code"] == -32603
    assert "tools/call" in caplog.text  # and why, for who runs the server


# --- threads -----------------------------------------------------------------------------------------------------


async def test_a_sync_function_does_not_hold_up_the_loop() -> None:
    server = MCPServer()
    release, threads = threading.Event(), []

    @server.tool
    def blocks() -> str:
        threads.append(threading.get_ident())
        assert release.wait(LIMIT)
        return "released"

    @server.tool
    async def releases() -> str:
        release.set()  # runs only if the loop is not blocked
        return "done"

    async with connected(server) as client:
        waiting = asyncio.ensure_future(call(client, "blocks"))
        with anyio.fail_after(LIMIT):
            while not threads:
                await asyncio.sleep(0)
        assert texts(await call(client, "releases")) == ["done"]
        assert texts(await waiting) == ["released"]
    assert threads != [threading.get_ident()]


async def test_where_a_function_runs_is_the_users_choice() -> None:
    server = MCPServer()
    here = threading.get_ident()

    def where() -> str:
        return "here" if threading.get_ident() == here else "elsewhere"

    async def awhere() -> str:
        return where()

    server.add_tool(where, "thread")
    server.add_tool(where, "inline", thread=False)
    server.add_tool(awhere, "async")
    server.add_tool(lambda: awhere(), "returns_a_coroutine")
    for name, thread in (("thread", True), ("inline", False)):
        server.add_resource(f"a://{name}", where, thread=thread)
        server.add_prompt(where, name, thread=thread)
    async with connected(server) as client:
        for name, place in {"thread": "elsewhere", "inline": "here"}.items():
            assert texts(await call(client, name)) == [place]
            read = await client.call("resources/read", {"uri": f"a://{name}"})
            assert read.result["contents"][0]["text"] == place
            got = await client.call("prompts/get", {"name": name})
            assert got.result["messages"][0]["content"]["text"] == place
        assert texts(await call(client, "async")) == ["here"]
        assert texts(await call(client, "returns_a_coroutine")) == ["here"]
    for thread, place in ((True, "elsewhere"), (False, "here")):
        server.completion(thread=thread)(lambda: [where()])
        async with connected(server) as client:
            ref = {"type": "ref/prompt", "name": "inline"}
            answer = await client.call("completion/complete", {"ref": ref, "argument": {"name": "n", "value": ""}})
            assert answer.error["code"] == -32602  # that prompt takes no arguments
        server.add_prompt(lambda n: n, "takes") if thread else None
        async with connected(server) as client:
            ref = {"type": "ref/prompt", "name": "takes"}
            answer = await client.call("completion/complete", {"ref": ref, "argument": {"name": "n", "value": ""}})
            assert answer.result["completion"]["values"] == [place]


async def test_a_context_is_given_under_whatever_name_and_never_listed() -> None:
    server = MCPServer("named")

    @server.tool
    async def one(a: int, anything: Context) -> str:
        return f"{anything.protocol_version} {anything.client_info['name']} {anything.server.name} {a}"

    @server.tool
    def two(ctx: Context | None = None, *, b: str = "b") -> str:
        assert ctx is not None
        return f"{ctx.session} {b}"

    @server.resource("a://{x}")
    def three(x: str, ctx: Context) -> str:
        return f"{x} {ctx.request_id}"

    @server.prompt
    def four(ctx: Context) -> str:
        return str(ctx.request_id)

    async with connected(server) as client:
        schemas = [tool["inputSchema"]["properties"] for tool in await listed(client)]
        assert [list(schema) for schema in schemas] == [["a"], ["b"]]
        assert texts(await call(client, "one", a=1)) == [f"{E} rawclient named 1"]
        assert texts(await call(client, "two")) == ["None b"]
        assert texts(await call(client, "two", ctx="mine")) == ["None b"]  # passed over: it is no argument
        read = await client.call("resources/read", {"uri": "a://b"}, id="id-7")
        assert read.result["contents"][0]["text"] == "b id-7"
        got = await client.call("prompts/get", {"name": "four"}, id="id-8")
        assert got.result["messages"] == [user("id-8")] and "arguments" not in await first(client, "prompts")


@pytest.mark.parametrize("revision", [D, E])
async def test_a_thread_speaks_to_its_client_through_wait(revision: str) -> None:
    server = MCPServer()

    @server.tool
    def works(ctx: Context) -> str:
        for step in range(3):
            ctx.wait(ctx.report_progress(step, 3))
        ctx.wait(ctx.info("done"))
        return "worked"

    @server.tool(thread=False)
    def inline(ctx: Context) -> None:
        ctx.wait(ctx.info("never"))

    async with connected(server, revision) as client:
        meta = {"progressToken": 1, "io.modelcontextprotocol/logLevel": "info"}
        answer = await client.call("tools/call", {"name": "works", "_meta": meta})
        methods = [n["method"].rpartition("/")[2] for n in answer.notifications]
        assert methods == ["progress", "progress", "progress", "message"] and texts(answer.result) == ["worked"]
        assert "await" in failure(await call(client, "inline"))


async def test_a_question_comes_from_a_thread_in_both_eras() -> None:
    server = MCPServer()

    @server.tool
    def asks(ctx: Context) -> str:
        schema = {"type": "object", "properties": {"it": {"type": "string"}}}
        return str(ctx.wait(ctx.elicit("Which?", schema)).data)

    accepted = {"action": "accept", "content": {"it": "this"}}
    async with listening(server, port=0) as running:
        legacy = Legacy(running.port, D)
        await legacy.initialize({"elicitation": {}})
        answer = await legacy.call("tools/call", {"name": "asks"}, answerer=lambda _: {"result": accepted})
        assert texts(answer.result) == ["{'it': 'this'}"]
        await legacy.delete()
        modern = Modern(running.port, capabilities={"elicitation": {}})
        asked = (await modern.call("tools/call", {"name": "asks"})).result
        (key,) = asked["inputRequests"]
        again = {"name": "asks", "inputResponses": {key: accepted}, "requestState": asked["requestState"]}
        assert texts((await modern.call("tools/call", again)).result) == ["{'it': 'this'}"]


async def test_a_tool_a_prompt_and_a_resource_may_return_their_questions() -> None:
    server = MCPServer()
    question = {"method": "roots/list", "params": {}}

    @server.tool
    def calls(ctx: Context) -> int | InputRequired:
        return len(ctx.input_responses) if ctx.input_responses else InputRequired({"r": question})

    @server.prompt
    def asks(ctx: Context) -> Any:
        return f"{len(ctx.input_responses)}" if ctx.input_responses else InputRequired({"r": question})

    @server.resource("a://asks")
    def reads(ctx: Context) -> Any:
        return f"{ctx.request_state}" if ctx.request_state else InputRequired({"r": question}, state="mine")

    async with listening(server, port=0) as running:
        client = Modern(running.port, capabilities={"roots": {}})
        response = {"r": {"roots": []}}
        asked = (await client.call("tools/call", {"name": "calls"})).result
        assert asked["inputRequests"] == {"r": question}
        answered = await client.call("tools/call", {"name": "calls", "inputResponses": response})
        assert answered.result["structuredContent"] == {"result": 1}
        asked = (await client.call("prompts/get", {"name": "asks"})).result
        assert asked["inputRequests"] == {"r": question}
        got = await client.call("prompts/get", {"name": "asks", "inputResponses": response})
        assert got.result["messages"] == [user("1")]
        asked = (await client.call("resources/read", {"uri": "a://asks"})).result
        again = {"uri": "a://asks", "inputResponses": response, "requestState": asked["requestState"]}
        assert (await client.call("resources/read", again)).result["contents"][0]["text"] == "mine"


# --- changes while it serves -----------------------------------------------------------------------------------------


CHANGES: dict[str, tuple[Callable[[MCPServer], Any], str]] = {
    "add a tool": (lambda s: s.add_tool(lambda: 1, "new"), "tools"),
    "remove a tool": (lambda s: s.remove_tool("old"), "tools"),
    "add a resource": (lambda s: s.add_resource("new://r", lambda: 1, name="new"), "resources"),
    "remove a resource": (lambda s: s.remove_resource("old://r"), "resources"),
    "add a template": (lambda s: s.add_resource("new://{r}", lambda r: 1, name="new"), "resourceTemplates"),
    "remove a template": (lambda s: s.remove_resource("old://{r}"), "resourceTemplates"),
    "add a prompt": (lambda s: s.add_prompt(lambda: "1", "new"), "prompts"),
    "remove a prompt": (lambda s: s.remove_prompt("old"), "prompts"),
}


def changing() -> MCPServer:
    server = MCPServer()
    server.add_tool(lambda: 1, "old")
    server.add_resource("old://r", lambda: 1, name="old")
    server.add_resource("old://{r}", lambda r: 1, name="old")
    server.add_prompt(lambda: "1", "old")
    return server


async def in_a_thread(fn: Callable[[], Any]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, fn)


@pytest.mark.parametrize("thread", [False, True], ids=["on the loop", "from a thread"])
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_reaches_every_subscriber_of_either_era(name: str, thread: bool) -> None:
    change, kind = CHANGES[name]
    what = "resources" if kind == "resourceTemplates" else kind
    method = f"notifications/{what}/list_changed"
    server = changing()
    async with listening(server, port=0) as running:
        async with contextlib.AsyncExitStack() as stack:
            legacy = await stack.enter_async_context(Legacy(running.port, D))
            older = await stack.enter_async_context(Legacy(running.port, A))
            modern = Modern(running.port)
            get = await stack.enter_async_context(legacy.get_stream())
            older_get = await stack.enter_async_context(older.get_stream())
            listener = await stack.enter_async_context(modern.listen(id="l", **{f"{what}ListChanged": True}))
            flags = {f"{w}ListChanged": True for w in ("tools", "prompts", "resources") if w != what}
            deaf = await stack.enter_async_context(modern.listen(**flags))
            for stream in (listener, deaf):
                assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
            before = {client: await listed(client, kind) for client in (legacy, older, modern)}
            await in_a_thread(lambda: change(server)) if thread else change(server)
            assert await get.next_message() == {"jsonrpc": "2.0", "method": method}
            assert await older_get.next_message() == {"jsonrpc": "2.0", "method": method}
            heard = await listener.next_message()
            assert heard["method"] == method
            assert heard["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "l"}
            for client, old in before.items():
                new = await listed(client, kind)
                assert len(new) == len(old) + (1 if name.startswith("add") else -1)
            # What was not asked for did not come: the next thing there is what was.
            server.notify_prompts_changed() if what != "prompts" else server.notify_tools_changed()
            assert (await deaf.next_message())["method"] != method


async def test_a_tool_that_adds_one_is_heard_before_its_own_answer() -> None:
    server = MCPServer()

    @server.tool
    async def grows() -> str:
        server.add_tool(lambda: "grown", "grown")
        return "done"

    async with connected(server, D) as client, client.get_stream() as stream:
        assert texts(await call(client, "grows")) == ["done"]
        assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
        assert texts(await call(client, "grown")) == ["grown"]
        assert "already" in failure(await call(client, "grows"))


@pytest.mark.long
async def test_a_list_that_threads_change_all_the_time_is_always_whole() -> None:
    server = MCPServer(page_size=7)
    for number in range(20):
        server.add_tool(lambda: 1, f"keep{number}")
    for number in range(300):  # so many that a read is in the middle of them when they change
        server.add_resource(f"keep{number}://{{x}}", lambda x: 1, name="r")
    stop = threading.Event()

    def churn(label: str) -> None:
        number = 0
        while not stop.is_set():
            server.add_tool(lambda: 1, f"{label}{number}")
            server.add_resource(f"{label}://{number}/{{x}}", lambda x: 1, name="r")
            server.remove_tool(f"{label}{number}")
            server.remove_resource(f"{label}://{number}/{{x}}")
            number += 1

    threads = [threading.Thread(target=churn, args=(label,)) for label in "ab"]
    interval = sys.getswitchinterval()
    async with connected(server) as client:
        sys.setswitchinterval(1e-5)
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                names, cursor = [], None
                while True:
                    page = (await client.call("tools/list", {"cursor": cursor} if cursor else {})).result
                    names += [tool["name"] for tool in page["tools"]]
                    if (cursor := page.get("nextCursor")) is None:
                        break
                kept = [name for name in names if name.startswith("keep")]
                assert kept == [f"keep{number}" for number in range(20)]
                assert (await client.call("resources/read", {"uri": "c://1"})).error["code"] == -32602
        finally:
            stop.set()
            sys.setswitchinterval(interval)
            for thread in threads:
                await in_a_thread(thread.join)
        # Nothing stale outlived the changes.
        server.add_tool(lambda: 1, "last")
        names = [tool["name"] for tool in await listed(client)]
        assert names == [f"keep{number}" for number in range(7)]


async def test_of_several_threads_that_want_one_name_one_gets_it() -> None:
    server, rounds, count = MCPServer(), 100, 4
    barrier, added = threading.Barrier(count), []

    def add(number: int) -> None:
        for one in range(rounds):
            barrier.wait(LIMIT)
            try:
                server.add_tool(lambda: number, f"t{one}")
                added.append((f"t{one}", number))
            except ValueError:
                pass

    threads = [threading.Thread(target=add, args=(number,)) for number in range(count)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            await in_a_thread(thread.join)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(name for name, _ in added) == sorted(f"t{one}" for one in range(rounds))
    async with connected(server) as client:
        for name, number in added[:5]:
            assert texts(await call(client, name)) == [str(number)]


async def test_an_update_is_heard_by_whoever_asked_for_that_uri() -> None:
    server = changing()
    async with listening(server, port=0) as running, Legacy(running.port, D) as client:
        await client.call("resources/subscribe", {"uri": "old://r"})
        modern = Modern(running.port)
        async with client.get_stream() as get, modern.listen(resourceSubscriptions=["old://r"]) as listener:
            await listener.next_message()
            await in_a_thread(lambda: server.notify_resource_updated("other://r"))
            await in_a_thread(lambda: server.notify_resource_updated("old://r"))
            assert (await get.next_message())["params"] == {"uri": "old://r"}
            assert (await listener.next_message())["params"]["uri"] == "old://r"


# --- pages -----------------------------------------------------------------------------------------------------------


def paged(count: int, page_size: int | None) -> MCPServer:
    server = MCPServer(page_size=page_size)
    for n in range(count):
        server.add_tool(lambda: 1, f"n{n}")
        server.add_resource(f"n{n}://r", lambda: 1, name=f"n{n}")
        server.add_resource(f"n{n}://{{r}}", lambda r: 1, name=f"n{n}")
        server.add_prompt(lambda: "1", f"n{n}")
    return server


KINDS = ("tools", "resources", "resourceTemplates", "prompts")


async def page(client: Any, kind: str, cursor: Any = None) -> Answer:
    method = {"resourceTemplates": "resources/templates/list"}.get(kind, f"{kind}/list")
    answer: Answer = await client.call(method, {} if cursor is None else {"cursor": cursor})
    return answer


@pytest.mark.parametrize("kind", KINDS)
async def test_the_pages_of_each_list_are_the_list(kind: str) -> None:
    for count, size, sizes in ((5, 2, [2, 2, 1]), (4, 2, [2, 2]), (2, 2, [2]), (0, 2, [0]), (3, 1, [1, 1, 1])):
        async with connected(paged(count, size)) as client:
            names, found, cursor = [], [], None
            while True:
                result = (await page(client, kind, cursor)).result
                found.append(len(result[kind]))
                names += [entry["name"] for entry in result[kind]]
                if "nextCursor" not in result:
                    break
                cursor = result["nextCursor"]
            assert (names, found) == ([f"n{n}" for n in range(count)], sizes)
            assert (await page(client, kind, cursor)).result == result if cursor else True


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cursor_that_was_not_issued_is_invalid(kind: str) -> None:
    def cursor(value: str) -> str:
        return base64.urlsafe_b64encode(value.encode()).decode()

    async with listening(paged(3, 1), port=0) as running, listening(paged(3, None), port=0) as whole:
        modern = Modern(running.port)
        good = (await page(modern, kind)).result["nextCursor"]
        other = (await page(modern, "prompts" if kind == "tools" else "tools")).result["nextCursor"]
        bad: list[Any] = ["", "x", "ä", "====", good + "A", good[:-4], other, 3, True, [good], {"a": 1}]
        bad += [cursor(f"{kind}\n{n}") for n in ("0", "-1", "1.0", "", "x", "99", "9" * 30, "1\n", "01")] + [
            cursor(kind)
        ]
        for value in bad:
            answer = await page(modern, kind, value)
            assert (answer.status, answer.error["code"]) == (400, -32602), value
        async with Legacy(running.port, D) as legacy:
            answer = await page(legacy, kind, "x")
            assert (answer.status, answer.error["code"]) == (200, -32602)
            assert (await page(legacy, kind, good)).result[kind][0]["name"] == "n1"
        # A list that has no pages issues no cursors.
        assert (await page(Modern(whole.port), kind, good)).error["code"] == -32602


async def test_a_list_that_changes_between_pages_neither_skips_nor_repeats() -> None:
    server = paged(6, 2)
    async with connected(server) as client:
        result = (await page(client, "tools")).result
        names = [tool["name"] for tool in result["tools"]]
        for name in ("n0", "n1", "n3"):  # the entry that the cursor follows is among them
            server.remove_tool(name)
        server.add_tool(lambda: 1, "n6")
        server.add_tool(lambda: 1, "n0")  # again, and so at the end
        while "nextCursor" in result:
            result = (await page(client, "tools", result["nextCursor"])).result
            names += [tool["name"] for tool in result["tools"]]
        assert names == ["n0", "n1", "n2", "n4", "n5", "n6", "n0"]


async def test_a_cursor_past_what_is_left_is_the_end() -> None:
    server = paged(3, 2)
    async with connected(server) as client:
        cursor = (await page(client, "tools")).result["nextCursor"]
        server.remove_tool("n2")
        result = (await page(client, "tools", cursor)).result
        assert result["tools"] == [] and "nextCursor" not in result


# --- resources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "mime_type", "contents"),
    [
        ("text", None, {"mimeType": "text/plain", "text": "text"}),
        ("# h", "text/markdown", {"mimeType": "text/markdown", "text": "# h"}),
        (b"\x00\xff", None, {"mimeType": "application/octet-stream", "blob": "AP8="}),
        (bytearray(b"a"), "image/gif", {"mimeType": "image/gif", "blob": "YQ=="}),
        ({"a": "ö"}, None, {"mimeType": "application/json", "text": '{"a": "ö"}'}),
        (["a", "b"], None, {"mimeType": "application/json", "text": '["a", "b"]'}),
        (7, None, {"mimeType": "application/json", "text": "7"}),
        (Point(1, 2), None, {"mimeType": "application/json", "text": '{"x": 1, "y": 2}'}),
        ({"type": "text", "text": "no block here"}, None,
         {"mimeType": "application/json", "text": '{"type": "text", "text": "no block here"}'}),
        (Image(data=PNG), None, {"mimeType": "image/png", "blob": base64.b64encode(PNG).decode()}),
    ],
    ids=str,
)  # fmt: skip
async def test_a_resource_is_what_its_function_returns(value: Any, mime_type: str | None, contents: Any) -> None:
    server = MCPServer()
    server.add_resource("a://b", lambda: value, name="b", mime_type=mime_type)
    async with listening(server, port=0) as running:
        for revision in ALL:
            async with joined(running.port, revision) as client:
                read = await client.call("resources/read", {"uri": "a://b"})
                assert read.result["contents"] == [{"uri": "a://b", **contents}]


async def test_a_resource_may_have_several_contents_of_its_own_making() -> None:
    server = MCPServer()
    one = {"uri": "a://b/1", "text": "one"}
    two = {"uri": "a://b/2", "blob": "Ag==", "mimeType": "x/y"}
    server.add_resource("a://b", lambda: [one, two], name="b")
    server.add_resource("a://c", lambda: one, name="c")
    async with connected(server) as client:
        assert (await client.call("resources/read", {"uri": "a://b"})).result["contents"] == [one, two]
        assert (await client.call("resources/read", {"uri": "a://c"})).result["contents"] == [one]


@pytest.mark.parametrize("revision", ALL)
async def test_a_resource_that_is_not_there_is_an_error_that_names_it(revision: str) -> None:
    server = MCPServer()

    @server.resource("a://{x}")
    def maybe(x: int) -> Any:
        if x == 2:
            raise ResourceNotFound("a://2")
        return None

    code, status = (-32602, 400) if revision == E else (-32002, 200)
    async with connected(server, revision) as client:
        for uri in ("b://1", "a://1", "a://2", "a://three"):  # no template, None, raised, no number
            answer = await client.call("resources/read", {"uri": uri})
            assert (answer.error["code"], answer.error["data"], answer.status) == (code, {"uri": uri}, status)


async def test_what_a_resource_or_a_prompt_raises_is_an_internal_error_that_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = MCPServer()
    server.add_resource("a://b", raising(ValueError(SECRET), "sync"), name="b")
    server.add_resource("a://nan", lambda: float("nan"), name="nan")
    server.add_prompt(raising(ValueError(SECRET), "async"), "p")
    server.completion(raising(ValueError(SECRET), "async"))
    server.add_prompt(lambda n: n, "q")
    argument = {"ref": {"type": "ref/prompt", "name": "q"}, "argument": {"name": "n", "value": ""}}
    async with connected(server, D) as client:
        for method, params in (
            ("resources/read", {"uri": "a://b"}),
            ("resources/read", {"uri": "a://nan"}),
            ("prompts/get", {"name": "p"}),
            ("completion/complete", argument),
        ):
            answer = await client.call(method, params)
            assert answer.error["code"] == -32603 and SECRET not in json.dumps(answer.message)
        for uri in (None, 3, ["a://b"]):
            assert (await client.call("resources/read", {"uri": uri})).error["code"] == -32602
    assert SECRET in caplog.text


@pytest.mark.parametrize(
    "path",
    ["../etc/passwd", "a/../../etc", "..", "%2e%2e/etc", "..%2Fetc", "/etc/passwd", "%2Fetc", "a/%2e%2e/%2e%2e/b",
     "..\\windows", "C:\\windows", "a%00b"],
)  # fmt: skip
async def test_a_variable_that_climbs_does_not_match_unless_it_may(path: str) -> None:
    server, asked = MCPServer(), []

    @server.resource("files://base/{+path}")
    def guarded(path: str) -> str:
        asked.append(path)
        return "read"

    @server.resource("open://base/{+path}", any_path=True)
    def unguarded(path: str) -> str:
        return f"checked {path}"

    async with connected(server, D) as client:
        client.check = False  # what is asked for is no URI, and the answer repeats it
        answer = await client.call("resources/read", {"uri": f"files://base/{path}"})
        assert (answer.error["code"], asked) == (-32002, [])
        answer = await client.call("resources/read", {"uri": f"open://base/{path}"})
        assert answer.result["contents"][0]["text"].startswith("checked ")
        answer = await client.call("resources/read", {"uri": "files://base/a/b..c/.d"})
        assert (answer.result["contents"][0]["text"], asked) == ("read", ["a/b..c/.d"])


async def test_a_template_gives_its_variables_decoded_and_typed() -> None:
    server = MCPServer()

    @server.resource("search://{kind}{?limit,tags*}")
    def search(kind: str, limit: int = 10, tags: list[str] | None = None) -> dict[str, Any]:
        return {"kind": kind, "limit": limit, "tags": tags}

    server.add_resource("search://fixed", lambda: "the fixed one", name="fixed")
    async with connected(server) as client:

        async def read(uri: str) -> Any:
            return (await client.call("resources/read", {"uri": uri})).result["contents"][0]["text"]

        assert json.loads(await read("search://a%20b")) == {"kind": "a b", "limit": 10, "tags": None}
        assert json.loads(await read("search://a?limit=3")) == {"kind": "a", "limit": 3, "tags": None}
        assert await read("search://fixed") == "the fixed one"  # before any template
        answer = await client.call("resources/read", {"uri": "search://a?limit=x"})
        assert answer.error["code"] == -32602


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ("text", [user("text")]),
        (None, []),
        (["a", "b"], [user("a"), user("b")]),
        (("a", assistant("b")), [user("a"), assistant("b")]),
        (assistant("only"), [assistant("only")]),
        ({"role": "assistant", "content": "plain"}, [assistant("plain")]),
        ({"role": "user", "content": Image(data=PNG)}, [user(image(PNG))]),
        (Image(data=PNG), [user(image(PNG))]),
        ([text("block"), Image(data=PNG)], [user("block"), user(image(PNG))]),
        (user(embedded("a://b", text="t")), [user(embedded("a://b", text="t"))]),
        ({"a": 1}, [user('{"a":1}')]),
    ],
    ids=str,
)
async def test_a_prompt_is_what_its_function_returns(value: Any, messages: list[Any]) -> None:
    server = MCPServer()
    server.add_prompt(lambda: value, "p", description="What it is.")
    async with listening(server, port=0) as running:
        for revision in ALL:
            async with joined(running.port, revision) as client:
                got = (await client.call("prompts/get", {"name": "p"})).result
                assert (got["messages"], got["description"]) == (messages, "What it is.")


async def test_a_whole_prompt_result_goes_as_it_is() -> None:
    server = MCPServer()
    server.add_prompt(lambda: {"description": "own", "messages": [user("x")]}, "p")
    async with connected(server, D) as client:
        got = await client.call("prompts/get", {"name": "p"})
        assert got.result == {"description": "own", "messages": [user("x")]}


class Amount(pydantic.BaseModel):
    value: float


def charge(amount: float) -> str:
    return "refused" if amount > 100 else f"paid {amount!r}"


def share(amount: Annotated[float, pydantic.Field(le=100)]) -> str:
    return charge(amount)


def bounded(amount: Annotated[float, {"maximum": 100}]) -> str:
    return charge(amount)


def number(amount: int | float) -> str:
    return charge(amount)


def either(amount: float | bool | None) -> str:
    return charge(amount or 0)


def exactly(amount: decimal.Decimal) -> str:
    return charge(float(amount))


def each(amount: list[float]) -> str:
    return charge(amount[0])


def named(amount: dict[str, list[float]]) -> str:
    return charge(amount["a"][0])


def modelled(amount: Amount) -> str:
    return charge(amount.value)


NOT_FINITE = ("NaN", "nan", "Infinity", "-Infinity", "inf", "+inf", " nan", "1e999", "-1e999", "1" + "0" * 400)
WRAPPED: dict[Any, tuple[str, ...]] = {
    each: ("[%s]", '["%s"]', "[1, %s]"),
    named: ('{"a": [%s]}', '{"a": ["%s"]}'),
    modelled: ('{"value": %s}', '{"value": "%s"}'),
}


@pytest.mark.parametrize("fn", [charge, share, bounded, number, either, exactly, each, named, modelled])
async def test_no_argument_is_a_number_that_is_not_finite(fn: Any) -> None:
    """`nan > 100` is false: such a number passes every check."""
    server = MCPServer()
    server.add_tool(fn)
    server.add_prompt(fn)
    server.add_resource("pay://{amount}", fn)
    async with connected(server) as client:
        for form in WRAPPED.get(fn, ("%s",)):
            for value in NOT_FINITE:
                written = form % value
                if fn is exactly and value.startswith(("1e", "-1e", "10")):
                    continue  # as a Decimal it is finite
                if fn is number and value.startswith("10"):
                    continue  # an integer of any length is one
                got = await client.call("prompts/get", {"name": fn.__name__, "arguments": {"amount": written}})
                assert (got.status, got.error["code"]) == (400, -32602), written
                assert "amount" in got.error["message"]
                got = await client.call("resources/read", {"uri": f"pay://{quote(written, safe='')}"})
                assert got.error["code"] == -32602, written  # 2026-07-28: not found
                assert "amount" in failure(await call(client, fn.__name__, amount=written)), written
        for form in WRAPPED.get(fn, ("%s",)):
            got = await client.call("prompts/get", {"name": fn.__name__, "arguments": {"amount": form % "1.5"}})
            said = "paid 1" if form.startswith("[1,") else "paid 1.5"
            assert got.result["messages"][0]["content"]["text"].startswith(said)


async def test_texts_of_prompts_and_templates_are_read_as_what_they_say() -> None:
    server = MCPServer()

    def show(flag: bool, count: int = 0, names: list[str] = [], other: Literal[1, True] = 1) -> str:  # noqa: B006
        return f"{flag!r} {count!r} {names!r} {other!r}"

    server.add_prompt(show)
    server.add_resource("a://{flag}/{count}", show)
    async with connected(server) as client:

        async def prompted(**arguments: str) -> str:
            got = await client.call("prompts/get", {"name": "show", "arguments": arguments})
            return str(got.result["messages"][0]["content"]["text"])

        async def read(uri: str) -> str:
            return str((await client.call("resources/read", {"uri": uri})).result["contents"][0]["text"])

        for word, value in (
            ("True", True), ("true", True), ("yes", True), ("1", True), ("ON", True), ("t", True), ("Y", True),
            ("False", False), ("no", False), ("0", False), ("off", False), ("F", False), ("n", False),
        ):  # fmt: skip
            assert await prompted(flag=word) == f"{value} 0 [] 1"
            assert await read(f"a://{word}/5") == f"{value} 5 [] 1"
        assert await prompted(flag="1", count=" 5 ", names='["a", "1"]', other="true") == "True 5 ['a', '1'] True"
        assert await read("a://yes/5.0") == "True 5 [] 1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n": 3}, 'arguments.n: the arguments of a prompt are strings; write "3" instead of 3'),
        ({"n": True}, 'arguments.n: the arguments of a prompt are strings; write "true" instead of true'),
        ({"n": 1.5}, 'write "1.5" instead of 1.5'),
        ({"n": None}, 'leave it out, or write "null" where null is meant'),
        ({"n": [3]}, "write the JSON of the array as a string"),
        ({"n": {"a": 3}}, "write the JSON of the object as a string"),
        ({"n" * 10_000: 3}, "…: the arguments of a prompt are strings"),
        ({"n": 10**1000}, "…"),
        ({"n": "three"}, 'n: expected integer, written as text like "3"'),
        ({"n": "[3]"}, 'n: expected integer, written as text like "3"'),
        ({"n": "3", "f": "maybe"}, 'f: expected boolean, written as text like "true"'),
        ({"n": "3", "x": "nan"}, 'x: expected number, written as text like "1.5"'),
        ({"n": "3", "xs": "a, b"}, 'xs: expected array, written as text like "[\\"a\\", \\"b\\"]"'),
        ({"n": "3", "xs": '["a", 1]'}, "xs[1]: expected string, got integer"),
        ({"n": "3", "o": "x"}, 'o: expected object or null, written as text like "{\\"name\\": \\"value\\"}"'),
        ({"n": "3", "low": "0"}, "low: expected at least 1"),
        ({"n": "3", "c": "green"}, 'c: expected one of "red", "blue"'),
        ({}, "n: missing, expected integer"),
    ],
)  # fmt: skip
async def test_errors_of_a_prompt_say_how_its_arguments_are_written(arguments: dict[str, Any], says: str) -> None:
    server = MCPServer()

    @server.prompt
    def prompt(
        n: int,
        f: bool = False,
        x: float = 0.0,
        xs: list[str] = [],  # noqa: B006
        o: dict[str, int] | None = None,
        low: Annotated[int, {"minimum": 1}] = 1,
        c: Literal["red", "blue"] = "red",
    ) -> str:
        return "x"

    async with connected(server) as client:
        answer = await client.call("prompts/get", {"name": "prompt", "arguments": arguments})
        assert (answer.status, answer.error["code"]) == (400, -32602)
        message = answer.error["message"]
        assert says in message and len(message) < 500
        assert "got string" not in message  # that it is one cannot be what is wrong


async def test_a_prompt_is_registered_in_every_form_and_its_arguments_are_texts() -> None:
    server = MCPServer()

    @server.prompt
    def bare(a: str, n: int = 3, flags: list[str] | None = None) -> str:
        """Bare.

        Args:
            a: The first.
        """
        return f"{a!r} {n!r} {flags!r}"

    @server.prompt("second", title="Second", icons=[{"src": "https://a.example/i.png"}])
    async def other() -> str:
        return "other"

    async with connected(server) as client:
        one, two = await listed(client, "prompts")
        assert one["arguments"] == [
            {"name": "a", "description": "The first.", "required": True}, {"name": "n"}, {"name": "flags"},
        ]  # fmt: skip
        assert (two["name"], two["title"], two["description"]) == ("second", "Second", "second")
        for arguments, said in (
            ({"a": "x"}, "'x' 3 None"),
            ({"a": "4", "n": "4", "flags": '["f"]'}, "'4' 4 ['f']"),
            ({"a": "x", "surplus": "y"}, "'x' 3 None"),
        ):
            got = await client.call("prompts/get", {"name": "bare", "arguments": arguments})
            assert got.result["messages"] == [user(said)]
        for params, says in (
            ({"name": "none"}, "none"),
            ({"name": "bare"}, "a"),
            ({"name": "bare", "arguments": {}}, "a"),
            ({"name": "bare", "arguments": {"a": "x", "n": "many"}}, "n"),
            ({"name": "bare", "arguments": {"aa": "x"}}, "did you mean it by 'aa'?"),
            ({"name": "bare", "arguments": {"a": 1}}, "strings"),
            ({"name": "bare", "arguments": ["a"]}, "strings"),
        ):
            answer = await client.call("prompts/get", params)
            assert (answer.status, answer.error["code"]) == (400, -32602) and says in answer.error["message"]


# --- completion ------------------------------------------------------------------------------------------------------


def completing(fn: Any) -> MCPServer:
    server = MCPServer()
    server.add_prompt(lambda n, m: n, "p")
    server.add_prompt(lambda **anything: "", "open")
    server.add_resource("a://{v}/{w}", lambda v, w: v, name="t")
    server.add_resource("a://fixed", lambda: "", name="f")
    if fn is not None:
        server.completion(fn)
    return server


P = {"type": "ref/prompt", "name": "p"}
T = {"type": "ref/resource", "uri": "a://{v}/{w}"}


async def complete(client: Any, ref: Any = P, name: Any = "n", value: Any = "v", **more: Any) -> Answer:
    params = {"ref": ref, "argument": {"name": name, "value": value}, **more}
    answer: Answer = await client.call("completion/complete", params)
    return answer


@pytest.mark.parametrize(
    ("value", "completion"),
    [
        (["a", "b"], {"values": ["a", "b"]}),
        (("a",), {"values": ["a"]}),
        ([], {"values": []}),
        (None, {"values": []}),
        ([f"{n}" for n in range(100)], {"values": [f"{n}" for n in range(100)]}),
        ([f"{n}" for n in range(101)], {"values": [f"{n}" for n in range(100)], "total": 101, "hasMore": True}),
        ({"values": ["a"], "total": 9, "hasMore": True}, {"values": ["a"], "total": 9, "hasMore": True}),
        ({"values": ["a"] * 101, "total": 5000}, {"values": ["a"] * 100, "total": 5000, "hasMore": True}),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_completions_are_a_hundred_at_most(value: Any, completion: Any) -> None:
    async with listening(completing(lambda: value), port=0) as running:
        for revision in ALL:
            async with joined(running.port, revision) as client:
                assert (await complete(client)).result["completion"] == completion


async def test_a_completion_of_the_official_type_will_do() -> None:
    types = pytest.importorskip("mcp_types")
    async with connected(completing(lambda: types.Completion(values=["a"], has_more=True))) as client:
        assert (await complete(client)).result["completion"] == {"values": ["a"], "hasMore": True}


@pytest.mark.parametrize("value", ["text", [1], {"total": 1}, {"values": "abc"}])
async def test_what_is_no_list_of_texts_is_an_internal_error(value: Any) -> None:
    async with connected(completing(lambda: value), D) as client:
        assert (await complete(client)).error["code"] == -32603


async def test_a_completion_function_is_told_what_is_completed() -> None:
    asked = []

    async def fn(ref: Any, argument: Any, context: Any, ctx: Context) -> list[str]:
        asked.append((ref, argument, context, ctx.protocol_version))
        return [argument["value"] + "!"]

    async with connected(completing(fn)) as client:
        done = await complete(client, T, "w", "x", context={"arguments": {"v": "1"}})
        assert done.result["completion"]["values"] == ["x!"]
        await complete(client, P, "m", "")
        await complete(client, {"type": "ref/prompt", "name": "open"}, "whatever", "")
    assert asked[0] == (T, {"name": "w", "value": "x"}, {"arguments": {"v": "1"}}, E)
    assert asked[1] == (P, {"name": "m", "value": ""}, None, E) and len(asked) == 3


@pytest.mark.parametrize("revision", [D, E])
async def test_a_completion_of_what_is_not_there_is_refused(revision: str) -> None:
    async with connected(completing(lambda: ["never"]), revision) as client:
        for ref, name, value in (
            ({"type": "ref/prompt", "name": "none"}, "n", ""),
            ({"type": "ref/prompt", "name": ["p"]}, "n", ""),
            ({"type": "ref/prompt"}, "n", ""),
            ({"type": "ref/resource", "uri": "b://{v}"}, "v", ""),
            ({"type": "ref/resource", "uri": {}}, "v", ""),
            ({"type": "ref/tool", "name": "p"}, "n", ""),
            ("p", "n", ""),
            (None, "n", ""),
            (P, "unknown", ""),
            (T, "n", ""),
            ({"type": "ref/resource", "uri": "a://fixed"}, "v", ""),
            (P, 3, ""),
            (P, "n", 3),
        ):
            answer = await complete(client, ref, name, value)
            assert answer.error["code"] == -32602, (ref, name, value)
        assert (await client.call("completion/complete", {"ref": P, "argument": "n"})).error["code"] == -32602


@pytest.mark.parametrize("revision", ALL)
async def test_completion_is_offered_where_there_is_a_function_for_it(revision: str) -> None:
    async with connected(completing(None), revision) as client:
        assert (await complete(client)).error["code"] == -32601
        assert "completions" not in await capabilities(client)
    async with connected(completing(lambda: ["x"]), revision) as client:
        assert ("completions" in await capabilities(client)) == (revision != A)  # 2025-03-26 brought the capability
        assert (await complete(client)).result["completion"]["values"] == ["x"]


async def capabilities(client: Any) -> Any:
    if isinstance(client, Modern):
        return (await client.call("server/discover")).result["capabilities"]
    return client.initialized["capabilities"]


# --- the server itself -----------------------------------------------------------------------------------------------

ICON = {"src": "https://a.example/i.png", "mimeType": "image/png", "sizes": ["48x48"]}


def decorated() -> MCPServer:
    server = MCPServer(
        "decorated", "Title", "Description", "Instructions", "https://a.example", [ICON], "1.2", page_size=5
    )
    more: dict[str, Any] = {"title": "T", "icons": [ICON], "meta": {"a.example/k": "v"}}
    server.add_tool(lambda: 1, "t", annotations={"readOnlyHint": True, "title": "A"}, **more)
    shown = {"audience": ["user"], "priority": 0.5, "lastModified": "2025-01-12T15:00:58Z"}
    server.add_resource("a://b", lambda: "", name="r", annotations=shown, size=3, mime_type="text/plain", **more)
    server.add_resource("a://{b}", lambda b: "", name="r", annotations=shown, **more)
    server.add_prompt(lambda a: "", "p", **more)
    return server


@pytest.mark.parametrize("revision", ALL)
async def test_what_a_revision_does_not_have_is_not_sent_to_it(revision: str) -> None:
    async with connected(decorated(), revision) as client:
        if revision == E:
            discovered = (await client.call("server/discover")).result
            instructions = discovered["instructions"]
            info = discovered["_meta"]["io.modelcontextprotocol/serverInfo"]
        else:
            instructions, info = client.initialized["instructions"], client.initialized["serverInfo"]
        titles, icons = revision in (C, D, E), revision in (D, E)
        assert instructions == "Instructions"
        expected = {"name": "decorated", "version": "1.2"}
        if titles:
            expected["title"] = "Title"
        if icons:
            expected |= {"description": "Description", "websiteUrl": "https://a.example", "icons": [ICON]}
        assert info == expected
        for kind in KINDS:
            entry = await first(client, kind)
            assert ("title" in entry, "icons" in entry, "_meta" in entry) == (titles, icons, titles), (kind, entry)
            if kind.startswith("resource"):
                assert ("lastModified" in entry["annotations"], entry["annotations"]["priority"]) == (titles, 0.5)
        assert ("annotations" in await first(client)) == (revision != A)
        assert (await first(client, "resources"))["size"] == 3


@pytest.mark.parametrize("revision", [D, E])
async def test_a_plain_server_says_no_more_than_it_has(revision: str) -> None:
    server = MCPServer()
    async with connected(server, revision) as client:
        assert await capabilities(client) == {
            "logging": {},
            "tools": {"listChanged": True},
            "resources": {"subscribe": True, "listChanged": True},
            "prompts": {"listChanged": True},
        }
        for kind in KINDS:
            assert await listed(client, kind) == []
        if revision == D:
            assert client.initialized["serverInfo"] == {"name": "mcp-server", "version": "0"}
            assert "instructions" not in client.initialized


async def test_a_cache_hint_is_on_what_it_is_for() -> None:
    hints = {"tools/list": (60_000, "public"), "resources/read": (5, None), "server/discover": (7, "private")}
    server = MCPServer(cache_hints=hints, page_size=1)
    for name in "ab":
        server.add_tool(lambda: 1, name)
    server.add_resource("a://b", lambda: "", name="b")
    async with listening(server, port=0) as running, listening(server, port=0, token="t") as guarded:
        client = Modern(running.port)
        cursor = (await page(client, "tools")).result["nextCursor"]
        for answer, hint in (
            (await page(client, "tools"), (60_000, "public")),
            (await page(client, "tools", cursor), (60_000, "public")),
            (await page(client, "prompts"), (0, "public")),
            (await client.call("resources/read", {"uri": "a://b"}), (5, "public")),
            (await client.call("server/discover"), (7, "private")),
        ):
            assert (answer.result["ttlMs"], answer.result["cacheScope"]) == hint
        client = Modern(guarded.port)
        client.extra_headers = {"Authorization": "Bearer t"}
        for answer, hint in (
            (await page(client, "tools"), (60_000, "public")),
            (await client.call("resources/read", {"uri": "a://b"}), (5, "private")),
        ):
            assert (answer.result["ttlMs"], answer.result["cacheScope"]) == hint
        async with Legacy(running.port, D) as legacy:
            assert "ttlMs" not in (await page(legacy, "tools")).result


async def test_a_lifespan_is_open_while_it_serves_and_its_value_is_in_the_context() -> None:
    events: list[Any] = []

    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[dict[str, Any]]:
        events.append(("open", server.name))
        try:
            yield {"db": "connected"}
        finally:
            events.append("closed")

    server = MCPServer("alive", lifespan=lifespan)

    @server.tool
    def status(ctx: Context) -> str:
        events.append("used")
        return str(ctx.lifespan["db"])

    async with connected(server) as client:
        assert events == [("open", "alive")]
        assert texts(await call(client, "status")) == ["connected"]
    assert events == [("open", "alive"), "used", "closed"]


async def test_a_lifespan_that_fails_is_why_it_does_not_serve() -> None:
    @asynccontextmanager
    async def lifespan(server: MCPServer) -> AsyncIterator[None]:
        raise ConnectionError("no database")
        yield

    with pytest.raises(ConnectionError, match="no database"):
        async with listening(MCPServer(lifespan=lifespan), port=0):
            pass


def test_run_serves_over_the_transport_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(running, "run", lambda handler, **options: ran.append((handler, options)))
    monkeypatch.setattr(stdio, "run_stdio", lambda handler, **options: ran.append((handler, "stdio")))
    server = MCPServer()
    server.run(port=1)
    server.run(transport="streamable-http")
    server.run(transport="sse", port=2)
    server.run(transport="stdio")
    assert ran == [
        (server, {"port": 1}), (server, {}), (server, {"legacy_sse": True, "port": 2}), (server, "stdio"),
    ]  # fmt: skip


def test_a_user_may_log_what_fails_elsewhere() -> None:
    assert (
        logging.getLogger("mcp_h11.handler.answers").parent is not None
        and not logging.getLogger("mcp_h11.handler.answers").handlers
    )


async def test_a_whole_result_of_a_function_that_returns_some_dict_is_its_own_structure() -> None:
    server = MCPServer()
    server.add_tool(returning({"content": [text("hello")]}, dict[str, Any]), "t")
    async with connected(server, D) as client:
        result = await call(client, "t")
        assert result["content"] == [text("hello")]
        # Listed with a schema, so a structure is owed (server/tools, Output Schema); any object satisfies this one.
        assert result["structuredContent"] == {"content": [text("hello")]}


@pytest.mark.parametrize("what", ["tool", "resource", "prompt"])
def test_a_decorator_takes_what_its_add_method_takes(what: str) -> None:
    # Both are spelled out, for editors and type checkers; the function itself is what the decorator stands on.
    owner = next(kind for kind in MCPServer.__mro__ if what in vars(kind))
    (tree,) = ast.parse(inspect.getsource(owner)).body
    assert isinstance(tree, ast.ClassDef)
    longest = {
        name: max((n.args for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name), key=explicit)
        for name in (what, f"add_{what}")
    }
    decorator, add = (ast.unparse(longest[name]) for name in (what, f"add_{what}"))
    assert decorator == add.replace("fn: Callable[..., Any], ", "")


def explicit(arguments: ast.arguments) -> int:
    return len(arguments.args) + len(arguments.kwonlyargs)


async def test_an_argument_of_a_prompt_without_an_example_is_named_by_its_type() -> None:
    server = MCPServer()

    @server.prompt
    def nothing(a: None) -> str:
        return "nothing"

    async with connected(server, D) as client:
        answer = await client.call("prompts/get", {"name": "nothing", "arguments": {"a": "x"}})
        assert answer.error["code"] == -32602 and answer.error["message"].endswith("expected null")

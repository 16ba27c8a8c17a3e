# SPDX-License-Identifier: MIT
"""Programs as users write them: a type checker in its strict mode has nothing to say of them.

Checkers read this file; nothing runs it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from typing_extensions import assert_type

from mcp_h11 import (
    Client,
    Context,
    Elicited,
    MCPServer,
    Principal,
    ServerHandler,
    Settings,
    listening,
    run,
    serve,
    start_in_thread,
)
from mcp_h11.protocol.types import CallToolResult, GetPromptResult, Prompt, ReadResourceResult, Resource, Tool


class Database:
    async def find(self, key: str) -> int:
        return len(key)


@dataclass
class State:
    database: Database


@dataclass
class Order:
    copies: int
    gift: bool = False


class Place(TypedDict):
    street: str


@asynccontextmanager
async def lifespan(server: MCPServer) -> AsyncGenerator[State, None]:
    yield State(Database())


server = MCPServer("typed", lifespan=lifespan)

# --- decorators leave a function as it is ---------------------------------------------------------------------


@server.tool
async def find(key: str, ctx: Context[State]) -> int:
    assert_type(ctx.lifespan, State)
    return await ctx.lifespan.database.find(key)


@server.tool(title="Add", scopes=["numbers"], timeout=5)
def add(a: int, b: int = 2) -> int:
    return a + b


@server.resource("book://{title}", mime_type="text/plain")
def book(title: str) -> str:
    return title


@server.prompt
def review(title: str) -> str:
    return title


@server.completion
def complete(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any] | None) -> list[str]:
    return [argument["value"]]


@server.completion(thread=False)
async def complete_also(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any] | None) -> list[str]:
    return []


async def calls_its_own_tools(ctx: Context[State]) -> None:
    assert_type(await find("key", ctx), int)
    assert_type(add(1), int)
    assert_type(book("dune"), str)
    assert_type(review("dune"), str)
    assert_type(complete({}, {"value": "d"}, None), list[str])
    assert_type(await complete_also({}, {}, None), list[str])


# --- the context ----------------------------------------------------------------------------------------------


async def helper(ctx: Context) -> None:
    """A context of any server: `Context` alone is `Context[Any]`."""
    await ctx.info("hello")
    await ctx.report_progress(1, 2, "half")
    principal = ctx.principal
    assert_type(principal, Principal | None)
    if principal is not None:
        assert_type(principal.subject, str)


@server.tool
async def order(title: str, ctx: Context[State]) -> str:
    await helper(ctx)
    answer = await ctx.elicit(f"How many of {title}?", Order)
    if answer.action != "accept":
        return "nothing ordered"
    assert_type(answer.data, Order)
    return f"ordered {answer.data.copies} of {title}"


@server.tool
async def visit(ctx: Context) -> str:
    place = await ctx.elicit("Where?", Place)
    if place.data is not None:
        return place.data["street"]
    raw = await ctx.elicit("Where?", {"type": "object", "properties": {"street": {"type": "string"}}})
    if raw.action == "accept":
        assert_type(raw.data, dict[str, Any])
    page = await ctx.elicit_url("Sign in", "https://login.example")
    return page.action


def summary(answer: Elicited[Order]) -> str:
    return "nothing" if answer.data is None else f"{answer.data.copies} copies"


def plain_summary(answer: Elicited) -> str:
    return answer.action


async def asks_and_tells(ctx: Context) -> str:
    return summary(await ctx.elicit("How many?", Order)) + plain_summary(await ctx.elicit("Where?", Place))


@server.tool
def in_a_thread(ctx: Context) -> int:
    ctx.wait(ctx.info("begun"))
    return 1


# --- serving --------------------------------------------------------------------------------------------------


def serves(handler: ServerHandler, put: Callable[[Callable[[], None]], None]) -> None:
    server.run()
    server.run(quiet=True)
    server.run(port=0, max_running=5, allowed_hosts=["files.example"], loop="asyncio")
    server.run(transport="stdio", settings=Settings(call_timeout=5))
    run(handler, uds="/run/mcp.sock", uds_mode=0o600, loop="uvloop", quiet=True)
    thread = start_in_thread(handler, call_in=put, token="secret")
    assert_type(thread.url, str)


async def serves_on(handler: ServerHandler) -> None:
    await serve(
        handler,
        host="::1",
        port=0,
        signals=False,
        quiet=True,
        on_start=lambda started: print(started.url),
        idle_timeout=None,
    )
    async with listening(handler, port=0, response="json", rate_limit=(10, 1.0)) as running:
        assert_type(running.port, int)


# --- a client ---------------------------------------------------------------------------------------------------


async def asks(url: str) -> str:
    async with Client(url, timeout=5) as client:
        tools = await client.list_tools()
        assert_type(tools, list[Tool])
        print([tool["name"] for tool in tools], tools[0].get("description"))
        assert_type(await client.list_resources(), list[Resource])
        assert_type(await client.list_prompts(), list[Prompt])
        assert_type((await client.list_resource_templates())[0]["uriTemplate"], str)
        assert_type(await client.read_resource("book://dune"), ReadResourceResult)
        prompt = await client.get_prompt("review", {"title": "dune"})
        assert_type(prompt, GetPromptResult)
        assert_type(prompt["messages"][0]["role"], Literal["user", "assistant"])
        values = (await client.complete({"type": "ref/prompt", "name": "review"}, {"name": "title", "value": "d"}))[
            "values"
        ]
        assert_type(values, list[str])
        print((await client.discover())["supportedVersions"])
        result = await client.call_tool("add", {"a": 1, "b": 2})
        assert_type(result, CallToolResult)
        if result.get("isError"):
            return "failed"
        block = result["content"][0]
        return block["text"] if block["type"] == "text" else ""

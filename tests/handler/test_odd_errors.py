# SPDX-License-Identifier: MIT
"""Errors that are none of JSON-RPC's, and clients that cannot be asked: each call is answered all the same."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from pipes_support import piped
from rawclient import Legacy, Modern
from serving import ASYNCIO, LEGACY, call, lives, modern, served

from mcp_h11 import Context, Elicit, InputRequired, MCPError, MCPServer, MissingClientCapability, Refusal

pytestmark = pytest.mark.anyio
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Code(enum.IntEnum):
    OWN = 42


def deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


UNSOUND: list[Any] = [
    MCPError(object(), "secret"),  # type: ignore[arg-type]
    MCPError([], "secret"),  # type: ignore[arg-type]
    MCPError("5", "secret"),  # type: ignore[arg-type]
    MCPError(1.5, "secret"),  # type: ignore[arg-type]
    MCPError(None, "secret"),  # type: ignore[arg-type]
    MCPError(True, "secret"),
    MCPError(2**53, "secret"),
    MCPError(10**5000, "secret"),
    MCPError(1, object()),  # type: ignore[arg-type]
    MCPError(1, None),  # type: ignore[arg-type]
    Refusal(403, "secret", code=object()),  # type: ignore[arg-type]
]
# What can be sent but for its data.
DATALESS: list[Any] = [object(), {1, 2}, float("nan"), {"a": [b"x"]}, {(1,): 2}, deep]


class Raising(MCPServer):
    def __init__(self, make: Any) -> None:
        super().__init__("raising")
        self.make = make
        for add in (self.add_tool, self.add_prompt):
            add(self.fail, "fail")
        self.add_resource("fail://", self.fail)

    async def fail(self) -> str:
        raise self.make()

    async def subscribe(self, uri: str, ctx: Context) -> None:
        raise self.make()


CALLS = [("tools/call", call("fail")), ("prompts/get", {"name": "fail"}), ("resources/read", {"uri": "fail://"})]


def remade(error: MCPError) -> Any:
    """Raised anew each time: a function that makes one like it."""
    if isinstance(error, Refusal):
        return lambda: Refusal(error.status, error.message, code=error.code)
    return lambda: MCPError(error.code, error.message, error.data)


@pytest.mark.parametrize("number", range(len(UNSOUND)))
async def test_an_error_that_json_rpc_does_not_have_is_an_internal_one(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    handler = Raising(remade(UNSOUND[number]))
    wanted = {"code": -32603, "message": "Internal error"}
    async with served(handler) as server, Legacy(server.port, LEGACY) as session:
        for method, params in CALLS:
            assert (await Modern(server.port).call(method, params)).error == wanted
            assert (await session.call(method, params)).error == wanted
        assert (await session.call("resources/subscribe", {"uri": "fail://"})).error == wanted
        assert caplog.text.count("Traceback") == 7
    async with piped(handler) as client:
        client.call(1, "fail")
        assert await client.error(1) == wanted


@pytest.mark.parametrize("data", DATALESS, ids=lambda data: type(data).__name__)
async def test_data_that_is_no_json_is_left_out_and_logged(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    handler = Raising(lambda: MCPError(Code.OWN, "mine", data() if callable(data) else data))
    async with served(handler) as server, Legacy(server.port, LEGACY) as session:
        for method, params in CALLS:
            assert (await Modern(server.port).call(method, params)).error == {"code": 42, "message": "mine"}
            assert (await session.call(method, params)).error == {"code": 42, "message": "mine"}
    assert caplog.text.count("the data of an error of") == 6


@pytest.mark.parametrize("number", range(len(UNSOUND)))
async def test_whoever_authorizes_may_raise_one_as_well(number: int) -> None:
    def authorize(head: Any) -> Any:
        raise remade(UNSOUND[number])()

    async with served(MCPServer(), authorize=authorize) as server:
        async with Modern(server.port).client() as client:
            body = modern("tools/list")
            await client.send(body)
            answer = await client.receive("POST")
            assert (answer.status, answer.json()["error"]["message"]) == (500, "Internal error")
            head, _, rest = body.partition(b"\r\n\r\n")
            await client.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert (await client.receive("POST")).status == 500


# --- clients that cannot be asked ------------------------------------------------------------------------------------


class Asking(MCPServer):
    def __init__(self) -> None:
        super().__init__("asking")
        for tool in (self.form, self.url, self.sample, self.roots, self.tools, self.several, self.raw, self.own):
            self.add_tool(tool, tool.__name__)
        self.add_tool(self.falls_back, "falls_back")
        self.add_prompt(self.form, "form")

    async def form(self, ctx: Context) -> str:
        return str(await ctx.elicit("Which?", FORM))

    async def url(self, ctx: Context) -> str:
        return str(await ctx.elicit_url("Go", "https://a.example/"))

    async def sample(self, ctx: Context) -> str:
        return str(await ctx.sample("Hello"))

    async def roots(self, ctx: Context) -> str:
        return str(await ctx.list_roots())

    async def tools(self, ctx: Context) -> str:
        return str(await ctx.sample("Hello", tools=[]))

    async def several(self, ctx: Context) -> str:
        return str(await ctx.ask(a=Elicit("Which?", FORM), b=Elicit("Why?", FORM)))

    async def raw(self, ctx: Context) -> Any:
        return InputRequired({"q": Elicit("Which?", FORM)})

    async def own(self) -> str:
        raise MissingClientCapability({"experimental": {"mine": {}}}, "not without mine")

    async def falls_back(self, ctx: Context) -> str:
        try:
            return await self.form(ctx)
        except MissingClientCapability:
            return "not asked"


NEEDS = {
    "form": "elicitation",
    "url": "elicitation",
    "sample": "sampling",
    "roots": "roots",
    "tools": "sampling",
    "several": "elicitation",
    "raw": "elicitation",
    "own": "not without mine",
}


@pytest.mark.parametrize("revision", ["2025-06-18", LEGACY])
async def test_in_a_session_the_model_reads_that_its_client_cannot_be_asked(revision: str) -> None:
    async with served(Asking()) as server, Legacy(server.port, revision) as session:
        for tool, needed in NEEDS.items():
            result = (await session.call("tools/call", call(tool))).result
            assert result["isError"] is True
            (block,) = result["content"]
            assert needed in block["text"] or "does not exist" in block["text"], block
        assert (await session.call("tools/call", call("falls_back"))).result["content"][0]["text"] == "not asked"
        # Prompts have no such result.
        assert (await session.call("prompts/get", {"name": "form"})).error["code"] == -32021
    async with piped(Asking()) as client:
        await client.initialize(LEGACY)
        client.call(1, "form")
        assert (await client.result(1))["isError"] is True


async def test_the_newest_revision_has_an_error_for_it() -> None:
    async with served(Asking()) as server:
        for tool in NEEDS:
            answer = await Modern(server.port).call("tools/call", call(tool))
            assert (answer.status, answer.error["code"]) == (400, -32021)
            assert answer.error["data"]["requiredCapabilities"]
        async with Modern(server.port).client() as client:
            await lives(client)

# SPDX-License-Identifier: MIT
"""An error repeats only the beginning of a client's text, and a progress token is an integer or a short text."""

from __future__ import annotations

from typing import Any

import pytest
from pipes_support import piped
from rawclient import Legacy, Modern
from serving import ASYNCIO, LEGACY, call, served

from mcp_h11 import Context, MCPServer
from mcp_h11.handler.handler import MAX_PROGRESS_TOKEN

pytestmark = pytest.mark.anyio
LONG = 20_000  # characters; less than a pipe holds
REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY, "2026-07-28"]


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Steps(MCPServer):
    """A server with a function of each kind, which reports progress and counts its runs in `ran`."""

    def __init__(self) -> None:
        super().__init__("steps")
        self.ran = 0
        for add in (self.add_tool, self.add_prompt):
            add(self.steps, "steps")
        self.add_resource("steps://all", self.steps)

    async def steps(self, ctx: Context) -> str:
        self.ran += 1
        await ctx.report_progress(1)
        await ctx.report_progress(2)
        return "done"

    async def subscribe(self, uri: str, ctx: Context) -> None:
        await self.steps(ctx)


CALLS = [
    ("tools/call", call("steps")),
    ("prompts/get", {"name": "steps"}),
    ("resources/read", {"uri": "steps://all"}),
    ("tools/list", {}),
]
GOOD = [0, -1, 2**64 - 1, "", "a", "é", "x" * MAX_PROGRESS_TOKEN, "é" * (MAX_PROGRESS_TOKEN // 2)]
BAD = [
    "x" * (MAX_PROGRESS_TOKEN + 1),
    "é" * (MAX_PROGRESS_TOKEN // 2) + "x",
    2**64,
    -(2**64),
    1.5,
    True,
    {"a": 1},
    [1],
]


async def progressed(client: Any, token: Any, method: str, params: dict[str, Any]) -> Any:
    if isinstance(client, Modern):
        return await client.call(method, params, meta={"progressToken": token})
    return await client.call(method, {**params, "_meta": {"progressToken": token}})


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_progress_token_is_an_integer_or_a_short_text(revision: str) -> None:
    handler = Steps()
    async with served(handler) as server:
        client: Any = Modern(server.port) if revision == "2026-07-28" else Legacy(server.port, revision)
        if isinstance(client, Legacy):
            await client.initialize()
        for method, params in CALLS:
            for token in (*GOOD, None):
                answer = await progressed(client, token, method, params)
                assert "result" in answer.message
                told = [note["params"]["progressToken"] for note in answer.notifications]
                assert told == ([] if method == "tools/list" or token is None else [token] * 2)
            handler.ran = 0
            for token in BAD:
                answer = await progressed(client, token, method, params)
                assert answer.error["code"] == -32602
                assert len(answer.error["message"]) < 100
            assert not handler.ran
        if isinstance(client, Legacy):
            answer = await progressed(client, BAD[0], "resources/subscribe", {"uri": "steps://all"})
            assert (answer.error["code"], handler.ran) == (-32602, 0)
            await client.delete()


@pytest.mark.parametrize("revision", [LEGACY, "2026-07-28"])
async def test_the_same_on_pipes(revision: str) -> None:
    handler = Steps()
    async with piped(handler) as client:
        if revision == LEGACY:
            await client.initialize(revision)
        for number, token in enumerate(BAD):
            client.call(number, "steps", revision=revision, meta={"progressToken": token})
            assert (await client.error(number))["code"] == -32602
    assert not handler.ran


def lengths(value: Any) -> int:
    """The number of characters of all texts in a value."""
    if isinstance(value, dict):
        return sum(map(lengths, value.values()))
    return sum(map(lengths, value)) if isinstance(value, list) else len(str(value))


@pytest.mark.parametrize("revision", [LEGACY, "2026-07-28"])
async def test_an_error_shows_the_beginning_of_what_it_refuses(revision: str) -> None:
    long = "x" * LONG
    refused = [
        (long, {}),
        ("tools/call", {"name": long}),
        ("prompts/get", {"name": long}),
        ("resources/read", {"uri": "steps://" + long}),
        ("completion/complete", {"ref": {"type": long}, "argument": {"name": long, "value": long}}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": long}, "argument": {"name": "a", "value": ""}}),
        ("tools/list", {"cursor": long}),
        ("logging/setLevel", {"level": long}),
    ]
    handler = Steps()

    @handler.completion
    async def complete(ref: Any, argument: Any) -> list[str]:
        return []

    async with piped(handler) as client:
        if revision == LEGACY:
            await client.initialize(revision)
        for number, (method, params) in enumerate(refused):
            client.request(number, method, params, revision=revision)
            error = await client.error(number)
            assert lengths(error) < 3_000, method


async def test_a_version_that_is_none_comes_back_short() -> None:
    async with piped(Steps()) as client:
        message = Modern(0).request("tools/list", {}, id=1)
        message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "9" * LONG
        client.send(message)
        assert lengths(await client.error(1)) < 3_000

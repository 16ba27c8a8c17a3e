# SPDX-License-Identifier: MIT
"""Tests of a server with pytest: no socket, no process, no waiting.

    python -m pytest examples/test_notes.py

A `Client` that is given a server speaks to it in the same process.
"""

from __future__ import annotations

import notes
import pytest

from mcp_h11 import Client

pytestmark = pytest.mark.anyio  # the plugin of anyio, which is installed with mcp_h11


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_notes() -> None:
    notes.NOTES.clear()


async def test_a_note_that_was_written_is_read() -> None:
    async with Client(notes.server) as client:
        await client.call_tool("write", {"name": "milk", "text": "Buy milk."})
        read = await client.read_resource("notes://milk")
    assert read["contents"][0].get("text") == "Buy milk."


async def test_a_missing_argument_is_an_error_that_names_it() -> None:
    async with Client(notes.server) as client:
        result = await client.call_tool("write", {"name": "milk"})
    assert result.get("isError")
    block = result["content"][0]
    assert block["type"] == "text" and "text" in block["text"]


async def test_a_subscriber_is_told_of_a_change() -> None:
    async with Client(notes.server) as client, client.listen(uris=["notes://milk"]) as changes:
        await client.call_tool("write", {"name": "milk", "text": "Buy milk."})
        async for method, params in changes:
            assert (method, params["uri"]) == ("notifications/resources/updated", "notes://milk")
            break


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25", "2026-07-28"])
async def test_every_revision_lists_the_tool(revision: str) -> None:
    async with Client(notes.server, revision=revision) as client:
        assert [tool["name"] for tool in await client.list_tools()] == ["write"]

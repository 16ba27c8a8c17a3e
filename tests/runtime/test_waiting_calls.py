# SPDX-License-Identifier: MIT
"""Calls that wait: they hold their places until they end, and give them back however they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rawclient import LIMIT, within
from serving import ASYNCIO, UVLOOP, turns

from mcp_h11 import MCPServer, Settings
from mcp_h11.runtime.admission import Gate
from mcp_h11.runtime.runtime import Runtime

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])]


async def test_a_call_that_fails_after_a_wait_is_logged_and_gives_its_places_back(
    anyio_backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Whose:
        party = "a client"

    async def job() -> None:
        await asyncio.sleep(0)
        raise ValueError("after a wait")

    ended: list[Any] = []
    own = Gate(1)
    async with Runtime(MCPServer("failing"), Settings()) as runtime:
        begun = asyncio.Event()

        def begin() -> None:
            runtime.start(job(), own, Whose(), ended.append, None)
            assert (own.inside, runtime.gate.total, runtime.gate.held("a client"), len(runtime.tasks)) == (1, 1, 1, 1)
            begun.set()

        asyncio.get_running_loop().call_soon(begin)
        await within(LIMIT, "begin", begun.wait())
        await turns()
        assert (own.inside, runtime.gate.total, len(runtime.gate), runtime.tasks) == (0, 0, 0, set())
    assert ended == [None]
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [("after a wait",)]  # type: ignore[union-attr]

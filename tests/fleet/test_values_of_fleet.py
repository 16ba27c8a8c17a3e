# SPDX-License-Identifier: MIT
"""`ctx.session.get`, `set` and `delete` on three processes."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import anyio
import pytest
from replicas import LIMIT, STEP, Replicas, Roaming
from serving import call

pytestmark = [pytest.mark.anyio, pytest.mark.long]


async def said(client: Roaming, number: int, tool: str, **arguments: Any) -> str:
    """What a tool says at this worker, while other requests of the session are under way elsewhere."""
    here = copy.copy(client).at(number)
    result = (await here.call("tools/call", call(tool, **arguments))).result
    assert not result.get("isError"), result
    text: str = result["content"][0]["text"]
    return text


async def test_a_value_is_there_on_every_process_and_outlives_the_one_that_set_it(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        await said(client, 0, "keep", key="k", value="one")
        assert [await said(client, number, "kept", key="k") for number in range(3)] == ["one"] * 3
        await said(client, 1, "keep", key="k", value="two")
        fleet[1].kill()
        assert [await said(client, number, "kept", key="k") for number in (0, 2)] == ["two"] * 2
        await said(client, 2, "keep", key="k", value="")
        assert await said(client, 0, "kept", key="k") == "None"


async def test_processes_that_set_different_keys_at_once_lose_nothing(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        keys = [f"k{number}" for number in range(30)]
        await asyncio.gather(*(said(client, n % 3, "keep", key=key, value=key) for n, key in enumerate(keys)))
        assert [await said(client, n % 2, "kept", key=key) for n, key in enumerate(keys)] == keys


async def test_the_store_has_nothing_of_the_values_when_the_session_has_ended(fleet: Replicas) -> None:
    async with fleet.roaming() as client:
        session = client.session
        assert session is not None
        before = fleet.store.left_of(session)
        await said(client, 2, "keep", key="k", value="one")
        assert len(fleet.store.left_of(session)) > len(before)
        await client.at(1).delete()
    with anyio.fail_after(LIMIT):
        while fleet.store.left_of(session):
            await asyncio.sleep(STEP)

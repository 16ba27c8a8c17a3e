# SPDX-License-Identifier: MIT
"""A context manager that is entered in one task and left in another, and in both cases in the task that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from serving import ASYNCIO

from mcp_h11.bridge.groups import in_one_task

pytestmark = pytest.mark.anyio
LIMIT = 60  # seconds


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


async def elsewhere(job: Coroutine[Any, Any, Any]) -> Any:
    return await asyncio.wait_for(asyncio.create_task(job), LIMIT)


async def test_a_task_group_may_be_entered_and_left_in_different_tasks() -> None:
    ended = []

    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            first = asyncio.current_task()
            yield
            ended.append(asyncio.current_task() is first)
            tasks.cancel_scope.cancel()

    held = in_one_task(life())
    await elsewhere(held.__aenter__())
    assert ended == []
    await elsewhere(held.__aexit__(None, None, None))
    assert ended == [True]


async def test_a_fault_at_the_beginning_is_raised_there_and_the_body_does_not_run() -> None:
    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        raise OSError("no backend")
        yield

    ran = False
    with pytest.raises(OSError, match="no backend"):
        async with in_one_task(life()):
            ran = True
    assert not ran


async def test_a_fault_at_the_end_is_raised_there() -> None:
    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        yield
        raise OSError("it does not end")

    with pytest.raises(OSError, match="does not end"):
        async with in_one_task(life()):
            pass


async def test_an_exception_of_the_body_ends_it_in_good_order() -> None:
    ended = []

    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        yield
        ended.append(True)

    with pytest.raises(ValueError, match="of the body"):
        async with in_one_task(life()):
            raise ValueError("of the body")
    assert ended == [True]

# SPDX-License-Identifier: MIT
"""The limit of a wait for a store, beside a cancellation that is not its own."""

from __future__ import annotations

import asyncio
import sys

import pytest
from stores_support import run

from mcp_h11.stores.limits import StoreLate, limited

SOON = 0.01  # seconds


def test_a_wait_that_ran_out_is_late() -> None:
    async def test() -> None:
        with pytest.raises(StoreLate):
            await limited(asyncio.get_running_loop().create_future(), SOON)

    run(test)


def test_a_cancellation_before_the_limit_stays_one() -> None:
    async def test() -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(limited(waiting, 60.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older tasks do not count the demands to cancel")
def test_a_cancellation_at_the_moment_of_the_limit_is_not_lost() -> None:
    async def test() -> None:
        async def ends() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                task.cancel()  # as a server does that ends at this moment

        task = asyncio.ensure_future(limited(ends(), SOON))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(test)

# SPDX-License-Identifier: MIT
"""What the tests of the stores share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from mcp_h11.stores.sqlite import SQLiteStore
from mcp_h11.stores.suite_logs import check_a_log_ends_after_its_time
from mcp_h11.stores.suite_messages import check_a_worker_lives_as_long_as_it_takes
from mcp_h11.stores.suite_records import check_save_and_touch_begin_the_time_anew
from mcp_h11.stores.testing import CHECKS

LIMIT = 30.0  # seconds for anything that a test waits for
NOBODY = 65534


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function on a new loop, within a limit."""
    asyncio.run(asyncio.wait_for(test(), 3 * LIMIT))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(path: Path, worker: str = "", **options: int) -> AsyncIterator[SQLiteStore]:
    """An SQLite store that is open within the block."""
    store = SQLiteStore(path, **options)
    await store.open(worker or os.urandom(8).hex())
    try:
        yield store
    finally:
        await store.close()


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until it is so, within the limit."""

    async def looking() -> None:
        while not await look():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(looking(), LIMIT)


@contextlib.contextmanager
def without_rights() -> Iterator[Path]:
    """A directory of a user who has no special rights, which this process is within the block."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


def rows(path: Path, question: str) -> list[tuple[object, ...]]:
    """Ask the file of a store, beside the store."""
    connection = sqlite3.connect(path, timeout=LIMIT)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


# Each of them waits for three or four seconds to be over.
SLOW_CHECKS = (
    check_a_log_ends_after_its_time,
    check_a_worker_lives_as_long_as_it_takes,
    check_save_and_touch_begin_the_time_anew,
)
ALL_CHECKS = [
    pytest.param(check, id=check.__name__, marks=[pytest.mark.long] if check in SLOW_CHECKS else []) for check in CHECKS
]

# SPDX-License-Identifier: MIT
"""One answer of a store in memory comes only when a test says so; until then its worker waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from fleets import LIMIT

from mcp_h11.stores.memory import MemoryLogs, MemoryRecords


class Late:
    """Replaces an operation of a part of the store: its first answer for which `fits` holds is late.

    `fits` is asked when the operation is done, with the part and the operation's arguments.  `come` returns when that
    answer is there, and `go_on` lets the worker have it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, part: type, name: str, fits: Callable[..., bool]) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        operation = getattr(part, name)

        async def late(*arguments: Any, **options: Any) -> Any:
            answer = await operation(*arguments, **options)
            if not self.reached.is_set() and fits(*arguments, **options):
                self.reached.set()
                await self.go_on.wait()
            return answer

        monkeypatch.setattr(part, name, late)

    async def come(self) -> None:
        with anyio.fail_after(LIMIT):
            await self.reached.wait()


def late_answer(
    monkeypatch: pytest.MonkeyPatch, worker: Any, name: str, fits: Callable[[], bool] = lambda: True
) -> Late:
    """Of an operation of a worker on the record of a session."""
    of = worker.runtime.fleet.store._store.records

    def is_it(records: Any, space: str, *_: Any, **__: Any) -> bool:
        return records is of and space.endswith(" session") and fits()

    return Late(monkeypatch, MemoryRecords, name, is_it)


def late_read(monkeypatch: pytest.MonkeyPatch, fits: Callable[[str, str | None], bool]) -> Late:
    """Of `Logs.read`: `fits` is asked with the id of the stream, and the worker that is to be its reader."""

    def is_it(logs: Any, session: str, stream: str, after: Any, *, reader: str | None = None) -> bool:
        return fits(stream, reader)

    return Late(monkeypatch, MemoryLogs, "read", is_it)

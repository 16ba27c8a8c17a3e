# SPDX-License-Identifier: MIT
"""The values of a session in the store of a fleet: one record a session, changed only where it is as it was read.

Rule: no change of another worker is lost.  A change that meets one reads again and is made anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..eras.values import Edit, packed, unpacked
from ..protocol.errors import ToolError
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet
from ..stores.base import StoreError
from .fleet_times import session_times
from .streams import StreamSession

logger = escaping(logging.getLogger(__name__))

RECORDS = "session"  # the space of the records of sessions
VALUES = "value"  # and of the values that are kept in them
MAX_CHANGES = 100  # tries of one change, each of them lost to another worker's change


class FleetValues(StreamSession):
    """A session whose `get`, `set` and `delete` reach every worker."""

    __slots__ = ("values_lock",)

    fleet: Fleet
    values_lock: asyncio.Lock | None  # of this worker's changes: only workers have to compete for the record

    async def load_values(self) -> bytes:
        with _failures_told():
            record = await self.fleet.records.load(VALUES, self.key)
        return b"" if record is None else record.value

    async def change_values(self, edit: Edit) -> None:
        if self.values_lock is None:
            self.values_lock = asyncio.Lock()
        async with self.values_lock:
            with _failures_told():
                await self._change(edit)

    async def _change(self, edit: Edit) -> None:
        records, ttl = self.fleet.records, session_times(self.runtime.settings).session
        for _ in range(MAX_CHANGES):
            record = await records.load(VALUES, self.key)
            values = {} if record is None else unpacked(record.value)
            if not edit(values):
                return
            text = packed(values)
            if record is not None:
                if await records.save(VALUES, self.key, text, record.version, ttl) is not None:
                    return
            elif await records.create(VALUES, self.key, text, ttl) is not None:
                await self._check_alive()
                return
        raise StoreError("other workers changed the values each time")

    async def _check_alive(self) -> None:
        """Take a new record back where the session ended meanwhile: nothing else would."""
        # The end of a session deletes its own record first, and this one after it.
        if await self.fleet.records.load(RECORDS, self.key) is None:
            if await self.fleet.lost_data():
                return  # the session is kept anew, and its values go on from here
            await self.fleet.records.delete(VALUES, self.key)
            raise ToolError("The session has ended")


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except StoreError as exc:
        logger.warning("the values of a session are out of reach: %s", exc)
        raise ToolError("What is kept in this session is out of reach for a moment: its store is away") from None

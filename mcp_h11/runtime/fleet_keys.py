# SPDX-License-Identifier: MIT
"""The keys that a fleet shares, and the mark by which a worker sees that the store has lost its data.

The mark is a random value that the first worker keeps in the store.  A worker that finds none, another one or an older
one knows that records are gone: Redis was started again without its data, or with those of an hour ago, its keys were
deleted, or the file of SQLite was replaced.  It makes a new mark, which tells the same to all others, and keeps the
keys again: sessions and `requestState` outlive the loss only while their keys are the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable

from ..stores.base import Record, Records, StoreError
from .request_state import new_key

KEYS = "key"  # the space of the records
MARK, LOST, PRINCIPALS, STATE = "mark", "lost", "principals", "state"
MEND_TIME = 10.0  # seconds after a loss, in which workers keep their records anew: three waits for a store that hangs
MAX_HASHES = 1_024  # principals whose hash is remembered


class FleetKeys:
    """Call `look` first: it makes the keys, or takes those of the fleet.  `on_state` is called with each state key."""

    def __init__(self, records: Records) -> None:
        self.on_state: Callable[[bytes], None] = _ignore_key
        self._records = records
        self._kept: dict[str, bytes] = {}
        self._mark: Record | None = None
        self._tried = b""  # the mark that a look found which failed after that
        self.made = False  # a mark or a key, by the newest look
        self._hashes: dict[str, str] = {}
        self._looking = asyncio.Lock()  # one after the other, so that a loss is seen once

    async def look(self, set_back: str = "") -> bool:
        """Whether the store has lost its data since the last look; the first one: whether others have just seen it.

        `set_back` is the mark, as this worker knew it when it found the store set back to an earlier time.  After a
        loss the keys are in the store again.  Raises StoreError, and then the next look tells of the loss.
        """
        async with self._looking:
            known, found = self._mark, await self._records.load(KEYS, MARK)
            if known is not None and found is not None and found.value == known.value:
                if set_back != self.mark:
                    return False
                version = await self._records.save(KEYS, MARK, new := new_key(), found.version, None)
                found = None if version is None else Record(version, new)
            self.made = found is None
            mark = found if found is not None else await self._make(MARK, new_key())
            tried, self._tried = self._tried, mark.value
            for name in (PRINCIPALS, STATE):
                await self._share(name)
            if known is None:
                lost = tried not in (b"", mark.value) or await self._records.load(KEYS, LOST) is not None
            else:
                # For workers that begin now: they have known no other mark.
                await self._records.create(KEYS, LOST, b"", MEND_TIME)
                lost = True
            self._mark = mark  # not before: where something failed, the next look sees the loss again
            return lost

    async def are_kept(self) -> bool:
        """Whether the store has all keys.  Raises StoreError."""
        for name in (PRINCIPALS, STATE):
            if await self._records.load(KEYS, name) is None:
                return False
        return True

    @property
    def mark(self) -> str:
        """The mark as this worker knows it."""
        return "" if self._mark is None else self._mark.value.hex()

    async def _make(self, name: str, value: bytes) -> Record:
        """Keep a value where there is none; the record of it, or of the one that is there."""
        version = await self._records.create(KEYS, name, value, None)
        if version is not None:
            return Record(version, value)
        kept = await self._records.load(KEYS, name)
        if kept is None:
            raise StoreError("a shared key is gone as soon as it was made")
        return kept

    async def _share(self, name: str) -> None:
        """Have a key that is made once for the whole fleet.  After a loss, the first worker that keeps its own wins."""
        known = self._kept.get(name)
        kept = await self._records.load(KEYS, name)  # first, because a full store still reads
        if kept is None:
            self.made = True
            kept = await self._make(name, known or new_key())
        key = kept.value
        if key != known:
            self._kept[name] = key
            self._hashes.clear()
            if name == STATE:
                self.on_state(key)

    def hashed(self, name: str) -> str:
        """A principal as the store may know it: hashed with a key of the fleet.  Raises StoreError without the key."""
        known = self._hashes.get(name)
        if known is None:
            key = self._kept.get(PRINCIPALS)
            if key is None:
                raise StoreError("the store is away")
            if len(self._hashes) >= MAX_HASHES:
                self._hashes.clear()
            known = hmac.new(key, name.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
            self._hashes[name] = known
        return known


def _ignore_key(key: bytes) -> None:
    """Do nothing with the key: the runtime that wants it has replaced this function."""

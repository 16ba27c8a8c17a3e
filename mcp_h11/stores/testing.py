# SPDX-License-Identifier: MIT
"""The test suite that every store has to pass: that in memory, SQLite, Redis, and one of your own.

`CHECKS` are coroutine functions.  Each takes a factory, opens workers of one fleet with it, and raises AssertionError,
with the rule that was broken, where the store does something else than `stores.base` says:

    async def make() -> Store:
        return MyStore("the same place each time")  # new, not yet opened: a check opens and closes it

    for check in CHECKS:
        await check(make)

With pytest: `@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)`.

The checks use names that are random, so one place serves for all of them, one after the other.  They need the event
loop of asyncio and a clock that goes on: those about times to live wait some seconds.  A check that hangs fails after
`suite.CHECK_TIME` seconds.  The limits are filled to the brim, which takes 64 MiB in the store for a moment.

Not checked, since no protocol has an operation for it: a store that is away, full or read-only (it has to raise
StoreError within seconds and to come back by itself), and `gap` after it.
"""

from __future__ import annotations

from .suite import Make, StoreCheck
from .suite_logs import LOG_CHECKS
from .suite_messages import MESSAGE_CHECKS
from .suite_records import RECORD_CHECKS

__all__ = ("CHECKS", "StoreCheck", "Make")

CHECKS: tuple[StoreCheck, ...] = (*RECORD_CHECKS, *LOG_CHECKS, *MESSAGE_CHECKS)

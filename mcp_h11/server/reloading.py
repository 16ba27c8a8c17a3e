# SPDX-License-Identifier: MIT
"""Workers that are replaced when the code of the user has changed, for work on that code.

It is told of a change (`roll`), and differs from `Workers` in four ways:

- A replaced worker closes its idle connections at once and tells clients that its lists may have changed: the next
  request is to meet the new code.
- The next change does not wait until the calls on the old code have ended.
- A worker that cannot start waits for the next change, since nothing else will mend it.
- The messages are for the person who edits: `told` hears which step it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .child import WorkerProcess
from .workers import Workers, WorkersFailed

MOST_OLD = 3  # workers with older code that still have calls; older ones end within the grace

REPLACED, STAYS, WAITS = "replaced", "stays", "waits"


class ReloadingWorkers(Workers):
    """`Workers`; `told` is called with REPLACED, STAYS (the old code goes on) or WAITS (there is no code that runs).

    `told` returns False where waiting is of no use: the failure of the first worker then is that of the whole.
    """

    def __init__(self, *args: Any, told: Callable[[str], bool], **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = told
        self._changed = asyncio.Event()
        self._old: list[WorkerProcess] = []

    def roll(self) -> None:
        """Replace the workers, as the code has changed."""
        self._changed.set()
        super().roll()

    async def _first(self) -> WorkerProcess:
        while True:
            self._changed.clear()
            try:
                return await super()._first()
            except WorkersFailed:
                if not self._told(WAITS):
                    raise
            await self._changed.wait()

    async def _mourn(self, index: int, what: str, lived: float = 0.0, code: int = 1) -> None:
        if lived:
            await super()._mourn(index, what, lived, code)
            return
        self._changed.clear()
        self._told(WAITS)
        await self._changed.wait()

    def _tell_stays(self, old: WorkerProcess, new: WorkerProcess) -> None:
        self._told(STAYS)

    def _tell_replaced(self, old: WorkerProcess, new: WorkerProcess) -> None:
        """Say nothing yet: the old worker still accepts."""

    async def _retire(self, old: WorkerProcess) -> None:
        if old.ready:
            old.tell(do="reload")
            await old.report(metrics=False)  # its answer comes after that step, or not in time
        else:
            old.kill()
        self._told(REPLACED)
        self._old = [one for one in (*self._old, old) if not one.ended.is_set()]
        for one in self._old[:-MOST_OLD]:
            one.stop()

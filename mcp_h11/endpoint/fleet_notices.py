# SPDX-License-Identifier: MIT
"""The notices of the last seconds, for the moment in which a session's own stream moves to another worker.

Of all workers one puts notices into the stream: the last one that a client read it from.  When the client moves, a
notice may reach the new worker before that one knows of the move, and the old one after the log named the new reader,
which refuses it.  So the old worker passes such a notice on, for some seconds, and the new one takes it unless it has
put the same one in since it knows of the move.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..handler.notices import Notice
from ..runtime.runtime import Runtime

PASSING_TIME = 3.0  # seconds: more than the two that a worker waits for the store, in which a stream moves
MAX_RECENT = 256  # notices that are remembered; one that was forgotten comes twice, perhaps


class RecentNotices:
    """Remembers the order in which notices were heard.

    Their times would not do: the clock of an event loop may stand still between two callbacks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.count = 0  # notices that were heard
        self._heard: dict[Notice, int] = {}  # each with the count when it was heard last; the oldest first
        runtime.notice_listeners.append(self._remember)

    def _remember(self, notice: Notice) -> None:
        self.count += 1
        self._heard.pop(notice, None)
        self._heard[notice] = self.count
        if len(self._heard) > MAX_RECENT:
            del self._heard[next(iter(self._heard))]

    def since(self, count: int) -> Iterator[Notice]:
        """Those that were heard after so many others, the newest first."""
        for notice, at in reversed(self._heard.items()):
            if at <= count:
                return
            yield notice

# SPDX-License-Identifier: MIT
"""One event stream as a client reads it: through its cuts, with what `Last-Event-ID` and `retry` say.

It refuses events past a limit, and a `retry` that nobody would live to see.  What is no message is skipped, but its id
and `retry` count (2025-11-25 basic/transports, Sending Messages 6).

Rule: it never comes back earlier than it was told to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...http.sse import MAX_EVENT_SIZE, EventDecoder
from ...protocol.shown import escaping
from .backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

logger = escaping(logging.getLogger(__name__))

# A server that says "in an hour" or later wants nobody back.
MAX_RETRY = 3_600.0
# Whatever `retry` says: a server cannot make a client spin.
MIN_RETRY = 0.05


class EventReader:
    """What is known of one logical stream, whatever connection it comes over.

    Attributes:
        last_event_id: for `Last-Event-ID`; "" where the stream cannot be resumed.
        retry: seconds, as the server last said, or None.
    """

    def __init__(self, backoff: Backoff, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._backoff = backoff
        self._max_event_size = max_event_size

    async def read(self, pieces: AsyncIterable[bytes], deliver: Callable[[bytes], None]) -> bool:
        """Reads to the end of one connection; gives each message to `deliver`.

        Returns:
            Whether anything came that was not there before: a message, or an id that is another.

        Raises:
            SSEError: an event is too large.
            Whatever reading the pieces raises; ids and `retry` that came before it count.
        """
        decoder = EventDecoder(self._max_event_size)
        decoder.last_event_id = self.last_event_id
        try:
            async for piece in pieces:
                for event in decoder.feed(piece):
                    # Events named otherwise are not for us; "message" is what one without a name is.
                    if event.data and event.event == "message":
                        self.progressed = True
                        deliver(event.data.encode("utf-8"))
                    if event.id is not None and event.id != self.last_event_id:
                        self.progressed = True
                        self.last_event_id = event.id
        finally:
            self.last_event_id = decoder.last_event_id
            if decoder.retry is not None:
                self.retry = decoder.retry / 1000
        return self.took_progress()

    progressed = False

    def took_progress(self) -> bool:
        """Whether there was progress since this was last asked."""
        progressed, self.progressed = self.progressed, False
        return progressed

    def delay(self, failures: int) -> float | None:
        """Seconds to wait before the next connection, after so many without progress; None: do not come back.

        2025-11-25 basic/transports, Sending Messages 6: "The client MUST respect the retry field, waiting the given
        number of milliseconds before attempting to reconnect."
        """
        if self.retry is None:
            return self._backoff.delay(failures)
        if self.retry > MAX_RETRY:
            return None
        wait = max(self.retry, MIN_RETRY)
        return wait if failures == 0 else self._backoff.delay(failures - 1, at_least=wait)

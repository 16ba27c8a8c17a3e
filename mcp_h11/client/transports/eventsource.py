# SPDX-License-Identifier: MIT
"""One event stream as a client reads it: across reconnections, with the rules of `Last-Event-ID` and `retry`.

It refuses events past a limit, and a `retry` of more than an hour.  An event that is no message is skipped, but its id
and `retry` count (2025-11-25 basic/transports, Sending Messages 6).

Rule: the client never reconnects earlier than the server allows.
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

# Seconds.  A server with a longer `retry` does not want its clients back.
MAX_RETRY = 3_600.0
# Seconds, even if `retry` is 0: no server can make a client reconnect in a tight loop.
MIN_RETRY = 0.05


class EventReader:
    """The state of one stream that may come over several connections.

    Attributes:
        last_event_id: the value for `Last-Event-ID`; "" if the stream cannot be resumed.
        retry: seconds, as the server last gave them, or None.
    """

    def __init__(self, backoff: Backoff, max_event_size: int = MAX_EVENT_SIZE) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._backoff = backoff
        self._max_event_size = max_event_size

    async def read(self, pieces: AsyncIterable[bytes], deliver: Callable[[bytes], None]) -> bool:
        """Reads one connection to its end, and gives the data of each message to `deliver`.

        Exceptions from reading the pieces pass through.  Ids and `retry` that came before them count.

        Returns:
            Whether there was progress: a message, or a new event id.

        Raises:
            SSEError: an event is too large.
        """
        decoder = self._decoder()
        try:
            async for piece in pieces:
                self._feed(decoder, piece, deliver)
        finally:
            self._noted(decoder)
        return self.took_progress()

    def read_whole(self, body: bytes, deliver: Callable[[bytes], None]) -> None:
        """As `read`, of a connection whose bytes are all here; `took_progress` says whether there was progress."""
        decoder = self._decoder()
        try:
            self._feed(decoder, body, deliver)
            self._feed(decoder, b"", deliver)  # raises for an event that was too large, after those before it
        finally:
            self._noted(decoder)

    def _decoder(self) -> EventDecoder:
        decoder = EventDecoder(self._max_event_size)
        decoder.last_event_id = self.last_event_id
        return decoder

    def _feed(self, decoder: EventDecoder, piece: bytes, deliver: Callable[[bytes], None]) -> None:
        for event in decoder.feed(piece):
            # MCP uses only events of type "message", which is also the type of an event without one.
            if event.data and event.event == "message":
                self.progressed = True
                deliver(event.data.encode("utf-8"))
            if event.id is not None and event.id != self.last_event_id:
                self.progressed = True
                self.last_event_id = event.id

    def _noted(self, decoder: EventDecoder) -> None:
        self.last_event_id = decoder.last_event_id
        if decoder.retry is not None:
            self.retry = decoder.retry / 1000

    progressed = False

    def took_progress(self) -> bool:
        """Whether there was progress since this was last asked."""
        progressed, self.progressed = self.progressed, False
        return progressed

    def delay(self, failures: int) -> float | None:
        """Seconds to wait after this many connections without progress.  None: do not reconnect.

        2025-11-25 basic/transports, Sending Messages 6: "The client MUST respect the retry field, waiting the given
        number of milliseconds before attempting to reconnect."
        """
        if self.retry is None:
            return self._backoff.delay(failures)
        if self.retry > MAX_RETRY:
            return None
        wait = max(self.retry, MIN_RETRY)
        return wait if failures == 0 else self._backoff.delay(failures - 1, at_least=wait)

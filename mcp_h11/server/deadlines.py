# SPDX-License-Identifier: MIT
"""The phases of a connection, and how long each may last.

A connection that takes too long ends, since it holds a descriptor and memory that other clients need.  Two phases have
no fixed length: a body may take longer the more of it arrives, and an answer may take as long as its reader goes on
reading.

Rule: this module decides, and `Connection.tick` acts.  It has times and counts of bytes, and no transport and no clock.
"""

from __future__ import annotations

from math import inf

from ..runtime.settings import Settings

# A client must be able to read a refusal.  Most clients read nothing before they have written their whole body, so the
# server reads and drops the rest of the body for a moment.  The limit of bytes is above the usual body, because dropped
# bytes cost no memory.
LINGER_TIME = 1.0  # seconds
LINGER_BYTES = 8 * 1024 * 1024

# In order: a connection never reads a request again from LINGERING on.
NEW = 0  # nothing has arrived
HEAD = 1  # the head of a request is arriving
BODY = 2  # the head was accepted, and the body is arriving
ANSWERING = 3  # a request is with the endpoint: its time is limited there, by call and not by connection
IDLE = 4  # an answer has been given, and nothing has arrived since
LINGERING = 5  # the last answer has been given, and arriving bytes are dropped
CLOSING = 6  # the transport sends the rest of its bytes, and then closes
LOST = 7  # the transport is closed


def time_limit(phase: int, settings: Settings) -> float | None:
    """Seconds that a phase may last; None for no limit."""
    if phase == IDLE:
        return settings.idle_timeout
    if phase == NEW:
        return settings.first_byte_timeout
    if phase == HEAD:
        return settings.head_timeout
    if phase == BODY:
        return settings.body_timeout
    # A closing plain connection is gone at once.  A TLS connection waits until the peer confirms the close.
    return LINGER_TIME if phase == LINGERING else settings.write_timeout


class Deadlines:
    """The times of one connection.

    `since`: the loop's time at which its phase began, or counts as begun; of ANSWERING, that of the last write.
    """

    __slots__ = ("_credited", "_stalled", "_taken", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        self._credited = 0  # bytes of the arriving body that have extended its time already
        self._taken = -1  # bytes that had left the transport at the last tick
        self._stalled = 0.0  # time of the last tick at which more bytes had left

    def begin_body(self, now: float) -> None:
        """A body begins to arrive."""
        self.since, self._credited = now, 0

    def credit(self, now: float, received: int, rate: float | None) -> None:
        """Extend the time of a body by the bytes of it that have arrived; `rate` is in bytes a second.

        The start is never set later than now, so a peer that stops sending has at most `body_timeout` left.
        """
        if rate is not None:
            self.since = min(now, self.since + (received - self._credited) / rate)
            self._credited = received

    def is_over(self, now: float, phase: int, settings: Settings) -> bool:
        """Whether the phase has lasted as long as it may."""
        limit = time_limit(phase, settings)
        return limit is not None and now - self.since >= limit

    def next_look(self, now: float, phase: int, settings: Settings, received: int) -> float | None:
        """The time at which the phase may be over; None where it is.  `received` counts the bytes of a body."""
        if phase == BODY:
            self.credit(now, received, settings.min_body_rate)
        if self.is_over(now, phase, settings):
            return None
        # The time of a body is reckoned at each tick, so that bytes which came fast save up no time.
        return now if phase == BODY else self.since + (time_limit(phase, settings) or inf)

    def is_stalled(self, now: float, taken: int, limit: float | None) -> bool:
        """Whether a reader of an answer has taken nothing for `limit` seconds.

        `taken` counts all bytes that have left the transport.  Ask at each tick at which bytes wait to leave.
        """
        if taken != self._taken:
            self._taken, self._stalled = taken, now
            return False
        return limit is not None and now - self._stalled >= limit

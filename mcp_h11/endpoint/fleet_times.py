# SPDX-License-Identifier: MIT
"""How long the store of a fleet keeps what belongs to a session.

Rule: nothing of a session ends before the session does.  A worker tells the store of a use only at its next round, so
each time to live is that of the session and two rounds more.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..runtime.settings import Settings
from .session_stores import TOUCH_EVERY

FOREVER = 10 * 365 * 86_400.0  # for a server without `session_idle`
LOG_OF_FOREVER = 86_400.0  # there, for a log that no worker ended
CHANNEL_TTL = 4 * TOUCH_EVERY  # of the record of an HTTP+SSE session, which ends with its stream or its worker


class SessionTimes(NamedTuple):
    """Seconds."""

    touch_every: float  # between two rounds, in which a worker tells the store of the sessions in use
    session: float  # its record, and the values that are kept in it
    first: float  # its record, until the client has finished its handshake
    log: float  # the events of one of its streams


def session_times(settings: Settings) -> SessionTimes:
    """The times for these settings."""
    idle, initialize = settings.session_idle, settings.session_initialize
    touch_every = min(TOUCH_EVERY, min(idle or math.inf, initialize or math.inf) / 4)
    session = FOREVER if idle is None else idle + 2 * touch_every
    first = session if initialize is None else initialize + 2 * touch_every
    return SessionTimes(touch_every, session, first, LOG_OF_FOREVER if idle is None else session)

# SPDX-License-Identifier: MIT
"""The members of a session that its streams use, on a worker of a fleet.

`fleet_session.FleetSession` derives from it.  It stands apart so that the streams need not know the sessions that make
them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..protocol.errors import overloaded
from ..protocol.revisions import Revision
from ..protocol.shown import escaping
from ..runtime.fleet import Fleet, key_of
from ..runtime.runtime import Runtime
from ..runtime.storage import SessionState
from ..stores.base import Full, StoreError
from .fleet_notices import PASSING_TIME, RecentNotices
from .fleet_times import session_times
from .fleet_values import FleetValues
from .streams import Stream, StreamSession

logger = escaping(logging.getLogger(__name__))


class SharingSession(FleetValues):
    """A session that other workers serve as well, as its streams see it."""

    __slots__ = (
        "ending", "fleet", "home", "initialized", "keeps_notices", "key", "late_claims", "leaving", "log_ttl", "saved",
        "keeps_since", "left_to", "lost_version",
        "recent", "unsaved_streams", "version",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, fleet: Fleet, state: SessionState, revision: Revision) -> None:
        StreamSession.__init__(self, runtime, state, revision, None)
        self.fleet = fleet
        self.key = key_of(state.id)  # the session's name in the store and among the workers
        self.values_lock = None
        self.leaving = False  # this worker ends, and the session goes on elsewhere
        self.ending = False  # its record is being deleted, here or at another worker
        # Of all workers one puts notices into the session's own stream: the last one that a client read it from.
        self.keeps_notices = state.home == fleet.worker
        self.version = 0  # of the record; 0 where the store has none
        self.lost_version = 0  # of the record that the store has lost
        self.initialized = False  # the client has said so, to any worker
        self.recent: RecentNotices | None = None  # of this worker
        self.keeps_since = 0  # how many notices this worker had heard when it came to know that it puts them in
        self.left_to = "", 0.0  # the worker that does so now, and until when this one passes notices on to it
        self.home = state.home
        self.saved: tuple[frozenset[str], str] = (frozenset(), "")  # subscriptions and log level in the record
        self.unsaved_streams: dict[Any, None] = {}  # that have events which their logs have not got
        self.late_claims: dict[str, None] = {}  # ids of streams: see `read_elsewhere`
        self.log_ttl = session_times(runtime.settings).log

    @property
    def own_stream(self) -> Any:
        """The session's own stream, if it was used."""
        return self._standalone

    def know(self, stream: Stream) -> None:
        """Let a stream be found by its id.

        A request may have resumed it before this worker knew that the session's own stream has this id; then the
        client comes back.
        """
        other = self.streams.get(stream.id)
        self.streams[stream.id] = stream
        if other is not None and other is not stream:
            other.take_over()

    @property
    def is_owned(self) -> bool:
        return self.state.pinned and self.home == self.fleet.worker

    def read_elsewhere(self, stream_id: str) -> None:
        """The log of a stream names this worker as its reader, which does not read it.

        It asked for the stream, gave the wait for the store up, and was heard late: perhaps after the true reader.
        """
        if stream_id in self.late_claims:
            self.fleet.signal("events", session=self.key, stream=stream_id, passed=True)

    def leave_notices(self, worker: str, untold: Iterable[tuple[bytes, Sequence[str]]]) -> None:
        """Another worker puts them into the session's own stream from now on, also those that are `untold` here."""
        for payload, names in untold:
            self.pass_on(worker, payload, names)
        if self.keeps_notices:
            self.keeps_notices = False
            self.left_to = worker, self.runtime.loop.time() + PASSING_TIME

    def pass_on(self, worker: str, payload: bytes, names: Iterable[str]) -> None:
        """Give a notice to the worker that puts it in."""
        self.fleet.signal("passed", worker, session=self.key, notice=payload.decode(), names=[*names])

    def take_passed(self, payload: bytes, names: Sequence[str]) -> None:
        """A notice that reached another worker, which no longer puts it in."""
        here = [] if self.recent is None or not self.keeps_notices else [*self.recent.since(self.keeps_since)]
        known = {notice.name for notice in here if notice.name}  # this worker puts these in; the log would refuse them
        # A notice without a name is of a worker's own backend, and another worker's backend may say the like.
        if "" in names and any(self.told(notice) == payload for notice in here):
            known.add("")
        left = [name for name in names if name not in known]
        if left:
            self.standalone.post(payload, *left)

    def leave(self) -> None:
        # The logs of calls that are cancelled now stay open, so that a reader sees the writer gone and ends them with
        # an error.
        self.leaving = True

    def announce_changes(self) -> None:
        """Tell the client that every list may have changed: notices may have been lost with a worker."""
        raise NotImplementedError


@contextmanager
def store_is_near() -> Iterator[None]:
    """Raises `overloaded` where the store is away."""
    try:
        yield
    except Full:
        raise overloaded("Too many messages wait for another worker") from None
    except StoreError as exc:
        logger.warning("a message did not reach its worker: %s", exc)
        raise overloaded("The store of the sessions is away") from None

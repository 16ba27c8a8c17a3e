# SPDX-License-Identifier: MIT
"""The four protocols of a store that workers share, and the errors that they raise.

A *worker* is one process with one event loop and one server.  A *fleet* is all workers that share a store.  One object,
a `Store`, is opened and closed with its server and has four parts:

- `Records` keeps small values, each with a version and a time to live.
- `Logs` keeps the events of streams.  An event has an index, and no index is taken twice.
- `Inbox` carries messages to one worker; none is lost that `put` accepted while that worker lives.
- `Bus` tells the other workers something now; a message may be lost, and then every subscriber hears of the gap.

Call `open` first.  Every operation may suspend, and raises `StoreError` where the store cannot do it: it is away, full
or read-only.  Hold an implementation of your own against `stores.testing`.

Rule: a store reads no value and makes no id.  Times to live are seconds from now, by the clock of the store: the clocks
of two workers may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

MAX_LOG_EVENTS = 256  # of one stream
MAX_LOG_BYTES = 1024 * 1024  # of one stream, with the overhead of its events
MAX_INBOX_MESSAGES = 10_000  # that wait for one worker
MAX_INBOX_BYTES = 64 * 1024 * 1024
# One client's share of an inbox.  A worker takes its messages within milliseconds, and counts as dead when it has not
# done so for ALIVE_TIME: a client that waits for its answers does not come near.
MAX_PARTY_MESSAGES = 2_000
MAX_PARTY_BYTES = 16 * 1024 * 1024
MAX_BUS_BYTES = 1024 * 1024  # of one message on the bus
LOG_EVENT_OVERHEAD = 120  # bytes that one kept event counts beside its own, so that empty events are not free
ALIVE_TIME = 4.0  # seconds after its last heartbeat, a worker counts as dead; a dead one is noticed in under 6
BEAT_EVERY = 1.0  # seconds between two heartbeats


class StoreError(Exception):
    """The store cannot do this now: it is away, full, locked or read-only."""


class StoreRefused(StoreError):
    """`open` refuses this store: another program's file, or another version's.  Nothing in it was changed."""


class Full(StoreError):
    """One more would be more than the limit that the caller named allows."""

    def __init__(self, group: bool = False) -> None:
        super().__init__("the group is full" if group else "the space is full")
        self.group = group  # it is the limit of the group, not that of the space


class Taken(StoreError):
    """An event with this index is there already, or the log has ended, or it was discarded."""


class Repeated(Taken):
    """The log has an event with this name."""


class Record(NamedTuple):
    """A value and its version.  Versions of one record rise; `Records.save` needs the one that was read.

    A record that is created with the key of an old one has none of the old versions: a late `save` must not hit it.
    """

    version: int
    value: bytes


class Tail(NamedTuple):
    """The events of a log after an index, and the state of the log at the same moment."""

    events: list[tuple[int, bytes]]  # (index, data), in order
    last: int  # the index of the newest event; 0 before the first
    finished: bool  # no event follows
    writer: str  # the worker that appends; "" where several workers do
    about: bytes  # as `Logs.open` was given it
    reader: str  # the reader that was set before this read; "" where there was none


class Records(Protocol):
    """Small values by (space, key).  A space is a name of the package's own; a key may come from a client.

    A record ends when its time to live is over, and begins it anew with each `save` and `touch`.
    """

    async def create(
        self,
        space: str,
        key: str,
        value: bytes,
        ttl: float | None,
        *,
        group: str = "",
        limit: int | None = None,
        group_limit: int | None = None,
    ) -> int | None:
        """Keep a new record and return its version; None where there is one with this key.

        `limit` bounds the records of the space, `group_limit` those of one group of it.  Raises Full.
        """
        ...

    async def load(self, space: str, key: str) -> Record | None:
        """The record, or None where there is none or its time is over."""
        ...

    async def save(self, space: str, key: str, value: bytes, version: int, ttl: float | None) -> int | None:
        """Replace a record that still has this version, and return the new version; None where it has not."""
        ...

    async def touch(self, space: str, keys: Sequence[str], ttl: float) -> None:
        """Begin the time to live of many records anew; ignores those that are gone."""
        ...

    async def delete(self, space: str, key: str) -> bool:
        """Forget a record; False where there was none."""
        ...

    async def oldest(self, space: str, group: str | None, idle: float) -> str | None:
        """The key that was not created, saved or touched for longest, if that is at least `idle` seconds.

        With a group, the oldest of that group.
        """
        ...

    async def count(self, space: str) -> int:
        """How many records of the space are alive."""
        ...


class Logs(Protocol):
    """The events of streams, each under (session, stream, index).

    A log begins with `open`.  It keeps its newest events: at most MAX_LOG_EVENTS, and MAX_LOG_BYTES with
    LOG_EVENT_OVERHEAD for each, but always the newest one.  A log ends with its session (`discard`), when its time to
    live is over, or `ttl` seconds after its last event.
    """

    async def open(
        self, session: str, stream: str, ttl: float, *, writer: str = "", about: bytes = b"", after: int = 0
    ) -> None:
        """Begin a log.  Does nothing where it exists: two workers may open a log that both write.

        Its first event has the index `after` + 1: the log goes on where one ended that a store has lost.
        """
        ...

    async def append(
        self,
        session: str,
        stream: str,
        index: int,
        data: bytes,
        *,
        last: bool = False,
        reader: str | None = None,
        name: str = "",
    ) -> str:
        """Keep event `index`, which must be one more than the newest; `last` ends the log.

        Returns the reader, as the last `read` with a reader set it, so that the writer knows which worker to tell.
        With `reader`, only while the log has no other reader than this one.  Raises Taken.

        `name` is the event's name, if it has one: several workers may append the same event, and the first one does.
        Raises Repeated where the log still has an event of this name, and would have taken this one otherwise.
        """
        ...

    async def extend(
        self, session: str, stream: str, index: int, events: Sequence[bytes], *, last: bool = False
    ) -> str:
        """Keep several events in one step, of which the first is event `index`: all of them, or none.

        `last` ends the log with the last one.  Returns the reader, and raises Taken, as `append` does.
        """
        ...

    async def read(self, session: str, stream: str, after: int | None, *, reader: str | None = None) -> Tail:
        """The events after index `after`, or all that are left where it is None.

        With `reader`, the log has that reader from the same moment on.  Raises `protocol.errors.EventsExpired` where
        the log is not known, or an event after `after` is no longer there, or `after` is beyond the newest event.
        """
        ...

    async def finish(self, session: str, stream: str, ttl: float) -> None:
        """End a log where it has not ended, and keep it `ttl` seconds more; ignores one that is not known."""
        ...

    async def touch(self, names: Sequence[tuple[str, str]], ttl: float) -> None:
        """Begin the time to live of logs that have not ended anew: (session, stream) each."""
        ...

    async def discard(self, session: str, stream: str | None = None) -> None:
        """Forget one log, or all of a session."""
        ...


class Inbox(Protocol):
    """Messages to one worker.  They arrive in the order in which they were put."""

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        """Put a message into a worker's inbox; False where that worker is not alive.

        `party` names the client that it comes from; "" where it comes from none.  Raises Full where MAX_INBOX_MESSAGES
        or MAX_INBOX_BYTES wait there; and with `group`, where MAX_PARTY_MESSAGES or MAX_PARTY_BYTES of this party do.
        """
        ...

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        """Write the heartbeat of the own worker, then wait at most `wait` seconds for messages.

        Returns (receipt, message) each, and each message once.  It counts in the limits until its receipt is
        acknowledged.  The heartbeat is written here and nowhere else, so that a worker whose loop does not take its
        messages counts as dead.
        """
        ...

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        """These messages are done with."""
        ...

    async def workers(self) -> list[str]:
        """The workers that are alive, the own one among them once it has taken from its inbox."""
        ...


class Bus(Protocol):
    """Messages that are worth something now or not at all."""

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        """Call `heard` on the loop with each message, and `gap` after a time in which messages may have been lost.

        Call it once, before `Store.open`.  The own messages do not come back.
        """
        ...

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        """Tell one worker, or all others; a worker that is not there is ignored.

        Raises ValueError for a message of more than MAX_BUS_BYTES.
        """
        ...


class Store(Protocol):
    """Everything that the workers of one fleet share."""

    @property
    def records(self) -> Records:
        """Small values."""
        ...

    @property
    def logs(self) -> Logs:
        """The events of streams."""
        ...

    @property
    def inbox(self) -> Inbox:
        """The inbox of this worker, and the way to those of the others."""
        ...

    @property
    def bus(self) -> Bus:
        """The bus."""
        ...

    async def open(self, worker: str) -> None:
        """Begin as this worker, whose id is random and new.  Raises StoreRefused and StoreError."""
        ...

    async def close(self) -> None:
        """End: the own inbox and heartbeat go at once.  Does nothing a second time."""
        ...

    def statistics(self) -> dict[str, float]:
        """Numbers of the implementation for the metrics page, by name; may be empty.

        `bytes` is what the store takes now.  All others are counts of what happened, which never go down:
        `reconnections`, for example.  A name is of small letters and underscores.
        """
        ...

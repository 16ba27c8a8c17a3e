# SPDX-License-Identifier: MIT
"""Things that wait beside a stream: notices for their reader, and events for the store while that is away.

`streams` and `fleet_logs` keep them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..http.reply import Reply

MAX_PENDING_NAMES = 32  # of changes that one waiting notice tells of


class Pending:
    """A notice that waits for its reader, with the names of the changes that it is to tell of.

    Workers of a fleet know a change by its name.  "" is a change without one; then the notice goes without a name.
    """

    __slots__ = ("names",)

    def __init__(self, names: Iterable[str]) -> None:
        self.names: dict[str, None] = dict.fromkeys(names)  # the oldest first, without those that are in the log

    def join(self, names: Iterable[str]) -> None:
        """Tell of more changes."""
        self.names.update(dict.fromkeys(names))
        if len(self.names) > MAX_PENDING_NAMES:
            self.names = {"": None}  # it may come once more than needed

    @property
    def name(self) -> str:
        """The name under which it goes into the log."""
        return "" if "" in self.names else next(iter(self.names), "")

    def drop(self, names: Iterable[str]) -> None:
        """The log tells of these changes."""
        for name in names:
            self.names.pop(name, None)

    def taken(self) -> Pending:
        """A notice that tells of the same changes in the place of this one."""
        other = Pending(self.names)
        self.names.clear()
        return other


def untold(pending: dict[bytes, Pending]) -> list[tuple[bytes, list[str]]]:
    """Of notices that no longer wait for a reader, those that are to tell of changes which the log lacks.

    A client may read a notice at another worker, before the newest change for which it was not sent again here.
    """
    left = [(payload, [name for name in one.names if name]) for payload, one in pending.items()]
    return [(payload, names) for payload, names in left if names]


class Unsaved(NamedTuple):
    """An event that the log has not got yet."""

    number: (
        int  # its index; in a stream of several writers: the index at which it may be, because its append failed; or 0
    )
    payload: bytes
    last: bool
    notice: Pending | None  # as `LoggedStream._append` takes it
    reader: Reply | None  # the connection that was given it, in a stream of several writers

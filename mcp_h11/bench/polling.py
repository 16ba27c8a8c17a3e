# SPDX-License-Identifier: MIT
"""Waits for many sockets: `epoll` where the system has it, else `selectors`, with one interface.

`epoll` is used as it is, because `selectors` adds some microseconds to each answer, and a generator that is slower than
the server measures itself.  macOS waits by kqueue, Windows by `select`, which takes 512 sockets there.
"""

from __future__ import annotations

import select
import selectors
from typing import Any, Protocol

READABLE, WRITABLE = 1, 4  # the numbers of EPOLLIN and EPOLLOUT


class Poll(Protocol):
    """The part of `select.epoll` that the driver uses.  `poll` gives descriptors with READABLE, WRITABLE or both."""

    def register(self, fd: int, eventmask: int, /) -> None: ...

    def modify(self, fd: int, eventmask: int, /) -> None: ...

    def unregister(self, fd: int, /) -> None: ...

    def poll(self, timeout: float, /) -> list[tuple[int, int]]: ...

    def close(self) -> None: ...


class SelectorPoll:
    """The same for systems without `epoll`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        self._selector.register(fd, _events(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._selector.modify(fd, _events(eventmask))

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        found = self._selector.select(timeout)
        return [
            (key.fd, (READABLE if events & selectors.EVENT_READ else 0) | (WRITABLE if events & ~1 else 0))
            for key, events in found
        ]

    def close(self) -> None:
        self._selector.close()


def _events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & READABLE else 0) | (selectors.EVENT_WRITE if mask & WRITABLE else 0)


def open_poll() -> Poll:
    """The best that this system has.  Call `close` in the end."""
    epoll: Any = getattr(select, "epoll", None)
    found: Poll = SelectorPoll() if epoll is None else epoll()
    return found

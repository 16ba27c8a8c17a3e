# SPDX-License-Identifier: MIT
"""Which connection a turn of asyncio's loop reads first: of many, the one that the last turn did not read.

The kernel reports those of the turn before first, since it keeps what it has reported at the head of its list.  A
connection that had its answer a moment ago is then read again before others that have waited for the whole turn.  At
100 connections that are always busy, one request in a hundred waited for 180 others, where 100 are fair.

On Linux the selector is our own, straight on epoll: each read and each new connection passes it, and the standard
library's takes twice the steps, since it serves all systems.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator, Mapping
from math import ceil
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, DefaultSelector, SelectorKey
from typing import Any

FEW_READY = 8  # descriptors that a turn reads in any order: the last of them waits for little


class TurnOrder:
    """The order of the descriptors that are ready in one turn: those that the last turn read come last, as it did."""

    def __init__(self) -> None:
        self._last: dict[int, None] = {}  # of the last turn with many, in the order in which they were read

    def order(self, ready: dict[int, Any]) -> dict[int, Any]:
        """`ready`, by descriptor, in the order of this turn: for a turn with more than `FEW_READY`."""
        last = self._last
        ordered = {fd: one for fd, one in ready.items() if fd not in last}
        for fd in last:
            if fd in ready:
                ordered[fd] = ready[fd]
        self._last = dict.fromkeys(ordered)
        return ordered


class FairSelector(DefaultSelector):
    """The system's selector, in that order."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = TurnOrder()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        ready = DefaultSelector.select(self, timeout)
        if len(ready) <= FEW_READY:
            return ready
        by_fd: dict[int, list[tuple[SelectorKey, int]]] = {}
        for one in ready:  # kqueue tells of reading and of writing apart
            by_fd.setdefault(one[0].fd, []).append(one)
        return [one for told in self._turns.order(by_fd).values() for one in told]


class _Registered(Mapping[Any, SelectorKey]):
    """The keys of a selector, by descriptor or by the object that has it: asyncio asks for both."""

    def __init__(self, keys: dict[int, SelectorKey]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def get(self, fileobj: Any, default: Any = None) -> Any:
        if isinstance(fileobj, int):
            return self._keys.get(fileobj, default)
        fd = fileobj.fileno()
        if fd >= 0:
            return self._keys.get(fd, default)
        return next((key for key in self._keys.values() if key.fileobj is fileobj), default)  # it was closed

    def __getitem__(self, fileobj: Any) -> SelectorKey:
        key: SelectorKey | None = self.get(fileobj)
        if key is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return key


if hasattr(select, "epoll"):
    _READ, _WRITE = select.EPOLLIN, select.EPOLLOUT
    _MASKS = {EVENT_READ: _READ, EVENT_WRITE: _WRITE, EVENT_READ | EVENT_WRITE: _READ | _WRITE}

    def _mask(events: int) -> int:
        mask = _MASKS.get(events)
        if mask is None:
            raise ValueError(f"Invalid events: {events!r}")
        return mask

    def _descriptor(fileobj: Any) -> int:
        fd = fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")
        return fd

    class EpollSelector(BaseSelector):
        """epoll, in that order; `selectors` documents the methods."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._keys: dict[int, SelectorKey] = {}
            self._map = _Registered(self._keys)
            self._turns = TurnOrder()

        def fileno(self) -> int:
            return self._epoll.fileno()

        def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
            fd = _descriptor(fileobj)
            if fd in self._keys:
                raise KeyError(f"{fileobj!r} is registered already")
            self._epoll.register(fd, _mask(events))
            key = self._keys[fd] = SelectorKey(fileobj, fd, events, data)
            return key

        def unregister(self, fileobj: Any) -> SelectorKey:
            fd = fileobj if isinstance(fileobj, int) else self.get_key(fileobj).fd
            key = self._keys.pop(fd, None)
            if key is None:
                raise KeyError(f"{fileobj!r} is not registered")
            try:
                self._epoll.unregister(fd)
            except OSError:  # it was closed before
                pass
            return key

        def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
            known = self.get_key(fileobj)
            fd = known.fd
            if events != known.events:
                try:
                    self._epoll.modify(fd, _mask(events))
                except OSError:  # it was closed before, and the next file with its number is another one
                    del self._keys[fd]
                    raise
            key = self._keys[fd] = SelectorKey(known.fileobj, fd, events, data)
            return key

        def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
            if timeout is None:
                timeout = -1
            elif timeout <= 0:
                timeout = 0
            else:
                timeout = ceil(timeout * 1e3) * 1e-3  # epoll counts milliseconds; never too early
            keys = self._keys
            found = self._epoll.poll(timeout, len(keys) or 1)
            if len(found) > FEW_READY:
                by_fd = dict(found)
                if len(by_fd) < len(found):  # a file was closed, lives on in a forked process, and its number is in use
                    by_fd = {}
                    for fd, event in found:
                        by_fd[fd] = by_fd.get(fd, 0) | event
                found = [*self._turns.order(by_fd).items()]
            ready = []
            for fd, event in found:
                key = keys.get(fd)
                if key is None:
                    continue
                if event == _READ:
                    ready.append((key, EVENT_READ))
                else:
                    events = EVENT_WRITE * bool(event & ~_READ) | EVENT_READ * bool(event & ~_WRITE)
                    ready.append((key, events & key.events))
            return ready

        def get_map(self) -> Mapping[Any, SelectorKey]:
            return self._map

        def get_key(self, fileobj: Any) -> SelectorKey:
            return self._map[fileobj]

        def close(self) -> None:
            self._epoll.close()
            self._keys.clear()


def fair_loop() -> asyncio.AbstractEventLoop:
    """A loop as asyncio makes it; where that is its own selector loop, it reads in a fair order."""
    loop = asyncio.new_event_loop()
    if type(loop) is asyncio.SelectorEventLoop:  # not that of another package, or of Windows
        # The loop itself stays: the program's policy may have given it a handler of errors or a task factory.
        own: Any = loop
        fair = EpollSelector() if hasattr(select, "epoll") else FairSelector()
        for key in own._selector.get_map().values():
            fair.register(key.fileobj, key.events, key.data)
        own._selector.close()
        own._selector = fair
    return loop

# SPDX-License-Identifier: MIT
"""A turn of an event loop, and the connections that are written in it, for tests of the outbox and of bursts."""

from __future__ import annotations

from typing import Any


class Loop:
    """A turn with so many callbacks left; what is scheduled is one more."""

    def __init__(self) -> None:
        self.ready: list[Any] = []
        self.now = 5.0

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Any) -> None:
        self.ready.append(callback)


class Sender:
    """A connection that notes its writes in a log, or is broken."""

    def __init__(self, log: list[tuple[str, bytes]], name: str, broken: bool = False) -> None:
        self.held = b""
        self.log = log
        self.name = name
        self.broken = broken

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.log.append((self.name, data))

    write_events = write

    def abort(self) -> None:
        self.log.append((self.name, b"aborted"))

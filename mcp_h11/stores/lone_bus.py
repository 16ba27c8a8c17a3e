# SPDX-License-Identifier: MIT
"""The bus of a worker that has its store for itself: no other worker is there to be told anything."""

from __future__ import annotations

from collections.abc import Callable

from .base import MAX_BUS_BYTES, StoreError


class LoneBus:
    """As `local_bus.LocalBus`, for one worker.  `woken` is called when messages lie in its inbox."""

    lost = 0  # messages: none was ever sent

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._worker: str | None = None

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        """Neither is ever called."""

    async def open(self, worker: str) -> None:
        """Begin as this worker."""
        self._worker = worker

    async def close(self) -> None:
        """End.  Does nothing a second time."""
        self._worker = None

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        """Tell no worker.  Raises ValueError for a message that is too long."""
        if len(message) > MAX_BUS_BYTES:
            raise ValueError(f"a message on the bus has at most {MAX_BUS_BYTES} bytes")
        if self._worker is None:
            raise StoreError("the store is not open")

    def wake(self, worker: str) -> None:
        """A message lies in the inbox of a worker."""
        if worker == self._worker:
            self._woken()

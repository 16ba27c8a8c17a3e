# SPDX-License-Identifier: MIT
"""A worker as its parent sees it: a process, the other end of its channel, and when another one is started for it.

`worker` has the messages.  It decides nothing: `workers` does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

WAIT_JITTER = 0.25  # the waits are longer by up to this share, so that workers that ended together start apart
REPORT_TIME = 2.0  # seconds for the report of one worker
# Bytes of one message: 400 histograms of 17 lines take 1.5 MB.
MAX_CHANNEL_LINE = 8 * 1024 * 1024


class Restarts:
    """When a worker is started again: after 1 s, and twice as long each time, up to 30 s."""

    def __init__(self, first: float, most: float, stable: float) -> None:
        self.ends = 0  # in a row
        self._first, self._most, self._stable = first, most, stable

    def ended(self, lived: float) -> float:
        """A worker has ended that was ready for `lived` seconds.  Returns the seconds until the next start."""
        self.ends = 1 if lived >= self._stable else self.ends + 1
        wait = self._first * 2.0 ** min(self.ends - 1, 30)
        return min(wait * (1 + WAIT_JITTER * random.random()), self._most)


class WorkerProcess:
    """A worker as its parent sees it.

    Attributes:
        index: its number; the worker that takes its place has the same.
        changed: set when it becomes ready, and when it ends.
        over: set when it ends, or another one has its place.
        since: when it became ready; None before.
        name: the name of its server, once it is ready.
        metrics: the last that it told.
        reading: the task that reads its messages.
    """

    def __init__(self, index: int, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self.index = index
        self.process = process
        self.changed = asyncio.Event()
        self.ended = asyncio.Event()
        self.over = asyncio.Event()
        self.since: float | None = None
        self.name = ""
        self.metrics = ""
        self.reading: asyncio.Task[None]
        self.reaped = False
        self._channel = channel
        self._writer: asyncio.StreamWriter | None = None
        self._asks = 0
        self._asked: dict[int, asyncio.Future[dict[str, Any] | None]] = {}

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ready(self) -> bool:
        """Whether it has begun to accept, and has not ended."""
        return self.since is not None and not self.ended.is_set()

    @property
    def code(self) -> int:
        """The exit code, once it has ended."""
        return self.process.returncode or 0

    async def listen(self, asks: Callable[[WorkerProcess], object]) -> None:
        """Read its messages until it ends; `asks` is called when it wants the metrics of all workers."""
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=MAX_CHANNEL_LINE)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                if "ready" in message:
                    self.name, self.since = message["ready"], time.monotonic()
                    self.changed.set()
                elif "report" in message:
                    self._answered(message["ask"], message["report"])
                elif "last" in message:
                    self.metrics = message["last"]["metrics"] or self.metrics
                else:
                    asks(self)
        except OSError as exc:
            # A worker that ends before it has read all lines resets the channel.  That is no error beside its end.
            logger.debug("the channel of worker %d has ended: %s", self.pid, exc)
            self.kill()
        except ValueError as exc:
            logger.error("worker %d cannot be understood and ends: %s", self.pid, exc)
            self.kill()
        finally:
            self._writer.close()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_result(None)

    def _answered(self, number: int, report: dict[str, Any]) -> None:
        self.metrics = report["metrics"] or self.metrics
        waiting = self._asked.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(report)

    async def report(self, metrics: bool) -> dict[str, Any] | None:
        """Its state of this moment; None where it does not answer, since its loop is stuck, or it is not ready."""
        if not self.ready:
            return None
        number = self._asks = self._asks + 1
        waiting = self._asked[number] = asyncio.get_running_loop().create_future()
        self.tell(ask=number, metrics=metrics)
        try:
            return await asyncio.wait_for(waiting, REPORT_TIME)
        except asyncio.TimeoutError:
            return None
        finally:
            self._asked.pop(number, None)

    def tell(self, **message: Any) -> None:
        """Send it a message."""
        writer = self._writer
        if writer is not None and not writer.is_closing():
            writer.write(json.dumps(message).encode("ascii") + b"\n")

    def stop(self) -> None:
        """Let it end in order."""
        if self.ready:
            self.tell(do="stop")
        else:
            self.signal(signal.SIGTERM)  # it does not serve yet

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)


def ending(code: int) -> str:
    """How a process ended, in words, by its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"

# SPDX-License-Identifier: MIT
"""A closed loop over the stdin and stdout of an MCP server: a number of calls under way, each answer judged.

One wrong answer ends the run with `Wrong`, unless errors are counted; an end of the server's output or silence ends it
with `Failed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .drive import MAX_EXAMPLE, READ_AT_ONCE, SILENCE_LIMIT, TICK_SECONDS
from .measuring import Share, UsageWatch
from .process import STOP_LIMIT, Failed, Group
from .talk import CLIENT, LEGACY_VERSION, Wrong, result_in, text_of

MAX_PIPED_LINE = 64 * 1024 * 1024  # bytes, as an answer over HTTP


class PipedCall(NamedTuple):
    """One request, and `check` of its result, which raises Wrong."""

    method: str
    params: dict[str, Any]
    check: Callable[[dict[str, Any]], None]


def adding_call(number: int) -> PipedCall:
    """A call of the tool `add` of the servers in bench/, another one each time."""
    a, b = 100 + number % 400, 100 + number * 7 % 400

    def check(result: dict[str, Any]) -> None:
        said = text_of(result)
        if said != str(a + b):
            raise Wrong(f"not the answer to the question: {said[:100]!r} for {a} + {b}")

    return PipedCall("tools/call", {"name": "add", "arguments": {"a": a, "b": b}}, check)


class PipedServer:
    """A server on pipes, initialized in 2025-11-25.  Call `close` in the end.

    Args:
        call: makes the request of each number, from 1 on.
        errors_allowed: so many errors end a run, and each is counted; 0 raises the first one.

    Attributes:
        info: the result of `initialize`.
        errors: how many there were of each kind; `examples` has the first text of each.
        ended: why a run ended before its time: "errors", "operations", "interrupted" or "".
    """

    def __init__(
        self,
        command: Sequence[str],
        env: dict[str, str] | None = None,
        call: Callable[[int], PipedCall] = adding_call,
        errors_allowed: int = 0,
        revision: str = LEGACY_VERSION,
    ) -> None:
        self.call = call
        self.info: dict[str, Any] = {}
        self.errors: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.ended = ""
        self._failed = 0
        self._errors_allowed = errors_allowed
        self._log = tempfile.TemporaryFile()
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._asked = 0
        self._heard = time.perf_counter()
        self._pending: dict[int, tuple[PipedCall, float]] = {}  # by id, with the time since when
        self.began = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise Failed(f"{command[0]} did not start: {error}") from None
        try:
            assert self.process.stdin is not None and self.process.stdout is not None
            self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
            os.set_blocking(self._in, False)
            params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": CLIENT}
            self.info = self.ask("initialize", params)
            self._send({"method": "notifications/initialized"})
            if call is adding_call:
                self.run(1, 0.0, 1)
        except BaseException:
            self.close()
            raise

    @property
    def started(self) -> float:
        """Seconds from its start until now."""
        return time.perf_counter() - self.began

    @property
    def group(self) -> Group:
        """Its processes."""
        return Group(self.process.pid)

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one request, with none beside it.  Raises Wrong."""
        self._asked += 1
        id = self._asked
        self._send({"id": id, "method": method, "params": params})
        while True:
            for message in self._messages():
                if "method" in message:
                    self._answer(message)
                elif message.get("id") == id or "error" in message:
                    return result_in(message, id)

    def run(
        self,
        concurrency: int,
        seconds: float,
        least: int = 0,
        most: int | None = None,
        tick: Callable[[PipedServer, int], bool] | None = None,
    ) -> array[float]:
        """Go on for so long and for `least` calls, and let the open calls end.  Returns the seconds of each call.

        `tick` is given the server and the number of calls a few times a second; true ends the run.
        """
        latencies = array("d")
        now = time.perf_counter()
        end, looked = now + seconds, now
        for _ in range(concurrency if not self.ended else 0):
            self._call()
        while self._pending:
            for message in self._messages(TICK_SECONDS if tick is not None else SILENCE_LIMIT):
                now = time.perf_counter()
                if not self._judge(message, now, latencies):
                    continue
                sent = len(latencies) + len(self._pending)
                if most is not None and sent >= most:
                    self.ended = self.ended or "operations"
                if not self.ended and (now < end or sent < least):
                    self._call()
            now = time.perf_counter()
            if tick is not None and now - looked >= TICK_SECONDS:
                looked = now
                if tick(self, len(latencies)):
                    self.ended = self.ended or "interrupted"
                    break
        return latencies

    def measure(
        self,
        concurrency: int,
        seconds: float,
        warmup: float,
        watch: UsageWatch,
        most: int | None = None,
        tick: Callable[[PipedServer, int], bool] | None = None,
    ) -> Share:
        """Warm up, and measure."""
        self.errors, self.ended = Counter(), ""
        self.run(concurrency, warmup, 0 if self._errors_allowed else concurrency, tick=tick)
        watch.start()
        began, cpu = time.perf_counter(), time.process_time()
        latencies = self.run(concurrency, seconds, 0 if self._errors_allowed else 2 * concurrency, most, tick)
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
        watch.stop()
        return Share(latencies, taken, cpu, 0, {"lines"}, self.errors, self.examples, self.ended)

    def close(self) -> None:
        """The end of its input, then signals."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        ends: tuple[Callable[[], None], ...] = (lambda: None, self.process.terminate, self.process.kill)
        for end in ends:
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
                break
        self._log.close()

    def _call(self) -> None:
        self._asked += 1
        call = self.call(self._asked)
        self._send({"id": self._asked, "method": call.method, "params": call.params})
        self._pending[self._asked] = (call, time.perf_counter())

    def _answer(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._send({"id": message["id"], "result": {}})  # a ping: we have declared nothing else

    def _judge(self, message: dict[str, Any], now: float, latencies: array[float]) -> bool:
        """Whether it was an answer to a call; a wrong one is counted or raised."""
        if "method" in message:
            self._answer(message)
            return False
        id = message.get("id")
        call, began = self._pending.pop(id, (None, 0.0)) if isinstance(id, int) else (None, 0.0)
        try:
            if call is None or not isinstance(id, int):
                raise Wrong(f"no answer to a request that is under way: {str(message)[:300]}")
            call.check(result_in(message, id))
        except Wrong as exc:
            if not self._errors_allowed:
                raise
            self.errors[exc.kind] += 1
            self.examples.setdefault(exc.kind, str(exc)[:MAX_EXAMPLE])
            self._failed += 1
            if self._failed >= self._errors_allowed:
                self.ended = self.ended or "errors"
            return call is not None
        latencies.append(now - began)
        return True

    def _send(self, message: dict[str, Any]) -> None:
        if not self._pending:
            self._heard = time.perf_counter()
        self._unsent += json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        """Write all that the pipe takes.  The rest waits: a server may read no more before its answers are read."""
        try:
            del self._unsent[: os.write(self._in, self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            raise Failed(f"the server is no more: {self._said()}") from None

    def _messages(self, limit: float = SILENCE_LIMIT) -> list[dict[str, Any]]:
        """Those of the next whole lines; none where `limit` is over before.  Silence has a limit of its own."""
        while True:
            readable, writable, _ = select.select([self._out], [self._in] if self._unsent else [], [], limit)
            if writable:
                self._flush()
            if not readable:
                if time.perf_counter() - self._heard >= SILENCE_LIMIT:
                    raise Failed(f"no answer for {SILENCE_LIMIT:g} s: {self._said()}")
                if limit < SILENCE_LIMIT:
                    return []
                continue
            data = os.read(self._out, READ_AT_ONCE)
            if not data:
                raise Failed(f"the server ended its output: {self._said()}")
            self._heard = time.perf_counter()
            self._buffer += data
            whole, newline, rest = self._buffer.rpartition(b"\n")
            if len(rest) > MAX_PIPED_LINE:
                raise Wrong(f"a line without end: {bytes(rest[:100])!r}")
            if newline:
                self._buffer = bytearray(rest)
                return [self._message(line) for line in whole.split(b"\n") if line.strip()]

    def _message(self, line: bytes | bytearray) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except ValueError:
            raise Wrong(f"not JSON: {bytes(line[:200])!r}") from None
        if not isinstance(message, dict):
            raise Wrong(f"not a message: {bytes(line[:200])!r}")
        return message

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode("utf-8", "replace")

# SPDX-License-Identifier: MIT
"""A closed loop over the stdin and stdout of an MCP server: a number of calls under way, each answer judged.

One wrong answer ends the run with `Wrong`, an end of the server's output or silence with `Failed`.
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
from collections.abc import Sequence
from typing import Any

from drive import ANSWER_LIMIT, Part, Watch
from process import STOP_LIMIT, Failed
from talk import CLIENT, LEGACY_VERSION, Wrong

READ = 256 * 1024
MAX_LINE = 1024 * 1024  # bytes: our answers have a hundred


class PipedServer:
    """A server on pipes, initialized in 2025-11-25.  Call `close` in the end."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile()
        self._buffer = bytearray()
        self._asked = 0
        self._pending: dict[int, tuple[str, float]] = {}  # by id: the text that is due, and since when
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
            raise Failed(f"{command[0]} did not start: {error}") from None
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        params = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": CLIENT}
        self._send({"id": 0, "method": "initialize", "params": params})
        message = self._messages()
        while not any(one.get("id") == 0 and "result" in one for one in message):
            if any("error" in one for one in message):
                raise Wrong(f"initialize: {str(message)[:300]}")
            message = self._messages()
        self._send({"method": "notifications/initialized"})
        self.run(1, 0.0, 1)

    @property
    def started(self) -> float:
        """Seconds from its start until now."""
        return time.perf_counter() - self.began

    def run(self, concurrency: int, seconds: float, least: int = 0) -> array[float]:
        """Go on for so long and for `least` calls, and let what is under way end; the seconds of each."""
        latencies = array("d")
        end = time.perf_counter() + seconds
        for _ in range(concurrency):
            self._call()
        while self._pending:
            for message in self._messages():
                now = time.perf_counter()
                if not self._judge(message, now, latencies):
                    continue
                if now < end or len(latencies) + len(self._pending) < least:
                    self._call()
        return latencies

    def measure(self, concurrency: int, seconds: float, warmup: float, watch: Watch) -> Part:
        self.run(concurrency, warmup, concurrency)
        watch.start()
        began, cpu = time.perf_counter(), time.process_time()
        latencies = self.run(concurrency, seconds, 2 * concurrency)
        taken, cpu = time.perf_counter() - began, time.process_time() - cpu
        watch.stop()
        return Part(latencies, taken, cpu, 0, {"lines"})

    def close(self) -> None:
        """The end of its input, then signals."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        for end in (lambda: None, self.process.terminate, self.process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
                break
        self._log.close()

    def _call(self) -> None:
        self._asked += 1
        a, b = 100 + self._asked % 400, 100 + self._asked * 7 % 400
        self._pending[self._asked] = (str(a + b), time.perf_counter())
        params = {"name": "add", "arguments": {"a": a, "b": b}}
        self._send({"id": self._asked, "method": "tools/call", "params": params})

    def _judge(self, message: dict[str, Any], now: float, latencies: array[float]) -> bool:
        """Whether it was an answer to a call, and a right one."""
        if "method" in message:
            if "id" in message:
                self._send({"id": message["id"], "result": {}})  # a ping: we have declared nothing else
            return False
        due, began = self._pending.pop(message.get("id", -1), (None, 0.0))
        try:
            said = message["result"]["content"][0]["text"]
        except (KeyError, IndexError, TypeError):
            raise Wrong(f"no text: {str(message)[:300]}") from None
        if said != due:
            raise Wrong(f"not the answer to request {message.get('id')}: {said[:100]!r} for {due!r}")
        latencies.append(now - began)
        return True

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            os.write(self.process.stdin.fileno(), json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        except OSError:
            raise Failed(f"the server is no more: {self._said()}") from None

    def _messages(self) -> list[dict[str, Any]]:
        """Those of the next whole lines."""
        assert self.process.stdout is not None
        out = self.process.stdout.fileno()
        while True:
            if not select.select([out], [], [], ANSWER_LIMIT)[0]:
                raise Failed(f"no answer for {ANSWER_LIMIT:g} s: {self._said()}")
            data = os.read(out, READ)
            if not data:
                raise Failed(f"the server ended its output: {self._said()}")
            self._buffer += data
            whole, newline, rest = self._buffer.rpartition(b"\n")
            if len(rest) > MAX_LINE:
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

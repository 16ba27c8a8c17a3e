# SPDX-License-Identifier: MIT
"""A program at a terminal, as a person has it: what it shows is read, and lines and keys are typed."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from provision import server_environment

LIMIT = 60.0  # seconds for a text to appear, or for the program to end
CTRL_C, CTRL_D = "\x03", "\x04"


class AtTerminal:
    """`python -m mcp_h11 WORDS...` with a terminal of its own as stdin, stderr and, unless told otherwise, stdout.

    Use it as ``with AtTerminal("call", ...) as person``.  `shown` is all that the terminal has shown so far.
    """

    def __init__(self, *words: str, stdout: Any = None, env: Mapping[str, str] | None = None) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        environment = {**server_environment(), "TERM": "xterm", **(env or {})}
        environment.pop("NO_COLOR", None)
        # A session of its own, whose controlling terminal this one becomes, so that Ctrl+C is a signal.
        launcher = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
        launcher += "os.execv(sys.executable, [sys.executable, '-m', 'mcp_h11', *sys.argv[1:]])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", launcher, *words],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self.shown = ""
        self._read_up_to = 0

    def __enter__(self) -> AtTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def until(self, text: str) -> str:
        """What is shown up to the end of this text, from where the last call has ended."""
        end = time.monotonic() + LIMIT
        while (found := self.shown.find(text, self._read_up_to)) < 0:
            if not self._more(end):
                raise AssertionError(f"{text!r} was not shown; there is {self.shown!r}")
        start, self._read_up_to = self._read_up_to, found + len(text)
        return self.shown[start : self._read_up_to]

    def _more(self, end: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
        try:
            piece = os.read(self._ours, 65536) if ready else b""
        except OSError:  # as Linux says that the program has left the terminal
            piece = b""
        self.shown += piece.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(piece)

    def type(self, text: str) -> None:
        """Type this, as it is."""
        os.write(self._ours, text.encode())

    def answer(self, prompt: str, text: str) -> str:
        """Wait for a prompt, and type a line; returns what was shown up to the prompt."""
        shown = self.until(prompt)
        self.type(text + "\n")
        return shown

    def end(self) -> int:
        """Wait for the program, read what it shows last, and return its exit code."""
        end = time.monotonic() + LIMIT
        while self._more(end):
            pass
        return self.process.wait(max(1.0, end - time.monotonic()))

# SPDX-License-Identifier: MIT
"""Lines that a person types at a terminal, read without a thread where the event loop can wait for them.

It reads the descriptor and not `sys.stdin`: a thread that waits in `sys.stdin` holds its lock, and Python could not
end.

Rule: keys that were pressed before a question was shown are no answer to it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable

from .printing import Screen, on_terminal

MAX_TYPED = 64 * 1024  # bytes of one read; a terminal gives a line at a time, of 4,096 bytes at most


class Terminal:
    """The person at the terminal.  `screen` is where questions are shown."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        # Stdout may be a file or a pipe: questions are shown on stderr.
        self.is_there = on_terminal(sys.stdin, sys.stderr)

    def forget_typed(self) -> None:
        """Drops the keys that were pressed already."""
        try:
            import termios
        except ImportError:  # pragma: no cover - Windows
            return
        try:
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        except (OSError, ValueError, termios.error):  # it is gone, or is no terminal of this system
            return

    async def ask(self, prompt: str) -> str | None:
        """Shows a prompt and returns the line that is typed, without its line end; None for Ctrl+D."""
        self._screen.write(prompt)
        ended = False
        try:
            data = await self._line()
            ended = data.endswith(b"\n")
        finally:
            # After Ctrl+D and Ctrl+C the cursor still stands behind the prompt.
            if not ended:
                self._screen.write("\n")
        return data.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r\n") if data else None

    async def _line(self) -> bytes:
        loop = asyncio.get_running_loop()
        came: asyncio.Future[bytes] = loop.create_future()
        descriptor = sys.stdin.fileno()
        data = bytearray()

        def take() -> None:
            piece = _read(descriptor)
            data.extend(piece)
            if not piece or piece.endswith(b"\n"):
                _settle(came, bytes(data))

        try:
            loop.add_reader(descriptor, take)
        except NotImplementedError:  # the loop of Windows waits for sockets and pipes alone
            return await _line_by_thread(loop, came, descriptor)
        try:
            return await came
        finally:
            loop.remove_reader(descriptor)


async def _line_by_thread(loop: asyncio.AbstractEventLoop, came: asyncio.Future[bytes], descriptor: int) -> bytes:
    def read() -> None:
        data = b""
        while not data.endswith(b"\n"):
            piece = _read(descriptor)
            if not piece:
                break
            data += piece
        _call(loop, lambda: _settle(came, data))

    # A daemon, since the program must end while it waits for a person that does not type.
    threading.Thread(target=read, name="mcp_h11 terminal", daemon=True).start()
    return await came


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, MAX_TYPED)
    except OSError:  # as Linux says that the terminal is gone
        return b""


def _call(loop: asyncio.AbstractEventLoop, settle: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has ended meanwhile
        return


def _settle(came: asyncio.Future[bytes], data: bytes) -> None:
    if not came.done():
        came.set_result(data)

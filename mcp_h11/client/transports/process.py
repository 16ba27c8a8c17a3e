# SPDX-License-Identifier: MIT
"""One child process: lines to its stdin, lines from its stdout, the tail of its stderr, and an end without orphans.

It refuses a shell, and lines that are longer than the limit.  It knows nothing of MCP but that messages are lines.

Rules:
- stderr is always read: a child that fills its stderr blocks, and everything would time out without a word.
- The child is the head of a process group, and stopping the child ends the whole group.
- The end of the child, or of its stdout, is noticed at once, even if a grandchild still holds the other end of a pipe.

The process is the standard library's `Popen`, its pipes belong to the event loop, and a thread waits for its end.
asyncio's own processes, and anyio's, which are built on them, do not keep these rules: in some releases (3.11 to
3.12.3, gh-119710) their `wait` also waits for every pipe.  uvloop's (0.23) cut arguments at a null, lose three
descriptors with each program that does not exist, and leave the child second copies of its pipes, so that a pipe that
the child closes stays open.

XX FIXME Windows has no groups that can be signalled: there the child ends, and processes that it has started may stay.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio

from ...protocol.lines import MAX_LINE, LineDecoder, LineTooLong, encode_line
from ...protocol.shown import escaping
from .pipes import reader_of, writer_of
from .spawning import child_environment, spawn

logger = escaping(logging.getLogger(__name__))

STDERR_TAIL = 8 * 1024  # bytes
STDERR_FOLLOWS = "; its stderr ends with:"  # stands before that tail in `why`
# Lines of stderr that are logged in a period of `LOG_PERIOD` seconds.  Further lines are only counted.
MAX_LOGGED = 20
LOG_PERIOD = 1.0
# Bytes of lines that wait for their reader.  Above that, stdout is not read, so that the memory stays bounded.
MAX_UNTAKEN = 1024 * 1024
# Seconds that a child may read nothing while a line waits to be written.
WRITE_TIME = 30.0
# 2025-11-25 basic/lifecycle, Shutdown: close its input, wait, SIGTERM, wait, SIGKILL.
EOF_TIME = 2.0
TERM_TIME = 5.0
KILL_TIME = 2.0
# Seconds after an end for its last news to arrive: the last answers, the tail of stderr, the exit code.
LAST_WORDS_TIME = 0.25
GROUP_POLL = 0.02

_KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)


class ProcessError(Exception):
    """A failure of a child process."""


class SpawnFailed(ProcessError):
    """The child could not be started.  The message names the command and the system's reason."""


class Gone(ProcessError):
    """The line was not written and never will be: the child has ended, reads no more, or is being stopped."""


class Child:
    """A running child.  Get it from `start`, read its `lines`, and always `stop` it at the end.

    Attributes:
        name: the command without its arguments, which may be secret.
        pid: the process id, which is also the id of its process group.
        returncode: the exit code, or the negative number of the signal that ended it; None while it runs.
        write_time: seconds that `write` waits for a child that does not read.
    """

    def __init__(self, name: str, max_line: int = MAX_LINE) -> None:
        self.name = name
        self.pid = 0
        self.returncode: int | None = None
        self.write_time = WRITE_TIME
        self._decoder = LineDecoder(max_line)
        self._lines: deque[bytes | LineTooLong] = deque()
        self._take: Callable[[bytes | LineTooLong], None] | None = None
        self._untaken = 0
        self._paused = False  # stdout is not read for now
        self._came = asyncio.Event()  # set by a new line, and by the end of stdout
        self._ended = False  # no more lines will come
        self._stderr = _Stderr()
        self._told = asyncio.Event()  # the child has ended, and all of its stderr is here
        self._exited = asyncio.Event()
        self._no_stdin = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._turn = asyncio.Lock()
        self._closed = asyncio.Event()
        self._pipes: list[Any] = []  # stdin, stdout, stderr
        self._open = 3
        self._group_empty = False
        self._stopping: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes]

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | str | None = None,
        cwd: str | None = None,
        max_line: int = MAX_LINE,
    ) -> Child:
        """Starts a program with its arguments, at the head of a process group of its own.

        Args:
            env: variables added to those of `INHERITED`; "inherit" passes on our whole environment.
            max_line: bytes of one line of its stdout.

        Raises:
            SpawnFailed: no such program or folder, no permission, or no room for another process.
        """
        if isinstance(command, str) or not command:
            raise SpawnFailed(f"a command is a list of a program and its arguments, not {command!r:.200}")
        child = cls(os.path.basename(command[0]) or command[0], max_line)
        try:
            child._process = spawn(command, child_environment(env), cwd)
            try:
                # On Windows this takes a turn of the event loop for each pipe: a cancellation may wait for it.
                await _to_its_end(child._loop.create_task(child._connect()))
            except BaseException:  # no thread, or a cancellation: the caller has no `Child` to stop
                child._signal(_KILL)
                child._close()
                with suppress(subprocess.TimeoutExpired):
                    child._process.wait(KILL_TIME)
                raise
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            where = "" if cwd is None else f" in {cwd!r}"
            raise SpawnFailed(f"cannot start {command[0]!r}{where}: {error}") from error
        return child

    async def _connect(self) -> None:
        process, loop = self._process, self._loop
        self.pid = process.pid
        threading.Thread(target=self._wait, name="mcp_h11 child", daemon=True).start()
        into = writer_of(loop, process.stdin, self._stdin_lost, self._writable.clear, self._writable.set)
        self._pipes.append(await into)
        self._pipes.append(await reader_of(loop, process.stdout, self._stdout_lost, self._on_stdout))
        self._pipes.append(await reader_of(loop, process.stderr, self._stderr_lost, self._stderr.feed))

    def _wait(self) -> None:
        returncode = self._process.wait()
        with suppress(RuntimeError):  # the loop is closed, and has no use for the return code
            self._loop.call_soon_threadsafe(self._over, returncode)

    # --- its state ------------------------------------------------------------------------------------------

    @property
    def stderr_tail(self) -> str:
        """The last `STDERR_TAIL` bytes of its stderr."""
        return self._stderr.tail.decode("utf-8", "replace")

    @property
    def why(self) -> str:
        """The command, how it ended, and the tail of its stderr, for a person to read."""
        text = f"{self.name} (pid {self.pid})"
        if self.returncode is not None:
            text += f", {_described(self.returncode)}"
        elif self._ended:
            text += ", which closed its stdout"
        tail = self.stderr_tail.strip()
        return f"{text}{STDERR_FOLLOWS}\n{tail}" if tail else text

    # --- lines out and in -----------------------------------------------------------------------------------

    async def write(self, payload: bytes) -> None:
        """Writes one line, given without its line end, whole or not at all; waits while the child does not read.

        Raises:
            Gone: the line was not written.
            ValueError: the line has a line feed in it.
        """
        if self.write_now(payload):
            return
        try:
            with anyio.fail_after(self.write_time):
                async with self._turn:
                    await self._writable.wait()
                    self._put(encode_line(payload))
        except TimeoutError:
            raise Gone(f"{self.name} (pid {self.pid}) has read nothing for {self.write_time:g} s") from None

    def write_now(self, payload: bytes) -> bool:
        """As `write`, if no line waits to be written; else returns False, and writes nothing."""
        if not self._writable.is_set() or self._turn.locked():
            return False
        self._put(encode_line(payload))
        return True

    def _put(self, line: bytes) -> None:
        if self._no_stdin:
            raise Gone(f"nothing can be written to {self.why}")
        self._pipes[0].write(line)

    def hand_lines_to(self, take: Callable[[bytes | LineTooLong], None]) -> None:
        """Calls `take` with each line that comes, in the turn of the loop that reads it; `lines` then only ends.

        `take` must not wait, and must not raise.
        """
        self._take = take

    async def lines(self) -> AsyncIterator[bytes | LineTooLong]:
        """Each line of its stdout, for one reader.  A `LineTooLong` stands in the place of a line past the limit.

        Ends when stdout ends, or the child.  By then `returncode` and `stderr_tail` are known, if the child has ended.
        """
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._untaken -= _size(line)
                if self._paused and self._untaken <= MAX_UNTAKEN // 2:
                    self._read_on()
                yield line
            if self._ended:
                break
            self._came.clear()
            await self._came.wait()
        with anyio.move_on_after(LAST_WORDS_TIME):
            await self._told.wait()

    # --- the end --------------------------------------------------------------------------------------------

    async def stop(self, *, eof: float = EOF_TIME, term: float = TERM_TIME) -> int:
        """Ends the child and its whole group, and returns the return code.  Several tasks may call it at once.

        First its stdin ends, and the child has `eof` seconds to leave.  Then the group gets SIGTERM, and has `term`
        seconds to clean up.  Then it gets SIGKILL.  A cancellation of the caller waits for all of this, a little more
        than eof + term + `KILL_TIME` at most.
        """
        if self._stopping is None:
            self._refuse_lines()
            self._stopping = self._loop.create_task(self._stop(eof, term))
        await _to_its_end(self._stopping)
        return self.returncode if self.returncode is not None else -_KILL

    async def _stop(self, eof: float, term: float) -> None:
        try:
            self._pipes[0].close()
            self._read_on()
            with anyio.move_on_after(eof):
                await self._exited.wait()
            if self._signal(signal.SIGTERM):
                with anyio.move_on_after(term):
                    await self._group_ended()
            self._signal(_KILL)
            with anyio.move_on_after(KILL_TIME):
                await self._exited.wait()
        finally:  # also if the event loop ends, and cancels this task
            self._signal(_KILL)
            self._close()
        with anyio.move_on_after(KILL_TIME):
            await self._closed.wait()

    async def _group_ended(self) -> None:
        await self._exited.wait()
        while self._signal(0):  # noqa: ASYNC110  no system call waits for a group
            await anyio.sleep(GROUP_POLL)

    def _signal(self, number: int) -> bool:
        """Sends a signal to the whole group.  Returns whether the group had a member; 0 only asks."""
        if not hasattr(os, "killpg"):
            return self._signal_alone(number)
        # The system may give the number of an empty group to a new one, which must not be signalled.  A group with a
        # member keeps its number.
        if not self._group_empty:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                self._group_empty = True
            except PermissionError:  # a member changed its user; on macOS also: it has ended
                pass
        return not self._group_empty

    def _signal_alone(self, number: int) -> bool:
        if self.returncode is None and number:
            # Windows knows no SIGTERM: it can only kill.
            self._process.kill()
        return self.returncode is None

    def _close(self) -> None:
        """Closes our descriptors, even if a grandchild holds the other ends."""
        self._end_lines()
        if self._pipes and self._pipes[0].get_write_buffer_size():  # `close` would wait until that is written
            self._pipes[0].abort()
        for pipe in self._pipes:
            pipe.close()
        streams = self._process.stdin, self._process.stdout, self._process.stderr
        for stream in streams[len(self._pipes) :]:  # of pipes that were not connected
            if stream is not None:
                stream.close()

    # --- from the event loop --------------------------------------------------------------------------------

    def _on_stdout(self, data: bytes) -> None:
        if not self._ended:
            self._on_lines(self._decoder.feed(data))

    def _on_lines(self, lines: list[bytes | LineTooLong]) -> None:
        # During `stop` no lines are read from the queue.  stdout is still read, and the lines dropped, since a child
        # that cannot write cannot end.
        if not lines or (self._stopping is not None and self._untaken > MAX_UNTAKEN):
            return
        # Behind lines that came before there was `take`, and during `stop`, the queue keeps their order.
        if self._take is not None and not self._lines and self._stopping is None:
            for line in lines:
                self._take(line)
            return
        self._lines += lines
        self._untaken += sum(map(_size, lines))
        self._came.set()
        if self._untaken > MAX_UNTAKEN and self._stopping is None:
            self._paused = True
            self._pipes[1].pause_reading()

    def _read_on(self) -> None:
        if self._paused and not self._ended:
            self._paused = False
            self._pipes[1].resume_reading()

    def _end_lines(self) -> None:
        if not self._ended:
            self._on_lines(self._decoder.end())
            self._ended = True
            self._came.set()

    def _stdout_lost(self) -> None:
        self._end_lines()
        self._lost()

    def _stderr_lost(self) -> None:
        self._stderr.ended = True
        self._tell()
        self._lost()

    def _stdin_lost(self) -> None:
        self._refuse_lines()
        self._lost()

    def _lost(self) -> None:
        self._open -= 1
        if not self._open:
            self._closed.set()

    def _refuse_lines(self) -> None:
        self._no_stdin = True
        self._writable.set()

    def _over(self, returncode: int) -> None:
        """The child has ended.  Its own children may still hold its pipes."""
        self.returncode = returncode
        self._refuse_lines()
        self._exited.set()
        self._signal(0)  # notices an empty group, before the system gives its number away
        self._tell()
        self._loop.call_later(LAST_WORDS_TIME, self._hear_out)

    def _hear_out(self) -> None:
        """Ends the lines once the reader has taken all that the child wrote before its end."""
        if self._untaken and not self._ended and self._stopping is None:
            self._loop.call_later(LAST_WORDS_TIME, self._hear_out)
        else:
            self._end_lines()

    def _tell(self) -> None:
        if self._stderr.ended and self.returncode is not None:
            self._told.set()


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Awaits a task to its end.  A cancellation of the caller is raised after that end."""
    cancelled: BaseException | None = None
    while not task.done():
        try:
            # The shield stops cancellations of anyio's scopes.  `Task.cancel` passes it, and is caught here.
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task})
        except asyncio.CancelledError as error:  # noqa: PERF203
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


class _Stderr:
    """A child's stderr: the tail is kept, and the first lines of each period are logged at DEBUG."""

    def __init__(self) -> None:
        self.tail = b""
        self.ended = False
        self._decoder = LineDecoder(STDERR_TAIL)
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._logged = 0
        self._since = 0.0
        self._clock = asyncio.get_running_loop().time

    def feed(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-STDERR_TAIL:]
        if self._debug:
            for line in self._decoder.feed(data):
                self._log(line)

    def _log(self, line: bytes | LineTooLong) -> None:
        now = self._clock()
        if now - self._since >= LOG_PERIOD:
            if self._logged > MAX_LOGGED:
                logger.debug("stderr: %d more lines", self._logged - MAX_LOGGED)
            self._logged, self._since = 0, now
        self._logged += 1
        if self._logged <= MAX_LOGGED:
            # Escaped, since a terminal would obey control characters in it.
            logger.debug("stderr: %s", ascii(line.decode("utf-8", "replace") if isinstance(line, bytes) else "..."))


def _size(line: bytes | LineTooLong) -> int:
    return len(line) if isinstance(line, bytes) else 1


def _described(returncode: int) -> str:
    if returncode >= 0:
        return f"which exited with code {returncode}"
    try:
        return f"which was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"which was killed by signal {-returncode}"

# SPDX-License-Identifier: MIT
"""Listening, serving, running: a server from its first socket to its last answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ..handler.handler import ServerHandler
from ..protocol.shown import escaped
from ..runtime.settings import Settings
from .selecting import fair_loop
from .server import DEFAULT_HOST, DEFAULT_PORT, FLUSH_TIME, Server
from .signals import END_SIGNALS, handle_signals

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..runtime.setting_fields import SettingFields
    from .options import ListeningOptions, ServeOptions
    from .options import ServerRunOptions as ServerRunOptions

_PACKAGE = __name__.rpartition(".server.")[0]  # the name that a vendored copy has


# --- serving -----------------------------------------------------------------------------------------------------
@asynccontextmanager
async def listening(
    handler: ServerHandler,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    uds: str | None = None,
    fd: int | None = None,
    sock: socket.socket | Sequence[socket.socket] | None = None,
    settings: Settings | None = None,
    kind: Callable[..., Server] = Server,
    **fields: Unpack[SettingFields],
) -> AsyncIterator[Server]:
    """A server inside a program that has its own loop: bound when the block begins, ended in order at its end.

    ``async with listening(handler, port=0) as server: print(server.url)``.

    Args:
        handler: An `MCPServer`, or another `ServerHandler`.
        host: The name or address to listen on; "localhost" is 127.0.0.1 and ::1 on one port.
        port: The TCP port; 0 takes a free one, and `server.port` says which.
        uds: The path of a Unix socket to listen on, instead of host and port.
        fd: The number of an inherited socket that listens already, instead of host and port.
        sock: A socket that listens, or several, instead of host and port.
        settings: All settings as one object.
        kind: Makes the server; for a subclass of `Server`.
        fields: Fields of `Settings`, such as ``max_sessions=500``; they outrank `settings`.

    Raises:
        OSError: The address cannot be bound.
        ValueError: Two addresses are named, or settings do not go together.
    """
    server = kind(handler, _settings(settings, fields), host=host, port=port, uds=uds, fd=fd, sock=sock)
    await server.start()
    try:
        yield server
    finally:
        await server.aclose()


async def serve(
    handler: ServerHandler,
    *,
    on_start: Callable[[Server], None] | None = None,
    signals: bool = True,
    quiet: bool = False,
    **options: Unpack[ListeningOptions],
) -> None:
    """Serve until SIGINT or SIGTERM (a second one ends at once), or until the task is cancelled.

    With `access_log`, the lines of the log go to stderr, where neither the root logger nor the one of this package has
    a handler.

    Args:
        handler: An `MCPServer`, or another `ServerHandler`.
        on_start: Called with the server once it accepts.
        signals: Handle SIGINT and SIGTERM, in the main thread alone.  Afterwards the program has the handlers that it
            set with `signal.signal` before.  Handlers that it gave to its loop with `add_signal_handler` are lost,
            since a loop does not show its handlers: such a program passes False, and calls `server.stop()` (`on_start`
            has the server) or cancels the task.
        quiet: Leave out the line on stderr that says the name of the server and its address.
        options: Those of `listening`, which raises the same errors.
    """
    with ExitStack() as stack:
        # The handlers stay until the server has ended, because a second signal ends it at once.
        async with listening(handler, **options) as server:
            if signals:
                handle_signals(server.loop, END_SIGNALS, server.stop, stack)
            if server.settings.access_log:
                from .logs import show_access_log  # most servers have no access log

                show_access_log(server.settings, stack)
            if not quiet:
                _tell(server, stoppable=signals)
            if on_start is not None:
                on_start(server)
            await server.wait_stopped()


def run(
    handler: ServerHandler, *, loop: Literal["auto", "asyncio", "uvloop"] = "auto", **options: Unpack[ServeOptions]
) -> None:
    """Serve and block, on a loop of its own.  The thread's signal handlers and loop are restored afterwards.

    Args:
        handler: An `MCPServer`, or another `ServerHandler`.
        loop: "uvloop", "asyncio", or "auto": uvloop where it is installed.
        options: Those of `serve`.

    Raises:
        RuntimeError: A loop runs in this thread: await `serve` there.
        OSError: The address cannot be bound.
        ValueError: Two addresses are named, or settings do not go together.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("a loop runs in this thread already: await serve(...) in it, or use start_in_thread")
    with closing(_new_loop(loop)) as event_loop:
        try:
            event_loop.run_until_complete(serve(handler, **options))
        finally:
            event_loop.run_until_complete(_clean_up(event_loop))


def _tell(server: Server, *, stoppable: bool) -> None:
    if sys.stderr is None:  # pythonw
        return
    how = " (stop it with Ctrl+C)" if stoppable else ""
    text = f"{_PACKAGE} serves {server.runtime.handler.name!r} at {escaped(server.url)}{how}"
    if server.settings.access_log == "json":
        from .logs import write_log_line

        said = {"name": __name__, "levelno": logging.INFO, "msg": text}
        write_log_line(logging.makeLogRecord(said), sys.stderr)
        return
    # Serving goes on without a reader of this line.
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


async def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    # Handlers may leave tasks behind.  They are cancelled here, as asyncio.run would do.
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=FLUSH_TIME)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _settings(settings: Settings | None, fields: SettingFields) -> Settings:
    return replace(settings or Settings(), **fields) if fields else settings or Settings()


def _new_loop(loop: str) -> asyncio.AbstractEventLoop:
    if loop not in ("auto", "asyncio", "uvloop"):
        raise ValueError(f"loop is auto, asyncio or uvloop, not {loop!r}")
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                raise
        else:
            return uvloop.new_event_loop()
    return fair_loop()

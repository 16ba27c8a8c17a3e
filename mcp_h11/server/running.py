# SPDX-License-Identifier: MIT
"""Listening, serving, running: a server from its first socket to its last answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from typing import Any

from ..handler.handler import ServerHandler
from ..runtime.settings import Settings
from .server import DEFAULT_HOST, DEFAULT_PORT, FLUSH_TIME, Server
from .signals import END_SIGNALS, handle_signals


# --- serving -----------------------------------------------------------------------------------------------------
@asynccontextmanager
async def listening(
    handler: ServerHandler,
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    uds: str | None = None,
    fd: int | None = None,
    sock: socket.socket | None = None,
    settings: Settings | None = None,
    kind: type[Server] = Server,
    **fields: Any,
) -> AsyncIterator[Server]:
    """A server inside a program that has its own loop: bound when the block begins, ended in order at its end.

    ``async with listening(handler, port=0) as server: print(server.url)``.  Further keywords are fields of `Settings`.
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
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM (a second one ends at once), or until the task is cancelled.

    `options` are those of `listening`; `on_start` is called with the server once it accepts.

    `signals` is for programs that are the server, and in the main thread.  Handlers of `signal.signal` are afterwards
    what they were.  One that the program gave to its loop by `add_signal_handler` is not, since a loop does not tell
    what it had: such a program says `signals=False` and ends this by `server.stop()` (from `on_start`) or by cancelling
    it.
    """
    with ExitStack() as stack:
        # The signals are ours until the end, since a second one counts.
        async with listening(handler, **options) as server:
            if signals:
                handle_signals(server.loop, END_SIGNALS, server.stop, stack)
            if on_start is not None:
                on_start(server)
            await server.wait_stopped()


def run(handler: ServerHandler, *, loop: str = "auto", **options: Any) -> None:
    """Serve and block, on a loop of its own: "uvloop", "asyncio", or "auto" (uvloop where it is installed).

    Signal handlers and the thread's event loop are afterwards what they were.  Raises RuntimeError inside a running
    loop: there, await `serve`.
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


async def _clean_up(loop: asyncio.AbstractEventLoop) -> None:
    # Handlers may leave tasks behind; asyncio.run would cancel those as well.
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=FLUSH_TIME)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def _settings(settings: Settings | None, fields: dict[str, Any]) -> Settings:
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
    return asyncio.new_event_loop()

# SPDX-License-Identifier: MIT
"""`--stdio --reload`: the parent holds the pipes of the client, and exchanges the child behind them.

The two are joined by a bridge.  Its hot swap connects the new child before the old one goes, so the session of the
client goes on, and the client hears that the lists may have changed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ...bridge.proxy import ProxyHandler
from ...client.targets import Command
from ...protocol.errors import MCPError
from ...protocol.shown import escaping
from ...server.reloading import REPLACED, STAYS
from ..parser import OK
from ..serving import serve_on_pipes
from ..workers import RELOADED, command_before
from .reload import Telling
from .watch import Project, Watcher

logger = escaping(logging.getLogger(__name__))


def serve_exchanged(options: argparse.Namespace, arguments: Sequence[str], project: Project, telling: Telling) -> int:
    """Serve on stdin and stdout, with the code of the project as it is at each time.  Returns the exit code."""
    before = command_before(arguments)

    def command() -> Command:
        return Command([sys.executable, *before, f"{RELOADED}={project.next_report()}", *arguments], "inherit")

    class Exchanged(ProxyHandler):
        """The bridge to the child, and the exchange of that child."""

        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[Any]:
            loop = asyncio.get_running_loop()
            exchanges: set[asyncio.Task[None]] = set()

            def exchange() -> None:
                task = loop.create_task(self.exchange())
                exchanges.add(task)
                task.add_done_callback(exchanges.discard)

            def on_change(files: Sequence[str]) -> None:
                telling.changed(files)
                with contextlib.suppress(RuntimeError):  # it has ended
                    loop.call_soon_threadsafe(exchange)

            watcher = Watcher(project, on_change)
            async with super().lifespan() as state:
                watcher.start()
                try:
                    yield state
                finally:
                    watcher.stop()

        async def exchange(self) -> None:
            try:
                await self.swap(command(), "migrate")
            except MCPError as exc:
                logger.debug("the new child does not start: %s", exc)
                telling.told(STAYS)
            else:
                telling.told(REPLACED)

    serve_on_pipes(options, Exchanged(command()))
    return OK

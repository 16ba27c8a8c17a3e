# SPDX-License-Identifier: MIT
"""`--reload`: the new code is served when a file of the project changes, and sessions go on.

Over HTTP the parent binds, and a worker serves, as with `--workers`: a new worker has loaded the new code before it
takes the place of the old one, and the sessions are in a store that both of them have.  On pipes the parent holds the
pipes, and a child behind it serves (`reload_pipes`).

Either way the parent loads no code of the user.  Code that cannot be served is told in one line, and the code before it
goes on.  A child gets `--reloaded=PATH` before its arguments, for its report of the files that it has loaded (`watch`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...handler.handler import ServerHandler
from ...protocol.shown import escaping
from ...server.reloading import REPLACED, STAYS, ReloadingWorkers
from ...server.workers import Workers, WorkersFailed
from ..banner import Banner, print_start
from ..parser import FAILED, OK, UsageError
from ..serving import address_of, load_handler, not_started, serve_on_pipes, start_logging
from ..target import is_file, split_target
from ..workers import (
    CHANNEL,
    CRASHED,
    RELOADED,
    command_before,
    cores,
    parents_settings,
    without_secrets,
    worker_options,
)
from .watch import Project, Report, Watcher

logger = escaping(logging.getLogger(__name__))

HANDS_DOWN = os.name == "posix"  # sockets, to other processes
REPORT_EVERY = 1.0  # seconds: modules that a tool imports are reported too

DEV = "dev"  # the command that has these options switched on by itself


# --- the process that serves -----------------------------------------------------------------------------------------


def _options(arguments: Sequence[str], hidden: Mapping[str, Any]) -> argparse.Namespace:
    if arguments and arguments[0] == DEV:
        dev = importlib.import_module(f".{DEV}", __package__)
        return dev.read_dev_options(arguments[1:], hidden)  # type: ignore[no-any-return]
    return worker_options(arguments, hidden)


def _log(options: argparse.Namespace) -> None:
    if getattr(options, DEV, False):
        importlib.import_module(f".{DEV}", __package__).start_dev_logging(options)
    else:
        start_logging(options, shared=True)


def serve_as_child(
    arguments: Sequence[str],
    serve: Callable[[argparse.Namespace, Callable[[], ServerHandler]], object],
    hidden: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Load the code, report its files, and serve it by `serve`, which gets the options and loads by the function.

    `hidden` are options that the parent hands down.
    """
    report = Report(arguments[0].partition("=")[2])
    # An edit within a second, to a text of the same length, would leave bytecode valid that is of the text before.
    sys.dont_write_bytecode = True
    loading = False

    def load() -> ServerHandler:
        nonlocal loading
        loading = True
        with contextlib.redirect_stdout(sys.stderr) if options.stdio else contextlib.nullcontext():
            handler = load_handler(options)
        loading = False
        report.tell()
        threading.Thread(target=_go_on_reporting, args=(report,), name="reports", daemon=True).start()
        return handler

    try:
        options = _options(arguments[1:], hidden)
        _log(options)
        serve(options, load)
    except UsageError as exc:
        report.failed(str(exc), exc.details, mendable=loading or bool(exc.details))
        return exc.code
    return OK


def _go_on_reporting(report: Report) -> None:
    pause = threading.Event()
    while not pause.wait(REPORT_EVERY):
        with contextlib.suppress(RuntimeError):  # a module was loaded meanwhile
            report.tell()


def serve_child_on_pipes(arguments: Sequence[str]) -> int:
    """Serve on stdin and stdout, as the child of a parent that holds the pipes of the client."""
    return serve_as_child(arguments, lambda options, load: serve_on_pipes(options, load()))


# --- the process that watches ----------------------------------------------------------------------------------------


class Telling:
    """Tells the user of a reload, in one line each."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._files = ""
        self._shown = "", ""

    def changed(self, files: Sequence[str]) -> None:
        names = [Path(file).name for file in files]
        self._shown = "", ""  # a file that was saved and is still wrong is worth a line
        self._files = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def told(self, step: str) -> bool:
        """Say which step it was.  Returns whether a change of a file may mend a failure."""
        self._project.learn()
        error = self._project.error
        if step == REPLACED:
            logger.info("%s changed: the new code is served", self._files)
            return True
        if (step, error) != self._shown or not error:  # several workers fail for one reason
            self._shown = step, error
            then = "the code before it goes on" if step == STAYS else "waiting until it is mended"
            logger.error("%s (%s)", error or "the new code does not start", then)
        return self._project.mendable


def serve_reloaded(
    options: argparse.Namespace, arguments: Sequence[str], *, on_start: Callable[[Workers], object] | None = None,
    banner: Banner | None = None,
) -> int:  # fmt: skip
    """Serve, and the new code when a file changes, until a signal ends it.  Returns the exit code.

    `arguments` are those of the command line, with the word of the command.  Raises UsageError where it cannot begin.
    """
    _log(options)
    files = _target_files(options)
    with tempfile.TemporaryDirectory(prefix="mcp_h11-", ignore_cleanup_errors=True) as folder:
        project = Project(Path(folder), files)
        if options.stdio:
            pipes = importlib.import_module(".reload_pipes", __package__)  # HTTP does not pay for the client
            return int(pipes.serve_exchanged(options, arguments, project, Telling(project)))
        return _serve_http(options, arguments, project, on_start, banner)


def _target_files(options: argparse.Namespace) -> list[str]:
    """The file of the target, as far as it is one.  Raises UsageError where there is none to watch."""
    if options.target is None:
        raise UsageError("--reload is for code of yours: name a file or a module")
    where = split_target(options.target)[0]
    if not is_file(where):
        return []
    if not Path(where).is_file():
        raise UsageError(f"there is no file {where}")
    return [where]


def _serve_http(
    options: argparse.Namespace,
    arguments: Sequence[str],
    project: Project,
    on_start: Callable[[Workers], object] | None,
    banner: Banner | None,
) -> int:
    if not HANDS_DOWN:
        raise UsageError("--reload needs --stdio here: this system hands no sockets down to other processes")
    before = command_before(arguments)
    shown, hidden = without_secrets(options, arguments)
    address, what = address_of(options)
    telling = Telling(project)
    loop: asyncio.AbstractEventLoop
    started = False

    def on_change(files: Sequence[str]) -> None:
        telling.changed(files)
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(workers.roll)

    def on_ready(_: Workers) -> None:
        nonlocal started
        started = True
        print_start(options, workers.name, workers.addresses, banner)
        if on_start is not None:
            on_start(workers)

    def command(descriptor: int) -> list[str]:
        report = f"{RELOADED}={project.next_report()}"
        return [sys.executable, *before, f"{CHANNEL}={descriptor}", report, *shown]

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        watcher = Watcher(project, on_change)
        watcher.start()
        try:
            await workers.serve()
        finally:
            watcher.stop()

    try:
        workers = ReloadingWorkers(
            command,
            1 if options.workers is None else options.workers or cores(),
            parents_settings(options),
            on_start=on_ready,
            private_store=options.store is None,
            hidden=hidden,
            told=telling.told,
            **address,
        )
        asyncio.run(main())
    except WorkersFailed as exc:
        if not started and project.error:
            raise UsageError(project.error) from None
        raise UsageError(str(exc), code=FAILED if not started and exc.code == FAILED else CRASHED) from None
    except Exception as exc:
        if started:
            raise
        raise not_started(what, exc) from None
    return OK

# SPDX-License-Identifier: MIT
"""`--workers N`: the parent, and the same command line once more for each worker.

The parent reads the options and loads no code of the user.  A worker gets `--worker-channel=NUMBER` before all other
arguments, so `ps` tells the workers from their parent, and `server.worker.Channel` has the rest.

Rule: a secret on the command line of the parent is on that of no worker.  It goes through the channel.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..handler.handler import ServerHandler
from ..runtime.settings import Settings
from ..server.running import run
from ..server.worker import Channel, WorkerServer
from ..server.workers import Workers, WorkersFailed
from .banner import print_start
from .fields import settings_of
from .options import read_options
from .parser import FAILED, OK, UsageError
from .program import STARTED_BY
from .serving import (
    address_of,
    load_handler,
    make_settings,
    not_started,
    parser_of,
    spare_nothing,
    spare_what_is_loaded,
    start_logging,
)

CHANNEL = "--worker-channel"
RELOADED = "--reloaded"  # with it, the parent is `reload`
SECRET = ("store", "token")  # options whose value may be a password
CRASHED = 3  # the exit code where the workers end again and again
_LOG_FORM = "%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"


def serve_by_workers(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Serve from as many processes as the options say, until a signal ends them.  Returns the exit code.

    Raises UsageError where that cannot begin.
    """
    start_logging(options, _LOG_FORM, shared=True)
    before = command_before(arguments)
    shown, hidden = without_secrets(options, arguments)
    address, what = address_of(options)
    started = False

    def on_start(workers: Workers) -> None:
        nonlocal started
        started = True
        print_start(options, workers.name, workers.addresses)

    try:
        workers = Workers(
            lambda descriptor: [sys.executable, *before, f"{CHANNEL}={descriptor}", *shown],
            options.workers or cores(),
            parents_settings(options),
            on_start=on_start,
            private_store=options.store is None,
            hidden=hidden,
            **address,
        )
        workers.run()
    except WorkersFailed as exc:
        # A mistake of the user is told by the worker itself, with this exit code.
        raise UsageError(str(exc), code=FAILED if not started and exc.code == FAILED else CRASHED) from None
    except Exception as exc:
        if started:
            raise
        raise not_started(what, exc) from None
    return OK


def serve_as_worker(channel: str, arguments: Sequence[str]) -> int:
    """Serve on the sockets that the parent hands down, until it says to stop.  Returns the exit code."""
    try:
        ours = Channel(int(channel.partition("=")[2]))
    except (EOFError, OSError, ValueError):
        raise UsageError(f"{CHANNEL} is for the workers that --workers starts") from None
    hidden = ours.charge.hidden
    if arguments and arguments[0].startswith(RELOADED):
        reload = importlib.import_module(".reloading.reload", __package__)
        return int(reload.serve_as_child(arguments, lambda options, load: _serve(ours, options, load), hidden))
    options = worker_options(arguments, hidden)
    start_logging(options, _LOG_FORM, shared=True)
    _serve(ours, options, partial(load_handler, options))
    return OK


def worker_options(arguments: Sequence[str], hidden: Mapping[str, Any]) -> argparse.Namespace:
    """The options of a worker: those of its command line, and those that the parent hands down.  Raises UsageError."""
    given = parser_of().parse_args(arguments)
    for key, value in hidden.items():
        setattr(given, key, value)
    options = read_options(given, os.environ)
    options.warnings = []  # the parent gave them
    return options


def _serve(ours: Channel, options: argparse.Namespace, load: Callable[[], ServerHandler]) -> None:
    settings = make_settings(options)
    handler = load()
    started = False

    def on_start(_: object) -> None:
        nonlocal started
        started = True
        spare_what_is_loaded()

    try:
        run(
            handler,
            settings=settings,
            on_start=on_start,
            sock=ours.charge.sockets,
            kind=partial(WorkerServer, channel=ours),
            signals=False,
            quiet=True,
        )
    except Exception as exc:
        if started:
            raise
        raise not_started(address_of(options)[1], exc) from None
    finally:
        spare_nothing()


def parents_settings(options: argparse.Namespace) -> Settings:
    """The settings as far as the parent needs them.  Raises UsageError."""
    names = ("path", "allowed_hosts", "allowed_origins", "uds_mode", "ops_port", "ops_host", "state_keys")
    try:
        return Settings(**{**{name: getattr(options, name) for name in names}, **settings_of(options.fields)})
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def command_before(arguments: Sequence[str]) -> list[str]:
    """The arguments of the interpreter and the name of the program, as this process was started."""
    original = [*sys.orig_argv[1:]]
    count = len(arguments)
    if len(original) > count and original[len(original) - count :] == [*arguments]:
        return original[: len(original) - count]
    return [*STARTED_BY]


def without_secrets(options: argparse.Namespace, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The arguments that others may read, and the options that were left out of them."""
    hidden = {key: getattr(options, key) for key in SECRET if options.labels[key].startswith("--")}
    hidden = {key: value for key, value in hidden.items() if value is not None}
    # The parent hands the keys of its settings down in any case.
    return _without(arguments, ["--state-keys", *(f"--{key}" for key in hidden)]), hidden


def _without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """These arguments without some options and their values."""
    left: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":  # no option follows
            return [*left, word, *words]
        if word in flags:
            next(words, None)
        elif word.partition("=")[0] not in flags:
            left.append(word)
    return left


def cores() -> int:
    """The number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

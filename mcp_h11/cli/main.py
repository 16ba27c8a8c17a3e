# SPDX-License-Identifier: MIT
"""The command line: find the command, run it, and say a mistake in one line.

A mistake of the user ends as one line on stderr and exit code 2; a traceback is shown only if it is of the user's own
code.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from ..protocol.shown import escaped
from .banner import print_text
from .colours import RED, coloured
from .commands import COMMANDS, main_of, parser_of
from .parser import ENVIRONMENT_PREFIX, OK, PACKAGE, PROG, UsageError, closest, did_you_mean
from .parser import INTERRUPTED as INTERRUPTED
from .target import may_be_target, python_files

_FORMAT = "--access-log-format"
_FORMAT_VARIABLE = f"{ENVIRONMENT_PREFIX}ACCESS_LOG_FORMAT"


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0].startswith("--worker-channel="):
        workers = importlib.import_module(".workers", __package__)
        return int(workers.serve_as_worker(arguments[0], arguments[1:]))
    if arguments and arguments[0].startswith("--reloaded="):
        reload = importlib.import_module(".reloading.reload", __package__)
        return int(reload.serve_child_on_pipes(arguments))
    if arguments and arguments[0] in COMMANDS:
        return main_of(arguments[0], arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        _check_word(*arguments[:2])
    return main_of("", arguments)


def _check_word(word: str, following: str = "") -> None:
    """Raises UsageError where the first word of the command line is no command, and nothing that can be served."""
    if following in COMMANDS:
        raise UsageError(f"the command comes first: {PROG} {following} {word} ...")
    if not may_be_target(word):
        files = python_files(os.curdir)
        if word in _LEFT_OUT:
            raise UsageError(f"{word!r} is no command; to serve, name a file or a module: {PROG} tools.py")
        meant = closest(word, [*COMMANDS, *files])
        hint = did_you_mean(files.get(meant, meant)) or f" ({PROG} --help names the commands; a file ends in .py)"
        raise UsageError(f"{word!r} is no command, no file and no module{hint}")


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether a program reads stderr, which expects JSON; asked also where the options themselves are wrong."""
    command = arguments[0] if arguments and arguments[0] in COMMANDS else ""
    try:
        if _FORMAT not in parser_of(command)._option_string_actions:
            return False
    except UsageError:  # a command that this copy was made without
        return False
    wanted = os.environ.get(_FORMAT_VARIABLE, "")
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if word == "--":  # what follows is the command of a bridge
            break
        if name == _FORMAT:
            wanted = value if equals else following
    return wanted.lower() == "json"


def _print_json(exc: UsageError) -> None:
    from ..server.logs import write_log_line

    fields = {"name": f"{PACKAGE}.cli", "levelno": logging.ERROR, "msg": str(exc), "exc_text": exc.details.rstrip("\n")}
    write_log_line(logging.makeLogRecord(fields), sys.stderr)


# What other programs call the command that serves.
_LEFT_OUT = ("run", "serve", "start")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv[1:]` by default) and return the exit code.

    0 after a clean stop (SIGINT and SIGTERM drain), 2 where something has to be changed first, 3 where the workers of
    `--workers` end again and again.
    """
    arguments = sys.argv[1:] if argv is None else argv
    try:
        return _run(arguments)
    except UsageError as exc:
        if _wants_json(arguments):
            _print_json(exc)
            return exc.code
        if exc.details:
            print_text(exc.details.rstrip("\n"), sys.stderr)
        print_text(f"{PROG}: {coloured('error:', RED, sys.stderr)} {escaped(str(exc))}", sys.stderr)
        return exc.code
    except SystemExit as exc:  # argparse: --help and --version
        return exc.code if isinstance(exc.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED

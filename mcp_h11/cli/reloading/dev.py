# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 dev TARGET`: serve code while you write it.

It is the serving command with other defaults: `--reload`, the page for browsers, a line for each request, and the
debug messages of the user's own code.  An option or variable that the user gave goes before these.
"""

from __future__ import annotations

import argparse
import logging
import os
import webbrowser
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from ...protocol.shown import escaping
from ..banner import http_banner
from ..options import OPTIONS, add_options, read_options
from ..parser import PROG, CommandParser, UsageError
from . import reload
from .watch import is_own

logger = escaping(logging.getLogger(__name__))

_DEFAULTS = {"reload": True, "access_log": True}
_FORM = "%(asctime)s %(levelname)s %(message)s"
_TIME = "%H:%M:%S"

_EPILOG = f"""\
A file of yours that is saved is served at once, and clients keep their
sessions.  Code that cannot run is told in a line, and the code before it goes
on.  Each request and the debug messages of your code are in the log.

examples:
  {PROG} dev tools.py
  {PROG} dev package.module:server --port 9000 --open
"""


def parser_of(word: str = "dev") -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = CommandParser(
        prog=f"{PROG} dev",
        usage=f"{PROG} dev TARGET [options]",
        description="Serve code while you write it, with a page to try it.",
        epilog=_EPILOG,
        rare=[option.key for option in OPTIONS if not option.common],
    )
    parser.add_argument("target", metavar="TARGET", help="file, module or module:object to serve")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    add_options(parser, [option for option in OPTIONS if option.key not in ("stdio", "reload")])
    return parser


def read_dev_options(arguments: Sequence[str], hidden: Mapping[str, Any] | None = None) -> argparse.Namespace:
    """The options of these arguments, and in a worker those that the parent hands down.  Raises UsageError."""
    given = parser_of().parse_args(arguments)
    for key, value in (hidden or {}).items():
        setattr(given, key, value)
    given.stdio, given.reload, given.dev = None, None, True
    if read_options(copy(given), os.environ).stdio:
        raise UsageError("dev serves over HTTP, and MCP_H11_STDIO says pipes: --stdio --reload is for those")
    for option in OPTIONS:
        if option.key in _DEFAULTS and getattr(given, option.key) is None and option.variable not in os.environ:
            setattr(given, option.key, _DEFAULTS[option.key])
    given.debug = given.log_level is None
    options = read_options(given, os.environ)
    options.warnings = options.warnings if hidden is None else []  # the parent gave them
    return options


def start_dev_logging(options: argparse.Namespace) -> None:
    """To stderr: all messages from the level on, and without a level also the debug messages of the user's own code."""
    level = "DEBUG" if options.debug else options.log_level.upper()
    only = _worth_reading if options.debug else None
    if options.access_log_format == "json":
        from ...server.logs import log_as_json  # most logs are read by people

        log_as_json(level, only=only, process=os.getpid())
    else:
        handler = logging.StreamHandler()
        if only is not None:
            handler.addFilter(only)
        logging.basicConfig(level=level, format=_FORM, datefmt=_TIME, handlers=[handler])
    for warning in options.warnings:
        logger.warning("%s", warning)


def _worth_reading(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or is_own(record.pathname)


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return the exit code.  Raises UsageError."""
    options = read_dev_options(arguments)

    def banner(name: str, url: str, given: argparse.Namespace) -> str:
        options.url = url
        first, _, rest = http_banner(name, url, given).partition("\n")
        return f"{first}\nThe new code is served when a file changes.\n{rest}"

    def on_start(workers: Any) -> None:
        if options.open:
            webbrowser.open(options.url)

    return reload.serve_reloaded(options, [reload.DEV, *arguments], on_start=on_start, banner=banner)

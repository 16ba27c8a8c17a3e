# SPDX-License-Identifier: MIT
"""The commands: the first word of the command line, and the module of each.

A module is loaded when its command is used.  It has two functions:

- `parser_of(word)` returns its `CommandParser`, for `--help` and for the completion of shells.
- `main_of(word, arguments)` runs the command, returns its exit code, and raises UsageError.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from .parser import PACKAGE, UsageError

SERVING = "serving"  # the module of the command that has no word


class CommandEntry(NamedTuple):
    """One command: the module in this folder, and what it does in some 60 characters."""

    module: str
    about: str


COMMANDS = {
    "list": CommandEntry("asking.ask", "list the tools, resources and prompts of a server"),
    "call": CommandEntry("asking.ask", "call a tool"),
    "read": CommandEntry("asking.ask", "read a resource"),
    "prompt": CommandEntry("asking.ask", "get a prompt"),
    "ping": CommandEntry("asking.ask", "see that a server answers, and how fast"),
    "tasks": CommandEntry("asking.ask", "come back to a task: its state, its result, its end"),
    "detect": CommandEntry("asking.ask", "tell which transport and revisions a URL speaks"),
    "bench": CommandEntry("benching.bench", "measure a server under load"),
    "login": CommandEntry("login.login", "log in at a server that asks for it, or list the logins"),
    "logout": CommandEntry("login.login", "forget a login"),
    "proxy": CommandEntry("proxy", "serve what another server offers, or several others"),
    "dev": CommandEntry("reloading.dev", "serve code while you write it, with a page to try it"),
    "install": CommandEntry("installing.install", "write a server into the configuration of a client"),
    "vendor": CommandEntry("vendoring.vendor", "copy this package into a program, or make one file that runs"),
}


def commands_here() -> dict[str, CommandEntry]:
    """The commands that this copy has: all of them, but in one that was made with --server-only."""
    if importlib.util.find_spec("..client", __package__) is not None:
        return COMMANDS
    found = {}
    for word, entry in COMMANDS.items():
        with contextlib.suppress(UsageError):
            _module(word)
            found[word] = entry
    return found


def _module(word: str) -> ModuleType:
    try:
        return importlib.import_module(f".{COMMANDS[word].module if word else SERVING}", __package__)
    except ModuleNotFoundError as error:
        # `vendor --pyz --server-only` leaves folders out.
        if not (error.name or "").startswith(f"{PACKAGE}."):
            raise
        raise UsageError(f"{word} is not here: this copy was made with --server-only") from None


def parser_of(word: str) -> argparse.ArgumentParser:
    """The parser of a command; "" is the one that serves."""
    parser: argparse.ArgumentParser = _module(word).parser_of(word)
    return parser


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run a command ("" is the one that serves) and return its exit code.  Raises UsageError."""
    return int(_module(word).main_of(word, arguments))

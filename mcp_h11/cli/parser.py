# SPDX-License-Identifier: MIT
"""The parser that each command uses: one line for a mistake, a short help, and all of it where asked for.

It knows no command and no option of its own.

Rule: a message names the option or variable that the user wrote, and says what to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from .program import PACKAGE as PACKAGE
from .program import PROG as PROG

ENVIRONMENT_PREFIX = "MCP_H11_"
OK = 0
FAILED = 2  # the exit code of argparse itself; the reason is on stderr
INTERRUPTED = 130  # 128 + SIGINT: stopped before there was anything to drain


class UsageError(Exception):
    """A mistake of the user, in one line; `details`, a traceback of the user's code, is printed above it.

    `code` is the exit code.
    """

    def __init__(self, message: str, details: str = "", code: int = FAILED) -> None:
        super().__init__(message)
        self.details = details
        self.code = code


def closest(word: str, words: Iterable[str]) -> str:
    """The one of these words that is meant by a mistyped one; "" where none is like it."""
    known = list(words)
    begun = [one for one in known if one.startswith(word)] if len(word.lstrip("-")) > 2 else []
    if not begun:
        import difflib  # only a mistake needs it

        # Without the dashes, which all options share: they would make any two of them alike.
        bare = {one.lstrip("-"): one for one in known}
        begun = [bare[one] for one in difflib.get_close_matches(word.lstrip("-"), bare, 1)]
    return min(begun, key=len, default="")


def did_you_mean(word: str) -> str:
    """A question for the end of a message; "" for no word."""
    return f"; did you mean {word}?" if word else ""


def _columns() -> int:
    """The width of the terminal, for which argparse would load `shutil`, with three compressors half a megabyte."""
    text = os.environ.get("COLUMNS", "")
    if text.isdecimal() and int(text):
        return int(text)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):  # no stdout, a closed one, no terminal
        return 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Raw, since the examples in an epilog have lines of their own.  A switch is one word: `--[no-]stdio`."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=_columns() - 2)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, argparse.BooleanOptionalAction):
            return action.option_strings[0].replace("--", "--[no-]", 1)
        return super()._format_action_invocation(action)


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        assert isinstance(parser, CommandParser)
        parser._print_message(parser.format_all(), sys.stdout)
        parser.exit()


class CommandParser(argparse.ArgumentParser):
    """Raises UsageError for a mistake.  It takes no abbreviations: a new option would change their meaning.

    The destinations in `rare` are left out of `--help`, so that it fits a screen; `--help-all` shows them.  With
    `mixed`, options may stand between arguments that can be left out.
    """

    def __init__(self, *, rare: Iterable[str] = (), mixed: bool = False, **details: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, add_help=False, **details)
        self.rare = frozenset(rare)
        self._mixed = mixed
        self.last: Callable[[], str] | None = None  # the end of the long help
        self.add_argument("-h", "--help", action="help", help="show this, and end")
        if self.rare:
            self.add_argument("--help-all", action=_HelpAll, nargs=0, help="show every option, and end")

    def error(self, message: str) -> Any:
        """Raise UsageError, where argparse would exit the process."""
        if message.startswith("the following arguments are required"):
            message = f"{message} ({self.prog} --help)"
        raise UsageError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it; what is left over is met with the nearest option.  Raises UsageError."""
        # argparse takes an argument as left out if an option stands before it, unless it is told to take options first.
        parse = self.parse_known_intermixed_args if self._mixed else self.parse_known_args
        found, extra = parse(args, namespace)
        if not extra:
            return found
        word = extra[0].partition("=")[0]
        if not word.startswith("-"):
            raise UsageError(f"there is an argument too much: {extra[0]}")
        meant = did_you_mean(closest(word, self._option_string_actions))
        raise UsageError(f"there is no option {word}{meant or f' ({self.prog} {self._longest_help} shows them)'}")

    @property
    def _longest_help(self) -> str:
        return "--help-all" if self.rare else "--help"

    def format_help(self) -> str:
        """The help that `--help` prints: one list of the options that are used most."""
        if not self.rare:
            return self._format([(group.title, group._group_actions) for group in self._action_groups])
        options = [action for action in self._actions if action.option_strings and action.dest not in self.rare]
        positional = [action for action in self._actions if not action.option_strings]
        # The way to the rest comes last, where a reader of the list looks for more.
        options.sort(key=lambda action: action.dest in ("help", "help_all", "version"))
        return self._format([("arguments", positional), ("options", options)])

    def format_all(self) -> str:
        """The help that `--help-all` prints: every option, in its group, and what `last` makes."""
        text = self._format([(group.title, group._group_actions) for group in self._action_groups])
        return text + (f"\n{self.last()}\n" if self.last is not None else "")

    def _format(self, sections: Iterable[tuple[str | None, list[argparse.Action]]]) -> str:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, actions in sections:
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

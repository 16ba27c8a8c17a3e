# SPDX-License-Identifier: MIT
"""The options of the commands that ask a server: `list`, `call`, `read`, `prompt`, `detect`, `ping`, `tasks`.

It reads words, and refuses those that cannot be meant; `ask` acts on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ...protocol.revisions import REVISIONS
from ..parser import ENVIRONMENT_PREFIX, PROG, CommandParser

DEFAULT_TIMEOUT = 60.0  # seconds for an answer
KINDS = ("tools", "resources", "templates", "prompts")
TOKEN = ENVIRONMENT_PREFIX + "CLIENT_TOKEN"  # not TOKEN: that is the token of a server started here

_QUESTIONS = f"""\
A server may ask something during a call.  On a terminal you are asked;
elsewhere --answer answers a field of a form, accept=yes agrees to visit a page,
text=... is the text of a model, and what has no answer is declined.

example:
  {PROG} call URL order_pizza kind=bianca --answer size=small
"""


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"has to be 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"has to be a number of seconds greater than 0, not {text!r}")
    return value


def parser_of(word: str) -> argparse.ArgumentParser:
    """The parser of one of these commands."""
    purpose, target, epilog = _ABOUT[word]
    parser = CommandParser(prog=f"{PROG} {word}", description=purpose, epilog=epilog, mixed=True)
    parser.add_argument("target", metavar="TARGET", help=target)
    if word in _ARGUMENTS:
        _ARGUMENTS[word](parser)
    parser.add_argument("--json", action="store_true", help="print the result as the server sent it")
    about = "of each request; repeatable"
    parser.add_argument("--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help=about)
    parser.add_argument("--token", help=f"bearer token; better kept in the environment, as {TOKEN}")
    parser.add_argument("--revision", choices=tuple(REVISIONS), metavar="REVISION", help=", ".join(REVISIONS))
    parser.add_argument("--timeout", type=_positive, metavar="SECONDS", help=f"for an answer ({DEFAULT_TIMEOUT:g})")
    about = "show requests and answers on stderr; -vv the log as well"
    parser.add_argument("-v", "--verbose", action="count", default=0, help=about)
    return parser


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kinds", nargs="*", default=[], metavar="KIND", help=", ".join(KINDS))


def _call_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", nargs="?", metavar="TOOL", help="its name; without one, the tools are listed")
    what = "or KEY:=JSON, or one JSON object of them"
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help=what)
    parser.add_argument("--task", action="store_true", help="as a task: print its id at once, and follow it")
    parser.add_argument("--no-wait", action="store_true", help="as a task, and print its id alone")
    _output_argument(parser, "save images, sounds and files of the result")
    _question_arguments(parser)


def _tasks_arguments(parser: argparse.ArgumentParser) -> None:
    about = "get its state, await its result, or cancel it"
    parser.add_argument(
        "action", choices=("get", "result", "cancel"), metavar="ACTION", help=f"get, result, cancel: {about}"
    )
    parser.add_argument("id", metavar="ID", help="of the task, as `call --task` prints it")
    _output_argument(parser, "save images, sounds and files of the result")
    _question_arguments(parser)
    parser.set_defaults(tool="result")


def _read_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", nargs="?", metavar="URI", help="of the resource; without one, they are listed")
    _output_argument(parser, "save it")
    _question_arguments(parser)


def _prompt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="its name; without one, they are listed")
    parser.add_argument("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="its arguments")
    _question_arguments(parser)


def _output_argument(parser: argparse.ArgumentParser, about: str) -> None:
    about += " there; a folder takes several contents, - is stdout"
    parser.add_argument("-o", "--output", metavar="FILE", help=about)


def _question_arguments(parser: argparse.ArgumentParser) -> None:
    about = "for what the server asks during the call; repeatable"
    parser.add_argument("--answer", action="append", default=[], metavar="KEY=VALUE", help=about)
    parser.add_argument("--decline", action="store_true", help="decline what the server asks")
    about = "a folder that the server may know of; repeatable"
    parser.add_argument("--root", action="append", default=[], metavar="DIR", help=about)


_ANY_TARGET = "a URL, a Python file with a server, or a command (quoted)"
_ABOUT = {
    "list": ("List tools, resources, templates and prompts.", _ANY_TARGET, ""),
    "call": ("Call a tool.", _ANY_TARGET, _QUESTIONS),
    "read": ("Read a resource: text as it is, and bytes to a pipe or a file.", _ANY_TARGET, ""),
    "prompt": ("Get a prompt.", _ANY_TARGET, ""),
    "detect": ("Tell which transport and revisions a URL speaks.", "a URL", ""),
    "ping": ("See that a server answers, and how fast.", _ANY_TARGET, ""),
    "tasks": ("Come back to a task: a call that goes on at the server.", _ANY_TARGET, _QUESTIONS),
}
_ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "list": _list_arguments,
    "call": _call_arguments,
    "read": _read_arguments,
    "prompt": _prompt_arguments,
    "tasks": _tasks_arguments,
}

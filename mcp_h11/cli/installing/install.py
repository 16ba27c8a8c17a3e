# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 install`: writes a server into the configuration of a client.

It shows the difference and asks before it writes.  `clients` knows the programs, `configfile` changes the file.

Rules:
- A file that cannot be read is left as it is, and the user gets the lines to paste.
- No token is written unless an option gives it for that.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ...bridge.configtext import ConfigError
from ...client.http.urls import is_url
from ...http.addresses import on_loopback
from ...protocol.shown import escaped
from ..banner import client_key, print_text, python_path_of
from ..colours import GREEN, RED, coloured
from ..parser import OK, PROG, CommandParser, UsageError, closest, did_you_mean
from ..program import STARTED_BY, bundled_target
from ..target import is_file, load_bundled, load_target, split_target
from . import tomledit
from .clients import CLIENTS, LINUX, MACOS, WINDOWS, ClientProgram, Machine, ServerLines, Wanted
from .configfile import ConfigFile

CONTEXT = 3  # lines before and after a change
DECLINED = 1  # the exit code where the user said no
SYSTEM = sys.platform

_USAGE = f"{PROG} install CLIENT [TARGET|URL] [options] [-- OPTIONS]"
_EPILOG = f"""\
CLIENT is {", ".join(CLIENTS)}.
TARGET is a file or module that the client starts, with the OPTIONS; URL is a
server that runs.
What changes is shown, and nothing is written before you agree.

examples:
  {PROG} install claude tools.py
  {PROG} install cursor tools.py --env API_KEY --project
  {PROG} install codex https://example.com/mcp --token-env TOKEN
  {PROG} install vscode tools.py --print
  {PROG} install claude-desktop tools --remove
"""


def parser_of(word: str = "install") -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = CommandParser(prog=f"{PROG} install", usage=_USAGE, epilog=_EPILOG,
                           description="Write a server into the configuration of a client.", mixed=True)  # fmt: skip
    parser.add_argument("client", metavar="CLIENT", type=_client, choices=tuple(CLIENTS), help="the program")
    parser.add_argument("target", metavar="TARGET", nargs="?", help="file, module or URL; the demo without one")
    parser.add_argument("--http", metavar="URL", type=_url, help="the URL, where you would rather name it so")
    parser.add_argument("--name", type=_name, help="of the server, in the client (its own name)")
    parser.add_argument("--env", metavar="NAME[=VALUE]", type=_assignment, action="append", default=[],
                        help="a variable of the server; without a value, the client's own; repeatable")  # fmt: skip
    parser.add_argument("--token-env", metavar="NAME", type=_variable,
                        help="the variable that has the bearer token; VS Code asks for it instead")  # fmt: skip
    parser.add_argument("--token", help="the bearer token, which is written into the file")
    parser.add_argument("--project", action="store_true", help="into the file of the project in this folder")
    parser.add_argument("--file", metavar="FILE", help="into this file, in the form of that client")
    parser.add_argument("--remove", action="store_true", help="take the server out; TARGET may be its name")
    parser.add_argument("--print", action="store_true", help="print what to paste, and write nothing")
    parser.add_argument("-y", "--yes", action="store_true", help="write without a question")
    return parser


def _bad(reason: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(reason)


def _client(text: str) -> str:
    if text not in CLIENTS:
        raise _bad(f"has to be one of {', '.join(CLIENTS)}, not {text!r}{did_you_mean(closest(text, CLIENTS))}")
    return text


def _url(text: str) -> str:
    if not is_url(text):
        raise _bad("has to be a URL that begins with http:// or https://")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise _bad("has up to 64 letters, digits, '-' and '_'")
    return text


def _variable(text: str) -> str:
    # The text is not quoted: it may be a token that was meant for --token.
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise _bad("has to be the name of a variable")
    return text


def _assignment(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise _bad("has to be NAME=VALUE or NAME")
    return name, value if equals else None


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return the exit code.  Raises UsageError."""
    given, extra = list(arguments), list[str]()
    if "--" in given:
        cut = given.index("--")
        given, extra = given[:cut], given[cut + 1 :]
    options = parser_of(word).parse_args(given)
    program = CLIENTS[options.client]
    path = _path(program, options)
    if options.remove:
        return _remove(program, path, options)
    name, wanted = _wanted(program, options, extra)
    entry = program.make(program, name, wanted)
    pasted = _snippet(program, name, entry)
    if options.print:
        if sys.stdout.isatty():  # a person wants to know where to; a program gets the lines alone
            print_text(f"To paste into {path}:\n", sys.stderr)
        print_text(pasted.rstrip("\n"), sys.stdout)
        return OK
    try:
        file = _opened(program, path)
        text = file.with_entry(name, entry.members, entry.inputs)
    except ConfigError as exc:
        print_text(f"To paste into it:\n\n{pasted}", sys.stdout)
        raise UsageError(f"{path} was left as it is: {exc}") from None
    return _finish(program, options, file, text, f"{name!r} is in {path}")


def _path(program: ClientProgram, options: argparse.Namespace) -> Path:
    """The file to change.  Raises UsageError where that program has none."""
    if options.file:
        if options.project:
            raise UsageError("--file and --project cannot be used together")
        return Path(options.file).expanduser().absolute()
    if options.project:
        if not program.project:
            raise UsageError(f"{program.title} has no file for a project")
        return Path.cwd() / program.project
    system = SYSTEM if SYSTEM in (MACOS, WINDOWS) else LINUX
    return program.user(Machine(system, Path.home(), os.environ))


def _opened(program: ClientProgram, path: Path) -> ConfigFile:
    """Raises ConfigError, and UsageError where the file cannot be read at all."""
    try:
        return ConfigFile(path, program.servers, toml=program.toml)
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from None


# --- what is wanted --------------------------------------------------------------------------------------------------


def _wanted(program: ClientProgram, options: argparse.Namespace, extra: list[str]) -> tuple[str, Wanted]:
    """The name of the server and how to reach it.  Raises UsageError for options that exclude each other."""
    if options.http and options.target:
        raise UsageError("TARGET and --http cannot be used together: one server has one place")
    if options.token and options.token_env:
        raise UsageError("--token and --token-env cannot be used together")
    url = options.http or (options.target if options.target and is_url(options.target) else "")
    passed = tuple(name for name, value in options.env if value is None)
    env = {name: value for name, value in options.env if value is not None}
    if url:
        if env or passed or extra:
            raise UsageError(
                f"{'--env' if env or passed else 'what follows --'} is for a server that the client starts"
            )
        return options.name or _url_name(url), Wanted(
            url=url, token=options.token or "", token_variable=options.token_env or ""
        )
    if options.token or options.token_env:
        raise UsageError(f"--token{'-env' if options.token_env else ''} is for a URL")
    # Loaded in any case: a client shows little of a server that cannot start.
    own = _server_name(options.target)
    name = options.name or _default_name(program, own)
    found = python_path_of(options.target)
    if found:
        env.setdefault("PYTHONPATH", found)
    return name, Wanted((*_command(options.target), *extra), env=env, passed=passed)


def _server_name(target: str | None) -> str:
    with contextlib.redirect_stdout(sys.stderr):  # the user's module may print
        bundled = bundled_target()
        if target is None and bundled is not None:
            return load_bundled(bundled).name
        return load_target(target).name if target else "demo"


def _default_name(program: ClientProgram, name: str) -> str:
    key = client_key(name)
    # Gemini CLI cuts the name of a tool at the first underscore to find its server.
    return key.replace("_", "-") if program.word == "gemini" else key


def _url_name(url: str) -> str:
    parts = urlsplit(url)
    host = "localhost" if on_loopback(parts.hostname or "") else parts.hostname or "mcp"
    return client_key(f"{host}-{parts.port}" if parts.port else host)


def _command(target: str | None) -> tuple[str, ...]:
    words = [sys.executable, *STARTED_BY]
    if target:
        where, attribute = split_target(target)
        where = str(Path(where).resolve()) if is_file(where) else where
        words.append(f"{where}:{attribute}" if attribute else where)
    return (*words, "--stdio")


def _snippet(program: ClientProgram, name: str, entry: ServerLines) -> str:
    """The text that a user would paste."""
    if program.toml:
        return tomledit.table((program.servers, name), entry.members)
    value = {program.servers: {name: entry.members}, **({"inputs": [*entry.inputs]} if entry.inputs else {})}
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# --- writing ---------------------------------------------------------------------------------------------------------


def _remove(program: ClientProgram, path: Path, options: argparse.Namespace) -> int:
    try:
        file = _opened(program, path)
        name = options.name or (options.target if options.target in file.entries else None)
        if name is None and options.target:
            name = (
                _url_name(options.target)
                if is_url(options.target)
                else _default_name(program, _server_name(options.target))
            )
        if name is None:
            raise UsageError("say which server: its name, or its TARGET")
        if name not in file.entries:
            there = ", ".join(map(repr, file.entries)) or "none"
            raise UsageError(f"{path} has no server {name!r} (it has {there})")
        text = file.without_entry(name)
    except ConfigError as exc:
        raise UsageError(f"{path} was left as it is: {exc}") from None
    return _finish(program, options, file, text, f"{name!r} is no longer in {path}")


def _finish(program: ClientProgram, options: argparse.Namespace, file: ConfigFile, text: str, done: str) -> int:
    """Show the difference, ask, and write."""
    if text == file.text:
        print_text(f"{done}: nothing had to be changed", sys.stdout)
        return OK
    print_text(_difference(file, text), sys.stdout)
    if not options.yes and not _agreed():
        print_text("Nothing was written.", sys.stdout)
        return DECLINED
    try:
        backup = file.write(text, private=not options.project)
    except OSError as exc:
        raise UsageError(f"cannot write {file.path}: {exc.strerror}") from None
    except ConfigError as exc:
        raise UsageError(f"{file.path} was left as it is: {exc}") from None
    before = f"; the file as it was: {backup}" if backup else ""
    after = f"{program.title} notices when it starts again." if options.remove else program.after
    print_text(f"{done}{before}\n{after}", sys.stdout)
    return OK


def _difference(file: ConfigFile, text: str) -> str:
    """A unified diff.  Of a long file, only the part between the first and the last change is compared."""
    old, new = file.text.splitlines(), text.splitlines()
    same = os.path.commonprefix([old, new])
    start = max(0, len(same) - CONTEXT)
    left = min(len(old), len(new)) - len(same)
    end = len(os.path.commonprefix([old[: -left - 1 : -1], new[: -left - 1 : -1]]))
    end = max(0, end - CONTEXT)
    before, after = (lines[start : len(lines) - end] for lines in (old, new))
    names = str(file.path) if file.before else "a new file", str(file.path)
    found = difflib.unified_diff(before, after, *names, lineterm="", n=CONTEXT)
    return "\n".join(_coloured(escaped(_moved(line, start))) for line in found)


def _coloured(line: str) -> str:
    colour = {"+": GREEN, "-": RED}.get(line[:1])
    return line if colour is None or line.startswith(("+++ ", "--- ")) else coloured(line, colour, sys.stdout)


def _moved(line: str, start: int) -> str:
    """The line of a difference that begins at another line than the first."""
    if not line.startswith("@@ "):
        return line
    return re.sub(r"([-+])([0-9]+)", lambda number: f"{number[1]}{int(number[2]) + start}", line)


def _agreed() -> bool:
    """Ask the user.  Raises UsageError where there is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nothing was written: there is no terminal to ask on, and --yes was not given")
    try:
        return input("Write it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False

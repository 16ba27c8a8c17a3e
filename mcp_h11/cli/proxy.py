# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 proxy`: serve another server, named by a command, an address, or a file of both.

It reads the options and starts.  `bridge.proxy` serves one server, `bridge.gateway` the servers of a file.

Rule: the command line or the file holds each command word by word.  No shell reads it, and nothing of it comes from the
network.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..bridge.config import ServerEntry, read_config
from ..bridge.configtext import MAX_CONFIG, ConfigError, decoded
from ..bridge.filter import PRECEDENCES
from ..bridge.operated import OperatedProxy
from ..bridge.proxy import ProxyHandler
from ..client.targets import Command, Url
from ..version import __version__
from .options import OPTIONS, add_options, read_options
from .parser import ENVIRONMENT_PREFIX, OK, PACKAGE, PROG, CommandParser, UsageError
from .serving import make_settings, serve_on_pipes, serve_over_http, start_logging

if TYPE_CHECKING:
    from .logins import LoginOfUser

CALL_TIMEOUT = 60.0  # seconds for a call without progress: a backend that hangs is not to hang its clients
PING_EVERY = 30.0
MORE_OBJECTS = 2_000  # before the collector looks for cycles; a call that waits has some 30
BEARER = f"{ENVIRONMENT_PREFIX}BEARER"

# Left out of `--help`, beside the options that are rare in every command.
_RARE = (
    "share_logs",
    "inherit_env",
    "forward_header",
    "ping_every",
    "ready_when",
    "precedence",
    "workers",
    "reload",
    "cwd",
)
_USAGE = f"""{PROG} proxy [options] -- COMMAND [ARGUMENT ...]
       {PROG} proxy [options] --url URL
       {PROG} proxy [options] --config FILE"""
_EPILOG = f"""\
COMMAND is started without a shell, and started again when it ends.  Each server
of FILE is at /servers/NAME/mcp.  SIGHUP reads FILE again, or swaps the backend.

examples:
  {PROG} proxy -- npx -y @modelcontextprotocol/server-everything
  {PROG} proxy --url https://example.com/mcp --stdio
  {PROG} proxy --config servers.json --port 9000
  {PROG} proxy --deny-tool 'delete_*' -- python tools.py --stdio
"""


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return the exit code.  Raises UsageError."""
    given, command = list(arguments), list[str]()
    # All that follows is the command's own, even if it looks like an option of ours.
    if "--" in given:
        cut = given.index("--")
        given, command = given[:cut], given[cut + 1 :]
    options = read_options(parser_of().parse_args(given), os.environ)
    # A handler may be trusted to answer; a backend may hang.
    if options.call_timeout is None:
        options.call_timeout = CALL_TIMEOUT
    _check(options, command)
    start_logging(options)
    with _collecting_seldom():
        _serve(options, command)
    return OK


def _serve(options: argparse.Namespace, command: list[str]) -> None:
    if options.config is not None:
        _serve_config(options)
        return
    handler = _handler(options, _spec(options, command))
    if options.stdio:
        serve_on_pipes(options, handler)
    else:
        serve_over_http(options, make_settings(options), handler)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Let Python's collector of cycles look for them seldom, while this process is a bridge.

    It looks whenever there are so many objects more than before (700 in Python 3.11), which two dozen calls under way
    have between them, and that took 7 % of the bridge's time.  Calls leave no cycle behind.
    """
    # Not every interpreter has such a collector.
    before = gc.get_threshold() if hasattr(gc, "get_threshold") else (0,)
    if before[0]:  # 0: it is off, by the environment of the process
        gc.set_threshold(MORE_OBJECTS, *before[1:])
    try:
        yield
    finally:
        if before[0]:
            gc.set_threshold(*before)


def parser_of(word: str = "proxy") -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = CommandParser(prog=f"{PROG} proxy", usage=_USAGE, description="Serve what another MCP server offers.",
                           epilog=_EPILOG, rare=[*_RARE, *(one.key for one in OPTIONS if not one.common)])  # fmt: skip
    where = parser.add_argument_group("what to serve")
    where.add_argument("--url", help="a server over HTTP, instead of a command")
    where.add_argument("--config", metavar="FILE", help="several servers: the mcpServers JSON of clients")
    where.add_argument("--per-session", action="store_true", help="a backend of its own for each session")
    where.add_argument("--share-logs", action="store_true",
                       help="log messages that name no request go to all clients that want any")  # fmt: skip
    where.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", type=_assignment,
                       help="a variable for the command; repeatable")  # fmt: skip
    where.add_argument("--inherit-env", action=argparse.BooleanOptionalAction, default=True,
                       help="the command gets the environment of the proxy, but for its own variables")  # fmt: skip
    where.add_argument("--cwd", metavar="FOLDER", help="where the command runs")
    where.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", type=_header,
                       help="a header for --url; repeatable")  # fmt: skip
    where.add_argument("--bearer", metavar="TOKEN", help=f"a bearer token for --url; rather set {BEARER}")
    where.add_argument("--forward-header", action="append", default=[], metavar="NAME",
                       help="a header of clients that is passed on to --url; repeatable")  # fmt: skip
    where.add_argument("--ping-every", type=_pings, default=PING_EVERY, metavar="SECONDS",
                       help="between pings of the backend, whose answers /ready shows; 0 for none (30)")  # fmt: skip
    where.add_argument("--ready-when", choices=("any", "all"),
                       help="with --config: /ready needs any of its servers, or all (any)")  # fmt: skip
    tools = parser.add_argument_group("which tools")
    tools.add_argument("--allow-tool", action="append", default=[], metavar="GLOB", help="only such; repeatable")
    tools.add_argument("--deny-tool", action="append", default=[], metavar="GLOB", help="no such; repeatable")
    tools.add_argument("--precedence", choices=PRECEDENCES, default="deny", help="which of the two wins (deny)")
    limit = f"seconds for a call without progress ({CALL_TIMEOUT:g})"
    add_options(parser, [replace(one, help=limit) if one.name == "call-timeout" else one for one in OPTIONS])
    return parser


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise argparse.ArgumentTypeError("has to be NAME=VALUE")
    return name, value


def _header(text: str) -> tuple[str, str]:
    # The message does not quote the value: it is often a secret.
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch("[\t -~]*", value):
        raise argparse.ArgumentTypeError("has to be 'NAME: VALUE'")
    return name, value.strip()


def _pings(text: str) -> float | None:
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"has to be a number of seconds, not {text!r}")
    # 0 is no interval: it switches pings off.
    return float(text) or None


def _check(options: argparse.Namespace, command: list[str]) -> None:
    """Raises UsageError for options that exclude each other."""
    if options.workers is not None:
        # Each worker would start every backend once more.  Several proxies with one `--store` are started on purpose.
        raise UsageError(f"{options.labels['workers']} is for tools, and not for the proxy")
    for key in ("reload", "skills"):
        if getattr(options, key):
            raise UsageError(f"{options.labels[key]} is for tools, and not for the proxy")
    if options.card and options.config:
        raise UsageError(f"{options.labels['card']} and --config cannot be used together: a card names one server")
    kinds = {"a command": command, "--url": options.url, "--config": options.config}
    named = [kind for kind, value in kinds.items() if value]
    if len(named) != 1:
        raise UsageError(
            f"{' and '.join(named)} cannot be used together"
            if named
            else "say what to serve: -- COMMAND, --url URL or --config FILE"
        )
    # Now, and in one line: later it would be a backend that keeps failing.
    if command and not shutil.which(command[0], path=None if options.cwd is None else _path_in(options.cwd)):
        raise UsageError(f"there is no command {command[0]!r}")
    _check_kind(options, command)
    if options.config:
        for flag, used in (("--stdio", options.stdio), ("--per-session", options.per_session),
                           ("--share-logs", options.share_logs),
                           ("--allow-tool", options.allow_tool), ("--deny-tool", options.deny_tool)):  # fmt: skip
            if used:
                raise UsageError(f"{flag} and --config cannot be used together: each server of the file has its own")


def _check_kind(options: argparse.Namespace, command: list[str]) -> None:
    """Raises UsageError for options of another kind of backend."""
    for flag, used in (("--env", options.env), ("--cwd", options.cwd)):
        if used and not command:
            raise UsageError(f"{flag} is for a command")
    if options.ready_when and not options.config:
        raise UsageError("--ready-when is for --config")
    for flag, used in (("--header", options.header), ("--bearer", options.bearer),
                       ("--forward-header", options.forward_header)):  # fmt: skip
        if used and not options.url:
            raise UsageError(f"{flag} is for --url")


def _path_in(folder: str) -> str:
    return os.pathsep.join((folder, os.environ.get("PATH", os.defpath)))


def _spec(options: argparse.Namespace, command: list[str]) -> Command | Url:
    try:
        if command:
            # A user who types a command expects it to see the environment.  The variables of this program are left out:
            # they hold its own secrets.
            env = {n: v for n, v in os.environ.items() if not n.startswith(ENVIRONMENT_PREFIX)}
            return Command(command, {**(env if options.inherit_env else {}), **dict(options.env)}, options.cwd)
        url = Url(options.url, dict(options.header), options.bearer or os.environ.get(BEARER))
        # The clients' own credentials are passed on where that is asked for; a login would replace them.
        own = any(name.lower() == "authorization" for name in options.forward_header)
        return url if own else _logins_of_user().given_to(url)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _logins_of_user() -> LoginOfUser:
    from .logins import LoginOfUser  # a bridge of commands needs none

    return LoginOfUser()


def _handler(options: argparse.Namespace, spec: Command | Url) -> ProxyHandler:
    try:
        return OperatedProxy(
            spec,
            per_session=options.per_session,
            allow=options.allow_tool,
            deny=options.deny_tool,
            precedence=options.precedence,
            share_logs=options.share_logs,
            forward_headers=options.forward_header,
            ping_every=options.ping_every,
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _text_of(path: str | Path) -> str:
    """Raises OSError, ConfigError."""
    with open(path, "rb") as file:
        # One character takes four bytes at most.  A longer file is cut here, and `parsed` refuses its text.
        return decoded(file.read(4 * MAX_CONFIG + 1))


def _workspace(path: Path) -> str:
    """The folder for `${workspaceFolder}`: the one above a hidden folder, as for `.vscode/mcp.json`."""
    folder = path.absolute().parent
    return str(folder.parent if folder.name.startswith(".") else folder)


def _serve_config(options: argparse.Namespace) -> None:
    from ..bridge.gateway import PREFIX, Gateway, GatewayServer

    path = Path(options.config)
    logins: list[LoginOfUser] = []

    def with_login(entry: ServerEntry) -> ServerEntry:
        if not isinstance(entry.spec, Url):
            return entry
        # One for all, so that entries of two readings are equal.
        if not logins:
            logins.append(_logins_of_user())
        return replace(entry, spec=logins[0].given_to(entry.spec))

    def read() -> dict[str, ServerEntry]:
        try:
            text = _text_of(path)
            toml = path.suffix.lower() == ".toml"
            found = read_config(text, os.environ, folder=_workspace(path), read_file=_text_of, toml=toml)
            return {name: with_login(entry) for name, entry in found.items()}
        except ConfigError as exc:
            raise ConfigError(f"{path}: {exc}") from None
        except OSError as exc:
            raise ConfigError(f"{path}: {exc.strerror}") from None

    try:
        entries = read()
    except ConfigError as exc:
        raise UsageError(str(exc)) from None
    gateway = Gateway(entries, read, ping_every=options.ping_every, ready_when=options.ready_when or "any")
    settings = make_settings(options)
    options.path = PREFIX

    def banner(name: str, url: str, _: argparse.Namespace) -> str:
        at = "\n".join(f"{url}{site}/mcp" for site in entries)
        return f"{PACKAGE} {__version__} serves {len(entries)} backends at {url.removesuffix(PREFIX)}\n{at}"

    serve_over_http(options, settings, gateway, kind=GatewayServer, banner=banner)

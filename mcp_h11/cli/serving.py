# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 [TARGET]`: the command without a word of its own.  It says how to connect, and serves.

It keeps no state, and uses only `run`, `run_stdio` and `Settings` of the server.

Rule: with `--stdio` only protocol is written to stdout, since a client reads it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from ..handler.handler import ServerHandler
from ..handler.mcpserver import MCPServer
from ..protocol.shown import escaping
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..server.running import run
from ..server.server import Server
from ..server.sockets import ListenError, reason_of
from ..server.stdio import run_stdio
from ..server.tls import tls_context
from ..stores.base import StoreRefused
from ..version import __version__
from .banner import Banner, print_start, print_text, stdio_banner
from .commands import commands_here
from .fields import settings_of
from .options import OPTIONS, add_options, read_options
from .parser import ENVIRONMENT_PREFIX, OK, PACKAGE, PROG, CommandParser, UsageError
from .program import bundled_target
from .target import load_bundled, load_target, users_error

LOG_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"

logger = escaping(logging.getLogger(__name__))

_ENTER = Runtime.__aenter__.__code__  # where the user's lifespan is entered

_DESCRIPTION = """\
Serve an MCP server, or the functions of a Python file.  TARGET is tools.py,
package.module, or an object in either (tools.py:server); without one, a demo.

commands, each with a --help of its own:
{commands}"""
_EPILOG = f"""\
Each option is a variable too: --log-level is {ENVIRONMENT_PREFIX}LOG_LEVEL.  The option
goes first.  Lists have commas; switches are 1/0, true/false, yes/no, on/off.

example:
  {PROG} call http://127.0.0.1:8000/mcp add a=1 b=2"""


def parser_of(word: str = "") -> argparse.ArgumentParser:
    """The parser of the serving command.  A value that was not given is None: the environment comes next."""
    here = commands_here()
    width = max(map(len, here))
    commands = "\n".join(f"  {name:<{width}}  {command.about}" for name, command in here.items())
    parser = CommandParser(
        prog=PROG,
        usage="%(prog)s [TARGET] [options]\n       %(prog)s COMMAND ...",
        description=_DESCRIPTION.format(commands=commands),
        epilog=_EPILOG,
        rare=["completion", *(option.key for option in OPTIONS if not option.common)],
    )
    parser.add_argument("target", nargs="?", metavar="TARGET", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"{PACKAGE} {__version__}", help="show it, and end")
    add_options(parser, OPTIONS)
    parser.add_argument(
        "--completion",
        choices=("bash", "zsh", "fish"),
        action=_Completion,
        help="print a script for this shell, and end",
    )
    return parser


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, __: Any = None) -> None:
        from .completion import completion_script  # it asks every command for its parser

        print_text(completion_script(shell).rstrip("\n"), sys.stdout)
        parser.exit()


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Serve until a signal ends it, and return the exit code.  Raises UsageError."""
    options = read_options(parser_of().parse_args(arguments), os.environ)
    if options.reload:
        reload = importlib.import_module(".reloading.reload", __package__)
        return int(reload.serve_reloaded(options, arguments))
    if options.workers is not None and not options.stdio:
        workers = importlib.import_module(".workers", __package__)
        return int(workers.serve_by_workers(options, arguments))
    start_logging(options)
    (_serve_stdio if options.stdio else _serve_http)(options)
    return OK


def start_logging(options: argparse.Namespace, form: str = LOG_FORM, *, shared: bool = False) -> None:
    """To stderr, from the level on that the options say; as JSON where the lines for requests are.

    `shared`: other processes of ours write to the same stderr, so that each line of JSON has the number of its process.
    """
    if options.access_log_format == "json":
        from ..server.logs import log_as_json  # most logs are read by people

        log_as_json(options.log_level.upper(), process=os.getpid() if shared else None)
    else:
        logging.basicConfig(level=options.log_level.upper(), format=form)
    for warning in options.warnings:
        logger.warning("%s", warning)


# ---------------------------------------------------------------------------------------------------------------------
# The settings of the server
# ---------------------------------------------------------------------------------------------------------------------


def _codec() -> Any:
    try:
        return importlib.import_module("orjson")  # the `speed` extra
    except ImportError:
        return None


def _tls(options: argparse.Namespace) -> Any:
    if options.certfile is None:
        if options.keyfile is not None:
            raise UsageError(f"{options.labels['keyfile']} needs --certfile")
        return None
    for key in ("certfile", "keyfile"):
        name = getattr(options, key)
        try:
            if name is not None:
                open(name, "rb").close()
        except OSError as exc:
            raise UsageError(f"{options.labels[key]} {name}: {exc.strerror}") from None
    try:
        return tls_context(options.certfile, options.keyfile)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise UsageError(
            f"{options.labels['certfile']} {options.certfile}: no usable certificate and key: {reason}"
        ) from None


def make_settings(options: argparse.Namespace) -> Settings:
    """The settings of a server over HTTP.  Raises UsageError for values that do not go together."""
    legacy_sse = not options.stateless if options.legacy_sse is None else options.legacy_sse
    tls = _tls(options)
    values: dict[str, Any] = {
        "path": options.path,
        "root_path": options.root_path or "",
        "response": options.response,
        "stateless": options.stateless,
        "legacy_sse": legacy_sse,
        "page": options.page,
        "card": options.card,
        "allowed_hosts": options.allowed_hosts,
        "allowed_origins": options.allowed_origins,
        "cors": tuple(options.cors),
        "token": options.token,
        "trusted_proxies": tuple(options.trusted_proxies),
        "uds_mode": options.uds_mode,
        "ssl": tls,
        "json": _codec(),
        "access_log": options.access_log and options.access_log_format,
        "call_timeout": options.call_timeout,
        "health": options.health,
        "metrics": options.metrics,
        "ops_port": options.ops_port,
        "ops_host": options.ops_host,
        "state_keys": options.state_keys,
    }
    try:
        return Settings(**{**values, "store": _store(options.store), **settings_of(options.fields)})
    except (ValueError, ImportError) as exc:
        raise UsageError(str(exc)) from None


def _stdio_settings(options: argparse.Namespace) -> Settings:
    values = {"json": _codec(), "call_timeout": options.call_timeout, "state_keys": options.state_keys}
    try:
        return Settings(**{**values, **settings_of(options.fields)})
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _store(url: str | None) -> str | None:
    """The URL of a store.  Raises ValueError where it names none, ImportError where a package is missing."""
    if url is not None:
        from ..stores.urls import open_store  # most servers have no store

        open_store(url)
    return url


# ---------------------------------------------------------------------------------------------------------------------
# Serving
# ---------------------------------------------------------------------------------------------------------------------


def load_handler(options: argparse.Namespace) -> ServerHandler:
    """The server that the target of the command line names, with the skills of its folder.  Raises UsageError."""
    bundled = bundled_target()
    if options.target is None and bundled is not None:
        handler = load_bundled(bundled)
    elif options.target is not None:
        handler = load_target(options.target)
    elif options.skills is not None:
        handler = MCPServer("skills")  # a folder is enough to be served
    else:
        from .demo import server as handler
    if options.skills is not None:
        _add_skills(handler, options)
    return handler


def _add_skills(handler: ServerHandler, options: argparse.Namespace) -> None:
    label = f"{options.labels['skills']} {options.skills}"
    if not isinstance(handler, MCPServer):
        raise UsageError(f"{label}: only an MCPServer takes skills, and the target is a {type(handler).__name__}")
    try:
        from ..extensions.skills import Skills  # most servers have none

        handler.add_extension(Skills(options.skills))
    except ModuleNotFoundError as exc:
        if exc.name is None or not exc.name.startswith(f"{__package__.rpartition('.')[0]}.extensions"):
            raise
        raise UsageError(f"{label}: the package was vendored without extensions/") from None
    except ValueError as exc:
        raise UsageError(f"{label}: {exc}") from None


def _serve_stdio(options: argparse.Namespace) -> None:
    # A client would read text that the user's module prints during its import as protocol.
    with contextlib.redirect_stdout(sys.stderr):
        handler = load_handler(options)
    # A person sees how to connect; a client that started us would only log it, at each start.
    if sys.stderr is not None and sys.stderr.isatty():
        print_text(stdio_banner(handler.name, options), sys.stderr)
    serve_on_pipes(options, handler)


def serve_on_pipes(options: argparse.Namespace, handler: ServerHandler) -> None:
    """Serve this handler on stdin and stdout, as the options say."""
    # `run_stdio` ends in order on SIGINT, and a client that stops us sends SIGTERM.
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run_stdio(handler, settings=_stdio_settings(options))
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve_http(options: argparse.Namespace) -> None:
    serve_over_http(options, make_settings(options), load_handler(options))


def serve_over_http(
    options: argparse.Namespace,
    settings: Settings,
    handler: ServerHandler,
    *,
    kind: Callable[..., Server] = Server,
    banner: Banner | None = None,
) -> None:
    """Serve this handler where the options say, and print how to connect.  Raises UsageError where it cannot begin.

    `banner` makes that text of the name, the address and the options, instead of `http_banner`.
    """
    started = False

    def on_start(server: Server) -> None:
        nonlocal started
        started = True
        spare_what_is_loaded()
        print_start(options, handler.name, server.addresses, banner)

    address, what = address_of(options)
    try:
        run(handler, settings=settings, on_start=on_start, kind=kind, quiet=True, **address)
    except KeyboardInterrupt:
        # Where a loop cannot handle signals itself, Ctrl+C arrives so, when the loop has ended its tasks.
        if not started:
            raise
    except Exception as exc:
        # Once it serves, an exception is our bug, and Python shows it as one.
        if started:
            raise
        raise not_started(what, exc) from None
    finally:
        spare_nothing()


def spare_what_is_loaded() -> None:
    """Have full collections not look at modules, tools and schemas: they stay, and a look takes 8 ms and more."""
    if hasattr(gc, "freeze"):  # not every interpreter has such a collector
        gc.freeze()


def spare_nothing() -> None:
    """Undo `spare_what_is_loaded`."""
    if hasattr(gc, "unfreeze"):
        gc.unfreeze()


def address_of(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The keywords of `listening` that say where to listen, and the same in words."""
    if options.uds is not None:
        return {"uds": options.uds}, options.uds
    if options.fd is not None:
        return {"fd": options.fd}, f"descriptor {options.fd}"
    host = options.host.removeprefix("[").removesuffix("]")
    return {"host": host, "port": options.port}, f"{host} port {options.port}"


def not_started(what: str, exc: Exception) -> Exception:
    """The error to raise for one that came before it served: a UsageError where the user can mend it.

    There are four such: of the user's lifespan, a setting that only the server could check, an address, a store that is
    not ours.
    """
    if isinstance(exc, StoreRefused):  # first, because the store is entered as the lifespan is
        return UsageError(str(exc))
    if any(frame.f_code is _ENTER for frame, _ in traceback.walk_tb(exc.__traceback__)):
        return users_error("its lifespan", exc)
    if isinstance(exc, ValueError):
        return UsageError(str(exc))
    if not isinstance(exc, OSError):
        return exc
    # The text of a ListenError is for programs: it names keywords and no options.
    what, reason = (exc.where, exc.reason) if isinstance(exc, ListenError) else (what, reason_of(exc))
    hint = ""
    if exc.errno == errno.EADDRINUSE:
        ops = what.startswith("the ops port")
        hint = "; --ops-port takes another" if ops else "; --port takes another, 0 any free one" * (" port " in what)
    return UsageError(f"cannot listen on {what}: {reason}{hint}")

# SPDX-License-Identifier: MIT
"""The command line: read the options, say how to connect, serve.

A mistake of the user ends as one line on stderr and exit code 2; a traceback is shown only if it is of the user's own
code.  It keeps no state, and uses only `run`, `run_stdio` and `Settings` of the server.

Rules:
- With `--stdio` only protocol is written to stdout: a client reads it.
- A token is never printed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import json
import logging
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..handler.handler import ServerHandler
from ..http.addresses import on_loopback
from ..protocol.shown import escaped
from ..runtime.runtime import Runtime
from ..runtime.settings import Settings
from ..server.running import run
from ..server.server import OPS_ADDRESS, Server
from ..server.stdio import run_stdio
from ..server.tls import tls_context
from ..stores.base import StoreRefused
from ..version import __version__
from .options import ANY, ENVIRONMENT_PREFIX, PACKAGE, PROG, UsageError, build_parser, read_options
from .target import is_file, load_target, split_target, users_error

OK = 0
LOG_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INTERRUPTED = 130  # 128 + SIGINT: stopped before there was anything to drain

_ENTER = Runtime.__aenter__.__code__  # where the user's lifespan is entered

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
    try:
        return Settings(
            path=options.path,
            root_path=options.root_path or "",
            response=options.response,
            stateless=options.stateless,
            legacy_sse=legacy_sse,
            allowed_hosts=options.allowed_hosts,
            allowed_origins=options.allowed_origins,
            cors=tuple(options.cors),
            token=options.token,
            trusted_proxies=tuple(options.trusted_proxies),
            uds_mode=options.uds_mode,
            ssl=tls,
            json=_codec(),
            access_log=options.access_log and options.access_log_format,
            call_timeout=options.call_timeout,
            health=options.health,
            metrics=options.metrics,
            ops_port=options.ops_port,
            ops_host=options.ops_host,
            store=_store(options.store),
        )
    except (ValueError, ImportError) as exc:
        raise UsageError(str(exc)) from None


def _store(url: str | None) -> str | None:
    """The URL of a store.  Raises ValueError where it names none, ImportError where a package is missing."""
    if url is not None:
        from ..stores.urls import open_store  # most servers have no store

        open_store(url)
    return url


# ---------------------------------------------------------------------------------------------------------------------
# Output
# ---------------------------------------------------------------------------------------------------------------------


# An address that a client can call.  0.0.0.0 stands for all addresses of the machine, and no client can call it.
def _url(options: argparse.Namespace, address: tuple[Any, ...]) -> str:
    host = address[0] if options.fd is not None else options.host.removeprefix("[").removesuffix("]")
    named = next((name for name in options.allowed_hosts or () if ANY not in name), "")
    if named and not on_loopback(host):
        netloc = named if re.search(r":[0-9]+$", named) and not named.endswith("]") else f"{named}:{address[1]}"
    else:
        host = {"0.0.0.0": "127.0.0.1", ANY: "127.0.0.1", "::": "::1"}.get(host, host)
        netloc = f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
    return f"{'https' if options.certfile else 'http'}://{netloc}{options.path}"


def _key(name: str) -> str:
    """A server's name as clients take it for a key: letters, digits, '-' and '_'."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "mcp"


_STOP = "(stop it with Ctrl+C)"


def _serves(name: str) -> str:
    return f"{PACKAGE} {__version__} serves {name!r}"


def _configuration(name: str, entry: dict[str, Any], command: str) -> str:
    text = json.dumps({"mcpServers": {_key(name): entry}}, indent=2)
    return f"For a client's configuration file:\n\n{text}\n\nFor Claude Code:\n\n{command}\n"


def http_banner(name: str, url: str, options: argparse.Namespace) -> str:
    """The text for stdout once the address is bound.  A token appears as the variable that holds it."""
    entry: dict[str, Any] = {"type": "http", "url": url}
    command = ["claude", "mcp", "add", "--transport", "http", _key(name), url]
    header = ""
    if options.token is not None:
        entry["headers"] = {"Authorization": f"Bearer ${{{ENVIRONMENT_PREFIX}TOKEN}}"}
        # Last, because it takes every word that follows; in double quotes, because the shell puts in the value.
        header = f' --header "Authorization: Bearer ${ENVIRONMENT_PREFIX}TOKEN"'
    text = _configuration(name, entry, shlex.join(command) + header)
    return f"{_serves(name)} at {url} {_STOP}\n\n{text}"


def _root(module: str) -> str:
    found = sys.modules[module.partition(".")[0]].__file__
    return str(Path(found).resolve().parents[1]) if found else ""


# A client starts the command in a folder of its own, so modules found in the current folder need PYTHONPATH.
def _python_path(target: str | None) -> str:
    local = {os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    roots = [_root(PACKAGE)]
    if target and not is_file(split_target(target)[0]):
        roots.append(os.getcwd())
    return os.pathsep.join(dict.fromkeys(root for root in roots if root in local))


def stdio_banner(name: str, options: argparse.Namespace) -> str:
    """The command form, for a client that starts the server itself."""
    arguments = ["-m", PACKAGE]
    if options.target:
        where, attribute = split_target(options.target)
        where = str(Path(where).resolve()) if is_file(where) else where
        arguments.append(f"{where}:{attribute}" if attribute else where)
    arguments.append("--stdio")
    if options.log_level != "info":
        arguments += ["--log-level", options.log_level]
    entry: dict[str, Any] = {"command": sys.executable, "args": arguments}
    environment: list[str] = []
    python_path = _python_path(options.target)
    if python_path:
        entry["env"] = {"PYTHONPATH": python_path}
        environment = ["--env", f"PYTHONPATH={python_path}"]
    # --env takes every word up to the next option
    command = [
        "claude",
        "mcp",
        "add",
        *environment,
        "--transport",
        "stdio",
        _key(name),
        "--",
        sys.executable,
        *arguments,
    ]
    text = _configuration(name, entry, shlex.join(command))
    return f"{_serves(name)} on stdin and stdout {_STOP}\n\n{text}"


def _print(text: str, file: Any) -> None:
    if file is None:  # pythonw
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    # Serving goes on without a reader of this text (`| head`).
    with contextlib.suppress(OSError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------

# Words that are commands, and the module of each.  It is loaded when the command is used; its
# `main_of(word, arguments)` returns the exit code, and raises UsageError.
_COMMANDS = {
    **dict.fromkeys(("list", "call", "read", "prompt", "detect", "ping"), "ask"),
    "proxy": "proxy",
}


def load_handler(options: argparse.Namespace) -> ServerHandler:
    """The server that the target of the command line names.  Raises UsageError."""
    if options.target is None:
        from .demo import server

        return server
    return load_target(options.target)


Banner = Callable[[str, str, argparse.Namespace], str]


def print_start(options: argparse.Namespace, name: str, addresses: Sequence[Any], banner: Banner | None = None) -> None:
    """Tell on stdout where a server of this name listens, and how to connect."""
    tcp = [address for address in addresses if isinstance(address, tuple)]
    if tcp:
        _print((banner or http_banner)(name, _url(options, tcp[0]), options), sys.stdout)
    else:
        _print(f"{_serves(name)} on the socket {addresses[0]} {_STOP}\n", sys.stdout)


def _serve_stdio(options: argparse.Namespace) -> None:
    # A client would read text that the user's module prints during its import as protocol.
    with contextlib.redirect_stdout(sys.stderr):
        handler = load_handler(options)
    # A person sees how to connect; a client that started us would only log it, at each start.
    if sys.stderr is not None and sys.stderr.isatty():
        _print(stdio_banner(handler.name, options), sys.stderr)
    serve_on_pipes(options, handler)


def serve_on_pipes(options: argparse.Namespace, handler: ServerHandler) -> None:
    """Serve this handler on stdin and stdout, as the options say."""
    # `run_stdio` ends in order on SIGINT, and a client that stops us sends SIGTERM.
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run_stdio(handler, settings=Settings(json=_codec(), call_timeout=options.call_timeout))
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
        print_start(options, handler.name, server.addresses, banner)

    address, what = address_of(options)
    try:
        run(handler, settings=settings, on_start=on_start, kind=kind, **address)
    except KeyboardInterrupt:
        # Where a loop cannot handle signals itself, Ctrl+C arrives so, when the loop has ended its tasks.
        if not started:
            raise
    except Exception as exc:
        # Once it serves, an exception is our bug, and Python shows it as one.
        if started:
            raise
        raise not_started(what, exc) from None


def address_of(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The keywords of `listening` that say where to listen, and the same in words."""
    if options.uds is not None:
        return {"uds": options.uds}, options.uds
    if options.fd is not None:
        return {"fd": options.fd}, f"descriptor {options.fd}"
    host = options.host.removeprefix("[").removesuffix("]")
    return {"host": host, "port": options.port}, f"{host} port {options.port}"


_REASONS = {
    errno.EADDRINUSE: "is already in use",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EADDRNOTAVAIL: "is no address of this machine",
}


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
    if exc.filename == OPS_ADDRESS:
        what = "the ops port"
    reason = _REASONS.get(exc.errno or 0) or exc.strerror or str(exc)
    hint = "; --port takes another, 0 any free one" if exc.errno == errno.EADDRINUSE and " port " in what else ""
    return UsageError(f"cannot listen on {what}: {reason}{hint}")


def _serve(arguments: Sequence[str]) -> int:
    if arguments and arguments[0].startswith("--worker-channel="):
        return int(_workers().serve_as_worker(arguments[0], arguments[1:]))
    # The first word may be a command of its own.
    command = _COMMANDS.get(arguments[0]) if arguments else None
    if command is not None:
        main_of = importlib.import_module(f".{command}", __package__).main_of
        return int(main_of(arguments[0], arguments[1:]))
    options = read_options(build_parser().parse_args(arguments), os.environ)
    if options.workers is not None and not options.stdio:
        return int(_workers().serve_by_workers(options, arguments))
    start_logging(options)
    (_serve_stdio if options.stdio else _serve_http)(options)
    return OK


def _workers() -> Any:
    return importlib.import_module(".workers", __package__)


def start_logging(options: argparse.Namespace, form: str = LOG_FORM) -> None:
    """To stderr, from the level on that the options say."""
    logging.basicConfig(level=options.log_level.upper(), format=form)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv[1:]` by default) and return the exit code.

    0 after a clean stop (SIGINT and SIGTERM drain), 2 where something has to be changed first, 3 where the workers of
    `--workers` end again and again.
    """
    try:
        return _serve(sys.argv[1:] if argv is None else argv)
    except UsageError as exc:
        if exc.details:
            _print(exc.details.rstrip("\n"), sys.stderr)
        _print(f"{PROG}: error: {escaped(str(exc))}", sys.stderr)
        return exc.code
    except SystemExit as exc:  # argparse: --help and --version
        return exc.code if isinstance(exc.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED

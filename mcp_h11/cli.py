# SPDX-License-Identifier: MIT
"""The command line: read the options, say how to connect, serve.

What a person can get wrong ends as one line on stderr and exit code 2; a traceback is shown only where it is of the
user's own code.  It keeps no state, and knows of the server nothing but `run`, `run_stdio` and `Settings`.

Rule: with `--stdio` nothing but protocol is written to stdout; and a token is written nowhere.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import ipaddress
import json
import logging
import os
import re
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import __version__
from .server import run
from .settings import Settings
from .stdio import run_stdio
from .target import Handler, UsageError, is_file, load_target, split_target

OK = 0
FAILED = 2  # what argparse itself exits with; the reason is on stderr
INTERRUPTED = 130  # 128 + SIGINT: stopped before there was anything to drain

PACKAGE = __package__ or "mcp_h11"
PROG = f"python -m {PACKAGE}"
ENVIRONMENT_PREFIX = "MCP_H11_"
ANY = "*"

# ---------------------------------------------------------------------------------------------------------------------
# Options: one table for the command line, the environment and the help
# ---------------------------------------------------------------------------------------------------------------------


def _bad(reason: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(reason)


def _text(value: str) -> str:
    if not value.strip():
        raise _bad("may not be empty")
    return value


def _number(value: str, most: int) -> int:
    # int() also takes "1_000", " 7 " and digits of other scripts
    if not re.fullmatch("[0-9]{1,10}", value) or int(value) > most:
        raise _bad(f"has to be a number from 0 to {most}, not {value!r}")
    return int(value)


def _port(value: str) -> int:
    return _number(value, 65535)


def _descriptor(value: str) -> int:
    return _number(value, 2**31 - 1)


def _path(value: str) -> str:
    # A path as it stands in a request line: visible ASCII, no query and no fragment.
    if not re.fullmatch(r"/[!-~]*", value) or set(value) & set("?#"):
        raise _bad(f"has to begin with '/' and have no space, '?' or '#', not {value!r}")
    return value


def _token(value: str) -> str:
    # RFC 6750 section 2.1, b64token.  The value is kept out of the message.
    if not re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", value):
        raise _bad("has to be a bearer token: letters, digits and - . _ ~ + / with = at the end only")
    return value


def _items(value: str) -> list[str]:
    items = [item.strip() for item in value.split(",")]
    if not all(items):
        raise _bad("has to be a comma-separated list without empty items")
    return [ANY if item.lower() == "any" else item for item in items]


def _choice(*choices: str) -> Callable[[str], str]:
    def choose(value: str) -> str:
        if value.lower() not in choices:
            raise _bad(f"has to be one of {', '.join(choices)}, not {value!r}")
        return value.lower()

    return choose


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _flag(value: str) -> bool:
    try:
        return _WORDS[value.lower()]
    except KeyError:
        raise _bad(f"has to be one of {', '.join(_WORDS)}, not {value!r}") from None


@dataclass(frozen=True)
class Option:
    """One option; its destination and its variable follow from its name."""

    name: str
    group: str
    help: str
    read: Callable[[str], Any] = _text
    metavar: str | None = None
    default: Any = None
    address: str = ""  # which kind of address it speaks of; two kinds exclude each other
    stdio: bool = False  # has a meaning without HTTP

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.key.upper()


_WHERE, _WHAT, _WHO, _LOG = "where to listen", "how to answer", "who may connect", "logging"
_RESPONSE = _choice("auto", "json", "sse")
_LEVEL = _choice("debug", "info", "warning", "error", "critical")

OPTIONS = (
    Option("host", _WHERE, "address to listen on (127.0.0.1)", default="127.0.0.1", address="tcp"),
    Option("port", _WHERE, "port, 0 for a free one (8000)", _port, default=8000, address="tcp"),
    Option("path", _WHERE, "path of the endpoint (/mcp)", _path, default="/mcp"),
    Option("uds", _WHERE, "listen on a Unix socket", metavar="FILE", address="uds"),
    Option("fd", _WHERE, "listen on an inherited socket", _descriptor, metavar="NUMBER", address="fd"),
    Option("stdio", _WHERE, "speak on stdin and stdout", _flag, default=False, address="stdio", stdio=True),
    Option("certfile", _WHERE, "TLS: the certificate chain, PEM", metavar="FILE"),
    Option("keyfile", _WHERE, "TLS: the private key, where the certificate file has none", metavar="FILE"),
    Option("response", _WHAT, "form of the answers (auto)", _RESPONSE, "auto|json|sse", default="auto"),
    Option("stateless", _WHAT, "keep no sessions", _flag, default=False),
    Option("legacy-sse", _WHAT, "serve HTTP+SSE of 2024-11-05 too (on, unless --stateless)", _flag),
    Option("allowed-hosts", _WHO, "names that clients may call it by, or 'any'; repeatable", _items, "HOST[,HOST]"),
    Option("allowed-origins", _WHO, "web origins that may call it, or 'any'; repeatable", _items, "ORIGIN[,ORIGIN]"),
    Option(
        "cors", _WHO, "web origins whose scripts may read answers; repeatable", _items, "ORIGIN[,ORIGIN]", default=()
    ),
    Option(
        "token",
        _WHO,
        f"bearer token to require; rather set {ENVIRONMENT_PREFIX}TOKEN: others can read a command line",
        _token,
    ),
    Option("log-level", _LOG, "debug, info, warning, error or critical (info)", _LEVEL, default="info", stdio=True),
    Option("access-log", _LOG, "one line for each request", _flag, default=False),
)

EPILOG = f"""\
TARGET is a file (tools.py), a module (package.module), or an object in either (tools.py:server); without one, a small
demo is served.  The object is an MCPServer or a ServerHandler; a module that has neither offers its public functions
as tools.

Each option can be set in the environment: --log-level is {ENVIRONMENT_PREFIX}LOG_LEVEL.  The command line goes first.
Lists are separated by commas; switches are 1/0, true/false, yes/no, on/off.

examples:
  {PROG}                                    the demo at http://127.0.0.1:8000/mcp
  {PROG} tools.py --port 9000
  {PROG} package.module:server --stdio      for a client that starts its servers itself
  {PROG} tools.py --host 0.0.0.0 --allowed-hosts tools.example.com
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(message)


# A word before the target (`list`, `call`, `proxy`) can become a command: it is looked for here, before this parser.
def build_parser() -> argparse.ArgumentParser:
    """The parser of the serving command.  A value that was not given is None: the environment comes next."""
    parser = _Parser(
        prog=PROG,
        usage="%(prog)s [TARGET] [options]",
        description="Serve an MCP server, or the functions of a Python file, to MCP clients.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # An abbreviation would change its meaning with the next option that is added.
        allow_abbrev=False,
    )
    parser.add_argument("target", nargs="?", metavar="TARGET", help="file, module or module:object to serve")
    parser.add_argument("--version", action="version", version=f"{PACKAGE} {__version__}")
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        details: dict[str, Any] = {"help": option.help, "dest": option.key}
        if option.read is _flag:
            details["action"] = argparse.BooleanOptionalAction
        else:
            details.update(type=option.read, metavar=option.metavar or option.name.rpartition("-")[2].upper())
            if option.read is _items:
                details["action"] = "extend"
        group.add_argument(option.flag, **details)
    return parser


def _from_environment(option: Option, environ: Mapping[str, str]) -> Any:
    value = environ.get(option.variable)
    # An empty variable is how compose files say "not set"; an empty token would silently open the door.
    if value is None or (not value and option.key != "token"):
        return None
    try:
        return option.read(value)
    except argparse.ArgumentTypeError as exc:
        raise UsageError(f"environment variable {option.variable} {exc}") from None


def _is_set(option: Option, value: Any) -> bool:
    return value is not None and not (option.key == "stdio" and value is False)


# --port and --uds speak of two addresses; what only HTTP has is a mistake beside --stdio.
def _check_combination(labels: dict[Option, str]) -> str:
    kinds: dict[str, str] = {}
    for option, label in labels.items():
        if option.address:
            kinds.setdefault(option.address, label)
    if len(kinds) > 1:
        raise UsageError("{} and {} cannot be used together".format(*list(kinds.values())[:2]))
    kind = next(iter(kinds), "")
    for option, label in labels.items():
        if kind == "stdio" and not option.stdio and not label.startswith(ENVIRONMENT_PREFIX):
            raise UsageError(f"{kinds[kind]} and {label} cannot be used together")
    return kind


def read_options(given: argparse.Namespace, environ: Mapping[str, str]) -> argparse.Namespace:
    """Command line over environment over default; `.labels` says by which name each one came.

    Raises:
        UsageError: a variable has a bad value, or two options exclude each other.
    """
    labels = {option: option.flag for option in OPTIONS if _is_set(option, getattr(given, option.key))}
    kind = _check_combination(labels)
    for option in OPTIONS:
        # The kind of address that the command line chose makes the environment's other kinds moot.
        moot = (kind and option.address not in ("", kind)) or (kind == "stdio" and not option.stdio)
        if getattr(given, option.key) is None and not moot:
            value = _from_environment(option, environ)
            setattr(given, option.key, value)
            if _is_set(option, value):
                labels[option] = option.variable
    _check_combination(labels)
    for option in OPTIONS:
        if getattr(given, option.key) is None:
            setattr(given, option.key, option.default)
    given.labels = {option.key: labels.get(option, option.flag) for option in OPTIONS}
    return given


# ---------------------------------------------------------------------------------------------------------------------
# What the server gets
# ---------------------------------------------------------------------------------------------------------------------


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost may be anything."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _require_hosts(options: argparse.Namespace, label: str, host: str) -> None:
    if not is_loopback(host) and options.allowed_hosts is None:
        raise UsageError(
            f"{label}: {host} may be reached by others, so --allowed-hosts has to name the hosts to answer to, or 'any'"
        )


def _failed(what: str, exc: OSError) -> UsageError:
    reasons = {
        errno.EADDRINUSE: "is already in use",
        errno.EACCES: "permission denied",
        errno.EPERM: "permission denied",
        errno.EADDRNOTAVAIL: "is no address of this machine",
    }
    reason = reasons.get(exc.errno or 0) or exc.strerror or str(exc)
    hint = "; --port takes another, 0 any free one" if exc.errno == errno.EADDRINUSE and "port" in what else ""
    return UsageError(f"cannot listen on {what}: {reason}{hint}")


# Bound here and not by `run`, so that the banner can be right about the port and comes only where one can connect.
def _bind(options: argparse.Namespace) -> socket.socket:
    host = options.host.removeprefix("[").removesuffix("]")
    _require_hosts(options, options.labels["host"], host)
    what = f"{host} port {options.port}"
    try:
        infos = socket.getaddrinfo(host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(infos, key=lambda info: info[0] != socket.AF_INET)
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except OSError as exc:
        raise _failed(what, exc) from None


def _inherit(options: argparse.Namespace) -> str:
    label = f"{options.labels['fd']} {options.fd}"
    try:
        inherited = socket.socket(fileno=options.fd)
    except OSError as exc:
        raise UsageError(f"{label}: {exc.strerror}") from None
    try:
        if inherited.type != socket.SOCK_STREAM:
            raise UsageError(f"{label}: is no stream socket")
        address = inherited.getsockname()
        if not isinstance(address, tuple):
            return ""
        _require_hosts(options, label, address[0])
        return _url(options, address[0], address[1])
    finally:
        inherited.detach()


def _tls(options: argparse.Namespace) -> Any:
    if options.certfile is None:
        if options.keyfile is not None:
            raise UsageError(f"{options.labels['keyfile']} needs --certfile")
        return None
    import ssl

    for key in ("certfile", "keyfile"):
        name = getattr(options, key)
        try:
            if name is not None:
                open(name, "rb").close()
        except OSError as exc:
            raise UsageError(f"{options.labels[key]} {name}: {exc.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(options.certfile, options.keyfile)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", None) or exc
        raise UsageError(
            f"{options.labels['certfile']} {options.certfile}: no usable certificate and key: {reason}"
        ) from None
    return context


def _settings(options: argparse.Namespace) -> Settings:
    codec: Any = None
    with contextlib.suppress(ImportError):  # the `speed` extra
        codec = importlib.import_module("orjson")
    legacy_sse = not options.stateless if options.legacy_sse is None else options.legacy_sse
    tls = _tls(options)
    try:
        return Settings(
            response=options.response,
            stateless=options.stateless,
            legacy_sse=legacy_sse,
            allowed_hosts=options.allowed_hosts,
            allowed_origins=options.allowed_origins,
            cors=tuple(options.cors),
            token=options.token,
            ssl=tls,
            json=codec,
            access_log=options.access_log,
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from None


# ---------------------------------------------------------------------------------------------------------------------
# What is printed
# ---------------------------------------------------------------------------------------------------------------------


# The name by which a client reaches it: an address that stands for all of them cannot be called.
def _url(options: argparse.Namespace, host: str, port: int) -> str:
    scheme = "https" if options.certfile else "http"
    named = next((h for h in options.allowed_hosts or () if ANY not in h), "")
    if is_loopback(host) or not named:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        named = f"[{host}]" if ":" in host else host
    with_port = named if re.search(r":[0-9]+$", named) and not named.endswith("]") else f"{named}:{port}"
    return f"{scheme}://{with_port}{options.path}"


def _key(name: str) -> str:
    """A server's name as clients take it for a key: letters, digits, '-' and '_'."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "mcp"


def _configuration(name: str, entry: dict[str, Any], command: str) -> str:
    text = json.dumps({"mcpServers": {_key(name): entry}}, indent=2)
    return f"For a client's configuration file:\n\n{text}\n\nFor Claude Code:\n\n{command}\n"


def http_banner(name: str, url: str, options: argparse.Namespace) -> str:
    """What is printed once the address is bound.  A token appears as the variable that holds it."""
    entry: dict[str, Any] = {"type": "http", "url": url}
    command = ["claude", "mcp", "add", "--transport", "http", _key(name), url]
    header = ""
    if options.token is not None:
        entry["headers"] = {"Authorization": f"Bearer ${{{ENVIRONMENT_PREFIX}TOKEN}}"}
        # Last, because it takes every word that follows; in double quotes, because the shell puts in the value.
        header = f' --header "Authorization: Bearer ${ENVIRONMENT_PREFIX}TOKEN"'
    text = _configuration(name, entry, shlex.join(command) + header)
    return f"{PACKAGE} {__version__} serves {name!r} at {url} (stop it with Ctrl+C)\n\n{text}"


def _root(module: str) -> str:
    found = sys.modules[module.partition(".")[0]].__file__
    return str(Path(found).resolve().parents[1]) if found else ""


# A client starts the command in a folder of its own, where "found beside me" finds nothing.
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
    return f"{PACKAGE} {__version__} serves {name!r} on stdin and stdout (stop it with Ctrl+C)\n\n{text}"


def _print(text: str, file: Any) -> None:
    if file is None:  # pythonw
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    # A reader that went away (`| head`) is no reason not to serve.
    with contextlib.suppress(OSError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# The command
# ---------------------------------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace) -> Handler:
    if options.target is None:
        from .demo import server

        return server
    return load_target(options.target)


def _serve_stdio(options: argparse.Namespace) -> None:
    # What the user's module prints while it is imported would be read as protocol.
    with contextlib.redirect_stdout(sys.stderr):
        handler = _load(options)
    # A person sees how to connect; a client that started us would only log it, at each start.
    if sys.stderr is not None and sys.stderr.isatty():
        _print(stdio_banner(handler.name, options), sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        run_stdio(handler)


def _serve_http(options: argparse.Namespace) -> None:
    settings = _settings(options)
    address: dict[str, Any] = {"path": options.path, "settings": settings}
    handler = _load(options)
    if options.uds is not None:
        address["uds"] = options.uds
        _print(f"{PACKAGE} {__version__} serves {handler.name!r} on the socket {options.uds}\n", sys.stdout)
    else:
        if options.fd is not None:
            address["fd"] = options.fd
            url = _inherit(options)
        else:
            address["sock"] = bound = _bind(options)
            url = _url(options, *bound.getsockname()[:2])
        _print(http_banner(handler.name, url, options), sys.stdout)
    # Where a loop cannot handle signals itself, Ctrl+C arrives as this, after the loop has ended its tasks.
    with contextlib.suppress(KeyboardInterrupt):
        run(handler, **address)


def _serve(arguments: Sequence[str]) -> int:
    options = read_options(build_parser().parse_args(arguments), os.environ)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    (_serve_stdio if options.stdio else _serve_http)(options)
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv[1:]` by default) and return the exit code.

    0 after a clean stop (SIGINT and SIGTERM drain), 2 where something has to be changed first.
    """
    try:
        return _serve(sys.argv[1:] if argv is None else argv)
    except UsageError as exc:
        if exc.details:
            _print(exc.details.rstrip("\n"), sys.stderr)
        _print(f"{PROG}: error: {exc}", sys.stderr)
        return FAILED
    except SystemExit as exc:  # argparse: --help and --version
        return exc.code if isinstance(exc.code, int) else OK
    except KeyboardInterrupt:
        return INTERRUPTED

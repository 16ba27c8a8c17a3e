# SPDX-License-Identifier: MIT
"""The options of the command line: one table for the arguments, the environment and the help.

It reads values and refuses those that exclude each other.  It opens nothing but a file of keys.

Rules:
- The command line goes before the environment, the environment before the default.
- A setting with an option of its own may also be given by `--set`, but not by both.  A secret may not.
- A message names the option or variable that the user wrote.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..http.addresses import on_loopback
from .fields import from_environment, read_field, readers, settings_in_words, variable_of
from .parser import ENVIRONMENT_PREFIX as ENVIRONMENT_PREFIX
from .parser import FAILED as FAILED
from .parser import PACKAGE as PACKAGE
from .parser import PROG as PROG
from .parser import CommandParser as CommandParser
from .parser import UsageError as UsageError
from .values import (
    OneOf,
    read_descriptor,
    read_items,
    read_keys,
    read_mode,
    read_path,
    read_port,
    read_prefix,
    read_seconds,
    read_switch,
    read_text,
    read_token,
    read_workers,
)


@dataclass(frozen=True)
class Option:
    """One option; its destination and its variable follow from its name."""

    name: str
    group: str
    help: str
    read: Callable[[str], Any] = read_text
    metavar: str | None = None
    default: Any = None
    address: str = ""  # the kind of address that it names; two kinds exclude each other
    stdio: bool = False  # has a meaning without HTTP
    common: bool = False  # shown by the short help
    secret: bool = False  # not for `--set`: a setting that a user gives without thinking of who reads a command line

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
_RUN = "running it"
_RESPONSE = OneOf("auto", "json", "sse")
_FORMATS = OneOf("text", "json")
_LEVEL = OneOf("debug", "info", "warning", "error", "critical")

OPTIONS = (
    Option(
        "host", _WHERE, "address to listen on, '*' for all (127.0.0.1)", default="127.0.0.1", address="tcp", common=True
    ),
    Option("port", _WHERE, "port, 0 for a free one (8000)", read_port, default=8000, address="tcp", common=True),
    Option("path", _WHERE, "path of the endpoint (/mcp)", read_path, default="/mcp"),
    Option(
        "root-path", _WHERE, "what a reverse proxy strips from the paths that clients ask for (nothing)", read_prefix
    ),
    Option("uds", _WHERE, "listen on a Unix socket", metavar="FILE", address="uds"),
    Option("uds-mode", _WHERE, "permission bits of the Unix socket, such as 660 (as the umask says)", read_mode),
    Option("fd", _WHERE, "listen on an inherited socket", read_descriptor, metavar="NUMBER", address="fd"),
    Option(
        "stdio",
        _WHERE,
        "speak on stdin and stdout",
        read_switch,
        default=False,
        address="stdio",
        stdio=True,
        common=True,
    ),
    Option("certfile", _WHERE, "TLS: the certificate chain, PEM", metavar="FILE"),
    Option("keyfile", _WHERE, "TLS: the private key, where the certificate file has none", metavar="FILE"),
    Option("response", _WHAT, "form of the answers (auto)", _RESPONSE, "auto|json|sse", default="auto"),
    Option("stateless", _WHAT, "keep no sessions", read_switch, default=False),
    Option("legacy-sse", _WHAT, "serve HTTP+SSE of 2024-11-05 too (on, unless --stateless)", read_switch),
    Option("page", _WHAT, "a page for browsers, at / and at the endpoint (on at a loopback address)", read_switch),
    Option("skills", _WHAT, "serve this folder of folders with a SKILL.md too", metavar="DIR", stdio=True),
    Option("card", _WHAT, "publish a server card under this name, such as com.example/weather", metavar="NAME"),
    Option("allowed-hosts", _WHO, "names that clients may call it by, or 'any'", read_items, "NAMES", common=True),
    Option("allowed-origins", _WHO, "web origins that may call it, or 'any'", read_items, "ORIGINS"),
    Option("cors", _WHO, "web origins whose scripts may read answers", read_items, "ORIGINS", default=()),
    Option(
        "token",
        _WHO,
        f"bearer token to require; rather set {ENVIRONMENT_PREFIX}TOKEN",
        read_token,
        common=True,
        secret=True,
    ),
    Option(
        "trusted-proxies",
        _WHO,
        "addresses, networks or 'unix' whose X-Forwarded-* and Forwarded are believed, or 'any'",
        read_items,
        "PEERS",
        default=(),
    ),
    Option("workers", _RUN, "processes that serve, 0 for one a core", read_workers, "N", common=True),
    Option("reload", _RUN, "serve the new code when a file changes", read_switch, default=False, stdio=True),
    Option(
        "store",
        _RUN,
        "keep sessions there, for other workers and restarts: sqlite:///FILE, redis://HOST",
        metavar="URL",
        secret=True,
    ),
    Option(
        "state-keys",
        _RUN,
        f"@FILE with the keys of request state, one a line; or set {ENVIRONMENT_PREFIX}STATE_KEYS",
        read_keys,
        "KEYS",
        default=(),
        stdio=True,
        secret=True,
    ),
    Option("call-timeout", _RUN, "seconds for a call without progress (none)", read_seconds, stdio=True),
    Option("health", _RUN, "answer GET /health and /ready", read_switch, default=False),
    Option("metrics", _RUN, "answer GET /metrics, for Prometheus", read_switch, default=False),
    Option("ops-port", _RUN, "answer all three on this port, and only there", read_port),
    Option("ops-host", _RUN, "address of that port (127.0.0.1)", default="127.0.0.1"),
    Option(
        "log-level",
        _LOG,
        "debug, info, warning, error, critical (info)",
        _LEVEL,
        default="info",
        stdio=True,
        common=True,
    ),
    Option("access-log", _LOG, "one line for each request", read_switch, default=False),
    Option("access-log-format", _LOG, "form of those lines (text)", _FORMATS, "text|json", default="text"),
)


def add_options(parser: CommandParser, options: Sequence[Option]) -> None:
    """Add these options to a parser, in their groups.  All commands that serve share them."""
    groups: dict[str, Any] = {}
    for option in options:
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        details: dict[str, Any] = {"help": option.help, "dest": option.key}
        # `--no-NAME` has to exist too: a variable may have switched on what one run shall not do.
        if option.read is read_switch:
            details["action"] = argparse.BooleanOptionalAction
        else:
            details.update(type=option.read, metavar=option.metavar or option.name.rpartition("-")[2].upper())
            # Repeatable, beside the commas: a long list reads better as several options.
            if option.read is read_items:
                details["action"] = "extend"
        group.add_argument(option.flag, **details)
    groups[_RUN].add_argument(
        "--set", action="append", metavar="NAME=VALUE", help="any other setting of the server; repeatable"
    )
    parser.last = lambda: settings_in_words([option.key for option in options])


_BY_KEY = {option.key: option for option in OPTIONS}
_FORMAT_OF_LOG = _BY_KEY["access_log_format"]


def _read(option: Option, text: str, label: str) -> Any:
    try:
        return option.read(text)
    except argparse.ArgumentTypeError as exc:
        raise UsageError(f"{label} {exc}") from None


def _from_environment(option: Option, environ: Mapping[str, str]) -> Any:
    value = environ.get(option.variable)
    # An empty variable is how compose files say "not set"; an empty token would silently open the door.
    if value is None or (not value and option.key != "token"):
        return None
    return _read(option, value, f"environment variable {option.variable}")


def _is_set(option: Option, value: Any) -> bool:
    return value is not None and not (option.key == "stdio" and value is False)


# --port and --uds name two addresses; an option of HTTP alone is a mistake beside --stdio.
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


def _assign(given: argparse.Namespace, labels: dict[Option, str]) -> dict[str, Any]:
    """Put the values of `--set` where their options have theirs.  Returns the settings that have no option."""
    fields: dict[str, Any] = {}
    seen: set[str] = set()
    for word in given.set or ():
        name, equals, text = word.partition("=")
        name = name.strip().replace("-", "_")
        label = f"--set {name}"
        if not equals:
            raise UsageError(f"{label} wants a value: --set NAME=VALUE")
        if name in seen:
            raise UsageError(f"{label} is given twice")
        seen.add(name)
        option = _BY_KEY.get(name)
        if option is None:
            fields[name] = read_field(name, text, label)
        elif name == "access_log" and text in _FORMATS.choices:
            _assign_option(given, labels, option, "yes", label)
            _assign_option(given, labels, _FORMAT_OF_LOG, text, label)
        elif name not in readers():
            raise UsageError(f"{label}: this is no setting of the server, but an option: {option.flag}")
        else:
            _assign_option(given, labels, option, text, label)
    return fields


def _assign_option(given: argparse.Namespace, labels: dict[Option, str], option: Option, text: str, label: str) -> None:
    if option in labels:
        raise UsageError(f"{labels[option]} and {label} are the same setting: give one of them")
    if option.secret:
        raise UsageError(f"{label}: this may be a secret, and others can read a command line: set {option.variable}")
    setattr(given, option.key, _read(option, text, label))
    labels[option] = label


def _is_private(options: argparse.Namespace) -> bool:
    """Whether this machine alone can reach the server; then browsers get the page."""
    host = options.host.removeprefix("[").removesuffix("]")
    # A reverse proxy on this machine would serve it to others.
    published = options.root_path or options.trusted_proxies or options.allowed_hosts
    return options.uds is None and options.fd is None and on_loopback(host) and not published


def read_options(given: argparse.Namespace, environ: Mapping[str, str]) -> argparse.Namespace:
    """Command line over environment over default.

    `.labels` holds the flag or variable that each value came from, `.fields` the settings that have no option, and
    `.warnings` what is odd in the environment.

    Raises:
        UsageError: a variable has a bad value, or two options exclude each other.
    """
    labels = {option: option.flag for option in OPTIONS if _is_set(option, getattr(given, option.key))}
    fields = _assign(given, labels)
    kind = _check_combination(labels)
    for option in OPTIONS:
        # An address on the command line replaces one of another kind in the environment.
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
    if given.page is None:
        given.page = _is_private(given)
    given.labels = {option.key: labels.get(option, option.flag) for option in OPTIONS}
    taken = {*(option.variable for option in OPTIONS), *map(variable_of, fields)}
    others, given.warnings = from_environment(environ, taken)
    given.fields = {**others, **fields}
    return given

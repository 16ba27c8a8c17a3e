# SPDX-License-Identifier: MIT
"""The options of the command line: one table for the arguments, the environment and the help.

It reads values and refuses those that exclude each other.  It opens nothing: `main` acts on the values.

Rules:
- The command line goes before the environment, the environment before the default.
- A message names the option or variable that the user wrote.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..http.addresses import checked_prefix
from ..server.server import MAX_WORKERS
from .parser import ENVIRONMENT_PREFIX as ENVIRONMENT_PREFIX
from .parser import FAILED as FAILED
from .parser import PACKAGE as PACKAGE
from .parser import PROG as PROG
from .parser import CommandParser as CommandParser
from .parser import UsageError as UsageError

ANY = "*"


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


def _workers(value: str) -> int:
    return _number(value, MAX_WORKERS)


def _seconds(value: str) -> float:
    # float() also takes "nan", "1e9" and " 7 "
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not float(value):
        raise _bad(f"has to be a number of seconds greater than 0, not {value!r}")
    return float(value)


def _descriptor(value: str) -> int:
    return _number(value, 2**31 - 1)


def _path(value: str) -> str:
    # A path as it stands in a request line: visible ASCII, no query and no fragment.
    if not re.fullmatch(r"/[!-~]*", value) or set(value) & set("?#"):
        raise _bad(f"has to begin with '/' and have no space, '?' or '#', not {value!r}")
    return value


def _prefix(value: str) -> str:
    try:
        return checked_prefix(value)
    except ValueError:
        raise _bad(f"has to be a path such as /tools, without dots and empty segments, not {value!r}") from None


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


def _mode(value: str) -> int:
    # As chmod has it: octal, with or without a leading 0.
    if not re.fullmatch("0?[0-7]{3}", value) or not int(value, 8):
        raise _bad(f"has to be permission bits such as 600 or 0660, not {value!r}")
    return int(value, 8)


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
    address: str = ""  # the kind of address that it names; two kinds exclude each other
    stdio: bool = False  # has a meaning without HTTP
    common: bool = False  # shown by the short help

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
_RESPONSE = _choice("auto", "json", "sse")
_FORMAT = _choice("text", "json")
_LEVEL = _choice("debug", "info", "warning", "error", "critical")

OPTIONS = (
    Option(
        "host", _WHERE, "address to listen on, '*' for all (127.0.0.1)", default="127.0.0.1", address="tcp", common=True
    ),
    Option("port", _WHERE, "port, 0 for a free one (8000)", _port, default=8000, address="tcp", common=True),
    Option("path", _WHERE, "path of the endpoint (/mcp)", _path, default="/mcp"),
    Option("root-path", _WHERE, "what a reverse proxy strips from the paths that clients ask for (nothing)", _prefix),
    Option("uds", _WHERE, "listen on a Unix socket", metavar="FILE", address="uds"),
    Option("uds-mode", _WHERE, "permission bits of the Unix socket, such as 660 (as the umask says)", _mode),
    Option("fd", _WHERE, "listen on an inherited socket", _descriptor, metavar="NUMBER", address="fd"),
    Option(
        "stdio", _WHERE, "speak on stdin and stdout", _flag, default=False, address="stdio", stdio=True, common=True
    ),
    Option("certfile", _WHERE, "TLS: the certificate chain, PEM", metavar="FILE"),
    Option("keyfile", _WHERE, "TLS: the private key, where the certificate file has none", metavar="FILE"),
    Option("response", _WHAT, "form of the answers (auto)", _RESPONSE, "auto|json|sse", default="auto"),
    Option("stateless", _WHAT, "keep no sessions", _flag, default=False),
    Option("legacy-sse", _WHAT, "serve HTTP+SSE of 2024-11-05 too (on, unless --stateless)", _flag),
    Option("page", _WHAT, "a page for browsers, at / and at the endpoint (on at a loopback address)", _flag),
    Option("allowed-hosts", _WHO, "names that clients may call it by, or 'any'", _items, "NAMES", common=True),
    Option("allowed-origins", _WHO, "web origins that may call it, or 'any'", _items, "ORIGINS"),
    Option("cors", _WHO, "web origins whose scripts may read answers", _items, "ORIGINS", default=()),
    Option(
        "token",
        _WHO,
        f"bearer token to require; rather set {ENVIRONMENT_PREFIX}TOKEN",
        _token,
        common=True,
    ),
    Option(
        "trusted-proxies",
        _WHO,
        "addresses, networks or 'unix' whose X-Forwarded-* and Forwarded are believed, or 'any'",
        _items,
        "PEERS",
        default=(),
    ),
    Option("workers", _RUN, "processes that serve, 0 for one a core", _workers, "N", common=True),
    Option(
        "store",
        _RUN,
        "keep sessions there, for other workers and restarts: sqlite:///FILE, redis://HOST",
        metavar="URL",
    ),
    Option("call-timeout", _RUN, "seconds for a call without progress (none)", _seconds, stdio=True),
    Option("health", _RUN, "answer GET /health and /ready", _flag, default=False),
    Option("metrics", _RUN, "answer GET /metrics, for Prometheus", _flag, default=False),
    Option("ops-port", _RUN, "answer all three on this port, and only there", _port),
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
    Option("access-log", _LOG, "one line for each request", _flag, default=False, common=True),
    Option("access-log-format", _LOG, "form of those lines (text)", _FORMAT, "text|json", default="text"),
)


def add_options(parser: argparse.ArgumentParser, options: Sequence[Option]) -> None:
    """Add these options to a parser, in their groups.  All commands that serve share them."""
    groups: dict[str, Any] = {}
    for option in options:
        group = groups.get(option.group) or groups.setdefault(option.group, parser.add_argument_group(option.group))
        details: dict[str, Any] = {"help": option.help, "dest": option.key}
        # `--no-NAME` has to exist too: a variable may have switched on what one run shall not do.
        if option.read is _flag:
            details["action"] = argparse.BooleanOptionalAction
        else:
            details.update(type=option.read, metavar=option.metavar or option.name.rpartition("-")[2].upper())
            # Repeatable, beside the commas: a long list reads better as several options.
            if option.read is _items:
                details["action"] = "extend"
        group.add_argument(option.flag, **details)


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


def read_options(given: argparse.Namespace, environ: Mapping[str, str]) -> argparse.Namespace:
    """Command line over environment over default; `.labels` holds the flag or variable that each value came from.

    Raises:
        UsageError: a variable has a bad value, or two options exclude each other.
    """
    labels = {option: option.flag for option in OPTIONS if _is_set(option, getattr(given, option.key))}
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
    given.labels = {option.key: labels.get(option, option.flag) for option in OPTIONS}
    return given

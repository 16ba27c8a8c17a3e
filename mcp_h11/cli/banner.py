# SPDX-License-Identifier: MIT
"""The text that a serving command prints: where it serves, and what to paste into which client.

Rule: a token is never printed.  It appears as the variable that holds it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..http.addresses import on_loopback
from ..version import __version__
from .colours import BOLD, coloured
from .parser import ENVIRONMENT_PREFIX, PACKAGE
from .program import STARTED_BY
from .target import is_file, split_target
from .values import ANY


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


def client_key(name: str) -> str:
    """A server's name as clients take it for a key: letters, digits, '-' and '_'."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "mcp"


_STOP = "(stop it with Ctrl+C)"


def _serves(name: str) -> str:
    return f"{PACKAGE} {__version__} serves {name!r}"


def _configuration(name: str, entry: dict[str, Any], command: str) -> str:
    text = json.dumps({"mcpServers": {client_key(name): entry}}, indent=2)
    return f"For a client's configuration file:\n\n{text}\n\nFor Claude Code:\n\n{command}\n"


def http_banner(name: str, url: str, options: argparse.Namespace) -> str:
    """The text for stdout once the address is bound.  A token appears as the variable that holds it."""
    entry: dict[str, Any] = {"type": "http", "url": url}
    command = ["claude", "mcp", "add", "--transport", "http", client_key(name), url]
    header = ""
    if options.token is not None:
        entry["headers"] = {"Authorization": f"Bearer ${{{ENVIRONMENT_PREFIX}TOKEN}}"}
        # Last, because it takes every word that follows; in double quotes, because the shell puts in the value.
        header = f' --header "Authorization: Bearer ${ENVIRONMENT_PREFIX}TOKEN"'
    text = _configuration(name, entry, shlex.join(command) + header)
    page = f"In a browser: {url.removesuffix(options.path)}/\n\n" if options.page else ""
    return f"{_serves(name)} at {url} {_STOP}\n\n{page}{text}"


def _root(module: str) -> str:
    found = sys.modules[module.partition(".")[0]].__file__
    return os.path.dirname(os.path.dirname(os.path.realpath(found))) if found else ""


def python_path_of(target: str | None) -> str:
    """The PYTHONPATH that a client has to give, as it starts the command in a folder of its own; "" for none."""
    local = {os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))}
    roots = [_root(PACKAGE)]
    if target and not is_file(split_target(target)[0]):
        roots.append(os.getcwd())
    return os.pathsep.join(dict.fromkeys(root for root in roots if root in local))


def stdio_banner(name: str, options: argparse.Namespace) -> str:
    """The command form, for a client that starts the server itself."""
    arguments = [*STARTED_BY]
    if options.target:
        where, attribute = split_target(options.target)
        where = os.path.realpath(where) if is_file(where) else where
        arguments.append(f"{where}:{attribute}" if attribute else where)
    arguments.append("--stdio")
    if options.log_level != "info":
        arguments += ["--log-level", options.log_level]
    entry: dict[str, Any] = {"command": sys.executable, "args": arguments}
    environment: list[str] = []
    python_path = python_path_of(options.target)
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
        client_key(name),
        "--",
        sys.executable,
        *arguments,
    ]
    text = _configuration(name, entry, shlex.join(command))
    return f"{_serves(name)} on stdin and stdout {_STOP}\n\n{text}"


def print_text(text: str, file: Any) -> None:
    if file is None:  # pythonw
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    # Serving goes on without a reader of this text (`| head`).
    with contextlib.suppress(OSError):
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


Banner = Callable[[str, str, argparse.Namespace], str]


def print_start(options: argparse.Namespace, name: str, addresses: Sequence[Any], banner: Banner | None = None) -> None:
    """Tell on stdout where a server of this name listens, and how to connect."""
    tcp = [address for address in addresses if isinstance(address, tuple)]
    if tcp:
        text = (banner or http_banner)(name, _url(options, tcp[0]), options)
        first, rest = text.split("\n", 1)
        print_text(f"{coloured(first, BOLD, sys.stdout)}\n{rest}", sys.stdout)
    else:
        print_text(f"{_serves(name)} on the socket {addresses[0]} {_STOP}\n", sys.stdout)

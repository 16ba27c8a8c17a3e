# SPDX-License-Identifier: MIT
"""The server that a benchmark is aimed at: an address, or a command that is started and ended here.

Requests go to the address that was given and to no other: a redirect is an answer with its status, and no proxy of the
environment is asked.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...bench import process
from ...bench.lines import connected
from ...bench.process import Group
from ...bench.scenarios import SCENARIOS, LoadPlan
from ...client.http.urls import is_url, parse_url
from ...client.targets import Url
from ..parser import UsageError
from ..program import STARTED_BY
from ..target import is_file, split_target

PORT = "{port}"


@dataclass
class Aim:
    """One server.

    Attributes:
        title: the address or the command, as it is shown.
        path: the target of the requests, with a query where the address has one.
        authority: the value of Host.
        group: its processes, where they are on this machine and known.
        command: for a server on stdin and stdout, which is not started yet; then the address means nothing.
        started: seconds until the server that was started here listened.
    """

    title: str
    host: str = "127.0.0.1"
    port: int = 0
    path: str = "/"
    authority: str = ""
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)
    group: Group | None = None
    command: list[str] = field(default_factory=list)
    started: float | None = None


def words_of(target: str) -> list[str]:
    """The command that TARGET means: as it is, or the one that serves a Python file.  Raises UsageError."""
    try:
        words = shlex.split(target)
    except ValueError as exc:
        raise UsageError(f"{target!r} cannot be split into words: {exc}") from None
    if not words:
        raise UsageError("TARGET is empty: give a URL, a Python file or a command")
    file = split_target(target)[0]
    if file.endswith(".py") and Path(file).is_file():
        return [sys.executable, *STARTED_BY, target, "--port", PORT]
    if len(words) == 1 and is_file(file) and not shutil.which(target):
        raise UsageError(f"cannot read {target}: give a URL, a Python file or a command")
    return words


@contextlib.contextmanager
def aimed(
    target: str | Sequence[str], path: str, headers: Mapping[str, str], token: str | None, pid: int | None
) -> Iterator[Aim]:
    """The server, running; one that was started here is ended with the block.

    Args:
        target: TARGET, or the words of a command.
        path: of the endpoint, for a command.
        pid: the process of the server, where the user says it.

    Raises:
        UsageError: no such server.
        bench.process.Failed: a command that does not start, or does not listen.
    """
    sent = dict(headers)
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if isinstance(target, str) and is_url(target):
        yield _of_url(target, sent, pid)
        return
    words = words_of(target) if isinstance(target, str) else list(target)
    shown = shlex.join(words) if not isinstance(target, str) else target
    if not any(PORT in word for word in words):
        yield Aim(shown, headers=sent, command=words)
        return
    _checked("http://127.0.0.1/", sent)
    server = process.start(words)
    try:
        group = server.group if process.IS_KNOWN else None
        authority = f"127.0.0.1:{server.port}"
        yield Aim(shown, port=server.port, path=path, authority=authority, headers=sent, group=group,
                  started=server.started)  # fmt: skip
    finally:
        process.stop(server)


def _checked(url: str, headers: Mapping[str, str]) -> None:
    try:
        Url(url, headers)
    except ValueError as exc:
        raise UsageError(str(exc)) from None


def _of_url(url: str, headers: dict[str, str], pid: int | None) -> Aim:
    _checked(url, headers)
    try:
        origin, authority, path = parse_url(url)
    except ValueError as exc:
        raise UsageError(str(exc)) from None
    if origin.uds is not None:
        raise UsageError("bench measures over TCP: give an address of http or https")
    tls = ssl.create_default_context() if origin.secure else None
    if tls is not None:
        tls.set_alpn_protocols(["http/1.1"])
    title = f"{'https' if origin.secure else 'http'}://{authority}{path.partition('?')[0]}"
    aim = Aim(title, origin.host, origin.port, path, authority, tls, headers)
    if pid is not None:
        aim.group = Group(pid, whole=False) if process.IS_KNOWN else None
    elif process.HAS_PROC and _is_here(aim):
        pids = process.listeners_of(origin.port)
        more = [one for pid in pids for one in process.descendants(pid) if one not in pids]
        aim.group = Group(pids[0], whole=False, others=[*pids[1:], *more]) if pids else None
    return aim


def _is_here(aim: Aim) -> bool:
    """Whether a connection to the server ends on this machine.  Raises OSError where there is none."""
    plain = LoadPlan(SCENARIOS["call"], aim.port, aim.host)
    with contextlib.closing(connected(plain)) as sock:
        here: bool = sock.getsockname()[0] == sock.getpeername()[0]
    return here

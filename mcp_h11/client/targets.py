# SPDX-License-Identifier: MIT
"""The servers that a bridge or a configuration names, as values: a command to run, or an address.

Two equal values name the same server, so that reading a configuration again shows its changes.  This module starts and
connects nothing.  It refuses to print a secret: `env`, `headers` and `token` are left out of `repr`.

Rule: a command is a list of words and never a line for a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .http.urls import SCHEMES

# RFC 9110, 5.1 and 5.5, as far as it is ASCII.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")


@dataclass(frozen=True)
class Command:
    """A server on stdin and stdout.

    Attributes:
        argv: the program and its arguments.
        env: added to the few variables that every child gets; "inherit" gives it the whole environment.
        cwd: the folder that it starts in; None for that of this process.
        revision: pins the revision; None lets the client find it.
    """

    argv: Sequence[str]
    env: Mapping[str, str] | str | None = field(default=None, repr=False)
    cwd: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.argv, str) or not self.argv or not all(isinstance(word, str) for word in self.argv):
            raise ValueError("a command is a list of words, the program first")
        if not self.argv[0] or any("\0" in word for word in self.argv):
            raise ValueError("a command begins with a program, and has no NUL in it")
        object.__setattr__(self, "argv", tuple(self.argv))
        if isinstance(self.env, str) and self.env != "inherit":
            raise ValueError(f'env is a mapping, None or "inherit", not {self.env!r:.20}')

    @property
    def name(self) -> str:
        """The program, for log lines and errors: arguments may hold secrets."""
        return self.argv[0]


@dataclass(frozen=True)
class Url:
    """A server at an address (http, https, http+unix).

    Attributes:
        url: the address.
        headers: sent with every request.
        token: a bearer token, or a coroutine function that gives one; it replaces an `Authorization` in `headers`.
        transport: "http" or "sse" pins the transport; None lets the client find it.
        revision: pins the revision; None lets the client find it.
        auth: an `OAuth`, which sends the token of a login in place of `token`.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: Any = field(default=None, repr=False)
    transport: str | None = None
    revision: str | None = None
    auth: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES or not parts.netloc:
            # The address is not quoted, because some addresses hold a key.
            raise ValueError("not an address of http, https or http+unix")
        if self.transport not in (None, "http", "sse"):
            raise ValueError(f"transport is http, sse or None, not {self.transport!r:.20}")
        # A secret that was read from a file with its line end would fail at each request, in an error that shows it.
        for name, value in self.headers.items():
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"the header {name[:50]!r} cannot be sent: its name, a line end, or a blank around it")
        if isinstance(self.token, str) and not _VALUE.fullmatch(self.token):
            raise ValueError("the token cannot be sent: there is a line end in it, or a blank around it")

    @property
    def name(self) -> str:
        """The address for log lines and errors, without credentials and query, which may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

# SPDX-License-Identifier: MIT
"""The keywords of `listening`, `serve`, `run` and `MCPServer.run`, for type checkers and editors.

A wrong keyword or a value of a wrong type is then an error before the program runs.  Only checkers need these classes,
so a running server never loads this module.  At run time `Settings` refuses unknown names.

Rule: the keys of a class are the keywords of its function, and those of the function that gets the rest; a test holds
them equal.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Literal

from ..runtime.setting_fields import SettingFields
from ..runtime.settings import Settings
from .server import Server


class ListeningOptions(SettingFields, total=False):
    """The keywords of `listening` and `start_in_thread`."""

    host: str
    port: int
    uds: str | None
    fd: int | None
    sock: socket.socket | Sequence[socket.socket] | None
    settings: Settings | None
    kind: Callable[..., Server]


class ServeOptions(ListeningOptions, total=False):
    """The keywords of `serve`."""

    on_start: Callable[[Server], None] | None
    signals: bool
    quiet: bool


class RunOptions(ServeOptions, total=False):
    """The keywords of `run`."""

    loop: Literal["auto", "asyncio", "uvloop"]


class ServerRunOptions(RunOptions, total=False):
    """The keywords of `MCPServer.run`."""

    transport: Literal["streamable-http", "sse", "stdio"]

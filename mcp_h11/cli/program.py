# SPDX-License-Identifier: MIT
"""How this program was started: `python -m PACKAGE`, or as one file that `vendor --pyz` made."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any

from ..protocol.shown import escaped

# A vendored copy shows the name that its host gave it.
PACKAGE = (__package__ or "").rpartition(".")[0] or "mcp_h11"


def _archive(spec: Any) -> str | None:
    archive = getattr(getattr(spec, "loader", None), "archive", None)
    return None if archive is None else os.path.abspath(archive)


def _file() -> str | None:
    started = getattr(sys.modules.get("__main__"), "__spec__", None)
    # A package in a zip file that `-m` started has another name.
    if started is None or started.name != "__main__" or _archive(started) != _archive(__spec__):
        return None
    return _archive(started)


# The one file that runs, as an absolute path; None for a package in a folder.
FILE = _file()
# The words after the interpreter that start it again.
STARTED_BY = ("-m", PACKAGE) if FILE is None else (FILE,)
PROG = f"python -m {PACKAGE}" if FILE is None else f"python {os.path.basename(FILE)}"


def login_command(url: str, scopes: str = "") -> str:
    """The command by which a person logs in at a server; `url` is shown without its query."""
    more = f" --scope {shlex.quote(escaped(scopes))}" if scopes else ""
    address = url.partition("#")[0].partition("?")[0]
    return f"{PROG} login {shlex.quote(escaped(address))}{more}"


def bundled_target() -> str | None:
    """The target that the one file carries."""
    return None if FILE is None else getattr(sys.modules["__main__"], "TARGET", None)

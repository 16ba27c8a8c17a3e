# SPDX-License-Identifier: MIT
"""How a child process is started: its environment, its pipes, its process group.

It refuses a shell: a command is a list of words.

Rule: a child gets the variables that were given to it and a few harmless ones, so that no server sees the tokens of
another.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

# Variables that a child inherits: programs need them to find their files, and they hold no secrets.  A token in our
# environment was not meant for every server.  The official clients pass the same variables.
INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER") if os.name != "nt" else (
    "APPDATA", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "PATH", "PATHEXT", "PROCESSOR_ARCHITECTURE", "SYSTEMDRIVE",
    "SYSTEMROOT", "TEMP", "USERNAME", "USERPROFILE",
)  # fmt: skip

_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows; elsewhere it is a session


def child_environment(env: Mapping[str, str] | str | None) -> dict[str, str]:
    """The environment of a child: our variables in `INHERITED` and those of `env`; for "inherit" all of ours."""
    if env == "inherit":
        return dict(os.environ)
    if isinstance(env, str):
        raise ValueError(f'env is a mapping, "inherit" or None, not {env!r}')
    # bash exports its functions as variables with such values.  A child could run them (CVE-2014-6271).
    ours = {name: os.environ[name] for name in INHERITED if not os.environ.get(name, "()").startswith("()")}
    return ours | dict(env or {})


def spawn(command: Sequence[str], env: dict[str, str], cwd: str | None) -> subprocess.Popen[bytes]:
    popen: Any = subprocess.Popen
    if os.name == "nt":  # pragma: no cover
        # The event loop of Windows needs pipes that support overlapped I/O.
        from asyncio.windows_utils import Popen as popen  # type: ignore[attr-defined,no-redef]
    made: subprocess.Popen[bytes] = popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=env,
        cwd=cwd,
        start_new_session=True,
        creationflags=_NEW_GROUP,
    )
    return made

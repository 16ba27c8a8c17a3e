# SPDX-License-Identifier: MIT
"""A bounded form of `bench/bridge_sessions.py`: sessions through a bridge in a process of its own leave nothing behind.

The bounds after the first third: five descriptors more, and 2 MiB of memory.  With a child for each session memory is
level only after some 400 of them, which is too long for a test: 6 MiB there, for 60 sessions.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "bridge_sessions.py"
LIMIT = 60  # seconds


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
@pytest.mark.parametrize(("sessions", "more"), [(900, []), (90, ["--per-session", "--may-grow", "6144"])])
def test_sessions_through_the_bridge_leave_memory_and_descriptors_where_they_were(
    sessions: int, more: list[str]
) -> None:
    command = [sys.executable, str(SCRIPT), "--sessions", str(sessions), "--limit", str(LIMIT), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT + 40)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert len(re.findall(r"after \d+ sessions: \d+ KiB, \d+ descriptors", done.stdout)) == 2

# SPDX-License-Identifier: MIT
"""How long the import of a copy takes, in processes of their own.

It is processor time, which other programs of the machine do not spend.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TRIES = 3  # the best counts; the first one also writes the bytecode
LIMIT = 60.0  # seconds for one process

_CODE = """
import sys, time
sys.path[:0] = sys.argv[2:]
begin = time.process_time()
__import__(sys.argv[1])
print(time.process_time() - begin)
"""


def import_time(name: str, folders: Sequence[str]) -> float | None:
    """Seconds of processor time that `import name` takes with these folders or zip files alone on the path.

    All that it loads counts, asyncio too.  None where this interpreter cannot be started so: inside of a host,
    `sys.executable` is the host.
    """
    times = []
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-I", "-S", "-X", f"pycache_prefix={cache}", "-c", _CODE, name, *folders]
        try:
            for _ in range(TRIES):
                ran = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=True
                )
                times.append(float(ran.stdout))
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return min(times)


def folders_of(names: Sequence[str]) -> list[str]:
    """The folders in which these modules are found."""
    folders = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            place = Path(spec.origin).parent
            folders.append(str(place.parent if spec.submodule_search_locations else place))
    return [*dict.fromkeys(folders)]

# SPDX-License-Identifier: MIT
"""Hold the branch coverage that `pytest --cov` measured: a floor for each module, by its folder.

Sockets, processes and signals are exercised by the official clients, in other processes, where this measurement does
not look; so the folders that hold them have no floor for each module.  A new folder has the strict one until it is
named here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

STRICT = 98.0  # per cent of lines and branches of each module
FLOORS = {
    "client": 94.0,
    "client/conversation": 94.0,
    "client/http": 94.0,
    "client/oauth": 94.0,
    "client/transports": 94.0,
    "server": 0.0,
    "bridge": 0.0,
    "bench": 90.0,  # the rest is for sockets that fail, and systems without /proc
    "cli/benching": 90.0,
    **dict.fromkeys(("cli", "cli/asking", "cli/login", "cli/installing", "cli/reloading", "cli/vendoring"), 0.0),
    "": 0.0,  # the public names, and `__main__`
}


def measured() -> dict[str, tuple[float, list[int]]]:
    """The path of each module below the package -> per cent, lines that nothing ran."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(path)], check=True)
        files = json.loads(path.read_text())["files"]
    return {
        name.partition("mcp_h11/")[2]: (float(data["summary"]["percent_covered"]), list(data["missing_lines"]))
        for name, data in files.items()
    }


def floor_of(module: str) -> float:
    """The per cent that a module has to reach."""
    return FLOORS.get(module.rpartition("/")[0], STRICT)


def main() -> int:
    modules = measured()
    held = {name for name in modules if floor_of(name)}
    if not held:
        print("no module with a floor was measured")
        return 2
    short = {name for name in held if modules[name][0] < floor_of(name)}
    for name, (percent, missing) in sorted(modules.items()):
        mark = "LOW " if name in short else "    "
        lines = f"  not run: {missing}" if missing and name in held else ""
        print(f"{mark}{name:<36}{percent:6.1f} %{'' if name in held else '  (not held)'}{lines}")
    print(f"{len(held) - len(short)} of {len(held)} modules reach the floor of their folder")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())

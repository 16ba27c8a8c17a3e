# SPDX-License-Identifier: MIT
"""Folders that one process makes and others wait for: packages for tests, and the subjects of the benchmark.

Standard library only: `tests/conformance/run.py` and `bench/` use it without pytest.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

MARKER = "complete"  # a folder without it is half made


def made_once(folder: Path, recipe: str, make: Callable[[Path], None]) -> None:
    """`make` fills the empty folder, unless it was made from the very same recipe.

    A second process that needs the folder waits until the first has made it.
    """
    marker = folder / MARKER
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not marker.exists() or marker.read_text() != recipe:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            marker.write_text(recipe)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that held it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            import fcntl
        except ImportError:  # Windows: the folders are made by one run at a time there
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

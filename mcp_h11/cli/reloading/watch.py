# SPDX-License-Identifier: MIT
"""The files of the user's project, and a thread that waits until one of them changes.

The process that has loaded the user's code knows its files; the process that watches has loaded none of it.  So the
first one writes a report (`Report`) into a folder of the second one, again whenever a module more was loaded.

A file has changed when its stamp differs: time, size and inode.  `watchfiles`, where it is installed, only says when
to look; without it the thread looks four times a second.

Rules:
- Editors write a file in several steps, and several files at once: a change counts when nothing has changed any more.
- The stamps are those of the moment before the newest process began to load, so that an edit during its start counts.
- The number of files is bounded, and so is what one look costs.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...protocol.shown import escaping

logger = escaping(logging.getLogger(__name__))

POLL = 0.25  # seconds between two looks
QUIET = 0.1  # seconds without a change, after which a change counts
LONGEST_UNREST = 2.0  # seconds after which it counts in any case
MOST_FILES = 2_000  # that are watched: a look at them takes some 4 ms
MOST_NEW = 2_000  # names of a folder that are looked at for a module that was missing

_NAMED = re.compile(r'^ *File "(.+?)", line ([0-9]+)', re.MULTILINE)  # in a traceback
_PLACE = re.compile(r" \([^()]*, line [0-9]+\)$")  # that Python adds to the text of a SyntaxError
_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])

Stamp = tuple[int, int, int] | None


# --- in the process that loads the code ------------------------------------------------------------------------------


def is_own(file: str) -> bool:
    """Whether a file is of the user's project: of no installed package, not of Python, and not of this package."""
    foreign = {path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_paths().get(name))}
    parts = Path(file).parts
    return (
        file.endswith(".py")
        and not file.startswith("<")
        and "site-packages" not in parts
        and "dist-packages" not in parts
        and not any(file.startswith(os.path.join(folder, "")) for folder in (*foreign, _PACKAGE_FOLDER))
    )


def own_files() -> list[str]:
    """The files of the modules that this process has loaded from the user's project."""
    files = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    return sorted({os.path.realpath(file) for file in files if isinstance(file, str) and is_own(file)})


def short_error(message: str, details: str) -> str:
    """An error of the user's code in one line: file, line, type and text."""
    places = _NAMED.findall(details)
    if not places:
        return message
    file, line = places[-1]
    with suppress(ValueError):
        relative = os.path.relpath(file)
        file = file if relative.startswith("..") else relative
    return f"{file}:{line}: {_PLACE.sub('', message.partition(' failed: ')[2] or message)}"


class Report:
    """A file in which a process tells another one of the code that it has loaded."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._modules = -1

    def tell(self) -> None:
        """Write the files, if modules were loaded since the last time."""
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            self._write(own_files())

    def failed(self, message: str, details: str, *, mendable: bool) -> None:
        """Write why the code cannot be served, and the files that have to do with it."""
        named = [os.path.realpath(file) for file, _ in _NAMED.findall(details) if is_own(file)]
        self._write([*own_files(), *named], short_error(message, details), mendable)

    def _write(self, files: Iterable[str], error: str = "", mendable: bool = True) -> None:
        # With their stamps of now: an edit before the other process reads this is to count.
        stamps = {file: stamp(file) for file in sorted({*files})[: MOST_FILES + 1]}
        text = json.dumps({"files": stamps, "error": error, "mendable": mendable})
        with suppress(OSError):  # the parent is gone, with its folder
            Path(f"{self._path}.new").write_text(text, "ascii")
            os.replace(f"{self._path}.new", self._path)


# --- in the process that watches -------------------------------------------------------------------------------------


def stamp(path: str) -> Stamp:
    """Time, size and inode of a file, which differ when it was changed; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Project:
    """The known files, and their stamps.

    Attributes:
        error: why the newest process could not load the code; "" where it did.
        mendable: whether a change of a file may mend that.
    """

    def __init__(self, folder: Path, files: Iterable[str]) -> None:
        self.error = ""
        self.mendable = True
        self._folder = folder
        self._number = 0
        self._seen: Stamp = None  # of the newest report
        self._first = [*map(os.path.realpath, files)]
        self._stamps = {path: stamp(path) for path in self._first}
        # An edit while the first process still loads is to count as well.
        self._before = {path: stamp(path) for path in self._beside(self._first)}
        self._lock = threading.Lock()  # the loop and the watcher learn

    def next_report(self) -> str:
        """The path for the report of a process that is about to be started."""
        with self._lock:
            self._number += 1
            self._seen = None
            return self._report

    @property
    def _report(self) -> str:
        return str(self._folder / f"report-{self._number}")

    @property
    def folders(self) -> list[str]:
        """The folders of the files, and the folder of the reports."""
        found = {os.path.dirname(path) for path in [*self._stamps]}
        return sorted(folder for folder in (*found, str(self._folder)) if os.path.isdir(folder))

    def learn(self) -> None:
        """Read the newest report, where it was written since the last time."""
        with self._lock:
            seen = stamp(self._report)
            if seen is None or seen == self._seen:
                return
            self._seen = seen
            with suppress(OSError, ValueError):
                told = json.loads(Path(self._report).read_text("ascii"))
                files = {path: tuple(one) if one else None for path, one in told["files"].items()}
                self._take(files, told["error"], told["mendable"])

    def _take(self, files: dict[str, Stamp], error: str, mendable: bool) -> None:
        known = [*self._first, *files]
        if error:
            # The code before may go on, and a module that is missing may come: so each file beside these counts.
            known += [*self._stamps]
            known += self._beside(known)
        known = [*dict.fromkeys(known)]
        if len(known) > MOST_FILES:
            logger.warning("only the first %d files are watched", MOST_FILES)
        before = {**files, **self._before, **self._stamps}
        self._before = {}
        self._stamps = {path: before[path] if path in before else stamp(path) for path in known[:MOST_FILES]}
        self.error, self.mendable = error, mendable and bool(self._stamps)

    def _beside(self, known: Iterable[str]) -> Iterator[str]:
        for folder in {os.path.dirname(path) for path in known}:
            with suppress(OSError), os.scandir(folder) as entries:
                for entry, _ in zip(entries, range(MOST_NEW), strict=False):
                    if entry.name.endswith(".py") and not entry.name.startswith("."):
                        yield entry.path

    def changed(self) -> list[str]:
        """The files that are not as they were when the newest process began."""
        found = [path for path, was in [*self._stamps.items()] if stamp(path) != was]
        return found + [path for path in self._new() if path not in self._stamps]

    def settle(self) -> list[str]:
        """Wait until nothing changes any more, take the files as they are then, and return those that changed."""
        end = time.monotonic() + LONGEST_UNREST
        changed, now = self.changed(), self._now()
        while time.monotonic() < end:
            time.sleep(QUIET)
            before, now = now, self._now()
            # A file that is gone is most likely on its way back: editors rename.
            if now == before and all(now.get(path) for path in changed):
                break
            changed = self.changed()
        with self._lock:
            self._stamps.update(now)
        return changed

    def _new(self) -> list[str]:
        return [*self._beside([*self._stamps])] if self.error else []

    def _now(self) -> dict[str, Stamp]:
        return {path: stamp(path) for path in (*self._stamps, *self._new())}


class Watcher(threading.Thread):
    """Calls `on_change` with the files, in this thread, each time that some have changed.  `stop` ends it."""

    def __init__(self, project: Project, on_change: Callable[[Sequence[str]], object]) -> None:
        super().__init__(name="reload", daemon=True)
        self._project = project
        self._on_change = on_change
        self._ended = threading.Event()
        self._watched: list[str] = []
        self._changes: Iterator[Any] | None = None
        try:
            self._watch: Callable[..., Iterator[Any]] | None = importlib.import_module("watchfiles").watch
            importlib.import_module("watchfiles.main").logger.setLevel(logging.WARNING)  # it tells each event
        except ImportError:
            self._watch = None

    def run(self) -> None:
        while not self._ended.is_set():
            self._project.learn()
            if self._project.changed():
                self._on_change(self._project.settle())
            self._wait()

    def stop(self) -> None:
        """End it; at the latest after `POLL` seconds."""
        self._ended.set()

    def _wait(self) -> None:
        """Until it is worth to look."""
        if self._watch is None:
            self._ended.wait(POLL)
            return
        try:
            folders = self._project.folders
            if folders != self._watched or self._changes is None:
                self._watched = folders
                # Not all below a folder: a virtual environment or node_modules may be there.
                self._changes = self._watch(
                    *folders, watch_filter=None, debounce=200, step=20, rust_timeout=1_000, yield_on_timeout=True,
                    stop_event=self._ended, raise_interrupt=False, recursive=False,
                )  # fmt: skip
            next(self._changes, None)
        except Exception as exc:  # no descriptor is left for it, or a folder is gone
            logger.debug("watchfiles does not work here: %s; files are looked at every %g s", exc, POLL)
            self._watch = self._changes = None

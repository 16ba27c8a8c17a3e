# SPDX-License-Identifier: MIT
"""The fixtures that every test module shares, the size of a whole run, and the tests that need published schemas."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import wire
from examples import VARIABLE, load_profile

if TYPE_CHECKING:
    from fleets import Stores
    from redis_servers import RedisServer


def pytest_configure(config: pytest.Config) -> None:
    """A run that leaves out no marker is a whole run: its hypothesis properties try all their examples."""
    if not config.option.markexpr:
        os.environ.setdefault(VARIABLE, "all")
    load_profile()
    config.option.loadscopereorder = False  # of pytest-xdist: `mixed` orders the files
    keep_bytecode()


def keep_bytecode() -> None:
    """Where the environment forbids bytecode beside the sources, keep that of the tests below `.cache/`.

    Without any, each worker of a run compiles all test modules, and each program under test the package.  Processes
    that this one starts inherit it.
    """
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(Path(__file__).resolve().parents[1] / ".cache" / "pycache")
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that runs once more on uvloop, an extra, or on Redis, another program, does that in the whole run."""
    parameters = getattr(item, "callspec", None)
    if parameters is None:
        return
    backend = parameters.params.get("anyio_backend")
    on_uvloop = isinstance(backend, tuple) and backend[1].get("use_uvloop")
    if on_uvloop or "redis" in [value for value in parameters.params.values() if isinstance(value, str)]:
        item.add_marker(pytest.mark.long)


@pytest.fixture
def anyio_backend() -> str:
    """The server's byte path is asyncio's, so its tests are."""
    return "asyncio"


@pytest.fixture
def schemas() -> None:
    """A test that uses it judges messages by the published schema of its `revision`, or by those of all revisions."""


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One real Redis for all tests that do it no harm; it keeps nothing on its disk."""
    from redis_servers import redis_server

    with redis_server() as server:
        yield server


# The folders whose tests wait: for processes, for a worker to be given up, for a time to pass.  Long waits first.
WAITING = ("conformance", "interop", "fleet", "server", "stores", "bridge", "cli", "endpoint", "client")
COMPUTING = len(WAITING)


def rank(file: Path) -> int:
    """The place of a file's folder in WAITING, or COMPUTING."""
    folder = file.relative_to(Path(__file__).parent).parts[0]
    if folder == file.name:  # no folder: the tests of all of them, which start processes
        return 0
    return WAITING.index(folder) if folder in WAITING else COMPUTING


def mixed(items: list[pytest.Item]) -> list[pytest.Item]:
    """The items with their files in another order: files that wait between files that compute.

    The processes of a run take files in this order.  So some of them wait while others use the processor.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = sorted((path for path in files if rank(path) < COMPUTING), key=rank)
    kinds = waiting, [path for path in files if rank(path) == COMPUTING]
    places = [(at / len(kind), path) for kind in kinds for at, path in enumerate(kind)]
    return [item for _, path in sorted(places, key=lambda place: place[0]) for item in files[path]]


LEFT_OUT = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a schema which is not on this machine are left out, and one line of the summary says so.

    The specification's repository has the schemas; they are no part of this one.
    """
    items[:] = mixed(items)
    missing = wire.unavailable()
    left_out = [item for item in items if needed(item) & {*missing}]
    if left_out:
        config.stash[LEFT_OUT] = f"{len(left_out)} tests were left out: {next(iter(missing.values()))}"
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not needed(item) & {*missing}]


def pytest_collection(session: pytest.Session) -> None:
    """Nothing that collecting makes is garbage, so the garbage collector rests meanwhile."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """From here on the garbage collector passes by the tests themselves.

    Thousands of items and their modules are most of what a run holds.  Each full collection would look through them,
    for up to a second, and it would fall into whichever test makes the object that starts it.
    """
    gc.freeze()
    gc.enable()


def needed(item: pytest.Item) -> set[str]:
    """The revisions by whose published schema a test judges messages."""
    if "schemas" not in getattr(item, "fixturenames", ()):
        return set()
    parameters = getattr(item, "callspec", None)
    revision = parameters.params.get("revision") if parameters is not None else None
    return {revision} if revision else {*wire.ALL}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if LEFT_OUT in config.stash:
        terminalreporter.write_line(config.stash[LEFT_OUT])


@pytest.fixture(params=["memory", "sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """One store for all workers of a fleet, of each kind."""
    from fleets import stores_of  # most tests need no store

    return stores_of(request, tmp_path)


@pytest.fixture(params=["memory", "sqlite"])
def local_stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    """The same, where Redis would show nothing more."""
    from fleets import stores_of

    return stores_of(request, tmp_path)

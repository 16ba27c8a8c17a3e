# SPDX-License-Identifier: MIT
"""The fixtures that every test module shares, the size of a whole run, and the tests that need published schemas."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import wire
from examples import VARIABLE

if TYPE_CHECKING:
    from redis_servers import RedisServer


def pytest_configure(config: pytest.Config) -> None:
    """A run that leaves out no marker is a whole run: its hypothesis properties try all their examples."""
    if not config.option.markexpr:
        os.environ.setdefault(VARIABLE, "all")
    config.option.loadscopereorder = False  # of pytest-xdist: `by_floor` orders the files
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


# The folders whose tests wait: for processes, for a worker to be given up, for a time to pass.  A run of several
# processes begins with them, since a file of theirs at the end would run on while the other processes have no work.
WAITING = ("conformance", "interop", "fleet", "server", "stores", "bridge", "cli", "endpoint", "client")


def by_floor(item: pytest.Item) -> int:
    """Where the file of a test comes in the order of a run."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    if folder == item.path.name:  # no folder: the tests of all of them, which start processes
        return 0
    return WAITING.index(folder) if folder in WAITING else len(WAITING)


LEFT_OUT = pytest.StashKey[str]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a schema which is not on this machine are left out, and one line of the summary says so.

    The specification's repository has the schemas; they are no part of this one.
    """
    items.sort(key=by_floor)
    missing = wire.unavailable()
    left_out = [item for item in items if needed(item) & {*missing}]
    if left_out:
        config.stash[LEFT_OUT] = f"{len(left_out)} tests were left out: {next(iter(missing.values()))}"
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not needed(item) & {*missing}]


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

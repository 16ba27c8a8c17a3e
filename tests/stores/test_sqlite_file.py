# SPDX-License-Identifier: MIT
"""Which files an SQLite store takes, what it leaves alone, and its clock."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from stores_support import opened, rows, run, until, without_rights

from mcp_h11.stores import sqlite_file
from mcp_h11.stores.base import StoreError, StoreRefused
from mcp_h11.stores.sqlite import SQLiteStore


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_owner_alone_reads_the_file_and_enters_the_directory(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.records.create("s", "k", b"v", None)
            assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
                "store.db": 0o600,
                "store.db-wal": 0o600,
                "store.db-shm": 0o600,
                "store.db-bus": 0o700,
            }
        assert {*contents(tmp_path)} == {"store.db"}  # no socket, no journal

    before = os.umask(0)
    try:
        run(test)
    finally:
        os.umask(before)


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.touch(0o644)

    async def test() -> None:
        async with opened(path) as store:
            assert await store.records.create("s", "k", b"v", None)

    run(test)
    assert mode(path) == 0o600


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()


def foreign_database_with_a_journal(path: Path) -> None:
    """As a program leaves it that was killed: what it wrote last lies in the -wal file."""
    code = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode = WAL")
c.execute("CREATE TABLE theirs (x)")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    assert path.with_name(path.name + "-wal").stat().st_size


def store_of(path: Path, *changes: str) -> None:
    """The file of a store that was closed, with changes."""

    async def test() -> None:
        async with opened(path) as store:
            await store.records.create("s", "k", b"v", None)

    run(test)
    path.with_name(path.name + "-bus").rmdir()
    connection = sqlite3.connect(path)
    for change in changes:
        connection.execute(change)
    connection.commit()
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def damaged_store(path: Path) -> None:
    store_of(path)
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xa5" * (len(data) - 100))


VERSION = sqlite_file.SCHEMA_VERSION
REFUSED = {
    "text": (lambda path: path.write_text("[settings]\n" * 100), "is no SQLite database, or a damaged one"),
    "short text": (lambda path: path.write_text("x"), "is the file of another program"),
    "another program's": (foreign_database, "is the file of another program"),
    "a killed program's": (foreign_database_with_a_journal, "is the file of another program"),
    "a newer version": (
        lambda path: store_of(path, f"PRAGMA user_version = {VERSION + 1}"),
        f"is a store of version {VERSION + 1}; this program reads version {VERSION}",
    ),
    "other tables": (
        lambda path: store_of(path, "DROP TABLE events"),
        f"has other tables than a store of version {VERSION}",
    ),
    "damaged": (damaged_store, "is no SQLite database, or a damaged one"),
    "directory": (lambda path: path.mkdir(), "is not a file"),
    "pipe": (lambda path: os.mkfifo(path), "is not a file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_not_ours_is_refused_and_stays_as_it_was(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    make, words = REFUSED[kind]
    make(path)
    before = {name: data for name, data in contents(tmp_path).items() if not name.endswith("-shm")}

    async def test() -> None:
        store = SQLiteStore(path)
        with pytest.raises(StoreRefused) as refusal:
            await store.open("w")
        assert words in str(refusal.value) and str(path) in str(refusal.value)
        await store.close()

    run(test)
    assert {name: data for name, data in contents(tmp_path).items() if not name.endswith("-shm")} == before
    assert not path.with_name(path.name + "-bus").exists()


def test_a_file_without_a_folder_is_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        with pytest.raises(StoreError, match="No such file or directory"):
            await SQLiteStore(tmp_path / "no" / "store.db").open("w")

    run(test)


@pytest.mark.long
def test_two_workers_that_come_first_at_once_make_one_file(tmp_path: Path) -> None:
    """Processes, because one process has one lock on a file."""
    code = """
import asyncio, sys
from mcp_h11.stores.sqlite import SQLiteStore
async def main():
    store = SQLiteStore(sys.argv[1])
    sys.stdin.readline()
    await store.open(sys.argv[2])
    print(await store.records.create("s", sys.argv[2], b"v", None), flush=True)
    sys.stdin.readline()
    await store.close()
asyncio.run(main())
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "store.db"), f"w{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    try:
        for worker in workers:
            assert worker.stdin
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout and int(worker.stdout.readline())
        for worker in workers:
            worker.communicate("end\n", timeout=60)
            assert worker.returncode == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert rows(tmp_path / "store.db", "SELECT count(*) FROM records") == [(4,)]


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*paths: str) -> None:
        raise PermissionError("no links")

    monkeypatch.setattr(os, "link", link)
    sqlite_file.open_file(str(tmp_path / "store.db"))[0].close()
    assert mode(tmp_path / "store.db") == 0o600 and {*contents(tmp_path)} == {"store.db"}


def test_the_worker_that_made_the_file_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(made: str, path: str) -> None:
        real(made, path)
        real(made, path)

    monkeypatch.setattr(os, "link", link)
    sqlite_file.open_file(str(tmp_path / "store.db"))[0].close()
    assert {*contents(tmp_path)} == {"store.db"}


def test_half_of_the_tables_are_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_file, "SCHEMA", sqlite_file.SCHEMA + "CREATE TABLE records (x);")
        with pytest.raises(StoreError, match="already exists"):
            sqlite_file.open_file(str(path))
    assert path.read_bytes() == b""
    sqlite_file.open_file(str(path))[0].close()


def test_a_file_that_may_not_be_read_or_written_is_an_error_until_it_may() -> None:
    with without_rights() as folder:
        path = folder / "store.db"

        async def test() -> None:
            async with opened(path) as store:
                await store.records.create("s", "k", b"v", None)
            for file_mode, folder_mode in ((0o000, 0o700), (0o400, 0o700), (0o400, 0o500)):
                path.chmod(file_mode)
                folder.chmod(folder_mode)
                with pytest.raises(StoreError) as error:
                    await SQLiteStore(path).open("w")
                assert not isinstance(error.value, StoreRefused), error.value
                folder.chmod(0o700)
                path.chmod(0o600)
            async with opened(path) as store:
                assert await store.records.load("s", "k")

        run(test)


def test_a_link_to_the_file_is_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "store.db")

    async def test() -> None:
        async with opened(tmp_path / "store.db") as one, opened(tmp_path / "link.db", "w2") as two:
            heard: list[bytes] = []
            one.bus.subscribe(heard.append, lambda: None)
            await two.bus.publish(b"hello")

            async def arrived() -> bool:
                return heard == [b"hello"]

            await until(arrived)

    run(test)


# --- the clock ------------------------------------------------------------------------------------------------------


class Machine:
    """A machine whose clocks a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start, self.since, self.wall = "first start", 100.0, 1_000_000.0
        monkeypatch.setattr(sqlite_file, "start_of_machine", lambda: self.start)
        monkeypatch.setattr(sqlite_file, "since_start", lambda: self.since)
        monkeypatch.setattr(sqlite_file.time, "time", lambda: self.wall)

    def passes(self, seconds: float, wall: float | None = None) -> None:
        self.since += seconds
        self.wall += seconds if wall is None else wall

    def restarts(self, off: float, name: str = "second start", since: float = 10.0) -> None:
        self.start, self.since = name, since
        self.wall += off


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("step", [-1e8, 1e8])
def test_a_wall_clock_that_is_set_ends_nothing_and_keeps_nothing(step: float, machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as old:
            await old.records.create("s", "k", b"v", 60.0)
            machine.passes(59.0, wall=step)
            async with opened(path) as new:  # a worker that begins after the wall clock was set
                for store in (old, new):
                    assert await store.records.load("s", "k")
                machine.passes(2.0)
                for store in (old, new):
                    assert await store.records.load("s", "k") is None

    run(test)


@pytest.mark.parametrize("off, there", [(30.0, True), (3600.0, False), (-1e8, True)])
def test_the_time_while_the_machine_is_off_counts_but_never_backwards(
    off: float, there: bool, machine: Machine, tmp_path: Path
) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as store:
            await store.records.create("s", "k", b"v", 60.0)
        machine.restarts(off)
        async with opened(path) as store:
            assert (await store.records.load("s", "k") is not None) == there
            machine.passes(61.0)
            assert await store.records.load("s", "k") is None

    run(test)


def test_a_machine_without_a_name_for_its_start_is_seen_to_have_started(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    machine.start = ""

    async def test() -> None:
        async with opened(path) as store:
            await store.records.create("s", "k", b"v", 60.0)
        machine.restarts(3600.0, "", since=5.0)
        async with opened(path) as store:
            assert await store.records.load("s", "k") is None

    run(test)


def test_the_clocks_of_this_machine_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    first = sqlite_file.since_start()
    assert first > 0 and sqlite_file.since_start() >= first
    monkeypatch.delattr(sqlite_file.time, "CLOCK_BOOTTIME", raising=False)
    first = sqlite_file.since_start()
    assert first > 0 and sqlite_file.since_start() >= first
    assert sqlite_file.start_of_machine() == sqlite_file.start_of_machine()

    def unreadable(*arguments: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert sqlite_file.start_of_machine() == ""


# --- locks ----------------------------------------------------------------------------------------------------------


def test_a_file_that_stays_locked_while_it_is_opened_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    store_of(path)
    monkeypatch.setattr(sqlite_file, "OPEN_LOCK_TIME", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="locked") as error:
            sqlite_file.open_file(str(path))
        assert not isinstance(error.value, StoreRefused)
        other.execute("ROLLBACK")
    finally:
        other.close()
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)  # nothing was changed by the attempt
    sqlite_file.open_file(str(copy))[0].close()
    sqlite_file.open_file(str(path))[0].close()


def test_the_change_of_the_journal_waits_for_another_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked:
        """A connection that is locked for some tries."""

        def __init__(self, tries: int) -> None:
            self.tries = tries

        def execute(self, statement: str) -> None:
            self.tries -= 1
            if self.tries >= 0:
                raise sqlite3.OperationalError("database is locked")

    sqlite_file._patiently(Locked(3), "PRAGMA journal_mode = WAL")  # type: ignore[arg-type]
    monkeypatch.setattr(sqlite_file, "OPEN_LOCK_TIME", 0.05)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite_file._patiently(Locked(10**9), "PRAGMA journal_mode = WAL")  # type: ignore[arg-type]


def test_the_second_to_make_the_tables_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    path.touch()

    class Late:
        """A connection before whose first transaction another one makes the tables."""

        def __init__(self) -> None:
            self.connection = sqlite3.connect(path, isolation_level=None)

        def execute(self, statement: str) -> object:
            if statement == "BEGIN EXCLUSIVE":
                sqlite_file.open_file(str(path))[0].close()
            return self.connection.execute(statement)

    late = Late()
    sqlite_file._make(late, str(path))  # type: ignore[arg-type]
    assert late.connection.execute("SELECT count(*) FROM clock").fetchone() == (1,)
    late.connection.close()


def test_a_clock_that_cannot_be_kept_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connection, _ = sqlite_file.open_file(str(path))
    connection.execute("DROP TABLE clock")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        sqlite_file._begin_clock(connection)
    assert not connection.in_transaction
    connection.close()

# SPDX-License-Identifier: MIT
"""The file of an SQLite store: which one is ours, its tables, and the clock that its workers share.

Rule: a file that is not ours, or of another version, is not changed by a byte.  It is looked at through SQLite, never
by `open`: to close a file that this process has open twice would drop the locks of the other one (POSIX), which SQLite
knows how to avoid.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .base import StoreError, StoreRefused

APPLICATION_ID = 0x4D435031  # "MCP1", at offset 68 of the file
SCHEMA_VERSION = 3
OPEN_LOCK_TIME = 1.0  # seconds that the file may be locked while it is opened
MAX_WAL_BYTES = 16 * 1024 * 1024  # of the log that SQLite writes ahead, after a checkpoint

# Keys are bytes: a client's text may have a lone surrogate or NUL, which SQLite's text would not keep.  The counts are
# kept by triggers, so that a limit costs no count of ten thousand rows.
SCHEMA = """
CREATE TABLE clock (id INTEGER PRIMARY KEY, boot TEXT NOT NULL, base REAL NOT NULL, seen REAL NOT NULL);
CREATE TABLE records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, ends REAL, used REAL NOT NULL, saves INTEGER NOT NULL,
    space BLOB NOT NULL, party BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (space, key)
);
CREATE INDEX records_by_use ON records (space, used);
CREATE INDEX records_by_party ON records (space, party, used);
CREATE INDEX records_by_end ON records (ends) WHERE ends IS NOT NULL;
CREATE TABLE totals (space BLOB PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE parties (space BLOB, party BLOB, n INTEGER NOT NULL, PRIMARY KEY (space, party)) WITHOUT ROWID;
CREATE TRIGGER record_came AFTER INSERT ON records BEGIN
    INSERT OR IGNORE INTO totals VALUES (new.space, 0);
    UPDATE totals SET n = n + 1 WHERE space = new.space;
    INSERT OR IGNORE INTO parties VALUES (new.space, new.party, 0);
    UPDATE parties SET n = n + 1 WHERE space = new.space AND party = new.party;
END;
CREATE TRIGGER record_went AFTER DELETE ON records BEGIN
    UPDATE totals SET n = n - 1 WHERE space = old.space;
    DELETE FROM totals WHERE space = old.space AND n <= 0;
    UPDATE parties SET n = n - 1 WHERE space = old.space AND party = old.party;
    DELETE FROM parties WHERE space = old.space AND party = old.party AND n <= 0;
END;
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, ends REAL NOT NULL, ttl REAL NOT NULL, last INTEGER NOT NULL, kept INTEGER NOT NULL,
    size INTEGER NOT NULL, finished INTEGER NOT NULL, session BLOB NOT NULL, stream BLOB NOT NULL,
    writer BLOB NOT NULL, reader BLOB NOT NULL, about BLOB NOT NULL, UNIQUE (session, stream)
);
CREATE TABLE events (
    log INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, name BLOB, PRIMARY KEY (log, n)
) WITHOUT ROWID;
CREATE UNIQUE INDEX events_by_name ON events (log, name) WHERE name IS NOT NULL;
CREATE TABLE workers (
    worker BLOB PRIMARY KEY, beat REAL NOT NULL, waiting INTEGER NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, worker BLOB NOT NULL, party BLOB NOT NULL, message BLOB NOT NULL
);
CREATE INDEX inbox_by_worker ON inbox (worker);
CREATE TABLE shares (
    worker BLOB, party BLOB, waiting INTEGER NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (worker, party)
) WITHOUT ROWID;
"""
PARTS = {
    "clock", "records", "records_by_use", "records_by_party", "records_by_end", "totals", "parties", "record_came",
    "record_went", "logs", "events", "events_by_name", "workers", "inbox", "inbox_by_worker", "shares",
}  # fmt: skip


class StoreClock:
    """Seconds that the workers of one machine agree on, and that go on at one pace.

    A wall clock that is set back would keep records for as long as it was set back, and one that is set forward would
    end all of them.  So the wall clock is read once, when the first worker after a start of the machine opens the file;
    from then on the clock that counts since that start is asked, which is one for all processes.  The time while the
    machine is off counts by the wall clock, but never backwards.  (Where the system names no start, as macOS does not,
    time while it was off may not count.)
    """

    def __init__(self, base: float) -> None:
        self.base = base

    def now(self) -> float:
        """Seconds since 1970, as far as the wall clock was right at the start."""
        return self.base + since_start()


def since_start() -> float:
    """Seconds since the machine started; with those in which it slept, where the system counts them."""
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)


def start_of_machine() -> str:
    """A name of this start of the machine; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def open_file(path: str, max_bytes: int | None = None, alone: bool = False) -> tuple[sqlite3.Connection, StoreClock]:
    """Open the file, which is made where there is none.  Raises StoreRefused and StoreError.

    `max_bytes` bounds the file: an operation that needs more fails as on a full disk.  `alone` keeps all others out
    while this connection is open; the system ends that with the process.
    """
    with _errors(path, alone):
        _look(path)
        connection = sqlite3.connect(
            f"{Path(path).as_uri()}?mode=rw", timeout=OPEN_LOCK_TIME, isolation_level=None, uri=True
        )
        try:
            if alone:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _make(connection, path)
            _verify(connection, path)
            _patiently(connection, "PRAGMA journal_mode = WAL")
            # A commit survives the end of the process.  To survive a power cut as well would cost an fsync each.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
            connection.execute("PRAGMA temp_store = MEMORY")
            clock = _begin_clock(connection)
            if max_bytes is not None:
                (size,) = connection.execute("PRAGMA page_size").fetchone()
                connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // size)}")
            connection.execute("PRAGMA busy_timeout = 0")  # `sqlite_thread` waits itself, and reads meanwhile
        except BaseException:
            connection.close()
            raise
        return connection, clock


def is_locked(error: BaseException) -> bool:
    """Another connection has the lock: to try again helps.  (Python 3.10 gives no code of the error.)"""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def to_key(text: str) -> bytes:
    """A text as the tables have it: any text, also one that is not valid Unicode."""
    return text.encode("utf-8", "surrogatepass")


def from_key(key: bytes) -> str:
    """The text of `to_key`."""
    return key.decode("utf-8", "surrogatepass")


@contextmanager
def _errors(path: str, alone: bool) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except sqlite3.Error as error:
        if alone and is_locked(error):
            raise StoreError(f"another process uses {path}, and two cannot share it without Unix sockets") from None
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(f"{path}: {error}") from None
        raise StoreRefused(f"{path} is no SQLite database, or a damaged one ({error}); move it away") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None


def _look(path: str) -> None:
    """Refuse a file that is not ours, without a lock and without a change; make an empty file where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        _create(path)
        return
    if not stat.S_ISREG(found.st_mode):
        raise StoreRefused(f"{path} is not a file")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # SQLite would open it to read, and leave files beside it that cannot be written later.
        raise StoreError(f"{path} may not be read and written by this process")
    if found.st_size == 0:
        return
    # `immutable`: SQLite takes no lock, and does not play back a journal that a foreign program left behind.
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        _check_marks(connection, path)
    finally:
        connection.close()


def _check_marks(connection: sqlite3.Connection, path: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StoreRefused(f"{path} is the file of another program")
    if version != SCHEMA_VERSION:
        raise StoreRefused(f"{path} is a store of version {version}; this program reads version {SCHEMA_VERSION}")


def _create(path: str) -> None:
    """An empty file that the owner alone reads.  The other worker that makes it at the same time may win."""
    handle, made = tempfile.mkstemp(prefix=".mcp_h11-", dir=os.path.dirname(path))
    os.close(handle)
    try:
        os.link(made, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    finally:
        os.unlink(made)


def _make(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables in an empty file, in one transaction, before it changes to WAL: half of it is never there."""
    if connection.execute("PRAGMA page_count").fetchone() != (0,):
        return
    with _transaction(connection, "BEGIN EXCLUSIVE"):
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):  # no other worker was first
            os.chmod(path, 0o600)
            for statement in _statements():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            # A file that replaces another one has no number of its rows: workers remember versions and messages.
            first = int(time.time() * 1000)
            connection.execute("INSERT INTO sqlite_sequence VALUES ('records', ?), ('inbox', ?)", (first, first))


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # where the disk is full, SQLite has left the transaction itself
            connection.execute("ROLLBACK")
        raise


def _statements() -> Iterator[str]:
    """The statements of `SCHEMA`, one by one: `executescript` would commit."""
    text = ""
    for line in SCHEMA.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""


def _verify(connection: sqlite3.Connection, path: str) -> None:
    _check_marks(connection, path)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master") if not name.startswith("sqlite_")}
    if found != PARTS:
        raise StoreRefused(f"{path} has other tables than a store of version {SCHEMA_VERSION}; move it away")


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """SQLite does not wait itself where two connections change the journal at once."""
    end = time.monotonic() + OPEN_LOCK_TIME
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > end:
                raise
        time.sleep(0.01)


def _begin_clock(connection: sqlite3.Connection) -> StoreClock:
    start, since = start_of_machine(), since_start()
    with _transaction(connection, "BEGIN IMMEDIATE"):
        found = connection.execute("SELECT boot, base, seen FROM clock").fetchone()
        if found is not None and found[0] == start and found[1] + since >= found[2]:
            base = found[1]
        else:
            base = max(time.time(), 0.0 if found is None else found[2]) - since
        connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?)", (start, base, base + since))
    return StoreClock(float(base))

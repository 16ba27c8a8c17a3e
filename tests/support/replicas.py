# SPDX-License-Identifier: MIT
"""Three workers of a fleet as real processes with one store, for tests: started together, watched, gone at the end.

Each wait ends after `LIMIT` seconds by an error that has the awaited thing and the output of the process.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import wire
from provision import ROOT, server_environment
from rawclient import Legacy, Modern
from redis_servers import RedisServer, fresh_prefix

PROGRAM = ROOT / "tests" / "support" / "replica.py"
LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
REPLY_LIMIT = 20.0  # seconds for one answer
STEP = 0.005  # seconds between two looks
NAMES = "ABCDEFGH"
KINDS = ["sqlite", "redis"]  # of stores


class Replica:
    """One process: `tests/support/replica.py`."""

    def __init__(self, name: str, url: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.said = ""  # to stdout and stderr
        self.port = 0
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), url, json.dumps(settings)], env=server_environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.said += line
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def tell(self, command: str) -> None:
        """A line on its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Block until a line was said that has this, `count` times; the last match."""
        end = time.monotonic() + LIMIT
        with self._changed:
            while True:
                found = [*re.finditer(f"^{pattern}$", self.said, re.M)]
                if len(found) >= count:
                    return found[-1]
                left = end - time.monotonic()
                if left < 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise TimeoutError(f"{self.name} did not say {pattern!r}: {self.said}")
                self._changed.wait(min(left, 0.5))

    async def line(self, pattern: str, count: int = 1) -> re.Match[str]:
        """The same on the loop."""
        return await anyio.to_thread.run_sync(self.wait_for, pattern, count)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The process stands still: the kernel accepts connections, and nothing is answered."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    async def leaves(self) -> int:
        """End it as a supervisor does; its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        with anyio.fail_after(LIMIT):
            return await anyio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)

    def close(self) -> None:
        self.kill()
        self._reader.join(LIMIT)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Replicas:
    """A fleet.  `fleet[0]` is worker A; `revive` replaces those that have ended."""

    def __init__(self, store: SharedStore, settings: dict[str, Any]) -> None:
        self.store = store
        self.settings = settings
        self.workers: list[Replica] = []
        self.ended: list[Replica] = []
        self._launched = 0

    def __getitem__(self, number: int) -> Replica:
        return self.workers[number]

    def __len__(self) -> int:
        return len(self.workers)

    @property
    def ports(self) -> list[int]:
        return [worker.port for worker in self.workers]

    def start(self, count: int) -> None:
        """Start workers at once, and wait until each of the fleet sees all of them."""
        begun = [self.launch() for _ in range(count)]
        for worker in begun:
            worker.port = int(worker.wait_for(r"at (\d+)")[1])
        self.workers += begun
        line = f"sees {len(self)}"
        before = [worker.said.count(f"{line}\n") for worker in self.workers]
        for worker in self.workers:
            worker.tell(line)
        for worker, lines in zip(self.workers, before, strict=True):
            worker.wait_for(line, lines + 1)

    def launch(self) -> Replica:
        """Start another worker, and do not wait; it is not in the fleet."""
        name = NAMES[self._launched % len(NAMES)]
        self._launched += 1
        return Replica(name, self.store.url, self.settings)

    def revive(self) -> None:
        """Start as many workers as have died."""
        dead = [worker for worker in self.workers if worker.process.poll() is not None]
        for worker in dead:
            self.workers.remove(worker)
            self.ended.append(worker)
        self.start(len(dead))

    def close(self) -> None:
        for worker in (*self.workers, *self.ended):
            worker.close()

    def roaming(self, revision: str = wire.D, user: str = "") -> Roaming:
        """A client of the legacy era that begins at A."""
        return Roaming(self, revision, user)

    def modern(self, number: int = 0, **options: Any) -> Modern:
        """A client of 2026-07-28 at this worker."""
        return Modern(self[number].port, limit=REPLY_LIMIT, **options)


class Roaming(Legacy):
    """A client that may send each request to another worker: `at(number)` names the worker."""

    def __init__(self, fleet: Replicas, revision: str, user: str) -> None:
        super().__init__(fleet[0].port, revision, limit=REPLY_LIMIT)
        self.fleet = fleet
        if user:
            self.extra_headers["X-User"] = user

    def at(self, number: int) -> Roaming:
        self.port = self.fleet[number].port
        return self


@contextlib.contextmanager
def replicas(store: SharedStore, count: int = 3, **settings: Any) -> Iterator[Replicas]:
    """A fleet that ends with the block."""
    fleet = Replicas(store, settings)
    try:
        fleet.start(count)
        yield fleet
    except BaseException:
        for worker in (*fleet.workers, *fleet.ended):
            print(f"--- {worker.name} said:\n{worker.said[-4000:]}")
        raise
    finally:
        fleet.close()


# --- the stores --------------------------------------------------------------------------------------------------


def hashed(session: str) -> str:
    """The name of a session in the store."""
    return base64.urlsafe_b64encode(hashlib.blake2b(session.encode(), digest_size=24).digest()).decode()


@dataclass
class SharedStore:
    """The store of a fleet, as the tests look into it: without the package under test."""

    url: str

    def left_of(self, session: str) -> list[str]:
        """Names of the keys and rows that the store has of a session, which it knows under a hash of the id."""
        raise NotImplementedError

    def left(self) -> list[str]:
        """The same of all sessions together: everything that has a time to live."""
        raise NotImplementedError

    def size(self) -> int:
        """Bytes."""
        raise NotImplementedError


@dataclass
class SQLiteFile(SharedStore):
    path: Path

    def _rows(self, question: str, *values: object) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.path, timeout=LIMIT)) as connection:
            return connection.execute(question, values).fetchall()

    def left_of(self, session: str) -> list[str]:
        key = hashed(session).encode()
        records = self._rows("SELECT space FROM records WHERE key = ?", key)
        return [*map(str, records), *map(str, self._rows("SELECT stream FROM logs WHERE session = ?", key))]

    def left(self) -> list[str]:
        records = [space.decode() for (space,) in self._rows("SELECT space FROM records WHERE ends IS NOT NULL")]
        logs = self._rows("SELECT stream FROM logs") + self._rows("SELECT n FROM events")
        return records + [str(log) for log in logs]

    def size(self) -> int:
        ((pages,),), ((free,),), ((size,),) = (
            self._rows(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


@dataclass
class RedisKeys(SharedStore):
    server: RedisServer
    prefix: str

    def left_of(self, session: str) -> list[str]:
        name = hashed(session)
        with self.server.control() as client:
            indexed = [key for key in self._keys() if client.type(key) == "zset" and client.zscore(key, name)]
        return [key for key in self._keys() if name in key] + indexed

    def left(self) -> list[str]:
        with self.server.control() as client:
            logs = [key for key in self._keys() if key.split(":")[1] in ("e", "n")]
            records = [key for key in self._keys() if key.split(":")[1] == "r" and client.ttl(key) >= 0]
            return logs + records + [key for key in self._keys() if ":g:" in key or ":k:" in key]

    def _keys(self) -> list[str]:
        return self.server.keys(self.prefix)

    def size(self) -> int:
        with self.server.control() as client:
            return int(client.info("memory")["used_memory"])


def stored_in(kind: str, folder: Path, server: RedisServer | None) -> SharedStore:
    """A new store: "sqlite", in a file of the folder; "redis", under a prefix of its own on the server."""
    if kind == "sqlite":
        path = folder / f"{os.urandom(4).hex()}.db"
        return SQLiteFile(f"sqlite://{path}", path)
    assert server is not None, "a store in Redis needs a server"
    prefix = fresh_prefix()
    return RedisKeys(server.url(prefix), server, prefix)

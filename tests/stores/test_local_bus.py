# SPDX-License-Identifier: MIT
"""The bus of one machine: its sockets, its frames, and workers that do not read, do not answer, or are gone."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores_support import LIMIT, opened, run, until

from mcp_h11.stores import local_bus
from mcp_h11.stores.base import MAX_BUS_BYTES, StoreError, StoreRefused
from mcp_h11.stores.local_bus import file_of
from mcp_h11.stores.sqlite import SQLiteStore


def frame(kind: bytes, content: bytes = b"") -> bytes:
    return (len(content) + 1).to_bytes(4, "big") + kind + content


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short name, since the address of a Unix socket has room for 107 bytes on Linux, 103 elsewhere.

    pytest's own has the name of the worker of the run and of the test in it.
    """
    with tempfile.TemporaryDirectory(prefix="bus") as folder:
        yield Path(folder)


class Peer:
    """A worker that a test plays with bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def calls(cls, folder: Path, worker: str) -> Peer:
        return cls(*await asyncio.open_unix_connection(str(folder / file_of(worker))))

    async def frame(self) -> tuple[bytes, bytes]:
        length = int.from_bytes(await asyncio.wait_for(self.reader.readexactly(4), LIMIT), "big")
        data = await asyncio.wait_for(self.reader.readexactly(length), LIMIT)
        return data[:1], data[1:]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ended(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), LIMIT) == b""
        except ConnectionError:
            return True
        finally:
            self.writer.close()


class Ears:
    """What one worker hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.gaps = 0

    def gap(self) -> None:
        self.gaps += 1


def listens(store: SQLiteStore) -> Ears:
    ears = Ears()
    store.bus.subscribe(ears.heard.append, ears.gap)
    return ears


def so(look: Callable[[], bool]) -> Callable[[], object]:
    async def looking() -> bool:
        return look()

    return looking


def test_frames_are_read_however_they_are_cut(tmp_path: Path) -> None:
    data = frame(b"m", b"one") + frame(b"m") + frame(b"?", b"a later kind") + frame(b"m", b"two" * 100_000)

    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            ears = listens(store)
            peer = await Peer.calls(tmp_path / "store.db-bus", "w")
            peer.send(frame(b"h", b"peer"))
            assert await peer.frame() == (b"h", b"w")
            for byte in data[:40]:
                peer.send(bytes([byte]))
                await asyncio.sleep(0)
            peer.send(data[40:])
            await until(so(lambda: len(ears.heard) == 3))  # type: ignore[arg-type]
            assert ears.heard == [b"one", b"", b"two" * 100_000] and ears.gaps == 0
            peer.writer.close()

    run(test)


@pytest.mark.parametrize("length", [0, MAX_BUS_BYTES + 2, 2**32 - 1])
def test_a_frame_of_a_wrong_length_ends_the_connection(length: int, tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            peer = await Peer.calls(tmp_path / "store.db-bus", "w")
            peer.send(frame(b"h", b"peer"))
            assert await peer.frame() == (b"h", b"w")
            peer.send(length.to_bytes(4, "big") + b"m")
            assert await peer.ended()
            await store.bus.publish(b"goes on")

    run(test)


@pytest.mark.parametrize("first", [frame(b"m", b"x"), frame(b"h"), frame(b"h", b"x" * 257)])
def test_a_connection_that_does_not_greet_is_not_heard(first: bytes, tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            ears = listens(store)
            peer = await Peer.calls(tmp_path / "store.db-bus", "w")
            peer.send(first + frame(b"m", b"no") + frame(b"h", b"peer") + frame(b"m", b"yes"))
            assert await peer.frame() == (b"h", b"w")
            await until(so(lambda: bool(ears.heard)))  # type: ignore[arg-type]
            assert ears.heard == [b"yes"]
            peer.writer.close()

    run(test)


def test_a_worker_that_does_not_read_misses_messages_and_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            peer = await Peer.calls(tmp_path / "store.db-bus", "w")
            peer.send(frame(b"h", b"peer"))
            assert await peer.frame() == (b"h", b"w")
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            sent = 0
            while not store.statistics()["bus_dropped"]:
                await store.bus.publish(b"%d" % sent + b" " * (MAX_BUS_BYTES // 2), "peer")
                sent += 1
                if sent % 3:
                    await asyncio.sleep(0)
                assert sent < 50  # 4 MiB and what the system buffers
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
            got: list[bytes] = []
            while True:
                kind, content = await peer.frame()
                if kind == b"g":
                    break
                got.append(content.strip())
            assert got == [b"%d" % n for n in range(sent - 1)]
            await store.bus.publish(b"again")
            assert await peer.frame() == (b"m", b"again")
            peer.writer.close()

    run(test)


def test_messages_of_one_turn_that_are_too_many_are_dropped_and_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "a") as a, opened(tmp_path / "store.db", "b") as b:
            ears = listens(b)
            for _ in range(6):
                await a.bus.publish(b"x" * MAX_BUS_BYTES)
            await until(so(lambda: ears.gaps == 1))  # type: ignore[arg-type]
            assert len(ears.heard) + int(a.statistics()["bus_dropped"]) == 6 and ears.heard

    run(test)


def test_a_gap_makes_a_worker_look_into_its_inbox(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store, opened(tmp_path / "store.db", "other") as other:
            ears = listens(store)
            await store.inbox.take(0)
            taking = asyncio.ensure_future(store.inbox.take(LIMIT * 2))
            await asyncio.sleep(0)
            await store.records.touch("s", ["k"], 1.0)  # a write after that of `take`, which waits from now on
            other.inbox.begin("other", lambda worker: None)  # its wake-up is lost
            await other.inbox.put("w", b"message")
            peer = await Peer.calls(tmp_path / "store.db-bus", "w")
            peer.send(frame(b"h", b"peer") + frame(b"g"))
            assert [message for _, message in await asyncio.wait_for(taking, LIMIT)] == [b"message"]
            assert ears.gaps == 1
            peer.writer.close()

    run(test)


def test_a_lost_connection_is_replaced_and_both_ends_are_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "a") as a, opened(tmp_path / "store.db", "b") as b:
            ears = {store: listens(store) for store in (a, b)}
            for link in [*a.bus._links]:
                assert link._transport
                link._transport.abort()
            for store in (a, b):
                await until(so(lambda: ears[store].gaps > 0))  # type: ignore[arg-type]  # noqa: B023
            await a.bus.publish(b"from a")
            await b.bus.publish(b"from b")
            await until(so(lambda: ears[a].heard == [b"from b"] and ears[b].heard == [b"from a"]))  # type: ignore[arg-type]

    run(test)


def test_more_connections_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_bus, "MAX_LINKS", 1)

    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            first = await Peer.calls(tmp_path / "store.db-bus", "w")
            first.send(frame(b"h", b"peer"))
            assert await first.frame() == (b"h", b"w")
            second = await Peer.calls(tmp_path / "store.db-bus", "w")
            assert await second.ended()
            await store.bus.publish(b"goes on")
            assert await first.frame() == (b"m", b"goes on")
            first.writer.close()

    run(test)


class Stopped:
    """A worker whose process stands still: its socket takes connections, and nothing answers."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.path = folder / file_of(worker)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen()
        self.socket.settimeout(LIMIT)


def test_a_worker_that_stands_still_delays_no_other_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_bus, "HELLO_TIME", 0.1)
    folder = tmp_path / "store.db-bus"
    folder.mkdir(0o700)
    stopped = Stopped(folder, "stopped")

    async def test() -> None:
        async with opened(tmp_path / "store.db", "w") as store:
            ears = listens(store)
            connection, _ = stopped.socket.accept()
            peer = Peer(*await asyncio.open_unix_connection(sock=connection))
            assert await peer.frame() == (b"h", b"w")
            assert ears.gaps == 0
            peer.send(frame(b"h", b"stopped") + frame(b"m", b"goes on"))  # now it goes on
            await until(so(lambda: ears.heard == [b"goes on"]))  # type: ignore[arg-type]
            assert ears.gaps == 1  # what it has published meanwhile, this worker has not heard
            peer.writer.close()

    try:
        run(test)
    finally:
        stopped.socket.close()


def test_a_worker_that_ends_each_new_connection_is_left_after_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a dying one does for a moment: the system closes its sockets one by one."""
    monkeypatch.setattr(local_bus, "REPLACE_AFTER", 0.001)
    folder = tmp_path / "store.db-bus"
    folder.mkdir(0o700)
    calls = 0
    known: list[Peer] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            writer.write(frame(b"h", b"odd"))
            known.append(Peer(reader, writer))
        else:
            writer.close()

    async def test() -> None:
        died: list[str] = []
        server = await asyncio.start_unix_server(accept, str(folder / file_of("odd")))
        async with opened(tmp_path / "store.db", "w") as store:
            monkeypatch.setattr(store.bus, "_died", died.append)
            known[0].writer.close()
            await until(so(lambda: calls == local_bus.MAX_TRIES + 1))  # type: ignore[arg-type]
            await asyncio.sleep(0.1)  # time for one more, which must not be
            assert calls == local_bus.MAX_TRIES + 1 and died == []
        server.close()

    run(test)


def test_the_socket_of_a_dead_worker_is_removed_and_that_of_another_kind_stays(tmp_path: Path) -> None:
    folder = tmp_path / "store.db-bus"
    folder.mkdir(0o700)
    dead = Stopped(folder, "dead")
    dead.socket.close()
    (folder / "README").write_text("not a socket")
    (folder / "file.sock").write_text("not a socket either")

    async def test() -> None:
        async with opened(tmp_path / "store.db", "w"):
            assert not dead.path.exists()

    run(test)
    assert {path.name for path in folder.iterdir()} <= {"README", "file.sock"} and (folder / "README").exists()


def test_a_worker_that_has_closed_is_not_dead(tmp_path: Path) -> None:
    async def test() -> None:
        died: list[str] = []
        async with opened(tmp_path / "store.db", "a") as a:
            a.bus._died = died.append
            async with opened(tmp_path / "store.db", "b"):
                assert "b" in a.bus._peers
            await until(so(lambda: "b" not in a.bus._peers))  # type: ignore[arg-type]
            a.bus._replace("b", 1)
            assert died == []

    run(test)


def test_a_path_that_no_address_has_room_for_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)

    async def test() -> None:
        async with opened(folder / "store.db", "a") as a, opened(folder / "store.db", "b") as b:
            ears = listens(a)
            await b.bus.publish(b"hello")
            await until(so(lambda: ears.heard == [b"hello"]))  # type: ignore[arg-type]

    run(test)


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_directory_that_others_may_enter_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "store.db-bus"
    if kind == "open to others":
        folder.mkdir()
        folder.chmod(0o750)
    elif kind == "a link":
        (tmp_path / "elsewhere").mkdir(0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.write_text("")

    async def test() -> None:
        store = SQLiteStore(tmp_path / "store.db")
        with pytest.raises(StoreRefused, match="0700"):
            await store.open("w")
        with pytest.raises(StoreError, match="not open"):
            await store.records.load("s", "k")

    run(test)


def test_an_id_is_taken_once_and_has_a_limit(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", "w" * 256):
            with pytest.raises(StoreError, match="there already"):
                await SQLiteStore(tmp_path / "store.db").open("w" * 256)
            with pytest.raises(ValueError, match="at most 256 bytes"):
                await SQLiteStore(tmp_path / "store.db").open("w" * 257)

    run(test)


def test_no_socket_is_left_where_a_directory_cannot_be_written(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "store.db-bus").mkdir(0o700)
        os.mkdir(tmp_path / "store.db-bus" / (file_of("w") + ".new"))  # the name is in use
        with pytest.raises(StoreError, match="store.db-bus"):
            await SQLiteStore(tmp_path / "store.db").open("w")

    run(test)


def test_a_store_that_cannot_find_the_others_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(local_bus, "_connect_to_all", fail)

    async def test() -> None:
        with pytest.raises(StoreError, match="Permission denied"):
            await SQLiteStore(tmp_path / "store.db").open("w")
        assert [*(tmp_path / "store.db-bus").iterdir()] == []

    run(test)


@pytest.mark.parametrize("slow", ["the directory", "the second connection", "another worker"])
def test_a_store_that_opens_too_slowly_leaves_nothing_and_opens_later(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    go_on, reached = threading.Event(), threading.Event()
    connect, connect_to_all = local_bus._connect, local_bus._connect_to_all

    def stand_still() -> None:
        reached.set()
        assert go_on.wait(LIMIT)

    def connecting(*arguments: Any) -> socket.socket:
        if slow == "the second connection" and made:
            stand_still()
        made.append(connect(*arguments))
        return made[-1]

    def connecting_to_all(*arguments: Any) -> None:
        if slow == "the directory":
            stand_still()
        connect_to_all(*arguments)

    async def test() -> None:
        folder = tmp_path / "store.db-bus"
        async with opened(tmp_path / "store.db", "there"):
            monkeypatch.setattr(local_bus, "_connect", connecting)
            monkeypatch.setattr(local_bus, "_connect_to_all", connecting_to_all)
            monkeypatch.setattr(local_bus, "HELLO_TIME", LIMIT)
            mute = socket.socket(socket.AF_UNIX)
            with mute:  # a worker that never greets
                mute.bind(str(folder / file_of("mute")))
                mute.listen()
                store = SQLiteStore(tmp_path / "store.db")
                opening = asyncio.ensure_future(store.open("w"))

                async def far_enough() -> bool:
                    return len(store.bus._links) == 2 if slow == "another worker" else reached.is_set()

                await until(far_enough)
                opening.cancel()
                await asyncio.sleep(0)
                go_on.set()
                with pytest.raises(asyncio.CancelledError):
                    await opening
                assert len(made) == 2

                async def all_closed() -> bool:
                    return {connection.fileno() for connection in made} == {-1}

                await until(all_closed)
                assert {path.name for path in folder.iterdir()} == {file_of("there"), file_of("mute")}
            (folder / file_of("mute")).unlink()
            await store.open("w")
            await store.close()

    run(test)


def test_a_bus_that_is_not_open_closes_without_a_word_and_says_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        store = SQLiteStore(tmp_path / "store.db")
        await store.bus.close()
        with pytest.raises(StoreError, match="not open"):
            await store.bus.publish(b"x")
        async with opened(tmp_path / "store.db", "a") as a:
            # A worker that is gone, or is not heard of yet: its letters lie in its inbox all the same.
            await a.bus.publish(b"x", "nobody")
            a.bus.wake("nobody")
            await a.bus.close()
            await a.bus.close()
            assert not (tmp_path / "store.db-bus" / file_of("a")).exists()

    run(test)


def test_a_connection_that_comes_back_by_itself_is_not_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost connection is replaced after a wait, in which the other worker may have called, or this one closed."""
    monkeypatch.setattr(local_bus, "REPLACE_AFTER", 0.001)
    folder = tmp_path / "store.db-bus"
    folder.mkdir(0o700)
    calls = 0

    async def test() -> None:
        cut = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                writer.write(frame(b"h", b"odd"))
                await cut.wait()
            writer.close()

        server = await asyncio.start_unix_server(accept, str(folder / file_of("odd")))
        async with opened(tmp_path / "store.db", "w") as store:
            replace, late = store.bus._replace, []

            def after_a_wait(worker: str, tries: int) -> None:
                if tries == 1:
                    replace(worker, tries)
                else:
                    late.append((worker, tries))

            monkeypatch.setattr(store.bus, "_replace", after_a_wait)
            cut.set()
            await until(so(lambda: late == [("odd", 2)]))  # type: ignore[arg-type]
            peer = await Peer.calls(folder, "w")
            peer.send(frame(b"h", b"odd"))
            assert (await peer.frame())[0] == b"h"
            replace(*late[0])
            assert not store.bus._making
            await store.bus.publish(b"hello", "odd")
            assert await peer.frame() == (b"m", b"hello")
            assert calls == 2
        assert await peer.ended()
        replace(*late[0])
        assert not store.bus._making
        server.close()

    run(test)

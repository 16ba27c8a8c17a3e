# SPDX-License-Identifier: MIT
"""The transport that a plain connection has on asyncio, beside asyncio's own: the same bytes, the same callbacks."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import pytest
from rawclient import LIMIT, RawClient
from serving import ASYNCIO, lives, served

from mcp_h11.server.acceptor import Acceptor
from mcp_h11.server.connection import Connection
from mcp_h11.server.transport import KNOWN, PlainTransport, fits

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(not KNOWN, reason="the loop makes the transports of this Python")]
MUCH = b"0123456789abcdef" * 100_000


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Recorder(asyncio.BufferedProtocol):
    """Notes what it is told, and does at each of these what the test says."""

    def __init__(self, **does: Callable[[Any], Any]) -> None:
        self.does = does
        self.told: list[str] = []
        self.over = asyncio.get_running_loop().create_future()
        self.buffer = bytearray(1024)
        self.transport: Any = None

    def told_of(self, name: str, more: str = "") -> Any:
        self.told.append(name + more)
        return self.does[name](self.transport) if name in self.does else None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told_of("made", f" {transport.get_extra_info('peername') == PEER}")

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.told_of("bytes", f" {bytes(self.buffer[:nbytes])!r}")

    def eof_received(self) -> Any:
        return self.told_of("eof")

    def pause_writing(self) -> None:
        self.told_of("pause")

    def resume_writing(self) -> None:
        self.told_of("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told_of("lost", f" {type(exc).__name__} {self.transport.is_closing()}")
        self.over.set_result(None)


PEER = ("127.0.0.1", 4711)
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def joined(own: bool, protocol: Recorder, sent: bytes = b"", waited: bool = False) -> AsyncIterator[Peer]:
    """A connection: one end with the transport in question, the other with streams of asyncio; `sent` comes first."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    far.sendall(sent)
    if own:
        PlainTransport(loop, near, PEER, protocol).begin(waited)
    else:
        loop._make_socket_transport(near, protocol, extra={"peername": PEER})  # type: ignore[attr-defined]
    reader, writer = await asyncio.open_connection(sock=far)
    try:
        yield reader, writer
    finally:
        protocol.transport.abort()
        await asyncio.wait_for(protocol.over, LIMIT)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        assert near.fileno() < 0, "the descriptor is closed"


async def leaves(peer: Peer, protocol: Recorder) -> Any:
    peer[1].write(b"a question")
    peer[1].close()


async def asks_and_ends_its_half(peer: Peer, protocol: Recorder) -> Any:
    peer[1].write(b"a question")
    peer[1].write_eof()
    return await asyncio.wait_for(peer[0].read(), LIMIT)


async def resets(peer: Peer, protocol: Recorder) -> Any:
    peer[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer[1].transport.abort()


async def sends_much(peer: Peer, protocol: Recorder) -> Any:
    peer[1].write(MUCH)
    return await asyncio.wait_for(peer[0].read(), LIMIT)


async def reads_to_the_end(peer: Peer, protocol: Recorder) -> Any:
    peer[1].write(b"a question")
    data = await asyncio.wait_for(peer[0].read(), LIMIT)
    return len(data), data == MUCH


def answers(transport: Any) -> bool:
    transport.write(b"an answer")
    transport.close()
    return True


def answers_much(transport: Any) -> None:
    transport.set_write_buffer_limits(high=1000)
    transport.write(MUCH)
    transport.close()
    transport.close()


def reads_later(transport: Any) -> None:
    transport.pause_reading()
    asyncio.get_running_loop().call_soon(transport.resume_reading)


def closes_before_the_next_read(transport: Any) -> None:
    asyncio.get_running_loop().call_soon(transport.close)


def pauses_and_closes(transport: Any) -> None:
    transport.pause_reading()
    transport.close()


def fails(transport: Any) -> None:
    raise RuntimeError("a mistake")


CASES: dict[str, tuple[Any, dict[str, Callable[[Any], Any]]]] = {
    "the peer leaves": (leaves, {}),
    "the peer leaves and is aborted": (leaves, {"eof": lambda t: t.abort()}),
    "the peer leaves and is closed": (leaves, {"eof": lambda t: t.close()}),
    "the peer leaves while much is unsent": (leaves, {"bytes": lambda t: t.write(MUCH)}),
    "a half-closed peer gets its answer": (asks_and_ends_its_half, {"eof": answers}),
    "its own half ends first": (asks_and_ends_its_half, {"made": lambda t: t.write_eof()}),
    "the peer resets": (resets, {}),
    "a slow reader gets all": (reads_to_the_end, {"bytes": answers_much}),
    "closed when it is made": (reads_to_the_end, {"made": lambda t: t.close()}),
    "aborted when it is made": (reads_to_the_end, {"made": lambda t: t.abort()}),
    "closed when it is lost": (leaves, {"lost": lambda t: t.close()}),
    "paused when it is made": (leaves, {"made": reads_later}),
    "closed while more can be read": (sends_much, {"bytes": closes_before_the_next_read}),
    "paused and closed when it is made": (leaves, {"made": pauses_and_closes}),
    "a mistake at the end of the bytes": (leaves, {"eof": fails}),
    "a mistake in a read": (leaves, {"bytes": fails}),
}


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("case", CASES)
async def test_it_does_what_the_transport_of_asyncio_does(case: str, debug: bool) -> None:
    peer, does = CASES[case]
    found: list[list[Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_debug(debug)
    loop.set_exception_handler(lambda loop, context: found[-1].append(context["message"]))
    for own, waited in ((True, False), (True, True), (False, False)):
        protocol = Recorder(**does)
        found.append([])
        async with joined(own, protocol, waited=waited) as ends:
            try:
                found[-1].append(await peer(ends, protocol))
            except ConnectionError:
                found[-1].append("reset")
            if "unsent" not in case:
                await asyncio.wait_for(asyncio.shield(protocol.over), LIMIT)
        found[-1].append(protocol.told)
    assert found[0] == found[1] == found[2]
    assert found[0][-1], "something happened"


async def test_of_connections_that_come_together_all_but_the_first_are_read_at_once() -> None:
    protocols = [Recorder(), Recorder()]
    coming = iter(protocols)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        acceptor = Acceptor(
            sock.dup(), None, lambda made: next(coming), lambda peer: False, set(), timeout=None, backlog=10
        )
        clients = [socket.create_connection(sock.getsockname(), LIMIT) for _ in protocols]
        for client in clients:
            client.sendall(b"a question")
        acceptor._accept()
        assert [len(protocol.told) for protocol in protocols] == [1, 2]
        for client in clients:
            client.close()
        await asyncio.wait_for(asyncio.gather(*[protocol.over for protocol in protocols]), LIMIT)
        acceptor.close()
    for protocol in protocols:
        assert protocol.told == ["made False", "bytes b'a question'", "eof", "lost NoneType True"]


async def test_a_read_that_is_made_at_once_has_a_context_of_its_own() -> None:
    named: ContextVar[str] = ContextVar("named", default="")
    protocol = Recorder(bytes=lambda transport: named.set("by the peer"))
    async with joined(True, protocol, b"a question", waited=True):
        assert len(protocol.told) == 2 and named.get() == ""


@pytest.mark.parametrize("unsent", [False, True])
async def test_a_peer_that_left_before_the_end_was_said_ends_the_connection_alone(unsent: bool) -> None:
    errors: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    protocol = Recorder(eof=lambda transport: True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    near.setblocking(False)
    PlainTransport(loop, near, PEER, protocol).begin()
    if unsent:
        with suppress(BlockingIOError):
            while True:
                near.send(MUCH)
        protocol.transport.write(b"the rest")
        protocol.transport.write_eof()
        far.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                far.recv(len(MUCH))
        far.close()
    else:
        far.close()
        protocol.transport.write(b"an answer")  # the system of the peer refuses it
        protocol.transport.write_eof()
    await asyncio.wait_for(protocol.over, LIMIT)
    assert protocol.told[-1] == "lost OSError True" and near.fileno() < 0
    assert errors == []


async def test_a_number_that_a_program_left_in_the_selector_is_taken_over() -> None:
    loop = asyncio.get_running_loop()
    left, other = socket.socketpair()
    loop.add_reader(left, print)
    loop.add_writer(left, print)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        fd = left.fileno()
        left.close()
        near, _ = listener.accept()
    assert near.fileno() == fd
    near.setblocking(False)
    protocol = Recorder()
    PlainTransport(loop, near, PEER, protocol).begin()
    far.sendall(b"a question")
    far.close()
    await asyncio.wait_for(protocol.over, LIMIT)
    assert protocol.told[1:] == ["bytes b'a question'", "eof", "lost NoneType True"]
    other.close()


async def test_a_connection_that_is_closed_when_it_is_made_is_not_read() -> None:
    protocol = Recorder(made=lambda transport: transport.close())
    async with joined(True, protocol, b"a question", waited=True):
        await asyncio.wait_for(asyncio.shield(protocol.over), LIMIT)
    assert protocol.told == ["made True", "lost NoneType True"]


async def test_it_has_all_that_the_transport_of_asyncio_has() -> None:
    protocols = Recorder(), Recorder()
    async with joined(True, protocols[0]), joined(False, protocols[1]):
        own, theirs = (protocol.transport for protocol in protocols)
        slots = [name for base in type(theirs).__mro__ for name in getattr(base, "__slots__", ())]
        # `get_extra_info` has its place: the address is known and the rest is not asked for.
        missing = {name for name in (*vars(theirs), *slots) if hasattr(theirs, name) and not hasattr(own, name)}
        assert missing == {"_extra"}
        assert type(own._buffer) is type(theirs._buffer)
        assert own.get_write_buffer_limits() == theirs.get_write_buffer_limits()
        assert own.get_extra_info("socket").fileno() == own._sock_fd
        assert own.get_extra_info("cipher", "none") == "none"


@pytest.mark.parametrize("limits", [(1000, None), (None, 10), (None, None), (0, None), (5, 3), (5, 0)])
async def test_its_write_limits_follow_the_rules_of_asyncio(limits: tuple[int | None, int | None]) -> None:
    protocols = Recorder(), Recorder()
    async with joined(True, protocols[0]), joined(False, protocols[1]):
        both = [protocol.transport for protocol in protocols]
        for transport in both:
            transport.set_write_buffer_limits(*limits)
        assert both[0].get_write_buffer_limits() == both[1].get_write_buffer_limits()
        with pytest.raises(ValueError):
            both[0].set_write_buffer_limits(1, 2)


async def test_a_connection_that_ended_leaves_nothing_to_the_garbage_collector() -> None:
    async with served() as server:
        gc.collect()
        gc.disable()
        try:
            async with RawClient(server.port) as client:
                await lives(client)
                (connection,) = server.connections
                left = [weakref.ref(connection._transport)]
                assert type(connection._transport) is PlainTransport
                del connection
            while server.connections:
                await asyncio.sleep(0)
            assert left[0]() is None
        finally:
            gc.enable()


async def test_a_protocol_that_fails_when_it_is_made_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "connection_made", lambda self, transport: fails(transport))
            async with RawClient(server.port) as client:
                assert await client.receive_eof() == b""
        async with RawClient(server.port) as client:
            await lives(client)
    assert "a connection could not be made" in [record.getMessage() for record in caplog.records]


async def test_a_loop_with_transports_of_its_own_keeps_them() -> None:
    class Other(asyncio.SelectorEventLoop):
        def _make_socket_transport(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

    loop = Other()
    try:
        assert fits(asyncio.get_running_loop())
        assert not fits(loop)
    finally:
        loop.close()

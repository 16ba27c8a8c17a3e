# SPDX-License-Identifier: MIT
"""Where a server listens, how it ends, and what it leaves behind: nothing."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import both_ends
from patience import heard, without_stalls
from ports import free_port
from rawclient import LIMIT, Closed, Legacy, Modern, RawClient, encode
from serving import ASYNCIO, LEGACY, UVLOOP, Held, call, head, is_closed, lives, modern, served, still_serves, turns

from mcp_h11 import MCPServer, listening, run, serve
from mcp_h11.runtime.settings import Settings
from mcp_h11.server import acceptor as accepting
from mcp_h11.server import ending as server_ending
from mcp_h11.server import server as server_server
from mcp_h11.server import sockets as server_sockets
from mcp_h11.server.clock import MIN_TICK
from mcp_h11.server.deadlines import BODY
from mcp_h11.server.owner import TOLD_WHY

pytestmark = pytest.mark.anyio
SHORT = 0.15
posix = pytest.mark.skipif(os.name != "posix", reason="Unix sockets and signals")


@pytest.fixture(params=[ASYNCIO, UVLOOP], ids=["asyncio", "uvloop"])
def anyio_backend(request: Any) -> Any:
    return request.param


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def has_ipv6() -> bool:
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback here")


class UnixClient(RawClient):
    """RawClient over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__(0, "localhost")
        self.path = path

    async def connect(self) -> UnixClient:
        self._reader, self._writer = await asyncio.open_unix_connection(self.path)
        return self


# --- where it listens ----------------------------------------------------------------------------------------------


async def test_a_free_port_is_taken_and_said() -> None:
    async with served() as server:
        assert server.port > 0 and server.url == f"http://127.0.0.1:{server.port}/mcp"
        assert server.addresses == [("127.0.0.1", server.port)]
        await still_serves(server.port)


@ipv6
async def test_localhost_is_both_families_on_one_port() -> None:
    async with served(host="localhost") as server:
        assert {address[:2] for address in server.addresses} == {("127.0.0.1", server.port), ("::1", server.port)}
        await still_serves(server.port)
        async with RawClient(server.port, "::1") as client:
            await client.send(modern("server/discover", Host=f"[::1]:{server.port}"))
            assert (await client.receive("POST")).status == 200


@ipv6
async def test_a_port_that_only_one_family_has_is_not_half_taken() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        port = free_port()  # which is served a moment later
        other.bind(("::1", port))
        other.listen()
        with pytest.raises(OSError, match="in use"):
            async with listening(Held(), host="localhost", port=port):
                pass
    async with served(host="localhost", port=port) as server:  # and the other half was given back
        await still_serves(server.port)


async def test_a_port_in_use_is_an_oserror() -> None:
    async with served() as server:
        with pytest.raises(OSError, match="in use"):
            async with listening(Held(), port=server.port):
                pass
        await still_serves(server.port)


async def test_a_free_port_of_both_families_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original, tries = server_sockets._bind_all, []

    def unlucky(targets: Any, port: int) -> Any:
        tries.append(port)
        if len(tries) < 3:
            raise OSError(98, "Address already in use")
        return original(targets, port)

    monkeypatch.setattr(server_sockets.errno, "EADDRINUSE", 98)
    monkeypatch.setattr(server_sockets, "_bind_all", unlucky)
    async with served() as server:
        await still_serves(server.port)
    assert tries == [0, 0, 0]
    tries[:] = [0] * -server_sockets.PORT_TRIES
    monkeypatch.setattr(server_sockets, "_bind_all", lambda *_: tries.append(0) or unlucky([], tries.clear() or 0))
    with pytest.raises(OSError, match="in use"):
        async with listening(Held(), port=0):
            pass


async def test_an_address_that_is_not_ours_is_an_oserror() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(OSError):
            async with listening(Held(), host=host, port=0, allowed_hosts=["*"]):
                pass


@pytest.mark.parametrize("host", ["0.0.0.0", "", "*"])
async def test_a_bind_that_others_can_reach_wants_to_know_the_hosts(host: str) -> None:
    with pytest.raises(ValueError, match="allowed_hosts"):
        async with listening(Held(), host=host, port=0):
            pass
    async with served(host=host, allowed_hosts=["tools.example"]) as server:
        assert server.url.startswith(("http://127.0.0.1:", "http://[::1]:"))
        async with RawClient(server.port) as client:
            await client.send(modern("server/discover", Host="tools.example"))
            assert (await client.receive("POST")).status == 200
            await client.send(modern("server/discover", Host="localhost"))
            assert (await client.receive("POST")).status == 403


@posix
async def test_a_unix_socket_serves_and_is_removed(place: str) -> None:
    async with served(uds=place) as server:
        assert stat.S_ISSOCK(os.stat(place).st_mode)
        assert (server.port, server.addresses, server.url) == (0, [place], f"http+unix://{place}:/mcp")
        async with UnixClient(place) as client:
            await lives(client)
            await client.send(modern("server/discover", Host="evil.example"))
            assert (await client.receive("POST")).status == 403
    assert not os.path.exists(place)


@posix
async def test_a_unix_socket_that_a_dead_server_left_is_replaced(place: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place)
        dead.listen()
    async with served(uds=place), UnixClient(place) as client:
        await lives(client)


@posix
async def test_a_unix_socket_that_lives_or_is_a_file_is_not_replaced(place: str, tmp_path: Path) -> None:
    async with served(uds=place):
        with pytest.raises(OSError, match=f"^cannot listen on {place}: it is already in use$"):
            async with listening(Held(), uds=place):
                pass
        async with UnixClient(place) as client:
            await lives(client)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OSError, match=r"^cannot listen on .*/file: it is already in use$"):
        async with listening(Held(), uds=str(tmp_path / "file")):
            pass
    assert (tmp_path / "file").read_text() == "precious"


@posix
async def test_a_unix_socket_whose_server_is_too_busy_to_answer_lives(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_sockets, "PROBE_TIME", 0.05)
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(place)
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(place)
        with pytest.raises(OSError, match=f"^cannot listen on {place}: it is already in use$"):
            async with listening(Held(), uds=place):
                pass
        for one in waiting:
            one.close()
    assert os.path.exists(place)


@posix
async def test_an_inherited_descriptor_and_a_socket_of_ours_are_served() -> None:
    for form in ("fd", "sock"):
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with served(**{form: sock.detach() if form == "fd" else sock}) as server:
            assert server.port == port
            await still_serves(port)
        sock.close()


async def test_a_handler_or_a_listen_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    ended: list[str] = []

    class Living(MCPServer):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[Any]:
            yield None
            ended.append("lifespan")

    class Stillborn(MCPServer):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[Any]:
            raise ZeroDivisionError
            yield

    async def no_listen(*_: Any) -> Any:
        raise OSError("no")

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with listening(Stillborn("stillborn"), port=0):
            pass
    server = server_server.Server(Living("living"), uds=place)
    monkeypatch.setattr(server, "_listen", no_listen)
    with pytest.raises(OSError, match="no"):
        await server.start()
    assert ended == ["lifespan"] and not os.path.exists(place)
    assert server._timer is not None and server._timer.cancelled()
    assert all(sock.fileno() == -1 for sock in server.sockets)
    assert asyncio.all_tasks() == before


# --- TLS -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return both_ends("127.0.0.1", "localhost")


async def test_tls_serves_refuses_and_streams(tls: Any) -> None:
    handler = Held()
    handler.released.set()
    async with served(handler, ssl=tls[0]) as server:
        assert server.url.startswith("https://127.0.0.1:")
        async with RawClient(server.port, ssl=tls[1]) as client:
            await lives(client)
            await client.send(modern("tools/call", call("big", size=3_000_000)))
            assert len((await client.receive("POST")).body) > 3_000_000
            await client.send(head("/nowhere", Content_Length="100000") + b" " * 50_000)
            assert (await client.receive("POST")).status == 404
            await client.send(b" " * 50_000)
        async with RawClient(server.port, ssl=tls[1]) as client:
            await client.send(modern("server/discover", Connection="close"))
            assert (await client.receive("POST")).status == 200
            await is_closed(client)
        async with RawClient(server.port, ssl=tls[1]) as client:
            await lives(client)


async def test_a_tls_client_that_leaves_is_nothing_to_log(tls: Any, caplog: pytest.LogCaptureFixture) -> None:
    handler = Held()
    async with served(handler, ssl=tls[0]) as server:
        async with RawClient(server.port, ssl=tls[1]) as client:
            await client.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
        await handler.until(cancelled=1)
    assert [record for record in heard(caplog) if record.levelno >= logging.WARNING] == []


# The beginning of a ClientHello of 512 bytes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(LIMIT):
        while not holds():
            await asyncio.sleep(0)


async def left(client: RawClient) -> None:
    """The server lets go of it, and has said nothing."""
    with suppress(ConnectionError):
        assert await client.receive_eof() == b""


@pytest.fixture
async def quietly() -> None:
    asyncio.get_running_loop().set_debug(False)  # it would report what peers do wrong


@pytest.mark.parametrize("sent", [b"", HELLO], ids=["silent", "begun"])
async def test_a_peer_that_does_not_shake_hands_in_time_is_left(tls: Any, quietly: None, sent: bytes) -> None:
    async with served(ssl=tls[0], handshake_timeout=SHORT) as server, RawClient(server.port) as plain:
        await plain.send(sent)
        await until(lambda: len(server.handshakes) == 1)
        began = time.monotonic()
        await left(plain)
        assert time.monotonic() - began < LIMIT / 2  # and not asyncio's minute
        await until(lambda: not server.handshakes)
        async with RawClient(server.port, ssl=tls[1]) as client:
            await lives(client)


async def test_a_handshake_that_trickles_has_no_more_time_than_another(tls: Any, quietly: None) -> None:
    async with served(ssl=tls[0], handshake_timeout=SHORT) as server, RawClient(server.port) as plain:
        began = time.monotonic()
        with suppress(ConnectionError, RuntimeError):  # uvloop raises the latter where the connection is lost
            for byte in HELLO + bytes(500):
                await plain.send(bytes([byte]))
                await asyncio.sleep(SHORT / 5)
                assert time.monotonic() - began < LIMIT / 2
                if plain.reader.at_eof():
                    break
        assert time.monotonic() - began >= SHORT / 2


async def test_handshakes_count_among_the_connections(tls: Any, quietly: None) -> None:
    room = 1 + TOLD_WHY
    async with served(ssl=tls[0], max_connections=1) as server, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(RawClient(server.port)) for _ in range(room)]
        await until(lambda: len(server.handshakes) == room)
        for _ in range(2):
            async with RawClient(server.port) as one_too_many:
                await left(one_too_many)
        assert (len(server.handshakes), len(server.connections)) == (room, 0)
        await silent.pop().aclose()
        await until(lambda: len(server.handshakes) == room - 1)
        async with RawClient(server.port, ssl=tls[1]) as client:  # the place that was left is free
            await lives(client)
            await until(lambda: (len(server.handshakes), len(server.connections)) == (room - 1, 1))
            async with RawClient(server.port) as one_too_many:
                await left(one_too_many)
        for one in silent:
            await one.aclose()
        await until(lambda: not server.handshakes and not server.connections)


async def test_a_server_that_ends_waits_for_no_handshake(tls: Any, quietly: None) -> None:
    async with (
        served(ssl=tls[0], grace=LIMIT) as server,
        RawClient(server.port) as silent,
        RawClient(server.port) as begun,
    ):
        await begun.send(HELLO)
        await until(lambda: len(server.handshakes) == 2)
        began = time.monotonic()
        await server.aclose()
        assert time.monotonic() - began < LIMIT / 2
        assert not server.handshakes
        for one in (silent, begun):
            await left(one)
        with pytest.raises(OSError):
            await RawClient(server.port).connect()


class Full:
    """A listening socket on a system that is out of something, for a while."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock, self.failures = sock, [number] * 3

    def _accept(self) -> Any:
        if self.failures:
            raise OSError(self.failures.pop(), "no room")
        return self.sock._accept()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each connection is asked")
async def test_events_leave_at_once_on_a_socket_that_was_handed_in() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)  # no protocol is named: asyncio leaves such sockets alone
    sock.bind(("127.0.0.1", 0))
    async with served(sock=sock) as server, RawClient(server.port) as client:
        await lives(client)
        (connection,) = server.connections
        made = connection._transport.get_extra_info("socket")
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# uvloop accepts plain connections itself.
@pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])
async def test_a_connection_that_cannot_be_made_is_closed_and_the_next_one_served(
    quietly: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as server:
        acceptor = server._servers[0]
        make = acceptor._connected

        def broken(made: Any) -> Any:
            acceptor._connected = make
            raise RuntimeError("no protocol")

        acceptor._connected = broken
        async with RawClient(server.port) as client:
            assert await client.receive_eof() == b""
        async with RawClient(server.port) as client:
            await lives(client)
    assert "a connection could not be made" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("secure", "anyio_backend"),
    [(False, ASYNCIO), (True, ASYNCIO), (True, UVLOOP)],
    ids=["plain-asyncio", "tls-asyncio", "tls-uvloop"],
)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ECONNABORTED])
async def test_a_system_without_room_is_asked_again(
    tls: Any,
    quietly: None,
    number: int,
    secure: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(accepting, "RETRY_AFTER", SHORT)
    async with served(ssl=tls[0] if secure else None) as server:
        acceptor = server._servers[0]
        full: Any = Full(acceptor._sock, number)
        acceptor._sock = full
        for _ in range(2):
            async with RawClient(server.port, ssl=tls[1] if secure else None) as client:
                await lives(client)
        assert not full.failures
    said = [record.getMessage() for record in heard(caplog) if record.levelno >= logging.WARNING]
    assert said == (["no connection can be accepted: [Errno 24] no room"] * 3 if number == errno.EMFILE else [])


@pytest.mark.parametrize("anyio_backend", [ASYNCIO], ids=["asyncio"])  # uvloop's methods cannot be replaced
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_a_loop_that_has_no_readers_accepts_all_the_same(
    tls: Any, quietly: None, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows' own."""
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [errno.EMFILE, errno.ECONNABORTED]

    async def sock_accept(sock: socket.socket) -> Any:
        if failures:
            raise OSError(failures.pop(), "no room")
        return await accept(sock)

    def add_reader(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(accepting, "RETRY_AFTER", SHORT)
    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "add_reader", add_reader)
        server = server_server.Server(Held(), Settings(ssl=tls[0] if secure else None), port=0)
        await server.start()
    for _ in range(3):
        async with RawClient(server.port, ssl=tls[1] if secure else None) as client:
            await lives(client)
    async with RawClient(server.port) as silent:
        await until(lambda: len(server.handshakes) + len(server.connections) == 1)
        await server.aclose()
        await left(silent)
    await until(lambda: all(sock.fileno() == -1 for sock in server.sockets))
    assert not failures


async def test_who_is_accepted_while_a_server_closes_is_closed_and_not_lost(recwarn: Any) -> None:
    for turns_before in range(4):
        async with served() as server:
            peers = [socket.socket() for _ in range(8)]
            for peer in peers:
                peer.setblocking(False)
                with suppress(BlockingIOError):
                    peer.connect(("127.0.0.1", server.port))
            await turns(turns_before)
            await server.aclose()
        for peer in peers:
            with suppress(ConnectionError), anyio.fail_after(LIMIT):
                while await asyncio.get_running_loop().sock_recv(peer, 1000):  # 503 at most
                    pass
            peer.close()
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_plain_http_on_a_tls_port_harms_nobody(tls: Any) -> None:
    asyncio.get_running_loop().set_debug(False)  # which would report it
    async with served(ssl=tls[0]) as server:
        async with RawClient(server.port) as plain:
            await plain.send(modern("server/discover"))
            with suppress(ConnectionError):
                await plain.receive_eof()
        async with RawClient(server.port, ssl=tls[1]) as client:
            await lives(client)


# --- the end, from code --------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(port: int) -> AsyncIterator[dict[str, Any]]:
    """One open stream of each kind; `sse` servers only."""
    async with Legacy(port, LEGACY) as session:
        async with (
            session.get_stream() as get,
            Modern(port).listen(toolsListChanged=True) as listen,
            RawClient(port) as old,
            session.posting(session.request("tools/call", call("stream", label="post"))) as post,
        ):
            sse = await old.open_stream("GET", "/sse", {"Accept": "text/event-stream"})
            assert (await sse.next_event()).event == "endpoint"  # type: ignore[union-attr]
            assert (await listen.next_message())["method"].endswith("acknowledged")
            assert (await post.next_message())["method"] == "notifications/message"
            await get.next_event()
            yield {"get": get, "listen": listen, "sse": sse, "post": post}
        session.session = None


async def test_open_streams_end_with_a_clean_chunk_and_running_calls_get_the_grace() -> None:
    handler = Held()
    async with served(handler, legacy_sse=True) as server, opened(server.port) as streams:
        await handler.until(started=1)
        async with anyio.create_task_group() as group:
            group.start_soon(server.aclose)
            for kind in ("get", "listen", "sse"):  # at once: nothing runs there
                last = [message async for message in _messages(streams[kind])]
                assert streams[kind].ended
                assert [message.get("result", {}).get("resultType") for message in last] == (
                    ["complete"] if kind == "listen" else []
                )
            handler.released.set()
            answer = await streams["post"].next_message()
            assert answer["result"]["content"][0]["text"] == "post released"
            assert await streams["post"].next_message() is None and streams["post"].ended
        assert handler.cancelled == []
        with pytest.raises(OSError):
            await RawClient(server.port).connect()


async def _messages(stream: Any) -> AsyncIterator[Any]:
    while (message := await stream.next_message()) is not None:
        yield message


async def test_calls_that_outlast_the_grace_are_cancelled_and_told_so() -> None:
    handler = Held()
    async with served(handler, grace=0.05) as server, Legacy(server.port, LEGACY) as session:
        async with (
            RawClient(server.port) as modern_client,
            session.posting(session.request("tools/call", call("stream"))) as stream,
        ):
            await modern_client.send(modern("tools/call", call("hold")))
            await handler.until(started=2)
            await server.aclose()
            answer = await modern_client.receive("POST")
            assert (answer.status, answer.json()["error"]["message"]) == (503, "The server is shutting down")
            await stream.next_message()
            assert await stream.next_message() is None and stream.ended
        session.session = None
    assert sorted(handler.cancelled) == ["hold", "stream"]


@pytest.mark.parametrize("scope", ["task", "anyio"])
async def test_a_cancelled_task_ends_in_order_and_a_second_cancel_at_once(scope: str) -> None:
    for insisted in (False, True):
        handler, ports, ended = Held(), [], []

        class Living(Held):
            pass

        async def main(handler: Held = handler, ports: list[int] = ports, ended: list[str] = ended) -> None:
            try:
                await serve(handler, port=0, signals=False, on_start=lambda server: ports.append(server.port))
            finally:
                ended.append("served")

        task = asyncio.create_task(main())
        with anyio.fail_after(LIMIT):
            while not ports:
                await asyncio.sleep(0)
            async with RawClient(ports[0]) as client:
                await client.send(modern("tools/call", call("hold")))
                await handler.until(started=1)
                task.cancel()
                await turns()
                assert not ended
                if insisted:
                    task.cancel()
                else:
                    handler.released.set()
                answer = await client.receive("POST")
                assert answer.status == (503 if insisted else 200)
            with pytest.raises(asyncio.CancelledError):
                await task
        assert ended == ["served"] and handler.cancelled == (["hold"] if insisted else [])


async def test_a_scope_that_is_cancelled_lets_the_server_end_in_order() -> None:
    handler = Held()
    with anyio.CancelScope() as scope:
        async with served(handler) as server:
            client = await RawClient(server.port).connect()
            await client.send(modern("tools/call", call("hold")))
            await handler.until(started=1)
            asyncio.get_running_loop().call_later(0.02, handler.released.set)
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert (await client.receive("POST")).status == 200
    await client.aclose()


async def test_new_connections_are_told_while_a_server_drains() -> None:
    handler = Held()
    async with served(handler) as server, RawClient(server.port) as kept, RawClient(server.port) as busy:
        await busy.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
        await kept.send(head(Content_Length="2") + b"{")
        await until(lambda: any(one._phase == BODY for one in server.connections))
        async with anyio.create_task_group() as group:
            group.start_soon(server.aclose)
            await turns()
            await kept.send(b"}")
            answer = await kept.receive("POST")
            assert (answer.status, answer.headers["connection"]) == (400, "close")
            handler.released.set()
            answer = await busy.receive("POST")
            assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_a_call_that_ignores_its_cancellation_does_not_keep_the_server(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_ending, "CANCEL_TIME", 0.05)
    free = asyncio.Event()

    class Stubborn(Held):
        async def hold(self, label: str = "hold") -> str:
            self._began(label)
            while not free.is_set():
                with suppress(asyncio.CancelledError):
                    await free.wait()
            return label

    handler = Stubborn()
    async with listening(handler, port=0, grace=0.0) as server:
        client = await RawClient(server.port).connect()
        await client.send(modern("tools/call", call("hold")))
        await handler.until(started=1)
    assert "1 calls ignored their cancellation" in caplog.text
    with suppress(Closed, ConnectionError):
        await client.receive("POST")
    await client.aclose()
    free.set()
    await turns()


async def test_a_sync_tool_that_blocks_does_not_keep_the_server() -> None:
    handler = Held()
    async with served(handler, grace=0.05) as server, RawClient(server.port) as client:
        await client.send(modern("tools/call", call("block")))
        await handler.until(started=1)
        with anyio.fail_after(LIMIT / 2):
            await server.aclose()
        assert (await client.receive("POST")).status == 503
    handler.unblocked.set()


async def test_a_reader_that_has_stopped_does_not_keep_the_server() -> None:
    async with served() as server:
        client = await RawClient(server.port).connect()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(modern("tools/call", call("big", size=24 * 1024 * 1024)))
        with anyio.fail_after(LIMIT / 2):
            while not any(not connection.writable for connection in server.connections):
                await turns(1)
            await server.aclose()
    client.abort()


async def test_a_port_can_be_served_again_and_again_and_two_servers_do_not_know_of_each_other() -> None:
    one, two = Held(), Held()
    port = free_port()
    async with served(one, port=port):
        await still_serves(port)
    for _ in range(3):
        async with served(one, port=port), served(two) as other:
            async with Modern(port).listen(toolsListChanged=True) as stream:
                await stream.next_message()
                two.notify_tools_changed()
                one.notify_tools_changed()
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
                await other.aclose()
                one.notify_tools_changed()
                assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            async with Legacy(port, LEGACY) as session:
                assert session.session
    gc.collect()  # what was not closed would warn here


async def test_closing_is_idempotent() -> None:
    async with served() as server:
        await server.aclose()
        await server.aclose()
        server.stop()


# --- the end, by signals -------------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, sys, time
sys.path[:0] = {path!r}
import serving
from mcp_h11 import run

class Program(serving.Held):
    def nap(self) -> str:
        self._mark_soon()
        time.sleep(60)
        return "never"

    def _mark_soon(self):
        print("napping", flush=True)

handler = Program()
handler.add_tool(handler.nap, name="nap")
run(
    handler, loop={loop!r}, port=0, grace={grace!r}, legacy_sse=True, quiet=True,
    on_start=lambda s: print(s.port, flush=True),
)
print("clean", flush=True)
"""


class Program:
    """A server in a process of its own."""

    def __init__(self, loop: str, grace: float) -> None:
        root = Path(__file__).resolve().parents[2]
        path = [str(root / "tests" / "support"), str(root)]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", PROGRAM.format(path=path, loop=loop, grace=grace)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    async def end(self, *, clean: bool = True) -> int:
        out, err = await asyncio.to_thread(self.process.communicate, timeout=LIMIT)
        if clean:
            assert (out, without_stalls(err)) == ("clean\n", "")
        return self.process.returncode


@contextmanager
def program(loop: str, grace: float = 5.0) -> Iterator[Program]:
    one = Program(loop, grace)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_open_streams_cleanly_and_the_exit_code_is_0(
    number: signal.Signals, anyio_backend: Any
) -> None:
    with program("uvloop" if anyio_backend is UVLOOP else "asyncio", grace=0.2) as server:
        async with opened(server.port) as streams:
            server.process.send_signal(number)
            for kind in ("get", "listen", "sse", "post"):
                async for message in _messages(streams[kind]):
                    assert kind == "listen" and message["result"]["resultType"] == "complete"
                assert streams[kind].ended
        assert await server.end() == 0


@posix
@pytest.mark.parametrize("tool", ["hold", "nap"])
@pytest.mark.long
async def test_a_second_signal_ends_at_once(tool: str, anyio_backend: Any) -> None:
    with program("uvloop" if anyio_backend is UVLOOP else "asyncio", grace=60.0) as server:
        async with RawClient(server.port) as client, Modern(server.port).listen(toolsListChanged=True) as stream:
            await stream.next_message()
            await client.send(modern("tools/call", call(tool)))
            if tool == "nap":
                assert await asyncio.to_thread(server.line) == "napping"
            else:
                await lives_elsewhere(server.port)
            server.process.send_signal(signal.SIGTERM)
            assert (await stream.next_message())["result"]  # the first one was heard
            server.process.send_signal(signal.SIGTERM)
            assert await server.end() == 0


async def lives_elsewhere(port: int) -> None:
    async with RawClient(port) as client:
        await lives(client)


# --- run -----------------------------------------------------------------------------------------------------------


def stop_soon(server: Any) -> None:
    server.loop.call_soon(server.stop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "auto"])
def test_run_leaves_the_process_as_it_found_it(loop: str) -> None:
    def ours(*_: Any) -> None:
        raise AssertionError("not called here")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ours) for number in numbers]
    policy_loop = asyncio.new_event_loop()
    asyncio.set_event_loop(policy_loop)
    threads = threading.active_count()
    try:
        for _ in range(2):
            run(Held(), loop=loop, port=0, on_start=stop_soon)
        assert [signal.getsignal(number) for number in numbers] == [ours, ours]
        assert asyncio.get_event_loop_policy().get_event_loop() is policy_loop
        assert signal.set_wakeup_fd(-1) == -1
        assert threading.active_count() == threads
    finally:
        asyncio.set_event_loop(None)
        policy_loop.close()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_run_ends_what_handlers_left_behind() -> None:
    left: list[str] = []

    class Careless(Held):
        @asynccontextmanager
        async def lifespan(self) -> AsyncIterator[Any]:
            self.task = asyncio.create_task(self.linger())
            yield None

        async def linger(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                left.append("ended")

    run(Careless(), loop="asyncio", port=0, on_start=lambda s: s.loop.call_later(0.02, s.stop))
    assert left == ["ended"]


@pytest.mark.parametrize("ours", [False, True])
async def test_a_loops_own_handler_stays_where_signals_are_the_programs(ours: bool) -> None:
    """asyncio has no way to ask a loop what it had, so with `signals=True` it is gone: the docstring says so."""
    loop, heard, started = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, heard.set)
    try:
        serving = asyncio.ensure_future(
            serve(Held(), port=0, signals=ours, on_start=lambda server: (started.set(), server.stop())[0])
        )
        with anyio.fail_after(LIMIT):
            await serving
        assert started.is_set()
        if not ours:
            os.kill(os.getpid(), signal.SIGTERM)
            with anyio.fail_after(LIMIT):
                await heard.wait()
    finally:
        was_there = loop.remove_signal_handler(signal.SIGTERM)
    assert was_there != ours


def test_run_outside_of_the_main_thread_touches_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run, args=(Held(),), kwargs={"port": 0, "on_start": stop_soon})
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive() and signal.getsignal(signal.SIGINT) is before


async def test_run_in_a_running_loop_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="await serve"):
        run(Held(), port=0)


def test_run_names_the_loops_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="auto, asyncio or uvloop"):
        run(Held(), loop="trio", port=0)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with pytest.raises(ImportError):
        run(Held(), loop="uvloop", port=0)
    run(Held(), loop="auto", port=0, on_start=stop_soon)


def test_a_start_that_fails_ends_run_with_its_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        run(Held(), loop="asyncio", port=taken.getsockname()[1])


# --- the descriptor limit ------------------------------------------------------------------------------------------


@posix
async def test_connections_leave_some_descriptors_for_others() -> None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with served(max_connections=10**9) as server:
        if soft != resource.RLIM_INFINITY:
            assert server.settings.max_connections == soft - server_sockets.RESERVED_DESCRIPTORS
    async with served(max_connections=3, settings=Settings(max_requests=5)) as server:
        assert (server.settings.max_connections, server.settings.max_requests) == (3, 5)


async def test_tiny_deadlines_do_not_take_all_of_the_time() -> None:
    async with served(idle_timeout=1e-9) as server:
        await still_serves(server.port)
        assert server._tick_time >= MIN_TICK


async def test_a_body_in_flight_does_not_keep_a_server_that_ends() -> None:
    async with served() as server, RawClient(server.port) as client:
        await client.send(head(Content_Length="100") + encode({}))
        await turns()
        with anyio.fail_after(LIMIT / 2):
            await server.aclose()
        assert await client.receive_eof() == b""

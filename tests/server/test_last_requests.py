# SPDX-License-Identifier: MIT
"""Requests that meet the moment at which a server closes its port, after `drain_delay`, are answered.

A load balancer cannot know that moment, so a rolling restart behind one would fail a call now and then.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from certificates import both_ends
from provision import EVERYTHING, process_on_a_port
from rawclient import LIMIT, RawClient
from serving import UVLOOP, call, is_closed, modern, served, turns

from mcp_h11.server import server as server_module
from mcp_h11.server.acceptor import last_of
from mcp_h11.server.sockets import hold_handshakes

pytestmark = pytest.mark.anyio
LOOPS = pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], ids=["asyncio", "uvloop"])
REQUEST = modern("tools/call", call("echo"))
TURNS = 1_000  # of the loop, at most, until the port is closed
CALLERS = 6
DELAY = 0.001  # seconds


def connected(address: Any) -> socket.socket | int:
    """A connection that the system made, before the server has looked; else the number of the error."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family)
    sock.setblocking(False)
    error = sock.connect_ex(address)
    if error == errno.EINPROGRESS and select.select([], [sock], [], 0)[1]:  # on loopback it is made at once
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not error:
        return sock
    sock.close()
    return error


async def is_refused(address: Any) -> None:
    """Waits until nothing listens there."""
    with anyio.fail_after(LIMIT):
        while (found := connected(address)) not in (errno.ECONNREFUSED, errno.ENOENT):
            if isinstance(found, socket.socket):
                found.close()
            await asyncio.sleep(0)


async def answered(sock: socket.socket, late: bytes, tls: dict[str, Any]) -> bytes:
    with anyio.fail_after(LIMIT):
        reader, writer = await asyncio.open_connection(sock=sock, **tls)
        writer.write(late)
        answer = await reader.read()
        writer.close()
    return answer


@LOOPS
@pytest.mark.parametrize("kind", ["port", "Unix socket", "TLS"])
async def test_each_connection_that_the_system_made_has_its_answer(kind: str, tmp_path: Path) -> None:
    """One comes in each turn of the loop, until the port is closed: one is always there that was not accepted yet."""
    options: dict[str, Any] = {"uds": str(tmp_path / "s"), "port": None} if kind == "Unix socket" else {}
    tls: dict[str, Any] = {}
    if kind == "TLS":
        options["ssl"], context = both_ends("localhost")
        tls = {"ssl": context, "server_hostname": "localhost"}
    async with served(drain_delay=DELAY, **options) as server:
        address = server.addresses[0]
        closing = asyncio.ensure_future(server.aclose())
        made = []
        for _ in range(TURNS):
            sock = connected(address)
            if isinstance(sock, int):
                break
            made.append(sock)
            await asyncio.sleep(0)
        else:
            pytest.fail("the port was not closed")
        await is_refused(address)
        answers = await asyncio.gather(*(answered(one, REQUEST, tls) for one in made))
        await closing
    assert made and all(one.startswith(b"HTTP/1.1 200 ") and b"\r\nconnection: close" in one.lower() for one in answers)


@LOOPS
@pytest.mark.parametrize("there", [0, 1, REQUEST.index(b"\r\n\r\n") + 8], ids=["nothing", "a byte", "part of the body"])
async def test_a_request_that_has_not_wholly_come_when_the_port_closes_is_answered(there: int) -> None:
    async with served(drain_delay=DELAY) as server, RawClient(server.port) as client:
        await client.send(REQUEST[:there])
        await turns()
        closing = asyncio.ensure_future(server.aclose())
        await is_refused(server.addresses[0])
        await client.send(REQUEST[there:])
        answer = await client.receive("POST")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        with anyio.fail_after(LIMIT):
            await closing


@LOOPS
async def test_a_request_on_a_kept_connection_after_the_port_closed_is_answered() -> None:
    """A proxy keeps it for less than drain_delay, but a proxy that stood still uses it later."""
    async with served(drain_delay=DELAY) as server, RawClient(server.port) as client:
        await client.send(REQUEST)
        assert (await client.receive("POST")).status == 200
        closing = asyncio.ensure_future(server.aclose())
        await is_refused(server.addresses[0])
        await turns()
        await client.send(REQUEST)
        answer = await client.receive("POST")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        with anyio.fail_after(LIMIT):
            await closing


@pytest.mark.parametrize("before", [0, 1], ids=["new", "kept"])
async def test_a_connection_without_a_request_delays_the_end_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(server_module, "LAST_REQUESTS", 0.05)
    async with served(drain_delay=DELAY) as server, RawClient(server.port) as silent:
        await turns()
        for _ in range(before):
            await silent.send(REQUEST)
            assert (await silent.receive("POST")).status == 200
        with anyio.fail_after(LIMIT):
            await server.aclose()
        await is_closed(silent)


async def test_a_second_stop_ends_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "LAST_REQUESTS", 10 * LIMIT)
    async with served(drain_delay=DELAY) as server, RawClient(server.port) as silent:
        await turns()
        server.stop()
        closing = asyncio.ensure_future(server.aclose())
        await is_refused(server.addresses[0])
        assert not closing.done()
        server.stop()
        with anyio.fail_after(LIMIT):
            await closing
        await is_closed(silent)


@LOOPS
async def test_a_server_without_a_free_descriptor_ends_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(sock: socket.socket) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    async with served(drain_delay=DELAY) as server:
        address = server.addresses[0]
        with monkeypatch.context() as patch, anyio.fail_after(LIMIT):
            patch.setattr(socket.socket, "dup", full)
            await server.aclose()
        await is_refused(address)


async def test_a_socket_that_another_process_has_goes_on_to_take_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        async with served(drain_delay=DELAY, sock=kept.dup()) as server:
            with anyio.fail_after(LIMIT):
                await server.aclose()
        made = connected(kept.getsockname())
        assert isinstance(made, socket.socket)
        made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="another system resets a connection that comes in that moment")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_connection_that_begins_when_the_port_closes_is_refused_and_never_reset(host: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setblocking(False)
        early = connected(listener.getsockname())
        assert isinstance(early, socket.socket) and hold_handshakes(listener)
        with socket.socket(listener.family) as late, early:
            late.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(late, listener.getsockname()))
            accepted = [peer for peer, _ in last_of(listener.dup(), 10)]
            assert len(accepted) == 1 and not connecting.done()
            await loop.sock_sendall(early, b"bytes of the early one")
            accepted[0].setblocking(False)
            with accepted[0] as peer:
                assert await asyncio.wait_for(loop.sock_recv(peer, 100), LIMIT) == b"bytes of the early one"
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(connecting, LIMIT)


class Callers:
    """Threads that ask one request after the other, each on a connection of its own, until the port is closed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.busy = threading.Event()

    def ask(self) -> None:
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            try:
                sock = socket.create_connection(("127.0.0.1", self.port), LIMIT)
            except ConnectionRefusedError:
                return
            try:
                with sock, sock.makefile("rb") as answer:
                    sock.sendall(modern("server/discover"))
                    outcome = answer.readline().decode("ascii")
            except OSError as exc:
                outcome = repr(exc)
            self.outcomes[outcome] += 1
            if self.outcomes.total() >= CALLERS:
                self.busy.set()
        raise TimeoutError(f"the port is still open after {LIMIT} s")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="another system resets a connection that comes in that moment")
@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["one process", "workers"])
def test_no_request_fails_while_a_process_ends(options: list[str]) -> None:
    command = ["-m", "mcp_h11", f"{EVERYTHING}:server", "--port", "{port}", "--set", "drain_delay=0.2", *options]
    with ThreadPoolExecutor(CALLERS) as pool:
        with process_on_a_port(*command) as running:
            callers = Callers(running.port)
            asked = [pool.submit(callers.ask) for _ in range(CALLERS)]
            assert callers.busy.wait(LIMIT)
        for one in asked:
            one.result()
    assert set(callers.outcomes) == {"HTTP/1.1 200 OK\r\n"}, callers.outcomes

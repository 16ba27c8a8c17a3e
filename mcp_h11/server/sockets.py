# SPDX-License-Identifier: MIT
"""Sockets to listen on, and the host names that they imply."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
import sys
from array import array
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..http.addresses import LOOPBACK_ADDRESSES, on_loopback
from ..http.origins import LOOPBACK_HOSTS, HostPolicy
from ..runtime.settings import Settings

RESERVED_DESCRIPTORS = 64
PORT_TRIES = 8  # to find one port that is free on both families
OPTIONS_PASS_ON = sys.platform == "linux"  # an accepted socket has the options of the listening one
SO_ATTACH_FILTER = 26  # of Linux; Python has no name for it
PROBE_TIME = 1.0  # seconds for a Unix socket to show whether a server listens on it


# --- what cannot be had ------------------------------------------------------------------------------------------
_REASONS = {
    errno.EADDRINUSE: "it is already in use",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EADDRNOTAVAIL: "it is no address of this machine",
}


def reason_of(exc: OSError) -> str:
    """Why an address cannot be listened on, in words."""
    return _REASONS.get(exc.errno or 0) or exc.strerror or str(exc)


class ListenError(OSError):
    """An address cannot be listened on; the text names it, and says how to choose another.

    `where` is the address in words, `reason` says why not; `errno` is that of the system.
    """

    def __init__(self, exc: OSError, where: str, hint: str = "") -> None:
        self.where, self.reason = where, reason_of(exc)
        hint = f"; {hint}" if hint and exc.errno == errno.EADDRINUSE else ""
        super().__init__(exc.errno or 0, f"cannot listen on {where}: {self.reason}{hint}")

    def __str__(self) -> str:
        return str(self.strerror)


async def open_sockets(
    loop: asyncio.AbstractEventLoop, settings: Settings, host: str, port: int, uds: str | None, fd: int | None
) -> list[socket.socket]:
    """The sockets of a server: a descriptor that it inherited, else a Unix socket, else a port.  Raises ListenError."""
    where, hint = f"{host or '*'} port {port}", "port=... takes another, port=0 any free one"
    try:
        if fd is not None:
            where, hint = f"descriptor {fd}", ""
            return [socket.socket(fileno=fd)]
        if uds is not None:
            where, hint = uds, ""
            return [bind_unix(uds, settings.uds_mode)]
        return await bind_tcp(loop, host, port)
    except OSError as exc:
        raise ListenError(exc, where, hint) from None


async def open_ops_sockets(loop: asyncio.AbstractEventLoop, settings: Settings) -> list[socket.socket]:
    """The sockets of the pages for operators.  Raises ListenError."""
    host, port, uds = settings.ops_host, settings.ops_port or 0, settings.ops_uds
    try:
        return [bind_unix(uds, settings.uds_mode)] if uds is not None else await bind_tcp(loop, host, port)
    except OSError as exc:
        raise ListenError(exc, f"the ops {'socket ' + uds if uds is not None else f'port {port} of {host}'}") from None


# --- sockets -----------------------------------------------------------------------------------------------------
def host_policy(settings: Settings, addresses: list[Any]) -> HostPolicy:
    """The host names that requests may carry.

    Raises ValueError where other machines can reach the server and `allowed_hosts` is not set.
    """
    if settings.allowed_hosts is not None:
        return HostPolicy(settings.allowed_hosts, settings.allowed_origins)
    own = [str(address[0]) for address in addresses if isinstance(address, tuple)]
    for host in reachable(addresses):
        raise ValueError(
            f"{host} can be reached from elsewhere: name the hosts that clients use in allowed_hosts "
            '(--allowed-hosts), or "*" for any'
        )
    names = [f"[{host}]" if ":" in host else host for host in own]
    return HostPolicy([*LOOPBACK_HOSTS, *names], settings.allowed_origins)


def reachable(addresses: list[Any]) -> list[str]:
    """The bound hosts that other machines can reach."""
    own = [str(address[0]) for address in addresses if isinstance(address, tuple)]
    return [host for host in own if not on_loopback(host)]


async def bind_tcp(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, all on one port; "" and "*" are every address of both families."""
    if host.lower() == "localhost":
        # Both families are bound even if the machine's hosts file names one: another program could listen on the
        # family that is left out, and get the requests of clients.
        targets: list[Any] = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port, 0, 0))]
    elif (literal := _literal(host, port)) is not None:
        targets = [literal]
    else:
        name = None if host in ("", "*") else host
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    return _bind_somewhere(targets, port, PORT_TRIES)


def _literal(host: str, port: int) -> tuple[int, Any] | None:
    """The family and address of a literal.  It needs no resolver, which costs a thread and the IDNA codec."""
    if host == LOOPBACK_ADDRESSES[0]:
        return socket.AF_INET, (host, port)
    from ipaddress import IPv4Address, ip_address

    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return socket.AF_INET, (host, port)
    return None if "%" in host else (socket.AF_INET6, (host, port, 0, 0))


def _bind_somewhere(targets: list[Any], port: int, tries: int) -> list[socket.socket]:
    try:
        return _bind_all(targets, port)
    except OSError as exc:
        # A free port of one family may be taken on the other: then try another.
        if port or exc.errno != errno.EADDRINUSE or tries == 1:
            raise
    return _bind_somewhere(targets, port, tries - 1)


def _bind_all(targets: list[Any], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, address in targets:
            try:
                # The protocol is named, because asyncio switches Nagle's algorithm off only for sockets that name it.
                sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            except OSError:
                if len(targets) > 1:
                    continue  # the machine has no such family
                raise
            sockets.append(sock)
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
            except OSError as exc:
                if exc.errno == errno.EADDRNOTAVAIL and len(targets) > 1:
                    sockets.pop().close()  # the machine has the family, but not the address
                    continue
                raise
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, "no address of this host can be bound")
    return sockets


def bind_unix(path: str, mode: int | None) -> socket.socket:
    """A Unix socket at `path`.  It replaces the socket of a dead server, but not the socket of a running one."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(PROBE_TIME)
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)
                except (BlockingIOError, TimeoutError):  # a server listens there, and is busy
                    raise _in_use(path) from None
                else:
                    raise _in_use(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        if mode is not None:
            # No client can connect before the socket listens, so no client sees other permission bits.
            os.chmod(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def hold_handshakes(sock: socket.socket) -> bool:
    """Have Linux drop what would begin a connection to a listening TCP socket; handshakes under way go on.

    The peer's system tries again after a second, and is refused then if the socket is closed.  So nothing is lost by
    closing it, which would reset each connection that the server has not accepted.  False where that cannot be had.
    It holds for each process that has the socket, and for as long as one has it.
    """
    if sys.platform != "linux" or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    # A filter of packets, which see the TCP header (man 7 socket, SO_ATTACH_FILTER; linux/filter.h).
    lines = (0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
    #       load the flags;   of SYN and ACK,     SYN alone is        dropped,         and all else taken
    code = array("B", b"".join(struct.pack("HBBI", *line) for line in lines))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(lines), code.buffer_info()[0]))
    except OSError:  # a kernel without filters
        return False
    return True


def send_at_once(sock: Any) -> None:
    """Switch Nagle's algorithm off: each event would wait some 40 ms for a delayed acknowledgement otherwise.

    asyncio switches it off for the sockets that it made itself, but not for sockets that were handed to it.  `sock` is
    a listening socket, of which accepted ones inherit the option on Linux, or the socket of a transport.
    """
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def remove_socket_file(path: str | None) -> None:
    if path is not None:
        with suppress(OSError):
            os.unlink(path)


def _in_use(path: str) -> OSError:
    return OSError(errno.EADDRINUSE, "a server listens there", path)


def with_descriptor_limit(settings: Settings) -> Settings:
    """Lower `max_connections` where the process may open few files, to keep descriptors for other uses."""
    try:
        import resource
    except ImportError:  # Windows
        return settings
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or settings.max_connections is None:
        return settings
    room = max(1, soft - RESERVED_DESCRIPTORS)
    return replace(settings, max_connections=room) if room < settings.max_connections else settings

# SPDX-License-Identifier: MIT
"""Opens the connections of the HTTP client: TCP or a Unix socket, a tunnel through a forward proxy, TLS.

It refuses a proxy that does not confirm the tunnel, and a certificate that the system's authorities do not confirm.

Rule: if a step fails, no socket stays open.
"""

from __future__ import annotations

import asyncio
import re
import ssl as tls
import sys
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from .line import SocketLine
from .outbound import ForwardProxy
from .urls import Origin, authority_of
from .wire import ConnectError

# Bytes of a proxy's answer to CONNECT.
MAX_TUNNEL_HEAD = 16 * 1024
# For TLS 1.2, as in `server.tls.CIPHERS`: forward secrecy and authenticated encryption, which TLS 1.3 always has.
CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?:[ \r]|\Z)")


def tls_defaults() -> tls.SSLContext:
    """The context of a client without one: the system's authorities, a check of the host's name, TLS 1.2 or 1.3."""
    context = tls.create_default_context()
    context.minimum_version = tls.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    context.set_alpn_protocols(["http/1.1"])
    # RFC 9112 9.8: an answer that ends with the connection is complete only if TLS was closed properly.
    context.options &= ~getattr(tls, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


async def open_stream(
    origin: Origin, proxy: ForwardProxy | None, context: Callable[[], tls.SSLContext], buffer: bytearray
) -> tuple[ByteStream, SocketLine]:
    """A stream to the origin, and the line that it is or that carries it.

    Raises ConnectError, or an exception of anyio or TLS.

    Args:
        context: makes the TLS context, which takes long, when it is needed.
        buffer: as for `SocketLine`.
    """
    if origin.uds is not None:
        line = await _adopted(await anyio.connect_unix(origin.uds), buffer)
    elif proxy is not None:
        line = await _connected(proxy.host, proxy.port, buffer)
    else:
        line = await _connected(origin.host, origin.port, buffer)
    try:
        # Without TLS a proxy is sent the request itself, in its absolute form (`httpclient._for_proxy`).
        if not origin.secure:
            return line, line
        if proxy is not None:
            await _tunnel(line, origin, proxy)
        return await TLSStream.wrap(line, server_side=False, hostname=origin.host, ssl_context=context()), line
    except BaseException:
        line.close()
        raise


async def _connected(host: str, port: int, buffer: bytearray) -> SocketLine:
    if sys.platform == "win32":  # pragma: no cover - there a socket cannot change its transport
        return (await asyncio.get_running_loop().create_connection(lambda: SocketLine(buffer), host, port))[1]
    # anyio tries all addresses of a name, a little after one another (RFC 8305).
    return await _adopted(await anyio.connect_tcp(host, port), buffer)


async def _adopted(stream: SocketStream, buffer: bytearray) -> SocketLine:
    """A line on the socket of a stream that was opened just now, and is over."""
    sock = stream.extra(SocketAttribute.raw_socket).dup()
    try:
        # Shielded: a cancelled connection still has a socket to close.
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        return (await asyncio.get_running_loop().create_connection(lambda: SocketLine(buffer), sock=sock))[1]
    except BaseException:
        sock.close()
        raise


async def _tunnel(stream: ByteStream, origin: Origin, proxy: ForwardProxy) -> None:
    """Has the proxy connect to the origin and pass on all bytes that follow (RFC 9110, 9.3.6).

    Raises ConnectError if it refuses, or an exception of the stream.
    """
    authority = authority_of(origin.host, origin.port)
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    await stream.send("\r\n".join([*lines, "", ""]).encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head and len(head) <= MAX_TUNNEL_HEAD:
        head += await stream.receive(MAX_TUNNEL_HEAD)
    said, end, more = head.partition(b"\r\n\r\n")
    status = _STATUS.match(said)
    if len(said) > MAX_TUNNEL_HEAD or not end or status is None:
        raise ConnectError(f"the proxy {proxy.name} answers CONNECT with something that is no HTTP")
    if not status[1].startswith(b"2"):
        why = ": it wants credentials that its URL does not have" if status[1] == b"407" else ""
        raise ConnectError(f"the proxy {proxy.name} refuses {authority} with status {status[1].decode()}{why}")
    if more:
        # In TLS the client speaks first, so the origin cannot have sent these bytes: an attacker may have.
        raise ConnectError(f"the proxy {proxy.name} says more than it was asked")

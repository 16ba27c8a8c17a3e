# SPDX-License-Identifier: MIT
"""Opens the connections of the HTTP client: TCP or a Unix socket, a tunnel through a forward proxy, TLS."""

from __future__ import annotations

import re
import ssl as tls
from collections.abc import Callable

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from .outbound import ForwardProxy
from .urls import Origin, authority_of
from .wire import ConnectError, Pollable

# What a proxy may say before it connects.
MAX_TUNNEL_HEAD = 16 * 1024
# As `tls.CIPHERS`: forward secrecy and authenticated encryption; TLS 1.3 has nothing else.
CIPHER_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?:[ \r]|\Z)")


def tls_defaults() -> tls.SSLContext:
    """The context where none is given: the system's authorities, the host's name checked, TLS 1.2 or 1.3."""
    context = tls.create_default_context()
    context.minimum_version = tls.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER_SUITES)
    context.set_alpn_protocols(["http/1.1"])
    # RFC 9112 9.8: an answer that ends with the connection is whole only if the end was said.
    context.options &= ~getattr(tls, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


async def open_stream(
    origin: Origin, proxy: ForwardProxy | None, context: Callable[[], tls.SSLContext]
) -> tuple[ByteStream, Pollable]:
    stream: ByteStream
    if origin.uds is not None:
        stream = await anyio.connect_unix(origin.uds)
    elif proxy is not None:
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
    else:
        stream = await anyio.connect_tcp(origin.host, origin.port)
    try:
        # Now: of a connection that was reset nobody can ask it any more.
        sock = stream.extra(SocketAttribute.raw_socket)
        if not origin.secure:
            return stream, sock
        if proxy is not None:
            await _tunnel(stream, origin, proxy)
        wrapped = await TLSStream.wrap(stream, server_side=False, hostname=origin.host, ssl_context=context())
    except BaseException:
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        raise
    return wrapped, sock


async def _tunnel(stream: ByteStream, origin: Origin, proxy: ForwardProxy) -> None:
    """Has the proxy connect to the origin; what follows is between the two ends (RFC 9110, 9.3.6).

    Raises ConnectError where it does not, and what a stream raises.
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
        why = ", that is without credentials that it takes" if status[1] == b"407" else ""
        raise ConnectError(f"the proxy {proxy.name} refuses {authority} with status {status[1].decode()}{why}")
    if more:
        # TLS begins with what we say: this would be of somebody in the middle.
        raise ConnectError(f"the proxy {proxy.name} says more than it was asked")

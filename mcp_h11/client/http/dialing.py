# SPDX-License-Identifier: MIT
"""Opens the connections of the HTTP client: TCP or a Unix socket, a tunnel through a forward proxy, TLS.

It refuses a proxy that does not confirm the tunnel, and a certificate that the system's authorities do not confirm.

Rule: if a step fails, no socket stays open.
"""

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
    origin: Origin, proxy: ForwardProxy | None, context: Callable[[], tls.SSLContext]
) -> tuple[ByteStream, Pollable]:
    """A stream to the origin, and its socket.  Raises ConnectError, or an exception of anyio or TLS.

    Args:
        context: makes the TLS context, which takes long, when it is needed.
    """
    stream: ByteStream
    if origin.uds is not None:
        stream = await anyio.connect_unix(origin.uds)
    elif proxy is not None:
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
    else:
        stream = await anyio.connect_tcp(origin.host, origin.port)
    try:
        # The socket is asked for now: a connection that is reset later does not give it any more.
        sock = stream.extra(SocketAttribute.raw_socket)
        # Without TLS a proxy is sent the request itself, in its absolute form (`httpclient._for_proxy`).
        if not origin.secure:
            return stream, sock
        if proxy is not None:
            await _tunnel(stream, origin, proxy)
        wrapped = await TLSStream.wrap(stream, server_side=False, hostname=origin.host, ssl_context=context())
    except BaseException:
        # Shielded: a cancelled connection still has a socket to close.
        with anyio.CancelScope(shield=True):
            await stream.aclose()
        raise
    return wrapped, sock


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

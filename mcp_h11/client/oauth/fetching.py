# SPDX-License-Identifier: MIT
"""Requests to authorization servers and for metadata, over the HTTP client: bounded, checked, without credentials.

It sends no token of the MCP server anywhere, follows a redirect of a GET within one origin alone, and reads JSON up to
a limit.

Rules:
- A public MCP server's metadata reaches no private address: neither one that is written as a number, nor one that a
  name stands for when it is looked up.  (A name may stand for another address a moment later; https keeps a server that
  has no certificate for the name from being spoken to.)
- Every failure is a `LoginFailed` that names the step and the address, without its query.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio

from ...protocol.shown import escaped
from ..http.httpclient import HTTPCall, HTTPClient
from ..http.urls import origin_of, resolve, shown
from ..http.wire import HTTPAnswer, HTTPFailure, TooLarge
from .errors import LoginFailed
from .metadata import checked_address

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

MAX_DOCUMENT = 256 * 1024  # bytes of one document or answer
MAX_FETCH_REDIRECTS = 3
FETCH_LIMIT = 30.0  # seconds for one request, with its redirects
LOOKUP_LIMIT = 10.0  # seconds for a name

_NAT64 = bytes.fromhex("0064ff9b") + bytes(8)

# Looks a host up: the texts of its addresses, none where that is not known.
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses that the system has for a host; none if it knows none in time."""
    try:
        with anyio.fail_after(LOOKUP_LIMIT):
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return [str(one[4][0]) for one in found]


@dataclass(frozen=True)
class Fetched:
    """One answer: its status, its body where that is a JSON object, and the nonce for the next proof (RFC 9449, 8)."""

    status: int
    document: dict[str, Any] | None = field(default=None, repr=False)
    nonce: str | None = None


class Fetcher:
    """Sends the requests of one login.

    Args:
        http: its client; the caller closes it.
        server: the address of the MCP server.
        private: requests may go to private addresses even though the MCP server is public.
        lookup: finds the addresses of a host.
        limit: seconds for one request; None for `FETCH_LIMIT`.
    """

    def __init__(
        self,
        http: HTTPClient,
        server: str,
        *,
        private: bool = False,
        lookup: Lookup = look_up,
        limit: float | None = None,
    ) -> None:
        self._limit = FETCH_LIMIT if limit is None else limit
        self._http = http
        self._server = server
        self._private = private
        self._lookup = lookup
        self._checked: set[tuple[str, int]] = set()
        self._server_is_private: bool | None = None

    async def get(self, url: str, step: str) -> Fetched:
        """A document.  Raises LoginFailed if there is no answer; a status that is no success is an answer."""
        headers = [("Accept", "application/json")]
        return await self._sent("GET", url, headers, b"", step)

    async def post_form(
        self, url: str, form: Mapping[str, str], step: str, headers: Sequence[tuple[str, str]] = ()
    ) -> Fetched:
        """The answer to a form.  Raises LoginFailed if there is none."""
        sent = [("Accept", "application/json"), ("Content-Type", "application/x-www-form-urlencoded"), *headers]
        return await self._sent("POST", url, sent, urlencode(form).encode("ascii"), step)

    async def post_json(self, url: str, body: Mapping[str, Any], step: str) -> Fetched:
        """The answer to a JSON document.  Raises LoginFailed if there is none."""
        sent = [("Accept", "application/json"), ("Content-Type", "application/json")]
        return await self._sent("POST", url, sent, json.dumps(body).encode("utf-8"), step)

    # --- one request ----------------------------------------------------------------------------------------

    async def _sent(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes, step: str) -> Fetched:
        asked = shown(url)
        try:
            with anyio.fail_after(self._limit):
                return await self._followed(method, url, headers, body)
        except TimeoutError:
            said = f"no answer within {self._limit:g} s"
        except TooLarge:
            said = f"the answer has more than {MAX_DOCUMENT} bytes"
        except (HTTPFailure, ValueError) as error:
            said = escaped(str(error))
        raise LoginFailed(said, step=step, address=escaped(asked))

    async def _followed(self, method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Fetched:
        for _ in range(MAX_FETCH_REDIRECTS + 1):
            await self._check(url)
            answer = await self._http.send(HTTPCall(method, url, list(headers), body, repeatable=method == "GET"))
            try:
                elsewhere = _redirected(answer, method, url)
                if elsewhere is None:
                    return Fetched(answer.status, _object(await answer.read(MAX_DOCUMENT)), answer.get("dpop-nonce"))
                url = elsewhere
            finally:
                await answer.aclose()
        raise ValueError(f"more than {MAX_FETCH_REDIRECTS} redirects")

    async def _check(self, url: str) -> None:
        """Raises ValueError if no request may go to this address."""
        checked_address(url, self._server)
        origin = origin_of(url)
        place = (origin.host, origin.port)
        if self._private or place in self._checked or self._is_server(url):
            return
        if self._server_is_private is None:
            server = origin_of(self._server)
            self._server_is_private = await self._is_private(server.host, server.port)
        if not self._server_is_private and await self._is_private(*place):
            raise ValueError(
                "the MCP server is public and names a private address; where that is meant, say OAuth(private=True)"
            )
        self._checked.add(place)

    def _is_server(self, url: str) -> bool:
        return origin_of(url) == origin_of(self._server)

    async def _is_private(self, host: str, port: int) -> bool:
        from ipaddress import ip_address  # slow to load, and only a login needs it

        try:
            addresses = [ip_address(host.partition("%")[0])]
        except ValueError:
            addresses = [ip_address(one.partition("%")[0]) for one in await self._lookup(host, port)]
        plain = [one if one.version == 4 else _ipv4_inside(one) or one for one in addresses]
        return any(one.is_multicast or not one.is_global for one in plain)


def _ipv4_inside(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address go to; None where there is none in it."""
    from ipaddress import IPv4Address

    packed = address.packed
    # NAT64 (RFC 6052, 2.1) and IPv4-compatible (RFC 4291, 2.5.5.1); `::` and `::1` are addresses of IPv6.
    if packed[:12] == _NAT64 or (packed[:12] == bytes(12) and packed[12:15] != bytes(3)):
        return IPv4Address(packed[12:])
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo is not None else None)


def _redirected(answer: HTTPAnswer, method: str, url: str) -> str | None:
    """Where a redirect of a GET leads to within its origin; None for all other answers, which are no success.

    A form holds codes and secrets, so that no redirect of a POST is followed (but 307 and 308 within the origin, which
    the client of HTTP follows by itself).
    """
    location = answer.get("location")
    if method != "GET" or location is None or answer.status not in (301, 302, 303):
        return None
    try:
        return resolve(url, location)
    except ValueError:
        return None


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None

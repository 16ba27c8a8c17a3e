# SPDX-License-Identifier: MIT
"""The forwarding headers of a reverse proxy: the client's address, and the host and the scheme that it asked for.

Every client can write these headers, so they are read only on a connection from an address that the operator named.
The other parts of them come from hops before that proxy, and are believed as far as the chain of named proxies reaches.

Rule: no state, and nothing is guessed.  X-Forwarded-For is read from the right, where the nearest proxy wrote, to the
first that is no address.  A Forwarded that breaks the grammar of RFC 7239 is refused: with a quote that it does not
close a client would swallow what the proxy writes behind it.  Where the grammar holds, that cannot be: a proxy adds
quotes in pairs, so that a quote which is open before its element is open behind it as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from ..protocol.errors import Refusal
from .addresses import checked_prefix

if TYPE_CHECKING:  # most servers stand behind no proxy
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = Union["IPv4Address", "IPv6Address"]
MAX_ELEMENTS = 32  # proxies on the way, in one header
MAX_PARAMETERS = 8  # of one element of Forwarded, which has four by RFC 7239
UNIX = "unix"  # every peer of the Unix socket, which has no addresses

GetAll = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Forwarded:
    """The facts that a trusted proxy has given; empty where it gave none."""

    peer: str = ""
    host: str = ""
    scheme: str = ""
    prefix: str | None = None  # the path that the proxy strips; None where it does not say


class Proxies:
    """Which peers are proxies of ours: addresses, networks (``"10.0.0.0/8"``), ``"unix"``, or ``"*"`` for any peer.

    Raises ValueError for any other text, and for a network with host bits set.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        if isinstance(trusted, str):
            raise ValueError("trusted_proxies is a list of addresses, not a string")
        self._any = "*" in trusted
        self._unix = UNIX in trusted
        self._networks: list[IPv4Network | IPv6Network] = []
        for one in trusted:
            if one not in ("*", UNIX):
                self._networks.append(_network(one))

    def trusts(self, peer: str) -> bool:
        """Whether the peer of a connection is one of them; it is empty on a Unix socket."""
        if self._any:
            return True
        if not peer:
            return self._unix
        address = read_address(peer)
        return address is not None and self._is_ours(address)

    def _is_ours(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def read(self, get_all: GetAll) -> Forwarded:
        """The facts in a trusted peer's headers.

        Raises a Refusal, 400, if they contradict, are too many or malformed.
        """
        standard = self._read_standard(get_all("forwarded"))
        common = self._read_common(get_all)
        if standard is None:
            return common
        if common.peer and standard.peer != common.peer:
            # A proxy writes one of the two and passes the other on, so the other one is the client's own text.
            raise Refusal(
                400, "Forwarded and X-Forwarded-For disagree; the proxy has to remove the one it does not set"
            )
        return Forwarded(standard.peer, standard.host or common.host, standard.scheme or common.scheme, common.prefix)

    def _reach(self, chain: Sequence[str]) -> tuple[str, int]:
        # From the right, where our own proxy wrote, to the first address that is no proxy of ours: that is the client,
        # as far as it can be known.  The second result is its place in the chain.
        found, place = "", len(chain)
        for index in range(len(chain) - 1, -1, -1):
            address = read_address(chain[index])
            if address is None:
                break
            found, place = str(address), index
            # "*" trusts every peer, but not the addresses that a peer names: a client would choose its own address.
            if not self._is_ours(address):
                break
        return found, place

    def _read_common(self, get_all: GetAll) -> Forwarded:
        values = get_all("x-forwarded-for")
        if sum(value.count(",") + 1 for value in values) > MAX_ELEMENTS:
            raise Refusal(400, f"Bad Request: X-Forwarded-For has more than {MAX_ELEMENTS} addresses")
        chain = [one for value in values for one in value.split(",")]
        return Forwarded(
            self._reach(chain)[0],
            _last(get_all("x-forwarded-host")),
            _scheme(_last(get_all("x-forwarded-proto"))),
            _prefix(get_all("x-forwarded-prefix")),
        )

    def _read_standard(self, values: Sequence[str]) -> Forwarded | None:
        elements: list[dict[str, str]] = []
        for value in values:
            elements += _elements(value, MAX_ELEMENTS - len(elements))
        if not elements:
            return None
        peer, place = self._reach([element.get("for", "") for element in elements])
        # If no element has `for`, the last element is still our proxy's.
        believed = elements[min(place, len(elements) - 1) :]
        host = next((element["host"] for element in believed if "host" in element), "")
        scheme = next((element["proto"] for element in believed if "proto" in element), "")
        return Forwarded(peer, host, _scheme(scheme))


def _network(text: str) -> IPv4Network | IPv6Network:
    from ipaddress import ip_network

    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(
            f'a trusted proxy is an address, a network like 10.0.0.0/8, "unix" or "*", not {text!r}'
        ) from None


def read_address(text: str) -> Address | None:
    """An address as proxies write it: bare, in brackets, with a port or a zone; an IPv4 one in IPv6 is that."""
    from ipaddress import IPv6Address, ip_address

    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _last(values: Sequence[str]) -> str:
    # The nearest proxy wrote the last one; the ones before it may come from the client.
    return values[-1].rpartition(",")[2].strip() if values else ""


def _prefix(values: Sequence[str]) -> str | None:
    # A proxy adds a line or an element of its own at the end, so the last one is the nearest proxy's.
    said = [one.strip() for value in values for one in value.split(",", MAX_ELEMENTS)]
    try:
        prefixes = [checked_prefix(one) for one in said if one]
    except ValueError:
        raise Refusal(400, "Bad Request: X-Forwarded-Prefix is no path that can be given out") from None
    return prefixes[-1] if prefixes else None


def _scheme(text: str) -> str:
    return text.lower() if text.lower() in ("http", "https") else ""


# Values that need quotes by the grammar and come without them are taken: "192.0.2.1:5000", "[::1]".
_PAIR = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^",;\\ \t]*))""")
_SEPARATOR = re.compile(r"[ \t]*([,;]|\Z)[ \t]*")
_escaped = re.compile(r"\\(.)").sub


def _elements(text: str, limit: int) -> list[dict[str, str]]:
    """The elements of one Forwarded header, each as its parameters, names in lower case; empty ones are left out."""
    elements: list[dict[str, str]] = []
    element: dict[str, str] = {}
    text = text.strip(" \t")
    if text.count(",") >= limit or text.count(";") > MAX_ELEMENTS * MAX_PARAMETERS:
        raise Refusal(400, f"Bad Request: Forwarded has more than {MAX_ELEMENTS} elements, or very many parameters")
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is not None:
            name = pair[1].lower()
            if name in element or len(element) >= MAX_PARAMETERS:
                raise _unreadable()
            element[name] = _escaped(r"\1", pair[2]) if pair[2] is not None else pair[3]
            at = pair.end()
        separator = _SEPARATOR.match(text, at)
        if separator is None:
            raise _unreadable()
        at = separator.end()
        if separator[1] != ";" and element:
            elements.append(element)
            element = {}
    if element:  # a semicolon was the last of it
        elements.append(element)
    return elements


def _unreadable() -> Refusal:
    return Refusal(400, "Bad Request: the Forwarded header cannot be read (RFC 7239)")

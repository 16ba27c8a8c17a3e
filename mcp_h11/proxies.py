# SPDX-License-Identifier: MIT
"""What a reverse proxy says of the client behind it: its address, the host and the scheme that it asked for.

Anybody can write these headers, so they are read only where the connection comes from an address that the operator
named; what else is in them was written by somebody before that proxy, and is believed as far as the chain of named
proxies reaches and no further.

Rule: no state, and nothing is guessed: what cannot be read is as if it had not been said.  RFC 7239 (Forwarded).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from .errors import Refusal

if TYPE_CHECKING:  # most servers stand behind no proxy
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = Union["IPv4Address", "IPv6Address"]
UNIX = "unix"  # whoever connects to the Unix socket, which has no addresses

GetAll = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Forwarded:
    """What is to be believed; empty where nothing was said."""

    peer: str = ""
    host: str = ""
    scheme: str = ""


class Proxies:
    """Which peers are proxies of ours: addresses, networks (``"10.0.0.0/8"``), ``"unix"``, or ``"*"`` for any peer.

    Raises ValueError for what is none of these, a network with host bits set included.
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
        """What a trusted peer says.  Raises a Refusal where it says two things."""
        standard = self._read_standard(get_all("forwarded"))
        common = self._read_common(get_all)
        if standard is None:
            return common
        if common.peer and standard.peer != common.peer:
            # A proxy writes one of the two and passes the other on: then it is the client who wrote that.
            raise Refusal(
                400, "Forwarded and X-Forwarded-For disagree; the proxy has to remove the one it does not set"
            )
        return Forwarded(standard.peer, standard.host or common.host, standard.scheme or common.scheme)

    def _reach(self, chain: Sequence[str]) -> tuple[str, int]:
        # From the right, where our own proxy wrote, to the first that is none of ours: the client, as far as anybody
        # can know.  Its place in the chain as well.
        found, place = "", len(chain)
        for index in range(len(chain) - 1, -1, -1):
            address = read_address(chain[index])
            if address is None:
                break
            found, place = str(address), index
            # "*" trusts who connects, not whom they name: else a client would choose its own address.
            if not self._is_ours(address):
                break
        return found, place

    def _read_common(self, get_all: GetAll) -> Forwarded:
        chain = [one for value in get_all("x-forwarded-for") for one in value.split(",")]
        return Forwarded(
            self._reach(chain)[0], _last(get_all("x-forwarded-host")), _scheme(_last(get_all("x-forwarded-proto")))
        )

    def _read_standard(self, values: Sequence[str]) -> Forwarded | None:
        elements = [_parameters(element) for value in values for element in _split(value, ",")]
        if not elements:
            return None
        peer, place = self._reach([element.get("for", "") for element in elements])
        # Where no element says for whom, the last one is still our proxy's.
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
    # The one that the nearest proxy wrote; those before it may be anybody's.
    return values[-1].rpartition(",")[2].strip() if values else ""


def _scheme(text: str) -> str:
    return text.lower() if text.lower() in ("http", "https") else ""


def _split(text: str, separator: str) -> list[str]:
    """At the separators that are in no quotes."""
    parts, quoted, escaped, start = [], False, False, 0
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _parameters(element: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in _split(element, ";"))
    return {name.strip().lower(): _unquoted(value.strip()) for name, _, value in pairs}


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    text, escaped = "", False
    for character in value[1:-1]:
        if character == "\\" and not escaped:
            escaped = True
        else:
            text, escaped = text + character, False
    return text

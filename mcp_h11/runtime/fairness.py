# SPDX-License-Identifier: MIT
"""Divides each limit among the clients of one server: every client has its share and its turn.

A *party* is one client as the limits see it: a principal, else an address.  `party_of` names it.  `Shares` divides a
number of places or bytes.  `Turns` is such a number together with the line in front of it.  `Holdings` finds the party
that holds most, so that the server can take something back from that party first.

Rule: no event loop and no clock here.  A table has an entry only for a party that holds or waits for something, so the
limits that are divided bound the tables too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from sys import getsizeof
from typing import Generic, TypeVar

from ..http.forwarded import read_address
from ..protocol.outlines import OUTLINED, outline

W = TypeVar("W")

# A party may hold at most ALPHA times the free places.  Switches that share a buffer use such dynamic thresholds
# (Choudhury and Hahne, 1998).  One client gets 4/5 of a limit, n greedy clients get 4/(4n+1) each, and a newcomer
# finds room until very many clients are greedy.  A client that is alone gets all of a limit of 4 or less.
ALPHA = 4
IPV6_PREFIX = 64  # bits: the network of one subscriber; the subscriber has all addresses in it
KNOWN_NETWORKS = 1_024  # IPv6 addresses; the network of each is remembered
PLACE_SIZE = 32  # bytes that a set or dict has for each of its members
LOOKED_AT = 64  # parties that are compared to find the one that holds most
_WEIGHTLESS = bytes(byte for byte in range(256) if byte not in b'{[,"')  # what is no object, in `json_memory`
EVERYONE = ""  # the party of pipes and Unix sockets: they have no addresses to tell clients apart by


def party_of(subject: str, peer: str) -> str:
    """The party of a request: its principal by `subject`, or else the address that it comes from.

    An IPv6 address counts as its /64, and an IPv4 address in IPv6 as that IPv4 address.  Empty (`EVERYONE`) where there
    is neither a subject nor an address: such a party has the whole limit.
    """
    # The word keeps them apart: a principal may be named like an address.
    return f"principal {subject}" if subject else address_party(peer)


def address_party(peer: str) -> str:
    """The party of an address, as `party_of` has it."""
    return _network_of(peer) if ":" in peer else peer


@lru_cache(KNOWN_NETWORKS)
def _network_of(peer: str) -> str:
    from ipaddress import IPv6Address, ip_network  # most servers hear from no IPv6 address

    address = read_address(peer)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, IPV6_PREFIX), strict=False))
    return peer if address is None else str(address)


class Shares:
    """`limit` places or bytes for all parties together; each party has a share of them.  None is without a limit.

    Each `take` that was granted needs one `give_back` of the same size.
    """

    __slots__ = ("_held", "limit", "total")

    def __init__(self, limit: float | None) -> None:
        self.limit = math.inf if limit is None else limit
        self.total: float = 0
        self._held: dict[str, float] = {}

    def __len__(self) -> int:
        """The number of parties that hold something."""
        return len(self._held)

    def held(self, party: str) -> float:
        """The number of places or bytes that a party holds."""
        return self._held.get(party, 0)

    def may(self, party: str, size: float = 1) -> bool:
        """Whether `take` would grant the party `size` more.

        While no place or byte is taken, any size is granted: a request larger than the limit would wait forever
        otherwise.
        """
        free = self.limit - self.total
        if size > free:
            return not self.total
        return not party or self._held.get(party, 0) + size <= ALPHA * free

    def take(self, party: str, size: float = 1) -> bool:
        """Grant `size` more to a party; False where its share or the limit does not allow it."""
        if not self.may(party, size):
            return False
        self.add(party, size)
        return True

    def add(self, party: str, size: float = 1) -> None:
        """Count `size` more for a party without asking for its share; a negative size gives back.

        The number of a party may be negative for a moment: a call can give its place away before it was charged.
        """
        self.total += size
        self.charge(party, size)

    def charge(self, party: str, size: float = 1) -> None:
        """Count `size` for a party alone: `total` includes it already."""
        held = self._held.get(party, 0) + size
        if held:
            self._held[party] = held
        else:
            del self._held[party]

    def give_back(self, party: str, size: float = 1) -> None:
        """Free `size` places or bytes that `take` granted."""
        self.add(party, -size)


class Load:
    """Memory that one request, or one session, takes of `Shares` that count bytes.

    The bytes go back when the last reference to the load goes.  Keep the load beside the object that uses the memory:
    then both go at the same time, and no path through the server can forget to give the bytes back.
    """

    __slots__ = ("_party", "_shares", "size")

    def __init__(self, shares: Shares, party: str) -> None:
        self._shares = shares
        self._party = party
        self.size = 0  # bytes

    def resize(self, size: int) -> bool:
        """Make the load `size` bytes altogether; False where the party's share or the limit does not allow it."""
        more, shares = size - self.size, self._shares
        # Where no other load holds a byte, any size is granted, for the reason that `Shares.may` gives.
        if more > 0 and shares.total > self.size and not shares.may(self._party, more):
            return False
        if more:
            shares.add(self._party, more)
        self.size = size
        return True

    def __del__(self) -> None:
        if self.size:
            self._shares.give_back(self._party, self.size)


def json_memory(data: bytes) -> int:
    """An upper bound of the bytes of memory that a JSON text needs: for itself, its decoding and the decoded objects.

    The bound holds for the standard library's decoder.  It is far above the size of the text, because a text of
    8 bytes can become a dict of 232.  The factors were measured with CPython 3.10 to 3.13, for the worst content of
    each kind.
    """
    # The bytes, one str of all of them, and the strings in it.  One character beyond Latin-1 makes all 4 bytes wide.
    # The search for one byte is fifty times faster than that for two, and most bodies have no escape.
    wide = not data.isascii() or (data.find(b"\\") >= 0 and b"\\u" in data)
    size = 4096 + len(data) * (9 if wide else 3)
    # Nothing inside of a string is an object of its own.  In a short text the strings cost less than their search.
    rest = data if len(data) <= OUTLINED else outline(data)
    count = rest.translate(None, _WEIGHTLESS).count
    return size + count(b"{") * 256 + count(b"[") * 128 + count(b",") * 96 + count(b'"') * 48


def held_memory(values: Iterable[object]) -> int:
    """Bytes of memory that decoded JSON takes, with a place for each value in its list or dict."""
    total, left = 0, list(values)
    while left:
        value = left.pop()
        total += getsizeof(value) + PLACE_SIZE
        if isinstance(value, dict):
            left += value
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value
    return total


class Turns(Shares, Generic[W]):
    """`Shares` with a line in front: parties that wait have their turns in rotation, one place at each turn.

    A waiter is any object that can be hashed.  `next` takes the place for the waiter that it returns.
    """

    __slots__ = ("easy", "lines")

    def __init__(self, limit: float | None) -> None:
        super().__init__(limit)
        # While fewer places than this are taken, every party may take one more, so that no party is looked up.
        self.easy = self.limit * ALPHA / (ALPHA + 1)
        self.lines: dict[str, dict[W, None]] = {}  # by party, the next turn first; no line is empty

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self.lines.values()))

    def enter(self, party: str) -> bool:
        """Take a place now, if the share of the party allows it and no waiter of the party is in line."""
        return party not in self.lines and self.take(party)

    def join(self, party: str, waiter: W) -> None:
        """Stand in line, behind the other waiters of the same party."""
        line = self.lines.get(party)
        if line is None:
            self.lines[party] = {waiter: None}
        else:
            line[waiter] = None

    def quit(self, party: str, waiter: W) -> None:
        """Leave the line; nothing happens where the waiter is not in it."""
        line = self.lines.get(party)
        if line is not None and waiter in line:
            del line[waiter]
            if not line:
                del self.lines[party]

    def next(self) -> tuple[str, W] | None:
        """Take a place for the waiter that is next; return its party and the waiter, or None if none may enter."""
        for party, line in self.lines.items():
            # The loop is short: it passes over a party only where that party holds more than ALPHA times the free
            # places, and at most limit / (ALPHA * free) parties can hold that much.
            if self.may(party):
                waiter = next(iter(line))
                del line[waiter], self.lines[party]
                if line:
                    self.lines[party] = line  # behind all the others
                self.add(party)
                return party, waiter
        return None

    def admitted(self) -> Iterator[tuple[str, W]]:
        """Let in every waiter that may enter now; yields the party and the waiter, with its place taken."""
        while self.lines and (found := self.next()) is not None:
            yield found


class Holdings:
    """Counts something that can be taken back, for each party, and finds the party that holds most of it.

    Every operation takes constant time: parties are kept in classes by the number of bits of their counts.
    """

    __slots__ = ("_classes", "_held")

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self._classes: dict[int, dict[str, None]] = {}

    def __len__(self) -> int:
        """The number of parties that hold something."""
        return len(self._held)

    def held(self, party: str) -> int:
        """The count of a party."""
        return self._held.get(party, 0)

    def add(self, party: str, size: int = 1) -> None:
        """Count more, or less where `size` is negative."""
        before = self._held.get(party, 0)
        after = before + size
        if before.bit_length() != after.bit_length():
            self._leave(party, before)
            if after:
                self._classes.setdefault(after.bit_length(), {})[party] = None
        if after:
            self._held[party] = after
        elif before:
            del self._held[party]

    def _leave(self, party: str, held: int) -> None:
        if held:
            same = self._classes[held.bit_length()]
            del same[party]
            if not same:
                del self._classes[held.bit_length()]

    def heaviest(self) -> str | None:
        """The party that holds most; among very many that hold much, one that holds at least half as much."""
        if not self._classes:
            return None
        top = self._classes[max(self._classes)]
        return max(_first(top, LOOKED_AT), key=self._held.__getitem__)


class Crowd(Generic[W]):
    """The members of something with limited room, by party.  A member of the largest party can make room for another.

    Connections and sessions are such members.
    """

    __slots__ = ("_holdings", "_members")

    def __init__(self) -> None:
        self._holdings = Holdings()
        self._members: dict[str, dict[W, None]] = {}  # by party, oldest first

    def __len__(self) -> int:
        """The number of parties."""
        return len(self._members)

    def add(self, party: str, member: W) -> None:
        """Count a member that came in."""
        members = self._members.get(party)
        if members is None:
            members = self._members[party] = {}
        members[member] = None
        self._holdings.add(party)

    def remove(self, party: str, member: W) -> None:
        """Forget a member that left; nothing happens where it is not in."""
        members = self._members.get(party)
        if members is None or member not in members:
            return
        del members[member]
        if not members:
            del self._members[party]
        self._holdings.add(party, -1)

    def count(self, party: str) -> int:
        """The number of members of a party."""
        return self._holdings.held(party)

    def of(self, party: str) -> Iterable[W]:
        """The members of a party, oldest first."""
        return self._members.get(party, ())

    def before(self, party: str) -> Iterable[W]:
        """The members from which the caller picks one to remove, so that one more of `party` can come; oldest first.

        They belong to the party that has most members.  There are none where that party has no more members than
        `party` would have: then a removal would not make the division fairer.
        """
        heaviest = self._holdings.heaviest()
        if heaviest is None or self.count(heaviest) <= self.count(party) + 1:
            return ()
        return self.of(heaviest)


def _first(parties: dict[str, None], count: int) -> Iterator[str]:
    for number, party in enumerate(parties):
        if number == count:
            return
        yield party

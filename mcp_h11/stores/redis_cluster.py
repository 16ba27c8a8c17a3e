# SPDX-License-Identifier: MIT
"""Which node of a Redis Cluster has a key, and a line to each node.

A cluster divides 16,384 slots among its nodes.  The slot of a key is a checksum of its part in braces.  A node that no
longer has a slot answers MOVED, one that is giving it away ASK; both name the node to ask.
Source: the Redis Cluster specification, https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from typing import Any

from .redis_link import ANSWER_TIME, MAX_MOVES, RedisAway, RedisCommand, RedisConnections, RedisFailed, RedisLine
from .redis_url import RedisAddress, RedisPlace

SLOTS = 16_384


def slot_of(key: str) -> int:
    """The slot of a key: that of its part in braces, where it has one."""
    start = key.find("{")
    end = key.find("}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return crc_hqx(key.encode(), 0) % SLOTS


class RedisCluster:
    """The nodes of a cluster.  The table of slots is read again after an error, and nodes correct it."""

    def __init__(self, place: RedisPlace) -> None:
        self.connections = RedisConnections(place)
        self._seeds = place.addresses
        self._slots: dict[int, RedisAddress] = {}
        self._lines: dict[RedisAddress, RedisLine] = {}
        self._stale = True
        self._looking = asyncio.Lock()

    def lines(self) -> list[RedisLine]:
        """The line to each node that was asked."""
        return list(self._lines.values())

    async def ask(self, key: str, command: RedisCommand) -> Any:
        return (await self._ask(slot_of(key), command))[0]

    async def _ask(self, slot: int, command: RedisCommand) -> tuple[Any, RedisAddress | None]:
        """The reply, and the node that gave it."""
        try:
            address = await self._find(slot)
        except RedisAway as error:
            return error, None
        asking = False
        for _ in range(MAX_MOVES):
            line = self._line(address)
            if asking:
                line.ask((b"ASKING",))  # in the same turn, so that the command follows it
            reply: Any = await line.ask(command)
            if not isinstance(reply, RedisFailed) or reply.word not in ("MOVED", "ASK"):
                break
            asking = reply.word == "ASK"
            address = _named(reply.rest, address)
            if not asking:
                self._slots[slot] = address
                self._stale = True  # other slots have moved with it
        else:
            reply = RedisFailed("TRYAGAIN", "")  # the nodes do not agree yet
        if isinstance(reply, RedisAway) or isinstance(reply, RedisFailed) and reply.word == "CLUSTERDOWN":
            self._stale = True
        return reply, address

    async def connect(self, key: str) -> Any:
        self._stale = True  # a connection of its own is seldom made, and mostly after the old one broke
        # The table comes from the node that answered first, and it may be the one that has not heard of a move: a
        # command finds the node that serves the key.  An error of Redis says no more about that, so it is left to the
        # caller's own command.  The table may be another one by now: other commands read it too.
        reply, address = await self._ask(slot_of(key), (b"EXISTS", key))
        if address is None or isinstance(reply, RedisAway):
            raise RedisAway(str(reply))
        return await self.connections.connect(address)

    async def _find(self, slot: int) -> RedisAddress:
        """The node that has a slot.  Raises RedisAway."""
        if self._stale:
            async with self._looking:
                if self._stale:
                    await self._look()
        found = self._slots.get(slot)
        if found is None:
            self._stale = True
            raise RedisAway("no node of the Redis Cluster has this key")
        return found

    async def _look(self) -> None:
        """Read from some node which node has which slots.  Raises RedisAway."""
        known = [*dict.fromkeys([*self._lines, *self._seeds])]
        asked = {asyncio.ensure_future(self._table(address)) for address in known}
        try:
            for answer in asyncio.as_completed(asked, timeout=ANSWER_TIME):
                table = await answer
                if table is not None:
                    await self._learn(table)
                    return
        except asyncio.TimeoutError:
            pass
        finally:
            for one in asked:
                one.cancel()
        raise RedisAway("no node of the Redis Cluster answers")

    async def _table(self, address: RedisAddress) -> dict[int, RedisAddress] | None:
        """The table of one node: slot -> node; None where it gives no answer."""
        reply = await self._line(address).ask((b"CLUSTER", b"SLOTS"))
        if not isinstance(reply, list) or not reply:
            return None
        slots: dict[int, RedisAddress] = {}
        for start, end, master, *_ in reply:
            host = (master[0] or b"").decode() or address[0]  # it may not know its own name
            slots.update(dict.fromkeys(range(start, end + 1), (host, int(master[1]))))
        return slots

    async def _learn(self, table: dict[int, RedisAddress]) -> None:
        self._slots = table
        self._stale = False
        nodes = {*table.values()}
        for address in [address for address in self._lines if address not in nodes and address not in self._seeds]:
            await self._lines.pop(address).close()

    def _line(self, address: RedisAddress) -> RedisLine:
        line = self._lines.get(address)
        if line is None:

            async def connect() -> Any:
                return await self.connections.connect(address)

            line = self._lines[address] = RedisLine(self.connections, connect)
        return line

    async def close(self) -> None:
        for line in self._lines.values():
            await line.close()


def _named(text: str, asked: RedisAddress) -> RedisAddress:
    """The node that `MOVED` or `ASK` names: `slot host:port`; without a host it is that of the node that was asked."""
    host, _, port = text.rpartition(" ")[2].rpartition(":")
    return host or asked[0], int(port)

# SPDX-License-Identifier: MIT
"""The inboxes and the bus in Redis.

An inbox is a stream.  Its worker waits for it on a connection of its own (XREAD BLOCK), and writes its heartbeat in the
same round trip.  The bus is publish and subscribe, on a third connection.  Redis drops a message for a connection that
is broken, so after each new connection the subscriber hears of a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from ..protocol.shown import escaping
from . import redis_scripts as scripts
from .base import (
    ALIVE_TIME,
    MAX_BUS_BYTES,
    MAX_INBOX_BYTES,
    MAX_INBOX_MESSAGES,
    MAX_PARTY_BYTES,
    MAX_PARTY_MESSAGES,
    Full,
    StoreError,
)
from .redis_keys import redis_bytes, redis_name, redis_text
from .redis_link import ANSWER_TIME, RedisAway, RedisCaller, RedisCommand, RedisFailed, RedisLink, RedisWay

ALIVE_MS = math.ceil(ALIVE_TIME * 1000)
TAKE_AT_ONCE = 256  # messages
ACKNOWLEDGE_AT_ONCE = 500
BUS_QUIET_TIME = 5.0  # seconds without a word on the bus, after which Redis is asked whether it is there
FIRST_WAIT = 0.05  # seconds before the bus is connected again; doubled each time
LONGEST_WAIT = 2.0

logger = escaping(logging.getLogger(__name__))


class RedisInbox:
    """The inbox of one worker, and the way to those of the others."""

    def __init__(self, way: RedisWay, caller: RedisCaller, prefix: str) -> None:
        self._caller = caller
        self._prefix = prefix
        self._beats = f"{prefix}:w:{{inbox}}"
        self._clock = f"{prefix}:t:{{inbox}}"
        self.link = RedisLink(way.connections, lambda: way.connect(self._beats))
        self._worker = ""
        self._taken = b"0"  # the newest id that was taken
        self._taking = asyncio.Lock()  # a take that is cancelled may end after the next has begun

    def _own(self, worker: str) -> tuple[str, ...]:
        """The stream, the bytes and the shares of an inbox."""
        return tuple(f"{self._prefix}:{kind}:{{inbox}}:{redis_name(worker)}" for kind in "izy")

    async def enter(self, worker: str) -> None:
        """Begin as this worker.  Raises StoreError where one of this id is alive."""
        keys = (self._beats, self._clock)
        if not await self._caller.run(scripts.ENTER, keys, ALIVE_MS, redis_bytes(worker)):
            raise StoreError("a worker with this id is there already")
        self._worker = worker

    async def leave(self) -> None:
        """Take the heartbeat and the inbox away."""
        await self._caller.run(scripts.LEAVE, (self._beats, *self._own(self._worker)), redis_bytes(self._worker))

    async def put(self, worker: str, message: bytes, *, party: str = "") -> bool:
        done = await self._caller.run(
            scripts.PUT,
            (self._beats, self._clock, *self._own(worker)),
            ALIVE_MS,
            redis_bytes(worker),
            message,
            MAX_INBOX_MESSAGES,
            MAX_INBOX_BYTES,
            redis_name(party) if party else "",
            MAX_PARTY_MESSAGES,
            MAX_PARTY_BYTES,
        )
        if done < 0:
            raise Full(group=done == -2)
        return bool(done)

    async def take(self, wait: float) -> list[tuple[str, bytes]]:
        own = self._own(self._worker)
        keys = (self._beats, self._clock, *own)  # five
        # The text and not its hash: a heartbeat must not fail because Redis was restarted.
        beat: RedisCommand = (b"EVAL", scripts.BEAT.text, 5, *keys, ALIVE_MS, redis_bytes(self._worker))
        block = (b"BLOCK", int(wait * 1000)) if wait >= 0.001 else ()  # BLOCK 0 is for ever
        async with self._taking:
            look = (b"XREAD", b"COUNT", TAKE_AT_ONCE, *block, b"STREAMS", own[0], self._taken)
            replies = await self.link.exchange([beat, look], wait + ANSWER_TIME)
            for reply in replies:
                if isinstance(reply, RedisFailed):
                    raise reply.error()
            return self._messages(replies[1])

    def _messages(self, found: Any) -> list[tuple[str, bytes]]:
        """Messages with their receipts: the id, the size, and the party."""
        if not found:
            return []
        ((_, entries),) = found.items()
        self._taken = entries[-1][0]
        return [(f"{entry.decode()}:{len(data)}:{party.decode()}", data) for entry, (party, data) in entries]

    async def acknowledge(self, receipts: Sequence[str]) -> None:
        for start in range(0, len(receipts), ACKNOWLEDGE_AT_ONCE):
            arguments: list[str] = []
            for receipt in receipts[start : start + ACKNOWLEDGE_AT_ONCE]:
                entry, _, rest = receipt.partition(":")
                size, _, party = rest.partition(":")
                if size.isdecimal():
                    arguments += entry, size, party
            if arguments:
                await self._caller.run(scripts.ACKNOWLEDGE, self._own(self._worker), *arguments)

    async def workers(self) -> list[str]:
        found = await self._caller.run(scripts.WORKERS, (self._beats, self._clock), ALIVE_MS)
        return [redis_text(name) for name in found]


class RedisBus:
    """One channel for all workers and one for each."""

    def __init__(self, way: RedisWay, caller: RedisCaller, prefix: str, sharded: bool) -> None:
        self._way = way
        self._caller = caller
        self._all = f"{prefix}:f:{{bus}}"
        self._one = f"{prefix}:c:{{bus}}:"
        self._publish, self._subscribe = (b"SPUBLISH", b"SSUBSCRIBE") if sharded else (b"PUBLISH", b"SUBSCRIBE")
        self._told = {b"message", b"smessage"}
        self._heard: Callable[[bytes], None] = _ignore
        self._gap: Callable[[], None] = _ignore_gap
        self._sender = b""
        self._worker = ""
        self._listening: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._spoke = False
        self.reconnections = 0

    def subscribe(self, heard: Callable[[bytes], None], gap: Callable[[], None]) -> None:
        self._heard, self._gap = heard, gap

    async def publish(self, message: bytes, worker: str | None = None) -> None:
        if len(message) > MAX_BUS_BYTES:
            raise ValueError(f"a message on the bus has at most {MAX_BUS_BYTES} bytes")
        channel = self._all if worker is None else self._one + redis_name(worker)
        await self._caller.call(channel, self._publish, channel, self._sender + message)

    async def start(self, worker: str) -> None:
        """Subscribe, and listen from then on.  Raises StoreError."""
        self._worker = worker
        self._sender = redis_name(worker).encode() + b" "
        self._connection = await self._connect()
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    async def stop(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait({self._listening})
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)

    async def _connect(self) -> Any:
        """A connection that has subscribed.  Raises StoreError."""
        errors = self._way.connections.errors
        try:
            with anyio.fail_after(ANSWER_TIME):
                return await self._subscribed()
        except TimeoutError:
            problem = f"Redis gave no answer within {ANSWER_TIME:g} s"
        except errors.ResponseError:
            problem = "Redis refuses to subscribe to the bus of the store"
        except (errors.RedisError, OSError):
            problem = "Redis is away: the connection was refused or broke"
        raise RedisAway(problem)

    async def _subscribed(self) -> Any:
        connection = await self._way.connect(self._all)
        try:
            # Log lines of redis-py would have each message.
            connection._parser.set_pubsub_push_handler(_quiet)
            channels = (self._all, self._one + redis_name(self._worker))
            await connection.send_command(self._subscribe, *channels, check_health=False)
            for _ in channels:
                await connection.read_response(disable_decoding=True, push_request=True)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _listen(self) -> None:
        wait = FIRST_WAIT
        while True:
            if self._connection is not None:
                await self._read(self._connection)
                connection, self._connection = self._connection, None
                await connection.disconnect(nowait=True)
            try:
                self._connection = await self._connect()
            except StoreError as error:
                logger.debug("The bus of the store is not connected: %s", error)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            wait = FIRST_WAIT
            self.reconnections += 1
            asyncio.get_running_loop().call_soon(self._gap)

    async def _read(self, connection: Any) -> None:
        """Hear until the connection breaks, or Redis ends the subscription."""
        errors = self._way.connections.errors
        asking = asyncio.get_running_loop().create_task(self._ask(connection))
        try:
            going_on = True
            while going_on:
                reply = await connection.read_response(disable_decoding=True, push_request=True)
                self._spoke = True
                going_on = self._tell(reply)
        except (errors.RedisError, OSError):
            pass
        finally:
            asking.cancel()

    def _tell(self, reply: Any) -> bool:
        """Give a message to the subscriber; False where Redis ended the subscription, as when a slot moves."""
        if not isinstance(reply, list) or len(reply) < 3:
            return True  # the answer to PING
        kind, _, data = reply[:3]
        if kind in self._told and not data.startswith(self._sender):
            asyncio.get_running_loop().call_soon(self._heard, data.partition(b" ")[2])
        return kind in self._told

    async def _ask(self, connection: Any) -> None:
        """Ask a silent Redis whether it is there; close the connection where it says nothing.

        A connection can be dead without an end that the system tells of.
        """
        errors = self._way.connections.errors
        self._spoke = True
        with contextlib.suppress(errors.RedisError, OSError):
            while self._spoke:
                self._spoke = False
                await asyncio.sleep(BUS_QUIET_TIME)
                if not self._spoke:
                    await connection.send_command(b"PING", check_health=False)
                    await asyncio.sleep(ANSWER_TIME)
        await connection.disconnect(nowait=True)


def _ignore(message: bytes) -> None:
    """Do nothing: the bus before `subscribe`."""


def _ignore_gap() -> None:
    """Do nothing: the bus before `subscribe`."""


async def _quiet(response: Any) -> Any:
    return response

# SPDX-License-Identifier: MIT
"""Connections to Redis: commands in, replies out, one round trip for the commands of one turn of the loop.

`redis` (redis-py) logs in, encrypts and parses; it is imported when a store is made.  Its clients and pipelines are not
used: they repeat a command whose answer was lost, and an event must not be appended twice; and pipelines of several
turns take a connection each, which loses their order.

A `RedisLink` is one connection, made when it is needed and made anew after it broke.  A `RedisLine` is a link that
collects commands.  `OneRedis` and `RedisCluster` know which line leads to a key.

Rules: every wait for Redis has a limit; an error of Redis is a value until it becomes a StoreError with words of ours,
so no text of the server and no password reaches a log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import anyio

from .base import StoreError
from .limits import StoreLate, limited
from .redis_scripts import RedisScript
from .redis_url import RedisAddress, RedisPlace

ANSWER_TIME = 2.0  # seconds for one round trip, with connecting where that is needed
MAX_COMMANDS = 256  # commands of one round trip
MAX_MOVES = 5  # of one command in a cluster

RedisCommand = Sequence[bytes | str | int]

# The first word of an error of Redis -> its meaning for the operator.
MEANINGS = {
    "OOM": "is full: it reached `maxmemory`",
    "READONLY": "is a replica, and takes no writes: did it fail over?",
    "LOADING": "is loading its data",
    "NOAUTH": "wants a password",
    "WRONGPASS": "refuses this user or password",
    "NOPERM": "does not allow this user to run a command that the store needs",
    "MISCONF": "takes no writes, since it cannot write to its disk",
    "CLUSTERDOWN": "is a cluster that is down",
    "TRYAGAIN": "moves this key to another node",
    "MASTERDOWN": "is a replica whose master is away",
    "NOREPLICAS": "takes no writes, since it has too few replicas",
    "WRONGTYPE": "has a key of another program under this prefix",
    "BUSY": "is busy with a script",
    "CROSSSLOT": "is a cluster: say redis+cluster://",
    "MOVED": "is a cluster: say redis+cluster://",
}
# After these, another connection may lead to another server.
STALE = {"READONLY", "MOVED", "MASTERDOWN", "CLUSTERDOWN", "LOADING"}


class RedisAway(StoreError):
    """There is no connection to Redis, or it broke, or no answer came in time."""


class RedisFailed(NamedTuple):
    """A reply that is an error of Redis."""

    word: str  # its first one, which is its kind
    rest: str

    def error(self) -> StoreError:
        """The error for the operator."""
        return StoreError(f"Redis {MEANINGS.get(self.word, f'answered with the error {self.word!r:.40}')}")


class RedisConnections:
    """Makes connections of redis-py as a `RedisPlace` says, and counts them."""

    def __init__(self, place: RedisPlace) -> None:
        import redis.asyncio.connection as made
        import redis.exceptions

        self._place = place
        self.errors = redis.exceptions
        self.count = 0
        settings: dict[str, Any] = {
            "protocol": 3,
            "db": place.db,
            "username": place.user,
            "password": place.password,
            "socket_timeout": None,  # `RedisLink` has one limit for a whole round trip
            "driver_info": None,
        }
        if place.kind == "unix":
            self._class: Any = made.UnixDomainSocketConnection
        elif place.tls:
            self._class = made.SSLConnection
            settings |= {"ssl_ca_certs": place.ca, "ssl_certfile": place.cert, "ssl_keyfile": place.key}
        else:
            self._class = made.Connection
        self._settings = settings

    async def connect(self, address: RedisAddress, **others: Any) -> Any:
        """A connection that has logged in."""
        host, port = address
        where = {"path": host} if port < 0 else {"host": host, "port": port}
        connection = self._class(**{**self._settings, **where, **others})
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self.count += 1
        return connection


class RedisLink:
    """One connection, made anew when it broke.  `connect` finds the server and connects."""

    def __init__(self, connections: RedisConnections, connect: Callable[[], Awaitable[Any]]) -> None:
        self._errors = connections.errors
        self._connect = connect
        self._connection: Any = None
        self._closed = False
        self.round_trips = 0

    async def exchange(self, commands: Sequence[RedisCommand], limit: float = ANSWER_TIME) -> list[Any]:
        """Send commands in one round trip and return their replies; one that failed is a `RedisFailed`.

        Raises RedisAway, and then Redis may have run some of them, or all, or none.
        """
        try:
            return await limited(self._exchange(commands), limit)
        except StoreLate:
            problem = f"Redis gave no answer within {limit:g} s"
        except self._errors.ConnectionError as error:
            problem = f"Redis {_reason(error)}"
        except (self._errors.RedisError, OSError) as error:
            problem = f"the connection to Redis broke: {type(error).__name__}"
        raise RedisAway(problem)

    async def _exchange(self, commands: Sequence[RedisCommand]) -> list[Any]:
        connection = await self.ready()
        try:
            await connection.send_packed_command(b"".join(map(_packed, commands)), check_health=False)
            replies = [await self._reply(connection) for _ in commands]
        except BaseException:
            await self.drop()  # the next command must not get the replies of this one
            raise
        self.round_trips += 1
        if any(isinstance(reply, RedisFailed) and reply.word in STALE for reply in replies):
            await self.drop()
        return replies

    async def _reply(self, connection: Any) -> Any:
        try:
            return await connection.read_response(disable_decoding=True)
        except self._errors.ResponseError as error:
            return self._failed(error)

    def _failed(self, error: Any) -> RedisFailed:
        word, _, rest = str(error).partition(" ")
        code = getattr(error, "status_code", None)
        return RedisFailed(code, str(error)) if code else RedisFailed(word, rest)

    async def ready(self) -> Any:
        """The connection, which is made where there is none, or where the old one is at its end.  Raises RedisAway."""
        if self._closed:
            raise RedisAway("this store was closed")
        connection = self._connection
        # Redis closes idle connections, and all when it restarts: better seen before a command is sent.
        if connection is not None and (not connection.is_connected or await connection.can_read()):
            await self.drop()
        if self._connection is None:
            connection = None
            with anyio.move_on_after(ANSWER_TIME):
                connection = await self._connect()
            if connection is None:
                raise RedisAway(f"Redis gave no answer within {ANSWER_TIME:g} s")
            if self._closed:
                await connection.disconnect(nowait=True)
                raise RedisAway("this store was closed")
            self._connection = connection
        return self._connection

    async def drop(self) -> None:
        """Close the connection; the next exchange makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        await self.drop()


def _packed(command: RedisCommand) -> bytes:
    """A command on the wire: an array of strings (RESP).  redis-py needs five times as long for it."""
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        data = part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else b"%d" % part
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def _reason(error: BaseException) -> str:
    """The meaning of an error of a connection, without the words of the server."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]  # on a Unix socket, redis-py logs in while it connects, and wraps what comes of it
    word = getattr(error, "status_code", None) or ""
    if word in MEANINGS:
        return MEANINGS[word]
    text = str(error)
    if "CERTIFICATE" in text.upper() or "SSL" in text:
        return "could not be reached by TLS: its certificate is not trusted, or it speaks no TLS"
    return "is away: the connection was refused or broke"


class RedisLine(RedisLink):
    """A link that sends the commands of one turn of the loop together, and the next ones when the answers are there."""

    def __init__(self, connections: RedisConnections, connect: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(connections, connect)
        self._waiting: list[tuple[RedisCommand, asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None
        self.commands = 0

    def ask(self, command: RedisCommand) -> asyncio.Future[Any]:
        """Send a command at the end of this turn.  The result is its reply, a `RedisFailed` or an `RedisAway`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, future))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        batch: list[tuple[RedisCommand, asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch = [one for one in self._waiting[:MAX_COMMANDS] if not one[1].done()]
                del self._waiting[:MAX_COMMANDS]
                if batch:
                    await self._send(batch)
        finally:  # also where a program error or the end of the loop ends this
            self._running = None
            waiting, self._waiting = self._waiting, []
            _answer([*batch, *waiting], RedisAway("this store was closed"))

    async def _send(self, batch: list[tuple[RedisCommand, asyncio.Future[Any]]]) -> None:
        self.commands += len(batch)
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            replies = await self.exchange([command for command, _ in batch])
        except RedisAway as error:
            _answer(batch, error)
            if loop.time() - start >= ANSWER_TIME:  # the others have waited for as long
                waiting, self._waiting = self._waiting, []
                _answer(waiting, error)
            return
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    async def close(self) -> None:
        await super().close()
        if self._running is not None:
            self._running.cancel()


def _answer(batch: list[tuple[RedisCommand, asyncio.Future[Any]]], away: RedisAway) -> None:
    for _, future in batch:
        if not future.done():
            future.set_result(away)


class RedisWay(Protocol):
    """Leads commands to the server that has their key."""

    connections: RedisConnections

    async def ask(self, key: str, command: RedisCommand) -> Any:
        """The reply to a command; a `RedisFailed` or `RedisAway` is a value."""
        ...

    async def connect(self, key: str) -> Any:
        """A connection of its own to the server that has a key."""
        ...

    async def close(self) -> None:
        """Close all connections that `ask` made."""
        ...

    def lines(self) -> list[RedisLine]:
        """The connections that `ask` made."""
        ...


class RedisCaller:
    """Commands and scripts by a `RedisWay`; errors are raised."""

    def __init__(self, way: RedisWay) -> None:
        self._way = way

    async def call(self, key: str, *command: bytes | str | int) -> Any:
        """The reply to a command.  Raises StoreError."""
        return self._checked(await self._way.ask(key, command))

    async def run(self, script: RedisScript, keys: Sequence[str], *arguments: bytes | str | int) -> Any:
        """The reply of a script.  Raises StoreError."""
        rest = (len(keys), *keys, *arguments)
        reply = await self._way.ask(keys[0], (b"EVALSHA", script.sha, *rest))
        if isinstance(reply, RedisFailed) and reply.word == "NOSCRIPT":  # Redis is new, or has been restarted
            reply = await self._way.ask(keys[0], (b"EVAL", script.text, *rest))
        return self._checked(reply)

    def _checked(self, reply: Any) -> Any:
        if isinstance(reply, RedisFailed):
            raise reply.error()
        if isinstance(reply, RedisAway):
            raise RedisAway(str(reply))
        return reply


class OneRedis:
    """One server: at an address, or the master that sentinels name."""

    def __init__(self, place: RedisPlace) -> None:
        self.connections = RedisConnections(place)
        self._place = place
        self.line = RedisLine(self.connections, self._connect)

    async def ask(self, key: str, command: RedisCommand) -> Any:
        return await self.line.ask(command)

    async def connect(self, key: str) -> Any:
        return await self._connect()

    async def _connect(self) -> Any:
        if self._place.kind != "sentinel":
            return await self.connections.connect(self._place.addresses[0])
        return await self.connections.connect(await self._master())

    async def _master(self) -> RedisAddress:
        """The address of the master, by the first sentinel that answers in its share of the time."""
        place, errors = self._place, self.connections.errors
        share = ANSWER_TIME / (len(place.addresses) + 1)
        for address in place.addresses:
            login = {"username": place.sentinel_user, "password": place.sentinel_password, "db": 0}
            with anyio.move_on_after(share):
                try:
                    sentinel = await self.connections.connect(address, **login)
                except (errors.RedisError, OSError):
                    continue
                try:
                    await sentinel.send_command(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", place.service)
                    found = await sentinel.read_response(disable_decoding=True)
                except (errors.RedisError, OSError):
                    continue
                finally:
                    await sentinel.disconnect(nowait=True)
                if found:
                    return found[0].decode(), int(found[1])
        raise RedisAway(f"no sentinel knows where the service {place.service!r:.80} is")

    async def close(self) -> None:
        await self.line.close()

    def lines(self) -> list[RedisLine]:
        return [self.line]

# SPDX-License-Identifier: MIT
"""Results that a server allowed to be kept: 2026-07-28 server/utilities/caching.

Results are kept as encoded text, so that a change to one result does not reach the next caller.  The
cache refuses results without a positive `ttlMs`, and drops the oldest result when it is full.

Rule: a private result is found by the client that stored it and by no other, unless both clients named one partition.
A key holds the object that it stands for, and never its `id()`: a new object may get the number of one that is gone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from ...protocol.jsonrpc import JSON
from ...protocol.methods import CACHEABLE

# The bounds of one cache: results, and bytes of their text.
MAX_RESULTS = 1_000
MAX_CACHED_BYTES = 64 * 1024 * 1024

Key = tuple[Hashable, tuple[Hashable, ...], str, bytes]  # server, owner (empty: public), method, params
_ALL: tuple[Hashable, ...] = ()


class Same:
    """A key that equals only a key of the very same object.

    It keeps the object alive, so that no other object can take its place, and does not ask its `__eq__`.
    """

    __slots__ = ("_hash", "_thing")

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._hash = object.__hash__(thing)

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and self._thing is other._thing

    def __hash__(self) -> int:
        return self._hash


class ResultCache:
    """Results that servers allow to be kept; one may be shared by clients.  `clock` gives seconds and never goes back.

    `server` is the key of a server, and `owner` that of the user of a private result; the client makes both.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._json = JSON()
        self._kept: OrderedDict[Key, tuple[float, bytes]] = OrderedDict()
        self._size = 0

    def get(self, server: Hashable, owner: Hashable, method: str, params: Mapping[str, Any]) -> Any:
        """The kept result of `method` with `params`, as a new object each time; None where there is none in time.

        `server` and `owner` are keys of the client that asks.
        """
        if method not in CACHEABLE or not self._kept:
            return None
        text = self._json.dumps(_sorted(params))
        # The private result first, since it was made for this client.
        for scope in ((owner,), _ALL):
            key = (server, scope, method, text)
            found = self._kept.get(key)
            if found is not None:
                if self._clock() < found[0]:
                    return self._json.loads(found[1])
                self._remove(key)
        return None

    def put(
        self, server: Hashable, owner: Hashable, method: str, params: Mapping[str, Any], result: dict[str, Any]
    ) -> None:
        """Keeps a result of `method` with `params` as long as its `ttlMs` says; not at all without a positive number.

        `server` and `owner` are keys of the client that asked.
        """
        ttl = result.get("ttlMs")
        # "If ttlMs is negative, clients SHOULD treat it as 0."  The exact type is compared: True is an int in Python.
        if method not in CACHEABLE or not (type(ttl) is int or type(ttl) is float) or not ttl > 0:
            return
        # An unknown scope counts as private, because a private result must not reach another user.
        scope = _ALL if result.get("cacheScope") == "public" else (owner,)
        key = (server, scope, method, self._json.dumps(_sorted(params)))
        text = self._json.dumps(result)
        # It would drop all other results, and then itself.
        if len(text) > MAX_CACHED_BYTES:
            return
        self._remove(key)
        self._kept[key] = (self._clock() + ttl / 1000, text)
        self._size += len(text)
        while len(self._kept) > MAX_RESULTS or self._size > MAX_CACHED_BYTES:
            self._remove(next(iter(self._kept)))

    def leave(self, owner: Hashable) -> None:
        """Drops the private results of an owner that has ended, because no request will ask for them again."""
        for key in [key for key in self._kept if key[1] == (owner,)]:
            self._remove(key)

    def drop(self, server: Hashable, methods: tuple[str, ...], uri: str | None = None) -> None:
        """Drops all owners' results of `methods` of this `server`; with `uri`, those of it and its sub-resources."""
        for key in [key for key in self._kept if key[0] == server and key[2] in methods]:
            if uri is not None:
                read = self._json.loads(key[3]).get("uri")
                # "resources/updated" may name a sub-resource of the subscribed one (server/resources, Subscriptions).
                if not isinstance(read, str) or not (read.startswith(uri) or uri.startswith(read)):
                    continue
            self._remove(key)

    def _remove(self, key: Key) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self._size -= len(found[1])


def _sorted(params: Mapping[str, Any]) -> dict[str, Any]:
    # Sorted, so that equal params are equal text.  `_meta` describes the request and does not change the result.
    return {name: params[name] for name in sorted(params) if name != "_meta"}

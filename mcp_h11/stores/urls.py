# SPDX-License-Identifier: MIT
"""The store that a URL names.

    memory:                    in this process; a fleet of one worker
    sqlite:///var/lib/mcp.db   a file: with three slashes, the path begins at the root (four mean the same)
    sqlite:mcp.db              a file: without slashes, the path begins at the working directory
    sqlite:///C:/data/mcp.db   a file on Windows
    redis://host:6379/0        and the other schemes of `redis_url`, for Redis and Valkey

After `?`, `sqlite:` takes `max_bytes`, which bounds the file.  Paths are percent-encoded (`%20` is a space).
"""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, unquote

from .base import Store
from .memory import MemoryStore
from .redis_url import REDIS_SCHEMES

KNOWN_STORES = ("memory:", "sqlite:///absolute/path", "sqlite:relative/path", *(f"{name}://" for name in REDIS_SCHEMES))
MIN_FILE_BYTES = 256 * 1024  # what `max_bytes` may be at least: the tables alone take a part of it


def open_store(url: str) -> Store:
    """The store that a URL names, not yet opened: the server opens it.

    Raises ValueError for a URL that names none, without showing it, since it may hold a password; ImportError, which
    says what to install, where the package `redis` is missing.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory":
        if rest:
            raise ValueError("memory: has nothing after the colon; a store in memory has no name")
        return MemoryStore()
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme in REDIS_SCHEMES:
        try:
            from .redis import RedisStore
        except ModuleNotFoundError as error:
            if error.name != f"{__package__}.redis":
                raise
            raise ImportError(f"{scheme}:// is not here: the package was vendored without stores/redis") from None

        return RedisStore.from_url(url)
    raise ValueError(f"the URL of a store begins with one of {', '.join(KNOWN_STORES)}")


def _sqlite(rest: str) -> Store:
    path, _, query = rest.partition("?")
    if path.startswith("//"):
        if not path.startswith("///"):
            raise ValueError("sqlite:// names no host; write sqlite:///absolute/path or sqlite:relative/path")
        path = "/" + path.lstrip("/")
    path = unquote(path)
    if os.name == "nt" and path[:1] == "/" and path[2:3] == ":":
        path = path[1:]
    if path in ("", "/", ":memory:") or "\0" in path:
        raise ValueError("sqlite: needs the path of a file; write memory: for a store that needs none")
    from .sqlite import SQLiteStore

    return SQLiteStore(path, max_bytes=_max_bytes(query))


def _max_bytes(query: str) -> int | None:
    if not query:
        return None
    options = dict(parse_qsl(query, keep_blank_values=True))
    value = options.pop("max_bytes", "")
    if options or not (value.isascii() and value.isdigit()) or int(value[:20]) < MIN_FILE_BYTES:
        raise ValueError(f"sqlite: takes ?max_bytes=, a number of at least {MIN_FILE_BYTES}, and nothing else")
    return int(value[:18])

# SPDX-License-Identifier: MIT
"""Where a Redis is, as its URL says it.

    redis://[user:password@]host[:port][/db]            rediss:// with TLS
    redis+unix:///path[?db=0]
    redis+sentinel://host:26379,host:26379/service[/db] rediss+sentinel://
    redis+cluster://host:7000,host:7000                 rediss+cluster://

After `?`: `prefix` (of all keys and channels; `mcp` by default), for TLS `ca`, `cert` and `key` (files), and
`sentinel_user` and `sentinel_password` where the sentinels ask for others than Redis does.  Values are percent-encoded.

Rule: a password is in no message, log or repr.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "redis+unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
DEFAULT_PREFIX = "mcp"
REDIS_PORT = 6379
SENTINEL_PORT = 26379
QUERY = ("prefix", "db", "ca", "cert", "key", "sentinel_user", "sentinel_password")

RedisAddress = tuple[str, int]  # a host and a port; the path of a Unix socket and -1


@dataclass(frozen=True)
class RedisPlace:
    """A Redis, and how to log in there."""

    scheme: str
    addresses: tuple[RedisAddress, ...]  # of sentinels or of some nodes of a cluster, where it is one
    service: str = ""  # the name that sentinels know it by
    db: int = 0
    prefix: str = DEFAULT_PREFIX
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme.startswith("rediss")

    @property
    def kind(self) -> str:
        """`sentinel`, `cluster`, `unix`, or empty for one server."""
        return self.scheme.partition("+")[2]


def parse_redis_url(url: str) -> RedisPlace:
    """Read a URL.  Raises ValueError with a message that shows neither user nor password."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in REDIS_SCHEMES:
        raise ValueError(f"the URL of a store in Redis begins with one of {', '.join(REDIS_SCHEMES)}")
    rest, _, query = rest.partition("?")
    login, _, rest = rest.rpartition("@")
    user, colon, password = login.partition(":")
    options = _options(query)
    if scheme == "redis+unix":
        hosts, path = "", unquote(rest)
        addresses: tuple[RedisAddress, ...] = ((path, -1),)
        if not path.startswith("/"):
            raise ValueError("redis+unix:// needs the absolute path of a socket")
        parts = []
    else:
        hosts, _, path = rest.partition("/")
        port = SENTINEL_PORT if scheme.endswith("+sentinel") else REDIS_PORT
        addresses = tuple(_address(host, port) for host in hosts.split(","))
        parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if scheme.endswith("+sentinel"):
        if not parts:
            raise ValueError(f"{scheme}:// needs the name of the service after the hosts: /mymaster")
        service = parts.pop(0)
    elif len(addresses) > 1 and not scheme.endswith("+cluster"):
        raise ValueError(f"{scheme}:// has one host; for several, say +sentinel or +cluster")
    place = RedisPlace(
        scheme,
        addresses,
        service,
        _database(parts, options, scheme),
        _prefix(options.pop("prefix", DEFAULT_PREFIX)),
        unquote(user) or None,
        unquote(password) if colon else None,
        **options,
    )
    if not place.tls and (place.ca or place.cert or place.key):
        raise ValueError(f"`ca`, `cert` and `key` are for TLS: {scheme.replace('redis', 'rediss', 1)}://")
    return place


def _options(query: str) -> dict[str, str]:
    if "@" in query:  # it may be the second half of a password
        raise ValueError("`?` or `@` in a password or an option has to be percent-encoded: %3F, %40")
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if name not in QUERY:
            raise ValueError(f"the URL of a store in Redis has no option {name!r:.80}: it has {', '.join(QUERY)}")
    return dict(pairs)


def _address(text: str, port: int) -> RedisAddress:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/\s]+)(?::([0-9]{1,5}))?", text)
    if found is None or int(found[2] or port) > 65_535:
        raise ValueError("the URL of a store in Redis needs host or host:port")
    return found[1].strip("[]"), int(found[2] or port)


def _database(parts: list[str], options: dict[str, str], scheme: str) -> int:
    texts = [*parts, *filter(None, [options.pop("db", None)])]
    if not texts:
        return 0
    if len(texts) > 1 or not re.fullmatch("[0-9]{1,9}", texts[0]):
        raise ValueError("the URL of a store in Redis has one database, a number, after the host")
    if int(texts[0]) and scheme.endswith("+cluster"):
        raise ValueError("a cluster has database 0 alone")
    return int(texts[0])


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:~-]{1,64}", text):
        raise ValueError("a prefix of keys has 1 to 64 letters, digits and . _ : ~ -")
    return text

# SPDX-License-Identifier: MIT
"""The URLs of a store in Redis: what they mean, what is refused, and that no password is shown."""

from __future__ import annotations

import sys

import pytest

from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.redis_url import RedisPlace, parse_redis_url

GOOD = {
    "redis://h": RedisPlace("redis", (("h", 6379),)),
    "redis://h:1/2?prefix=x:y": RedisPlace("redis", (("h", 1),), db=2, prefix="x:y"),
    "redis://[::1]:7000": RedisPlace("redis", (("::1", 7000),)),
    "redis://h/0": RedisPlace("redis", (("h", 6379),)),
    "redis://:p%40ss%3F@h": RedisPlace("redis", (("h", 6379),), password="p@ss?"),
    "redis://u@h": RedisPlace("redis", (("h", 6379),), user="u"),
    "redis://u:@h": RedisPlace("redis", (("h", 6379),), user="u", password=""),
    "redis://u:a:b/c@d@h:1": RedisPlace("redis", (("h", 1),), user="u", password="a:b/c@d"),
    "rediss://h?ca=%2Fca.pem&cert=c&key=k": RedisPlace("rediss", (("h", 6379),), ca="/ca.pem", cert="c", key="k"),
    "redis+unix:///run/a%20b.sock?db=3": RedisPlace("redis+unix", (("/run/a b.sock", -1),), db=3),
    "redis+unix://:p@/s": RedisPlace("redis+unix", (("/s", -1),), password="p"),
    "redis+sentinel://a,b:1/main/4?sentinel_user=u&sentinel_password=p": RedisPlace(
        "redis+sentinel", (("a", 26379), ("b", 1)), "main", 4, sentinel_user="u", sentinel_password="p"
    ),
    "rediss+sentinel://a/m": RedisPlace("rediss+sentinel", (("a", 26379),), "m"),
    "redis+cluster://a:7000,b:7001": RedisPlace("redis+cluster", (("a", 7000), ("b", 7001))),
    "rediss+cluster://a/0?prefix=z": RedisPlace("rediss+cluster", (("a", 6379),), prefix="z"),
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_names_a_place(url: str) -> None:
    assert parse_redis_url(url) == GOOD[url]
    RedisStore.from_url(url)  # connects to nothing yet


BAD = {
    "h:6379": "begins with",
    "http://h": "begins with",
    "redis://": "host",
    "redis://h:99999": "host",
    "redis://h:x": "host",
    "redis://a,b": "several",
    "redis://h/1/2": "one database",
    "redis://h/x": "one database",
    "redis://h/1?db=2": "one database",
    "redis://h?db=-1": "one database",
    "redis://h?ca=x": "rediss://",
    "redis://h?colour=red": "'colour'",
    "redis://h?prefix=": "prefix",
    "redis://h?prefix={a}": "prefix",
    "redis://h?prefix=" + "x" * 65: "prefix",
    "redis+unix://relative": "absolute",
    "redis+sentinel://a": "service",
    "redis+cluster://a/1": "database 0",
    "redis://:half?secret@h": "percent-encoded",
}


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_cannot_be_used_says_why(url: str) -> None:
    with pytest.raises(ValueError, match=BAD[url]):
        parse_redis_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:secret@h/0",
        "redis://user:secret@h:bad",
        "redis://user:secret@h/x/y",
        "redis://user:half?secret@h",
        "redis://user:secret@h?colour=red",
        "redis+sentinel://:secret@a/m?sentinel_password=secret",
        "redus://user:secret@h",
    ],
)
def test_a_password_is_neither_in_an_error_nor_in_the_repr(url: str) -> None:
    try:
        shown = repr(RedisStore.from_url(url))
    except ValueError as error:
        shown = str(error)
    assert "secret" not in shown and "half" not in shown


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ImportError, match=r"mcp_h11\[redis\]"):
        RedisStore.from_url("redis://h")

# SPDX-License-Identifier: MIT
"""The store in Redis against a real `valkey-server`: the suite of all stores.  Skipped where that is not installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, fresh_prefix, redis_server

from mcp_h11.stores.base import Store, StoreRefused
from mcp_h11.stores.redis import RedisStore
from mcp_h11.stores.testing import CHECKS, StoreCheck

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def valkey() -> Iterator[RedisServer]:
    with redis_server(program="valkey-server") as server:
        yield server


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_store_in_valkey_passes(check: StoreCheck, valkey: RedisServer) -> None:
    async def make() -> Store:
        return RedisStore.from_url(valkey.url("suite"))

    asyncio.run(check(make))


def test_it_is_valkey_that_was_asked(valkey: RedisServer) -> None:
    with valkey.control() as client:
        assert client.info("server")["server_name"] == "valkey"


def test_another_format_is_refused(valkey: RedisServer) -> None:
    prefix = fresh_prefix()
    valkey.ask("SET", f"{prefix}:v", "99")

    async def main() -> None:
        with pytest.raises(StoreRefused, match="another prefix"):
            await RedisStore.from_url(valkey.url(prefix)).open("w")

    asyncio.run(main())

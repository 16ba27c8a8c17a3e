# SPDX-License-Identifier: MIT
"""One real Redis for all tests of this folder that do it no harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """It keeps nothing on its disk."""
    with redis_server() as server:
        yield server

# SPDX-License-Identifier: MIT
"""One fleet of three processes for each kind of store, which all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis_servers import RedisServer, redis_server
from replicas import KINDS, Replicas, SharedStore, replicas, stored_in


@pytest.fixture(scope="session")
def redis_of_fleets() -> Iterator[RedisServer]:
    """It keeps nothing on its disk."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharedStore:
    """A store that the tests of this folder share."""
    server = request.getfixturevalue("redis_of_fleets") if request.param == "redis" else None
    return stored_in(request.param, tmp_path_factory.mktemp("fleet"), server)


@pytest.fixture(scope="session")
def shared_fleet(store: SharedStore) -> Iterator[Replicas]:
    with replicas(store, legacy_sse=True) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared_fleet: Replicas) -> Iterator[Replicas]:
    """Three workers.  A test may kill some: the next one finds three again."""
    yield shared_fleet
    shared_fleet.revive()

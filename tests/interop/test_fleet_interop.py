# SPDX-License-Identifier: MIT
"""The official clients against a fleet of three processes, behind a proxy that gives each request to the next of them.

They see what they see of one process; `test_interop` says what that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from provision import Running, everything_fleet
from redis_servers import redis_server
from replicas import stored_in
from test_interop import CASES, Case, check

pytestmark = pytest.mark.interop

OVER_HTTP = [case for case in CASES if case.transport != "stdio" and case.response == "auto"]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with ExitStack() as stack:
        server = stack.enter_context(redis_server()) if request.param == "redis" else None
        store = stored_in(request.param, tmp_path_factory.mktemp("fleet"), server)
        yield stack.enter_context(everything_fleet(store.url, "--response", "auto"))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in OVER_HTTP])
def test_an_official_client_sees_one_server(fleet: Running, case: Case) -> None:
    # docs/deploy.md: a notice in the seconds after the client's GET stream moved to another worker may come twice.
    check(case, lambda: fleet, may_repeat=("changes",))

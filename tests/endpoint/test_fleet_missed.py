# SPDX-License-Identifier: MIT
"""The session's own stream after signals were lost: the client is told that all may have changed, at any worker."""

from __future__ import annotations

from typing import Any

import pytest
from fleets import fleet, in_memory, roaming
from sessions_support import Tools

pytestmark = pytest.mark.anyio

URI = "test://watched"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_lost_signals_are_told_as_changes_of_all_that_the_handler_has_and_the_client_watches() -> None:
    async with fleet(Tools, in_memory()) as workers, roaming(workers[0]) as client:
        assert (await client.at(workers[1]).notify("notifications/initialized")).status == 202  # once more
        assert (await client.call("resources/subscribe", {"uri": URI})).result == {}
        async with client.at(workers[0]).get_stream() as stream:
            workers[0].runtime.fleet.on_missed()
            events: list[Any] = []
            while len(events) < 3:
                event = await stream.next_event()
                assert event is not None
                events += [event] if event.data else []
        told = [event.json() for event in events]
        assert sorted(one["method"] for one in told) == [
            "notifications/resources/list_changed",
            "notifications/resources/updated",
            "notifications/tools/list_changed",
        ]
        assert [one["params"]["uri"] for one in told if one["method"].endswith("updated")] == [URI]
        # Another worker has the same stream, and goes on behind the event that the client names.
        async with client.at(workers[1]).get_stream(events[0].id) as rest:
            assert [await rest.next_message() for _ in range(2)] == told[1:]

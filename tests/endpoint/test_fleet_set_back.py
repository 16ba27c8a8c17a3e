# SPDX-License-Identifier: MIT
"""A store that was set back to an earlier time: the logs of the streams are shorter than the workers know them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from fleets import fleet, roaming, session_at, until, until_told
from serving import Held, call

from mcp_h11.stores.memory import Hub, MemoryStore

pytestmark = pytest.mark.anyio

TOOLS, PROMPTS, RESOURCES = (f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources"))


def two_workers(hub: Hub) -> Any:
    return fleet(Held, lambda: MemoryStore(hub), count=2)


@pytest.mark.parametrize("reader", [0, 1])
async def test_a_notice_that_meets_the_log_of_before_does_not_end_the_sessions_own_stream(reader: int) -> None:
    hub = Hub()
    async with two_workers(hub) as workers, roaming(workers[0]) as client:
        async with client.at(workers[reader]).get_stream() as stream:
            before = deepcopy(hub.logs)
            workers.handlers[1].notify_tools_changed()
            first = await until_told(stream, TOOLS)
            hub.logs = before
            workers.handlers[1].notify_prompts_changed()
            await until_told(stream, PROMPTS)
            workers.handlers[0].notify_resources_changed()
            newest = await until_told(stream, RESOURCES)
        name, _, index = newest.id.partition(".")
        assert name == first.id.partition(".")[0] and int(index) > 1
        async with client.at(workers[1 - reader]).get_stream(newest.id) as rest:
            assert rest.status == 200
            workers.handlers[0].notify_tools_changed()
            await until_told(rest, TOOLS)


async def test_the_answer_of_a_call_can_be_read_again_although_its_log_was_set_back() -> None:
    hub = Hub()
    async with two_workers(hub) as workers, roaming(workers[0]) as client:
        request = client.request("tools/call", call("stream"), id="s")
        async with client.at(workers[0]).posting(request) as stream:
            first = await until_told(stream, "notifications/message")
            (logs,) = hub.logs.values()
            log = logs[first.id.partition(".")[0]]
            log.events.clear()
            log.last = 0
            workers.handlers[0].released.set()
            answer = await stream.next_message()
            assert answer["id"] == "s"
        session = session_at(workers[0], client)
        await until(lambda: not session.unsaved_streams)
        async with client.at(workers[1]).get_stream(first.id, in_reply_to="tools/call") as rest:
            assert await rest.next_message() == answer

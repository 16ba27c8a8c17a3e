# SPDX-License-Identifier: MIT
"""Changes of a session in a fleet that meet another worker's change, a session that ended, or a store that fails."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fleets import Roaming, fleet, in_memory, roaming, session_at, until
from moody import Mood, MoodyStore
from rawclient import INFO, Response
from serving import LEGACY, Held

from mcp_h11 import MCPServer, ProxyHandler
from mcp_h11.endpoint import fleet_session
from mcp_h11.runtime.fleet import key_of
from mcp_h11.stores.base import Full, StoreError
from mcp_h11.stores.memory import Hub, MemoryInbox, MemoryStore

pytestmark = pytest.mark.anyio


def moody_fleet(mood: Mood, hub: Hub, make: Any = Held, **options: Any) -> Any:
    """Two workers on a store in a mood."""
    return fleet(make, lambda: MoodyStore(hub, mood), count=2, **options)


def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in record.getMessage() for record in caplog.records)


async def begin(server: Any) -> Response:
    client = Roaming(server.port, LEGACY)
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": INFO}
    return await client.post(client.request("initialize", params))


async def test_a_refusal_finds_the_question_at_another_worker() -> None:
    def refuse(message: Any) -> Any:
        client.at(workers[1])
        return {"error": {"code": -32001, "message": "not today"}}

    async with (
        fleet(Held, in_memory(), count=2) as workers,
        roaming(workers[0], capabilities={"elicitation": {}}) as client,
    ):
        answer = await client.call("tools/call", {"name": "ask"}, answerer=refuse)
        assert "not today" in str(answer.error or answer.result)


@pytest.mark.parametrize("tries", [1, 2])
async def test_an_answer_reaches_a_worker_whose_heartbeat_lapsed_while_it_lives(
    tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one try in vain the second one finds the heartbeat; after two, the bus carries the answer."""
    monkeypatch.setattr(fleet_session, "BEAT_EVERY", 0.01)
    tried: list[str] = []
    hub = Hub()
    put = MemoryInbox.put

    async def lapsed(self: Any, worker: str, message: bytes, **options: Any) -> bool:
        tried.append(worker)
        return len(tried) > tries and await put(self, worker, message, **options)

    def agree(message: Any) -> Any:
        monkeypatch.setattr(MemoryInbox, "put", lapsed)
        client.at(workers[1])
        return {"result": {"action": "accept", "content": {"it": "blue"}}}

    async with (
        fleet(Held, lambda: MemoryStore(hub), count=2) as workers,
        roaming(workers[0], capabilities={"elicitation": {}}) as client,
    ):
        answer = await client.call("tools/call", {"name": "ask"}, answerer=agree)
        assert "blue" in answer.result["content"][0]["text"]
        assert tried == [workers[0].runtime.fleet.worker] * 2
        monkeypatch.undo()


async def test_a_change_that_others_overtake_each_time_is_saved_later(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers, roaming(workers[0]) as client:
        records, key = workers[1].runtime.fleet.records, key_of(client.session)
        overtaking = False

        async def overtakes(name: str) -> None:
            nonlocal overtaking
            if name == "save" and not overtaking:
                overtaking = True
                record = await records.load("session", key)
                await records.save("session", key, record.value, record.version, 600.0)
                overtaking = False

        mood.of = overtakes
        assert (await client.call("logging/setLevel", {"level": "error"})).result == {}
        assert said(caplog, "is not saved yet: other workers changed the record each time")
        mood.of = None
        assert (await client.call("resources/subscribe", {"uri": "test://a"})).status == 200
        assert (await client.call("logging/setLevel", {"level": "alert"})).result == {}
        assert (await client.at(workers[1]).call("ping")).result == {}
        assert session_at(workers[1], client).state.log_level == "alert"


async def test_a_session_that_others_change_at_each_look_is_503_and_never_404() -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers, roaming(workers[0]) as client:
        other, key = workers[0].runtime.fleet, key_of(client.session)

        async def changes(name: str) -> None:
            if name == "load":
                await other.tell("record", session=key)

        mood.of = changes
        refused = await client.at(workers[1]).post(client.request("ping"))
        assert refused.status == 503 and refused.headers["retry-after"]
        mood.of = None
        assert (await client.call("ping")).result == {}


async def test_a_change_of_a_session_whose_record_is_gone_does_not_bring_it_back() -> None:
    async with fleet(Held, in_memory(), count=2) as workers, roaming(workers[0]) as client:
        records = workers[0].runtime.fleet.records
        await records.delete("session", key_of(client.session))
        assert (await client.call("logging/setLevel", {"level": "error"})).result == {}
        assert await records.count("session") == 0
        assert (await client.at(workers[1]).post(client.request("ping"))).status == 404


async def test_a_newcomer_ends_so_many_sessions_for_a_place_and_no_more() -> None:
    now = 0.0
    mood, hub = Mood(), Hub(lambda: now)
    async with moody_fleet(mood, hub, session_initialize=600.0, session_idle=600.0) as workers:
        workers[0].endpoint.legacy.stores._touch_at = math.inf  # the store is told of no use
        clients = [Roaming(workers[0].port, LEGACY) for _ in range(5)]
        for client in clients:
            await client.initialize()
            now += 1.0
        now += 100.0

        async def others_are_faster(name: str) -> None:
            if name == "create":
                raise Full

        mood.of = others_are_faster
        refused = await begin(workers[0])
        assert refused.status == 503 and refused.json()["error"]["message"] == "Too many sessions"
        mood.of = None
        statuses = [(await client.post(client.request("ping"))).status for client in clients]
        assert sorted(statuses) == [200] + [404] * 4


async def test_a_session_of_which_too_much_is_kept_is_not_taken_over() -> None:
    async with fleet(Held, in_memory(), count=2) as workers, roaming(workers[0]) as client:
        for number in range(5):
            uri = f"test://{number}/" + "x" * 1_500
            assert (await client.call("resources/subscribe", {"uri": uri})).status == 200
        memory = workers[1].runtime.memory
        memory.add("127.0.0.1", memory.limit)
        refused = await client.at(workers[1]).post(client.request("ping"))
        assert refused.status == 503
        memory.add("127.0.0.1", -memory.limit)
        assert (await client.call("ping")).result == {}


async def test_a_call_of_an_ended_session_that_cannot_be_answered_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    mood, hub = Mood(), Hub()
    async with moody_fleet(mood, hub) as workers:
        message = '{"jsonrpc": "2.0", "id": 1, "method": "ping"}'

        async def keeps_no_events(name: str) -> None:
            if name == "append":
                raise StoreError("away")

        mood.of = keeps_no_events
        sender, receiver = (one.runtime.fleet for one in workers.servers)
        letter = {"batch": False, "messages": [message], "errors": []}
        await sender.send(receiver.worker, "handed", session="gone", stream="s", **letter)
        await until(lambda: said(caplog, "a call of an ended session is not answered"))
        mood.of = None


async def test_a_session_that_expires_while_the_store_fails_is_left_to_its_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mood, hub = Mood(), Hub()

    def bridge() -> Any:
        return ProxyHandler(MCPServer("backend"), per_session=True)

    async def keeps_records(name: str) -> None:
        if name == "delete":
            raise StoreError("away")

    async with moody_fleet(mood, hub, bridge, session_idle=0.2) as workers:
        mood.of = keeps_records
        async with roaming(workers[0]) as client:
            await until(lambda: said(caplog, "is left to its time: away"))
            assert client.session not in workers[0].endpoint.legacy.sessions
        mood.of = None

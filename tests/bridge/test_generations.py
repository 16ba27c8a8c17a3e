# SPDX-License-Identifier: MIT
"""A handler that swaps its backend: sessions that outlive their first backend, and times without a backend."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern, RawClient, encode
from serving import LEGACY, Held, call, head, served, turns

pytestmark = pytest.mark.anyio


class Changing(Held):
    """Serves the sessions of the newest generation."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 1
        self.away: str | None = None

    def serves(self, generation: int) -> bool:
        return generation == self.generation

    def unavailable(self) -> str | None:
        return self.away

    def readiness_problems(self) -> list[str]:
        return ["backend away"] if self.away else []


async def test_an_outdated_session_is_404_on_post_get_delete_and_resume_alike() -> None:
    handler = Changing()
    async with served(handler) as server:
        for method, headers in (
            ("POST", {}),
            ("GET", {"Accept": "text/event-stream"}),
            ("GET", {"Accept": "text/event-stream", "Last-Event-ID": "x.1"}),
            ("DELETE", {}),
        ):
            client = Legacy(server.port, LEGACY)
            await client.initialize()
            assert (await client.call("ping")).status == 200
            handler.generation += 1
            async with RawClient(server.port) as raw:
                fields = {"Content-Type": "application/json", "Mcp-Session-Id": client.session, **headers}
                body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}' if method == "POST" else b""
                answer = await raw.request(method, "/mcp", fields, body)
            assert answer.status == 404
            assert "id" not in answer.json() or answer.json()["id"] is None
            assert not server.endpoint.legacy.sessions
        async with Legacy(server.port, LEGACY) as client:
            assert (await client.call("ping")).status == 200


async def test_what_runs_in_an_outdated_session_is_answered_and_its_stream_ends() -> None:
    handler = Changing()
    async with served(handler) as server:
        client = Legacy(server.port, LEGACY)
        await client.initialize()
        async with client.get_stream() as stream, anyio.create_task_group() as tasks:
            answers: list[Any] = []

            async def hold() -> None:
                answers.append(await client.call("tools/call", call("hold")))

            tasks.start_soon(hold)
            await handler.until(started=1)
            handler.generation += 1
            assert (await client.post(client.request("ping"))).status == 404
            with anyio.fail_after(LIMIT):
                while await stream.next_event() is not None:
                    pass
            assert server.endpoint.legacy.sessions  # its call still runs
            handler.released.set()
        assert answers[0].result["content"][0]["text"] == "hold released"
        await turns()
        assert not server.endpoint.legacy.sessions


async def test_an_outdated_session_of_http_sse_is_404_and_its_stream_ends() -> None:
    handler = Changing()
    async with served(handler, legacy_sse=True) as server, RawClient(server.port) as client:
        await client.send(head("/sse", method="GET", Accept="text/event-stream"))
        stream = await client.receive_stream("GET")
        first = await stream.next_event()
        assert first is not None
        where = first.data
        handler.generation += 1
        async with RawClient(server.port) as other:
            fields = {"Content-Type": "application/json"}
            answer = await other.request("POST", where, fields, b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert answer.status == 404
        assert await stream.next_event() is None


async def test_the_stream_of_an_outdated_session_ends_though_its_client_only_listens() -> None:
    handler = Changing()
    handler.generation = 0  # as a session of HTTP+SSE has it before its handshake
    async with served(handler, legacy_sse=True) as server, RawClient(server.port) as raw:
        await raw.send(head("/sse", method="GET", Accept="text/event-stream"))
        sse = await raw.receive_stream("GET")
        where = await sse.next_event()
        client = Legacy(server.port, LEGACY)
        said = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        handshake = encode(client.request("initialize", said))
        async with RawClient(server.port) as other:
            await other.request("POST", where.data, {"Content-Type": "application/json"}, handshake)
        assert "result" in await sse.next_message()
        await client.initialize()
        async with client.get_stream() as stream:
            handler.generation += 1
            for one in (stream, sse):
                with anyio.fail_after(LIMIT):
                    while await one.next_event() is not None:
                        pass
        assert not server.endpoint.legacy.sessions and not server.endpoint.legacy_sse.sessions


async def test_without_anything_behind_it_requests_are_503_and_it_is_not_ready() -> None:
    handler = Changing()
    async with served(handler, health=True) as server:
        client = Legacy(server.port, LEGACY)
        await client.initialize()
        handler.away = "the backend is away"
        for refused in (
            await client.post(client.request("ping")),
            await Modern(server.port).post(Modern(server.port).request("server/discover")),
            await Legacy(server.port, LEGACY).post(
                client.request("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {}})
            ),
        ):
            assert (refused.status, refused.json()["error"]["message"]) == (503, "the backend is away")
            assert refused.headers["retry-after"]
        # A notification for a running call is accepted.
        assert (await client.notify("notifications/cancelled", {"requestId": 99})).status == 202
        async with RawClient(server.port) as ops:
            ready = await ops.request("GET", "/ready", {})
            assert (ready.status, ready.json()["reasons"]) == (503, ["backend away"])
            health = await ops.request("GET", "/health", {})
            assert (health.status, health.json()["status"]) == (503, "unavailable")
        handler.away = None
        assert (await client.call("ping")).status == 200
        await client.delete()


async def test_a_session_of_a_handler_without_generations_is_never_outdated() -> None:
    handler = Held()
    async with served(handler) as server, Legacy(server.port, LEGACY) as client:
        handler.generation += 1
        assert (await client.call("ping")).status == 200

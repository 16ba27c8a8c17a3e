# SPDX-License-Identifier: MIT
"""Streamable HTTP for sessions, by its requirements: handshake, session ids, answers, batches, GET, expiry, caps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import wire
from hurrying import on_a_still_clock
from rawclient import BOTH, INFO, JSON_TYPE, LIMIT, SSE_TYPE, Legacy, RawClient, Response, encode, within
from sessions_support import LEGACY_HTTP, SOON, GatedStore, Steps, Tools, call, echo, quiet, rest, said, served, updated

from mcp_h11 import Context, MCPServer, listening
from mcp_h11.runtime.storage import MemoryEventStore, MemorySessionManager, SessionState

pytestmark = pytest.mark.anyio
__all__ = ["quiet"]

REVISIONS = [wire.A, *LEGACY_HTTP]
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
NOTE = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
FAILURE = {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}
ANSWER = {"jsonrpc": "2.0", "id": "server-1", "result": {}}


def initialize(version: Any = wire.D, **params: Any) -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": INFO, **params}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


async def post(port: int, message: Any, **headers: str | None) -> Response:
    given = {"Content-Type": JSON_TYPE, "Accept": BOTH} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with RawClient(port) as client:
        return await client.request("POST", "/mcp", given, encode(message))


async def verb(port: int, method: str, **headers: str | None) -> Response:
    """GET, where it is refused, or DELETE."""
    given = {"Accept": SSE_TYPE} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with RawClient(port) as client:
        return await client.request(method, "/mcp", given)


@asynccontextmanager
async def serving(handler: Tools | None = None, **options: Any) -> AsyncIterator[int]:
    async with listening(handler or Tools(), port=0, **options) as server:
        yield server.port


# --- the handshake --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(v, v) for v in REVISIONS] + [(v, wire.D) for v in (wire.E, "2099-01-01", "1.0", "", "garbage \u2603")],
)
async def test_a_known_legacy_revision_is_answered_in_kind_and_any_other_by_the_newest(
    asked: str, answered: str
) -> None:
    async with serving() as port:
        response = await post(port, initialize(asked))
        assert (response.status, response.content_type) == (200, JSON_TYPE)
        message = response.json()
        wire.checked(answered, message, in_reply_to="initialize")
        assert message["result"]["protocolVersion"] == answered
        assert set(message["result"]) == {"protocolVersion", "capabilities", "serverInfo"}
        session = response.headers["mcp-session-id"]
        assert len(session) >= 22 and all("!" <= c <= "~" for c in session)


async def test_instructions_are_part_of_the_handshake() -> None:
    handler = Tools()
    handler.instructions = "Be kind"
    async with served(handler) as client:
        assert client.initialized["instructions"] == "Be kind"


@pytest.mark.parametrize("version", [None, *REVISIONS])
async def test_the_version_header_of_the_handshake_may_be_any_legacy_one(version: str | None) -> None:
    async with serving() as port:
        response = await post(port, initialize(wire.D), MCP_Protocol_Version=version)
        assert response.json()["result"]["protocolVersion"] == wire.D


@pytest.mark.parametrize(
    "params", [{"protocolVersion": None}, {"protocolVersion": 1}, {"clientInfo": "me"}, {"capabilities": []}]
)
async def test_a_handshake_of_the_wrong_shape_opens_no_session(params: dict[str, Any]) -> None:
    async with serving(max_sessions=1) as port:
        session = (await post(port, initialize())).headers["mcp-session-id"]
        response = await post(port, initialize(**params))
        assert (response.status, response.json()["error"]["code"]) == (200, -32602)
        assert "mcp-session-id" not in response.headers
        # the failed handshake did not evict the idle session, though there is room for one only
        assert (await post(port, PING, Mcp_Session_Id=session)).status == 200


@pytest.mark.parametrize("revision", REVISIONS)
async def test_initialize_in_a_live_session_is_refused_and_with_a_dead_one_starts_anew(revision: str) -> None:
    async with served(Tools(), revision) as client:
        again = await client.post(initialize(revision))
        assert (again.status, again.json()["error"]["code"]) == (400, -32600)
        assert "mcp-session-id" not in again.headers
        assert (await client.call("ping")).result == {}
        anew = await post(client.port, initialize(revision), Mcp_Session_Id="long-gone")
        assert anew.status == 200
        assert anew.headers["mcp-session-id"] not in ("long-gone", client.session)


# --- session ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", [PING, NOTE, ANSWER, {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}]
)
async def test_without_a_session_it_is_400_and_with_a_dead_one_404_without_an_id(message: dict[str, Any]) -> None:
    async with serving() as port:
        assert (await post(port, message)).status == 400
        dead = await post(port, message, Mcp_Session_Id="dead")
        assert (dead.status, "id" in dead.json()) == (404, False)


async def test_what_only_the_modern_revision_has_is_told_what_it_lacks() -> None:
    async with serving() as port:
        for method in ("server/discover", "subscriptions/listen"):
            response = await post(port, {"jsonrpc": "2.0", "id": 1, "method": method})
            assert (response.status, response.json()["error"]["code"]) == (400, -32602)
        assert (await post(port, [PING])).status == 400


@pytest.mark.parametrize("revision", REVISIONS)
async def test_delete_ends_the_session_for_everybody(revision: str) -> None:
    async with served(Tools(), revision) as client:
        session = client.session
        deleted = await client.delete()
        assert (deleted.status, deleted.body) == (204, b"")
        for message in (PING, NOTE, ANSWER):
            assert (await post(client.port, message, Mcp_Session_Id=session)).status == 404
        for method in ("GET", "DELETE"):
            gone = await verb(client.port, method, Mcp_Session_Id=session)
            assert (gone.status, "id" in gone.json()) == (404, False)
        assert (await verb(client.port, "DELETE")).status == 400


async def test_sessions_of_another_principal_look_as_if_they_were_not_there() -> None:
    async with serving(authorize=lambda head: head.get("authorization")) as port:
        mine = {"Authorization": "ann"}
        session = (await post(port, initialize(), **mine)).headers["mcp-session-id"]
        assert (await post(port, PING, Mcp_Session_Id=session, **mine)).status == 200
        for answer in (
            await post(port, PING, Mcp_Session_Id=session, Authorization="bob"),
            await verb(port, "GET", Mcp_Session_Id=session, Authorization="bob"),
            await verb(port, "DELETE", Mcp_Session_Id=session, Authorization="bob"),
        ):
            unknown = await post(port, PING, Mcp_Session_Id="x", Authorization="bob")
            assert (answer.status, answer.body) == (404, unknown.body)
        # A handshake beside an unknown id opens a session: so it does here.
        bobs = await post(port, initialize(), Mcp_Session_Id=session, Authorization="bob")
        assert bobs.status == 200 and bobs.headers["mcp-session-id"] != session
        assert (await post(port, PING, Mcp_Session_Id=session, **mine)).status == 200


@pytest.mark.parametrize("version", ["1999-01-01", "garbage", "2025-11-25x"])
async def test_a_version_header_that_names_none_is_400(version: str) -> None:
    async with served(Tools()) as client:
        headers = {"Mcp_Session_Id": client.session, "MCP_Protocol_Version": version}
        assert (await post(client.port, PING, **headers)).status == 400
        for method in ("GET", "DELETE"):
            assert (await verb(client.port, method, **headers)).status == 400
        for known in (None, *REVISIONS):  # in a session it is the negotiated one that counts
            headers["MCP_Protocol_Version"] = known
            assert (await post(client.port, PING, **headers)).status == 200


@pytest.mark.parametrize("revision", REVISIONS)
async def test_notifications_and_answers_get_202_and_no_body(revision: str) -> None:
    async with served(Tools(), revision) as client:
        for message in (NOTE, ANSWER, FAILURE):
            response = await client.post(message)
            assert (response.status, response.body) == (202, b"")


# --- the form of an answer ------------------------------------------------------------------------


async def talk(ctx: Context) -> str:
    await ctx.info("first")
    return "done"


@pytest.mark.parametrize(
    ("response", "accept", "quiet_type", "talking_type"),
    [
        ("auto", BOTH, JSON_TYPE, SSE_TYPE),
        ("auto", "*/*", JSON_TYPE, SSE_TYPE),
        ("auto", None, JSON_TYPE, SSE_TYPE),
        ("auto", JSON_TYPE, JSON_TYPE, JSON_TYPE),
        ("auto", SSE_TYPE, SSE_TYPE, SSE_TYPE),
        ("auto", "Application/*;q=0.5, TEXT/*", SSE_TYPE, SSE_TYPE),
        ("auto", f"{JSON_TYPE};q=0, {SSE_TYPE}", SSE_TYPE, SSE_TYPE),
        ("json", BOTH, JSON_TYPE, JSON_TYPE),
        ("sse", BOTH, SSE_TYPE, SSE_TYPE),
        ("sse", JSON_TYPE, JSON_TYPE, JSON_TYPE),
    ],
)
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_json_or_events(
    revision: str, response: str, accept: str | None, quiet_type: str, talking_type: str
) -> None:
    async with serving(Tools(echo=echo, talk=talk), response=response) as port:
        hello = await post(port, initialize(revision), Accept=accept)
        assert (hello.status, hello.content_type) == (200, quiet_type)
        headers = {"Accept": accept, "Mcp_Session_Id": hello.headers["mcp-session-id"]}
        assert [m["result"]["protocolVersion"] for m in hello.messages()] == [revision]
        for name, kind in (("echo", quiet_type), ("talk", talking_type)):
            answer = await post(port, call(name), **headers)
            assert (answer.status, answer.content_type) == (200, kind)
            messages = answer.messages()
            for message in messages:
                wire.checked(revision, message, in_reply_to="tools/call")
            assert [said(m) for m in messages] == {
                ("echo", JSON_TYPE): ["echo"],
                ("echo", SSE_TYPE): ["echo"],
                ("talk", JSON_TYPE): ["done"],
                ("talk", SSE_TYPE): ["first", "done"],
            }[name, kind]
            assert "mcp-session-id" not in answer.headers


async def test_what_takes_neither_is_406() -> None:
    async with served(Tools()) as client:
        assert (await post(client.port, PING, Accept="text/html", Mcp_Session_Id=client.session)).status == 406
        assert (await verb(client.port, "GET", Accept=JSON_TYPE, Mcp_Session_Id=client.session)).status == 406


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_only_the_newest_primes_its_streams(revision: str) -> None:
    async with served(Tools(talk=talk), revision, retry=1234) as client, client.posting(call("talk")) as stream:
        assert await rest(stream) == ["first", "done"]
        ids = [event.id for event in stream.seen]
        assert None not in ids and len(set(ids)) == len(ids)
        first = stream.seen[0]
        if revision == wire.D:
            assert (first.data, first.retry) == ("", 1234)
            assert len(ids) == 3
        else:
            assert len(ids) == 2
            assert all(event.retry is None for event in stream.seen)
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_a_call_closes_its_stream_and_is_polled_where_that_exists(revision: str) -> None:
    steps = Steps()

    async def poll(ctx: Context) -> str:
        await ctx.close_sse_stream()
        await ctx.close_sse_stream()
        return await steps(ctx)

    if revision != wire.D:
        steps.say("1", None)
    async with served(Tools(poll=poll), revision) as client, client.posting(call("poll")) as stream:
        if revision != wire.D:
            assert await rest(stream) == ["1", "done"]
            return
        assert await rest(stream) == []
        (prime,) = stream.seen
        assert prime.data == "" and prime.retry == 3_000
        steps.say("1", None)
        async with client.get_stream(prime.id, in_reply_to="tools/call") as resumed:
            assert await rest(resumed) == ["1", "done"]


async def test_an_answer_that_takes_long_becomes_a_stream() -> None:
    steps, batched = Steps(), Steps()
    async with served(Tools(steps=steps, batched=batched), wire.D, patience=0.05) as client:
        async with client.posting(call("steps")) as stream:
            prime = await stream.next_event()
            assert prime is not None and prime.data == "" and prime.id
            steps.say(None)
            assert await rest(stream) == ["done"]
        old = Legacy(client.port, wire.B)
        async with old, old.posting([call("batched")]) as stream:
            assert stream.head.content_type == SSE_TYPE
            batched.say(None)
            assert await rest(stream) == ["done"]


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [wire.A, wire.C, wire.D])
async def test_batches_are_refused_where_they_are_not_part_of_the_revision(revision: str) -> None:
    handler = Tools()
    async with served(handler, revision) as client:
        for batch in ([PING], [NOTE], [PING, NOTE], []):
            response = await client.post(batch)
            assert (response.status, response.json()["error"]["code"]) == (400, -32600)
        assert handler.told == []


async def test_a_batch_is_answered_by_an_array_or_on_one_stream() -> None:
    handler = Tools(echo=echo, talk=talk)
    async with served(handler, wire.B) as client:
        one = await client.post([PING])
        assert (one.content_type, one.json()) == (JSON_TYPE, [{"jsonrpc": "2.0", "id": 1, "result": {}}])
        several = await client.post([call("echo", id="a"), NOTE, {**PING, "id": 2}, {"jsonrpc": "2.0", "id": {}}, 7])
        found = {m.get("id"): m for m in several.json()}
        assert (said(found["a"]), found[2]["result"]) == ("echo", {})
        assert [m["error"]["code"] for m in several.json() if "error" in m] == [-32600, -32600]
        assert handler.told == [(NOTE["method"], {})]
        talking = await client.post([call("echo", id="a"), call("talk", id="b"), 7])
        assert talking.content_type == SSE_TYPE
        messages = talking.messages()
        assert sorted(said(m) for m in messages if "error" not in m) == ["done", "echo", "first"]
        assert [m["error"]["code"] for m in messages if "error" in m] == [-32600]
        events = await client.post([PING], {"Accept": SSE_TYPE})
        assert (events.content_type, events.messages()) == (SSE_TYPE, one.json())
        only = await client.post([NOTE, ANSWER])
        assert (only.status, only.body) == (202, b"")
        wrong = await client.post([1])
        assert (wrong.status, [m["error"]["code"] for m in wrong.json()]) == (200, [-32600])
        wrong = await client.post([1], {"Accept": SSE_TYPE})
        assert [m["error"]["code"] for m in wrong.messages()] == [-32600]


async def test_a_batch_of_which_nothing_is_left_to_say_is_202() -> None:
    steps = Steps()
    async with served(Tools(steps=steps), wire.B) as client:
        waiting = asyncio.ensure_future(client.post([call("steps", id=3)]))
        with anyio.fail_after(LIMIT):
            while steps.ctx is None:
                await anyio.sleep(0)
        await client.notify("notifications/cancelled", {"requestId": 3})
        response = await waiting
        assert (response.status, response.body) == (202, b"")


async def test_batches_that_may_not_be() -> None:
    async with served(Tools(), wire.B) as client:
        for batch in ([], [PING, initialize(wire.B)], [PING] * 101):
            response = await client.post(batch)
            assert (response.status, response.json()["error"]["code"]) == (400, -32600)
        assert len((await client.post([PING] * 100)).json()) == 100


async def test_sse_is_forced_on_batches_as_well() -> None:
    async with served(Tools(), wire.B, response="sse") as client:
        response = await client.post([PING])
        assert (response.content_type, len(response.messages())) == (SSE_TYPE, 1)


@pytest.mark.parametrize("slow", [False, True])
async def test_no_answer_of_a_batch_is_lost_however_its_calls_end(slow: bool) -> None:
    steps, store = Steps(), GatedStore()
    async with served(Tools(steps=steps, talk=talk, echo=echo), wire.B, event_store=store) as client:
        if slow:
            store.hold()
        async with client.client() as connection:
            batch = [call("talk", id=n) for n in range(5)] + [call("steps", id="c")]
            await connection.send_request("POST", "/mcp", client.headers_for(None), json.dumps(batch).encode())
            if slow:
                with anyio.fail_after(LIMIT):
                    await store.kept.wait()
                store.gate.set()
            stream = await connection.receive_stream()
            first = [said(await stream.next_message()) for _ in range(10)]
            assert sorted(first) == ["done"] * 5 + ["first"] * 5
            await client.notify("notifications/cancelled", {"requestId": "c"})
            assert await rest(stream) == []


async def test_a_call_whose_first_event_is_kept_slowly_has_one_stream_and_one_reader() -> None:
    steps, store = Steps(), GatedStore()
    async with listening(Tools(steps=steps), port=0, event_store=store, patience=0.02) as server:
        async with Legacy(server.port, wire.D) as client:
            store.hold()
            steps.say("1", None)
            async with client.posting(call("steps")) as stream:  # which begins since the answer was silent for long
                await store.kept.wait()
                store.gate.set()
                assert await rest(stream) == ["1", "done"]
            assert {str(event.id).rpartition(".")[0] for event in stream.seen if event.id} == {
                stream.seen[0].id.rpartition(".")[0]  # type: ignore[union-attr]
            }
            session = server.endpoint.legacy.sessions[client.session or ""]
            with anyio.fail_after(LIMIT):
                while session.busy:
                    await anyio.sleep(0.001)


async def test_a_batch_that_is_cut_can_be_resumed() -> None:
    steps = Steps()
    async with served(Tools(steps=steps, echo=echo), wire.B) as client:
        steps.say("1")
        async with client.posting([call("steps", id=1), call("echo", id=2)]) as stream:
            heard = [said(await stream.next_message())]
            stream.abort()
        assert steps.ctx is not None
        with anyio.fail_after(LIMIT):
            await steps.ctx.disconnected.wait()
        await steps.ctx.close_sse_stream()  # without effect on the stream of a batch
        steps.say(None)
        async with client.get_stream(stream.seen[-1].id, in_reply_to="tools/call") as stream:
            heard += await rest(stream)
        assert sorted(heard) == ["1", "done", "echo"]


async def test_a_batch_in_json_that_asks_uses_the_sessions_stream() -> None:
    async def ask(ctx: Context) -> str:
        return str((await ctx.list_roots())[0]["uri"])

    async with serving(Tools(ask=ask), response="json") as port:
        client = Legacy(port, wire.B)
        await client.initialize({"roots": {}})
        waiting = asyncio.ensure_future(client.post([call("ask")]))
        async with client.get_stream() as stream:
            question = await stream.next_message()
            result = {"roots": [{"uri": "file:///a"}]}
            assert (await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result})).status == 202
            assert said((await waiting).json()[0]) == "file:///a"


@pytest.mark.parametrize("batched", [True, False])
async def test_an_answer_that_must_be_json_stays_json_however_long_it_takes(batched: bool) -> None:
    steps = Steps()
    options = {"response": "json", "patience": SOON, "replay": False}
    async with served(Tools(steps=steps), wire.B, **options) as client, client.client() as connection:
        message = [call("steps")] if batched else call("steps")
        await connection.send_request("POST", "/mcp", client.headers_for(None), encode(message))
        with pytest.raises(TimeoutError):
            await within(10 * SOON, "answer before its time", connection.reader.read(1))
        steps.say(None)
        response = await connection.receive("POST")
        assert (response.status, response.content_type) == (200, JSON_TYPE)
        assert [said(one) for one in response.messages()] == ["done"]


async def test_a_batch_for_which_there_is_no_room_is_answered_all_the_same() -> None:
    steps = Steps()
    options = {"max_running_session": 1, "max_waiting": 1}
    async with served(Tools(steps=steps), wire.B, **options) as client:
        posted = asyncio.create_task(client.post([call("steps", id=n) for n in range(4)]))
        with anyio.fail_after(LIMIT):
            while steps.ctx is None:  # the first runs, the second waits in line
                await asyncio.sleep(0)
        steps.say(None, None)
        answers = (await posted).json()
        assert sorted(m["id"] for m in answers) == [0, 1, 2, 3]
        assert sum("error" in m for m in answers) == 2


# --- GET ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_get_answers_at_once_with_headers_and_first_bytes(revision: str) -> None:
    async with serving() as port:
        client = Legacy(port, revision)
        await client.initialize(complete=False)  # official clients open it before `initialized`
        async with client.get_stream() as stream:
            assert (stream.status, stream.head.content_type) == (200, SSE_TYPE)
            assert stream.headers["x-accel-buffering"] == "no"
            first = await stream.next_bytes()
            assert first is not None
            assert first.startswith(b"id: ") if revision == wire.D else first == b":\n\n"


async def test_get_without_a_session_is_405() -> None:
    async with serving() as port:
        for headers in ({}, {"MCP_Protocol_Version": wire.D}, {"Last_Event_ID": "x.1"}):
            response = await verb(port, "GET", **headers)
            assert response.status == 405
            assert "POST" in response.headers["allow"]


async def test_event_ids_that_cannot_be_resumed_are_400() -> None:
    store = MemoryEventStore(max_stream_events=3)
    steps = Steps()
    async with served(Tools(steps=steps), event_store=store) as client, Legacy(client.port, wire.D) as other:
        steps.say(*"12345")
        async with client.posting(call("steps")) as stream:
            assert [said(await stream.next_message()) for _ in range(5)] == list("12345")
            prime, last = stream.seen[0].id, stream.seen[-1].id
            name = str(last).rpartition(".")[0]
            for wrong in (
                prime, f"{name}.1", f"{name}.6", f"{name}.-1", f"{name}.", f"{name}.x", name, "", ".", "x.1",
                f"{name}.\u0663".encode().decode("latin-1"), f"{name}.{'9' * 30}",
            ):  # fmt: skip
                async with client.get_stream(wrong) as refused:
                    assert refused.status == 400, wrong
            async with other.get_stream(last) as foreign:
                assert foreign.status == 400
            steps.say(None)
            assert await rest(stream) == ["done"], "none of it disturbed the reader"
        async with client.get_stream(f"{name}.3", in_reply_to="tools/call") as stream:
            assert await rest(stream) == ["4", "5", "done"]


async def test_a_resumed_stream_replays_its_own_messages_and_no_others() -> None:
    steps = Steps()
    handler = Tools(steps=steps, echo=echo)
    async with served(handler) as client:
        steps.say("1")
        async with client.posting(call("steps")) as stream:
            assert said(await stream.next_message()) == "1"
            last = stream.seen[-1].id
            stream.abort()
        handler.notify_tools_changed()
        steps.say("2")
        assert [said(m) for m in (await client.post(call("echo"), {"Accept": SSE_TYPE})).messages()] == ["echo"]
        async with client.get_stream(last, in_reply_to="tools/call") as stream, client.get_stream() as own:
            assert said(await stream.next_message()) == "2"
            steps.say("3", None)
            assert await rest(stream) == ["3", "done"]
            assert (await own.next_message())["method"] == "notifications/tools/list_changed"
            own_id = own.seen[-1].id
        handler.notify_prompts_changed()
        async with client.get_stream(own_id) as own:
            assert (await own.next_message())["method"] == "notifications/prompts/list_changed"


# --- expiry and caps ------------------------------------------------------------------------------


async def ended(port: int, session: str | None) -> None:
    """Ping every 0.3 seconds until the session is gone; a session of these tests expires sooner after a ping."""
    with anyio.fail_after(LIMIT):
        while True:
            await anyio.sleep(0.3)
            if (await post(port, PING, Mcp_Session_Id=session)).status == 404:
                return


@on_a_still_clock
async def test_an_idle_session_expires_and_one_with_a_stream_or_a_call_does_not() -> None:
    steps = Steps()
    async with serving(Tools(steps=steps), session_idle=0.2) as port:
        idle, reading, calling = (Legacy(port, wire.D) for _ in range(3))
        for client in (idle, reading, calling):
            await client.initialize()
        async with reading.get_stream() as stream:
            waiting = asyncio.ensure_future(calling.post(call("steps")))
            await ended(port, idle.session)
            steps.say(None)
            assert said((await waiting).json()) == "done"
            assert (await reading.call("ping")).result == {}
            assert not stream.ended
        await ended(port, calling.session)
        await ended(port, reading.session)


@on_a_still_clock
async def test_a_session_that_is_never_initialized_expires_sooner() -> None:
    async with serving(session_initialize=0.2) as port:
        half, whole = Legacy(port, wire.D), Legacy(port, wire.D)
        await half.initialize(complete=False)
        await whole.initialize()
        await ended(port, half.session)
        assert (await whole.call("ping")).result == {}


@on_a_still_clock
async def test_a_session_that_works_without_initialized_is_left_alone() -> None:
    async with serving(session_initialize=0.1) as port:
        busy, other = Legacy(port, wire.D), Legacy(port, wire.D)
        await busy.initialize(complete=False)
        async with busy.get_stream() as stream:
            await other.initialize(complete=False)
            await ended(port, other.session)
            assert stream.status == 200
        assert (await busy.call("ping")).result == {}


@pytest.mark.parametrize("cap", ["max_sessions", "max_sessions_peer"])
async def test_at_the_cap_the_longest_idle_makes_room_and_if_all_work_it_is_503(cap: str) -> None:
    steps = Steps()
    async with serving(Tools(steps=steps), **{cap: 2}) as port:
        one, two, three = (Legacy(port, wire.D) for _ in range(3))
        await one.initialize()
        await two.initialize()
        await one.call("ping")  # now `two` has rested longer
        await three.initialize()
        assert (await post(port, PING, Mcp_Session_Id=two.session)).status == 404
        async with one.get_stream(), three.get_stream():
            refused = await post(port, initialize())
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert (await one.call("ping")).result == (await three.call("ping")).result == {}
        waiting = [asyncio.ensure_future(client.post(call("steps"))) for client in (one, three)]
        for _ in waiting:
            await within(LIMIT, "a call", steps.started.get())
        assert (await post(port, initialize())).status == 503
        for _ in waiting:
            steps.say(None)
        assert [said((await task).json()) for task in waiting] == ["done", "done"]
        assert (await one.delete()).status == 204
        assert (await post(port, initialize())).status == 200


async def test_at_the_cap_of_one_address_no_session_of_another_makes_room() -> None:
    async with serving(trusted_proxies=("127.0.0.1",), max_sessions_peer=1) as port:
        sessions = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2"):
            opened = await post(port, initialize(), X_Forwarded_For=address)
            assert opened.status == 200
            sessions.append(opened.headers["mcp-session-id"])
        # The first session has been idle longest, but belongs to another client.
        found = [(await post(port, PING, Mcp_Session_Id=session)).status for session in sessions]
        assert found == [200, 404, 200]


# --- shutting down --------------------------------------------------------------------------------


async def test_a_get_that_is_still_being_let_in_when_the_server_ends_is_told_to_come_back() -> None:
    asked, answer, waits = asyncio.Event(), asyncio.Event(), False

    async def authorize(head: Any) -> str:
        if waits:
            asked.set()
            await answer.wait()
        return "ann"

    async with served(Tools(), authorize=authorize) as client, client.client() as connection:
        waits = True
        await connection.send_request("GET", "/mcp", {**client.headers_for(None), "Accept": SSE_TYPE})
        with anyio.fail_after(LIMIT):
            await asked.wait()
            closing = asyncio.ensure_future(client.server.aclose())
            while not client.server.draining:
                await anyio.sleep(0)
        answer.set()
        response = await connection.receive()
        assert (response.status, response.headers["retry-after"]) == (503, "1")
        await closing
        client.session = None


# --- without sessions -----------------------------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS)
async def test_stateless_needs_no_session_and_has_none(revision: str) -> None:
    async def sample(ctx: Context) -> str:
        assert ctx.session is None
        return (await ctx.sample("?")).text

    async with serving(Tools(echo=echo, talk=talk, sample=sample), stateless=True) as port:
        hello = await post(port, initialize(revision))
        assert hello.json()["result"]["protocolVersion"] == revision
        assert "mcp-session-id" not in hello.headers
        headers = {"MCP_Protocol_Version": revision, "Mcp_Session_Id": "whatever"}
        for message in (NOTE, ANSWER):
            assert (await post(port, message, **headers)).status == 202
        answer = await post(port, call("talk"), **headers)
        assert [said(m) for m in answer.messages()] == ["first", "done"]
        assert all(event.id is None for event in answer.events())
        assert (await post(port, call("sample"), **headers)).json()["result"]["isError"] is True
        assert (await post(port, [PING], **headers)).status == (200 if revision == wire.B else 400)
        for method in ("GET", "DELETE"):
            refused = await verb(port, method, **headers)
            assert (refused.status, refused.headers["allow"]) == (405, "POST, OPTIONS")


async def test_what_a_stateless_call_says_on_its_way_is_dropped_where_the_answer_is_json() -> None:
    async with serving(Tools(talk=talk), stateless=True, response="json") as port:
        answer = await post(port, call("talk"))
        assert (answer.status, answer.content_type, said(answer.json())) == (200, JSON_TYPE, "done")


# --- a session store of the user's own ------------------------------------------------------------


class Shared(MemorySessionManager):
    """Two servers on one store; keeps copies, as one outside the process would."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[str] = set()
        self.away = False

    async def load(self, session_id: str) -> SessionState | None:
        if self.away:
            raise OSError("away")
        state = await super().load(session_id)
        return None if state is None else SessionState(**{**vars(state), "subscriptions": set(state.subscriptions)})

    async def create(self, state: SessionState) -> None:
        await self.save(state)

    async def save(self, state: SessionState) -> None:
        if self.away:
            raise OSError("away")
        await super().save(SessionState(**{**vars(state), "subscriptions": set(state.subscriptions)}))

    async def touch(self, session_id: str) -> None:
        if self.away:
            raise OSError("away")
        self.touched.add(session_id)


async def test_a_session_goes_on_at_another_server_with_all_that_it_is() -> None:
    manager, handler = Shared(), Tools(talk=talk)
    async with serving(session_manager=manager) as first, serving(handler, session_manager=manager) as second:
        client = Legacy(first, wire.C)
        await client.initialize()
        await client.call("logging/setLevel", {"level": "error"})
        await client.call("resources/subscribe", {"uri": "test://a"})
        await client.call("resources/subscribe", {"uri": "test://b"})
        await client.call("resources/unsubscribe", {"uri": "test://b"})
        client.port = second
        async with client.get_stream() as stream:
            assert stream.status == 200
            handler.notify_resource_updated("test://b")
            handler.notify_resource_updated("test://a")
            assert await stream.next_message() == updated("test://a")
        assert (await client.call("tools/call", {"name": "talk"})).notifications == []
        async with serving(session_manager=manager) as third:
            assert (await post(third, initialize(), Mcp_Session_Id=client.session)).status == 200
            deleted = await verb(third, "DELETE", Mcp_Session_Id=client.session)
            assert deleted.status == 204
            assert (await post(third, PING, Mcp_Session_Id=client.session)).status == 404
            assert (await verb(third, "GET", Mcp_Session_Id="unknown")).status == 404


async def test_a_server_that_ends_leaves_the_sessions_of_its_store() -> None:
    manager = Shared()
    async with serving(session_manager=manager) as port:
        client = Legacy(port, wire.D)
        await client.initialize()
    async with serving(session_manager=manager) as client.port:
        assert (await client.call("ping")).result == {}


async def test_requests_that_restore_a_session_side_by_side_find_one_session() -> None:
    loads: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    class Slow(Shared):
        async def load(self, session_id: str) -> SessionState | None:
            state = await super().load(session_id)
            if held:
                go: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                loads.put_nowait(go)
                await go
            return state

    held, manager, handler = False, Slow(), Tools()
    async with serving(session_manager=manager) as first, serving(handler, session_manager=manager) as second:
        client = Legacy(first, wire.D)
        await client.initialize()
        client.port, held = second, True
        uris = ["test://a", "test://b"]
        subscribing = [asyncio.ensure_future(client.call("resources/subscribe", {"uri": uri}, id=uri)) for uri in uris]
        with anyio.fail_after(LIMIT):
            waiting = [await loads.get() for _ in uris]
        for go in waiting:
            go.set_result(None)
        assert [(await answer).result for answer in subscribing] == [{}, {}]
        async with client.get_stream() as stream:
            for uri in uris:
                handler.notify_resource_updated(uri)
            assert [await stream.next_message() for _ in uris] == [updated(uri) for uri in uris]
        held = False
        assert (await client.delete()).status == 204


@pytest.mark.usefixtures("quiet")
async def test_a_store_that_is_away_when_it_is_told_of_use_is_told_again() -> None:
    tried = asyncio.Event()

    class Absent(Shared):
        async def touch(self, session_id: str) -> None:
            tried.set()
            await super().touch(session_id)

    manager = Absent()
    async with serving(session_manager=manager, session_idle=0.4) as port:
        client = Legacy(port, wire.D)
        await client.initialize()
        async with client.get_stream():
            manager.away = True
            tried.clear()
            with anyio.fail_after(LIMIT):
                await tried.wait()
            manager.away = False
            manager.touched.clear()
            with anyio.fail_after(LIMIT):
                while client.session not in manager.touched:
                    await anyio.sleep(0.02)
            assert (await client.call("ping")).result == {}


@pytest.mark.parametrize("use", ["a stream", "a long call", "short calls"])
async def test_a_store_hears_of_use(use: str) -> None:
    manager, steps = Shared(), Steps()
    async with serving(Tools(steps=steps), session_manager=manager, session_idle=0.4) as port:
        client = Legacy(port, wire.D)
        await client.initialize()

        async def touched(ask: bool) -> None:
            for _ in range(2):
                manager.touched.clear()
                with anyio.fail_after(LIMIT):
                    while client.session not in manager.touched:
                        assert not ask or (await client.call("ping")).result == {}
                        await anyio.sleep(0.02)

        if use == "a stream":
            async with client.get_stream():
                await touched(ask=False)
        elif use == "a long call":
            waiting = asyncio.ensure_future(client.post(call("steps")))
            await touched(ask=False)
            steps.say(None)
            await waiting
        else:
            await touched(ask=True)


@pytest.mark.usefixtures("quiet")
async def test_a_session_store_that_is_away_is_503_and_never_404() -> None:
    manager = Shared()
    async with serving(session_manager=manager, session_idle=0.2) as port:
        client = Legacy(port, wire.D)
        await client.initialize()
        manager.away = True
        assert (await post(port, initialize())).status == 503
        for response in (
            await post(port, PING, Mcp_Session_Id="elsewhere"),
            await verb(port, "GET", Mcp_Session_Id="elsewhere"),
            await verb(port, "DELETE", Mcp_Session_Id="elsewhere"),
        ):
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        assert (await client.call("logging/setLevel", {"level": "error"})).result == {}
        manager.away = False
        assert (await post(port, PING, Mcp_Session_Id="elsewhere")).status == 404
        restored = await post(port, [PING], Mcp_Session_Id=client.session)
        assert restored.status == 400


@pytest.mark.parametrize("last_event_id", [None, "s.1"])
async def test_a_session_that_is_deleted_in_the_turn_of_a_get_has_no_stream(last_event_id: str | None) -> None:
    async with serving() as port:
        session = Legacy(port, wire.D)
        await session.initialize()
        headers = {"Accept": SSE_TYPE, "Mcp-Session-Id": session.session, "Last-Event-ID": last_event_id}
        async with RawClient(port) as listens, RawClient(port) as deletes:
            # The server is on this loop: it reads both requests in its next turn, in this order.
            listens.writer.write(listens.head("GET", "/mcp", headers))
            deletes.writer.write(deletes.head("DELETE", "/mcp", headers))
            assert (await deletes.receive("DELETE")).status == 204
            answer = await listens.receive_stream("GET")
            assert answer.status == 404 and "id" not in (await answer.read()).json()


async def test_a_session_of_somebody_else_takes_no_longer_to_refuse_than_one_that_never_was() -> None:
    def authorize(head: Any) -> str | None:
        return head.get("authorization")

    async with listening(MCPServer("owned"), port=0, authorize=authorize) as running:
        owner = Legacy(running.port, wire.D)
        owner.extra_headers = {"Authorization": "alice"}
        await owner.initialize()
        body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        times: dict[str, list[float]] = {str(owner.session): [], "x" * len(str(owner.session)): []}
        async with RawClient(running.port) as client:
            for _ in range(150):
                for session, seen in times.items():
                    headers = {
                        "Content-Type": "application/json",
                        "Accept": "application/json, text/event-stream",
                        "Authorization": "mallory",
                        "Mcp-Session-Id": session,
                    }
                    began = time.perf_counter()
                    response = await client.request("POST", "/mcp", headers, body)
                    seen.append(time.perf_counter() - began)
                    assert response.status == 404
    foreign, unknown = map(min, times.values())  # what else the machine does only adds to a time
    assert 0.5 < foreign / unknown < 2

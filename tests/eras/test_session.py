# SPDX-License-Identifier: MIT
"""A legacy session over sockets: calls, questions to the client, cancelling, levels, subscriptions."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
import wire
from rawclient import BOTH, JSON_TYPE, LIMIT, SSE_TYPE, Legacy, Stream
from sessions_support import LEGACY_HTTP, GatedStore, Steps, Tools, call, echo, quiet, rest, said, served, updated

from mcp_h11 import Context, Elicit, ElicitURL, InputRequired, ListRoots, MCPServer, Sample, ServerHandler, listening
from mcp_h11.endpoint.streams import MAX_STREAMS
from mcp_h11.eras.session import MAX_ROUNDS
from mcp_h11.protocol.errors import MCPError

pytestmark = pytest.mark.anyio
__all__ = ["quiet"]

REVISIONS = [wire.A, *LEGACY_HTTP]
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
SAMPLED = {"role": "assistant", "content": {"type": "text", "text": "yes"}, "model": "m"}
ANSWERS: dict[str, dict[str, Any]] = {
    "sampling/createMessage": {"result": SAMPLED},
    "elicitation/create": {"result": {"action": "accept", "content": {"name": "Ann"}}},
    "roots/list": {"result": {"roots": [{"uri": "file:///home"}]}},
}
EVERYTHING = {"sampling": {}, "roots": {}, "elicitation": {"form": {}, "url": {}}}


def answering(request: dict[str, Any]) -> dict[str, Any]:
    return ANSWERS[request["method"]]


class Asking(Legacy):
    """A client that declares the capabilities for questions."""

    capabilities: dict[str, Any] = EVERYTHING

    async def __aenter__(self) -> Asking:
        await self.initialize(self.capabilities)
        return self


async def sample(ctx: Context) -> str:
    return (await ctx.sample("?")).text


async def roots(ctx: Context) -> str:
    return str((await ctx.list_roots())[0]["uri"])


async def form(ctx: Context) -> str:
    answer = await ctx.elicit("Who?", FORM)
    return f"{answer.action} {answer.data}"


async def url(ctx: Context) -> str:
    return (await ctx.elicit_url("Pay", "https://pay.example/1", "e1")).action


async def three(ctx: Context) -> str:
    found = await ctx.ask(a=Sample("?"), b=ListRoots(), c=Elicit("Who?", FORM))
    return f"{found['a'].text} {found['b'][0]['uri']} {found['c'].data['name']}"


def asking(**more: Any) -> Tools:
    return Tools(sample=sample, roots=roots, form=form, url=url, three=three, echo=echo, **more)


async def text_of(client: Legacy, name: str, **options: Any) -> str:
    answer = await client.call("tools/call", {"name": name}, **options)
    return str(answer.result["content"][0]["text"])


# --- questions to the client ----------------------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS)
async def test_questions_travel_on_the_stream_of_their_call_and_answers_by_post(revision: str) -> None:
    async with listening(asking(), port=0) as server, Asking(server.port, revision) as client:
        assert await text_of(client, "sample", answerer=answering) == "yes"
        assert await text_of(client, "roots", answerer=answering) == "file:///home"
        if revision >= wire.C:
            assert await text_of(client, "form", answerer=answering) == "accept {'name': 'Ann'}"
            assert await text_of(client, "three", answerer=answering) == "yes file:///home Ann"
        else:
            assert "has no elicitation" in await text_of(client, "form")
        if revision == wire.D:
            answer = await client.call("tools/call", {"name": "url"}, answerer=answering)
            assert answer.requests[0]["params"] == {
                "mode": "url", "message": "Pay", "url": "https://pay.example/1", "elicitationId": "e1"
            }  # fmt: skip
        else:
            assert "has no elicitation" in await text_of(client, "url")


@pytest.mark.parametrize("name", ["sample", "roots", "form", "url", "three"])
async def test_what_the_client_did_not_declare_is_not_asked(name: str) -> None:
    async with served(asking()) as client:
        answer = await client.call("tools/call", {"name": name})
        assert (answer.status, answer.requests, answer.result["isError"]) == (200, [], True)
        assert "did not declare a capability" in answer.result["content"][0]["text"]


async def test_ids_of_questions_are_never_used_twice_and_answers_find_their_own() -> None:
    async with listening(asking(), port=0) as server, Asking(server.port, wire.D) as client:
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(client.posting(call("roots", id=1))) for _ in range(4)]
            asked = [await stream.next_message() for stream in streams]
            assert len({question["id"] for question in asked}) == 4
            for number, question in reversed(list(enumerate(asked))):
                result = {"roots": [{"uri": f"file:///{number}"}]}
                assert (await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result})).status == 202
                assert await rest(streams[number]) == [f"file:///{number}"]
            late = await client.post({"jsonrpc": "2.0", "id": asked[0]["id"], "result": {"roots": []}})
            assert (late.status, late.body) == (202, b"")


async def test_to_ask_nothing_asks_nobody_and_waits_for_nothing() -> None:
    async def nothing(ctx: Context) -> str:
        return f"{await ctx.ask()}"

    async with served(Tools(nothing=nothing)) as client:
        answer = await client.call("tools/call", {"name": "nothing"})
        assert (answer.requests, answer.result["content"][0]["text"]) == ([], "{}")


@pytest.mark.parametrize("id", ["server-99", 1, "x"])
async def test_answers_that_nobody_waits_for_are_swallowed(id: str | int) -> None:
    async with served(Tools()) as client:
        for body in ({"result": {}}, {"error": {"code": 1, "message": "no"}}):
            response = await client.post({"jsonrpc": "2.0", "id": id, **body})
            assert (response.status, response.body) == (202, b"")


async def test_a_refusal_of_the_client_is_the_error_of_the_call() -> None:
    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"code": -1, "message": "User rejected sampling request"}}

    async with listening(asking(), port=0) as server, Asking(server.port, wire.D) as client:
        answer = await client.call("tools/call", {"name": "sample"}, answerer=refuse)
        assert answer.error["code"] == -1
        assert "User rejected" in answer.error["message"]
        answer = await client.call("tools/call", {"name": "three"}, answerer=refuse)
        assert answer.error["code"] == -1


@pytest.mark.parametrize("result", [{}, {"action": "maybe"}, {"action": "accept"}, {"action": "accept", "content": {}}])
async def test_an_answer_of_the_wrong_shape_is_a_tool_error(result: dict[str, Any]) -> None:
    async with listening(asking(), port=0) as server, Asking(server.port, wire.D) as client:
        answer = await client.call("tools/call", {"name": "form"}, answerer=lambda request: {"result": result})
        assert answer.result["isError"] is True


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_to_decline_is_an_answer(action: str) -> None:
    async with listening(asking(), port=0) as server, Asking(server.port, wire.C) as client:
        assert (
            await text_of(client, "form", answerer=lambda request: {"result": {"action": action}}) == f"{action} None"
        )


async def test_a_question_that_is_not_answered_is_given_up_and_the_client_told() -> None:
    async with listening(asking(), port=0, ask_timeout=0.1) as server, Asking(server.port, wire.D) as client:
        async with client.posting(call("sample")) as stream:
            question = await stream.next_message()
            given_up = await stream.next_message()
            assert given_up["method"] == "notifications/cancelled"
            assert given_up["params"]["requestId"] == question["id"]
            answer = await stream.next_message()
            assert answer["result"]["isError"] is True
        assert (await client.post({"jsonrpc": "2.0", "id": question["id"], "result": SAMPLED})).status == 202


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_where_the_call_takes_no_events_the_question_goes_to_the_sessions_stream(revision: str) -> None:
    async with listening(asking(), port=0, response="json") as server, Asking(server.port, revision) as client:
        waiting = asyncio.ensure_future(client.post(call("sample", token="t")))
        async with client.get_stream() as stream:
            question = await stream.next_message()
            assert question["method"] == "sampling/createMessage"
            assert (await client.post({"jsonrpc": "2.0", "id": question["id"], "result": SAMPLED})).status == 202
            response = await waiting
            assert (response.content_type, said(response.json())) == (JSON_TYPE, "yes")


async def test_progress_that_nobody_can_see_is_not_kept() -> None:
    async def busy(ctx: Context) -> str:
        for number in range(300):
            await ctx.report_progress(number)
        return "done"

    handler = Tools(busy=busy)
    async with served(handler, response="json") as client:
        handler.notify_tools_changed()
        assert said((await client.post(call("busy", token="t"))).json()) == "done"
        async with client.get_stream() as stream:
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
            handler.notify_prompts_changed()
            assert (await stream.next_message())["method"] == "notifications/prompts/list_changed"


@pytest.mark.parametrize("revision", REVISIONS)
async def test_input_required_is_asked_the_way_the_revision_asks(revision: str) -> None:
    async def rounds(ctx: Context) -> Any:
        if ctx.input_responses is None:
            return InputRequired({"one": Sample("?"), "two": ListRoots()}, state="first")
        if ctx.request_state == "first":
            assert set(ctx.input_responses) == {"one", "two"}
            return InputRequired(state="second")
        return f"{ctx.request_state} {ctx.input_responses}"

    async def endless(ctx: Context) -> Any:
        return InputRequired(state="again")

    handler = Tools(rounds=rounds, endless=endless)
    async with listening(handler, port=0) as server, Asking(server.port, revision) as client:
        assert await text_of(client, "rounds", answerer=answering) == "second {}"
        assert (await client.call("tools/call", {"name": "endless"})).error["code"] == -32603


@pytest.mark.parametrize("more", [0, 1])
async def test_input_may_be_asked_for_so_many_times_and_no_more(more: int) -> None:
    async def rounds(ctx: Context) -> Any:
        asked = int(ctx.request_state or 0)
        if asked < MAX_ROUNDS + more:
            return InputRequired({"one": ListRoots()}, state=str(asked + 1))
        return f"asked {asked} times"

    async with listening(Tools(rounds=rounds), port=0) as server, Asking(server.port, wire.D) as client:
        answer = await client.call("tools/call", {"name": "rounds"}, answerer=answering)
        assert len(answer.requests) == MAX_ROUNDS
        if more:
            assert answer.error["code"] == -32603
        else:
            assert answer.result["content"][0]["text"] == f"asked {MAX_ROUNDS} times"


async def test_a_list_that_asks_while_the_session_is_busy_keeps_its_place() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def hold(ctx: Context) -> str:
        began.set()
        await go_on.wait()
        return "held"

    class Lists(Tools):
        async def list_tools(self, params: dict[str, Any], ctx: Context) -> dict[str, Any]:
            name = (await ctx.list_roots())[0]["uri"]
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}}]}

    options: dict[str, Any] = {"port": 0, "max_running_session": 1, "patience": 0.05}
    async with listening(Lists(hold=hold), **options) as server, Asking(server.port, wire.D) as client:
        async with client.posting(call("hold")) as held:
            with anyio.fail_after(LIMIT):
                await began.wait()
            answer = await client.call("tools/list", answerer=answering)
            assert [tool["name"] for tool in answer.result["tools"]] == ["file:///home"]
            gate = server.endpoint.legacy.sessions[client.session].gate
            assert (gate.inside, server.runtime.asking.total) == (1, 0)
            go_on.set()
            assert await rest(held) == ["held"]


async def test_a_question_that_is_open_when_the_session_ends_is_given_up() -> None:
    ended: list[str] = []

    async def ask(ctx: Context) -> str:
        try:
            return (await ctx.sample("?")).text
        finally:
            ended.append("given up")

    async with listening(asking(ask=ask), port=0) as server:
        client = Asking(server.port, wire.D)
        await client.initialize(EVERYTHING)
        async with client.posting(call("ask")) as stream:
            question = await stream.next_message()
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": SAMPLED}
            headers = client.headers_for(None)
            assert (await client.delete()).status == 204
            assert await rest(stream) == [], "the stream ends, and with no answer"
        with anyio.fail_after(LIMIT):
            while not ended or server.runtime.tasks:
                await anyio.lowlevel.checkpoint()
        assert (await client.post(answer, headers)).status == 404


async def test_a_thread_that_waits_for_an_answer_is_let_go_when_the_session_ends() -> None:
    server, left = MCPServer(), threading.Event()

    @server.tool
    def ask(ctx: Context) -> str:
        try:
            return str(ctx.wait(ctx.sample("?")).text)
        finally:
            left.set()

    async with listening(server, port=0) as running:
        client = Asking(running.port, wire.D)
        await client.initialize(EVERYTHING)
        async with client.posting(call("ask")) as stream:
            assert (await stream.next_message())["method"] == "sampling/createMessage"
            assert (await client.delete()).status == 204
            assert await rest(stream) == []
        with anyio.fail_after(LIMIT):
            while not left.is_set():
                await anyio.lowlevel.checkpoint()


# --- cancelling and losing ------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_a_cancelled_call_stops_and_its_exchange_ends(revision: str, streaming: bool) -> None:
    steps = Steps()
    async with served(Tools(steps=steps, echo=echo), revision) as client, client.client() as connection:
        await connection.send_request("POST", "/mcp", client.headers_for(None), body(call("steps", id="c")))
        if streaming:
            steps.say("1")
            stream = await connection.receive_stream()
            assert said(await stream.next_message()) == "1"
        await started(client, steps)
        for wrong in ("d", 1, None, True, {"c": 1}, 1.5):
            assert (await client.notify("notifications/cancelled", {"requestId": wrong})).status == 202
        assert not steps.cancelled.is_set()
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        with anyio.fail_after(LIMIT):
            await steps.cancelled.wait()
        if not streaming:
            stream = await connection.receive_stream()
            assert stream.status == 200
        assert await stream.next_message() is None, '"not send a response", but end'
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202


def body(message: Any) -> bytes:
    return json.dumps(message).encode()


async def started(client: Legacy, steps: Steps) -> None:
    with anyio.fail_after(LIMIT):
        while steps.ctx is None:
            await anyio.lowlevel.checkpoint()


async def test_a_cancelled_call_that_may_only_answer_json_is_told_so() -> None:
    steps = Steps()
    async with served(Tools(steps=steps), response="json") as client:
        waiting = asyncio.ensure_future(client.post(call("steps", id=3)))
        await started(client, steps)
        await client.notify("notifications/cancelled", {"requestId": 3})
        response = await waiting
        assert (response.status, response.json()["error"]["code"], response.json()["id"]) == (200, -32800, 3)


async def test_two_calls_with_one_id_get_their_own_answers_and_neither_is_cancelled() -> None:
    one, two = Steps(), Steps()
    async with served(Tools(one=one, two=two)) as client:
        first = asyncio.ensure_future(client.post(call("one", id=1)))
        second = asyncio.ensure_future(client.post(call("two", id=1)))
        await started(client, one)
        await started(client, two)
        await client.notify("notifications/cancelled", {"requestId": 1})  # the server cannot tell which call is meant
        two.say("from two", None)
        assert [said(m) for m in (await second).messages()] == ["from two", "done"]
        one.say("from one", None)
        assert [said(m) for m in (await first).messages()] == ["from one", "done"]


async def test_1_and_the_string_1_are_two_ids() -> None:
    one, two = Steps(), Steps()
    async with served(Tools(one=one, two=two)) as client:
        first = asyncio.ensure_future(client.post(call("one", id=1)))
        second = asyncio.ensure_future(client.post(call("two", id="1")))
        await started(client, one)
        await started(client, two)
        await client.notify("notifications/cancelled", {"requestId": "1"})
        with anyio.fail_after(LIMIT):
            await two.cancelled.wait()
        assert (await second).messages() == []
        one.say(None)
        answer = (await first).json()
        assert (answer["id"], said(answer)) == (1, "done")


@pytest.mark.parametrize("revision", LEGACY_HTTP)
async def test_a_lost_connection_does_not_cancel(revision: str) -> None:
    steps, done = Steps(), asyncio.Event()

    async def work(ctx: Context) -> str:
        result = await steps(ctx)
        done.set()
        return result

    async with served(Tools(work=work, echo=echo), revision) as client:
        async with client.client() as connection:
            await connection.send_request("POST", "/mcp", client.headers_for(None), body(call("work")))
            await started(client, steps)
            assert steps.ctx is not None and not steps.ctx.disconnected.is_set()
            connection.abort()
        with anyio.fail_after(LIMIT):
            await steps.ctx.disconnected.wait()
        steps.say(None)
        with anyio.fail_after(LIMIT):
            await done.wait()
        assert not steps.cancelled.is_set()
        assert await text_of(client, "echo") == "echo"


async def test_a_call_whose_client_has_gone_can_still_be_cancelled() -> None:
    steps = Steps()
    async with served(Tools(steps=steps, echo=echo)) as client:
        async with client.client() as connection:
            await connection.send_request("POST", "/mcp", client.headers_for(None), body(call("steps", id="c")))
            await started(client, steps)
            connection.abort()
        assert steps.ctx is not None
        with anyio.fail_after(LIMIT):
            await steps.ctx.disconnected.wait()
        assert (await client.notify("notifications/cancelled", {"requestId": "c"})).status == 202
        with anyio.fail_after(LIMIT):
            await steps.cancelled.wait()
        assert await text_of(client, "echo") == "echo"


async def test_a_call_whose_client_has_gone_has_no_stream_to_close_and_closes_no_other() -> None:
    steps, handler = Steps(), Tools()
    handler.tools = {"steps": steps}
    async with served(handler) as client, client.get_stream() as own:
        async with client.client() as connection:
            await connection.send_request("POST", "/mcp", client.headers_for(None), body(call("steps")))
            await started(client, steps)
            connection.abort()
        assert steps.ctx is not None
        with anyio.fail_after(LIMIT):
            await steps.ctx.disconnected.wait()
        await steps.ctx.close_sse_stream()
        steps.say("on the session's stream, as nobody reads the call's", None)
        assert said(await own.next_message()).startswith("on the session's stream")
        handler.notify_tools_changed()
        assert (await own.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("first", [["1"], []])
async def test_what_a_call_says_after_its_answer_is_dropped(first: list[str]) -> None:
    steps, handler = Steps(), Tools()
    handler.tools = {"steps": steps}
    async with served(handler) as client, client.get_stream() as own:
        steps.say(*first, None)
        answer = await client.post(call("steps", token="t"))
        assert [said(message) for message in answer.messages()] == [*first, "done"]
        assert steps.ctx is not None
        await steps.ctx.info("late")
        await steps.ctx.report_progress(1)
        handler.notify_tools_changed()
        assert (await own.next_message())["method"] == "notifications/tools/list_changed"
        if first:
            async with client.get_stream(answer.events()[-1].id) as stream:
                assert stream.status == 204


async def test_a_cancel_that_comes_too_late_leaves_the_answer_alone() -> None:
    steps, store = Steps(), GatedStore()
    async with served(Tools(steps=steps), event_store=store) as client:
        steps.say("1")
        async with client.posting(call("steps", id=5)) as stream:
            assert said(await stream.next_message()) == "1"
            store.hold()
            steps.say(None)
            with anyio.fail_after(LIMIT):
                await store.kept.wait()  # the answer is on its way into the store
            await client.notify("notifications/cancelled", {"requestId": 5})
            store.gate.set()
            assert await rest(stream) == ["done"]


# --- what the session answers by itself -----------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS)
async def test_ping_is_answered_at_any_time_with_nothing(revision: str) -> None:
    async with listening(Tools(), port=0) as server:
        client = Legacy(server.port, revision)
        await client.initialize(complete=False)
        assert (await client.call("ping")).result == {}
        await client.notify("notifications/initialized")
        assert (await client.call("ping", {"_meta": {}})).result == {}


LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]


@pytest.mark.parametrize("level", LEVELS)
async def test_the_log_level_filters_for_its_session_alone(level: str) -> None:
    async def chatter(ctx: Context) -> str:
        for one in LEVELS:
            await ctx.log(one, one)
        return "done"

    async with served(Tools(chatter=chatter)) as client, Legacy(client.port, wire.A) as other:
        assert (await client.call("logging/setLevel", {"level": level})).result == {}
        _, notifications = await client.call("tools/call", {"name": "chatter"})
        assert [n["params"]["level"] for n in notifications] == LEVELS[LEVELS.index(level) :]
        _, notifications = await other.call("tools/call", {"name": "chatter"})
        assert [n["params"]["level"] for n in notifications] == LEVELS[1:]


@pytest.mark.parametrize("params", [{}, {"level": "loud"}, {"level": 1}, {"level": None}])
async def test_a_level_that_is_none_is_refused(params: dict[str, Any]) -> None:
    async with served(Tools()) as client:
        assert (await client.call("logging/setLevel", params)).error["code"] == -32602


@pytest.mark.parametrize("revision", REVISIONS)
async def test_updates_go_to_subscribers_only_and_lists_to_all_that_are_initialized(revision: str) -> None:
    handler = Tools()
    async with listening(handler, port=0) as server, AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Legacy(server.port, revision)) for _ in range(2)]
        early = Legacy(server.port, revision)
        await early.initialize(complete=False)
        streams: list[Stream] = [await stack.enter_async_context(c.get_stream()) for c in (one, two, early)]
        for client in (one, early):
            assert (await client.call("resources/subscribe", {"uri": "test://a"})).result == {}
        handler.notify_resource_updated("test://a")
        handler.notify_resource_updated("test://b")
        handler.notify_tools_changed()
        assert await streams[0].next_message() == updated("test://a")
        for stream in streams[:2]:
            assert (await stream.next_message())["method"] == "notifications/tools/list_changed"
        assert (await one.call("resources/unsubscribe", {"uri": "test://a"})).result == {}
        handler.notify_resource_updated("test://a")
        await early.notify("notifications/initialized")
        handler.notify_prompts_changed()
        for stream in streams:
            assert (await stream.next_message())["method"] == "notifications/prompts/list_changed"


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
@pytest.mark.parametrize("params", [{}, {"uri": 1}, {"uri": ""}])
async def test_a_subscription_names_a_uri(method: str, params: dict[str, Any]) -> None:
    async with served(Tools()) as client:
        assert (await client.call(method, params)).error["code"] == -32602


async def test_subscriptions_are_capped() -> None:
    async with served(Tools(), max_subscriptions=2) as client:
        for uri in ("test://1", "test://2", "test://2"):
            assert (await client.call("resources/subscribe", {"uri": uri})).result == {}
        assert (await client.call("resources/subscribe", {"uri": "test://3"})).error["code"] == -32602


async def test_what_is_not_offered_is_no_method() -> None:
    class Bare(Tools):
        def capabilities(self) -> dict[str, Any]:
            return {"tools": {}}

    async with served(Bare()) as client:
        for method, params in (
            ("logging/setLevel", {"level": "info"}),
            ("resources/subscribe", {"uri": "test://1"}),
            ("resources/unsubscribe", {"uri": "test://1"}),
        ):
            assert (await client.call(method, params)).error["code"] == -32601


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("method", ["server/discover", "tasks/list", "no/such", "prompts/list"])
async def test_a_method_of_no_or_another_revision_is_not_found_on_200(revision: str, method: str) -> None:
    async with served(Tools(), revision) as client:
        answer = await client.call(method)
        assert (answer.status, answer.error["code"]) == (200, -32601)


@pytest.mark.usefixtures("quiet")
async def test_errors_of_a_call_are_json_on_200() -> None:
    async def bad(ctx: Context) -> Any:
        return {"content": [{"type": "text", "text": object()}]}

    async def own(ctx: Context) -> Any:
        raise MCPError(-5, "mine", {"why": 1})

    async with served(Tools(bad=bad, own=own), response="sse") as client:
        client.check = False
        for name, code in (("bad", -32603), ("own", -5)):
            answer = await client.call("tools/call", {"name": name})
            assert (answer.status, answer.headers["content-type"]) == (200, JSON_TYPE)
            assert answer.error["code"] == code
        missing = await client.call("resources/read", {"uri": "test://x"})
        assert (missing.error["code"], missing.error["data"]) == (-32002, {"uri": "test://x"})


@pytest.mark.usefixtures("quiet")
async def test_notifications_reach_the_handler_and_what_it_raises_stays_here() -> None:
    class Deaf(Tools):
        async def notification(self, method: str, params: dict[str, Any], ctx: Any) -> None:
            await super().notification(method, params, ctx)
            raise RuntimeError("no")

    handler = Deaf()
    async with served(handler) as client:
        for method in ("notifications/roots/list_changed", "notifications/progress", "x/y"):
            assert (await client.notify(method, {"a": 1})).status == 202
        assert (await client.call("ping")).result == {}
        assert handler.told == [("notifications/roots/list_changed", {"a": 1}), ("x/y", {"a": 1})]


async def test_a_call_knows_its_session_and_its_client() -> None:
    seen: dict[str, Any] = {}

    async def look(ctx: Context) -> str:
        seen.update(id=ctx.session.id, info=ctx.client_info, version=ctx.protocol_version, accept=ctx.headers["accept"])
        return "done"

    async with served(Tools(look=look), wire.C) as client:
        await text_of(client, "look")
        assert seen["id"] == client.session
        assert (seen["info"]["name"], seen["version"], seen["accept"]) == ("rawclient", wire.C, BOTH)


async def test_unfinished_is_what_a_closed_session_leaves_nothing_of() -> None:
    steps = Steps()
    async with served(Tools(steps=steps)) as client:
        steps.say("1")
        async with client.posting(call("steps")) as stream, client.get_stream() as own:
            assert said(await stream.next_message()) == "1"
            assert (await client.delete()).status == 204
            assert await rest(stream) == []
            assert await own.next_message() is None
            with anyio.fail_after(LIMIT):
                await steps.cancelled.wait()


async def test_raw_and_url_questions_of_input_required() -> None:
    async def ask(ctx: Context) -> Any:
        if ctx.input_responses is None:
            raw = {"method": "roots/list", "params": {}}
            return InputRequired({"raw": raw, "url": ElicitURL("Pay", "https://pay.example", "1")})
        return f"{ctx.input_responses['raw']['roots'][0]['uri']} {ctx.input_responses['url']['action']}"

    async with listening(Tools(ask=ask), port=0) as server, Asking(server.port, wire.D) as client:
        assert await text_of(client, "ask", answerer=answering) == "file:///home accept"


async def test_a_very_old_finished_stream_is_forgotten_and_a_running_one_is_not() -> None:
    steps = Steps()
    async with served(Tools(steps=steps, echo=echo)) as client:
        steps.say("1")
        headers = {"Accept": SSE_TYPE}
        async with client.posting(call("echo", id=0), headers) as stream:
            assert await rest(stream) == ["echo"]
            oldest = stream.seen[-1].id
        async with client.posting(call("steps", id=0)) as stream:
            assert said(await stream.next_message()) == "1"
            running = stream.seen[-1].id
        async with client.client() as connection:
            for number in range(256):
                message = body(call("echo", id=number))
                response = await connection.request("POST", "/mcp", {**client.headers_for(None), **headers}, message)
                assert [said(m) for m in response.messages()] == ["echo"]
        async with client.get_stream(oldest) as stream:
            assert stream.status == 400
        steps.say(None)
        async with client.get_stream(running, in_reply_to="tools/call") as stream:
            assert await rest(stream) == ["done"]


@pytest.mark.long
async def test_streams_that_still_run_are_remembered_however_many_there_are() -> None:
    release, count = asyncio.Event(), MAX_STREAMS + 1

    async def wait(ctx: Context) -> str:
        await ctx.info("began")
        await release.wait()
        return "done"

    options = {"max_running": None, "max_running_session": None}
    async with served(Tools(wait=wait), **options) as client:
        primes = []
        for number in range(count):
            async with client.posting(call("wait", id=number)) as stream:
                assert said(await stream.next_message()) == "began"
                primes.append(stream.seen[-1].id)
        release.set()
        for prime in (primes[0], primes[-1]):
            async with client.get_stream(prime, in_reply_to="tools/call") as stream:
                assert await rest(stream) == ["done"]


class Plain(ServerHandler):
    """A handler with hooks that are plain functions, and that fail when the test says so."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def list_resources(self, params: Any, ctx: Any) -> Any:
        return {"resources": []}

    def subscribe(self, uri: str, ctx: Any) -> None:
        if uri == "x://bad":
            raise RuntimeError("secret")
        if uri == "x://exit":
            raise SystemExit(3)
        self.heard.append(uri)

    def unsubscribe(self, uri: str, ctx: Any) -> None:
        self.heard.append("-" + uri)

    def set_level(self, level: str, ctx: Any) -> None:
        self.heard.append(level)

    def notification(self, method: str, params: Any, ctx: Any) -> None:
        self.heard.append(method)


async def test_hooks_may_be_plain_functions_and_their_failures_give_nothing_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = Plain()
    async with listening(handler, port=0) as running, Legacy(running.port, "2025-11-25") as client:
        for method, params in (
            ("resources/subscribe", {"uri": "x://a"}),
            ("resources/unsubscribe", {"uri": "x://a"}),
            ("logging/setLevel", {"level": "error"}),
        ):
            assert (await client.call(method, params)).result == {}
        await client.notify("notifications/custom")
        for uri in ("x://bad", "x://exit"):
            answer = await client.call("resources/subscribe", {"uri": uri})
            assert answer.error == {"code": -32603, "message": "Internal error"}
        assert (await client.call("ping")).result == {}
    assert handler.heard == ["x://a", "-x://a", "error", "notifications/custom"]
    assert "secret" in caplog.text


async def test_a_call_that_swallows_its_cancellation_is_not_answered() -> None:
    server = MCPServer("stubborn")
    began = asyncio.Event()

    @server.tool
    async def stubborn() -> str:
        """Goes on as if nothing were."""
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return "too late"

    async with listening(server, port=0) as running, Legacy(running.port, "2025-11-25") as client:
        message = {"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "stubborn"}}
        call = asyncio.create_task(client.post(message))
        with anyio.fail_after(LIMIT):
            await began.wait()
            await client.notify("notifications/cancelled", {"requestId": "c"})
            response = await call
    # 2025-11-25 basic/utilities/cancellation: "SHOULD [...] not send a response"; the exchange ends all the same
    assert response.status == 200 and b"too late" not in response.body and not response.messages()


async def test_notifications_that_a_handler_is_slow_to_hear_are_refused_past_the_limit() -> None:
    free = asyncio.Event()

    class Slow(Plain):
        async def notification(self, method: str, params: Any, ctx: Any) -> None:
            await free.wait()
            self.heard.append(method)

    handler = Slow()
    limits = {"max_running_session": 1, "max_waiting": 2}
    async with listening(handler, port=0, **limits) as running, Legacy(running.port, "2025-11-25") as client:
        statuses = [(await client.notify(f"notifications/custom{n}")).status for n in range(4)]
        assert statuses == [202, 202, 202, 503]
        free.set()
        with anyio.fail_after(LIMIT):
            while len(handler.heard) < 3:
                await anyio.lowlevel.checkpoint()
        assert (await client.notify("notifications/again")).status == 202
    assert handler.heard[:3] == [f"notifications/custom{n}" for n in range(3)]

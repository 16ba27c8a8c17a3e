# SPDX-License-Identifier: MIT
"""The bridge: messages that it forwards, their receivers and their form, in each of four combinations of eras."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern
from serving import LEGACY, Held, call, served

from mcp_h11 import Context, ParamHeader
from mcp_h11.bridge import calls as bridged
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.client.targets import Command, Url
from mcp_h11.client.transports.memory import MemoryTransport
from mcp_h11.handler.handler import ServerHandler
from mcp_h11.protocol.errors import MCPError

pytestmark = pytest.mark.anyio

MODERN = "2026-07-28"
ERAS = [LEGACY, MODERN]
FORM = {"type": "object", "properties": {"it": {"type": "string"}}}
ABLE = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}
ROOTS = [{"uri": "file:///one"}, {"uri": "file:///two"}]


class Backend(Held):
    """A backend that records the requests which the bridge sends."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[dict[str, str]] = []
        self.metas: list[dict[str, Any]] = []
        self.subscribed: list[tuple[str, str]] = []
        self.levels: list[str] = []
        self.version = "9"
        self.instructions = "Ask nicely."
        for tool in (self.sample, self.roots, self.report, self.fail, self.refuse, self.who, self.both, self.touch,
                     self.change, self.say, self.region):  # fmt: skip
            self.add_tool(tool, name=tool.__name__)
        self.add_resource("test://thing", lambda: "content", name="thing")
        self.add_prompt(lambda: "prompt", name="plain")

    async def request(self, method: str, params: dict[str, Any], ctx: Context) -> Any:
        self.heads.append(dict(ctx.headers))
        self.metas.append(dict(ctx.meta))
        if method == "x/own":
            return {"own": params.get("it")}
        return await super().request(method, params, ctx)

    async def subscribe(self, uri: str, ctx: Context) -> None:
        self.subscribed.append(("+", uri))

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        self.subscribed.append(("-", uri))

    async def set_level(self, level: str, ctx: Context) -> None:
        self.levels.append(level)

    async def sample(self, ctx: Context) -> str:
        return (await ctx.sample("Say something", max_tokens=5)).text

    async def roots(self, ctx: Context) -> int:
        return len(await ctx.list_roots())

    async def both(self, ctx: Context) -> str:
        first = await ctx.elicit("First?", FORM)
        second = await ctx.elicit("Second?", FORM)
        return f"{first.data} {second.data}"

    async def report(self, ctx: Context) -> str:
        for done in (1, 2, 3):
            await ctx.report_progress(done, 3, f"step {done}")
            await ctx.info(f"line {done}")
        return "reported"

    async def fail(self) -> str:
        raise ValueError("it broke")

    async def refuse(self) -> str:
        raise MCPError(-32000, "not today", {"why": "closed"})

    async def who(self, ctx: Context) -> str:
        return json.dumps([ctx.client_info, ctx.client_capabilities])

    async def touch(self, uri: str, ctx: Context) -> str:
        await ctx.notify_resource_updated(uri)
        return "touched"

    async def change(self, ctx: Context) -> str:
        await ctx.notify_tools_changed()
        return "changed"

    async def say(self, ctx: Context, line: str, level: str = "info") -> str:
        await ctx.log(level, line)
        return "said"

    async def region(self, where: Annotated[str, ParamHeader("Region")]) -> str:
        return where


@asynccontextmanager
async def bridge(
    backend: ServerHandler | None = None, back: str | None = None, behind: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A bridge to a server of ours, which it speaks to in the revision `back`: (front server, handler)."""
    async with served(backend or Backend(), **(behind or {})) as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url, revision=back), **options)
        async with served(handler, health=True) as front:  # type: ignore[arg-type]
            yield front


def client(front: Any, era: str, **capabilities: Any) -> Any:
    """A client of one era; to be entered."""
    return Front(front.port, era, capabilities)


class Front:
    """One interface to the raw clients of both eras."""

    def __init__(self, port: int, era: str, capabilities: dict[str, Any]) -> None:
        self.modern = era == MODERN
        self.capabilities = capabilities
        self.raw: Any = Modern(port, capabilities=capabilities) if self.modern else Legacy(port, era)

    async def __aenter__(self) -> Front:
        if not self.modern:
            await self.raw.initialize(self.capabilities)
        return self

    async def __aexit__(self, kind: Any, *exc: object) -> None:
        if not self.modern and kind is None:
            await self.raw.delete()

    async def call(self, method: str, params: dict[str, Any] | None = None, answers: Any = None, **more: Any) -> Any:
        """The last message for a request, after its questions were answered by `answers(method, params)`."""
        if not self.modern:
            return await self.raw.call(method, params, answerer=_answerer(answers), **more)
        answer = await self.raw.call(method, params, **more)
        while "error" not in answer.message and answer.result.get("resultType") == "input_required":
            again = dict(params or {})
            if "requestState" in answer.result:
                again["requestState"] = answer.result["requestState"]
            asked = answer.result.get("inputRequests") or {}
            again["inputResponses"] = {key: answers(q["method"], q.get("params", {})) for key, q in asked.items()}
            answer = await self.raw.call(method, again, **more)
        return answer

    async def text(self, tool: str, answers: Any = None, **arguments: Any) -> str:
        answer = await self.call("tools/call", call(tool, **arguments), answers)
        return str(answer.result["content"][0]["text"])


def _answerer(answers: Any) -> Any:
    if answers is None:
        return None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"result": answers(request["method"], request.get("params", {}))}

    return answer


def yes(method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Answer every question."""
    if method == "roots/list":
        return {"roots": ROOTS}
    if method == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": "said"}, "model": "m"}
    return {"action": "accept", "content": {"it": params["message"]}}


COMBINATIONS = [(front, back) for front in ERAS for back in ERAS]
combined = pytest.mark.parametrize(("era", "back"), COMBINATIONS)


# --- calls ------------------------------------------------------------------------------------------------------------


@combined
async def test_what_the_backend_is_and_answers_comes_through(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era) as c:
        if era == MODERN:
            said = (await c.call("server/discover")).result
            info = said["_meta"]["io.modelcontextprotocol/serverInfo"]
        else:
            said, info = c.raw.initialized, c.raw.initialized["serverInfo"]
        assert (info["name"], info["version"], said["instructions"]) == ("held", "9", "Ask nicely.")
        assert set(said["capabilities"]) == {"tools", "resources", "prompts", "logging"}
        names = [tool["name"] for tool in (await c.call("tools/list")).result["tools"]]
        assert "echo" in names and len(names) == 17
        assert await c.text("echo", text="hello") == "hello"
        read = (await c.call("resources/read", {"uri": "test://thing"})).result
        assert read["contents"][0]["text"] == "content"
        prompt = (await c.call("prompts/get", {"name": "plain"})).result
        assert prompt["messages"][0]["content"]["text"] == "prompt"


@combined
async def test_errors_come_through_as_the_revision_of_the_client_has_them(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era) as c:
        broken = await c.call("tools/call", call("fail"))
        assert broken.result["isError"] and "it broke" in broken.result["content"][0]["text"]
        refused = (await c.call("tools/call", call("refuse"))).error
        assert refused == {"code": -32000, "message": "not today", "data": {"why": "closed"}}
        missing = (await c.call("resources/read", {"uri": "test://nowhere"})).error
        assert missing["code"] == (-32602 if era == MODERN else -32002) and missing["data"]["uri"] == "test://nowhere"
        assert (await c.call("tools/call", call("nowhere"))).error["code"] == -32602


@combined
async def test_methods_of_the_backend_s_own_are_passed_on_and_those_of_the_door_are_not(era: str, back: str) -> None:
    backend = Backend()
    async with bridge(backend, back) as front, client(front, era) as c:
        c.raw.check = False
        assert (await c.call("x/own", {"it": 1})).result["own"] == 1
        for method in ("tasks/get", "tasks/list", "server/other", "subscriptions/other"):
            assert (await c.call(method)).error["code"] == -32601


@combined
async def test_questions_reach_the_client_and_its_answers_the_backend(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era, **ABLE) as c:
        assert await c.text("ask", yes) == "{'it': 'Which?'}"
        assert await c.text("sample", yes) == "said"
        assert await c.text("roots", yes) == "2"
        assert await c.text("both", yes) == "{'it': 'First?'} {'it': 'Second?'}"


@combined
async def test_a_question_that_the_client_did_not_declare_is_refused_as_the_client_would(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era) as c:
        answer = await c.call("tools/call", call("sample"))
        if back == MODERN:  # the backend knows the capabilities of the client, and refuses the question itself
            if era == MODERN:
                assert answer.error["code"] == -32021
            else:
                assert answer.result["isError"] is True
        else:
            assert answer.error["code"] == -32601 or "Method not found" in str(answer.message)


@combined
async def test_progress_and_log_come_under_the_client_s_own_token(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era) as c:
        meta: dict[str, Any] = {"progressToken": "mine"}
        if era == MODERN:
            meta["io.modelcontextprotocol/logLevel"] = "info"
        answer = await c.call("tools/call", {**call("report"), "_meta": meta})
        progress = [m["params"] for m in answer.notifications if m["method"] == "notifications/progress"]
        assert [p["progress"] for p in progress] == [1, 2, 3]
        assert {p["progressToken"] for p in progress} == {"mine"}
        lines = [m["params"]["data"] for m in answer.notifications if m["method"] == "notifications/message"]
        assert lines == ["line 1", "line 2", "line 3"]


async def test_a_modern_client_that_asked_for_no_level_hears_no_log() -> None:
    async with bridge(back=LEGACY) as front, client(front, MODERN) as c:
        answer = await c.call("tools/call", call("report"))
        assert answer.notifications == []


@combined
async def test_a_cancelled_call_is_cancelled_behind_the_bridge(era: str, back: str) -> None:
    backend = Backend()
    async with bridge(backend, back) as front, client(front, era) as c:
        if era == MODERN:
            level = {"io.modelcontextprotocol/logLevel": "info"}
            async with c.raw.posting(c.raw.request("tools/call", call("stream"), meta=level)):
                await backend.until(started=1)
        else:
            async with c.raw.posting(c.raw.request("tools/call", call("stream"), id=7)):
                await backend.until(started=1)
                await c.raw.notify("notifications/cancelled", {"requestId": 7})
                await backend.until(cancelled=1)
        await backend.until(cancelled=1)


@combined
async def test_two_clients_that_use_one_id_and_one_token_get_each_their_own(era: str, back: str) -> None:
    async with bridge(back=back) as front, client(front, era) as a, client(front, era) as b:
        found: dict[str, Any] = {}

        async def run(name: str, c: Any) -> None:
            params = {**call("echo", text=name), "_meta": {"progressToken": 1}}
            for _ in range(20):
                found[name] = (await c.call("tools/call", params, id=1)).result["content"][0]["text"]
                assert found[name] == name

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, "a", a)
            tasks.start_soon(run, "b", b)


@combined
async def test_a_legacy_backend_is_told_what_the_bridge_carries_and_a_modern_one_what_the_client_can(
    era: str, back: str
) -> None:
    async with bridge(back=back) as front, client(front, era, sampling={}) as c:
        info, capabilities = json.loads(await c.text("who"))
        if back == MODERN:
            assert (info["name"], capabilities) == ("rawclient", {"sampling": {}})
        else:
            assert info["name"] == "mcp_h11 proxy"
            assert set(capabilities) == {"sampling", "elicitation", "roots"}


@pytest.mark.parametrize("back", ERAS)
async def test_what_the_revision_of_a_client_cannot_be_asked_is_an_answer_and_no_fault(
    back: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(back=back) as front, client(front, "2025-03-26", **ABLE) as c:
        answer = await c.call("tools/call", call("ask"))
        assert "2025-03-26 has no elicitation" in str(answer.message)
        assert back == LEGACY or answer.result["isError"]
    assert "Traceback" not in caplog.text


# --- input rounds -----------------------------------------------------------------------------------------------------


async def test_a_parked_call_goes_on_where_it_was_and_its_state_is_good_for_once() -> None:
    backend = Backend()
    async with bridge(backend, LEGACY) as front, client(front, MODERN, **ABLE) as c:
        params = call("ask")
        first = (await c.raw.call("tools/call", params)).result
        assert first["resultType"] == "input_required"
        ((key, question),) = first["inputRequests"].items()
        assert question["params"]["message"] == "Which?"
        again = {
            **params,
            "requestState": first["requestState"],
            "inputResponses": {key: {"action": "accept", "content": {"it": "x"}}},
        }
        # The state does not fit another call.
        other = {**again, "arguments": {"label": "other"}}
        assert (await c.raw.call("tools/call", other)).error["code"] == -32602
        last = (await c.raw.call("tools/call", again)).result
        assert last["content"][0]["text"] == "{'it': 'x'}"
        assert backend.started == ["ask"]
        assert (await c.raw.call("tools/call", again)).error["code"] == -32602


async def test_the_state_of_an_earlier_round_is_no_good_in_a_later_one() -> None:
    async with bridge(back=LEGACY) as front, client(front, MODERN, **ABLE) as c:

        async def answered(result: dict[str, Any]) -> Any:
            asked = {key: yes(q["method"], q["params"]) for key, q in result["inputRequests"].items()}
            params = {**call("both"), "requestState": result["requestState"], "inputResponses": asked}
            return await c.raw.call("tools/call", params)

        first = (await c.raw.call("tools/call", call("both"))).result
        second = (await answered(first)).result
        assert second["resultType"] == "input_required"
        assert (await answered(first)).error["code"] == -32602
        assert (await answered(second)).result["content"][0]["text"] == "{'it': 'First?'} {'it': 'Second?'}"


async def test_what_is_no_answer_is_asked_again() -> None:
    async with bridge(back=LEGACY) as front, client(front, MODERN, **ABLE) as c:
        params = call("ask")
        first = (await c.raw.call("tools/call", params)).result
        bad = {**params, "requestState": first["requestState"],
               "inputResponses": {key: {"action": "perhaps"} for key in first["inputRequests"]}}  # fmt: skip
        second = (await c.raw.call("tools/call", bad)).result
        assert second["inputRequests"] == first["inputRequests"]
        good = {**params, "requestState": second["requestState"],
                "inputResponses": {key: {"action": "decline"} for key in second["inputRequests"]}}  # fmt: skip
        assert (await c.raw.call("tools/call", good)).result["content"][0]["text"] == "None"


async def test_an_abandoned_call_is_cancelled_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridged, "PARKED_TIME", 0.05)
    backend = Cancellable()
    async with bridge(backend, LEGACY) as front, client(front, MODERN, **ABLE) as c:
        first = (await c.raw.call("tools/call", call("held_question"))).result
        with anyio.fail_after(LIMIT):
            await backend.gone.wait()
        again = {**call("held_question"), "requestState": first["requestState"], "inputResponses": {}}
        assert (await c.raw.call("tools/call", again)).error["code"] == -32602


class Cancellable(Backend):
    """A backend that records when a call that waits for an answer is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = asyncio.Event()
        self.add_tool(self.held_question, name="held_question")

    async def held_question(self, ctx: Context) -> str:
        try:
            await ctx.elicit("Still there?", FORM)
        except BaseException:
            self.gone.set()
            raise
        return "answered"


async def test_there_are_so_many_parked_calls_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bridge(back=LEGACY) as front, client(front, MODERN, **ABLE) as c:
        front.runtime.handler._parking._places.limit = 2
        for _ in range(2):
            assert (await c.raw.call("tools/call", call("ask"))).result["resultType"] == "input_required"
        third = (await c.raw.call("tools/call", call("ask"))).message
        assert "Too many questions wait" in str(third)


async def user_of(head: Any) -> str:
    return str(head.get("x-user"))


async def test_one_client_leaves_places_for_the_parked_calls_of_others() -> None:
    async with served(Backend()) as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url, revision=LEGACY))
        handler._parking._places.limit = 10
        async with served(handler, authorize=user_of) as front:  # type: ignore[arg-type]
            ada, bob = client(front, MODERN, **ABLE), client(front, MODERN, **ABLE)
            ada.raw.extra_headers, bob.raw.extra_headers = {"X-User": "ada"}, {"X-User": "bob"}
            parked = [(await ada.raw.call("tools/call", call("ask"))).message for _ in range(9)]
            assert ["inputRequests" in str(message) for message in parked] == [True] * 8 + [False]
            assert "Too many questions wait" in str(parked[-1])
            assert await bob.text("ask", yes) == "{'it': 'Which?'}"
            # The end of one call frees its place.
            first = parked[0]["result"]
            asked = {key: yes(q["method"], q["params"]) for key, q in first["inputRequests"].items()}
            again = {**call("ask"), "requestState": first["requestState"], "inputResponses": asked}
            assert (await ada.raw.call("tools/call", again)).result["content"][0]["text"] == "{'it': 'Which?'}"
            assert "inputRequests" in (await ada.raw.call("tools/call", call("ask"))).result
        assert len(handler._parking) == 0 and not len(handler._parking._places)


@pytest.mark.parametrize("era", ERAS)
async def test_one_client_leaves_room_for_the_questions_of_others(era: str) -> None:
    async with served(Backend()) as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url, revision=LEGACY))
        handler._parking.questions.limit = 5
        async with served(handler, authorize=user_of) as front:  # type: ignore[arg-type]
            ada, bob = client(front, era, **ABLE), client(front, era, **ABLE)
            ada.raw.extra_headers, bob.raw.extra_headers = {"X-User": "ada"}, {"X-User": "bob"}
            async with ada, bob, AsyncExitStack() as stack:
                said = []
                for _ in range(5):
                    stream = await stack.enter_async_context(
                        ada.raw.posting(ada.raw.request("tools/call", call("ask")))
                    )
                    said.append(await _first_of(stream))
                assert ["Too many questions wait for this client" in str(one) for one in said] == [False] * 4 + [True]
                assert await bob.text("ask", yes) == "{'it': 'Which?'}"


async def _first_of(stream: Any) -> Any:
    if stream.head.content_type == "text/event-stream":
        return await stream.next_message()
    return (await stream.read()).json()


async def test_a_bridge_asks_more_at_once_than_one_client_does() -> None:
    async with bridge(back=LEGACY) as front:
        conversation = front.runtime.handler._generations.now.shared.client._conversation
        assert conversation.questions.handlers.limit == bridged.MAX_ASKED == 1_000


async def test_the_state_of_a_modern_backend_is_no_good_for_another_one() -> None:
    # Both backends could open the state, because replicas of one server have one key.
    same: dict[str, Any] = {"state_keys": [b"k" * 32]}
    async with served(Backend(), **same) as other, bridge(behind=same) as front, client(front, MODERN, **ABLE) as c:
        first = (await c.raw.call("tools/call", call("ask"))).result
        again = {**call("ask"), "requestState": first["requestState"],
                 "inputResponses": {key: {"action": "decline"} for key in first["inputRequests"]}}  # fmt: skip
        await front.runtime.handler.swap(Url(other.url))
        assert (await c.raw.call("tools/call", again)).error["code"] == -32602
        assert await c.text("ask", yes) == "{'it': 'Which?'}"


# --- the filter -------------------------------------------------------------------------------------------------------


@combined
async def test_a_tool_that_is_filtered_is_neither_listed_nor_called(era: str, back: str) -> None:
    backend = Backend()
    options = {"allow": ["e*", "hold"], "deny": ["hold"]}
    async with bridge(backend, back, **options) as front, client(front, era) as c:
        assert [tool["name"] for tool in (await c.call("tools/list")).result["tools"]] == ["echo"]
        assert await c.text("echo", text="x") == "x"
        for name in ("hold", "fail"):
            assert (await c.call("tools/call", call(name))).error == {
                "code": -32602, "message": f"Unknown tool: {name!r}",
            }  # fmt: skip
        assert (await c.call("tools/call", {"name": ["echo"]})).error["code"] == -32602
        assert backend.started == []


# --- headers ----------------------------------------------------------------------------------------------------------


async def test_only_named_headers_are_passed_on_and_no_credentials() -> None:
    backend = Backend()
    async with bridge(backend, MODERN, forward_headers=["X-Tenant"]) as front, client(front, MODERN) as c:
        c.raw.extra_headers = {"X-Tenant": "blue", "X-Other": "no", "Authorization": "Bearer secret"}
        await c.text("echo", text="x")
        assert backend.heads[-1]["x-tenant"] == "blue"
        assert "x-other" not in backend.heads[-1] and "authorization" not in backend.heads[-1]


@pytest.mark.parametrize("name", ["Authorization", "cookie", "Mcp-Session-Id", "host", "Mcp-Param-X", "Content-Length"])
def test_credentials_and_what_belongs_to_one_connection_cannot_be_named(name: str) -> None:
    with pytest.raises(ValueError, match="not passed on"):
        ProxyHandler(None, forward_headers=[name])


async def test_the_bearer_of_the_backend_is_the_bridge_s_own() -> None:
    backend = Backend()
    async with served(backend, token="inner") as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url, token="inner"))
        async with served(handler, token="outer") as front, client(front, MODERN) as c:  # type: ignore[arg-type]
            c.raw.extra_headers = {"Authorization": "Bearer outer"}
            assert await c.text("echo", text="x") == "x"
            assert backend.heads[-1]["authorization"] == "Bearer inner"


async def test_mirrored_headers_are_checked_as_the_backend_annotates_its_tools() -> None:
    async with bridge() as front, client(front, MODERN) as c:
        refused = await c.call("tools/call", call("region", where="north"))
        assert (refused.status, refused.error["code"]) == (400, -32020)
        c.raw.extra_headers = {"Mcp-Param-Region": "north"}
        assert await c.text("region", where="north") == "north"


# --- what sessions want -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [LEGACY])
async def test_the_first_subscribes_at_the_backend_and_the_last_unsubscribes(back: str) -> None:
    backend = Backend()
    uri = {"uri": "test://thing"}
    async with bridge(backend, back) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        for c in (a, b, a):
            assert (await c.call("resources/subscribe", uri)).result == {}
        assert backend.subscribed == [("+", "test://thing")]
        await a.call("resources/unsubscribe", uri)
        assert backend.subscribed == [("+", "test://thing")]
        await b.call("resources/unsubscribe", uri)
        assert backend.subscribed == [("+", "test://thing"), ("-", "test://thing")]


async def test_a_subscription_ends_with_its_session() -> None:
    backend = Backend()
    async with bridge(backend, LEGACY) as front:
        async with client(front, LEGACY) as a:
            await a.call("resources/subscribe", {"uri": "test://thing"})
        with anyio.fail_after(LIMIT):
            while len(backend.subscribed) < 2:
                await anyio.sleep(0.05)
        assert backend.subscribed[-1] == ("-", "test://thing")


@pytest.mark.parametrize("back", ERAS)
async def test_updates_reach_subscribers_only_and_changes_every_session(back: str) -> None:
    async with bridge(back=back) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        await a.call("resources/subscribe", {"uri": "test://thing"})
        async with a.raw.get_stream() as to_a, b.raw.get_stream() as to_b:
            await a.text("touch", uri="test://thing")
            await a.text("change")
            assert (await to_a.next_message())["method"] == "notifications/resources/updated"
            assert (await to_a.next_message())["method"] == "notifications/tools/list_changed"
            assert (await to_b.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("back", ERAS)
async def test_a_modern_listener_hears_of_changes(back: str) -> None:
    async with bridge(back=back) as front, client(front, MODERN) as c, c.raw.listen(toolsListChanged=True) as stream:
        assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
        await c.text("change")
        assert (await stream.next_message())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("per_session", [False, True])
@pytest.mark.parametrize("back", ERAS)
async def test_who_listens_without_a_session_is_counted_too(back: str, per_session: bool) -> None:
    backend = Backend()
    uri = "test://thing"
    async with bridge(backend, back, per_session=per_session) as front, client(front, MODERN) as c:
        async with c.raw.listen(resourceSubscriptions=[uri]) as stream:
            assert (await stream.next_message())["method"] == "notifications/subscriptions/acknowledged"
            handler = front.runtime.handler

            def interests() -> Any:
                own = list(handler._generations.now.own.values())
                return (own[0].interests if own else handler._interests).uris

            # It was acknowledged, so it hears of the next change.
            await c.text("touch", uri=uri)
            message = await stream.next_message()
            assert (message["method"], message["params"]["uri"]) == ("notifications/resources/updated", uri)
        with anyio.fail_after(LIMIT):
            while interests():
                await anyio.sleep(0.05)
        assert backend.subscribed == ([] if back == MODERN else [("+", uri), ("-", uri)])


async def test_the_most_talkative_level_is_the_backend_s_and_each_session_gets_its_own() -> None:
    backend = Backend()
    async with bridge(backend, LEGACY) as front, client(front, LEGACY) as a, client(front, LEGACY) as b:
        await a.call("logging/setLevel", {"level": "error"})
        await b.call("logging/setLevel", {"level": "debug"})
        await a.call("logging/setLevel", {"level": "warning"})
        assert backend.levels == ["error", "debug"]
        said = await a.call("tools/call", call("say", line="quiet", level="debug"))
        assert said.notifications == []
        said = await b.call("tools/call", call("say", line="loud", level="debug"))
        assert [m["params"]["data"] for m in said.notifications] == ["loud"]


@pytest.mark.parametrize("per_session", [False, True])
async def test_what_requests_without_a_session_want_is_not_kept(per_session: bool) -> None:
    backend = Backend()
    async with served(backend) as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url, revision=LEGACY), per_session=per_session)
        async with served(handler, stateless=True) as front:  # type: ignore[arg-type]
            c = Legacy(front.port, LEGACY)
            await c.initialize()
            for method, params in (
                ("logging/setLevel", {"level": "debug"}),
                ("resources/subscribe", {"uri": "test://thing"}),
                ("resources/unsubscribe", {"uri": "test://thing"}),
            ):
                assert (await c.call(method, params)).result == {}
            assert not handler._listening.log_sessions and not handler._interests.levels and not handler._interests.uris
            assert backend.levels == backend.subscribed == [] and not handler._generations.now.own  # type: ignore[union-attr]


async def test_a_bridge_serves_one_server_at_a_time() -> None:
    async with bridge() as front:
        with pytest.raises(RuntimeError, match="one server"):
            async with front.runtime.handler.lifespan():
                pass


async def test_without_a_backend_it_is_503_and_not_ready() -> None:
    handler = ProxyHandler(None)
    async with served(Backend()) as other, served(handler, health=True) as front:  # type: ignore[arg-type]
        c = Modern(front.port)
        assert (await c.post(c.request("tools/list"))).status == 503
        async with c.client() as ops:
            ready = await ops.request("GET", "/ready")
            assert (ready.status, ready.json()["reasons"]) == (503, ["no backend"])
        await handler.swap(Url(other.url))
        assert (await c.call("tools/call", call("echo", text="x"))).result["content"][0]["text"] == "x"
        async with c.client() as ops:
            assert (await ops.request("GET", "/ready")).status == 200


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
@pytest.mark.parametrize("back", ERAS)
async def test_a_backend_on_a_unix_socket_is_one_too(back: str, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with served(Backend(), uds=path, allowed_hosts=["*"]):  # type: ignore[arg-type]
        handler = ProxyHandler(Url(f"http+unix://{quote(path, safe='')}/mcp", revision=back))
        async with served(handler) as front, client(front, LEGACY, **ABLE) as c:  # type: ignore[arg-type]
            assert await c.text("ask", yes) == "{'it': 'Which?'}"


@pytest.mark.parametrize("era", ["2024-11-05", *ERAS])
@pytest.mark.parametrize("transport", ["sse", None])
async def test_a_backend_on_http_sse_is_one_too(era: str, transport: str | None) -> None:
    async def ada(head: Any) -> str:
        return "ada"

    async with served(Backend(), legacy_sse=True) as server:  # type: ignore[arg-type]
        handler = ProxyHandler(Url(server.url.replace("/mcp", "/sse"), transport=transport), per_session=True)
        async with served(handler, authorize=ada) as front, client(front, era, **ABLE) as c:  # type: ignore[arg-type]
            assert await c.text("sample", yes) == "said"
            assert await c.text("roots", yes) == "2"
            answer = await c.call("tools/call", {**call("report"), "_meta": {"progressToken": 7}})
            assert [m["params"]["progress"] for m in answer.notifications if "progress" in m["method"]] == [1, 2, 3]


async def test_a_backend_in_this_process_is_one_too() -> None:
    async with served(ProxyHandler(Backend())) as front:  # type: ignore[arg-type]
        for era in ERAS:
            async with client(front, era, **ABLE) as c:
                assert await c.text("echo", text="x") == "x"
                assert await c.text("ask", yes) == "{'it': 'Which?'}"


# --- targets ----------------------------------------------------------------------------------------------------------

CHILD = str(Path(__file__).resolve().parents[1] / "support" / "legacy_server.py")


@pytest.mark.parametrize(
    "form", ["list", "tuple", "text", "Command", "handler", "transport", "address", "ADDRESS", "Url"]
)
async def test_a_bridge_takes_every_target_that_a_client_takes(form: str) -> None:
    async with served(Backend()) as server:  # type: ignore[arg-type]
        words = [sys.executable, CHILD]
        made: dict[str, Any] = {
            "list": words, "tuple": tuple(words), "text": shlex.join(words), "Command": Command(words),
            "handler": Backend(), "transport": MemoryTransport(Backend()),
            "address": server.url, "ADDRESS": server.url.replace("http", "HTTP", 1), "Url": Url(server.url),
        }  # fmt: skip
        handler = ProxyHandler(made[form])
        assert handler.name
        async with served(handler) as front:  # type: ignore[arg-type]
            async with client(front, LEGACY) as c:
                assert await c.text("echo", text="x") == "x"
            await handler.swap(made[form if form != "transport" else "list"])
            async with client(front, MODERN) as c:
                assert await c.text("echo", text="x") == "x"


@pytest.mark.parametrize(
    "target", [5, b"http://h/", Path("server.py"), ["a", 1], {"command": "x"}, Backend, MemoryTransport, object()],
    ids=["number", "bytes", "path", "mixed", "dict", "class", "transport-class", "object"],
)  # fmt: skip
async def test_what_is_no_target_is_refused_with_a_list_of_those_that_are(target: Any) -> None:
    kinds = ("Command", "Url", "address", "list of words", "text", "ServerHandler", "Transport", type(target).__name__)
    async with served(ProxyHandler(None)) as front:  # type: ignore[arg-type]
        with pytest.raises(TypeError) as made:
            ProxyHandler(target)
        with pytest.raises(TypeError) as swapped:
            await front.runtime.handler.swap(target)
        for raised in (made, swapped):
            assert all(kind in str(raised.value) for kind in kinds)


@pytest.mark.parametrize("target", ["", [], " ", 'say "', "http://", [""], ["a\0b"]])
async def test_a_target_that_cannot_be_one_is_refused_when_the_bridge_is_made(target: Any) -> None:
    with pytest.raises(ValueError):
        ProxyHandler(target)


async def test_one_connection_is_not_for_several_sessions() -> None:
    with pytest.raises(ValueError, match="one connection"):
        ProxyHandler(MemoryTransport(Backend()), per_session=True)

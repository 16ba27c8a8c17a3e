# SPDX-License-Identifier: MIT
"""Asking the client in the middle of a call: rounds of 2026-07-28 over sockets, and the same functions in a session."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import wire
from rawclient import LIMIT, Legacy, Modern

from mcp_h11 import (
    Context,
    Elicit,
    ElicitURL,
    InputRequired,
    ListRoots,
    MCPServer,
    Sample,
    ServerHandler,
    ToolError,
    listening,
)
from mcp_h11.handler.questions import RawQuestion, Sampled, as_question, digest

pytestmark = pytest.mark.anyio

E = "2026-07-28"
ALL: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
SAID = {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m", "stopReason": "endTurn"}
ROOTS = {"roots": [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b"}]}


@dataclass
class Person:
    name: str
    age: int = 30


def accept(**content: Any) -> dict[str, Any]:
    return {"action": "accept", "content": content}


# -- functions that ask: written once, for both eras --


class Asking(MCPServer):
    def __init__(self) -> None:
        super().__init__("asking")
        self.runs = 0
        self.charged: list[int] = []
        self.seen: list[Any] = []
        for name in dir(type(self)):
            if name.startswith("do_"):
                self.add_tool(getattr(self, name), name.removeprefix("do_"))

    async def do_one(self, ctx: Context) -> str:
        self.runs += 1
        answer = await ctx.elicit("Who?", NAME)
        return f"{answer.action} {answer.accepted} {answer.data} {answer.content}"

    async def do_typed(self, ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Person)
        return f"{answer.action} {answer.data!r}"

    async def do_two(self, ctx: Context) -> str:
        first = await ctx.elicit("First?", NAME)
        second = await ctx.elicit(f"After {first.data['name']}?", NAME)
        return f"{first.data['name']} {second.data['name']}"

    async def do_page(self, ctx: Context) -> str:
        # Another id each time, as the documentation of 2025-11-25 has it.
        self.runs += 1
        return (await ctx.elicit_url("Pay", "https://pay.example/", f"id-{self.runs}")).action

    async def do_model(self, ctx: Context) -> str:
        answer = await ctx.sample("Capital of France?", 50, system_prompt="Short.", temperature=0.5)
        return f"{answer.role} {answer.text} {answer.model} {answer.stop_reason}"

    async def do_roots(self, ctx: Context) -> str:
        return " ".join(f"{root['uri']}={root.get('name')}" for root in await ctx.list_roots())

    async def do_all(self, ctx: Context) -> str:
        got = await ctx.ask(
            who=Elicit("Who?", Person),
            what=Sample("What?"),
            where=ListRoots(),
            raw={"method": "elicitation/create", "params": {"mode": "form", "message": "?", "requestedSchema": NAME}},
        )
        assert await ctx.ask() == {}
        return f"{got['who'].data.name} {got['what'].text} {len(got['where'])} {got['raw']['action']}"

    async def do_again(self, ctx: Context) -> str:
        for attempt in range(1, 5):
            got = await ctx.ask(name=Elicit("Who?", NAME))
            if got["name"].data["name"] == "right":
                return f"right after {attempt}"
        return "never"

    async def do_renamed(self, ctx: Context) -> str:
        first = await ctx.ask(it=Elicit("First?", NAME))
        second = await ctx.ask(it=Elicit("Second?", NAME))
        return f"{first['it'].data['name']} {second['it'].data['name']}"

    async def do_once(self, ctx: Context) -> str:
        async def charge(amount: int) -> int:
            self.charged.append(amount)
            return len(self.charged)

        number = await ctx.once("charge", charge, 5)
        plain = await ctx.once("plain", lambda: {"a": [1]})
        await ctx.elicit("Sure?", NAME)
        await ctx.elicit("Really?", NAME)
        assert await ctx.once("charge", charge, 6) == number
        return f"{number} {plain}"

    async def do_guarded(self, ctx: Context) -> str:
        try:
            answer = await ctx.elicit("Who?", NAME)
        except Exception:
            return "swallowed"
        return str(answer.data["name"])

    async def do_grouped(self, ctx: Context) -> str:
        names: dict[str, str] = {}

        async def ask(question: str) -> None:
            names[question] = (await ctx.elicit(question, NAME)).data["name"]

        async with anyio.create_task_group() as outer, anyio.create_task_group() as inner:
            inner.start_soon(ask, "One?")
            outer.start_soon(anyio.sleep, 0)
        await ask("Two?")
        return f"{names['One?']} {names['Two?']}"

    async def do_crowded(self, ctx: Context) -> str:
        async def fail() -> None:
            if ctx.request_id != "last" and ctx.protocol_version == E:
                raise ValueError("in the same moment")

        async def ask() -> None:
            names.append((await ctx.elicit("Who?", NAME)).data["name"])

        names: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            group.start_soon(ask)
        return names[0]

    def do_threaded(self, ctx: Context) -> str:
        try:
            first = ctx.wait(ctx.elicit("First?", NAME))
            second = ctx.wait(ctx.elicit("Second?", NAME))
        except Exception as exc:
            return f"swallowed {exc!r}"
        return f"{first.data['name']} {second.data['name']}"

    async def do_raw(self, ctx: Context) -> Any:
        if ctx.request_state is None:
            return InputRequired({"who": Elicit("Who?", NAME)}, state="asked")
        assert ctx.request_state == "asked" and ctx.input_responses is not None
        return ctx.input_responses["who"]["content"]["name"]

    async def do_stateless(self, ctx: Context) -> Any:
        if ctx.input_responses is None:
            assert ctx.request_state is None
            return InputRequired({"who": {"method": "elicitation/create", "params": Elicit("Who?", NAME).params()}})
        return ctx.input_responses["who"]["content"]["name"]

    async def do_steps(self, ctx: Context) -> Any:
        step = int(ctx.request_state or 0)
        return InputRequired(state=str(step + 1)) if step < 3 else f"{step} steps"

    async def do_mixed(self, ctx: Context) -> Any:
        if ctx.request_state is None:
            first = await ctx.elicit("First?", NAME)
            return InputRequired({"second": Elicit("Second?", NAME)}, state=first.data["name"])
        assert ctx.input_responses is not None
        second = ctx.input_responses["second"]["content"]["name"]
        third = (await ctx.elicit("Third?", NAME)).data["name"]
        return f"{ctx.request_state} {second} {third}"

    async def do_bad_raw(self, ctx: Context) -> Any:
        return InputRequired({"x": {"method": "tools/call", "params": {}}})

    async def do_huge(self, ctx: Context, size: int) -> str:
        await ctx.once("big", lambda: "x" * size)
        await ctx.elicit("Go on?", NAME)
        return "went on"

    async def do_unkeepable(self, ctx: Context) -> str:
        await ctx.once("object", object)
        await ctx.elicit("Go on?", NAME)
        return "went on"

    async def do_told(self, ctx: Context) -> str:
        await ctx.info("working")
        return str((await ctx.elicit("Who?", NAME)).action)


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[tuple[Asking, Modern]]:
    handler = Asking()
    async with listening(handler, port=0, grace=0.2, **settings) as server:
        yield handler, Modern(server.port, capabilities=ALL)


def call(client: Modern, name: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments or {}, **more}


async def once_more(client: Modern, params: dict[str, Any], method: str = "tools/call", **more: Any) -> Any:
    """One round: the result, judged by its schema."""
    return (await client.call(method, {**params, **more})).result


def said(result: Any) -> str:
    assert result.get("isError") is not True, result
    return "".join(block["text"] for block in result["content"])


Replies = Callable[[str, dict[str, Any]], dict[str, Any]]


async def modern(port: int, name: str, reply: Replies) -> tuple[str, list[str]]:
    """The text a tool ends with, and the methods of what it asked on the way."""
    client, asked = Modern(port, capabilities=ALL), []
    params = call(client, name)
    more: dict[str, Any] = {}
    for _ in range(12):
        result = await once_more(client, params, **more)
        if result["resultType"] == "complete":
            return said(result), asked
        assert "ttlMs" not in result and "cacheScope" not in result
        more = {}
        if "inputRequests" in result:
            requests = result["inputRequests"]
            asked += [question["method"] for question in requests.values()]
            more["inputResponses"] = {key: reply(q["method"], q.get("params", {})) for key, q in requests.items()}
        if "requestState" in result:
            more["requestState"] = result["requestState"]
    raise AssertionError("it asks for ever")


async def legacy(port: int, name: str, reply: Replies) -> tuple[str, list[str]]:
    client = Legacy(port, "2025-11-25")
    await client.initialize(ALL)
    answer = await client.call(
        "tools/call",
        {"name": name, "arguments": {}},
        answerer=lambda request: {"result": reply(request["method"], request.get("params", {}))},
    )
    await client.delete()
    return said(answer.result), [request["method"] for request in answer.requests]


def script(*names: str) -> Replies:
    """Answers forms with these names in turn, and everything else with something fitting."""
    left = iter(names)

    def reply(method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "sampling/createMessage":
            return SAID
        if method == "roots/list":
            return ROOTS
        return {"action": "accept"} if params.get("mode") == "url" else accept(name=next(left))

    return reply


FORM, MODEL, FOLDERS = "elicitation/create", "sampling/createMessage", "roots/list"
OUTCOMES = [
    ("one", ["Ada"], "accept True {'name': 'Ada'} {'name': 'Ada'}", [FORM]),
    ("typed", ["Ada"], "accept Person(name='Ada', age=30)", [FORM]),
    ("two", ["a", "b"], "a b", [FORM, FORM]),
    ("page", [], "accept", [FORM]),
    ("model", [], "assistant Paris m endTurn", [MODEL]),
    ("roots", [], "file:///a=A file:///b=None", [FOLDERS]),
    ("all", ["Ada", "x"], "Ada Paris 2 accept", [FORM, MODEL, FOLDERS, FORM]),
    ("again", ["wrong", "wrong", "right"], "right after 3", [FORM] * 3),
    ("renamed", ["a", "b"], "a b", [FORM, FORM]),
    ("once", ["a", "b"], "1 {'a': [1]}", [FORM, FORM]),
    ("guarded", ["a"], "a", [FORM]),
    ("grouped", ["a", "b"], "a b", [FORM, FORM]),
    ("threaded", ["a", "b"], "a b", [FORM, FORM]),
    ("raw", ["a"], "a", [FORM]),
    ("stateless", ["a"], "a", [FORM]),
    ("steps", [], "3 steps", []),
    ("mixed", ["a", "b", "c"], "a b c", [FORM, FORM, FORM]),
]


@pytest.mark.parametrize("play", [modern, legacy])
@pytest.mark.parametrize(("name", "names", "text", "asked"), OUTCOMES, ids=[row[0] for row in OUTCOMES])
async def test_a_function_that_asks_has_one_outcome_in_both_eras(
    play: Any, name: str, names: list[str], text: str, asked: list[str]
) -> None:
    async with asking() as (handler, client):
        assert await play(client.port, name, script(*names)) == (text, asked)
        if name == "once":
            assert handler.charged == [5]


@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("play", [modern, legacy])
async def test_a_question_that_is_declined_is_an_answer(play: Any, action: str) -> None:
    async with asking() as (_, client):
        text, _ = await play(client.port, "one", lambda method, params: {"action": action})
        assert text == f"{action} False None None"


async def test_the_questions_of_a_round_are_said_in_the_words_of_the_specification() -> None:
    async with asking() as (_, client):
        result = await once_more(client, call(client, "all"))
        assert result["inputRequests"] == {
            "who": {
                "method": "elicitation/create",
                "params": {
                    "mode": "form",
                    "message": "Who?",
                    "requestedSchema": {
                        "type": "object",
                        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "default": 30}},
                        "required": ["name"],
                    },
                },
            },
            "what": {
                "method": "sampling/createMessage",
                "params": {
                    "messages": [{"role": "user", "content": {"type": "text", "text": "What?"}}],
                    "maxTokens": 1024,
                },
            },
            "where": {"method": "roots/list", "params": {}},
            "raw": {
                "method": "elicitation/create",
                "params": {"mode": "form", "message": "?", "requestedSchema": NAME},
            },
        }
        assert result["resultType"] == "input_required"
        assert set(result) == {"resultType", "inputRequests", "requestState", "_meta"}
        page = (await once_more(client, call(client, "page")))["inputRequests"]["input"]["params"]
        assert page == {"mode": "url", "message": "Pay", "url": "https://pay.example/"}
        sample = (await once_more(client, call(client, "model")))["inputRequests"]["input"]["params"]
        assert (sample["systemPrompt"], sample["maxTokens"], sample["temperature"]) == ("Short.", 50, 0.5)


async def test_a_round_without_a_state_of_its_own_carries_none() -> None:
    async with asking() as (_, client):
        assert "requestState" not in await once_more(client, call(client, "stateless"))
        assert "inputRequests" not in await once_more(client, call(client, "steps"))


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"other": accept(name="x")},
        {"input": None},
        {"input": "accept"},
        {"input": {}},
        {"input": {"action": "maybe"}},
        {"input": {"action": "accept"}},
        {"input": {"action": "accept", "content": []}},
        {"input": accept(name=5)},
        {"input": accept(nom="x")},
        {"input": {"result": accept(name="x")}},
    ],
)
async def test_an_answer_that_is_missing_or_does_not_fit_is_asked_for_again(answers: dict[str, Any]) -> None:
    async with asking() as (handler, client):
        params = call(client, "one")
        first = await once_more(client, params)
        second = await once_more(client, params, inputResponses=answers, requestState=first["requestState"])
        assert second["inputRequests"] == first["inputRequests"]
        right = {"input": accept(name="Ada"), "more": {"action": "accept"}, "even": 5}  # what is extra is ignored
        last = await once_more(client, params, inputResponses=right, requestState=second["requestState"])
        assert "Ada" in said(last)
        assert handler.runs == 3


async def test_of_several_answers_those_that_fit_are_kept_and_the_rest_is_asked_for_again() -> None:
    async with asking() as (_, client):
        params = call(client, "all")
        first = await once_more(client, params)
        answers = {"what": SAID, "where": {"roots": [{"name": "no uri"}]}, "who": accept(name="Ada")}
        second = await once_more(client, params, inputResponses=answers, requestState=first["requestState"])
        assert set(second["inputRequests"]) == {"where", "raw"}
        answers = {"where": ROOTS, "raw": {"action": "decline"}}
        last = await once_more(client, params, inputResponses=answers, requestState=second["requestState"])
        assert said(last) == "Ada Paris 2 decline"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("model", {"content": {"type": "text", "text": "x"}, "model": "m"}),
        ("model", {"role": "assistant", "content": "x", "model": "m"}),
        ("model", {"role": 5, "content": {}}),
        ("roots", {"roots": None}),
        ("roots", {"roots": [5]}),
        ("page", {"action": "opened"}),
    ],
)
async def test_answers_of_every_kind_are_checked(name: str, answer: dict[str, Any]) -> None:
    async with asking() as (_, client):
        params = call(client, name)
        first = await once_more(client, params)
        again = await once_more(client, params, inputResponses={"input": answer}, requestState=first["requestState"])
        assert again["resultType"] == "input_required"


async def test_answers_that_come_unasked_are_used_if_they_fit_and_do_not_burden_the_state() -> None:
    async with asking() as (handler, client):
        params = call(client, "one")
        result = await once_more(client, params, inputResponses={"input": accept(name="Ada")})
        assert "Ada" in said(result) and handler.runs == 1
        junk = {f"k{n}": accept(name="x" * 1000) for n in range(200)}
        plain = await once_more(client, params)
        burdened = await once_more(client, params, inputResponses={**junk, "input": {"action": "?"}})
        assert len(burdened["requestState"]) == len(plain["requestState"])


async def refused(client: Modern, params: dict[str, Any], state: Any, **headers: Any) -> bool:
    answer = await client.call("tools/call", {**params, "inputResponses": {}, "requestState": state}, headers=headers)
    assert answer.message is not None
    if "error" not in answer.message:
        return False
    assert (answer.status, answer.error["code"]) == (400, -32602)
    assert answer.error["message"] == "Invalid or expired requestState"
    return True


async def test_a_state_that_was_tampered_with_anywhere_is_refused() -> None:
    async with asking() as (handler, client):
        params = call(client, "raw")
        state = (await once_more(client, params))["requestState"]
        assert not await refused(client, params, state)
        for at in {0, 1, len(state) // 2, len(state) - 3, len(state) - 2, len(state) - 1, *range(0, len(state), 9)}:
            other = "A" if state[at] != "A" else "B"
            assert await refused(client, params, state[:at] + other + state[at + 1 :]), at
        for forged in ("", "x", "é", state[:-4], state + "AAAA", " " + state, state + "\n", "A" * 70_000):
            assert await refused(client, params, forged)
        runs = handler.runs
        for wrong in (5, {}, [state], True):
            answer = await client.call("tools/call", {**params, "requestState": wrong})
            assert (answer.status, answer.error["code"]) == (400, -32602)
        assert handler.runs == runs


async def test_a_state_belongs_to_its_call_alone() -> None:
    async with asking() as (handler, client):
        handler.add_prompt(handler.do_one, "one")
        params = call(client, "one", {})
        state = (await once_more(client, params))["requestState"]
        assert await refused(client, call(client, "two", {}), state)
        assert await refused(client, {"name": "one", "arguments": {"a": 1}}, state)
        assert await refused(client, {"name": "one"}, state)
        answer = await client.call("prompts/get", {**params, "requestState": state})
        assert (answer.status, answer.error["code"]) == (400, -32602)
        # The order of members means nothing, nor does what is in `_meta`.
        answer = await client.call("tools/call", {"arguments": {}, "requestState": state, "name": "one"},
                                   meta={"progressToken": 1})  # fmt: skip
        assert answer.result["resultType"] == "input_required"


async def test_a_state_belongs_to_its_principal() -> None:
    async with asking(authorize=lambda head: head.get("x-user")) as (_, client):
        params = call(client, "one")
        client.extra_headers["X-User"] = "ada"
        state = (await once_more(client, params))["requestState"]
        assert not await refused(client, params, state)
        assert await refused(client, params, state, **{"X-User": "bob"})


async def test_a_state_expires() -> None:
    async with asking(state_ttl=60.0) as (handler, client), listening(handler, port=0) as _:
        params = call(client, "one")
        state = (await once_more(client, params))["requestState"]
        assert not await refused(client, params, state)
    keys = (b"k" * 32,)
    async with asking(state_ttl=0.001, state_keys=keys) as (_, client):
        # Whole seconds are what a state knows: this one was over when it was made.
        state = (await once_more(client, params))["requestState"]
        with anyio.fail_after(LIMIT):
            while not await refused(client, params, state):
                await anyio.lowlevel.checkpoint()


async def test_a_state_is_opened_by_another_replica_with_the_key_and_by_a_rotated_one_and_by_no_other() -> None:
    old, new, other = (bytes([n]) * 32 for n in (1, 2, 3))
    params = {"name": "one", "arguments": {}}
    async with asking(state_keys=[old]) as (_, first):
        state = (await once_more(first, params))["requestState"]
    for keys, opens in (([old], True), ([new, old], True), ([new], False), ([other, new], False), ([], False)):
        async with asking(state_keys=keys) as (_, replica):
            assert await refused(replica, params, state) is not opens
            fresh = (await once_more(replica, params))["requestState"]
            assert not await refused(replica, params, fresh)


@pytest.mark.parametrize(("name", "arguments"), [("huge", {"size": 70_000}), ("unkeepable", {})])
async def test_a_state_that_cannot_be_kept_is_an_internal_error(
    name: str, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with asking() as (_, client):
        answer = await client.call("tools/call", call(client, name, arguments))
        assert (answer.status, answer.error["code"]) == (200, -32603)
        assert "state" in answer.error["message"] and "state of tools/call" in caplog.text
        if name == "huge":
            result = await once_more(client, call(client, name, {"size": 40_000}))
            assert result["resultType"] == "input_required"


@pytest.mark.parametrize(
    ("name", "capabilities", "required"),
    [
        ("one", {}, {"elicitation": {"form": {}}}),
        ("one", {"elicitation": {"url": {}}}, {"elicitation": {"form": {}}}),
        ("one", {"elicitation": True}, {"elicitation": {"form": {}}}),
        ("raw", {}, {"elicitation": {"form": {}}}),
        ("stateless", {"sampling": {}}, {"elicitation": {"form": {}}}),
        ("page", {"elicitation": {}}, {"elicitation": {"url": {}}}),
        ("page", {"elicitation": {"form": {}}}, {"elicitation": {"url": {}}}),
        ("model", {"elicitation": {}}, {"sampling": {}}),
        ("roots", {"sampling": {}}, {"roots": {}}),
        ("all", {"elicitation": {}, "roots": {}}, {"sampling": {}}),
    ],
)
async def test_what_a_client_did_not_declare_is_never_asked_of_it(name: str, capabilities: Any, required: Any) -> None:
    async with asking() as (_, client):
        client.capabilities = capabilities
        answer = await client.call("tools/call", call(client, name))
        assert (answer.status, answer.error["code"]) == (400, -32021)
        assert answer.error["data"] == {"requiredCapabilities": required}


@pytest.mark.parametrize("declared", [{}, {"form": {}}, {"form": {}, "url": {}}])
async def test_an_elicitation_capability_without_members_means_forms(declared: Any) -> None:
    async with asking() as (_, client):
        client.capabilities = {"elicitation": declared}
        assert (await once_more(client, call(client, "one")))["resultType"] == "input_required"


async def test_a_question_is_found_among_what_else_went_wrong_in_a_task_group() -> None:
    async with asking() as (_, client):
        params = call(client, "crowded")
        first = await once_more(client, params)
        assert list(first["inputRequests"]) == ["input"]
        more = {"inputResponses": {"input": accept(name="Ada")}, "requestState": first["requestState"]}
        assert said((await client.call("tools/call", {**params, **more}, id="last")).result) == "Ada"


async def test_a_question_that_cannot_be_asked_is_the_functions_mistake() -> None:
    async with asking() as (_, client):
        result = await once_more(client, call(client, "bad_raw"))
        assert result["isError"] and "tools/call" in result["content"][0]["text"]


async def test_a_round_that_was_announced_on_a_stream_ends_it() -> None:
    async with asking() as (_, client):
        answer = await client.call("tools/call", call(client, "told"),
                                   meta={"io.modelcontextprotocol/logLevel": "info"})  # fmt: skip
        assert len(answer.notifications) == 1 and answer.result["resultType"] == "input_required"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("prompts/get", {"name": "ask"}),
        ("resources/read", {"uri": "ask://it"}),
        ("resources/read", {"uri": "raw://it"}),
    ],
)
async def test_prompts_and_resources_may_ask_and_what_they_answer_then_is_not_for_the_cache(
    method: str, params: dict[str, Any]
) -> None:
    server = MCPServer("x", cache_hints={"resources/read": (1000, "public")})

    @server.prompt
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", NAME)).data["name"])

    server.add_resource("ask://it", ask)

    async def raw(ctx: Context) -> Any:
        if ctx.input_responses is None:
            return InputRequired({"input": Elicit("Who?", NAME)})
        return ctx.input_responses["input"]["content"]["name"]

    server.add_resource("raw://it", raw)
    async with listening(server, port=0) as running:
        client = Modern(running.port, capabilities=ALL)
        first = await once_more(client, params, method)
        assert first["resultType"] == "input_required" and "ttlMs" not in first
        more = {"requestState": first["requestState"]} if "requestState" in first else {}
        last = await once_more(client, params, method, inputResponses={"input": accept(name="Ada")}, **more)
        assert "Ada" in json.dumps(last)
        if method == "resources/read":
            assert (last["ttlMs"], last["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("method", ["tools/list", "completion/complete", "resources/list", "own/method"])
async def test_other_methods_may_not_ask(method: str, caplog: pytest.LogCaptureFixture) -> None:
    class Curious(ServerHandler):
        async def request(self, method: str, params: Any, ctx: Context) -> Any:
            if params.get("raw"):
                return InputRequired({"x": Elicit("Who?", NAME)})
            await ctx.elicit("Who?", NAME)
            return {}

        def capabilities(self) -> dict[str, Any]:
            return {"tools": {}, "resources": {}, "completions": {}}

    async with listening(Curious(), port=0) as running:
        client = Modern(running.port, capabilities=ALL)
        for raw in (False, True):
            answer = await client.call(method, {"raw": raw})
            assert (answer.status, answer.error["code"]) == (200, -32603)
    assert "asked for input" in caplog.text


async def test_a_retry_is_a_call_like_any_other_on_any_connection_with_any_id() -> None:
    async with asking() as (_, client):
        params = call(client, "two")
        first = await client.call("tools/call", params, id="a")
        more = {"inputResponses": {"input": accept(name="a")}, "requestState": first.result["requestState"]}
        # The same state twice, at once: nothing on the server remembers the first time.
        for id in ("a", 7):
            second = await client.call("tools/call", {**params, **more}, id=id)
            assert list(second.result["inputRequests"]) == ["input-2"]


# -- questions by themselves --


def test_a_question_object_or_a_mapping_will_do() -> None:
    question = Elicit("Who?", NAME)
    assert as_question(question) is question
    raw = as_question({"method": "roots/list"})
    assert (raw.method, raw.params(), raw.read({"roots": []})) == ("roots/list", {}, {"roots": []})
    with pytest.raises(ValueError, match="object"):
        raw.read([])
    for mapping in ({}, {"method": "ping"}, {"method": None}):
        with pytest.raises(ValueError, match="cannot be asked"):
            as_question(mapping)


@pytest.mark.parametrize(
    ("question", "capabilities", "missing"),
    [
        (RawQuestion("elicitation/create", {"mode": "url"}), {"elicitation": {}}, {"elicitation": {"url": {}}}),
        (RawQuestion("elicitation/create", {}), {"elicitation": {}}, None),
        (RawQuestion("sampling/createMessage", {"tools": []}), {"sampling": {}}, {"sampling": {"tools": {}}}),
        (RawQuestion("sampling/createMessage", {"maxTokens": 1}), {"sampling": {}}, None),
        (RawQuestion("roots/list", {}), {}, {"roots": {}}),
        (Sample("x", options={"toolChoice": {}}), {"sampling": {}}, {"sampling": {"tools": {}}}),
        (Sample("x", options={"tools": []}), {"sampling": {"tools": {}}}, None),
        (Sample("x"), {"sampling": None}, {"sampling": {}}),
        (ListRoots(), {"roots": {"listChanged": True}}, None),
        (ElicitURL("x", "https://a.example"), {"elicitation": {"url": {}}}, None),
        (ElicitURL("x", "https://a.example", "id"), {"elicitation": {"form": {}}}, {"elicitation": {"url": {}}}),
    ],
)
def test_a_question_knows_which_capability_it_needs(question: Any, capabilities: Any, missing: Any) -> None:
    assert question.missing(capabilities) == missing


def test_the_id_of_a_page_is_sent_where_there_is_one() -> None:
    page = {"mode": "url", "message": "x", "url": "https://a.example"}
    assert ElicitURL("x", "https://a.example").params() == page
    assert ElicitURL("x", "https://a.example", "").params() == {**page, "elicitationId": ""}


def test_an_input_required_asks_something_or_has_a_state() -> None:
    for empty in ({}, None):
        with pytest.raises(ValueError, match="needs"):
            InputRequired(empty)
        assert InputRequired(empty, state="").questions() == {}


def test_sampled_text_is_the_text_of_all_blocks() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "image", "data": ""}, "junk", {"type": "text", "text": "b"}]
    assert Sampled("assistant", blocks, "m", None).text == "ab"
    assert Sampled("assistant", {"type": "image"}, "m", None).text == ""
    messages = [{"role": "user", "content": {"type": "text", "text": "x"}}]
    assert Sample(messages).params() == {"messages": messages, "maxTokens": 1024}


def test_digests_differ_where_values_differ_and_only_there() -> None:
    values: list[Any] = [1, "1", 1.5, True, None, [], [1], {"a": 1}, {"b": 1}, {"a": {"b": 1}}, "é", "\ud800"]
    for a, b in itertools.combinations(values, 2):
        assert digest(a) != digest(b)
    assert digest("m", {"a": 1, "b": 2}) == digest("m", {"b": 2, "a": 1})
    assert digest("a", "b") != digest("ab") != digest(["a", "b"])


async def test_an_answer_of_a_session_that_does_not_fit_is_a_tool_error() -> None:
    async with asking() as (_, client):
        with pytest.raises(AssertionError, match="cannot be used"):
            await legacy(client.port, "one", lambda method, params: {"action": "maybe"})


def test_what_these_tests_judge_by_is_at_hand() -> None:
    wire.validator(E)
    assert issubclass(ToolError, Exception)

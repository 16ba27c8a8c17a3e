# SPDX-License-Identifier: MIT
"""Scopes are asked for the object that is served: each method, each kind of object, each way to name it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from rawclient import LIMIT, Legacy, Modern, RawClient
from serving import ASYNCIO, LEGACY, Held, call, modern, served
from test_auth import Verifier, ask, with_token

from mcp_h11 import Client, Context, InputRequired, MCPServer, Principal, ToolError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


# A scope that the caller has, and one that it does not have.
MINE, HR = "mine", "hr"
CALLER = Principal("ann", MINE, client_id="app")


class Office(Held):
    """A server with two objects of each kind, one for each scope; `ran` lists the objects that were served."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[str] = []
        for scope in (MINE, HR):
            self.add_tool(self.make(f"tool {scope}"), f"tool_{scope}", scopes=[scope])
            self.add_prompt(self.make(f"prompt {scope}"), f"prompt_{scope}", scopes=[scope])
            self.add_resource(f"{scope}://fixed", self.make(f"fixed {scope}"), scopes=[scope])
            self.add_resource(f"{scope}://all/{{x}}", self.make(f"template {scope}"), scopes=[scope])
        self.completion(self.complete_it)

    def make(self, label: str) -> Any:
        if "template" in label:

            async def template(x: str) -> str:
                self.ran.append(f"{label} {x}")
                return "read"

            return template

        async def plain() -> str:
            self.ran.append(label)
            return "done"

        async def prompt(x: str = "") -> str:
            return await plain()

        return prompt if "prompt" in label else plain

    async def complete_it(self, ref: dict[str, Any], argument: dict[str, Any]) -> list[str]:
        self.ran.append(f"completed {ref}")
        return ["a value"]


def office(handler: MCPServer, **options: Any) -> Any:
    return served(handler, verifier=Verifier(mine=CALLER), **options)


async def new(port: int, method: str, params: dict[str, Any]) -> int:
    """The status of a call of 2026-07-28 by the caller; a listen stream is closed at once."""
    if method == "subscriptions/listen":
        async with RawClient(port) as client:
            await client.send(modern(method, params, Authorization="Bearer mine"))
            return (await client.receive_stream("POST")).status
    return (await ask(port, modern(method, params, Authorization="Bearer mine"))).status


def completed(**ref: Any) -> dict[str, Any]:
    return {"ref": ref, "argument": {"name": "x", "value": ""}}


def listened(*uris: str) -> dict[str, Any]:
    return {"notifications": {"resourceSubscriptions": list(uris)}}


def objects(scope: str) -> list[tuple[str, dict[str, Any]]]:
    """Each method of 2026-07-28 on each kind of object that it can name."""
    return [
        ("tools/call", {"name": f"tool_{scope}", "arguments": {}}),
        ("prompts/get", {"name": f"prompt_{scope}"}),
        ("resources/read", {"uri": f"{scope}://fixed"}),
        ("resources/read", {"uri": f"{scope}://all/1"}),
        ("completion/complete", completed(type="ref/prompt", name=f"prompt_{scope}")),
        ("completion/complete", completed(type="ref/resource", uri=f"{scope}://all/{{x}}")),
        ("subscriptions/listen", listened(f"{scope}://fixed")),
        ("subscriptions/listen", listened(f"{scope}://all/1")),
        ("subscriptions/listen", listened(f"{MINE}://fixed", f"{scope}://all/1")),
    ]


@pytest.mark.parametrize("number", range(len(objects(HR))))
async def test_each_method_serves_what_the_caller_may_have_and_nothing_else(number: int) -> None:
    handler = Office()
    async with office(handler) as server:
        assert await new(server.port, *objects(HR)[number]) == 403
        assert not handler.ran
        assert await new(server.port, *objects(MINE)[number]) == 200


def session_objects(scope: str) -> list[tuple[str, dict[str, Any]]]:
    uris = [f"{scope}://fixed", f"{scope}://all/1"]
    named = [("resources/subscribe", {"uri": uri}) for uri in uris]
    named += [("resources/unsubscribe", {"uri": uri}) for uri in uris]
    return named + [one for one in objects(scope) if one[0] != "subscriptions/listen"]


@pytest.mark.parametrize("number", range(len(session_objects(HR))))
async def test_the_same_in_a_session_alone_and_in_a_batch(number: int) -> None:
    handler = Office()
    async with office(handler) as server:
        session = with_token(Legacy(server.port, "2025-03-26"), "mine")
        await session.initialize()
        closed, allowed = session_objects(HR)[number], session_objects(MINE)[number]
        assert (await session.call(*closed)).status == 403
        assert (await session.post([session.request(*allowed), session.request(*closed)])).status == 403
        assert not handler.ran
        assert "result" in (await session.call(*allowed)).message
        (answer,) = (await session.post([session.request(*allowed)])).messages()
        assert "result" in answer
        await session.delete()


# The caller names an object that it may use, together with an object of another kind that it may not use.
BOTH_KINDS = [
    {"type": "ref/resource", "uri": "hr://all/{x}", "name": "prompt_mine"},
    {"type": "ref/prompt", "name": "prompt_hr", "uri": "mine://all/{x}"},
    {"type": "ref/resource", "uri": "mine://all/{x}", "name": "prompt_hr"},
    {"type": "ref/resource", "uri": "hr://all/{x}", "name": "unknown"},
    {"type": "ref/resource", "uri": "hr://all/{x}", "name": ""},
    {"type": "ref/prompt", "name": "prompt_mine", "uri": ["mine://all/{x}"]},
]


@pytest.mark.parametrize("ref", BOTH_KINDS)
async def test_a_reference_with_members_of_both_kinds_is_refused(ref: dict[str, Any]) -> None:
    handler = Office()
    async with office(handler) as server:
        answer = await ask(server.port, modern("completion/complete", completed(**ref), Authorization="Bearer mine"))
        assert (answer.status, answer.json()["error"]["code"]) == (400, -32602)
        assert not handler.ran


@pytest.mark.parametrize(
    ("ref", "status"),
    [
        # Some clients write null for a missing member.
        ({"type": "ref/resource", "uri": "hr://all/{x}", "name": None}, 403),
        ({"type": "ref/prompt", "name": "prompt_hr", "uri": None}, 403),
        ({"type": "ref/prompt", "name": "prompt_mine", "uri": None}, 200),
        # The name of one kind under the type of the other.
        ({"type": "ref/prompt", "uri": "mine://all/{x}"}, 400),
        ({"type": "ref/resource", "name": "prompt_mine"}, 400),
        # The title does not select the prompt.
        ({"type": "ref/prompt", "name": "prompt_hr", "title": "prompt_mine"}, 403),
    ],
)
async def test_the_type_of_a_reference_alone_says_what_is_completed(ref: dict[str, Any], status: int) -> None:
    handler = Office()
    async with office(handler) as server:
        assert await new(server.port, "completion/complete", completed(**ref)) == status
        assert bool(handler.ran) == (status == 200)


@pytest.mark.parametrize(("fixed", "template", "status"), [(HR, MINE, 403), (MINE, HR, 200)])
async def test_where_a_fixed_resource_and_a_template_match_the_scopes_are_those_of_what_answers(
    fixed: str, template: str, status: int
) -> None:
    handler = Office()
    handler.add_resource("doc://a/{x}", handler.make("template"), scopes=[template])
    handler.add_resource("doc://a/1", handler.make("fixed"), scopes=[fixed])
    async with office(handler) as server:
        assert await new(server.port, "resources/read", {"uri": "doc://a/1"}) == status
        assert await new(server.port, "subscriptions/listen", listened("doc://a/1")) == status
        assert handler.ran == (["fixed"] if status == 200 else [])
        other = 403 if template == HR else 200
        assert await new(server.port, "resources/read", {"uri": "doc://a/2"}) == other


async def test_of_two_templates_that_match_the_first_decides_unless_it_refuses_the_path() -> None:
    handler = Office()
    handler.add_resource("doc://{x}", handler.make("template first"), scopes=[MINE])
    handler.add_resource("doc://{+x}", handler.make("template second"), scopes=[HR], any_path=True)
    async with office(handler) as server:
        assert await new(server.port, "resources/read", {"uri": "doc://a"}) == 200
        for uri in ("doc://..", "doc://%2e%2e%2fa", "doc://a/b"):
            assert await new(server.port, "resources/read", {"uri": uri}) == 403
        assert handler.ran == ["template first a"]


# --- what changes while a call waits ---------------------------------------------------------------------------------


async def test_a_tool_that_was_replaced_while_the_call_waited_in_line_is_not_run_without_its_scopes() -> None:
    handler = Office()
    async with office(handler, max_running=1) as server, anyio.create_task_group() as tasks:
        client = with_token(Modern(server.port), "mine")
        answers: list[Any] = []

        async def late(method: str, params: dict[str, Any]) -> None:
            answers.append(await client.call(method, params))

        tasks.start_soon(client.call, "tools/call", call("hold"))
        await handler.until(started=1)
        for one in objects(MINE)[:4]:
            tasks.start_soon(late, *one)
        with anyio.fail_after(LIMIT):
            while server.runtime.waiting < 4:
                await anyio.sleep(0)
        handler.remove_tool("tool_mine")
        handler.remove_prompt("prompt_mine")
        for uri in ("mine://fixed", "mine://all/{x}"):
            handler.remove_resource(uri)
            handler.add_resource(uri, handler.make("fixed" if "{" not in uri else "template"), scopes=[HR])
        handler.add_tool(handler.make("tool"), "tool_mine", scopes=[HR])
        handler.add_prompt(handler.make("prompt"), "prompt_mine", scopes=[HR])
        handler.released.set()
        with anyio.fail_after(LIMIT):
            while len(answers) < 4:
                await anyio.sleep(0)
    assert [answer.status for answer in answers] == [403] * 4
    assert not handler.ran


async def test_scopes_hold_from_the_first_tool_that_has_them_which_may_come_while_the_server_runs() -> None:
    handler = Held()
    async with office(handler) as server:
        assert await new(server.port, "tools/call", {"name": "echo", "arguments": {"text": "x"}}) == 200
        handler.add_tool(Office().make("tool"), "late", scopes=[HR])
        assert await new(server.port, "tools/call", {"name": "late", "arguments": {}}) == 403
        assert await new(server.port, "tools/call", {"name": "echo", "arguments": {"text": "x"}}) == 200


@pytest.mark.parametrize("way", ["a subclass", "an attribute"])
async def test_a_server_whose_entries_have_no_scopes_may_have_reasons_of_its_own(way: str) -> None:
    def needed(method: str, params: dict[str, Any]) -> list[str]:
        return [HR] if method == "tools/call" else []

    class Strict(Held):
        def required_scopes(self, method: str, params: dict[str, Any]) -> list[str]:
            return needed(method, params)

    handler = Strict() if way == "a subclass" else Held()
    if way == "an attribute":
        handler.required_scopes = needed  # type: ignore[method-assign]
    async with office(handler) as server:
        assert await new(server.port, "tools/call", {"name": "echo", "arguments": {"text": "x"}}) == 403
        assert await new(server.port, "tools/list", {}) == 200


async def test_a_round_that_comes_back_asks_for_the_scopes_of_what_is_there_now() -> None:
    handler = Office()

    async def asking(ctx: Context) -> Any:
        if ctx.request_state is None:
            handler.remove_tool("asking")
            handler.add_tool(handler.make("tool"), "asking", scopes=[HR])
            return InputRequired(state="once more")
        raise ToolError("this is not the function any more")

    for revision in ("2026-07-28", LEGACY):
        handler.add_tool(asking, "asking", scopes=[MINE])
        async with office(handler) as server:
            if revision == LEGACY:
                session = with_token(Legacy(server.port, LEGACY), "mine")
                await session.initialize()
                answer = await session.call("tools/call", call("asking"))
            else:
                client = with_token(Modern(server.port), "mine")
                answer = await client.call("tools/call", call("asking"))
                state = answer.result["requestState"]
                answer = await client.call("tools/call", {**call("asking"), "requestState": state})
            assert answer.status == 403 and not handler.ran
        handler.remove_tool("asking")


async def test_a_secret_that_opens_everything_opens_scoped_objects_of_each_kind() -> None:
    handler = Office()
    async with served(handler, token="mine") as server:
        for one in objects(HR):
            assert await new(server.port, *one) == 200


# --- other spellings of a URI ----------------------------------------------------------------------------------------

# A registered URI, and spellings of it that are equivalent by RFC 3986, 6.2.2.
SPELLED = [
    (
        "notes://docs/café",
        ["notes://docs/café", "notes://docs/caf%C3%A9", "notes://docs/caf%c3%a9", "NOTES://docs/café"],
    ),
    ("notes://docs/caf%c3%a9", ["notes://docs/café", "notes://docs/caf%C3%A9"]),
    ("notes://%64ocs/%7eann", ["notes://docs/~ann", "Notes://docs/%7Eann"]),
    ("https://Example.com/A", ["https://example.com/A", "HTTPS://EXAMPLE.COM/A"]),
    ("notes://é/{x}", ["notes://%C3%A9/1", "notes://%c3%a9/%31", "notes://é/1"]),
    ("https://Api.{x}.Example.com/", ["https://api.1.example.com/", "HTTPS://API.%31.example.COM/"]),
]
DIFFERENT = ["notes://docs/caf%25C3%25A9", "notes://Docs/café", "notes://docs/cafe", "notes://docs/./café"]


@pytest.mark.parametrize(("registered", "spelled"), SPELLED)
async def test_a_resource_is_closed_and_open_in_each_spelling_of_its_uri(registered: str, spelled: list[str]) -> None:
    for scope, status in ((HR, 403), (MINE, 200)):
        handler = Office()
        label = "template" if "{" in registered else "fixed"
        handler.add_resource(registered, handler.make(label), scopes=[scope])
        async with office(handler) as server:
            session = with_token(Legacy(server.port, LEGACY), "mine")
            await session.initialize()
            for uri in spelled:
                assert await new(server.port, "resources/read", {"uri": uri}) == status
                assert await new(server.port, "subscriptions/listen", listened(uri)) == status
                for method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
                    assert (await session.call(method, {"uri": uri})).status == status
            ref = completed(type="ref/resource", uri=registered)
            assert await new(server.port, "completion/complete", ref) == (
                403 if scope == HR else 400 if label == "fixed" else 200
            )
            reads = [line for line in handler.ran if "completed" not in line]
            assert reads == ([] if scope == HR else [label + " 1" * (label == "template")] * 2 * len(spelled))
            await session.delete()


async def test_what_is_not_equal_is_another_resource() -> None:
    handler = Office()
    handler.add_resource(SPELLED[0][0], handler.make("fixed"))
    async with office(handler) as server:
        for uri in DIFFERENT:
            assert await new(server.port, "resources/read", {"uri": uri}) == 400
    assert not handler.ran


class Noting(MCPServer):
    """A server that records subscriptions and their ends."""

    def __init__(self) -> None:
        super().__init__("noting")
        self.heard: list[str] = []

    async def subscribe(self, uri: str, ctx: Context) -> None:
        self.heard.append(uri)

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        self.heard.append("-" + uri)


PUBLISHED = ["notes://docs/café", "notes://docs/caf%c3%a9", "NOTES://docs/caf%C3%A9"]


def heard_of(message: Any) -> str:
    return str(message["params"].get("uri", message["method"]))


@pytest.mark.parametrize("own", ["notes://docs/caf%c3%a9", "notes://docs/café", "notes://docs/caf%C3%A9"])
async def test_a_change_reaches_subscribers_in_their_own_spelling(own: str) -> None:
    handler = Noting()
    async with served(handler) as server, Legacy(server.port, LEGACY) as session, session.get_stream() as stream:
        async with Modern(server.port).listen(resourceSubscriptions=[own]) as listener:
            await listener.next_message()
            assert (await session.call("resources/subscribe", {"uri": own})).result == {}
            for uri in PUBLISHED:
                handler.notify_resource_updated("notes://docs/other")
                handler.notify_resource_updated("notes://docs/caf%25C3%25A9")
                handler.notify_resource_updated(uri)
                assert heard_of(await stream.next_message()) == heard_of(await listener.next_message()) == own
            # A subscription that is added later gets its own spelling, too.
            assert (await session.call("resources/subscribe", {"uri": "notes://%7e"})).result == {}
            handler.notify_resource_updated("notes://~")
            assert heard_of(await stream.next_message()) == "notes://%7e"
        assert (await session.call("resources/unsubscribe", {"uri": PUBLISHED[0]})).result == {}
        assert (await session.call("resources/unsubscribe", {"uri": "notes://nothing"})).result == {}
        for uri in (*PUBLISHED, "notes://~"):
            handler.notify_resource_updated(uri)
        assert heard_of(await stream.next_message()) == "notes://%7e"
    # The handler is told of the end in the spelling of the subscription, so that it can count.
    assert handler.heard == [own, "notes://%7e", "-" + own, "-notes://nothing"]


async def test_a_client_of_ours_hears_of_what_a_server_spells_in_another_way() -> None:
    for protocol in ("2026-07-28", LEGACY):
        handler = Noting()
        async with Client(handler, revision=protocol) as client:
            async with client.listen(uris=["notes://docs/caf%c3%a9"]) as changes:
                handler.notify_resource_updated("notes://docs/café")
                with anyio.fail_after(LIMIT):
                    assert (await anext(aiter(changes)))[1]["uri"] == "notes://docs/caf%c3%a9"

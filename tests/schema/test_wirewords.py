# SPDX-License-Identifier: MIT
"""Objects of `mcp-types`, and Python's names for members: on the wire they are the wire's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mcp_types as sdk
import pytest
from rawclient import Legacy, Modern
from serving import ASYNCIO, LEGACY, call, served

from mcp_h11 import Context, MCPServer, Sample, ServerHandler
from mcp_h11.protocol.types import CallToolResult, Icon, ImageContent, ModelPreferences, ToolAnnotations
from mcp_h11.schema.wirewords import in_wire_words, is_foreign, plain

pytestmark = pytest.mark.anyio
TEXT = {"type": "text", "text": "x"}
PICTURE = {"type": "image", "data": "eA==", "mimeType": "image/png"}


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


def text(value: str = "x") -> Any:
    return sdk.TextContent(text=value)


def picture() -> Any:
    return sdk.ImageContent(data="eA==", mime_type="image/png")


class Mine(sdk.TextContent):
    """Derived from one of theirs."""


FORM = {"type": "object", "properties": {"it": {"type": "string"}}}
QUESTION = sdk.ElicitRequest(params=sdk.ElicitRequestFormParams(message="Which?", requested_schema=FORM))
# What a tool returns, how it is annotated, and the result.
RETURNED: list[tuple[Any, Any, dict[str, Any]]] = [
    (text(), sdk.TextContent, {"content": [TEXT]}),
    (text(), Any, {"content": [TEXT]}),
    (Mine(text="x"), Mine, {"content": [TEXT]}),
    ([text(), "y", picture()], list, {"content": [TEXT, {**TEXT, "text": "y"}, PICTURE]}),
    ([text(), picture()], list[sdk.TextContent | sdk.ImageContent], {"content": [TEXT, PICTURE]}),
    ((text(),), Any, {"content": [TEXT]}),
    (
        sdk.CallToolResult(content=[text()], is_error=True, structured_content={"mime_type": None}),
        sdk.CallToolResult,
        {"content": [TEXT], "isError": True, "structuredContent": {"mime_type": None}},
    ),
    (sdk.CallToolResult(content=[text()]), str, {"content": [TEXT], "isError": False}),
    ({"content": [text()], "is_error": True}, Any, {"content": [TEXT], "isError": True}),
    (
        sdk.ResourceLink(uri="a://b", name="b", mime_type="text/x"),
        Any,
        {"content": [{"type": "resource_link", "uri": "a://b", "name": "b", "mimeType": "text/x"}]},
    ),
    (
        sdk.EmbeddedResource(resource=sdk.TextResourceContents(uri="a://b", text="x", mime_type="text/x")),
        Any,
        {"content": [{"type": "resource", "resource": {"uri": "a://b", "text": "x", "mimeType": "text/x"}}]},
    ),
    # Our own types, with the names that Python has
    (
        CallToolResult(content=[TEXT], structured_content={"is_error": 1}, is_error=True),  # type: ignore[typeddict-unknown-key, typeddict-item]
        Any,
        {"content": [TEXT], "structuredContent": {"is_error": 1}, "isError": True},
    ),
    (ImageContent(type="image", data="eA==", mime_type="image/png"), ImageContent, {"content": [PICTURE]}),  # type: ignore[typeddict-unknown-key, typeddict-item]
    (
        [{**TEXT, "annotations": {"last_modified": "2026-01-01"}, "meta": {"mime_type": 1}}],
        Any,
        {"content": [{**TEXT, "annotations": {"lastModified": "2026-01-01"}, "_meta": {"mime_type": 1}}]},
    ),
    # What is no object of the protocol keeps its names.
    ({"mime_type": "x", "is_error": True}, Any, {"content": [{**TEXT, "text": '{"mime_type":"x","is_error":true}'}]}),
]


@pytest.mark.parametrize("number", range(len(RETURNED)))
async def test_what_a_tool_returns_is_taken_for_what_it_is(number: int) -> None:
    value, annotation, wanted = RETURNED[number]
    server = MCPServer()

    async def tool() -> Any:
        return value

    tool.__annotations__ = {"return": annotation}
    server.add_tool(tool, "t")
    async with served(server) as running, Legacy(running.port, LEGACY) as session:
        assert (await session.call("tools/call", call("t"))).result == wanted
        (listed,) = (await session.call("tools/list")).result["tools"]
        assert "outputSchema" not in listed
        found = (await Modern(running.port).call("tools/call", call("t"))).result
        assert {name: found[name] for name in wanted} == wanted


MESSAGE = {"role": "assistant", "content": TEXT}
PROMPTS: list[tuple[Any, list[Any]]] = [
    (sdk.PromptMessage(role="assistant", content=text()), [MESSAGE]),
    ([sdk.PromptMessage(role="assistant", content=text()), "x"], [MESSAGE, {"role": "user", "content": TEXT}]),
    (sdk.GetPromptResult(messages=[sdk.PromptMessage(role="assistant", content=text())]), [MESSAGE]),
    ([text()], [{"role": "user", "content": TEXT}]),
    ({"role": "assistant", "content": text()}, [MESSAGE]),
    (
        {"role": "user", "content": {**TEXT, "meta": {"a": 1}}},
        [{"role": "user", "content": {**TEXT, "_meta": {"a": 1}}}],
    ),
]
TYPED = {"uri": "r://a", "text": "x", "mimeType": "t/x"}
THEIRS = sdk.TextResourceContents(uri="r://a", text="x", mime_type="t/x")
READ: list[tuple[Any, list[Any]]] = [
    (THEIRS, [TYPED]),
    ([sdk.BlobResourceContents(uri="r://a", blob="eA==")], [{"uri": "r://a", "blob": "eA=="}]),
    (sdk.ReadResourceResult(contents=[THEIRS]), [TYPED]),
    ({"uri": "r://a", "text": "x", "mime_type": "t/x"}, [TYPED]),
]


async def test_prompts_resources_and_completions_return_them_too() -> None:
    server = MCPServer()
    returned: list[Any] = []

    async def give() -> Any:
        return returned[-1]

    server.add_prompt(give, "p")
    server.add_resource("r://a", give)

    @server.completion
    async def complete(ref: Any, argument: Any) -> Any:
        return returned[-1]

    @server.prompt
    async def asks(name: str) -> str:
        return name

    async with served(server) as running, Legacy(running.port, LEGACY) as session:
        for value, wanted in PROMPTS:
            returned.append(value)
            assert (await session.call("prompts/get", {"name": "p"})).result["messages"] == wanted
        for value, wanted in READ:
            returned.append(value)
            assert (await session.call("resources/read", {"uri": "r://a"})).result["contents"] == wanted
        whole = sdk.Completion(values=["a"], has_more=True)
        for value in (whole, sdk.CompleteResult(completion=whole), {"values": ["a"], "has_more": True}):
            returned.append(value)
            params = {"ref": {"type": "ref/prompt", "name": "asks"}, "argument": {"name": "name", "value": ""}}
            found = (await session.call("completion/complete", params)).result["completion"]
            assert found == {"values": ["a"], "hasMore": True}


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource"])
async def test_an_input_required_result_asks(kind: str) -> None:
    server = MCPServer()

    async def ask(ctx: Context) -> Any:
        if ctx.input_responses is None:
            return sdk.InputRequiredResult(input_requests={"q": QUESTION}, request_state="s")
        return f"{ctx.input_responses['q']['content']['it']} {ctx.request_state}"

    ask.__annotations__["return"] = str | sdk.InputRequiredResult
    server.add_tool(ask, "t")
    server.add_prompt(ask, "p")
    server.add_resource("r://a", ask)
    method, params = {
        "tool": ("tools/call", call("t")),
        "prompt": ("prompts/get", {"name": "p"}),
        "resource": ("resources/read", {"uri": "r://a"}),
    }[kind]
    async with served(server) as running:
        client = Modern(running.port, capabilities={"elicitation": {}})
        asked = (await client.call(method, params)).result
        assert asked["inputRequests"]["q"]["params"]["message"] == "Which?"
        answers = {"q": {"action": "accept", "content": {"it": "this"}}}
        again = {**params, "requestState": asked["requestState"], "inputResponses": answers}
        assert "this s" in str((await client.call(method, again)).result)


async def test_a_handler_of_your_own_may_return_whole_results() -> None:
    class Own(ServerHandler):
        async def call_tool(self, params: Any, ctx: Any) -> Any:
            return sdk.CallToolResult(content=[text()], is_error=True)

        async def list_tools(self, params: Any, ctx: Any) -> Any:
            return sdk.ListToolsResult(tools=[sdk.Tool(name="a", input_schema={"type": "object"})])

    async with served(Own()) as running, Legacy(running.port, LEGACY) as session:  # type: ignore[arg-type]
        assert (await session.call("tools/call", call("a"))).result == {"content": [TEXT], "isError": True}
        (tool,) = (await session.call("tools/list")).result["tools"]
        assert tool == {"name": "a", "inputSchema": {"type": "object"}}


async def test_what_is_registered_is_listed_in_the_words_of_the_wire() -> None:
    icon = Icon(src="https://a.example/i.png", mime_type="image/png")  # type: ignore[typeddict-unknown-key]
    wanted = [{"src": "https://a.example/i.png", "mimeType": "image/png"}]
    server = MCPServer(icons=[icon])
    hints = ToolAnnotations(read_only_hint=True, open_world_hint=False, title="T")  # type: ignore[typeddict-unknown-key]

    async def nothing() -> str:
        return ""

    theirs = sdk.ToolAnnotations(read_only_hint=True, open_world_hint=False, title="T")
    server.add_tool(nothing, "ours", annotations=hints, icons=[icon])
    server.add_tool(nothing, "theirs", annotations=theirs, icons=[sdk.Icon(src=icon["src"], mime_type="image/png")])  # type: ignore[arg-type]
    server.add_resource("r://a", nothing, icons=[icon], annotations={"last_modified": "2026-01-01"})
    server.add_prompt(nothing, "p", icons=[icon])
    async with served(server) as running, Legacy(running.port, LEGACY) as session:
        for tool in (await session.call("tools/list")).result["tools"]:
            assert tool["annotations"] == {"readOnlyHint": True, "openWorldHint": False, "title": "T"}
            assert tool["icons"] == wanted
        (resource,) = (await session.call("resources/list")).result["resources"]
        assert (resource["icons"], resource["annotations"]) == (wanted, {"lastModified": "2026-01-01"})
        assert (await session.call("prompts/list")).result["prompts"][0]["icons"] == wanted
    assert server.info()["icons"] == wanted


def test_what_is_asked_of_a_client_is_in_those_words() -> None:
    ours = ModelPreferences(cost_priority=0.5, hints=[{"name": "x"}])  # type: ignore[typeddict-unknown-key]
    for preferences in (ours, sdk.ModelPreferences(cost_priority=0.5, hints=[sdk.ModelHint(name="x")])):
        messages: Any = [sdk.SamplingMessage(role="user", content=text()), {"role": "user", "content": picture()}]
        params = Sample(messages, options={"modelPreferences": preferences, "temperature": 0.5}).params()
        assert params["modelPreferences"] == {"costPriority": 0.5, "hints": [{"name": "x"}]}
        assert params["messages"] == [{"role": "user", "content": TEXT}, {"role": "user", "content": PICTURE}]
        assert params["temperature"] == 0.5


def test_classes_are_known_by_where_they_are_from() -> None:
    class Imitation:
        __module__ = "mcp_types_of_mine"

    class Moved:
        __module__ = "mcp.types"

    assert is_foreign(sdk.TextContent) and is_foreign(Mine) and is_foreign(Moved)
    assert not any(map(is_foreign, (Imitation, str, "mcp_types", None)))
    moved = Moved()
    assert plain(moved) is moved  # there is no way to read it
    same: list[Any] = [1, "a"]
    assert plain(same) is same
    assert in_wire_words(({"mime_type": 1},)) == [{"mimeType": 1}]


def test_a_server_that_has_no_use_for_that_package_does_not_load_it() -> None:
    code = (
        "import sys, mcp_h11; s = mcp_h11.MCPServer(); s.add_tool(lambda: [1], 't'); print('mcp_types' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "False"

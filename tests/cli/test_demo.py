# SPDX-License-Identifier: MIT
"""The demo does what it shows: each feature over HTTP, with the official client, in both eras."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp import types as t

from mcp_h11 import __version__, listening
from mcp_h11.cli import demo

LIMIT = 60  # seconds, for a test that hangs
pytestmark = [pytest.mark.interop, pytest.mark.parametrize("mode", ["legacy", "auto"])]


def drive(mode: str, test: Callable[[Client], Awaitable[None]], **callbacks: Any) -> None:
    """Serve the demo, connect in one era ("auto" finds the modern one), and run `test` with the client."""

    async def main() -> None:
        with anyio.fail_after(LIMIT):
            async with listening(demo.server, port=0) as server:
                async with Client(server.url, mode=mode, cache=None, **callbacks) as client:
                    assert (client.protocol_version >= "2026") is (mode != "legacy")
                    await test(client)

    anyio.run(main)


def test_it_says_what_it_is(mode: str) -> None:
    async def test(client: Client) -> None:
        info = client.server_info
        assert info is not None
        assert (info.name, info.title, info.version) == ("demo", "mcp_h11 demo", __version__)
        assert client.instructions == demo.server.instructions
        offered = client.server_capabilities.model_dump(exclude_none=True)
        assert {"tools", "resources", "prompts", "completions", "logging"} <= set(offered)

    drive(mode, test)


def test_it_lists_one_of_each(mode: str) -> None:
    async def test(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["add", "count", "order_pizza", "find_city"]
        assert tools["add"].input_schema["required"] == ["a", "b"]
        assert tools["add"].annotations.read_only_hint is True
        # A context is the server's business, a description the docstring's, a bound the annotation's.
        properties = tools["count"].input_schema["properties"]
        assert set(properties) == {"to", "pause"}
        assert properties["to"]["description"] == "The last number."
        assert (properties["to"]["minimum"], properties["to"]["maximum"], properties["to"]["default"]) == (1, 100, 5)
        assert set(tools["find_city"].output_schema["properties"]) == {"name", "country", "latitude", "longitude"}
        assert [r.uri for r in (await client.list_resources()).resources] == ["demo://about"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["demo://cities/{name}"]
        (prompt,) = (await client.list_prompts()).prompts
        assert [(a.name, bool(a.required)) for a in prompt.arguments] == [("city", True), ("days", False)]

    drive(mode, test)


def test_add_is_a_plain_tool(mode: str) -> None:
    async def test(client: Client) -> None:
        result = await client.call_tool("add", {"a": 2, "b": 40})
        assert (result.content[0].text, result.is_error) == ("42", False)
        result = await client.call_tool("add", {"a": 2})
        assert result.is_error and "b" in result.content[0].text

    drive(mode, test)


def test_count_reports_progress_and_logs(mode: str) -> None:
    logged: list[Any] = []

    async def on_log(params: Any) -> None:
        logged.append((params.level, params.data))

    async def test(client: Client) -> None:
        seen: list[Any] = []

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            seen.append((done, total, message))

        result = await client.call_tool("count", {"to": 3, "pause": 0}, progress_callback=on_progress)
        assert result.content[0].text == "counted to 3"
        assert seen == [(1, 3, "1 of 3"), (2, 3, "2 of 3"), (3, 3, "3 of 3")]
        assert ("info", "counting to 3") in logged
        assert (await client.call_tool("count", {"to": 101})).is_error

    drive(mode, test, logging_callback=on_log, log_level="info" if mode != "legacy" else None)


@pytest.mark.parametrize(
    ("action", "content", "said"),
    [
        ("accept", {"size": "large", "olives": True}, "Ordered: one large marinara, with olives."),
        ("accept", {"size": "small"}, "Ordered: one small marinara, without olives."),
        ("decline", None, "No pizza was ordered."),
        ("cancel", None, "No pizza was ordered."),
    ],
)
def test_order_pizza_asks_the_user(mode: str, action: Any, content: Any, said: str) -> None:
    asked: list[Any] = []

    async def on_elicit(context: Any, params: Any) -> Any:
        asked.append(params)
        return t.ElicitResult(action=action, content=content)

    async def test(client: Client) -> None:
        result = await client.call_tool("order_pizza", {"kind": "marinara"})
        assert (result.content[0].text, result.is_error) == (said, False)
        (question,) = asked
        assert question.message == "How would you like your marinara?"
        schema = question.requested_schema
        assert schema["properties"]["size"]["enum"] == ["small", "medium", "large"]
        assert schema["required"] == ["size"]

    drive(mode, test, elicitation_callback=on_elicit)


def test_order_pizza_fails_where_the_client_cannot_ask(mode: str) -> None:
    async def test(client: Client) -> None:
        try:
            result = await client.call_tool("order_pizza", {})
        except MCPError as exc:
            assert "elicitation" in str(exc)
        else:
            assert result.is_error and "elicitation" in result.content[0].text

    drive(mode, test)


def test_find_city_has_structured_output(mode: str) -> None:
    async def test(client: Client) -> None:
        result = await client.call_tool("find_city", {"name": "oslo"})
        expected = {"name": "Oslo", "country": "Norway", "latitude": 59.91, "longitude": 10.75}
        assert result.structured_content == expected
        result = await client.call_tool("find_city", {"name": "Atlantis"})
        assert result.is_error
        assert result.content[0].text.endswith("no city 'Atlantis'; there are lisbon, nairobi, oslo, quito")

    drive(mode, test)


def test_a_resource_and_a_template_are_read(mode: str) -> None:
    async def test(client: Client) -> None:
        (about,) = (await client.read_resource("demo://about")).contents
        assert about.mime_type == "text/markdown" and about.text.startswith("# mcp_h11 demo")
        (page,) = (await client.read_resource("demo://cities/Quito")).contents
        assert (page.uri, page.mime_type) == ("demo://cities/Quito", "text/plain")
        assert page.text == "Quito, Ecuador: -0.18, -78.47"
        with pytest.raises(MCPError) as caught:
            await client.read_resource("demo://cities/Atlantis")
        assert caught.value.error.code == (-32602 if mode != "legacy" else -32002)

    drive(mode, test)


def test_a_prompt_is_filled_in(mode: str) -> None:
    async def test(client: Client) -> None:
        got = await client.get_prompt("plan_trip", {"city": "Oslo"})
        (message,) = got.messages
        assert message.role == "user"
        assert message.content.text.startswith("Plan a trip of 3 days to Oslo.")
        got = await client.get_prompt("plan_trip", {"city": "Oslo", "days": "9"})
        assert "9 days" in got.messages[0].content.text

    drive(mode, test)


def test_completion_knows_the_cities(mode: str) -> None:
    async def test(client: Client) -> None:
        prompt = t.PromptReference(type="ref/prompt", name="plan_trip")
        template = t.ResourceTemplateReference(type="ref/resource", uri="demo://cities/{name}")
        assert (await client.complete(prompt, {"name": "city", "value": "L"})).completion.values == ["Lisbon"]
        assert (await client.complete(prompt, {"name": "days", "value": ""})).completion.values == []
        every = (await client.complete(template, {"name": "name", "value": ""})).completion.values
        assert every == ["Lisbon", "Nairobi", "Oslo", "Quito"]

    drive(mode, test)

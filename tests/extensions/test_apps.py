# SPDX-License-Identifier: MIT
"""MCP Apps on the wire: pages, tools that name them, and texts for clients that show none."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, TypedDict

import pytest
from pipes_support import piped
from rawclient import Legacy, Modern
from tasks_support import TaskClient, text_of
from wire import C, D, E

from mcp_h11 import Context, Elicit, InputRequired, MCPServer, ToolError, listening
from mcp_h11.extensions.apps import PAGE_TYPE, UI, Apps
from mcp_h11.extensions.tasks import Tasks

pytestmark = pytest.mark.anyio

HOST = {"extensions": {UI: {"mimeTypes": [PAGE_TYPE]}}}
PAGE = "ui://clock/face.html"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Time(TypedDict):
    hour: int


def clock(**page: Any) -> tuple[Apps, MCPServer]:
    apps = Apps()
    apps.add_page(PAGE, "<!doctype html>", **page)

    @apps.tool(page=PAGE, fallback=lambda time: f"It is {time['hour']}.")
    def time_now() -> Time:
        "The time."
        return {"hour": 3}

    return apps, MCPServer("clock", extensions=[apps])


async def called(client: Any, name: str = "time_now") -> Any:
    return (await client.call("tools/call", {"name": name})).result


async def test_a_tool_names_its_page_which_is_a_resource() -> None:
    _, server = clock(title="The face", connect_domains=["https://a.example"], permissions=["camera"], domain="x",
                      prefers_border=False)  # fmt: skip
    async with listening(server, port=0) as running:
        client = Modern(running.port, capabilities=HOST)
        assert (await client.call("server/discover")).result["capabilities"]["extensions"] == {UI: {}}
        [tool] = (await client.call("tools/list")).result["tools"]
        assert tool["_meta"] == {"ui": {"resourceUri": PAGE}}
        [listed] = (await client.call("resources/list")).result["resources"]
        ui = {
            "csp": {"connectDomains": ["https://a.example"]},
            "permissions": {"camera": {}},
            "domain": "x",
            "prefersBorder": False,
        }
        assert listed == {
            "uri": PAGE, "name": PAGE, "title": "The face", "mimeType": PAGE_TYPE, "_meta": {"ui": ui},
        }  # fmt: skip
        [page] = (await client.call("resources/read", {"uri": PAGE})).result["contents"]
        assert page == {"uri": PAGE, "mimeType": PAGE_TYPE, "text": "<!doctype html>", "_meta": {"ui": ui}}


async def test_a_page_without_wishes_has_no_meta() -> None:
    _, server = clock()
    async with listening(server, port=0) as running:
        client = Modern(running.port)
        assert "_meta" not in (await client.call("resources/list")).result["resources"][0]
        assert "_meta" not in (await client.call("resources/read", {"uri": PAGE})).result["contents"][0]


@pytest.mark.parametrize(
    ("capabilities", "told"),
    [
        (HOST, '{"hour":3}'),
        ({}, "It is 3."),
        ({"extensions": {UI: {}}}, "It is 3."),
        ({"extensions": {UI: {"mimeTypes": ["text/html"]}}}, "It is 3."),
        ({"extensions": {UI: {"mimeTypes": 5}}}, "It is 3."),
    ],
)
@pytest.mark.parametrize("revision", [C, D, E])
async def test_a_client_that_shows_no_pages_gets_a_text(capabilities: Any, told: str, revision: str) -> None:
    _, server = clock()
    async with listening(server, port=0) as running:
        client: Any = Modern(running.port, capabilities=capabilities)
        if revision != E:
            client = Legacy(running.port, revision)
            await client.initialize(capabilities)
        result = await called(client)
    assert result["content"][0]["text"].replace(" ", "").lower() == told.replace(" ", "").lower()
    assert result["structuredContent"] == {"hour": 3}


async def test_pipes_have_pages() -> None:
    _, server = clock()
    async with piped(server) as wire:
        await wire.initialize(D, HOST)
        wire.request(1, "resources/read", {"uri": PAGE})
        assert (await wire.result(1))["contents"][0]["mimeType"] == PAGE_TYPE


async def test_pages_of_files_and_functions_are_made_at_each_request(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text("one")
    apps = Apps()
    apps.add_page("ui://a", file)
    made: list[int] = []
    apps.add_page("ui://b", lambda: f"made {len(made)}")
    async with listening(MCPServer("s", extensions=[apps]), port=0) as running:
        client = Modern(running.port)

        async def page(uri: str) -> Any:
            return (await client.call("resources/read", {"uri": uri})).result["contents"][0]["text"]

        assert (await page("ui://a"), await page("ui://b")) == ("one", "made 0")
        file.write_text("two")
        made.append(1)
        assert (await page("ui://a"), await page("ui://b")) == ("two", "made 1")


async def test_errors_questions_and_results_without_structure() -> None:
    apps = Apps()
    apps.add_page(PAGE, "x")

    @apps.tool(page=PAGE, fallback=lambda content: f"{len(content)} blocks", name="plain", visibility=["app"],
               meta={"com.example/x": 1})  # fmt: skip
    def plain_text() -> str:
        return "text"

    @apps.tool(page=PAGE, fallback=lambda content: "never")
    def fails() -> str:
        raise ToolError("no")

    @apps.tool(page=PAGE, fallback=lambda content: "never")
    def asks(ctx: Context) -> Any:
        schema = {"type": "object", "properties": {"x": {"type": "string"}}}
        return InputRequired({"q": Elicit("Which?", schema)})

    @apps.tool(page=PAGE)
    def bare() -> str:
        return "as it is"

    server = MCPServer("s", extensions=[apps])
    server.add_tool(lambda: "other", "other", input_schema={"type": "object"})
    async with listening(server, port=0) as running:
        client = Modern(running.port, capabilities={"elicitation": {}})
        assert (await called(client, "plain"))["content"][0]["text"] == "1 blocks"
        failed = await called(client, "fails")
        assert (failed["isError"], failed["content"][0]["text"]) == (True, "no")
        assert (await called(client, "asks"))["resultType"] == "input_required"
        assert (await called(client, "bare"))["content"][0]["text"] == "as it is"
        assert (await called(client, "other"))["content"][0]["text"] == "other"
        assert (await client.call("tools/call", {"name": 5})).error["code"] == -32602
        tools = {tool["name"]: tool for tool in (await client.call("tools/list")).result["tools"]}
        assert tools["plain"]["_meta"] == {"com.example/x": 1, "ui": {"resourceUri": PAGE, "visibility": ["app"]}}


async def test_pages_and_tools_may_come_while_it_serves() -> None:
    apps, server = clock()
    async with listening(server, port=0) as running:
        apps.add_page("ui://more", "more")
        apps.tool(page="ui://more", name="more")(lambda: "more")
        client = Modern(running.port)
        assert len((await client.call("tools/list")).result["tools"]) == 2
        assert len((await client.call("resources/list")).result["resources"]) == 2


async def test_a_tool_without_its_page_is_an_error_of_the_start() -> None:
    apps = Apps()
    apps.tool(page="ui://none", name="lost")(lambda: "x")
    with pytest.raises(ValueError, match="the tool lost has the page ui://none"):
        async with listening(MCPServer("s", extensions=[apps]), port=0):
            pass


def test_mistakes_of_the_author() -> None:
    apps, _ = clock()
    with pytest.raises(ValueError, match="begins with ui://"):
        apps.add_page("https://x.example", "x")
    with pytest.raises(ValueError, match="there is a page ui://clock/face.html already"):
        apps.add_page(PAGE, "x")
    with pytest.raises(ValueError, match="a permission is one of"):
        apps.add_page("ui://x", "x", permissions=["root"])
    with pytest.raises(ValueError, match="begins with ui://"):
        apps.tool(page="clock.html")
    for visibility in (["user"], []):
        with pytest.raises(ValueError, match="visibility is some of"):
            apps.tool(page=PAGE, visibility=visibility)
    with pytest.raises(ValueError, match="made of page and visibility"):
        apps.tool(page=PAGE, meta={"ui": {}})
    with pytest.raises(ValueError, match="one Apps is for one server"):
        MCPServer("other", extensions=[apps])


async def test_the_example_shows_dice() -> None:
    spec = importlib.util.spec_from_file_location("example_app_dice", EXAMPLES / "app_dice.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    async with listening(module.server, port=0) as running:
        page = (await Modern(running.port).call("resources/read", {"uri": "ui://dice/table.html"})).result
        assert page["contents"][0]["_meta"] == {"ui": {"prefersBorder": True}}
        result = await called(Modern(running.port), "roll")
        assert result["content"][0]["text"].startswith("You rolled ")
        assert len((await called(Modern(running.port, capabilities=HOST), "roll"))["structuredContent"]["eyes"]) == 2


@pytest.mark.parametrize("given", [(), ("tasks first",), ("apps first",)])
async def test_a_tool_with_a_page_that_runs_as_a_task_has_its_text_in_the_result_of_the_task(given: Any) -> None:
    apps = Apps()
    apps.add_page(PAGE, "<!doctype html>")

    @apps.tool(page=PAGE, fallback=lambda time: f"It is {time['hour']}.", task="optional")
    async def time_now() -> Time:
        "The time."
        return {"hour": 3}

    extensions: list[Any] = {(): [apps], ("tasks first",): [Tasks(), apps], ("apps first",): [apps, Tasks()]}[given]
    async with listening(MCPServer("clock", extensions=extensions), port=0) as running:
        client = TaskClient(running.port)
        ended = await client.until(await client.start("time_now"))
        assert text_of(ended) == "It is 3."

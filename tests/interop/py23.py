# SPDX-License-Identifier: MIT
"""Drives a server with the official Python SDK 2.x.

python py23.py http URL auto|legacy|2026-07-28
python py23.py stdio auto|legacy|2026-07-28 COMMAND...
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
from mcp import Client, MCPError
from mcp import types as t
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from steps import ACCEPT, BIG, ECHO, MISSING, PERSON, ROOT, UNWATCHED, WATCHED, code_of, emit, finish, post_status, step

warnings.simplefilter("ignore")


class Battery:
    """One connection and what it heard."""

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.updated: list[str] = []
        self.tools_changed = anyio.Event()
        self.heard = anyio.Event()
        self.sessions: list[str] = []
        self.resumed = 0
        self.client: Client

    async def on_response(self, response: httpx2.Response) -> None:
        if session := response.headers.get("mcp-session-id"):
            self.sessions.append(session)
        self.resumed += "last-event-id" in response.request.headers

    async def on_log(self, params: Any) -> None:
        self.logs.append(params.data)

    async def on_message(self, message: Any) -> None:
        if isinstance(message, t.ResourceUpdatedNotification):
            self.updated.append(str(message.params.uri))
            self.heard.set()
        elif isinstance(message, t.ToolListChangedNotification):
            self.tools_changed.set()

    async def on_sample(self, context: Any, params: Any) -> Any:
        asked = params.messages[0].content.text
        content = t.TextContent(type="text", text=f"the answer to {asked}")
        return t.CreateMessageResult(role="assistant", content=content, model="pretended", stop_reason="endTurn")

    async def on_elicit(self, context: Any, params: Any) -> Any:
        if params.message == ACCEPT:
            return t.ElicitResult(action="accept", content=PERSON)
        return t.ElicitResult(action="decline")

    async def on_roots(self, context: Any) -> Any:
        return t.ListRootsResult(roots=[t.Root(uri=ROOT, name="interop")])

    def options(self, mode: str) -> dict[str, Any]:
        return {
            "mode": mode,
            "log_level": "debug",
            "logging_callback": self.on_log,
            "message_handler": self.on_message,
            "sampling_callback": self.on_sample,
            "elicitation_callback": self.on_elicit,
            "list_roots_callback": self.on_roots,
            "cache": None,
        }

    @property
    def modern(self) -> bool:
        return self.client.protocol_version >= "2026"

    async def text(self, tool: str, /, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result
        return str(result.content[0].text)

    # -------------------------------------------------------------- steps

    async def connect(self) -> Any:
        info = self.client.server_info
        capabilities = self.client.server_capabilities.model_dump(exclude_none=True)
        return {
            "protocol": self.client.protocol_version,
            "server": info.name if info else None,
            "capabilities": sorted(name for name in capabilities if name not in ("experimental", "extensions")),
        }

    async def tools(self) -> Any:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def resources(self) -> Any:
        return [str(r.uri) for r in (await self.client.list_resources()).resources]

    async def templates(self) -> Any:
        return [r.uri_template for r in (await self.client.list_resource_templates()).resource_templates]

    async def prompts(self) -> Any:
        return [p.name for p in (await self.client.list_prompts()).prompts]

    async def call_text(self) -> Any:
        return await self.text("test_simple_text")

    async def call_echo(self) -> Any:
        return await self.text("battery_echo", text=ECHO) == ECHO

    async def call_image(self) -> Any:
        content = (await self.client.call_tool("test_image_content")).content[0]
        return [content.type, content.mime_type]

    async def call_structured(self) -> Any:
        return (await self.client.call_tool("battery_weather", {"city": "Paris"})).structured_content

    async def call_big(self) -> Any:
        return len(await self.text("battery_big", size=BIG))

    async def call_failing(self) -> Any:
        result = await self.client.call_tool("test_error_handling")
        return [result.is_error, "intentionally returns an error" in result.content[0].text]

    async def call_parallel(self) -> Any:
        answers: dict[int, bool] = {}

        async def one(n: int) -> None:
            answers[n] = await self.text("battery_echo", text=f"call {n}") == f"call {n}"

        async with anyio.create_task_group() as group:
            for n in range(10):
                group.start_soon(one, n)
        return sum(answers.values())

    async def progress(self) -> Any:
        seen: list[Any] = []

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            seen.append([done, total, message])

        await self.client.call_tool("test_tool_with_progress", progress_callback=on_progress)
        return seen

    async def logs_all(self) -> Any:
        if not self.modern:
            await self.client.set_logging_level("debug")
        self.logs.clear()
        await self.client.call_tool("test_tool_with_logging")
        return self.logs

    async def logs_filtered(self) -> Any:
        self.logs.clear()
        if self.modern:
            await self.client.call_tool("test_tool_with_logging", meta={"io.modelcontextprotocol/logLevel": "error"})
        else:
            await self.client.set_logging_level("error")
            await self.client.call_tool("test_tool_with_logging")
        return self.logs

    async def sampling(self) -> Any:
        return await self.text("test_sampling", prompt="hello")

    async def elicit_accept(self) -> Any:
        return await self.text("test_elicitation", message=ACCEPT)

    async def elicit_decline(self) -> Any:
        return await self.text("test_elicitation", message="no, thanks")

    async def roots(self) -> Any:
        return await self.text("battery_roots")

    async def changes(self) -> Any:
        """Subscribe to one resource, touch another and then that one: the first news is of the right one."""
        if self.modern:
            async with self.client.listen(tools_list_changed=True, resource_subscriptions=[WATCHED]) as subscription:
                await self.text("battery_touch", uri=UNWATCHED)
                await self.text("battery_touch", uri=WATCHED)
                first = await subscription.__anext__()
                await self.text("test_trigger_tool_change")
                second = await subscription.__anext__()
            return [first.uri, type(second).__name__]
        await self.client.subscribe_resource(WATCHED)
        await self.text("battery_touch", uri=UNWATCHED)
        await self.text("battery_touch", uri=WATCHED)
        await self.heard.wait()
        await self.client.unsubscribe_resource(WATCHED)
        await self.text("test_trigger_tool_change")
        await self.tools_changed.wait()
        return [*self.updated, "ToolsListChanged"]

    async def complete(self) -> Any:
        ref = t.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        return (await self.client.complete(ref, {"name": "arg1", "value": "test"})).completion.values

    async def prompt(self) -> Any:
        got = await self.client.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        return got.messages[0].content.text

    async def read_text(self) -> Any:
        return (await self.client.read_resource("test://static-text")).contents[0].text

    async def read_blob(self) -> Any:
        contents = (await self.client.read_resource("test://static-binary")).contents[0]
        return [contents.mime_type, len(contents.blob)]

    async def read_template(self) -> Any:
        return "Data for ID: 42" in (await self.client.read_resource("test://template/42/data")).contents[0].text

    async def cancel(self) -> Any:
        before = int(await self.text("battery_cancel_count"))
        running = anyio.Event()

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            running.set()

        async def call() -> None:
            await self.client.call_tool("battery_slow", {"seconds": 60}, progress_callback=on_progress)

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await running.wait()
            group.cancel_scope.cancel()
        while int(await self.text("battery_cancel_count")) == before:
            await anyio.sleep(0.02)
        return int(await self.text("battery_cancel_count")) - before

    async def resume(self) -> Any:
        """The answer to a call whose stream the server cut, and whether it took a resumption to get it."""
        before = self.resumed
        return [await self.text("test_reconnection"), self.resumed > before]

    async def unknown_tool(self) -> Any:
        return await code_of(lambda: self.client.call_tool(MISSING), MCPError)

    async def unknown_prompt(self) -> Any:
        return await code_of(lambda: self.client.get_prompt(MISSING), MCPError)

    async def unknown_resource(self) -> Any:
        return await code_of(lambda: self.client.read_resource(f"test://{MISSING}"), MCPError)

    async def bad_cursor(self) -> Any:
        return await code_of(lambda: self.client.list_tools(cursor=MISSING), MCPError)

    async def ping(self) -> Any:
        if self.modern:
            return "not in this revision"
        await self.client.send_ping()
        return "pong"

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        names = [
            "connect", "tools", "resources", "templates", "prompts",
            "call_text", "call_echo", "call_image", "call_structured", "call_big", "call_failing", "call_parallel",
            "progress", "logs_all", "logs_filtered", "sampling", "elicit_accept", "elicit_decline", "roots",
            "changes", "complete", "prompt", "read_text", "read_blob", "read_template", "cancel", "resume",
            "unknown_tool", "unknown_prompt", "unknown_resource", "bad_cursor", "ping",
        ]  # fmt: skip
        return [(name, getattr(self, name)) for name in names]


async def main(arguments: list[str]) -> None:
    battery = Battery()
    url = ""
    async with AsyncExitStack() as stack:
        target: Any
        if arguments[0] == "http":
            url, mode = arguments[1:]
            hooks = {"response": [battery.on_response]}
            http = await stack.enter_async_context(httpx2.AsyncClient(event_hooks=hooks, timeout=60))
            target = streamable_http_client(url, http_client=http)
        else:
            mode = arguments[1]
            target = StdioServerParameters(command=arguments[2], args=arguments[3:], env=dict(os.environ))
        battery.client = await stack.enter_async_context(Client(target, **battery.options(mode)))
        version = battery.client.protocol_version
        for name, run in battery.steps():
            await step(name, run)
    gone = post_status(url, battery.sessions[0], version) if battery.sessions else "no session"
    emit("after_delete", value=gone)


finish(main)

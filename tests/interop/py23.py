# SPDX-License-Identifier: MIT
"""Drives a server with the official Python SDK 2.x.

python py23.py http URL auto|legacy|2026-07-28
python py23.py stdio auto|legacy|2026-07-28 COMMAND...
"""

from __future__ import annotations

import os
import warnings
from contextlib import AsyncExitStack
from typing import Any

import httpx2
from battery import Battery
from mcp import Client, MCPError
from mcp import types as t
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from steps import MISSING, ROOT, UNWATCHED, WATCHED, code_of, emit, finish, post_status, step

warnings.simplefilter("ignore")


class Driver(Battery):
    client: Client
    error = MCPError

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[str] = []

    async def on_response(self, response: httpx2.Response) -> None:
        if session := response.headers.get("mcp-session-id"):
            self.sessions.append(session)
        self.resumed += "last-event-id" in response.request.headers

    async def on_sample(self, context: Any, params: Any) -> Any:
        asked = params.messages[0].content.text
        content = t.TextContent(type="text", text=f"the answer to {asked}")
        return t.CreateMessageResult(role="assistant", content=content, model="pretended", stop_reason="endTurn")

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

    async def templates(self) -> Any:
        return [r.uri_template for r in (await self.client.list_resource_templates()).resource_templates]

    async def call_image(self) -> Any:
        content = (await self.client.call_tool("test_image_content")).content[0]
        return [content.type, content.mime_type]

    async def call_structured(self) -> Any:
        return (await self.client.call_tool("battery_weather", {"city": "Paris"})).structured_content

    async def call_failing(self) -> Any:
        result = await self.client.call_tool("test_error_handling")
        return [result.is_error, "intentionally returns an error" in result.content[0].text]

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

    async def changes(self) -> Any:
        """Subscribe to one resource, touch another and then that one: the first news is of the right one."""
        if not self.modern:
            return await super().changes()
        async with self.client.listen(tools_list_changed=True, resource_subscriptions=[WATCHED]) as subscription:
            await self.text("battery_touch", uri=UNWATCHED)
            await self.text("battery_touch", uri=WATCHED)
            first = await subscription.__anext__()
            await self.text("test_trigger_tool_change")
            second = await subscription.__anext__()
        return [first.uri, type(second).__name__]

    async def read_blob(self) -> Any:
        contents = await self.read("test://static-binary")
        return [contents.mime_type, len(contents.blob)]

    async def bad_cursor(self) -> Any:
        return await code_of(lambda: self.client.list_tools(cursor=MISSING), MCPError)

    async def ping(self) -> Any:
        if self.modern:
            return "not in this revision"
        await self.client.send_ping()
        return "pong"


async def main(arguments: list[str]) -> None:
    battery = Driver()
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

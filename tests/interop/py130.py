# SPDX-License-Identifier: MIT
"""Drives a server with the official Python SDK 1.x.

python py130.py http URL [REVISION]
python py130.py sse URL [REVISION]
python py130.py stdio COMMAND...

REVISION is the one to ask for in `initialize`, where it is not to be the newest that the SDK knows.
"""

from __future__ import annotations

import os
import warnings
from contextlib import AsyncExitStack
from typing import Any

import httpx
import mcp.types as t
from battery import Battery
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl
from steps import MISSING, ROOT, code_of, emit, finish, post_status, step

warnings.simplefilter("ignore")


class Driver(Battery):
    client: ClientSession
    hello: t.InitializeResult
    error = McpError

    @staticmethod
    def uri(uri: str) -> AnyUrl:
        return AnyUrl(uri)

    async def on_response(self, response: httpx.Response) -> None:
        self.resumed += "last-event-id" in response.request.headers

    async def on_sample(self, context: Any, params: Any) -> Any:
        asked = params.messages[0].content.text
        content = t.TextContent(type="text", text=f"the answer to {asked}")
        return t.CreateMessageResult(role="assistant", content=content, model="pretended", stopReason="endTurn")

    async def on_roots(self, context: Any) -> Any:
        return t.ListRootsResult(roots=[t.Root(uri=AnyUrl(ROOT), name="interop")])

    def connect_to(self, read: Any, write: Any) -> ClientSession:
        return ClientSession(
            read,
            write,
            logging_callback=self.on_log,
            message_handler=self.on_message,
            sampling_callback=self.on_sample,
            elicitation_callback=self.on_elicit,
            list_roots_callback=self.on_roots,
        )

    async def text(self, tool: str, /, **arguments: Any) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert not result.isError, result
        return str(result.content[0].text)

    # -------------------------------------------------------------- steps

    async def connect(self) -> Any:
        self.hello = await self.client.initialize()
        capabilities = self.hello.capabilities.model_dump(exclude_none=True)
        return {
            "protocol": self.hello.protocolVersion,
            "server": self.hello.serverInfo.name,
            "capabilities": sorted(name for name in capabilities if name not in ("experimental", "extensions")),
        }

    async def templates(self) -> Any:
        return [r.uriTemplate for r in (await self.client.list_resource_templates()).resourceTemplates]

    async def call_image(self) -> Any:
        content = (await self.client.call_tool("test_image_content")).content[0]
        return [content.type, content.mimeType]

    async def call_structured(self) -> Any:
        return (await self.client.call_tool("battery_weather", {"city": "Paris"})).structuredContent

    async def call_failing(self) -> Any:
        result = await self.client.call_tool("test_error_handling")
        return [result.isError, "intentionally returns an error" in result.content[0].text]

    async def logs_all(self) -> Any:
        await self.client.set_logging_level("debug")
        self.logs.clear()
        await self.client.call_tool("test_tool_with_logging")
        return self.logs

    async def logs_filtered(self) -> Any:
        self.logs.clear()
        await self.client.set_logging_level("error")
        await self.client.call_tool("test_tool_with_logging")
        return self.logs

    async def read_blob(self) -> Any:
        contents = await self.read("test://static-binary")
        return [contents.mimeType, len(contents.blob)]

    async def before_cancelling(self) -> None:
        # This SDK has no way to cancel: its users write the notification, with the id that the call has got.
        params = t.CancelledNotificationParams(requestId=self.client._request_id - 1, reason="no longer needed")
        await self.client.send_notification(t.ClientNotification(t.CancelledNotification(params=params)))

    async def bad_cursor(self) -> Any:
        page = t.PaginatedRequestParams(cursor=MISSING)
        return await code_of(lambda: self.client.list_tools(params=page), McpError)

    async def ping(self) -> Any:
        await self.client.send_ping()
        return "pong"


async def main(arguments: list[str]) -> None:
    battery = Driver()
    transport, url = arguments[:2]
    session_id = None
    if transport != "stdio" and len(arguments) > 2:
        t.LATEST_PROTOCOL_VERSION = arguments[2]  # type: ignore[misc]  # what ClientSession.initialize sends
    async with AsyncExitStack() as stack:
        read: Any
        write: Any
        if transport == "http":
            hooks: Any = {"response": [battery.on_response]}
            http = await stack.enter_async_context(httpx.AsyncClient(event_hooks=hooks, timeout=60))
            read, write, session_id = await stack.enter_async_context(streamable_http_client(url, http_client=http))
        elif transport == "sse":
            read, write = await stack.enter_async_context(sse_client(url))
        else:
            server = StdioServerParameters(command=arguments[1], args=arguments[2:], env=dict(os.environ))
            read, write = await stack.enter_async_context(stdio_client(server))
        battery.client = await stack.enter_async_context(battery.connect_to(read, write))
        for name, run in battery.steps():
            await step(name, run)
        session = session_id() if session_id else None
    gone = post_status(url, session, battery.hello.protocolVersion) if session else "no session"
    emit("after_delete", value=gone)


finish(main)

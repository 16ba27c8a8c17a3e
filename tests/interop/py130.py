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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import mcp.types as t
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl
from steps import ACCEPT, BIG, ECHO, MISSING, PERSON, ROOT, UNWATCHED, WATCHED, code_of, emit, finish, post_status, step

warnings.simplefilter("ignore")


class Battery:
    """One connection and what it heard."""

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.updated: list[str] = []
        self.tools_changed = anyio.Event()
        self.heard = anyio.Event()
        self.resumed = 0
        self.session: ClientSession
        self.hello: t.InitializeResult

    async def on_response(self, response: httpx.Response) -> None:
        self.resumed += "last-event-id" in response.request.headers

    async def on_log(self, params: Any) -> None:
        self.logs.append(params.data)

    async def on_message(self, message: Any) -> None:
        notification = getattr(message, "root", message)
        if isinstance(notification, t.ResourceUpdatedNotification):
            self.updated.append(str(notification.params.uri))
            self.heard.set()
        elif isinstance(notification, t.ToolListChangedNotification):
            self.tools_changed.set()

    async def on_sample(self, context: Any, params: Any) -> Any:
        asked = params.messages[0].content.text
        content = t.TextContent(type="text", text=f"the answer to {asked}")
        return t.CreateMessageResult(role="assistant", content=content, model="pretended", stopReason="endTurn")

    async def on_elicit(self, context: Any, params: Any) -> Any:
        if params.message == ACCEPT:
            return t.ElicitResult(action="accept", content=PERSON)
        return t.ElicitResult(action="decline")

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
        result = await self.session.call_tool(tool, arguments)
        assert not result.isError, result
        return str(result.content[0].text)

    # -------------------------------------------------------------- steps

    async def connect(self) -> Any:
        self.hello = await self.session.initialize()
        capabilities = self.hello.capabilities.model_dump(exclude_none=True)
        return {
            "protocol": self.hello.protocolVersion,
            "server": self.hello.serverInfo.name,
            "capabilities": sorted(name for name in capabilities if name not in ("experimental", "extensions")),
        }

    async def tools(self) -> Any:
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def resources(self) -> Any:
        return [str(r.uri) for r in (await self.session.list_resources()).resources]

    async def templates(self) -> Any:
        return [r.uriTemplate for r in (await self.session.list_resource_templates()).resourceTemplates]

    async def prompts(self) -> Any:
        return [p.name for p in (await self.session.list_prompts()).prompts]

    async def call_text(self) -> Any:
        return await self.text("test_simple_text")

    async def call_echo(self) -> Any:
        return await self.text("battery_echo", text=ECHO) == ECHO

    async def call_image(self) -> Any:
        content = (await self.session.call_tool("test_image_content")).content[0]
        return [content.type, content.mimeType]

    async def call_structured(self) -> Any:
        return (await self.session.call_tool("battery_weather", {"city": "Paris"})).structuredContent

    async def call_big(self) -> Any:
        return len(await self.text("battery_big", size=BIG))

    async def call_failing(self) -> Any:
        result = await self.session.call_tool("test_error_handling")
        return [result.isError, "intentionally returns an error" in result.content[0].text]

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

        await self.session.call_tool("test_tool_with_progress", progress_callback=on_progress)
        return seen

    async def logs_all(self) -> Any:
        await self.session.set_logging_level("debug")
        self.logs.clear()
        await self.session.call_tool("test_tool_with_logging")
        return self.logs

    async def logs_filtered(self) -> Any:
        self.logs.clear()
        await self.session.set_logging_level("error")
        await self.session.call_tool("test_tool_with_logging")
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
        await self.session.subscribe_resource(AnyUrl(WATCHED))
        await self.text("battery_touch", uri=UNWATCHED)
        await self.text("battery_touch", uri=WATCHED)
        await self.heard.wait()
        await self.session.unsubscribe_resource(AnyUrl(WATCHED))
        await self.text("test_trigger_tool_change")
        await self.tools_changed.wait()
        return [*self.updated, "ToolsListChanged"]

    async def complete(self) -> Any:
        ref = t.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        return (await self.session.complete(ref, {"name": "arg1", "value": "test"})).completion.values

    async def prompt(self) -> Any:
        got = await self.session.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        return got.messages[0].content.text

    async def read(self, uri: str) -> Any:
        return (await self.session.read_resource(AnyUrl(uri))).contents[0]

    async def read_text(self) -> Any:
        return (await self.read("test://static-text")).text

    async def read_blob(self) -> Any:
        contents = await self.read("test://static-binary")
        return [contents.mimeType, len(contents.blob)]

    async def read_template(self) -> Any:
        return "Data for ID: 42" in (await self.read("test://template/42/data")).text

    async def cancel(self) -> Any:
        before = int(await self.text("battery_cancel_count"))
        running = anyio.Event()

        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            running.set()

        async def call() -> None:
            await self.session.call_tool("battery_slow", {"seconds": 60}, progress_callback=on_progress)

        # This SDK has no way to cancel: its users write the notification, with the id that the call will get.
        request_id = self.session._request_id
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await running.wait()
            params = t.CancelledNotificationParams(requestId=request_id, reason="no longer needed")
            await self.session.send_notification(t.ClientNotification(t.CancelledNotification(params=params)))
            group.cancel_scope.cancel()
        while int(await self.text("battery_cancel_count")) == before:
            await anyio.sleep(0.02)
        return int(await self.text("battery_cancel_count")) - before

    async def resume(self) -> Any:
        """The answer to a call whose stream the server cut, and whether it took a resumption to get it."""
        before = self.resumed
        return [await self.text("test_reconnection"), self.resumed > before]

    async def unknown_tool(self) -> Any:
        return await code_of(lambda: self.session.call_tool(MISSING), McpError)

    async def unknown_prompt(self) -> Any:
        return await code_of(lambda: self.session.get_prompt(MISSING), McpError)

    async def unknown_resource(self) -> Any:
        return await code_of(lambda: self.session.read_resource(AnyUrl(f"test://{MISSING}")), McpError)

    async def bad_cursor(self) -> Any:
        page = t.PaginatedRequestParams(cursor=MISSING)
        return await code_of(lambda: self.session.list_tools(params=page), McpError)

    async def ping(self) -> Any:
        await self.session.send_ping()
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
        battery.session = await stack.enter_async_context(battery.connect_to(read, write))
        for name, run in battery.steps():
            await step(name, run)
        session = session_id() if session_id else None
    gone = post_status(url, session, battery.hello.protocolVersion) if session else "no session"
    emit("after_delete", value=gone)


finish(main)

# SPDX-License-Identifier: MIT
"""The steps of the battery that both generations of the official Python SDK spell alike.

It runs beside whichever of the two its interpreter has.  What they spell differently, and what only one can do, is in
the driver of each (`py130.py`, `py23.py`): a subclass with the steps that are missing here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import types as t
from steps import ACCEPT, BIG, ECHO, MISSING, PERSON, UNWATCHED, WATCHED, code_of


class Battery:
    """One connection and what it heard."""

    client: Any  # ClientSession of 1.x, Client of 2.x
    error: type[Exception]  # what it raises for a JSON-RPC error

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.updated: list[str] = []
        self.tools_changed = anyio.Event()
        self.heard = anyio.Event()
        self.resumed = 0

    @staticmethod
    def uri(uri: str) -> Any:
        """A URI as the SDK takes it."""
        return uri

    async def on_log(self, params: Any) -> None:
        self.logs.append(params.data)

    async def on_message(self, message: Any) -> None:
        # 1.x wraps it
        notification = getattr(message, "root", message)
        if isinstance(notification, t.ResourceUpdatedNotification):
            self.updated.append(str(notification.params.uri))
            self.heard.set()
        elif isinstance(notification, t.ToolListChangedNotification):
            self.tools_changed.set()

    async def on_elicit(self, context: Any, params: Any) -> Any:
        if params.message == ACCEPT:
            return t.ElicitResult(action="accept", content=PERSON)
        return t.ElicitResult(action="decline")

    async def text(self, tool: str, /, **arguments: Any) -> str:
        """The text that a tool answers with; AssertionError where that is an error."""
        raise NotImplementedError

    # -------------------------------------------------------------- steps

    async def tools(self) -> Any:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def resources(self) -> Any:
        return [str(r.uri) for r in (await self.client.list_resources()).resources]

    async def prompts(self) -> Any:
        return [p.name for p in (await self.client.list_prompts()).prompts]

    async def call_text(self) -> Any:
        return await self.text("test_simple_text")

    async def call_echo(self) -> Any:
        return await self.text("battery_echo", text=ECHO) == ECHO

    async def call_big(self) -> Any:
        return len(await self.text("battery_big", size=BIG))

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
        await self.client.subscribe_resource(self.uri(WATCHED))
        await self.text("battery_touch", uri=UNWATCHED)
        await self.text("battery_touch", uri=WATCHED)
        await self.heard.wait()
        await self.client.unsubscribe_resource(self.uri(WATCHED))
        await self.text("test_trigger_tool_change")
        await self.tools_changed.wait()
        return [*self.updated, "ToolsListChanged"]

    async def complete(self) -> Any:
        ref = t.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        return (await self.client.complete(ref, {"name": "arg1", "value": "test"})).completion.values

    async def prompt(self) -> Any:
        got = await self.client.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        return got.messages[0].content.text

    async def read(self, uri: str) -> Any:
        return (await self.client.read_resource(self.uri(uri))).contents[0]

    async def read_text(self) -> Any:
        return (await self.read("test://static-text")).text

    async def read_template(self) -> Any:
        return "Data for ID: 42" in (await self.read("test://template/42/data")).text

    async def resume(self) -> Any:
        """The answer to a call whose stream the server cut, and whether it took a resumption to get it."""
        before = self.resumed
        return [await self.text("test_reconnection"), self.resumed > before]

    async def unknown_tool(self) -> Any:
        return await code_of(lambda: self.client.call_tool(MISSING), self.error)

    async def unknown_prompt(self) -> Any:
        return await code_of(lambda: self.client.get_prompt(MISSING), self.error)

    async def unknown_resource(self) -> Any:
        return await code_of(lambda: self.client.read_resource(self.uri(f"test://{MISSING}")), self.error)

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
            await self.before_cancelling()
            group.cancel_scope.cancel()
        while int(await self.text("battery_cancel_count")) == before:
            await anyio.sleep(0.02)
        return int(await self.text("battery_cancel_count")) - before

    async def before_cancelling(self) -> None:
        """What has to be said beside cancelling the task of the call, which was the last to be sent."""

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[Any]]]]:
        names = [
            "connect", "tools", "resources", "templates", "prompts",
            "call_text", "call_echo", "call_image", "call_structured", "call_big", "call_failing", "call_parallel",
            "progress", "logs_all", "logs_filtered", "sampling", "elicit_accept", "elicit_decline", "roots",
            "changes", "complete", "prompt", "read_text", "read_blob", "read_template", "cancel", "resume",
            "unknown_tool", "unknown_prompt", "unknown_resource", "bad_cursor", "ping",
        ]  # fmt: skip
        return [(name, getattr(self, name)) for name in names]

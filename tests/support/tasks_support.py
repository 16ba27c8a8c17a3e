# SPDX-License-Identifier: MIT
"""A server whose tools are tasks that a test holds and releases, and a client of 2026-07-28 that announces tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
from rawclient import LIMIT, Answer, Modern
from serving import call

from mcp_h11 import Context, Elicit, InputRequired, InvalidParams, MCPServer, ToolError
from mcp_h11.extensions.tasks import Tasks

TASKS = "io.modelcontextprotocol/tasks"
ABLE: dict[str, Any] = {"elicitation": {"form": {}}, "extensions": {TASKS: {}}}
TERMINAL = ("completed", "failed", "cancelled")
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Jobs(MCPServer):
    """Each tool ends when the test releases it, or has been answered."""

    def __init__(self, extensions: Any = (), **tasks: Any) -> None:
        super().__init__("jobs", version="1", extensions=[Tasks(**tasks), *extensions])
        self.released = asyncio.Event()
        self.log: list[str] = []
        self.changed = asyncio.Event()
        self.add_tool(self.plain)
        for tool in (self.hold, self.big, self.fail, self.refuse, self.leave, self.progress, self.stubborn, self.nan):
            self.add_tool(tool, task="optional")
        for asking in (self.ask, self.two, self.rounds, self.stepping, self.again):
            self.add_tool(asking, task="required")
        for late in (self.late, self.never):
            self.add_tool(late, task="later")

    def note(self, line: str) -> None:
        self.log.append(line)
        self.changed.set()

    async def noted(self, *lines: str) -> None:
        """Wait until each of these was noted."""
        with anyio.fail_after(LIMIT):
            while not {*lines} <= {*self.log}:
                self.changed.clear()
                await self.changed.wait()

    async def plain(self, text: str = "") -> str:
        return f"plain {text}"

    async def hold(self, label: str = "hold") -> str:
        """Waits until it is released."""
        self.note(f"began {label}")
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.note(f"cancelled {label}")
            raise
        return f"{label} released"

    async def stubborn(self) -> str:
        """Ignores its cancellation."""
        self.note("began stubborn")
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:  # noqa: PERF203
                self.note("ignored")
        return "too late"

    async def big(self, size: int) -> str:
        return "x" * size

    async def fail(self, how: str = "tool") -> str:
        raise ToolError("as foreseen") if how == "tool" else ValueError("a bug")

    async def refuse(self) -> str:
        raise InvalidParams("no such thing", {"why": "because"})

    async def leave(self) -> str:
        raise SystemExit(3)

    async def nan(self) -> dict[str, Any]:
        return {"content": [], "structuredContent": {"x": float("nan")}}

    async def progress(self, ctx: Context, many: int = 1) -> str:
        for done in range(1, many + 1):
            await ctx.report_progress(done, many, f"step {done}")
            await ctx.info("never seen")
        return await self.hold("progress")

    async def ask(self, ctx: Context) -> str:
        answer = await ctx.elicit("Your name?", NAME)
        self.note("answered")
        return f"{answer.action} {answer.content}"

    async def two(self, ctx: Context) -> str:
        answers = await ctx.ask(first=Elicit("The first?", NAME), second=Elicit("The second?", NAME))
        return " ".join(f"{key}={answer.content}" for key, answer in answers.items())

    async def rounds(self, ctx: Context) -> Any:
        """Asks by what it returns, twice under one key."""
        given = (ctx.input_responses or {}).get("name", {}).get("content", {}).get("name")
        if ctx.request_state == "two":
            return f"in the end {given}"
        return InputRequired({"name": Elicit(f"After {given}?", NAME)}, state="one" if given is None else "two")

    async def stepping(self, ctx: Context) -> Any:
        """Has no question, and a second step."""
        if ctx.request_state is None:
            return InputRequired(state="one")
        return f"{ctx.input_responses} after {ctx.request_state}"

    async def again(self, ctx: Context) -> Any:
        """Never has enough."""
        return InputRequired({"name": Elicit("More?", NAME)}, state="more")

    async def late(self, ctx: Context) -> str:
        """A round of the call, then a task with a question of its own."""
        first = await ctx.elicit("Before?", NAME)
        count = await ctx.once("count", lambda: self.note("once"))
        begun = await ctx.start_task("It has begun")
        await ctx.start_task("A second time")
        second = await ctx.elicit("Within?", NAME) if begun else None
        return f"{first.content} {count} {begun} {second and second.content}"

    async def never(self, ctx: Context, how: str = "result") -> str:
        """Ends before it becomes a task."""
        if how == "wait":
            return await self.hold("never")
        if how == "result":
            return "at once"
        raise InvalidParams("not so")


class TaskClient(Modern):
    """A client that announces tasks."""

    def __init__(self, port: int, *, user: str = "", capabilities: Any = None, **options: Any) -> None:
        super().__init__(port, capabilities=ABLE if capabilities is None else capabilities, **options)
        if user:
            self.extra_headers["X-User"] = user

    async def start(self, tool: str, **arguments: Any) -> str:
        """Call a tool that becomes a task; its id."""
        made = (await self.call("tools/call", call(tool, **arguments))).result
        assert made["resultType"] == "task", made
        return str(made["taskId"])

    async def get(self, task_id: str) -> dict[str, Any]:
        """The state of a task."""
        found: dict[str, Any] = (await self.call("tasks/get", {"taskId": task_id})).result
        return found

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Ask until the task has one of these states; by default until it has ended."""
        with anyio.fail_after(LIMIT):
            while (found := await self.get(task_id))["status"] not in (statuses or TERMINAL):
                await asyncio.sleep(0.005)
        return found

    async def answer(self, task_id: str, **names: str) -> Answer:
        """Answer questions for names, by their keys."""
        responses = {
            key.replace("_", "-"): {"action": "accept", "content": {"name": name}} for key, name in names.items()
        }
        return await self.call("tasks/update", {"taskId": task_id, "inputResponses": responses})

    async def cancel(self, task_id: str) -> Answer:
        return await self.call("tasks/cancel", {"taskId": task_id})


def users(head: Any) -> Any:
    """For `authorize`: whom the header X-User names."""
    return head.get("x-user") or None


def text_of(task: dict[str, Any]) -> str:
    """The text of a task's result."""
    return str(task["result"]["content"][0]["text"])

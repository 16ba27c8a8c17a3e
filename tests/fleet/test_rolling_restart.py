# SPDX-License-Identifier: MIT
"""A rolling restart of `--workers` under callers with sessions: no call is lost, none is answered twice."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
import wire
from rawclient import SSE_TYPE, Legacy, Stream
from replicas import REPLY_LIMIT, SharedStore
from serving import call
from worker_processes import Fleet, is_alive

pytestmark = [pytest.mark.anyio, pytest.mark.long]

CALLERS = 50
EVENTS = 5
CALLS = 3  # of each caller at least
TOOLS = """\
import asyncio, os
from mcp_h11 import Context, MCPServer

server = MCPServer("rolling")

@server.tool
async def count(ctx: Context, events: int, pause: float, label: str) -> str:
    os.write(1, f"ran {label}\\n".encode())  # at once, so that lines of several processes do not mix
    for number in range(events):
        await ctx.info(number)
        await asyncio.sleep(pause)
    return label
"""


class Caller(Legacy):
    """A client that calls again and again, and comes back to streams that end without an answer."""

    def __init__(self, port: int, name: str, made: list[str]) -> None:
        super().__init__(port, wire.D, limit=REPLY_LIMIT)
        self.name, self.made = name, made
        self.resumed = 0

    async def calls(self, done: anyio.Event) -> None:
        count = 0
        while count < CALLS or not done.is_set():
            label = f"{self.name}-{count}"
            await self.one(label)
            self.made.append(label)
            count += 1

    async def one(self, label: str) -> None:
        request = self.request("tools/call", call("count", events=EVENTS, pause=0.05, label=label), id=label)
        got: list[Any] = []
        async with self.posting(request) as stream:
            last_id = await self.take(stream, got)
        while not got or got[-1] != label:
            self.resumed += 1
            assert last_id, f"{label} was cut before its first event"
            async with self.get_stream(last_id) as stream:
                assert stream.status == 200, stream.status
                last_id = await self.take(stream, got) or last_id
        assert got == [*range(EVENTS), label]

    async def take(self, stream: Stream, got: list[Any]) -> str:
        """Read to the end of the stream; the last id."""
        assert stream.status == 200
        if stream.head.content_type != SSE_TYPE:
            got += [text_of(message) for message in (await stream.read()).messages()]
            return ""
        last_id = ""
        while (event := await stream.next_event()) is not None:
            last_id = event.id or last_id
            if event.data:
                message = event.json()
                got.append(message["params"]["data"] if "method" in message else text_of(message))
        return last_id

    async def listens(self, done: anyio.Event, opened: list[int]) -> None:
        """Keep the session's own stream open, at any worker."""
        while not done.is_set():
            async with self.get_stream() as stream:
                assert stream.status == 200
                opened.append(1)
                while not done.is_set():
                    with anyio.move_on_after(0.1):
                        if await stream.next_event() is None:
                            break


def text_of(message: Any) -> str:
    text: str = message["result"]["content"][0]["text"]
    return text


async def test_no_call_is_lost_and_none_is_answered_twice(store: SharedStore, tmp_path: Path) -> None:
    options = ["--workers", "3", "--port", "0", "--ops-port", "0", "--store", store.url]
    with Fleet.of_command_line(tmp_path, *options, tools=TOOLS) as fleet:
        await fleet.started(3)
        made: list[str] = []
        opened: list[int] = []
        done = anyio.Event()
        callers = [Caller(fleet.port, f"c{number}", made) for number in range(CALLERS)]
        async with anyio.create_task_group() as tasks:
            for number, caller in enumerate(callers):
                await caller.initialize()
                tasks.start_soon(caller.calls, done)
                if number % 5 == 0:
                    tasks.start_soon(caller.listens, done, opened)
            before = await fleet.workers()
            fleet.process.send_signal(signal.SIGHUP)
            await fleet.line(r"replaces worker", 3)
            done.set()
        for pid in before:
            await fleet.until(lambda pid=pid: not is_alive(pid), f"end of {pid}")
        assert len(made) >= CALLERS * CALLS and len(opened) >= CALLERS // 5
        await fleet.until(lambda: fleet.said.count("ran c") >= len(made), "line of each call")
        ran = [line.split()[-1] for line in fleet.said.splitlines() if "ran c" in line]
        assert sorted(ran) == sorted(made)  # each once
        for caller in callers[:5]:
            assert (await caller.delete()).status == 204
        assert "Traceback" not in fleet.said

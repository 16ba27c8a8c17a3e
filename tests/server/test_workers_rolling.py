# SPDX-License-Identifier: MIT
"""A rolling restart of workers, as real processes: no call fails, and none that cannot serve replaces another."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from rawclient import RawClient
from serving import call, modern
from worker_processes import LIMIT, Fleet, is_alive, met

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # real processes, several seconds each
posix = pytest.mark.skipif(os.name != "posix", reason="sockets are handed down on POSIX alone")


async def calls_on_new_connections(fleet: Fleet, seen: list[str], done: anyio.Event) -> None:
    while not done.is_set():
        seen.append(await fleet.call("pid"))


async def calls_on_kept_connections(fleet: Fleet, seen: list[str], done: anyio.Event) -> None:
    while not done.is_set():
        async with RawClient(fleet.port, limit=LIMIT) as client:
            while not done.is_set():
                await client.send(modern("tools/call", call("pid")))
                answer = await client.receive("POST")
                seen.append(answer.messages()[-1]["result"]["content"][0]["text"])
                if answer.headers.get("connection") == "close":
                    break  # as HTTP clients do


@posix
async def test_a_rolling_restart_replaces_each_worker_and_no_call_fails(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 3) as fleet:
        await fleet.started(3)
        before = await fleet.workers()
        seen: list[str] = []
        done = anyio.Event()
        async with anyio.create_task_group() as tasks, RawClient(fleet.port, limit=LIMIT) as slow:
            await slow.send(modern("tools/call", call("nap", seconds=3)))  # above the grace: it is given its time
            await fleet.line("napping")
            for _ in range(4):
                tasks.start_soon(calls_on_new_connections, fleet, seen, done)
                tasks.start_soon(calls_on_kept_connections, fleet, seen, done)
            fleet.process.send_signal(signal.SIGHUP)
            await fleet.line(r"replaces worker", 3)
            for pid in before:
                await fleet.until(lambda pid=pid: not is_alive(pid), f"end of {pid}")
            done.set()
            assert (await slow.receive("POST")).messages()[-1]["result"]["content"][0]["text"] == "rested"
        after = await fleet.workers()
        assert len({*before, *after}) == 6
        assert {*seen} <= {str(pid) for pid in (*before, *after)} and len(seen) > 20
        assert "starts in" not in fleet.said and "Traceback" not in fleet.said


@posix
async def test_a_second_hangup_replaces_all_once_more(tmp_path: Path) -> None:
    with Fleet.of_class(tmp_path, 2) as fleet:
        await fleet.started(2)
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.line("replaces worker", 1)
        for _ in range(3):  # while it goes on: they count as one
            fleet.process.send_signal(signal.SIGHUP)
        await fleet.line("replaces worker", 4)
        assert len(await met(fleet, 2)) == 2


@posix
async def test_a_hangup_while_the_first_worker_begins_replaces_it(tmp_path: Path) -> None:
    waits = (
        "import os, time; print('begins', os.getpid(), flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    (tmp_path / "prelude.py").write_text(waits)
    with Fleet.of_class(tmp_path, 2) as fleet:
        first = int((await fleet.line(r"begins (\d+)"))[1])
        fleet.process.send_signal(signal.SIGHUP)
        (tmp_path / "go").touch()
        await fleet.line(rf"replaces worker {first}\n")
        await fleet.until(lambda: not is_alive(first), f"end of {first}")
        await fleet.line("replaces worker", 2)  # and then the second, as ever
        await fleet.started(0)
        assert first not in await fleet.workers()


@posix
@pytest.mark.parametrize(
    ("prelude", "reason"),
    [
        ("import time; time.sleep(9999)", "was ended by SIGKILL"),
        ("raise SystemExit(5)", "ended with exit code 5"),
    ],
)
async def test_a_new_worker_that_does_not_serve_replaces_none(tmp_path: Path, prelude: str, reason: str) -> None:
    with Fleet.of_class(tmp_path, 2) as fleet:
        await fleet.started(2)
        before = await fleet.workers()
        (tmp_path / "prelude.py").write_text(prelude)
        if "KILL" in reason:
            fleet.process.send_signal(signal.SIGUSR1)
        fleet.process.send_signal(signal.SIGHUP)
        await fleet.line(f"to replace worker {before[0]}, {reason}: worker {before[0]} and all others stay")
        assert ("was not ready within 0.5 s" in fleet.said) == ("KILL" in reason)
        assert await fleet.workers() == before
        (tmp_path / "prelude.py").unlink()
        fleet.process.send_signal(signal.SIGUSR2)
        fleet.process.send_signal(signal.SIGHUP)  # the next one is not held up by it
        await fleet.line("replaces worker", 2)

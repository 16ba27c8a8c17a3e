# SPDX-License-Identifier: MIT
"""Work in a thread that may never return: its result, its error, and a program that ends before it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import anyio
import pytest
from provision import server_environment

from mcp_h11.client.oauth.daemons import in_daemon

pytestmark = pytest.mark.anyio
LIMIT = 60.0

PROGRAM = """
import asyncio, threading
from mcp_h11.client.oauth.daemons import in_daemon

async def main():
    asyncio.create_task(in_daemon(lambda: threading.Event().wait()))
    await asyncio.sleep(0)

asyncio.run(main())
print("ended")
"""


async def test_the_result_and_the_error_of_the_work_come_back() -> None:
    with anyio.fail_after(LIMIT):
        assert await in_daemon(str.upper, "a") == "A"
        with pytest.raises(ValueError, match="invalid literal"):
            await in_daemon(int, "a")


async def test_work_that_is_given_up_ends_in_silence() -> None:
    free, seen = threading.Event(), asyncio.Event()
    loop, threads = asyncio.get_running_loop(), list[threading.Thread]()

    def work() -> None:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(seen.set)
        free.wait(LIMIT)

    task = asyncio.ensure_future(in_daemon(work))
    with anyio.fail_after(LIMIT):
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        while threads[0].is_alive():
            await anyio.sleep(0.01)
        await anyio.sleep(0)


@pytest.mark.parametrize("error", [None, ValueError("too late")])
def test_work_that_ends_after_its_loop_ends_in_silence(
    monkeypatch: pytest.MonkeyPatch, error: ValueError | None
) -> None:
    free, began = threading.Event(), threading.Event()
    threads, failures = list[threading.Thread](), list[object]()
    monkeypatch.setattr(threading, "excepthook", failures.append)

    def work() -> None:
        threads.append(threading.current_thread())
        began.set()
        free.wait(LIMIT)
        if error is not None:
            raise error

    async def main() -> None:
        task = asyncio.ensure_future(in_daemon(work))
        await asyncio.to_thread(began.wait, LIMIT)
        task.cancel()

    asyncio.run(main())
    free.set()
    threads[0].join(LIMIT)
    assert not threads[0].is_alive() and failures == []


async def test_a_program_ends_before_its_work() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=server_environment(), capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")

# SPDX-License-Identifier: MIT
"""Opens thousands of sessions through the bridge, each with a call and a subscription, and looks at what stays behind.

    python bench/bridge_sessions.py [--sessions 10000] [--per-session] [--limit 600] [--may-grow 2048]

The bridge runs in a process of its own, onto `tests/support/legacy_server.py`.  Exit status 1: its memory or its
descriptors grew after the first third, or it did not end cleanly.  Linux: it reads /proc.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from rawclient import Legacy
from serving import LEGACY, call

CLIENTS = 10
MAY_GROW = 2 * 1024  # KiB
MAY_OPEN = 5  # descriptors
SETTLE = 3.0  # seconds after the last session


def resident(pid: int) -> int:
    """KiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def session(port: int, number: int) -> None:
    client = Legacy(port, LEGACY)
    client.check = False
    await client.initialize({"roots": {}})
    await client.call("resources/subscribe", {"uri": f"test://{number % 50}"})
    answer = await client.call("tools/call", call("echo", text=str(number)))
    assert answer.result["content"][0]["text"] == str(number)
    await client.delete()


async def sessions(port: int, numbers: range) -> None:
    left = iter(numbers)

    async def one_after_another() -> None:
        for number in left:
            await session(port, number)

    await asyncio.gather(*(one_after_another() for _ in range(CLIENTS)))


async def measure(process: subprocess.Popen[str], port: int, count: int, may_grow: int) -> bool:
    third = count // 3
    await sessions(port, range(third))
    await asyncio.sleep(SETTLE)
    memory, files = resident(process.pid), descriptors(process.pid)
    print(f"after {third} sessions: {memory} KiB, {files} descriptors", flush=True)
    await sessions(port, range(third, count))
    await asyncio.sleep(SETTLE)
    memory_end, files_end = resident(process.pid), descriptors(process.pid)
    print(f"after {count} sessions: {memory_end} KiB, {files_end} descriptors", flush=True)
    return memory_end <= memory + may_grow and files_end <= files + MAY_OPEN


def main() -> int:
    parser = argparse.ArgumentParser(description="Sessions through the bridge, and what they leave behind.")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--per-session", action="store_true", help="a child for each session")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds")
    parser.add_argument("--may-grow", type=int, default=MAY_GROW, metavar="KIB",
                        help="memory after the first third; a child for each warms up for some 400")  # fmt: skip
    options = parser.parse_args()
    command = [sys.executable, "-m", "mcp_h11", "proxy", "--port", "0", "--log-level", "error"]
    command += ["--per-session"] * options.per_session
    command += ["--", sys.executable, str(ROOT / "tests" / "support" / "legacy_server.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
        try:
            assert found, "the bridge did not start"
            measured = measure(process, int(found[1]), options.sessions, options.may_grow)
            flat = asyncio.run(asyncio.wait_for(measured, options.limit))
        finally:
            process.terminate()
            code = process.wait(30)
    print("flat" if flat else "it grew", f"- exit status {code}")
    return 0 if flat and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

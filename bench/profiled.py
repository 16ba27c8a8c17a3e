# SPDX-License-Identifier: MIT
"""Where the microseconds of one call go: writes bench/profile.md.

    python bench/profiled.py [--seconds 5]

Three looks at the same call of `add` on a repeated head.  On sockets: what the kernel took and what the process took.
Without sockets, by pieces: each piece of the way measured alone, and what is left between them.  Without sockets, by
functions: where a timer signal of the process's own CPU time found it; unlike a profiler that hooks into calls, that
does not make small functions look expensive.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent

import micro
from micro import ANSWER, BATCH, CALL, DATE, HEADERS, RESULT, Bench, request

from mcp_h11.bench import process
from mcp_h11.bench.measuring import measure
from mcp_h11.bench.scenarios import SCENARIOS, LoadPlan
from mcp_h11.http.heads import HeadCache
from mcp_h11.http.messages import Limits
from mcp_h11.http.server import ServerConnection
from mcp_h11.protocol.jsonrpc import JSON

INTERVAL = 0.0005  # seconds of CPU between two samples
SHOWN = 30  # functions
BEST_OF = 15
REQUESTS = 2000


def best(run: Callable[[int], Any], count: int = REQUESTS) -> float:
    """Microseconds of CPU of one repetition, the lowest of several rounds."""
    lowest = float("inf")
    for _ in range(BEST_OF):
        began = time.process_time()
        run(count)
        lowest = min(lowest, (time.process_time() - began) / count * 1e6)
    return lowest


# ------------------------------------------------------------------ on sockets


def on_sockets(seconds: float) -> tuple[float, float]:
    """(all, kernel) microseconds of server CPU of one call, twenty connections busy."""
    env = {"PYTHONPATH": os.pathsep.join((str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])))}
    command = [sys.executable, str(HERE / "subjects" / "ours.py"), "{port}"]
    with process.running(command, env) as server:
        load = LoadPlan(SCENARIOS["call"], server.port, concurrency=BATCH, duration=seconds)
        before = kernel_share(server.group.leader)
        result = measure(load, server.group)
        after = kernel_share(server.group.leader)
    user, system = after[0] - before[0], after[1] - before[1]
    assert result.cpu_us is not None
    return result.cpu_us, result.cpu_us * system / max(1, user + system)


def kernel_share(pid: int) -> tuple[int, int]:
    fields = process.stat_fields(pid)
    assert fields is not None
    return int(fields[11]), int(fields[12])


# ------------------------------------------------------------------ by pieces


def pieces(bench: Bench) -> dict[str, float]:
    """What each step of the way costs alone."""
    codec = JSON()
    connection = ServerConnection(HeadCache(), Limits())
    data = request(CALL, MCP_Protocol_Version="2025-11-25", Mcp_Session_Id="a" * 43)

    def http(count: int) -> None:
        for _ in range(count):
            connection.receive_data(data)
            connection.next_event()
            connection.respond(200, HEADERS, ANSWER, date=DATE)
            connection.response_done()

    def decode(count: int) -> None:
        for _ in range(count):
            codec.decode(CALL)

    def encode(count: int) -> None:
        for _ in range(count):
            codec.result(100, RESULT)

    return {
        "`http11`: the request out of its bytes, the answer into bytes": best(http),
        "`jsonrpc`: decode": best(decode),
        "`app`: find the tool, bind its arguments, run it, wrap what it returns": best(tool_alone(bench)),
        "`jsonrpc`: encode": best(encode),
        "asyncio: a task, from its making to its end": best(task_alone(bench)),
    }


def tool_alone(bench: Bench) -> Callable[[int], None]:
    handler = bench.server.runtime.handler
    params = json.loads(CALL)["params"]
    context: Any = None

    def run(count: int) -> None:
        for _ in range(count):
            job = handler.call_tool(params, context)
            try:
                job.send(None)
            except StopIteration as done:
                assert done.value["content"][0]["text"] == "3"
            else:
                raise AssertionError("the tool waits for something")

    return run


def task_alone(bench: Bench) -> Callable[[int], None]:
    async def nothing() -> None:
        pass

    async def batches(count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count // BATCH):
            for _ in range(BATCH):
                loop.create_task(nothing())
            await asyncio.sleep(0)

    return lambda count: bench.loop.run_until_complete(batches(count))


# ------------------------------------------------------------------ by functions


def sampled(run: Callable[[int], None], seconds: float) -> tuple[collections.Counter[tuple[str, str]], int]:
    """(samples by module and function, all samples) while `run` repeats."""
    found: collections.Counter[tuple[str, str]] = collections.Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            found[Path(code.co_filename).stem, getattr(code, "co_qualname", code.co_name)] += 1

    previous = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            run(REQUESTS)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    return found, found.total()


# ------------------------------------------------------------------ the page


def report(seconds: float) -> str:
    whole, kernel = on_sockets(seconds)
    bench = Bench()
    try:
        call = bench.cases["call"]
        call(REQUESTS)
        alone, floor = best(call), best(bench.cases[micro.FLOOR], 400)
        parts = pieces(bench)
        samples, total = sampled(call, seconds)
    finally:
        bench.close()
    lines = [
        "# Where the microseconds of one call go",
        "",
        "Written by `python bench/profiled.py`; run it again after a change. One `tools/call` of `add` on a repeated",
        f"head, JSON answer, in a session; CPython {platform.python_version()}, the standard library's JSON and event",
        "loop. CPU time, not wall time. On another machine the microseconds differ; the shares roughly hold.",
        "",
        "## On sockets, twenty connections busy",
        "",
        "| | µs | share |",
        "|---|--:|--:|",
        *row("the process itself: Python, h11, asyncio", whole - kernel, whole),
        *row("the kernel on its behalf: reading, writing, waiting", kernel, whole),
        *row("**all**", whole, whole),
        "",
        f"Without sockets the same call takes {alone:.1f} µs, and a plain h11 loop {floor:.1f} µs: it is",
        f"{alone / floor:.2f} of that.",
        "",
        "## Without sockets, by pieces",
        "",
        "Each piece alone, in a loop of its own; what is left is what connects them: the connection's phases, the",
        "door, the era, the session's books, the reply.",
        "",
        "| | µs | share |",
        "|---|--:|--:|",
    ]
    for what, value in parts.items():
        lines += row(what, value, alone)
    lines += row("everything between them", alone - sum(parts.values()), alone)
    lines += row("**all**", alone, alone)
    lines += [
        "",
        "## Without sockets, by functions",
        "",
        f"{total} samples of the process's CPU time. What a function calls in C counts as its own.",
        "",
        "| module | µs | share |",
        "|---|--:|--:|",
    ]
    modules: collections.Counter[str] = collections.Counter()
    for (module, _), count in samples.items():
        modules["the harness" if module == "micro" else module] += count
    for module, count in modules.most_common():
        if count / total >= 0.005:
            lines += row(f"`{module}`", count / total * alone, alone)
    lines += ["", "| function | µs | share |", "|---|--:|--:|"]
    for (module, function), count in samples.most_common(SHOWN):
        if module != "micro":
            lines += row(f"`{module}.{function}`", count / total * alone, alone)
    return "\n".join([*lines, ""])


def row(what: str, value: float, whole: float) -> list[str]:
    return [f"| {what} | {value:.2f} | {value / whole:.0%} |"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write bench/profile.md.")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each of the two long looks")
    parser.add_argument("--print", action="store_true", help="to the terminal instead")
    options = parser.parse_args()
    page = report(options.seconds)
    if options.print:
        print(page)
    else:
        (HERE / "profile.md").write_text(page)
        print("wrote bench/profile.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

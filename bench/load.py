# SPDX-License-Identifier: MIT
"""A load generator for MCP servers over HTTP, for any server.

    python bench/load.py --url http://127.0.0.1:8000/mcp --tool add --args '{"a": 1, "b": 2}'
    python bench/load.py --concurrency 1,20,100 --tool add --args '{"a": 1, "b": 2}' -- python server.py --port {port}

One process, sockets without Nagle's algorithm, `epoll`, keep-alive; each connection has one request under way and
sends the next when its answer is complete (a closed loop), in a session of its own.  Every answer is judged by its
content; one wrong answer ends the run with an error.

What counts is the server's own CPU time per request, which does not depend on how fast we are; throughput and
latency do, so our own share of a core is printed beside them.  Where it is near 100 %, throughput is ours and not the
server's: raise `--processes`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit

import process
from drive import Result, hold_idle, measure
from process import Failed, Group
from scenarios import ANY_TOOL, SCENARIOS, Load
from talk import Wrong


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description="Measure an MCP server over HTTP.",
        usage="load.py [options] (--url URL | -- command ... {port})",
    )
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--path", default="/mcp", help="of the endpoint, for a command")
    parser.add_argument("--tool", help="the tool to call; else --scenario, with the tools of bench/subjects")
    parser.add_argument("--args", default="{}", help="its arguments, JSON")
    parser.add_argument("--expect", help="the text that the tool has to return")
    parser.add_argument("--any", action="store_true", help="the tool may return something else each time")
    parser.add_argument("--scenario", choices=[*SCENARIOS, "idle"], default="call")
    parser.add_argument("--sessions", type=int, default=1000, help="for --scenario idle")
    parser.add_argument("--era", choices=["legacy", "modern"], help="legacy: a session or none; modern: 2026-07-28")
    parser.add_argument("--answers", choices=["json", "sse"], help="an error unless answers have this form")
    parser.add_argument("--concurrency", default="", help="numbers, comma-separated")
    parser.add_argument("--duration", type=float, default=2.0, help="seconds to measure")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before")
    parser.add_argument("--processes", type=int, default=1, help="of the generator")
    parser.add_argument("--new-head", action="store_true", help="a different head for each request")
    parser.add_argument("--new-connection", action="store_true", help="a new connection for each operation")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--pid", type=int, help="of the server behind --url, where it is not found by its port")
    parser.add_argument("--json", metavar="FILE", help='write the figures; "-" is standard output')
    own, command = list(argv), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
    options = parser.parse_args(own)
    if bool(options.url) == bool(command):
        parser.error("give either --url or -- and a command with {port} in it")
    return options, command


def loads_of(options: argparse.Namespace, host: str, port: int, path: str) -> list[Load]:
    scenario = ANY_TOOL if options.tool else SCENARIOS[options.scenario]
    if options.new_connection:
        scenario = replace(scenario, reconnect=True)
    era = options.era or scenario.eras[0]
    counts = [int(x) for x in options.concurrency.split(",") if x] or list(scenario.concurrency)
    headers = dict(tuple(part.strip() for part in line.split(":", 1)) for line in options.header)
    return [
        Load(
            scenario, port, host, path, era, count, options.duration, options.warmup,
            processes=min(options.processes, count), headers=headers, tool=options.tool or "add",
            arguments=json.loads(options.args), expect=options.expect, any_answer=options.any,
            new_head=options.new_head,
        )
        for count in counts
    ]  # fmt: skip


def line_of(result: Result) -> str:
    cpu = "    ?" if result.cpu_us is None else f"{result.cpu_us:9.1f}"
    rss = "" if result.rss is None else f"{result.rss / 2**20:7.1f}"
    mark = " generator-bound" if result.limited else ""
    return (
        f"{result.concurrency:5d} {cpu} {result.throughput:10.0f} {result.p50_us:9.0f} {result.p95_us:9.0f} "
        f"{result.p99_us:9.0f} {rss:>7} {result.generator_share:6.0%}  {result.answers}{mark}"
    )


TITLE = (
    f"{'conc.':>5} {'CPU us/op':>9} {'ops/s':>10} {'p50 us':>9} {'p95 us':>9} {'p99 us':>9} {'RSS MiB':>7} {'own':>6}"
)


def run(options: argparse.Namespace, host: str, port: int, path: str, group: Group | None, where: str) -> int:
    out = sys.stderr if options.json == "-" else sys.stdout
    if options.scenario == "idle":
        if group is None:
            print("the server's process is not known: --pid", file=sys.stderr)
            return 1
        options.scenario = "session"
        idle = hold_idle(loads_of(options, host, port, path)[0], group, options.sessions)
        print(f"{idle.sessions} sessions with an open stream: {idle.kib_each:.2f} KiB each", file=out)
        figures: Any = asdict(idle)
    else:
        loads = loads_of(options, host, port, path)
        print(f"{where}: {loads[0].scenario.title} ({loads[0].era})\n{TITLE}", file=out, flush=True)
        figures = []
        for load in loads:
            result = measure(load, group)
            if options.answers and result.answers != options.answers:
                raise Wrong(f"answers are {result.answers}, not {options.answers}")
            print(line_of(result), file=out, flush=True)
            figures.append(asdict(result))
    if options.json == "-":
        json.dump(figures, sys.stdout, indent=1)
    elif options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=1)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    options, command = parse(sys.argv[1:] if argv is None else argv)
    try:
        if command:
            with process.running(command) as server:
                return run(options, "127.0.0.1", server.port, options.path, server.group, shlex.join(command))
        url = urlsplit(options.url)
        if url.scheme != "http" or url.hostname is None:
            print("only http:// URLs", file=sys.stderr)
            return 2
        port = url.port or 80
        pid = options.pid or process.listener_of(port)
        group = None if pid is None else Group(pid, whole=False)
        return run(options, url.hostname, port, url.path or "/mcp", group, options.url)
    except (Wrong, Failed) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

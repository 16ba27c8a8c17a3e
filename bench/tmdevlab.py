# SPDX-License-Identifier: MIT
"""The workload of TM Dev Lab's benchmark of MCP servers, built anew from its description: Redis and HTTP in each call.

    python bench/tmdevlab.py --write     all of it, under 4 minutes; writes bench/tmdevlab.md
    python bench/tmdevlab.py --quick     a look; writes nothing there

Fifty users on a connection each.  One turn of a user is four sessions: a call of each of the three tools, and a list of
tools.  Needs `redis-server`; the HTTP service is subjects/shop_service.py.  Both are counted apart from the server.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import clone  # noqa: F401  the clone goes first on the path
import subjects
from compare import Progress
from ends import Figures, Found, arguments, begin, chosen, finish, package, page, paired, plan_of, prepared
from subjects import HERE, Missing, shop_service

from mcp_h11.bench import process
from mcp_h11.bench.measuring import measure, percentile
from mcp_h11.bench.process import Group, StartedServer
from mcp_h11.bench.scenarios import LoadPlan, Scenario, Script, opened
from mcp_h11.bench.talk import WholeAnswer, Wrong, result_of, text_of, wants_tools

USERS = 50
SEEDED = 1000  # users with a cart and a history
POPULAR = 1000  # products with a rank
COUNTED = 8  # requests of one turn: initialize and the request after it, four times; `initialized` is not counted
DURATION, WARMUP = 2.5, 0.7  # seconds of each run
QUERY = "category=Electronics&min_price=50&max_price=500&limit=10"
TABLE = "shop"
COLUMNS = (
    ("requests a second", "throughput", ",.0f"),
    ("tool mean, ms", "mean_ms", ".1f"),
    ("p50, ms", "p50_ms", ".1f"),
    ("p95, ms", "p95_ms", ".1f"),
    ("p99, ms", "p99_ms", ".1f"),
    ("memory, MiB", "rss_mib", ".0f"),
    ("cores", "server_share", ".2f"),
    ("behind it, µs", "beside_us", ",.0f"),
    ("generator", "generator_share", ".0%"),
)
WORDS = """
[TM Dev Lab](https://www.tmdevlab.com/mcp-server-performance-benchmark-v2.html) measured 15 MCP servers in February
2026 with Redis and an HTTP service behind each call. It published, in requests a second on its machine: Rust 4,845,
Quarkus 4,739, Go 3,616, Bun 876, Node.js 423, Python (fastmcp, four processes) 259. This page has the same workload,
built anew from its description, with ours and three of the libraries that it compared, all in one run. `python
bench/tmdevlab.py --write` makes it.

Fifty users. A user opens a session (`initialize`, `initialized`), does one thing, and opens the next:
`search_products`, `get_user_cart`, `checkout`, and a `tools/list`. No server keeps sessions, and answers are JSON, as
in the original's Rust server.

| tool | behind it |
|---|---|
| `search_products` | GET `/products/search` of the service, beside ZREVRANGE |
| `get_user_cart` | HGETALL; then GET `/products/{id}`, beside LRANGE |
| `checkout` | POST `/cart/calculate`, beside a pipeline of INCR, RPUSH and ZINCRBY |

**Requests a second** counts `initialize`, calls and lists, as the original does; **CPU** is the server's for one of
these. **Latency** is that of calls alone. **Cores** is how many the server kept busy. **Behind it** is the CPU of
Redis and of the service for one such request. Each answer is checked.

**What differs from the original.** One machine of two cores has everything, where the original gave each server a
container of two cores to itself; so the service, Redis and the load take from what a fast server could use: compare
figures of this page with one another, and not with those of the other. The service is a small Python program that
keeps answers of searches, and not one in Go. There is no pause between the turns of a user (50 ms there), runs are
seconds and not minutes, and the revision is 2025-11-25 and not 2024-11-05. Each Python server is one process (four
there) and calls out by aiohttp and redis-py with hiredis, the same code for both; Rust has reqwest and redis-rs, Go
net/http and go-redis. Go is the official SDK and not mcp-go. Redis is emptied and filled before each run.

*The tools without an MCP server* is the same Python code behind the least HTTP that answers this load, with no check of
anything: the CPU of aiohttp, redis-py and the event loop. No MCP server in Python that calls them can cost less.
redis-rs sends all commands over one connection, and redis-py has a pool of up to a hundred.
"""
SERVERS = {
    "ours-speed": ("mcp_h11, speed extra", "shop-ours.txt", "shop_ours.py", ("speed",)),
    "ours": ("mcp_h11", "shop-ours.txt", "shop_ours.py", ()),
    "floor": ("the tools without an MCP server, uvloop", "shop-ours.txt", "shop_floor.py", ()),
    "rmcp": ("rmcp (Rust SDK)", "rust_shop", "", ()),
    "go": ("Go SDK", "go_shop", "", ()),
    "fastmcp": ("fastmcp, uvloop", "shop-fastmcp.txt", "shop_fastmcp.py", ()),
}
BASE = "ours-speed"
VERSIONS = {
    "ours": "this clone, aiohttp 3.14.5, redis 8.1.0, hiredis 3.5.0",
    "ours-speed": "this clone, orjson 3.13.0, uvloop 0.23.0, aiohttp 3.14.5, redis 8.1.0, hiredis 3.5.0",
    "floor": "asyncio, uvloop 0.23.0, aiohttp 3.14.5, redis 8.1.0, hiredis 3.5.0",
    "rmcp": "rmcp 3.11.0, reqwest 0.13.5, redis-rs 1.8.1",
    "go": "go-sdk 1.8.0, go-redis 9.23.0",
    "fastmcp": "fastmcp 4.2.3, uvicorn 0.54.0, uvloop 0.23.0, aiohttp 3.14.5, redis 8.1.0, hiredis 3.5.0",
}


class Behind(Group):
    """Redis and the service.  It is asked for its CPU at both marks of a run, and notes when."""

    def __init__(self, *servers: StartedServer) -> None:
        Group.__init__(self, servers[0].group.leader)
        self._groups = [server.group for server in servers]
        self.marks: list[float] = []

    def pids(self) -> list[int]:
        return [pid for group in self._groups for pid in group.pids()]

    def cpu(self, pids: list[int]) -> float:
        self.marks.append(time.perf_counter())
        return Group.cpu(self, pids)


# ------------------------------------------------------------------ what is asked


def asked(user: str) -> dict[str, dict[str, Any]]:
    items = [{"product_id": 42, "quantity": 2}, {"product_id": 1337, "quantity": 1}]
    return {
        "search_products": {"category": "Electronics", "min_price": 50.0, "max_price": 500.0, "limit": 10},
        "get_user_cart": {"user_id": user},
        "checkout": {"user_id": user, "items": items},
    }


def judged(name: str, user: str, total: int, answer: WholeAnswer) -> None:
    """Raises Wrong unless the answer is right, as far as that can be known of a store that all users change."""
    said = json.loads(text_of(result_of(answer, 1)[0]))
    right = {
        "search_products": lambda: (
            (said["total_found"], len(said["products"]), len(said["top10_popular_ids"])) == (total, 10, 10)
        ),
        "get_user_cart": lambda: (
            said["user_id"] == user and len(said["cart"]["items"]) >= 1 and len(said["recent_history"]) == 5
        ),
        "checkout": lambda: (said["status"], said["items_count"]) == ("confirmed", 2) and said["total"] > 0,
    }
    if not right[name]():
        raise Wrong(f"{name}: {str(said)[:300]}")


def shopping(total: int, calls: list[tuple[float, float]]) -> Callable[[LoadPlan, int], Script]:
    """A user; `calls` gets the end of each call and its seconds."""
    listed = wants_tools(1, 3)

    def script(load: LoadPlan, number: int) -> Script:
        user = f"user-{number % SEEDED + 1:05}"
        while True:
            for name, given in (*asked(user).items(), ("", {})):
                dialect = load.dialect()
                yield from opened(load, dialect)
                if not name:
                    listed((yield dialect.request(1, "tools/list", {})))
                    continue
                request = dialect.request(1, "tools/call", {"name": name, "arguments": given})
                began = time.perf_counter()
                answer = yield request
                ended = time.perf_counter()
                calls.append((ended, ended - began))
                judged(name, user, total, answer)
            yield None

    return script


# ------------------------------------------------------------------ what is behind


def seed(port: int) -> None:
    """Empty Redis and fill it: carts and histories of the users, ranks of products."""
    chance = random.Random(7)
    commands: list[tuple[Any, ...]] = [("FLUSHALL",)]
    for number in range(1, SEEDED + 1):
        user = f"user-{number:05}"
        items = [{"product_id": chance.randint(1, 100_000), "quantity": chance.randint(1, 3)} for _ in range(3)]
        commands.append(("HSET", f"bench:cart:{user}", "items", json.dumps(items), "total", chance.randint(10, 900)))
        order = json.dumps({"user_id": user, "items": items})
        commands.append(("RPUSH", f"bench:history:{user}", *[order] * 5))
    ranks = range(1, POPULAR + 1)
    commands += [("ZADD", "bench:popular", 10_000 - place, f"product:{place * 7}") for place in ranks]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"".join(map(encoded, commands)))
        lines = 0
        while lines < len(commands):
            piece = sock.recv(65536)
            if not piece or b"-ERR" in piece:
                raise Wrong(f"Redis was not filled: {piece[:200]!r}")
            lines += piece.count(b"\n")


def encoded(words: tuple[Any, ...]) -> bytes:
    """A command in Redis' protocol (https://redis.io/docs/latest/develop/reference/protocol-spec/)."""
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Shop:
    """Redis, the service, and the servers that are up."""

    def __init__(self, commands: dict[str, list[str]], env: dict[str, str], plan: dict[str, Any]) -> None:
        self._commands = commands
        self._env = env
        self._plan = plan
        self._stack = contextlib.ExitStack()
        self._up: dict[str, StartedServer] = {}
        self._total = json.loads(shop_service.search(QUERY))["total_found"]

    def __enter__(self) -> Shop:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        redis = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        self._redis = self._stack.enter_context(process.running(redis))
        service = [sys.executable, str(HERE / "shop_service.py"), "{port}"]
        self._service = self._stack.enter_context(process.running(service))
        seed(self._redis.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def of(self, name: str) -> StartedServer:
        if name not in self._up:
            words = {"{service}": f"http://127.0.0.1:{self._service.port}",
                     "{redis}": f"redis://127.0.0.1:{self._redis.port}"}  # fmt: skip
            command = [words.get(word, word) for word in self._commands[name]]
            self._up[name] = process.start(command, self._env)
            self._stack.callback(process.stop, self._up[name])
        return self._up[name]

    def run(self, name: str, users: int) -> Figures:
        server = self.of(name)
        seed(self._redis.port)
        calls: list[tuple[float, float]] = []
        scenario = Scenario(TABLE, shopping(self._total, calls))
        load = LoadPlan(scenario, server.port, concurrency=users)
        load.duration, load.warmup, load.all_warm = self._plan["duration"], self._plan["warmup"], True
        behind = Behind(self._redis, self._service)
        found = measure(load, server.group, behind)
        first, last = behind.marks
        times = sorted(seconds * 1e3 for ended, seconds in calls if first <= ended <= last)
        if not times or found.cpu_us is None or found.beside_us is None:
            raise Wrong("not one call was completed")
        return {
            "cpu_us": found.cpu_us / COUNTED,
            "beside_us": found.beside_us / COUNTED,
            "throughput": found.throughput * COUNTED,
            "mean_ms": sum(times) / len(times),
            **{f"p{share}_ms": percentile(times, share / 100) for share in (50, 95, 99)},
            "rss_mib": (found.rss or 0) / 2**20,
            "server_share": found.server_share,
            "generator_share": found.generator_share,
            "others_share": found.others_share,
        }


def command_of(name: str, say: Callable[[str], None]) -> list[str]:
    """How it is started.  Raises Missing."""
    if shutil.which("redis-server") is None:
        raise Missing("redis-server is not installed")
    _, recipe, program, words = SERVERS[name]
    if program:
        command = [subjects.python_with(recipe, say), str(HERE / program)]
    else:
        make = {"rust_shop": lambda: subjects.rust(say, recipe, "shop"), "go_shop": lambda: subjects.go(say, recipe)}
        command = [str(make[recipe]() / "subject")]
    return [*command, "{port}", "{service}", "{redis}", *words]


def say(found: Found) -> str:
    tables = {TABLE: "Redis and HTTP in each call"}
    return page(found, "The workload of TM Dev Lab", WORDS, COLUMNS, tables, "")


def main() -> int:
    parser = arguments("Measure servers with Redis and an HTTP service behind each call.")
    parser.add_argument("--write", action="store_true", help="into bench/tmdevlab.md, where the run is whole")
    options = parser.parse_args()
    plan = plan_of(options, DURATION, WARMUP)
    plan["concurrency"] = [USERS]
    found = begin("tmdevlab", BASE, plan)
    progress = Progress()
    names = [BASE, *(name for name in chosen(options.only, SERVERS, "server") if name != BASE)]
    commands = {}
    for name in names:
        make = functools.partial(command_of, name, progress.say)
        command = prepared(found, name, SERVERS[name][0], VERSIONS[name], make, progress)
        if command is not None:
            commands[name] = command
    if BASE not in commands:
        print(f"cannot run here: {found.missing}", file=sys.stderr)
        return 1
    found.machine["began"] = time.monotonic()  # everything is installed
    with Shop(commands, package(plan["quick"]), plan) as shop:
        paired(found, TABLE, USERS, commands, shop.run, progress)
    return finish(found, options, say, whole=options.write)


if __name__ == "__main__":
    sys.exit(main())

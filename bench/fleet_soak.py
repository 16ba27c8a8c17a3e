# SPDX-License-Identifier: MIT
"""Runs three workers with one store, kills them and the store again and again, and judges all that clients get.

    python bench/fleet_soak.py --store sqlite --minutes 5 --seed 1
    python bench/fleet_soak.py --store redis --minutes 5

Clients send each request to a worker by chance, cut their streams and resume them elsewhere, answer questions at other
workers, end their sessions or forget them.  Meanwhile workers are killed (SIGKILL) and started again, and Redis is
killed and comes back with its data.  Worker A is spared, so that its memory can be watched.

Counted as wrong: an event that is lost or comes twice, a call without a definite end, an answer or an event of another
session, a session that is gone, a traceback in a log, memory that grows, and keys or sessions that are left when all
have expired.  Exit code 0 says that nothing was.  An event without an id, which is sent while the store is away, may
come a second time with its id, as docs/deploy.md says; it is counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT / "tests" / "support", ROOT):
    sys.path.insert(0, str(place))

import wire
from rawclient import Legacy, Modern, ProtocolError, Stream

from mcp_h11 import Context, MCPServer, Principal, run

WORKERS = 3
REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
ASKING = REVISIONS[1:]  # those that have elicitation
SESSION_IDLE = 15.0
KEEP_FINISHED = 15.0  # seconds that the log of an ended stream is kept: in a usual server, five minutes
LOG_SLACK = 60.0  # the log of an open stream outlives its session by this; Redis keeps its name for twice as long
EXPIRED = 2 * (SESSION_IDLE + LOG_SLACK) + 30.0
ANSWER_LIMIT = 20.0
END_LIMIT = 45.0  # seconds for a definite end, with the death of a worker and of the store on the way
AT_ONCE = 60
TOUCHES = 5  # changes of a resource until its subscriber has to have heard one
SAMPLE_EVERY = 5.0
WARM_UP = 0.3
JUDGED_AFTER = 60.0  # seconds of each half of the rest; before that, memory is not judged
ALLOWED_GROWTH = 4 * 1024 * 1024
START_LIMIT = 60.0
GONE = "is gone"  # in the error that ends the stream of a worker that died
FORM = {"type": "object", "properties": {"it": {"type": "string"}}, "required": ["it"]}
BROKEN = (OSError, EOFError, ProtocolError, TimeoutError)  # a connection, for its client
PAGE = os.sysconf("SC_PAGESIZE")


# --- a worker ----------------------------------------------------------------------------------------------------


def serve(url: str, port: int) -> None:
    """One worker, until it is killed."""
    from mcp_h11.endpoint import fleet_logs, fleet_streams

    fleet_streams.KEEP_FINISHED = fleet_logs.KEEP_FINISHED = KEEP_FINISHED  # type: ignore[attr-defined]
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    server, running = MCPServer("soak", version="1"), []

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def steps(ctx: Context, label: str, count: int, pause: float) -> str:
        for number in range(count):
            await ctx.info([label, number])
            await asyncio.sleep(pause)
        return label

    @server.tool
    async def ask(ctx: Context, label: str) -> str:
        answer = await ctx.elicit(label, FORM)
        return f"{answer.action} {(answer.data or {}).get('it')}"

    @server.tool
    async def touch(ctx: Context, label: str) -> str:
        ctx.server.notify_resource_updated(f"soak://{label}")
        return label

    @server.tool
    async def state() -> dict[str, Any]:
        runtime, legacy = running[0].runtime, running[0].endpoint.legacy
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
        return {"rss": resident, "sessions": len(legacy.sessions), "calls": len(runtime.tasks)}

    server.resource("soak://{label}")(lambda label: label)

    def authorize(headers: Any) -> Principal:
        return Principal(headers.get("x-user") or "soak")

    run(
        server, port=port, store=url, on_start=running.append, authorize=authorize, session_idle=SESSION_IDLE,
        session_initialize=10.0, ask_timeout=20.0, idle_timeout=10.0, max_sessions_peer=None, grace=1.0,
    )  # fmt: skip


class Worker:
    """A place in the fleet: a port, and the process that serves it now."""

    def __init__(self, url: str, log: Path, port: int) -> None:
        self.port, self.log, self._url = port, log, url
        self.process: subprocess.Popen[bytes]
        self.ready = asyncio.Event()

    async def start(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", self._url, "--port", str(self.port)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + START_LIMIT
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                self.ready.set()
                return
            if self.process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"a worker does not start: {self.log.read_text()[-2000:]}")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        self.ready.clear()
        self.process.kill()
        self.process.wait()


class Chaos:
    """Harms the workers and Redis; `since(t)` says whether it did so after that time."""

    def __init__(self, workers: list[Worker], redis: Any, chance: random.Random) -> None:
        self.workers, self.redis, self.random = workers, redis, chance
        self.done: Counter[str] = Counter()
        self.kills: list[float] = []
        self.outages: list[list[float]] = []  # from, to

    def killed_since(self, began: float) -> bool:
        return any(at >= began - 1 for at in self.kills)

    def since(self, began: float) -> bool:
        return self.killed_since(began) or any(to >= began - 1 for _, to in self.outages)

    async def go_on(self) -> None:
        """Do harm, again and again."""
        while True:
            await asyncio.sleep(self.random.uniform(2.0, 6.0))
            if self.redis is not None and self.random.random() < 0.15:
                await self.restart_store(self.random.uniform(0.1, 4.0))
            else:
                worker = self.random.choice(self.workers[1:])
                self.kills.append(time.monotonic())
                worker.kill()
                self.done["workers killed"] += 1
                await asyncio.sleep(self.random.uniform(0.0, 2.0))
                await worker.start()
                self.kills.append(time.monotonic())

    async def restart_store(self, pause: float) -> None:
        outage = [time.monotonic(), float("inf")]
        self.outages.append(outage)
        self.redis.kill()
        self.done["store killed"] += 1
        await asyncio.sleep(pause)
        self.redis.launch()
        await asyncio.to_thread(self.redis.wait_until, lambda: self.redis.ask("PING") is not None)
        outage[1] = time.monotonic() + 5.0  # until all workers have seen it


# --- clients -----------------------------------------------------------------------------------------------------


class Wrong(AssertionError):
    """A client saw a broken promise."""


def check(condition: Any, what: Any) -> None:
    if not condition:
        raise Wrong(str(what)[:300])


class Taken:
    """The events and the answer that a client has of one call."""

    def __init__(self, label: str, count: int) -> None:
        self.label, self.count = label, count
        self.last = ""  # the id to resume after
        self.numbers: dict[int, bool] = {}  # whether the event had an id
        self.ids: set[str] = set()
        self.repeated = 0
        self.end: Any = None

    def event(self, event: Any) -> None:
        if event.id:
            self.last = event.id
        if not event.data:
            return
        check(not event.id or event.id not in self.ids, f"event {event.id} came twice")
        if event.id:
            self.ids.add(event.id)
        message = event.json()
        if "method" not in message:
            check(self.end is None, "two answers to one call")
            self.end = message
            return
        label, number = message["params"]["data"]
        check(label == self.label, f"an event of another call: {label}")
        if number in self.numbers:
            check(not self.numbers[number], f"number {number} came twice")
            self.repeated += 1
        else:
            check(number == len(self.numbers), f"number {number} where {len(self.numbers)} is due")
        self.numbers[number] = bool(event.id)


class Clients:
    """All clients, and their counters."""

    def __init__(self, workers: list[Worker], chaos: Chaos, chance: random.Random) -> None:
        self.workers, self.chaos, self.random = workers, chaos, chance
        self.done: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._labels = 0

    def label(self) -> str:
        self._labels += 1
        return f"label-{self._labels}"

    def port(self) -> int:
        """A worker that runs, by chance: a balancer leaves out those that refuse."""
        return self.random.choice([one for one in self.workers if one.ready.is_set()]).port

    async def again(self, doing: Callable[[], Awaitable[Any]], peer: Legacy, what: str) -> Any:
        """Until it is answered; each time at a worker by chance.  503 is an answer that says: later."""
        began = time.monotonic()
        while True:
            peer.port = self.port()
            try:
                answer = await doing()
                if answer.status != 503:
                    return answer
                check(self.chaos.since(began - 10), f"{what}: 503 without a reason")
            except BROKEN as exc:
                check(self.chaos.since(began - 10), f"{what}: {exc!r} without a reason")
            self.done["tried again"] += 1
            check(time.monotonic() - began < END_LIMIT, f"{what}: no answer after {END_LIMIT:g} s")
            await asyncio.sleep(0.1)

    async def session(self, revisions: tuple[str, ...] = REVISIONS) -> Legacy:
        revision = self.random.choice(revisions)
        began = time.monotonic()
        while True:
            peer = Legacy(self.port(), revision, limit=ANSWER_LIMIT)
            peer.extra_headers["X-User"] = self.label()
            try:
                await peer.initialize({"elicitation": {}}, complete=False)
                break
            except (*BROKEN, AssertionError) as exc:  # among them 503, while the store is away
                check(self.chaos.since(began - 10), f"initialize: {exc!r} without a reason")
                check(time.monotonic() - began < END_LIMIT, f"initialize: nothing after {END_LIMIT:g} s")
                self.done["tried again"] += 1
                await asyncio.sleep(0.2)
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        answer = await self.again(lambda: peer.post(note), peer, "initialized")
        check(answer.status == 202, f"initialized got {answer.status} {answer.body[:100]!r}")
        return peer

    async def leave(self, peer: Legacy) -> None:
        """End the session, and see that it has ended everywhere; or forget it."""
        if self.random.random() < 0.3:
            return
        session = peer.session
        first = True

        async def delete() -> Any:
            nonlocal first
            peer.session = session
            # A second try finds it ended by the first one.
            allowed, first = (204, 503) if first else (204, 404, 503), False
            answer = await peer.delete()
            check(answer.status in allowed, f"DELETE got {answer.status}")
            return answer

        began = time.monotonic()
        await self.again(delete, peer, "DELETE")
        await asyncio.sleep(0.5)
        if not self.chaos.since(began):
            peer.session, peer.port = session, self.port()
            try:
                answer = await peer.post(peer.request("ping"))
            except BROKEN as exc:
                check(self.chaos.since(began), f"a ping of an ended session: {exc!r}")
            else:
                check(answer.status == 404 or self.chaos.since(began), f"an ended session got {answer.status}")

    async def calls(self) -> None:
        """Calls of one session at all workers."""
        peer = await self.session()
        for _ in range(self.random.randrange(1, 6)):
            text = self.label()
            request = peer.request("tools/call", {"name": "echo", "arguments": {"text": text}})
            answer = await self.again(lambda request=request: peer.post(request), peer, "a call")  # type: ignore[misc]
            check(answer.status == 200, f"a call got {answer.status} {answer.body[:100]!r}")
            (message,) = answer.messages()
            check(message["id"] == request["id"], "the answer of another call")
            check(message["result"]["content"][0]["text"] == text, "the answer of another call")
        await self.leave(peer)

    async def streams(self) -> None:
        """A call; its stream is cut by the client or by a death, and resumed anywhere."""
        peer = await self.session()
        count, pause = self.random.randrange(5, 60), self.random.choice((0.0, 0.005, 0.05, 0.1))
        taken = Taken(self.label(), count)
        arguments = {"label": taken.label, "count": count, "pause": pause}
        request = peer.request("tools/call", {"name": "steps", "arguments": arguments}, id=taken.label)
        began = time.monotonic()
        peer.port = self.port()
        try:
            async with peer.posting(request) as stream:
                if stream.status == 503:  # it was not accepted: docs/deploy.md says so for an outage of the store
                    check(self.chaos.since(began - 10), "a call got 503 without a reason")
                    self.done["calls refused in an outage"] += 1
                    return
                check(stream.status == 200, f"a call got {stream.status}")
                await self.read_some(stream, taken)
        except BROKEN:
            check(self.chaos.since(began), "a connection ended without a reason")
        if not taken.last and taken.end is None:
            # No event had an id: the store is away, or the worker died before the first.
            check(self.chaos.since(began), "a stream without ids")
            self.done["unknown ends"] += 1
            return
        while taken.end is None:
            check(time.monotonic() - began < END_LIMIT + count * pause, "a call without a definite end")
            await self.resume(peer, taken, began)
        if "error" in taken.end:
            check(GONE in taken.end["error"]["message"], f"a call ended with {taken.end}")
            check(self.chaos.killed_since(began), "a worker was called dead that lives")
            self.done["ends by a death"] += 1
        else:
            check(taken.end["id"] == taken.label, "the answer of another call")
            check(taken.end["result"]["content"][0]["text"] == taken.label, "the answer of another call")
            check(len(taken.numbers) == count, f"{count - len(taken.numbers)} events lost at the end")
            self.done["whole streams"] += 1
        self.done["events"] += len(taken.numbers)
        self.done["events repeated, first without an id"] += taken.repeated
        await self.leave(peer)

    async def read_some(self, stream: Stream, taken: Taken) -> None:
        """Until the end, or until the client cuts it."""
        left = self.random.choice((1, 3, 10, 1000))
        while left > 0 and taken.end is None:
            event = await stream.next_event()
            if event is None:
                return
            taken.event(event)
            left -= bool(event.data)

    async def resume(self, peer: Legacy, taken: Taken, began: float) -> None:
        peer.port = self.port()
        self.done["resumes"] += 1
        try:
            async with peer.get_stream(taken.last) as stream:
                if stream.status == 503:
                    check(self.chaos.since(began), "a resume got 503 without a reason")
                    await asyncio.sleep(0.2)
                    return
                check(stream.status == 200, f"a resume got {stream.status}")
                await self.read_some(stream, taken)
        except BROKEN as exc:
            check(self.chaos.since(began), f"a resumed stream ended without a reason: {exc!r}")
            await asyncio.sleep(0.1)

    async def questions(self) -> None:
        """A question of one worker that is answered at another."""
        peer = await self.session(ASKING)
        label, began = self.label(), time.monotonic()
        request = peer.request("tools/call", {"name": "ask", "arguments": {"label": label}})
        asker = peer.port = self.port()
        try:
            async with peer.posting(request) as stream:
                while (message := await stream.next_message()) is not None:
                    if message.get("method") == "elicitation/create":
                        check(message["params"]["message"] == label, "the question of another session")
                        result = {"action": "accept", "content": {"it": label}}
                        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                        await self.again(lambda answer=answer: peer.post(answer), peer, "an answer")  # type: ignore[misc]
                    elif "id" in message:
                        text = message["result"]["content"][0]["text"]
                        check(text == f"accept {label}" or self.chaos.since(began), f"answered with {text}")
                        self.done["questions answered"] += text == f"accept {label}"
                        break
                else:
                    check(self.chaos.since(began), "a stream ended without its answer")
        except BROKEN as exc:
            check(self.chaos.since(began), f"a call that asks, at {asker}: {exc!r}")
            self.done["unknown ends"] += 1
        await self.leave(peer)

    async def listens(self) -> None:
        """The session's own stream at one worker, a change at another."""
        peer = await self.session()
        label, began = self.label(), time.monotonic()
        request = peer.request("resources/subscribe", {"uri": f"soak://{label}"})
        await self.again(lambda: peer.post(request), peer, "subscribe")
        peer.port = self.port()
        try:
            async with peer.get_stream() as stream:
                if stream.status != 200:
                    check(self.chaos.since(began), f"a GET stream got {stream.status}")
                    return
                # A subscription reaches the other workers some milliseconds later: a change before that is not heard.
                for _ in range(TOUCHES):
                    peer.port = self.port()
                    await peer.post(peer.request("tools/call", {"name": "touch", "arguments": {"label": label}}))
                    with contextlib.suppress(TimeoutError):
                        if await self.hears(stream, label):
                            self.done["notices"] += 1
                            break
                    self.done["changes before the subscription was known"] += 1
                else:
                    check(self.chaos.since(began), f"no notice of {TOUCHES} changes")
        except BROKEN as exc:
            check(self.chaos.since(began), f"no notice: {exc!r}")
        await self.leave(peer)

    async def hears(self, stream: Stream, label: str) -> bool:
        """Whether the stream has a notice of this label; others are wrong."""
        while (message := await stream.next_message(2.0)) is not None:
            if "updated" in message["method"]:
                uri = message["params"]["uri"]
                check(uri == f"soak://{label}", f"a notice of another session: {uri}")
                return True
        return False

    async def one(self, name: str) -> None:
        try:
            await getattr(self, name)()
            self.done[name] += 1
        except (Wrong, OSError, EOFError, ProtocolError, TimeoutError, KeyError, TypeError, ValueError) as exc:
            self.wrong[f"{name}: {type(exc).__name__} {exc}"[:300]] += 1

    async def state(self, worker: Worker) -> dict[str, Any]:
        answer = await Modern(worker.port, limit=ANSWER_LIMIT).call("tools/call", {"name": "state", "arguments": {}})
        found: dict[str, Any] = answer.result["structuredContent"]
        return found.get("result", found)


WEIGHTS = {"calls": 20, "streams": 50, "questions": 15, "listens": 15}


# --- the run -----------------------------------------------------------------------------------------------------


async def soak(clients: Clients, store: Any, minutes: float, rate: float) -> list[dict[str, Any]]:
    began = due = time.monotonic()
    next_sample, samples = began, []
    active: set[asyncio.Task[None]] = set()
    while (now := time.monotonic()) < began + minutes * 60:
        if now >= next_sample:
            next_sample = now + SAMPLE_EVERY
            with contextlib.suppress(Exception):  # the store may be away, each in its own way
                sample = {"at": now - began, **await clients.state(clients.workers[0])}
                sample["bytes"] = await asyncio.to_thread(store.size)
                sample["kept"] = len(await asyncio.to_thread(store.left))
                samples.append(sample)
                print(
                    f"{sample['at']:6.0f} s  rss {sample['rss'] / 2**20:6.1f} MiB  sessions {sample['sessions']:4d}  "
                    f"kept {sample['kept']:6d} ({sample['bytes'] / 1024:7.0f} KiB)  running {len(active):3d}  "
                    f"done {sum(clients.done[name] for name in WEIGHTS):6d}  "
                    f"harm {sum(clients.chaos.done.values()):3d}  wrong {sum(clients.wrong.values())}",
                    flush=True,
                )
        if len(active) < AT_ONCE:
            task = asyncio.create_task(clients.one(clients.random.choices([*WEIGHTS], [*WEIGHTS.values()])[0]))
            active.add(task)
            task.add_done_callback(active.discard)
        due = max(due + 1 / rate, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    if active:
        await asyncio.wait(active, timeout=3 * END_LIMIT)
    return samples


async def settled(clients: Clients, store: Any, before: list[str], rest: float) -> list[str]:
    """Wait until the store is as it was before all sessions; the names of those that have not expired."""
    limit = time.monotonic() + rest
    while True:
        try:
            left = list((Counter(await asyncio.to_thread(store.left)) - Counter(before)).elements())
            sessions = [(await clients.state(worker))["sessions"] for worker in clients.workers]
        except BROKEN as exc:
            left, sessions = [repr(exc)], [0]
        faults = [f"{len(left)} keys or rows left, as {left[:3]}"] if left else []
        faults += [f"{count} sessions left at a worker" for count in sessions if count > 0]
        if not faults or time.monotonic() > limit:
            return faults
        await asyncio.sleep(2)


def growth(samples: list[dict[str, Any]]) -> list[str]:
    warm = [sample["rss"] for sample in samples[int(len(samples) * WARM_UP) :]]
    half = len(warm) // 2
    if half * SAMPLE_EVERY < JUDGED_AFTER:
        return []
    grown = statistics.median(warm[half:]) - statistics.median(warm[:half])
    print(f"worker A: {grown / 2**20:+.1f} MiB between the halves of the time after warming up")
    return [f"memory grew by {grown / 2**20:.1f} MiB"] if grown > ALLOWED_GROWTH else []


async def drive(store: Any, redis: Any, folder: Path, options: argparse.Namespace) -> list[str]:
    from mcp_h11.bench import process

    chance = random.Random(options.seed)
    workers = [Worker(store.url, folder / f"worker-{number}.log", process.free_port()) for number in range(WORKERS)]
    try:
        for worker in workers:
            await worker.start()
        before = await asyncio.to_thread(store.left)  # the keys that a fleet shares for ever
        chaos = Chaos(workers, redis, random.Random(options.seed + 1))
        clients = Clients(workers, chaos, chance)
        harm = asyncio.create_task(harmed(chaos, options.minutes * 60))
        samples = await soak(clients, store, options.minutes, options.rate)
        await harm
        faults = [f"{count} x {what}" for what, count in clients.wrong.most_common(20)] + growth(samples)
        if options.rest:
            began = time.monotonic()
            faults += await settled(clients, store, before, options.rest)
            took = time.monotonic() - began
            print(f"all had expired {took:.0f} s after the last client; {store.size() / 1024:.0f} KiB are left")
        print("done   ", dict(clients.done))
        print("harm   ", dict(chaos.done))
    finally:
        for worker in workers:
            with contextlib.suppress(AttributeError):
                worker.kill()
    for worker in workers:
        said = worker.log.read_text("utf-8", "replace")
        if count := said.count("Traceback"):
            faults.append(f"{count} tracebacks in a log, the first: {said[said.index('Traceback') :][:1500]}")
        elif said:
            print(f"a log: {len(said.splitlines())} lines, the last: {said.splitlines()[-1][:200]}")
    return faults


async def harmed(chaos: Chaos, seconds: float) -> None:
    """Do harm for this long; at the end everything runs."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(chaos.go_on(), seconds)
    if chaos.redis is not None and chaos.outages and chaos.outages[-1][1] == float("inf"):
        await chaos.restart_store(0.0)
        chaos.outages[-2][1] = chaos.outages[-1][1]
    for worker in chaos.workers:
        if not worker.ready.is_set():
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.start()


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[Any, Any]]:
    """The store, and the server that is killed now and then."""
    from redis_servers import redis_server
    from replicas import stored_in

    if kind == "sqlite":
        yield stored_in(kind, folder, None), None
        return
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        yield stored_in(kind, folder, server), server


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=8.0, help="things that clients begin a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rest", type=float, default=EXPIRED, help="seconds at the end in which all has to expire")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return 0
    if options.store == "redis" and shutil.which("redis-server") is None:
        print("redis-server is not installed", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore", wire.SchemaUnavailable)  # messages of revisions without a schema here go unjudged
    with tempfile.TemporaryDirectory(prefix="soak-") as name, place(options.store, Path(name)) as (store, redis):
        faults = asyncio.run(drive(store, redis, Path(name), options))
    print("\n".join(faults) if faults else "nothing wrong")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

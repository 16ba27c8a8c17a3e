# SPDX-License-Identifier: MIT
"""One run and its figures: the warm-up, the measurement, and the end of open operations, by one process or several.

The clock runs between two marks while all connections are busy.  The server's CPU is read at both.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import BrokenBarrierError
from typing import Any

from . import process
from .drive import FINISH_LIMIT, SILENCE_LIMIT, Driver, Tick
from .lines import forget
from .process import Failed, Group
from .scenarios import LoadPlan
from .talk import Wrong

BUSY = 0.9  # of a core: above it, the figures are those of the generator
WARM_STEP = 0.1  # seconds between two looks whether all have had an answer


@dataclass
class Measured:
    """The figures of one run.  Times are seconds unless their name says otherwise."""

    scenario: str
    era: str
    concurrency: int
    operations: int
    seconds: float
    cpu_us: float | None  # server CPU per operation
    throughput: float  # operations a second
    p50_us: float
    p95_us: float
    p99_us: float
    generator_share: float  # of a core, while measuring
    server_share: float | None
    others_share: float | None  # of a core, used by everything else on this machine
    rss: int | None  # bytes at the end of the run
    answers: str  # json, sse
    reconnects: int
    beside_us: float | None = None  # CPU of another process that works for the server, per operation
    p90_us: float = 0.0
    p999_us: float = 0.0
    max_us: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)  # by kind, where they are counted; those of the warm-up too
    examples: dict[str, str] = field(default_factory=dict)  # the first text of each kind
    ended: str = ""  # why it ended before its time, as `Driver.ended` has it
    histogram: list[tuple[float, int]] = field(default_factory=list)  # microseconds up to which, and how many

    @property
    def limited(self) -> bool:
        """Whether throughput and latency are the generator's rather than the server's."""
        return self.generator_share > BUSY


@dataclass
class Share:
    """The part of a run that one process of the generator made."""

    latencies: array[float]
    seconds: float
    cpu: float
    reconnects: int
    kinds: set[str]
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    ended: str = ""


def drive(
    load: LoadPlan, numbers: range, ready: Callable[[], Any], done: Callable[[], Any], tick: Tick | None = None
) -> Share:
    """Warm up, call `ready`, measure, call `done`, and let the open operations end.

    `tick` is called a few times a second, from the warm-up on; true ends the run with the figures so far.
    """
    driver = Driver(load, numbers, tick)
    counts = load.errors_allowed > 0
    try:
        driver.begin()
        driver.run(load.warmup)
        while load.all_warm and driver.cold() and not driver.ended:
            driver.run(WARM_STEP)
        driver.warmed()
        ready()
        began, cpu = time.perf_counter(), time.process_time()
        # Two turns of each connection at the least: an operation that is half done at either end must not weigh much.
        driver.run(load.duration, least=0 if counts else 2 * len(numbers), most=load.most)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        done()
        latencies = driver.latencies[:]
        reconnects = driver.reconnects
        errors = driver.errors.copy()
        driver.run(FINISH_LIMIT if counts else SILENCE_LIMIT, finish=True)
        return Share(latencies, seconds, cpu, reconnects, driver.kinds, errors, driver.examples, driver.ended)
    finally:
        driver.close()
        forget(load)


def measure(load: LoadPlan, group: Group | None, beside: Group | None = None, tick: Tick | None = None) -> Measured:
    """One run.  Raises Wrong at the first answer that is not right, Failed where the server ends.

    Where the plan allows errors, they are counted, and a server that ended is one without figures of its processes.
    `beside` is the server's own server, such as its store, which is counted apart.
    """
    watch = UsageWatch(group, beside, bears_end=load.errors_allowed > 0)
    if load.processes == 1:
        parts = [drive(load, range(load.concurrency), watch.start, watch.stop, tick)]
    else:
        parts = drive_processes(load, watch, tick)
    return summary(load, parts, watch)


class UsageWatch:
    """The CPU and memory of the server and the machine between `start` and `stop`."""

    def __init__(self, group: Group | None, beside: Group | None = None, bears_end: bool = False) -> None:
        self._group = group
        self._bears_end = bears_end  # a server that is no more has no figures; else it is an error
        self._beside = beside
        self._pids: list[int] = []
        self._before = (0.0, 0.0)
        self._beside_before = 0.0
        self.cpu: float | None = None
        self.beside: float | None = None
        self.busy = 0.0
        self.rss: int | None = None

    def start(self) -> None:
        if self._group is not None:
            self._pids = self._group.pids()
            if not self._pids and not self._bears_end:
                raise Failed("the server is no more")
            self._before = (self._group.cpu(self._pids), process.machine_busy())
        if self._beside is not None:
            self._beside_before = self._beside.cpu(self._beside.pids())

    def stop(self) -> None:
        if self._beside is not None:
            self.beside = self._beside.cpu(self._beside.pids()) - self._beside_before
        if self._group is not None:
            cpu, busy = self._group.cpu(self._pids) - self._before[0], process.machine_busy()
            try:
                self.rss = self._group.usage().rss
            except Failed:
                if not self._bears_end:
                    raise
                return
            self.cpu = cpu
            self.busy = busy - self._before[1]


def drive_processes(load: LoadPlan, watch: UsageWatch, tick: Tick | None = None, context: Any = None) -> list[Share]:
    """The connections of a run, divided among processes, which begin and end to measure together.

    Args:
        tick: is called in each process, in a copy of this one.
        context: makes the processes, as `multiprocessing` does; None forks.
    """
    context = context or multiprocessing.get_context("fork")
    barrier = context.Barrier(load.processes + 1)
    pipes, workers = [], []
    for index in range(load.processes):
        ours, theirs = context.Pipe(duplex=False)
        numbers = range(index, load.concurrency, load.processes)
        worker = context.Process(target=work, args=(load, numbers, barrier, theirs, tick), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    try:
        barrier.wait(load.warmup + SILENCE_LIMIT)
        watch.start()
        barrier.wait(load.duration + SILENCE_LIMIT)
        watch.stop()
    except BrokenBarrierError:  # a worker failed; it says how
        barrier.abort()
    parts, errors = [], []
    for pipe, worker in zip(pipes, workers, strict=True):
        if not pipe.poll(2 * SILENCE_LIMIT):
            raise Wrong("a process of the generator does not end")
        try:
            found = pipe.recv()
        except EOFError:
            raise Wrong("a process of the generator is no more") from None
        worker.join(SILENCE_LIMIT)
        if isinstance(found, str):
            errors.append(found)
        else:
            parts.append(found)
    if errors:
        raise Wrong(next(filter(None, errors), "the processes of the generator did not come together in time"))
    return parts


def work(load: LoadPlan, numbers: range, barrier: Any, pipe: Any, tick: Tick | None = None) -> None:
    """One process of the generator: sends its share, or its error as a text; "" where another one failed."""
    try:
        pipe.send(drive(load, numbers, barrier.wait, barrier.wait, tick))
    except Exception as error:
        barrier.abort()
        with suppress(OSError):  # the run has ended with the error of another process
            pipe.send("" if isinstance(error, BrokenBarrierError) else f"{type(error).__name__}: {error}")


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # of each decade, the ends of the rows of a histogram


def histogram_of(ordered: Sequence[float]) -> list[tuple[float, int]]:
    """Rows of a histogram of these sorted seconds, without a gap: the upper end in microseconds, and the number."""
    if not ordered:
        return []
    rows: list[tuple[float, int]] = []
    below = 0
    decade = math.floor(math.log10(max(ordered[0], 1e-7) * 1e6))
    while below < len(ordered):
        for step in STEPS:
            end = step * 10.0**decade
            upto = bisect_right(ordered, end / 1e6)
            if rows or upto:
                rows.append((end, upto - below))
            below = upto
            if below == len(ordered):
                break
        decade += 1
    return rows


def summary(load: LoadPlan, parts: Sequence[Share], watch: UsageWatch) -> Measured:
    latencies = sorted(value for part in parts for value in part.latencies)
    if not latencies and not load.errors_allowed:
        raise Wrong("not one operation was completed")
    count, seconds = len(latencies), max(1e-9, *(part.seconds for part in parts))
    own = sum(part.cpu for part in parts) / seconds
    server = None if watch.cpu is None else watch.cpu / seconds
    others = None
    if server is not None and process.HAS_PROC:
        others = max(0.0, (watch.busy - (watch.beside or 0.0)) / seconds - server - own)
    examples: dict[str, str] = {}
    for part in parts:
        examples = {**part.examples, **examples}
    return Measured(
        scenario=load.scenario.name,
        era=load.era,
        concurrency=load.concurrency,
        operations=count,
        seconds=seconds,
        cpu_us=None if watch.cpu is None or not count else watch.cpu / count * 1e6,
        throughput=count / seconds,
        p50_us=percentile(latencies, 0.50) * 1e6,
        p95_us=percentile(latencies, 0.95) * 1e6,
        p99_us=percentile(latencies, 0.99) * 1e6,
        generator_share=own,
        server_share=server,
        others_share=others,
        rss=watch.rss,
        answers="/".join(sorted(set().union(*(part.kinds for part in parts)))) or "sse",
        reconnects=sum(part.reconnects for part in parts),
        beside_us=None if watch.beside is None else watch.beside / max(count, 1) * 1e6,
        p90_us=percentile(latencies, 0.90) * 1e6,
        p999_us=percentile(latencies, 0.999) * 1e6,
        max_us=percentile(latencies, 1.0) * 1e6,
        errors=dict(sum((part.errors for part in parts), Counter())),
        examples=examples,
        ended=next((part.ended for part in parts if part.ended), ""),
        histogram=histogram_of(latencies),
    )

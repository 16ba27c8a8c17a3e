# SPDX-License-Identifier: MIT
"""The servers of one benchmark, each with its operation: over HTTP, or on pipes.

A subject looks at its server when it is made, and refuses an operation that cannot work there, before any load.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...bench import process
from ...bench.anyserver import ANYWHERE, CALL, OURS, TOOLS_OF_OURS, Judging, params_of
from ...bench.drive import Driver
from ...bench.lines import Idle, hold_idle
from ...bench.measuring import Measured, UsageWatch, measure, summary
from ...bench.piped import PipedCall, PipedServer
from ...bench.talk import LEGACY_VERSION, MODERN_VERSION
from ..arguments import arguments_of
from ..asking.hints import argument_hints, name_hint
from ..asking.printing import line
from ..parser import UsageError
from .aims import Aim
from .bench_parser import IDLE_SCENARIO
from .course import Course
from .first_look import Seen, looked_at, operation_in_words, plan_for, tools_of, try_once


class Subject:
    """One server with the operation on it.

    Attributes:
        load: the plan, but for the number of connections.
    """

    def __init__(self, aim: Aim, options: argparse.Namespace, seen: Seen) -> None:
        self.aim = aim
        self.options = options
        self.seen = seen
        self.load = replace(
            plan_for(aim, seen, options.timeout), scenario=ANYWHERE["call"], duration=options.duration,
            warmup=options.warmup, most=options.requests, errors_allowed=options.errors, expect=options.expect,
            any_answer=not options.same, method="tools/list", tool="", arguments={},
        )  # fmt: skip

    def _choose_operation(self) -> None:
        """The named tool; without one, a question that changes nothing.  Raises UsageError."""
        load, schemas, tool = self.load, self.seen.schemas, self.options.tool
        if tool is None:
            if schemas is None:
                load.method = "ping" if self.seen.era == "legacy" else "server/discover"
            return
        schema = (schemas or {}).get(tool)
        if schemas and tool not in schemas:
            raise UsageError(name_hint("tool", tool, list(schemas))[0])
        arguments = arguments_of(self.options.arguments, schema if isinstance(schema, dict) else {})
        hints = argument_hints(tool, schema, arguments)
        if hints:
            raise UsageError(hints[0])
        load.method, load.tool, load.arguments = CALL, tool, arguments

    @property
    def operation(self) -> str:
        """The operation as a person writes it."""
        return (
            self.options.scenario
            if self.options.scenario in OURS
            else operation_in_words(self.load, self.options.arguments)
        )

    @property
    def title(self) -> str:
        """The server in one line."""
        seen = self.seen
        name = f"{seen.name} {seen.version}".strip() or "a server without a name"
        started = f", started in {self.aim.started:.2f} s" if self.aim.started is not None else ""
        return f"{line(self.aim.title)}: {line(name)}, {line(seen.revision)} {seen.kind}{started}"

    def about(self) -> dict[str, Any]:
        """The server for a program."""
        seen = self.seen
        return {
            "target": self.aim.title,
            "server": {"name": seen.name, "version": seen.version},
            "revision": seen.revision,
            "sessions": seen.has_sessions,
            "started_seconds": self.aim.started,
        }

    def measured(self, concurrency: int, course: Course) -> Measured:
        """One run.  Raises Wrong, Failed and OSError where nothing could be measured."""
        raise NotImplementedError


class HTTPSubject(Subject):
    """A server over HTTP."""

    def __init__(self, aim: Aim, options: argparse.Namespace) -> None:
        super().__init__(aim, options, looked_at(aim, options.revision, options.timeout))
        name = options.scenario
        self.load.scenario = OURS.get(name) or ANYWHERE["session" if name == IDLE_SCENARIO else name]
        if name == IDLE_SCENARIO and aim.group is None:
            raise UsageError("idle measures the memory of the server: its process is not known (--pid)")
        if self.load.scenario.sessions and not self.seen.has_sessions:
            raise UsageError(f"--scenario {name} wants a server with sessions, and this one opened none")
        if name in OURS:
            self._check_tool_of(name)
            return
        self._choose_operation()
        if name != IDLE_SCENARIO:
            try_once(self.load)

    def _check_tool_of(self, scenario: str) -> None:
        tool = TOOLS_OF_OURS[scenario]
        if self.options.tool is not None:
            raise UsageError(f"--scenario {scenario} calls its own tool {tool}: leave TOOL out")
        if tool not in (self.seen.schemas or {}):
            raise UsageError(
                f"--scenario {scenario} calls a tool {tool} as docs/bench.md describes it, and this server has none"
            )

    def measured(self, concurrency: int, course: Course) -> Measured:
        processes = min(self.options.processes, concurrency)
        load = replace(self.load, concurrency=concurrency, processes=processes, sessions={}, traffic=None)

        def tick(driver: Driver) -> bool:
            return course.tick(len(driver.latencies), sum(driver.errors.values()))

        return measure(load, self.aim.group, tick=tick)

    def held_idle(self, sessions: int) -> Idle:
        """Sessions that only listen, and the memory of each.  Raises Wrong, OSError."""
        assert self.aim.group is not None
        return hold_idle(replace(self.load, sessions={}), self.aim.group, sessions)


class PipedSubject(Subject):
    """A server on stdin and stdout, started for the benchmark.  Call `close` in the end."""

    def __init__(self, aim: Aim, options: argparse.Namespace) -> None:
        if os.name == "nt":
            raise UsageError("this system cannot wait for pipes: give a command with {port}, or a URL")
        if options.scenario != "call" or options.processes > 1:
            raise UsageError("a server on stdin and stdout has the scenario call and one process of the generator")
        if options.revision == MODERN_VERSION:
            raise UsageError(f"on stdin and stdout bench speaks the revisions up to {LEGACY_VERSION}")
        self._server = PipedServer(
            aim.command, call=self._request, errors_allowed=options.errors, revision=options.revision or LEGACY_VERSION
        )
        try:
            aim.started = self._server.started
            super().__init__(aim, options, self._seen())
            self._choose_operation()
            self._judging = Judging(self.load)
            self._judging.check(self._server.ask(self.load.method, params_of(self.load)))
        except BaseException:
            self.close()
            raise

    def _seen(self) -> Seen:
        info = self._server.info
        seen = Seen(revision=str(info.get("protocolVersion", "")), kind="on stdin and stdout")
        seen.take_name(info.get("serverInfo"))
        seen.schemas = tools_of(lambda number, params: self._server.ask("tools/list", params))
        return seen

    def _request(self, number: int) -> PipedCall:
        return PipedCall(self.load.method, params_of(self.load), self._judging.check)

    def close(self) -> None:
        """End the server."""
        self._server.close()

    def measured(self, concurrency: int, course: Course) -> Measured:
        load = replace(self.load, concurrency=concurrency)
        watch = UsageWatch(self._server.group if process.IS_KNOWN else None, bears_end=True)

        def tick(server: PipedServer, count: int) -> bool:
            return course.tick(count, sum(server.errors.values()))

        share = self._server.measure(concurrency, load.duration, load.warmup, watch, load.most, tick)
        return summary(load, [share], watch)


@contextlib.contextmanager
def subject_of(aim: Aim, options: argparse.Namespace) -> Iterator[Subject]:
    """The subject of an aim, ended with the block.

    Raises:
        UsageError: an operation that cannot work there.
        bench.talk.Wrong: the server refused it.
        bench.process.Failed, OSError: no connection.
    """
    if not aim.command:
        yield HTTPSubject(aim, options)
        return
    piped = PipedSubject(aim, options)
    try:
        yield piped
    finally:
        piped.close()


def titles(subjects: Sequence[Subject]) -> list[str]:
    """A line for each, with a letter where there are two."""
    if len(subjects) == 1:
        return [subjects[0].title]
    return [f"{letter}  {subject.title}" for letter, subject in zip("AB", subjects, strict=True)]

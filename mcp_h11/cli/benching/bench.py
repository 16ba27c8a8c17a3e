# SPDX-License-Identifier: MIT
"""`python -m mcp_h11 bench TARGET [TOOL] [KEY=VALUE ...]`: a server under load, and the figures of it.

The load is a closed loop: each connection has one request under way, and sends the next one when its answer is
complete.  It is bounded, ends by itself, and goes to the target alone.  Ctrl+C ends it early and shows the figures that
there are.

Rule: the exit code names the party at fault: 1 there were errors under load, 2 the command line is wrong, 3 the server
answered the first request with an error, 4 there is no connection, 130 it was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from ...bench.measuring import Measured
from ...bench.process import Failed
from ...bench.talk import Wrong
from ..asking.ask_parser import TOKEN
from ..asking.printing import Screen, dump, line, out
from ..colours import RED, coloured
from ..parser import INTERRUPTED, OK, PROG, UsageError
from .aims import aimed
from .bench_parser import COMPARED_DURATION, DEFAULT_CONCURRENCY, DURATION, IDLE_SCENARIO
from .bench_parser import parser_of as parser_of
from .course import Course, Interrupt
from .figures import lines_of, ratio_lines, ratios_of, table_of, value_of
from .subjects import HTTPSubject, Subject, subject_of, titles

HAD_ERRORS, REFUSED, UNREACHED = 1, 3, 4  # 2 is a mistake on the command line
SPARE_DESCRIPTORS = 64  # that are not connections of the load


class Benchmark:
    """One command: its servers, its runs, and the text of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.screen = Screen(progress=not options.json)
        self.interrupt = Interrupt()
        self.runs: list[Measured] = []

    def run(self, subjects: Sequence[Subject]) -> int:
        """Measure, print, and give the exit code."""
        options, first = self.options, subjects[0]
        self._say(*titles(subjects))
        if isinstance(first, HTTPSubject) and options.scenario == IDLE_SCENARIO:
            return self._idle(first)
        counts = options.concurrency or (DEFAULT_CONCURRENCY,)
        _need_descriptors(max(counts))
        times = f"{options.duration:g} s after {options.warmup:g} s"
        self._say(f"{line(first.operation)}: {first.load.scenario.title}, for {times} of warming up", "")
        with self.interrupt.watched():
            value = self._alone(first, counts) if len(subjects) == 1 else self._compared(subjects, counts)
        if options.json:
            dump({"scenario": options.scenario, "operation": first.operation, **value})
        if self.interrupt.wanted:
            return INTERRUPTED
        return HAD_ERRORS if any(run.errors for run in self.runs) else OK

    def _say(self, *lines: str) -> None:
        if not self.options.json:
            out("\n".join(lines))
            sys.stdout.flush()

    def _measure(self, subject: Subject, count: int, label: str) -> Measured:
        course = Course(self.screen, self.interrupt, label, self.options.warmup, self.options.duration)
        try:
            found = subject.measured(count, course)
        finally:
            self.screen.close()
        self.runs.append(found)
        return found

    def _alone(self, subject: Subject, counts: Sequence[int]) -> dict[str, Any]:
        for count in counts:
            if self.interrupt.wanted:
                break
            found = self._measure(subject, count, _connections(count))
            self._say(_connections(count), *lines_of(found), "")
        if len(self.runs) > 1:
            self._say(*table_of(self.runs))
        return {**subject.about(), "runs": [value_of(run) for run in self.runs]}

    def _compared(self, subjects: Sequence[Subject], counts: Sequence[int]) -> dict[str, Any]:
        found = []
        for count in counts:
            pairs = self._rounds(subjects, count)
            ratios = ratios_of(pairs)
            rounds = f"{len(pairs)} round{'' if len(pairs) == 1 else 's'}"
            self._say("", f"B by A, {_connections(count)}, median of {rounds} (lowest to highest)")
            self._say(*ratio_lines(ratios), "")
            each = [{"a": value_of(one), "b": value_of(other)} for one, other in pairs]
            found.append({"concurrency": count, "ratios": ratios, "rounds": each})
        return {"a": subjects[0].about(), "b": subjects[1].about(), "compared": found}

    def _rounds(self, subjects: Sequence[Subject], count: int) -> list[tuple[Measured, Measured]]:
        """A B A B, so that a change of the machine is one of both.  Half a round compares nothing."""
        pairs = []
        for number in range(self.options.rounds):
            pair = []
            for name, subject in zip("AB", subjects, strict=True):
                if not self.interrupt.wanted:
                    label = f"{name}, round {number + 1} of {self.options.rounds}, {_connections(count)}"
                    pair.append(self._measure(subject, count, label))
            if self.interrupt.wanted:
                break
            pairs.append((pair[0], pair[1]))
            self._say(f"round {number + 1}: A, then B", *table_of(pair))
        return pairs

    def _idle(self, subject: HTTPSubject) -> int:
        sessions = self.options.sessions
        _need_descriptors(sessions)
        idle = subject.held_idle(sessions)
        self._say(f"{sessions:,} sessions with an open stream: {idle.kib_each:.2f} KiB each")
        if self.options.json:
            dump({"scenario": IDLE_SCENARIO, **subject.about(), "idle_sessions": sessions, "kib_each": idle.kib_each})
        return OK


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def _need_descriptors(connections: int) -> None:
    """Raise the limit of this process where that may be done.  Raises UsageError where the system does not let us."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows, where `select` has a limit of its own
        if connections > 500:
            raise UsageError("this system waits for 512 sockets at most: fewer connections") from None
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        raise UsageError(f"{connections} connections want {wanted} descriptors, and ulimit -n gives {soft}") from None


def bench_options(word: str, arguments: Sequence[str]) -> argparse.Namespace:
    """The options, where `target` may be the words of a command.  Raises UsageError."""
    own, command = list(arguments), []
    if "--" in own:
        at = own.index("--")
        own, command = own[:at], own[at + 1 :]
        if not command:
            raise UsageError("after -- comes the command that starts the server")
        own.insert(0, shlex.join(command))  # in the place of TARGET
    options: argparse.Namespace = parser_of(word).parse_args(own)
    if command:
        options.target = command
    if options.duration is None:
        options.duration = DURATION if options.compare is None else COMPARED_DURATION
    if options.compare is not None and options.scenario == IDLE_SCENARIO:
        raise UsageError("idle measures one server: leave --compare out")
    if options.processes > 1 and "fork" not in multiprocessing.get_all_start_methods():
        raise UsageError("this system does not fork: one process of the generator is all that there is")
    if options.arguments and options.tool is None:
        raise UsageError("arguments want a TOOL before them")
    options.token = options.token or os.environ.get(TOKEN) or None
    return options


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return its exit code.  Raises UsageError for a mistake on the command line."""
    options = bench_options(word, arguments)
    benchmark = Benchmark(options)
    targets = [options.target] if options.compare is None else [options.target, options.compare]
    try:
        with contextlib.ExitStack() as running:
            subjects = []
            for target in targets:
                pid = options.pid if target is options.target else None
                aim = running.enter_context(aimed(target, options.path, dict(options.header), options.token, pid))
                subjects.append(running.enter_context(subject_of(aim, options)))
            return benchmark.run(subjects)
    except Wrong as exc:
        if exc.kind.startswith("connection"):
            return _ended(benchmark.screen, "no connection:", exc, UNREACHED)
        code = _ended(benchmark.screen, "error:", exc, REFUSED)
        if exc.kind == "HTTP 401":
            benchmark.screen.say(f"the server wants a token: by --token, or as {TOKEN}; a stored login is not used")
        return code
    except Failed as exc:
        return _ended(benchmark.screen, "no connection:", exc, UNREACHED)
    except OSError as exc:
        return _ended(benchmark.screen, "no connection:", exc.strerror or exc, UNREACHED)
    finally:
        benchmark.screen.close()


def _ended(screen: Screen, label: str, error: object, code: int) -> int:
    screen.say(f"{PROG}: {coloured(line(label), RED, sys.stderr)} {line(str(error).strip())}")
    return code

# SPDX-License-Identifier: MIT
"""What a machine that does other work as well must not change in a test: the log, and the measure of time.

Two things are reported of a loop that stood still: asyncio's debug mode reports a callback that took 100 ms, and the
watchdog a call that took 250 ms.  On a busy machine any callback takes that long, since other programs have the
processor.  So a test that demands silence looks at what is left without these reports.

A limit on the work of this process is a limit on its own processor time (`cheap`), which other programs do not spend;
two pieces of work are compared by it (`cost`).  In both the garbage collector passes by the objects that other tests
left: to look through them takes up to a second, and falls into any block that makes objects.
"""

from __future__ import annotations

import gc
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

_REPORT = re.compile(r"(?m)^.*(Executing <.*> took \d|the event loop has been blocked for \d).*\n")


def without_stalls(stderr: str) -> str:
    """The output of a program without the reports that its loop stood still."""
    return _REPORT.sub("", stderr)


def heard(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged in this process, without these reports."""
    return [record for record in caplog.records if not _REPORT.match(record.getMessage() + "\n")]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of these records that tell of an error."""
    return [record.getMessage() for record in heard(caplog) if record.levelno >= logging.ERROR]


TRACED = 2  # times the processor time that the same code takes while its coverage is measured (1.8 in a flood)


class Cost:
    """The processor time that a block took, in seconds; infinite until the block ends."""

    seconds = float("inf")


@contextmanager
def cost(clock: Callable[[], float] = time.process_time) -> Iterator[Cost]:
    """Measures the block by this process's processor time, or by that of this thread (`time.thread_time`)."""
    measured = Cost()
    gc.freeze()  # and no unfreeze: the objects of the run, which conftest.py froze, would come back
    began = clock()
    yield measured
    measured.seconds = clock() - began


@contextmanager
def cheap(seconds: float) -> Iterator[None]:
    """The block costs this process, with all its threads, less than so many seconds of processor time."""
    limit = seconds if sys.gettrace() is None else TRACED * seconds
    with cost() as measured:
        yield
    assert measured.seconds < limit, f"{measured.seconds:.2f} s of processor time"

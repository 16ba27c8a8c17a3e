# SPDX-License-Identifier: MIT
"""What a machine that does other work as well must not change in a test: the log, and the measure of time.

Two things are reported of a loop that stood still: asyncio's debug mode reports a callback that took 100 ms, and the
watchdog a call that took 250 ms.  On a busy machine any callback takes that long, since other programs have the
processor.  So a test that demands silence looks at what is left without these reports.

A limit on the work of this process is a limit on its own processor time (`cheap`), which other programs do not spend.
"""

from __future__ import annotations

import gc
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_REPORT = re.compile(r"(?m)^.*(Executing <.*> took \d|the event loop has been blocked for \d).*\n")


def without_stalls(stderr: str) -> str:
    """The output of a program without the reports that its loop stood still."""
    return _REPORT.sub("", stderr)


def heard(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged in this process, without these reports."""
    return [record for record in caplog.records if not _REPORT.match(record.getMessage() + "\n")]


TRACED = 2  # times the processor time that the same code takes while its coverage is measured (1.8 in a flood)


@contextmanager
def cheap(seconds: float) -> Iterator[None]:
    """The block costs this process, with all its threads, less than so many seconds of processor time.

    The objects that other tests left are not looked through meanwhile: a collection of them takes a second.
    """
    limit = seconds if sys.gettrace() is None else TRACED * seconds
    gc.freeze()
    try:
        began = time.process_time()
        yield
        took = time.process_time() - began
    finally:
        gc.unfreeze()
    assert took < limit, f"{took:.2f} s of processor time"

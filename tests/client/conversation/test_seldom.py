# SPDX-License-Identifier: MIT
"""Lines of a log that come often are counted, and nothing of them is lost."""

from __future__ import annotations

import logging

import pytest

from mcp_h11.client.conversation.seldom import EVERY, Seldom

logger = logging.getLogger("mcp_h11.test_seldom")


def test_a_kind_is_written_once_in_a_while_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [5.0]
    seldom = Seldom(logger, lambda: now[0])
    for number in range(19_000):
        seldom.warning("%d was dropped", number)
    seldom.warning("%s is another kind", "this")
    assert caplog.messages == ["0 was dropped", "this is another kind"]
    now[0] += EVERY - 0.001
    seldom.warning("%d was dropped", 1)
    assert len(caplog.messages) == 2
    now[0] += 0.001
    seldom.warning("%d was dropped", 7)
    assert caplog.messages[2:] == ["7 was dropped (and 19000 more like it since the last such line)"]
    seldom.close()
    assert len(caplog.messages) == 3  # nothing was left out since


def test_what_was_left_out_is_said_at_the_end_and_only_once(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logger)
    for _ in range(3):
        seldom.warning("%s went", "one")
    seldom.close()
    seldom.close()
    assert caplog.messages == ["one went", "2 more of: %s went"]


def test_an_exception_has_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    seldom = Seldom(logger)
    for _ in range(2):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:  # noqa: PERF203
            seldom.exception("%s failed", "it")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError

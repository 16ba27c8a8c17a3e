# SPDX-License-Identifier: MIT
"""The word about several processes without a store: where it is said, and where it is not."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mcp_h11 import Settings
from mcp_h11.hosted.several import warn_of_workers, worker_count


@pytest.mark.parametrize(
    ("words", "environ", "count"),
    [
        ("uvicorn tools:app", {}, 1), ("uvicorn tools:app --workers 4", {}, 4), ("uvicorn --workers=3 a:b", {}, 3),
        ("hypercorn -w 2 a:b", {}, 2), ("hypercorn a:b -w", {}, 1), ("uvicorn a:b --workers many", {}, 1),
        ("uvicorn a:b --workers -1", {}, 1), ("uvicorn a:b --workers ٣", {}, 1), ("u --workers " + "9" * 6, {}, 1),
        ("uvicorn a:b", {"WEB_CONCURRENCY": "5"}, 5), ("granian a:b", {"GRANIAN_WORKERS": "2"}, 2),
        ("uvicorn a:b", {"WEB_CONCURRENCY": ""}, 1), ("", {}, 1),
    ],
)  # fmt: skip
def test_the_command_line_and_the_environment_say_how_many(words: str, environ: dict[str, str], count: int) -> None:
    assert worker_count(words.split(" ") if words else [], environ) == count


@pytest.mark.parametrize(
    ("words", "fields", "said"),
    [
        (["uvicorn", "-w", "2"], {}, True), (["uvicorn", "-w", "1"], {}, False),
        (["uvicorn", "-w", "2"], {"stateless": True}, False),
        (["uvicorn", "-w", "2"], {"store": "sqlite:///tmp/x.db"}, False),
    ],
)  # fmt: skip
def test_it_is_said_where_sessions_would_be_lost(
    words: list[str], fields: Any, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    warn_of_workers(Settings(**fields))
    assert ("2 worker processes and no store" in caplog.text) is said

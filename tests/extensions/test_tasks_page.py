# SPDX-License-Identifier: MIT
"""docs/tasks.md: its tables hold the defaults and the words of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from mcp_h11.extensions import tasks_engine, tasks_run
from mcp_h11.extensions.tasks import Tasks

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text("utf-8")
UNITS = {"s": 1, "MiB": 1024 * 1024}


def test_the_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d,]+(?: \w+)?) \|", PAGE, re.M))
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Tasks.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    said = {}
    for name, text in rows.items():
        number, _, unit = text.partition(" ")
        said[name] = int(number.replace(",", "")) * UNITS.get(unit, 1)
    assert said == defaults


def test_the_reasons_of_failed_tasks_are_quoted() -> None:
    for reason in (tasks_run.STOPPED, tasks_engine.WORKER_LOST):
        assert f'"{reason}"' in PAGE


def test_the_blocks_of_code_are_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert blocks
    for block in blocks:
        compile(f"async def page():\n{block}\n".replace("\n", "\n    "), "tasks.md", "exec")

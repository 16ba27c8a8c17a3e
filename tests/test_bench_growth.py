# SPDX-License-Identifier: MIT
"""`bench/growth.py`: a short run of ours alone, from which each figure comes out."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from provision import everything_required

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300  # seconds; an installation, or the wait for that of another test, comes before the first run

linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("growth")


@linux
@pytest.mark.long
def test_a_short_run_measures_ours_at_each_size() -> None:
    words = ["--only", "ours", "--sizes", "1,20", "--seconds", "0.3", "--strict"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "growth.py"), *words], capture_output=True, text=True, timeout=LIMIT
    )
    if done.returncode and "stopped:" in done.stdout and not everything_required():
        pytest.skip(done.stdout)  # no package index
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.lstrip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1", "20"]


@linux
def test_only_ours_is_asked_for_all_descriptors(growth: ModuleType) -> None:
    sizes = {name: growth.sizes_of("1,100,9000,max", 5_000, growth.SUBJECTS[name]) for name in ("ours", "rmcp")}
    assert sizes == {"ours": [1, 100, 5_000], "rmcp": [1, 100]}

# SPDX-License-Identifier: MIT
"""The folders that subjects are installed into, and the copy of the package that a run measures."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 30.0  # seconds

linux = pytest.mark.skipif(sys.platform != "linux", reason="the subjects' processes are read in /proc")


@pytest.fixture
def subjects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    module = importlib.import_module("subjects")
    monkeypatch.setattr(module, "CACHE", tmp_path / "cache")
    return module


@linux
def test_two_runs_that_need_the_same_folder_make_it_once(subjects: ModuleType, tmp_path: Path) -> None:
    recipe = tmp_path / "pins.txt"
    recipe.write_text("a==1")
    others, returned = [], []

    def other() -> None:
        returned.append(subjects.made("folder", [recipe], others.append))

    second = threading.Thread(target=other)

    def make(folder: Path) -> None:
        (folder / "half").touch()
        second.start()
        second.join(0.3)  # without the lock it empties the folder, makes its own and ends
        assert (folder / "half").exists()

    folder = subjects.made("folder", [recipe], make)
    second.join(LIMIT)
    assert returned == [folder]
    assert others == []


@linux
def test_a_folder_is_made_anew_after_a_failure_and_for_another_recipe(subjects: ModuleType, tmp_path: Path) -> None:
    recipe = tmp_path / "pins.txt"
    recipe.write_text("a==1")

    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise subjects.Missing("no index")

    with pytest.raises(subjects.Missing):
        subjects.made("folder", [recipe], fails)
    makes: list[list[str]] = []

    def make(folder: Path) -> None:
        makes.append([path.name for path in folder.iterdir()])
        (folder / "whole").touch()

    for text in ("a==1", "a==1", "a==2"):
        recipe.write_text(text)
        subjects.made("folder", [recipe], make)
    assert makes == [[], []]


@linux
def test_each_run_has_a_copy_of_its_own_and_takes_it_away() -> None:
    script = "import sys; sys.path.insert(0, 'bench'); import subjects; print(subjects.frozen()); sys.stdin.read()"
    runs = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        assert all(run.stdout is not None for run in runs)
        copies = [Path(run.stdout.readline().decode().strip()) for run in runs if run.stdout]
        assert copies[0] != copies[1]
        assert all((copy / "mcp_h11" / "__init__.py").exists() for copy in copies)
        assert [run.communicate(timeout=LIMIT) for run in runs]
    finally:
        for run in runs:
            run.kill()
            run.wait()
    assert not any(copy.exists() for copy in copies)

# SPDX-License-Identifier: MIT
"""What counts as a change of a project: which files, compared with which moment, and when a burst of saves is over."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mcp_h11
from mcp_h11.cli.reloading import watch
from mcp_h11.cli.reloading.watch import Project, Report, Watcher, is_own, own_files, short_error

LIMIT = 30.0  # seconds


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    path = tmp_path / "code" / "tools.py"
    path.write_text("one")
    return path


class Loaded(Report):
    """A report of files that no module of this process has."""

    def __init__(self, project: Project, *files: Path, error: str = "") -> None:
        super().__init__(project.next_report())
        self._write([*map(str, files)], error, True)
        project.learn()


@pytest.mark.long
def test_what_is_of_the_project(tmp_path: Path) -> None:
    assert is_own(str(tmp_path / "tools.py"))
    site = tmp_path / ".venv" / "lib" / "python3" / "site-packages" / "x.py"
    stdlib = Path(sysconfig.get_paths()["stdlib"]) / "json" / "decoder.py"
    for file in (site, stdlib, Path(mcp_h11.__file__), tmp_path / "x.so", "<string>", "<frozen x>.py"):
        assert not is_own(str(file))
    assert os.path.realpath(__file__) in own_files()
    assert not any("site-packages" in file or "/json/" in file for file in own_files())


def test_an_error_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    details = f'Traceback:\n  File "{tmp_path}/tools.py", line 3, in <module>\n  File "{tmp_path}/a/b.py", line 7\n'
    message = "import of tools.py failed: SyntaxError: invalid (b.py, line 7)"
    assert short_error(message, details) == f"{Path('a/b.py')}:7: SyntaxError: invalid"
    assert (
        short_error("import of x failed: E: f(a, line 1) is", '  File "/x.py", line 2\n')
        == "/x.py:2: E: f(a, line 1) is"
    )
    assert short_error("tools.py has no function", "") == "tools.py has no function"


def test_a_file_of_the_report_that_changes(tools: Path, reports: Path) -> None:
    helper, foreign = tools.with_name("helper.py"), tools.with_name("foreign.py")
    helper.write_text("one")
    project = Project(reports, [str(tools)])
    Loaded(project, helper)
    foreign.write_text("new")  # the code does not use it
    assert project.changed() == []
    for path in (tools, helper):
        path.write_text("two2")
        assert project.changed() == [str(path)]
        assert project.settle() == [str(path)] and project.changed() == []


def test_an_edit_while_the_code_is_loaded_counts(tools: Path, reports: Path) -> None:
    helper = tools.with_name("helper.py")
    helper.write_text("one")
    project = Project(reports, [str(tools)])  # from here on a process may load them
    tools.write_text("two2")
    helper.write_text("two2")
    Loaded(project, tools, helper)
    assert sorted(project.changed()) == sorted([str(tools), str(helper)])
    project.settle()
    helper.write_text("three")
    Loaded(project, tools, helper)
    assert project.changed() == [str(helper)]


def test_an_edit_before_the_report_is_read_counts(tmp_path: Path, tools: Path, reports: Path) -> None:
    far = tmp_path / "far.py"
    far.write_text("one")
    project = Project(reports, [str(tools)])
    report = Report(project.next_report())
    report._write([str(far)])
    far.write_text("two2")
    project.learn()
    assert project.changed() == [str(far)]


def test_while_the_code_is_broken_a_new_module_beside_it_counts(tools: Path, reports: Path) -> None:
    project = Project(reports, [str(tools)])
    Loaded(project, error="tools.py:1: no module named 'absent'")
    assert project.error and project.mendable and project.changed() == []
    tools.with_name("notes.txt").write_text("")
    tools.with_name(".#absent.py").write_text("")  # of an editor
    assert project.changed() == []
    absent = tools.with_name("absent.py")
    absent.write_text("x")
    assert project.changed() == [str(absent)]
    assert project.settle() == [str(absent)] and project.changed() == []
    Loaded(project, tools, absent)
    assert project.error == ""
    tools.with_name("other.py").write_text("")
    assert project.changed() == []


def test_a_failure_that_no_file_belongs_to_cannot_be_mended(reports: Path) -> None:
    project = Project(reports, [])
    Loaded(project, error="No module named 'nowhere'")
    assert not project.mendable


class Saves:
    """Stands in for `time`: each sleep is the moment for the next save."""

    def __init__(self, *saves: Callable[[], object]) -> None:
        self.saves = [*saves]
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.saves:
            self.saves.pop(0)()


def test_a_burst_of_saves_is_one_change(tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper, swap = tools.with_name("helper.py"), tools.with_name("tools.py~")
    helper.write_text("one")
    project = Project(reports, [str(tools)])
    Loaded(project, helper)
    burst = [
        lambda: tools.rename(swap),  # an editor that keeps the text before
        lambda: helper.write_text("two2"),
        lambda: None,
        lambda: tools.write_text("three"),
        lambda: helper.write_text("three"),
    ]
    saves = Saves(*burst)
    monkeypatch.setattr(watch, "time", saves)
    helper.write_text("begun")
    assert sorted(project.settle()) == sorted([str(tools), str(helper)])
    assert saves.saves == [] and project.changed() == []


def test_a_file_that_never_rests_and_a_file_that_is_gone_hold_up_nothing(
    tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(reports, [str(tools)])
    for saves in (Saves(*(lambda n=n: tools.write_text("x" * n) for n in range(1_000))), Saves(tools.unlink)):
        monkeypatch.setattr(watch, "time", saves)
        tools.write_text("begun")
        assert project.settle() == [str(tools)]
        assert watch.LONGEST_UNREST <= saves.now < watch.LONGEST_UNREST + 2 * watch.QUIET
    assert project.changed() == []


@pytest.mark.parametrize("more", [0, 1])
def test_the_number_of_files_has_a_limit(
    tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, more: int
) -> None:
    monkeypatch.setattr(watch, "MOST_FILES", 5)
    files = [tools.with_name(f"m{number}.py") for number in range(4 + more)]
    for file in files:
        file.write_text("one")
    project = Project(reports, [str(tools)])
    Loaded(project, *files)
    assert ("only the first 5 files are watched" in caplog.text) == bool(more)
    for file in files:
        file.write_text("two2")
    assert len(project.changed()) == 4


@pytest.mark.long
def test_the_report_is_written_again_when_a_module_was_loaded(
    tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(reports, [str(tools)])
    report = Report(project.next_report())
    report.tell()
    project.learn()
    late = tools.with_name("late.py")
    late.write_text("")
    report.tell()  # nothing new
    monkeypatch.setitem(sys.modules, "late", SimpleNamespace(__file__=str(late)))  # type: ignore[arg-type]
    late.write_text("before it was told")
    report.tell()
    project.learn()
    assert project.changed() == []
    late.write_text("x")
    assert project.changed() == [str(late)]


def watched(project: Project, edit: Callable[[], object]) -> list[str]:
    """The files of the first change that a watcher tells after this edit."""
    told: list[str] = []
    heard = threading.Event()

    def on_change(files: Any) -> None:
        told.extend(files)
        heard.set()

    watcher = Watcher(project, on_change)
    watcher.start()
    try:
        edit()
        assert heard.wait(LIMIT)
    finally:
        watcher.stop()
        watcher.join(LIMIT)
    assert not watcher.is_alive()
    return told


def test_a_watcher_looks_by_itself(tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    assert watched(Project(reports, [str(tools)]), lambda: tools.write_text("two2")) == [str(tools)]


@pytest.mark.parametrize("fails", [False, True])
def test_a_watcher_looks_when_watchfiles_says_so(
    tools: Path, reports: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    asked: list[tuple[tuple[str, ...], dict[str, Any]]] = []
    said = threading.Event()

    def watch_files(*folders: str, **options: Any) -> Iterator[set[Any]]:
        asked.append((folders, options))
        if fails:
            raise OSError("no inotify watch is left")
        for _ in itertools.count():
            said.wait(0.05)
            yield set()

    watchfiles_logger = logging.getLogger("watchfiles.main")
    monkeypatch.setitem(sys.modules, "watchfiles", SimpleNamespace(watch=watch_files))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "watchfiles.main", SimpleNamespace(logger=watchfiles_logger))  # type: ignore[arg-type]
    assert watched(Project(reports, [str(tools)]), lambda: tools.write_text("two2")) == [str(tools)]
    folders, options = asked[0]
    assert folders == tuple(sorted([str(tools.parent), str(reports)]))
    assert options["recursive"] is False and options["stop_event"].is_set()
    assert len(asked) == 1 and not watchfiles_logger.isEnabledFor(logging.INFO)

# SPDX-License-Identifier: MIT
"""The types that users see: checkers find each mistake of a program, and nothing in a correct one.

`mypy --strict` and pyright (as basedpyright, which needs no other download) read `correct_uses.py`, `mistakes.py` and
the Python of the pages, as a user has them: the package is installed, and its `py.typed` says that it has types.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pages import PAGES, programs
from provision import everything_required

import mcp_h11
from mcp_h11.hosted.options import ASGIOptions
from mcp_h11.runtime.setting_fields import SettingFields
from mcp_h11.server.options import ListeningOptions, RunOptions, ServeOptions, ServerRunOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORRECT, MISTAKES = HERE / "correct_uses.py", HERE / "mistakes.py"
CHECK_LIMIT = 240  # seconds for one checker on a busy machine
PYTHON = "3.10"  # the oldest that is supported

Found = dict[int, set[str]]  # the codes of a file's errors by line
marked = re.compile(r"# wrong: (\S+) (\S+)$")


def expected(place: int) -> Found:
    """The marks of the mistakes: those of mypy are at place 1, and those of pyright at 2."""
    lines = enumerate(MISTAKES.read_text("utf-8").splitlines(), 1)
    return {number: {*found[place].split(",")} for number, line in lines if (found := marked.search(line))}


def programs_of_pages() -> dict[str, str]:
    """The programs of the pages, each with a file name of its own.

    A program whose functions have no annotation at all (the long store of docs/stores.md) is no subject for a checker.
    """
    found = {}
    for page in PAGES:
        for number, program in enumerate(programs(page)):
            functions = [node for node in ast.walk(ast.parse(program)) if isinstance(node, FUNCTIONS)]
            if not functions or any(map(annotated, functions)):
                found[f"{page.stem}_{number}.py".lower()] = program
    return found


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function says the type of its result, or of an argument."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return function.returns is not None or any(one.annotation is not None for one in every)


def require(module: str) -> None:
    if find_spec(module) is None:
        reason = f"{module} is not installed: pip install -e '.[lint]'"
        pytest.fail(reason) if everything_required() else pytest.skip(reason)


def checked(folder: Path, *command: str) -> str:
    # Not in the root of the repository, where a checker would find the package's source before the installed package.
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=CHECK_LIMIT
    )
    # 0: nothing was found; 1: something was.  Anything else is a failure of the checker.
    assert ran.returncode in (0, 1), ran.stderr
    return ran.stdout


def mypy(folder: Path, *files: Path) -> dict[str, Found]:
    """The errors of each file by mypy, in its strict mode."""
    require("mypy")
    options = ["--strict", "--config-file=", "--python-version", PYTHON, "--cache-dir", str(folder / "cache")]
    found: dict[str, Found] = {file.name: {} for file in files}
    for line in checked(folder, "mypy", *options, "--output", "json", *map(str, files)).splitlines():
        if line.startswith("{"):
            error = json.loads(line)
            if error["severity"] == "error":
                found[Path(error["file"]).name].setdefault(error["line"], set()).add(error["code"])
    return found


def pyright(folder: Path, *files: Path, mode: str) -> dict[str, Found]:
    """The errors of each file by pyright."""
    require("basedpyright")
    config = {
        "include": [str(file) for file in files],
        "typeCheckingMode": mode,
        "pythonVersion": PYTHON,
        "extraPaths": [str(ROOT / "examples")],  # one of them imports another
        "reportUnnecessaryComparison": "error",
    }
    (folder / "pyright.json").write_text(json.dumps(config), "utf-8")
    told = json.loads(
        checked(folder, "basedpyright", "-p", "pyright.json", "--pythonpath", sys.executable, "--outputjson")
    )
    assert told["summary"]["filesAnalyzed"] == len(files)
    found: dict[str, Found] = {file.name: {} for file in files}
    for error in told["generalDiagnostics"]:
        line = error["range"]["start"]["line"] + 1
        found[Path(error["file"]).name].setdefault(line, set()).add(error.get("rule", error["message"]))
    return found


CHECKERS: dict[str, tuple[int, Callable[..., dict[str, Found]]]] = {
    "mypy": (1, mypy),
    "pyright": (2, partial(pyright, mode="standard")),
}


@pytest.mark.long
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_finds_each_mistake_and_nothing_else(checker: str, tmp_path: Path) -> None:
    place, check = CHECKERS[checker]
    wanted = expected(place)
    assert len(wanted) >= 30
    assert check(tmp_path, MISTAKES) == {MISTAKES.name: wanted}


def correct_files(folder: Path) -> list[Path]:
    """The file of correct uses, the examples, and the programs of the pages, which are written into the folder."""
    files = [CORRECT, *sorted((ROOT / "examples").glob("*.py"))]
    for name, program in programs_of_pages().items():
        files.append(folder / name)
        files[-1].write_text(program, "utf-8")
    assert len(files) >= 30
    return files


@pytest.mark.long
def test_mypy_finds_nothing_in_correct_programs_and_pages(tmp_path: Path) -> None:
    found = mypy(tmp_path, *correct_files(tmp_path))
    assert {name: errors for name, errors in found.items() if errors} == {}


@pytest.mark.long
def test_pyright_in_its_strict_mode_finds_nothing_in_correct_programs_and_pages(tmp_path: Path) -> None:
    files = correct_files(tmp_path)
    found = pyright(tmp_path, *files, mode="strict")
    assert found.keys() == {file.name for file in files}
    assert {name: errors for name, errors in found.items() if errors} == {}


# --- the keywords, as functions and settings have them ----------------------------------------------------------


def own(options: Any, below: Any = None) -> dict[str, str]:
    """The members that a TypedDict adds to those of another one, with their types as texts."""
    return {
        name: hint.__forward_arg__
        for name, hint in options.__annotations__.items()
        if below is None or name not in below.__annotations__
    }


def keywords(function: Any) -> dict[str, str]:
    """The keywords that a function names."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}


def rest(function: Any) -> str:
    """The annotation of a function's `**options`."""
    return next(p.annotation for p in inspect.signature(function).parameters.values() if p.kind is p.VAR_KEYWORD)


def test_the_keywords_are_the_fields_of_the_settings() -> None:
    assert own(SettingFields) == {field.name: field.type for field in fields(mcp_h11.Settings)}, (
        "run: python docs/generate.py"
    )
    assert SettingFields.__required_keys__ == frozenset()
    # Each name in an annotation is imported by the module.
    assert typing.get_type_hints(SettingFields).keys() == own(SettingFields).keys()


def test_each_function_takes_its_own_keywords_and_the_rest_of_the_next_one() -> None:
    assert own(ListeningOptions, SettingFields) == keywords(mcp_h11.listening)
    assert own(ServeOptions, ListeningOptions) == keywords(mcp_h11.serve)
    assert own(RunOptions, ServeOptions) == keywords(mcp_h11.run)
    assert own(ServerRunOptions, RunOptions).keys() == {"transport"}
    assert own(ASGIOptions, SettingFields) == keywords(mcp_h11.asgi)
    assert rest(mcp_h11.MCPServer.asgi) == "Unpack[ASGIOptions]"
    assert rest(mcp_h11.listening) == "Unpack[SettingFields]"
    assert rest(mcp_h11.serve) == rest(mcp_h11.start_in_thread) == "Unpack[ListeningOptions]"
    assert rest(mcp_h11.run) == "Unpack[ServeOptions]"
    assert rest(mcp_h11.MCPServer.run) == "Unpack[ServerRunOptions]"


def test_a_context_of_a_state_is_the_context_itself_at_run_time() -> None:
    assert mcp_h11.Context[int] is mcp_h11.Context
    assert isinstance(mcp_h11.Elicited[int]("accept", 5), mcp_h11.Elicited)

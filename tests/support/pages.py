# SPDX-License-Identifier: MIT
"""The pages of the documentation, and the programs in them."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def name_of(page: Path) -> str:
    """The page's path from the root, for the names of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def programs(page: Path) -> list[str]:
    """The programs of a page.  A block that uses names which it does not define goes on with the program before it."""
    found: list[str] = []
    for block in blocks(page, "python"):
        if found and missing_names(block):
            found[-1] += "\n" + block
        else:
            found.append(block)
    return found


def missing_names(source: str) -> set[str]:
    """The names that a program uses and neither defines nor imports."""
    used: set[str] = set()
    bound = {"__name__", "__file__", *dir(builtins)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return used - bound


def run_program(source: str, name: str) -> dict[str, Any]:
    """Run a program as a module of this name, and give its names.  `if __name__ == "__main__"` does not run."""
    # A real module, since annotations of dataclasses are looked up in theirs.
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)
    return module.__dict__


def program_with(page: Path, text: str) -> dict[str, Any]:
    """Run the one program of a page that contains `text`, and give its names."""
    (source,) = [program for program in programs(page) if text in program]
    return run_program(source, "page_" + re.sub(r"\W", "_", page.stem).lower())

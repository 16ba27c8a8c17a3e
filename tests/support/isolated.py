# SPDX-License-Identifier: MIT
"""Python processes with neither site-packages nor the environment: what a copy of the package finds elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

from patience import without_stalls
from rawclient import LIMIT

NAMES = ("h11", "anyio")


def needed() -> list[str]:
    """The distributions that ours names, and what those need in turn on this Python; no extras."""
    found: list[str] = []
    wanted = list(NAMES)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another Python
            continue
        found.append(name)
        plain = [line for line in requires if "extra ==" not in line]
        wanted += [match[0] for line in plain if (match := re.match(r"[\w.-]+", line))]
    return found


def installed_alone(folder: Path) -> Path:
    """This folder, with those distributions alone."""
    for name in needed():
        for file in metadata.files(name) or ():
            source, target = Path(str(file.locate())), folder / str(file)
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    assert (folder / "h11" / "__init__.py").is_file() and (folder / "anyio" / "__init__.py").is_file()
    return folder


PRELUDE = """
import sys
sys.path[:0] = {!r}
"""


class Isolated:
    """Python with neither site-packages nor the environment, that finds what is in `folders` alone."""

    def __init__(self, *folders: Path) -> None:
        # -I: no PYTHON* variables, no current folder; -S: no site-packages.
        self._command = [sys.executable, "-I", "-S", "-X", "dev", "-W", "error", "-c"]
        self._folders = [str(folder) for folder in folders]

    def command(self, code: str) -> list[str]:
        return [*self._command, PRELUDE.format(self._folders) + textwrap.dedent(code)]

    def run(self, code: str) -> Any:
        """Runs the code, and reads its output as JSON."""
        ran = subprocess.run(self.command(code), capture_output=True, text=True, timeout=30, check=False)
        assert (ran.returncode, without_stalls(ran.stderr)) == (0, ""), ran.stderr
        return json.loads(ran.stdout)


def module(name: str, *arguments: str) -> str:
    """Code that does what `python -m name` does with these arguments."""
    return f"""
        import runpy
        sys.argv = [{name!r}, *{list(arguments)!r}]
        runpy.run_module({name!r}, run_name="__main__", alter_sys=True)
    """


class Served:
    """A command that serves, in a process of its own, until the block ends; the block gets its port."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
        )

    def __enter__(self) -> int:
        """The port that it says it listens on."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            _, found, rest = line.partition("http://127.0.0.1:")
            if found:
                return int(rest.partition("/")[0])
        raise AssertionError("".join(seen))

    def __exit__(self, *exc: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        assert code == 0

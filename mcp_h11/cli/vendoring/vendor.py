# SPDX-License-Identifier: MIT
"""`vendor`: copy this package into another program, compare a copy, renew it, or make one file that runs anywhere.

It says how large a copy is and how long its import takes, measured in a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.resources
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ...version import __version__
from ..banner import print_text
from ..parser import OK, CommandParser, UsageError
from ..program import FILE, PACKAGE, PROG
from .copying import find_copy, look, make_copy, replace_copy, some_of
from .files import (
    LOWEST_PYTHON,
    NAME,
    ROOTS,
    SERVER_ROOTS,
    Dependencies,
    Files,
    beside,
    dependencies,
    has_deps,
    package_files,
    server_part,
)
from .imports import DEPS, relative
from .measuring import folders_of, import_time
from .pyz import APP, Bundle, pyz_bytes, write_pyz
from .record import CopyRecord, record_of

DIFFERENT = 1  # the exit code of --check where something has to be done

_EPILOG = f"""\
examples:
  {PROG} vendor plugin/_vendor --server-only --with-deps
  {PROG} vendor --check plugin/_vendor     0 where nothing is to do
  {PROG} vendor --pyz tools.pyz tools.py   then: python tools.pyz

docs/vendoring.md has the rest."""


def parser_of(word: str = "vendor") -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = CommandParser(
        prog=f"{PROG} {word}",
        usage=f"{PROG} {word} [options] DEST\n       {PROG} {word} --pyz FILE [TARGET.py] [FILES ...]",
        description="Copy this package into another program, or make one file that serves alone.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="DEST",
        help=f"folder for the copy, which is DEST/{NAME}; with --pyz: the file or package to serve, and what it needs",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="say how the copy differs from its record and this version")
    what.add_argument("--update", action="store_true", help="bring the copy to this version, with the same options")
    what.add_argument("--pyz", metavar="FILE", type=Path, help="make one file that serves: python FILE")
    parser.add_argument("--server-only", action="store_true", help="without client, bridge and the stores for Redis")
    parser.add_argument("--with-deps", action="store_true", help="with h11, anyio and what they need, inside the copy")
    parser.add_argument("--bytecode", action="store_true", help="with --pyz: start faster on this version of Python")
    parser.add_argument("--force", action="store_true", help="update though files were edited, and keep these aside")
    return parser


def main_of(word: str, arguments: Sequence[str]) -> int:
    """Run the command and return the exit code.  Raises UsageError."""
    options = parser_of(word).parse_intermixed_args(arguments)
    if options.force and not options.update:
        raise UsageError("--force goes with --update")
    if options.pyz is not None:
        if options.with_deps:
            raise UsageError("--pyz always has the dependencies: leave --with-deps out")
        return _make_pyz(options)
    if options.bytecode:
        raise UsageError("--bytecode goes with --pyz")
    if len(options.paths) != 1:
        raise UsageError(f"vendor needs one folder, DEST; {PROG} vendor --help has examples")
    dest = Path(options.paths[0])
    if options.check or options.update:
        if options.server_only or options.with_deps:
            raise UsageError("a copy keeps its options: to change them, remove its folder and vendor again")
        return _check(dest) if options.check else _update(dest, options.force)
    return _make(dest, options.server_only, options.with_deps)


def _say(text: str) -> None:
    print_text(text, sys.stdout)


def _warn(text: str) -> None:
    print_text(f"warning: {text}", sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# Folders
# ---------------------------------------------------------------------------------------------------------------------


def _own_folder() -> Path:
    return Path(str(importlib.resources.files(PACKAGE))).resolve()


def _content(server_only: bool, with_deps: bool) -> tuple[Files, CopyRecord]:
    """The files of a copy, and its record."""
    files = package_files()
    if has_deps(files):
        raise UsageError(
            f"this copy has its dependencies inside, made for it alone: run the command of an installed {NAME}"
        )
    if server_only:
        files = server_part(files)
    elif "client/__init__.py" not in files:
        raise UsageError(f"this {NAME} was made without its client: add --server-only, or run an installed one")
    deps = None
    if with_deps:
        deps = dependencies(SERVER_ROOTS if server_only else ROOTS)
        names = [item.name for item in deps.found]
        files = {path: relative(data, path, names) if path.endswith(".py") else data for path, data in files.items()}
        files |= beside(deps)
        _tell_limits(deps)
    return files, record_of(files, __version__, server_only=server_only, deps=deps)


def _tell_limits(deps: Dependencies) -> None:
    if deps.python > LOWEST_PYTHON:
        needs, older = ".".join(map(str, deps.python)), ", ".join(deps.older)
        _warn(f"it runs on Python {needs} and later; install {older} before, and it runs on older ones too")
    if deps.absent:
        _warn(f"some systems need what is not installed here, and not copied: {', '.join(deps.absent)}")


def _make(dest: Path, server_only: bool, with_deps: bool) -> int:
    if dest.resolve().is_relative_to(_own_folder()):
        raise UsageError(f"{dest} is in the folder of {PACKAGE} itself")
    files, record = _content(server_only, with_deps)
    folder = make_copy(dest, files, record)
    _say(f"copied {NAME} {__version__} into {folder}{_with(record)}")
    _report(folder, files, record)
    if folder.resolve().parent.name.isidentifier():
        _say(f"  to use it: from .{folder.resolve().parent.name}.{NAME} import MCPServer, start_in_thread")
    _say(f"  in CI: {PROG} vendor --check {shlex.quote(str(dest))}")
    return OK


def _with(record: CopyRecord) -> str:
    words = ["server only"] if record.server_only else []
    words += [f"{name} {version}" for name, version in record.dependencies.items()]
    return f" ({', '.join(words)})" if words else ""


def _report(folder: Path, files: Files, record: CopyRecord) -> None:
    inside = {path: data for path, data in files.items() if path.startswith(f"{DEPS}/")}
    _say(f"  {_size(files)}" + (f", of which dependencies {_size(inside)}" if inside else ""))
    others = [] if record.with_deps else folders_of(SERVER_ROOTS if record.server_only else ROOTS)
    _say_time(import_time(folder.name, [str(folder.resolve().parent), *others]))


def _size(files: Files) -> str:
    return f"{len(files)} files, {sum(map(len, files.values())):,} bytes"


def _say_time(seconds: float | None) -> None:
    measured = "not measured: this Python cannot start another one"
    if seconds is not None:
        measured = f"{seconds * 1000:.0f} ms of processor time"
    _say(f"  import: {measured}")


def _check(dest: Path) -> int:
    folder = find_copy(dest)
    record, changes = look(folder)
    said = [
        f"{what}: {some_of(paths)}"
        for what, paths in (("edited", changes.edited), ("missing", changes.missing), ("not of it", changes.extra))
        if paths
    ]
    if record.version != __version__:
        said.append(f"it has version {record.version}, this is {__version__}")
    elif not said and not _is_own(folder):
        said += _beside_this(record)
    for line in said:
        _say(f"{folder}: {line}")
    if said:
        # No copy updates itself.
        program = f"python -m {NAME}" if _is_own(folder) else PROG
        _say(f"to mend it: {program} vendor --update {shlex.quote(str(dest))}{' --force' if changes.touched else ''}")
        return DIFFERENT
    _say(f"{folder}: {NAME} {record.version}, {len(record.hashes)} files as recorded")
    return OK


def _is_own(folder: Path) -> bool:
    return folder.resolve() == _own_folder()


def _beside_this(record: CopyRecord) -> list[str]:
    """How an unedited copy of this version differs from one that would be made now."""
    _, now = _content(record.server_only, record.with_deps)
    # No fault of the copy: a check may not fail because there is a release of h11.
    for name, version in record.dependencies.items():
        if now.dependencies.get(name) not in (None, version):
            _warn(f"it has {name} {version}, and {now.dependencies[name]} is installed here: --update takes that")
    ours = [{path: value for path, value in hashes.items() if not path.startswith(f"{DEPS}/")}
            for hashes in (record.hashes, now.hashes)]  # fmt: skip
    return [] if ours[0] == ours[1] else [f"this {NAME} {__version__} has other files"]


def _update(dest: Path, force: bool) -> int:
    folder = find_copy(dest)
    if _is_own(folder):
        raise UsageError(f"{folder} is the copy that runs: run the command of the {NAME} that it shall become")
    record, changes = look(folder)
    changed = changes.touched
    if changed and not force:
        raise UsageError(f"{folder} was edited: {some_of(changed)}; --force updates it, and keeps these files aside")
    if _newer(record.version) and not force:
        raise UsageError(f"{folder} has version {record.version}, newer than this {__version__}; --force goes back")
    files, now = _content(record.server_only, record.with_deps)
    if now == record and not changed and not changes.missing:
        _say(f"{folder} is {NAME} {__version__} already")
        return OK
    kept = _free(folder.parent / f"{folder.name}.edited")
    replace_copy(folder, files, now, changed, kept)
    _say(f"updated {folder} from {NAME} {record.version} to {__version__}{_with(now)}")
    if changed:
        _say(f"  kept in {kept}: {some_of(changed)}")
    _report(folder, files, now)
    return OK


def _newer(version: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(part) if part.isdigit() else 0 for part in text.split(".")]

    return numbers(version) > numbers(__version__)


def _free(path: Path) -> Path:
    """This path, or one with a number where it exists."""
    number, free = 1, path
    while free.exists() or free.is_symlink():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


# ---------------------------------------------------------------------------------------------------------------------
# One file
# ---------------------------------------------------------------------------------------------------------------------


def _make_pyz(options: argparse.Namespace) -> int:
    path, words = options.pyz, options.paths
    bundle = Bundle(__version__, words, server_only=options.server_only, bytecode=options.bytecode)
    data = pyz_bytes(bundle.files, bundle.record)
    if FILE is not None and path.resolve() == Path(FILE).resolve():
        raise UsageError(f"{path} is the file that runs: take another name")
    write_pyz(path, data)
    _tell_limits(bundle.deps)
    if bundle.foreign:
        _warn(
            f"your files import modules that are not inside: {', '.join(bundle.foreign)}.  Name the folder of each "
            "pure Python package after it, or run the file with a Python that has them"
        )
    inside = {name: data for name, data in bundle.files.items() if name.startswith(f"{APP}/")}
    _say(f"made {path} of {NAME} {__version__}{_with(bundle.record)}")
    _say(
        f"  {len(data):,} bytes; inside {_size(bundle.files)}" + (f", of which yours {_size(inside)}" if inside else "")
    )
    _say_time(import_time(NAME, [os.path.abspath(path)]))
    target = "" if words else " tools.py"
    _say(f"  to serve: python -I -S {shlex.quote(str(path))}{target} --port 8000")
    return OK

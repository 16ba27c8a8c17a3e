# SPDX-License-Identifier: MIT
"""The files of a copy, by path: of this package, of its dependencies, and their licences.

It reads through the import system, so it works from a folder, from a copy in another package and from one zip file.  It
writes nothing: `copying` and `pyz` do.

Rule: no dependency is copied without its licence.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ..parser import PACKAGE, UsageError
from .imports import DEPS, relative

Files = dict[str, bytes]  # by path, with "/" between its parts

NAME = "mcp_h11"
MANIFEST = "vendored.json"
LICENSE = "LICENSE"
LOWEST_PYTHON = (3, 10)
ROOTS = ("h11", "anyio")
SERVER_ROOTS = ("h11",)  # a server needs no anyio
# A server on HTTP or on pipes does not need the files whose path begins so.  All names of `__init__` are there without
# them, except those of which `__getattr__` says that they were left out.
_CLIENT_SIDE = ("client/", "bridge/", "bench/", "http/client.py")
_OPTIONAL_STORES = ("stores/redis.py", "stores/redis_", "stores/suite", "stores/testing.py")
# The processes of --workers and --reload, and their pages, too.
_PROCESSES = ("child", "desk", "reloading", "spread", "totals", "worker", "workers")
_COMMAND_LINE = ("cli/", "__main__.py", *(f"server/{name}.py" for name in _PROCESSES))
_KEPT = {"stores/redis_url.py"}  # it knows the URLs that are refused
# Modules of dependencies that only their own programs, pytest and trio load.
_UNUSED = {"anyio/_backends/_trio.py", "anyio/pytest_plugin.py", "idna/__main__.py", "idna/cli.py"}
_COMPILED = (".so", ".pyd", ".dll", ".dylib")


class Dependency(NamedTuple):
    """A distribution that is copied along.

    Attributes:
        modules: its modules, from the name that is imported on.
        about: its METADATA, and the texts of its licences, by file name.
    """

    name: str
    version: str
    license: str
    modules: Files
    about: Files


class Dependencies(NamedTuple):
    """All of them, sorted by name, and those that are not installed here.

    Attributes:
        python: the lowest Python that they run on.
        older: the distributions that they need on older ones.
        absent: the distributions that they need on other systems, with their markers.
    """

    found: list[Dependency]
    python: tuple[int, ...]
    older: list[str]
    absent: list[str]


# ---------------------------------------------------------------------------------------------------------------------
# This package
# ---------------------------------------------------------------------------------------------------------------------


def package_files() -> Files:
    """All files of the package that runs now, with its licence.  Raises UsageError where that is not here."""
    files = _walked(importlib.resources.files(PACKAGE), "")
    files.pop(MANIFEST, None)
    if LICENSE not in files:
        files[LICENSE] = _own_license()
    return files


def has_deps(files: Files) -> bool:
    """Whether these files of the package are from a copy with its dependencies inside."""
    return f"{DEPS}/__init__.py" in files


def server_part(files: Files, *, command_line: bool = False) -> Files:
    """Those of these files of the package that a server needs, with the command line or without it."""
    left_out = (*_CLIENT_SIDE, *_OPTIONAL_STORES, *(() if command_line else _COMMAND_LINE))
    return {path: data for path, data in files.items() if path in _KEPT or not path.startswith(left_out)}


def _walked(folder: Any, prefix: str) -> Files:
    """The files of a folder (a Traversable: in a zip file too), without bytecode and hidden files."""
    files: Files = {}
    for entry in folder.iterdir():
        name = entry.name
        if name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", ".pyo")):
            continue
        if entry.is_dir():
            files |= _walked(entry, f"{prefix}{name}/")
        else:
            files[prefix + name] = entry.read_bytes()
    return files


def _own_license() -> bytes:
    try:
        text = metadata.distribution(NAME).read_text("licenses/LICENSE")
    except metadata.PackageNotFoundError:
        text = None
    if text is not None:
        return text.encode()
    beside = Path(str(importlib.resources.files(PACKAGE))).parent / LICENSE  # a checkout
    try:
        return beside.read_bytes()
    except OSError:
        raise UsageError(f"the {LICENSE} of {NAME} is not here: copy the file into its folder") from None


# ---------------------------------------------------------------------------------------------------------------------
# The dependencies
# ---------------------------------------------------------------------------------------------------------------------


def dependencies(roots: Sequence[str] = ROOTS) -> Dependencies:
    """These distributions and their requirements, as installed here.

    Raises UsageError where one is not installed, is not pure Python, or has no licence here.
    """
    found: dict[str, Dependency] = {}
    python, older, absent = LOWEST_PYTHON, set(), set()
    wanted = [(name, "", NAME) for name in roots]
    while wanted:
        name, marker, parent = wanted.pop()
        if name in found:
            continue
        module = name.replace("-", "_")
        if importlib.util.find_spec(module) is None:
            below = re.fullmatch(r"""python_version\s*<\s*["'](\d+)\.(\d+)["']""", marker)
            if below is not None:
                python = max(python, (int(below[1]), int(below[2])))
                older.add(name)
            elif marker:
                absent.add(f"{name} ({marker})")
            else:
                raise UsageError(f"{name}, which {parent} needs, is not installed")
            continue
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise UsageError(
                f"{name} is here without its metadata, so its version and licence are not known: install it with pip"
            ) from None
        found[name] = _dependency(name, module, installed)
        wanted += [(*_requirement(line), name) for line in installed.requires or () if "extra" not in line]
    return Dependencies([found[name] for name in sorted(found)], python, sorted(older), sorted(absent))


def _requirement(line: str) -> tuple[str, str]:
    """The name, in the form that file names have, and the marker of a line of Requires-Dist."""
    name = re.match(r"[\w.-]+", line)
    assert name is not None, line
    return re.sub(r"[-_.]+", "_", name[0]).lower(), line.partition(";")[2].strip()


def _dependency(name: str, module: str, installed: metadata.Distribution) -> Dependency:
    modules = _modules(module)
    for path in modules:
        if path.endswith(_COMPILED):
            raise UsageError(f"{path} is compiled: copies hold pure Python alone")
    about = _licenses(name, installed)
    about["METADATA"] = (installed.read_text("METADATA") or installed.read_text("PKG-INFO") or "").encode()
    named = [value for key in ("License-Expression", "License") for value in installed.metadata.get_all(key) or ()]
    # Older metadata may have the whole text there.
    license_ = named[0].strip().splitlines()[0] if named and named[0].strip() else "see its licence"
    return Dependency(name, installed.version, license_, modules, about)


def _modules(module: str) -> Files:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is None:
        loader: Any = spec.loader
        return {f"{module}.py": loader.get_data(spec.origin)}
    files = _walked(importlib.resources.files(module), f"{module}/")
    return {path: data for path, data in files.items() if path not in _UNUSED and "/tests/" not in path}


def _licenses(name: str, installed: metadata.Distribution) -> Files:
    files: Files = {}
    for file in installed.metadata.get_all("License-File") or ():
        text = installed.read_text(f"licenses/{file}") or installed.read_text(file)
        if text:
            files[Path(file).name] = text.encode()
    if not files:
        raise UsageError(f"{name} is here without its licence: install it from its wheel with pip")
    return files


def beside(deps: Dependencies) -> Files:
    """The dependencies as `_deps` of a copy: all their imports relative, each licence beside its package."""
    names = [dependency.name for dependency in deps.found]
    files = {f"{DEPS}/__init__.py": _introduction(deps).encode()}
    for dependency in deps.found:
        for path, data in dependency.modules.items():
            path = f"{DEPS}/{path}"
            files[path] = relative(data, path, names) if path.endswith(".py") else data
        for file, data in dependency.about.items():
            if file != "METADATA":
                files[f"{DEPS}/{dependency.name}.{file}"] = data
    return files


def _introduction(deps: Dependencies) -> str:
    versions = "".join(f"- {item.name} {item.version} ({item.license})\n" for item in deps.found)
    guard = ""
    if deps.python > LOWEST_PYTHON:
        needs, why = ".".join(map(str, deps.python)), ", ".join(deps.older)
        guard = (
            "\nimport sys\n\n"
            f"if sys.version_info < {deps.python}:\n"
            f'    raise ImportError("this copy runs on Python {needs} and later: for older ones it needs {why}")\n'
        )
    return (
        '# SPDX-License-Identifier: MIT\n"""Copies of other packages, for the package above alone.\n\n'
        "Their imports are relative, so the host's own copies are not touched.  Each has its licence beside it.\n\n"
        f'{versions}"""\n{guard}'
    )

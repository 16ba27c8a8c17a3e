# SPDX-License-Identifier: MIT
"""One file that serves with a bare Python: this package, its dependencies, and the files of a user, in a zip.

    FILE
      __main__.py               the beginning of `python FILE`
      vendored.json             the record
      mcp_h11/  h11/  anyio/    as they are installed; in a process of its own no copy is in the way of another
      h11-0.16.0.dist-info/     licence and metadata of each
      app/                      the user's files; the first one is served

Rule: the same files give the same bytes, on any day, with the same zlib.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import marshal
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..parser import UsageError
from ..target import split_target
from .files import MANIFEST, NAME, Dependencies, Files, has_deps, package_files, server_part
from .files import dependencies as installed_dependencies
from .record import CopyRecord, parse_record, record_of

APP = "app"  # the folder of the user's files
MAX_APP = 64 * 1024 * 1024  # bytes of the user's files: they are held in memory
_SHEBANG = b"#!/usr/bin/env python3\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can have

# It has to be read by Pythons that are too old, so that they can say so.
_MAIN = '''\
# SPDX-License-Identifier: MIT
"""{about}"""
import sys

TARGET = {target!r}

if sys.version_info < {python!r}:
    raise SystemExit("this file needs Python %s or later" % ".".join(map(str, {python!r})))

if __name__ == "__main__":
    import os

    # Modules are loaded from the file later too, when a tool may have changed the current folder.
    sys.path[0] = os.path.abspath(sys.path[0])
    if TARGET:
        sys.path.insert(1, os.path.join(sys.path[0], "{app}"))
    from {name}.cli.main import main

    raise SystemExit(main())
'''


class Bundle:
    """The files of a single file, before they are written.

    Attributes:
        files: by path in the zip.
        record: of these files.
        deps: the dependencies in it.
        foreign: modules that the user's files import and that neither Python nor the file has.
    """

    def __init__(self, version: str, words: Sequence[str], *, server_only: bool, bytecode: bool) -> None:
        """`words` are the user's files and folders.  Raises UsageError."""
        ours = package_files()
        if has_deps(ours):
            raise UsageError(
                "this copy has its dependencies inside, made for it alone: make the file with an installed mcp_h11"
            )
        self.deps = installed_dependencies()
        ours = server_part(ours, command_line=True) if server_only else ours
        self.files = {f"{NAME}/{path}": data for path, data in ours.items()}
        for item in self.deps.found:
            self.files |= item.modules
            self.files |= {f"{item.name}-{item.version}.dist-info/{_place(f)}": d for f, d in item.about.items()}
        app, target = _app(words, self._names())
        self.foreign = _foreign(app, self._names())
        self.files |= app
        self.files["__main__.py"] = _main(version, target, self.deps).encode()
        if bytecode:
            self.files |= _compiled(self.files)
        self.record = record_of(self.files, version, server_only=server_only, deps=self.deps, target=target)

    def _names(self) -> set[str]:
        return {path.partition("/")[0].removesuffix(".py") for path in self.files if path.endswith(".py")}


def _place(file: str) -> str:
    return file if file == "METADATA" else f"licenses/{file}"


def _main(version: str, target: str | None, deps: Dependencies) -> str:
    about = f"{NAME} {version} in one file.  {MANIFEST} names its files, each .dist-info has a licence."
    return _MAIN.format(about=about, target=target, python=deps.python, app=APP, name=NAME)


# ---------------------------------------------------------------------------------------------------------------------
# The user's files
# ---------------------------------------------------------------------------------------------------------------------


def _app(words: Sequence[str], taken: set[str]) -> tuple[Files, str | None]:
    """The files of these words, in `app/`, and the target of the first one."""
    files: Files = {}
    target = None
    for index, word in enumerate(words):
        path, name = split_target(word) if index == 0 else (word, "")
        where = Path(path)
        if index == 0:
            target = _module(where) + (f":{name}" if name else "")
        for inside, data in _read(where):
            if files.setdefault(inside, data) != data:
                raise UsageError(f"two files would be {inside}: rename one of them")
        if sum(map(len, files.values())) > MAX_APP:
            raise UsageError(f"the files are more than {MAX_APP // 1024 // 1024} MiB: name those that are needed alone")
    for top in sorted({path.split("/")[1].removesuffix(".py") for path in files}):
        if top in taken or top in sys.stdlib_module_names:
            raise UsageError(f"{top} is the name of a module that others import: rename the file")
    return files, target


def _module(path: Path) -> str:
    """The name by which the user's file or folder is imported."""
    if (path.is_file() and path.suffix != ".py") or (path.is_dir() and not (path / "__init__.py").is_file()):
        raise UsageError(f"{path} comes first, so it is served: that has to be a Python file or a package")
    name = path.resolve().name.removesuffix(".py")
    if not name.isidentifier():
        raise UsageError(f"{path} cannot be imported: rename it, to letters, digits and '_' alone")
    return name


def _read(path: Path) -> Iterator[tuple[str, bytes]]:
    root = path.resolve().parent
    try:
        found = sorted(path.resolve().rglob("*")) if path.is_dir() else [path.resolve()]
        for file in found:
            parts = file.relative_to(root).parts
            hidden = "__pycache__" in parts or file.suffix == ".pyc" or any(part.startswith(".") for part in parts[1:])
            if not hidden and not file.is_dir():
                yield "/".join((APP, *parts)), file.read_bytes()
    except OSError as exc:
        raise UsageError(f"cannot read {exc.filename or path}: {exc.strerror}") from None


def _foreign(app: Files, bundled: set[str]) -> list[str]:
    """Modules that the files import and that are not there.  An import in a `try` has another way, and is left out."""
    own = {path.split("/")[1].removesuffix(".py") for path in app}
    found = set()
    for path, data in app.items():
        if path.endswith(".py"):
            try:
                tree = ast.parse(data, path)
            except (SyntaxError, ValueError) as exc:
                line = f", line {exc.lineno}" if isinstance(exc, SyntaxError) else ""
                raise UsageError(f"{path.removeprefix(APP + '/')}{line}: {getattr(exc, 'msg', exc)}") from None
            found |= {name.partition(".")[0] for name in _imported(tree)}
    return sorted(found - own - bundled - {*sys.stdlib_module_names, "__main__"})


def _imported(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield child.module or ""
        elif not isinstance(child, (ast.Try, ast.If)):  # `if TYPE_CHECKING:`
            yield from _imported(child)


# ---------------------------------------------------------------------------------------------------------------------
# Bytecode
# ---------------------------------------------------------------------------------------------------------------------

# PEP 552: a file with a hash that is not compared.  Its 16 bytes are the magic number, the flags and the hash.
_HEAD = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + bytes(8)
# Later forms mark shared objects, and another process with other modules shares other ones.  Python 3.10 writes sets
# in the order of their hashes, so there each process gives other bytes.
_MARSHAL = 2


def _compiled(files: Files) -> Files:
    """The bytecode of these files for this version of Python; others read the source beside it."""
    found = {}
    for path, data in files.items():
        if path.endswith(".py") and path != "__main__.py":
            code = compile(data, path, "exec", dont_inherit=True)
            with suppress(ValueError):  # a constant that this form does not have: Python compiles the source
                found[f"{path}c"] = _HEAD + marshal.dumps(code, _MARSHAL)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The zip
# ---------------------------------------------------------------------------------------------------------------------


def pyz_bytes(files: Files, record: CopyRecord) -> bytes:
    """The bytes of the file."""
    entries = {**files, MANIFEST: record.encoded()}
    # A folder without __init__.py is a package too, also one of data alone, which the importer finds by an entry of its
    # own.  Other folders have none: each takes a hundred bytes.
    folders = {parent for path in entries for parent in PurePosixPath(path).parents[:-1]}
    plain = {f"{folder}/" for folder in folders if f"{folder}/__init__.py" not in entries}
    out = io.BytesIO()
    out.write(_SHEBANG)
    with zipfile.ZipFile(out, "w") as file:
        for path in sorted({*entries, *plain}):
            entry = zipfile.ZipInfo(path, _LONG_AGO)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = (0o40755 if path in plain else 0o100644) << 16
            if path not in plain:
                entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, entries.get(path, b""), compresslevel=9)
    return out.getvalue()


def write_pyz(path: Path, data: bytes) -> None:
    """Write the file in the place of an older one that this command made.  Raises UsageError."""
    if path.is_symlink() or (path.exists() and not _is_ours(path)):
        raise UsageError(f"{path} exists and was not made by this command: remove it, or take another name")
    try:
        descriptor, work = tempfile.mkstemp(prefix=f".{NAME}-", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(work, 0o777 & ~umask)
            os.replace(work, path)
        except BaseException:
            os.unlink(work)
            raise
    except OSError as exc:
        raise UsageError(f"cannot write {path}: {exc.strerror}") from None


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file, file.open(MANIFEST) as record:
            parse_record(record.read(1024 * 1024), str(path))
    except (OSError, KeyError, zipfile.BadZipFile, UsageError):
        return False
    return True

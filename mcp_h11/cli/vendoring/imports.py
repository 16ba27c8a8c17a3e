# SPDX-License-Identifier: MIT
"""Makes the imports of a copied file relative, so that a copy of h11 or anyio is used by this package alone.

A copy that was put on `sys.path` would be the host's `h11` too, or the host's would be ours: `sys.modules` has one
place for a name.  So `import h11` becomes `from .._deps import h11`, as in the copies that pip carries.

Rule: an import that cannot be made relative is an error with the file and the line.  None is left absolute in silence.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

from ..parser import UsageError

DEPS = "_deps"  # the folder of the copied dependencies, in the folder of the package
# Functions that import by a string.
_LOADERS = {"import_module", "__import__", "find_spec", "run_module", "resolve_name"}

_Edit = tuple[int, int, str]  # from this byte up to that one, this text


def relative(source: bytes, path: str, names: Collection[str]) -> bytes:
    """The source with each import of one of these modules made relative.

    Args:
        path: where the file will be, below the folder of the package: `http/server.py`, `_deps/anyio/abc/_tasks.py`.
        names: the modules that stand in `_deps`.

    Raises:
        UsageError: an import has a form that is not known, or the source is not Python.
    """
    if not any(name.encode() in source for name in names):
        return source
    try:
        tree = ast.parse(source, path)
    except SyntaxError as exc:
        raise UsageError(f"{path}, line {exc.lineno}: {exc.msg}") from None
    text = _Text(source, path, names)
    edits = sorted(edit for node in ast.walk(tree) for edit in text.edits(node))
    parts, done = [], 0
    for begin, end, new in edits:
        parts += [source[done:begin], new.encode()]
        done = end
    return b"".join([*parts, source[done:]])


class _Text:
    """One source, and its changes."""

    def __init__(self, source: bytes, path: str, names: Collection[str]) -> None:
        self._source = source
        self._path = path
        self._names = names
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        folders = path.split("/")[:-1]
        # Where the file lies in `_deps` itself, the way ends there.
        inside = folders[:1] == [DEPS]
        up = "." * (len(folders) if inside else len(folders) + 1)
        self._folder = up if inside else up + DEPS
        self._way = up if inside else f"{up}{DEPS}."

    def edits(self, node: ast.AST) -> Iterator[_Edit]:
        """The changes of one node."""
        if isinstance(node, ast.ImportFrom) and not node.level and self._ours(node.module or ""):
            begin, end = self._place(node)
            old = self._source[begin:end].decode()
            yield begin, end, re.sub(r"^from\s+[\w.]+", lambda _: f"from {self._way}{node.module}", old)
        elif isinstance(node, ast.Import) and any(self._ours(alias.name) for alias in node.names):
            begin, end = self._place(node)
            yield begin, end, "; ".join(self._import(alias) for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from self._by_string(node)

    def _import(self, alias: ast.alias) -> str:
        renamed = f" as {alias.asname}" if alias.asname else ""
        if not self._ours(alias.name):
            return f"import {alias.name}{renamed}"
        parent, _, name = alias.name.rpartition(".")
        if not parent:
            return f"from {self._folder} import {name}{renamed}"
        if renamed:
            return f"from {self._way}{parent} import {name}{renamed}"
        # `import a.b` loads both, and binds `a`.
        top = alias.name.partition(".")[0]
        loaded = alias.name.replace(".", "_")
        return f"from {self._folder} import {top}; from {self._way}{parent} import {name} as _{loaded}"

    def _by_string(self, call: ast.Call) -> Iterator[_Edit]:
        function = call.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if name not in _LOADERS or not call.args:
            return
        first = call.args[0]
        start = first.values[0] if isinstance(first, ast.JoinedStr) and first.values else first
        if not isinstance(start, ast.Constant) or not isinstance(start.value, str) or not self._ours(start.value):
            return
        begin, end = self._place(first)
        quoted = re.match(r"[fF]?['\"]{1,3}", self._source[begin:end].decode())
        if name != "import_module" or len(call.args) > 1 or call.keywords or quoted is None:
            raise UsageError(f"{self._path}, line {call.lineno}: {name}() of a name that cannot be made relative")
        yield begin + quoted.end(), begin + quoted.end(), self._way
        yield end, end, ", __package__"

    def _ours(self, name: str) -> bool:
        return name.partition(".")[0] in self._names

    def _place(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin = self._starts[node.lineno - 1] + node.col_offset
        return begin, self._starts[node.end_lineno - 1] + node.end_col_offset

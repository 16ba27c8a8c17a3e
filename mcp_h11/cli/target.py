# SPDX-License-Identifier: MIT
"""Loads the TARGET of a command line, a file, a module, or an object in either, as a server.

It runs the user's module, so an exception of it is shown to the user: `UsageError` carries the traceback of the user's
frames alone.  It serves nothing and prints nothing.

Rules:
- A module is not changed, and is not run twice.
- An object that the user named goes before one that this module finds by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NoReturn

from ..handler.handler import ServerHandler
from ..handler.mcpserver import RUN_REFUSED, MCPServer
from .parser import PROG, UsageError, closest, did_you_mean

# Where a module has several servers, these names say which one is meant, in this order.
PREFERRED_NAMES = ("server", "mcp", "app")


class _RunCalled(BaseException):
    """A module calls `server.run()` while we import it.

    README's example ends in `server.run()`.  Called during the import, it would serve without the options of the
    command line, and the command would serve the module once more after that.  The error says the remedy.
    """


def _refuse() -> NoReturn:
    raise _RunCalled


# The code that calls the user's code.  A traceback leaves out its leading frames, so that it begins with the user's.
_CALLERS = (
    # As the code names its file: bytecode in a zip file has a path of its own.
    os.path.join(os.path.dirname(os.path.dirname(_refuse.__code__.co_filename)), ""),
    *(os.path.join(os.path.dirname(str(file)), "") for file in (importlib.__file__, asyncio.__file__)),
    contextlib.__file__,
    "<frozen importlib",
    "<frozen zipimport",
    "uvloop",
)


def users_error(what: str, exc: BaseException) -> UsageError:
    """An exception of the user's code, in one line, with the traceback of the user's frames as details."""
    tb: TracebackType | None = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_CALLERS):
        tb = tb.tb_next
    details = "".join(traceback.format_exception(type(exc), exc, tb))
    text = " ".join(str(exc).split())
    return UsageError(f"{what} failed: {type(exc).__name__}{text and ': '}{text}", details)


# Runs the user's code: an import, or the making of an instance.
def _call(what: str, function: Callable[[], Any]) -> Any:
    # For this context alone: another thread of a program that calls `load_target` may run its servers meanwhile.
    before = RUN_REFUSED.set(_refuse)
    try:
        return function()
    except _RunCalled as exc:
        line = traceback.extract_tb(exc.__traceback__)[-3].lineno  # then come `run` and `_refuse`
        reason = 'calls run() itself: put that line under `if __name__ == "__main__":`'
        raise UsageError(f"{what} (line {line}) {reason}") from None
    except (Exception, SystemExit) as exc:
        raise users_error(what, exc) from exc
    finally:
        RUN_REFUSED.reset(before)


def _on_path(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _stem(path: str) -> str:
    """The name of a file without its suffix."""
    return os.path.splitext(os.path.basename(path))[0]


def python_files(folder: str) -> dict[str, str]:
    """The Python files in a folder, by their names without the suffix."""
    try:
        return {_stem(file): file for file in os.listdir(folder) if file.endswith(".py")}
    except OSError:
        return {}


def _load_file(path: str) -> ModuleType:
    if os.path.isdir(path):
        raise UsageError(f"{os.path.normpath(path)} is a folder: name a file in it, or a package by its module name")
    try:
        open(path, "rb").close()
    except OSError as exc:
        names = python_files(os.path.dirname(path) or os.curdir)
        meant = did_you_mean(names.get(closest(_stem(path), names), ""))
        raise UsageError(f"cannot read {os.path.normpath(path)}: {exc.strerror}{meant}") from None
    path = os.path.realpath(path)
    _on_path(os.path.dirname(path))
    # Under its own name, so that annotations are found and helpers beside it can import it; not so where that would
    # replace a module that others rely on (a json.py).
    name = _stem(path) if _stem(path) not in sys.modules else f"{_stem(path)} ({path})"
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module

    def load() -> None | UsageError:
        try:
            loader.exec_module(module)
        except ImportError as exc:
            if not _is_relative(exc, path):
                raise
            file = os.path.basename(path)
            return UsageError(f"{file} imports from its package, which a file alone has not: {_by_module(path)}")
        return None

    try:
        refusal = _call(f"import of {os.path.basename(path)}", load)
        if refusal is not None:
            raise refusal
    except UsageError:
        del sys.modules[name]
        raise
    return module


def _is_relative(exc: ImportError, path: str) -> bool:
    """Whether this file itself has the relative import that failed."""
    frames = traceback.extract_tb(exc.__traceback__)
    return str(exc).startswith("attempted relative import") and frames[-1].filename == path


def _by_module(path: str) -> str:
    """How to serve a file of a package by the name of its module."""
    folder = os.path.dirname(path)
    names = [_stem(path), os.path.basename(folder)]
    while os.path.isfile(os.path.join(os.path.dirname(folder), "__init__.py")):
        folder = os.path.dirname(folder)
        names.append(os.path.basename(folder))
    above = os.path.dirname(folder)
    go = "" if above == os.getcwd() else f"cd {above}; "
    return f"{go}{PROG} {'.'.join(reversed(names))}"


def _load_module(name: str, bundled: bool = False) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is neither a Python file nor the name of a module")
    if not bundled:  # a module of the same name in the current folder is not meant
        _on_path(os.getcwd())

    def load() -> ModuleType | UsageError:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as exc:
            # Missing is the target or a package on the way to it, not something that the user's code imports.
            if exc.name and f"{name}.".startswith(f"{exc.name}."):
                return UsageError(f"{exc.msg} (a file is named with its .py)")
            raise

    module: ModuleType | UsageError = _call(f"import of {name}", load)
    if isinstance(module, UsageError):
        raise module
    return module


def split_target(target: str) -> tuple[str, str]:
    """A target's file or module, and the object's name ("" where none is named)."""
    where, _, name = target.rpartition(":")
    # The last colon, unless it is a drive's (C:\\tools.py).
    if not where or re.search(r"[/\\]", name):
        return target, ""
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{target!r}: after the colon comes the name of an object")
    return where, name


def is_file(where: str) -> bool:
    """Whether the first half of a target is a file's name, rather than a module's."""
    return where.endswith(".py") or re.search(r"[/\\]", where) is not None or os.path.isfile(where)


def may_be_target(word: str) -> bool:
    """Whether a word names a file or a module, or has the form of a target that is more than one word.

    Nothing is imported.
    """
    if not word or re.search(r"[.:/\\]", word) or os.path.exists(word):
        return True
    try:
        return importlib.util.find_spec(word) is not None or (
            importlib.machinery.PathFinder.find_spec(word, [os.getcwd()]) is not None
        )
    except (ImportError, ValueError):  # a module that is loaded and has no specification, such as __main__
        return word in sys.modules


def _made(factory: Callable[..., Any], label: str) -> Any:
    """What a factory returns, which is called without arguments."""
    if inspect.iscoroutinefunction(inspect.unwrap(factory)):
        raise UsageError(
            f"{label} is a coroutine function, and a factory is a plain one: what waits goes into a lifespan"
        )
    try:
        inspect.signature(factory).bind()
    except TypeError as exc:
        where = label.rpartition(":")[0]
        hint = f"to serve the functions of a file as tools, name the file alone: {where}"
        raise UsageError(f"{label} is no factory, which is called without arguments ({exc}); {hint}") from None
    value = _call(f"{label}()", factory)
    if not isinstance(value, ServerHandler):
        raise UsageError(f"{label}() returned {type(value).__name__}, not an MCPServer or a ServerHandler")
    return value


def _instance(value: Any, label: str) -> ServerHandler:
    if isinstance(value, type) and issubclass(value, ServerHandler):
        value = _call(label, value)
    elif inspect.ismethod(value) or _is_function(value):
        value = _made(value, label)
    if not isinstance(value, ServerHandler):
        raise UsageError(f"{label} is of type {type(value).__name__}, not an MCPServer or a ServerHandler")
    return value


def _attribute(module: ModuleType, where: str, name: str) -> ServerHandler:
    value: Any = module
    try:
        for part in name.split("."):
            value = getattr(value, part)
    except AttributeError:
        meant = did_you_mean(closest(name, [one for one in vars(module) if not one.startswith("_")]))
        raise UsageError(f"{where} has no attribute {name!r}{meant}") from None
    return _instance(value, f"{where}:{name}")


# Objects before classes: beside an object, a class is most likely the one that it was made from.
def _servers(module: ModuleType) -> dict[str, Any]:
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    found: dict[str, Any] = {name: value for name, value in public.items() if isinstance(value, ServerHandler)}
    if not found:
        own = {n: v for n, v in public.items() if isinstance(v, type) and v.__module__ == module.__name__}
        found = {name: value for name, value in own.items() if issubclass(value, ServerHandler)}
    # Two names of one server are one candidate; the preferred name stays.
    order = sorted(found, key=lambda name: name not in PREFERRED_NAMES)
    unique: list[str] = []
    for name in order:
        if not any(found[name] is found[other] for other in unique):
            unique.append(name)
    return {name: found[name] for name in found if name in unique}


# A function, also one that is wrapped by functools.cache and the like.
def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type) and inspect.isfunction(inspect.unwrap(value))


def _functions(module: ModuleType, where: str) -> dict[str, Callable[..., Any]]:
    exported = getattr(module, "__all__", None)
    if exported is None:
        own = {n: v for n, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
        values = {name: value for name, value in own.items() if not name.startswith("_")}
    else:
        missing = [name for name in exported if not hasattr(module, name)]
        if missing:
            raise UsageError(f"{where}: __all__ names {missing[0]!r}, which is not there")
        values = {name: getattr(module, name) for name in exported}
    functions = {name: value for name, value in values.items() if _is_function(value)}
    # vars() keeps the order in which names were first bound; __all__ is often sorted, so it is not asked for order.
    position = {name: index for index, name in enumerate(vars(module))}
    return dict(sorted(functions.items(), key=lambda item: position.get(item[0], len(position))))


def _from_functions(module: ModuleType, where: str) -> MCPServer:
    functions = _functions(module, where)
    if not functions:
        raise UsageError(f"{where} has no MCPServer, no ServerHandler and no public function")
    version = getattr(module, "__version__", None)
    server = MCPServer(
        _stem(where) if is_file(where) else where.rpartition(".")[2],
        instructions=inspect.getdoc(module),
        version=version if isinstance(version, str) else "0",
    )
    name = ""
    try:
        for name, function in functions.items():
            server.add_tool(function, name=name)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"{where}: {name}() cannot be a tool: {exc}") from None
    return server


def load_target(target: str) -> ServerHandler:
    """The server that `file.py`, `package.module`, or either with `:object`, stands for.

    An MCPServer or ServerHandler of the module (a class is instantiated), else its public functions as tools.

    Raises:
        UsageError: it does not exist, cannot be imported, or cannot be served.
    """
    where, name = split_target(target)
    return _served(_load_file(where) if is_file(where) else _load_module(where), where, name)


def load_bundled(target: str) -> ServerHandler:
    """The server of a target that the one running file carries.  Raises UsageError as `load_target`."""
    where, name = split_target(target)
    try:
        return _served(_load_module(where, bundled=True), where, name)
    except UsageError as exc:
        if not isinstance(exc.__cause__, ModuleNotFoundError):
            raise
        hint = "this file does not hold it: see `vendor --pyz`, or start the file with a Python that has it"
        raise UsageError(f"{exc}; {hint}", exc.details) from None


def _served(module: ModuleType, where: str, name: str) -> ServerHandler:
    if name:
        return _attribute(module, where, name)
    servers = _servers(module)
    if not servers:
        return _from_functions(module, where)
    if len(servers) > 1:
        preferred = [name for name in PREFERRED_NAMES if name in servers]
        if not preferred:
            raise UsageError(f"{where} has several servers: {', '.join(f'{where}:{name}' for name in servers)}")
        servers = {preferred[0]: servers[preferred[0]]}
    ((name, value),) = servers.items()
    return _instance(value, f"{where}:{name}")

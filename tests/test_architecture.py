# SPDX-License-Identifier: MIT
"""The shape of the package, read from its source: its floors, their imports, the public names, the cost of an import.

`FLOORS` is the list that holds; docs/design.md explains it.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from two_eras import LEGACY_ERA

import mcp_h11
from mcp_h11.handler.questions import Question

PACKAGE = Path(mcp_h11.__file__).parent

# A folder a floor, the lowest first: a module imports from its own folder and from those below it.
FLOORS = (
    "version",
    "protocol",
    "http",
    "schema.documents",
    "schema",
    "handler",
    "telemetry",
    "stores",
    "runtime",
    "eras",
    "extensions",
    "endpoint",
    "server",
    "hosted",
    "client.http",
    "client.transports",
    "client.oauth",
    "client.conversation",
    "client",
    "bridge",
    "__init__",
    "bench",
    "cli",
    "cli.asking",
    "cli.benching",
    "cli.login",
    "cli.installing",
    "cli.vendoring",
    "cli.reloading",
    "__main__",
)
# Folders without an event loop, a clock or a socket.  `http.auth` declares what a verifier of tokens awaits.
SANS_IO = ("protocol", "http", "schema")
DECLARES_COROUTINES = {"http.auth"}
# The one look upward: a user wants one object that serves itself, and has what its tools need.
UPWARD = {
    ("handler.mcpserver", "server.running"),
    ("handler.mcpserver", "server.stdio"),
    ("handler.mcpserver", "hosted.asgi"),
    ("handler.mcpserver", "extensions.tasks"),
}
# The demo is written with the public names, as a user's program is.
BY_PUBLIC_NAMES = {"cli.demo"}
# Imports that wait until a function needs them: what only some servers or commands use.
LATER = {
    *UPWARD,
    ("cli.main", "server.logs"),
    ("cli.serving", "server.logs"),
    ("cli.serving", "cli.completion"),
    ("cli.serving", "cli.demo"),
    ("cli.proxy", "bridge.gateway"),
    ("cli.proxy", "cli.logins"),
    ("cli.asking.ask", "cli.asking.authorizing"),
    ("cli.serving", "stores.urls"),
    ("runtime.runtime", "runtime.fleet"),
    ("runtime.runtime", "telemetry.serving"),
    ("client.conversation.conversation", "client.conversation.spans"),
    ("runtime.runtime", "stores.urls"),
    ("runtime.extended", "stores.memory"),
    ("client.connect", "client.transports.memory"),
    ("client.connect", "client.transports.stdio"),
    ("endpoint.endpoint", "endpoint.browsers"),
    ("endpoint.endpoint", "extensions.card"),
    ("cli.serving", "extensions.skills"),
    ("endpoint.endpoint", "endpoint.fleet_sse"),
    ("endpoint.endpoint", "endpoint.legacy_sse"),
    ("endpoint.sessions", "endpoint.batches"),
    ("endpoint.endpoint", "endpoint.fleet_rates"),
    ("endpoint.sessions", "endpoint.fleet_stores"),
    ("server.ops", "runtime.store_metrics"),
    ("server.ops", "server.swapping"),
    ("server.running", "server.logs"),
    ("server.logs", "server.printed"),
    ("cli.reloading.dev", "server.logs"),
    ("handler.functions", "protocol.uritemplate"),
    ("handler.publisher", "protocol.uritemplate"),
    ("handler.functions", "schema.documents.portable"),
    ("stores.urls", "stores.redis"),
    ("stores.urls", "stores.sqlite"),
}
# Folders whose modules are loaded by a program that uses one of their names, and the modules of other folders.
ON_DEMAND = ("hosted", "client", "bridge", "bench", "cli")
ALSO_ON_DEMAND = {"server.stdio", "server.thread", "extensions.apps", "extensions.skills", "extensions.tasks"}

# What a sans-IO module may not have: `json` reads no clock, and `os` is there for PathLike.
IMPURE = {
    "anyio", "asyncio", "concurrent", "logging", "multiprocessing", "queue", "select", "selectors", "signal", "socket",
    "ssl", "subprocess", "time", "http.client", "urllib.request",
}  # fmt: skip


class Trees(Mapping[str, ast.Module]):
    """Modules by dotted name, each parsed when a test first asks for it: each worker of a run imports this file."""

    def __init__(self, paths: dict[str, Path]) -> None:
        self.paths = paths
        self.parsed: dict[str, ast.Module] = {}

    def __getitem__(self, name: str) -> ast.Module:
        if name not in self.parsed:
            path = self.paths[name]
            self.parsed[name] = ast.parse(path.read_text("utf-8"), str(path))
        return self.parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = Trees({dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))})
FOLDERS = [name.removesuffix(".__init__") for name in MODULES if name.endswith(".__init__")]


def floor_of(module: str) -> int:
    """The place in `FLOORS` of the folder that a module lies in; ValueError for a folder without a floor."""
    folder = module.rpartition(".")[0]
    return FLOORS.index(folder or module)


@cache
def imports(tree: ast.Module) -> list[tuple[ast.Import | ast.ImportFrom, str]]:
    """Each import with where it stands: "top", "types" (under TYPE_CHECKING) or "later" (in a function)."""

    def walk(node: ast.AST, where: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                continue  # no expression has a statement in it, and most of a tree is expressions
            inner = where
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child, where
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                inner = "later"
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inner = "types"
            yield from walk(child, inner)

    return list(walk(tree, "top"))


def names(node: ast.Import | ast.ImportFrom, module: str = "") -> list[str]:
    """The modules that a statement imports: dotted below the package where it is relative, else as written."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return [str(node.module)]
    folders = module.split(".")[: -node.level]
    base = [*folders, *(node.module.split(".") if node.module else [])]
    if ".".join(base) in MODULES:
        return [".".join(base)]
    # `from .. import name`: a module of that folder, or a public name of the package
    found = [".".join([*base, alias.name]) for alias in node.names]
    return [name if name in MODULES else "__init__" for name in found]


def inside(where: str) -> set[tuple[str, str]]:
    """The imports within the package: (importer, imported)."""
    return {
        (module, name)
        for module, tree in MODULES.items()
        for node, place in imports(tree)
        if place == where and isinstance(node, ast.ImportFrom) and node.level
        for name in names(node, module)
    }


def outside(tree: ast.Module) -> set[str]:
    """Every module of another package that it imports anywhere."""
    return {
        name
        for node, _ in imports(tree)
        if isinstance(node, ast.Import) or not node.level
        for name in names(node)
        if name != "__future__"
    }


@cache
def every_import() -> frozenset[tuple[str, str]]:
    return frozenset(pair for where in ("top", "later", "types") for pair in inside(where))


def test_every_folder_is_a_floor() -> None:
    for module in MODULES:
        floor_of(module)


def test_imports_go_down() -> None:
    """From its own folder or from one below, wherever the import stands; `__init__` names all that is public."""
    wrong = {(importer, imported) for importer, imported in every_import() if floor_of(importer) < floor_of(imported)}
    assert wrong == UPWARD


def test_no_module_imports_itself_by_way_of_others() -> None:
    follows: dict[str, set[str]] = {}
    for importer, imported in every_import() - UPWARD:
        follows.setdefault(importer, set()).add(imported)

    def reached(module: str) -> set[str]:
        found: set[str] = set()
        ahead = [module]
        while ahead:
            new = follows.get(ahead.pop(), set()) - found
            found |= new
            ahead += new
        return found

    assert {module for module in MODULES if module in reached(module)} == set()


def test_the_public_names_are_for_others() -> None:
    assert {importer for importer, imported in every_import() if imported == "__init__"} == BY_PUBLIC_NAMES


def test_imports_that_wait_are_the_named_ones() -> None:
    assert {pair for pair in inside("later") if pair[0] not in BY_PUBLIC_NAMES} == LATER


def test_the_look_upward_is_in_three_methods() -> None:
    tree = MODULES["handler.mcpserver"]
    known = ("run", "asgi", "_tasks")
    three: list[ast.stmt] = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in known]
    found = {name for node, _ in imports(ast.Module(three, [])) for name in names(node, "handler.mcpserver")}
    assert {("handler.mcpserver", name) for name in found} == UPWARD


def test_a_folder_says_what_lives_there_and_holds_no_code() -> None:
    assert {*FOLDERS} == {folder for folder in FLOORS if folder not in ("version", "__init__", "__main__")}
    for folder in FOLDERS:
        tree = MODULES[f"{folder}.__init__"]
        assert ast.get_docstring(tree) and len(tree.body) == 1, folder


def test_a_program_that_does_not_log_in_loads_no_logins() -> None:
    """A client takes `auth` by its shape, so that a copy without the folder is whole."""
    users = {importer for importer, imported in every_import() if imported.startswith("client.oauth.")}
    assert {user.partition(".")[0] for user in users if not user.startswith("client.oauth.")} == {"__init__", "cli"}


def test_the_eras_do_not_know_of_each_other() -> None:
    legacy = {*LEGACY_ERA}
    modern = {"eras.modern", "eras.listener", "endpoint.modern"}
    for importer, imported in every_import():
        assert not (importer in modern and imported in legacy)
        assert not (importer in legacy and imported in modern - {"eras.listener"})


def test_the_eras_know_no_exchange_of_http() -> None:
    """Each carrier derives its own calls; the eras share values of HTTP at most, such as who a principal is."""
    used = {imported for importer, imported in every_import() if importer.startswith("eras.")}
    assert {name for name in used if name.startswith("http.")} == {"http.auth"}


def test_the_lower_floors_do_nothing_by_themselves() -> None:
    for module, tree in MODULES.items():
        if module.partition(".")[0] not in SANS_IO:
            continue
        found = {name for name in outside(tree) if name in IMPURE or name.partition(".")[0] in IMPURE}
        assert found == set(), module
        for node in ast.walk(tree):
            if module not in DECLARES_COROUTINES:
                awaits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
                assert not isinstance(node, awaits), module
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"open", "print", "input"}, (module, node.lineno)


def test_h11_is_imported_in_one_folder_and_nothing_else_is_needed() -> None:
    users: dict[str, set[str]] = {}
    for module, tree in MODULES.items():
        for name in outside(tree):
            users.setdefault(name.partition(".")[0], set()).add(module)
    foreign = {name: found for name, found in users.items() if name not in sys.stdlib_module_names}
    assert {module.partition(".")[0] for module in foreign.pop("h11")} == {"http"}
    foreign.pop("anyio", None)
    # What may be there, and is asked for where it is used; `test_loading_...` shows that it is not loaded before.
    assert set(foreign) <= {
        "uvloop", "orjson", "pydantic", "annotationlib", "redis", "keyring", "joserfc", "opentelemetry",
        "typing_extensions",
    }  # fmt: skip
    for module, tree in MODULES.items():
        for node, where in imports(tree):
            roots = {name.partition(".")[0] for name in names(node, module)}
            asked_for = {"uvloop", "orjson", "opentelemetry", "pydantic", "redis", "keyring", "joserfc"}
            assert where == "later" or not asked_for & roots, module
            # Checkers know it without an installation, so it may stand under TYPE_CHECKING.
            assert where == "types" or "typing_extensions" not in roots, module


def test_the_package_is_never_named_in_its_own_imports() -> None:
    for module, tree in MODULES.items():
        for name in outside(tree):
            assert name.partition(".")[0] != "mcp_h11", module
        for node, _ in imports(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= module.count(".") + 1, module
                assert all(alias.name != "*" for alias in node.names), module


# --- state ----------------------------------------------------------------------------------------------------------

CONTAINERS = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
MAKERS = {"dict", "list", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "WeakKeyDictionary",
          "WeakValueDictionary", "WeakSet", "Queue", "SimpleQueue", "local", "Lock", "RLock", "Event", "count",
          "Semaphore", "ContextVar"}  # fmt: skip
MUTATORS = {"append", "add", "update", "pop", "popitem", "clear", "setdefault", "extend", "insert", "remove", "discard",
            "appendleft", "popleft", "move_to_end", "sort", "reverse", "put", "set"}  # fmt: skip
CACHES = {"cache", "lru_cache", "cached_property"}
# Set for the code that runs while a module of the user's is imported, and set back at the end of the import.
DURING_AN_IMPORT = {("handler.mcpserver", "RUN_REFUSED")}
# Caches of what is a function of its argument alone, and bounded: nobody can tell that they are there.
PURE_CACHES = {("endpoint.browsers", "frame"), ("runtime.fairness", "_network_of"), ("schema.forms", "_form")}


def top_level(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def called(node: ast.expr) -> str:
    """The last part of the name of what is called, or empty."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def mutations(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each name that something is done to in place, and where."""
    for node in ast.walk(tree):
        target: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            target = node.func.value
        elif isinstance(node, ast.AugAssign):
            target = node.target
        if isinstance(target, ast.Name):
            yield target.id, node.lineno


def test_no_module_keeps_state() -> None:
    for module, tree in MODULES.items():
        tables = {name for name, value in top_level(tree) if isinstance(value, CONTAINERS) or called(value) in MAKERS}
        stateful = {name for name, value in top_level(tree) if called(value) in MAKERS - {"dict", "list", "set"}}
        assert {(module, name) for name in stateful} <= DURING_AN_IMPORT
        local = {
            argument.arg
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for argument in [*node.args.args, *node.args.kwonlyargs]
        }
        wrong = [(name, line) for name, line in mutations(tree) if name in tables - local]
        assert wrong == [], module
        assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Global)], module


# Its entries hold the objects that their keys number, and end with the outermost union.
NUMBERS_OBJECTS = {"schema.readers"}


def test_no_key_is_made_of_the_number_of_an_object() -> None:
    # Python gives the number of an object that is gone to a new one, who would find what was kept for the old one.
    used = {
        name for name, tree in MODULES.items() for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (ast.unparse(node.func) == "id" or ast.unparse(node).startswith("map(id,"))
    }  # fmt: skip
    assert used <= NUMBERS_OBJECTS


def test_no_function_remembers_what_it_was_asked() -> None:
    found = set()
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for decorator in node.decorator_list:
                    name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
                    if name.rpartition(".")[2] in CACHES:
                        found.add((module, node.name))
    assert found == PURE_CACHES


def test_no_class_shares_a_container_among_its_objects() -> None:
    for module, tree in MODULES.items():
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
            shared = {
                target.id
                for statement in node.body
                if isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.List, ast.Dict, ast.Set))
                for target in statement.targets
                if isinstance(target, ast.Name) and target.id not in ("__slots__",)
            }
            inplace = {
                found.value.attr
                for found in ast.walk(node)
                if isinstance(found, ast.Subscript)
                and isinstance(found.ctx, ast.Store)
                and isinstance(found.value, ast.Attribute)
            }
            assert not shared & inplace, (module, node.name)


def test_nothing_is_registered_when_it_is_imported() -> None:
    for module, tree in MODULES.items():
        loose = [
            node for node in tree.body
            if isinstance(node, ast.Expr) and not (isinstance(node.value, ast.Constant) and node is tree.body[0])
        ]  # fmt: skip
        assert loose == [], (module, [ast.unparse(node) for node in loose])


def test_loggers_are_named_as_their_modules() -> None:
    for module, tree in MODULES.items():
        made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) == "getLogger"]
        # A vendored copy logs under its host's name.
        for node in made:
            assert ast.unparse(node.args[0]).startswith(("__name__", "__package__")), module


# --- what is public -------------------------------------------------------------------------------------------------


def test_all_is_what_is_imported() -> None:
    tree = MODULES["__init__"]
    imported = [
        alias.asname or alias.name for node, _ in imports(tree) if getattr(node, "level", 0) for alias in node.names
    ]
    listed = list(mcp_h11.__all__)
    assert sorted(imported) == sorted([*listed, "__version__"])
    assert len(set(listed)) == len(listed) and isinstance(mcp_h11.__all__, tuple)
    defined = [name for name, _ in top_level(tree)]
    assert defined == ["__all__", "_ON_DEMAND"]


def test_what_is_loaded_on_demand_is_what_type_checkers_see() -> None:
    seen: dict[str, list[str]] = {}
    for node, where in imports(MODULES["__init__"]):
        if where == "types" and isinstance(node, ast.ImportFrom):
            seen.setdefault(node.module or "", []).extend(alias.name for alias in node.names)
    assert {module: sorted(names) for module, names in mcp_h11._ON_DEMAND.items()} == {
        module: sorted(names) for module, names in seen.items()
    }
    assert {module for module in seen if module.partition(".")[0] not in ON_DEMAND} == ALSO_ON_DEMAND
    for name in mcp_h11.__all__:
        assert getattr(mcp_h11, name) is not None


def test_the_version_is_a_literal() -> None:
    (value,) = (value for name, value in top_level(MODULES["version"]) if name == "__version__")
    assert isinstance(value, ast.Constant) and value.value == mcp_h11.__version__
    assert (PACKAGE / "py.typed").is_file()


# By the protocol that the class has the shape of, and what says itself what it is.
EXPLAINED = {
    *vars(mcp_h11.EventStore), *vars(mcp_h11.SessionManager), *vars(Question),
    "accepted", "questions", "to_json",
}  # fmt: skip


@pytest.mark.parametrize("name", mcp_h11.__all__)
def test_what_is_public_is_documented(name: str) -> None:
    value = getattr(mcp_h11, name)
    if isinstance(value, dict):  # a table, which is explained where it stands
        return
    assert inspect.getdoc(value) and value.__doc__, name
    if not inspect.isclass(value):
        return
    for attribute, member in vars(value).items():
        if attribute.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        assert inspect.getdoc(member) or attribute in EXPLAINED, f"{name}.{attribute}"


def test_top_level_names_are_unique() -> None:
    found: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for module, tree in MODULES.items():
        defined = [n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]
        for name in {*defined, *(name for name, _ in top_level(tree))}:
            if not name.startswith("_") and name not in ALSO_ELSEWHERE:
                found[name] += 1
                where.setdefault(name, []).append(module)
    assert {name: where[name] for name, count in found.items() if count > 1} == {}


# `logger` and the type variables are each module's own.  XX FIXME the others are one name for one thing in two places,
# or for two things.
ALSO_ELSEWHERE = {"logger", "T", "F", "JSONSchema", "MAX_DEPTH", "SESSION_ID_BYTES", "describe", "main_of", "parser_of"}


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports each by its bare name: it would refuse the second, and with it the whole run."""
    found = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(found) == sorted(set(found))


def test_a_module_is_read_at_one_sitting() -> None:
    """A longer one has two subjects."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: lines for path, lines in lengths.items() if lines > 480} == {}


def test_every_file_says_its_licence_and_what_it_is_for() -> None:
    for path in [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        lines = path.read_text("utf-8").splitlines()
        assert "# SPDX-License-Identifier: MIT" in lines[:2], path.name  # below the line that names an interpreter
    for module, tree in MODULES.items():
        assert ast.get_docstring(tree), module


def test_a_comment_names_no_machine() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        for machine in ("/home/", "/root/", "/work/", "/tmp/", "/Users/"):
            assert machine not in text, path.name


# --- what it costs to load ------------------------------------------------------------------------------------------

BUDGET = 0.060  # seconds of CPU above `import asyncio`, with the bytecode written (docs/design.md)
SLACK = 2.0  # machines are noisy, and this one may be slow
TRIES = 7


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Runs code in a process of its own, where the package is a copy with its bytecode; gives what it printed."""
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copytree(PACKAGE, folder / "mcp_h11", ignore=shutil.ignore_patterns("__pycache__"))
    elsewhere = {"PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"}
    environment = {key: value for key, value in os.environ.items() if key not in elsewhere}
    environment |= {"PYTHONPATH": str(folder)}

    def run(code: str) -> Any:
        code = textwrap.dedent(code)
        ran = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, timeout=30, check=True
        )
        return json.loads(ran.stdout)

    run("import mcp_h11; print(0)")
    assert list((folder / "mcp_h11" / "server" / "__pycache__").glob("server.*.pyc"))
    return run


def test_importing_is_quick(compiled: Callable[[str], Any]) -> None:
    """In CPU time of the process that imports, because other processes take the clock's time but not its own."""
    code = """
        import time
        import asyncio
        begin = time.process_time()
        {}
        print(time.process_time() - begin)
    """
    best = min(compiled(code.format("import mcp_h11")) for _ in range(TRIES))
    assert best < BUDGET * SLACK, f"{best * 1000:.0f} ms above asyncio"


def test_loading_brings_nothing_along_that_is_not_needed(compiled: Callable[[str], Any]) -> None:
    before, after = compiled("""
        import sys, json, asyncio
        before = list(sys.modules)
        import mcp_h11
        print(json.dumps([before, list(sys.modules)]))
    """)
    loaded = set(after) - set(before)
    heavy = {
        "pydantic", "pydantic_core", "orjson", "uvloop", "ssl", "sqlite3", "redis", "argparse", "typing_extensions",
        "email.message", "http.client", "urllib.request", "unittest", "multiprocessing", "trio", "ctypes",
        "importlib.metadata", "anyio._backends._asyncio", "mcp_h11.protocol.types", "opentelemetry",
        "mcp_h11.runtime.setting_fields", "mcp_h11.server.options",
        *(f"mcp_h11.{folder}" for folder in ON_DEMAND), *(f"mcp_h11.{module}" for module in ALSO_ON_DEMAND),
    }  # fmt: skip
    assert not loaded & heavy


def test_a_server_starts_without_what_only_some_servers_need(compiled: Callable[[str], Any]) -> None:
    loaded = compiled("""
        import sys, json, asyncio
        before = set(sys.modules)
        import mcp_h11

        server = mcp_h11.MCPServer("small")

        @server.tool
        async def add(a: int, b: float = 0, c: list[str] | None = None) -> float:
            return a + b

        async def main():
            async with mcp_h11.listening(server, port=0):
                print(json.dumps(sorted(set(sys.modules) - before)))

        asyncio.run(main())
    """)
    # Each costs its time and 0.1 to 0.5 MiB; together they were a third of what a server takes.
    assert not set(loaded) & {
        "anyio", "datetime", "decimal", "hashlib", "hmac", "ipaddress", "pathlib", "random", "secrets", "urllib.parse",
        "uuid", "mcp_h11.protocol.uritemplate", "mcp_h11.runtime.fleet",
    }  # fmt: skip
    assert not [name for name in loaded if name.startswith(("mcp_h11.stores", "mcp_h11.endpoint.fleet_"))]
    # HTTP+SSE, batches, blocking functions, answers of a status that the package itself never sends.
    assert not set(loaded) & {
        "mcp_h11.endpoint.batches", "mcp_h11.endpoint.legacy_sse", "mcp_h11.eras.batches", "mcp_h11.eras.channel",
        "http", "queue",
    }  # fmt: skip


def test_a_file_is_served_without_what_only_other_commands_need(compiled: Callable[[str], Any]) -> None:
    loaded = compiled("""
        import asyncio, sys
        sys.modules["uvloop"] = sys.modules["orjson"] = None  # which bring modules of their own
        before = set(sys.modules)
        with open("small.py", "w") as file:
            file.write('''if True:
                import json, sys
                from contextlib import asynccontextmanager
                from __main__ import before
                from mcp_h11 import MCPServer

                @asynccontextmanager
                async def lifespan(server):
                    print(json.dumps(sorted(set(sys.modules) - before)))
                    raise RuntimeError("it has said all")
                    yield

                server = MCPServer("small", lifespan=lifespan)
            ''')
        from mcp_h11.cli.main import main
        assert main(["small.py", "--port", "0"]) == 2
    """)
    assert "mcp_h11.cli.serving" in loaded
    # argparse asks `shutil` for the width of the terminal, and that brings three compressors: half a megabyte.
    assert not set(loaded) & {
        "bz2", "datetime", "difflib", "fnmatch", "hashlib", "ipaddress", "lzma", "pathlib", "random", "shutil",
        "urllib.parse", "uuid", "zlib",
    }  # fmt: skip


def test_the_modern_side_works_without_the_legacy_one(compiled: Callable[[str], Any]) -> None:
    assert compiled(
        """
        import pathlib, sys, types
        for name in {!r}:
            sys.modules[f"mcp_h11.{name}"] = None
        package = types.ModuleType("mcp_h11")  # without its public names, which bring both eras
        package.__path__ = [str(pathlib.Path("mcp_h11"))]
        sys.modules["mcp_h11"] = package
        from mcp_h11.eras import modern
        import mcp_h11.endpoint.modern
        print(len(modern.METHODS))
    """.replace("{!r}", repr(LEGACY_ERA))
    )

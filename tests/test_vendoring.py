# SPDX-License-Identifier: MIT
"""The folder, copied into another package: it runs there, with h11, anyio and the packages that these need alone."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from isolated import NAMES, Isolated, Served, installed_alone, module
from rawclient import Legacy, Modern
from wire import D

import mcp_h11
from mcp_h11.cli.main import main as command_line
from mcp_h11.endpoint.browsers import SCRIPTS

pytestmark = pytest.mark.long

PACKAGE = Path(mcp_h11.__file__).parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds those distributions alone."""
    return installed_alone(tmp_path_factory.mktemp("site"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two hosts, each with a copy of its own, one of them under another name."""
    for vendored in ("host/_vendor/mcp_h11", "other/libs/renamed"):
        shutil.copytree(PACKAGE, tmp_path / vendored, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "host" / "__init__.py").touch()
    (tmp_path / "host" / "_vendor" / "__init__.py").touch()
    return tmp_path


@pytest.fixture
def python(site: Path, tree: Path) -> Isolated:
    return Isolated(tree, site)


def test_nothing_else_can_be_imported_there(python: Isolated) -> None:
    found = python.run("""
        import json
        found = []
        for name in ("mcp_h11", "mcp", "pydantic", "orjson", "uvloop", "pytest", "h11", "anyio"):
            try:
                __import__(name)
            except ImportError:
                continue
            found.append(name)
        print(json.dumps(found))
    """)
    assert found == list(NAMES)  # or the tests below would show nothing


@pytest.mark.skipif(os.name == "nt", reason="a process is not asked to end there")
@pytest.mark.parametrize("name", ["host._vendor.mcp_h11", "other.libs.renamed"])
def test_a_copied_folder_serves_by_its_own_name(python: Isolated, tree: Path, name: str) -> None:
    (tree / "tools.py").write_text('def add(a: int, b: int = 2) -> int:\n    "Add."\n    return a + b\n')

    async def main(port: int) -> None:
        call = {"name": "add", "arguments": {"a": 1}}
        answer = await Modern(port).call("tools/call", call)
        assert answer.result["structuredContent"] == {"result": 3}
        async with Legacy(port, D) as client:
            assert (await client.call("tools/call", call)).result["content"][0]["text"] == "3"

    with Served(python.command(module(name, str(tree / "tools.py"), "--port", "0"))) as port:
        asyncio.run(main(port))


@pytest.mark.skipif(os.name == "nt", reason="a process is not asked to end there")
def test_the_demo_of_a_copied_folder_serves(python: Isolated) -> None:
    async def main(port: int) -> None:
        assert (await Modern(port).call("tools/list")).result["tools"]

    with Served(python.command(module("host._vendor.mcp_h11", "--port", "0"))) as port:
        asyncio.run(main(port))


def test_a_copied_folder_knows_the_name_that_it_has(python: Isolated) -> None:
    modules, loggers, version = python.run("""
        import json, logging
        import other.libs.renamed as ours
        names = [name for name in sys.modules if name.endswith((".app", ".runtime", ".http11"))]
        loggers = [name for name in logging.root.manager.loggerDict if name.startswith(("other", "mcp"))]
        print(json.dumps([names, loggers, ours.__version__]))
    """)
    ours = [name for name in modules if not name.startswith("h11")]
    assert ours and all(name.startswith("other.libs.renamed.") for name in ours)
    assert any(name.startswith("other.libs.renamed.") for name in loggers)
    assert not any(name.startswith("mcp") for name in loggers)
    assert version == mcp_h11.__version__


def test_two_copies_in_one_process_do_not_know_of_each_other(python: Isolated) -> None:
    found = python.run("""
        import asyncio, json, urllib.request, urllib.error
        import host._vendor.mcp_h11 as one
        import other.libs.renamed as two

        def ask(running, session=None, method="initialize"):
            params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}}
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params if method == "initialize" else {}}
            headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
            if session:
                headers["Mcp-Session-Id"] = session
            request = urllib.request.Request(running.url, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    name = json.load(answer).get("result", {}).get("serverInfo", {}).get("name")
                    return answer.status, name, answer.headers["Mcp-Session-Id"]
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, None, None

        servers = [copy.MCPServer(name) for copy, name in ((one, "first"), (two, "second"))]
        with one.start_in_thread(servers[0]) as first, two.start_in_thread(servers[1]) as second:
            a, b = ask(first), ask(second)
            crossed = ask(first, b[2], "ping")[0], ask(second, a[2], "ping")[0]
            own = ask(first, a[2], "ping")[0], ask(second, b[2], "ping")[0]
        shared = {
            name for name in one.__all__
            if isinstance(getattr(one, name), type) and getattr(one, name) is getattr(two, name)
        }
        try:
            raise two.ToolError("of the other")
        except one.ToolError:
            caught = True
        except Exception:
            caught = False
        print(json.dumps([a[:2], b[:2], crossed, own, sorted(shared), caught]))
    """)
    assert found == [[200, "first"], [200, "second"], [404, 404], [200, 200], [], False]


def test_a_copied_folder_serves_on_stdio(python: Isolated) -> None:
    call = Modern(0).request("server/discover", id=1)
    ran = subprocess.run(
        python.command(module("host._vendor.mcp_h11", "--stdio")),
        input=json.dumps(call) + "\n", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (ran.returncode, json.loads(ran.stdout)["id"]) == (0, 1), ran.stderr


# They look for the user's files, and for the folder of this package in tracebacks; no data of ours is read by path.
MAY_ASK_FOR_PATHS = {"cli/banner.py", "cli/target.py", "cli/reloading/watch.py"}


def test_the_folder_carries_no_data_that_is_read_by_path() -> None:
    """The files of the page are read by the loader, which can read from a zip file as well (test_the_page_...)."""
    files = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    page = {"page.html", "page.css", *SCRIPTS}
    data = {path.relative_to(PACKAGE).as_posix() for path in files if path.suffix != ".py"}
    assert data == {"py.typed", *(f"endpoint/page/{name}" for name in page)}
    asking = {path for path in files if path.suffix == ".py" and "__file__" in path.read_text("utf-8")}
    assert {path.relative_to(PACKAGE).as_posix() for path in asking} == MAY_ASK_FOR_PATHS


# --- the server alone -------------------------------------------------------------------------------------------------

# What a server does not need.
CLIENT_SIDE = ("client", "bridge", "cli", "__main__.py")


@pytest.fixture
def server_only(tmp_path: Path) -> Path:
    """A host whose copy of the package is without the client, the bridge and the command line."""
    assert command_line(["vendor", str(tmp_path / "plugin" / "_vendor"), "--server-only"]) == 0
    (tmp_path / "plugin" / "__init__.py").touch()
    (tmp_path / "plugin" / "_vendor" / "__init__.py").touch()
    assert not {path.name for path in (tmp_path / "plugin" / "_vendor" / "mcp_h11").iterdir()} & {*CLIENT_SIDE}
    return tmp_path


def test_a_copy_without_client_bridge_and_command_line_serves(site: Path, server_only: Path) -> None:
    answered = Isolated(server_only, site).run("""
        import json, urllib.request
        from plugin._vendor.mcp_h11 import MCPServer, start_in_thread

        server = MCPServer("plugin")

        @server.tool
        def add(a: int, b: int) -> int:
            return a + b

        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": meta}
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "add",
        }
        with start_in_thread(server) as running:
            request = urllib.request.Request(running.url, json.dumps(call).encode(), headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                result = json.load(answer)["result"]
        print(json.dumps([result["structuredContent"], sorted({name.split(".")[0] for name in sys.modules
                          if name.split(".")[0] in ("h11", "anyio", "mcp", "pydantic", "httpx", "uvloop")})]))
    """)
    assert answered == [{"result": 3}, ["h11"]]  # anyio is not needed to end in order where the host does not use it


def test_a_copy_without_extensions_serves_one_of_its_hosts(site: Path, server_only: Path) -> None:
    shutil.rmtree(server_only / "plugin" / "_vendor" / "mcp_h11" / "extensions")
    told = Isolated(server_only, site).run("""
        import json, urllib.request
        from plugin._vendor.mcp_h11 import Extension, MCPServer, start_in_thread

        class Words(Extension):
            identifier = "com.example/words"

            def methods(self):
                return {"words/find": self.find}

            async def find(self, params, ctx):
                return {"found": params["word"]}

        capabilities = {"extensions": {"com.example/words": {}}}
        meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": capabilities}
        call = {"jsonrpc": "2.0", "id": 1, "method": "words/find", "params": {"word": "a", "_meta": meta}}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                   "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "words/find"}
        with start_in_thread(MCPServer("plugin", extensions=[Words()])) as running:
            request = urllib.request.Request(running.url, json.dumps(call).encode(), headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = json.load(answer)["result"]["found"]
        try:
            from plugin._vendor.mcp_h11 import Skills
        except ImportError as error:
            print(json.dumps([found, str(error)]))
    """)
    assert told == ["a", "Skills is not here: plugin._vendor.mcp_h11 was vendored without extensions/"]


def test_a_copy_without_client_bridge_and_command_line_serves_skills(site: Path, server_only: Path) -> None:
    folder = server_only / "skills" / "pdf"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: pdf\ndescription: x\n---\n")
    listed = Isolated(server_only, site).run(f"""
        import json
        from plugin._vendor.mcp_h11 import MCPServer, Skills

        skills = Skills({str(folder.parent)!r})
        server = MCPServer("plugin", extensions=[skills])
        print(json.dumps([list(skills._look().skills), skills.problems]))
    """)
    assert listed == [["skill://pdf/SKILL.md"], []]


def test_the_client_of_such_a_copy_is_said_to_be_left_out(site: Path, server_only: Path) -> None:
    told = Isolated(server_only, site).run("""
        import json
        told = {}
        try:
            from plugin._vendor.mcp_h11 import Client
        except ImportError as error:
            told["Client"] = str(error)
        try:
            from plugin._vendor import mcp_h11
            mcp_h11.ProxyHandler
        except ImportError as error:
            told["ProxyHandler"] = str(error)
        print(json.dumps(told))
    """)
    assert told == {
        "Client": "Client is not here: plugin._vendor.mcp_h11 was vendored without client/",
        "ProxyHandler": "ProxyHandler is not here: plugin._vendor.mcp_h11 was vendored without bridge/",
    }


def test_what_is_left_of_such_a_copy_imports_nothing_that_is_missing(server_only: Path) -> None:
    """Read from the source, so that imports inside functions and for type checkers count too.

    `__init__` names everything that is public, and loads the names of the client side when they are used first.
    """
    copy = server_only / "plugin" / "_vendor" / "mcp_h11"
    missing = []
    for path in copy.rglob("*.py"):
        folders = path.relative_to(copy).parent.parts
        if path == copy / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = copy.joinpath(*folders[: len(folders) + 1 - node.level], *(node.module or "").split("."))
            if not base.is_dir() and not base.with_suffix(".py").is_file():
                missing.append((path.name, node.module))
            if node.module is None:
                names = [alias.name for alias in node.names]
                missing += [(path.name, name) for name in names if not [*base.glob(f"{name}*")] and base != copy]
                assert base != copy or not {*names} & {*CLIENT_SIDE}, path.name
    assert missing == [("urls.py", "redis")]  # it says what is left out: the next test


def test_a_store_that_such_a_copy_is_without_is_said_to_be_left_out(site: Path, server_only: Path) -> None:
    told = Isolated(server_only, site).run("""
        import json
        from plugin._vendor.mcp_h11.stores.urls import open_store
        told = [type(open_store("sqlite:some.db")).__name__]
        for url in ("redis://localhost", "other://localhost"):
            try:
                open_store(url)
            except (ImportError, ValueError) as error:
                told.append(str(error))
        print(json.dumps(told))
    """)
    assert told[:2] == ["SQLiteStore", "redis:// is not here: the package was vendored without stores/redis"]
    assert told[2].startswith("the URL of a store begins with one of memory:, sqlite:")

# SPDX-License-Identifier: MIT
"""Copies that `vendor` made, in processes of their own that have nothing else: they serve, and disturb no host."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from isolated import Isolated, Served, module
from pages import ROOT, blocks
from rawclient import Legacy, Modern
from wire import D

from mcp_h11.cli.main import main as command_line
from mcp_h11.cli.vendoring import vendor
from mcp_h11.cli.vendoring.measuring import import_time

pytestmark = pytest.mark.long  # real processes, several seconds each

# A host's own packages, which a copy may neither load nor replace.
STRANGERS = ("h11", "anyio", "idna", "typing_extensions", "exceptiongroup")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hosts: `whole` has a copy of everything, `small` one of the server; both with their dependencies."""
    folder = tmp_path_factory.mktemp("hosts")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vendor, "import_time", lambda *_: None)
        assert command_line(["vendor", str(folder / "whole" / "_vendor"), "--with-deps"]) == 0
        assert command_line(["vendor", str(folder / "small" / "_vendor"), "--with-deps", "--server-only"]) == 0
    for name in STRANGERS:
        (folder / f"{name}.py").write_text("OWNER = 'the host'\n")
    return folder


@pytest.fixture
def python(hosts: Path) -> Isolated:
    return Isolated(hosts)


def test_all_that_a_copy_has_can_be_imported_where_nothing_is_installed(python: Isolated) -> None:
    failed, strangers, count = python.run("""
        import importlib, json, pkgutil, sys
        import whole._vendor.mcp_h11 as ours

        failed = []
        for found in pkgutil.walk_packages(ours.__path__, ours.__name__ + "."):
            if not found.name.endswith("__main__"):
                try:
                    importlib.import_module(found.name)
                except ModuleNotFoundError as error:
                    failed.append((found.name.removeprefix("whole._vendor.mcp_h11."), error.name))
        strangers = [name for name in sys.modules if name.partition(".")[0] in
                     ("h11", "anyio", "idna", "typing_extensions", "exceptiongroup")]
        print(json.dumps([failed, strangers, len(sys.modules)]))
    """)
    # What is optional where the package is installed too.
    assert {name for _, name in failed} <= {"pydantic", "redis", "orjson", "uvloop"}
    assert strangers == [] and count > 200


def test_nothing_in_a_copy_names_another_copy_of_a_dependency(hosts: Path) -> None:
    """Read from the source, since imports inside functions wait until somebody calls them."""
    copy = hosts / "whole" / "_vendor" / "mcp_h11"
    inside = {path.name.removesuffix(".py") for path in (copy / "_deps").iterdir()}
    assert {"h11", "anyio", "idna", "typing_extensions"} <= inside
    outside = [
        (path.relative_to(copy).as_posix(), node.lineno)
        for path in copy.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.Import) and {alias.name.partition(".")[0] for alias in node.names} & inside)
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in inside)
    ]
    assert outside == []


def test_a_client_and_a_server_in_a_thread_work_beside_a_host_with_other_packages(python: Isolated) -> None:
    found = python.run("""
        import asyncio, json, sys
        import anyio, h11  # the host's
        from whole._vendor.mcp_h11 import Client, MCPServer, start_in_thread

        server = MCPServer("plugin")

        @server.tool
        def add(a: int, b: int) -> int:
            return a + b

        async def main(url):
            async with Client(url) as client:
                return (await client.call_tool("add", {"a": 1, "b": 2}))["structuredContent"]

        with start_in_thread(server) as running:
            result = asyncio.run(main(running.url))
        print(json.dumps([result, anyio.OWNER, h11.OWNER, sys.modules["h11"] is h11,
                          "whole._vendor.mcp_h11._deps.anyio" in sys.modules]))
    """)
    assert found == [{"result": 3}, "the host", "the host", True, True]


def test_a_small_copy_runs_its_tools_on_the_thread_of_the_host(python: Isolated) -> None:
    found = python.run("""
        import json, queue, sys, threading, urllib.request
        from small._vendor.mcp_h11 import MCPServer, start_in_thread

        server, jobs, done = MCPServer("plugin"), queue.Queue(), queue.Queue()

        @server.tool
        def where() -> str:
            return threading.current_thread().name

        def ask(url):
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {"name": "where", "arguments": {}, "_meta": meta}
            headers = {
                "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "where",
            }
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
                done.put(json.load(answer)["result"]["content"][0]["text"])

        with start_in_thread(server, call_in=jobs.put) as running:
            asking = threading.Thread(target=ask, args=(running.url,))
            asking.start()
            jobs.get(timeout=30)()  # as a host's timer does
            result = done.get(timeout=30)
            asking.join()
        import small._vendor.mcp_h11 as ours
        left_out = []
        for name in ("Client", "ProxyHandler"):
            try:
                getattr(ours, name)
            except ImportError as error:
                left_out.append(str(error).rpartition(" ")[2])
        copies = sorted({name.split(".")[4] for name in sys.modules if name.startswith(ours.__name__ + "._deps.")})
        strangers = [name for name in ("anyio", "h11") if name in sys.modules]
        print(json.dumps([result, left_out, copies, strangers]))
    """)
    assert found == ["MainThread", ["client/", "bridge/"], ["h11"], []]


def test_the_plugin_of_the_page_runs_on_the_main_thread_of_a_host(python: Isolated, hosts: Path) -> None:
    """The program of docs/vendoring.md, in a host that calls timers on its main thread as Blender does."""
    (source,) = (block for block in blocks(ROOT / "docs" / "vendoring.md", "py") if "bpy" in block)
    assert "port=8765" in source
    (hosts / "small" / "plugin.py").write_text(source.replace("port=8765", "port=0"))
    found = python.run("""
        import http.client, json, sys, threading, time, types, urllib.parse
        timers = []
        scene = types.SimpleNamespace(objects=[types.SimpleNamespace(name="Cube")])
        bpy = types.SimpleNamespace(
            app=types.SimpleNamespace(timers=types.SimpleNamespace(
                register=lambda function, persistent: timers.append(function), unregister=timers.remove)),
            context=types.SimpleNamespace(scene=scene),
        )
        sys.modules["bpy"] = bpy

        import small.plugin as plugin

        answers = []

        def ask(url):
            meta = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "0"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {"name": "objects", "arguments": {}, "_meta": meta}
            headers = {
                "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "objects",
            }
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20)
            connection.request("POST", "/mcp", body, headers)
            answers.append(json.loads(connection.getresponse().read())["result"]["structuredContent"])
            connection.close()

        plugin.print = lambda *_: None  # it prints its address
        plugin.register()
        asking = threading.Thread(target=ask, args=(plugin.running.url,))
        asking.start()
        end = time.monotonic() + 20
        while asking.is_alive() and time.monotonic() < end:
            for timer in [*timers]:
                seconds = timer()
            asking.join(seconds)
        plugin.unregister()
        print(json.dumps([answers, len(timers), plugin.running.alive]))
    """)
    assert found == [[{"result": ["Cube"]}], 0, False]


@pytest.mark.skipif(os.name == "nt", reason="a process is not asked to end there")
def test_the_command_of_a_copy_serves_where_nothing_is_installed(python: Isolated, tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text('def add(a: int, b: int = 2) -> int:\n    "Add."\n    return a + b\n')

    async def main(port: int) -> None:
        call = {"name": "add", "arguments": {"a": 1}}
        assert (await Modern(port).call("tools/call", call)).result["structuredContent"] == {"result": 3}
        async with Legacy(port, D) as client:
            assert (await client.call("tools/call", call)).result["content"][0]["text"] == "3"

    code = module("whole._vendor.mcp_h11", str(tmp_path / "tools.py"), "--port", "0")
    with Served(python.command(code)) as port:
        asyncio.run(main(port))


def test_the_vendor_command_of_a_copy_works_or_says_why_not(python: Isolated, hosts: Path, tmp_path: Path) -> None:
    ours, dest, pyz = (str(path) for path in (hosts / "whole" / "_vendor", tmp_path / "dest", tmp_path / "x.pyz"))
    found = python.run(f"""
        import contextlib, io, json
        from whole._vendor.mcp_h11.cli.main import main
        told = []
        for words in {[["--check", ours], ["--update", ours], [dest], ["--pyz", pyz]]!r}:
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(["vendor", *words])
            told.append([code, out.getvalue() + err.getvalue()])
        print(json.dumps(told))
    """)
    assert [code for code, _ in found] == [0, 2, 2, 2]
    texts = [text for _, text in found]
    assert "files as recorded" in texts[0] and "is the copy that runs: run the command of the mcp_h11" in texts[1]
    assert all("this copy has its dependencies inside" in text for text in texts[2:])
    assert [*tmp_path.iterdir()] == []


def test_a_copy_is_loaded_as_fast_as_the_package(hosts: Path) -> None:
    # Both are measured in the same way and moment, each with its bytecode; six times is far from what noise does.
    import h11

    import mcp_h11

    folders = [str(Path(module.__file__).parents[1]) for module in (mcp_h11, h11)]  # type: ignore[arg-type]
    installed, copied = import_time("mcp_h11", folders), import_time("small._vendor.mcp_h11", [str(hosts)])
    assert installed is not None and copied is not None
    assert 0 < copied < 6 * installed


def test_no_time_is_measured_where_the_interpreter_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/blender")
    assert import_time("json", []) is None
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert import_time("json", []) is None


def test_the_sizes_of_the_page_are_right(hosts: Path) -> None:
    page = (ROOT / "docs" / "vendoring.md").read_text("utf-8")
    for name, options in (("whole", "--with-deps"), ("small", "--server-only --with-deps")):
        row = re.search(rf"^\| `vendor DEST {options}` \| (\d+) \| ([\d.]+) million \|", page, re.M)
        assert row is not None
        files = [path for path in (hosts / name / "_vendor" / "mcp_h11").rglob("*")
                 if path.is_file() and "__pycache__" not in path.parts]  # fmt: skip
        assert len(files) - 1 == pytest.approx(int(row[1]), rel=0.2)  # all but the record
        assert sum(path.stat().st_size for path in files) == pytest.approx(float(row[2]) * 1e6, rel=0.2)

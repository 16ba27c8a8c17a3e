# SPDX-License-Identifier: MIT
"""`vendor --pyz`: one file that serves with a bare Python, over HTTP, on pipes and by workers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from isolated import Served
from patience import without_stalls
from rawclient import Legacy, Modern, RawClient
from wire import D

from mcp_h11 import __version__
from mcp_h11.cli.main import main as command_line
from mcp_h11.cli.vendoring import pyz as vendor_pyz
from mcp_h11.cli.vendoring import vendor
from mcp_h11.cli.vendoring.measuring import import_time

pytestmark = pytest.mark.long  # real processes, several seconds each

TOOLS = '''\
"""Tools of the file."""

import os

import helper


def add(a: int, b: int = 2) -> int:
    "Add."
    return helper.add(a, b)


async def later(folder: str) -> str:
    "Loads a module once the current folder is another one."
    os.chdir(folder)
    import anyio

    await anyio.sleep(0)
    return anyio.__file__
'''
PYTHON = [sys.executable, "-I", "-S", "-W", "error"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tools.pyz`, which serves two files of a user, and `plain.pyz`, which is the command alone."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "tools.py").write_text(TOOLS)
    (folder / "helper.py").write_text("def add(a, b):\n    return a + b\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vendor, "import_time", lambda *_: None)
        patched.chdir(folder)
        assert command_line(["vendor", "--pyz", "tools.pyz", "tools.py", "helper.py"]) == 0
        assert command_line(["vendor", "--pyz", "plain.pyz", "--server-only"]) == 0
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder; times are not measured."""
    monkeypatch.setattr(vendor, "import_time", lambda *_: 0.05)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    words = [*PYTHON, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def error(done: subprocess.CompletedProcess[str], name: str) -> str:
    """The last line of a command that ended with exit code 2."""
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"python {name}: error: ")
    return line.removeprefix(f"python {name}: error: ")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert command_line(["vendor", *arguments]) == 2
    return capsys.readouterr().err.removeprefix("python -m mcp_h11: error: ").rstrip("\n")


# --- it serves -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="a process is not asked to end there")
def test_one_file_serves_where_nothing_is_installed(made: Path, tmp_path: Path) -> None:
    # A module of the same name where it is started is not what is meant.
    (tmp_path / "tools.py").write_text("raise RuntimeError")

    async def main(port: int) -> None:
        async with RawClient(port) as browser:  # the page is made of data that lie in the file
            page = await browser.request("GET", "/", {"Accept": "text/html"})
            assert page.status == 200 and b"<!doctype html>" in page.body.lower()
        call = {"name": "add", "arguments": {"a": 1}}
        assert (await Modern(port).call("tools/call", call)).result["structuredContent"] == {"result": 3}
        async with Legacy(port, D) as client:
            assert (await client.call("tools/call", call)).result["content"][0]["text"] == "3"
            later = {"name": "later", "arguments": {"folder": "/"}}
            text = (await client.call("tools/call", later)).result["content"][0]["text"]
            assert text == str(made / "tools.pyz" / "anyio" / "__init__.py")

    # By a path that leads nowhere once a tool has changed the folder.
    path = os.path.relpath(made / "tools.pyz", tmp_path)
    with Served([*PYTHON, path, "--port", "0"], cwd=tmp_path) as port:
        asyncio.run(main(port))


@pytest.mark.skipif(os.name == "nt", reason="there are no workers")
def test_one_file_serves_by_workers(made: Path) -> None:
    async def main(port: int) -> None:
        call = {"name": "add", "arguments": {"a": 1}}
        assert (await Modern(port).call("tools/call", call)).result["structuredContent"] == {"result": 3}

    with Served([*PYTHON, str(made / "tools.pyz"), "--port", "0", "--workers", "1"]) as port:
        asyncio.run(main(port))


def test_one_file_serves_on_pipes(made: Path, tmp_path: Path) -> None:
    call = Modern(0).request("tools/call", {"name": "add", "arguments": {"a": 1}}, id=1)
    done = ran(made / "tools.pyz", "--stdio", input=json.dumps(call) + "\n", cwd=tmp_path)
    assert (done.returncode, without_stalls(done.stderr)) == (0, "")
    assert json.loads(done.stdout)["result"]["structuredContent"] == {"result": 3}


@pytest.mark.skipif(os.name == "nt", reason="no such files there")
def test_one_file_is_a_program_and_the_whole_command_line(made: Path) -> None:
    assert (made / "tools.pyz").stat().st_mode & stat.S_IXUSR
    done = ran(made / "tools.pyz", "call", made / "tools.py", "add", "a=4")
    assert (done.returncode, done.stdout) == (0, "6\n")
    assert ran(made / "tools.pyz", "--version").stdout == f"mcp_h11 {__version__}\n"
    assert ran(made / "tools.pyz", "--help").stdout.startswith("usage: python tools.pyz [TARGET] [options]\n")


def test_a_client_is_told_to_start_the_one_file(made: Path) -> None:
    done = ran(made / "tools.pyz", "install", "claude", "--print")
    [entry] = json.loads(done.stdout)["mcpServers"].items()
    assert entry[0] == "tools"
    assert (entry[1]["command"], entry[1]["args"]) == (sys.executable, [str(made / "tools.pyz"), "--stdio"])


def test_one_file_without_the_client_says_which_commands_it_has_not(made: Path) -> None:
    done = ran(made / "plain.pyz", "call", made / "tools.py", "add", "a=4")
    assert error(done, "plain.pyz") == "call is not here: this copy was made with --server-only"
    listed = ran(made / "plain.pyz", "--help").stdout.partition("commands,")[2].partition("options:")[0]
    assert re.findall("(?m)^  ([a-z]+) ", listed) == ["dev", "vendor"]
    done = ran(made / "plain.pyz", "--completion", "bash")
    assert (done.returncode, done.stderr) == (0, "") and "'call'" not in done.stdout and "vendor" in done.stdout


def test_a_file_that_needs_another_package_says_so_at_its_making_and_at_its_start(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "needy.py").write_text(
        "import json, os.path, not_there.deep\nfrom also_not import x\nfrom . import sibling\n"
        "try:\n    import optional\nexcept ImportError:\n    pass\ndef tool() -> None:\n    import later_on\n"
    )
    assert command_line(["vendor", "--pyz", "needy.pyz", "needy.py"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == (
        "warning: your files import modules that are not inside: also_not, later_on, not_there.  Name the folder of "
        "each pure Python package after it, or run the file with a Python that has them"
    )
    done = ran("needy.pyz", "--port", "0", cwd=here)
    assert error(done, "needy.pyz") == (
        "import of needy failed: ModuleNotFoundError: No module named 'not_there'; this file does not hold it: see "
        "`vendor --pyz`, or start the file with a Python that has it"
    )
    assert done.stderr.splitlines()[1].endswith('needy.py", line 1, in <module>')  # the traceback is of the user's file


def test_packages_and_data_may_come_along(here: Path) -> None:
    (here / "plugin" / "data").mkdir(parents=True)
    (here / "plugin" / "__init__.py").write_text(
        "import importlib.resources, extra.deep, plugin.data\nfrom ..mcp_h11 import MCPServer\n".replace("..", "")
        + "server = MCPServer('packed')\nother = MCPServer('other')\n"
        "@server.tool\ndef read() -> str:\n"
        "    return importlib.resources.files(__name__).joinpath('data/words.txt').read_text() + extra.deep.MORE\n"
    )
    (here / "plugin" / "data" / "words.txt").write_text("words ")
    (here / "plugin" / ".hidden").write_text("secret")
    (here / "extra" / "__pycache__").mkdir(parents=True)
    (here / "extra" / "__pycache__" / "old.pyc").touch()
    (here / "extra" / "deep.py").write_text("MORE = 'and more'\n")
    assert command_line(["vendor", "--pyz", "packed.pyz", "plugin:server", "extra"]) == 0
    with zipfile.ZipFile("packed.pyz") as file:
        assert [name for name in file.namelist() if name.startswith("app/") and not name.endswith("/")] == [
            "app/extra/deep.py", "app/plugin/__init__.py", "app/plugin/data/words.txt",
        ]  # fmt: skip
    call = Modern(0).request("tools/call", {"name": "read", "arguments": {}}, id=1)
    done = ran("packed.pyz", "--stdio", input=json.dumps(call) + "\n", cwd=here)
    answer = json.loads(done.stdout)["result"]
    assert answer["content"][0]["text"] == "words and more"
    assert answer["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "packed"


# --- what is inside --------------------------------------------------------------------------------------------------


def test_each_package_inside_has_its_licence(made: Path) -> None:
    with zipfile.ZipFile(made / "tools.pyz") as file:
        names = file.namelist()
        said = json.loads(file.read("vendored.json"))
        assert file.read("mcp_h11/LICENSE").startswith(b"MIT License")
    assert said["target"] == "tools" and {*said["dependencies"]} >= {"h11", "anyio", "idna", "typing_extensions"}
    for name, version in said["dependencies"].items():
        assert version == metadata.version(name)
        assert [entry for entry in names if entry.startswith(f"{name}-{version}.dist-info/licenses/LICENSE")]
    assert {*said["files"]} == {name for name in names if not name.endswith("/")} - {"vendored.json"}


def test_the_same_files_give_the_same_bytes_in_every_process(made: Path, here: Path) -> None:
    # Python 3.10 writes the members of a set that is a constant in the order of their hashes.
    words = [str(made / "tools.py"), "--server-only", *(["--bytecode"] if sys.version_info >= (3, 11) else [])]
    for name, seed in (("one.pyz", "1"), ("two.pyz", "2")):
        code = (
            "import sys, mcp_h11.cli.vendoring.vendor as v; v.import_time = lambda *_: None\n"
            f"v.main_of('vendor', ['--pyz', {name!r}, *{words!r}])"
        )
        command = [sys.executable, "-c", code if seed == "1" else f"import asyncio, json, decimal\n{code}"]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True, timeout=60)
    assert Path("one.pyz").read_bytes() == Path("two.pyz").read_bytes()


def test_one_file_makes_the_same_copies_as_the_installed_package(made: Path, here: Path) -> None:
    assert command_line(["vendor", "installed", "--with-deps"]) == 0
    done = ran(made / "tools.pyz", "vendor", "bundled", "--with-deps", cwd=here)
    assert done.returncode == 0, done.stderr
    for path in Path("installed").rglob("*"):
        if path.is_file():
            assert (Path("bundled") / path.relative_to("installed")).read_bytes() == path.read_bytes()
    assert ran(made / "tools.pyz", "vendor", "--check", "installed", cwd=here).returncode == 0
    assert "made without its client" in error(ran(made / "plain.pyz", "vendor", "whole", cwd=here), "plain.pyz")


# Bytes: 1.40, 1.05 and 3.12 million today.
def test_sizes_of_one_file(made: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (made / "tools.pyz").stat().st_size < 1_400_000
    assert (made / "plain.pyz").stat().st_size < 1_150_000
    assert command_line(["vendor", "--pyz", "fast.pyz", "--bytecode", "--server-only"]) == 0
    size = Path("fast.pyz").stat().st_size
    assert size < 3_300_000
    assert capsys.readouterr().out.splitlines()[1].startswith(f"  {size:,} bytes; inside ")
    # Measured in one way and in one moment: bytecode spares the compiler, which is most of the time.
    plain, fast = (import_time("mcp_h11", [str(path)]) for path in (made / "plain.pyz", here / "fast.pyz"))
    assert plain is not None and fast is not None and fast < plain


def test_without_its_bytecode_a_file_is_read_from_source(made: Path, here: Path) -> None:
    assert (
        command_line(["vendor", "--pyz", "fast.pyz", str(made / "tools.py"), str(made / "helper.py"), "--bytecode"])
        == 0
    )
    # As another version of Python sees it: the magic number of the bytecode is not its own.
    with zipfile.ZipFile("fast.pyz") as file, zipfile.ZipFile("other.pyz", "w") as other:
        for name in file.namelist():
            data = file.read(name)
            other.writestr(name, b"\0\0\r\n" + data[4:] if name.endswith(".pyc") else data)
    call = Modern(0).request("tools/call", {"name": "add", "arguments": {"a": 1}}, id=1)
    for name in ("fast.pyz", "other.pyz"):
        done = ran(name, "--stdio", input=json.dumps(call) + "\n", cwd=here)
        assert json.loads(done.stdout)["result"]["structuredContent"] == {"result": 3}, done.stderr


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_ours_is_not_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("tools.py").write_text("def add(a: int) -> int:\n    return a\n")
    with zipfile.ZipFile("other.zip", "w") as file:
        file.writestr("x", "y")
    Path("folder").mkdir()
    Path("link").symlink_to("tools.py")
    for name in ("tools.py", "other.zip", "folder", "link"):  # the first one: FILE was forgotten
        assert refused(capsys, "--pyz", name) == (
            f"{name} exists and was not made by this command: remove it, or take another name"
        )
    assert Path("tools.py").read_text().startswith("def add")
    assert command_line(["vendor", "--pyz", "x.pyz"]) == 0
    assert command_line(["vendor", "--pyz", "x.pyz", "tools.py"]) == 0  # its own may be


def test_a_file_that_cannot_be_written_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--pyz", "nowhere/x.pyz").startswith("cannot write nowhere/x.pyz: No such file")
    assert [*here.iterdir()] == []


def test_users_files_that_cannot_be_served_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "broken.py": "x = 1\nimport (\n", "my-tools.py": "", "json.py": "", "h11.py": "", "null.py": "\0",
        "data.txt": "", "good.py": "", "one/same.py": "1", "two/same.py": "2", "package/inner.py": "",
    }.items():  # fmt: skip
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
    told = {
        ("broken.py",): "broken.py, line 2: ",
        ("missing.py",): "cannot read ",
        ("my-tools.py",): "my-tools.py cannot be imported: rename it",
        ("json.py",): "json is the name of a module that others import: rename the file",
        ("good.py", "h11.py"): "h11 is the name of a module that others import: rename the file",
        ("null.py",): "null.py",
        ("data.txt",): "data.txt comes first, so it is served",
        ("package",): "package comes first, so it is served",
        ("good.py:a-b",): "'good.py:a-b': after the colon comes the name of an object",
        ("good.py", "one/same.py", "two/same.py"): "two files would be app/same.py: rename one of them",
    }
    for words, line in told.items():
        assert refused(capsys, "--pyz", "x.pyz", *words).startswith(line)
    monkeypatch.setattr(vendor_pyz, "MAX_APP", 3)
    Path("good.py").write_text("x=1")
    assert command_line(["vendor", "--pyz", "x.pyz", "good.py"]) == 0
    Path("good.py").write_text("x=12")
    assert refused(capsys, "--pyz", "x.pyz", "good.py").startswith("the files are more than 0 MiB")


def test_a_file_does_not_replace_itself_while_it_runs(here: Path) -> None:
    assert command_line(["vendor", "--pyz", "x.pyz"]) == 0
    before = Path("x.pyz").read_bytes()
    assert error(ran("x.pyz", "vendor", "--pyz", "x.pyz", cwd=here), "x.pyz") == (
        "x.pyz is the file that runs: take another name"
    )
    assert Path("x.pyz").read_bytes() == before


def test_a_python_that_is_too_old_is_told(made: Path) -> None:
    with zipfile.ZipFile(made / "tools.pyz") as file:
        source = file.read("__main__.py").decode()
    needs = (3, 11) if "(3, 11)" in source else (3, 10)

    class Old:
        version_info = (needs[0], needs[1] - 1)

    code = source.replace("import sys\n", "", 1)
    with pytest.raises(SystemExit, match=f"this file needs Python {needs[0]}.{needs[1]} or later"):
        exec(code, {"sys": Old, "__name__": "__main__"})

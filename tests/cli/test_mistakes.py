# SPDX-License-Identifier: MIT
"""A mistyped command, option, file or name is met with the nearest; what to do stands in one line, coloured for people.

The table runs `main` in this process; a few rows run a process, to show that it is the same there.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mcp_h11
from mcp_h11 import __version__
from mcp_h11.cli import commands
from mcp_h11.cli.colours import shows_colours
from mcp_h11.cli.main import main
from mcp_h11.cli.parser import closest
from mcp_h11.cli.target import load_target

ROOT = Path(mcp_h11.__file__).resolve().parents[1]
PROG = "python -m mcp_h11"
LIMIT = 60  # seconds

TOOLS = """\
from mcp_h11 import MCPServer

def add(a: int, b: int) -> int:
    return a + b

def create_server():
    return MCPServer("made")

async def later():
    return MCPServer("never")

class Shop:
    def open(self):
        return MCPServer("open")

def broken():
    raise OSError("no disk")

def nothing(): ...

shop = Shop()
"""
BY_RELATIVE = "from . import other\ndef f() -> str: ...\n"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [name for name in os.environ if name.startswith("MCP_H11_")]:
        monkeypatch.delenv(name)
    Path("tools.py").write_text(TOOLS)
    Path("pkg/inner").mkdir(parents=True)
    for name in ("pkg/__init__.py", "pkg/other.py", "pkg/inner/__init__.py", "pkg/inner/other.py"):
        Path(name).touch()
    Path("pkg/rel.py").write_text(BY_RELATIVE)
    Path("pkg/inner/deep.py").write_text(BY_RELATIVE)
    Path("loose").mkdir()
    Path("loose/rel.py").write_text(BY_RELATIVE)
    Path("uses_bad.py").write_text("import bad_relative\n")
    Path("bad_relative.py").write_text("from . import other\n")
    for name in ("tools", "pkg"):  # of another test
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"{PROG}: error: ") and err.count("\n") == 1, err
    return err.removeprefix(f"{PROG}: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lst http://x/mcp", "'lst' is no command, no file and no module; did you mean list?"),
        ("prxy -- python x", "'prxy' is no command, no file and no module; did you mean proxy?"),
        ("tool --port 0", "'tool' is no command, no file and no module; did you mean tools.py?"),
        ("run tools.py", f"'run' is no command; to serve, name a file or a module: {PROG} tools.py"),
        ("serve", f"'serve' is no command; to serve, name a file or a module: {PROG} tools.py"),
        ("tools.py list", f"the command comes first: {PROG} list tools.py ..."),
        ("toolz.py", "cannot read toolz.py: No such file or directory; did you mean tools.py?"),
        ("pkg/ohter.py", "cannot read pkg/ohter.py: No such file or directory; did you mean other.py?"),
        ("--prot 9000", "there is no option --prot; did you mean --port?"),
        ("--bogus", f"there is no option --bogus ({PROG} --help-all shows them)"),
        ("tools.py --prot=9000", "there is no option --prot; did you mean --port?"),
        ("tools.py --acess-log", "there is no option --acess-log; did you mean --access-log?"),
        ("--qqqq", f"there is no option --qqqq ({PROG} --help-all shows them)"),
        ("-p 9000", f"there is no option -p ({PROG} --help-all shows them)"),
        ("call --jsn tools.py add", "there is no option --jsn; did you mean --json?"),
        ("proxy --confg f.json", "there is no option --confg; did you mean --config?"),
        ("tools.py:creat_server", "tools.py has no attribute 'creat_server'; did you mean create_server?"),
        ("tools.py x y", "there is an argument too much: x"),
    ],
)
def test_the_nearest_is_named(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, *words.split()) == said


@pytest.mark.parametrize("word", ["list", "call", "read", "prompt", "ping", "detect", "proxy"])
def test_every_command_refuses_an_unknown_option_by_name(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, word, "--zzzz-zz", "tools.py", "a", "b")
    longest = "--help-all" if "--help-all" in commands.parser_of(word).format_help() else "--help"
    assert said == f"there is no option --zzzz-zz ({PROG} {word} {longest} shows them)"


def test_a_word_with_nothing_like_it_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "qqqq")
    assert said == f"'qqqq' is no command, no file and no module ({PROG} --help names the commands; a file ends in .py)"


def test_a_file_or_module_of_the_name_of_a_mistake_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.cli import serving

    served: list[str] = []
    monkeypatch.setattr(serving, "run_stdio", lambda handler, settings: served.append(handler.name))
    Path("lst.py").write_text(TOOLS + "server = MCPServer('lst')")
    for word in ("lst", "lst.py", "tools:shop.open"):
        assert main([word, "--stdio"]) == 0
    assert served == ["lst", "lst", "open"]


def test_the_shortest_beginning_or_the_most_alike_is_meant() -> None:
    assert closest("--stat", ["--state-keys", "--stateless", "--set"]) == "--stateless"
    assert closest("--s", ["--state-keys", "--stateless"]) == ""
    assert closest("ping", []) == ""


COMMANDS_ON_A_FILE = [
    "{}",
    "list {}",
    "call {} add",
    "read {} x://y",
    "prompt {} x",
    "ping {}",
    "install claude {} --print",
]


@pytest.mark.parametrize("words", COMMANDS_ON_A_FILE)
def test_every_command_names_a_file_that_is_missing(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, *words.format("toolz.py").split())
    assert said == "cannot read toolz.py: No such file or directory; did you mean tools.py?"


@pytest.mark.parametrize("words", COMMANDS_ON_A_FILE)
def test_every_command_shows_the_line_of_a_broken_file(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.py").write_text("import json\n\njson.loads('{')\n")
    assert main(words.format("bad.py").split()) == 2
    out, err = capsys.readouterr()
    first, second, *_, last = err.splitlines()
    assert out == "" and first == "Traceback (most recent call last):"
    assert second == f'  File "{Path("bad.py").resolve()}", line 3, in <module>'
    assert last.startswith(f"{PROG}: error: import of bad.py failed: JSONDecodeError: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("call", "the following arguments are required: TARGET (python -m mcp_h11 call --help)"),
        ("install", "the following arguments are required: CLIENT (python -m mcp_h11 install --help)"),
        ("detect tools.py", "detect wants a URL"),
        ("proxy", "say what to serve: -- COMMAND, --url URL or --config FILE"),
        ("proxy --config gone.json", "gone.json: No such file or directory"),
        ("proxy -- no-such-program", "there is no command 'no-such-program'"),
        ("dev tools.py --prot 1", "there is no option --prot; did you mean --port?"),
        ("--certfile gone.pem", "--certfile gone.pem: No such file or directory"),
    ],
)
def test_what_each_command_lacks_is_said(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, *words.split()) == said


# --- factories and packages -------------------------------------------------------------------------------------------


def test_a_factory_is_called() -> None:
    assert load_target("tools.py:create_server").name == "made"
    assert load_target("tools.py:shop.open").name == "open"
    assert load_target("tools:create_server").name == "made"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "tools.py:later",
            "tools.py:later is a coroutine function, and a factory is a plain one: what waits goes into a lifespan",
        ),
        (
            "tools.py:add",
            "tools.py:add is no factory, which is called without arguments (missing a required argument: 'a'); "
            "to serve the functions of a file as tools, name the file alone: tools.py",
        ),
        ("tools.py:nothing", "tools.py:nothing() returned NoneType, not an MCPServer or a ServerHandler"),
        ("tools.py:shop", "tools.py:shop is of type Shop, not an MCPServer or a ServerHandler"),
    ],
)
def test_what_is_no_factory_is_told_why(target: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, target) == said


def test_a_factory_that_fails_shows_the_frames_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools.py:broken"]) == 2
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback") and 'tools.py", line' in second
    assert last == f"{PROG}: error: tools.py:broken() failed: OSError: no disk"


@pytest.mark.parametrize(
    ("file", "name"),
    [("pkg/rel.py", "pkg.rel"), ("pkg/inner/deep.py", "pkg.inner.deep"), ("loose/rel.py", "loose.rel")],
)
def test_a_relative_import_says_which_name_works_and_it_does(
    file: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    beginning = f"{Path(file).name} imports from its package, which a file alone has not: "
    assert refusal(capsys, file) == f"{beginning}{PROG} {name}"
    folder = Path.cwd()
    monkeypatch.chdir("/")
    assert refusal(capsys, str(folder / file)) == f"{beginning}cd {folder}; {PROG} {name}"
    monkeypatch.chdir(folder)
    if file.startswith("pkg"):
        assert load_target(name).name == name.rpartition(".")[2]


def test_a_relative_import_of_another_module_is_that_modules_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uses_bad.py"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and 'bad_relative.py", line 1' in err and "imports from its package" not in err


# --- colours ----------------------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.skipif(os.name == "nt", reason="a console of Windows says it in another way")
@pytest.mark.parametrize(
    ("terminal", "environ", "shown"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
        (False, {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_for_terminals(
    terminal: bool, environ: dict[str, str], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert shows_colours(Stream(terminal)) is shown
    assert shows_colours(None) is False


def at_a_terminal(*words: str, **environ: str) -> tuple[int, bytes]:
    """The exit code of a process at a terminal, and the bytes that it wrote there."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mcp_h11", *words], stdin=theirs, stdout=theirs, stderr=theirs, timeout=LIMIT,
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **environ}, check=False,
        )  # fmt: skip
        return done.returncode, os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_mistake_is_red_at_a_terminal_and_plain_elsewhere() -> None:
    said = b"there is no option --prot; did you mean --port?\r\n"
    prog = PROG.encode()
    assert at_a_terminal("--prot", TERM="xterm") == (2, prog + b": \x1b[1;31merror:\x1b[0m " + said)
    assert at_a_terminal("--prot", TERM="xterm", NO_COLOR="1") == (2, prog + b": error: " + said)
    done = subprocess.run(
        [sys.executable, "-m", "mcp_h11", "--prot"], capture_output=True, timeout=LIMIT, check=False,
        env={"PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", prog + b": error: " + said.replace(b"\r", b""))


def test_the_first_line_of_the_banner_is_bold_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_h11.cli import banner, serving

    class Terminal(Stream):
        encoding, text = "utf-8", ""

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    options = serving.read_options(serving.parser_of().parse_args([]), {})
    for name, begins in (("xterm", "\x1b[1m"), ("dumb", "")):
        monkeypatch.setenv("TERM", name)
        monkeypatch.delenv("NO_COLOR", raising=False)
        terminal = Terminal(True)
        monkeypatch.setattr(sys, "stdout", terminal)
        banner.print_start(options, "shop", [("127.0.0.1", 80)])
        line = f"mcp_h11 {__version__} serves 'shop' at http://127.0.0.1:80/mcp (stop it with Ctrl+C)"
        assert terminal.text.splitlines()[0] == (f"{begins}{line}\x1b[0m" if begins else line)
        # What is to be copied has no codes.
        assert not re.search("\x1b", terminal.text.split("\n", 1)[1])

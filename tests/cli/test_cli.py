# SPDX-License-Identifier: MIT
"""The command line: options from two places, what a target stands for, what is printed, and how it ends.

Most of it runs `main([...])` beside a fake `run`; what only a process has (signals, descriptors, stdout) runs one.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import mcp
import pytest
from mcp.client.stdio import StdioServerParameters
from patience import without_stalls

import mcp_h11
from mcp_h11 import MCPServer, ServerHandler, __version__
from mcp_h11.cli import main as cli_main
from mcp_h11.cli import options, serving
from mcp_h11.cli import target as cli_target

PROG = "python -m mcp_h11"
PACKAGE_ROOT = Path(mcp_h11.__file__).resolve().parents[1]


class Served:
    """Stands in for `run` and `run_stdio`: notes what it was asked to serve, "starts", and is done at once."""

    def __init__(self) -> None:
        self.handler: Any = None
        self.options: dict[str, Any] = {}
        self.over = ""
        self.addresses: list[Any] = [("127.0.0.1", 8000)]
        self.fails: BaseException | None = None

    def run(self, handler: Any, *, on_start: Any, **options: Any) -> None:
        self.handler, self.options, self.over = handler, options, "http"
        on_start(self)
        if self.fails is not None:
            raise self.fails

    def run_stdio(self, handler: Any, **options: Any) -> None:
        self.handler, self.options, self.over = handler, options, "stdio"

    @property
    def settings(self) -> Any:
        return self.options["settings"]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    fake = Served()
    monkeypatch.setattr(serving, "run", fake.run)
    monkeypatch.setattr(serving, "run_stdio", fake.run_stdio)
    return fake


@pytest.fixture(autouse=True)
def clean_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A folder of its own, no variables of ours, and the interpreter as it was afterwards."""
    for name in [name for name in os.environ if name.startswith(options.ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files are rewritten within one tick of mtime
    # Another test file may have loaded a module of the same name from a folder of its own.
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path.parents[1])):
            monkeypatch.delitem(sys.modules, name)
    before, level = set(sys.modules), logging.getLogger().level
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
    logging.getLogger().setLevel(level)


def write(name: str, text: str = "") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command ends with when it fails (and any traceback above it)."""
    assert cli_main.main([*arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    *above, line = err.splitlines()
    assert line.startswith(f"{PROG}: error: ")
    assert not above or above[0].startswith("Traceback") or above[0].startswith("  File")
    return err.removeprefix(f"{PROG}: error: ").rstrip("\n")


# --- no target -------------------------------------------------------------------------------------------------------


def test_without_a_target_the_demo_is_served(served: Served) -> None:
    assert cli_main.main([]) == 0
    assert (served.over, served.handler.name) == ("http", "demo")
    assert (served.options["host"], served.options["port"]) == ("127.0.0.1", 8000)
    assert served.settings.path == "/mcp"


def test_defaults_of_the_command_line(served: Served) -> None:
    cli_main.main([])
    settings = served.settings
    assert (settings.response, settings.stateless, settings.access_log) == ("auto", False, False)
    assert settings.legacy_sse is True  # off in the library, on here
    assert settings.allowed_hosts is settings.allowed_origins is settings.token is settings.ssl is None
    assert settings.cors == ()


# --- targets ---------------------------------------------------------------------------------------------------------

SERVER = "from mcp_h11 import MCPServer\n"


@pytest.mark.parametrize("where", ["tools.py", "./tools.py", "tools", "tools.py:server", "tools:server"])
def test_a_server_is_found_by_file_by_module_and_by_name(served: Served, where: str) -> None:
    write("tools.py", SERVER + "server = MCPServer('found')")
    assert cli_main.main([where, "--port", "0"]) == 0
    assert served.handler.name == "found"


@pytest.mark.parametrize("where", ["pkg.inner.tools", "pkg.inner.tools:box.server", "pkg/inner/tools.py:box.server"])
def test_a_module_in_a_package_and_an_attribute_of_an_object(served: Served, where: str) -> None:
    write("pkg/__init__.py")
    write("pkg/inner/__init__.py")
    write("pkg/inner/tools.py", SERVER + "class box: server = MCPServer('deep')\nserver = box.server")
    assert cli_main.main([where, "--port", "0"]) == 0
    assert served.handler.name == "deep"


def test_a_file_finds_the_modules_beside_it(served: Served) -> None:
    write("far/helper_beside.py", "NAME = 'helped'")
    write("far/tools.py", SERVER + "import helper_beside\nserver = MCPServer(helper_beside.NAME)")
    assert cli_main.main(["far/tools.py", "--port", "0"]) == 0
    assert served.handler.name == "helped"


def test_a_file_is_importable_by_its_own_name(served: Served) -> None:
    text = "import sys, looped\nassert looped is sys.modules[__name__]\ndef tool() -> str: ..."
    write("looped.py", text)
    assert cli_main.main(["looped.py", "--port", "0"]) == 0


def test_a_file_named_like_a_module_in_use_does_not_replace_it(served: Served) -> None:
    write("json.py", SERVER + "server = MCPServer('mine')")
    assert cli_main.main(["json.py", "--port", "0"]) == 0
    assert served.handler.name == "mine"
    assert sys.modules["json"] is json


def test_a_handler_and_a_handler_class_are_served(served: Served) -> None:
    text = "from mcp_h11 import ServerHandler\nclass Mine(ServerHandler):\n    name = 'mine'\n"
    write("kind.py", text)
    assert cli_main.main(["kind.py", "--port", "0"]) == 0
    assert isinstance(served.handler, ServerHandler) and type(served.handler).__name__ == "Mine"
    write("thing.py", text + "    where = 'class'\nthing = Mine()\nthing.where = 'object'\n")
    assert cli_main.main(["thing.py", "--port", "0"]) == 0
    assert served.handler.where == "object"
    assert cli_main.main(["thing.py:Mine", "--port", "0"]) == 0
    assert served.handler.where == "class"


def test_an_imported_class_is_not_what_a_module_offers(served: Served) -> None:
    write("only.py", "from mcp_h11 import MCPServer, ServerHandler, Context\ndef tool() -> str: ...")
    assert cli_main.main(["only.py", "--port", "0"]) == 0
    assert type(served.handler) is MCPServer and served.handler.name == "only"


@pytest.mark.parametrize("name", ["server", "mcp", "app"])
def test_of_several_servers_the_conventional_name_is_taken(served: Served, name: str) -> None:
    write("many.py", SERVER + f"a = MCPServer('a')\n{name} = MCPServer('this')\nzz = MCPServer('zz')")
    assert cli_main.main(["many.py", "--port", "0"]) == 0
    assert served.handler.name == "this"


def test_of_the_conventional_names_server_comes_first(served: Served) -> None:
    write("many.py", SERVER + "app = MCPServer('app')\nmcp = MCPServer('mcp')\nserver = MCPServer('server')")
    assert cli_main.main(["many.py", "--port", "0"]) == 0
    assert served.handler.name == "server"


def test_several_servers_without_a_conventional_name_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    write("many.py", SERVER + "a = MCPServer('a')\nb = MCPServer('b')\n_c = MCPServer('c')")
    assert failure(capsys, "many.py") == "many.py has several servers: many.py:a, many.py:b"


def test_two_names_of_one_server_are_no_choice(served: Served) -> None:
    write("twice.py", SERVER + "first = MCPServer('one')\nsecond = first")
    assert cli_main.main(["twice.py", "--port", "0"]) == 0
    assert served.handler.name == "one"


# --- functions as tools ----------------------------------------------------------------------------------------------


class Noting(MCPServer):
    """Notes which functions it was given, in order."""

    noted: list[str]

    def add_tool(self, fn: Any, **options: Any) -> Any:
        self.noted = [*getattr(self, "noted", []), options.get("name") or fn.__name__]
        return super().add_tool(fn, **options)


@pytest.fixture
def noting(monkeypatch: pytest.MonkeyPatch, served: Served) -> Served:
    monkeypatch.setattr(cli_target, "MCPServer", Noting)
    return served


def test_a_module_without_a_server_offers_its_own_public_functions_in_order(noting: Served) -> None:
    text = '''
        """Tools of the trade."""
        import functools
        from os.path import join
        from dataclasses import dataclass
        __version__ = "3.2"
        def zebra(n: int) -> int: ...
        async def ant(n: int) -> int: ...
        def _hidden() -> str: ...
        @functools.lru_cache
        def cached(n: int) -> int: ...
        @dataclass
        class Thing:
            n: int
        number = 3
        nameless = lambda: 1
    '''
    write("trade.py", "\n".join(line[8:] for line in text.splitlines()))
    assert cli_main.main(["trade.py", "--port", "0"]) == 0
    server = noting.handler
    assert server.noted == ["zebra", "ant", "cached", "nameless"]
    assert (server.name, server.instructions, server.version) == ("trade", "Tools of the trade.", "3.2")


def test_a_module_is_named_by_its_last_part(noting: Served) -> None:
    write("pkg_named/__init__.py")
    write("pkg_named/things.py", "def one() -> str: ...")
    assert cli_main.main(["pkg_named.things", "--port", "0"]) == 0
    assert noting.handler.name == "things"


def test_all_decides_what_is_public(noting: Served) -> None:
    write("helpers_of_all.py", "def borrowed() -> str: ...\ndef left() -> str: ...")
    own = "def second() -> str: ...\ndef first() -> str: ...\ndef out() -> str: ...\nDATA = 1\n"
    text = f"from helpers_of_all import borrowed, left\n{own}__all__ = ['DATA', 'borrowed', 'first', 'second']"
    write("listed.py", text)
    assert cli_main.main(["listed.py", "--port", "0"]) == 0
    assert noting.handler.noted == ["borrowed", "second", "first"]


def test_all_that_names_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    write("listed.py", "__all__ = ['gone']\ndef here() -> str: ...")
    assert failure(capsys, "listed.py") == "listed.py: __all__ names 'gone', which is not there"


def test_a_module_with_nothing_to_serve(capsys: pytest.CaptureFixture[str]) -> None:
    write("empty.py", "import os\nfrom os.path import join\nX = 1\nclass C: ...")
    assert failure(capsys, "empty.py") == "empty.py has no MCPServer, no ServerHandler and no public function"


def test_a_function_that_cannot_be_a_tool_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Picky(MCPServer):
        def add_tool(self, fn: Any, **options: Any) -> Any:
            raise TypeError("no schema for it")

    monkeypatch.setattr(cli_target, "MCPServer", Picky)
    write("odd.py", "def odd(x: int) -> str: ...")
    assert failure(capsys, "odd.py") == "odd.py: odd() cannot be a tool: no schema for it"


# --- targets that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("gone.py", "cannot read gone.py: No such file or directory"),
        ("gone/tools.py:server", "cannot read gone/tools.py: No such file or directory"),
        ("./folder", "folder is a folder: name a file in it, or a package by its module name"),
        (
            "gone_module",
            "'gone_module' is no command, no file and no module "
            "(python -m mcp_h11 --help names the commands; a file ends in .py)",
        ),
        ("gone.module:x", "No module named 'gone' (a file is named with its .py)"),
        ("good.inner", "No module named 'good.inner'; 'good' is not a package (a file is named with its .py)"),
        (
            "not-a-name",
            "'not-a-name' is no command, no file and no module "
            "(python -m mcp_h11 --help names the commands; a file ends in .py)",
        ),
        ("", "'' is neither a Python file nor the name of a module"),
        (":server", "':server' is neither a Python file nor the name of a module"),
        ("good.py:", "'good.py:': after the colon comes the name of an object"),
        ("good.py:a-b", "'good.py:a-b': after the colon comes the name of an object"),
        ("good.py:missing", "good.py has no attribute 'missing'"),
        ("good:tool.missing", "good has no attribute 'tool.missing'"),
        ("good.py:tool", "good.py:tool() returned NoneType, not an MCPServer or a ServerHandler"),
        ("good.py:NUMBER", "good.py:NUMBER is of type int, not an MCPServer or a ServerHandler"),
        ("good.py:Plain", "good.py:Plain is of type type, not an MCPServer or a ServerHandler"),
    ],
)
def test_a_target_that_is_not_there_or_no_server(capsys: pytest.CaptureFixture[str], where: str, message: str) -> None:
    Path("folder").mkdir()
    write("good.py", "NUMBER = 1\nclass Plain: ...\ndef tool() -> str: ...")
    assert failure(capsys, where) == message


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the permission bits do not hold for root")
def test_a_file_that_may_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    write("shut.py").chmod(0)
    assert failure(capsys, "shut.py") == "cannot read shut.py: Permission denied"


@pytest.mark.parametrize("where", ["broken.py", "broken"])
def test_an_import_error_shows_the_users_frames_and_no_others(capsys: pytest.CaptureFixture[str], where: str) -> None:
    write("inner_broken.py", "def boom():\n    raise LookupError('two\\nlines')\nboom()")
    path = write("broken.py", "import inner_broken").resolve()
    err = failure(capsys, where)
    first, second, *_ = err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert second == f'  File "{path}", line 1, in <module>'
    assert "in boom" in err and "LookupError: two" in err
    assert "importlib" not in err and serving.__file__ not in err and cli_target.__file__ not in err
    assert err.splitlines()[-1] == f"{PROG}: error: import of {where} failed: LookupError: two lines"
    assert "broken" not in sys.modules


def test_a_missing_dependency_of_the_users_is_their_import_error(capsys: pytest.CaptureFixture[str]) -> None:
    write("needy.py", "import not_installed_anywhere")
    err = failure(capsys, "needy")
    assert 'needy.py", line 1' in err
    assert err.endswith("import of needy failed: ModuleNotFoundError: No module named 'not_installed_anywhere'")


def test_a_syntax_error_shows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    write("typo.py", "def x(:\n")
    err = failure(capsys, "typo.py")
    assert "def x(:" in err and "typo.py" in err and "importlib" not in err


def test_a_module_that_exits_has_not_chosen_our_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    write("quits.py", "import sys\nsys.exit(0)")
    assert "import of quits.py failed: SystemExit: 0" in failure(capsys, "quits.py")


def test_a_class_that_cannot_be_instantiated_is_the_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "from mcp_h11 import ServerHandler\nclass H(ServerHandler):\n    def __init__(self): raise OSError('no disk')"
    )
    write("cls.py", text)
    err = failure(capsys, "cls.py")
    assert "in __init__" in err
    assert err.endswith("cls.py:H failed: OSError: no disk")


def test_a_module_that_runs_its_server_on_import_is_told_how_not_to(
    capsys: pytest.CaptureFixture[str], served: Served
) -> None:
    write("eager.py", SERVER + "server = MCPServer('eager')\nserver.run()\n")
    message = 'import of eager.py (line 3) calls run() itself: put that line under `if __name__ == "__main__":`'
    assert failure(capsys, "eager.py") == message
    assert served.over == ""
    write("calm.py", SERVER + "server = MCPServer('calm')\nif __name__ == '__main__':\n    server.run()\n")
    assert cli_main.main(["calm.py", "--port", "0"]) == 0


def test_while_a_module_loads_another_thread_may_run_its_server() -> None:
    loads, ran = threading.Event(), threading.Event()
    meeting = ModuleType("meeting")
    vars(meeting).update(loads=loads, ran=ran, limit=LIMIT)
    write("slow.py", SERVER + "import meeting\nmeeting.loads.set()\nassert meeting.ran.wait(meeting.limit)\n"
          "server = MCPServer('slow')\n")  # fmt: skip
    errors: list[BaseException] = []

    def run() -> None:
        assert loads.wait(LIMIT)
        try:
            MCPServer("other").run(transport="none")  # it looks at its options, so it was not refused
        except BaseException as exc:
            errors.append(exc)
        ran.set()

    thread = threading.Thread(target=run, daemon=True)
    sys.modules["meeting"] = meeting
    try:
        thread.start()
        assert cli_target.load_target("slow.py").name == "slow"
    finally:
        del sys.modules["meeting"]
    thread.join(LIMIT)
    assert [str(exc) for exc in errors] == ["transport is streamable-http, sse or stdio, not 'none'"]


# --- options and environment -----------------------------------------------------------------------------------------


def read(arguments: list[str], environ: dict[str, str] | None = None) -> Any:
    return options.read_options(serving.parser_of().parse_args(arguments), environ or {})


OTHER_VALUES = {
    "host": ("::1", "::1"),
    "port": ("9000", 9000),
    "path": ("/x/y", "/x/y"),
    "root-path": ("/tools/", "/tools"),
    "uds": ("/tmp/s", "/tmp/s"),
    "uds-mode": ("0660", 0o660),
    "trusted-proxies": ("10.0.0.1, 10.1.0.0/16,unix", ["10.0.0.1", "10.1.0.0/16", "unix"]),
    "fd": ("3", 3),
    "stdio": ("yes", True),
    "certfile": ("c.pem", "c.pem"),
    "keyfile": ("k.pem", "k.pem"),
    "response": ("SSE", "sse"),
    "stateless": ("1", True),
    "legacy-sse": ("off", False),
    "page": ("off", False),
    "skills": ("./skills", "./skills"),
    "card": ("com.example/x", "com.example/x"),
    "allowed-hosts": ("a.example, b.example:8443", ["a.example", "b.example:8443"]),
    "allowed-origins": ("https://a.example", ["https://a.example"]),
    "cors": ("https://a.example,https://b.example", ["https://a.example", "https://b.example"]),
    "token": ("s3cret", "s3cret"),
    "log-level": ("debug", "debug"),
    "access-log": ("true", True),
    "access-log-format": ("JSON", "json"),
    "workers": ("4", 4),
    "reload": ("1", True),
    "store": ("sqlite:sessions.db", "sqlite:sessions.db"),
    "call-timeout": ("2.5", 2.5),
    "state-keys": (f"{'a' * 16}, {'b' * 20}", [b"a" * 16, b"b" * 20]),
    "health": ("1", True),
    "metrics": ("1", True),
    "ops-port": ("9100", 9100),
    "ops-host": ("10.0.0.7", "10.0.0.7"),
}


@pytest.mark.parametrize("name", [option.name for option in options.OPTIONS])
def test_each_option_is_read_from_the_command_line_and_from_the_environment(name: str) -> None:
    text, value = OTHER_VALUES[name]
    key = name.replace("-", "_")
    assert getattr(read([], {f"MCP_H11_{key.upper()}": text}), key) == value
    if isinstance(value, bool):
        arguments = [f"--{name}" if value else f"--no-{name}"]
    else:
        arguments = [f"--{name}", text]
    assert getattr(read(arguments), key) == value
    assert getattr(read([]), key) != value


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "True", "YES"])
def test_words_for_on(word: str) -> None:
    assert read([], {"MCP_H11_STATELESS": word}).stateless is True


@pytest.mark.parametrize("word", ["0", "false", "no", "off", "False", "OFF"])
def test_words_for_off(word: str) -> None:
    assert read([], {"MCP_H11_LEGACY_SSE": word}).legacy_sse is False


def test_the_command_line_goes_before_the_environment() -> None:
    environ = {"MCP_H11_PORT": "1", "MCP_H11_STATELESS": "1", "MCP_H11_CORS": "https://a.example"}
    options = read(["--port", "2", "--no-stateless", "--cors", "https://b.example"], environ)
    assert (options.port, options.stateless, options.cors) == (2, False, ["https://b.example"])


def test_a_variable_that_the_command_line_overrides_is_not_read() -> None:
    assert read(["--port", "2"], {"MCP_H11_PORT": "many"}).port == 2


def test_an_empty_variable_is_not_set_except_that_no_token_is_never_meant_by_one() -> None:
    assert read([], {"MCP_H11_PORT": "", "MCP_H11_STATELESS": ""}).port == 8000
    with pytest.raises(options.UsageError, match="^environment variable MCP_H11_TOKEN has to be a bearer token"):
        read([], {"MCP_H11_TOKEN": ""})


def test_lists_are_repeated_or_separated_by_commas_and_any_is_a_star() -> None:
    assert read(["--allowed-hosts", "a,b", "--allowed-hosts", "c"]).allowed_hosts == ["a", "b", "c"]
    assert read(["--allowed-hosts", "any"]).allowed_hosts == ["*"]
    assert read([], {"MCP_H11_ALLOWED_ORIGINS": "*"}).allowed_origins == ["*"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "65536"], "argument --port: has to be a number from 0 to 65535, not '65536'"),
        (["--port=-1"], "argument --port: has to be a number from 0 to 65535, not '-1'"),
        (["--port", "http"], "argument --port: has to be a number from 0 to 65535, not 'http'"),
        (["--port", "8_0"], "argument --port: has to be a number from 0 to 65535, not '8_0'"),
        (["--fd", "x"], "argument --fd: has to be a number from 0 to 2147483647, not 'x'"),
        (["--path", "mcp"], "argument --path: has to begin with '/' and have no space, '?' or '#', not 'mcp'"),
        (["--path", "/a b"], "argument --path: has to begin with '/' and have no space, '?' or '#', not '/a b'"),
        (["--path", "/a?b"], "argument --path: has to begin with '/' and have no space, '?' or '#', not '/a?b'"),
        (
            ["--root-path", "/a/../b"],
            "argument --root-path: has to be a path such as /tools, without dots and empty segments, not '/a/../b'",
        ),
        (["--root-path", "tools"], None),
        (["--host", ""], "argument --host: may not be empty"),
        (["--response", "xml"], "argument --response: has to be one of auto, json, sse, not 'xml'"),
        (["--cors", "a,,b"], "argument --cors: has to be a comma-separated list without empty items"),
        (["--log-level", "loud"], None),
        (["--colour"], "there is no option --colour; did you mean --cors?"),
        (["--stat"], "there is no option --stat; did you mean --stateless?"),
        (["one.py", "two.py"], "there is an argument too much: two.py"),
        (["--port", "1", "--uds", "s"], "--port and --uds cannot be used together"),
        (["--host", "::1", "--fd", "3"], "--host and --fd cannot be used together"),
        (["--uds", "s", "--fd", "3"], "--uds and --fd cannot be used together"),
        (["--stdio", "--port", "1"], "--port and --stdio cannot be used together"),
        (["--stdio", "--uds", "s"], "--uds and --stdio cannot be used together"),
        (["--stdio", "--token", "t"], "--stdio and --token cannot be used together"),
        (["--stdio", "--path", "/x"], "--stdio and --path cannot be used together"),
        (["--keyfile", "k.pem"], "--keyfile needs --certfile"),
        (["--certfile", "none.pem"], "--certfile none.pem: No such file or directory"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], served: Served, arguments: list[str], message: str | None
) -> None:
    line = failure(capsys, *arguments)
    assert "\n" not in line
    assert message is None or line == message
    assert served.over == ""


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"PORT": "x"}, "environment variable MCP_H11_PORT has to be a number from 0 to 65535, not 'x'"),
        (
            {"STATELESS": "maybe"},
            "environment variable MCP_H11_STATELESS has to be one of 1, true, yes, on, 0, false, no, off, not 'maybe'",
        ),
        ({"PORT": "1", "UDS": "s"}, "MCP_H11_PORT and MCP_H11_UDS cannot be used together"),
        ({"STDIO": "1", "HOST": "::1"}, "MCP_H11_HOST and MCP_H11_STDIO cannot be used together"),
        ({"CERTFILE": "none.pem"}, "MCP_H11_CERTFILE none.pem: No such file or directory"),
        ({"KEYFILE": "k.pem"}, "MCP_H11_KEYFILE needs --certfile"),
    ],
)
def test_a_bad_variable_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], message: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(f"MCP_H11_{name}", value)
    assert failure(capsys) == message


def test_the_address_on_the_command_line_makes_that_of_the_environment_moot() -> None:
    environ = {"MCP_H11_UDS": "/tmp/s", "MCP_H11_FD": "x", "MCP_H11_STDIO": "1"}
    options = read(["--port", "1"], environ)
    assert (options.uds, options.fd, options.stdio) == (None, None, False)
    options = read(["--stdio"], {"MCP_H11_PORT": "1", "MCP_H11_TOKEN": "t", "MCP_H11_LOG_LEVEL": "error"})
    assert (options.stdio, options.log_level) == (True, "error")
    assert read(["--no-stdio", "--port", "1"], {"MCP_H11_STDIO": "1"}).stdio is False


def test_a_token_for_http_in_the_environment_does_not_hinder_stdio() -> None:
    assert read([], {"MCP_H11_STDIO": "1", "MCP_H11_TOKEN": "t"}).stdio is True


def test_a_bad_setting_is_a_bad_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**fields: Any) -> Any:
        raise ValueError("that origin is no origin")

    monkeypatch.setattr(serving, "Settings", refuse)
    assert failure(capsys, "--cors", "x") == "that origin is no origin"


def test_orjson_is_used_where_it_is_installed(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    cli_main.main([])
    assert served.settings.json is sys.modules["orjson"]
    monkeypatch.setitem(sys.modules, "orjson", None)
    cli_main.main([])
    assert served.settings.json is None


def test_stateless_has_no_legacy_sse_unless_asked_for(served: Served) -> None:
    cli_main.main(["--port", "0", "--stateless"])
    assert (served.settings.stateless, served.settings.legacy_sse) == (True, False)
    cli_main.main(["--port", "0", "--no-legacy-sse"])
    assert (served.settings.stateless, served.settings.legacy_sse) == (False, False)


LOOPBACK = [[], ["--host", "localhost"], ["--host", "[::1]"], ["--host", "127.0.0.2"]]
PUBLISHED = [
    ["--host", "0.0.0.0", "--allowed-hosts", "any"], ["--uds", "a.sock"], ["--fd", "5"], ["--root-path", "/tools"],
    ["--trusted-proxies", "127.0.0.1"], ["--allowed-hosts", "tools.example"],
]  # fmt: skip


@pytest.mark.parametrize(("given", "page"), [*((one, True) for one in LOOPBACK), *((one, False) for one in PUBLISHED)])
def test_browsers_get_a_page_where_this_machine_alone_can_ask(served: Served, given: list[str], page: bool) -> None:
    cli_main.main(given)
    assert served.settings.page is page
    for option, wanted in (("--page", True), ("--no-page", False)):
        cli_main.main([*given, option])
        assert served.settings.page is wanted


# --- where it listens, and for whom ----------------------------------------------------------------------------------


def test_host_and_port_are_passed_on(served: Served) -> None:
    assert cli_main.main(["--host", "[::1]", "--port", "9000"]) == 0
    assert (served.options["host"], served.options["port"]) == ("::1", 9000)


@pytest.mark.parametrize("hosts", ["any", "*", "tools.example"])
def test_the_hosts_to_answer_to_or_any(served: Served, hosts: str) -> None:
    assert cli_main.main(["--host", "0.0.0.0", "--allowed-hosts", hosts]) == 0
    assert served.settings.allowed_hosts == ["*" if hosts == "any" else hosts]


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])
def test_an_address_that_others_reach_needs_the_hosts_to_answer_to(
    capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert "--allowed-hosts" in failure(capsys, "--host", host, "--port", "0")


def test_a_busy_port_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        line = failure(capsys, "--port", str(port))
    assert line == f"cannot listen on 127.0.0.1 port {port}: it is already in use; --port takes another, 0 any free one"


def test_an_address_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    line = failure(capsys, "--host", "192.0.2.1", "--port", "0", "--allowed-hosts", "any")
    assert line == "cannot listen on 192.0.2.1 port 0: it is no address of this machine"


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "cannot listen on h port 80: permission denied"),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "cannot listen on h port 80: Name not known"),
        (OSError("AF_UNIX path too long"), "cannot listen on h port 80: AF_UNIX path too long"),
        (ValueError("not that host"), "not that host"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, exc: Exception, message: str
) -> None:
    def refuse(handler: Any, **options: Any) -> None:
        raise exc

    monkeypatch.setattr(serving, "run", refuse)
    assert failure(capsys, "--host", "h", "--port", "80") == message


def test_a_bug_of_ours_is_not_dressed_as_a_mistake_of_theirs(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.fails = OSError(errno.EADDRINUSE, "while serving")
    with pytest.raises(OSError, match="while serving"):
        cli_main.main([])

    def broken(handler: Any, **options: Any) -> None:
        raise LookupError("before")

    monkeypatch.setattr(serving, "run", broken)
    with pytest.raises(LookupError, match="before"):
        cli_main.main([])


def test_a_lifespan_that_fails_is_the_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
from contextlib import asynccontextmanager
from mcp_h11 import MCPServer
@asynccontextmanager
async def lifespan(server):
    raise ConnectionRefusedError(111, "no database")
    yield
server = MCPServer("lively", lifespan=lifespan)
"""
    path = write("lively.py", text).resolve()
    err = failure(capsys, "lively.py", "--port", "0")
    assert err.splitlines()[1] == f'  File "{path}", line 5, in lifespan'
    assert err.endswith("its lifespan failed: ConnectionRefusedError: [Errno 111] no database")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_a_unix_socket_is_passed_on(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.addresses = ["s.sock"]
    assert cli_main.main(["--uds", "s.sock"]) == 0
    assert served.options["uds"] == "s.sock"
    assert (
        capsys.readouterr().out == f"mcp_h11 {__version__} serves 'demo' on the socket s.sock (stop it with Ctrl+C)\n\n"
    )


def test_while_it_serves_what_was_loaded_is_left_out_of_collections(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def run(*args: Any, **options: Any) -> None:
        counts.append(gc.get_freeze_count())
        served.run(*args, **options)
        counts.append(gc.get_freeze_count())

    monkeypatch.setattr(serving, "run", run)
    assert cli_main.main(["--port", "0"]) == 0
    before, during = counts
    assert during > before + 1_000
    assert gc.get_freeze_count() == 0


def test_an_interpreter_whose_collector_leaves_nothing_out_serves_too(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(gc, "freeze")
    monkeypatch.delattr(gc, "unfreeze")
    assert cli_main.main(["--port", "0"]) == 0
    assert served.over == "http"


def test_an_inherited_descriptor_is_passed_on(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.addresses = [("127.0.0.1", 7777)]
    assert cli_main.main(["--fd", "7"]) == 0
    assert served.options["fd"] == 7 and "host" not in served.options
    assert "http://127.0.0.1:7777/mcp" in capsys.readouterr().out


def test_an_inherited_descriptor_has_to_be_a_stream_socket(capsys: pytest.CaptureFixture[str]) -> None:
    read_end, write_end = os.pipe()
    try:
        assert failure(capsys, "--fd", str(read_end)).startswith(f"cannot listen on descriptor {read_end}: ")
    finally:
        os.close(read_end)
        os.close(write_end)
    assert failure(capsys, "--fd", "1000") == "cannot listen on descriptor 1000: Bad file descriptor"


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, key


def test_a_certificate_makes_it_https(
    served: Served, capsys: pytest.CaptureFixture[str], certificate: tuple[Path, Path]
) -> None:
    chain, key = certificate
    assert cli_main.main(["--port", "0", "--certfile", str(chain), "--keyfile", str(key)]) == 0
    assert isinstance(served.settings.ssl, ssl.SSLContext)
    assert "https://127.0.0.1:8000/mcp" in capsys.readouterr().out


def test_a_certificate_that_is_none_and_a_key_that_is_missing(
    capsys: pytest.CaptureFixture[str], certificate: tuple[Path, Path]
) -> None:
    write("text.pem", "no certificate")
    assert failure(capsys, "--certfile", "text.pem").startswith("--certfile text.pem: no usable certificate and key")
    chain, _ = certificate
    assert failure(capsys, "--certfile", str(chain)).startswith(f"--certfile {chain}: no usable certificate and key")
    line = failure(capsys, "--certfile", str(chain), "--keyfile", "gone.pem")
    assert line == "--keyfile gone.pem: No such file or directory"


# --- what is printed -------------------------------------------------------------------------------------------------


def pasted(text: str) -> tuple[dict[str, Any], str]:
    """The configuration and the command of a banner."""
    start = text.index("{")
    configuration, length = json.JSONDecoder().raw_decode(text[start:])
    commands = [line for line in text[start + length :].splitlines() if line.startswith("claude mcp add ")]
    return configuration, commands[0]


def test_the_banner_has_what_to_paste(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.addresses = [("127.0.0.1", 54321)]
    cli_main.main(["--port", "0", "--path", "/here"])
    out, err = capsys.readouterr()
    url = "http://127.0.0.1:54321/here"
    assert out.splitlines()[0] == f"mcp_h11 {__version__} serves 'demo' at {url} (stop it with Ctrl+C)"
    assert pasted(out) == (
        {"mcpServers": {"demo": {"type": "http", "url": url}}},
        f"claude mcp add --transport http demo {url}",
    )
    assert "\nIn a browser: http://127.0.0.1:54321/\n" in out
    assert err == ""
    cli_main.main(["--port", "0", "--no-page"])
    assert "In a browser" not in capsys.readouterr().out


def test_the_token_is_never_printed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.main(["--port", "0", "--token", "s3cret"]) == 0
    out, err = capsys.readouterr()
    assert "s3cret" not in out + err
    configuration, command = pasted(out)
    assert configuration["mcpServers"]["demo"]["headers"] == {"Authorization": "Bearer ${MCP_H11_TOKEN}"}
    assert command.endswith('/mcp --header "Authorization: Bearer $MCP_H11_TOKEN"')
    assert served.settings.token == "s3cret"
    assert "s3cret" not in failure(capsys, "--token", "s3cret\n")
    assert "s3cret" not in failure(capsys, "--token", "s3cret", "--stdio")


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (["--host", "localhost"], "http://localhost:8000/mcp"),
        (["--host", "0.0.0.0", "--allowed-hosts", "any"], "http://127.0.0.1:8000/mcp"),
        (["--host", "*", "--allowed-hosts", "any"], "http://127.0.0.1:8000/mcp"),
        (["--host", "::", "--allowed-hosts", "any"], "http://[::1]:8000/mcp"),
        (["--host", "::1"], "http://[::1]:8000/mcp"),
        (["--host", "0.0.0.0", "--allowed-hosts", "any,tools.example"], "http://tools.example:8000/mcp"),
        (["--host", "0.0.0.0", "--allowed-hosts", "tools.example:*,b.example"], "http://b.example:8000/mcp"),
        (["--host", "0.0.0.0", "--allowed-hosts", "tools.example:8443"], "http://tools.example:8443/mcp"),
        (["--host", "::", "--allowed-hosts", "[2001:db8::1]"], "http://[2001:db8::1]:8000/mcp"),
        (["--host", "127.0.0.1", "--allowed-hosts", "tools.example"], "http://127.0.0.1:8000/mcp"),
    ],
)
def test_the_url_is_one_that_a_client_can_call(
    served: Served, capsys: pytest.CaptureFixture[str], arguments: list[str], url: str
) -> None:
    assert cli_main.main(arguments) == 0
    assert pasted(capsys.readouterr().out)[0]["mcpServers"]["demo"]["url"] == url


def test_a_servers_name_becomes_a_key_that_clients_take(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    write("tools.py", SERVER + "server = MCPServer('My \"tools\" \u2713 & more')\nodd = server")
    cli_main.main(["tools.py", "--port", "0"])
    configuration, command = pasted(capsys.readouterr().out)
    assert list(configuration["mcpServers"]) == ["My-tools-more"]
    assert " My-tools-more http://" in command
    write("odd.py", SERVER + "server = MCPServer('\u2713')")
    cli_main.main(["odd.py", "--port", "0"])
    assert list(pasted(capsys.readouterr().out)[0]["mcpServers"]) == ["mcp"]


class Terminal:
    """A stream of one encoding that may be a terminal, and may be gone."""

    def __init__(self, tty: bool = True, encoding: str = "ascii", gone: bool = False) -> None:
        self.text, self.tty, self.encoding, self.gone = "", tty, encoding, gone

    def write(self, text: str) -> int:
        if self.gone:
            raise BrokenPipeError
        self.text += text.encode(self.encoding).decode(self.encoding)
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize("stream", [Terminal(gone=True), None], ids=["gone", "none"])
def test_a_banner_that_nobody_can_read_hinders_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, stream: Any
) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli_main.main(["--port", "0"]) == 0
    assert served.over == "http"


def test_a_name_that_the_terminal_cannot_show_is_escaped(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    write("tools.py", SERVER + "server = MCPServer('\u2713')")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli_main.main(["tools.py", "--port", "0"]) == 0
    assert "'\\u2713'" in terminal.text


# --- stdio -----------------------------------------------------------------------------------------------------------


def test_stdio_leaves_stdout_to_the_protocol(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    write("chatty.py", "print('hello from the import')\ndef tool() -> str: ...")
    assert cli_main.main(["chatty.py", "--stdio"]) == 0
    out, err = capsys.readouterr()
    assert served.over == "stdio" and served.handler.name == "chatty"
    assert out == ""
    assert err == "hello from the import\n"  # and no banner: a client's log is no place for it


def test_stdio_shows_a_person_the_command_form(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("tools.py", "def tool() -> str: ...").resolve()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert cli_main.main(["tools.py:tool", "--stdio"]) == 2  # a function is no server
    terminal.text = ""
    assert cli_main.main(["tools.py", "--stdio", "--log-level", "error"]) == 0
    configuration, command = pasted(terminal.text)
    arguments = ["-m", "mcp_h11", str(path), "--stdio", "--log-level", "error"]
    assert configuration == {"mcpServers": {"tools": {"command": sys.executable, "args": arguments}}}
    assert command == f"claude mcp add --transport stdio tools -- {sys.executable} {' '.join(arguments)}"


def test_the_command_form_finds_what_was_found_beside_us(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    write("beside.py", SERVER + "thing = MCPServer('beside')")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE_ROOT))
    assert cli_main.main(["beside:thing", "--stdio"]) == 0
    configuration, command = pasted(terminal.text)
    roots = f"{PACKAGE_ROOT}{os.pathsep}{Path.cwd()}"
    entry = configuration["mcpServers"]["beside"]
    assert entry["args"] == ["-m", "mcp_h11", "beside:thing", "--stdio"]
    assert entry["env"] == {"PYTHONPATH": roots}
    assert command.startswith(f"claude mcp add --env PYTHONPATH={roots} --transport stdio beside -- ")


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_help_and_version_end_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mcp_h11 {__version__}\n"
    assert cli_main.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {PROG} [TARGET] [options]\n")
    assert "MCP_H11_TOKEN" in text


def test_arguments_come_from_the_process_where_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mcp-h11", "--version"])
    assert cli_main.main() == 0
    assert __version__ in capsys.readouterr().out


def test_ctrl_c_while_serving_is_a_clean_end(served: Served) -> None:
    served.fails = KeyboardInterrupt()
    assert cli_main.main(["--port", "0"]) == 0


def test_ctrl_c_before_it_serves_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handler: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "run", interrupted)
    assert cli_main.main([]) == 130


def test_ctrl_c_while_importing_is_130(served: Served) -> None:
    write("slow.py", "raise KeyboardInterrupt")
    assert cli_main.main(["slow.py"]) == 130
    assert served.over == ""


def test_the_log_goes_to_stderr_at_the_level_asked_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configured: dict[str, Any] = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: configured.update(options))
    cli_main.main(["--port", "0", "--log-level", "WARNING"])
    assert configured["level"] == "WARNING"
    assert "stream" not in configured and "filename" not in configured  # logging's own default is stderr


# --- a process of its own --------------------------------------------------------------------------------------------

LIMIT = 60  # seconds until a process that does not do what is waited for is killed
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
}
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Process:
    """`python -m mcp_h11 …` in a folder of its own; killed when its time is up, so that no read waits for ever."""

    def __init__(
        self,
        *arguments: str,
        module: str = "mcp_h11",
        limit: float = LIMIT,
        pass_fds: tuple[int, ...] = (),
        **env: str,
    ) -> None:
        environ = {"PYTHONPATH": str(PACKAGE_ROOT), "PYTHONWARNINGS": "error", **os.environ, **env}
        self.errors = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environ,
            pass_fds=pass_fds,
        )
        self.timer = threading.Timer(limit, self.child.kill)
        self.timer.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *args: Any) -> None:
        self.timer.cancel()
        self.child.kill()
        self.child.communicate()
        self.errors.close()

    @property
    def stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def line(self, beginning: str) -> str:
        """Read stdout up to the line that begins so."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            if line.startswith(beginning):
                return line.rstrip("\n")
        raise AssertionError(f"no line {beginning!r} in {LIMIT} s; stderr: {self.stderr}")

    def url(self) -> str:
        return self.line("claude mcp add --transport http ").split()[-1]

    def stop(self, signum: int) -> tuple[int, str]:
        """Send a signal; the exit code and the rest of stdout."""
        self.child.send_signal(signum)
        code = self.child.wait()  # with stdin still open: a terminal's is
        assert self.child.stdout is not None
        return code, self.child.stdout.read().strip()


def post(url: str, message: dict[str, Any], **headers: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(message).encode(), {**HEADERS, **headers})
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()


@pytest.mark.long
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_is_served_until_a_signal(signum: int) -> None:
    with Process("--port", "0") as process:
        url = process.url()
        status, answer = post(url, INITIALIZE)
        assert (status, answer["result"]["serverInfo"]["name"]) == (200, "demo")
        assert process.stop(signum) == (0, "")
        assert "Traceback" not in process.stderr


def test_functions_of_a_file_are_tools_over_http() -> None:
    write("tools.py", 'def twice(text: str) -> str:\n    "Say it twice."\n    return text + text\ndef _no(): ...\n')

    async def main(url: str) -> None:
        with anyio.fail_after(LIMIT):
            async with mcp.Client(url) as client:
                (tool,) = (await client.list_tools()).tools
                assert (tool.name, tool.description) == ("twice", "Say it twice.")
                result = await client.call_tool("twice", {"text": "ab"})
                assert result.content[0].text == "abab"

    with Process("tools.py", "--port", "0", "--log-level", "warning") as process:
        anyio.run(main, process.url())
        assert process.stop(signal.SIGTERM) == (0, "")
        assert without_stalls(process.stderr) == ""


def test_a_call_under_way_gets_its_answer_when_the_server_is_stopped() -> None:
    async def main(process: Process, url: str) -> None:
        async def on_progress(done: float, total: float | None, message: str | None) -> None:
            if done == 1:
                process.child.send_signal(signal.SIGTERM)

        with anyio.fail_after(LIMIT):
            async with mcp.Client(url, mode="2026-07-28") as client:
                await client.list_tools()  # or this client asks for it after the call, of a server that is gone
                arguments = {"to": 3, "pause": 0.1}
                result = await client.call_tool("count", arguments, progress_callback=on_progress)
                assert result.content[0].text == "counted to 3"

    with Process("--port", "0") as process:
        anyio.run(main, process, process.url())
        process.child.communicate()
        assert process.child.returncode == 0


def test_a_token_from_the_environment_is_asked_for_and_not_printed() -> None:
    with Process("--port", "0", "--access-log", "--log-level", "debug", MCP_H11_TOKEN="s3cret-token") as process:
        command = process.line("claude mcp add")
        url = command.split()[6]
        assert post(url, INITIALIZE)[0] == 401
        assert post(url, INITIALIZE, Authorization="Bearer s3cret-token")[0] == 200
        code, rest = process.stop(signal.SIGTERM)
        assert code == 0
        assert "s3cret-token" not in command + rest + process.stderr


@pytest.mark.long
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
def test_a_unix_socket_and_an_inherited_socket_are_served() -> None:
    body = json.dumps(INITIALIZE)
    lines = ["POST /mcp HTTP/1.1", "Host: localhost", *(f"{n}: {v}" for n, v in HEADERS.items())]
    request = "\r\n".join([*lines, "Connection: close", f"Content-Length: {len(body)}", "", body]).encode()

    def ask(connection: socket.socket) -> bytes:
        with connection, connection.makefile("rb") as answer:
            connection.settimeout(LIMIT)
            connection.sendall(request)
            return answer.read()

    with Process("--uds", "demo.sock") as process:
        process.line("mcp_h11 ")
        connection = socket.socket(socket.AF_UNIX)
        connection.connect("demo.sock")
        assert ask(connection).startswith(b"HTTP/1.1 200 ")
        assert process.stop(signal.SIGTERM)[0] == 0
        assert not Path("demo.sock").exists()
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        with Process("--fd", str(inherited.fileno()), pass_fds=(inherited.fileno(),)) as process:
            assert post(process.url(), INITIALIZE)[0] == 200
            assert process.stop(signal.SIGTERM)[0] == 0


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("busy.sock", "it is already in use"),
        ("none/x.sock", "No such file or directory"),
        ("file.txt", "it is already in use"),
        ("x" * 200, "AF_UNIX path too long"),
    ],
)
@pytest.mark.long
def test_a_unix_socket_that_cannot_be_had(path: str, reason: str) -> None:
    write("file.txt", "precious")
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind("busy.sock")
        busy.listen()
        with Process("--uds", path) as process:
            out, _ = process.child.communicate()
            assert (process.child.returncode, out) == (2, "")
            assert process.stderr == f"{PROG}: error: cannot listen on {path}: {reason}\n"
    assert Path("file.txt").read_text() == "precious"


def test_a_busy_port_ends_a_process_with_2_and_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with Process("--port", str(port)) as process:
            out, _ = process.child.communicate()
            assert (process.child.returncode, out) == (2, "")
            assert process.stderr.startswith(f"{PROG}: error: cannot listen on 127.0.0.1 port {port}: ")
            assert process.stderr.count("\n") == 1


def test_https_with_a_certificate(certificate: tuple[Path, Path]) -> None:
    chain, key = certificate
    context = ssl.create_default_context(cafile=str(chain.with_name("ca.pem")))
    with Process("--host", "localhost", "--port", "0", "--certfile", str(chain), "--keyfile", str(key)) as process:
        url = process.url().replace("127.0.0.1", "localhost")
        assert url.startswith("https://localhost:")
        request = urllib.request.Request(url, json.dumps(INITIALIZE).encode(), HEADERS)
        with urllib.request.urlopen(request, timeout=LIMIT, context=context) as answer:
            assert answer.status == 200
        assert process.stop(signal.SIGTERM)[0] == 0


def test_the_command_form_that_is_printed_works_from_another_folder(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("noisy.py", "print('import')\ndef shout(text: str) -> str:\n    print('call')\n    return text.upper()\n")
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setenv("PYTHONPATH", str(PACKAGE_ROOT))
        assert cli_main.main(["noisy", "--stdio"]) == 0
    (entry,) = pasted(terminal.text)[0]["mcpServers"].values()

    async def main() -> None:
        parameters = StdioServerParameters(**entry, cwd=PACKAGE_ROOT.anchor)
        with anyio.fail_after(LIMIT):
            async with mcp.Client(parameters) as client:
                result = await client.call_tool("shout", {"text": "loud"})
                assert result.content[0].text == "LOUD"

    anyio.run(main)


def test_stdout_carries_protocol_alone_and_the_end_of_stdin_is_the_end() -> None:
    write("noisy.py", "print('import')\ndef shout(text: str) -> str:\n    print('call')\n    return text.upper()\n")
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "shout", "arguments": {"text": "a"}}}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    with Process("noisy.py", "--stdio") as process:
        text = "".join(json.dumps(message) + "\n" for message in (INITIALIZE, ready, call))
        out, _ = process.child.communicate(text)
        assert [json.loads(line)["id"] for line in out.splitlines()] == [1, 2]
        assert process.child.returncode == 0
        assert "import" in process.stderr


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stdio_ends_cleanly_on_a_signal(signum: int) -> None:
    with Process("--stdio") as process:
        assert process.child.stdin is not None
        process.child.stdin.write(json.dumps(INITIALIZE) + "\n")
        process.child.stdin.flush()
        process.line('{"jsonrpc"')
        assert process.stop(signum) == (0, "")
        assert "Traceback" not in process.stderr


@pytest.mark.long
def test_it_runs_under_another_name_inside_another_package() -> None:
    package = Path(mcp_h11.__file__).parent
    vendored = Path("host/_vendor/renamed_mcp")
    shutil.copytree(package, vendored, ignore=shutil.ignore_patterns("__pycache__"))
    write("host/__init__.py")
    write("host/_vendor/__init__.py")
    name = "host._vendor.renamed_mcp"
    write("tools.py", f"from {name} import MCPServer\nserver = MCPServer('inside')")
    environ = {"PYTHONPATH": str(Path.cwd())}
    with Process("tools.py", "--port", "0", module=name, **environ) as process:
        assert process.line(f"{name} {__version__} serves 'inside' at http://127.0.0.1:")
        assert post(process.url(), INITIALIZE)[0] == 200
        assert process.stop(signal.SIGTERM)[0] == 0
    with Process("--port", "x", module=name, **environ) as process:
        process.child.communicate()
        assert process.stderr.startswith(f"python -m {name}: error: argument --port: ")

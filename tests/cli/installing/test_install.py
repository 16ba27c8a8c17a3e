# SPDX-License-Identifier: MIT
"""`install`: the file of each client on each system, the form of an entry there, and what a user is asked and told."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from mcp_h11.cli.installing import install
from mcp_h11.cli.installing.clients import CLIENTS
from mcp_h11.cli.main import main

READABLE = [client for client in CLIENTS if client != "codex" or sys.version_info >= (3, 11)]
ERROR = "python -m mcp_h11: error: "
SERVED = ["-m", "mcp_h11"]

PLACES = {
    ("claude", "linux"): ".claude.json",
    ("claude", "darwin"): ".claude.json",
    ("claude", "win32"): ".claude.json",
    ("claude-desktop", "linux"): ".config/Claude/claude_desktop_config.json",
    ("claude-desktop", "darwin"): "Library/Application Support/Claude/claude_desktop_config.json",
    ("claude-desktop", "win32"): "Roaming/Claude/claude_desktop_config.json",
    ("cursor", "linux"): ".cursor/mcp.json",
    ("cursor", "darwin"): ".cursor/mcp.json",
    ("cursor", "win32"): ".cursor/mcp.json",
    ("vscode", "linux"): ".config/Code/User/mcp.json",
    ("vscode", "darwin"): "Library/Application Support/Code/User/mcp.json",
    ("vscode", "win32"): "Roaming/Code/User/mcp.json",
    ("codex", "linux"): ".codex/config.toml",
    ("codex", "darwin"): ".codex/config.toml",
    ("codex", "win32"): ".codex/config.toml",
    ("gemini", "linux"): ".gemini/settings.json",
    ("gemini", "darwin"): ".gemini/settings.json",
    ("gemini", "win32"): ".gemini/settings.json",
}
PROJECTS = {
    "claude": ".mcp.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".vscode/mcp.json",
    "codex": ".codex/config.toml",
    "gemini": ".gemini/settings.json",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of its own, and a project with a file of functions as the current folder."""
    for name in [name for name in os.environ if name.startswith(("MCP_H11_", "XDG_", "PYTHONPATH"))]:
        monkeypatch.delenv(name)
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME"):
        monkeypatch.delenv(name, raising=False)
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    (project / "tools.py").write_text("print('loaded')\ndef add(a: int, b: int) -> int:\n    return a + b\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("APPDATA", str(home / "Roaming"))
    monkeypatch.chdir(project)
    monkeypatch.setattr(install, "SYSTEM", "linux")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return home


def command(*more: str) -> list[str]:
    return [*SERVED, str(Path("tools.py").resolve()), "--stdio", *more]


def written(path: Path) -> str:
    return path.read_bytes().decode()


@pytest.mark.parametrize(("client", "system"), PLACES)
def test_the_file_of_each_client_on_each_system(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], client: str, system: str
) -> None:
    monkeypatch.setattr(install, "SYSTEM", system)
    assert main(["install", client, "tools.py", "--yes"]) == 0
    path = home / PLACES[client, system]
    files = [one for one in home.rglob("*") if one.is_file()]
    assert files == [path]
    out = capsys.readouterr().out
    assert str(path) in out and "+++ " in out and CLIENTS[client].after in out
    if client == "codex":
        lines = ["[mcp_servers.tools]", f"command = {json.dumps(sys.executable)}", f"args = {json.dumps(command())}"]
        assert written(path) == "\n".join([*lines, ""])
        return
    kind = {} if client in ("claude-desktop", "gemini") else {"type": "stdio"}
    entry = {**kind, "command": sys.executable, "args": command()}
    servers = "servers" if client == "vscode" else "mcpServers"
    assert written(path) == json.dumps({servers: {"tools": entry}}, indent=2) + "\n"


@pytest.mark.parametrize("client", CLIENTS)
def test_the_file_of_a_project(home: Path, capsys: pytest.CaptureFixture[str], client: str) -> None:
    code = main(["install", client, "tools.py", "--yes", "--project"])
    if client not in PROJECTS:
        assert code == 2 and capsys.readouterr().err == f"{ERROR}Claude Desktop has no file for a project\n"
        return
    assert code == 0 and "tools" in written(Path(PROJECTS[client])) and [*home.iterdir()] == []


@pytest.mark.parametrize(
    ("variable", "client", "name"),
    [
        ("CLAUDE_CONFIG_DIR", "claude", ".claude.json"),
        ("CODEX_HOME", "codex", "config.toml"),
        ("GEMINI_CLI_HOME", "gemini", ".gemini/settings.json"),
        ("XDG_CONFIG_HOME", "vscode", "Code/User/mcp.json"),
    ],
)
def test_a_variable_that_moves_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, client: str, name: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "moved"))
    assert main(["install", client, "tools.py", "--yes"]) == 0
    assert (tmp_path / "moved" / name).is_file()


URL = "https://tools.example.com/mcp"
ASKED = {"type": "promptString", "id": "KEY", "description": "KEY for x", "password": True}
FORMS = {
    "claude": ({"type": "http", "url": URL}, {"headers": {"Authorization": "Bearer ${KEY}"}}),
    "cursor": ({"url": URL}, {"headers": {"Authorization": "Bearer ${env:KEY}"}}),
    "vscode": ({"type": "http", "url": URL}, {"headers": {"Authorization": "Bearer ${input:KEY}"}}),
    "gemini": ({"httpUrl": URL}, {"headers": {"Authorization": "Bearer ${KEY}"}}),
}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["install", *arguments, "--print"]) == 0
    return capsys.readouterr().out


def test_options_may_stand_before_the_target(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "cursor", URL)
    assert main(["install", "cursor", "--print", URL]) == 0 and capsys.readouterr().out == lines
    assert main(["install", "cursor", URL, "--name", "x", "--yes"]) == 0
    assert main(["install", "cursor", "--yes", "--remove", "x"]) == 0
    assert json.loads((home / ".cursor" / "mcp.json").read_text("utf-8")) == {"mcpServers": {}}


def test_a_person_is_told_which_file_the_lines_are_for(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(capsys, "cursor", URL)
    assert main(["install", "cursor", URL, "--print"]) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["install", "cursor", URL, "--print"]) == 0
    assert capsys.readouterr().err == f"To paste into {home / '.cursor' / 'mcp.json'}:\n\n"


@pytest.mark.parametrize("client", FORMS)
def test_a_url_and_its_token_in_the_form_of_each_client(capsys: pytest.CaptureFixture[str], client: str) -> None:
    plain, token = FORMS[client]
    servers = "servers" if client == "vscode" else "mcpServers"
    value = json.loads(printed(capsys, client, URL, "--name", "x"))
    assert value == {servers: {"x": plain}}
    value = json.loads(printed(capsys, client, "--http", URL, "--name", "x", "--token-env", "KEY"))
    assert value == {servers: {"x": {**plain, **token}}, **({"inputs": [ASKED]} if client == "vscode" else {})}
    value = json.loads(printed(capsys, client, URL, "--name", "x", "--token", "s3cret"))
    assert value[servers]["x"]["headers"] == {"Authorization": "Bearer s3cret"}


def test_a_url_for_codex(capsys: pytest.CaptureFixture[str]) -> None:
    head = f'[mcp_servers.x]\nurl = "{URL}"\n'
    assert printed(capsys, "codex", URL, "--name", "x") == head
    assert printed(capsys, "codex", URL, "--name", "x", "--token-env", "KEY") == head + 'bearer_token_env_var = "KEY"\n'
    header = '\n[mcp_servers.x.http_headers]\nAuthorization = "Bearer s3cret"\n'
    assert printed(capsys, "codex", URL, "--name", "x", "--token", "s3cret") == head + header


def test_claude_desktop_gets_a_bridge_to_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"command": sys.executable, "args": [*SERVED, "proxy", "--url", URL, "--stdio"]}
    assert json.loads(printed(capsys, "claude-desktop", URL))["mcpServers"] == {"tools-example-com": entry}
    value = json.loads(printed(capsys, "claude-desktop", URL, "--token", "s3cret"))
    assert value["mcpServers"]["tools-example-com"]["env"] == {"MCP_H11_BEARER": "s3cret"}
    assert main(["install", "claude-desktop", URL, "--token-env", "KEY"]) == 2
    assert "Claude Desktop has no reference to a variable" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("client", "reference"),
    [("claude", "${KEY}"), ("cursor", "${env:KEY}"), ("vscode", "${input:KEY}"), ("gemini", "${KEY}")],
)
def test_variables_with_and_without_a_value(capsys: pytest.CaptureFixture[str], client: str, reference: str) -> None:
    value = json.loads(printed(capsys, client, "tools.py", "--env", "A=b=c", "--env", "KEY", "--name", "x"))
    servers = value.pop("servers" if client == "vscode" else "mcpServers")
    assert servers["x"]["env"] == {"A": "b=c", "KEY": reference}
    assert value == ({"inputs": [ASKED]} if client == "vscode" else {})


def test_variables_for_codex_and_options_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    main(["install", "codex", "tools.py", "--print", "--env", "A=1", "--env", "KEY", "--", "--log-level", "debug"])
    assert capsys.readouterr().out == (
        f"[mcp_servers.tools]\ncommand = {json.dumps(sys.executable)}\n"
        f'args = {json.dumps(command("--log-level", "debug"))}\nenv_vars = ["KEY"]\n\n'
        '[mcp_servers.tools.env]\nA = "1"\n'
    )


def test_a_module_needs_the_folder_that_it_was_found_in(capsys: pytest.CaptureFixture[str]) -> None:
    Path("unheard_of.py").write_text("def f() -> int:\n    return 1\n")
    entry = json.loads(printed(capsys, "claude", "unheard_of"))["mcpServers"]["unheard_of"]
    assert entry["args"] == [*SERVED, "unheard_of", "--stdio"]
    assert str(Path.cwd()) in entry["env"]["PYTHONPATH"].split(os.pathsep)
    sys.modules.pop("unheard_of", None)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
def test_the_question_of_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, code: int
) -> None:
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["install", "cursor", "tools.py"]) == code
    assert (home / ".cursor" / "mcp.json").exists() == (code == 0)
    assert ("Nothing was written" in capsys.readouterr().out) == (code == 1)


def test_without_a_terminal_nothing_is_written_unasked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "cursor", "tools.py"]) == 2
    out, err = capsys.readouterr()
    assert '+    "tools": {' in out and "--yes was not given" in err and [*home.iterdir()] == []


def test_a_second_time_changes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for client in READABLE:
        assert main(["install", client, "tools.py", "--yes"]) == 0
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    capsys.readouterr()
    for client in READABLE:
        assert main(["install", client, "tools.py"]) == 0
    assert capsys.readouterr().out.count("nothing had to be changed") == len(READABLE)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


BROKEN = {
    "claude": ('{"mcpServers": {\n  "a": {}\n  "b": {}\n}}', "line 3 column 3"),
    "codex": ("[mcp_servers.a\n", "line 1"),
    "cursor": ('{"mcpServers": []}', "its member 'mcpServers' is no object"),
    "gemini": ("[1]", "it is no JSON object"),
    "vscode": ('{"servers": {"a": {}, "a": {}}}', "'a' is there twice"),
    "claude-desktop": ("\udcff", "it is not UTF-8"),
}


@pytest.mark.parametrize("client", BROKEN)
def test_a_file_that_cannot_be_read_is_left_and_the_lines_to_paste_are_shown(
    home: Path, capsys: pytest.CaptureFixture[str], client: str
) -> None:
    text, reason = BROKEN[client]
    path = home / PLACES[client, "linux"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    for more in ([], ["--remove"]):
        assert main(["install", client, "tools.py", "--yes", *more]) == 2
        out, err = capsys.readouterr()
        said = err.removeprefix("loaded\n")  # by the user's module
        assert said.startswith(f"{ERROR}{path} was left as it is: ") and said.count("\n") == 1
        assert reason in said or client not in READABLE
        assert ("--stdio" in out) == (not more)
        assert path.read_bytes() == text.encode(errors="surrogateescape")
        assert [one for one in path.parent.iterdir() if one.is_file()] == [path]


def test_a_server_is_removed_by_its_name_and_by_its_target(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".config" / "Code" / "User" / "mcp.json"
    for target in (["tools"], ["tools.py"], ["--name", "tools"]):
        main(["install", "vscode", URL, "--yes", "--token-env", "KEY"])
        before = path.read_bytes()
        assert main(["install", "vscode", "tools.py", "--yes", "--env", "OTHER"]) == 0
        assert main(["install", "vscode", *target, "--remove", "--yes"]) == 0
        assert path.read_bytes() == before
        assert "'tools' is no longer in" in capsys.readouterr().out
    assert main(["install", "vscode", URL, "--remove", "--yes"]) == 0
    assert json.loads(path.read_text()) == {"servers": {}, "inputs": []}
    assert main(["install", "vscode", "tools", "--remove", "--name", "gone"]) == 2
    assert "has no server 'gone' (it has none)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: CLIENT"),
        (["emacs"], "has to be one of claude, claude-desktop, cursor, vscode, codex, gemini, not 'emacs'\n"),
        (["gemin"], "not 'gemin'; did you mean gemini?"),
        (["claude", "absent.py"], "cannot read absent.py"),
        (["claude", "tools.py", "--http", URL], "TARGET and --http cannot be used together"),
        (["claude", URL, "--token", "a", "--token-env", "B"], "--token and --token-env cannot be used together"),
        (["claude", "tools.py", "--token", "a"], "--token is for a URL"),
        (["claude", URL, "--env", "A=1"], "--env is for a server that the client starts"),
        (["claude", URL, "--", "--log-level"], "what follows -- is for a server that the client starts"),
        (["claude", "tools.py", "--name", "a b"], "has up to 64 letters"),
        (["claude", "tools.py", "--env", "1=2"], "has to be NAME=VALUE or NAME"),
        (["claude", "--http", "ftp://x"], "has to be a URL"),
        (["claude", "tools.py", "--file", "x", "--project"], "--file and --project cannot be used together"),
        (["claude", "--remove"], "say which server"),
    ],
)
def test_mistakes(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str) -> None:
    assert main(["install", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and reason in err and [*home.iterdir()] == []


def test_a_token_in_the_place_of_a_name_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "claude", URL, "--token-env", "s3cr-et"]) == 2
    assert "s3cr" not in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the permissions of POSIX, which root ignores")
def test_a_folder_that_cannot_be_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.chmod(0o500)
    try:
        assert main(["install", "claude", "tools.py", "--yes"]) == 2
    finally:
        home.chmod(0o700)
    assert f"cannot write {home / '.claude.json'}: Permission denied" in capsys.readouterr().err


@pytest.mark.long
def test_a_long_file_is_changed_soon_and_the_difference_has_its_line_numbers(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / ".claude.json"
    more = {f"key {number}": [{"a": number}] * 10 for number in range(5_000)}
    path.write_text(json.dumps({**more, "mcpServers": {"a": {}}, **{f"z{key}": 1 for key in more}}, indent=2))
    lines = path.read_text().splitlines()
    assert path.stat().st_size > 1_500_000
    assert main(["install", "claude", URL, "--name", "x", "--yes"]) == 0
    at = lines.index('    "a": {}')
    assert f"@@ -{at - 2},7 +{at - 2},11 @@" in capsys.readouterr().out
    after = path.read_text().splitlines()
    assert (after[:at], after[at + 5 :]) == (lines[:at], lines[at + 1 :])


def test_any_other_file_in_the_form_of_a_client(tmp_path: Path) -> None:
    path = tmp_path / "insiders.json"
    assert main(["install", "vscode", "tools.py", "--file", str(path), "--yes"]) == 0
    assert "tools" in json.loads(path.read_text())["servers"]

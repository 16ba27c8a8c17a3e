# SPDX-License-Identifier: MIT
"""Completion, as the shells themselves do it: the words of a line are given to a real bash and a real fish.

bash is on every machine that tests this; zsh and fish are asked where they are.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from provision import everything_required

from mcp_h11.cli import commands, completion
from mcp_h11.cli.main import main
from mcp_h11.cli.parser import UsageError

LIMIT = 60  # seconds
bash, zsh, fish = (
    # Where nothing may be missing, as in .ci/run, a test without its shell fails.
    pytest.mark.skipif(shutil.which(shell) is None and not everything_required(), reason=f"there is no {shell} here")
    for shell in completion.SHELLS
)

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="shells of POSIX"), pytest.mark.long]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("tools.py", "odd name.py", "servers.json", "key.pem"):
        (tmp_path / name).touch()
    (tmp_path / "pkg").mkdir()
    return tmp_path


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file with the script that the command prints."""
    assert main(["--completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    path = folder / f"script.{shell}"
    path.write_text(out)
    return path


# The line up to the cursor, and all that is offered for its last word; an ellipsis stands for more.
LINES: dict[str, set[str]] = {
    "li": {"list"},
    "pr": {"prompt", "proxy"},
    "to": {"tools.py"},
    "--por": {"--port"},
    "--no-st": {"--no-stdio", "--no-stateless"},
    "--response ": {"auto", "json", "sse"},
    "--response=j": {"json"},
    "--log-level wa": {"warning"},
    "--certfile k": {"key.pem"},
    "--completion ": {"bash", "zsh", "fish"},
    "--port ": set(),
    "--port 90": set(),
    "--port 9000 t": {"tools.py"},
    "--port=9000 t": {"tools.py"},
    "--stdio t": {"tools.py"},
    "tools.py --acc": {"--access-log", "--access-log-format"},
    "tools.py t": set(),
    "tools.py list": set(),
    "odd": {"odd name.py"},
    "pk": {"pkg"},
    "--set max_run": {"max_running=", "max_running_session="},
    "--set limits.max_b": {"limits.max_body="},
    "call t": {"tools.py"},
    "call --js": {"--json"},
    "call --por": set(),
    "call tools.py add ": set(),
    "call http://127.0.0.1:8000/mcp --revision 2026": {"2026-07-28"},
    "list --timeout 5 t": {"tools.py"},
    "proxy --precedence ": {"allow", "deny"},
    "proxy --config s": {"servers.json", "script.bash"},
    "proxy --cwd ": {"pkg"},
    "proxy -- bas": {...},  # type: ignore[arg-type]
    "proxy -- python o": {"odd name.py"},
}


def readline_words(line: str) -> list[str]:
    """The words of a line as readline cuts them: at blanks, and around each ":" and "="."""
    words: list[str] = []
    for word in line.split(" "):
        words += [part for part in re.split("(=|:)", word) if part] or [""]
    return words


@bash
def test_bash_offers_what_the_parsers_know(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("bash", folder, capsys)
    rows = []
    for line in LINES:
        words = ["mcp-h11", *readline_words(line)]
        quoted = " ".join(f"'{word}'" for word in words)
        rows.append(
            f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _mcp_h11; printf '%s\\n' \"${{COMPREPLY[@]}}\" END"
        )
    program = f"source {path}\n" + "\n".join(rows)
    done = subprocess.run(["bash", "-u", "-c", program], capture_output=True, text=True, timeout=LIMIT, check=True)
    assert done.stderr == ""
    answers = done.stdout.split("END\n")[:-1]
    found = {line: set(filter(None, answer.split("\n"))) for line, answer in zip(LINES, answers, strict=True)}
    assert "bash" in found.pop("proxy -- bas")
    assert found == {line: words for line, words in LINES.items() if line in found}


def at_a_prompt(command: list[str], typed: str, wanted: str, folder: Path) -> str:
    """What a shell at a terminal shows until `wanted` is there."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "PS1": "> "}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=env, start_new_session=True
    )
    os.close(theirs)
    shown, deadline = "", time.monotonic() + LIMIT
    try:
        os.write(ours, typed.encode())
        while wanted not in shown and time.monotonic() < deadline:
            if select.select([ours], [], [], 0.5)[0]:
                with contextlib.suppress(OSError):
                    shown += os.read(ours, 65536).decode("utf-8", "replace")
        return shown
    finally:
        process.kill()
        process.wait(LIMIT)
        os.close(ours)


@bash
def test_a_key_completes_at_a_prompt(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("bash", folder, capsys)
    typed = f"mcp-h11() {{ echo said: $*; }}\nsource {path.name}\nmcp-h11 prox\t--respo\tj\t\n"
    assert "said: proxy --response json" in at_a_prompt(
        ["bash", "--norc", "--noprofile", "-i"], typed, "said: proxy --response json", folder
    )


@bash
def test_every_option_of_every_command_is_offered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = script("bash", folder, capsys).read_text()
    for word in ["", *commands.COMMANDS]:
        for name in commands.parser_of(word)._option_string_actions:
            assert re.search(rf'"{word}"\) _mcp_h11_words "[^"]*{re.escape(name)}[ "]', text), (word, name)


@zsh
def test_zsh_takes_the_script(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("zsh", folder, capsys)
    program = f"autoload -Uz compinit; compinit -D -u; source {path}; print $_comps[mcp-h11]"
    done = subprocess.run(
        ["zsh", "-f", "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "_mcp_h11\n", "")


@zsh
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mcp-h11 prox\t--respo\tj\t", "said: proxy --response=json"),
        ("mcp-h11 --certf\tk\t", "said: --certfile=key.pem"),
        ("mcp-h11 call too\t", "said: call tools.py"),
        ("mcp-h11 --set max_client\t", "said: --set max_client_memory="),
    ],
)
def test_a_key_completes_at_a_prompt_of_zsh(
    line: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script("zsh", folder, capsys)
    typed = f"autoload -Uz compinit; compinit -D -u; source {path.name}; mcp-h11() {{ echo said: $*; }}\n{line}\n"
    assert said in at_a_prompt(["zsh", "-f", "-i"], typed, said, folder)


@fish
def test_fish_offers_what_the_parsers_know(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script("fish", folder, capsys)
    lines = {
        "li": {"list"},
        "pr": {"prompt", "proxy"},
        "--response ": {"auto", "json", "sse"},
        "--log-level wa": {"warning"},
        "--certfile k": {"key.pem"},
        "--port ": set(),
        "call --js": {"--json"},
        "call --por": set(),
        "call t": {"tools.py"},
        "proxy --precedence ": {"allow", "deny"},
        "--set limits.max_b": {"limits.max_body="},
    }
    program = f"source {path}\n" + "\n".join(f"complete -C 'mcp-h11 {line}'; echo END" for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], capture_output=True, text=True, timeout=LIMIT, check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )  # fmt: skip
    assert done.stderr == ""
    answers = done.stdout.split("END\n")[:-1]
    found = [{row.split("\t")[0] for row in answer.splitlines()} for answer in answers]
    assert dict(zip(lines, found, strict=True)) == lines


def test_a_script_holds_no_character_that_a_shell_would_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shape in map(completion.shape_of, ["", *commands.COMMANDS]):
        for flag in shape.flags:
            assert not set("'\"`\\$[]:") & set(flag.help)
            for words in (flag.names, flag.values.words if flag.values else ()):
                assert all(re.fullmatch(r"[A-Za-z0-9._=-]+", word) for word in words)


def test_completion_is_for_the_installed_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "PACKAGE", "host._vendor.mcp")
    with pytest.raises(
        UsageError, match="^completion is for the command mcp-h11, which a vendored copy does not have$"
    ):
        completion.completion_script("bash")


def test_a_shell_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "tcsh"]) == 2
    err = capsys.readouterr().err
    assert "tcsh" in err and "bash" in err and err.count("\n") == 1

# SPDX-License-Identifier: MIT
"""`--skills` and `--card` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mcp_h11.cli import serving
from mcp_h11.cli.parser import UsageError
from mcp_h11.cli.proxy import main_of as proxy_main
from mcp_h11.extensions.skills import SKILLS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "skills" / "pdf").mkdir(parents=True)
    (tmp_path / "skills" / "pdf" / "SKILL.md").write_text("---\nname: pdf\ndescription: x\n---\n")
    return tmp_path / "skills"


def options(*words: str) -> Any:
    return serving.read_options(serving.parser_of().parse_args(list(words)), {})


def tools(folder: Path, text: str) -> str:
    file = folder.parent / "tools_with_skills.py"
    file.write_text(text)
    return str(file)


def test_a_target_gets_the_skills_of_a_folder(folder: Path) -> None:
    target = tools(folder, "def add(a: int, b: int) -> int:\n    return a + b\n")
    handler = serving.load_handler(options(target, "--skills", str(folder)))
    assert [one.identifier for one in handler.extensions()] == [SKILLS]


def test_a_folder_is_served_without_a_target(folder: Path) -> None:
    handler = serving.load_handler(options("--skills", str(folder), "--stdio"))
    assert (handler.name, len(handler.extensions())) == ("skills", 1)


def test_without_the_option_nothing_is_added(folder: Path) -> None:
    target = tools(folder, "def add(a: int, b: int) -> int:\n    return a + b\n")
    assert serving.load_handler(options(target)).extensions() == ()


def test_mistakes_are_one_line(folder: Path) -> None:
    with pytest.raises(UsageError, match="--skills /no/such: /no/such is no folder"):
        serving.load_handler(options("--skills", "/no/such"))
    target = tools(folder, "from mcp_h11 import ServerHandler\nclass H(ServerHandler):\n    pass\nserver = H()\n")
    with pytest.raises(UsageError, match="only an MCPServer takes skills, and the target is a H"):
        serving.load_handler(options(target, "--skills", str(folder)))


def test_a_server_that_has_skills_already_says_so(folder: Path) -> None:
    text = (
        "from mcp_h11 import MCPServer\nfrom mcp_h11.extensions.skills import Skills\n"
        f"server = MCPServer('s', extensions=[Skills({str(folder)!r})])\n"
    )
    with pytest.raises(UsageError, match="two extensions have the identifier"):
        serving.load_handler(options(tools(folder, text), "--skills", str(folder)))


def test_the_card_is_a_setting() -> None:
    assert serving.make_settings(options("--card", "com.example/x")).card == "com.example/x"
    assert serving.make_settings(options()).card is None
    with pytest.raises(UsageError, match="card is a name"):
        serving.make_settings(options("--card", "x"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--skills", "x", "--url", "http://127.0.0.1:1/mcp"], "--skills is for tools, and not for the proxy"),
        (["--card", "a/b", "--config", "x.json"], "--card and --config cannot be used together"),
    ],
)
def test_a_proxy_has_no_skills_of_its_own(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        proxy_main("proxy", words)

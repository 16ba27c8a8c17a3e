# SPDX-License-Identifier: MIT
"""The README and the pages of docs/ are held true.

Tables are generated, Python runs, options and variables exist, links lead somewhere.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import PAGES, ROOT, blocks, missing_names, name_of, program_with, programs, run_program
from rawclient import Legacy, Modern

import mcp_h11
from mcp_h11 import Client, MCPServer, ServerHandler, listening
from mcp_h11.cli import commands as command_line
from mcp_h11.protocol.methods import SERVER_METHODS

PACKAGE = Path(mcp_h11.__file__).parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
GENERATED = ("settings.md", "revisions.md")  # tests/schema/test_lax.py has arguments.md

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables_of_pages", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tables_of_pages"] = module  # where pydantic and dataclasses look for names
    spec.loader.exec_module(module)
    return module


# --- every page --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", GENERATED)
def test_the_tables_are_what_the_code_says(generate: ModuleType, page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert generate.generated(page, text) == text, "run: python docs/generate.py"


def test_a_fact_that_changes_changes_the_table(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DOCS / "revisions.md").read_text("utf-8")
    monkeypatch.setattr(generate, "REVISIONS", {"2024-11-05": mcp_h11.REVISIONS["2026-07-28"]})
    assert generate.generated("revisions.md", text) != text


def test_a_program_without_an_import_is_found_out() -> None:
    assert missing_names("def f(a: int) -> int:\n    return a + b\n") == {"b"}
    assert missing_names("import os.path as p, sys\nfor x in p.sep:\n    print(x, sys)\n") == set()


@each_page
def test_every_program_of_a_page_runs(page: Path) -> None:
    for number, source in enumerate(programs(page)):
        assert missing_names(source) == set()
        run_program(source, f"program_{number}")


def test_there_are_programs() -> None:
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 20


# A command of a page, in a block or in the text, up to the command that a bridge starts.
COMMAND = re.compile(r"python -m mcp_h11(?![\w.])((?:(?! -- )[^`\n#|])*)")


def commands(page: Path) -> list[list[str]]:
    """The words after `python -m mcp_h11` of each command of a page."""
    text = page.read_text("utf-8").replace("\\|", "/")  # a choice in a table
    return [shlex.split(words.replace("'", "").replace('"', "")) for words in COMMAND.findall(text)]


@pytest.fixture(scope="module")
def options_of() -> Any:
    """The options of a command."""
    known: dict[str, set[str]] = {}

    def options_of(word: str) -> set[str]:
        if word not in known:
            known[word] = set(command_line.parser_of(word)._option_string_actions)
        return known[word]

    return options_of


def words_of_commands() -> set[str]:
    return set(command_line.COMMANDS)


@each_page
def test_every_option_of_a_command_is_an_option(page: Path, options_of: Any) -> None:
    for words in commands(page):
        command = words[0] if words and words[0] in words_of_commands() else ""
        named = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert named <= options_of(command), words


def test_every_option_of_the_command_line_is_in_its_page(options_of: Any) -> None:
    text = (DOCS / "commands.md").read_text("utf-8")
    section = text.split("## Serving\n")[1].split("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    assert named and named <= options_of("")
    switched_off = {option for option in options_of("") if option.startswith("--no-")}
    assert options_of("") - switched_off - {"-h"} <= set(re.findall(r"--[a-z][a-z-]+", text))


@each_page
def test_every_variable_that_a_page_names_is_read(page: Path, options_of: Any) -> None:
    options = set().union(*map(options_of, ["", *words_of_commands()]))
    known = {"MCP_H11_" + option[2:].replace("-", "_").upper() for option in options}
    sources = "".join(path.read_text("utf-8") for folder in (PACKAGE, ROOT / "tests") for path in folder.rglob("*.py"))
    named = set(re.findall(r"MCP_H11_[A-Z_]*[A-Z]", page.read_text("utf-8")))
    assert {name for name in named - known if name.removeprefix("MCP_H11_") not in sources} == set()


def test_the_reference_has_each_public_name_once() -> None:
    named = re.findall(r"^::: mcp_h11\.(\w+)$", (DOCS / "api.md").read_text("utf-8"), re.M)
    assert named == list(mcp_h11.__all__)


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, by the rule of forges and of Markdown's own table of contents."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
        found.add(re.sub(r"\s", "-", plain))
    return found


LINKING = [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "bench").glob("*.md"))]


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


# --- single programs ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_authorization_example_lets_the_right_ones_in() -> None:
    names = program_with(DOCS / "security.md", "verify_token")
    claims = {"aud": "HTTPS://files.example:443/mcp/", "sub": "ann", "scope": "files:read", "client_id": "app"}
    claims |= {"iss": "https://login.example", "exp": 9e9}
    tokens = {
        "reader": claims,
        "writer": {**claims, "scope": "files:read files:write"},
        "elsewhere": {**claims, "aud": "https://other.example/mcp"},
        "old": {**claims, "exp": 1},
    }
    options = {"verifier": names["Verifier"](tokens.get), "required_scopes": ["files:read"]}
    async with listening(names["server"], port=0, **options) as server:
        client = Modern(server.port)
        for token, status in (("reader", 403), ("writer", 200), ("elsewhere", 401), ("old", 401), ("none", 401)):
            client.extra_headers["Authorization"] = f"Bearer {token}"
            request = client.request("tools/call", {"name": "write", "arguments": {"name": "a", "text": "b"}})
            answer = await client.post(request)
            assert answer.status == status
            assert status != 200 or answer.json()["result"]["content"][0]["text"] == "a, written by ann"


@pytest.mark.anyio
async def test_the_ten_lines_are_a_server() -> None:
    server = program_with(README, "async def add")["server"]
    async with listening(server, port=0) as running, Legacy(running.port, "2025-11-25") as client:
        answer = await client.call("tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})
        assert answer.result["content"] == [{"type": "text", "text": "5"}]


@pytest.mark.anyio
async def test_the_client_adds_two_numbers() -> None:
    async with listening(program_with(README, "async def add")["server"], port=0) as running:
        assert await program_with(README, "async def three")["three"](f"http://127.0.0.1:{running.port}/mcp") == "3"


@pytest.mark.anyio
async def test_the_bridge_example_serves_a_command() -> None:
    listed: list[Any] = []

    async def serve(handler: Any, port: int) -> None:
        async with listening(handler, port=0) as running, Client(running.url) as client:
            listed.extend(tool["name"] for tool in await client.list_tools())

    names = program_with(DOCS / "proxy.md", "async def bridge")
    names["serve"] = serve
    await names["bridge"](sys.executable, str(ROOT / "tests" / "support" / "legacy_server.py"))
    assert "echo" in listed


@pytest.mark.anyio
async def test_the_library_asks_the_user_in_both_eras() -> None:
    names = program_with(DOCS / "context.md", 'MCPServer("library")')
    order = {"name": "order", "arguments": {"title": "dune"}}
    accepted = {"action": "accept", "content": {"copies": 2}}
    async with listening(names["server"], port=0) as running:
        legacy = Legacy(running.port, "2025-11-25")
        await legacy.initialize({"elicitation": {}})
        answer = await legacy.call("tools/call", order, answerer=lambda request: {"result": accepted})
        assert answer.result["content"][0]["text"] == "ordered 2 of dune"
        read = await legacy.call("resources/read", {"uri": "book://dune"})
        assert read.result["contents"][0]["text"] == "A desert planet, and worms."
        await legacy.delete()
        modern = Modern(running.port, capabilities={"elicitation": {}})
        first = await modern.call("tools/call", order)
        assert first.result["resultType"] == "input_required"
        ((key, _),) = first.result["inputRequests"].items()
        again = {**order, "inputResponses": {key: accepted}, "requestState": first.result["requestState"]}
        second = await modern.call("tools/call", again)
        assert second.result["content"][0]["text"] == "ordered 2 of dune"


@pytest.mark.anyio
async def test_the_handler_example_is_a_handler() -> None:
    handler = program_with(DOCS / "handler.md", "class Echo")["Echo"]()
    assert isinstance(handler, ServerHandler)
    async with listening(handler, port=0) as running, Legacy(running.port, "2025-06-18") as client:
        answer = await client.call("tools/call", {"name": "echo", "arguments": {"x": 1}})
        assert answer.result["content"][0]["text"] == "{'x': 1}"


def test_the_thread_example_starts_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    class Queue:
        def put(self, job: Any) -> None:
            job()

    program_with(DOCS / "embedding.md", "def start(server")["start"](MCPServer("threaded"), Queue())
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_every_file_that_a_page_names_is_there() -> None:
    """By its path from the root, or from the page's own folder; for modules also without `mcp_h11/` and `.py`."""
    folders = "|".join(sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"))
    named = re.compile(rf"\b((?:tests|bench|docs|mcp_h11|subjects)/[\w/]+\.\w+)|`((?:{folders})/[\w/]+)`")
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "bench").glob("*.md")]
    gone = []
    for page in pages:
        if page.name == "CHANGELOG.md":  # it names files of earlier releases
            continue
        for file, module in named.findall(page.read_text("utf-8")):
            if module in SERVER_METHODS:  # of the protocol, not of ours
                continue
            found = [ROOT / file, page.parent / file] if file else [PACKAGE / module, PACKAGE / f"{module}.py"]
            if not any(path.exists() for path in found):
                gone.append((page.name, file or module))
    assert gone == []

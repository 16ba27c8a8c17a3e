# SPDX-License-Identifier: MIT
"""The README and the pages of docs/ are held true.

Tables are generated, Python runs, options and variables exist, links lead somewhere.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import math
import re
import shlex
import subprocess
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pages import PAGES, ROOT, blocks, missing_names, name_of, program_with, programs, run_program
from rawclient import Legacy, Modern

import mcp_h11
from mcp_h11 import Client, MCPServer, ServerHandler, listening
from mcp_h11.cli import commands as command_line
from mcp_h11.cli.main import main
from mcp_h11.protocol.methods import SERVER_METHODS
from mcp_h11.schema.signature import describe

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


def test_every_page_is_in_the_map_and_in_the_site() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    in_map = set(LINK.findall((DOCS / "index.md").read_text("utf-8")))
    assert pages - in_map == set(), "add the page to docs/index.md"
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:\n")[1]
    assert pages - set(re.findall(r"[\w/]+\.md", navigation)) == set(), "add the page to `nav` of mkdocs.yml"


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


@pytest.mark.parametrize("client", ["claude-desktop", "cursor", "vscode", "codex", "gemini"])
def test_the_lines_for_a_client_are_those_that_install_writes(
    client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # in the root of a clone the configuration would name its folder
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # Claude Desktop starts commands alone.
    target = str(ROOT / "examples" / "hello.py") if client == "claude-desktop" else "http://127.0.0.1:8000/mcp"
    assert main(["install", client, target, "--name", "demo", "--print"]) == 0
    printed = capsys.readouterr().out.replace(sys.executable, "python").replace(target, "TARGET")
    text = (
        README.read_text("utf-8").replace("http://127.0.0.1:8000/mcp", "TARGET").replace("/path/to/tools.py", "TARGET")
    )
    lines = printed.splitlines() if client == "codex" else [json.dumps(json.loads(printed))]
    assert lines and all(line in text for line in lines), printed


def test_the_figures_of_speed_are_those_of_the_benchmark() -> None:
    text = (DOCS / "performance.md").read_text("utf-8").split("## Why it is fast")[0]
    said = re.findall(r"\| ([\d.]+)[^|\d]*\| ([\d.]+)[^|\d]*\|$", text, re.M)
    table = (ROOT / "bench" / "scenarios.md").read_text("utf-8")
    rows = (
        "call on a repeated head, x plain h11", "call on a new head, x plain h11", "one SSE event, x plain h11",
        "start to listening, ms", "RSS at start, MiB", "idle session with a stream, KiB",
    )  # fmt: skip
    measured = [re.search(rf"^\| {row} \| ([\d.]+) \| ≤ ([\d.]+)", table, re.M) for row in rows]
    assert [(float(a), float(b)) for a, b in said] == [
        (round(float(found[1]), 2), float(found[2])) for found in measured if found is not None
    ]


# --- tutorial, testing, security, server -------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_server_of_the_tutorial_does_what_the_tutorial_says() -> None:
    names = program_with(DOCS / "tutorial.md", "class Sure")
    await names["test_a_note_is_kept"]()
    heard: list[Any] = []
    answers = iter(({"action": "decline"}, {"action": "accept", "content": {"really": True}}))

    async def text_of(client: Client, tool: str, **arguments: Any) -> str:
        result = await client.call_tool(tool, arguments, progress=lambda *values: heard.append(values))
        return str(result["content"][0].get("text"))

    for revision in ("2025-11-25", "2026-07-28"):
        async with Client(names["server"], revision=revision, on_elicitation=lambda params: next(answers)) as client:
            if revision == "2025-11-25":
                assert await text_of(client, "remember", word="a") == "a"
                assert await text_of(client, "remember", word="b") == "a, b"
                assert await text_of(client, "delete_note", name="milk") == "nothing deleted"
            else:
                assert await text_of(client, "remember", word="a") == "This client has no session."
                assert (await client.get_prompt("summarize", {"name": "milk"}))["messages"][0]["role"] == "user"
                assert await text_of(client, "check_spelling") == "no mistakes" and heard[-1] == (1, 1, "milk")
                assert await text_of(client, "delete_note", name="milk") == "deleted milk"
            assert "There is no note" in await text_of(client, "read_note", name="bread")


@pytest.mark.long
def test_the_file_of_the_page_about_tests_passes(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "testing.md", "python")
    (tmp_path / "test_shop.py").write_text(source, "utf-8")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and "5 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.anyio
async def test_a_function_of_your_own_tells_users_apart() -> None:
    names = program_with(DOCS / "security.md", "def authorize")
    async with listening(names["server"], port=0, authorize=names["authorize"]) as running:
        for key, status in (("k-123", 200), ("k-999", 401)):
            client = Modern(running.port)
            client.extra_headers["X-API-Key"] = key
            assert (await client.post(client.request("server/discover"))).status == status


@pytest.mark.anyio
async def test_the_functions_of_the_reference_of_servers_answer() -> None:
    page = DOCS / "server.md"
    async with Client(program_with(page, 'MCPServer("shapes"')["server"]) as client:
        assert (await client.call_tool("area", {"radius": 1}))["structuredContent"] == {"result": math.pi}
        listed = {tool["name"]: tool for tool in await client.list_tools()}
        assert listed["area"]["description"] == "Compute the area of a circle."
        radius = listed["area"]["inputSchema"]["properties"]["radius"]
        assert radius == {"type": "number", "minimum": 0, "description": "In metres."}
        assert (await client.call_tool("distances", {"points": []}))["isError"]
        assert (await client.call_tool("distances", {"points": [[0, 0], [3, 4]]}))["structuredContent"]["result"] == [
            0,
            5,
        ]
    async with Client(program_with(page, "def titles")["server"]) as client:
        assert (await client.read_resource("books://all"))["contents"][0]["text"] == '["dune"]'
        with pytest.raises(mcp_h11.ResourceNotFound):
            await client.read_resource("cover://nothing")
    async with Client(program_with(page, "def interview")["server"]) as client:
        messages = (await client.get_prompt("interview", {"author": "Ann"}))["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]


# The annotations of each row of the table of types, and a part of the schema of each.
TYPES: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "`str`, `int`, `float`, `bool`, `None`": [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
    ],
    "`list[T]`, `set[T]`, `tuple[A, B]`": [
        (kind, {"type": "array"}) for kind in (list[int], set[int], tuple[int, str])
    ],
    "`dict[str, T]`": [(dict[str, int], {"type": "object"})],
    "`Literal[…]`, `Enum`": [(Literal["a", "b"], {"enum": ["a", "b"]})],
    "`datetime`, `date`, `time`, `UUID`, `bytes`, `Path`": [
        (kind, {"type": "string"}) for kind in (datetime.datetime, datetime.date, datetime.time, uuid.UUID, bytes, Path)
    ],
    '`Annotated[T, {"minimum": 1}]`, `Annotated[T, Field(ge=1)]`': [(Annotated[int, {"minimum": 1}], {"minimum": 1})],
    '`Annotated[T, "text"]`': [(Annotated[int, "text"], {"description": "text"})],
    '`Annotated[str, ParamHeader("Region")]`': [
        (Annotated[str, mcp_h11.ParamHeader("Region")], {"x-mcp-header": "Region"})
    ],
}


@pytest.mark.parametrize("row", TYPES)
def test_a_type_has_the_schema_of_its_row(row: str) -> None:
    text = (DOCS / "server.md").read_text("utf-8").replace("\\|", "|")
    assert f"| {row} |" in text
    for annotation, part in TYPES[row]:

        def tool(a: Any) -> None: ...

        tool.__annotations__ = {"a": annotation}
        schema = describe(tool).input_schema["properties"]["a"]
        assert part.items() <= schema.items(), annotation


RESULTS = [
    ("a", [{"type": "text", "text": "a"}]),
    (None, []),
    (1.5, [{"type": "text", "text": "1.5"}]),
    (True, [{"type": "text", "text": "true"}]),
    ({"a": 1}, [{"type": "text", "text": '{"a":1}'}]),
    (datetime.date(2020, 1, 2), [{"type": "text", "text": "2020-01-02"}]),
    (["a", "b"], [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    (mcp_h11.Image(data=b"x"), [{"type": "image", "data": "eA==", "mimeType": "image/png"}]),
    ({"content": [mcp_h11.text("a")], "isError": True}, [{"type": "text", "text": "a"}]),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("returned", "content"), RESULTS, ids=repr)
async def test_a_result_has_the_content_of_its_row(returned: Any, content: list[Any]) -> None:
    server = MCPServer("results")

    @server.tool
    def tool():
        return returned

    async with Client(server) as client:
        assert (await client.call_tool("tool"))["content"] == content

# SPDX-License-Identifier: MIT
"""The README is held true: its tables are generated, its Python runs, its options exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rawclient import Legacy, Modern

import mcp_h11
from mcp_h11 import Client, MCPServer, ServerHandler, listening
from mcp_h11.protocol.methods import SERVER_METHODS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
PACKAGE = Path(mcp_h11.__file__).parent
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["readme_tables"] = module  # where pydantic and dataclasses look for names
    spec.loader.exec_module(module)
    return module


def block(containing: str) -> dict[str, Any]:
    """The names that one of the README's Python blocks defines."""
    (source,) = [b for b in BLOCKS if containing in b]
    names: dict[str, Any] = {"__name__": "readme"}
    # A real module, since annotations of dataclasses are looked up in theirs.
    module = ModuleType("readme")
    module.__dict__.update(names)
    sys.modules["readme"] = module
    exec(compile(source, "README.md", "exec"), module.__dict__)
    return module.__dict__


def test_the_tables_are_what_the_code_says(generate: ModuleType) -> None:
    assert generate.generated(TEXT) == TEXT, "run: python docs/generate.py"


def test_a_fact_that_changes_changes_the_table(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "REVISIONS", {"2024-11-05": mcp_h11.REVISIONS["2026-07-28"]})
    assert generate.generated(TEXT) != TEXT


@pytest.mark.anyio
async def test_the_authorization_example_lets_the_right_ones_in() -> None:
    names = block("verify_token")
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


def test_every_python_block_compiles() -> None:
    assert len(BLOCKS) >= 5
    for source in BLOCKS:
        compile(source, "README.md", "exec")


@pytest.mark.anyio
async def test_the_ten_lines_are_a_server() -> None:
    server = block("async def add")["server"]
    async with listening(server, port=0) as running, Legacy(running.port, "2025-11-25") as client:
        answer = await client.call("tools/call", {"name": "add", "arguments": {"a": 2, "b": 3}})
        assert answer.result["content"] == [{"type": "text", "text": "5"}]


@pytest.mark.anyio
async def test_the_client_adds_two_numbers() -> None:
    async with listening(block("async def add")["server"], port=0) as running:
        assert await block("async def three")["three"](f"http://127.0.0.1:{running.port}/mcp") == "3"


@pytest.mark.anyio
async def test_the_bridge_example_serves_a_command() -> None:
    listed: list[Any] = []

    async def serve(handler: Any, port: int) -> None:
        async with listening(handler, port=0) as running, Client(running.url) as client:
            listed.extend(tool["name"] for tool in await client.list_tools())

    names = block("async def bridge")
    names["serve"] = serve
    await names["bridge"](sys.executable, str(ROOT / "tests" / "support" / "legacy_server.py"))
    assert "echo" in listed


@pytest.mark.anyio
async def test_the_library_asks_the_user_in_both_eras() -> None:
    names = block('MCPServer("library")')
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
    handler = block("class Echo")["Echo"]()
    assert isinstance(handler, ServerHandler)
    async with listening(handler, port=0) as running, Legacy(running.port, "2025-06-18") as client:
        answer = await client.call("tools/call", {"name": "echo", "arguments": {"x": 1}})
        assert answer.result["content"][0]["text"] == "{'x': 1}"


def test_the_thread_example_starts_and_stops(capsys: pytest.CaptureFixture[str]) -> None:
    class Queue:
        def put(self, job: Any) -> None:
            job()

    block("def start(server")["start"](MCPServer("threaded"), Queue())
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_every_option_of_the_table_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    from mcp_h11.cli.main import main

    section = TEXT.split("## The command line")[1].split("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    try:
        main(["--help"])
    except SystemExit as stopped:
        assert stopped.code == 0
    offered = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert named and named <= offered


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

# SPDX-License-Identifier: MIT
"""Our client against the official servers: PyPI `mcp` 2.3.0 and npm's two, in every era and over what they have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from provision import ROOT, Unavailable, everything_required, free_port, npm_folder, stop, wait_until_it_listens

from mcp_h11 import Client, InvalidAnswer, InvalidParams, RequestTimeout, ResourceNotFound, detect
from mcp_h11.client.transports.stdio import StdioTransport

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

LIMIT = 60.0  # seconds: interpreters start slowly on a busy machine
ECHO = 'h\u00e9llo \u2028 \U0001f600 \\u0000 "quoted"'
INTEROP = Path(__file__).resolve().parent
PYTHON = INTEROP / "py23_server.py"
NODE = ROOT / "bench" / "subjects" / "node"
EVERYTHING = "@modelcontextprotocol/server-everything"
VERSION = "2026.8.31"
NPM = (
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/server@2.4.0",
    "@modelcontextprotocol/node@2.1.2",
    "zod@4.6.7",
)


def python(transport: str) -> list[str]:
    return [sys.executable, str(PYTHON), transport]


def npm(script: str, *arguments: str, of: Path = NODE) -> list[str]:
    folder = npm_folder("npm-servers", *NPM)
    # Packages are looked for from where the script lies.
    shutil.copy(of / script, folder / script)
    return [shutil.which("node") or "node", str(folder / script), *arguments]


def everything() -> list[str]:
    folder = npm_folder("npm-everything", f"{EVERYTHING}@{VERSION}")
    script = folder / "node_modules" / EVERYTHING / "dist" / "index.js"
    return [shutil.which("node") or "node", str(script), "stdio"]


def had(command: Callable[..., list[str]], *arguments: Any, **options: Any) -> list[str]:
    """The command, or a reason to skip."""
    try:
        return command(*arguments, **options)
    except Unavailable as reason:
        if everything_required():
            raise
        pytest.skip(str(reason))


SERVERS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "python": (lambda: python("streamable-http"), "/mcp"),
    "python-sse": (lambda: python("sse"), "/sse"),
    "typescript-1": (lambda: npm("sdk.mjs"), "/mcp"),
    "typescript-2": (lambda: npm("server.mjs"), "/mcp"),
}
# Server, revision asked for, revision that it comes to.
CASES = [
    ("python", None, "2026-07-28"),
    ("python", "2025-11-25", "2025-11-25"),
    ("python", "2025-06-18", "2025-06-18"),
    ("python", "2025-03-26", "2025-03-26"),
    ("python-sse", None, "2025-11-25"),
    ("typescript-1", None, "2025-11-25"),
    ("typescript-1", "2025-03-26", "2025-03-26"),
    ("typescript-2", None, "2026-07-28"),
    ("typescript-2", "2025-11-25", "2025-11-25"),
]


@contextmanager
def process(command: list[str], port: int | None = None) -> Iterator[int]:
    port = port or free_port()
    quiet: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen([*command, str(port)], **quiet)
    try:
        wait_until_it_listens(started, port)
        yield port
    finally:
        stop(started)


@pytest.fixture(scope="module")
def url_of() -> Iterator[Callable[[str], str]]:
    """One process for each server, started when it is first wanted."""
    urls: dict[str, str] = {}
    with ExitStack() as stack:

        def get(name: str) -> str:
            if name not in urls:
                command, path = SERVERS[name]
                urls[name] = f"http://127.0.0.1:{stack.enter_context(process(had(command)))}{path}"
            return urls[name]

        yield get


async def elicited(params: dict[str, Any]) -> dict[str, Any]:
    return {"action": "accept", "content": {"name": "Ada"}}


def said(result: dict[str, Any]) -> str:
    return str(result["content"][0]["text"])


async def battery(client: Client, name: str) -> None:
    """What every server of these can do, and what only that of Python has."""
    tools = [tool["name"] for tool in await client.list_tools()]
    assert tools[:4] == ["add", "ticks", "echo", "sleep"]
    assert said(await client.call_tool("add", {"a": 1, "b": 2})) == "3"
    assert said(await client.call_tool("echo", {"text": ECHO})) == ECHO
    assert (await client.call_tool("add", {"a": "x", "b": 2}))["isError"] is True
    told: list[Any] = []
    assert said(await client.call_tool("ticks", {"n": 3}, progress=lambda *step: told.append(step[:2]))) == "done"
    assert told == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(RequestTimeout):
        await client.call_tool("sleep", {"seconds": LIMIT}, timeout=0.2)
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(same, client, number)
    await client.ping()
    if name.startswith("python"):
        assert (await client.read_resource("note://x"))["contents"][0]["text"] == "note x"
        assert (await client.get_prompt("review", {"code": "y"}))["messages"][0]["content"]["text"] == "review y"
        with pytest.raises(ResourceNotFound):
            await client.read_resource("other://x")
        if not client.modern and client.revision.elicitation:
            assert said(await client.call_tool("ask")) == "accept Ada"


async def same(client: Client, number: int) -> None:
    assert said(await client.call_tool("add", {"a": number, "b": number})) == str(2 * number)


@pytest.mark.parametrize(("name", "asked", "agreed"), CASES)
async def test_an_official_server_over_http(
    url_of: Callable[[str], str], name: str, asked: str | None, agreed: str
) -> None:
    url = url_of(name)
    with anyio.fail_after(LIMIT):
        async with Client(url, revision=asked, on_elicitation=elicited, timeout=LIMIT) as client:
            assert client.revision.name == agreed
            assert client.server_info["name"] in ("python-sdk", "subject")
            await battery(client, name)


@pytest.mark.parametrize("asked", [None, "2025-11-25", "2025-06-18"])
async def test_the_official_server_of_python_on_pipes(asked: str | None) -> None:
    command = python("stdio")
    with anyio.fail_after(LIMIT):
        async with Client(command, revision=asked, env="inherit", on_elicitation=elicited, timeout=LIMIT) as client:
            assert client.revision.name == (asked or "2026-07-28")
            await battery(client, "python")


@pytest.mark.parametrize("name", SERVERS)
async def test_an_official_server_is_detected(url_of: Callable[[str], str], name: str) -> None:
    found = await detect(url_of(name))
    assert found.transport == ("sse" if name.endswith("sse") else "streamable-http")
    assert found.modern == (name in ("python", "typescript-2")) and found.server_info["name"]


# --- npm's servers on pipes -------------------------------------------------------------------------------------------

ON_PIPES = [
    ("1", None, "2025-11-25"),
    ("1", "2025-11-25", "2025-11-25"),
    ("1", "2025-06-18", "2025-06-18"),
    ("1", "2025-03-26", "2025-03-26"),
    ("1", "2024-11-05", "2024-11-05"),
    ("2", None, "2026-07-28"),
    ("2", "2026-07-28", "2026-07-28"),
    ("2", "2025-11-25", "2025-11-25"),
    ("2", "2025-06-18", "2025-06-18"),
    ("2", "2025-03-26", "2025-03-26"),
    ("2", "2024-11-05", "2024-11-05"),
]


@pytest.mark.parametrize(("package", "asked", "agreed"), ON_PIPES)
async def test_the_official_servers_of_typescript_on_pipes(package: str, asked: str | None, agreed: str) -> None:
    # A busy machine ends it later than the two seconds that it usually has.
    transport = StdioTransport(had(npm, "ts_stdio.mjs", package, of=INTEROP), eof=LIMIT)
    with anyio.fail_after(LIMIT):
        async with Client(transport, revision=asked, on_elicitation=elicited, timeout=LIMIT) as client:
            assert client.revision.name == agreed and client.server_info["name"] == "subject"
            await battery(client, "typescript")
            assert said(await client.call_tool("ask")) == "accept Ada"
            assert (await client.read_resource("note://x"))["contents"][0]["text"] == "note x"
            assert (await client.get_prompt("review", {"code": "y"}))["messages"][0]["content"]["text"] == "review y"
            templates = await client.list_resource_templates()
            assert [template["uriTemplate"] for template in templates] == ["note://{name}"]
            assert await client.list_resources() == []
            with pytest.raises(InvalidParams if package == "1" else ResourceNotFound):
                await client.read_resource("other://x")
            await client.set_log_level("error")
        assert transport.child is not None
        # Its standard input ended, and so did it, by itself.
        assert transport.child.returncode == 0 and transport.skipped == 0


@pytest.mark.parametrize("package", ["1", "2"])
async def test_an_answer_of_typescript_that_is_too_long_ends_its_own_call(package: str) -> None:
    command = had(npm, "ts_stdio.mjs", package, of=INTEROP)
    outcomes: dict[int, Any] = {}
    with anyio.fail_after(LIMIT):
        async with Client(StdioTransport(command, max_line=100_000), timeout=LIMIT) as client:

            async def call(size: int) -> None:
                try:
                    outcomes[size] = len(said(await client.call_tool("long", {"size": size})))
                except InvalidAnswer as error:
                    outcomes[size] = str(error)

            async with anyio.create_task_group() as tasks:
                for size in (1_000, 500_000, 90_000, 200_000):
                    tasks.start_soon(call, size)
            await client.ping()
    assert outcomes.pop(1_000) == 1_000 and outcomes.pop(90_000) == 90_000
    assert len(outcomes) == 2 and all("longer than 100000 bytes" in said for said in outcomes.values())


async def sampled(params: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": {"type": "text", "text": "sampled"}, "model": "m"}


@pytest.mark.parametrize("asked", [None, "2025-11-25", "2025-06-18", "2024-11-05"])
async def test_the_server_that_has_everything_on_pipes(asked: str | None) -> None:
    command, roots = had(everything), [{"uri": "file:///here"}]  # npm fetches it the first time, which takes its time
    with anyio.fail_after(LIMIT):
        async with Client(command, revision=asked, on_sampling=sampled, on_roots=roots, timeout=LIMIT) as client:
            assert client.revision.name == (asked or "2025-11-25") and "everything" in client.server_info["name"]
            names = {tool["name"] for tool in await client.list_tools()}
            assert {"echo", "get-sum", "trigger-sampling-request", "get-roots-list"} <= names
            assert said(await client.call_tool("echo", {"message": ECHO})) == f"Echo: {ECHO}"
            steps: list[float] = []
            slow = {"duration": 1, "steps": 4}
            await client.call_tool("trigger-long-running-operation", slow, progress=lambda done, *_: steps.append(done))
            assert steps == [1, 2, 3, 4]
            asked_for = await client.call_tool("trigger-sampling-request", {"prompt": "x", "maxTokens": 5})
            assert "sampled" in said(asked_for)
            assert "file:///here" in str(await client.call_tool("get-roots-list"))
            with pytest.raises(RequestTimeout):
                await client.call_tool("trigger-long-running-operation", {"duration": 60, "steps": 2}, timeout=0.2)
            resources = await client.list_resources()
            assert (await client.read_resource(resources[0]["uri"]))["contents"]
            assert await client.list_prompts() and await client.list_resource_templates()
            await client.subscribe(resources[0]["uri"])
            await client.ping()


# --- another one at the same address ----------------------------------------------------------------------------------


async def test_a_client_goes_on_when_the_server_is_replaced_by_one_of_another_era() -> None:
    sessions, modern_only = had(npm, "sdk.mjs"), had(npm, "ts_modern_only.mjs", of=INTEROP)
    port, numbers = free_port(), {"a": 1, "b": 2}
    with anyio.fail_after(2 * LIMIT):
        async with AsyncExitStack() as stack:
            with process(sessions, port):
                client = await stack.enter_async_context(Client(f"http://127.0.0.1:{port}/mcp", timeout=LIMIT))
                assert not client.modern and client.session_id and said(await client.call_tool("add", numbers)) == "3"
            with process(modern_only, port):
                assert [tool["name"] for tool in await client.list_tools()] == ["add"]
                assert client.modern and client.session_id is None
                assert said(await client.call_tool("add", numbers)) == "3"
            with process(sessions, port):
                assert said(await client.call_tool("add", numbers)) == "3"
                assert not client.modern and client.session_id

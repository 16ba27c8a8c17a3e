# SPDX-License-Identifier: MIT
"""Our client against the official servers: PyPI `mcp` 2.3.0 and npm's two, in every era and over what they have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from provision import ROOT, Unavailable, everything_required, free_port, npm_folder, stop, wait_until_it_listens

from mcp_h11 import Client, RequestTimeout, ResourceNotFound, detect

pytestmark = [pytest.mark.interop, pytest.mark.anyio]

LIMIT = 20.0
ECHO = 'h\u00e9llo \u2028 \U0001f600 \\u0000 "quoted"'
PYTHON = Path(__file__).parent / "interop" / "py23_server.py"
NODE = ROOT / "bench" / "subjects" / "node"
NPM = (
    "@modelcontextprotocol/sdk@1.32.2",
    "@modelcontextprotocol/server@2.4.0",
    "@modelcontextprotocol/node@2.1.2",
    "zod@4.6.7",
)


def python(transport: str) -> list[str]:
    return [sys.executable, str(PYTHON), transport]


def npm(script: str) -> list[str]:
    folder = npm_folder("npm-servers", *NPM)
    # Packages are looked for from where the script lies.
    shutil.copy(NODE / script, folder / script)
    return [shutil.which("node") or "node", str(folder / script)]


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
def process(command: list[str]) -> Iterator[int]:
    port = free_port()
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
                try:
                    urls[name] = f"http://127.0.0.1:{stack.enter_context(process(command()))}{path}"
                except Unavailable as reason:
                    if everything_required():
                        raise
                    pytest.skip(str(reason))
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
    with anyio.fail_after(LIMIT):
        async with Client(python("stdio"), revision=asked, env="inherit", on_elicitation=elicited) as client:
            assert client.revision.name == (asked or "2026-07-28")
            await battery(client, "python")


@pytest.mark.parametrize("name", SERVERS)
async def test_an_official_server_is_detected(url_of: Callable[[str], str], name: str) -> None:
    found = await detect(url_of(name))
    assert found.transport == ("sse" if name.endswith("sse") else "streamable-http")
    assert found.modern == (name in ("python", "typescript-2")) and found.server_info["name"]

# SPDX-License-Identifier: MIT
"""Each program of examples/ is started, and does what it says of itself."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from mcp_h11 import Client, HTTPStatusError, MCPError
from mcp_h11.client.transports.errors import AuthorizationRequired

pytestmark = [pytest.mark.anyio, pytest.mark.long]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
LIMIT = 60.0  # seconds for a process to say where it listens, on a busy machine

# Served by the command line; the others are programs with a main part of their own.
SERVED = ("hello", "notes", "order_form", "slow_job", "own_handler", "cart_in_a_fleet", "report_task", "app_dice")
PROGRAMS = ("bearer_token", "oauth", "in_asyncio", "beside_a_host", "bridge_hot_swap", "client_of_pages", "test_notes")


def test_every_example_has_a_test() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*SERVED, *PROGRAMS}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_short_and_says_how_to_run_it(file: Path) -> None:
    text = file.read_text("utf-8")
    assert len(text.splitlines()) <= 100
    assert re.search(rf"^    .*examples/{file.name}", text, re.M), "the docstring has the command"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for names
    spec.loader.exec_module(module)
    return module


class Program:
    """An example as a process.  Its output is read by a thread, so that it never waits for us."""

    def __init__(self, name: str, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env={**os.environ, "PORT": "0", **environment},
        )  # fmt: skip
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def until(self, pattern: str) -> str:
        """The first match in the lines from here on.  Fails with everything that was said if none comes."""
        while True:
            try:
                line = self.lines.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"no {pattern!r} in {self.said}") from None
            self.said.append(line)
            if found := re.search(pattern, line):
                return found[0]

    def end(self) -> None:
        """SIGTERM, which ends a server in order; SIGKILL where it does not."""
        with self.process:  # closes the pipes
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(LIMIT)
            finally:
                self.process.kill()
                self._reader.join(LIMIT)

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def started(name: str, *arguments: str, **environment: str) -> Iterator[Program]:
    program = Program(name, *arguments, **environment)
    try:
        yield program
    finally:
        program.end()


URL = r"http://127\.0\.0\.1:\d+/mcp"


async def text_of(client: Client, tool: str, **arguments: Any) -> str:
    with anyio.fail_after(LIMIT):
        result = await client.call_tool(tool, arguments)
    return "".join(block.get("text", "") for block in result["content"])  # type: ignore[union-attr]


# --- served by the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVED)
async def test_the_command_line_serves_it(name: str) -> None:
    command = [sys.executable, "-m", "mcp_h11", str(EXAMPLES / f"{name}.py"), "--stdio"]
    with anyio.fail_after(LIMIT):
        async with Client(command) as client:
            assert client.server_info["name"] == load(name).server.name


async def test_hello_greets() -> None:
    async with Client(load("hello").server) as client:
        assert await text_of(client, "greet", name="Ann") == "Hello, Ann!"


async def test_a_report_is_a_task_and_a_plain_call() -> None:
    module = load("report_task")
    module.PAUSE = 0.01

    def title(params: dict[str, Any]) -> dict[str, Any]:
        return {"action": "accept", "content": {"title": "Ships"}}

    async with Client(module.server, on_elicitation=title) as client:
        assert await text_of(client, "report", pages=2) == "A report of 2 pages"
        handle = await client.call_tool("report", {"pages": 2}, task=True)
        result = await handle.result(timeout=LIMIT)
        assert result["content"][0]["text"] == "Ships, a report of 2 pages"  # type: ignore[typeddict-item]


async def test_notes_complete_their_names() -> None:
    server = load("notes").server
    async with Client(server) as client:
        await client.call_tool("write", {"name": "milk", "text": "Buy milk."})
        found = await client.complete(
            {"type": "ref/resource", "uri": "notes://{name}"}, {"name": "name", "value": "mi"}
        )
        assert found["values"] == ["milk"]
        assert '"milk"' in (await client.read_resource("notes://"))["contents"][0]["text"]
        with pytest.raises(MCPError):
            await client.read_resource("notes://bread")


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_an_order_is_paid_once(revision: str) -> None:
    module = load("order_form")

    async def answer(params: dict[str, Any]) -> dict[str, Any]:
        street = "street" in params["requestedSchema"]["properties"]
        return {"action": "accept", "content": {"street": "High St"} if street else {"size": "small", "number": 2}}

    async with Client(module.server, revision=revision, on_elicitation=answer) as client:
        assert await text_of(client, "order", kind="margherita") == "2 x margherita to High St; receipt 1."
    assert module.CHARGED == [1800]


async def test_an_order_that_the_user_declines_is_not_paid() -> None:
    module = load("order_form")
    async with Client(module.server, on_elicitation=lambda params: {"action": "decline"}) as client:
        assert await text_of(client, "order", kind="margherita") == "Nothing was ordered."
    assert module.CHARGED == []


async def test_slow_work_reports_and_tidies_up_when_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "converter")
    heard: list[Any] = []
    begun = anyio.Event()

    def hear(method: str, params: dict[str, Any]) -> None:
        heard.append(params)
        begun.set()

    async with Client(load("slow_job").server, on_notification=hear, revision="2025-11-25") as client:
        assert await text_of(client, "convert", files=["a", "b"], seconds=0.01) == "converted 2 files"
        assert await text_of(client, "checksum", numbers=[1, 2]) == "3"
        assert [params["data"] for params in heard if "data" in params] == ["converting a", "converting b"]
        begun = anyio.Event()
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "convert", {"files": ["a"], "seconds": 3600})
                await begun.wait()
                tasks.cancel_scope.cancel()
            while "tidied up after 1 of 1" not in caplog.text:
                await client.ping()  # a turn of the server
    assert "tidied up after 2 of 2 files" in caplog.text


async def test_the_handler_serves_its_pages_to_the_client_of_pages(capsys: pytest.CaptureFixture[str]) -> None:
    from mcp_h11 import listening

    async with listening(load("own_handler").server, port=0) as running:
        with anyio.fail_after(LIMIT):
            await load("client_of_pages").main(running.url)
    out = capsys.readouterr().out
    assert out.splitlines()[1:3] == [
        "10 resources, 10 so far, the last is rows://10",
        "10 resources, 20 so far, the last is rows://20",
    ]
    assert "5 resources, 25 so far, the last is rows://25" in out and "ResourceNotFound" in out


def test_a_program_that_lacks_an_argument_names_it() -> None:
    with started("client_of_pages") as program:
        program.until("^give the URL of a server, such as http://127.0.0.1:8000/mcp$")
        assert program.process.wait(LIMIT) == 1


async def test_a_cart_is_on_each_process_of_a_fleet(tmp_path: Path) -> None:
    """Two servers with one store stand for two processes."""
    from rawclient import Legacy

    from mcp_h11 import listening

    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    async with (
        listening(load("cart_in_a_fleet").server, port=0, store=store) as first,
        listening(load("cart_in_a_fleet").server, port=0, store=store) as second,
    ):
        client = Legacy(first.port, "2025-11-25")
        await client.initialize({})
        await client.call("tools/call", {"name": "add_to_cart", "arguments": {"item": "tea"}})
        other = Legacy(second.port, "2025-11-25")
        other.session, other.initialized = client.session, client.initialized
        answer = await other.call("tools/call", {"name": "add_to_cart", "arguments": {"item": "milk"}})
        assert answer.result["structuredContent"] == {"result": ["tea", "milk"]}
        await client.delete()


# --- programs ----------------------------------------------------------------------------------------------------


async def test_a_key_names_its_user() -> None:
    with started("bearer_token", KEYS="ann:k-1 bob:k-2") as program:
        url = program.until(URL)
        async with Client(url, token="k-2") as client:
            assert await text_of(client, "whoami") == "bob"
        with pytest.raises(AuthorizationRequired):
            async with Client(url, token="k-3"):
                pass


async def test_a_token_needs_the_scope_of_the_tool() -> None:
    resource = "http://files.example/mcp"
    environment = {"TOKEN_KEY": "secret", "RESOURCE": resource}
    with started("oauth", **environment) as program:
        url = program.until(URL)

        def token(*words: str, **other: str) -> str:
            command = [sys.executable, str(EXAMPLES / "oauth.py"), "token", *words]
            made = subprocess.run(
                command, env={**os.environ, **environment, **other}, capture_output=True, text=True, timeout=LIMIT
            )
            return made.stdout.strip()

        async with Client(url, token=token("ann", "files:read", "files:write")) as client:
            assert await text_of(client, "write", name="a") == "a, written by ann"
        async with Client(url, token=token("bob", "files:read")) as client:
            assert await text_of(client, "read", name="a") == "the contents of a"
            with pytest.raises(HTTPStatusError, match="403"):
                await client.call_tool("write", {"name": "a"})
        for bad in (token("eve", "files:read", TOKEN_KEY="guess"), token("eve", "files:read", RESOURCE="http://x/mcp")):
            with pytest.raises(AuthorizationRequired):
                async with Client(url, token=bad):
                    pass


async def test_a_program_with_a_loop_serves_and_ends_in_order() -> None:
    with started("in_asyncio") as program:
        async with Client(program.until(URL)) as client:
            assert 18 <= float(await text_of(client, "temperature")) <= 22
    assert program.process.returncode == 0


async def test_a_host_runs_the_tools_on_its_own_thread() -> None:
    with started("beside_a_host") as program:
        async with Client(program.until(URL)) as client:
            assert await text_of(client, "add_object", name="cube") == "1 objects"
            assert await text_of(client, "close_host") == "closing"
        assert program.process.wait(LIMIT) == 0


async def test_the_bridge_moves_to_another_server() -> None:
    with started("bridge_hot_swap") as program:
        async with Client(program.until(URL)) as client:
            assert [tool["name"] for tool in await client.list_tools()] == ["greet"]
            program.write("python -m mcp_h11 no_such_file.py --stdio")
            program.until("kept the old one")
            assert await text_of(client, "greet", name="Ann") == "Hello, Ann!"
            program.write("python -m mcp_h11 examples/notes.py --stdio")
            program.until("swapped")
            assert [tool["name"] for tool in await client.list_tools()] == ["write"]


def test_the_tests_of_a_server_pass() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        "examples",
        "examples/test_notes.py",
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0 and "6 passed" in ran.stdout, ran.stdout + ran.stderr

# SPDX-License-Identifier: MIT
"""docs/client.md, and the part of docs/commands.md that asks a server: code runs, names exist, figures are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import anyio
import pytest

import mcp_h11
from mcp_h11 import Context, MCPServer, start_in_thread
from mcp_h11.cli import main as cli
from mcp_h11.cli import options
from mcp_h11.cli.asking import ask as commands
from mcp_h11.cli.commands import parser_of
from mcp_h11.client import client as client_module
from mcp_h11.client import lists
from mcp_h11.client.conversation.cache import MAX_CACHED_BYTES, MAX_RESULTS
from mcp_h11.client.conversation.callbacks import MAX_QUESTIONS_AT_ONCE, MAX_UNHEARD
from mcp_h11.client.conversation.conversation import MAX_PAGES
from mcp_h11.client.conversation.input_required import MAX_INPUT_ROUNDS, MAX_QUESTIONS
from mcp_h11.client.conversation.pending import UNCLAIMED_TIME
from mcp_h11.client.conversation.tools import MAX_KNOWN_SIZE, MAX_KNOWN_TOOLS
from mcp_h11.client.detection import DETECT_LIMIT
from mcp_h11.client.era_watch import ASK_AGAIN_AFTER, ASKING_LIMIT
from mcp_h11.client.http.middleware import BREAKER_FAILURES, BREAKER_OPEN_FOR, REFRESH_BEFORE
from mcp_h11.client.probe import MAX_ORIGINS, PROBE_TIMEOUT
from mcp_h11.client.subscriptions import ACK_LIMIT, MAX_UNREAD
from mcp_h11.client.transports.backoff import Backoff
from mcp_h11.client.transports.errors import KEPT_OF_BODY, SHOWN_OF_BODY
from mcp_h11.client.transports.eventsource import MAX_RETRY
from mcp_h11.client.transports.http import MAX_ANSWER, RESUME_ATTEMPTS
from mcp_h11.client.transports.responses import END_LIMIT
from mcp_h11.client.transports.session import CHECK_LIMIT
from mcp_h11.http.client import CHUNK_ALLOWANCE, ClientLimits
from mcp_h11.http.sse import MAX_EVENT_SIZE
from mcp_h11.protocol.lines import MAX_LINE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "client.md").read_text("utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text("utf-8").split("## Asking a server\n")[1].split("\n## ")[0]
MIB = 1024 * 1024

SAID = {
    "16 MiB each": (MAX_EVENT_SIZE, MAX_ANSWER, MAX_LINE) == (16 * MIB,) * 3,
    "32 KiB; 100; 16 KiB, of which each chunk takes back 256 bytes": (
        ClientLimits() == ClientLimits(32 * 1024, 100, 16 * 1024) and CHUNK_ALLOWANCE == 256
    ),
    "1,000 and 100,000; 10; 100 |": (MAX_PAGES, lists.MAX_ITEMS, MAX_INPUT_ROUNDS, MAX_QUESTIONS)
    == (1_000, 100_000, 10, 100),
    "64 MiB, of which each value takes 64 bytes": (lists.MAX_LIST_SIZE, lists.VALUE_SIZE) == (64 * MIB, 64),
    "and 4 MiB of names and headers": MAX_KNOWN_SIZE == 4 * MIB,
    "100, then refused; 200, then dropped": MAX_QUESTIONS_AT_ONCE == 100,
    "or for a listener | 1,000 |": MAX_UNHEARD == MAX_UNREAD == 1_000,
    "1,000, and 64 MiB": (MAX_RESULTS, MAX_CACHED_BYTES) == (1_000, 64 * MIB),
    "1,000; 10,000": (MAX_ORIGINS, MAX_KNOWN_TOOLS) == (1_000, 10_000),
    "10 s; 10 s; 5 s; 10 s; an hour": (PROBE_TIMEOUT, END_LIMIT, ACK_LIMIT, MAX_RETRY) == (10, 5, 10, 3600),
    "60 s, and not within 10 s of the last time": (ASKING_LIMIT, ASK_AGAIN_AFTER) == (60, 10),
    "(`close_timeout`) | 15 s": client_module.CLOSE_LIMIT == 15,
    "after 1 s, doubling to 60 s": (Backoff().delay(0) < 1.2 and 54 < Backoff().delay(99) <= 60),
    "five times without anything new": RESUME_ATTEMPTS == 5,
    "within five seconds": DETECT_LIMIT == 5,
    "or not within 5 s, the refusal is raised": CHECK_LIMIT == 5,
    "that are not answered within 2 s end": UNCLAIMED_TIME == 2,
    "in its text (200 characters)": SHOWN_OF_BODY == 200,
    "(bytes, at most\n1,024)": KEPT_OF_BODY == 1024,
    "a new token 60 s before the old one ends": REFRESH_BEFORE == 60,
    "(5 failures, 60 s)": (BREAKER_FAILURES, BREAKER_OPEN_FOR) == (5, 60),
}


@pytest.mark.parametrize("said", SAID)
def test_a_figure_is_that_of_the_code(said: str) -> None:
    assert said in TEXT and SAID[said]


def test_the_errors_that_are_named_are_there() -> None:
    section = TEXT.split("## Errors\n")[1].split("\n## ")[0]
    names = set(re.findall(r"`([A-Z][A-Za-z]+)`", section))
    assert {"MCPError", "SessionLost", "AuthorizationRequired"} < names
    assert all(issubclass(getattr(mcp_h11, name), mcp_h11.MCPError) for name in names)


def test_the_exit_codes_are_those_of_the_command() -> None:
    said = dict(re.findall(r"^\| ([0-9, ]+) \| (.*) \|$", COMMANDS, re.M))
    codes = [commands.OK, commands.TOOL_ERROR, options.FAILED, commands.PROTOCOL_ERROR, commands.NO_CONNECTION]
    assert list(said) == [*map(str, codes), f"{cli.INTERRUPTED}, {commands.NO_READER}"]


def shop() -> MCPServer:
    server = MCPServer("shop", version="1")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    @server.resource("notes://one")
    def one() -> str:
        return "first note"

    return server


def pizzeria() -> MCPServer:
    server = shop()

    @server.tool
    async def order_pizza(ctx: Context) -> str:
        size = {"type": "string", "enum": ["small", "large"]}
        form = {"type": "object", "properties": {"size": size, "olives": {"type": "boolean"}}, "required": ["size"]}
        return str((await ctx.elicit("Which?", form)).content)

    return server


def test_the_first_example_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source = TEXT.split("```python\n")[1].split("```")[0]
    with start_in_thread(shop(), port=0) as running:
        exec(compile(source.replace(":8000/", f":{running.port}/"), "client.md", "exec"), {"__name__": "__main__"})
    out = capsys.readouterr().out
    assert out.startswith("['add']\n") and "'text': '3'" in out


def test_the_lines_for_a_shell_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(r"^python -m mcp_h11 (.*)$", COMMANDS, re.M)
    # A login needs a browser, and a task the id of a call before: both are run in tests of their own.
    elsewhere = [line for line in found if line.split()[0] in ("login", "logout", "tasks") or "--no-wait" in line]
    assert len(elsewhere) >= 8
    for line in elsewhere:
        word, *words = shlex.split(line, comments=True)
        parser_of(word).parse_args(words)
    lines = [line for line in found if line not in elsewhere]
    assert [line.split()[0] for line in lines] == ["list", "call", "read", "call"]
    with start_in_thread(pizzeria(), port=0) as running:
        for line in lines:
            words = shlex.split(line.replace(":8000/", f":{running.port}/"), comments=True)
            assert cli.main(words) == commands.OK
    out = capsys.readouterr().out
    assert "tools (2)" in out and "\n3\n" in out and "first note" in out
    assert out.endswith("{'size': 'small', 'olives': True}\n")
    assert commands.TOKEN in COMMANDS


@pytest.mark.anyio
async def test_a_target_may_be_a_handler() -> None:
    with anyio.fail_after(10):
        async with mcp_h11.Client(shop()) as client:
            assert [tool["name"] for tool in await client.list_tools()] == ["add"]

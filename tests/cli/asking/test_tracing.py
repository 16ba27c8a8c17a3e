# SPDX-License-Identifier: MIT
"""`--verbose`: each request and answer on stderr, over HTTP and on pipes, without a secret."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE

import anyio
import pytest
from provision import server_environment

from mcp_h11 import Client, Context, MCPServer, start_in_thread
from mcp_h11.cli.asking import tracing
from mcp_h11.cli.asking.ask import NO_CONNECTION, OK, PROTOCOL_ERROR, main_of
from mcp_h11.cli.asking.printing import Screen
from mcp_h11.cli.asking.tracing import MAX_BODY, MAX_TEXT, traced
from mcp_h11.cli.main import INTERRUPTED

pytestmark = pytest.mark.long

ERAS = ["2025-11-25", "2026-07-28"]

began, ended, shown = threading.Event(), threading.Event(), threading.Event()


def shop() -> MCPServer:
    server = MCPServer("shop", version="2")

    @server.tool
    def add(a: int, b: int = 1) -> int:
        return a + b

    @server.tool
    def echo(text: str) -> str:
        return text

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        with anyio.fail_after(60):
            while not shown.is_set():
                await anyio.sleep(0.01)
        return "worked"

    @server.tool
    async def wait() -> str:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    return server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_in_thread(shop(), port=0, token="sesame", legacy_sse=True) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main_of(words[0], words[1:])
    out, err = capsys.readouterr()
    return code, out, err


def blocks(err: str, mark: str) -> list[str]:
    """The text behind the mark, in blocks of lines that follow each other."""
    found = re.findall(rf"(?m)(?:^{re.escape(mark)}(?: .*)?\n)+", err)
    return [re.sub(rf"(?m)^{re.escape(mark)} ?", "", block) for block in found]


@pytest.mark.parametrize("era", ERAS)
def test_each_exchange_is_shown_with_its_headers_and_bodies(era, url, capsys):
    code, out, err = run(capsys, "call", f"{url}?key=hush", "add", "a=2", "--token", "sesame", "-v", "--revision", era)
    assert (code, out) == (OK, "3\n") and "sesame" not in err and "hush" not in err
    sent, came = blocks(err, ">"), blocks(err, "<")
    call = next(block for block in sent if '"tools/call"' in block)
    number = re.search(r"^POST /mcp\?\*\*\* HTTP/1.1  \((#\d+)\)\n", call)
    assert number and "\nHost: 127.0.0.1:" in call and "\nAuthorization: Bearer ***\n" in call
    head, _, body = call.partition("\n\n")
    assert json.loads(body)["params"]["arguments"] == {"a": 2} and f"MCP-Protocol-Version: {era}" in head
    answer = "".join(came)[("".join(came)).index(f"({number[1]}, ") - 20 :]
    assert re.search(rf"HTTP/1.1 200 OK  \({number[1]}, \d+\.\d ms\)\n", answer)
    assert '"text": "3"' in answer and "content-type: " in answer
    if era == ERAS[0]:
        assert "mcp-session-id: ***\n" in "".join(came) and "Mcp-Session-Id: ***\n" in call


@pytest.mark.skipif(os.name == "nt", reason="its pipes are read by a thread")
@pytest.mark.parametrize("era", ERAS)
def test_events_of_a_stream_are_shown_as_they_come(era, url):
    shown.clear()
    command = [sys.executable, "-u", "-m", "mcp_h11", "call", url, "work", "-v", "--token", "sesame", "--revision", era]
    process = subprocess.Popen(command, env=server_environment(), stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    assert process.stderr is not None
    try:
        # The tool waits until its progress was seen here.
        lines: list[bytes] = []
        while b"1/2 half\n" not in lines and (one := process.stderr.readline()):
            lines.append(one)
        shown.set()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    before = b"".join(lines).decode()
    assert (process.returncode, out) == (OK, b"worked\n")
    assert "< event: message  (#" in before and '"notifications/progress"' in before and "worked" not in before
    assert '"worked"' in err.decode() and "< end of the stream  (#" in err.decode()


def test_other_headers_and_texts_that_may_be_secrets_are_hidden(url, capsys):
    headers = (
        "Authorization: Basic aHVzaA==",
        "X-Api-Key: hush",
        "Cookie: a=hush",
        "X-Plain: seen",
        "X-My-Token: hush",
    )
    options = [word for header in headers for word in ("--header", header)]
    code, _, err = run(capsys, "ping", url, *options, "-v")
    assert code == PROTOCOL_ERROR and "HTTP/1.1 401 Unauthorized" in err and "hush" not in err and "aHVza" not in err
    assert "> Authorization: Basic ***\n" in err and "> X-Plain: seen\n" in err and err.count("***") == 4
    code, _, err = run(capsys, "detect", url, "-v", "--token", "sesame")
    assert code == OK and '"server/discover"' in err and "sesame" not in err


def test_the_session_of_http_with_sse_is_hidden_in_its_first_event(capsys):
    with start_in_thread(shop(), port=0, legacy_sse=True) as running:
        url = f"http://127.0.0.1:{running.port}/sse"
        code, out, err = run(capsys, "call", url, "add", "a=1", "-v")
    assert (code, out) == (OK, "2\n") and "event: endpoint" in err
    assert re.search(r"(?m)^< /\S+=\*\*\*$", err) and not re.search(r"session_?id=(?!\*\*\*)", err, re.IGNORECASE)


def test_no_connection_is_shown_as_one(capsys):
    code, out, err = run(capsys, "ping", "http://127.0.0.1:1/mcp", "-v")
    refused = "no connection to 127.0.0.1:1: connection refused, no server listens there"
    assert (code, out) == (NO_CONNECTION, "") and f"< no answer to #1: {refused}" in err
    assert err.endswith(f"{refused}\n")


def test_long_texts_are_cut(url, capsys):
    text = "x" * MAX_TEXT
    _, out, err = run(capsys, "call", url, "echo", f"text={text}", "--token", "sesame", "-v")
    assert f'"{text}"' in err and "characters more" not in err
    _, out, err = run(capsys, "call", url, "echo", f"text={text}y", "--token", "sesame", "-v")
    assert out == f"{text}y\n" and f'"{text}... (1 characters more)"' in err and f"{text}y" not in err


def test_a_body_past_the_limit_is_not_shown_and_comes_through(url, capsys, monkeypatch):
    monkeypatch.setattr(tracing, "MAX_BODY", 300)
    _, out, err = run(capsys, "call", url, "echo", "text=" + "x" * 400, "--token", "sesame", "-v")
    assert out == "x" * 400 + "\n" and err.count("(more than 300 bytes)") >= 2 and "xxx" not in err


def test_a_body_at_the_limit_is_shown():
    body = b'"' + b"x" * (MAX_BODY - 2) + b'"'
    assert tracing._shown(body)[0].startswith('"xxx') and tracing._shown(body + b" ") == [
        f"(more than {MAX_BODY} bytes)"
    ]


def test_text_of_a_server_steers_nothing():
    lines = tracing._shown(b"not json \x1b[2J\nsecond\xff?token=abc&x=1")
    assert lines == ["not json \\x1b[2J", "second\ufffd?token=***&x=1"]
    assert tracing._shown(b'"\x1b[2J\\u202e"') == ['"\x1b[2J\\u202e"'.replace("\x1b", "\\x1b")]
    assert tracing._masked("x-odd", "a\x1b") == "a\\x1b" and tracing._phrase(599) == ""


FILE = "def add(a: int, b: int = 1) -> int:\n    return a + b\n"


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("as_command", [False, True], ids=["in this process", "command"])
def test_messages_without_http_have_arrows(era, as_command, tmp_path, capsys):
    file = tmp_path / "traced_here.py"
    file.write_text(FILE)
    target = f"{shlex.quote(sys.executable)} -m mcp_h11 {shlex.quote(str(file))} --stdio" if as_command else str(file)
    code, out, err = run(capsys, "call", target, "add", "a=2", "-v", "--revision", era)
    assert (code, out) == (OK, "3\n")
    sent = re.search(r"--> tools/call \((#\d+)\)\n(\{(?:.|\n)*?\n\})\n", err)
    assert sent and json.loads(sent[2])["params"]["name"] == "add"
    came = re.search(rf"<-- answer \({sent[1]}, \d+\.\d ms\)\n(\{{(?:.|\n)*?\n\}})\n", err)
    assert came and json.loads(came[1])["result"]["content"] == [{"type": "text", "text": "3"}]


def test_questions_notifications_and_errors_have_arrows_too(tmp_path, capsys):
    file = tmp_path / "asks_here.py"
    file.write_text(
        "from mcp_h11 import Context, MCPError\n"
        "async def ask(ctx: Context) -> str:\n"
        "    await ctx.info('asking')\n"
        "    await ctx.elicit('Well?', {'type': 'object', 'properties': {}})\n"
        "    raise MCPError(7, 'no more')\n"
    )
    code, out, err = run(capsys, "call", str(file), "ask", "-v", "--decline", "--revision", ERAS[0])
    assert (code, out) == (PROTOCOL_ERROR, "")
    heads = [line for line in err.splitlines() if line.startswith(("<--", "-->"))]
    at = [heads.index(head) for head in ("<-- notifications/message", "<-- elicitation/create", "--> answer")]
    assert at == sorted(at) and re.fullmatch(r"<-- answer \(#\d+, \d+\.\d ms\)", heads[at[-1] + 1])
    assert '"action": "decline"' in err and '"code": 7' in err


def test_a_command_that_ends_at_the_first_request_is_started_again_as_without_a_trace(tmp_path):
    # As old servers do, it ends at a request before `initialize`.
    script = tmp_path / "old.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    if message['method'] == 'server/discover':\n"
        "        sys.exit(1)\n"
        "    if 'id' in message:\n"
        "        result = {'protocolVersion': '2025-06-18', 'capabilities': {}, 'serverInfo': {'name': 'old'}}\n"
        "        print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], 'result': result}), flush=True)\n"
    )

    async def ask() -> None:
        with anyio.fail_after(60):
            async with Client(traced([sys.executable, str(script)], Screen())) as client:
                assert client.server_info["name"] == "old" and client.revision.name == "2025-06-18"
            async with Client(traced(shop(), Screen())) as client:
                assert client.modern and client.server_info["name"] == "shop"

    asyncio.run(ask())


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("era", ERAS)
def test_an_interrupt_cancels_the_call_as_its_era_does(era, url):
    began.clear()
    ended.clear()
    command = [sys.executable, "-m", "mcp_h11", "call", url, "wait", "-v", "--token", "sesame", "--revision", era]
    process = subprocess.Popen(command, env=server_environment(), stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
    try:
        assert began.wait(60)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (INTERRUPTED, b"") and ended.wait(30) and b"Traceback" not in err
    # 2026-07-28 over HTTP: the end of the exchange is the cancellation.
    assert (b'"notifications/cancelled"' in err) == (era == ERAS[0])


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("era", ERAS)
def test_an_interrupt_tells_a_command_that_the_call_is_cancelled(era, tmp_path):
    file = tmp_path / "traced_here.py"
    file.write_text(
        "import asyncio\n"
        "async def wait() -> str:\n"
        f"    open({str(tmp_path / 'began')!r}, 'w').close()\n"
        "    try:\n"
        "        await asyncio.sleep(60)\n"
        "    finally:\n"
        f"        open({str(tmp_path / 'ended')!r}, 'w').close()\n"
        "    return ''\n"
    )
    target = f"{shlex.quote(sys.executable)} -m mcp_h11 {shlex.quote(str(file))} --stdio"
    command = [sys.executable, "-m", "mcp_h11", "call", target, "wait", "-v", "--revision", era]
    process = subprocess.Popen(command, env=server_environment(), stdin=DEVNULL, stdout=PIPE, stderr=PIPE)

    async def until_it_began() -> None:
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.02)

    try:
        asyncio.run(asyncio.wait_for(until_it_began(), 60))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (INTERRUPTED, b"") and b"Traceback" not in err
    assert b"--> notifications/cancelled\n" in err and (tmp_path / "ended").exists()

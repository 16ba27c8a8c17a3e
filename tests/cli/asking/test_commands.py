# SPDX-License-Identifier: MIT
"""The client on the command line: what it prints, where, and with which exit code it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from subprocess import PIPE
from typing import Any

import pytest
from patience import without_stalls
from provision import server_environment
from terminals import AtTerminal

from mcp_h11 import Context, MCPError, MCPServer, ServerHandler, ToolError, start_in_thread
from mcp_h11.cli.arguments import arguments_of, target_of
from mcp_h11.cli.asking.ask import NO_CONNECTION, NO_READER, OK, PROTOCOL_ERROR, TOKEN, TOOL_ERROR, main_of
from mcp_h11.cli.main import INTERRUPTED, main
from mcp_h11.cli.options import FAILED, UsageError

pytestmark = pytest.mark.long


def shop() -> MCPServer:
    server = MCPServer("shop", version="2")

    @server.tool
    def add(a: int, b: int = 1) -> int:
        "Add two numbers.\n\nSlowly."
        return a + b

    @server.tool
    def echo(text: str) -> str:
        "Say it again."
        return text

    @server.tool
    def fail() -> str:
        raise ToolError("out of stock")

    @server.tool
    async def slow(ctx: Context) -> str:
        await ctx.report_progress(1, 2, "half")
        await ctx.info("working")
        return "done"

    @server.resource("notes://one")
    def one() -> str:
        return "first note"

    @server.resource("notes://{name}/text")
    def note(name: str) -> str:
        return name

    @server.prompt
    def review(code: str) -> str:
        return f"Review {code}"

    return server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_in_thread(shop(), port=0) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main_of(words[0], words[1:])
    out, err = capsys.readouterr()
    return code, out, err


# --- the verbs ------------------------------------------------------------------------------------------------


def test_list_shows_everything_that_is_offered(url, capsys):
    code, out, err = run(capsys, "list", url)
    assert code == OK and err == ""
    lines = out.splitlines()
    assert lines[0] == "tools (4)" and "resources (1)" in lines and "templates (1)" in lines and "prompts (1)" in lines
    assert any(line.split() == ["add", "Add", "two", "numbers."] for line in lines)
    assert "Slowly" not in out


def test_list_of_one_kind_for_a_program(url, capsys):
    code, out, _ = run(capsys, "list", url, "templates", "--json")
    assert code == OK
    assert [one["uriTemplate"] for one in json.loads(out)["templates"]] == ["notes://{name}/text"]


def test_list_of_what_there_is_not(url):
    with pytest.raises(UsageError, match="'widgets' is none of tools"):
        main_of("list", [url, "widgets"])


@pytest.mark.parametrize("words", [["a=2", "b=3"], ["a:=2", "b:=3"], ['{"a": 2, "b": 3}'], ["a=2", '{"b": 3}']])
def test_call_reads_arguments_as_the_tool_wants_them(words, url, capsys):
    assert run(capsys, "call", url, "add", *words)[:2] == (OK, "5\n")


@pytest.mark.parametrize(
    "line",
    [
        "{} add a=2 b=3 --timeout 30",
        "{} add a=2 --timeout 30 b=3",
        "{} add --timeout 30 a=2 b=3",
        "{} --timeout 30 add a=2 b=3",
        "--timeout 30 {} add a=2 b=3",
    ],
)
def test_options_stand_where_a_person_types_them(line, url, capsys):
    assert run(capsys, "call", *line.format(url).split())[:2] == (OK, "5\n")


def test_a_string_stays_one_whatever_it_looks_like(url, capsys):
    assert run(capsys, "call", url, "echo", "text=7=7")[:2] == (OK, "7=7\n")


def test_call_gives_a_program_the_result_itself(url, capsys):
    code, out, _ = run(capsys, "call", url, "add", "a=2", "--json")
    assert code == OK and json.loads(out)["content"] == [{"type": "text", "text": "3"}]


def test_what_a_tool_refuses_has_a_code_of_its_own(url, capsys):
    assert run(capsys, "call", url, "fail")[:2] == (TOOL_ERROR, "out of stock\n")


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_logs_go_to_stderr(revision, url, capsys):
    code, out, err = run(capsys, "call", url, "slow", "--revision", revision)
    assert (code, out) == (OK, "done\n") and "working" in err


def test_what_the_server_refuses(url, capsys):
    code, out, err = run(capsys, "call", url, "nothing")
    assert (code, out) == (PROTOCOL_ERROR, "") and "error -32602" in err and "nothing" in err


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["call", "ad", "a=1"], "tool 'ad' is not in the list of the server; did you mean add?\n"),
        (["call", "zzz"], "tool 'zzz' is not in the list of the server; it has add, echo, fail, slow\n"),
        (["call", "add", "b=2", "aa=1"],
         "missing: a (integer)\nunknown: aa; did you mean a?\nadd takes: a=INTEGER [b=INTEGER]\n"),
        (["read", "notes://on"], "resource 'notes://on' is not in the list of the server; did you mean notes://one?\n"),
        (["prompt", "reviw", "code=x"], "prompt 'reviw' is not in the list of the server; did you mean review?\n"),
        (["prompt", "review"], "missing: code (string)\nreview takes: code=STRING\n"),
    ],
)  # fmt: skip
def test_an_error_is_followed_by_what_can_be_done_about_it(words, said, revision, url, capsys):
    code, out, err = run(capsys, words[0], url, *words[1:], "--revision", revision)
    assert code in (PROTOCOL_ERROR, TOOL_ERROR) and err.endswith(said) and len(err) > len(said) or out


@pytest.mark.parametrize(
    ("verb", "rows", "wanted"),
    [
        ("call", ["  add a=INTEGER [b=INTEGER]  Add two numbers.", "  echo text=STRING           Say it again."],
         "TOOL [KEY=VALUE ...]"),
        ("read", ["  notes://one", "  notes://{name}/text"], "URI"),
        ("prompt", ["  review code=STRING  review"], "NAME [KEY=VALUE ...]"),
    ],
)  # fmt: skip
def test_a_command_without_a_name_lists_the_names(verb, rows, wanted, url, capsys):
    assert main([verb, url]) == FAILED
    out, err = capsys.readouterr()
    lines = err.splitlines()
    # On stderr: a program that has left the name out reads no list as a result.
    assert out == "" and lines[-1] == (
        f"python -m mcp_h11: error: {verb} wants one of these: python -m mcp_h11 {verb} TARGET {wanted}"
    )
    assert [row for row in rows if row not in lines] == []


def test_read_and_prompt(url, capsys):
    assert run(capsys, "read", url, "notes://one")[:2] == (OK, "first note")
    assert run(capsys, "prompt", url, "review", "code=x = 1")[:2] == (OK, "user:\nReview x = 1\n")


@pytest.mark.parametrize("revision", [None, "2025-06-18", "2026-07-28"])
def test_ping_says_who_answers(revision, url, capsys):
    pinned = ["--revision", revision] if revision else []
    code, out, _ = run(capsys, "ping", url, *pinned)
    assert code == OK and out.startswith(f"shop 2 ({revision or '2026-07-28'}): ") and out.endswith(" ms\n")


def test_detect(url, capsys):
    code, out, _ = run(capsys, "detect", url, "--json")
    found = json.loads(out)
    assert code == OK and found["transport"] == "streamable-http" and found["revisions"][0] == "2026-07-28"
    with pytest.raises(UsageError, match="wants a URL"):
        main_of("detect", ["server.py"])


def test_nobody_there(capsys):
    with socket.socket() as sock:  # bound and not listening
        sock.bind(("127.0.0.1", 0))
        code, out, err = run(capsys, "ping", f"http://127.0.0.1:{sock.getsockname()[1]}/mcp")
    assert (code, out) == (NO_CONNECTION, "") and "no connection" in err


TOOLS = "def add(a: int, b: int) -> int:\n    return a + b\n"


@pytest.mark.parametrize("as_command", [False, True], ids=["file", "command"])
def test_a_file_is_asked_in_this_process_and_a_command_is_started(as_command, tmp_path, capsys):
    file = tmp_path / "served_here.py"
    file.write_text(TOOLS)
    target = f"{shlex.quote(sys.executable)} -m mcp_h11 {shlex.quote(str(file))} --stdio" if as_command else str(file)
    assert run(capsys, "call", target, "add", "a=2", "b=5")[:2] == (OK, "7\n")


def test_a_command_that_is_not_there(capsys):
    code, out, err = run(capsys, "ping", "no-such-command-anywhere --stdio")
    assert (code, out) == (NO_CONNECTION, "") and "no-such-command-anywhere" in err


def test_a_token_comes_from_the_command_line_or_the_environment(capsys, monkeypatch):
    with start_in_thread(shop(), port=0, token="sesame") as running:
        url = f"http://127.0.0.1:{running.port}/mcp"
        code, _, err = run(capsys, "ping", url)
        assert code == PROTOCOL_ERROR and "401" in err
        assert run(capsys, "ping", url, "--token", "sesame")[0] == OK
        monkeypatch.setenv(TOKEN, "sesame")
        assert run(capsys, "ping", url)[0] == OK
        assert run(capsys, "ping", url, "--header", "Authorization: Bearer wrong")[0] == OK  # a token goes first


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        (None, ["--revision", "2020-01-01"], "invalid choice: '2020-01-01'"),
        (None, ["--header", "A: b\nc"], "the header 'A' cannot be sent"),
        (None, ["--header", "A b: c"], "the header 'A b' cannot be sent"),
        (None, ["--token", "hush\n"], "the token cannot be sent"),
        ("http://", [], "a URL without a host"),
        ("http://ann:hush@127.0.0.1/mcp", [], "credentials belong into a header"),
        ("http://127.0.0.1:99999/mcp", [], "Port out of range"),
    ],
)
@pytest.mark.parametrize("verb", ["ping", "detect"])
def test_what_cannot_be_sent_is_wrong_on_the_command_line(verb, target, options, said, url, capsys):
    code = main([verb, target or url, *options])
    out, err = capsys.readouterr()
    assert (code, out) == (FAILED, "") and said in err and "hush" not in err and len(err.splitlines()) == 1


def test_what_is_missing_is_named_and_nothing_else(capsys):
    for verb in ("call", "prompt", "list"):
        assert main([verb]) == FAILED
        assert capsys.readouterr().err.endswith(f"required: TARGET (python -m mcp_h11 {verb} --help)\n")


PIXEL = "iVBORw0KGgo="


class Odd(ServerHandler):
    """Answers with everything that is no text."""

    async def list_tools(self, params: Any, ctx: Any) -> Any:
        return {"tools": [{"name": "show", "inputSchema": {"type": "object"}}]}

    async def call_tool(self, params: Any, ctx: Any) -> Any:
        if params["name"] != "show":
            raise MCPError(77, "not today", {"until": "tomorrow"})
        if "only" in params["arguments"]:
            return {"content": [], "structuredContent": {"a": [1]}}
        image = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
        inside = {"type": "resource", "resource": {"uri": "a://b", "text": "inside"}}
        link = {"type": "resource_link", "uri": "a://c", "name": "c"}
        return {"content": [image, inside, link, {"type": "resource", "resource": {"uri": "a://d", "blob": PIXEL}}]}

    async def read_resource(self, params: Any, ctx: Any) -> Any:
        return {"contents": [{"uri": params["uri"], "mimeType": "image/png", "blob": PIXEL}]}

    async def get_prompt(self, params: Any, ctx: Any) -> Any:
        said = [{"type": "text", "text": "one"}, {"type": "image", "data": PIXEL, "mimeType": "image/png"}]
        return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": said[0]}]}


@pytest.fixture(scope="module")
def odd() -> Iterator[str]:
    with start_in_thread(Odd(), port=0) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


def test_what_is_no_text_is_named(odd, capsys):
    assert run(capsys, "call", odd, "show")[1].splitlines() == [
        "[image image/png, 8 bytes]", "inside", "[resource_link a://c]", "[resource a://d, 8 bytes]",
    ]  # fmt: skip
    assert json.loads(run(capsys, "call", odd, "show", "only:=1")[1]) == {"a": [1]}
    assert run(capsys, "prompt", odd, "p")[1] == "user:\none\n[image image/png, 8 bytes]\nassistant:\none\n"


def test_what_belongs_to_an_error_is_shown_with_it(odd, capsys):
    code, out, err = run(capsys, "call", odd, "other")
    assert (code, out) == (PROTOCOL_ERROR, "")
    hint = "tool 'other' is not in the list of the server; it has show\n"
    assert err.endswith('error 77: not today\n{"until": "tomorrow"}\n' + hint)


def test_every_verb_answers_a_program_in_json(odd, capsys):
    assert json.loads(run(capsys, "read", odd, "a://b", "--json")[1])["contents"][0]["blob"] == PIXEL
    assert len(json.loads(run(capsys, "prompt", odd, "p", "--json")[1])["messages"]) == 2
    assert json.loads(run(capsys, "ping", odd, "--json")[1]).keys() == {"ms", "protocolVersion", "serverInfo"}
    assert run(capsys, "detect", odd)[1].startswith("streamable-http: 2026-07-28, 2025-11-25")


@pytest.mark.parametrize("seconds", ["0", "-1", "x", "nan", "inf", "1e9"])
def test_a_time_is_a_positive_number(seconds, odd, capsys):
    assert main(["ping", odd, "--timeout", seconds]) == FAILED
    assert "has to be a number of seconds" in capsys.readouterr().err


def test_no_answer_in_time_is_no_connection(capsys):
    with socket.create_server(("127.0.0.1", 0)) as sock:  # takes the connection, and says nothing
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/mcp"
        for verb in ("ping", "detect"):
            code, out, err = run(capsys, verb, url, "--timeout", "0.3")
            assert (code, out) == (NO_CONNECTION, "") and "within 0.3 s" in err


# --- as a process ---------------------------------------------------------------------------------------------

on_posix = pytest.mark.skipif(os.name == "nt", reason="terminals and signals as POSIX has them")


def started(*words: str, **pipes: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-X", "dev", "-m", "mcp_h11", *words]
    return subprocess.Popen(command, env=server_environment(), stdin=subprocess.DEVNULL, **pipes)


@on_posix
@pytest.mark.parametrize("verb", [["list"], ["call", "echo", "text=x"]])
def test_who_reads_no_more_of_it_is_no_trouble(verb, url):
    reading, writing = os.pipe()
    os.close(reading)
    process = started(verb[0], url, *verb[1:], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, without_stalls(err.decode())) == (NO_READER, "")


@on_posix
def test_an_interrupt_ends_the_call_at_the_server_too():
    began, cancelled = threading.Event(), threading.Event()
    server = MCPServer("slow", version="1")

    @server.tool
    async def wait() -> str:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return ""

    with start_in_thread(server, port=0) as running:
        process = started("call", f"http://127.0.0.1:{running.port}/mcp", "wait", stdout=PIPE, stderr=PIPE)
        try:
            assert began.wait(30)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert (process.returncode, out, without_stalls(err.decode())) == (INTERRUPTED, b"", "") and cancelled.wait(10)


@on_posix
def test_a_terminal_sees_progress_and_then_the_result_alone(url):
    with AtTerminal("call", url, "slow", "--revision", "2025-11-25") as person:
        assert person.end() == OK
        assert person.shown == "\r\x1b[K1/2 half\r\x1b[Kinfo: working\ndone\n"


# --- what a person sees ---------------------------------------------------------------------------------------


def test_what_a_server_says_does_not_steer_a_terminal(url, capsys, monkeypatch):
    sent = "text=\x1b]0;title\x07\x1b[2J\ttab"
    assert run(capsys, "call", url, "echo", sent)[1] == sent.removeprefix("text=") + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(capsys, "call", url, "echo", sent)[1] == "\\x1b]0;title\\x07\\x1b[2J\ttab\n"


# A screen cleared, a title set by a C1 control, a deletion, an override, an isolate, three line ends, a tag, and a row.
NASTY = "a\x1b[2J\x9d0;t\x9c\x7f\u202eb\u2066c\x85d\u2028e\u2029f\U000e0041\r\nprompts (1)\n  fake"
STEERS = {*map(chr, (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029))} - {
    "\n"
}


class Nasty(ServerHandler):
    """Every text of it is `NASTY`."""

    name = version = NASTY

    async def list_tools(self, params: Any, ctx: Any) -> Any:
        schema = {"type": "object", "properties": {"n": {"type": NASTY}, "m": {"anyOf": [{"type": [NASTY]}]}}}
        return {
            "tools": [
                {"name": NASTY, "description": NASTY, "inputSchema": schema},
                {"name": "t", "inputSchema": schema},
            ]
        }

    async def list_resources(self, params: Any, ctx: Any) -> Any:
        return {"resources": [{"uri": NASTY, "title": NASTY}, "no object", {"uri": {}, "description": [NASTY]}]}

    async def list_prompts(self, params: Any, ctx: Any) -> Any:
        return {"prompts": [{"name": NASTY, "description": " " * 300 + NASTY}]}

    async def list_resource_templates(self, params: Any, ctx: Any) -> Any:
        return {"resourceTemplates": [{"uriTemplate": NASTY}]}

    async def call_tool(self, params: Any, ctx: Any) -> Any:
        if params["name"] == "refuse":
            raise MCPError(77, NASTY, {NASTY: NASTY})
        await ctx.report_progress(1, 2, NASTY)
        await ctx.log("info", NASTY)
        named = {"uri": NASTY, "mimeType": NASTY, "data": "AAAA"}
        link = {"type": NASTY, **named}
        return {"content": [link, {"type": "resource", "resource": named}, NASTY, {"text": [NASTY], **named}]}

    async def read_resource(self, params: Any, ctx: Any) -> Any:
        return {"contents": [{"uri": NASTY, "mimeType": NASTY, "text": NASTY}]}

    async def get_prompt(self, params: Any, ctx: Any) -> Any:
        return {"messages": [{"role": NASTY, "content": {"type": NASTY, "uri": NASTY}}, "no object"]}


@pytest.fixture(scope="module")
def nasty() -> Iterator[str]:
    with start_in_thread(Nasty(), port=0) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["list"], 10), (["call", "t"], None), (["call", "t", "n=1"], None), (["call", "t", "m=1"], None),
        (["call", "refuse"], None), (["call", "t", "--json"], None), (["list", "--json"], None),
        (["prompt", "p"], 2), (["prompt", "p", "--json"], None), (["ping"], 1), (["read", "a://b"], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_no_text_of_a_server_steers_or_fakes_a_line(words, lines, terminal, revision, nasty, capsys, monkeypatch):
    for stream in (sys.stdout, sys.stderr) if terminal else ():
        monkeypatch.setattr(stream, "isatty", lambda: True)
    main([words[0], nasty, *words[1:], "--revision", revision])
    out, err = capsys.readouterr()
    err = err.replace("\r\x1b[K", "\n").replace("\x1b[1;31m", "").replace("\x1b[0m", "")  # ours
    is_content = words[0] in ("read", "call") and "--json" not in words
    if terminal or not is_content:  # content on a pipe is for a program, as it is
        assert not STEERS & set(out)
    assert not STEERS & set(err) and "\n  fake" not in err and "\nprompts (1)" not in err
    if not is_content:
        assert "\n  fake" not in out and out.count("\nprompts (1)") == (words == ["list"])
    assert lines is None or len(out.splitlines()) == lines
    assert "Traceback" not in err and out + err.strip()


def test_json_for_a_program_says_the_same_in_characters_that_steer_nothing(nasty, capsys):
    code, out, _ = run(capsys, "read", nasty, "a://b", "--json")
    assert code == OK and json.loads(out)["contents"][0]["text"] == NASTY and "\\u202e" in out
    assert run(capsys, "read", nasty, "a://b")[1] == NASTY


def test_letters_of_any_script_are_shown_as_they_are(url, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    text = "h\u00e9 \u05d0 \u4e2d \U0001f469\u200d\U0001f4bb"
    assert run(capsys, "call", url, "echo", f"text={text}")[1] == text + "\n"
    assert text in run(capsys, "call", url, "echo", f"text={text}", "--json")[1]


def test_a_letter_that_the_output_cannot_have_is_an_escape(url, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", out)
    assert main_of("call", [url, "echo", "text=h\u00e9"]) == OK
    out.flush()
    assert out.buffer.getvalue() == b"h\\xe9\n"


def test_a_schema_that_has_no_end_is_no_schema():
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(5_000):
        schema = {"anyOf": [schema]}
    assert arguments_of(["n=1"], {"properties": {"n": schema}}) == {"n": "1"}


def test_progress_is_shown_on_a_terminal(url, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code, out, err = run(capsys, "call", url, "slow")
    assert (code, out) == (OK, "done\n") and "1/2 half\r\x1b[K" in err
    assert "1/2" not in run(capsys, "call", url, "slow", "--json")[2]


# --- what a person writes -------------------------------------------------------------------------------------

SCHEMA = {
    "properties": {
        "n": {"type": "integer"},
        "s": {"type": "string"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "list": {"type": ["array", "null"]},
        "open": {},
        "odd": True,
    }
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("n=1", {"n": 1}),
        ("s=1", {"s": "1"}),
        ("s=", {"s": ""}),
        ("either=1", {"either": "1"}),
        ("maybe=null", {"maybe": None}),
        ("list=[1,2]", {"list": [1, 2]}),
        ("open=1", {"open": "1"}),
        ("odd=1", {"odd": "1"}),
        ("unknown=1", {"unknown": "1"}),
        ("unknown:=1", {"unknown": 1}),
        (' {"n": {}}', {"n": {}}),
    ],
)
def test_arguments(word, value):
    assert arguments_of([word], SCHEMA) == value


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("n", "neither key=value nor"),
        ("=1", "neither key=value nor"),
        (":=1", "neither key=value nor"),
        ("n=one", "n has to be integer, not 'one'"),
        ("n=NaN", "n has to be integer"),
        ("n:={", "n is not JSON"),
        ("n:=Infinity", "Infinity is not JSON"),
        ("n:=1e999", "n is not JSON: number out of range"),
        ("n=1e999", "n has to be integer"),
        ("n:=" + "[" * 200 + "]" * 200, "n is not JSON: nested too deeply"),
        ("{'n': 1}", "the arguments is not JSON"),
    ],
)
def test_arguments_that_cannot_be_read(word, said):
    with pytest.raises(UsageError, match=said):
        arguments_of([word], SCHEMA)


def test_targets(tmp_path):
    assert target_of("HTTPS://example.com/mcp") == "HTTPS://example.com/mcp"
    assert target_of("python 'my server.py' --stdio") == ["python", "my server.py", "--stdio"]
    file = tmp_path / "served_by_hand.py"
    file.write_text(TOOLS)
    assert isinstance(target_of(str(file)), MCPServer)
    assert target_of(f"{sys.executable} {file} --stdio") == [sys.executable, str(file), "--stdio"]
    assert target_of(sys.executable) == [sys.executable]
    spaced = tmp_path / "with a space.py"
    spaced.write_text(file.read_text())
    assert isinstance(target_of(str(spaced)), MCPServer)
    missing = (str(tmp_path / "none.py"), "No such file")
    for wrong, said in (("", "empty"), ("python 'x", "split into words"), missing):
        with pytest.raises(UsageError, match=said):
            target_of(wrong)

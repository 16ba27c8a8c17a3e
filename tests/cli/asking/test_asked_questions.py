# SPDX-License-Identifier: MIT
"""The questions of a server on the command line: answered by options, typed at a terminal, declined; in both eras."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE
from typing import Any

import anyio
import pytest
from provision import server_environment
from terminals import CTRL_C, CTRL_D, AtTerminal

from mcp_h11 import Context, MCPError, MCPServer, start_in_thread
from mcp_h11.cli.asking.answers import Answers
from mcp_h11.cli.asking.ask import OK, PROTOCOL_ERROR, main_of
from mcp_h11.cli.asking.form_fields import MAX_FIELDS
from mcp_h11.cli.asking.printing import MAX_WAITING_LINES, Screen
from mcp_h11.cli.asking.questions import MAX_URL, MAX_WRONG_ANSWERS, REJECTED, Answerer
from mcp_h11.cli.asking.terminal import Terminal
from mcp_h11.cli.main import INTERRUPTED
from mcp_h11.cli.parser import FAILED, UsageError
from mcp_h11.protocol.errors import URL_ELICITATION_REQUIRED

pytestmark = pytest.mark.long

ERAS = ["2025-11-25", "2026-07-28"]
PAGE = "https://login.example.com/authorize?state=1"

FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Your name", "minLength": 2},
        "guests": {"type": "integer", "minimum": 1, "maximum": 8},
        "mail": {"type": "string", "format": "email"},
        "size": {
            "type": "string",
            "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
            "default": "s",
        },
        "extras": {"type": "array", "items": {"type": "string", "enum": ["olives", "ham"]}},
        "window": {"type": "boolean", "default": False},
    },
    "required": ["name", "guests"],
}

released = threading.Event()
held = threading.Event()


def asker() -> MCPServer:
    server = MCPServer("asker", version="1")
    seen: list[str] = []

    def said(answer: Any) -> str:
        return json.dumps([answer.action, answer.content])

    @server.tool
    async def form(ctx: Context) -> str:
        return said(await ctx.elicit("A table?\nFor today.", FORM))

    @server.tool
    async def empty(ctx: Context) -> str:
        return said(await ctx.elicit("Delete it?", {"type": "object", "properties": {}}))

    @server.tool
    async def page(ctx: Context, url: str = PAGE) -> str:
        return said(await ctx.elicit_url("Sign in", url))

    @server.tool
    async def think(ctx: Context) -> str:
        wanted = {"role": "user", "content": {"type": "text", "text": "A haiku\nof frogs"}}
        return (await ctx.sample([wanted], system_prompt="Be brief", max_tokens=50)).text

    @server.tool
    async def folders(ctx: Context) -> str:
        return json.dumps(await ctx.list_roots())

    @server.tool
    async def thrice(ctx: Context) -> str:
        "Three forms, one after the other."
        one = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        return " ".join([(await ctx.elicit(f"form {number}", one)).action for number in range(3)])

    @server.tool
    async def later(ctx: Context) -> str:
        "Asks when it is told to."
        held.set()
        with anyio.fail_after(60):
            while not released.is_set():
                await anyio.sleep(0.01)
        return said(await ctx.elicit("Now?", FORM))

    @server.tool
    async def locked() -> str:
        "Its page has to be visited before it is called; it knows that the second time."
        seen.append("call")
        if len(seen) % 2:
            elicitation = {"mode": "url", "elicitationId": "1", "message": "Sign in first", "url": PAGE}
            raise MCPError(URL_ELICITATION_REQUIRED, "a page has to be visited", {"elicitations": [elicitation]})
        return "open"

    return server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with start_in_thread(asker(), port=0) as running:
        yield f"http://127.0.0.1:{running.port}/mcp"


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main_of(words[0], words[1:])
    out, err = capsys.readouterr()
    return code, out, err


def answers(*words: str) -> list[str]:
    return [part for word in words for part in ("--answer", word)]


# --- without a terminal ---------------------------------------------------------------------------------------


def test_answers_on_the_command_line_have_the_types_of_the_form(era, url, capsys):
    given = answers("name=Ann", "guests=2", "size=Large", "extras=ham, 1", "window=yes")
    code, out, err = run(capsys, "call", url, "form", *given, "--revision", era)
    content = {"name": "Ann", "guests": 2, "size": "l", "extras": ["ham", "olives"], "window": True}
    assert code == OK and json.loads(out) == ["accept", content]
    assert err.startswith("asker asks: A table? For today. - answered: {") and err.count("\n") == 1


def test_a_field_without_an_answer_has_its_default_or_is_left_out(url, capsys):
    code, out, _ = run(capsys, "call", url, "form", *answers('name:="Ann"', "guests:=2"))
    assert (code, json.loads(out)) == (
        OK, ["accept", {"name": "Ann", "guests": 2, "size": "s", "window": False}],
    )  # fmt: skip


def test_a_form_that_is_not_answered_is_declined_and_said_how_to_answer(era, url, capsys):
    code, out, err = run(capsys, "call", url, "form", *answers("name=Ann"), "--revision", era)
    assert (code, json.loads(out)) == (OK, ["decline", None])
    assert err == "asker asks: A table? For today. - declined: --answer guests=... answers it\n"
    assert "--answer name=... --answer guests=... answers it" in run(capsys, "call", url, "form")[2]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("guests=many", "--answer guests has to be a whole number from 1 to 8"),
        ("guests=9", "--answer guests has to be a whole number from 1 to 8"),
        ('guests:="2"', "--answer guests has to be a whole number from 1 to 8"),
        ("size=medium", "--answer size has to be one of: 1 Small (s), 2 Large (l)"),
    ],
)
def test_an_answer_that_does_not_fit_is_a_mistake_on_the_command_line(word, said, url, capsys):
    code, out, err = run(capsys, "call", url, "form", *answers("name=Ann", "guests=2", word))
    assert (code, json.loads(out)[0]) == (FAILED, "decline") and said in err


def test_an_answer_to_no_question_is_said_with_the_name_that_is_near(url, capsys):
    _, _, err = run(capsys, "call", url, "form", *answers("name=Ann", "guest=2", "zzz=1"))
    assert "--answer guest: the server has not asked for it; did you mean guests?\n" in err
    assert "--answer zzz: the server has not asked for it\n" in err


def test_decline_declines_each_question_also_one_with_an_answer(era, url, capsys):
    given = [
        *answers("name=Ann", "guests=2", "accept=yes", "text=x"),
        "--decline",
        "--root",
        os.curdir,
        "--revision",
        era,
    ]
    for tool in ("form", "empty", "page"):
        code, out, err = run(capsys, "call", url, tool, *given)
        assert (code, json.loads(out)) == (OK, ["decline", None]) and "declined: as --decline says\n" in err
    assert run(capsys, "call", url, "folders", *given)[:2] == (OK, "[]\n")
    code, out, err = run(capsys, "call", url, "think", *given)
    assert (code, out) == (PROTOCOL_ERROR, "") and "declined: as --decline says\n" in err


@pytest.mark.parametrize(("word", "action"), [("accept=yes", "accept"), ("accept=no", "decline")])
def test_a_form_without_fields_and_a_page_are_agreed_to_by_a_word(word, action, era, url, capsys, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("a page was opened that was not seen"))
    for tool in ("empty", "page"):
        code, out, err = run(capsys, "call", url, tool, *answers(word), "--revision", era)
        assert code == OK and json.loads(out)[0] == action
    assert (PAGE in err and "host: login.example.com\n" in err) == (action == "accept")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (PAGE, f"it wants a page of login.example.com to be opened, {PAGE}; --answer accept=yes answers it"),
        ("javascript:alert(1)", "no address of a page (http, https)"),
        ("file:///etc/passwd", "no address of a page (http, https)"),
        ("https://[::1", "no address of a page (http, https)"),
        ("https://bank.example@evil.example/", "evil.example (careful: what stands before the @ is no part of it)"),
        (
            "https://xn--pypal-4ve.com/",
            "xn--pypal-4ve.com (careful: its letters may look like others: p\\u0430ypal.com)",
        ),
        ("https://p\u0430ypal.com/", "(careful: its letters may look like others: p\\u0430ypal.com)"),
        ("http://a.example/", "a.example (careful: not encrypted)"),
        ("https://a.example/" + "a" * (MAX_URL - len("https://a.example/")), "a.example to be opened"),
        ("https://a.example/" + "a" * (MAX_URL - len("https://a.example/") + 1), f"{MAX_URL} are the most"),
    ],
)
def test_a_page_is_named_by_its_whole_address_and_its_host(page, said, url, capsys):
    code, out, err = run(capsys, "call", url, "page", f"url={page}")
    assert (code, json.loads(out)) == (OK, ["decline", None]) and said in err


def test_the_text_of_a_model_is_an_answer_too(era, url, capsys):
    code, out, err = run(capsys, "call", url, "think", *answers("text=old pond"), "--revision", era)
    assert (code, out) == (OK, "old pond\n") and "answered by --answer text" in err
    code, out, err = run(capsys, "call", url, "think", "--revision", era)
    assert (code, out) == (PROTOCOL_ERROR, "") and f"error {REJECTED}" in err
    assert "asker asks for the text of a model: A haiku\\nof frogs - declined: --answer text=... answers it\n" in err
    code, _, err = run(capsys, "call", url, "think", *answers("text:=1"), "--revision", era)
    assert code == PROTOCOL_ERROR and "--answer text has to be text" in err


def test_roots_are_those_of_the_command_line(era, url, capsys, tmp_path):
    given = ["--root", str(tmp_path), "--root", "file:///srv", "--revision", era]
    code, out, err = run(capsys, "call", url, "folders", *given)
    named = {"uri": tmp_path.as_uri(), "name": tmp_path.name}
    assert (code, err) == (OK, "") and json.loads(out) == [named, {"uri": "file:///srv"}]
    code, out, err = run(capsys, "call", url, "folders", "--revision", era)
    assert (code, out) == (OK, "[]\n") and "answered: none; --root DIR names one" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--answer", "name"], "--answer 'name': has to be KEY=VALUE"),
        (["--answer", "=1"], "has to be KEY=VALUE"),
        (["--answer", ":=1"], "has to be KEY=VALUE"),
        (["--answer", "n:={"], "--answer n is not JSON"),
        (["--root", "/no/such/folder"], "'/no/such/folder' is no folder"),
    ],
)
def test_what_cannot_be_an_answer_is_wrong_before_the_call(words, said, url):
    with pytest.raises(UsageError, match=said):
        main_of("call", [url, "form", *words])


def test_a_page_that_an_error_names_is_shown_and_the_call_is_not_repeated_unseen(url, capsys):
    code, out, err = run(capsys, "call", url, "locked", *answers("accept=yes"), "--revision", ERAS[0])
    assert (code, out) == (PROTOCOL_ERROR, "") and "call again when the page is done\n" in err and PAGE in err
    assert run(capsys, "call", url, "locked", "--revision", ERAS[0])[:2] == (OK, "open\n")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ([], "the form has no fields that can be read"),
        ({"properties": {str(number): {} for number in range(MAX_FIELDS + 1)}}, f"{MAX_FIELDS} are the most"),
    ],
)
def test_a_form_that_cannot_be_shown_is_declined(form, said, capsys):
    screen = Screen()
    answerer = Answerer(screen, Terminal(screen), Answers(["0=x"]))
    answer = asyncio.run(answerer.elicitation({"message": "Well?", "requestedSchema": form}))
    assert answer == {"action": "decline"} and said in capsys.readouterr().err


# --- at a terminal --------------------------------------------------------------------------------------------

at_a_terminal = pytest.mark.skipif(os.name == "nt", reason="terminals as POSIX has them")


@at_a_terminal
@pytest.mark.parametrize("era", ERAS)
def test_a_person_answers_each_kind_of_question(era, url, tmp_path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}\n')
    browser.chmod(0o755)
    with AtTerminal("call", url, "form", "--revision", era) as person:
        assert "asker asks: A table?\n    For today.\n" in person.answer(
            "Your name: text of 2 characters or more (required)\n  > ", "A"
        )
        for wrong, prompt in (("Ann", "has to be text of 2 characters or more\n  > "), ("9", "(required)\n  > ")):
            person.answer(prompt, wrong)
        person.answer("guests has to be a whole number from 1 to 8\n  > ", "2")
        person.answer("mail: an e-mail address\n  > ", "")
        person.answer("size: one of: 1 Small (s), 2 Large (l) [s]\n  > ", "2")
        person.answer("extras: several, with commas between, of: 1 olives, 2 ham\n  > ", "1,2")
        person.answer("window: yes or no [no]\n  > ", "")
        content = {"name": "Ann", "guests": 2, "size": "l", "extras": ["olives", "ham"], "window": False}
        person.answer(f"Send {json.dumps(content)}? [Y/n] ", "")
        assert person.end() == OK and json.loads(person.shown.splitlines()[-1]) == ["accept", content]
    with AtTerminal("call", url, "page", "--revision", era, env={"BROWSER": f"{browser} %s"}) as person:
        asked = person.until("Visit it? o opens a browser, y if you open it yourself, [n] declines: ")
        assert f"asker asks: Sign in\n  {PAGE}\n  host: login.example.com\n" in asked and not opened.exists()
        person.type("o\n")
        if era == ERAS[1]:  # a session waits by itself, and a call of 2026-07-28 goes again with the answer
            person.answer("Press Enter when you are done there; Ctrl+D cancels ", "")
        assert person.end() == OK and json.loads(person.shown.splitlines()[-1]) == ["accept", None]
        assert opened.read_text() == PAGE
    with AtTerminal("call", url, "think", "--revision", era) as person:
        asked = person.answer("> ", "old pond")
        assert "  system: Be brief\n  user: A haiku\n    of frogs\n" in asked and "50 tokens at most" in asked
        person.answer("> ", "frog")
        person.answer("> ", "")
        assert person.end() == OK and person.shown.endswith("old pond\nfrog\n")


@at_a_terminal
def test_a_person_can_leave_each_question_without_an_answer(url):
    with AtTerminal("call", url, "thrice", stdout=PIPE) as person:
        person.until("form 0")
        person.until("  > ")
        person.type(CTRL_D)
        person.until("cancelled\n")
        person.until("form 1")
        for number in range(MAX_WRONG_ANSWERS):
            person.answer("  > ", "" if number else "x")
        assert "n is required\n" in person.until(f"declined: no answer in {MAX_WRONG_ANSWERS} tries\n")
        person.until("form 2")
        person.answer("  > ", "1")
        person.answer("[Y/n] ", "n")
        assert person.end() == OK and person.process.stdout is not None
        # Questions are shown on stderr: a program reads stdout.
        assert person.process.stdout.read() == b"cancel decline decline\n"


@at_a_terminal
def test_what_was_typed_before_a_question_was_shown_is_no_answer_to_it(url):
    held.clear()
    released.clear()
    with AtTerminal("call", url, "later", *answers("guests=2")) as person:
        assert held.wait(60)
        person.type("too early\n")
        released.set()
        person.answer("(required)\n  > ", "Ann")
        person.until("mail")
        person.type(CTRL_C)
        assert person.end() == INTERRUPTED and "Traceback" not in person.shown


@at_a_terminal
def test_a_page_that_an_error_names_is_visited_and_the_call_goes_again(url):
    with AtTerminal("call", url, "locked", "--revision", ERAS[0]) as person:
        person.answer("[n] declines: ", "x")
        person.answer("it has to be o, y or n\n", "y")
        person.answer("Press Enter when you are done there", "")
        assert person.end() == OK and person.shown.endswith("\nopen\n")


# --- the screen -----------------------------------------------------------------------------------------------


def test_lines_of_a_server_wait_while_a_person_types(capsys):
    screen = Screen()
    with screen.asking():
        for number in range(MAX_WAITING_LINES + 1):
            screen.tell(f"{number}\x1b")
        screen.progress(1, 2, "half")
        assert capsys.readouterr().err == ""
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("1\\x1b", f"{MAX_WAITING_LINES}\\x1b", MAX_WAITING_LINES)


@pytest.mark.parametrize(
    ("environ", "shown"),
    [({}, False), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"TERM": "xterm"}, True)],
)
def test_progress_updates_one_line_that_fits_the_terminal(environ, shown, capsys, monkeypatch):
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    screen.progress(1, 2, "x" * 50)
    screen.say("a line")
    screen.close()
    wanted = "\r\x1b[K1/2 " + "x" * 15 + "\r\x1b[K" if shown else ""
    assert capsys.readouterr().err == f"{wanted}a line\n"


def test_progress_on_a_pipe_is_lines_where_it_is_wanted(capsys):
    Screen(verbose=True).progress(1, None, "one")
    Screen().progress(1, None, "one")
    assert capsys.readouterr().err == "1 one\n"


def test_a_terminal_that_the_loop_cannot_watch_is_read_by_a_thread(monkeypatch):
    reading, writing = os.pipe()

    async def ask() -> list[str | None]:
        def refuse(*_: Any) -> None:
            raise NotImplementedError

        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuse)
        terminal = Terminal(Screen())
        os.write(writing, b"one\n")
        lines = [await terminal.ask("> ")]
        os.close(writing)
        return [*lines, await terminal.ask("> ")]

    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert asyncio.run(asyncio.wait_for(ask(), 30)) == ["one", None]


# A screen cleared, a deletion, an override, three line ends, and a line that looks like one of this program.
NASTY = "a\x1b[2J\x9d0;t\x9c\x7f\u202eb\u2066c\x85d\u2028e\u2029f\r\nasker asks: fake"
STEERS = {chr(code) for code in (*range(32), *range(127, 160), 0x202E, 0x2066, 0x2028, 0x2029) if code != 10}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("terminal", [False, True])
def test_no_question_steers_a_terminal_or_fakes_a_line(terminal, era):
    server = MCPServer(NASTY, version="1")
    field = {"type": "string", "title": NASTY, "description": NASTY, "enum": [NASTY], "enumNames": [NASTY]}
    odd = {"type": "string", "default": NASTY, "pattern": NASTY}

    @server.tool
    async def ask(ctx: Context) -> str:
        form = {"type": "object", "properties": {NASTY: field, "odd": odd}, "required": [NASTY]}
        await ctx.elicit(NASTY, form)
        await ctx.elicit_url(NASTY, f"https://example.com/{NASTY}")
        block = {"role": "user", "content": {"type": "text", "text": NASTY}}
        return (await ctx.sample([block], system_prompt=NASTY)).text

    with start_in_thread(server, port=0) as running:
        words = ["call", f"http://127.0.0.1:{running.port}/mcp", "ask", "--revision", era]
        if terminal:
            with AtTerminal(*words) as person:
                for prompt, text in (("  > ", "1"), ("  > ", ""), ("? [Y/n] ", ""), ("declines: ", "n"), ("> ", "")):
                    person.answer(prompt, text)
                person.end()
                shown = person.shown
        else:
            command = [sys.executable, "-m", "mcp_h11", *words]
            ended = subprocess.run(command, env=server_environment(), stdin=DEVNULL, capture_output=True, timeout=60)
            shown = ended.stderr.decode()
    shown = shown.replace("\x1b[1;31m", "").replace("\x1b[0m", "")  # ours
    assert "a\\x1b[2J" in shown and "\\u202e" in shown and not STEERS & set(shown)
    assert "\nasker asks: fake" not in shown and "Traceback" not in shown

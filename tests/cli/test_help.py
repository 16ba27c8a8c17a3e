# SPDX-License-Identifier: MIT
"""The help: each command has a line in the first one, a screen of its own, and all of its options where asked for."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import fields

import pytest

from mcp_h11 import Limits, Settings
from mcp_h11.cli import commands
from mcp_h11.cli.main import main
from mcp_h11.cli.options import OPTIONS
from mcp_h11.cli.parser import CommandParser

# Settings that no text can give.
OBJECTS = {"authorize", "verifier", "scope_includes", "ssl", "call_in", "session_manager", "event_store"}
WIDTH, HEIGHT = 80, 40  # a screen


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")


def helped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.mark.parametrize("word", ["", *commands.COMMANDS])
def test_the_help_of_each_command_fits_a_screen(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys, *filter(None, [word]), "--help")
    assert text.startswith(f"usage: python -m mcp_h11 {word}".rstrip())
    assert text == helped(capsys, *filter(None, [word]), "-h")
    lines = text.splitlines()
    assert len(lines) <= HEIGHT
    assert [line for line in lines if len(line) > WIDTH] == []


def test_the_first_help_names_each_command_with_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split(maxsplit=1) for line in helped(capsys, "--help").splitlines() if line.startswith("  ")]
    for word, command in commands.COMMANDS.items():
        assert [word, command.about] in rows


@pytest.mark.parametrize("words", [[], ["proxy"]])
def test_every_option_stands_in_the_long_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    brief, long = helped(capsys, *words, "--help"), helped(capsys, *words, "--help-all")
    assert "--help-all" in brief
    for option in OPTIONS:
        assert option.flag in long.replace("[no-]", ""), option.flag
    assert "--trusted-proxies" not in brief


@pytest.mark.parametrize("words", [[], ["proxy"], ["dev"]])
def test_the_long_help_names_each_setting_that_has_no_option(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    long = helped(capsys, *words, "--help-all")
    names = long.split("settings for --set, which docs/settings.md explains:\n")[1].replace(",", " ").split()
    settable = {field.name for field in fields(Settings)} - {option.key for option in OPTIONS} - OBJECTS - {"limits"}
    assert {*names} == settable | {f"limits.{field.name}" for field in fields(Limits)}
    assert [line for line in long.splitlines()[-12:] if len(line) > WIDTH] == []


def test_each_command_follows_the_convention_of_the_table() -> None:
    for word in ["", *commands.COMMANDS]:
        parser = commands.parser_of(word)
        assert parser.prog == f"python -m mcp_h11 {word}".rstrip()
        # A shell completes by these, so each has a word to say of it.
        assert [action.dest for action in parser._actions if not action.help and action.dest != "target"] == []


def fills(columns: int) -> bool:
    """Whether a long help is cut into lines for a screen of this width."""
    parser = CommandParser(prog="p")
    parser.add_argument("--option", help="word " * 100)
    most = columns - 2
    return most - len("word ") < max(map(len, parser.format_help().splitlines())) <= most


@pytest.mark.parametrize("text", ["60", "100", "0", "-5", "wide", "", None])
def test_the_help_is_as_wide_as_the_terminal(text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is None:
        monkeypatch.delenv("COLUMNS")
    else:
        monkeypatch.setenv("COLUMNS", text)
    assert fills(shutil.get_terminal_size().columns)
    monkeypatch.setattr(sys, "__stdout__", None)  # pythonw
    assert fills(shutil.get_terminal_size().columns)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="a terminal of POSIX")
@pytest.mark.parametrize("columns", [70, 0])  # a terminal may not know
def test_a_terminal_tells_its_width(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import struct
    import termios

    monkeypatch.delenv("COLUMNS")
    ours, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        with open(theirs, "w", closefd=False) as screen:
            monkeypatch.setattr(sys, "__stdout__", screen)
            assert fills(columns or 80)
    finally:
        os.close(ours)
        os.close(theirs)

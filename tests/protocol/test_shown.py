# SPDX-License-Identifier: MIT
"""Text of peers in logs: one line stays one line, and nothing in it is obeyed by a terminal."""

from __future__ import annotations

import ast
import logging
import sys
import unicodedata
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawclient import Legacy, Modern
from serving import LEGACY, served

import mcp_h11
from mcp_h11 import Context
from mcp_h11.handler.handler import ServerHandler
from mcp_h11.protocol.errors import MCPError
from mcp_h11.protocol.shown import (
    MAX_CHAIN,
    MAX_LOGGED_TEXT,
    MAX_LOGGED_TRACE,
    EscapedTrace,
    escaped,
    escaping,
    trace_text,
)

PACKAGE = Path(mcp_h11.__file__).parent
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
FORGED = "x\n2026-11-28 00:00:00 INFO root: forged \x1b[2J\x9b1m\u202eabc\u2066\u2028"


def is_unsafe(char: str) -> bool:
    """By what Unicode says of it, not by the list that is tested."""
    return (
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(char) in BIDI
        or char in "\u061c\u200e\u200f"
    )


def test_every_character_that_acts_is_escaped_and_every_other_one_is_left_alone() -> None:
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        if is_unsafe(char):
            assert escaped(f"a{char}b") == f"a{ascii(char)[1:-1]}b", hex(number)
        elif char.isprintable() or unicodedata.category(char) == "Zs":
            assert escaped(f"a{char}b") == f"a{char}b", hex(number)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u4f60\u597d \U0001f469\u200d\U0001f680", "caf\u00e9 \u4f60\u597d \U0001f469\u200d\U0001f680"),
        ("C:\\new", "C:\\new"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_lines_may_be_kept() -> None:
    assert escaped("a\n\x1b[1mb", keep="\n") == "a\n\\x1b[1mb"


@given(st.text())
def test_an_escaped_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    once = escaped(text)
    assert len(once.splitlines()) <= 1 and not any(map(is_unsafe, once))
    assert escaped(once) == once


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, StringIO]]:
    logger = escaping(logging.Logger("one"))
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    logger.addHandler(handler)
    yield logger, stream
    handler.close()


class Repr:
    def __repr__(self) -> str:
        return FORGED


@pytest.mark.parametrize(
    "value", [FORGED, ValueError(FORGED), [FORGED], Repr()], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("form", ["%s", "%r", "%.200s", "%.200r", "%(name)s"])
def test_whatever_is_put_into_a_line_it_is_one_line(value: Any, form: str, logged: Any) -> None:
    logger, stream = logged
    logger.warning(f"before {form} after", {"name": value} if "name" in form else value)
    text = stream.getvalue()
    assert text.startswith("one before ") and text.endswith(" after\n")
    assert not any(map(is_unsafe, text[:-1]))
    assert "forged" in text


def test_numbers_keep_their_forms_and_plain_text_its_type(logged: Any) -> None:
    logger, stream = logged
    records: list[logging.LogRecord] = []
    logger.handlers[0].addFilter(lambda record: records.append(record) or True)
    logger.warning("%d %.1f %s %s", 3, 1.25, None, "plain")
    assert stream.getvalue() == "one 3 1.2 None plain\n"
    assert records[0].args == (3, 1.25, None, "plain")


def test_a_line_without_arguments_is_left_alone(logged: Any) -> None:
    logger, stream = logged
    logger.warning("100 % of it")
    logger.warning("two\nlines", exc_info=True)  # no exception is there
    assert stream.getvalue().startswith("one 100 % of it\none two\nlines\n")


def test_a_traceback_is_indented_and_what_its_exception_says_is_escaped(logged: Any) -> None:
    logger, stream = logged
    try:
        try:
            raise ValueError(FORGED)
        except ValueError as error:
            raise KeyError("other") from error
    except KeyError:
        logger.exception("it failed")
    first, *trace = stream.getvalue().rstrip("\n").split("\n")
    assert first == "one it failed" and trace[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in trace)
    assert [line for line in trace if "2026" in line] == [f"  ValueError: {escaped(FORGED)}"]
    assert not any(is_unsafe(char) for line in trace for char in line)


def test_a_long_chain_of_exceptions_and_one_without_words_are_logged(logged: Any) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError

    logger, stream = logged
    error: Exception = Unspeakable()
    for number in range(2 * MAX_CHAIN):
        following = ValueError(f"{number}\n{number}")
        following.__cause__ = error
        error = following
    logger.error("it failed", exc_info=error)
    logger.error("it failed", exc_info=Unspeakable())
    assert "  ValueError: 127\\n127" in stream.getvalue().replace(str(2 * MAX_CHAIN - 1), "127")
    assert "Unspeakable" in stream.getvalue()


def test_a_traceback_that_was_made_before_is_kept(logged: Any) -> None:
    logger, stream = logged
    logger.error("it failed\n%s", trace_text("Traceback\nValueError: a\x1bb\n"))
    assert stream.getvalue() == "one it failed\n  Traceback\n  ValueError: a\\x1bb\n"
    assert isinstance(trace_text(""), EscapedTrace)


@pytest.mark.parametrize("more", [0, 1])
def test_an_argument_and_a_traceback_have_a_length(more: int, logged: Any) -> None:
    logger, stream = logged
    logger.warning("%s", "x" * (MAX_LOGGED_TEXT - 2 + more) + "\n")
    assert (" ... " in stream.getvalue()) == bool(more)
    lines = "\n".join(["y" * 1021] * (MAX_LOGGED_TRACE // 1024)) + "z" * (1 + more)
    text = trace_text(lines)
    assert (" ... " in text) == bool(more) and len(text) <= MAX_LOGGED_TRACE + len(" ... ")
    assert text.endswith("yz" + "z" * more)
    assert len(trace_text("y" * 10 * MAX_LOGGED_TEXT)) < 2 * MAX_LOGGED_TEXT


def test_every_logger_of_the_package_escapes() -> None:
    """But that of the access log, whose lines have nothing but printable ASCII (test_ops)."""
    makers = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Assign) and "getLogger" in ast.unparse(node.value):
                makers[str(path.relative_to(PACKAGE).with_suffix(""))] = ast.unparse(node.value)
    assert makers.pop("server/access").startswith("logging.getLogger(")
    assert len(makers) > 20
    assert {module for module, value in makers.items() if value != "escaping(logging.getLogger(__name__))"} == set()


# --- on the wire ------------------------------------------------------------------------------------------------------


class Raising(ServerHandler):
    """Fails by what its client sent."""

    name = "raising"

    async def request(self, method: str, params: dict[str, Any], ctx: Context) -> Any:
        raise KeyError(params.get("it", method)) if "it" in params else ValueError(f"no {method}")

    async def notification(self, method: str, params: dict[str, Any], ctx: Context | None) -> None:
        raise ValueError(f"no {method}")


@pytest.mark.anyio
@pytest.mark.parametrize("modern", [False, True])
async def test_a_method_and_a_notification_with_line_feeds_forge_no_line(
    modern: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    async with served(Raising()) as server:  # type: ignore[arg-type]
        client: Any = Modern(server.port) if modern else Legacy(server.port, LEGACY)
        client.check = False
        if not modern:
            await client.initialize()
        forged = "x/y\n2026-11-28 00:00:00 INFO root: forged \x1b[2J"
        if modern:  # the same is in a header there, which has no line feed
            assert (await client.call("x/y", {"it": forged})).error["code"] == -32603
        else:
            assert (await client.call(forged)).error["code"] == -32603
            await client.notify(forged)
            await client.call("ping")
            await client.delete()
    assert "forged" in caplog.text and "\x1b" not in caplog.text
    assert not [line for line in caplog.text.splitlines() if line.startswith(("2026", "  2026"))]


def test_the_error_that_a_peer_words_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.setFormatter(logging.Formatter("%(message)s"))
    logger = escaping(logging.getLogger("mcp_h11.words_of_a_peer"))
    logger.warning("%.200s is not listened to: %s", FORGED, MCPError(-32002, FORGED))
    (line,) = caplog.text.splitlines()
    assert line.count("forged") == 2 and not any(map(is_unsafe, line))

# SPDX-License-Identifier: MIT
"""Lines of JSON on stderr: each is one object that a strict reader takes, whatever was logged or printed."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipper import LEVELS, MAX_BYTES, shipped

import mcp_h11
from mcp_h11.server.logs import MAX_LOG_LINE, JSONLines, write_log_line
from mcp_h11.server.printed import MAX_UNENDED, Lines, Printed, handler_of, printed_to

ROOT = Path(mcp_h11.__file__).resolve().parents[1]
LIMIT = 120  # seconds: texts of megabytes on a busy machine
TEXTS_DRAWN = 750  # each is written in each way, which makes 14 lines at least
NASTY = [
    "\n",
    "\r",
    "\x00",
    "\x1b[31m",
    "\u2028",
    "\u2029",
    "\ud800",
    "\udfff",
    "\U0001f600",
    "%s",
    "%d",
    '"',
    "\\ud800",
    "}",
]
TEXTS = st.one_of(
    st.text(st.characters(), max_size=30),  # surrogates and control characters are in it
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=8).map("".join),
    st.builds(
        lambda text, times: text * times, st.sampled_from([*NASTY, "word "]), st.sampled_from([2, 10, 50, 600, 9_000])
    ),
)


def lines(stream: io.BytesIO) -> logging.Handler:
    handler = Lines(io.TextIOWrapper(stream, "ascii", newline="\n"), shared=False)
    handler.setFormatter(JSONLines())
    return handler


def said(*records: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of these records."""
    stream = io.BytesIO()
    handler = lines(stream)
    for record in records:
        handler.handle(logging.makeLogRecord({"name": "tools", "levelno": logging.INFO, **record}))
    return shipped(stream.getvalue())


class Odd:
    """Fails in each way in which it could be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NoText(Odd):
    def __repr__(self) -> str:
        return "<NoText>"


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def failure(kind: type[Exception], *words: Any) -> Any:
    try:
        raise kind(*words)
    except Exception:
        return sys.exc_info()


ARGUMENTS = st.one_of(TEXTS, st.floats(), st.integers(), st.none(), st.just(Odd()), st.just(NoText()), st.binary())


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"msg": st.one_of(TEXTS, st.just(Odd()), st.just(NoText()), st.none())},
            optional={
                "args": st.lists(ARGUMENTS, max_size=2).map(tuple),
                "name": TEXTS.filter(bool),
                "levelno": st.integers(-5, 200),
                "exc_info": st.one_of(TEXTS.map(lambda text: failure(ValueError, text)), st.just(failure(OddError))),
                "stack_info": TEXTS,
                "backend": ARGUMENTS,
                "access": ARGUMENTS,
            },
        ),
        max_size=20,
    )
)
def test_each_record_is_one_entry(records: list[dict[str, Any]]) -> None:
    assert len(said(*records)) == len(records)


@pytest.mark.parametrize(
    ("number", "level"),
    [(0, "debug"), (9, "debug"), (10, "debug"), (19, "debug"), (20, "info"), (25, "info"), (30, "warning"),
     (45, "error"), (50, "critical"), (99, "critical")],
)  # fmt: skip
def test_a_level_of_ones_own_is_the_known_one_below_it(number: int, level: str) -> None:
    (entry,) = said({"levelno": number, "levelname": "NOTICE"})
    assert entry["level"] == level and level in LEVELS


def test_a_line_has_a_limit_and_keeps_both_ends_of_its_texts() -> None:
    (rest,) = said({"msg": ""})
    room = MAX_LOG_LINE - len(json.dumps(rest, separators=(",", ":"))) - 1
    for over in (0, 1):
        (entry,) = said({"msg": "<" + "x" * (room - 2 + over) + ">"})
        assert (len(entry["message"]) < room) is bool(over)
        assert entry["message"].startswith("<x") and entry["message"].endswith("x>")
    (entry,) = said({"msg": "\U0001f600" * 50_000, "exc_text": "\u2028" * 50_000, "stack_info": "\x00" * 50_000})
    assert entry["message"] and entry["exception"] and entry["stack"]
    assert MAX_LOG_LINE < MAX_BYTES


def test_half_of_a_surrogate_pair_is_written_as_python_writes_it() -> None:
    (entry,) = said({"msg": "a\udc80b \U0001f600 \\ud800"})
    assert entry["message"] == "a\\udc80b \U0001f600 \\ud800"


def test_a_record_that_no_text_can_be_made_of_names_its_place() -> None:
    (entry,) = said({"msg": Odd(), "pathname": "/a/tools.py", "lineno": 7})
    assert entry["message"] == "a record of /a/tools.py, line 7, has no text"
    (entry,) = said({"msg": NoText()})
    assert entry["message"] == "<NoText>"
    (entry,) = said({"msg": "%d and %d", "args": (1,)})
    assert entry["message"] == "%d and %d (1,)"


def test_an_exception_without_a_traceback_is_named() -> None:
    class Formatter(JSONLines):
        def formatException(self, ei: Any) -> str:
            raise RuntimeError("an attribute of the exception fails")

    record = logging.makeLogRecord({"name": "tools", "levelno": 20, "msg": "x", "exc_info": failure(ValueError, "y")})
    assert json.loads(Formatter().format(record))["exception"] == "ValueError, and no traceback can be made of it"


# --- printed text ----------------------------------------------------------------------------------------------------
def test_each_printed_line_is_an_entry() -> None:
    stream = io.BytesIO()
    said_to = printed_to(lines(stream), io.StringIO())
    print("one\n\n  two\r\nthree\rfour", file=said_to)
    print("half", end="", file=said_to)
    assert len(shipped(stream.getvalue())) == 4
    print(" of it", "\ud800", file=said_to)
    said_to.buffer.write(b"\xff bytes\n")  # type: ignore[attr-defined]
    print("unended", end="", file=said_to)
    said_to.flush()
    said_to.flush()
    found = shipped(stream.getvalue())
    assert [one["message"] for one in found] == [
        "one", "  two", "three", "four", "half of it \\ud800", "\\xff bytes", "unended",
    ]  # fmt: skip
    assert {(one["level"], one["logger"]) for one in found} == {("info", "stderr")}


def test_a_line_without_an_end_has_a_limit() -> None:
    stream = io.BytesIO()
    raw = Printed(lines(stream), None)
    raw.write(b"x" * (MAX_UNENDED - 1))
    assert shipped(stream.getvalue()) == []
    raw.write(b"x" * (MAX_UNENDED + 2))
    raw.end()
    assert [len(one["message"]) for one in shipped(stream.getvalue())] == [MAX_UNENDED, MAX_UNENDED, 1]


def test_the_words_of_two_threads_do_not_mix() -> None:
    stream = io.BytesIO()
    said_to = printed_to(lines(stream), io.StringIO())
    print("ours", end="", file=said_to)
    thread = threading.Thread(target=lambda: print("theirs, and no end", end="", file=said_to))
    thread.start()
    thread.join(LIMIT)
    print(" alone", file=said_to)
    said_to.buffer.end()  # type: ignore[attr-defined]
    assert [one["message"] for one in shipped(stream.getvalue())] == ["ours alone", "theirs, and no end"]


def test_stderr_keeps_its_descriptor_if_it_has_one() -> None:
    with open(os.devnull, "w") as null:
        assert printed_to(lines(io.BytesIO()), null).fileno() == null.fileno()
    made = printed_to(lines(io.BytesIO()), io.StringIO())
    with pytest.raises(io.UnsupportedOperation):
        made.fileno()
    assert not made.isatty() and made.writable() and handler_of(made) is not None and handler_of(io.StringIO()) is None


def test_a_stderr_that_is_gone_is_not_told_of() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        for shared in (False, True):
            Lines(stream, shared=shared).handle(logging.makeLogRecord({"name": "a", "levelno": 20, "msg": "gone"}))
        with pytest.raises(BrokenPipeError):
            stream.close()
    Lines(stream, shared=False).handle(logging.makeLogRecord({"msg": "closed"}))


def test_a_stream_that_has_no_locks_is_written_without_them() -> None:
    stream = io.StringIO()
    handler = Lines(stream, shared=True)
    handler.setFormatter(JSONLines())
    handler.handle(logging.makeLogRecord({"name": "a", "levelno": 20, "msg": "said"}))
    assert shipped(stream.getvalue().encode())[0]["message"] == "said"


def test_a_formatter_that_fails_is_told_as_logging_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise RuntimeError("no line")

    handler = lines(io.BytesIO())
    handler.setFormatter(Failing())
    handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert "RuntimeError: no line" in capsys.readouterr().err


def test_a_record_by_hand_is_a_line_whether_printed_lines_are_records_or_not() -> None:
    stream = io.BytesIO()
    handler = lines(stream)
    write_log_line(
        logging.makeLogRecord({"name": "a", "levelno": 20, "msg": "printed"}), printed_to(handler, io.StringIO())
    )
    plain = io.StringIO()
    write_log_line(logging.makeLogRecord({"name": "a", "levelno": 20, "msg": "plain"}), plain)
    found = shipped(stream.getvalue() + plain.getvalue().encode())
    assert [(one["logger"], one["message"]) for one in found] == [("a", "printed"), ("a", "plain")]


# --- processes -------------------------------------------------------------------------------------------------------
PROGRAM = """\
import asyncio, json, logging, sys, threading, traceback, warnings
from mcp_h11.server.logs import log_as_json

class Task:  # an entry of asyncio's own for each
    def __init__(self, text): self.text = text
    def __del__(self): raise RuntimeError(self.text)

def fail(text):
    raise ValueError(text)

def as_print(text): print(text, "and more", file=sys.stderr)
def as_traceback(text):
    try: fail(text)
    except ValueError: traceback.print_exc()
def as_record(text): logging.getLogger(text[:40] or "tools").error(text)
def as_argument(text): logging.getLogger("tools").info("%s and %r", text, text)
def as_mistake(text): logging.getLogger("tools").info(text, 1)
def as_exception(text):
    try: fail(text)
    except ValueError: logging.getLogger("tools").exception("failed: %s", text)
def as_stack(text): logging.getLogger("tools").warning("here", stack_info=True)
def as_warning(text): warnings.warn(text)
def as_unraisable(text): Task(text)
def as_thread(text):
    thread = threading.Thread(target=fail, args=(text,))
    thread.start()
    thread.join()
def as_loop(text):
    loop.call_exception_handler({"message": text, "exception": ValueError(text), "more": text})

WAYS = [as_print, as_traceback, as_record, as_argument, as_mistake, as_exception, as_stack, as_warning, as_unraisable,
        as_thread, as_loop]
log_as_json("INFO", process=1)
warnings.simplefilter("always")
loop = asyncio.new_event_loop()
texts = json.load(open(sys.argv[1]))
for text in texts:
    for way in WAYS:
        way(text)
print("the last one, without an end", end="", file=sys.stderr)
fail(texts[0])
"""


@pytest.mark.long
def test_ten_thousand_lines_of_each_kind_are_read(tmp_path: Path) -> None:
    texts: list[str] = []

    @settings(max_examples=30, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(TEXTS, min_size=10, max_size=10))
    def draw(found: list[str]) -> None:
        texts.extend(found)

    while len(texts) < TEXTS_DRAWN:
        draw()
    (tmp_path / "texts").write_text(json.dumps(texts))
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "texts")],
        stderr=subprocess.PIPE, timeout=LIMIT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 1
    found = shipped(ran.stderr)
    assert len(found) >= 10_000, len(found)
    assert {one["logger"] for one in found} >= {"stderr", "tools", "asyncio", "py.warnings", "mcp_h11.server.logs"}
    assert {one["process"] for one in found} == {1}
    last = [one["message"] for one in found[-4:]]  # Python itself may have a last word, of the loop that is open
    assert last.index("uncaught ValueError") + 1 == last.index("the last one, without an end")
    print(f"{len(found)} lines, {len(ran.stderr)} bytes")


WRITER = """\
import logging, sys
from mcp_h11.server.logs import log_as_json
log_as_json("INFO", process=int(sys.argv[1]))
for _ in range(60):
    logging.getLogger("a").info("%s", sys.argv[1] * 9000)
"""


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="no locks on a pipe")
def test_lines_of_two_processes_do_not_mix_in_a_pipe_that_is_full() -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-c", WRITER]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([*command, name], stderr=writer, env=environment) for name in "12"]
    os.close(writer)
    pieces = []
    with open(reader, "rb", buffering=0) as pipe:
        while piece := pipe.read(4096):  # smaller than a line: the writers wait for the reader within a line
            pieces.append(piece)
    assert [one.wait(LIMIT) for one in writers] == [0, 0]
    assert sorted(one["process"] for one in shipped(b"".join(pieces))) == [1] * 60 + [2] * 60

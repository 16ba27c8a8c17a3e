# SPDX-License-Identifier: MIT
"""The options of `bench`, and the limits that each of them has.  `bench` acts on them."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ...bench.anyserver import ANYWHERE, OURS
from ...protocol.revisions import REVISIONS
from ..asking.ask_parser import TOKEN
from ..parser import PROG, CommandParser

# Each limit is there so that no typing error turns into an attack: a load is bounded, and ends by itself.
MAX_CONCURRENCY = 2_000  # connections
MAX_DURATION = 600.0  # seconds of one run
MAX_OPERATIONS = 2_000_000  # of one run: the time of each is kept
MAX_ERRORS = 10_000
MOST_ROUNDS = 50
MAX_PROCESSES = 16
MAX_SESSIONS = 20_000  # of the scenario idle
DEFAULT_CONCURRENCY = 20
DURATION, WARMUP, TIMEOUT, ERRORS, ROUNDS, SESSIONS = 10.0, 1.0, 30.0, 100, 5, 1_000
COMPARED_DURATION = 3.0  # seconds of each run of --compare
IDLE_SCENARIO = "idle"
_RARE = ("expect", "path", "pid", "processes", "requests", "rounds", "same", "sessions", "timeout", "warmup")
SCENARIO_NAMES = (*ANYWHERE, IDLE_SCENARIO, *OURS)

_EPILOG = f"""\
Without a TOOL the request is tools/list.  No tool is called unasked.
A COMMAND without {{port}} is measured on stdin and stdout.

examples:
  {PROG} bench http://127.0.0.1:8000/mcp add a=1 b=2
  {PROG} bench tools.py add a=1 b=2 --concurrency 1,20,100
  {PROG} bench add a=1 b=2 -- node server.js {{port}}
  {PROG} bench tools.py add a=1 b=2 --compare other.py
"""


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:12]) <= most:
            raise argparse.ArgumentTypeError(f"has to be a number from {least} to {most}, not {text!r:.40}")
        return int(text)

    return read


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"has to be {least:g} to {most:g} seconds, not {text!r:.40}")
        return value

    return read


def _numbers(text: str) -> tuple[int, ...]:
    read = _number(1, MAX_CONCURRENCY)
    return tuple(read(word.strip()) for word in text.split(","))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError(f"has to be 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isascii() or any(letter <= " " for letter in text):
        raise argparse.ArgumentTypeError(f"has to begin with '/' and have no blank, not {text!r:.40}")
    return text


def parser_of(word: str) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = CommandParser(
        prog=f"{PROG} {word}",
        usage=f"{PROG} {word} [options] TARGET [TOOL] [KEY=VALUE ...]\n"
        f"       {PROG} {word} [options] [TOOL] [KEY=VALUE ...] -- COMMAND",
        description="Measure a server under load: throughput, latency, errors, its CPU and memory.",
        epilog=_EPILOG,
        rare=_RARE,
        mixed=True,
    )
    add = parser.add_argument
    add("target", metavar="TARGET", help="a URL, a Python file with a server, or a command (quoted)")
    add("tool", nargs="?", metavar="TOOL", help="the tool; it is really called, thousands of times")
    add("arguments", nargs="*", default=[], metavar="KEY=VALUE", help="or KEY:=JSON, or one JSON object of them")
    add("--scenario", choices=SCENARIO_NAMES, default="call", metavar="NAME", help=", ".join(SCENARIO_NAMES))
    about = f"connections ({DEFAULT_CONCURRENCY}), each with one request; a run for each N"
    add("--concurrency", type=_numbers, metavar="N[,N]", help=about)
    about = f"of each run ({DURATION:g}; with --compare {COMPARED_DURATION:g})"
    add("--duration", type=_seconds(0.05, MAX_DURATION), metavar="SECONDS", help=about)
    add("--warmup", type=_seconds(0.0, MAX_DURATION), default=WARMUP, metavar="SECONDS", help=f"before it ({WARMUP:g})")
    about = "end a run after so many"
    add("--requests", type=_number(1, MAX_OPERATIONS), default=MAX_OPERATIONS, metavar="N", help=about)
    about = f"end after so many ({ERRORS})"
    add("--errors", type=_number(1, MAX_ERRORS), default=ERRORS, metavar="N", help=about)
    about = f"for one answer ({TIMEOUT:g})"
    add("--timeout", type=_seconds(0.1, MAX_DURATION), default=TIMEOUT, metavar="SECONDS", help=about)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--expect", metavar="TEXT", help="an answer with another text is an error")
    group.add_argument("--same", action="store_true", help="an answer that differs from the first is an error")
    about = "measure another server in turn (A B A B), and show ratios"
    add("--compare", metavar="TARGET", help=about)
    about = f"of --compare ({ROUNDS})"
    add("--rounds", type=_number(2, MOST_ROUNDS), default=ROUNDS, metavar="N", help=about)
    add("--sessions", type=_number(10, MAX_SESSIONS), default=SESSIONS, metavar="N", help=f"of idle ({SESSIONS})")
    add("--processes", type=_number(1, MAX_PROCESSES), default=1, metavar="N", help="of the generator")
    add("--json", action="store_true", help="print the figures for a program")
    add("--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help="of each request")
    add("--token", help=f"bearer token; better kept in the environment, as {TOKEN}")
    add("--revision", choices=tuple(REVISIONS), metavar="REVISION", help=", ".join(REVISIONS))
    add("--path", type=_path, default="/mcp", help="of the endpoint of a command (/mcp)")
    add("--pid", type=_number(1, 2**31 - 1), help="the server's process, where its port does not tell")
    return parser

# SPDX-License-Identifier: MIT
"""Heads read by their lines beside h11: `Reader.agrees` is the property that tests and the fuzzer try."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_h11.http.headlines import HeadLines
from mcp_h11.http.heads import BLANK_LINE, ask_h11
from mcp_h11.http.messages import Head, HTTPError

MAX_FIELDS = 100
COMPARED = [name for name in Head.__slots__ if name not in ("cached", "verdict")]


class Reader:
    """Lines that are learnt as a server learns them."""

    def __init__(self) -> None:
        self.lines = HeadLines()

    def agrees(self, raw: bytes) -> str:
        """How a head was read: by its "lines", or by "h11", which may have refused it.

        Raises AssertionError where the lines give another head than h11, or a head that h11 refuses or that is not
        plain.  `raw` is whatever ends with a blank line: what stands before an earlier one is a head for h11.
        """
        read = self.lines.read(raw) if raw.endswith(b"\n") else None
        end = BLANK_LINE.search(raw)
        if end is None:
            assert read is None, raw
            return "h11"
        if end.end() != len(raw):
            assert read is None, raw
            raw = raw[: end.end()]
            read = self.lines.read(raw)
        try:
            asked, _, plain = ask_h11(raw, MAX_FIELDS)
        except HTTPError:
            assert read is None, raw
            return "h11"
        if read is not None:
            assert plain, raw
            for name in COMPARED:
                assert getattr(read, name) == getattr(asked, name), (name, raw)
            return "lines"
        if plain:
            self.lines.learn(raw, asked)
        return "h11"


def line_of(lines: Sequence[bytes], number: int) -> bytes:
    """The name of a line."""
    return lines[number % len(lines)].partition(b":")[0]

# SPDX-License-Identifier: MIT
"""Heads read by their lines, or by their forms, beside h11: `agrees` is the property that tests and the fuzzer try."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_h11.http.headforms import HeadForms
from mcp_h11.http.headlines import HeadLines
from mcp_h11.http.heads import BLANK_LINE, ask_h11
from mcp_h11.http.messages import CLIENT_FIELDS, Head, HeadShape, HTTPError

MAX_FIELDS = 100
OWN = ("_fields", "_headers", "_raw", "cached", "session", "shape", "verdict")  # not read from the bytes
COMPARED = ["fields", "headers", *(name for name in Head.__slots__ if name not in OWN)]
JUDGED = (b"accept", b"host", b"x-id")


class Reader:
    """Lines that are learnt as a server learns them."""

    def __init__(self) -> None:
        self.lines = HeadLines(JUDGED)
        self.said: dict[HeadShape, object] = {}  # of the first head of each shape: all that a verdict may depend on

    def agrees(self, raw: bytes) -> str:
        """How a head was read: by its "lines", or by "h11", which may have refused it.

        Raises AssertionError where the lines give another head than h11, or a head that h11 refuses or that is not
        plain, or one whose shape has heads that a verdict tells apart.  `raw` is whatever ends with a blank line: what
        stands before an earlier one is a head for h11.
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
            self._compare(read, asked, raw)
            return "lines"
        if plain:
            self.lines.learn(raw, asked)
        return "h11"

    def _compare(self, read: Head, asked: Head, raw: bytes) -> None:
        for field in {*asked.fields, b"x-none", *CLIENT_FIELDS}:  # before the fields are made
            name = field.decode("ascii")
            assert read.get_all(name) == asked.get_all(name), (name, raw)
            assert read.get(name) == asked.get(name), (name, raw)
        for name in COMPARED:
            assert getattr(read, name) == getattr(asked, name), (name, raw)
        assert (None if read.session is None else read.session.strip()) == asked.session, raw
        if read.shape is not None:
            judged = [(name, value) for name, value in asked.headers if name in JUDGED]
            secrets = [name for name, _ in asked.headers if name in CLIENT_FIELDS]
            said = asked.method, asked.target, sorted(judged), sorted(secrets)
            assert self.said.setdefault(read.shape, said) == said, raw


class FormReader(Reader):
    """The same for forms, which are taken soon: of heads that were read some four times, one of them first."""

    def __init__(self, patience: int = 2) -> None:
        super().__init__()
        self.forms = HeadForms(self.lines, patience, sampled=1)
        self.read_by_form = 0  # heads

    def agrees(self, raw: bytes, body: bytes = b"") -> str:
        how = super().agrees(raw)
        data = raw + body
        form_fits = self.forms._match(data) is not None
        read, size = self.forms.read(data)
        if read is None:
            return how
        end = BLANK_LINE.search(data)
        assert end is not None and end.end() == size, data
        asked, _, plain = ask_h11(data[:size], MAX_FIELDS)
        assert plain, data
        self._compare(read, asked, data[:size])
        self.read_by_form += form_fits
        return "form" if form_fits else how


def line_of(lines: Sequence[bytes], number: int) -> bytes:
    """The name of a line."""
    return lines[number % len(lines)].partition(b":")[0]

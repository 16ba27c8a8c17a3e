# SPDX-License-Identifier: MIT
"""A new head whose names are known: read by one regular expression, which has the names of many heads.

Heads of one kind of client behind one kind of proxy have the same names in the same order: a form.  `HeadForms` reads
a head as `HeadLines` has read another one of its form, where

- the request line is the same, and so is the value of each field of weight: then the `HeadShape` is the same;
- no other value has a CR, LF, NUL, form feed or vertical tab, and Content-Length is a number, as `HeadLines` has it.

Every other head goes to `HeadLines`.  So nothing is refused here, and nothing is decided that was not decided there; a
property test holds that no head is read otherwise than h11 would.

Forms are taken from samples of the heads that had none.  The expression is a tree of names (heads that begin alike
share the beginning), so a head is looked at once, however many forms there are.  To compile it takes some milliseconds.
It is compiled again after twice as many heads without a form as the last time, and at last once in `MAX_PATIENCE` of
them.  A form that was used since the last time stays: a client that always sends new forms gets the places of those
that are no longer used, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from sys import maxsize

from .headlines import LENGTH, PRIVATE, HeadLines
from .messages import MAX_CACHED_HEAD, SESSION, Head, HeadShape, Limits

MAX_FORMS = 12
FORM_SIZE = 400  # bytes of the names of one, with the request line
FORM_NAMES = 30  # of one, with the request line
SHAPES_OF_A_FORM = 16
SAMPLED = 7  # of so many heads without a form one is a sample; a prime, since clients and proxies take turns
MAX_SAMPLES = 64  # forms that are counted
PATIENCE = 512  # heads without a form until the expression is compiled; twice as many each time
MAX_PATIENCE = 65_536  # to compile takes 8 ms: a thousandth of the time that so many heads take

FieldNames = tuple[bytes, ...]  # the request line, and the names of the fields as they were written
Match = Callable[[bytes], "re.Match[bytes] | None"]


class Form:
    """Heads that differ in values alone; `used` says whether one was read since the expression was compiled.

    `groups` are numbers of groups in the expression: of an empty one that tells the form, of the `weights`, which are
    the key of `shapes`, and then of the private values; `session` and `length` are places among them, or 0.
    """

    __slots__ = ("groups", "length", "names", "session", "shapes", "start", "used", "weights")

    def __init__(
        self, names: FieldNames, start: Head, number: int, weights: Sequence[int], private: dict[bytes, int]
    ) -> None:
        self.names = names
        self.start = start
        self.groups = (number, *weights, *private.values())
        self.weights = 1 + len(weights)
        places = {name: self.weights + place for place, name in enumerate(private)}
        self.session = places.get(SESSION, 0)
        self.length = places.get(LENGTH, 0)
        self.shapes: dict[tuple[bytes | None, ...], HeadShape] = {}
        self.used = False


def _none(_: bytes) -> None:
    return None


class HeadForms:
    """Reads heads by their forms, and those without one by `lines`.

    Args:
        patience: heads without a form until the first ones are taken.
        sampled: of so many heads without a form one is looked at.
    """

    __slots__ = ("_forms", "_lines", "_match", "_max_head", "_missed", "_patience", "_sampled", "_samples")

    def __init__(self, lines: HeadLines, patience: int = PATIENCE, sampled: int = SAMPLED) -> None:
        self._lines = lines
        self._match: Match = _none
        self._forms: dict[int | None, Form] = {}  # by the number of the empty group
        self._samples: dict[FieldNames, int] = {}
        self._missed = 0  # heads without a form, since the expression was compiled
        self._patience = patience
        self._sampled = sampled
        self._max_head = maxsize

    def limit(self, limits: Limits) -> None:
        """Take the limits of the connections.  A form has as many lines as a head that `lines` has read."""
        self._max_head = limits.max_head or maxsize

    def forget_shapes(self) -> None:
        """Drop the shapes, and the verdicts that they keep."""
        for form in self._forms.values():
            form.shapes.clear()

    def read(self, data: bytes, end: int = 0) -> tuple[Head | None, int]:
        """The head at the beginning of `data`, and where it ends; None where h11 has to be asked.

        `end` is where the caller takes the head to end, if it has looked for that.
        """
        found = self._match(data)
        if found is None:
            return self._read_lines(data, end)
        form = self._forms[found.lastindex]
        values = found.group(*form.groups)
        shape = form.shapes.get(values[: form.weights])
        # Without a LF, and the expression takes no CR, this is the end of the first blank line.
        size = found.end()
        raw = data[:size]
        if shape is None or size > self._max_head or 10 in b"".join(values[form.weights :]):
            return self._read_lines(data, end)
        if 0 in raw or 11 in raw or 12 in raw:  # NUL, VT, FF
            return None, 0
        form.used = True
        head = form.start.with_fields(raw, values[form.session] if form.session else None, shape)
        if form.length:
            length = self._lines.size(values[form.length])
            if length < 0:
                return None, 0
            head.size = head.content_length = length
        return head, size

    def _read_lines(self, data: bytes, end: int) -> tuple[Head | None, int]:
        # From behind, since most bodies are short; no head that is read so has a second blank line.
        end = end or data.rfind(b"\r\n\r\n", 0, MAX_CACHED_HEAD) + 4
        raw = data[:end]
        head = self._lines.read(raw)
        if head is not None and head.shape is not None:
            self._consider(raw, head.shape)
        return head, end

    def _consider(self, raw: bytes, shape: HeadShape) -> None:
        """A head was read by its lines: the next one like it may have a form."""
        found = self._match(raw)
        if found is not None:
            form = self._forms[found.lastindex]
            if len(form.shapes) >= SHAPES_OF_A_FORM:
                form.shapes.clear()
            form.shapes[found.group(*form.groups)[: form.weights]] = shape
            return
        self._missed += 1
        if self._missed % self._sampled == 0:
            self._sample(raw)
        if self._missed >= self._patience:
            self._missed = 0
            self._take_samples()

    def _sample(self, raw: bytes) -> None:
        start, *fields = raw.split(b"\r\n")[:-2]
        names = (start, *[line.partition(b":")[0] for line in fields])
        if len(names) > FORM_NAMES or sum(map(len, names)) > FORM_SIZE:
            return
        if names in self._samples or len(self._samples) < MAX_SAMPLES:
            self._samples[names] = self._samples.get(names, 0) + 1

    def _take_samples(self) -> None:
        """Make forms of the names that came more than once, in the places of the forms that are not used."""
        often = [names for names, count in self._samples.items() if count > 1]
        often.sort(key=self._samples.__getitem__, reverse=True)
        self._samples = {}
        forms = sorted(self._forms.values(), key=lambda form: not form.used)
        used = sum(form.used for form in forms)
        new = often[: MAX_FORMS - used]
        for form in forms:
            form.used = False
        if new:
            self._patience = min(2 * self._patience, MAX_PATIENCE)
            self._compile([*[form.names for form in forms[: MAX_FORMS - len(new)]], *new])

    def _compile(self, every: Sequence[FieldNames]) -> None:
        tree = _Tree(self._lines)
        known = [names for names in every if self._lines.start_of(names[0]) is not None]
        expression = tree.expression([(names, names, {}) for names in known])
        self._forms = tree.forms
        self._match = re.compile(expression).match if known else _none


class _Tree:
    """The expression for some forms, and the forms by the number of the group that tells each."""

    def __init__(self, lines: HeadLines) -> None:
        self._lines = lines
        self._groups = 0
        self.forms: dict[int | None, Form] = {}

    def expression(self, forms: Sequence[tuple[FieldNames, FieldNames, dict[bytes, int]]]) -> bytes:
        """Each form comes with those of its names that are still to be read, and the groups of the others."""
        branches = []
        for first in dict.fromkeys([rest[:1] for _, rest, _ in forms]):
            these = [form for form in forms if form[1][:1] == first]
            branches.append(self._branch(first[0], these) if first else self._end(these[0][0], these[0][2]))
        return branches[0] if len(branches) == 1 else b"(?:%b)" % b"|".join(branches)

    def _branch(self, written: bytes, forms: Sequence[tuple[FieldNames, FieldNames, dict[bytes, int]]]) -> bytes:
        name, found = written.lower(), {}
        if forms[0][0] is forms[0][1]:
            value = b""  # the request line
        elif self._lines.is_weighty(name) or name in PRIVATE:
            self._groups += 1
            found, value = {name: self._groups}, rb":([^\r]*)"  # looked at by `read`
        else:
            value = rb":(?=.*\r\n)[^\r]*"  # no LF, no CR
        rest = [(names, rest[1:], groups | found) for names, rest, groups in forms]
        return rb"%b%b\r\n%b" % (re.escape(written), value, self.expression(rest))

    def _end(self, names: FieldNames, groups: dict[bytes, int]) -> bytes:
        self._groups += 1
        start = self._lines.start_of(names[0])
        assert start is not None
        weights = [group for name, group in groups.items() if name not in PRIVATE]
        private = {name: group for name, group in groups.items() if name in PRIVATE}
        self.forms[self._groups] = Form(names, start, self._groups, weights, private)
        return rb"\r\n()"

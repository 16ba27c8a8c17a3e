# SPDX-License-Identifier: MIT
"""Heads read by their forms: as h11 reads them or not at all, whatever was read before, and at a bounded cost.

`agrees` is the property; its oracle is `ask_h11`, as in `test_headlines`.
"""

from __future__ import annotations

import tracemalloc
from itertools import cycle, islice

import pytest
from examples import examples
from headlines_support import FormReader
from hypothesis import given
from hypothesis import strategies as st
from test_headlines import LINES, changed, head, heads

from mcp_h11.bench.heads import PROXIES, Traffic
from mcp_h11.http import headforms
from mcp_h11.http.headforms import (
    FORM_NAMES,
    FORM_SIZE,
    MAX_FORMS,
    MAX_SAMPLES,
    SHAPES_OF_A_FORM,
    HeadForms,
)
from mcp_h11.http.headlines import HeadLines
from mcp_h11.http.heads import HeadCache, ask_h11
from mcp_h11.http.messages import Limits

BODIES = [b"", b"{}", b"\r\n\r\n", b"a\r\n\r\nb", b"\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 9]


def formed(*fields: bytes, patience: int = 2) -> FormReader:
    """A reader that has taken the form of a head with these lines, and its shape."""
    reader = FormReader(patience)
    for _ in range(2 + 2 * patience):
        reader.agrees(head(*fields))
    assert reader.agrees(head(*fields)) == "form"
    return reader


# --- as h11 reads them ----------------------------------------------------------------------------------------------


@examples(700)
@given(st.lists(heads(), min_size=1, max_size=4), st.sampled_from(BODIES))
def test_a_head_is_read_as_h11_would_whatever_was_read_before(found: list[bytes], body: bytes) -> None:
    reader = FormReader()
    reader.agrees(head())
    for raw in islice(cycle(found), 6 * len(found)):
        reader.agrees(raw, body)


@examples(500)
@given(st.lists(heads(), min_size=1, max_size=3), st.data())
def test_a_head_that_differs_in_some_bytes_from_one_with_a_form_is_read_as_h11_would(
    found: list[bytes], data: st.DataObject
) -> None:
    reader = FormReader()
    reader.agrees(head())
    for raw in islice(cycle(found), 5 * len(found)):
        reader.agrees(raw)
    for raw in found:
        reader.agrees(changed(raw, data), data.draw(st.sampled_from(BODIES)))


@examples(300)
@given(st.lists(LINES, min_size=1, max_size=6), st.data())
def test_other_values_of_the_same_names_are_read_as_h11_would(lines: list[bytes], data: st.DataObject) -> None:
    reader = FormReader()
    first = b"POST /mcp HTTP/1.1\r\nHost: a\r\n" + b"".join(lines) + b"\r\n"
    for _ in range(6):
        reader.agrees(first)
    for _ in range(3):
        others = [line.partition(b":")[0] + b":" + data.draw(LINES).partition(b":")[2] for line in lines]
        reader.agrees(b"POST /mcp HTTP/1.1\r\nHost: a\r\n" + b"".join(others) + b"\r\n")


@pytest.mark.long
def test_every_byte_in_every_place_of_a_head_is_judged_as_h11_does() -> None:
    """One head that has a form, and the same with one byte replaced or put in: all 256 at each place."""
    fields = [b"Content-Length: 2", b"X-Id:  ab c", b"Connection: keep-alive", b"Cookie: a", b"Z: b"]
    raw, reader = head(*fields), formed(*fields, patience=256)
    for at in range(len(raw)):
        for byte in range(256):
            for skip in (0, 1):
                reader.agrees(raw[:at] + bytes([byte]) + raw[at + skip :], b"\r\n\r\n")
    assert reader.read_by_form > 2_000  # not all are left to lines


@pytest.mark.parametrize("kind", PROXIES)
def test_what_comes_through_a_proxy_has_a_form(kind: str) -> None:
    traffic, reader = Traffic(seed=5, kinds=(kind,), clients=20), FormReader(patience=16)
    for count in range(120):
        how = reader.agrees(traffic.head(100 + count % 7, {"Mcp-Session-Id": f"{count:032x}"}), b"{}")
        assert count < 80 or how == "form"


def test_a_new_value_of_weight_is_read_by_lines_once() -> None:
    reader = formed(b"Accept: a")
    assert [reader.agrees(head(b"Accept: b")) for _ in range(4)][-1] == "form"
    read = [reader.forms.read(head(b"Accept: %b" % value))[0] for value in (b"a", b"b", b"a")]
    first, second, third = (one.shape for one in read if one is not None)
    assert first is third is not second is not None


@pytest.mark.parametrize(
    "line",
    [b"X: a\rb", b"X: a\nb", b"X: a\x00", b"X: a\x0b", b"X: a\x0c", b"Cookie: a\nb", b"Cookie: a\rb", b"Cookie: \x00"],
)
def test_no_value_has_what_h11_refuses(line: bytes) -> None:
    name = line.partition(b":")[0]
    reader = formed(name + b": a")
    assert reader.agrees(head(name + b": c")) == "form"
    assert reader.agrees(head(line)) == "h11"


def test_lengths_are_numbers() -> None:
    reader = formed(b"Content-Length: 2")
    head_of, size = reader.forms.read(head(b"Content-Length: 17") + b"a" * 17)
    assert head_of is not None and head_of.content_length == head_of.size == 17 and size == len(head()) + 20
    for odd in (b"+2", b"2,2", b"", b"1" * 19):
        assert reader.agrees(head(b"Content-Length: " + odd)) == "h11"


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_head_past_the_limits_is_not_read() -> None:
    reader = formed(b"X: a")
    long = head(b"X: " + b"a" * 100)
    for limit, fits in ((len(long), True), (len(long) - 1, False)):
        for one in (reader.lines, reader.forms):
            one.limit(Limits(max_head=limit))
        assert (reader.forms.read(long)[0] is not None) == fits


def often(forms: HeadForms, *fields: bytes, times: int) -> None:
    for _ in range(times):
        forms.read(head(*fields))


def fresh(patience: int) -> HeadForms:
    lines = HeadLines()
    lines.learn(head(), ask_h11(head(), 100)[0])
    lines.read(head())
    return HeadForms(lines, patience, sampled=1)


def names_of(forms: HeadForms) -> set[bytes]:
    """The second names of the forms."""
    return {form.names[2] for form in forms._forms.values()}


def test_the_forms_are_counted() -> None:
    forms = fresh(patience=3 * MAX_FORMS)
    for number in range(MAX_FORMS):
        often(forms, b"X-%d: a" % number, times=3)
    assert len(forms._forms) == MAX_FORMS and b"X-0" in names_of(forms)
    often(forms, b"Y: a", times=6 * MAX_FORMS)  # one more, in the place of one that is not used
    assert b"Y" in names_of(forms) and len(forms._forms) == MAX_FORMS


def test_a_form_that_is_used_stays_whatever_others_send() -> None:
    forms = fresh(patience=4)
    often(forms, b"Honest: a", times=8)
    for number in range(40 * MAX_FORMS):
        often(forms, b"X-%d: a" % (number % (3 * MAX_FORMS)), times=3)
        often(forms, b"Honest: %d" % number, times=1)
        assert b"Honest" in names_of(forms)
    assert len(forms._forms) == MAX_FORMS


def test_a_form_that_is_used_again_comes_back_and_the_wait_for_it_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headforms, "MAX_PATIENCE", 64)
    forms = fresh(patience=4)
    for number in range(2_000):
        often(forms, b"X-%d: a" % (number // 2), times=1)
    assert forms._patience == 64
    often(forms, b"Honest: a", times=2 * 64)
    assert b"Honest" in names_of(forms)


def test_more_forms_at_once_than_there_is_room_for() -> None:
    forms = fresh(patience=3 * MAX_FORMS + 2 * 2)
    often(forms, b"Y: a", times=2)
    for number in range(MAX_FORMS):
        often(forms, b"X-%d: a" % number, times=3)
    often(forms, b"Z: a", times=2)
    assert names_of(forms) == {b"X-%d" % number for number in range(MAX_FORMS)}  # those that came most


def test_what_comes_once_has_no_form() -> None:
    forms = fresh(patience=10)
    for number in range(30):
        often(forms, b"X-%d: a" % number, times=1)
    assert not forms._forms and len(forms._samples) == 0
    assert forms._patience == 10


def test_samples_are_counted() -> None:
    forms = fresh(patience=3 * MAX_SAMPLES)
    for number in range(MAX_SAMPLES + 1):
        often(forms, b"X-%d: a" % number, times=1)
    assert len(forms._samples) == MAX_SAMPLES
    often(forms, b"X-0: a", times=1)  # one that is counted is counted on
    assert max(forms._samples.values()) == 2


def test_a_long_form_is_not_taken() -> None:
    room = FORM_SIZE - len(b"POST /mcp HTTP/1.1") - len(b"Host")
    for size, taken in ((room, True), (room + 1, False)):
        forms = fresh(patience=4)
        often(forms, b"X" * size + b": a", times=8)
        assert bool(forms._forms) == taken


def test_a_form_of_many_names_is_not_taken() -> None:
    for count, taken in ((FORM_NAMES - 2, True), (FORM_NAMES - 1, False)):
        forms = fresh(patience=4)
        often(forms, *[b"X%d: a" % number for number in range(count)], times=8)
        assert bool(forms._forms) == taken


def test_shapes_of_a_form_are_counted() -> None:
    lines = HeadLines((b"accept",))
    lines.learn(head(), ask_h11(head(), 100)[0])
    forms = HeadForms(lines, 4, sampled=1)
    often(forms, b"Accept: a", times=9)
    (form,) = forms._forms.values()
    for number in range(2 * SHAPES_OF_A_FORM):
        often(forms, b"Accept: %d" % number, times=3)
        assert len(form.shapes) == (1 + number) % SHAPES_OF_A_FORM + 1
    forms.forget_shapes()
    assert not form.shapes


def test_each_time_the_expression_is_compiled_it_waits_twice_as_long() -> None:
    forms = fresh(patience=4)
    compiled = []
    for number in range(100):
        before = forms._match
        often(forms, b"X-%d: a" % (number // 2), times=1)
        if forms._match is not before:
            compiled.append(number)
    assert compiled == [3, 11, 27, 59]


def test_a_request_line_that_was_forgotten_has_no_form() -> None:
    forms = fresh(patience=4)
    forms._lines._starts.clear()
    forms._compile([(b"POST /mcp HTTP/1.1", b"Host")])
    assert not forms._forms and forms.read(head()) == (None, len(head()))


def test_a_setting_that_changed_drops_the_verdicts() -> None:
    cache = HeadCache()
    cache.limit(Limits())
    cache.forms = fresh(patience=4)
    often(cache.forms, b"X: a", times=9)
    (form,) = cache.forms._forms.values()
    assert form.shapes
    cache.forget()
    assert not form.shapes


def test_memory_stays_where_it_is_under_forms_that_are_always_new() -> None:
    forms = fresh(patience=64)
    tracemalloc.start()
    try:
        for number in range(3_000):
            names = [b"X-%d-%d: %b" % (n, number // 2, b"a" * 200) for n in range(16)]
            forms.read(head(*names))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()

# SPDX-License-Identifier: MIT
"""A value with a long text is written in the bytes of the standard library, or refused with its error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_h11.protocol import codec as codec_module
from mcp_h11.protocol.codec import long_dumps, standard_dumps
from mcp_h11.protocol.jsonrpc import JSON
from mcp_h11.protocol.longtexts import LONG_TEXT, add_pieces, has_long_text

letters = st.characters(exclude_categories=())
texts = st.builds(
    lambda start, unit, times, end: start + unit * times + end,
    st.text(letters, max_size=8),
    st.text(letters, max_size=6) | st.sampled_from(["\n", '"', "\\", "a\n", "é", "a" * 40 + "\n", "\x00" + "b" * 90]),
    st.sampled_from([0, 1, 700, 9_000]),
    st.text(letters, max_size=8),
)
values = st.recursive(
    texts | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text(letters), inner, max_size=20)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=10,
)


def outcome(write: Any, value: Any) -> Any:
    try:
        return write(value)
    except (ValueError, TypeError) as error:
        return (type(error), str(error))


@pytest.mark.long
@settings(deadline=None)
@given(values)
def test_the_bytes_and_the_errors_are_those_of_the_standard_library(value: Any) -> None:
    assert outcome(long_dumps, value) == outcome(standard_dumps, value)
    assert outcome(lambda one: long_dumps(one, b"<", b">"), [value]) == outcome(
        lambda one: b"<%b>" % standard_dumps(one), [value]
    )


@pytest.mark.parametrize(
    "unit",
    ["x", "x\n", "a line of a text, of some length\n", 'a "quoted" word, in a line of some length\n', "C:\\path and ",
     "\x00 in a text, a letter that few have", "\x1f\x7f\x80 ", "é", "\u2028 and \U0001f600 in a text of letters"],
)  # fmt: skip
def test_each_kind_of_text_is_written_as_the_standard_library_writes_it(unit: str) -> None:
    text = unit * (2 * LONG_TEXT // len(unit))
    # The samples see nothing of the last one.
    for one in (text, "y" * 5_000 + text + "y" * 90_000, "y" * 5_000 + '\\"\n' + "y" * 90_000):
        result = {"content": [{"type": "text", "text": one}], "structuredContent": {"result": one}}
        written = JSON().result(7, result)
        assert written == b'{"jsonrpc":"2.0","id":7,"result":%b}' % standard_dumps(result)
        assert json.loads(written)["result"] == result


def test_a_large_value_beside_a_long_text_is_written_in_few_parts() -> None:
    value: Any = 1
    for _ in range(5):
        value = [value] * 8
    parts = []

    def write(part: Any) -> str:
        parts.append(part)
        return json.dumps(part, separators=(",", ":"))

    result = {"content": [{"type": "text", "text": "x" * 5_000}], "structuredContent": {"result": value}}
    pieces: list[bytes] = []
    add_pieces(pieces, result, write)
    assert b"".join(pieces) == standard_dumps(result)
    assert len(parts) < 20


def test_what_cannot_be_written_raises_as_it_does_without_a_long_text() -> None:
    long: dict[str, Any] = {"content": [{"type": "text", "text": "x" * 5_000}]}
    with pytest.raises(ValueError, match="inf"):
        JSON().result(1, long | {"structuredContent": {"a": float("inf")}})
    with pytest.raises(TypeError):
        JSON().result(1, long | {"structuredContent": {"a": object()}})
    around: list[Any] = []
    around.append(around)
    with pytest.raises(ValueError, match="too deeply"):
        JSON().result(1, long | {"structuredContent": {"a": around}})
    lone = {"content": [{"type": "text", "text": "x" * 5_000 + "\ud800"}]}
    assert JSON().result(1, lone).endswith(b'xx\\ud800"}]}}')


def test_a_long_text_is_looked_for_where_results_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = "x" * (LONG_TEXT + 1), "x" * LONG_TEXT
    assert has_long_text({"content": [{"type": "text", "text": long}]})
    assert has_long_text({"contents": [{"uri": "a:b", "text": long}]})
    for other in (
        {"content": [{"type": "text", "text": short}]},
        {"content": []},
        {"contents": []},
        {"content": {}},
        {"content": [long]},
        {"content": [{"type": "image", "data": long}]},
        {"content": [{"type": "text", "text": None}]},
        {},
        [],
        None,
    ):
        assert not has_long_text(other)
        assert json.loads(JSON().result(1, other))["result"] == other
    monkeypatch.setattr(codec_module, "standard_dumps", None)  # the slower way is not taken
    result = {"content": [{"type": "text", "text": long}], "isError": False}
    assert json.loads(JSON().result(1, result))["result"] == result

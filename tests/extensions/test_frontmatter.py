# SPDX-License-Identifier: MIT
"""The reader of front matter: each value here is what PyYAML 6 (YAML 1.1) and npm's yaml 2 (YAML 1.2) read as well."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_h11.extensions.frontmatter import MAX_FRONT_MATTER, MAX_NESTING, FrontMatterError, front_matter


def read(block: str) -> Any:
    return front_matter(f"---\n{block}\n---\n# body\n")


GOOD: list[tuple[str, Any]] = [
    ("name: a", {"name": "a"}),
    ("name: a\ndescription: Do this. Use it when that happens, or so!", {
        "name": "a", "description": "Do this. Use it when that happens, or so!"}),
    ("a: x # comment\n# comment\n\nb: y#z", {"a": "x", "b": "y#z"}),
    ("a:\nb: ~\nc: null\nd: # none", {"a": None, "b": None, "c": None, "d": None}),
    ("a: true\nb: False\nc: 'true'", {"a": True, "b": False, "c": "true"}),
    ("a: 0\nb: -17\nc: +3\nd: 9007199254740991", {"a": 0, "b": -17, "c": 3, "d": 2**53 - 1}),
    ("a: 1.50\nb: -0.25\nc: 1.2.3\nd: 2.1.0-beta", {"a": 1.5, "b": -0.25, "c": "1.2.3", "d": "2.1.0-beta"}),
    ("a: '2026-01-01'\nb: \"yes\"\nc: '010'", {"a": "2026-01-01", "b": "yes", "c": "010"}),
    ("a: 'it''s'\nb: \"a\\n\\\"\\u00e9\\x41\\U0001f600\\/\\\\\"\nc: ''",
     {"a": "it's", "b": 'a\n"\u00e9A\U0001f600/\\', "c": ""}),
    ("'a b': 1\n\"c\": 2\nd e: 3", {"a b": 1, "c": 2, "d e": 3}),
    ("a: http://x.example/y\nb: a:b\nc: -x\nd: ?y", {"a": "http://x.example/y", "b": "a:b", "c": "-x", "d": "?y"}),
    ("metadata:\n  version: \"1.0\"\n  deep:\n    deeper: x\nafter: z",
     {"metadata": {"version": "1.0", "deep": {"deeper": "x"}}, "after": "z"}),
    ("a:\n  - x\n  - 2\n  - null\nb:\n- v\n- - z\n  - w\nc: d",
     {"a": ["x", 2, None], "b": ["v", ["z", "w"]], "c": "d"}),
    ("a:\n- k: 1\n  l: 2\n- k: 3\n-\n  m: 4\n-", {"a": [{"k": 1, "l": 2}, {"k": 3}, {"m": 4}, None]}),
    ("a: [x, 'y, z', 3, [], {b: c}, ]\nd: {}\ne: { f: [1], 'g': \"h\" }",
     {"a": ["x", "y, z", 3, [], {"b": "c"}], "d": {}, "e": {"f": [1], "g": "h"}}),
    ("a: [Read Grep, Bash(git:*)]", {"a": ["Read Grep", "Bash(git:*)"]}),
    ("a: one\n  two\n\n  three # end\nb: x", {"a": "one two\nthree", "b": "x"}),
    ("a:\n  one\n  two\nb: x", {"a": "one two", "b": "x"}),
    ("a: |\n  one\n    two\n\n  three\n\nb: x", {"a": "one\n  two\n\nthree\n", "b": "x"}),
    ("a: |-\n  one\n  two\nb: |+\n  one\n\nc: x", {"a": "one\ntwo", "b": "one\n\n", "c": "x"}),
    ("a: >\n  one\n  two\n\n  three\n    more\n  four\nb: x", {"a": "one two\nthree\n  more\nfour\n", "b": "x"}),
    ("a: >-\n  one\n  two", {"a": "one two"}),
    ("a: >-  # comment\n\n  one\n  # no comment\nb: x", {"a": "\none # no comment", "b": "x"}),
    ("a: |\nb: x", {"a": "", "b": "x"}),
    ("a: \u00e9\u4e2d\U0001f600", {"a": "\u00e9\u4e2d\U0001f600"}),
    ("  a: 1\n  b: 2", {"a": 1, "b": 2}),
    ("\"a\\\"b\": 1\n'it''s': 2", {'a"b': 1, "it's": 2}),
    ("a: |\n   ", {"a": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("block", "value"), GOOD)
def test_what_is_read(block: str, value: Any) -> None:
    found = read(block)
    assert found == value
    assert list(found) == list(value)
    assert str(found) == str(value)  # 1 is not True, and 1.0 is not 1


BAD = [
    ("a: yes", "'yes' is a text for some readers"),
    ("a: Off", "for some readers"),
    ("a: y", "for some readers"),
    ("a: 2026-01-01", "for some readers"),
    ("a: 2026-01-01 10:00:00", "for some readers"),
    ("a: 010", "for some readers"),
    ("a: 0x1F", "for some readers"),
    ("a: 1_000", "for some readers"),
    ("a: 1e3", "for some readers"),
    ("a: .5", "for some readers"),
    ("a: 1.", "for some readers"),
    ("a: .inf", "for some readers"),
    ("a: 12:30", "for some readers"),
    ("a: 00.5", "for some readers"),
    ("a: =", "for some readers"),
    ("<<: x", "for some readers"),
    ("a: 9007199254740992", "a number that JSON does not keep"),
    ("a: " + "9" * 5000, "a number that JSON does not keep"),
    ("1: x", "a name is a text"),
    ("[a]: b", "this is no `name: value`"),
    ("'a: b", "this is no `name: value`"),
    ("a: 1\n- b", "less indentation than the one before it, or text behind a value"),
    ("true: x", "a name is a text"),
    ("? a\n: b", "this is no `name: value`"),
    ("a: &x b", "an anchor is not read here"),
    ("a: *x", "an alias is not read here"),
    ("a: !!str b", "a tag is not read here"),
    ("a: %b", "a directive is not read here"),
    ("a: @b", "a reserved sign"),
    ("a: `b`", "a reserved sign"),
    ("a: ]", "this sign is not read here"),
    ("a: - b", "is not read here"),
    ("a: -", "is not read here"),
    ("a: ?\n  b", "is not read here"),
    ("a: b: c", "`: `"),
    ("a: b:", "is not read here"),
    ("a: one\n  b: c", "in a text of several lines"),
    ("a: b\tc", "a tab within a text"),
    ("a: 1\na: 2", "'a' stands here a second time"),
    ("a: {b: 1, b: 2}", "'b' stands here a second time"),
    ("a: 'x", "a quote has no end"),
    ('a: "x', "a quote has no end"),
    ('a: "\\q"', "no escape"),
    ('a: "\\ud800"', "no escape"),
    ('a: "\\u12"', "no escape"),
    ("a: 'x' y", "text behind a value"),
    ('a: "x"#y', "text behind a value"),
    ("'a' b: c", "this is no `name: value`"),
    ("a: [x", "a value is missing between commas, or a bracket does not end"),
    ("a: [x,,y]", "a value is missing"),
    ("a: [x] y", "text behind a value"),
    ("a: ['x' 'y']", "has no ]"),
    ("a: {b}", "within { }"),
    ("a: {b:c}", "a colon and a blank"),
    ("a: {b: [}", "a bracket does not end"),
    ("a: [x #y]", "a comment within brackets"),
    ("a: [b:]", "`: `"),
    ("a: |2\n  b", "may stand `-`"),
    ("a: > b", "may stand `-`"),
    ("a: |+\n  b\n", "readers differ in the line ends"),
    ("a: |\n    b\n  c", "less indentation than its first line"),
    ("a: |\n      \n  b", "more blanks than the text has indentation"),
    ("a: 1\n  b: 2", "in a text of several lines"),
    ("a: 'x'\n  b: 2", "more indentation"),
    ("a:\n    b: 1\n  c: 2", "less indentation|more indentation"),
    ("a:\n  - b\n    - c\n  d: 1", "less indentation|more indentation|several lines"),
    ("  a: 1\nb: 2", "less indentation"),
    ("\ta: 1", "a tab in the indentation"),
    ("a:\n\tb: 1", "a tab in the indentation"),
    ("a:\n-\tb", "a tab in the indentation"),
    ("- a\n- b", "front matter is a mapping"),
    ("just text", "this is no `name: value`"),
    ("", "front matter is a mapping"),
    ("# only", "front matter is a mapping"),
    ("a: b\n...\nc: d", "a second document"),
    ("a: b\x07", "a control character"),
    ("a: b\rc", "a control character"),
    ("a: b\u2028c", "a control character"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "said"), BAD)
def test_what_is_refused(block: str, said: str) -> None:
    with pytest.raises(FrontMatterError, match=said):
        read(block)


@pytest.mark.parametrize(
    "text",
    ["", "# body", "--- \na: b\n---\n", " ---\na: b\n---\n", "---\na: b\n", "---\na: b\n----\n", "a: b\n---\n"],
)  # fmt: skip
def test_what_is_no_front_matter(text: str) -> None:
    with pytest.raises(FrontMatterError, match="three dashes"):
        front_matter(text)


@pytest.mark.parametrize("text", ["\ufeff---\r\na: b\r\n---\r\nx", "---\na: b\n---", "---\na: b\n---  \n---\n"])
def test_marks_line_ends_and_what_follows(text: str) -> None:
    assert front_matter(text) == {"a": "b"}


def test_the_line_is_named() -> None:
    with pytest.raises(FrontMatterError, match="^line 4: "):
        read("a: b\n\nc: *d")


def test_the_size_is_bounded() -> None:
    room = MAX_FRONT_MATTER - len("a: \n")
    assert read("a: " + "x" * room) == {"a": "x" * room}
    with pytest.raises(FrontMatterError, match="at most"):
        read("a: " + "x" * (room + 1))


def nested(levels: int) -> str:
    return "\n".join("  " * level + "a:" for level in range(levels))


def test_the_nesting_is_bounded() -> None:
    assert read(nested(MAX_NESTING))
    with pytest.raises(FrontMatterError, match="within one another"):
        read(nested(MAX_NESTING + 1))
    assert read("a: " + "[" * (MAX_NESTING - 1) + "]" * (MAX_NESTING - 1))
    for bracket in ("[" * MAX_NESTING + "]" * MAX_NESTING, "[" * 20_000):
        with pytest.raises(FrontMatterError, match="within one another"):
            read("a: " + bracket)

# SPDX-License-Identifier: MIT
"""Globs over names of tools: the tools that pass, those that do not, and the list that wins."""

from __future__ import annotations

import pytest
from patience import cheap

from mcp_h11.bridge.filter import MAX_PATTERN, MAX_PATTERNS, ToolFilter

NAMES = ["read_file", "write_file", "delete_file", "search", "Search"]


def passing(**lists: object) -> list[str]:
    tools = ToolFilter(**lists)  # type: ignore[arg-type]
    return [name for name in NAMES if tools.allows(name)]


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({}, NAMES),
        ({"allow": ["search"]}, ["search"]),
        ({"deny": ["search"]}, ["read_file", "write_file", "delete_file", "Search"]),
        ({"allow": ["*_file"]}, ["read_file", "write_file", "delete_file"]),
        ({"deny": ["[sS]earch"]}, ["read_file", "write_file", "delete_file"]),
        ({"allow": ["?earch"]}, ["search", "Search"]),
        ({"allow": ["file"]}, []),  # the whole name, not a part of it
        ({"allow": ["*_file"], "deny": ["delete_*"]}, ["read_file", "write_file"]),
        ({"allow": ["delete_file"], "deny": ["*_file"]}, []),
        ({"allow": ["read_*"], "deny": ["*_file"], "precedence": "allow"}, ["read_file", "search", "Search"]),
        ({"allow": ["read_*"], "precedence": "allow"}, ["read_file"]),
        ({"deny": ["*"]}, []),
    ],
)
def test_what_passes(lists: dict[str, object], expected: list[str]) -> None:
    assert passing(**lists) == expected


def test_a_name_with_a_line_end_is_another_name() -> None:
    assert not ToolFilter(allow=["search"]).allows("search\n")
    assert not ToolFilter(deny=["a*"]).allows("a\nb")


@pytest.mark.parametrize("name", [None, 1, ["search"], {"name": "search"}, True])
def test_what_is_no_text_is_no_name(name: object) -> None:
    assert not ToolFilter().allows(name)


def test_a_list_is_filtered_by_the_same_verdict() -> None:
    tools = [{"name": name} for name in NAMES]
    assert ToolFilter(deny=["*_file"]).shown(tools) == [{"name": "search"}, {"name": "Search"}]
    assert ToolFilter().shown(tools) is tools
    assert ToolFilter(deny=["x"]).shown([{"title": "nameless"}, "text", {"name": "y"}]) == [{"name": "y"}]
    assert ToolFilter(deny=["x"]).shown("no list") == "no list"


@pytest.mark.parametrize("lists", [{"allow": [""]}, {"deny": ["x" * (MAX_PATTERN + 1)]}, {"precedence": "both"}])
def test_what_is_no_filter_is_refused(lists: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ToolFilter(**lists)  # type: ignore[arg-type]


def test_there_may_be_so_many_patterns_and_no_more() -> None:
    assert ToolFilter(allow=["x" * MAX_PATTERN] * MAX_PATTERNS).allows("x" * MAX_PATTERN)
    with pytest.raises(ValueError):
        ToolFilter(allow=["x"] * (MAX_PATTERNS + 1))


def test_a_hostile_name_takes_no_time() -> None:
    tools = ToolFilter(allow=["*a" * 100 + "b"])
    with cheap(2.0):
        assert not tools.allows("a" * 20_000)

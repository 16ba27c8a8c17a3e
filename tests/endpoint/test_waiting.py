# SPDX-License-Identifier: MIT
"""A notice that waits tells of several changes, whose names are bounded."""

from __future__ import annotations

from mcp_h11.endpoint.waiting import MAX_PENDING_NAMES, Pending, untold


def test_a_notice_goes_under_its_oldest_name_and_under_none_where_a_change_has_none() -> None:
    notice = Pending(["a"])
    notice.join(["b", "a"])
    assert ([*notice.names], notice.name) == (["a", "b"], "a")
    notice.drop(["a", "x"])
    assert notice.name == "b"
    notice.join([""])
    assert notice.name == ""
    notice.drop(["b", ""])
    assert (notice.names, notice.name) == ({}, "")


def test_past_the_most_names_a_notice_goes_without_one() -> None:
    notice = Pending(map(str, range(MAX_PENDING_NAMES)))
    assert (len(notice.names), notice.name) == (MAX_PENDING_NAMES, "0")
    notice.join(["one more"])
    assert [*notice.names] == [""]


def test_another_notice_takes_the_changes_of_one() -> None:
    notice = Pending(["a", "b"])
    assert [*notice.taken().names] == ["a", "b"]
    assert notice.names == {}


def test_of_notices_that_wait_no_longer_those_that_the_log_has_are_left_out() -> None:
    pending = {b"logged": Pending([]), b"later": Pending(["a", ""]), b"nameless": Pending([""])}
    assert untold(pending) == [(b"later", ["a"])]

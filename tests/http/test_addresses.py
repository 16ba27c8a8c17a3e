# SPDX-License-Identifier: MIT
"""Which hosts other machines cannot reach: the same for a bind, an authorization server and a printed address."""

from __future__ import annotations

import pytest

from mcp_h11.http.addresses import on_loopback


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.8.9.10", True), ("::1", True),
        ("::1%lo", True), ("0:0:0:0:0:0:0:1", True),
        ("", False), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("fe80::1%eth0", False),
        ("128.0.0.1", False), ("localhost.example", False), ("127.0.0.1.example", False), ("a.example", False),
    ],
)  # fmt: skip
def test_loopback_is_known_by_name_and_by_number(host: str, own: bool) -> None:
    assert on_loopback(host) is own

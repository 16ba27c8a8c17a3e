# SPDX-License-Identifier: MIT
"""What a start does without: a resolver where an address is given, and a library for the date."""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import ASYNCIO, still_serves

from mcp_h11 import MCPServer, listening
from mcp_h11.server.server import http_date
from mcp_h11.server.sockets import _literal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


@given(st.integers(0, 253402300799))  # to the end of the year 9999
def test_the_date_is_the_standard_librarys(seconds: int) -> None:
    assert http_date(seconds + 0.5) == formatdate(seconds, usegmt=True).encode("ascii")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_bound_without_a_resolver(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked a resolver")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with listening(MCPServer("x", version="1"), host=host, port=0) as server:
        (address,) = server.addresses
        assert address[0] == host and address[1]
        if host == "127.0.0.1":
            await still_serves(server.port)


def test_what_a_resolver_has_to_say_is_left_to_it() -> None:
    assert _literal("0.0.0.0", 80) == (socket.AF_INET, ("0.0.0.0", 80))
    assert _literal("::", 80) == (socket.AF_INET6, ("::", 80, 0, 0))
    for host in ("fe80::1%eth0", "example.com", "127.1", "", "*", "[::1]", "1"):
        assert _literal(host, 80) is None

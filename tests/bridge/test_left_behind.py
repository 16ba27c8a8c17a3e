# SPDX-License-Identifier: MIT
"""A call that has ended is gone at once, with its body: it does not wait for the collector of cycles, which looks for
them seldom in a bridge."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from rawclient import LIMIT
from serving import LEGACY, Held, call, served, turns
from test_proxy import ERAS, MODERN, client

from mcp_h11.bridge.calls import BridgedCall
from mcp_h11.bridge.proxy import ProxyHandler
from mcp_h11.cli.proxy import MORE_OBJECTS, _collecting_seldom
from mcp_h11.client.conversation.pending import PendingCall
from mcp_h11.client.targets import Url
from mcp_h11.client.transports.exchange import HTTPExchange
from mcp_h11.handler.exchange import Exchange

pytestmark = pytest.mark.anyio

CALLS = 5
OF_A_CALL = (BridgedCall, Exchange, HTTPExchange, PendingCall)


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> list[str]:
    return sorted(type(one).__name__ for one in gc.get_objects() if issubclass(type(one), OF_A_CALL))


@pytest.mark.parametrize("behind", [LEGACY, MODERN])
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("method", "params"), [
    ("tools/call", call("echo", text="x" * 1000)),
    ("tools/call", call("nothing")),
    ("prompts/get", {"name": "nothing"}),
])  # fmt: skip
async def test_a_call_leaves_nothing(method: str, params: dict[str, Any], era: str, behind: str) -> None:
    async with served(Held()) as server:
        handler: Any = ProxyHandler(Url(f"http://127.0.0.1:{server.port}/mcp", revision=behind))
        async with served(handler, call_timeout=10 * LIMIT) as front, client(front, era) as c:
            await c.call(method, params)
            with no_collector():
                before = left()
                for _ in range(CALLS):
                    await c.call(method, params)
                with anyio.fail_after(LIMIT):
                    while len(left()) > len(before):
                        await turns()


def test_the_collector_is_as_before_when_the_bridge_ends() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="its end"), _collecting_seldom():
        assert gc.get_threshold() == (MORE_OBJECTS, *before[1:])
        raise ValueError("its end")
    assert gc.get_threshold() == before


def test_a_collector_that_is_off_stays_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with _collecting_seldom():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)

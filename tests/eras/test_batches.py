# SPDX-License-Identifier: MIT
"""The end of a batch: once, after its last call, however that call ends.  The wire is tested with each carrier."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from serving import ASYNCIO, Held

from mcp_h11.eras.batches import BatchAnswers
from mcp_h11.eras.session import Session
from mcp_h11.protocol.revisions import ASSUMED
from mcp_h11.runtime.runtime import Runtime
from mcp_h11.runtime.settings import Settings
from mcp_h11.runtime.storage import SessionState

pytestmark = pytest.mark.anyio
LIMIT = 20  # seconds


@pytest.fixture
def anyio_backend() -> Any:
    return ASYNCIO


class Slow(BatchAnswers):
    """Sends each answer at once to a client that reads when `read` is set."""

    def __init__(self, session: Session, missing: int) -> None:
        super().__init__(session, missing, [])
        self.read, self.ended = asyncio.Event(), asyncio.Event()
        self.sent: list[bytes] = []

    async def put(self, payload: bytes) -> None:
        self.sent.append(payload)
        await self.read.wait()

    async def finish(self) -> None:
        assert not self.ended.is_set()
        self.ended.set()


async def test_a_batch_ends_with_its_last_answer_which_a_slow_client_has_read() -> None:
    async with Runtime(Held(), Settings()) as runtime:
        batch = Slow(Session(runtime, SessionState(id=""), ASSUMED), 3)
        batch.end_one(None)  # one was cancelled before its end
        first, second = (asyncio.ensure_future(batch.add(payload)) for payload in (b"1", b"2"))  # type: ignore[arg-type]
        while len(batch.sent) < 2:
            await asyncio.sleep(0)
        assert not batch.ended.is_set()
        batch.read.set()
        await asyncio.wait_for(asyncio.gather(first, second), LIMIT)
        assert batch.ended.is_set() and batch.sent == [b"1", b"2"]


async def test_a_call_that_is_cancelled_while_its_client_reads_slowly_does_not_hold_the_batch_open() -> None:
    async with Runtime(Held(), Settings()) as runtime:
        batch = Slow(Session(runtime, SessionState(id=""), ASSUMED), 1)
        call = asyncio.ensure_future(batch.add(b"1"))  # type: ignore[arg-type]
        while not batch.sent:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call}, timeout=LIMIT)
        assert call.cancelled()
        await asyncio.wait_for(batch.ended.wait(), LIMIT)

# SPDX-License-Identifier: MIT
"""The lifespans of the extensions of a server, and the parts of the server that each of them gets.

An extension that keeps records has them in the server's store; without a store they are in the memory of this process,
in a store that is opened for the extensions alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from ..handler.exchange import Services
from ..handler.extension import Extension
from .request_state import new_id

if TYPE_CHECKING:
    from ..stores.base import Logs, Records
    from .fleet import Fleet

LONE_ID_BYTES = 12  # of a server without a fleet; as many as a worker of one has


class ServedExtensions:
    """The `ExtensionServices` of one server; all its extensions get the same.

    `spawn` runs a coroutine as a task, which ends with the server at the latest; its failure is logged.
    """

    def __init__(
        self, runtime: Services, fleet: Fleet | None, spawn: Callable[[Coroutine[Any, Any, None]], Any]
    ) -> None:
        self.runtime = runtime
        self.spawn = spawn
        self.worker = new_id(LONE_ID_BYTES) if fleet is None else fleet.worker
        self._records: Records | None = None if fleet is None else fleet.records
        self._logs: Logs | None = None if fleet is None else fleet.logs

    @property
    def records(self) -> Records:
        """Raises RuntimeError where no extension of the server has said that it `needs_store`."""
        if self._records is None:
            raise RuntimeError("this server has no store, and no extension of it sets `needs_store`")
        return self._records

    @property
    def logs(self) -> Logs:
        """Raises as `records` does."""
        if self._logs is None:
            raise RuntimeError("this server has no store, and no extension of it sets `needs_store`")
        return self._logs

    async def open_store(self, stack: AsyncExitStack) -> None:
        """Make a store in memory where the server has none; `stack` closes it."""
        if self._records is not None:
            return
        from ..stores.memory import MemoryStore  # only such a server needs it

        store = MemoryStore()
        await store.open(self.worker)
        stack.push_async_callback(store.close)
        self._records, self._logs = store.records, store.logs


@asynccontextmanager
async def extensions_served(extensions: Sequence[Extension], services: ServedExtensions) -> AsyncIterator[None]:
    """Enter the lifespan of each extension of a server, in their order; leave them in the opposite order."""
    async with AsyncExitStack() as stack:
        if any(extension.needs_store for extension in extensions):
            await services.open_store(stack)
        for extension in extensions:
            await stack.enter_async_context(extension.lifespan(services))
        yield

# SPDX-License-Identifier: MIT
"""What a client wants of the way to its server, and what the way wants of the client: the seam between the two.

A transport carries messages and knows how its medium ends, resumes and cancels; it never reads a result.  The client
matches answers to calls and never sees a byte.  What a transport refuses to carry it says by an exception from `send`.

Rule: whoever reads never waits for whoever handles.  So a `Receiver` is synchronous, and a `Transport` is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...protocol.jsonrpc import JSON, Message
from ...protocol.revisions import Revision
from . import lenient
from .lenient import Unreadable

if TYPE_CHECKING:
    from anyio.abc import TaskGroup


@dataclass(slots=True)
class Outgoing:
    """One message on its way out.

    Attributes:
        payload: the encoded JSON-RPC message, without a line end.
        method: None for a response.
        request_id: None for notifications and responses.
        headers: the mirror headers of 2026-07-28 (Mcp-Method, Mcp-Name, Mcp-Param-*); pipes ignore them.
        safe: may be sent again though it may have been executed: reads, lists, idempotent tools.
    """

    payload: bytes
    method: str | None
    request_id: int | str | None
    headers: Sequence[tuple[str, str]] = ()
    safe: bool = False


class Receiver(Protocol):
    """The client's side.  Nothing here waits, and nothing here raises."""

    def message(self, message: Message, via: int | str | None) -> None:
        """One message; `via` is the id of the request on whose exchange it came, None on a channel for all."""

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        """No answer will come for this request any more; None: it came, and does not say to which request."""

    def closed(self, error: Exception | None) -> None:
        """The transport is over: a child died, a stream ended.  None where that was asked for."""

    def renewed(self) -> Awaitable[None]:
        """Sessions over HTTP: the server has forgotten this one.  Does the handshake again, through `send`."""


class Transport(Protocol):
    """The way to one server.

    Attributes:
        duplex: True where one channel carries everything (pipes, memory, HTTP+SSE), False where each request has an
            exchange of its own.
    """

    duplex: bool

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Opens the way; what runs from now on runs in `tasks`."""

    async def send(self, out: Outgoing) -> None:
        """Returns when the message is on its way; raises only if it never left."""

    async def cancel(self, request_id: int | str) -> None:
        """2026-07-28 over HTTP: closes the exchange.  Elsewhere nothing: the client sends notifications/cancelled."""

    def settle(self, revision: Revision) -> None:
        """After the handshake: which headers and rules apply from now on."""

    async def listen(self) -> None:
        """Sessions over HTTP: begins the GET stream, once its head has come.  Elsewhere nothing."""

    async def aclose(self) -> None:
        """The end as the medium has it: DELETE, end of input and then signals; bounded in time."""

    @property
    def why(self) -> str:
        """What helps a person to understand the other end: the last lines of its stderr, the URL."""


def deliver(
    json: JSON,
    payload: bytes,
    take: Callable[[Message], None],
    skip: Callable[[Unreadable], None],
    revision: Revision | None = None,
) -> None:
    """Gives each message in a body, a line or an event to `take`, and each part that is no message to `skip`.

    Args:
        revision: refuses an array if this revision has no batches (2025-03-26 has them).  None takes arrays.
    """
    try:
        found = lenient.read(json, payload)
    except Unreadable as error:
        skip(error)
        return
    if not isinstance(found, list):
        take(found)
        return
    if revision is not None and not revision.batches:
        skip(Unreadable(f"a batch, which {revision.name} does not have", payload))
        return
    for message in found:
        if isinstance(message, Unreadable):
            skip(message)
        else:
            take(message)

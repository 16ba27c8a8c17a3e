# SPDX-License-Identifier: MIT
"""The seam between a client and the way to its server: `Transport` is the way, `Receiver` is the client's side.

A transport carries messages.  It knows how its medium ends, resumes and cancels, and never reads a result.  The client
matches answers to calls, and never sees a byte.  A transport refuses a message by an exception from `send`.

Rule: the task that reads from a server never waits for the code that handles a message; else one slow callback would
hold up all answers.  So every method of a `Receiver` that takes messages is synchronous.
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
        safe: the message may be sent again, even if the server has executed it: reads, lists, idempotent tools.
    """

    payload: bytes
    method: str | None
    request_id: int | str | None
    headers: Sequence[tuple[str, str]] = ()
    safe: bool = False


class Receiver(Protocol):
    """The client's side of a transport.  No method here waits or raises, but `renewed` does both."""

    def message(self, message: Message, via: int | str | None) -> None:
        """A message has come.  `via` is the id of the request whose exchange carried it; None on a shared channel."""

    def lost(self, request_id: int | str | None, error: Exception) -> None:
        """This request will get no answer.  None: an answer came that names no request and cannot be read."""

    def closed(self, error: Exception | None) -> None:
        """The transport is over: a child died, a stream ended.  `error` is None after `aclose`."""

    def renewed(self) -> Awaitable[None]:
        """Sessions over HTTP: the server has forgotten the session.  Does the handshake again, through `send`."""


class Transport(Protocol):
    """The way to one server.

    Attributes:
        duplex: True if one channel carries all messages (pipes, memory, HTTP+SSE), False if each request has an
            exchange of its own.
    """

    duplex: bool

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Opens the way.  The transport runs its tasks in `tasks`."""

    async def send(self, out: Outgoing) -> None:
        """Returns when the message is on its way.  Raises only if it never left."""

    async def cancel(self, request_id: int | str) -> None:
        """2026-07-28 over HTTP: closes the exchange.  Elsewhere it does nothing: notifications/cancelled does it."""

    def settle(self, revision: Revision) -> None:
        """The handshake is over: the headers and rules of this revision apply from now on."""

    async def listen(self) -> None:
        """Sessions over HTTP: opens the GET stream.  Elsewhere it does nothing."""

    async def aclose(self) -> None:
        """Ends the way as its medium does: DELETE, or the end of input and then signals.  Bounded in time."""

    @property
    def why(self) -> str:
        """A text that helps a person to understand the other end: its URL, or the last lines of its stderr."""


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
    # Servers in use break JSON-RPC in small ways, and a client must be able to talk to them.
    try:
        found = lenient.read(json, payload)
    except Unreadable as error:
        skip(error)
        return
    if not isinstance(found, list):
        take(found)
        return
    # 2025-06-18 removed batches: an array is an error of the server from then on.
    if revision is not None and not revision.batches:
        skip(Unreadable(f"a batch, which {revision.name} does not have", payload))
        return
    for message in found:
        if isinstance(message, Unreadable):
            skip(message)
        else:
            take(message)

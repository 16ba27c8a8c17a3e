# SPDX-License-Identifier: MIT
"""The requests of the revisions up to 2025-11-25 that a session answers by itself, without the handler's dispatch.

They are about the session and not about the handler's tools: its log level, and the resources that it subscribed to.
`OWN_METHODS` is the table of them; `session` looks each method up there first.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from ..handler.context import Context
from ..handler.exchange import Exchange
from ..protocol.errors import InvalidParams, InvalidRequest, MethodNotFound, overloaded
from ..protocol.methods import log_rank
from ..protocol.uris import normal
from ..runtime.runtime import Runtime
from ..runtime.storage import MAX_SUBSCRIBED_SIZE, SessionState


class SessionView(Protocol):
    """The members of a `Session` that these methods use.  So this module does not import the one that imports it."""

    runtime: Runtime
    state: SessionState
    log_rank: int

    def weigh(self, subscriptions: Iterable[str]) -> bool:
        """Count the memory kept of the client with these subscriptions; False where it is too much."""

    async def changed(self) -> None:
        """Save the changed `state` where it is shared."""


async def settled(value: Any) -> None:
    """Handlers may be written with `def` or `async def`."""
    if inspect.isawaitable(value):
        await value


async def _ping(session: SessionView, call: Exchange) -> dict[str, Any]:
    return {}


async def _initialize(session: SessionView, call: Exchange) -> dict[str, Any]:
    # The carrier answers the first one; a second one would change the revision under the calls that run.
    raise InvalidRequest("This session is already initialized")


async def _set_level(session: SessionView, call: Exchange) -> dict[str, Any]:
    handler = session.runtime.handler
    if "logging" not in handler.capabilities():
        raise MethodNotFound(call.method)
    level = call.params.get("level")
    session.log_rank = log_rank(level)  # raises InvalidParams for a level that the protocol does not have
    session.state.log_level = str(level)
    await settled(handler.set_level(str(level), Context(call)))
    # Before the answer: the next request of the client may reach another process, which reads the saved state.
    await session.changed()
    return {}


async def _subscribe(session: SessionView, call: Exchange) -> dict[str, Any]:
    uri = _subscription(session, call)
    limit = session.runtime.settings.max_subscriptions
    subscriptions = session.state.subscriptions
    # Each limit is checked before the handler hears of the subscription: a handler that counts would count it.
    if uri not in subscriptions and limit is not None and len(subscriptions) >= limit:
        raise InvalidParams(f"A session subscribes to at most {limit} resources")
    if sum(map(len, subscriptions)) + len(uri) > MAX_SUBSCRIBED_SIZE:
        raise InvalidParams(f"The URIs of a session have at most {MAX_SUBSCRIBED_SIZE} characters")
    if not session.weigh({*subscriptions, uri}):
        raise overloaded("Too much is kept of this client")
    await settled(session.runtime.handler.subscribe(uri, Context(call)))
    # Read anew, because others may have come or gone during the wait.  A new set and not `add`: `Session.told` sees by
    # the identity of the set that its table of spellings is out of date.
    session.state.subscriptions = {*session.state.subscriptions, uri}
    session.weigh(session.state.subscriptions)
    await session.changed()
    return {}


async def _unsubscribe(session: SessionView, call: Exchange) -> dict[str, Any]:
    uri = _subscription(session, call)
    # The client may spell the URI otherwise than when it subscribed.  A URI that it has not subscribed to is no error.
    wanted = normal(uri)
    gone = {one for one in session.state.subscriptions if normal(one) == wanted} or {uri}
    session.state.subscriptions = session.state.subscriptions - gone
    session.weigh(session.state.subscriptions)
    for one in gone:  # a handler that counts knows it as it was subscribed to
        await settled(session.runtime.handler.unsubscribe(one, Context(call)))
    await session.changed()
    return {}


def _subscription(session: SessionView, call: Exchange) -> str:
    if not session.runtime.handler.capabilities().get("resources", {}).get("subscribe"):
        raise MethodNotFound(call.method)
    uri = call.params.get("uri")
    if not isinstance(uri, str) or not uri:
        raise InvalidParams("uri must be a string")
    return uri


OWN_METHODS: dict[str, Callable[[SessionView, Exchange], Awaitable[dict[str, Any]]]] = {
    "ping": _ping,
    "initialize": _initialize,
    "logging/setLevel": _set_level,
    "resources/subscribe": _subscribe,
    "resources/unsubscribe": _unsubscribe,
}

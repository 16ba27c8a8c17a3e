# SPDX-License-Identifier: MIT
"""One open `subscriptions/listen` of 2026-07-28: which notices it asked for, and how they are written for it.

`modern` decides which part of its filter is honoured; the carrier decides whether it may open, and sends the notices.
"""

from __future__ import annotations

from typing import Any

from ..handler.notices import Notice
from ..protocol.jsonrpc import Request
from ..protocol.methods import ACKNOWLEDGED, LIST_CHANGED, LISTEN_FLAGS, META_SUBSCRIPTION, RESOURCE_UPDATED
from ..protocol.uris import spellings
from ..runtime.runtime import Runtime


class Listener:
    """One open `subscriptions/listen`.  The floors above derive a class for each carrier: it says how notices leave."""

    __slots__ = ("_json", "_runtime", "_spellings", "id", "kinds", "party", "principal", "uris")

    def __init__(
        self, runtime: Runtime, message: Request, wanted: dict[str, Any], principal: str = "", party: str = ""
    ) -> None:
        self.id = message.id
        self.principal = principal
        self.party = party  # the client that the limits count it for
        self.kinds = {kind: LIST_CHANGED[kind] for kind, flag in LISTEN_FLAGS.items() if flag in wanted}
        self.uris = frozenset(wanted.get("resourceSubscriptions", ()))
        self._spellings = spellings(self.uris)
        self._runtime = runtime
        self._json = runtime.json

    def notification(self, method: str, params: dict[str, Any]) -> bytes:
        """basic/patterns/subscriptions: each notification names the listen request that it belongs to."""
        return self._json.notification(method, {**params, "_meta": {META_SUBSCRIPTION: self.id}})

    def acknowledgement(self, honoured: dict[str, Any]) -> bytes:
        """The first message on the stream: what of the filter is honoured."""
        return self.notification(ACKNOWLEDGED, {"notifications": honoured})

    def payload(self, notice: Notice) -> bytes | None:
        """The notification for this listener, or None where it did not ask for it."""
        if notice.kind in self.kinds:
            return self.notification(self.kinds[notice.kind], {})
        if notice.kind != "updated" or not self.uris:
            return None
        # In the listener's own spelling, which it knows again.
        uri: str | None = notice.uri
        if uri not in self.uris:
            normal = notice.normal_uri
            uri = normal if normal in self.uris else self._spellings.get(normal)
        return None if uri is None else self.notification(RESOURCE_UPDATED, {"uri": uri})

    def noticed(self, notice: Notice) -> None:
        """Send the notice on, if the listener asked for it."""
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        """basic/patterns/subscriptions, Graceful Closure: the server ends it with a result."""
        return {"resultType": "complete", "_meta": {META_SUBSCRIPTION: self.id}}

# SPDX-License-Identifier: MIT
"""One open `subscriptions/listen` of 2026-07-28: it selects the notices of its filter, and encodes them.

`modern` decides which part of the filter is honoured.  The carrier decides whether the stream may open, and sends the
notices.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..handler.notices import EXTENDED, Notice
from ..protocol.jsonrpc import Request
from ..protocol.methods import ACKNOWLEDGED, LIST_CHANGED, LISTEN_FLAGS, META_SUBSCRIPTION, RESOURCE_UPDATED
from ..protocol.uris import spellings
from ..runtime.runtime import Runtime


class Honoured(dict[str, Any]):
    """The honoured part of a filter, as the client is told it; `heard` are the keys of the notices of extensions."""

    heard: frozenset[str] = frozenset()


class Listener:
    """One open `subscriptions/listen`.  Each carrier derives a class from it, with its own way to send notices."""

    __slots__ = ("_json", "_runtime", "_spellings", "heard", "id", "kinds", "party", "principal", "uris")

    def __init__(
        self, runtime: Runtime, message: Request, wanted: dict[str, Any], principal: str = "", party: str = ""
    ) -> None:
        self.id = message.id
        self.principal = principal
        self.party = party  # the client that the limits count it for
        self.kinds = {kind: LIST_CHANGED[kind] for kind, flag in LISTEN_FLAGS.items() if flag in wanted}
        self.uris = frozenset(wanted.get("resourceSubscriptions", ()))
        self.heard = wanted.heard if isinstance(wanted, Honoured) else frozenset()
        self._spellings = spellings(self.uris)
        self._runtime = runtime
        self._json = runtime.json

    def notification(self, method: str, params: dict[str, Any]) -> bytes:
        """basic/patterns/subscriptions: each notification names the listen request that it belongs to."""
        meta = {**(params.get("_meta") or {}), META_SUBSCRIPTION: self.id}
        return self._json.notification(method, {**params, "_meta": meta})

    def acknowledgement(self, honoured: dict[str, Any]) -> bytes:
        """The first message on the stream: the honoured part of the filter."""
        return self.notification(ACKNOWLEDGED, {"notifications": honoured})

    def leave_out(self, refused: Collection[str], honoured: dict[str, Any]) -> dict[str, Any]:
        """Hear nothing of these resources.  Returns the part of the filter that is still honoured."""
        if not refused:
            return honoured
        self.uris = self.uris.difference(refused)
        self._spellings = spellings(self.uris)
        left = {member: value for member, value in honoured.items() if member != "resourceSubscriptions"}
        if self.uris:
            left["resourceSubscriptions"] = [uri for uri in honoured["resourceSubscriptions"] if uri in self.uris]
        return left

    def payload(self, notice: Notice) -> bytes | None:
        """The notification for this listener, or None where it did not ask for it."""
        if notice.kind in self.kinds:
            return self.notification(self.kinds[notice.kind], {})
        if notice.kind == EXTENDED:
            return self.notification(notice.method, notice.params) if notice.uri in self.heard else None
        if notice.kind != "updated" or not self.uris:
            return None
        # The notification uses the spelling of the listener, so that the client recognizes the URI.
        uri: str | None = notice.uri
        if uri not in self.uris:
            normal = notice.normal_uri
            uri = normal if normal in self.uris else self._spellings.get(normal)
        return None if uri is None else self.notification(RESOURCE_UPDATED, {"uri": uri})

    def on_notice(self, notice: Notice) -> None:
        """Send the notice on, if the listener asked for it."""
        raise NotImplementedError

    def result(self) -> dict[str, Any]:
        """basic/patterns/subscriptions, Graceful Closure: the server ends it with a result."""
        return {"resultType": "complete", "_meta": {META_SUBSCRIPTION: self.id}}

# SPDX-License-Identifier: MIT
"""One open `subscriptions/listen` of 2026-07-28: what it wants to hear, and the stream it hears it on.

Who may open one, and which part of its filter is honoured, is `modern`'s.

Rule: a reader that is slow holds nobody up and costs little: each notice waits for it once, and past so many the
connection goes, since it would miss something (basic/patterns/subscriptions).
"""

from __future__ import annotations

from typing import Any

from ..handler.notices import Notice
from ..http.reply import Reply
from ..http.sse import encode_event
from ..protocol.jsonrpc import Request
from ..protocol.methods import ACKNOWLEDGED, LISTEN_FLAGS, META_SUBSCRIPTION
from ..protocol.uris import spellings
from ..runtime.runtime import Runtime

MAX_UNSENT = 256  # notices that wait for one slow listener
UPDATED = "notifications/resources/updated"


class Listener:
    """One open `subscriptions/listen`: what it wants to hear, and the stream it hears it on."""

    __slots__ = (
        "_flushing",
        "_json",
        "_runtime",
        "_spellings",
        "_unsent",
        "id",
        "kinds",
        "load",
        "party",
        "principal",
        "reply",
        "uris",
    )

    def __init__(self, runtime: Runtime, message: Request, reply: Reply | None, wanted: dict[str, Any]) -> None:
        self.id = message.id
        self.reply = reply
        self.principal = self.party = ""  # whose it is, and the client that it counts for
        self.load: Any = None  # counts the memory of its URIs
        self.kinds = {LISTEN_FLAGS[flag][0]: LISTEN_FLAGS[flag][1] for flag in wanted if flag in LISTEN_FLAGS}
        self.uris = frozenset(wanted.get("resourceSubscriptions", ()))
        self._spellings = spellings(self.uris)
        self._runtime = runtime
        self._json = runtime.json
        self._unsent: dict[bytes, None] = {}  # in order, each once
        self._flushing = False

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
        return None if uri is None else self.notification(UPDATED, {"uri": uri})

    def noticed(self, notice: Notice) -> None:
        """Pass it on; a slow reader gets each notice once, when it can."""
        payload = self.payload(notice)
        if payload is None or self.reply is None:
            return
        if self.reply.writable and not self._unsent:
            self.reply.send(encode_event(payload))
            return
        self._unsent[payload] = None
        if len(self._unsent) > MAX_UNSENT:
            # It would miss something: better it comes back and fetches the lists.
            self.reply.abort()
        elif not self._flushing:
            self._flushing = True
            self._runtime.spawn(self._flush())

    async def _flush(self) -> None:
        reply = self.reply
        while reply is not None and self._unsent and reply.alive:
            await reply.drained()
            payload = next(iter(self._unsent))
            del self._unsent[payload]
            reply.send(encode_event(payload))
        self._flushing = False

    def result(self) -> dict[str, Any]:
        """basic/patterns/subscriptions, Graceful Closure: the server ends it with a result."""
        return {"resultType": "complete", "_meta": {META_SUBSCRIPTION: self.id}}

    def close(self) -> None:
        """End the stream, cleanly."""
        if self.reply is not None:
            self.reply.on_gone = None
            self.reply.end(encode_event(self._json.result(self.id, self.result())))

# SPDX-License-Identifier: MIT
"""The era of 2026-07-28 over HTTP: one self-contained POST, answered on its own exchange, and listen streams.

Rules:
- The body counts, and mirrored headers have to agree (basic/transports/streamable-http, Server Validation).
- A closed response stream cancels the call, and nothing more is sent for it (the same, Cancellation).
- A listener that reads slowly delays no other and costs little: each notice waits for it once, and past `MAX_UNSENT`
  notices its connection is dropped, since it would miss a change (basic/patterns/subscriptions).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ..eras.listener import Listener
from ..eras.modern import Modern, ModernCall, check_envelope, claimed_version, status_of
from ..handler.notices import Notice
from ..http.auth import subject
from ..http.headers import (
    NAME_SOURCE,
    check_method_header,
    check_name_header,
    check_param_headers,
    check_version_header,
)
from ..http.reply import STREAMING, UNDECIDED, Reply
from ..http.sse import LARGE_PAYLOAD, encode_event, event_parts
from ..protocol.errors import (
    InternalError,
    InvalidRequest,
    Refusal,
    UnsupportedProtocolVersion,
    overloaded,
)
from ..protocol.jsonrpc import Batch, Message, Notification, Request
from ..protocol.revisions import MODERN, SUPPORTED
from ..protocol.shown import escaping
from ..runtime.admission import Gate
from ..runtime.fairness import Shares, held_memory
from ..runtime.runtime import Runtime
from .verdicts import Verdict

logger = escaping(logging.getLogger(__name__))
MAX_UNSENT = 256  # notices that wait for one slow listener


class ModernPost(ModernCall):
    """One request, answered on the HTTP exchange that brought it."""

    __slots__ = ("reply",)

    def __init__(self, runtime: Runtime, message: Request, reply: Reply, principal: Any) -> None:
        self.reply = reply
        ModernCall.__init__(self, runtime, message, principal, reply.load)

    @property
    def party(self) -> str:
        return self.runtime.party_of(subject(self.principal), self.reply.peer)

    @property
    def headers(self) -> Any:
        return self.reply.request.head

    @property
    def connected(self) -> bool:
        return self.reply.alive

    @property
    def peer(self) -> str:
        return self.reply.peer

    def count_failure(self, kind: int | str) -> None:
        self.reply.failed(kind)

    def on_refusal(self, error: Refusal) -> None:
        self.reply.extra += error.headers  # without effect on an answer that has begun

    async def emit(self, payload: bytes) -> None:
        """Send one message on this request's own stream; a client that reads no events gets none."""
        reply = self.reply
        if not reply.allow_events:
            return
        if len(payload) >= LARGE_PAYLOAD:
            reply.send_parts(event_parts(payload), False)
        elif reply.state == UNDECIDED:
            reply.open(encode_event(payload))
        else:
            reply.send(encode_event(payload))
        if not reply.writable:
            await reply.drained()

    async def finish(self, payload: bytes, status: int) -> None:
        """Answer with JSON and its status, or with the last event of the stream."""
        self.done = True
        reply = self.reply
        if reply.state == STREAMING:
            end: Callable[[bytes], None] = reply.end
        elif status == 200 and reply.allow_events and reply.as_event(payload):
            end = reply.stream_once
        else:
            # An error's status is a MUST (Protocol Version Header: 404), and an event stream has none but 200.
            reply.answer(status, payload)
            return
        if len(payload) < LARGE_PAYLOAD:
            end(encode_event(payload))
        else:
            reply.send_parts(event_parts(payload), True)

    def lost(self) -> None:
        """basic/transports/streamable-http, Cancellation: a closed stream cancels the request."""
        self.done = True
        if self.disconnected is not None:
            self.disconnected.set()
        self.cancel()

    def silent(self) -> None:
        """Begin the stream, because a proxy may give up on an exchange that has been silent for long."""
        if self.reply.allow_events:
            self.reply.open()


class PostedListener(Listener):
    """A listen stream that is the answer to its POST."""

    __slots__ = ("_flushing", "_unsent", "load", "reply")

    def __init__(
        self, runtime: Runtime, message: Request, reply: Reply, wanted: dict[str, Any], principal: str = ""
    ) -> None:
        Listener.__init__(self, runtime, message, wanted, principal, runtime.party_of(principal, reply.peer))
        self.reply = reply
        self.load: Any = None  # counts the memory of its URIs
        self._unsent: dict[bytes, None] = {}  # a dict as an ordered set: each notice once
        self._flushing = False

    def on_notice(self, notice: Notice) -> None:
        payload = self.payload(notice)
        if payload is None:
            return
        if self.reply.writable and not self._unsent:
            self.reply.send(encode_event(payload))
            return
        self._unsent[payload] = None
        if len(self._unsent) > MAX_UNSENT:
            # A dropped notice would hide a change.  So the connection ends, and the client fetches the lists anew.
            self.reply.abort()
        elif not self._flushing:
            self._flushing = True
            self._runtime.spawn(self._flush())

    async def _flush(self) -> None:
        reply = self.reply
        while self._unsent and reply.alive:
            await reply.drained()
            payload = next(iter(self._unsent))
            del self._unsent[payload]
            reply.send(encode_event(payload))
        self._flushing = False

    def close(self, honoured: dict[str, Any] | None = None) -> None:
        """End the stream in good order; one that was not acknowledged yet, with the part of the filter given."""
        result = encode_event(self._json.result(self.id, self.result()))
        self.reply.on_gone = None
        if self.reply.state == UNDECIDED:
            self.reply.stream_once(encode_event(self.acknowledgement(honoured or {})) + result)
        else:
            self.reply.end(result)


class ModernPosts(Modern):
    """The modern side of one endpoint."""

    def __init__(self, runtime: Runtime) -> None:
        Modern.__init__(self, runtime)
        self.listeners: dict[Reply, PostedListener] = {}
        self._places = Shares(runtime.settings.max_listeners)
        self._gate = Gate(None)
        runtime.notice_listeners.append(self.on_notice)
        runtime.extended_listeners.append(self.on_notice)
        self._mirrored = runtime.extended.mirrored
        if runtime.fleet is not None:
            runtime.fleet.on_gap.append(self._on_gap)

    # --- POST ------------------------------------------------------------------------------------------------

    def serve(self, verdict: Verdict, message: Message | Batch, reply: Reply, principal: Any) -> None:
        """Answer one POST.  Raises MCPError where its envelope is wrong."""
        if isinstance(message, Request):
            self._check_headers(verdict, message)
            self.start(message, reply, principal)
        elif isinstance(message, Notification):
            self._check_notification(verdict, message)
            # The core defines none over HTTP.  `notifications/cancelled` above all is dropped: ids are chosen by
            # clients, and one must not cancel another's call (basic/patterns/cancellation).
            reply.answer(202, b"", ())
        elif isinstance(message, list):
            raise InvalidRequest("JSON-RPC batches are not part of this revision")
        else:
            # basic/transports/streamable-http, Sending Messages 4: clients send no responses.
            raise InvalidRequest("A response is not accepted here")

    def _check_headers(self, verdict: Verdict, message: Request) -> None:
        """Run the checks of the ladder in order; the first one that fails decides the answer."""
        version, _ = check_envelope(message.params)
        head, method = verdict.head, message.method
        name = message.params.get(NAME_SOURCE.get(method, ""))
        said = (version, method, name)
        # Headers are compared once for all requests with the same head and the same method and name in the body.
        if verdict.mirrored != said:
            check_version_header(verdict.facts.versions, version)
            if version not in MODERN:
                raise UnsupportedProtocolVersion(version, SUPPORTED)
            check_method_header(head.get_all("mcp-method"), method)
            check_name_header(head.get_all("mcp-name"), method, message.params, self._mirrored.get(method))
            # Only values that headers repeat are kept: they are bounded as headers are.
            verdict.mirrored = said if type(name) is str and method in NAME_SOURCE else None
        self.check_method(method)
        if method == "tools/call":
            name, arguments = message.params.get("name"), message.params.get("arguments")
            annotated = self.runtime.handler.param_headers(name) if isinstance(name, str) else None
            if annotated:
                check_param_headers(head.get_all, annotated, arguments if isinstance(arguments, dict) else {})

    def _check_notification(self, verdict: Verdict, message: Notification) -> None:
        claim = claimed_version(message)
        version = verdict.facts.version if claim is None else claim
        if claim is not None and verdict.facts.versions:
            check_version_header(verdict.facts.versions, claim)
        if version not in MODERN:
            raise UnsupportedProtocolVersion(str(version), SUPPORTED)

    def start(self, message: Request, reply: Reply, principal: Any) -> None:
        """Run a request that passed the ladder."""
        if message.method == "subscriptions/listen":
            self._listen(message, reply, principal)
            return
        call = ModernPost(self.runtime, message, reply, principal)
        reply.on_gone, reply.cancel_on_eof = call.lost, True
        reply.on_silence = call.silent
        spans = self.runtime.spans
        job = self.run(call) if spans is None else spans.around(self.run, call)
        self.runtime.start(job, self._gate, call, self._ended, call)

    def _ended(self, call: ModernPost) -> None:
        reply = call.reply
        call.load = None
        if not call.done:
            # The client did not cancel it: the end of the server did, or the function itself.  The client still waits.
            draining = self.runtime.draining
            error = InternalError("The server is shutting down" if draining else "Internal error")
            payload = self.runtime.json.error(call.request_id, error)
            if not draining:
                logger.error("%s was cancelled from within, or raised what is no Exception", call.method)
            if reply.state == STREAMING:
                reply.end(encode_event(payload))
            else:
                reply.answer(503 if draining else status_of(error), payload)

    # --- subscriptions/listen (basic/patterns/subscriptions) ------------------------------------------------------

    def _listen(self, message: Request, reply: Reply, principal: Any) -> None:
        if not reply.allow_events and not _reads_events(reply):
            raise Refusal(406, "Not Acceptable: subscriptions/listen is answered with text/event-stream")
        honoured = self.honoured(message, subject(principal))
        listener = PostedListener(self.runtime, message, reply, honoured, subject(principal))
        if not self._places.may(listener.party):
            raise overloaded("Too many listeners")
        if not honoured or self.runtime.draining:
            listener.close(honoured)
            return
        self.listeners[reply] = listener
        self._places.add(listener.party)
        if reply.load is not None:
            listener.load = reply.load
            listener.load.resize(held_memory(listener.uris) + held_memory(listener.heard))  # all that is kept of it
        reply.on_gone, reply.cancel_on_eof = partial(self._left, listener), True
        ready = partial(self._acknowledge, listener, honoured)
        if listener.uris:
            alive = partial(self.listeners.__contains__, reply)
            self.runtime.handler._listened_by(listener.uris, alive, principal, listener.party, ready)
        else:
            ready(())

    def _acknowledge(self, listener: PostedListener, honoured: dict[str, Any], refused: Collection[str]) -> None:
        """Begin the stream: from now on the client may rely on notices of all but `refused`."""
        reply = listener.reply
        if reply not in self.listeners:
            return  # it has left, or the server ends
        honoured = listener.leave_out(refused, honoured)
        if not honoured:
            self._left(listener)
            listener.close()
            return
        # basic/patterns/subscriptions, Acknowledgment: it is the first message.  Until here `send` of the reply, which
        # is not a stream yet, drops notices: the client reads what it listens to after this message.
        reply.open(encode_event(listener.acknowledgement(honoured)))
        reply.forget()

    def _left(self, listener: PostedListener) -> None:
        """Remove a listener that has ended, and give back its place."""
        del self.listeners[listener.reply]
        self._places.give_back(listener.party)
        listener.load = None

    def _on_gap(self) -> None:
        """Notices of other workers may have been lost: tell every listener of all that it asked for."""
        for listener in list(self.listeners.values()):
            for notice in (*map(Notice, listener.kinds), *(Notice("updated", uri) for uri in listener.uris)):
                listener.on_notice(notice)

    def on_notice(self, notice: Notice) -> None:
        """Pass a notice to every listener; each sends it if its filter has it."""
        for listener in list(self.listeners.values()):
            if notice.is_for(listener.principal, None):
                listener.on_notice(notice)

    def expire(self, reply: Reply) -> bool:
        """End the listen stream on this reply, if there is one: the token that it was opened with has expired."""
        listener = self.listeners.get(reply)
        if listener is None:
            return False
        self._left(listener)
        listener.close()
        return True

    def end_idle_streams(self) -> None:
        """Shutting down: end the listen streams, each with its result."""
        for listener in list(self.listeners.values()):
            self._left(listener)
            listener.close()


def _reads_events(reply: Reply) -> bool:
    verdict = reply.request.head.verdict
    return isinstance(verdict, Verdict) and verdict.facts.accepts_events

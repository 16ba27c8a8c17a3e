# SPDX-License-Identifier: MIT
"""HTTP+SSE of 2024-11-05 as a client's way to its server: one stream for all the server's messages, POSTs beside it.

It refuses an endpoint of another origin, which would get the credentials of this one, and a stream that names no
endpoint to POST to.

Rule: the stream is the session.  When the stream ends, the session ends (2024-11-05 basic/transports, HTTP with SSE).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from ...http.headers import JSON_TYPE, SSE_TYPE, VERSION_HEADER
from ...http.sse import MAX_EVENT_SIZE, Event, EventDecoder, SSEError
from ...protocol.errors import MCPError, again
from ...protocol.jsonrpc import JSON, Message
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from ..http.httpclient import HTTPCall, HTTPClient
from ..http.urls import resolve, shown
from ..http.wire import HTTPAnswer
from .base import Outgoing, Receiver, deliver
from .errors import ConnectionLost, HTTPStatusError, InvalidAnswer
from .lenient import Unreadable
from .responses import END_LIMIT, leave, lost, media_type, refusal

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

ENDPOINT_LIMIT = 10.0  # seconds until the stream has named its endpoint
MAX_ENDPOINT = 8 * 1024  # characters of that name


class SSETransport:
    """A transport over one event stream and POST requests.

    Args:
        http: sends the requests.  It is closed with the transport.
        headers: sent with every request.

    Attributes:
        skipped: how many events were no messages.
    """

    duplex = True
    session_id: str | None = None

    def __init__(
        self,
        url: str,
        http: HTTPClient,
        *,
        headers: Sequence[tuple[str, str]] = (),
        json: JSON | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
    ) -> None:
        self.url = url
        self.skipped = 0
        self._http = http
        self._headers = tuple(headers)
        self._json = json or JSON()
        self._max_event_size = max_event_size
        self._revision: Revision | None = None
        self._endpoint = ""
        self._error: Exception | None = None
        self._opened: anyio.Event
        self._scope: anyio.CancelScope
        self._receiver: Receiver

    @property
    def why(self) -> str:
        """The address, without credentials and query."""
        return shown(self.url)

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Opens the stream and waits until it has named its endpoint.

        Raises:
            MCPError: the stream is refused, is no event stream, or does not name its endpoint in time.
        """
        self._receiver = receiver
        self._opened, self._scope = anyio.Event(), anyio.CancelScope()
        # A task of its own: the stream is read as long as the client lives.
        tasks.start_soon(self._run)
        with anyio.move_on_after(ENDPOINT_LIMIT):
            await self._opened.wait()
        if not self._endpoint:
            self._scope.cancel()
            if self._error is not None:
                raise again(self._error)
            # A stream without an endpoint is open and useless, so it was cancelled.
            raise InvalidAnswer(f"the stream at {self.why} does not say where to POST")

    def settle(self, revision: Revision) -> None:
        """Requests name this revision from now on: servers of later revisions over this transport read the header."""
        self._revision = revision

    async def send(self, out: Outgoing) -> None:
        """POSTs the message.  The answer to a request comes on the stream.

        Raises:
            MCPError: the server did not accept the message.
        """
        headers = [("Content-Type", JSON_TYPE), *self._headers]
        # Servers of 2025-06-18 and later may be reached this way as well, and read the header.
        if self._revision is not None and self._revision.version_header:
            headers.append((VERSION_HEADER, self._revision.name))
        try:
            answer = await self._http.send(HTTPCall("POST", self._endpoint, headers, out.payload, repeatable=out.safe))
        except MCPError:
            raise
        except Exception as error:
            raise lost(error, self._endpoint) from error
        try:
            # The status only says that the message was accepted (202); a body beside it has no meaning.
            if not 200 <= answer.status < 300:
                raise await refusal(answer, self._json, out.method)
        finally:
            await leave(answer)

    async def cancel(self, request_id: int | str) -> None:
        """Does nothing: the client sends notifications/cancelled."""

    async def listen(self) -> None:
        """Does nothing: the stream is open already."""

    async def aclose(self) -> None:
        """Closes the stream, which ends the session."""
        self._scope.cancel()
        with anyio.move_on_after(END_LIMIT):
            await self._http.aclose()

    # --- the stream -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        error: Exception | None = None
        with self._scope:
            try:
                await self._listen()
            except Exception as exc:
                error = exc if isinstance(exc, MCPError) else lost(exc, self.url)
            else:
                error = ConnectionLost(f"the stream at {self.why} ended")
        self._error = error
        if not self._endpoint:
            self._opened.set()
        else:
            self._receiver.closed(error)
            # No answer can come any more.  Closing ends the POSTs that still wait for their status.
            await self._http.aclose()

    async def _listen(self) -> None:
        call = HTTPCall("GET", self.url, [("Accept", SSE_TYPE), *self._headers], repeatable=True)
        answer = await self._http.send(call)
        try:
            await self._check(answer)
            decoder = EventDecoder(self._max_event_size)
            async for piece in answer:
                for event in decoder.feed(piece):
                    self._on_event(event)
        except SSEError as error:
            raise InvalidAnswer(str(error)) from None
        finally:
            await leave(answer)

    async def _check(self, answer: HTTPAnswer) -> None:
        if answer.status != 200:
            raise await refusal(answer, self._json, "GET")
        if media_type(answer) != SSE_TYPE:
            raise HTTPStatusError(200, f"{self.why} is no event stream", headers={}, error=None)

    def _on_event(self, event: Event) -> None:
        if not self._endpoint:
            # "When a client connects, the server MUST send an `endpoint` event" (2024-11-05): it is the first.
            if event.event != "endpoint":
                raise InvalidAnswer(f"the stream at {self.why} does not begin with an endpoint")
            self._endpoint = self._resolved(event.data)
            self._opened.set()
        elif event.event == "message" and event.data:
            deliver(self._json, event.data.encode("utf-8"), self._pass_on, self._no_message)

    def _resolved(self, endpoint: str) -> str:
        """The address to POST to.  Raises InvalidAnswer for another origin: requests carry our credentials."""
        try:
            if len(endpoint) <= MAX_ENDPOINT:
                # The official servers name a path.  A whole address of the same origin is taken as well.
                return resolve(self.url, endpoint)
        except ValueError:  # also for a port that is no number, and for brackets that do not match
            pass
        raise InvalidAnswer(f"the stream at {self.why} names an endpoint of another origin")

    def _pass_on(self, message: Message) -> None:
        self._receiver.message(message, None)

    def _no_message(self, error: Unreadable) -> None:
        """This stream has no log lines: bytes that are neither a message nor a call were an answer."""
        if not error.calls:
            self._receiver.lost(error.request_id, error)
            return
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("bytes that are no message came from %s, and are skipped: %s", self.why, error)

# SPDX-License-Identifier: MIT
"""Streamable HTTP as a client's way to its server, in both eras: one POST for each message.

In 2026-07-28 a request lives as long as its exchange, and closing the exchange cancels the request.  The revisions with
sessions (2025-03-26 to 2025-11-25) need more: the session id on every request and a DELETE at the end, a GET stream for
messages that the server sends unasked, and streams that are resumed where they were cut.  `session.py` decides whether
a session is gone, and `exchange.py` delivers the messages of an answer.

It refuses answers that are too large and answers that are neither JSON nor an event stream.  The error shows how such
an answer begins.

Rules:
- A request that may have been executed is sent again only if it is safe (`Outgoing.safe`).
- Bytes that are no answer are not a lost connection: the server has seen the request, so it is not sent again.
- The client never reconnects earlier than `retry` allows, and gives up after `RESUME_ATTEMPTS` without progress.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from ...http.headers import JSON_TYPE, SESSION_HEADER, SSE_TYPE, VERSION_HEADER
from ...http.sse import MAX_EVENT_SIZE, SSEError
from ...protocol.errors import MODERN_REFUSALS, MCPError
from ...protocol.jsonrpc import JSON, Message
from ...protocol.methods import INITIALIZED
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from ..http.httpclient import HTTPCall, HTTPClient
from ..http.straight import Straight
from ..http.urls import shown
from ..http.wire import HTTPAnswer
from .backoff import Backoff
from .base import Outgoing, Receiver, deliver
from .errors import AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer, SessionLost
from .eventsource import EventReader
from .exchange import HTTPExchange
from .lenient import Unreadable
from .responses import END_LIMIT, leave, lost, media_type, refusal, start_of, whole
from .session import HTTPSession
from .straightway import Straightway

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Bytes of one JSON answer: the limit of an event and of a line of stdio, so that a result that fits one fits all.
MAX_ANSWER = MAX_EVENT_SIZE
# Seconds that `listen` waits for the head of the GET stream: some servers send no head before the first event.
GET_HEAD_WAIT = 2.0
# Seconds that `aclose` waits for the answer to an `initialize` under way.  The answer names the session to end.
LATE_SESSION_WAIT = 0.5
RESUME_ATTEMPTS = 5  # in a row without a new event


class HTTPTransport(Straightway):
    """A transport over POST requests.

    Args:
        http: sends the requests.  It is closed with the transport.
        headers: sent with every request.
        resume_attempts: connections in a row without a new event, after which a cut stream is given up.

    Attributes:
        skipped: how many events were no messages.
    """

    duplex = False

    def __init__(
        self,
        url: str,
        http: HTTPClient,
        *,
        headers: Sequence[tuple[str, str]] = (),
        json: JSON | None = None,
        max_event_size: int = MAX_EVENT_SIZE,
        max_answer: int = MAX_ANSWER,
        resume_attempts: int = RESUME_ATTEMPTS,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__()
        self.url = url
        self._http = http
        self._headers = tuple(headers)
        self._json = json or JSON()
        self._max_event_size = max_event_size
        self._max_answer = max_answer
        self._resume_attempts = resume_attempts
        self._backoff = backoff or Backoff()
        self._revision: Revision | None = None
        self._exchanges: dict[int | str, HTTPExchange] = {}
        self.skipped = 0
        self._session = HTTPSession(self.why, self._ping)
        self._listening: anyio.CancelScope | None = None
        self._receiver: Receiver
        self._tasks: TaskGroup

    @property
    def why(self) -> str:
        """The address, without credentials and query."""
        return shown(self.url)

    @property
    def session_id(self) -> str | None:
        """The id of the session; None where the server gave none, and in 2026-07-28."""
        return self._session.id

    # --- Transport ------------------------------------------------------------------------------------------

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Opens nothing: the first request opens the first connection."""
        self._receiver = receiver
        self._tasks = tasks
        self._session.start(receiver.renewed, tasks)

    def settle(self, revision: Revision) -> None:
        """Requests name this revision from now on.  A revision without sessions ends the session and its GET stream."""
        self._revision = revision
        self._session.settle(revision.modern)
        if revision.modern and self._listening is not None:
            self._listening.cancel()

    async def send(self, out: Outgoing) -> None:
        """Begins the exchange of a request.  A notification or a response is sent before this returns.

        Raises:
            MCPError: the server did not accept the notification or response.
        """
        # Its sender waits for the status, because nothing else answers a notification.
        if out.request_id is None:
            await self._post_only(out)
        else:
            exchange = self._exchanges[out.request_id] = HTTPExchange(out, self._json, self._receiver, self._skip)
            self._tasks.start_soon(self._run, exchange)

    async def cancel(self, request_id: int | str) -> None:
        """Closes the exchange: in 2026-07-28 at once, because that is the cancellation; in a session after a while."""
        exchange = self._exchanges.get(request_id)
        if exchange is None:
            return
        if exchange.modern or not exchange.sent:
            self._drop(exchange)
        else:
            self._drop_later(exchange)

    async def listen(self) -> None:
        """Opens the GET stream.  A server without one answers 405 (2025-11-25, Listening for Messages 3)."""
        if self._listening is not None:
            self._listening.cancel()
        scope = self._listening = anyio.CancelScope()
        begun = anyio.Event()
        self._tasks.start_soon(self._listen, scope, begun)
        with anyio.move_on_after(GET_HEAD_WAIT):
            await begun.wait()

    async def aclose(self) -> None:
        """Ends the exchanges, then the session: "SHOULD send an HTTP DELETE" (2025-11-25, Session Management 5)."""
        if self._listening is not None:
            self._listening.cancel()
        try:
            with anyio.move_on_after(LATE_SESSION_WAIT):
                for ended in [one.ended for one in self._exchanges.values() if one.ended is not None]:
                    await ended.wait()
        finally:
            for exchange in list(self._exchanges.values()):
                self._drop(exchange)
        session, self._session.id = self._session.id, None
        try:
            if session is not None:
                await self._delete(session)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(END_LIMIT):
                await self._http.aclose()

    async def _delete(self, session: str) -> None:
        headers = [*self._common(), (SESSION_HEADER, session)]
        with anyio.move_on_after(END_LIMIT):
            try:
                await leave(await self._http.send(HTTPCall("DELETE", self.url, headers, repeatable=True)))
            except Exception as error:  # without a server, too, the session is over for this client
                logger.debug("the session at %s was not ended: %s", self.why, error)

    # --- POST -----------------------------------------------------------------------------------------------

    def _common(self) -> list[tuple[str, str]]:
        headers = list(self._headers)
        # 2025-06-18 and later, and only after the handshake: before it no revision is agreed.  Requests of 2026-07-28
        # bring this header themselves, among `Outgoing.headers`.
        if self._revision is not None and self._revision.version_header and not self._revision.modern:
            headers.append((VERSION_HEADER, self._revision.name))
        return headers

    def _call(self, out: Outgoing, session: str | None) -> HTTPCall:
        headers = [("Content-Type", JSON_TYPE), ("Accept", f"{JSON_TYPE}, {SSE_TYPE}")]
        if out.headers:
            headers += [*self._headers, *out.headers]
        else:
            headers += self._headers if out.method == "initialize" else self._common()
        if session is not None:
            headers.append((SESSION_HEADER, session))
        return HTTPCall("POST", self.url, headers, out.payload, repeatable=out.safe)

    def _session_of(self, out: Outgoing) -> str | None:
        return None if out.headers or out.method == "initialize" else self._session.id

    async def _post_only(self, out: Outgoing) -> None:
        await self._ready(out)
        generation, session = self._session.generation, self._session_of(out)
        answer = await self._http_send(self._call(out, session))
        try:
            if not 200 <= answer.status < 300:
                refused = await refusal(answer, self._json, out.method)
                if await self._session.forgotten_by(refused, session):
                    self._session.renew(generation)
                    raise SessionLost("the server has forgotten the session") from refused
                raise refused
        finally:
            await leave(answer)

    async def _run(self, exchange: HTTPExchange, straight: Straight | None = None) -> None:
        error: Exception | None = None
        try:
            with exchange.takes_a_task():
                if straight is None:
                    await anyio.lowlevel.checkpoint_if_cancelled()  # nothing is sent for a caller who gave up
                await self._exchange(exchange, straight)
        except SSEError as exc:
            error = InvalidAnswer(str(exc))
        except Exception as exc:
            # An exception here would end all tasks of the client.  Only an MCPError is expected: another exception is
            # a fault of this package, and its traceback belongs into the log.
            if not isinstance(exc, MCPError):
                logger.exception("an exchange with %s failed", self.why)
            error = exc
        finally:
            self._over(exchange, error)

    async def _exchange(self, exchange: HTTPExchange, straight: Straight | None) -> None:
        out, repeated = exchange.out, False
        while True:
            if straight is not None:
                generation, session = exchange.generation, exchange.session
                answer = await self._http_answer(self._http.go_on(straight))
                straight = None
            else:
                await self._ready(out)
                generation, session = self._session.generation, self._session_of(out)
                exchange.sent = True
                answer = await self._http_send(self._call(out, session))
            if not await self._read_answer(exchange, answer, session):
                return
            await self._session.renewed(generation, sent=True)
            # The server may have executed the request before it forgot the session.
            if not out.safe or repeated:
                raise SessionLost(f"the server forgot the session during {out.method}; whether it ran is not known")
            repeated = True
            exchange.sent = False

    async def _read_answer(self, exchange: HTTPExchange, answer: HTTPAnswer, session: str | None) -> bool:
        """Reads one answer to its end.  Returns True if the session is gone."""
        try:
            if not 200 <= answer.status < 300:
                return await self._refused(exchange, answer, session)
            if session is not None and session == self._session.id:
                self._session.accepted()
            if media_type(answer) == JSON_TYPE:
                self._admitted(exchange, answer)
                exchange.take_body(answer.status, await whole(answer, self._max_answer), self._revision)
            elif media_type(answer) == SSE_TYPE:
                self._admitted(exchange, answer)
                return await self._stream(exchange, answer, session)
            else:
                body, kind = await start_of(answer), media_type(answer)
                said = f"{kind[:100]}" if kind else "a body of no type" if body else "nothing"
                raise InvalidAnswer(f"{exchange.out.method} was answered with {answer.status} and {said}", body)
        finally:
            await leave(answer)
        return False

    async def _refused(self, exchange: HTTPExchange, answer: HTTPAnswer, session: str | None) -> bool:
        """Raises the refusal, or delivers it as the answer.  Returns True if the session is gone."""
        error = await refusal(answer, self._json, exchange.out.method)
        if await self._session.forgotten_by(error, session):
            return True
        if isinstance(error, AuthorizationRequired) or not error.rpc:
            raise error
        if error.status == 429 or error.status >= 500:
            raise error
        # A server of HTTP+SSE refuses `initialize` so: the client sees the status and tries that transport.
        if exchange.out.method == "initialize" and error.status in (404, 405):
            raise error
        # Servers of 2026-07-28 refuse by a status only with these codes.  With another code this is an older server
        # or a proxy, and the client needs the status to tell which.
        if exchange.modern and error.code not in MODERN_REFUSALS:
            raise error
        exchange.refuse({"code": error.code, "message": error.message, "data": error.data})
        return False

    def _admitted(self, exchange: HTTPExchange, answer: HTTPAnswer) -> None:
        """Keeps the session id, which only the answer to `initialize` has (2025-11-25, Session Management 1)."""
        session = answer.get(SESSION_HEADER)
        if exchange.out.method != "initialize" or session is None:
            return
        # "visible ASCII characters (ranging from 0x21 to 0x7E)": other characters could not be sent back.
        if session and all("!" <= char <= "~" for char in session):
            self._session.id = session
        else:
            logger.warning("the server's session id has characters that no session id has: it is not used")

    # --- streams that are cut -------------------------------------------------------------------------------

    async def _stream(self, exchange: HTTPExchange, answer: HTTPAnswer, session: str | None) -> bool:
        """Reads the events of one exchange, resuming the stream if need be.  Returns True if the session is gone."""
        reader = exchange.reader or EventReader(self._backoff, self._max_event_size)
        failures = 0
        while True:
            try:
                progressed = await self._read(reader, answer, lambda data: exchange.take_event(data, self._revision))
            finally:
                await leave(answer)
            if exchange.answered:
                return False
            # 2026-07-28 resumes no stream.  Before it, a stream is resumed by Last-Event-ID, so it must have had an id.
            if exchange.modern or not reader.last_event_id:
                if not progressed and (answer.ended or exchange.out.method == "server/discover"):
                    raise InvalidAnswer(f"{exchange.out.method} was answered with an event stream without an answer")
                raise ConnectionLost(f"the answer to {exchange.out.method} was cut off")
            failures = 0 if progressed else failures + 1
            answer = await self._resumed(exchange, reader, session, failures)
            if answer.status != 200 or media_type(answer) != SSE_TYPE:
                try:
                    refused = await refusal(answer, self._json, exchange.out.method)
                finally:
                    await leave(answer)
                if await self._session.forgotten_by(refused, session):
                    return True
                raise ConnectionLost(f"the server does not resume {exchange.out.method}: {answer.status}")

    async def _resumed(
        self, exchange: HTTPExchange, reader: EventReader, session: str | None, failures: int
    ) -> HTTPAnswer:
        """The next connection of a cut stream, or a refusal that is final; others (429, 5xx) are tried again."""
        while True:
            delay = reader.delay(failures)
            if delay is None or failures >= self._resume_attempts:
                raise ConnectionLost(f"the answer to {exchange.out.method} was cut off and could not be resumed")
            await anyio.sleep(delay)
            try:
                answer = await self._get(reader.last_event_id, session)
            except ConnectionLost:
                pass
            else:
                if not _for_the_moment(answer.status):
                    return answer
                await leave(answer)
            failures += 1

    async def _read(self, reader: EventReader, answer: HTTPAnswer, deliver: Callable[[bytes], None]) -> bool:
        try:
            return await reader.read(answer, deliver)
        except (SSEError, InvalidAnswer):
            raise
        except Exception as error:  # the connection broke: the caller resumes the stream
            logger.debug("a stream from %s was cut: %r", self.why, error)
            return reader.took_progress()

    async def _get(self, last_event_id: str, session: str | None) -> HTTPAnswer:
        headers = [("Accept", SSE_TYPE), *self._common()]
        if session is not None:
            headers.append((SESSION_HEADER, session))
        if last_event_id:
            headers.append(("Last-Event-ID", last_event_id))
        return await self._http_send(HTTPCall("GET", self.url, headers, repeatable=True))

    # --- the GET stream -------------------------------------------------------------------------------------

    async def _listen(self, scope: anyio.CancelScope, begun: anyio.Event) -> None:
        generation, session = self._session.generation, self._session.id
        with scope:
            try:
                gone = await self._listen_through(session, begun)
            except Exception as error:
                logger.warning("listening at %s ended: %s", self.why, error)
                gone = False
            if gone:
                self._session.renew(generation)
        begun.set()

    async def _listen_through(self, session: str | None, begun: anyio.Event) -> bool:
        """Reads the GET stream, and resumes it, until the server refuses.  Returns True if the session is gone."""
        reader, failures, opened = EventReader(self._backoff, self._max_event_size), 0, False
        while True:
            progressed = False
            try:
                answer = await self._get(reader.last_event_id, session)
            except ConnectionLost:
                status = 0
            else:
                try:
                    status = answer.status
                    if status == 200 and media_type(answer) == SSE_TYPE:
                        begun.set()
                        opened = True
                        self._session.accepted()
                        progressed = await self._read(reader, answer, self._on_event)
                    elif not _for_the_moment(status):
                        if status == 400 and reader.last_event_id:
                            # The server has thrown those events away.  Without the id it sends the later ones.
                            reader.last_event_id = ""
                        else:
                            # A server without a GET stream refuses the first GET (405): the session is not in doubt.
                            refused = await refusal(answer, self._json, "GET")
                            return (opened or status == 404) and await self._session.forgotten_by(refused, session)
                finally:
                    await leave(answer)
            begun.set()
            failures = 0 if progressed else failures + 1
            # Servers end an idle stream as they like: to come back after a stream that worked is no failure.
            delay = reader.delay(max(failures - 1, 0) if status == 200 else failures)
            if delay is None:
                return False
            await anyio.sleep(delay)

    def _on_event(self, payload: bytes) -> None:
        deliver(self._json, payload, self._pass_on, self._skip)

    def _pass_on(self, message: Message) -> None:
        self._receiver.message(message, None)

    def _skip(self, unread: Unreadable) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("bytes that are no message came from %s, and are skipped: %s", self.why, unread)

    # --- the session ----------------------------------------------------------------------------------------

    async def _ready(self, out: Outgoing) -> None:
        """Waits for the session, if this message is sent in one."""
        if not out.headers and out.method not in ("initialize", INITIALIZED):
            await self._session.ready()

    async def _ping(self, session: str) -> HTTPStatusError | None:
        """Sends a ping in that session, even while a new handshake is made.  Returns its refusal."""
        ping = Outgoing(self._json.request("session", "ping"), "ping", "session", safe=True)
        answer = await self._http_send(self._call(ping, session))
        try:
            return None if 200 <= answer.status < 300 else await refusal(answer, self._json, "ping")
        finally:
            await leave(answer)

    async def _http_send(self, call: HTTPCall) -> HTTPAnswer:
        """Raises ConnectionLost, or the MCPError of a middleware."""
        return await self._http_answer(self._http.send(call))

    async def _http_answer(self, answer: Awaitable[HTTPAnswer]) -> HTTPAnswer:
        try:
            return await answer
        except MCPError:
            raise
        except Exception as error:
            raise lost(error, self.url) from error


def _for_the_moment(status: int) -> bool:
    """Whether the same GET may succeed later.  501 says that the server will never have such a stream."""
    return status == 429 or (status >= 500 and status != 501)

# SPDX-License-Identifier: MIT
"""Streamable HTTP as a client's way to its server, in both eras: one POST for each message.

2026-07-28: an exchange is all there is; closing it cancels.  Sessions (2025-03-26 to 2025-11-25): the id on every
request and DELETE at the end, a GET stream for what the server says by itself, streams that are resumed where they were
cut, and one new handshake for everybody when the server has forgotten the session.

It refuses answers that are too large, or neither JSON nor an event stream, and shows how they begin.

Rules:
- What may have been executed is sent again only if it is safe (`Outgoing.safe`).
- A 404 is the end of the session where the request named one, and of nothing else.  Another 4xx may be (servers that
  were started anew say 400): a ping in that session tells.
- Bytes that are no answer are no lost connection: the request is not sent again.
- Never back earlier than `retry` says, nor for ever where nothing comes of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from ...http.headers import JSON_TYPE, SESSION_HEADER, SSE_TYPE, VERSION_HEADER
from ...http.sse import MAX_EVENT_SIZE, SSEError
from ...protocol.errors import MODERN_REFUSALS, PARSE_ERROR, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED, MCPError
from ...protocol.jsonrpc import JSON, ErrorResponse, Message, Response
from ...protocol.revisions import Revision
from ...protocol.shown import escaping
from . import lenient
from .backoff import Backoff
from .base import Outgoing, Receiver
from .errors import NO_VERDICT, AuthorizationRequired, ConnectionLost, HTTPStatusError, InvalidAnswer, SessionLost
from .eventsource import EventReader
from .httpclient import HTTPCall, HTTPClient
from .lenient import Unreadable
from .responses import END_LIMIT, leave, lost, media_type, refusal, start_of, whole
from .urls import shown
from .wire import HTTPAnswer

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

logger = escaping(logging.getLogger(__name__))

# Of one answer in JSON: as much as one event, or one line of stdio.
MAX_ANSWER = MAX_EVENT_SIZE
# Seconds.  After its answer an event stream has this long to end, so that the connection can be used again; after a
# cancellation an exchange of a session has this long: it says nothing of its end.
AFTER_ANSWER = 1.0
AFTER_CANCEL = 5.0
# How long the head of a GET stream is waited for before going on without: some servers hold it back until an event.
GET_HEAD_WAIT = 2.0
# Seconds at the end for the answer to an `initialize` that is under way: the session that it began is ended then.
LATE_SESSION_WAIT = 0.5
RESUME_ATTEMPTS = 5  # in a row, without anything new
# Seconds for the ping that tells whether a session is still good; without an answer it is taken to be.
CHECK_LIMIT = 5.0
# Errors of one request: a server that says so has looked at more than the session.
_OF_THE_REQUEST = MODERN_REFUSALS | {PARSE_ERROR, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED}
_OF_THE_SESSION = re.compile("session|initiali[sz]", re.IGNORECASE)


class HTTPExchange:
    """One request on its way."""

    def __init__(self, out: Outgoing) -> None:
        assert out.request_id is not None
        self.id = out.request_id
        self.out = out
        self.modern = bool(out.headers)
        # Whoever leaves during a handshake may leave a session behind, of which only the answer tells: see `aclose`.
        self.scope = anyio.CancelScope(shield=out.method == "initialize")
        self.sent = False
        self.answered = False
        self.ended = anyio.Event()


class Renewal:
    """One new handshake, and everybody who waits for it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: Exception | None = None


class Check:
    """One ping in a session that may be gone, for all requests that were refused in it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.gone = False


class HTTPTransport:
    """See the module.  `headers` go with every request; `http` is closed with the transport.

    Attributes:
        session_id: None where the server gave none, and in 2026-07-28.
        skipped: messages on streams that were none.
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
        self.url = url
        self.session_id: str | None = None
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
        self._generation = 0  # of the session
        self._good = -1  # the generation whose session has answered a request
        self._check: Check | None = None
        self._renewal: Renewal | None = None
        self._forgotten = False  # the session is gone, and the handshake after it failed
        self._listening: anyio.CancelScope | None = None
        self._receiver: Receiver
        self._tasks: TaskGroup

    @property
    def why(self) -> str:
        """The address, as far as it may be shown."""
        return shown(self.url)

    # --- Transport ------------------------------------------------------------------------------------------

    async def start(self, receiver: Receiver, tasks: TaskGroup) -> None:
        """Opens nothing yet: HTTP begins with the first request."""
        self._receiver = receiver
        self._tasks = tasks

    def settle(self, revision: Revision) -> None:
        """From now on the header says this revision; one without sessions ends what there was of one."""
        self._revision = revision
        self._forgotten = False
        if revision.modern:
            self.session_id = None
            if self._listening is not None:
                self._listening.cancel()

    async def send(self, out: Outgoing) -> None:
        """A request gets an exchange of its own; anything else is waited for until the server has taken it.

        Raises:
            MCPError: a notification or an answer that did not get there.
        """
        if out.request_id is None:
            await self._post_only(out)
        else:
            exchange = self._exchanges[out.request_id] = HTTPExchange(out)
            self._tasks.start_soon(self._run, exchange)

    async def cancel(self, request_id: int | str) -> None:
        """2026-07-28: closes the exchange, which is the cancellation.  Else it has a while to end by itself."""
        exchange = self._exchanges.get(request_id)
        if exchange is None:
            return
        if exchange.modern or not exchange.sent:
            exchange.scope.cancel()
        else:
            exchange.scope.deadline = min(exchange.scope.deadline, anyio.current_time() + AFTER_CANCEL)

    async def listen(self) -> None:
        """The GET stream, if the server has one; 405 says that it has none (2025-11-25, Listening for Messages 3)."""
        if self._listening is not None:
            self._listening.cancel()
        scope = self._listening = anyio.CancelScope()
        begun = anyio.Event()
        self._tasks.start_soon(self._listen, scope, begun)
        with anyio.move_on_after(GET_HEAD_WAIT):
            await begun.wait()

    async def aclose(self) -> None:
        """Ends what runs, then the session: "SHOULD send an HTTP DELETE" (2025-11-25, Session Management 5)."""
        if self._listening is not None:
            self._listening.cancel()
        try:
            with anyio.move_on_after(LATE_SESSION_WAIT):
                for exchange in [one for one in self._exchanges.values() if one.out.method == "initialize"]:
                    await exchange.ended.wait()
        finally:
            for exchange in list(self._exchanges.values()):
                exchange.scope.cancel()
        session, self.session_id = self.session_id, None
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
            except Exception as error:  # 405, 404 or no server at all: the session is over for us either way
                logger.debug("the session at %s was not ended: %s", self.why, error)

    # --- POST -----------------------------------------------------------------------------------------------

    def _common(self) -> list[tuple[str, str]]:
        headers = list(self._headers)
        # 2025-06-18 and later; not before the handshake is over, when there is nothing to say yet.
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
        return None if out.headers or out.method == "initialize" else self.session_id

    async def _post_only(self, out: Outgoing) -> None:
        await self._ready(out)
        generation, session = self._generation, self._session_of(out)
        answer = await self._http_send(self._call(out, session))
        try:
            if not 200 <= answer.status < 300:
                refused = await refusal(answer, self._json, out.method)
                if await self._forgot(refused, session):
                    self._begin_renewal(generation)
                    raise SessionLost("the server has forgotten the session") from refused
                raise refused
        finally:
            await leave(answer)

    async def _run(self, exchange: HTTPExchange) -> None:
        error: Exception = ConnectionLost("the exchange ended without an answer")
        try:
            with exchange.scope:
                await self._exchange(exchange)
        except SSEError as exc:
            error = InvalidAnswer(str(exc))
        except Exception as exc:
            # A reader must not take the client with it; what is no MCPError is a fault of ours, and worth a traceback.
            if not isinstance(exc, MCPError):
                logger.exception("an exchange with %s failed", self.why)
            error = exc
        finally:
            if self._exchanges.get(exchange.id) is exchange:
                del self._exchanges[exchange.id]
            exchange.ended.set()
        if not exchange.answered:
            self._receiver.lost(exchange.id, error)

    async def _exchange(self, exchange: HTTPExchange) -> None:
        out, repeated = exchange.out, False
        while True:
            await self._ready(out)
            generation, session = self._generation, self._session_of(out)
            exchange.sent = True
            answer = await self._http_send(self._call(out, session))
            if not await self._take(exchange, answer, session):
                return
            await self._renewed(generation, sent=True)
            # CL-6: whether it was executed before the session went nobody can say.
            if not out.safe or repeated:
                raise SessionLost(f"the server forgot the session during {out.method}; whether it ran is not known")
            repeated = True
            exchange.sent = False

    async def _take(self, exchange: HTTPExchange, answer: HTTPAnswer, session: str | None) -> bool:
        """Reads one answer to its end.  True: the session is gone."""
        try:
            if not 200 <= answer.status < 300:
                return await self._refused(exchange, answer, session)
            if session is not None and session == self.session_id:
                self._good = self._generation
            if media_type(answer) == JSON_TYPE:
                self._admitted(exchange, answer)
                self._answer(exchange, answer.status, await whole(answer, self._max_answer))
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
        """Raises the refusal, or tells the receiver.  True: the session is gone."""
        error = await refusal(answer, self._json, exchange.out.method)
        if await self._forgot(error, session):
            return True
        if isinstance(error, AuthorizationRequired) or not error.rpc:
            raise error
        if error.status == 429 or error.status >= 500:
            raise error
        # The status of a refused `initialize` says whether an older transport is served there.
        if exchange.out.method == "initialize" and error.status in (404, 405):
            raise error
        # What no server of 2026-07-28 says so: the status tells whoever asks what it is then.
        if exchange.modern and error.code not in MODERN_REFUSALS:
            raise error
        # CL-18, CL-30: the error of this very request, whatever id it was given.
        exchange.answered = True
        described = {"code": error.code, "message": error.message, "data": error.data}
        self._receiver.message(ErrorResponse(exchange.id, described), exchange.id)
        return False

    def _admitted(self, exchange: HTTPExchange, answer: HTTPAnswer) -> None:
        """The id of a session comes with the answer to `initialize`, and only there (CL-4)."""
        session = answer.get(SESSION_HEADER)
        if exchange.out.method != "initialize" or session is None:
            return
        # "visible ASCII characters (ranging from 0x21 to 0x7E)": another cannot be sent back.
        if session and all("!" <= char <= "~" for char in session):
            self.session_id = session
        else:
            logger.warning("the server's session id has characters that no session id has: it is not used")

    def _answer(self, exchange: HTTPExchange, status: int, body: bytes) -> None:
        """A body of JSON: the answer, or nothing is.  Raises InvalidAnswer."""
        said = f"{exchange.out.method} was answered with {status} and "
        if not body:
            raise InvalidAnswer(f"{said}nothing")
        try:
            self._deliver(exchange, body)
        except Unreadable as error:
            raise InvalidAnswer(f"{said}{error.what}", body) from None
        if not exchange.answered:
            raise InvalidAnswer(f"{said}no answer to it", body)

    def _event(self, exchange: HTTPExchange, payload: bytes) -> None:
        """One event of the exchange.  Raises InvalidAnswer for one that was to be the answer."""
        try:
            self._deliver(exchange, payload)
        except Unreadable as error:
            raise InvalidAnswer(f"{exchange.out.method} was answered with {error.what}", payload) from None

    def _deliver(self, exchange: HTTPExchange, payload: bytes) -> None:
        """Gives the receiver the messages of one body or event of this exchange.  Raises Unreadable."""
        found = self._read_leniently(payload)
        if found and isinstance(found, list) and self._revision is not None and not self._revision.batches:
            raise Unreadable(f"a batch, which {self._revision.name} does not have", payload)
        unread: Unreadable | None = None
        for message in found if isinstance(found, list) else [found]:
            if isinstance(message, Unreadable):
                if message.calls:
                    self._skip(message)
                else:
                    unread = message
                continue
            if isinstance(message, (Response, ErrorResponse)):
                if message.id is None or lenient.is_answer_to(exchange.id, message.id):
                    message.id = exchange.id
            self._receiver.message(message, exchange.id)
            if isinstance(message, (Response, ErrorResponse)) and message.id == exchange.id:
                exchange.answered = True
                exchange.scope.deadline = min(exchange.scope.deadline, anyio.current_time() + AFTER_ANSWER)
        if unread is not None and not exchange.answered:
            raise unread

    def _read_leniently(self, payload: bytes) -> Message | list[Message | Unreadable]:
        """The messages of a payload.  A call that cannot be read is no answer, and is skipped.  Raises Unreadable."""
        try:
            return lenient.read(self._json, payload)
        except Unreadable as error:
            if not error.calls:
                raise
            self._skip(error)
            return []

    # --- streams that are cut -------------------------------------------------------------------------------

    async def _stream(self, exchange: HTTPExchange, answer: HTTPAnswer, session: str | None) -> bool:
        """Reads the events of one exchange, through as many connections as it takes.  True: the session is gone."""
        reader = EventReader(self._backoff, self._max_event_size)
        failures = 0
        while True:
            try:
                progressed = await self._read(reader, answer, lambda payload: self._event(exchange, payload))
            finally:
                await leave(answer)
            if exchange.answered:
                return False
            # 2026-07-28: nothing is resumed.  Before it: "To resume ... Last-Event-ID", so only where there was an id.
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
                if await self._forgot(refused, session):
                    return True
                raise ConnectionLost(f"the server does not resume {exchange.out.method}: {answer.status}")

    async def _resumed(
        self, exchange: HTTPExchange, reader: EventReader, session: str | None, failures: int
    ) -> HTTPAnswer:
        """The next connection of a stream: the first one that is not refused for the moment only."""
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
        except Exception as error:  # the connection broke, in whatever way: that is what resuming is for
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
        generation, session = self._generation, self.session_id
        with scope:
            try:
                gone = await self._listen_through(session, begun)
            except Exception as error:
                logger.warning("listening at %s ended: %s", self.why, error)
                gone = False
            if gone:
                self._begin_renewal(generation)
        begun.set()

    async def _listen_through(self, session: str | None, begun: anyio.Event) -> bool:
        """Until there is nothing to listen to.  True: the session is gone."""
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
                        opened, self._good = True, self._generation
                        progressed = await self._read(reader, answer, self._heard)
                    elif not _for_the_moment(status):
                        if status == 400 and reader.last_event_id:
                            # What was missed is lost; what comes from now on is not.
                            reader.last_event_id = ""
                        else:
                            # A server that has no such stream says 405; it is no reason to doubt the session.
                            refused = await refusal(answer, self._json, "GET")
                            return (opened or status == 404) and await self._forgot(refused, session)
                finally:
                    await leave(answer)
            begun.set()
            failures = 0 if progressed else failures + 1
            # The first time back after a stream that worked is no failure.
            delay = reader.delay(max(failures - 1, 0) if status == 200 else failures)
            if delay is None:
                return False
            await anyio.sleep(delay)

    def _heard(self, payload: bytes) -> None:
        found: Message | list[Message | Unreadable]
        try:
            found = lenient.read(self._json, payload)
        except Unreadable as error:
            found = [error]
        for message in found if isinstance(found, list) else [found]:
            if isinstance(message, Unreadable):
                self._skip(message)
            else:
                self._receiver.message(message, None)

    def _skip(self, unread: Unreadable) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logger.warning("bytes that are no message came from %s, and are skipped: %s", self.why, unread)

    # --- a session that is gone -----------------------------------------------------------------------------

    async def _forgot(self, refused: HTTPStatusError, session: str | None) -> bool:
        """Whether a refusal means that the server does not know this session any more.

        404 does (2025-11-25 basic/transports, Session Management 3).  Other 4xx of a session that was good before may:
        servers that were started anew say 400, or 401 without a challenge.  A ping tells whether the
        session is gone then.
        """
        if session is None or refused.status == 404:
            return session is not None
        if not _may_mean_the_session(refused):
            return False
        if self.session_id != session:
            return True  # another refusal was the first
        if self._good != self._generation:
            return False
        check = self._check
        if check is None:
            # For everybody, in a task of its own, as a new handshake is.
            check = self._check = Check()
            self._tasks.start_soon(self._look, check, session)
        await check.done.wait()
        return check.gone

    async def _look(self, check: Check, session: str) -> None:
        """One ping in that session, which waits for no new handshake."""
        try:
            with anyio.move_on_after(CHECK_LIMIT):
                ping = Outgoing(self._json.request("session", "ping"), "ping", "session", safe=True)
                answer = await self._http_send(self._call(ping, session))
                try:
                    if not 200 <= answer.status < 300:
                        refused = await refusal(answer, self._json, "ping")
                        check.gone = _may_mean_the_session(refused)
                finally:
                    await leave(answer)
        except MCPError as error:
            logger.debug("whether the session at %s is still good is not known: %s", self.why, error)
        finally:
            self._check = None
            check.done.set()

    async def _ready(self, out: Outgoing) -> None:
        """Waits while a new handshake is made; what waits here never left."""
        if out.headers or out.method in ("initialize", "notifications/initialized"):
            return
        if self._renewal is not None or self._forgotten:
            await self._renewed(self._generation, sent=False)

    async def _renewed(self, generation: int, *, sent: bool) -> None:
        """Waits until there is a later session than that.  Raises ConnectionLost where there is none to be had."""
        if self._generation != generation:
            return
        renewal = self._begin_renewal(generation)
        await renewal.done.wait()
        if renewal.error is not None:
            message = f"the session was lost, and there is no new one: {renewal.error}"
            raise ConnectionLost(message, sent=sent) from renewal.error

    def _begin_renewal(self, generation: int) -> Renewal:
        """One for everybody: in a task of its own, so that nobody's cancellation is everybody's."""
        if self._renewal is not None:
            return self._renewal
        renewal = Renewal()
        if self._generation != generation:
            renewal.done.set()
            return renewal
        self._renewal = renewal
        self.session_id = None
        self._tasks.start_soon(self._renew, renewal)
        return renewal

    async def _renew(self, renewal: Renewal) -> None:
        try:
            await self._receiver.renewed()
            self._generation += 1
            self._forgotten = False
        except Exception as error:
            logger.warning("the session at %s is gone, and the new handshake failed: %s", self.why, error)
            renewal.error = error
            self._forgotten = True
        finally:
            self._renewal = None
            renewal.done.set()

    async def _http_send(self, call: HTTPCall) -> HTTPAnswer:
        """Raises ConnectionLost, and whatever a middleware raises that is an MCPError."""
        try:
            return await self._http.send(call)
        except MCPError:
            raise
        except Exception as error:
            raise lost(error, self.url) from error


def _may_mean_the_session(refused: HTTPStatusError) -> bool:
    """Whether a refusal may be that of a server which does not know the session."""
    named = _OF_THE_SESSION.search(refused.reason) is not None
    if refused.status in NO_VERDICT:
        return refused.status == 401 and named and "www-authenticate" not in refused.headers
    # A server that speaks of the method or its params has looked at more than the session.
    of_the_request = refused.rpc and refused.code in _OF_THE_REQUEST and not named
    return 400 <= refused.status < 500 and not of_the_request


def _for_the_moment(status: int) -> bool:
    """Whether a GET that was refused so may be let in later; 501 says that it never will."""
    return status == 429 or (status >= 500 and status != 501)

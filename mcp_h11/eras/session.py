# SPDX-License-Identifier: MIT
"""One session of the revisions up to 2025-11-25, without a carrier: its calls, questions to its client, notices.

`endpoint.calls` and `endpoint.streams` carry a session over Streamable HTTP, where each request has an exchange of its
own; `channel` carries it over the one channel of HTTP+SSE and of stdio.  Both derive from `Call` and `Session`, which
know of neither.

Rules:
- A response goes where its request came from: by the exchange, never by JSON-RPC id, because one client may use one
  id for all its requests.
- A lost connection is not a cancellation.
- A session ends in one function, `close`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Set
from typing import Any

from ..handler.context import Context
from ..handler.deadlines import CLEANUP_TIME
from ..handler.dispatch import dispatch, tool_error
from ..handler.exchange import Exchange
from ..handler.handler import check_meta, encode_error
from ..handler.notices import Notice
from ..handler.questions import InputRequired, Question
from ..handler.sessions import ServerSession
from ..protocol.content import StableResult
from ..protocol.errors import (
    InternalError,
    InvalidParams,
    MCPError,
    MissingClientCapability,
    ResourceNotFound,
    ToolError,
    overloaded,
)
from ..protocol.finite import NotJSON
from ..protocol.jsonrpc import JSON, ErrorResponse, Notification, Request, Response
from ..protocol.methods import CANCELLED, INITIALIZED, LIST_CHANGED, PROGRESS, RESOURCE_UPDATED, log_rank
from ..protocol.revisions import Revision, negotiate
from ..protocol.shown import escaping
from ..protocol.uris import spellings
from ..runtime.admission import Gate, HasParty
from ..runtime.fairness import Load, held_memory
from ..runtime.runtime import Runtime
from ..runtime.storage import MAX_CLIENT_MEMORY, MAX_CLIENT_SIZE, SessionState
from .asking import SessionQuestions
from .downgrade import notification_params, server_fields
from .session_methods import OWN_METHODS, settled
from .values import ValueKeeper

logger = escaping(logging.getLogger(__name__))

# Of the client's capabilities, those that are kept: all that any revision defines.
CAPABILITIES = frozenset(("elicitation", "experimental", "extensions", "roots", "sampling", "tasks"))
SMALL_CLIENT = 4 * 1024  # bytes of memory that every session may keep of its client, beside its share
# At the most, a byte of memory of decoded JSON becomes so many bytes when it is written: a letter as an escape.
JSON_OF_MEMORY = 6
MAX_ROUNDS = 10  # of an InputRequired that is answered on the spot; the bound of the official SDKs


class Call(Exchange):
    """A request of a session.  A class derived from this one says how its messages leave."""

    __slots__ = ("_session", "cancelled_by_client", "load")

    runtime: Runtime

    def __init__(self, session: Session, message: Request, principal: Any, load: Any = None) -> None:
        Exchange.__init__(self, session.runtime, session.revision, message, principal)
        self.cancelled_by_client = False  # the client cancelled it: a result that still comes is not sent
        self._session = session
        self.load = load  # counts the memory of the request, as long as there is a reference to it

    @property
    def party(self) -> str:
        return self._session.party

    @property
    def peer(self) -> str:
        return self._session.state.peer

    @property
    def client_info(self) -> dict[str, Any]:
        return self._session.state.client_info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        return self._session.state.client_capabilities

    @property
    def session(self) -> ServerSession | None:
        return self._session if self._session.id else None

    @property
    def carrying_session(self) -> Session:
        return self._session

    def wants_log(self, rank: int) -> bool:
        return rank >= self._session.log_rank

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        if not self.done:
            params = notification_params(self.revision, method, params)
            await self.emit(self.runtime.json.notification(method, params), passing=True)

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        return await self._session.ask(questions, self)

    def hand_over_questions(self, successor: Any) -> None:
        self._session.hand_over_questions(self, successor)

    async def emit(self, payload: bytes, passing: bool = False) -> None:
        """Send one message on the way to the answer; a `passing` one is for a client that listens now."""
        raise NotImplementedError

    def finish(self, payload: bytes, error: MCPError | None) -> Awaitable[None] | None:
        """Send the response; `error` is the error that it reports.  An awaitable that it returns has to be awaited."""
        raise NotImplementedError

    def cancelled(self) -> None:
        """End without a response: the call was cancelled."""
        raise NotImplementedError


class Session(ValueKeeper):
    """One session.  A class derived from this one says how messages that belong to no call leave."""

    __slots__ = (
        "_data", "_questions", "_spellings", "busy", "calls", "closed", "gate", "load", "log_rank", "on_busy",
        "on_change", "on_idle", "revision", "runtime", "state",
    )  # fmt: skip

    def __init__(self, runtime: Runtime, state: SessionState, revision: Revision) -> None:
        self.runtime = runtime
        self.state = state
        self.revision = revision
        self.gate = Gate(runtime.settings.max_running_session)
        self.calls: dict[str | int, list[Call]] = {}
        self.load: Load | None = None  # counts the memory kept of the client; None while that is little
        self.busy = 0  # calls that run and connections that read
        self.closed = False
        self._data: dict[str, Any] | None = None  # made when it is asked for
        self.kept_values = b""  # the handler's own, on every worker
        self.on_idle: Callable[[Any], None] | None = None  # called with the session when `busy` falls to 0,
        self.on_busy: Callable[[Any], None] | None = None  # and when it rises from 0
        self.on_change: Callable[[Any], Awaitable[None]] | None = None  # called when `state` has changed
        self.log_rank = log_rank(state.log_level)
        self._spellings: tuple[Set[str], dict[str, str]] | None = None  # `spellings` of the subscriptions beside them
        self._questions: SessionQuestions | None = None  # made with the first question: most sessions ask none

    @property
    def data(self) -> dict[str, Any]:
        """The handler's own, on this worker."""
        if self._data is None:
            self._data = {}
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data = data

    @property
    def id(self) -> str:
        """The session id; empty where there is none to speak of (stateless, stdio)."""
        return self.state.id

    @property
    def party(self) -> str:
        """The client that the limits count it for."""
        return self.runtime.party_of(self.state.principal, self.state.peer)

    @property
    def question_prefix(self) -> str:
        """The beginning of the ids of the questions to the client."""
        return "server-"

    # --- lifecycle ---------------------------------------------------------------------------------------

    def shake_hands(self, message: Request, head: Any = None) -> dict[str, Any]:
        """Answer an `initialize`, as `initialize` does; `head` is that of its HTTP request."""
        spans = self.runtime.spans
        if spans is None:
            return self.initialize(message.params)
        return spans.handshake(message, self.initialize, self, head)

    def initialize(self, params: dict[str, Any]) -> dict[str, Any]:
        """Settle revision and client, and give the InitializeResult (2025-11-25 basic/lifecycle, Initialization)."""
        info, capabilities = params.get("clientInfo"), params.get("capabilities")
        if not isinstance(params.get("protocolVersion"), str):
            raise InvalidParams("initialize needs a protocolVersion")
        if not isinstance(info, dict) or not isinstance(capabilities, dict):
            raise InvalidParams("initialize needs clientInfo and capabilities")
        capabilities = {key: value for key, value in capabilities.items() if key in CAPABILITIES}
        size = held_memory((info, capabilities))
        # Few clients have to be written to see how long they are.
        if (
            size * JSON_OF_MEMORY > MAX_CLIENT_SIZE
            and len(self.runtime.json.dumps([info, capabilities])) > MAX_CLIENT_SIZE
        ):
            raise InvalidParams(f"clientInfo and capabilities have at most {MAX_CLIENT_SIZE} bytes")
        if size > MAX_CLIENT_MEMORY:
            raise InvalidParams(f"clientInfo and capabilities take at most {MAX_CLIENT_MEMORY} bytes of memory")
        state, handler = self.state, self.runtime.handler
        self.revision = negotiate(params["protocolVersion"])
        state.revision = self.revision.name
        state.generation = handler.generation
        state.client_info, state.client_capabilities = info, capabilities
        if not self._weigh(size + len(self.kept_values)):
            raise overloaded("Too much is kept of this client")
        result: dict[str, Any] = {
            "protocolVersion": self.revision.name,
            "capabilities": self.runtime.extended.offered(handler.capabilities(), modern=False),
            "serverInfo": handler.info(),
        }
        if handler.instructions:
            result["instructions"] = handler.instructions
        return server_fields(self.revision, "initialize", result)

    def weigh(self, subscriptions: Iterable[str]) -> bool:
        """Count the memory that the session keeps for its client, with these subscriptions; False: it is too much."""
        size = held_memory((self.state.client_info, self.state.client_capabilities))
        size += 2 * held_memory(subscriptions)  # as they came, and as they are compared
        return self._weigh(size + len(self.kept_values))

    def _weigh(self, size: int) -> bool:
        if size <= SMALL_CLIENT:
            self.load = None
            return True
        if self.load is None:
            self.load = self.runtime.load(self.party)
        return self.load.resize(size)

    def weigh_values(self) -> bool:
        return self.weigh(self.state.subscriptions)

    def close(self) -> None:
        """End all that runs here, once.  The table of sessions has removed its entry before."""
        self.closed = True
        self.load = None
        self.on_idle = self.on_busy = None
        for calls in list(self.calls.values()):
            for call in list(calls):
                if not call.cancelled_by_client:  # else it is cancelled, and cleans up
                    call.cancel()
        if self._questions is not None:
            self._questions.cancel()

    # --- messages from the client --------------------------------------------------------------------------

    def call(self, call: Call) -> None:
        """Run a request.  Raises `overloaded` where there is no place to wait."""
        same = self.calls.get(call.request_id)
        if same is None:
            self.calls[call.request_id] = [call]
        else:
            same.append(call)
        before = self.busy
        self.busy = before + 1
        try:
            spans = self.runtime.spans
            job = self._run(call) if spans is None else spans.around(self._run, call)
            self.runtime.start(job, self.gate, call, self._ended, call)
        except MCPError:
            call.done = True
            self._ended(call)
            raise
        # Not for a call that is over already, which left `busy` as it was.
        if not before and self.busy and self.on_busy is not None:
            self.on_busy(self)

    def _ended(self, call: Call) -> None:
        same = self.calls[call.request_id]
        same.remove(call)
        if not same:
            del self.calls[call.request_id]
        if not call.done:
            # Cancelled: by the client, by the end of the session, or by that of the server.
            call.cancelled()
        # Not left to the end of the call object: a traceback may keep that until the garbage collector comes.
        call.load = None
        self.busy -= 1
        if not self.busy and self.on_idle is not None:
            self.on_idle(self)

    async def _run(self, call: Call) -> None:
        json = self.runtime.json
        error: MCPError | None = None
        try:
            own = OWN_METHODS.get(call.method)
            if own is not None:
                check_meta(call.params)
                result: Any = await own(self, call)
            else:
                result = await dispatch(self.runtime.handler, call.method, call.params, Context(call))
                if isinstance(result, InputRequired):
                    result = await self._rounds(call, result)
            payload = self._encode(call, result)
        except (Exception, SystemExit) as exc:  # nothing that a handler raises ends the server
            if isinstance(exc, MissingClientCapability) and call.method == "tools/call":
                # Before 2026-07-28, which has an error for it: a result, as with the official SDKs, so that the model
                # reads why (2025-11-25 server/tools, Error Handling).
                call.failed("tool_error")
                payload = json.result(call.request_id, tool_error(exc.message))
            else:
                error = self.as_error(exc, call.method)
                error.__traceback__ = None  # refers to this frame and thereby to the request; the error is in it
                call.failed(error.code, error.message)
                payload = encode_error(json, call.request_id, error, call.method)
        if not call.done and not call.cancelled_by_client:  # else it was cancelled, and ignored that
            later = call.finish(payload, error)
            if later is not None:
                await later

    def _encode(self, call: Call, result: Any) -> bytes:
        json = self.runtime.json
        if type(result) is StableResult:
            key = self.revision.name
            encoded = result.encoded.get(key)
            if encoded is None:
                encoded = json.dumps(server_fields(self.revision, call.method, result))
                result.encoded[key] = encoded
            return json.result_encoded(call.request_id, encoded)
        try:
            return json.result(call.request_id, server_fields(self.revision, call.method, result))
        except (TypeError, ValueError) as exc:
            logger.error("the result of %s cannot be sent: %s", call.method, exc)
            if isinstance(exc, NotJSON) and call.method == "tools/call":
                call.failed("tool_error")
                return json.result(call.request_id, tool_error(f"The result cannot be sent: {exc}"))
            raise InternalError("The result cannot be encoded as JSON") from None

    def as_error(self, exc: BaseException, method: str) -> MCPError:
        """The error for the client; an exception that was not meant for it goes to the log."""
        if isinstance(exc, ResourceNotFound):
            return MCPError(self.revision.missing_resource, exc.message, exc.data)
        if isinstance(exc, MCPError) and exc.is_sound:
            return exc
        logger.error("%s failed", method, exc_info=exc)
        return InternalError()

    async def _rounds(self, call: Call, result: Any) -> Any:
        """The result that ends a call which answered with questions: asked here, as this revision asks them."""
        handler, params = self.runtime.handler, call.params
        for _ in range(MAX_ROUNDS):
            if not isinstance(result, InputRequired):
                return result
            # Then the call runs again, with the answers.
            try:
                call.input_responses = await self._raw_answers(call, result)
            except ToolError as exc:  # it cannot be asked in this revision, or was not answered in time
                if call.method == "tools/call":
                    return tool_error(str(exc))
                raise InternalError(str(exc)) from None
            call.request_state = result.state
            result = await dispatch(handler, call.method, params, Context(call))
        if isinstance(result, InputRequired):
            raise MCPError(-32603, f"The call asked for input more than {MAX_ROUNDS} times")
        return result

    async def _raw_answers(self, call: Call, result: InputRequired) -> dict[str, Any]:
        questions = result.questions()
        if not questions:  # only a state: nothing to ask, the call simply runs again
            return {}
        return await self.ask(questions, call, raw=True)

    def notified(self, message: Notification, whose: HasParty | None = None, load: object = None) -> None:
        """Take a notification of the client; unknown ones are ignored (JSON-RPC 2.0).

        The second argument is the client of a stateless POST, which this session does not know.  `load` counts the
        memory of the message.  Raises `overloaded` where the handler takes the notification and no place is free.
        """
        if message.method == CANCELLED:
            self.cancel_call(message.params.get("requestId"))
        elif message.method not in (INITIALIZED, PROGRESS):
            # It takes a place as a call does, so that the number of notifications that wait for a slow handler is
            # bounded.
            self.runtime.start(self._notify_handler(message, load), self.gate, self if whose is None else whose)

    async def _notify_handler(self, message: Notification, load: object) -> None:
        try:
            await settled(self.runtime.handler.notification(message.method, message.params, None))
        except (Exception, SystemExit):
            logger.exception("%s failed", message.method)
        finally:
            del load

    def cancel_call(self, request_id: Any) -> None:
        """The client cancelled the request with this id; unknown ids are ignored."""
        same = self.calls.get(request_id, ()) if type(request_id) in (str, int) else ()
        # A call that is `done` sends its answer now: its cancellation would leave the exchange without an end.
        calls = [call for call in same if not call.done]
        if not calls:
            return
        if len(calls) > 1:
            # The notification does not say which of these calls it means, and the wrong call must not be cancelled.
            logger.info("session %s cancelled an id that %d of its calls use", self.id[:8], len(calls))
            return
        if calls[0].cancelled_by_client:
            return  # once: a second cancellation would break off its clean-up
        calls[0].cancelled_by_client = True
        calls[0].cancel()
        self.runtime.loop.call_later(CLEANUP_TIME, self._give_up, calls[0])

    def _give_up(self, call: Call) -> None:
        """End the exchange of a call that ignores its cancellation; the function keeps its place until it returns."""
        if not call.done:
            logger.warning("%s ignores its cancellation; its answer will be dropped", call.method)
            call.cancelled()

    def answered(self, message: Response | ErrorResponse, load: object = None) -> None:
        """Take the client's answer to a question; an answer that no call waits for is dropped.

        `load` counts the memory of the answer.  The call keeps it.
        """
        if self._questions is not None:
            self._questions.answered(message, load)

    def hand_over_questions(self, call: Call, successor: Call) -> None:
        """Make the open questions of one call those of another call of this session."""
        if self._questions is not None:
            self._questions.hand_over(call, successor)

    def give_up_questions(self, reason: str) -> None:
        """End every open question with a ToolError: the client is gone, and its answers cannot come any more."""
        if self._questions is not None:
            self._questions.give_up(reason)

    # --- messages to the client ----------------------------------------------------------------------------

    async def ask(self, questions: dict[str, Question], call: Call, *, raw: bool = False) -> dict[str, Any]:
        """Ask the client on the way of a call, as `SessionQuestions.ask` does; it lists the errors."""
        if self._questions is None:
            self._questions = SessionQuestions(self.question_prefix)
        return await self._questions.ask(questions, call, self.gate, raw=raw)

    def told(self, notice: Notice, payload: bytes | None = None) -> bytes | None:
        """The notification for this session, in its own spelling of the URI; None where it has not subscribed.

        `payload` is the notification as published, where it is encoded already.
        """
        subscriptions = self.state.subscriptions
        if notice.kind in LIST_CHANGED or notice.uri in subscriptions:
            return payload or encode_notice(self.runtime.json, notice)
        if not subscriptions:
            return None
        known = self._spellings
        if known is None or known[0] is not subscriptions:
            known = self._spellings = (subscriptions, spellings(subscriptions))
        uri = notice.normal_uri
        own = uri if uri in subscriptions else known[1].get(uri)
        return None if own is None else encode_notice(self.runtime.json, Notice(notice.kind, own))

    def announce(self, payload: bytes, name: str = "") -> None:
        """Send a notice that belongs to no call; `name` is the one that all workers of a fleet know it by."""
        raise NotImplementedError

    async def changed(self) -> None:
        """Save the changed `state` where it is shared, before the client is told that it changed."""
        if self.on_change is not None:
            await self.on_change(self)


def encode_notice(json: JSON, notice: Notice) -> bytes:
    """The notification of a change; the same for all sessions."""
    if notice.kind in LIST_CHANGED:
        return json.notification(LIST_CHANGED[notice.kind])
    return json.notification(RESOURCE_UPDATED, {"uri": notice.uri})

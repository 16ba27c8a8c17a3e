# SPDX-License-Identifier: MIT
"""The era of 2026-07-28 without a carrier: the envelope, discovery, calls with input rounds, filters of listen streams.

`endpoint.modern` carries it over HTTP and `server.stdio` over pipes.  Nothing here knows of either: a carrier derives
its own class of call from `ModernCall`, and of listen stream from `listener.Listener`.

Rule: every request is judged by its own `_meta`; nothing is carried over from an earlier request or from the
connection (basic/index, Statelessness).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..handler.context import Context
from ..handler.dispatch import dispatch, tool_error
from ..handler.exchange import Exchange, NeedInput
from ..handler.handler import encode_error
from ..handler.questions import InputRequired, Question, digest
from ..http.auth import subject
from ..protocol.content import StableResult
from ..protocol.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MODERN_STATUS,
    RESOURCE_NOT_FOUND,
    URL_ELICITATION_REQUIRED,
    InternalError,
    InvalidParams,
    MCPError,
    MethodNotFound,
    MissingClientCapability,
    Refusal,
    overloaded,
)
from ..protocol.finite import NotJSON
from ..protocol.jsonrpc import Notification, Request
from ..protocol.methods import (
    CACHEABLE,
    LISTEN_FLAGS,
    META_CAPABILITIES,
    META_CLIENT,
    META_LOG_LEVEL,
    META_SERVER,
    META_VERSION,
    METHODS,
    REMOVED,
    log_rank,
)
from ..protocol.revisions import LATEST_MODERN, SUPPORTED
from ..protocol.shown import escaping
from ..runtime.request_state import NONCE_BYTES, new_id
from ..runtime.runtime import Runtime
from ..runtime.storage import MAX_SUBSCRIBED_SIZE, StoreFull
from .downgrade import client_request, notification_params, server_fields
from .listener import Honoured

logger = escaping(logging.getLogger(__name__))
MAX_STREAM_ID = 1_024  # characters; it is kept, and in every message of the stream


def claimed_version(message: Any) -> str | None:
    """The protocol version that a message claims in `_meta`, or None: a claim makes it a modern one.

    A claim that is no text names no version, but claims all the same: it comes back empty.
    """
    meta = message.params.get("_meta") if isinstance(message, (Request, Notification)) else None
    claim = meta.get(META_VERSION) if isinstance(meta, dict) else None
    return claim if claim is None or isinstance(claim, str) else ""


def check_envelope(params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The claimed version and the client's capabilities.  Raises InvalidParams (basic/index, `_meta`)."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        meta = {}
    version, capabilities = meta.get(META_VERSION), meta.get(META_CAPABILITIES)
    wrong = []
    if not isinstance(version, str):
        wrong.append(META_VERSION)
    if not isinstance(capabilities, dict):
        wrong.append(META_CAPABILITIES)
    if wrong:
        raise InvalidParams(f"Missing or malformed in _meta: {', '.join(wrong)}", {"supported": list(SUPPORTED)})
    return version, capabilities  # type: ignore[return-value]


class ModernCall(Exchange):
    """One request of 2026-07-28.  Each carrier derives a class from it, with its own way to send messages."""

    __slots__ = ("_answers", "_asked", "_capabilities", "_log_rank", "_nonce", "_used", "load")

    runtime: Runtime

    def __init__(self, runtime: Runtime, message: Request, principal: Any, load: Any = None) -> None:
        Exchange.__init__(self, runtime, LATEST_MODERN, message, principal)
        params = message.params
        self.load = load  # counts the memory of the request, as long as there is a reference to it
        meta = params["_meta"]
        self._capabilities: dict[str, Any] = meta[META_CAPABILITIES]
        level = meta.get(META_LOG_LEVEL)
        # basic/utilities/logging: nothing unless this request asks for it; a bad level is -32602.
        self._log_rank = log_rank(level) if level is not None else None
        self._asked: dict[str, str] = {}  # open questions of the round before: key to digest
        self._answers: dict[str, Any] = {}  # key to [digest of the question, raw answer]
        self._used = False
        self._nonce: str | None = None  # of the state that came with it, until this round has been claimed
        if "requestState" in params or "inputResponses" in params:
            self._read_round()

    @property
    def party(self) -> str:
        return self.runtime.party_of(subject(self.principal), "")

    @property
    def client_info(self) -> dict[str, Any]:
        info = self.params["_meta"].get(META_CLIENT)
        return info if isinstance(info, dict) else {}

    @property
    def client_capabilities(self) -> dict[str, Any]:
        return self._capabilities

    @property
    def first_round(self) -> bool:
        """Whether this request brought nothing of an earlier one; only then may its result be cached."""
        return not self._used

    def wants_log(self, rank: int) -> bool:
        return self._log_rank is not None and rank >= self._log_rank

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        if not self.done:
            params = notification_params(self.revision, method, params)
            await self.emit(self.runtime.json.notification(method, params))

    async def emit(self, payload: bytes) -> None:
        """Send one message to the client on the way to the answer."""
        raise NotImplementedError

    async def finish(self, payload: bytes, status: int) -> None:
        """Send the response; `status` is its HTTP status, for a carrier that has one."""
        raise NotImplementedError

    def on_refusal(self, error: Refusal) -> None:
        """The answer will be this refusal.  A carrier without headers leaves out those of the refusal."""

    # --- input rounds (basic/patterns/mrtr) -----------------------------------------------------------------

    def _read_round(self) -> None:
        """Read the answers and the state of the round before.  Raises InvalidParams for a state that is not ours."""
        params = self.params
        sealed, responses = params.get("requestState"), params.get("inputResponses")
        kept: dict[str, Any] = {}
        if sealed is not None:
            if not isinstance(sealed, str):
                raise InvalidParams("requestState must be a string")
            kept = self.runtime.sealer.open(sealed, self._bound(), self.runtime.now())
        if responses is not None and not isinstance(responses, dict):
            raise InvalidParams("inputResponses must be an object")
        self._used = True
        self._answers = kept.get("answers", {})
        self.memo = kept.get("once")
        self._nonce = kept.get("nonce")
        self.request_state = kept.get("state")
        self.input_responses = kept.get("responses")
        if responses is None:
            return
        # "ignore any information it does not recognize": an answer that is no object is dropped.
        usable = {key: value for key, value in responses.items() if isinstance(value, dict)}
        asked = kept.get("questions")
        if asked is not None:
            self._answers.update((key, [asked[key], value]) for key, value in usable.items() if key in asked)
            return
        self.input_responses = usable
        if sealed is None:
            # The client answers before it was asked: used if they fit the questions that will be asked.
            self._answers = {key: [None, value] for key, value in usable.items()}

    async def claim(self) -> None:
        nonce, self._nonce = self._nonce, None
        if nonce is None:  # a first round, or one that has been claimed by this very request
            return
        now = self.runtime.now()
        try:
            first = await self.runtime.once.claim(nonce, now + self.runtime.sealer.ttl, now, self.party)
        except StoreFull:
            raise overloaded("Too many rounds of calls are remembered") from None
        if not first:
            raise InvalidParams("This round of the call has been played before: begin the call anew")

    def _bound(self) -> bytes:
        # The principal and the request's salient parameters (basic/patterns/mrtr, Server Requirements 5).
        params = {k: v for k, v in self.params.items() if k not in ("_meta", "inputResponses", "requestState")}
        return digest(subject(self.principal), self.method, params).encode("ascii")

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        open_questions: dict[str, Question] = {}
        for key, question in questions.items():
            self._check_capability(question)
            kept = self._answers.get(key)
            asked = self._digest(question)
            if kept is not None and kept[0] in (None, asked):
                try:
                    found[key] = question.read(kept[1])
                    kept[0] = asked
                    continue
                except ValueError:
                    pass  # not an answer: ask again (basic/patterns/mrtr, Error Handling)
            open_questions[key] = question
        if open_questions:
            raise NeedInput(open_questions)
        return found

    def _digest(self, question: Question) -> str:
        # Of the question as it is sent: an elicitation's id, which this revision does not have, may differ each time.
        return digest(question.method, client_request(self.revision, question.method, question.params()))

    def _check_capability(self, question: Question) -> None:
        missing = question.missing(self._capabilities)
        if missing is not None:
            raise MissingClientCapability(missing)

    def input_required(self, result: InputRequired | NeedInput) -> dict[str, Any]:
        """The `input_required` result with the questions of the handler."""
        # The function runs from its start in the next round and asks its earlier questions again: keep their answers.
        answers = {key: answer for key, answer in self._answers.items() if answer[0] is not None}
        state: dict[str, Any] = {"answers": answers, "once": self.memo}
        if isinstance(result, NeedInput):
            questions = result.questions
            state["questions"] = {key: self._digest(question) for key, question in questions.items()}
            if self.request_state is not None:
                # The answers are kept only together with a state.  Without one, the client may have sent them unasked;
                # and a handler that returned an InputRequired without a state returns it again in the next round.
                state["responses"], state["state"] = self.input_responses, self.request_state
        else:
            questions = result.questions()
            state["state"] = result.state
        state = {key: value for key, value in state.items() if value or (key == "state" and value is not None)}
        wire: dict[str, Any] = {"resultType": "input_required"}
        if questions:
            wire["inputRequests"] = {key: self._as_request(question) for key, question in questions.items()}
        if state:
            # Each round has a nonce of its own, so that a request that comes twice does not run its `once` steps twice.
            wire["requestState"] = self._seal({**state, "nonce": new_id(NONCE_BYTES)})
        return wire

    def _seal(self, state: dict[str, Any]) -> str:
        try:
            return self.runtime.sealer.seal(state, self._bound(), self.runtime.now())
        except (TypeError, ValueError) as exc:
            # The state is too large, or a result of `once` is no JSON.  The log tells the function's author the reason.
            logger.error("the state of %s cannot be kept: %s", self.method, exc)
            raise InternalError("The state of this call cannot be kept") from None

    def _as_request(self, question: Question) -> dict[str, Any]:
        # basic/patterns/mrtr, Server Requirements 6: never ask for a capability that the client did not declare.
        self._check_capability(question)
        return {
            "method": question.method,
            "params": client_request(self.revision, question.method, question.params()),
        }


class Modern:
    """Answers requests of 2026-07-28 for one server, in the same way on every carrier."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._cacheable = CACHEABLE | runtime.extended.cacheable

    def check_method(self, method: str) -> None:
        """Raises MethodNotFound for a method that this revision removed, or that the server does not offer."""
        if method in REMOVED:
            raise MethodNotFound(method)
        entry = METHODS.get(method)
        if entry is not None and entry.capability not in self.capabilities():
            raise MethodNotFound(method)

    def capabilities(self) -> dict[str, Any]:
        """ServerCapabilities as this revision has them, without those of extensions."""
        return self.runtime.handler.capabilities()

    async def run(self, call: ModernCall) -> None:
        """Answer a call, and send the answer on its way."""
        payload, status = await self.respond(call)
        await call.finish(payload, status)

    async def respond(self, call: ModernCall) -> tuple[bytes, int]:
        """The response to a call, encoded, and the HTTP status it has where nothing was streamed before."""
        json = self.runtime.json
        try:
            return self._encode(call, await self._result(call)), 200
        except Exception as exc:
            if isinstance(exc, MCPError) and exc.is_sound:
                error = as_defined(exc)
            elif isinstance(exc, NotJSON) and call.method == "tools/call":
                logger.error("the result of %s cannot be sent: %s", call.method, exc)
                call.failed("tool_error")
                return self._encode(call, tool_error(f"The result cannot be sent: {exc}")), 200
            elif isinstance(exc, MCPError):
                logger.error("%s raised an error that cannot be sent", call.method, exc_info=exc)
                error = InternalError()
            else:
                logger.error("the result of %s cannot be sent", call.method, exc_info=exc)
                error = InternalError("The result cannot be encoded as JSON")
            error.__traceback__ = None  # refers to this frame and thereby to the request; the error is in it
            call.failed(error.code, error.message)
            if isinstance(error, Refusal):
                call.on_refusal(error)
            return encode_error(json, call.request_id, error, call.method), status_of(error)

    async def _result(self, call: ModernCall) -> Mapping[str, Any]:
        if call.method == "server/discover":
            return self._discover()
        try:
            result = await dispatch(self.runtime.handler, call.method, call.params, Context(call))
        except BaseException as exc:
            need = _need_input(exc)
            if need is None:
                raise
            return self._ask(call, need)
        if isinstance(result, InputRequired):
            return self._ask(call, result)
        return result

    def _ask(self, call: ModernCall, asked: InputRequired | NeedInput) -> dict[str, Any]:
        entry = METHODS.get(call.method)
        if entry is None or not entry.input_required:
            # basic/patterns/mrtr, Supported Requests: "MUST NOT [...] on any other client requests".
            logger.error("%s asked for input, which only calls, reads and prompts may", call.method)
            raise InternalError()
        return call.input_required(asked)

    def _encode(self, call: ModernCall, result: Mapping[str, Any]) -> bytes:
        json = self.runtime.json
        if type(result) is StableResult and call.first_round:
            # The encoded form depends on the handler, which keeps it, and on the default scope of this server.
            key = (LATEST_MODERN.name, self._default_scope())
            encoded = result.encoded.get(key)
            if encoded is None:
                encoded = json.dumps(self.complete(call, result))
                result.encoded[key] = encoded
            return json.result_encoded(call.request_id, encoded)
        return json.result(call.request_id, self.complete(call, result))

    def complete(self, call: ModernCall, result: Mapping[str, Any]) -> dict[str, Any]:
        """A result with the members that this revision adds: `resultType`, the server's name, and how long it holds."""
        handler = self.runtime.handler
        full = dict(server_fields(LATEST_MODERN, call.method, result))  # type: ignore[arg-type]
        full.setdefault("resultType", "complete")
        # basic/index, `_meta`: SHOULD be on every result.
        full["_meta"] = {META_SERVER: handler.info(), **(full.get("_meta") or {})}
        if full["resultType"] == "complete" and call.method in self._cacheable:
            if not call.first_round:
                # server/utilities/caching, Cache Key: results of a retry "MUST NOT be cached".
                full["ttlMs"], full["cacheScope"] = 0, "private"
                return full
            ttl, scope = handler.cache_hint(call.method)
            full.setdefault("ttlMs", ttl)
            full.setdefault("cacheScope", scope or self._default_scope())
        return full

    def _default_scope(self) -> str:
        settings = self.runtime.settings
        return "public" if settings.is_open else "private"

    def _discover(self) -> dict[str, Any]:
        handler = self.runtime.handler
        capabilities = self.runtime.extended.offered(self.capabilities(), modern=True)
        result: dict[str, Any] = {"supportedVersions": list(SUPPORTED), "capabilities": capabilities}
        if handler.instructions:
            result["instructions"] = handler.instructions
        return result

    # --- subscriptions/listen (basic/patterns/subscriptions) ----------------------------------------------------

    def honoured(self, message: Request, principal: str = "") -> Honoured:
        """The part of the filter that this server can serve.  Raises InvalidParams for a filter that is malformed."""
        if len(str(message.id)) > MAX_STREAM_ID:
            raise InvalidParams(f"The id of a listen stream has at most {MAX_STREAM_ID} characters")
        wanted = message.params.get("notifications")
        if not isinstance(wanted, dict):
            raise InvalidParams("notifications must be an object")
        offered, honoured = self.capabilities(), Honoured()
        self._hear_extensions(message, wanted, principal, honoured)
        for capability, flag in LISTEN_FLAGS.items():
            value = wanted.get(flag)
            if value is not None and not isinstance(value, bool):
                raise InvalidParams(f"notifications.{flag} must be a boolean")
            if value and offered.get(capability, {}).get("listChanged"):
                honoured[flag] = True
        uris = wanted.get("resourceSubscriptions")
        if uris is None:
            return honoured
        if not isinstance(uris, list) or not all(isinstance(uri, str) for uri in uris):
            raise InvalidParams("notifications.resourceSubscriptions must be a list of URIs")
        limit = self.runtime.settings.max_subscriptions
        if limit is not None and len(uris) > limit:
            raise InvalidParams(f"A listener subscribes to at most {limit} resources")
        if sum(map(len, uris)) > MAX_SUBSCRIBED_SIZE:
            raise InvalidParams(f"The URIs of a listener have at most {MAX_SUBSCRIBED_SIZE} characters")
        if uris and offered.get("resources", {}).get("subscribe"):
            honoured["resourceSubscriptions"] = uris
        return honoured

    def _hear_extensions(self, message: Request, wanted: dict[str, Any], principal: str, honoured: Honoured) -> None:
        """Add the members of the filter that belong to extensions.  Raises InvalidParams."""
        extended = self.runtime.extended
        if not extended.filters:
            return
        meta = message.params.get("_meta")
        declared = meta.get(META_CAPABILITIES) if isinstance(meta, dict) else None
        announced = declared.get("extensions") if isinstance(declared, dict) else None
        members, keys = extended.heard(wanted, announced, principal)
        limit = self.runtime.settings.max_subscriptions
        if limit is not None and len(keys) > limit:
            raise InvalidParams(f"A listener hears of at most {limit} things of extensions")
        if sum(map(len, keys)) > MAX_SUBSCRIBED_SIZE:
            raise InvalidParams(f"The filter of a listener has at most {MAX_SUBSCRIBED_SIZE} characters")
        honoured.update(members)
        honoured.heard = frozenset(keys)


def status_of(error: MCPError) -> int:
    """The HTTP status of a modern error; a Refusal brings its own."""
    return error.status if isinstance(error, Refusal) else MODERN_STATUS.get(error.code, 200)


def as_defined(error: MCPError) -> MCPError:
    """The error, in a code that this revision lets a server send.

    basic/index, Error Codes: the code of 2025-11-25 for a missing resource is -32602 now; "MUST NOT emit any code
    from this sub-range that is not defined by this specification".
    """
    code = error.code
    if code == RESOURCE_NOT_FOUND:
        return MCPError(INVALID_PARAMS, error.message, error.data)
    if code == URL_ELICITATION_REQUIRED or (-32099 <= code <= -32020 and code not in MODERN_STATUS):
        return MCPError(INTERNAL_ERROR, error.message, error.data)
    return error


def _need_input(exc: BaseException) -> NeedInput | None:
    """The NeedInput that `exc` is, or that a task group wrapped."""
    if isinstance(exc, NeedInput):
        return exc
    for inner in getattr(exc, "exceptions", ()):
        found = _need_input(inner)
        if found is not None:
            return found
    return None

# SPDX-License-Identifier: MIT
"""Carries one request of a client to the backend, and the backend's answer back.

Client and backend may speak different revisions.  A question of the backend travels on the call's own stream to a
client with a session; a client of 2026-07-28 gets it as an `input_required` result and comes back with the answer.

Rules:
- A call stays with one generation of backends from its beginning to its end.
- The credentials of a client are not passed on.
- The state of an `input_required` result is bound to the generation that wrote it: another backend cannot read it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from ..client.conversation.request import ClientRequest
from ..handler.context import Context, exchange_of
from ..handler.exchange import Exchange
from ..handler.handler import Params
from ..handler.questions import InputRequired
from ..http.headers import decode_value
from ..protocol.errors import INTERNAL_ERROR, HeaderMismatch, InvalidParams, MCPError
from ..protocol.methods import (
    META_CAPABILITIES,
    META_CLIENT,
    META_LOG_LEVEL,
    META_SERVER,
    META_VERSION,
    METHODS,
    log_rank,
)
from .backends import Backend
from .callers import Caller, declared_capabilities, wanted_log_level
from .calls import BridgedCall, ParkedCall, Parking
from .generations import Generation, Generations
from .states import read_state
from .tasks import at_client
from .troubles import as_answer

# Members of `_meta` that concern the hop between client and bridge.  The bridge's own client writes its own.
_ENVELOPE = frozenset((META_VERSION, META_CLIENT, META_CAPABILITIES, META_LOG_LEVEL, "progressToken"))
# Members of the params that concern that hop, as far as they are not written anew for the next one.
_OF_THE_HOP = frozenset(("_meta", "inputResponses", "requestState"))
# RFC 9110 and the protocol's own fields: they belong to one connection, one endpoint, or one server's trust in a
# client, and would be wrong or dangerous at another server.
_NOT_FORWARDED = frozenset(
    (
        "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length",
        "content-type", "cookie", "expect", "host", "keep-alive", "last-event-id", "mcp-method", "mcp-name",
        "mcp-protocol-version", "mcp-session-id", "origin", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip


def forwardable(names: Iterable[str]) -> tuple[str, ...]:
    """The names of headers in lower case.  Raises ValueError for a header that must not be passed on."""
    lowered = tuple(sorted({name.lower() for name in names}))
    refused = [name for name in lowered if name in _NOT_FORWARDED or name.startswith("mcp-")]
    if refused:
        raise ValueError(f"these headers are not passed on: {', '.join(refused)}")
    return lowered


class Forwarding:
    """Sends requests to the backends of a bridge.

    Args:
        generations: the backends.
        parking: holds the calls that wait for their clients to come back.
        headers: names, in lower case, of the request headers that are passed on.
    """

    def __init__(self, generations: Generations, parking: Parking, headers: tuple[str, ...]) -> None:
        self._generations = generations
        self._parking = parking
        self.headers = headers

    def request(self, method: str, params: Params, ctx: Context) -> Coroutine[Any, Any, Any]:
        """The backend's answer, or an `InputRequired`, to be awaited.  Both raise MCPError."""
        # A client that answers a parked question goes on with its call; any other request begins one.
        parked = self._parking.find(ctx.request_state) if ctx.request_state is not None else None
        if parked is not None:
            return parked.turn(ctx, ctx.input_responses)
        caller = Caller(ctx)
        generation = self._generations.serving(caller)
        backend = self._generations.backend_of(caller, generation)
        if not exchange_of(ctx).revision.modern:
            call = BridgedCall(ctx, method, caller.owner, self._parking)
            return self._on_backend(generation, backend, call, params, ctx)
        parked = ParkedCall(ctx, method, caller.owner, self._parking)
        job = self._on_backend(generation, backend, parked, params, ctx)
        entry = METHODS.get(method)
        if backend.client is not None and (backend.client.modern or entry is None or not entry.input_required):
            # This backend cannot ask by a request during this method, so the call needs no task of its own.
            return job
        parked.start(job)
        return parked.turn(ctx)

    async def _on_backend(
        self, generation: Generation, backend: Backend, call: BridgedCall, params: Params, ctx: Context
    ) -> Any:
        """The backend's part of a call.  Raises only MCPError, and the exceptions that cancel a task."""
        token = generation.forwarded.set(self._passed_on(ctx)) if self.headers else None
        generation.began(backend, call)
        try:
            return await self._ask_backend(generation, backend, call, params, ctx)
        except asyncio.CancelledError:
            if call.was_cut():
                # `Generation.finish` ends the calls that outlast the drain time.
                raise MCPError(INTERNAL_ERROR, f"The backend {backend.name} was replaced while this call ran") from None
            raise
        except MCPError as exc:
            if isinstance(exc, HeaderMismatch) and call.method not in METHODS:
                # Those headers were the client's: the bridge only passed on what it had.
                raise HeaderMismatch(exc.message) from None
            raise as_answer(exc, backend.name) from None
        finally:
            generation.over(backend, call)
            if token is not None:
                generation.forwarded.reset(token)

    async def _ask_backend(
        self, generation: Generation, backend: Backend, call: BridgedCall, params: Params, ctx: Context
    ) -> Any:
        client = backend.client or await backend.connected()
        exchange, said, method = exchange_of(ctx), ctx.meta, call.method
        modern, duplex = client.modern, client.transport.duplex
        meta = {key: value for key, value in said.items() if key not in _ENVELOPE} if said else {}
        sent = {key: value for key, value in params.items() if key not in _OF_THE_HOP}
        answers = _answers(generation, exchange)
        levels = backend.interests.levels
        if modern:
            # 2026-07-28 basic, _meta: each request carries the client's capabilities, name and log level.
            meta[META_CAPABILITIES] = declared_capabilities(ctx)
            info = ctx.client_info
            if info:
                meta[META_CLIENT] = info
            level = wanted_log_level(ctx)
            if level is not None:
                meta[META_LOG_LEVEL] = level
            sent.update(answers)
        elif META_LOG_LEVEL in said and exchange.revision.modern:
            # An earlier backend has one level for its whole connection: this call's level counts while it runs.
            levels[call] = log_rank(said[META_LOG_LEVEL])
            await backend.apply_level()
        # Progress also moves the call's deadline, so a call with a deadline wants it even without a token.
        wants_progress = exchange.deadline is not None or ctx.progress_token is not None
        request = ClientRequest(
            method,
            sent,
            progress=call.on_progress if wants_progress else None,
            # On one channel for all calls a message does not say which call it is for: `Attribution` decides.
            on_notification=None if duplex else backend.hearing(call),
            on_request=None if modern or duplex else call.on_request,
            rounds=False,
            meta=meta or None,
            owner=None if self._generations.is_alone(backend) else call.owner,
            mirrored=None if method in METHODS else _mirrored(ctx, sent),
        )
        try:
            result = await client._request(request)
        finally:
            if call in levels:
                del levels[call]
        if call.is_telling:
            await call.flush()
        return at_client(method, sent, _as_result(generation, result), ctx, backend)

    def _passed_on(self, ctx: Context) -> Mapping[str, str]:
        headers = ctx.headers
        return {name: headers[name] for name in self.headers if name in headers}


def _mirrored(ctx: Context, params: Params) -> str | None:
    """The member of the params that the client repeats in `Mcp-Name`, for a method that the bridge does not know.

    The backend's extension may demand that header, as it demands it of the client.
    """
    head = exchange_of(ctx).headers
    values = [] if head is None else head.get_all("mcp-name")
    if len(values) != 1:
        return None
    try:
        name = decode_value(values[0].strip(" \t"))
    except HeaderMismatch:
        return None
    return next((member for member, value in params.items() if type(value) is str and value == name), None)


# --- input rounds of a 2026-07-28 backend ------------------------------------------------------------------------


def _as_result(generation: Generation, result: dict[str, Any]) -> Any:
    """A result as the backend gave it; its questions as `InputRequired`, which the server in front asks in any era."""
    if result.get("resultType") != "input_required":
        meta = result.get("_meta")
        if isinstance(meta, dict) and META_SERVER in meta:
            # The server in front names the server itself, in the revisions that have this member.
            result["_meta"] = {key: value for key, value in meta.items() if key != META_SERVER}
            if not result["_meta"]:
                del result["_meta"]
        return result
    # The server in front seals the state: it binds it to the principal, the method and the arguments.  The bridge adds
    # the generation, since another backend could not read it.
    state = json.dumps({"g": generation.number, "s": result.get("requestState")})
    try:
        return InputRequired(result.get("inputRequests"), state=state)
    except (ValueError, AttributeError):
        raise MCPError(INTERNAL_ERROR, "The backend asks for something that no client answers") from None


def _answers(generation: Generation, exchange: Exchange) -> dict[str, Any]:
    """The members by which a client answers the questions of this generation.  Raises InvalidParams for another's."""
    answers: dict[str, Any] = {}
    if exchange.input_responses is not None:
        answers["inputResponses"] = exchange.input_responses
    if exchange.request_state is not None:
        state = read_state(exchange.request_state)
        if state.get("g") != generation.number:
            raise InvalidParams("Invalid or expired requestState")
        if state.get("s") is not None:
            answers["requestState"] = state["s"]
    return answers

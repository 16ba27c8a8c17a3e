# SPDX-License-Identifier: MIT
"""`ServerHandler`: the whole interface between the protocol and the program that answers it.

Subclass it and override the methods that you serve: the capabilities follow from them.  Params and results are plain
dicts in the wire's own words (see `protocol.types`), for the newest revision; the eras leave out members that an
older client does not know.  A handler that has no method for each request, as a proxy, overrides `request`.

Rule: a handler never learns over which transport or in which era it is asked.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import CoroutineType
from typing import Any

from ..protocol.errors import InvalidParams, MCPError, MethodNotFound
from ..protocol.jsonrpc import JSON
from ..protocol.methods import CACHEABLE, LIST_CHANGED, METHODS
from ..protocol.shown import escaping
from .context import Context
from .extension import Extension, Extensions
from .extension import Params as Params
from .extension import Result as Result
from .notices import Notice, Notices
from .questions import InputRequired

logger = escaping(logging.getLogger(__name__))

Ready = Callable[[Collection[str]], None]  # called with the resources that a listener will hear nothing of

MAX_PROGRESS_TOKEN = 1_024  # bytes of one that is text
MAX_TOKEN_BITS = 64  # of one that is a number


class ScopeSwitch:
    """`scoped` is False while no request needs scopes of its own."""

    __slots__ = ("scoped",)

    def __init__(self, scoped: bool) -> None:
        self.scoped = scoped


class ServerHandler:
    """Override `list_tools` and `call_tool`, or any other pair, with `def` or `async def`.

    Each of them gets `params`, the request's params as a dict, and `ctx`, the `Context` of the call.  It returns the
    result as a dict, or an `InputRequired` where its signature says so, and raises an `MCPError` for a JSON-RPC error.
    Pass an instance to `run`, `serve` or `listening`.
    """

    name = "mcp-server"
    version = "0"
    title: str | None = None
    description: str | None = None
    instructions: str | None = None
    website_url: str | None = None
    icons: list[Any] | None = None
    # Seconds that a tool may take, by its name, instead of the settings' `call_timeout`; math.inf is no limit.
    timeouts: Mapping[str, float] = {}
    # A number that rises when the handler replaces its content, as a bridge does with a new backend.  A session keeps
    # the number that it began under (see `serves`).
    generation = 0
    # Whether each call ends as soon as it is cancelled, whatever runs in it.  Functions of users need not, so a call
    # with a time limit has a task of its own, which the server can leave behind.
    heeds_cancellation = False

    # --- what is offered ---------------------------------------------------------------------------------

    def info(self) -> dict[str, Any]:
        """The Implementation object: `serverInfo` on the wire."""
        info: dict[str, Any] = {"name": self.name, "version": self.version}
        optional = {
            "title": self.title,
            "description": self.description,
            "websiteUrl": self.website_url,
            "icons": self.icons,
        }
        info.update((key, value) for key, value in optional.items() if value)
        return info

    def capabilities(self) -> dict[str, Any]:
        """ServerCapabilities, from the methods that are overridden; extend the dict where you offer more."""
        offered: dict[str, Any] = {"logging": {}}
        for method in METHODS.values():
            # By the class: a method is offered where it is overridden, so a list cannot disagree with the methods.
            if getattr(type(self), method.attribute) is not getattr(ServerHandler, method.attribute):
                offered.setdefault(
                    method.capability, {} if method.capability == "completions" else {"listChanged": True}
                )
        # The server itself keeps subscriptions, so that every handler with resources has them.
        if "resources" in offered:
            offered["resources"]["subscribe"] = True
        return offered

    def extensions(self) -> Sequence[Extension]:
        """The extensions that this handler has beside the protocol; asked once, when it is first served.

        Their methods are answered, their wrappers stand around `call_tool`, and their settings are announced.
        """
        return ()

    @property
    def _extended(self) -> Extensions:
        """The `extensions`, checked; made at first use, and then the same.  Raises as `Extensions` does."""
        known: Extensions | None = self.__dict__.get("_known_extensions")
        if known is None:
            known = self.__dict__["_known_extensions"] = Extensions(self.extensions())
            # An attribute of the object hides the method of its class, so a call without wrappers pays nothing.
            known.wrapper = known.wrapped(self.call_tool)
            if known.wrapper is not None:
                self.__dict__["call_tool"] = known.wrapper
        return known

    def _renew_extensions(self) -> None:
        """Ask for the `extensions` once more, and check them.  Raises as `Extensions` does."""
        known: Extensions | None = self.__dict__.pop("_known_extensions", None)
        if known is not None and known.wrapper is not None:
            del self.__dict__["call_tool"]
        self._extended  # noqa: B018

    def cache_hint(self, method: str) -> tuple[int, str | None]:
        """How long a client may keep a result of `method` (milliseconds), and its scope: "public", "private", or None.

        None lets the server choose: private where requests are authorized, else public.
        """
        return 0, None

    def param_headers(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        """Which arguments of a tool are mirrored in `Mcp-Param-*` headers, as `headers.header_map` makes it.

        Called for each tools/call of 2026-07-28 over HTTP; None where there is nothing to check.
        """
        return None

    def required_scopes(self, method: str, params: Params) -> Collection[str]:
        """The scopes that a caller's token needs for `method`, beside the settings' `required_scopes`.

        Called for each request over HTTP, with the `params` as they came, before any part of the answer is sent.  A
        caller with too few scopes gets 403 and the scopes to ask for.  Must not raise.
        """
        return ()

    def _scope_switch(self) -> ScopeSwitch:
        """Says at any time whether `required_scopes` has to be called; a server asks for it once, at its start."""
        return ScopeSwitch(getattr(self.required_scopes, "__func__", None) is not ServerHandler.required_scopes)

    @property
    def keeps_sessions(self) -> bool:
        """Whether the state of a session lives in this process, so that other workers have to ask this one."""
        return False

    def serves(self, generation: int) -> bool:
        """Whether a session that began under this `generation` may go on; where not, it is 404 and begins anew.

        Called for each request of a session over HTTP, where it is overridden.  Must not raise.
        """
        return True

    def unavailable(self) -> str | None:
        """Why no request can be answered now, or None.  Over HTTP it is 503 then, and `/health` and `/ready` say so.

        Called for each request over HTTP, where it is overridden.  Must not raise.
        """
        return None

    def readiness_problems(self) -> Sequence[str]:
        """Why new clients should rather go elsewhere, for `/ready`; empty where nothing is the matter."""
        return ()

    def _parts(self) -> Mapping[str, Sequence[str]]:
        """The problems of each part that has a name, as `readiness_problems`, for `/ready/NAME`."""
        return {}

    def _metric_lines(self) -> Iterable[str]:
        """Lines of further metrics, in Prometheus' text format."""
        return ()

    def _swaps(self) -> Mapping[str, Callable[[], Awaitable[Mapping[str, Any]]]]:
        """For `POST /swap`: what starts each backend anew, by its name; one that has no name is the only one.

        The result has `swapped`, and `reason` where that is False, else what is told of the drain.
        """
        return {}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Any]:
        """Entered once before the first request and left after the last; `ctx.lifespan` is the value that it yields."""
        yield None

    # --- requests ----------------------------------------------------------------------------------------

    async def request(self, method: str, params: Params, ctx: Context) -> Result | InputRequired:
        """Answer the request `method`: by the table of methods, or by the extension that has it.

        An MCPError is a JSON-RPC error.
        """
        entry = METHODS.get(method)
        if entry is None:
            return await self._extended.answer(method, params, ctx)
        result = getattr(self, entry.attribute)(params, ctx)
        # The exact type first: `isawaitable` asks three times, and nearly all methods are `async def`.
        if type(result) is CoroutineType or inspect.isawaitable(result):
            result = await result
        return result  # type: ignore[no-any-return]

    async def notification(self, method: str, params: Params, ctx: Context | None) -> None:
        """The notification `method`, which the server does not act upon itself; ignored unless this is overridden."""

    async def list_tools(self, params: Params, ctx: Context) -> Result:
        """``{"tools": [...], "nextCursor": ...}``"""
        raise MethodNotFound("tools/list")

    async def call_tool(self, params: Params, ctx: Context) -> Result | InputRequired:
        """``{"content": [...], "structuredContent": ..., "isError": ...}`` for ``params["name"]``."""
        raise MethodNotFound("tools/call")

    async def list_resources(self, params: Params, ctx: Context) -> Result:
        """``{"resources": [...]}``"""
        raise MethodNotFound("resources/list")

    async def list_resource_templates(self, params: Params, ctx: Context) -> Result:
        """``{"resourceTemplates": [...]}``"""
        raise MethodNotFound("resources/templates/list")

    async def read_resource(self, params: Params, ctx: Context) -> Result | InputRequired:
        """``{"contents": [...]}`` for ``params["uri"]``; raise ResourceNotFound for one that is not there."""
        raise MethodNotFound("resources/read")

    async def subscribe(self, uri: str, ctx: Context) -> None:
        """A session subscribed to `uri`.  The server keeps the subscription itself; override this to react to it."""

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        """A session ended its subscription to `uri`."""

    def listened(self, uris: Collection[str], alive: Callable[[], bool], principal: Any) -> None:
        """A client of 2026-07-28, `principal`, listens for the resources `uris`, as long as `alive()` is True.

        On the loop, before the client is told; must not raise.
        """

    def _listened_by(
        self, uris: Collection[str], alive: Callable[[], bool], principal: Any, party: str, ready: Ready
    ) -> None:
        """As `listened`, which it calls; `party` is the client that limits count the listener for.

        It calls `ready`, now or later and once, with the URIs that the client will hear nothing of: then the client is
        told that it listens.
        """
        self.listened(uris, alive, principal)
        ready(())

    async def list_prompts(self, params: Params, ctx: Context) -> Result:
        """``{"prompts": [...]}``"""
        raise MethodNotFound("prompts/list")

    async def get_prompt(self, params: Params, ctx: Context) -> Result | InputRequired:
        """``{"messages": [...]}`` for ``params["name"]``, ``["arguments"]``."""
        raise MethodNotFound("prompts/get")

    async def complete(self, params: Params, ctx: Context) -> Result:
        """``{"completion": {"values": [...]}}`` for ``params["ref"]``, ``["argument"]``."""
        raise MethodNotFound("completion/complete")

    async def set_level(self, level: str, ctx: Context) -> None:
        """A session chose its log level; the server filters by itself."""

    # --- changes, from any thread ------------------------------------------------------------------------

    @property
    def notices(self) -> Notices:
        """Where changes are published; made at first use, so that subclasses need not call `__init__`."""
        notices: Notices | None = self.__dict__.get("_notices")
        if notices is None:
            notices = self.__dict__.setdefault("_notices", Notices())
        return notices

    def notify_tools_changed(self) -> None:
        """Tell every subscriber, in either era, that the list of tools changed."""
        self.notices.publish(Notice("tools"))

    def notify_prompts_changed(self) -> None:
        """Tell every subscriber that the list of prompts changed."""
        self.notices.publish(Notice("prompts"))

    def notify_resources_changed(self) -> None:
        """Tell every subscriber that the list of resources changed."""
        self.notices.publish(Notice("resources"))

    def notify_lists_changed(self) -> None:
        """Tell every subscriber that each list may have changed whose changes this handler announces."""
        capabilities = self.capabilities()
        for kind in LIST_CHANGED:
            if capabilities.get(kind, {}).get("listChanged"):
                self.notices.publish(Notice(kind))

    def notify_resource_updated(self, uri: str) -> None:
        """Tell every subscriber of `uri` that it changed."""
        self.notices.publish(Notice("updated", uri))


def checked_hints(
    hints: Mapping[str, tuple[int, str | None]], more: Collection[str] = ()
) -> dict[str, tuple[int, str | None]]:
    """The values for `cache_hint` by method, as a dict; `more` are the cacheable methods of extensions.

    Raises ValueError for a value that no client may be sent.
    """
    for method, (ttl, scope) in hints.items():
        if method not in CACHEABLE and method not in more:
            raise ValueError(f"{method} is nothing that a client may keep")
        # 2026-07-28 server/utilities/caching: an integer of milliseconds, and one of the two
        if type(ttl) is not int or ttl < 0 or scope not in ("public", "private", None):
            raise ValueError(f'a cache hint is (milliseconds, "public" or "private"), not {(ttl, scope)!r}')
    return dict(hints)


def check_meta(params: Params) -> None:
    """The check of `_meta` that `dispatch` does, for requests that are answered without it.  Raises InvalidParams."""
    meta = params.get("_meta")
    if isinstance(meta, dict) and "progressToken" in meta:
        check_progress_token(meta["progressToken"])


def check_progress_token(token: Any) -> None:
    """Raise InvalidParams for a value that is no progress token.  The token comes back in each notification.

    "Progress tokens MUST be a string or integer value" (basic/utilities/progress).  null counts as no token.
    """
    if token is None or (type(token) is int and token.bit_length() <= MAX_TOKEN_BITS):
        return
    if type(token) is str and len(token) <= MAX_PROGRESS_TOKEN:
        # The length in characters is at most that in bytes, so only other texts are encoded to measure them.
        if token.isascii() or len(token.encode("utf-8", "surrogatepass")) <= MAX_PROGRESS_TOKEN:
            return
    raise InvalidParams(f"progressToken must be an integer, or a string of at most {MAX_PROGRESS_TOKEN} bytes")


def encode_error(json: JSON, request_id: str | int, error: MCPError, method: str) -> bytes:
    """The error of a call, encoded.  If its `data` is no JSON it is left out, and the log has a line about it."""
    payload = json.error(request_id, error)
    if error.data is not None and b'"data"' not in payload:
        logger.error("the data of an error of %s cannot be sent: it is no JSON", method)
    return payload

# SPDX-License-Identifier: MIT
"""Extensions of the protocol: the class that an author derives from, and all extensions of one handler together.

An extension has an identifier, settings, and a closed set of contributions: methods of its own, tools and resources,
one wrapper around `tools/call`, the members of a listen stream's filter that it honours, and records in the store.
`Extension` declares them, and a handler that is served consumes them; an extension never sees the server's inside.

Rule: an extension is off for a client that did not announce it, unless it says that it needs no announcement
(2026-07-28 basic/versioning, Extension Negotiation; SEP-2133).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..protocol.errors import InvalidParams, MethodNotFound, MissingClientCapability
from ..protocol.methods import METHODS, SERVER_METHODS
from .context import Context, exchange_of
from .questions import InputRequired

if TYPE_CHECKING:
    from .exchange import Services

Params = dict[str, Any]
Result = Mapping[str, Any]
CallTool = Callable[[Params, Context], Awaitable["Result | InputRequired"]]
Answering = Callable[[Params, Context], Awaitable[Result]]

# 2026-07-28 basic/index, `_meta`: labels with dots between them, a slash, a name.  SEP-2133: the prefix is mandatory.
_LABEL = "[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_IDENTIFIER = re.compile(rf"{_LABEL}(?:\.{_LABEL})*/[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
MAX_IDENTIFIER = 200  # characters


@dataclass(frozen=True)
class ExtensionMethod:
    """One request that an extension answers.

    Args:
        answer: ``async (params, ctx) -> result``; the result is a dict, and an MCPError is a JSON-RPC error.
        mirrored: the member of the params that clients of 2026-07-28 repeat in the header `Mcp-Name`, where the text of
            the extension demands that; a request over HTTP with another header is refused.
        cacheable: the result says for how long it holds: the server adds `ttlMs` and `cacheScope` in 2026-07-28, by the
            handler's `cache_hint`.
        announced: answer only clients that announced the extension; others get -32021.
    """

    answer: Answering
    mirrored: str | None = None
    cacheable: bool = False
    announced: bool = True


class ExtensionServices(Protocol):
    """The parts of the running server that an extension may use, from the start of serving to its end."""

    worker: str  # the id of this process in its fleet; random where there is no fleet

    @property
    def runtime(self) -> Services:
        """The server itself: its handler, settings, loop and threads."""

    @property
    def records(self) -> Any:
        """`stores.base.Records`.  Raises RuntimeError where the server has no store and no extension `needs_store`."""

    @property
    def logs(self) -> Any:
        """`stores.base.Logs`.  Raises as `records` does."""

    @property
    def spawn(self) -> Callable[[Any], Any]:
        """Runs a coroutine as a task, which ends with the server at the latest; its failure is logged."""


class Extension:
    """Derive a class, set `identifier`, and override the contributions that the extension has.

    Pass an instance to ``MCPServer(extensions=[...])``, or return it from `ServerHandler.extensions`.

    Attributes:
        identifier: a name such as "com.example/search": a domain of yours, turned round, a slash, a name.
        legacy: whether sessions of the revisions up to 2025-11-25 have the extension as well.
        filter: the member of a listen stream's filter that `heard` reads; None for an extension without notices.
        outermost: whether its wrapper goes around those of all other extensions, in whatever order the server got them:
            an extension that answers before the tool has run, so that the others see the result of the tool.
        needs_store: whether the extension keeps records.  Without a store of the server's they are in memory then, and
            end with the process.
    """

    identifier: str = ""
    legacy = True
    filter: str | None = None
    outermost = False
    needs_store = False

    def settings(self) -> Mapping[str, Any] | None:
        """The object that the server announces under the identifier in `capabilities.extensions`; JSON.

        Asked for each client.  None: it is not announced now.
        """
        return {}

    def methods(self) -> Mapping[str, ExtensionMethod | Answering]:
        """The requests that the extension answers, by their names; a function counts as an `ExtensionMethod` of it."""
        return {}

    def attach(self, server: Any) -> None:
        """Add tools, resources and prompts to `server`, the `MCPServer` that got the extension, by its `add_tool` ...

        Called once, when the server is made.  A `ServerHandler` of another class has no such methods, and does not
        call it.
        """

    async def call_tool(self, params: Params, ctx: Context, call: CallTool) -> Result | InputRequired:
        """Wrap `tools/call`: return the result of ``await call(params, ctx)``, or do something else.

        `params` are those of the request, and `call` is the server's own `call_tool`, or the next wrapper.

        Called for all clients, also in sessions of an extension that is not `legacy`: `announced` says whether the
        client of `ctx` announced the extension.  The extension that the server got first is the outermost, behind those
        that are `outermost`.
        """
        return await call(params, ctx)

    def heard(self, wanted: Any, principal: str) -> tuple[Any, Collection[str]]:
        """The honoured part of the member `filter` of a `subscriptions/listen`, and the keys that it stands for.

        `wanted` is the member as the client sent it, and `principal` is the name of the caller, empty without one.
        A notice goes to the listeners that have its key (`handler.notices.publish(Notice.extended(...))`), so a key
        should depend on the principal where others may not hear it.  An honoured part that is None, or no keys, means
        that nothing is honoured.  Raises InvalidParams for a member that is malformed.
        """
        return None, ()

    @asynccontextmanager
    async def lifespan(self, services: ExtensionServices) -> AsyncIterator[None]:
        """Entered once before the first request, after the handler's own lifespan, and left after the last.

        `services` are the parts of the server that an extension may use.
        """
        yield

    def announced(self, ctx: Context) -> dict[str, Any] | None:
        """The settings with which the client of the call `ctx` announced the extension; None where it did not."""
        return ctx.client_extension(self.identifier)

    def require(self, ctx: Context) -> dict[str, Any]:
        """As `announced`.  Raises MissingClientCapability where the client of `ctx` did not announce the extension."""
        settings = self.announced(ctx)
        if settings is None:
            raise missing(self.identifier)
        return settings


def missing(identifier: str) -> MissingClientCapability:
    """The error for a request that needs an extension which the client did not announce."""
    text = f"This request needs the extension {identifier}, which the client did not announce"
    return MissingClientCapability({"extensions": {identifier: {}}}, text)


class Extensions:
    """The extensions of one handler, checked; `methods` and `filters` are those of all of them.

    Raises:
        TypeError: one of them is no `Extension`.
        ValueError: an identifier that is malformed or there twice, or a method or filter that belongs to the protocol
            or to two extensions.
    """

    def __init__(self, extensions: Sequence[Extension] = ()) -> None:
        self.all = tuple(extensions)
        self.wrapper: CallTool | None = None  # made by `wrapped`, where it is in use
        self.methods: dict[str, tuple[Extension, ExtensionMethod]] = {}
        self.filters: dict[str, Extension] = {}
        known: set[str] = set()
        for extension in self.all:
            _check(extension)
            if extension.identifier in known:
                raise ValueError(f"two extensions have the identifier {extension.identifier}")
            known.add(extension.identifier)
            for name, given in extension.methods().items():
                self._add(name, extension, given if isinstance(given, ExtensionMethod) else ExtensionMethod(given))
            if extension.filter is not None and self.filters.setdefault(extension.filter, extension) is not extension:
                raise ValueError(f"two extensions have the filter {extension.filter!r}")
        self.mirrored = {name: one.mirrored for name, (_, one) in self.methods.items() if one.mirrored is not None}
        self.cacheable = frozenset(name for name, (_, method) in self.methods.items() if method.cacheable)

    def _add(self, name: str, extension: Extension, method: ExtensionMethod) -> None:
        if name in METHODS or name in SERVER_METHODS or name.startswith("notifications/"):
            raise ValueError(f"{extension.identifier}: {name} is a method of the protocol itself")
        if self.methods.setdefault(name, (extension, method))[0] is not extension:
            raise ValueError(f"two extensions have the method {name}")

    def offered(self, capabilities: dict[str, Any], *, modern: bool) -> dict[str, Any]:
        """The handler's capabilities with the settings of the extensions that a client of this era may use."""
        if not self.all:
            return capabilities
        usable = ((one.identifier, one.settings()) for one in self.all if modern or one.legacy)
        offered = {identifier: dict(settings) for identifier, settings in usable if settings is not None}
        if not offered:
            return capabilities
        return {**capabilities, "extensions": {**capabilities.get("extensions", {}), **offered}}

    async def answer(self, method: str, params: Params, ctx: Context) -> Result:
        """Answering a request that the protocol itself does not have.

        Raises:
            MethodNotFound: no extension has it in this era.
            MissingClientCapability: the client did not announce the extension that has it.
        """
        found = self.methods.get(method)
        if found is None or not (found[0].legacy or exchange_of(ctx).revision.modern):
            raise MethodNotFound(method)
        extension, entry = found
        if entry.announced:
            extension.require(ctx)
        return await entry.answer(params, ctx)

    def wrapped(self, call: Callable[[Params, Context], Any]) -> CallTool | None:
        """`call`, the handler's own `call_tool`, within the wrappers; None where no extension has one."""
        wrappers = [one for one in self.all if type(one).call_tool is not Extension.call_tool]
        if not wrappers:
            return None
        wrappers.sort(key=lambda one: not one.outermost)
        call = _awaitable(call)
        for extension in reversed(wrappers):
            call = _within(extension, call)
        return call

    def heard(self, wanted: Mapping[str, Any], announced: Any, principal: str) -> tuple[dict[str, Any], set[str]]:
        """The honoured members of a listen stream's filter that belong to extensions, and their keys.

        `announced` is `extensions` of the client's capabilities.  Raises InvalidParams, and MissingClientCapability for
        a member of an extension that was not announced.
        """
        honoured: dict[str, Any] = {}
        keys: set[str] = set()
        for member, extension in self.filters.items():
            if member not in wanted:
                continue
            if not isinstance(announced, dict) or not isinstance(announced.get(extension.identifier), dict):
                raise missing(extension.identifier)
            part, found = extension.heard(wanted[member], principal)
            if part is not None and found:
                honoured[member] = part
                keys.update(found)
        return honoured, keys


def _awaitable(call: Callable[[Params, Context], Any]) -> CallTool:
    """A handler may be written with `def` or `async def`; a wrapper awaits it in either case."""

    async def answered(params: Params, ctx: Context) -> Result | InputRequired:
        result: Result | InputRequired = call(params, ctx)
        return await result if inspect.isawaitable(result) else result

    return answered


def _within(extension: Extension, call: CallTool) -> CallTool:
    async def wrapped(params: Params, ctx: Context) -> Result | InputRequired:
        return await extension.call_tool(params, ctx, call)

    return wrapped


def _check(extension: Extension) -> None:
    """Raises as `Extensions` does."""
    if not isinstance(extension, Extension):
        raise TypeError(f"an extension is an instance of Extension, not {extension!r:.100}")
    check_identifier(extension.identifier, type(extension).__name__)


def check_identifier(name: Any, owner: str) -> None:
    """Raises ValueError, which names the `owner`, for a text that cannot be the identifier of an extension."""
    if not isinstance(name, str) or len(name) > MAX_IDENTIFIER or not _IDENTIFIER.fullmatch(name):
        raise ValueError(
            f'{owner}: an identifier is a prefix, a slash and a name, as in "com.example/search", not {name!r:.100}'
        )


def text_member(params: Mapping[str, Any], name: str) -> str:
    """The member `name` of the params of a request, which has to be a text.  Raises InvalidParams."""
    value = params.get(name)
    if not isinstance(value, str):
        raise InvalidParams(f"{name} must be a string")
    return value

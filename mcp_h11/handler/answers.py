# SPDX-License-Identifier: MIT
"""`CatalogueHandler`: a `ServerHandler` that answers each request by an entry of its catalogue.

It finds the entry, checks once more that the caller may have it, binds the arguments, runs the function and wraps its
result.  It refuses to register anything: that is for `MCPServer`, which adds the decorators.

Rule: a failure of a tool is a result that the model can act on, and any other failure is an error of the protocol.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..http.auth import TOKEN_HOLDER, missing_scopes
from ..protocol.errors import InternalError, InvalidParams, MCPError, Refusal, ResourceNotFound, ToolError
from ..protocol.shown import escaping
from ..schema.arguments import BadArguments
from ..schema.documents.mismatch import kind, shorten
from ..schema.documents.work import IN_THREAD, TooMuchWork, within
from ..schema.results import completion, contents, messages
from ..schema.wirewords import in_wire_words
from .context import Context
from .dispatch import describe, tool_error
from .functions import Entry, Function, ToolEntry
from .handler import Params, Result, ScopeSwitch, ServerHandler
from .questions import InputRequired, taken
from .registry import Catalogue, completable

logger = escaping(logging.getLogger(__name__))

MASKED = "The tool failed"


class CatalogueHandler(ServerHandler):
    """Answers by the entries that a catalogue has.

    Args:
        page_size: Entries of one page of a list; None sends all at once.
        mask_errors: Hide the messages of errors that tools raise, except those of `ToolError`.
    """

    def __init__(self, *, page_size: int | None = None, mask_errors: bool = False) -> None:
        self._catalogue = Catalogue(page_size)
        self._completion: Function | None = None  # completes arguments of prompts and templates
        self._mask_errors = mask_errors

    def capabilities(self) -> dict[str, Any]:
        """Tools, resources and prompts always, since they may be added at any time."""
        offered: dict[str, Any] = {
            "logging": {},
            "tools": {"listChanged": True},
            "resources": {"subscribe": True, "listChanged": True},
            "prompts": {"listChanged": True},
        }
        if self._completion is not None:
            offered["completions"] = {}
        return offered

    def param_headers(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        found = self._catalogue.tools.get(tool)
        return found.param_headers if found is not None else None

    def required_scopes(self, method: str, params: Params) -> Collection[str]:
        catalogue = self._catalogue
        return catalogue.scopes_for(method, params) if catalogue.scopes.scoped else ()

    def _scope_switch(self) -> ScopeSwitch:
        # A subclass may have reasons that the catalogue does not know.
        own = getattr(self.required_scopes, "__func__", None) is CatalogueHandler.required_scopes
        return self._catalogue.scopes if own else ScopeSwitch(True)

    async def list_tools(self, params: Params, ctx: Context) -> Result:
        return self._catalogue.page("tools", params, self._catalogue.tools)

    async def list_resources(self, params: Params, ctx: Context) -> Result:
        return self._catalogue.page("resources", params, self._catalogue.resources)

    async def list_resource_templates(self, params: Params, ctx: Context) -> Result:
        return self._catalogue.page("resourceTemplates", params, self._catalogue.templates)

    async def list_prompts(self, params: Params, ctx: Context) -> Result:
        return self._catalogue.page("prompts", params, self._catalogue.prompts)

    async def call_tool(self, params: Params, ctx: Context) -> Result | InputRequired:
        tool = self._catalogue.tools.get(name) if isinstance(name := params.get("name"), str) else None
        if tool is None:
            raise InvalidParams(f"Unknown tool: {name!r:.200}")
        if tool.scopes:
            _check_scopes(tool, ctx)
        # The schema of the specification lets a client leave the arguments out.
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            raise InvalidParams("arguments must be an object")
        try:
            try:
                bound = tool.bind(arguments)
            except TooMuchWork:
                bound = await _aside(ctx, tool.bind, arguments)
        except BadArguments as exc:
            # 2025-11-25 server/tools, Error Handling: a result, because the model can mend its arguments by its text.
            return tool_error(str(exc))
        try:
            # `direct` saves a frame for an async function without a context.
            function = tool.function
            made = function.call(bound, ctx) if function.direct is None else function.direct(**bound)
            value = await made
            try:
                return tool.result(value)
            except TooMuchWork:
                return await ctx.run_sync(partial(within, IN_THREAD, tool.result, value))
        except (MCPError, ToolError):
            raise
        except asyncio.CancelledError as exc:
            # A tool may await a task that was cancelled by itself: that is a failure of the tool.
            if _is_cancelled():
                raise
            return self._failure(tool, exc)
        except (Exception, SystemExit) as exc:
            return self._failure(tool, exc)

    def _failure(self, tool: ToolEntry, exc: BaseException) -> Result:
        """The result for an error of the tool, so that the model can act on it; `sys.exit` in a tool is one.

        An error of the protocol, also the only one in an exception group, is raised.
        """
        one, inner = exc, _inner(exc)
        while len(inner) == 1:  # a task group wraps one failure in an exception group
            one, inner = inner[0], _inner(inner[0])
        if isinstance(one, (MCPError, ToolError)):
            raise one from None
        logger.error("the tool %s failed", tool.definition["name"], exc_info=exc)
        exc.__traceback__ = None  # as in `dispatch.answer`
        return tool_error(MASKED if self._mask_errors else describe(one))

    async def read_resource(self, params: Params, ctx: Context) -> Result | InputRequired:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise InvalidParams("uri must be a string")
        resource, arguments = self._catalogue.find(uri)
        _check_scopes(resource, ctx)
        try:
            try:
                bound = resource.bind(arguments)
            except TooMuchWork:
                bound = await _aside(ctx, resource.bind, arguments)
        # A URI with variables that do not fit the parameters names no resource.
        except BadArguments:
            raise ResourceNotFound(uri) from None
        value = taken(await resource.function.call(bound, ctx))
        if isinstance(value, InputRequired):
            return value
        # A template matches URIs that have no resource, and its function says so by None.
        if value is None:
            raise ResourceNotFound(uri)
        return {"contents": contents(uri, resource.definition.get("mimeType"), value)}

    async def subscribe(self, uri: str, ctx: Context) -> None:
        self._check_scopes_at(uri, ctx)

    async def unsubscribe(self, uri: str, ctx: Context) -> None:
        self._check_scopes_at(uri, ctx)

    def _check_scopes_at(self, uri: str, ctx: Context) -> None:
        with suppress(ResourceNotFound):  # a client may subscribe before the resource is added
            _check_scopes(self._catalogue.find(uri)[0], ctx)

    async def get_prompt(self, params: Params, ctx: Context) -> Result | InputRequired:
        prompt = self._catalogue.prompts.get(name) if isinstance(name := params.get("name"), str) else None
        if prompt is None:
            raise InvalidParams(f"Unknown prompt: {name!r:.200}")
        _check_scopes(prompt, ctx)
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            raise InvalidParams("arguments must be an object of strings")
        for argument, value in arguments.items():
            if not isinstance(value, str):
                raise InvalidParams(_as_text(argument, value))
        try:
            bind = prompt.function.signature.bind_text
            try:
                bound = bind(arguments)
            except TooMuchWork:
                bound = await _aside(ctx, bind, arguments)
        except BadArguments as exc:
            raise InvalidParams(str(exc)) from None
        value = taken(await prompt.function.call(bound, ctx))
        if isinstance(value, InputRequired):
            return value
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            return in_wire_words(value)  # type: ignore[no-any-return]
        return {"description": prompt.definition["description"], "messages": messages(value)}

    async def complete(self, params: Params, ctx: Context) -> Result:
        function = self._completion
        if function is None:
            return await super().complete(params, ctx)
        ref, argument, context = params.get("ref"), params.get("argument"), params.get("context")
        entry = self._catalogue.referred(ref)
        _check_scopes(entry, ctx)
        known = completable(entry)
        if not isinstance(argument, dict) or not all(isinstance(argument.get(k), str) for k in ("name", "value")):
            raise InvalidParams("argument must be an object with a name and a value")
        if known is not None and argument["name"] not in known:
            raise InvalidParams(f"Unknown argument: {argument['name']!r:.200}")
        given = {"ref": ref, "argument": argument, "context": context if isinstance(context, dict) else None}
        value = await function.call(function.accepted(given), ctx)
        found = completion(value)
        if found is None:
            logger.error("the completion function returned no list of texts; return a list of str")
            raise InternalError()
        return {"completion": found}


async def _aside(ctx: Context, bind: Callable[[Any], dict[str, Any]], arguments: Any) -> dict[str, Any]:
    """Bind arguments in a thread, since they would hold the event loop for too long.

    Raises:
        InvalidParams: they are too much for a thread as well.
    """
    try:
        bound: dict[str, Any] = await ctx.run_sync(partial(within, IN_THREAD, bind, arguments))
    except TooMuchWork:
        raise InvalidParams("The arguments are too large or too deep to be checked") from None
    return bound


def _check_scopes(entry: Entry, ctx: Context) -> None:
    """Check the scopes once more, now that the entry is found.  Raises a Refusal with status 403.

    The endpoint has checked them before the call began.  Since then the call may have waited in a queue or for an
    answer of its client, and another thread may have put another entry in the place of that one.  A call without a
    principal needs no second check: on pipes there is one client, and over HTTP an entry with scopes is refused to
    callers without a principal.
    """
    principal = ctx.principal
    if principal is None or principal is TOKEN_HOLDER or not entry.scopes:
        return
    granted = getattr(principal, "scopes", ()) or ()
    if missing_scopes(granted, entry.scopes, ctx.settings.scope_includes):
        raise Refusal(403, f"Forbidden: this needs the scopes {' '.join(entry.scopes)}")


def _as_text(name: str, value: Any) -> str:
    """The error for an argument of a prompt that is no string, with the way to write it as one."""
    # server/prompts: "arguments?: { [key: string]: string }"
    start = f"arguments.{shorten(name)}: the arguments of a prompt are strings"
    if value is None:
        return f'{start}; leave it out, or write "null" where null is meant'
    if isinstance(value, (list, dict)):
        return f"{start}; write the JSON of the {kind(value)} as a string"
    written = shorten(json.dumps(value))
    return f'{start}; write "{written}" instead of {written}'


def _inner(exc: BaseException) -> Sequence[BaseException]:
    found: Sequence[BaseException] = getattr(exc, "exceptions", ())
    return found


def _is_cancelled() -> bool:
    """Whether this call itself is cancelled, and not a task that it waited for.

    Before Python 3.11 the two look the same, and count as the first.
    """
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0

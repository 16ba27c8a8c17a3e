# SPDX-License-Identifier: MIT
"""`MCPServer`: functions become tools, resources, prompts and completions by a decorator.

A `ServerHandler` like any other; it adds registration, schemas from signatures, and threads for blocking functions.

Rule: everything that depends on a function alone is worked out when it is registered, and a mistake in it is an error
there; a call only looks up, binds, runs and wraps.  Lists are made once and kept until they change.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import re
import threading
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar, overload

from .auth import checked_scopes
from .context import Context
from .errors import InternalError, InvalidParams, MCPError, ResourceNotFound, ToolError
from .handler import METHODS, Params, Result, ServerHandler, describe, tool_error
from .headers import header_map
from .jsonschema import checker
from .questions import InputRequired
from .schema import Audio, Image, StableResult
from .signature import BadArguments, Signature, is_content, is_result, to_content
from .signature import describe as read_signature
from .tojson import to_json
from .uritemplate import URITemplate, climbs

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

# 2025-11-25 server/tools, Tool Names
MAX_TOOL_NAME = 128
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
MAX_COMPLETIONS = 100  # server/utilities/completion: "Maximum 100 items per response"
MASKED = "The tool failed"
# RFC 3986, 3: a scheme, a colon, and neither blanks nor controls after it
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20\x7f]+")
_CURSOR = re.compile(rb"[1-9][0-9]{0,17}")


class _Function:
    """A registered function: how to give it its arguments and where to run it."""

    __slots__ = ("_open", "_parameters", "fn", "signature", "thread")

    def __init__(self, fn: Callable[..., Any], name: str, *, thread: bool, structured: bool | None = False) -> None:
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{name}: a generator has no result; return a list, or report progress on the way")
        self.fn = fn
        self.thread = thread
        self.signature: Signature = read_signature(
            fn, name=name, context_type=Context, structured_output=structured, control_types=(InputRequired,)
        )
        schema = self.signature.input_schema
        self._open = schema.get("additionalProperties") is not False
        self._parameters = frozenset(schema.get("properties", ()))

    async def call(self, arguments: dict[str, Any], ctx: Context) -> Any:
        signature = self.signature
        if signature.context_parameter is not None:
            arguments[signature.context_parameter] = ctx
        if signature.is_async:
            return await self.fn(**arguments)
        if self.thread:
            value = await ctx.run_sync(partial(self.fn, **arguments))
        else:
            value = self.fn(**arguments)
        # A sync wrapper of an async function returns its coroutine.
        return await value if inspect.isawaitable(value) else value

    def accepted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Of arguments that a schema of the user's allows, those that the function has parameters for."""
        if self._open:
            return dict(arguments)
        return {name: value for name, value in arguments.items() if name in self._parameters}


class _Entry:
    """What a list has; its number says after which others it came."""

    __slots__ = ("definition", "function", "number", "scopes")

    def __init__(self, function: _Function, definition: dict[str, Any]) -> None:
        self.function = function
        self.definition = definition
        self.number = 0
        self.scopes: tuple[str, ...] = ()


class _Tool(_Entry):
    __slots__ = ("_check_input", "_check_output", "_own_input", "_own_output", "param_headers")

    def __init__(self, function: _Function, definition: dict[str, Any], *, own_input: bool, own_output: bool) -> None:
        super().__init__(function, definition)
        self._own_input = own_input  # the schema is the user's, and not that of the signature
        self._own_output = own_output
        self._check_input = checker(definition["inputSchema"]) or _nothing_wrong
        self._check_output = checker(definition.get("outputSchema", {})) or _nothing_wrong
        # 2026-07-28 streamable-http, Schema Extension: clients drop a tool with a bad annotation, so refuse it here.
        self.param_headers = header_map(definition["inputSchema"])

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not self._own_input:
            return self.function.signature.bind(arguments)
        problems = self._check_input(arguments)
        if problems:
            raise BadArguments(self.definition["name"], problems)
        return self.function.accepted(arguments)

    def result(self, value: Any) -> Result | InputRequired:
        if isinstance(value, InputRequired):
            return value
        if type(value) is dict and is_result(value):
            return self._whole(value)
        if self._own_output:
            plain = to_json(value)
            self._conform(plain)
            return {"content": to_content(value), "structuredContent": plain}
        content, structured = self.function.signature.content(value)
        if self.function.signature.output_schema is None:
            return {"content": content}
        return {"content": content, "structuredContent": structured}

    def _whole(self, value: dict[str, Any]) -> dict[str, Any]:
        """A result that the function wrote itself, held to the schema that it is listed with."""
        if "outputSchema" not in self.definition or value.get("isError"):
            return value
        if "structuredContent" in value:
            self._conform(value["structuredContent"])
            return value
        try:
            if not self._own_output:
                # Annotated as some dict, which is what it is: then the schema asks for no more.
                return {**value, "structuredContent": self.function.signature.content(value)[1]}
        except TypeError:
            pass
        raise TypeError(f"{self.definition['name']} returned a result without structuredContent")

    def _conform(self, structured: Any) -> None:
        # 2025-11-25 server/tools, Output Schema: "Servers MUST provide structured results that conform to this schema"
        problems = self._check_output(structured)
        if problems:
            raise TypeError(f"{self.definition['name']} returned what its schema forbids: {'; '.join(problems)}")


class _Resource(_Entry):
    __slots__ = ("open", "template")

    def __init__(self, function: _Function, definition: dict[str, Any], template: URITemplate | None, open_: bool):
        super().__init__(function, definition)
        self.template = template
        self.open = open_

    def match(self, uri: str) -> dict[str, Any] | None:
        assert self.template is not None
        values = self.template.match(uri)
        if values is None or self.open:
            return values
        # server/resources, Security: a variable that is used as a path must not leave its folder.
        for value in values.values():
            if any(climbs(one) for one in ([value] if isinstance(value, str) else value)):
                return None
        return values


class MCPServer(ServerHandler):
    """A server made of functions.

    ``server = MCPServer("demo")``, then ``@server.tool`` and its siblings, then ``server.run()``.  Functions may be
    added and removed while it serves; every client that listens is told.

    Args:
        mask_errors: Hide the message of whatever a tool raises, but a `ToolError`'s.
        page_size: Entries of one page of a list; None sends all at once.
        cache_hints: ``{"tools/list": (60_000, "public")}``: how long (ms) and for whom 2026-07-28 clients may keep a
            result; None instead of "public" or "private" leaves that to the server.
        lifespan: Called with the server, returns an async context manager that is open while it serves; what it
            yields is `ctx.lifespan`.

    Raises:
        ValueError: a page of no entries, or a cache hint that no client may be sent.
    """

    def __init__(
        self,
        name: str = "mcp-server",
        title: str | None = None,
        description: str | None = None,
        instructions: str | None = None,
        website_url: str | None = None,
        icons: list[Any] | None = None,
        version: str = "0",
        *,
        lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
        mask_errors: bool = False,
        page_size: int | None = None,
        cache_hints: Mapping[str, tuple[int, str | None]] | None = None,
    ) -> None:
        if page_size is not None and page_size < 1:
            raise ValueError("page_size is at least 1, or None")
        self.name = name
        self.title = title
        self.description = description
        self.instructions = instructions
        self.website_url = website_url
        self.icons = _plain(icons)
        self.version = version
        self._lifespan = lifespan
        self._mask_errors = mask_errors
        self._page_size = page_size
        self._cache_hints = _checked_hints(cache_hints or {})
        self._tools: dict[str, _Tool] = {}
        self._resources: dict[str, _Resource] = {}
        self._templates: dict[str, _Resource] = {}
        self._prompts: dict[str, _Entry] = {}
        self._completion: _Function | None = None
        self._scoped = False  # whether anything asks for scopes
        self._newest = 0  # entries are numbered as they come
        self._lock = threading.Lock()  # for whoever registers
        self._pages: dict[tuple[str, int], StableResult] = {}

    # --- registering -----------------------------------------------------------------------------------------

    @overload
    def tool(self, fn: F, /) -> F: ...

    @overload
    def tool(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Mapping[str, Any] | None = None,
        icons: list[Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        timeout: float | None = None,
    ) -> Callable[[F], F]: ...

    def tool(self, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Register a function as a tool: ``@server.tool`` or ``@server.tool(title=...)``; see `add_tool`."""
        if callable(name):
            self.add_tool(name)
            return name

        def decorate(fn: F) -> F:
            self.add_tool(fn, name, *args, **kwargs)
            return fn

        return decorate

    def add_tool(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        annotations: Mapping[str, Any] | None = None,
        icons: list[Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        structured_output: bool | None = None,
        *,
        input_schema: Mapping[str, Any] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Add a tool, from any thread.  Its schema comes from the annotations and the docstring of `fn`.

        Args:
            input_schema: A JSON schema to list and to check arguments by, instead of the signature's; what it allows
                is passed by keyword, unconverted.
            output_schema: A JSON schema for what `fn` returns.
            scopes: What a caller's token must allow, over HTTP; else the answer is 403 with these, for a client that
                can ask its user for more.  It is listed to everybody all the same.
            structured_output: False: never list an output schema; True: it must be possible.
            thread: False runs a sync function on the event loop itself; only for what cannot block.
            timeout: Seconds it may take, instead of the settings' `call_timeout`; `ctx.report_progress` gives it as
                many again, and `math.inf` is no limit.  The thread of a sync function cannot be stopped.

        Raises:
            TypeError: the signature cannot be expressed as a schema.
            ValueError: the name is taken or malformed, or an `x-mcp-header` annotation is wrong.
        """
        name = name or _name_of(fn)
        if not 0 < len(name) <= MAX_TOOL_NAME or not _NAME_CHARACTERS.issuperset(name):
            raise ValueError(f"a tool's name is 1 to {MAX_TOOL_NAME} of A-Z a-z 0-9 _ - . , not {name!r}")
        if timeout is not None and not timeout > 0:
            raise ValueError(f"{name}: a timeout is greater than 0 (math.inf is none), not {timeout!r}")
        structured = False if output_schema is not None else structured_output
        function = _Function(fn, name, thread=thread, structured=structured)
        signature = function.signature
        definition = _definition(
            name=name,
            title=title,
            description=description or signature.description or name,
            inputSchema=dict(input_schema) if input_schema is not None else signature.input_schema,
            outputSchema=dict(output_schema) if output_schema is not None else signature.output_schema,
            annotations=_plain(annotations),
            icons=_plain(icons),
            _meta=dict(meta) if meta else None,
        )
        if definition["inputSchema"].get("type") != "object":
            raise ValueError(f"{name}: an input schema has type object")
        tool = _Tool(function, definition, own_input=input_schema is not None, own_output=output_schema is not None)
        self._add("tool", self._tools, name, tool, scopes)
        if timeout is not None:
            self.timeouts = {**self.timeouts, name: timeout}
        self._changed("tools")

    def remove_tool(self, name: str) -> None:
        """Remove a tool, from any thread.  Raises KeyError where there is none of that name."""
        del self._tools[name]
        self.timeouts = {tool: seconds for tool, seconds in self.timeouts.items() if tool != name}
        self._changed("tools")

    def resource(
        self,
        uri: str,
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        icons: list[Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        size: int | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        any_path: bool = False,
    ) -> Callable[[F], F]:
        """Register a function as what a URI, or a URI template (RFC 6570), stands for; see `add_resource`."""
        if callable(uri):
            raise TypeError("a resource needs its URI: @server.resource('scheme://path')")

        def decorate(fn: F) -> F:
            self.add_resource(
                uri,
                fn,
                name=name,
                title=title,
                description=description,
                mime_type=mime_type,
                icons=icons,
                annotations=annotations,
                meta=meta,
                size=size,
                scopes=scopes,
                thread=thread,
                any_path=any_path,
            )
            return fn

        return decorate

    def add_resource(
        self,
        uri: str,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        mime_type: str | None = None,
        icons: list[Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
        size: int | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
        any_path: bool = False,
    ) -> None:
        """Add a resource or a template, from any thread.

        `fn` takes the template's variables by name and returns text, bytes, anything JSON can say, or a list of
        contents; None means that there is no such resource.  Variables that would climb out of a folder ("..", an
        absolute path) do not match, unless `any_path` says that `fn` checks for itself.  `scopes` as for `add_tool`:
        for reading, subscribing and completing.

        Raises:
            ValueError: the URI is taken, or is neither a URI nor a template, or a template has a size.
            TypeError: `fn` does not take the template's variables.
        """
        name = name or _name_of(fn)
        function = _Function(fn, name, thread=thread)
        template = URITemplate(uri) if "{" in uri else None
        if template is None and not _URI.fullmatch(uri):
            raise ValueError(f"a resource's URI has a scheme, as in notes://today, and no blanks: {uri!r}")
        if template is not None and size is not None:
            raise ValueError(f"{uri}: a template has no size")
        _check_variables(uri, function, template)
        definition = _definition(
            name=name,
            title=title,
            description=description or function.signature.description or None,
            mimeType=mime_type,
            icons=_plain(icons),
            annotations=_plain(annotations),
            size=size,
            _meta=dict(meta) if meta else None,
        )
        entries, member = (self._resources, "uri") if template is None else (self._templates, "uriTemplate")
        resource = _Resource(function, {member: uri, **definition}, template, any_path)
        self._add("resource", entries, uri, resource, scopes)
        self._changed("resources")

    def remove_resource(self, uri: str) -> None:
        """Remove a resource or a template, from any thread.  Raises KeyError where there is none."""
        if uri in self._templates:
            del self._templates[uri]
        else:
            del self._resources[uri]
        self._changed("resources")

    @overload
    def prompt(self, fn: F, /) -> F: ...

    @overload
    def prompt(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: list[Any] | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
    ) -> Callable[[F], F]: ...

    def prompt(self, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Register a function as a prompt: ``@server.prompt`` or ``@server.prompt(title=...)``; see `add_prompt`."""
        if callable(name):
            self.add_prompt(name)
            return name

        def decorate(fn: F) -> F:
            self.add_prompt(fn, name, *args, **kwargs)
            return fn

        return decorate

    def add_prompt(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        icons: list[Any] | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        scopes: Sequence[str] = (),
        thread: bool = True,
    ) -> None:
        """Add a prompt, from any thread.

        `fn` returns text, a message (``{"role": "user", "content": {...}}``), or a list of those.  Arguments arrive
        as text; a parameter of another type gets what the text says as JSON.

        Raises:
            ValueError: the name is taken; TypeError: the signature cannot be expressed.
        """
        name = name or _name_of(fn)
        function = _Function(fn, name, thread=thread)
        definition = _definition(
            name=name,
            title=title,
            description=description or function.signature.description or name,
            arguments=_prompt_arguments(function.signature) or None,
            icons=_plain(icons),
            _meta=dict(meta) if meta else None,
        )
        self._add("prompt", self._prompts, name, _Entry(function, definition), scopes)
        self._changed("prompts")

    def remove_prompt(self, name: str) -> None:
        """Remove a prompt, from any thread.  Raises KeyError where there is none of that name."""
        del self._prompts[name]
        self._changed("prompts")

    def completion(self, fn: Any = None, *, thread: bool = True) -> Any:
        """Register the function that completes arguments: ``fn(ref, argument, context)``.

        `ref` says of which prompt or template, `argument` is ``{"name", "value"}``, `context` the values chosen
        already or None.  It returns a list of texts, best first, or ``{"values", "total", "hasMore"}``.
        """

        def decorate(function: Any) -> Any:
            self._completion = _Function(function, "completion", thread=thread)
            return function

        return decorate if fn is None else decorate(fn)

    def run(self, **options: Any) -> None:
        """Serve over HTTP and block; options are those of `mcp_h11.run`.

        ``transport="stdio"`` serves on stdio, where the one option is `settings`; ``"sse"`` serves 2024-11-05 beside
        the rest.
        """
        # The one look upward: a server needs handlers, and users want one object.
        transport = options.pop("transport", "streamable-http")
        if transport == "stdio":
            from .stdio import run_stdio

            run_stdio(self, **options)
            return
        if transport not in ("streamable-http", "sse"):
            raise ValueError(f"transport is streamable-http, sse or stdio, not {transport!r}")
        if transport == "sse":
            options["legacy_sse"] = True
        from .server import run

        run(self, **options)

    # --- what a ServerHandler answers ----------------------------------------------------------------------------

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

    def cache_hint(self, method: str) -> tuple[int, str | None]:
        return self._cache_hints.get(method, (0, None))

    def param_headers(self, tool: str) -> Mapping[tuple[str, ...], str] | None:
        found = self._tools.get(tool)
        return found.param_headers if found is not None else None

    def required_scopes(self, method: str, params: Params) -> Collection[str]:
        if not self._scoped:
            return ()
        if method == "subscriptions/listen":
            notifications = params.get("notifications")
            uris = notifications.get("resourceSubscriptions") if isinstance(notifications, dict) else None
            return [scope for uri in uris for scope in self._scopes_of(uri)] if isinstance(uris, list) else ()
        if method == "completion/complete":
            ref = params.get("ref")
            return self._scopes_of_ref(ref) if isinstance(ref, dict) else ()
        if method in ("resources/read", "resources/subscribe"):
            return self._scopes_of(params.get("uri"))
        named: dict[str, Mapping[str, Any]] = {"tools/call": self._tools, "prompts/get": self._prompts}
        return _scopes(named.get(method, {}), params.get("name"))

    def _scopes_of(self, uri: Any) -> tuple[str, ...]:
        try:
            return self._find(uri)[0].scopes if isinstance(uri, str) else ()
        except ResourceNotFound:
            return ()

    def _scopes_of_ref(self, ref: dict[str, Any]) -> tuple[str, ...]:
        uri = ref.get("uri")
        return _scopes(self._prompts, ref.get("name")) or _scopes(self._templates, uri) or _scopes(self._resources, uri)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Any]:
        if self._lifespan is None:
            yield None
            return
        async with self._lifespan(self) as value:
            yield value

    async def list_tools(self, params: Params, ctx: Context) -> Result:
        return self._page("tools", params, self._tools)

    async def list_resources(self, params: Params, ctx: Context) -> Result:
        return self._page("resources", params, self._resources)

    async def list_resource_templates(self, params: Params, ctx: Context) -> Result:
        return self._page("resourceTemplates", params, self._templates)

    async def list_prompts(self, params: Params, ctx: Context) -> Result:
        return self._page("prompts", params, self._prompts)

    async def call_tool(self, params: Params, ctx: Context) -> Result | InputRequired:
        tool = self._tools.get(name) if isinstance(name := params.get("name"), str) else None
        if tool is None:
            raise InvalidParams(f"Unknown tool: {name!r:.200}")
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict):
            raise InvalidParams("arguments must be an object")
        try:
            bound = tool.bind(arguments)
        except BadArguments as exc:
            # server/tools, Error Handling: the model can mend its arguments, so it has to see what is wrong.
            return tool_error(str(exc))
        try:
            return tool.result(await tool.function.call(bound, ctx))
        except (MCPError, ToolError):
            raise
        except asyncio.CancelledError as exc:
            if _is_cancelled():
                raise
            return self._failure(tool, exc)
        except (Exception, SystemExit) as exc:
            return self._failure(tool, exc)

    def _failure(self, tool: _Tool, exc: BaseException) -> Result:
        """What is no error of the protocol is a result that the model can act on, a program's `sys.exit` included."""
        one, inner = exc, _inner(exc)
        while len(inner) == 1:  # the group that a task group makes of one failure
            one, inner = inner[0], _inner(inner[0])
        if isinstance(one, (MCPError, ToolError)):
            raise one from None
        logger.error("the tool %s failed", tool.definition["name"], exc_info=exc)
        return tool_error(MASKED if self._mask_errors else describe(one))

    async def read_resource(self, params: Params, ctx: Context) -> Result | InputRequired:
        uri = params.get("uri")
        if not isinstance(uri, str):
            raise InvalidParams("uri must be a string")
        resource, arguments = self._find(uri)
        try:
            bound = resource.function.signature.bind_text(arguments)
        except BadArguments:
            raise ResourceNotFound(uri) from None
        value = await resource.function.call(bound, ctx)
        if isinstance(value, InputRequired):
            return value
        if value is None:
            raise ResourceNotFound(uri)
        return {"contents": _contents(uri, resource.definition.get("mimeType"), value)}

    def _find(self, uri: str) -> tuple[_Resource, dict[str, Any]]:
        fixed = self._resources.get(uri)
        if fixed is not None:
            return fixed, {}
        # A copy: another thread may add one meanwhile.
        for template in list(self._templates.values()):
            values = template.match(uri)
            if values is not None:
                return template, values
        raise ResourceNotFound(uri)

    async def get_prompt(self, params: Params, ctx: Context) -> Result | InputRequired:
        prompt = self._prompts.get(name) if isinstance(name := params.get("name"), str) else None
        if prompt is None:
            raise InvalidParams(f"Unknown prompt: {name!r:.200}")
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        elif not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
            raise InvalidParams("arguments must be an object of strings")
        try:
            bound = prompt.function.signature.bind_text(arguments)
        except BadArguments as exc:
            raise InvalidParams(str(exc)) from None
        value = await prompt.function.call(bound, ctx)
        if isinstance(value, InputRequired):
            return value
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            return value
        return {"description": prompt.definition["description"], "messages": _messages(value)}

    async def complete(self, params: Params, ctx: Context) -> Result:
        function = self._completion
        if function is None:
            return await super().complete(params, ctx)
        ref, argument, context = params.get("ref"), params.get("argument"), params.get("context")
        known = self._arguments_of(ref)
        if not isinstance(argument, dict) or not all(isinstance(argument.get(k), str) for k in ("name", "value")):
            raise InvalidParams("argument must be an object with a name and a value")
        if known is not None and argument["name"] not in known:
            raise InvalidParams(f"Unknown argument: {argument['name']!r:.200}")
        given = {"ref": ref, "argument": argument, "context": context if isinstance(context, dict) else None}
        value = await function.call(function.accepted(given), ctx)
        return {"completion": _completion(value)}

    def _arguments_of(self, ref: Any) -> Container[str] | None:
        """The names of what can be completed there; None where any name may be.  Raises InvalidParams."""
        kind = ref.get("type") if isinstance(ref, dict) else None
        if kind == "ref/prompt":
            name = ref.get("name")
            prompt = self._prompts.get(name) if isinstance(name, str) else None
            if prompt is None:
                raise InvalidParams(f"Unknown prompt: {name!r:.200}")
            schema = prompt.function.signature.input_schema
            return None if schema.get("additionalProperties") is not False else schema["properties"]
        if kind == "ref/resource":
            uri = ref.get("uri")
            resource = (self._templates.get(uri) or self._resources.get(uri)) if isinstance(uri, str) else None
            if resource is None:
                raise InvalidParams(f"Unknown resource template: {uri!r:.200}")
            return resource.template.names if resource.template is not None else ()
        raise InvalidParams("ref must be of type ref/prompt or ref/resource")

    # --- lists -----------------------------------------------------------------------------------------------

    def _page(self, kind: str, params: Params, entries: Mapping[str, Any]) -> Result:
        cursor = params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise InvalidParams("cursor must be a string")
        # This dict, whatever takes its place meanwhile: a page of the list as it was must not outlive it.
        pages = self._pages
        listed: list[_Entry] = []
        start = 0
        if cursor is not None:
            listed = list(entries.values())
            start = bisect_right(listed, self._read_cursor(kind, cursor), key=_number)
        page = pages.get((kind, start))
        if page is None:
            page = pages[(kind, start)] = self._make_page(kind, start, listed or list(entries.values()))
        return page

    def _read_cursor(self, kind: str, cursor: str) -> int:
        try:
            found, _, number = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).partition(b"\n")
        except ValueError:
            found = number = b""
        # server/utilities/pagination, Error Handling: an invalid cursor is -32602.
        issued = self._page_size is not None and found == kind.encode() and _CURSOR.fullmatch(number)
        if not issued or int(number) > self._newest:
            raise InvalidParams("Invalid cursor")
        return int(number)

    def _make_page(self, kind: str, start: int, entries: list[_Entry]) -> StableResult:
        stop = len(entries) if self._page_size is None else start + self._page_size
        page = StableResult({kind: [entry.definition for entry in entries[start:stop]]})
        if stop < len(entries):
            page["nextCursor"] = _make_cursor(kind, entries[stop - 1].number)
        return page

    def _add(self, what: str, entries: dict[str, Any], key: str, entry: _Entry, scopes: Sequence[str]) -> None:
        entry.scopes = checked_scopes(scopes, f"the {what} {key!r}")
        with self._lock:
            if key in entries:
                raise ValueError(f"there is a {what} {key!r} already")
            self._newest += 1
            entry.number = self._newest
            self._scoped = self._scoped or bool(entry.scopes)
            entries[key] = entry

    def _changed(self, kind: str) -> None:
        # A new dict rather than a cleared one: whoever reads the old one in another thread keeps it whole.
        self._pages = {}
        {"tools": self.notify_tools_changed, "resources": self.notify_resources_changed}.get(
            kind, self.notify_prompts_changed
        )()


def _scopes(entries: Mapping[str, Any], key: Any) -> tuple[str, ...]:
    entry: _Entry | None = entries.get(key) if isinstance(key, str) else None
    return () if entry is None else entry.scopes


def _nothing_wrong(value: Any) -> list[str]:
    return []


def _name_of(fn: Any) -> str:
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))


def _inner(exc: BaseException) -> Sequence[BaseException]:
    found: Sequence[BaseException] = getattr(exc, "exceptions", ())
    return found


def _is_cancelled() -> bool:
    """Whether this call is, rather than something that it waited for; before Python 3.11 nobody can tell."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is None or cancelling() > 0


def _checked_hints(hints: Mapping[str, tuple[int, str | None]]) -> dict[str, tuple[int, str | None]]:
    for method, (ttl, scope) in hints.items():
        entry = METHODS.get(method)
        if method != "server/discover" and (entry is None or not entry.cacheable):
            raise ValueError(f"{method} is nothing that a client may keep")
        # 2026-07-28 server/utilities/caching: an integer of milliseconds, and one of the two
        if type(ttl) is not int or ttl < 0 or scope not in ("public", "private", None):
            raise ValueError(f'a cache hint is (milliseconds, "public" or "private"), not {(ttl, scope)!r}')
    return dict(hints)


def _plain(value: Any) -> Any:
    """Annotations and icons as JSON; None where there are none.  Objects of the official SDK's types will do."""
    if not value:
        return None
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(value)


def _definition(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


def _number(entry: _Entry) -> int:
    return entry.number


def _make_cursor(kind: str, number: int) -> str:
    # The number of the entry it follows, and not a place in the list: whatever is added or removed between two pages,
    # the next one neither skips nor repeats.
    return base64.urlsafe_b64encode(f"{kind}\n{number}".encode()).decode("ascii")


def _check_variables(uri: str, function: _Function, template: URITemplate | None) -> None:
    names = set(template.names) if template is not None else set()
    schema = function.signature.input_schema
    known, required = set(schema.get("properties", ())), set(schema.get("required", ()))
    open_ended = schema.get("additionalProperties") is not False
    if required - names or (names - known and not open_ended):
        raise TypeError(
            f"{uri}: its variables are {sorted(names) or 'none'}, but {function.signature.name} takes {sorted(known)}"
        )


def _prompt_arguments(signature: Signature) -> list[dict[str, Any]]:
    schema = signature.input_schema
    required = schema.get("required", ())
    return [
        _definition(name=name, description=member.get("description"), required=True if name in required else None)
        for name, member in schema.get("properties", {}).items()
    ]


def _contents(uri: str, mime_type: str | None, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"uri": uri, "mimeType": mime_type or "text/plain", "text": value}]
    if isinstance(value, (bytes, bytearray, memoryview)):
        blob = base64.b64encode(value).decode("ascii")
        return [{"uri": uri, "mimeType": mime_type or "application/octet-stream", "blob": blob}]
    if isinstance(value, list) and value and all(map(_is_contents, value)):
        return value
    if _is_contents(value):
        return [value]
    if isinstance(value, (Image, Audio)):
        block = value.to_content()
        return [{"uri": uri, "mimeType": mime_type or block["mimeType"], "blob": block["data"]}]
    document = json.dumps(to_json(value), ensure_ascii=False, allow_nan=False)
    return [{"uri": uri, "mimeType": mime_type or "application/json", "text": document}]


def _is_contents(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("uri"), str) and ("text" in value or "blob" in value)


def _messages(value: Any) -> list[Any]:
    values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [message for one in values for message in _message(one)]


def _message(value: Any) -> list[Any]:
    if isinstance(value, dict) and "role" in value and "content" in value:
        content = value["content"]
        return [{**value, "content": to_content(content)[0]} if isinstance(content, (str, Image, Audio)) else value]
    if is_content(value):
        return [{"role": "user", "content": value}]
    return [{"role": "user", "content": block} for block in to_content(value)]


def _completion(value: Any) -> dict[str, Any]:
    if value is None:
        value = []
    if isinstance(value, str):
        value = {}  # no list, though it can be made one, of letters
    if hasattr(value, "model_dump"):
        value = _plain(value)
    completion = dict(value) if isinstance(value, Mapping) else {"values": list(value)}
    values = completion.get("values")
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        logger.error("a completion function returned no list of texts")
        raise InternalError()
    if len(values) > MAX_COMPLETIONS:
        completion["values"] = values[:MAX_COMPLETIONS]
        completion.setdefault("total", len(values))
        completion["hasMore"] = True
    return completion

# SPDX-License-Identifier: MIT
"""`MCPServer`: functions become tools, resources, prompts and completions by a decorator.

A `ServerHandler` like any other; it adds registration, schemas from signatures, and threads for blocking functions.

Rule: everything that depends on a function alone is worked out when it is registered, and a mistake in it is an error
there; a call only looks up, binds, runs and wraps.  Lists are made once and kept until they change.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeVar, overload

from .context import Context
from .errors import InternalError, InvalidParams, MCPError, ResourceNotFound, ToolError
from .handler import Params, Result, ServerHandler, describe, tool_error
from .headers import header_map
from .jsonschema import validate
from .questions import InputRequired
from .schema import StableResult, text
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


class _Function:
    """A registered function: how to give it its arguments and where to run it."""

    __slots__ = ("fn", "raw", "signature", "thread")

    def __init__(self, fn: Callable[..., Any], name: str, *, thread: bool, structured: bool | None, raw: bool) -> None:
        self.fn = fn
        self.thread = thread
        self.raw = raw  # the arguments were checked against a schema of the user's: passed as they are
        self.signature: Signature = read_signature(
            fn, name=name, context_type=Context, structured_output=structured, control_types=(InputRequired,)
        )

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
        parameters = inspect.signature(self.fn).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return dict(arguments)
        return {name: value for name, value in arguments.items() if name in parameters}


class _Tool:
    __slots__ = ("definition", "function", "input_schema", "output_schema", "param_headers")

    def __init__(
        self,
        function: _Function,
        definition: dict[str, Any],
        input_schema: Mapping[str, Any] | None,
        output_schema: Mapping[str, Any] | None,
    ) -> None:
        self.function = function
        self.definition = definition
        self.input_schema = input_schema
        self.output_schema = output_schema
        # 2026-07-28 streamable-http, Schema Extension: clients drop a tool with a bad annotation, so refuse it here.
        self.param_headers = header_map(definition["inputSchema"])

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if self.input_schema is None:
            return self.function.signature.bind(arguments)
        problems = validate(dict(self.input_schema), arguments)
        if problems:
            raise BadArguments(self.definition["name"], problems)
        return self.function.accepted(arguments)

    def result(self, value: Any) -> Result | InputRequired:
        if isinstance(value, InputRequired):
            return value
        if type(value) is dict and is_result(value):
            return value
        if self.output_schema is not None:
            plain = to_json(value)
            problems = validate(dict(self.output_schema), plain)
            if problems:
                raise TypeError(f"{self.definition['name']} returned what its schema forbids: {'; '.join(problems)}")
            return {"content": to_content(value), "structuredContent": plain}
        content, structured = self.function.signature.content(value)
        if self.function.signature.output_schema is None:
            return {"content": content}
        return {"content": content, "structuredContent": structured}


class _Resource:
    __slots__ = ("definition", "function", "open", "template")

    def __init__(self, function: _Function, definition: dict[str, Any], template: URITemplate | None, open_: bool):
        self.function = function
        self.definition = definition
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


class _Prompt:
    __slots__ = ("definition", "function")

    def __init__(self, function: _Function, definition: dict[str, Any]) -> None:
        self.function = function
        self.definition = definition


class MCPServer(ServerHandler):
    """A server made of functions.

    ``server = MCPServer("demo")``, then ``@server.tool`` and its siblings, then ``server.run()``.  Functions may be
    added and removed while it serves; every client that listens is told.

    Args:
        mask_errors: Hide the message of whatever a tool raises, but a `ToolError`'s.
        page_size: Entries of one page of a list; None sends all at once.
        cache_hints: ``{"tools/list": (60_000, "public")}``: how long (ms) and for whom 2026-07-28 clients may keep a
            result.
        lifespan: Called with the server, returns an async context manager that is open while it serves; what it
            yields is `ctx.lifespan`.
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
        cache_hints: Mapping[str, tuple[int, str]] | None = None,
    ) -> None:
        if page_size is not None and page_size < 1:
            raise ValueError("page_size is at least 1, or None")
        self.name = name
        self.title = title
        self.description = description
        self.instructions = instructions
        self.website_url = website_url
        self.icons = icons
        self.version = version
        self._lifespan = lifespan
        self._mask_errors = mask_errors
        self._page_size = page_size
        self._cache_hints = dict(cache_hints or {})
        self._tools: dict[str, _Tool] = {}
        self._resources: dict[str, _Resource] = {}
        self._templates: dict[str, _Resource] = {}
        self._prompts: dict[str, _Prompt] = {}
        self._completion: _Function | None = None
        self._pages: dict[tuple[str, str | None], StableResult] = {}

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
        thread: bool = True,
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
        thread: bool = True,
    ) -> None:
        """Add a tool, from any thread.  Its schema comes from the annotations and the docstring of `fn`.

        Args:
            input_schema: A JSON schema to list and to check arguments by, instead of the signature's; what it allows
                is passed by keyword, unconverted.
            output_schema: A JSON schema for what `fn` returns.
            structured_output: False: never list an output schema; True: it must be possible.
            thread: False runs a sync function on the event loop itself; only for what cannot block.

        Raises:
            TypeError: the signature cannot be expressed as a schema.
            ValueError: the name is taken or malformed, or an `x-mcp-header` annotation is wrong.
        """
        name = name or fn.__name__
        if not 0 < len(name) <= MAX_TOOL_NAME or not _NAME_CHARACTERS.issuperset(name):
            raise ValueError(f"a tool's name is 1 to {MAX_TOOL_NAME} of A-Z a-z 0-9 _ - . , not {name!r}")
        if name in self._tools:
            raise ValueError(f"there is a tool {name!r} already")
        structured = False if output_schema is not None else structured_output
        function = _Function(fn, name, thread=thread, structured=structured, raw=input_schema is not None)
        signature = function.signature
        definition = _definition(
            name=name,
            title=title,
            description=description or signature.description or name,
            inputSchema=dict(input_schema) if input_schema is not None else signature.input_schema,
            outputSchema=dict(output_schema) if output_schema is not None else signature.output_schema,
            annotations=dict(annotations) if annotations else None,
            icons=icons,
            _meta=dict(meta) if meta else None,
        )
        if definition["inputSchema"].get("type") != "object":
            raise ValueError(f"{name}: an input schema has type object")
        self._tools[name] = _Tool(function, definition, input_schema, output_schema)
        self._changed("tools")

    def remove_tool(self, name: str) -> None:
        """Remove a tool, from any thread.  Raises KeyError where there is none of that name."""
        del self._tools[name]
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
        thread: bool = True,
        any_path: bool = False,
    ) -> None:
        """Add a resource or a template, from any thread.

        `fn` takes the template's variables by name and returns text, bytes, anything JSON can say, or a list of
        contents; None means that there is no such resource.  Variables that would climb out of a folder ("..", an
        absolute path) do not match, unless `any_path` says that `fn` checks for itself.

        Raises:
            ValueError: the URI is taken, or no template; TypeError: `fn` does not take the template's variables.
        """
        function = _Function(fn, name or fn.__name__, thread=thread, structured=False, raw=False)
        template = URITemplate(uri) if "{" in uri else None
        _check_variables(uri, function, template)
        if uri in self._resources or uri in self._templates:
            raise ValueError(f"there is a resource {uri!r} already")
        definition = _definition(
            name=name or fn.__name__,
            title=title,
            description=description or function.signature.description or None,
            mimeType=mime_type,
            icons=icons,
            annotations=dict(annotations) if annotations else None,
            _meta=dict(meta) if meta else None,
        )
        if template is None:
            fixed = {"uri": uri, **definition, **({"size": size} if size is not None else {})}
            self._resources[uri] = _Resource(function, fixed, None, any_path)
        else:
            self._templates[uri] = _Resource(function, {"uriTemplate": uri, **definition}, template, any_path)
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
        thread: bool = True,
    ) -> None:
        """Add a prompt, from any thread.

        `fn` returns text, a message (``{"role": "user", "content": {...}}``), or a list of those.  Arguments arrive
        as text; a parameter of another type gets what the text says as JSON.

        Raises:
            ValueError: the name is taken; TypeError: the signature cannot be expressed.
        """
        name = name or fn.__name__
        if name in self._prompts:
            raise ValueError(f"there is a prompt {name!r} already")
        function = _Function(fn, name, thread=thread, structured=False, raw=False)
        definition = _definition(
            name=name,
            title=title,
            description=description or function.signature.description or name,
            arguments=_prompt_arguments(function.signature) or None,
            icons=icons,
            _meta=dict(meta) if meta else None,
        )
        self._prompts[name] = _Prompt(function, definition)
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
            self._completion = _Function(function, "completion", thread=thread, structured=False, raw=False)
            return function

        return decorate if fn is None else decorate(fn)

    def run(self, **options: Any) -> None:
        """Serve over HTTP and block; options are those of `mcp_h11.run`.  ``transport="stdio"`` serves on stdio."""
        # The one look upward: a server needs handlers, and users want one object.
        if options.pop("transport", "streamable-http") == "stdio":
            from .stdio import run_stdio

            run_stdio(self, **options)
            return
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
        except Exception as exc:
            logger.exception("the tool %s failed", name)
            return tool_error(MASKED if self._mask_errors else describe(exc))

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
        for template in self._templates.values():
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
        self._check_reference(ref)
        if not isinstance(argument, dict) or not all(isinstance(argument.get(k), str) for k in ("name", "value")):
            raise InvalidParams("argument must be an object with a name and a value")
        given = {"ref": ref, "argument": argument, "context": context if isinstance(context, dict) else None}
        value = await function.call(function.accepted(given), ctx)
        return {"completion": _completion(value)}

    def _check_reference(self, ref: Any) -> None:
        kind = ref.get("type") if isinstance(ref, dict) else None
        if kind == "ref/prompt":
            if ref.get("name") in self._prompts:
                return
            raise InvalidParams(f"Unknown prompt: {ref.get('name')!r:.200}")
        if kind == "ref/resource":
            if ref.get("uri") in self._templates or ref.get("uri") in self._resources:
                return
            raise InvalidParams(f"Unknown resource template: {ref.get('uri')!r:.200}")
        raise InvalidParams("ref must be of type ref/prompt or ref/resource")

    # --- lists -----------------------------------------------------------------------------------------------

    def _page(self, kind: str, params: Params, entries: Mapping[str, Any]) -> Result:
        cursor = params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise InvalidParams("cursor must be a string")
        page = self._pages.get((kind, cursor))
        if page is None:
            page = self._make_page(kind, cursor, dict(entries))
            self._pages[(kind, cursor)] = page
        return page

    def _make_page(self, kind: str, cursor: str | None, entries: dict[str, Any]) -> StableResult:
        keys = list(entries)
        start = 0
        if cursor is not None:
            last = _read_cursor(kind, cursor)
            if self._page_size is None or last not in entries:
                # server/utilities/pagination, Error Handling: an invalid cursor is -32602.
                raise InvalidParams("Invalid cursor")
            start = keys.index(last) + 1
        stop = len(keys) if self._page_size is None else start + self._page_size
        page = StableResult({kind: [entries[key].definition for key in keys[start:stop]]})
        if stop < len(keys):
            page["nextCursor"] = _make_cursor(kind, keys[stop - 1])
        return page

    def _changed(self, kind: str) -> None:
        # A new dict rather than a cleared one: whoever reads the old one in another thread keeps it whole.
        self._pages = {}
        {"tools": self.notify_tools_changed, "resources": self.notify_resources_changed}.get(
            kind, self.notify_prompts_changed
        )()


def _definition(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


def _make_cursor(kind: str, key: str) -> str:
    # The entry it follows, not a number: a list that changes between two pages does not skip or repeat.
    return base64.urlsafe_b64encode(f"{kind}\n{key}".encode()).decode("ascii")


def _read_cursor(kind: str, cursor: str) -> str:
    try:
        found, _, key = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode().partition("\n")
    except (ValueError, binascii.Error):
        raise InvalidParams("Invalid cursor") from None
    if found != kind:
        raise InvalidParams("Invalid cursor")
    return key


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
    content = to_content(value)
    return [{"uri": uri, "mimeType": mime_type or "application/json", "text": "".join(b["text"] for b in content)}]


def _is_contents(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("uri"), str) and ("text" in value or "blob" in value)


def _messages(value: Any) -> list[Any]:
    values: Iterable[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [message for one in values for message in _message(one)]


def _message(value: Any) -> list[Any]:
    if isinstance(value, dict) and "role" in value and "content" in value:
        content = value["content"]
        return [{**value, "content": text(content)} if isinstance(content, str) else value]
    if is_content(value):
        return [{"role": "user", "content": value}]
    return [{"role": "user", "content": block} for block in to_content(value)]


def _completion(value: Any) -> dict[str, Any]:
    if value is None:
        value = []
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

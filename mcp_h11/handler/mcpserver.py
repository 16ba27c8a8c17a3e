# SPDX-License-Identifier: MIT
"""`MCPServer`: functions become tools, resources, prompts and completions by a decorator.

This module registers tools, and `publisher` the rest; `answers` serves the requests.  A `Catalogue` keeps the entries,
and each entry knows its function (`functions`).

Rule: a mistake in a function is an error when it is registered; a call only looks up, binds, runs and wraps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from ..http.headers import header_map
from ..protocol.methods import MAX_TOOL_NAME, TASKS
from ..schema.parameters import refuse_unbound
from ..schema.tojson import as_plain
from ..schema.wirewords import in_wire_words
from .extension import Extension
from .functions import (
    ExtraArguments,
    Function,
    Reading,
    TaskSupport,
    ToolEntry,
    callable_of,
    decorated,
    defined,
    make_portable,
    name_of,
)
from .handler import checked_hints
from .publisher import Publisher

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..hosted.asgi import ASGIApp, ASGIOptions
    from ..server.running import ServerRunOptions

F = TypeVar("F", bound=Callable[..., Any])

# Set by code that imports a module for its server: `MCPServer.run` then calls this, which raises, and serves nothing.
RUN_REFUSED: ContextVar[Callable[[], NoReturn] | None] = ContextVar("RUN_REFUSED", default=None)

# 2025-11-25 server/tools, Tool Names
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


class MCPServer(Publisher):
    """A server made of functions.

    ``server = MCPServer("demo")``, then ``@server.tool`` and its siblings, then ``server.run()``.  Functions may be
    added and removed while it serves; every client that listens is told.

    Args:
        name, title, version, description, website_url, icons: Facts that clients show.
        instructions: A text for the model: the purpose of the server.
        mask_errors: Hide the messages of errors that tools raise, except those of `ToolError`.
        page_size: Entries of one page of a list; None sends all at once.
        strict: Refuse arguments of tools that are not of the JSON type of the schema, such as ``"5"`` for an integer;
            else they are converted as the official SDK converts them (docs/arguments.md has the table).
        extra_arguments: What happens to arguments that a function does not have, and to such members of dataclasses
            and TypedDicts: "ignore" passes over them (a line of the log's debug level says which), "refuse" makes
            them an error.
        portable_schemas: List tools with schemas in the words that every known client takes; the descriptions tell
            the rest.  Calls are held to the exact schemas all the same (docs/schemas.md has the table).
        cache_hints: ``{"tools/list": (60_000, "public")}``: how long (ms) and in which scope 2026-07-28 clients may
            keep a result; None instead of "public" or "private" leaves that to the server.
        lifespan: Called with the server, returns an async context manager that is open while it serves; it
            yields `ctx.lifespan`.
        structured_output: The default of tools.  True, as in the official SDK: a schema for every return annotation
            but content, ``{"result": ...}`` around a value that is no object, and a content block for each item of a
            list.  None: a schema where there is structure, and one block, so that answers stay short.
            False: none.
        extensions: Instances of `Extension`, such as `mcp_h11.extensions.skills.Skills` (docs/extensions.md).

    Raises:
        ValueError: a page of no entries, a cache hint that no client may be sent, or two extensions that exclude one
            another.
        TypeError: `lifespan` cannot be called with the server alone, or an extension is no `Extension`.
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
        strict: bool = False,
        extra_arguments: ExtraArguments = "ignore",
        portable_schemas: bool = False,
        structured_output: bool | None = None,
        extensions: Sequence[Extension] = (),
    ) -> None:
        super().__init__(page_size=page_size, mask_errors=mask_errors)
        self.name = name
        self.title = title
        self.description = description
        self.instructions = instructions
        self.website_url = website_url
        self.icons = in_wire_words(as_plain(icons))
        self.version = version
        if lifespan is not None:
            lifespan = callable_of(lifespan, "lifespan")
            refuse_unbound(lifespan, "lifespan")
        self._lifespan = lifespan
        self._reading = Reading(strict, extra_arguments)
        self._portable_schemas = portable_schemas
        self._structured = structured_output
        self._extensions = tuple(extensions)
        # Checked now: at a request a bad hint would be an error of the server for each client.
        self._cache_hints = checked_hints(cache_hints or {}, self._extended.cacheable)
        for extension in self._extensions:
            extension.attach(self)

    def add_extension(self, extension: Extension) -> None:
        """Add an extension, behind those that there are, before the server is served.  Raises as the constructor."""
        had = self._extensions
        self._extensions = (*had, extension)
        try:
            self._renew_extensions()
        except (TypeError, ValueError):
            self._extensions = had
            self._renew_extensions()
            raise
        extension.attach(self)

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
        strict: bool | None = None,
        extra_arguments: ExtraArguments | None = None,
        task: TaskSupport | None = None,
    ) -> Callable[[F], F]: ...

    def tool(self, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Register a function as a tool: ``@server.tool`` or ``@server.tool(title=...)``; see `add_tool`."""
        return decorated(self.add_tool, name, args, kwargs)

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
        strict: bool | None = None,
        extra_arguments: ExtraArguments | None = None,
        task: TaskSupport | None = None,
    ) -> None:
        """Add a tool, from any thread.  Its schema comes from the annotations and the docstring of `fn`.

        Args:
            name, title, description, icons: Facts for the list; by default the name and the docstring of `fn`.
            annotations: Hints for clients, such as ``{"readOnlyHint": True}``.
            meta: `_meta` of the listed tool.
            input_schema: A JSON schema to list and to check arguments by, instead of the signature's; the
                arguments are passed by keyword, unconverted.
            output_schema: A JSON schema for the result of `fn`.
            scopes: The scopes that a caller's token needs over HTTP.  Without them the answer is 403 and names them, so
                that a client can ask its user for more.  The tool is listed for every client all the same.
            structured_output: False: never list an output schema; True: it must be possible, and is as the official SDK
                has it (see the server's); None: as the server says.
            strict, extra_arguments: As for the server, for this tool alone; None is as the server says.  With an
                `input_schema` it is that which decides.  A tool with a `ParamHeader` within an object is strict.
            thread: False runs a sync function on the event loop itself; only for a function that cannot block.
            timeout: Seconds it may take, instead of the settings' `call_timeout`; `ctx.report_progress` gives it as
                many again, and `math.inf` is no limit.  The thread of a sync function cannot be stopped.
            task: Let a client that has tasks come back for the result (docs/tasks.md).  "optional": a client without
                tasks waits for it; "required": such a client gets an error; "later": the call becomes a task when `fn`
                calls `ctx.start_task()`.  The first such tool has to be there before the server is served.

        Raises:
            TypeError: the signature cannot be expressed as a schema.
            ValueError: the name is taken or malformed, or an `x-mcp-header` annotation is wrong.
        """
        name = name or name_of(fn)
        if not 0 < len(name) <= MAX_TOOL_NAME or not _NAME_CHARACTERS.issuperset(name):
            raise ValueError(f"a tool's name is 1 to {MAX_TOOL_NAME} of A-Z a-z 0-9 _ - . , not {name!r}")
        # Not `<= 0`: a number that is no number (NaN) is refused as well.
        if timeout is not None and not timeout > 0:
            raise ValueError(f"{name}: a timeout is greater than 0 (math.inf is none), not {timeout!r}")
        # With an output schema of the user's that of the annotation is not needed.
        structured, each = self._structured_as(structured_output if output_schema is None else False)
        reading = self._reading.but(strict, extra_arguments)
        function = Function(fn, name, thread=thread, structured=structured, each=each, reading=reading, texts=False)
        if input_schema is None and any(len(path) > 1 for path in header_map(function.signature.input_schema)):
            # A gateway that routes by `Mcp-Param-*` headers relies on them, and they are compared with the members of
            # objects.  An object that is written as a text would hide its members from that comparison.
            reading = reading.but(True, None)
            function = Function(fn, name, thread=thread, structured=structured, each=each, reading=reading, texts=False)
        signature = function.signature
        definition = defined(
            name=name,
            title=title,
            description=description or signature.description or name,
            inputSchema=dict(input_schema) if input_schema is not None else signature.input_schema,
            outputSchema=dict(output_schema) if output_schema is not None else signature.output_schema,
            annotations=in_wire_words(as_plain(annotations)),
            icons=in_wire_words(as_plain(icons)),
            _meta=dict(meta) if meta else None,
        )
        # 2025-11-25 schema, Tool: `inputSchema` is an object with `type: "object"`.
        if definition["inputSchema"].get("type") != "object":
            raise ValueError(f"{name}: an input schema has type object")
        tool = ToolEntry(function, definition, own_input=input_schema is not None, own_output=output_schema is not None)
        if self._portable_schemas:
            make_portable(tool)
        # Before the timeout and the notice: a name that is taken changes nothing.
        self._catalogue.add("tool", self._catalogue.tools, name, tool, scopes)
        if timeout is not None:
            # A new dict, because the loop may be reading the old one.
            self.timeouts = {**self.timeouts, name: timeout}
        if task is not None:
            self._tasks().support(name, task)
        self.notify_tools_changed()

    def _tasks(self) -> Any:
        """The extension `Tasks` of this server; the default one is added where the server was given none."""
        known = next((one for one in self._extensions if one.identifier == TASKS), None)
        if known is None:
            from ..extensions.tasks import Tasks  # upward, as in `run`: only a server with tasks needs it

            known = Tasks()
            self.add_extension(known)
        return known

    def _structured_as(self, wanted: bool | None) -> tuple[bool | None, bool]:
        """Whether a tool's results are structured (None: where it can be), and whether as the official SDK has it."""
        if wanted is not None:
            return wanted, wanted
        # For all tools it is a wish: one that cannot have a schema goes without.
        return (False, False) if self._structured is False else (None, bool(self._structured))

    def remove_tool(self, name: str) -> None:
        """Remove a tool, from any thread.  Raises KeyError where there is none of that name."""
        self._catalogue.remove(self._catalogue.tools, name)
        # A new dict, because the loop may be reading the old one.
        self.timeouts = {tool: seconds for tool, seconds in self.timeouts.items() if tool != name}
        if any(one.identifier == TASKS for one in self._extensions):
            self._tasks().support(name, None)
        self.notify_tools_changed()

    def run(self, **options: Unpack[ServerRunOptions]) -> None:
        """Serve over HTTP and block; options are those of `mcp_h11.run`.

        ``transport="stdio"`` serves on stdio, where the one option is `settings`, and no line says that it serves;
        ``"sse"`` serves 2024-11-05 beside the rest.
        """
        if (refuse := RUN_REFUSED.get()) is not None:
            refuse()
        # The one look upward: a server needs handlers, and users want one object.
        keywords: dict[str, Any] = {**options}
        transport = keywords.pop("transport", "streamable-http")
        if transport == "stdio":
            # Loaded here, because a server on HTTP needs no pipes.
            from ..server.stdio import run_stdio

            keywords.pop("quiet", None)
            return run_stdio(self, **keywords)
        if transport not in ("streamable-http", "sse"):
            raise ValueError(f"transport is streamable-http, sse or stdio, not {transport!r}")
        from ..server.running import run

        if transport == "sse":
            keywords["legacy_sse"] = True
        run(self, **keywords)

    def asgi(self, **options: Unpack[ASGIOptions]) -> ASGIApp:
        """An ASGI 3 application of this server, for uvicorn, hypercorn and granian, or to mount in a framework.

        Options are those of `mcp_h11.asgi`: fields of `Settings`, and `settings`.
        """
        from ..hosted.asgi import asgi  # as in `run`, and only where an ASGI server is

        return asgi(self, **options)

    def extensions(self) -> Sequence[Extension]:
        return self._extensions

    def cache_hint(self, method: str) -> tuple[int, str | None]:
        return self._cache_hints.get(method, (0, None))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[Any]:
        if self._lifespan is None:
            yield None
            return
        async with self._lifespan(self) as value:
            yield value

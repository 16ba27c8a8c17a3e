# SPDX-License-Identifier: MIT
"""Registered functions: each with the definition that lists show, and the way in which a call reaches it.

`Function` gives a function its arguments and runs it on the loop or in a thread.  An `Entry` adds the definition,
`ToolEntry` the schemas of arguments and result, and `ResourceEntry` the template that its URIs match.  This module
knows neither the other entries (`registry`) nor requests (`answers`).

Rule: everything that depends on a function alone is worked out when its entry is made, and a mistake in it is an error
there; a call only binds, runs and wraps.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from ..http.headers import header_map
from ..protocol.shown import escaping
from ..schema.arguments import BadArguments
from ..schema.documents.mismatch import shorten
from ..schema.documents.validator import checker
from ..schema.documents.work import ON_LOOP, within
from ..schema.results import is_result, to_content
from ..schema.signature import Signature
from ..schema.signature import describe as read_signature
from ..schema.tojson import to_json
from ..schema.wirewords import in_wire_words
from .context import Context
from .questions import InputRequired, taken

if TYPE_CHECKING:
    from ..protocol.uritemplate import URITemplate


logger = escaping(logging.getLogger(__name__))

# The treatment of arguments, and of members of objects in them, that the signature does not know.
ExtraArguments = Literal["ignore", "refuse"]
# How a tool runs as a task (`extensions.tasks.Tasks`).
TaskSupport = Literal["optional", "required", "later"]
MAX_IGNORED_LOGGED = 20  # names in one line of the log


class Reading:
    """How a function's arguments are read: `strict` takes the JSON types of the schema only.

    Raises:
        ValueError: `extra_arguments` is neither "ignore" nor "refuse".
    """

    __slots__ = ("refuse_extra", "strict")

    def __init__(self, strict: bool = False, extra_arguments: ExtraArguments = "ignore") -> None:
        if extra_arguments not in ("ignore", "refuse"):
            raise ValueError(f'extra_arguments is "ignore" or "refuse", not {extra_arguments!r}')
        self.strict = strict
        self.refuse_extra = extra_arguments == "refuse"

    def but(self, strict: bool | None, extra_arguments: ExtraArguments | None) -> Reading:
        """A copy with the arguments that are not None."""
        mine: ExtraArguments = "refuse" if self.refuse_extra else "ignore"
        return Reading(self.strict if strict is None else strict, extra_arguments or mine)


class Function:
    """A registered function: how to give it its arguments and where to run it."""

    __slots__ = ("_open", "_parameters", "direct", "fn", "signature", "thread")

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        *,
        thread: bool,
        structured: bool | None = False,
        each: bool = False,
        reading: Reading | None = None,
        texts: bool = True,
    ) -> None:
        fn = callable_of(fn, name)
        reading = reading or Reading()
        # Its call would succeed and give a generator, which no client can read.
        if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{name}: a generator has no result; return a list, or report progress on the way")
        self.fn = fn
        self.thread = thread
        self.signature: Signature = read_signature(
            fn,
            name=name,
            context_type=Context,
            structured_output=structured,
            each=each,
            control_types=(InputRequired,),
            strict=reading.strict,
            refuse_extra=reading.refuse_extra,
            ignored=partial(_log_ignored, name),
            texts=texts,
        )
        # An async function without a context needs nothing of `call`, so a caller may call it directly.  That saves a
        # frame for each call.
        bare = self.signature.is_async and self.signature.context_parameter is None
        self.direct = fn if bare else None
        schema = self.signature.input_schema
        # Only a function with `**kwargs` takes arguments of any name.
        self._open = schema.get("additionalProperties") is not False
        self._parameters = self.signature.parameters()

    def call(self, arguments: dict[str, Any], ctx: Context) -> Awaitable[Any]:
        """The result of the function, to be awaited at once; raises as the function does."""
        signature = self.signature
        if signature.context_parameter is not None:
            arguments[signature.context_parameter] = ctx
        return self.fn(**arguments) if signature.is_async else self._call_sync(arguments, ctx)

    async def _call_sync(self, arguments: dict[str, Any], ctx: Context) -> Any:
        # A sync function may block, so it runs in a thread unless its author says that it cannot.
        if self.thread:
            value = await ctx.run_sync(partial(self.fn, **arguments))
        else:
            value = self.fn(**arguments)
        # A sync wrapper of an async function returns its coroutine.
        return await value if inspect.isawaitable(value) else value

    def accepted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the function has parameters for, of those that the user's own schema allows."""
        # A copy, because `call` puts the context among them.
        if self._open:
            return dict(arguments)
        return {name: value for name, value in arguments.items() if name in self._parameters}


class Entry:
    """One entry of a catalogue.  Its `number` is higher than those of all entries that were added before."""

    __slots__ = ("definition", "function", "number", "scopes")

    def __init__(self, function: Function, definition: dict[str, Any]) -> None:
        self.function = function
        self.definition = definition
        self.number = 0
        self.scopes: tuple[str, ...] = ()


class ToolEntry(Entry):
    """A tool: the schemas that hold for it, which are those of its signature or the user's own."""

    __slots__ = ("_check_input", "_check_output", "_own_output", "_unstructured", "bind", "param_headers")

    def __init__(self, function: Function, definition: dict[str, Any], *, own_input: bool, own_output: bool) -> None:
        super().__init__(function, definition)
        # Makes keyword arguments of JSON arguments; raises BadArguments.
        self.bind = self._bind_own if own_input else function.signature.bind
        self._own_output = own_output
        self._unstructured = not own_output and function.signature.output_schema is None
        # The readers of the signature check what they read, so its own schema is not compiled: 3 KiB for each tool.
        self._check_input = (checker(definition["inputSchema"]) if own_input else None) or _nothing_wrong
        self._check_output = checker(definition.get("outputSchema", {})) or _nothing_wrong
        # 2026-07-28 streamable-http, Schema Extension: clients drop a tool with a bad annotation, so refuse it here.
        self.param_headers = header_map(definition["inputSchema"])

    def _bind_own(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check the arguments by the user's own schema, in place of the signature's."""
        problems = within(ON_LOOP, self._check_input, arguments)
        if problems:
            raise BadArguments(self.definition["name"], problems)
        return self.function.accepted(arguments)

    def result(self, value: Any) -> Mapping[str, Any] | InputRequired:
        # The two most frequent results skip the looks at objects below.
        kind = type(value)
        if kind is not str and kind is not int:
            value = taken(value)
            if isinstance(value, InputRequired):
                return value
            if type(value) is dict and "content" in value and is_result(result := in_wire_words(value)):
                return self._whole(result)
        if self._unstructured:
            return {"content": to_content(value)}
        # With a schema of the user's the annotation may say anything, so the value is written as it is.
        if self._own_output:
            plain = to_json(value)
            self._conform(plain)
            return {"content": to_content(value), "structuredContent": plain}
        content, structured = self.function.signature.content(value)
        return {"content": content, "structuredContent": structured}

    def _whole(self, value: dict[str, Any]) -> dict[str, Any]:
        """A result that the function wrote itself, held to the schema that it is listed with."""
        # An error is held to no schema: "isError" results need no structured content.
        if "outputSchema" not in self.definition or value.get("isError"):
            return value
        if "structuredContent" in value:
            self._conform(value["structuredContent"])
            return value
        try:
            if not self._own_output:
                # The annotation may be a plain dict, which this result conforms to.
                return {**value, "structuredContent": self.function.signature.content(value)[1]}
        except TypeError:
            pass
        # 2025-11-25 server/tools, Output Schema: a tool that lists one must send structured content.
        raise TypeError(f"{self.definition['name']} returned a result without structuredContent")

    def _conform(self, structured: Any) -> None:
        # 2025-11-25 server/tools, Output Schema: "Servers MUST provide structured results that conform to this schema"
        problems = within(ON_LOOP, self._check_output, structured)
        if problems:
            raise TypeError(f"{self.definition['name']} returned what its schema forbids: {'; '.join(problems)}")


class ResourceEntry(Entry):
    """A resource, or with a template all that match it."""

    __slots__ = ("open", "template")

    def __init__(self, function: Function, definition: dict[str, Any], template: URITemplate | None, open_: bool):
        super().__init__(function, definition)
        self.template = template
        self.open = open_

    def match(self, uri: str) -> dict[str, Any] | None:
        assert self.template is not None
        values = self.template.match(uri)
        if values is None or self.open:
            return values
        from ..protocol.uritemplate import climbs_anywhere

        # server/resources, Security: a variable that is used as a path must not leave its folder.
        return None if climbs_anywhere(values) else values

    def bind(self, values: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the function.  Raises BadArguments, also for a path that leaves its folder.

        `match` has checked the text of the variables.  The bound values are checked once more, because a list that was
        JSON in the URI has its escapes read and its items apart only now.
        """
        bound = self.function.signature.bind_text(values)
        if self.template is not None and not self.open:
            from ..protocol.uritemplate import climbs_anywhere

            if climbs_anywhere(bound):
                raise BadArguments(self.function.signature.name, ["a path that leaves its folder"])
        return bound


def _log_ignored(name: str, unknown: list[str]) -> None:
    # The names are a client's: they are shortened, and are not even put together without need.
    if logger.isEnabledFor(logging.DEBUG):
        shown = ", ".join(repr(shorten(one)) for one in unknown[:MAX_IGNORED_LOGGED])
        logger.debug("%s ignores %d arguments that it does not have: %s", name, len(unknown), shown)


def callable_of(fn: Any, name: str) -> Callable[..., Any]:
    """The callable behind `fn`, which may be a staticmethod.  Raises TypeError for one that needs an object first."""
    if isinstance(fn, staticmethod):
        fn = fn.__func__
    if not callable(fn):
        kind = type(fn).__name__
        hint = ""
        if isinstance(fn, classmethod):
            hint = f"; register it when its class is made, as in server.add_tool(TheClass.{name})"
        elif isinstance(fn, property):
            hint = "; register a function that returns its value"
        raise TypeError(f"{name}: a function is wanted, not a {kind} object{hint}")
    return cast("Callable[..., Any]", fn)


def decorated(add: Callable[..., None], first: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function itself after ``@decorator``; the decorator after ``@decorator(...)``."""
    # ``@server.tool`` without brackets: Python hands the function itself over.
    if first is not None and not isinstance(first, str):
        add(first)
        return first

    def decorate(fn: Any) -> Any:
        add(fn, first, *args, **kwargs)
        return fn

    return decorate


def name_of(fn: Any) -> str:
    """The name of a function, also of one that is wrapped in partials, or that is an object."""
    # A partial has no name, and the name of a property is that of its getter.
    while isinstance(fn, (partial, classmethod, staticmethod, property)):
        fn = fn.func if isinstance(fn, partial) else fn.fget if isinstance(fn, property) else fn.__func__
    return str(getattr(fn, "__name__", type(fn).__name__))


def defined(**members: Any) -> dict[str, Any]:
    """A definition with the members that are not None."""
    return {key: value for key, value in members.items() if value is not None}


def check_variables(uri: str, function: Function, template: URITemplate | None) -> None:
    """Raise TypeError unless the parameters of the function are the variables of the URI."""
    names = set(template.names) if template is not None else set()
    schema = function.signature.input_schema
    known, required = set(schema.get("properties", ())), set(schema.get("required", ()))
    open_ended = schema.get("additionalProperties") is not False
    # A parameter without default that no variable fills could never be called.
    if required - names or (names - known and not open_ended):
        raise TypeError(
            f"{uri}: its variables are {sorted(names) or 'none'}, but {function.signature.name} takes {sorted(known)}"
        )


def prompt_arguments(signature: Signature) -> list[dict[str, Any]]:
    """A signature as prompts are listed with it: names, descriptions, and which are required."""
    schema = signature.input_schema
    required = schema.get("required", ())
    return [
        defined(name=name, description=member.get("description"), required=True if name in required else None)
        for name, member in schema.get("properties", {}).items()
    ]


def _nothing_wrong(value: Any) -> list[str]:
    return []


def make_portable(tool: ToolEntry) -> None:
    """List the tool with schemas that every known client takes; its own go on deciding."""
    from ..schema.documents.portable import portable  # few servers ask for it

    tool.definition["inputSchema"] = portable(tool.definition["inputSchema"])
    if "outputSchema" in tool.definition:
        tool.definition["outputSchema"] = portable(tool.definition["outputSchema"], result=True)

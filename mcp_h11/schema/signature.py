# SPDX-License-Identifier: MIT
"""A Python function as a tool: its signature to JSON Schema, arguments to Python values, its result to content.

Everything that depends on the signature alone is done once, by `describe`; a call only runs compiled readers.
`parameters` and `outputs` read the two halves of a signature, and `arguments` has the readers of arguments.

Rule: a mistake in a signature is a `TypeError` at registration that names the function and the parameter; a mistake in
arguments is a `BadArguments` that names every bad one, so that the model can mend its call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .annotations import Compiler
from .arguments import BadArguments, json_reader, texts_reader
from .docstrings import parse
from .documents.mismatch import Mismatch, render
from .documents.validator import checker
from .outputs import Output, blocks_of, read_output
from .parameters import Names, Parameters, is_async_callable, parameters_of, read_parameters, refuse_unbound, unwrapped
from .readers import Reader
from .results import is_content, text_block, to_content, write_json
from .wirewords import in_wire_words


class Signature:
    """The result of `describe`: how to call one function with JSON, complete when it is made and never changed.

    `input_schema` is that of the arguments.  `output_schema` is that of the results (None: results are unstructured);
    `wrapped` says that structured results are ``{"result": value}``.  `context_parameter` is the name of the parameter
    that takes the context (None without one).  `description` is the docstring without its parts about parameters.
    """

    __slots__ = (
        "_each",
        "_guarded",
        "_names",
        "_read",
        "_read_text",
        "_structure",
        "context_parameter",
        "description",
        "input_schema",
        "is_async",
        "name",
        "output_schema",
        "wrapped",
    )

    def __init__(
        self,
        name: str,
        description: str,
        is_async: bool,
        parameters: Parameters,
        read: Reader,
        read_text: Reader | None,
        output: Output | None,
    ) -> None:
        self.name = name
        self.description = description
        self.is_async = is_async
        self.input_schema = parameters.schema
        self.context_parameter = parameters.context
        self.output_schema = output.schema if output is not None else None
        self.wrapped = output is not None and output.wrapped
        # Copies, because each call looks them up: an attribute of an attribute would cost twice.
        self._each = output is not None and output.each
        self._structure = output.structure if output is not None else None
        self._guarded = parameters.guarded
        self._names = frozenset(field.target or name for name, field in parameters.fields.items())
        self._read: Callable[[Any], dict[str, Any]] = read
        self._read_text: Callable[[Any], dict[str, Any]] | None = read_text

    def parameters(self) -> frozenset[str]:
        """The names of the parameters, as Python has them, without the context."""
        return self._names

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """JSON arguments to keyword arguments, without the context.

        Raises BadArguments, and TooMuchWork where the event loop would stand still for too long: then the caller does
        it again in a thread, by `within(IN_THREAD, bind, arguments)`.
        """
        if self._guarded is not None and self._guarded in arguments:
            raise BadArguments(self.name, [f"{self._guarded}: unknown"])
        try:
            return self._read(arguments)
        except Mismatch as error:
            raise BadArguments(self.name, [render(problem) for problem in error.problems]) from None

    def bind_text(self, values: Mapping[str, str | list[str]]) -> dict[str, Any]:
        """As `bind`, for values that are strings by protocol: arguments of prompts, variables of URI templates.

        A parameter that takes no string gets the value in the string, read as JSON or by `coercion`: ``"3"`` is 3
        for an int, ``"yes"`` is True for a bool.
        """
        if self._read_text is None:
            raise TypeError(f"{self.name} was described as one that takes no texts")
        if self._guarded is not None and self._guarded in values:
            raise BadArguments(self.name, [f"{self._guarded}: unknown"])
        try:
            # The reader takes a dict, and the values may be any mapping.
            return self._read_text(dict(values))
        except Mismatch as error:
            raise BadArguments(self.name, [render(problem) for problem in error.problems]) from None

    def content(self, value: Any) -> tuple[list[dict[str, Any]], Any]:
        """A return value as (content blocks, structuredContent); the second is None for an unstructured function.

        Raises BadResult where a structured value does not fit the return annotation.
        """
        # Most tools have no output schema, so this comes first.
        if self._structure is None:
            return to_content(value), None
        structured = self._structure(value)
        # A content block is shown as that block, although the schema makes an object of it as well.
        if is_content(value):
            return [in_wire_words(value)], structured
        plain = structured["result"] if self.wrapped else structured
        if self._each:
            return blocks_of(plain), structured
        return [text_block(plain if isinstance(plain, str) else write_json(plain))], structured


def describe(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    context_type: type | tuple[type, ...] | None = None,
    structured_output: bool | None = None,
    each: bool = False,
    control_types: tuple[type, ...] = (),
    strict: bool = False,
    refuse_extra: bool = False,
    ignored: Callable[[list[str]], None] | None = None,
    texts: bool = True,
) -> Signature:
    """Read a function's signature; next, `bind` arguments, call it, and give `content` the result.

    Args:
        fn: A function, method, partial, or an object with `__call__`.
        name: For messages; the function's own otherwise.
        context_type: The parameter annotated with this type is left out of the schema.
        structured_output: True wants an output schema and False wants none; None makes one where the return
            annotation has structure.
        each: As the official SDK has it: a schema for `str` and None as well, wherever there can be one, and a content
            block for each item of a list.
        control_types: Types in a union of the return annotation that are no results, and so not in the schema.
        strict: Arguments are of the JSON types of the schema; else those that models write instead are converted
            (`coercion`).
        refuse_extra: Refuse arguments and members that the signature does not know; else they are passed over, and
            `ignored` is told of the arguments' names.
        texts: False leaves `bind_text` out, which a tool never needs: it saves 1.5 KiB.

    Raises:
        TypeError: A parameter or (with `structured_output=True`) the return value cannot be expressed in JSON.
    """
    target, hints_of = unwrapped(fn)
    title = name or getattr(target, "__name__", None) or type(fn).__name__
    description, described = parse(inspect.getdoc(target) if inspect.isroutine(target) else type(fn).__doc__)
    names = Names(title, hints_of)
    given = parameters_of(fn, title)
    # Before the annotations are read: `self` has none, and the error about it would not name the real mistake.
    refuse_unbound(fn, title, given)
    compiler = Compiler(checker, lax=not strict, ignore=not refuse_extra, names=names.search)
    parameters = read_parameters(given, names, described, context_type, compiler)
    read = json_reader(parameters, strict=strict, refuse_extra=refuse_extra, ignored=ignored)
    read_text = texts_reader(parameters, refuse_extra=refuse_extra, ignored=ignored) if texts else None
    output = None
    if structured_output is not False:
        output = read_output(names, wanted=structured_output, each=each, control_types=control_types, checker=checker)
    return Signature(title, description, is_async_callable(fn), parameters, read, read_text, output)

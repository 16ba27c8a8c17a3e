# SPDX-License-Identifier: MIT
"""The parameters of a function: their annotations resolved, each as a field with its schema, and its default.

Rule: a parameter that has no JSON form is a `TypeError` that names the function and the parameter.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from .annotations import Compiler
from .members import is_union
from .pydantic_types import is_field_info, said_of
from .shapes import Field, JSONSchema, Shape, add_field, describe_field, object_schema


def unwrapped(fn: Any) -> tuple[Any, Any]:
    """The function beneath partials and decorators, and where its annotations are."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    # The names in the annotations are those of the module of the innermost function.
    target = inspect.unwrap(fn)
    if inspect.isroutine(target) or inspect.isclass(target):
        return target, target
    return target, inspect.unwrap(type(target).__call__)


def is_async_callable(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    # By the class, where Python itself looks `__call__` up.
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def parameters_of(fn: Any, title: str) -> Mapping[str, inspect.Parameter]:
    try:
        if sys.version_info >= (3, 14):  # pragma: no cover  # annotations there may name what is not imported
            import annotationlib

            return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF).parameters
        return inspect.signature(fn).parameters
    except (ValueError, NameError) as error:
        raise TypeError(f"{title}: its signature cannot be read: {error}") from None


_RECEIVERS = frozenset({"self", "cls"})


def refuse_unbound(fn: Any, title: str, parameters: Mapping[str, inspect.Parameter] | None = None) -> None:
    """Raise TypeError for a function of a class that has no object yet: a decorator in the class's body gets one."""
    if parameters is None:
        try:
            parameters = parameters_of(fn, title)
        except TypeError:  # a callable of C, which is no method of ours
            return
    first = next(iter(parameters), "")
    owner = getattr(inspect.unwrap(fn), "__qualname__", "").rpartition(".")[0]
    if first in _RECEIVERS and owner and not owner.endswith("<locals>") and not inspect.ismethod(fn):
        raise TypeError(
            f"{title}: it is a method of {owner}, and its {first!r} is not an argument that a client could send; "
            f"register the bound method of an object instead, as in server.add_tool(an_object.{title})"
        )


def _annotations(function: Any) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):  # pragma: no cover
        import annotationlib

        return annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF)
    found: Mapping[str, Any] = getattr(function, "__annotations__", {})
    return found


class Names:
    """Evaluates annotations one by one, so that an error can say which."""

    def __init__(self, title: str, function: Any) -> None:
        self.title = title
        function = getattr(function, "__func__", function)
        self._globals: dict[str, Any] = getattr(function, "__globals__", {})
        self._code = getattr(function, "__code__", None)
        closure = getattr(function, "__closure__", None) or ()
        free = self._code.co_freevars if self._code else ()
        # The names of the enclosing function that the code of this one uses are in its closure.
        self.local = {n: cell.cell_contents for n, cell in zip(free, closure, strict=False) if _is_filled(cell)}
        self.returns = _annotations(function).get("return", inspect.Parameter.empty)
        self._searched = False

    def evaluate(self, annotation: Any, where: str) -> Any:
        """The annotation with its strings resolved.  Raises TypeError naming `where`."""
        if annotation is inspect.Parameter.empty:
            return Any
        try:
            return self._evaluate(annotation)
        except NameError:
            self.search()
        except (SyntaxError, TypeError) as error:
            raise TypeError(f"{self.title}: {where}: {annotation!r} is no annotation: {error}") from None
        try:
            return self._evaluate(annotation)
        except NameError as error:
            hint = "a class made inside a function, or imported for type checkers only?"
            raise TypeError(f"{self.title}: {where}: {annotation!r} cannot be resolved: {error} ({hint})") from None

    def _evaluate(self, annotation: Any) -> Any:
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        return typing.get_type_hints(holder, self._globals, self.local, include_extras=True)["it"]

    def search(self) -> Mapping[str, Any]:
        """The closure's names and the local ones of the function that made this one: decorators run inside it."""
        frame = None if self._searched or self._code is None else inspect.currentframe()
        self._searched = True
        while frame is not None:
            # The code of an inner function is a constant of the function that makes it.
            if self._code in frame.f_code.co_consts:
                self.local = {**frame.f_locals, **self.local}
                break
            frame = frame.f_back
        return self.local


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


class Parameters(NamedTuple):
    """The parameters of one function.

    `fields` are those that an argument can name, `extra` is the shape of the values that ``**kwargs`` takes (None
    without one), `context` is the name of the context parameter (None without one), and `schema` is that of the
    arguments.
    """

    fields: dict[str, Field]
    extra: Shape | None
    context: str | None
    schema: JSONSchema

    @property
    def guarded(self) -> str | None:
        """A name that no argument may have.

        ``**kwargs`` would take it, and a client would have passed something off as the context.
        """
        return self.context if self.extra is not None else None


def read_parameters(
    parameters: Mapping[str, inspect.Parameter],
    names: Names,
    described: Mapping[str, str],
    context_type: type | tuple[type, ...] | None,
    compiler: Compiler,
) -> Parameters:
    """The fields of a function's parameters, described by its docstring.

    Raises:
        TypeError: a parameter has no JSON form, has no name for callers, or is a second context.
    """
    annotations: dict[str, Any] = {}
    context: str | None = None
    for parameter in parameters.values():
        where = f"parameter {parameter.name!r}"
        if _is_context(parameter, names, where, context_type):
            if context is not None:
                raise TypeError(f"{names.title}: {where} is a second context")
            # Left out of the schema: the server gives it, and a client cannot.
            context = parameter.name
            continue
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
            form = "*args" if parameter.kind is parameter.VAR_POSITIONAL else "positional-only"
            raise TypeError(f"{names.title}: {where} is {form}, but JSON arguments have names")
        annotations[parameter.name] = names.evaluate(parameter.annotation, where)
    fields: dict[str, Field] = {}
    extra: Shape | None = None
    for name, annotation in annotations.items():
        try:
            # `**kwargs` has no name that a client could use; its annotation is that of every further argument.
            if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                extra = compiler.shape(annotation)
            else:
                default = parameters[name].default
                field = _field(compiler, annotation, default, described.get(name))
                add_field(fields, name, field, said_of(annotation, default))
        except TypeError as error:  # noqa: PERF203
            raise TypeError(f"{names.title}: parameter {name!r}: {error}") from None
    raw = object_schema(fields, closed=extra is None)
    if extra is not None:
        raw["additionalProperties"] = extra.schema or True
    return Parameters(fields, extra, context, compiler.finish(raw))


def _is_context(
    parameter: inspect.Parameter, names: Names, where: str, context_type: type | tuple[type, ...] | None
) -> bool:
    if context_type is None or parameter.annotation is inspect.Parameter.empty:
        return False
    kinds = context_type if isinstance(context_type, tuple) else (context_type,)
    try:
        annotation = names.evaluate(parameter.annotation, where)
    except TypeError:
        # Imported under TYPE_CHECKING, as one does with a type that only annotates.
        written = parameter.annotation
        last = written.split("|")[0].split("[")[0].strip().rpartition(".")[2] if isinstance(written, str) else ""
        return any(last == kind.__name__ for kind in kinds)
    arms = get_args(annotation) if is_union(annotation) else (annotation,)
    classes = [get_origin(arm) or arm for arm in arms]
    return any(isinstance(cls, type) and issubclass(cls, kinds) for cls in classes)


def _field(compiler: Compiler, annotation: Any, default: Any, description: str | None) -> Field:
    if default is inspect.Parameter.empty:
        return describe_field(compiler.shape(annotation), description)
    if is_field_info(default):  # def f(x: int = Field(ge=0)): pydantic's way to say it without Annotated
        return describe_field(compiler.shape(Annotated[annotation, default]), description)
    shape = compiler.shape(annotation)
    if default is None and "x-mcp-header" in shape.schema:
        # 2026-07-28 server/tools, x-mcp-header: "primitive types (integer, string, boolean)", so never null
        return describe_field(shape, description)._replace(required=False)
    if default is None and not shape.accepts(None):  # def f(x: int = None), as was usual before PEP 484 frowned on it
        base, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
        optional: Any = Union[base, None]  # noqa: UP007
        shape = compiler.shape(Annotated[(optional, *metadata)] if metadata else optional)
    return describe_field(shape, description, default)

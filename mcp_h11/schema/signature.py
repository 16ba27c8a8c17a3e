# SPDX-License-Identifier: MIT
"""A Python function as a tool: its signature to JSON Schema, arguments to Python values, its result to content.

Everything that depends on the signature alone is done once, by `describe`; a call only runs compiled readers.

Rule: whatever is wrong with a signature is a `TypeError` at registration that names the function and the parameter;
whatever is wrong with arguments is a `BadArguments` that names every bad one, for the model to mend its call.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from ..protocol.content import Audio, Image
from .annotations import Compiler
from .blocks import is_content, text_block, to_content, write_json
from .coercion import container, from_json
from .docstrings import parse
from .fieldinfos import is_field_info, said_of
from .members import attributes_of, has_members
from .mismatch import Mismatch, Problem, render
from .objects import ObjectReader
from .pydantic_types import is_pydantic
from .readers import Reader
from .shapes import Field, Shape, add_field, describe_field, object_reader, object_schema
from .tojson import to_json
from .unions import first_of
from .validator import checker
from .wirewords import in_wire_words, is_foreign
from .work import ON_LOOP, may_parse, within

JSONSchema = dict[str, Any]


class BadArguments(ValueError):
    """Arguments that do not fit; `problems` has one line for each, and the message all of them."""

    def __init__(self, name: str, problems: list[str]) -> None:
        super().__init__(f"Invalid arguments for {name}: {'; '.join(problems)}")
        self.problems = problems


class BadResult(TypeError):
    """A function returned something that the schema of its own return annotation does not allow."""


class Signature:
    """What `describe` found out about a function.

    `input_schema`; `output_schema` (None: results are unstructured) and `wrapped` (structured results are
    ``{"result": value}``); `context_parameter` (its name, or None); `is_async`; `description` (the docstring without
    what it says of parameters).
    """

    __slots__ = (
        "_each",
        "_fields",
        "_guarded",
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

    def __init__(self, name: str, description: str, is_async: bool) -> None:
        self.name = name
        self.description = description
        self.is_async = is_async
        self.context_parameter: str | None = None
        self.input_schema: JSONSchema = {}
        self.output_schema: JSONSchema | None = None
        self.wrapped = False
        self._each = False  # a block for each item of a list
        self._fields: dict[str, Field] = {}
        self._guarded: str | None = None
        self._read: Callable[[Any], dict[str, Any]] = ObjectReader({}, {}, closed=True)
        self._read_text: Callable[[Any], dict[str, Any]] = self._read
        self._structure: Callable[[Any], Any] | None = None

    def parameters(self) -> frozenset[str]:
        """The names of the parameters, as Python has them, without the context."""
        return frozenset(field.target or name for name, field in self._fields.items())

    def bind(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """JSON arguments to keyword arguments, without the context.

        Raises BadArguments, and TooMuchWork where the event loop would stand still for too long: then the caller does
        it again in a thread, by `within(IN_THREAD, bind, arguments)`.
        """
        if self._guarded is not None and self._guarded in arguments:
            # **kwargs would take it, and a client would have passed something off as the context.
            raise BadArguments(self.name, [f"{self._guarded}: unknown"])
        try:
            return self._read(arguments)
        except Mismatch as error:
            raise BadArguments(self.name, [render(problem) for problem in error.problems]) from None

    def bind_text(self, values: Mapping[str, str | list[str]]) -> dict[str, Any]:
        """As `bind`, for values that are strings by protocol: arguments of prompts, variables of URI templates.

        A parameter that takes no string gets what the string says, as JSON or as `laxvalues` reads it: ``"3"`` is 3
        for an int, ``"yes"`` is True for a bool.
        """
        if self._guarded is not None and self._guarded in values:
            raise BadArguments(self.name, [f"{self._guarded}: unknown"])
        try:
            return self._read_text(dict(values))
        except Mismatch as error:
            raise BadArguments(self.name, [render(problem) for problem in error.problems]) from None

    def content(self, value: Any) -> tuple[list[dict[str, Any]], Any]:
        """A return value as (content blocks, structuredContent); the second is None for an unstructured function.

        Raises BadResult where a structured value is not what the annotation promised.
        """
        if self._structure is None:
            return to_content(value), None
        structured = self._structure(value)
        if is_content(value):
            return [in_wire_words(value)], structured
        plain = structured["result"] if self.wrapped else structured
        if self._each:
            return _blocks(plain), structured
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
            (`laxvalues`).
        refuse_extra: Refuse arguments and members that the signature does not know; else they are passed over, and
            `ignored` is told of the arguments' names.

    Raises:
        TypeError: A parameter or (with `structured_output=True`) the return value cannot be expressed in JSON.
    """
    target, hints_of = _unwrap(fn)
    title = name or getattr(target, "__name__", None) or type(fn).__name__
    description, described = parse(inspect.getdoc(target) if inspect.isroutine(target) else type(fn).__doc__)
    signature = Signature(title, description, _is_async(fn))
    names = _Names(title, hints_of)
    parameters = _parameters(fn, title)
    refuse_unbound(fn, title, parameters)
    compiler = Compiler(checker, lax=not strict, ignore=not refuse_extra, names=names.search)
    extra = _read_parameters(signature, parameters, names, described, context_type, compiler)
    _make_readers(signature, extra, strict=strict, refuse=refuse_extra, ignored=ignored)
    if structured_output is not False:
        signature._each = each
        _read_result(signature, names, structured_output, control_types)
    return signature


# --- finding annotations -------------------------------------------------------------------------------------
def _unwrap(fn: Any) -> tuple[Any, Any]:
    """The function beneath partials and decorators, and where its annotations are."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    target = inspect.unwrap(fn)
    if inspect.isroutine(target) or inspect.isclass(target):
        return target, target
    return target, inspect.unwrap(type(target).__call__)


def _is_async(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(type(fn), "__call__", None))  # noqa: B004


def _parameters(fn: Any, title: str) -> Mapping[str, inspect.Parameter]:
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
            parameters = _parameters(fn, title)
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


class _Names:
    """Evaluates annotations one by one, so that an error can say which."""

    def __init__(self, title: str, function: Any) -> None:
        self.title = title
        function = getattr(function, "__func__", function)
        self._globals: dict[str, Any] = getattr(function, "__globals__", {})
        self._code = getattr(function, "__code__", None)
        closure = getattr(function, "__closure__", None) or ()
        free = self._code.co_freevars if self._code else ()
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


# --- parameters ----------------------------------------------------------------------------------------------
def _read_parameters(
    signature: Signature,
    parameters: Mapping[str, inspect.Parameter],
    names: _Names,
    described: Mapping[str, str],
    context_type: type | tuple[type, ...] | None,
    compiler: Compiler,
) -> Shape | None:
    """Fill in the fields and the schema; return what `**kwargs` takes, where there are some."""
    annotations: dict[str, Any] = {}
    for parameter in parameters.values():
        where = f"parameter {parameter.name!r}"
        if _is_context(parameter, names, where, context_type):
            if signature.context_parameter is not None:
                raise TypeError(f"{names.title}: {where} is a second context")
            signature.context_parameter = parameter.name
            continue
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
            form = "*args" if parameter.kind is parameter.VAR_POSITIONAL else "positional-only"
            raise TypeError(f"{names.title}: {where} is {form}, but JSON arguments have names")
        annotations[parameter.name] = names.evaluate(parameter.annotation, where)
    fields: dict[str, Field] = {}
    extra: Shape | None = None
    for name, annotation in annotations.items():
        try:
            if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                extra = compiler.shape(annotation)
            else:
                default = parameters[name].default
                field = _field(compiler, annotation, default, described.get(name))
                add_field(fields, name, field, said_of(annotation, default))
        except TypeError as error:  # noqa: PERF203
            raise TypeError(f"{names.title}: parameter {name!r}: {error}") from None
    signature._fields = fields
    signature._guarded = signature.context_parameter if extra is not None else None
    raw = object_schema(fields, closed=extra is None)
    if extra is not None:
        raw["additionalProperties"] = extra.schema or True
    signature.input_schema = compiler.finish(raw)
    return extra


def _make_readers(
    signature: Signature,
    extra: Shape | None,
    *,
    strict: bool,
    refuse: bool,
    ignored: Callable[[list[str]], None] | None,
) -> None:
    fields = signature._fields
    closed = refuse and extra is None
    second = {name: _parameter_reader(field.shape, strict) for name, field in fields.items()}
    read_extra = first_of(extra.read, _parameter_reader(extra, strict)) if extra is not None else None
    read = object_reader(fields, closed=closed, extra=read_extra, second=second, ignored=ignored)
    signature._read = _counted(read, fields.values() if extra is None else (*fields.values(), Field(extra, False)))
    texts = {
        name: field._replace(shape=field.shape._replace(read=_text_reader(field.shape)))
        for name, field in fields.items()
    }
    text_extra = _text_reader(extra) if extra is not None else None
    read_text = object_reader(texts, closed=closed, extra=text_extra, ignored=ignored)
    signature._read_text = functools.partial(within, ON_LOOP, read_text)


def _counted(read: Callable[[Any], Any], fields: Iterable[Field]) -> Callable[[Any], Any]:
    """The reader with its work bounded, where any member can cost more than the look at one text or number."""
    schemas = [field.shape.schema for field in fields]
    if all(arm.get("type") in _SCALARS for schema in schemas for arm in schema.get("anyOf", (schema,))):
        return read
    return functools.partial(within, ON_LOOP, read)


def _parameter_reader(shape: Shape, strict: bool) -> Reader:
    """Reads what the parameter's own reader refused: a text may say the list, the object or the null that is wanted."""
    read = shape.read_lax
    if strict:
        return read
    scalar = all(arm.get("type") in _SCALARS for arm in shape.schema.get("anyOf", [shape.schema]))

    def read_parameter(value: Any) -> Any:
        if scalar:
            # A text is worth reading as JSON only where the list that it says might fit.
            return read(None if value == "null" else value)
        return read(_container(value))

    return read_parameter


def _container(value: Any) -> Any:
    try:
        if isinstance(value, str):
            may_parse(value)
    except ValueError:
        return value
    return container(value)


_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})


def _text_reader(shape: Shape) -> Reader:
    """Reads a value that is a text by protocol: as it stands, then as what it says."""
    read, lax = shape.read, shape.read_lax

    def read_text(value: Any) -> Any:
        if not isinstance(value, str):  # a list of texts, of a template's variable
            return lax(value)
        said = value
        try:
            may_parse(value)
            said = from_json(value)
        except ValueError:
            pass
        forms = [value] if isinstance(said, str) else [value, said]
        found: list[Problem] = []
        for reader in (read, lax):
            for form in forms:
                try:
                    return reader(form)
                except Mismatch as error:  # noqa: PERF203
                    found = found if error.kind_only else error.problems
        # Where it is written as it should be, something else is wrong with it.
        raise Mismatch(found or [((), f"expected {shape.expected}{_written(shape.schema)}")])

    return read_text


# What a value of each type looks like as text.
_EXAMPLES = {"integer": "3", "number": "1.5", "boolean": "true", "array": '["a", "b"]', "object": '{"name": "value"}'}


def _written(schema: JSONSchema) -> str:
    arms = schema.get("anyOf", [schema])
    found = [example for arm in arms if (example := _EXAMPLES.get(str(arm.get("type"))))]
    if not found:
        return ""
    return f", written as text like {' or '.join(json.dumps(example) for example in found)}"


def _is_context(
    parameter: inspect.Parameter, names: _Names, where: str, context_type: type | tuple[type, ...] | None
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
    arms = get_args(annotation) if _is_union(annotation) else (annotation,)
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


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, types.UnionType}


# --- results -------------------------------------------------------------------------------------------------

# By their names: most who write a tool never load the module that defines them.
_CONTENT_MODULE = f"{__package__.rpartition('.')[0]}.protocol.types"
_CONTENT = frozenset(
    {"TextContent", "ImageContent", "AudioContent", "ResourceLink", "EmbeddedResource", "CallToolResult"}
)
# What has no structure that a schema could tell a client of.
_SHAPELESS = (inspect.Parameter.empty, None, type(None), Any, object, str, dict, list, tuple, set, frozenset)


def _read_result(signature: Signature, names: _Names, wanted: bool | None, control_types: tuple[type, ...]) -> None:
    where = "return value"
    if wanted and names.returns is inspect.Parameter.empty:
        raise TypeError(f"{names.title}: {where}: structured output needs a return annotation")
    try:
        annotation = _without(names.evaluate(names.returns, where), control_types)
        untold = _says_nothing if signature._each else _is_unstructured
        if wanted is None and untold(annotation):
            return
        compiler = Compiler(checker, closed=False, output=True, names=names.search)
        shape = compiler.shape(annotation)
    except TypeError as error:
        if wanted:
            message = str(error)
            prefix = f"{names.title}: {where}: "
            raise TypeError(message if message.startswith(prefix) else prefix + message) from None
        return  # no schema, and so unstructured: whatever it returns is shown as text
    schema = compiler.finish(shape.schema)
    signature.wrapped = _is_union(annotation) or schema.get("type") != "object"
    if signature.wrapped:
        wrapper = {"type": "object", "properties": {"result": shape.schema}, "required": ["result"]}
        schema = compiler.finish(wrapper)
    signature.output_schema = schema
    structure = _structurer(names.title, annotation, shape, signature.wrapped)
    signature._structure = _counted(structure, (Field(shape, True),))


def _without(annotation: Any, control_types: tuple[type, ...]) -> Any:
    if not _is_union(annotation):
        return None if _is_control(annotation, control_types) else annotation
    kept = [arm for arm in get_args(annotation) if not _is_control(arm, control_types)]
    return Union[tuple(kept)] if kept else None  # noqa: UP007


def _is_control(arm: Any, control_types: tuple[type, ...]) -> bool:
    if not isinstance(arm, type):
        return False
    return issubclass(arm, control_types) or (arm.__name__ == "InputRequiredResult" and is_foreign(arm))


def _is_unstructured(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_unstructured(get_args(annotation)[0])
    if any(annotation is shapeless for shapeless in _SHAPELESS) or _is_content_type(annotation):
        return True
    arms = get_args(annotation)
    if _is_union(annotation):
        return any(map(_holds_content, arms)) or all(map(_is_unstructured, arms))
    # list[Any] is what a function says that returns blocks of several kinds
    return _holds_content(annotation) or (_is_list(annotation) and all(arm in (Any, object, ...) for arm in arms))


def _says_nothing(annotation: Any) -> bool:
    """Whether there is nothing to make a schema of: no annotation, or one of content."""
    if get_origin(annotation) is Annotated:
        return _says_nothing(get_args(annotation)[0])
    return annotation in (inspect.Parameter.empty, Any, object) or _holds_content(annotation)


def _is_content_type(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, (Image, Audio)):
        return True
    if not isinstance(annotation, type):
        return False
    if annotation.__module__ == _CONTENT_MODULE:
        return annotation.__name__ in _CONTENT
    return is_foreign(annotation) and any(cls.__name__ in _CONTENT for cls in annotation.__mro__)


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, (list, tuple, typing.Sequence))


def _holds_content(annotation: Any) -> bool:
    if _is_content_type(annotation):
        return True
    return (_is_list(annotation) or _is_union(annotation)) and any(map(_holds_content, get_args(annotation)))


def _attributes(value: Any) -> Any:
    """The annotated attributes of an object whose class has no JSON form of its own.  Raises TypeError without any."""
    cls = type(value)
    if not has_members(cls):
        raise TypeError(f"{cls.__qualname__} has no JSON form")
    return {name: to_json(getattr(value, name), _attributes) for name in attributes_of(cls) if hasattr(value, name)}


def _structurer(title: str, annotation: Any, shape: Shape, wrapped: bool) -> Callable[[Any], Any]:
    """The function that makes `structuredContent` of a value, and holds it to the schema."""
    adapter: Any = None
    if is_pydantic(annotation):
        adapter = sys.modules["pydantic"].TypeAdapter(annotation)

    def structure(value: Any) -> Any:
        # 2025-11-25 server/tools, Output Schema: "Servers MUST provide structured results that conform to this schema"
        try:
            if adapter is not None:
                plain = adapter.dump_python(adapter.validate_python(value), mode="json", by_alias=True)
            else:
                plain = to_json(value, _attributes)
                shape.read(plain)
        except Mismatch as error:
            problems = "; ".join(render((("result", *path), text)) for path, text in error.problems)
            raise BadResult(f"{title} returned what its return annotation does not allow: {problems}") from None
        except (TypeError, ValueError) as error:
            raise BadResult(f"{title} returned what its return annotation does not allow: {error}") from None
        return {"result": plain} if wrapped else plain

    return structure


def _blocks(plain: Any) -> list[dict[str, Any]]:
    """Content blocks as the official SDK makes them: none of None, and one for each item of a list."""
    if plain is None:
        return []
    if isinstance(plain, list):
        return [block for item in plain for block in _blocks(item)]
    return [text_block(plain if isinstance(plain, str) else write_json(plain))]

# SPDX-License-Identifier: MIT
"""The return annotation of a function: its output schema, and the function that holds a value to it."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from ..protocol.content import Audio, Image
from .annotations import Checker, Compiler
from .arguments import counted
from .documents.mismatch import Mismatch, render
from .members import attributes_of, has_members, is_union
from .parameters import Names
from .pydantic_types import is_pydantic
from .results import text_block, write_json
from .shapes import JSONSchema, Shape
from .tojson import to_json
from .wirewords import is_foreign


class BadResult(TypeError):
    """A function returned something that the schema of its own return annotation does not allow."""


# Compared by name, because most tools never load the module that defines them.
_CONTENT_MODULE = f"{__package__.rpartition('.')[0]}.protocol.types"
_CONTENT = frozenset(
    {"TextContent", "ImageContent", "AudioContent", "ResourceLink", "EmbeddedResource", "CallToolResult"}
)
# Annotations without structure: a schema for them would tell a client only that there is a text or a value.
_SHAPELESS = (inspect.Parameter.empty, None, type(None), Any, object, str, dict, list, tuple, set, frozenset)


class Output(NamedTuple):
    """The structured results of one function.

    `schema` is that of its results.  `wrapped` says that a result is ``{"result": value}``, since structured content
    is an object.  `each` asks for a content block for each item of a list.  `structure` makes structured content of a
    value, and raises BadResult for a value that the schema does not allow.
    """

    schema: JSONSchema
    wrapped: bool
    each: bool
    structure: Callable[[Any], Any]


def read_output(
    names: Names, *, wanted: bool | None, each: bool, control_types: tuple[type, ...], checker: Checker
) -> Output | None:
    """The output of a function by its return annotation; None where its results are unstructured.

    Raises:
        TypeError: structured output is `wanted`, and the annotation has no JSON form.
    """
    where = "return value"
    if wanted and names.returns is inspect.Parameter.empty:
        raise TypeError(f"{names.title}: {where}: structured output needs a return annotation")
    try:
        annotation = _without(names.evaluate(names.returns, where), control_types)
        untold = _says_nothing if each else _is_unstructured
        if wanted is None and untold(annotation):
            return None
        # Open: an object of a subclass may have more members than its annotation says.
        compiler = Compiler(checker, closed=False, output=True, names=names.search)
        shape = compiler.shape(annotation)
    except TypeError as error:
        if wanted:
            message = str(error)
            prefix = f"{names.title}: {where}: "
            raise TypeError(message if message.startswith(prefix) else prefix + message) from None
        return None  # The function has no output schema then, and a client sees its results as text.
    schema = compiler.finish(shape.schema)
    # 2025-11-25 server/tools, Structured Content: "returned as a JSON object".  A union may be an object only
    # sometimes, and a client wants one schema for all.
    wrapped = is_union(annotation) or schema.get("type") != "object"
    if wrapped:
        schema = compiler.finish({"type": "object", "properties": {"result": shape.schema}, "required": ["result"]})
    return Output(schema, wrapped, each, counted(_structurer(names.title, annotation, shape, wrapped), (shape,)))


def _without(annotation: Any, control_types: tuple[type, ...]) -> Any:
    if not is_union(annotation):
        return None if _is_control(annotation, control_types) else annotation
    kept = [arm for arm in get_args(annotation) if not _is_control(arm, control_types)]
    return Union[tuple(kept)] if kept else None  # noqa: UP007


def _is_control(arm: Any, control_types: tuple[type, ...]) -> bool:
    if not isinstance(arm, type):
        return False
    # A class of `mcp-types` is known by its name, because that package is never imported here.
    return issubclass(arm, control_types) or (arm.__name__ == "InputRequiredResult" and is_foreign(arm))


def _is_unstructured(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_unstructured(get_args(annotation)[0])
    if any(annotation is shapeless for shapeless in _SHAPELESS) or _is_content_type(annotation):
        return True
    arms = get_args(annotation)
    if is_union(annotation):
        return any(map(_holds_content, arms)) or all(map(_is_unstructured, arms))
    # Functions that return content blocks of several kinds are annotated list[Any].
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
    return (_is_list(annotation) or is_union(annotation)) and any(map(_holds_content, get_args(annotation)))


def _attributes(value: Any) -> Any:
    """The annotated attributes of an object without a JSON form of its own.  Raises TypeError if it has none."""
    cls = type(value)
    if not has_members(cls):
        raise TypeError(f"{cls.__qualname__} has no JSON form")
    # An attribute that was annotated and never set is left out.
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
                # Validated first: pydantic would only warn of a value that does not fit its serializer.
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


def blocks_of(plain: Any) -> list[dict[str, Any]]:
    """Content blocks as the official SDK makes them: none of None, and one for each item of a list."""
    if plain is None:
        return []
    if isinstance(plain, list):
        return [block for item in plain for block in blocks_of(item)]
    return [text_block(plain if isinstance(plain, str) else write_json(plain))]

# SPDX-License-Identifier: MIT
"""The members of Python classes: their names, annotations, defaults, and the type variables of generic ones."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

NO_DEFAULT = object()  # no default
MAY_BE_ABSENT = object()  # may be left out, and then is not there


def qualifier(annotation: Any) -> str:
    """ "Required", "NotRequired", "ReadOnly", "Final" or "ClassVar", or "": by name, as Python 3.10 lacks some."""
    name = getattr(get_origin(annotation), "_name", None)
    return name if name in {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"} else ""


def is_typed_dict(cls: type) -> bool:
    """Also those of typing_extensions, which `typing.is_typeddict` does not know before Python 3.13."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def is_class_of_members(cls: Any) -> bool:
    return isinstance(cls, type) and (is_typed_dict(cls) or dataclasses.is_dataclass(cls) or is_namedtuple(cls))


def has_members(cls: type) -> bool:
    """Whether this is a class with annotated attributes, so that a result can be made of its objects."""
    # An `Image` or `Audio` becomes a content block, and not an object of its attributes.
    if cls.__module__ == "builtins" or hasattr(cls, "to_content") or issubclass(cls, BaseException):
        return False
    return bool(attributes_of(cls))


def attributes_of(cls: type) -> list[str]:
    """The public names that a class and its bases annotate, without those of the class itself (`ClassVar`)."""
    found: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        for name, annotation in annotations_of(base).items():
            if not name.startswith("_") and not _is_class_variable(annotation):
                found[name] = None
    return list(found)


def annotations_of(cls: type) -> Mapping[str, Any]:
    """The annotations of a class itself, without those of its bases.  They may be texts."""
    if sys.version_info >= (3, 14):  # pragma: no cover  # annotations there may name what is not imported
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    found: Mapping[str, Any] = cls.__dict__.get("__annotations__", {})
    return found


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):  # from __future__ import annotations
        return annotation.removeprefix("typing.").startswith("ClassVar")
    return annotation is typing.ClassVar or qualifier(annotation) == "ClassVar"


def members_of(cls: Any, hints: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names with their defaults (or `NO_DEFAULT`, `MAY_BE_ABSENT`)."""
    if dataclasses.is_dataclass(cls):
        # A field with `init=False` is no argument of the class.
        return [(f.name, _dataclass_default(f)) for f in dataclasses.fields(cls) if f.init]
    if is_namedtuple(cls):
        return [(name, cls._field_defaults.get(name, NO_DEFAULT)) for name in cls._fields]
    # A plain class: an attribute of the class is the default of its objects.  A slot is an attribute as well, and no
    # default.
    if not is_typed_dict(cls):
        return [
            (name, MAY_BE_ABSENT if hasattr(cls, name) and not _is_slot(cls, name) else NO_DEFAULT)
            for name in attributes_of(cls)
        ]
    out = []
    for name, hint in hints.items():
        # With `from __future__ import annotations` the class itself does not see its Required and NotRequired.
        said = qualifier(hint)
        while said and said not in {"Required", "NotRequired"}:
            hint = get_args(hint)[0]
            said = qualifier(hint)
        required = said == "Required" or (said != "NotRequired" and name in cls.__required_keys__)
        out.append((name, NO_DEFAULT if required else MAY_BE_ABSENT))
    return out


def _is_slot(cls: Any, name: str) -> bool:
    return isinstance(getattr(cls, name), types.MemberDescriptorType)


def _dataclass_default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return NO_DEFAULT if field.default_factory is dataclasses.MISSING else MAY_BE_ABSENT


def type_variables(cls: Any, args: tuple[Any, ...]) -> dict[Any, Any]:
    """The types that the type variables of a generic class and of its bases stand for."""
    found = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if origin is not None and origin is not typing.Generic:
            given = tuple(substituted(arg, found) for arg in get_args(base))
            # The arguments that the class itself was given win over those of its bases.
            found = {**type_variables(origin, given), **found}
    return found


def substituted(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """The annotation with its type variables replaced by their types; a variable without a type stays."""
    if isinstance(annotation, typing.TypeVar):
        return variables.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) and get_origin(annotation) is None or not set(parameters) & variables.keys():
        return annotation
    return annotation[tuple(variables.get(one, one) for one in parameters)]


def is_union(annotation: Any) -> bool:
    """Whether an annotation is a union, written either way: ``Union[int, str]`` or ``int | str``."""
    return get_origin(annotation) in {Union, types.UnionType}

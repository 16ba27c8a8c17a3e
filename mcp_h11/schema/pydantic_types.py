# SPDX-License-Identifier: MIT
"""The parts of an annotation that are pydantic's: its types with their readers, and its `Field(...)`.

Rule: pydantic is loaded only where an annotation is pydantic's own; recognising one never loads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from . import coercion
from .documents.mismatch import MAX_PROBLEMS, Mismatch
from .documents.work import size, spend
from .readers import Reader


def is_pydantic(annotation: Any) -> bool:
    """Whether this is a type of pydantic's: a model, a pydantic dataclass, or one of its own types."""
    if "pydantic" not in sys.modules or not isinstance(annotation, type):
        return False
    return hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_validator__")


def is_pydantic_metadata(item: Any) -> bool:
    if "pydantic" not in sys.modules:
        return False
    module = type(item).__module__.partition(".")[0]
    return module in {"pydantic", "pydantic_core", "annotated_types"} or hasattr(item, "__get_pydantic_core_schema__")


def pydantic_readers(adapter: Any, *, numbers: bool) -> tuple[Reader, Reader]:
    """Readers in pydantic's strict mode, that for JSON, and in its lax mode; `numbers`: there may be floats."""
    import pydantic

    def guarded(validate: Reader) -> Reader:
        def read(value: Any) -> Any:
            # Before, because pydantic itself cannot be interrupted.
            spend(size(value))
            try:
                return validate(value)
            except pydantic.ValidationError as error:
                found = error.errors(include_url=False, include_context=False, include_input=False)
                raise Mismatch([(tuple(item["loc"]), item["msg"]) for item in found[:MAX_PROBLEMS]]) from None

        return read

    def validate_lax(value: Any) -> Any:
        try:
            made = adapter.validate_python(value)
        except pydantic.ValidationError:
            # In a schema 1e19 is an integer; pydantic takes floats of up to 64 bits for one.
            made = adapter.validate_python(coercion.lax_whole(value))
        # pydantic's lax mode reads "inf" as a float, and no JSON could hold a result with it.  The two walks are spared
        # where the schema has no number, or no text says so.
        if numbers and coercion.says_infinite(value) and coercion.holds_infinite(adapter.dump_python(made)):
            raise Mismatch([((), "a number that is not finite")])
        return made

    def validate_strict(value: Any) -> Any:
        # As JSON: in Python's strict mode a date is no string.
        try:
            return adapter.validate_json(json.dumps(value), strict=True)
        except pydantic.ValidationError:
            whole = coercion.lax_whole(value)  # in a schema 1.0 is an integer, and here it is none
            return adapter.validate_json(json.dumps(whole), strict=True)

    return guarded(validate_strict), guarded(validate_lax)


# --- Field(...) ----------------------------------------------------------------------------------------------

# pydantic itself applies the default and the aliases of a `Field` to the members of its models only.  Here they are
# read from `Annotated` and from defaults, so that ``x: Annotated[int, Field(default=7, alias="X")]`` means the same
# everywhere.  A setting that a schema cannot show, or that cannot be applied here, is a `TypeError`; none is passed
# over.


class Said(NamedTuple):
    """The settings of all infos of one member together.

    `fill` makes its default (None: it has none).  `names` are its names in JSON; the schema shows the first one (empty:
    the member has its own name).
    """

    fill: Callable[[], Any] | None
    names: tuple[str, ...]


NOTHING = Said(None, ())


def is_field_info(value: Any) -> bool:
    """Whether pydantic's `Field(...)` made this value."""
    # A program that has not loaded pydantic has no FieldInfo.
    module = sys.modules.get("pydantic.fields")
    return module is not None and isinstance(value, module.FieldInfo)


def said_of(annotation: Any, default: Any = None) -> Said:
    """The settings in `Annotated` metadata and in a default.  A later info overrides an earlier one.

    Raises:
        TypeError: an alias is a path into another member, or a factory wants the values of the other members.
    """
    infos = [item for item in (*getattr(annotation, "__metadata__", ()), default) if is_field_info(item)]
    if not infos:
        return NOTHING
    fill: Callable[[], Any] | None = None
    names: tuple[str, ...] = ()
    for info in infos:
        if not info.is_required():
            # There is no model here whose other values such a factory could take.
            if getattr(info, "default_factory_takes_validated_data", False):
                raise TypeError("a default_factory that takes the other values is for models only")
            fill = _filler(info)
        names = _names(info) or names
    return Said(fill, names)


def _filler(info: Any) -> Callable[[], Any]:
    # A factory runs for each call, so that two calls share no list.
    return lambda: info.get_default(call_default_factory=True)


def _names(info: Any) -> tuple[str, ...]:
    # Arguments are validated, so the validation alias comes before the general one.
    alias = info.alias if info.validation_alias is None else info.validation_alias
    if alias is None:
        return ()
    names = tuple(getattr(alias, "choices", (alias,)))
    if not all(isinstance(name, str) for name in names):
        raise TypeError("an alias is a name here; a path (AliasPath) is for models only")
    return names

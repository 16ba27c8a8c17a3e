# SPDX-License-Identifier: MIT
"""The default and the aliases that pydantic's `Field(...)` gives a parameter or a member.

pydantic itself applies them to the members of its models only.  Here they are read from `Annotated` and from defaults,
so that ``x: Annotated[int, Field(default=7, alias="X")]`` means the same everywhere.  pydantic is never imported.

Rule: a setting that a schema cannot show, or that cannot be applied here, is a `TypeError`; none is passed over.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple


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
